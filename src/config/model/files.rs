//! What a route's `files` means: a folder whose files are the answers.
//!
//! `convert` makes it, the room `files` serves it.

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;

use super::Coding;

/// A folder of static files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Resolved against the folder of the config file; was a folder when the config was read. Opened
    /// anew for each request, so that it may be a link that a deployment moves.
    pub root: PathBuf,
    /// Name of the file that answers for a folder; no `/` in it. Default `index.html`.
    pub index: Arc<str>,
    /// Path below `root`, without a leading `/`, of what answers where there is no file.
    pub fallback: Option<Arc<str>>,
    /// Codings whose variants lie beside the files, in the order of preference. Default none.
    pub precompressed: Vec<Coding>,
    /// `Cache-Control` of every file that was asked for by its name.
    pub cache_control: Option<HeaderValue>,
    /// Whether names that begin with a dot are served too. Default no.
    pub hidden: bool,
}
