//! From an open root to the head of an answer and the plan of its body.
//!
//! Runs on the threads of `disk`: it opens, compares and reads the first chunk, so that a small file
//! costs one visit there. Invariant: the length in the head is that of the pieces.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED,
    VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::config::model::{Coding, Files};
use crate::range::{self, Piece, Pieces, Wanted};

use super::condition::{self, Outcome};
use super::open::{Found, Root, read};
use super::path::Place;
use super::reader::next_chunk;
use super::tag::Validators;
use super::{Refusal, accept_ranges, kind};

/// What is asked, so that it can go to another thread.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) site: Arc<Files>,
    pub(super) place: Place,
    pub(super) codings: SmallVec<[Coding; 3]>,
    pub(super) conditions: HeaderMap,
    pub(super) is_head: bool,
    pub(super) now: SystemTime,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) file: Option<Arc<File>>,
    pub(super) pieces: Pieces,
    /// Already read; comes before the pieces.
    pub(super) first: Option<Bytes>,
}

/// Why there is no file to answer with.
#[derive(Debug)]
pub(super) enum Miss {
    /// It is a folder, and the path does not end like one.
    Folder,
    Refused(Refusal),
}

impl From<Refusal> for Miss {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Finds the file and makes the answer.
pub(super) fn look(ask: &Ask) -> Result<Reply, Miss> {
    let root = Root::open(&ask.site.root)?;
    let (path, found, cache_control) = match named(&root, ask) {
        Err(Miss::Refused(Refusal::NotFound)) => {
            let fallback = ask.site.fallback.as_ref().ok_or(Refusal::NotFound)?;
            let path = fallback.as_bytes().to_vec();
            let found = root.find(&path)?;
            if found.facts.is_dir() {
                return Err(Refusal::NotFound.into());
            }
            // It answers for paths that may mean something else tomorrow.
            (path, found, Some(HeaderValue::from_static("no-cache")))
        }
        named => {
            let (path, found) = named?;
            (path, found, ask.site.cache_control.clone())
        }
    };
    let (found, coding) = match variant(&root, ask, &path, &found.facts) {
        Some((variant, coding)) => (variant, Some(coding)),
        None => (found, None),
    };
    let validators = Validators::of(&found.facts, coding, ask.now);
    let mut headers = HeaderMap::new();
    if let Some(tag) = validators.field() {
        headers.insert(ETAG, tag);
    }
    if let Some(value) = cache_control {
        headers.insert(CACHE_CONTROL, value);
    }
    if !ask.site.precompressed.is_empty() {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(modified) = validators.modified
        && let Ok(value) = HeaderValue::try_from(httpdate::fmt_http_date(modified))
    {
        headers.insert(LAST_MODIFIED, value);
    }
    match condition::judge(&ask.conditions, &validators) {
        Outcome::Holds => {}
        Outcome::NotModified => return Ok(bare(StatusCode::NOT_MODIFIED, headers)),
        Outcome::Failed => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            return Ok(bare(StatusCode::PRECONDITION_FAILED, headers));
        }
    }
    accept_ranges(&mut headers);
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    }
    body(ask, found, headers, &kind::of(&path), &validators).map_err(Miss::from)
}

/// The file that the path names: itself, or a folder's index.
fn named(root: &Root, ask: &Ask) -> Result<(Vec<u8>, Found), Miss> {
    let Place { below, is_folder } = &ask.place;
    let found = root.find(below)?;
    if !found.facts.is_dir() {
        return if *is_folder {
            Err(Refusal::NotFound.into())
        } else {
            Ok((below.clone(), found))
        };
    }
    if !is_folder {
        return Err(Miss::Folder);
    }
    let mut path = below.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(ask.site.index.as_bytes());
    let found = root.find(&path)?;
    if found.facts.is_dir() {
        return Err(Refusal::NotFound.into());
    }
    Ok((path, found))
}

/// The best variant that lies beside the file. One that is older than the file was made of what the
/// file once was, and does not count. Whatever is wrong with a variant, the file itself is still there.
fn variant(root: &Root, ask: &Ask, path: &[u8], original: &Metadata) -> Option<(Found, Coding)> {
    ask.codings.iter().find_map(|coding| {
        let path = [path, coding.suffix().as_bytes()].concat();
        let found = root.find(&path).ok()?;
        let is_current = found.facts.is_file() && found.facts.mtime() >= original.mtime();
        is_current.then_some((found, *coding))
    })
}

fn bare(status: StatusCode, headers: HeaderMap) -> Reply {
    Reply {
        status,
        headers,
        file: None,
        pieces: Pieces::new(),
        first: None,
    }
}

/// The answer with the whole file or parts of it.
fn body(
    ask: &Ask,
    found: Found,
    mut headers: HeaderMap,
    kind: &HeaderValue,
    validators: &Validators,
) -> Result<Reply, Refusal> {
    let length = found.facts.len();
    // A range counts for `GET` alone (RFC 9110 section 14.2).
    let wanted = if ask.is_head || !condition::is_same(&ask.conditions, validators) {
        Wanted::Whole
    } else {
        range::wanted(&ask.conditions, length)
    };
    headers.insert(CONTENT_TYPE, kind.clone());
    let mut pieces = Pieces::new();
    let mut status = StatusCode::PARTIAL_CONTENT;
    match wanted {
        Wanted::Unsatisfiable => {
            range::unsatisfiable(&mut headers, length);
            return Ok(bare(StatusCode::RANGE_NOT_SATISFIABLE, headers));
        }
        Wanted::Whole => {
            status = StatusCode::OK;
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            if length > 0 {
                pieces.push_back(Piece::Span { start: 0, length });
            }
        }
        Wanted::Parts(parts) => {
            pieces = range::partial(&mut headers, &parts, length);
            if ask.conditions.contains_key(IF_RANGE) {
                range::resumed(&mut headers);
            }
        }
    }
    let mut first = None;
    if ask.is_head {
        pieces.clear();
    } else if let Some((offset, length)) = next_chunk(&mut pieces) {
        let chunk = read(&found.file, offset, length).map_err(Refusal::Failed)?;
        first = Some(Bytes::from(chunk));
    }
    Ok(Reply {
        status,
        headers,
        file: (!pieces.is_empty()).then(|| Arc::new(found.file)),
        pieces,
        first,
    })
}
