//! The routes of one host: exact paths, then a trie of segments.
//!
//! Routes are sorted once, most specific first; a route's place in that order is its rank, and a
//! look-up is the search for the least rank that holds. Exact paths are one hash look-up.
//! Everything else is a walk down a trie with at most two ways on per node (the literal child, the
//! capture child), which leaves out each subtree without a better rank than the one already found.
//!
//! Invariant: each node is visited at most once per look-up and none lies below the deepest
//! pattern, so a path of thousands of segments costs no more than a short one.

use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use smallvec::SmallVec;

use super::pattern::{Conditions, Shape, Step};
use super::table::{Captures, Request};
use crate::config::model::{PathPattern, Route, RouteId, Segment};

/// One route as a look-up sees it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) route: RouteId,
    name: Arc<str>,
    shape: Shape,
    /// Takes targets that are no path as well: `*` of `OPTIONS`, the authority of `CONNECT`.
    any_target: bool,
    conditions: Conditions,
    /// How the path is cut; empty where nothing is captured.
    cuts: Box<[Cut]>,
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    Skip,
    Capture,
    Rest,
}

impl Entry {
    pub(super) fn new(id: RouteId, route: &Route) -> Self {
        let cuts = match &route.matches.path {
            PathPattern::Template(segments) => segments
                .iter()
                .map(|segment| match segment {
                    Segment::Literal(_) => Cut::Skip,
                    Segment::Capture(_) => Cut::Capture,
                    Segment::Rest(_) => Cut::Rest,
                })
                .collect(),
            PathPattern::Any | PathPattern::Exact(_) | PathPattern::Prefix(_) => Box::default(),
        };
        Self {
            route: id,
            name: Arc::clone(&route.name),
            shape: Shape::new(&route.matches.path),
            any_target: route.matches.path == PathPattern::Any,
            conditions: Conditions::new(&route.matches),
            cuts,
        }
    }

    fn holds(&self, request: &Request<'_>) -> bool {
        self.conditions
            .hold(request.method, request.headers, request.query)
    }

    /// Cuts a path that is known to match.
    pub(super) fn captures(&self, path: &str) -> Captures {
        let mut captures = Captures::default();
        let mut start = 1;
        for cut in &self.cuts {
            let rest = path.get(start..).unwrap_or_default();
            let end = match cut {
                Cut::Skip | Cut::Capture => rest.find('/').map_or(path.len(), |at| start + at),
                Cut::Rest => path.len(),
            };
            if !matches!(cut, Cut::Skip) {
                captures.0.push(start.min(end)..end);
            }
            start = end + 1;
        }
        captures
    }
}

/// The routes of one host pattern. A rank is an index into `entries`, which are sorted with the
/// most specific first.
#[derive(Debug)]
pub(super) struct Paths {
    entries: Vec<Entry>,
    exact: AHashMap<Box<str>, Range<usize>>,
    /// The first one is the root; children come after their parents.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: AHashMap<Box<str>, usize>,
    capture: Option<usize>,
    /// Ranks of the patterns that end here.
    closed: Range<usize>,
    /// Ranks of the patterns that take everything from here on down.
    open: Range<usize>,
    /// Least rank here and below.
    best: usize,
}

const ROOT: usize = 0;

impl Paths {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| {
            (a.shape.cmp(&b.shape))
                .then_with(|| a.conditions.order(&b.conditions))
                .then_with(|| a.name.cmp(&b.name))
        });
        let mut paths = Self {
            entries: Vec::new(),
            exact: AHashMap::new(),
            nodes: vec![Node::default()],
        };
        let mut start = 0;
        for alike in entries.chunk_by(|a, b| a.shape == b.shape) {
            let ranks = start..start + alike.len();
            start = ranks.end;
            match alike.first().map(|entry| &entry.shape) {
                None => {}
                Some(Shape::Exact(path)) => {
                    paths.exact.insert(Box::from(&**path), ranks);
                }
                Some(Shape::Steps(pattern)) => {
                    let end = paths.plant(&pattern.steps);
                    let node = &mut paths.nodes[end];
                    *(if pattern.open {
                        &mut node.open
                    } else {
                        &mut node.closed
                    }) = ranks;
                }
            }
        }
        paths.entries = entries;
        paths.settle_best();
        paths
    }

    /// The node that `steps` lead to, grown where it is missing.
    fn plant(&mut self, steps: &[Step]) -> usize {
        let mut at = ROOT;
        for step in steps {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match step {
                Step::Literal(text) => *node.literals.entry(Box::from(&**text)).or_insert(next),
                Step::Capture => *node.capture.get_or_insert(next),
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        at
    }

    fn settle_best(&mut self) {
        for at in (0..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            let own = [&node.closed, &node.open]
                .into_iter()
                .filter(|ranks| !ranks.is_empty());
            let own = own.map(|ranks| ranks.start);
            let below = node.literals.values().chain(&node.capture);
            let best = own.chain(below.map(|&child| self.nodes[child].best)).min();
            self.nodes[at].best = best.unwrap_or(usize::MAX);
        }
    }

    pub(super) fn find(&self, request: &Request<'_>) -> Option<&Entry> {
        if let Some(ranks) = self.exact.get(request.path)
            && let Some(rank) = self.first_that_holds(ranks, usize::MAX, request)
        {
            return self.entries.get(rank);
        }
        let Some(below_root) = request.path.strip_prefix('/') else {
            let open = &self.entries[self.nodes[ROOT].open.clone()];
            return open
                .iter()
                .find(|entry| entry.any_target && entry.holds(request));
        };
        self.entries.get(self.walk(below_root, request))
    }

    /// The least rank of the trie that holds, or `usize::MAX`.
    fn walk(&self, below_root: &str, request: &Request<'_>) -> usize {
        let mut best = usize::MAX;
        // `None` is a path that ends at this node.
        let mut pending: SmallVec<[(usize, Option<&str>); 16]> = SmallVec::new();
        pending.push((ROOT, Some(below_root)));
        while let Some((at, rest)) = pending.pop() {
            let node = &self.nodes[at];
            if node.best >= best {
                continue;
            }
            best = self
                .first_that_holds(&node.open, best, request)
                .unwrap_or(best);
            let Some(rest) = rest else {
                best = self
                    .first_that_holds(&node.closed, best, request)
                    .unwrap_or(best);
                continue;
            };
            let (segment, rest) = match rest.split_once('/') {
                Some((segment, rest)) => (segment, Some(rest)),
                None => (rest, None),
            };
            if let Some(child) = node.capture
                && !segment.is_empty()
            {
                pending.push((child, rest));
            }
            if let Some(child) = node.literals.get(segment) {
                pending.push((*child, rest));
            }
        }
        best
    }

    fn first_that_holds(
        &self,
        ranks: &Range<usize>,
        below: usize,
        request: &Request<'_>,
    ) -> Option<usize> {
        (ranks.start..ranks.end.min(below)).find(|&rank| self.entries[rank].holds(request))
    }
}
