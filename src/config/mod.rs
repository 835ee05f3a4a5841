//! Configuration: what was typed, what it means, and what is wrong with it.
//!
//! ```text
//! text -> marks (a tree with places) -> raw (what was typed) -> convert -> model (proven meaning)
//!              \________________________ report ______________________/-> Diagnostics
//! ```
//!
//! `snapshot::compile` takes the `model::Config`, `cli` and `reload` show the `Diagnostics`, `admin`
//! shows the document. Invariant: either a config without any error, or every error that could be
//! found, each once, sorted by place; secrets are in the model only.

mod convert;
mod defaults;
mod document;
pub mod errors;
mod marks;
pub mod model;
mod places;
mod raw;
mod report;
mod restart;
mod suggest;
mod syntax;
pub mod units;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use errors::{Diagnostic, Diagnostics, LoadError};
use marks::At;
use report::{Problem, Report};

pub use places::Places;
pub use restart::restart_only_changes;

/// A config that may run.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it means.
    pub config: model::Config,
    /// What is odd about it, sorted by place.
    pub warnings: Vec<Diagnostic>,
    /// What was typed, with `<redacted>` for each secret.
    pub document: serde_json::Value,
    /// SHA-256 of the file's text, in lower-case hex.
    pub sha256: String,
    /// Where it names files.
    pub places: Places,
}

/// Reads a config file.
///
/// # Errors
/// When the file cannot be read, or anything in it is wrong.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let unreadable = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    let limit = u64::try_from(marks::MAX_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    convert::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() > marks::MAX_BYTES {
        let message = format!("the file has more than {} bytes", marks::MAX_BYTES);
        return Err(of_file(message, path).into());
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error
                .as_bytes()
                .iter()
                .take(at)
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            return Err(of_file(format!("line {line} is not UTF-8"), path).into());
        }
    };
    Ok(parse(&text, path)?)
}

/// Reads the text of a config file. `file` names it in messages, and its folder is where relative
/// paths start; files that the config names are opened.
///
/// # Errors
/// Every error in the text, sorted by place.
pub fn parse(text: &str, file: &Path) -> Result<Loaded, Diagnostics> {
    let report = Report::default();
    let sha256 = hash(text);
    // Some editors begin a file with a mark of its byte order.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = match marks::parse(text, &report) {
        Ok(root) => root,
        Err(problem) => {
            report.push(problem);
            return Err(report.finish(text, file));
        }
    };
    let Some(raw) = raw::read(&root, &report) else {
        return Err(report.finish(text, file));
    };
    let folder = match file.parent() {
        Some(parent) => parent.to_owned(),
        None => PathBuf::new(),
    };
    let config = convert::convert(raw, At::root(&root), &report, &folder);
    if report.has_errors() {
        return Err(report.finish(text, file));
    }
    let document = document::of(&root, &report);
    let places = report.places(text, file);
    let Diagnostics(warnings) = report.finish(text, file);
    Ok(Loaded {
        config,
        warnings,
        document,
        sha256,
        places,
    })
}

fn of_file(message: String, file: &Path) -> Diagnostics {
    let report = Report::default();
    report.push(Problem::of_file(message));
    report.finish("", file)
}

fn hash(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
