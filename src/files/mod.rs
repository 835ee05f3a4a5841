//! Static files as a route target: from a path to an answer, with the disk off the worker.
//!
//! ```text
//! path       a request's path as names below the root, or a refusal
//! disk       a worker's few threads for what may block, with a bounded queue
//! open       from names to an open regular file, never outside of the root
//! reply      status, fields and what of the file is sent
//!   condition, kind (media types), tag (validators)
//! reader     the body, a chunk at a time
//! ```
//!
//! `proxy` calls `serve` and sends what comes back; it chooses the codings that the client takes.
//! Invariants: nothing outside of the root is opened, whatever the path or the links in the root say;
//! no system call that may wait for a disk runs on a worker; a file that turns out shorter than it was
//! breaks off the answer.

mod condition;
mod disk;
mod kind;
mod open;
mod path;
mod reader;
mod reply;
mod tag;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LOCATION, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use smallvec::SmallVec;

use crate::config::model::{Coding, Files};

pub use disk::Disk;
pub use reader::Reader;

use reply::{Ask, Reply};

/// The methods that files answer, as `Allow` has them.
pub const ALLOWED: &str = "GET, HEAD";

/// Why a request gets no file.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The path is ambiguous, or leads out of the root.
    #[error("{0}")]
    Malformed(&'static str),
    /// Files are read, not written.
    #[error("the method is not allowed here")]
    Method,
    /// There is no such file, or none that may be seen.
    #[error("there is nothing here")]
    NotFound,
    /// The disk is behind, or the process is out of descriptors.
    #[error("too many requests for files")]
    Busy,
    /// The disk failed, or the root is gone.
    #[error("the file cannot be read")]
    Failed(#[source] io::Error),
}

/// A request for a file.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The path below the root, percent-encoded, with its leading `/`.
    pub path: &'a str,
    /// The path and the query as the client sent them, to lead it to a folder's address.
    pub target: &'a str,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Which precompressed variants the client takes, the best first.
    pub codings: &'a [Coding],
    /// The time of day.
    pub now: SystemTime,
}

/// Answers a request from the folder of `site`. The body is none for `HEAD`.
///
/// # Errors
/// Says why there is no answer; the caller makes a status of it.
pub async fn serve(
    disk: &Disk,
    site: &Arc<Files>,
    request: &Request<'_>,
) -> Result<Response<Option<Reader>>, Refusal> {
    let is_head = match *request.method {
        Method::GET => false,
        Method::HEAD => true,
        _ => return Err(Refusal::Method),
    };
    let place = path::place(request.path, site.hidden)?;
    let ask = Ask {
        site: Arc::clone(site),
        place,
        codings: SmallVec::from_slice(request.codings),
        conditions: conditions(request.headers),
        is_head,
        now: request.now,
    };
    let Reply {
        status,
        headers,
        file,
        pieces,
        first,
    } = match disk.run(move || reply::look(&ask)).await? {
        Ok(reply) => reply,
        Err(reply::Miss::Folder) => return folder(request.target),
        Err(reply::Miss::Refused(refusal)) => return Err(refusal),
    };
    let body = (!is_head).then(|| Reader::new(disk, file, pieces, first));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The fields that `reply` looks at; most requests have none of them.
fn conditions(headers: &HeaderMap) -> HeaderMap {
    let mut conditions = HeaderMap::new();
    for name in [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
        RANGE,
    ] {
        for value in headers.get_all(&name) {
            conditions.append(&name, value.clone());
        }
    }
    conditions
}

/// A folder's address ends in `/`, so that what its page names relatively is found. Told relatively
/// itself (RFC 3986 section 4.2): right behind whatever prefix the client sees, and no path can make
/// the name of another host of it.
fn folder(target: &str) -> Result<Response<Option<Reader>>, Refusal> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut location = format!("./{name}/");
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    let location = HeaderValue::try_from(location)
        .map_err(|_odd| Refusal::Malformed("the path cannot be led on"))?;
    let mut response = Response::new(None);
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

const BYTES: HeaderValue = HeaderValue::from_static("bytes");

fn accept_ranges(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_RANGES, BYTES);
}

#[cfg(test)]
mod tests;
