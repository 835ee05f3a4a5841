//! The route table: the hosts, and what a found route is told by.
//!
//! Per host pattern there is one `Paths`; the hosts are tried from exact over the longest suffix to
//! any. Invariant: a host is compared without regard to case, port and trailing dot, and a copy of
//! it in lower case is made on the stack and only where it has capitals.

use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use http::{HeaderMap, Method};
use smallvec::SmallVec;

use super::paths::{Entry, Paths};
use crate::config::model::{HostPattern, PathPattern, Route, RouteId, Segment};

/// All routes of one config, immutable and shared by all workers.
#[derive(Debug)]
pub struct Table {
    exact: AHashMap<Box<[u8]>, Paths>,
    suffixes: AHashMap<Box<[u8]>, Paths>,
    any: Paths,
    /// Names of the captures of each route, by `RouteId`, in the order of the template.
    names: Box<[Box<[Arc<str>]>]>,
}

/// What a route is chosen by.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// As sent; names of methods are case-sensitive.
    pub method: &'a Method,
    /// As sent. Capitals, a port and one trailing dot do not matter.
    pub host: &'a str,
    /// Compared as it stands, without decoding.
    pub path: &'a str,
    /// Without the `?`.
    pub query: Option<&'a str>,
    /// All header fields.
    pub headers: &'a HeaderMap,
}

/// The route that takes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Index into the routes of the config.
    pub route: RouteId,
    /// What the route's template captured; `Table::capture` reads it by name.
    pub captures: Captures,
}

/// Captured pieces of a path, in the order of the template. They hold places, not text, so that
/// they may outlive the path they were cut from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captures(pub(super) SmallVec<[Range<usize>; 4]>);

impl Captures {
    /// The capture at `index`, given the path that was searched for, or `None` where the template
    /// has fewer.
    pub fn value<'p>(&self, path: &'p str, index: usize) -> Option<&'p str> {
        path.get(self.0.get(index)?.clone())
    }
}

/// Hosts longer than this are no DNS names (RFC 1035, section 2.3.4): only routes for any host
/// take them.
const LONGEST_HOST: usize = 255;

impl Table {
    /// Builds the table; `RouteId`s index `routes`.
    pub fn new(routes: &[Route]) -> Self {
        let mut groups: AHashMap<&HostPattern, Vec<Entry>> = AHashMap::new();
        for (index, route) in routes.iter().enumerate() {
            let entry = Entry::new(RouteId(index), route);
            groups.entry(&route.matches.host).or_default().push(entry);
        }
        let mut exact = AHashMap::new();
        let mut suffixes = AHashMap::new();
        let mut any = Paths::new(Vec::new());
        for (host, entries) in groups {
            let paths = Paths::new(entries);
            match host {
                HostPattern::Any => any = paths,
                HostPattern::Exact(name) => {
                    exact.insert(Box::from(name.as_bytes()), paths);
                }
                HostPattern::Suffix(name) => {
                    suffixes.insert(Box::from(name.as_bytes()), paths);
                }
            }
        }
        let names = routes
            .iter()
            .map(|route| capture_names(&route.matches.path))
            .collect();
        Self {
            exact,
            suffixes,
            any,
            names,
        }
    }

    /// The most specific route that takes `request`. Allocates nothing, short of more than four
    /// captures or sixteen open alternatives in one path.
    pub fn find(&self, request: &Request<'_>) -> Option<Found> {
        let entry = self.find_entry(request)?;
        Some(Found {
            route: entry.route,
            captures: entry.captures(request.path),
        })
    }

    /// The capture called `name` of a found route, given the path that was searched for.
    pub fn capture<'p>(&self, found: &Found, path: &'p str, name: &str) -> Option<&'p str> {
        let names = self.names.get(found.route.0)?;
        let index = names.iter().position(|known| **known == *name)?;
        found.captures.value(path, index)
    }

    fn find_entry(&self, request: &Request<'_>) -> Option<&Entry> {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return self.any.find(request);
        }
        let host = without_port(request.host).as_bytes();
        if host.len() > LONGEST_HOST {
            return self.any.find(request);
        }
        if host.iter().any(u8::is_ascii_uppercase) {
            let mut buffer = [0; LONGEST_HOST];
            let lower = &mut buffer[..host.len()];
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            return self.find_by_host(lower, request);
        }
        self.find_by_host(host, request)
    }

    fn find_by_host(&self, host: &[u8], request: &Request<'_>) -> Option<&Entry> {
        if let Some(entry) = self.exact.get(host).and_then(|paths| paths.find(request)) {
            return Some(entry);
        }
        if !self.suffixes.is_empty() {
            for (at, _) in host
                .iter()
                .enumerate()
                .skip(1)
                .filter(|(_, byte)| **byte == b'.')
            {
                let paths = self.suffixes.get(&host[at + 1..]);
                if let Some(entry) = paths.and_then(|paths| paths.find(request)) {
                    return Some(entry);
                }
            }
        }
        self.any.find(request)
    }
}

/// `[::1]:80` keeps its brackets, as the pattern of such a host has them.
fn without_port(host: &str) -> &str {
    let name = match host.split_once(']') {
        Some((address, _)) if host.starts_with('[') => host.get(..=address.len()),
        _ => host.split(':').next(),
    };
    let name = name.unwrap_or(host);
    name.strip_suffix('.').unwrap_or(name)
}

fn capture_names(path: &PathPattern) -> Box<[Arc<str>]> {
    let PathPattern::Template(segments) = path else {
        return Box::default();
    };
    let names = segments.iter().filter_map(|segment| match segment {
        Segment::Literal(_) => None,
        Segment::Capture(name) | Segment::Rest(name) => Some(Arc::clone(name)),
    });
    names.collect()
}
