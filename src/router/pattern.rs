//! What one route asks of a path and of the rest of a request, and which of two asks for more.
//!
//! `paths` sorts by `Shape` and `Conditions` once, when it is built; a look-up only calls
//! `Conditions::hold`. Invariant: two `Shape`s are equal exactly when they accept the same paths,
//! so that routes with equal shapes stand together once sorted.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use crate::config::model::{Match, PathPattern, Segment, ValuePattern};

/// What a path must look like; the lesser one is the more specific one. The derived order is the
/// definition, so the order of variants and fields matters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// Byte for byte this path.
    Exact(Arc<str>),
    /// Segment by segment.
    Steps(Steps),
}

/// A path pattern as segments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Steps {
    literals: Reverse<usize>,
    captures: Reverse<usize>,
    /// Whether paths below are accepted too. `/a` as a prefix and `/a/{*rest}` are the same.
    pub(super) open: bool,
    /// A literal at the first difference wins.
    pub(super) steps: Vec<Step>,
}

/// One segment of `Steps`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Literal(Arc<str>),
    /// One segment that is not empty.
    Capture,
}

impl Shape {
    pub(super) fn new(pattern: &PathPattern) -> Self {
        match pattern {
            PathPattern::Any => Self::steps(Vec::new(), true),
            PathPattern::Exact(path) => Self::Exact(Arc::clone(path)),
            PathPattern::Prefix(prefix) => {
                let steps = prefix
                    .split('/')
                    .skip(1)
                    .map(|text| Step::Literal(text.into()));
                Self::steps(steps.collect(), true)
            }
            PathPattern::Template(segments) => Self::template(segments),
        }
    }

    fn template(segments: &[Segment]) -> Self {
        let mut steps = Vec::with_capacity(segments.len());
        let mut open = false;
        for segment in segments {
            match segment {
                Segment::Literal(text) => steps.push(Step::Literal(Arc::clone(text))),
                Segment::Capture(_) => steps.push(Step::Capture),
                Segment::Rest(_) => {
                    open = true;
                    break;
                }
            }
        }
        let mut path = String::new();
        for step in &steps {
            let Step::Literal(text) = step else {
                return Self::steps(steps, open);
            };
            path.push('/');
            path.push_str(text);
        }
        if open {
            Self::steps(steps, open)
        } else {
            Self::Exact(path.into())
        }
    }

    fn steps(steps: Vec<Step>, open: bool) -> Self {
        let captures = steps
            .iter()
            .filter(|step| matches!(step, Step::Capture))
            .count();
        let literals = steps.len() - captures;
        Self::Steps(Steps {
            literals: Reverse(literals),
            captures: Reverse(captures),
            open,
            steps,
        })
    }
}

/// What a route asks beside host and path.
#[derive(Debug)]
pub(super) struct Conditions {
    methods: Box<[Method]>,
    headers: Box<[(HeaderName, ValuePattern)]>,
    query: Box<[(Arc<str>, ValuePattern)]>,
}

impl Conditions {
    pub(super) fn new(matches: &Match) -> Self {
        let Match {
            host: _,
            path: _,
            methods,
            headers,
            query,
        } = matches;
        Self {
            methods: methods.clone().into(),
            headers: headers.clone().into(),
            query: query.clone().into(),
        }
    }

    /// Whether a request meets all of them. Costs at most one pass over the query per condition.
    pub(super) fn hold(&self, method: &Method, headers: &HeaderMap, query: Option<&str>) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && self
                .headers
                .iter()
                .all(|(name, wanted)| header_holds(headers, name, wanted))
            && self
                .query
                .iter()
                .all(|(name, wanted)| query_holds(query, name, wanted))
    }

    /// More conditions first; then the sorted lists, which makes the order total but for names.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        fn methods(of: &Conditions) -> impl Iterator<Item = &str> {
            of.methods.iter().map(Method::as_str)
        }
        fn headers(of: &Conditions) -> impl Iterator<Item = (&str, &ValuePattern)> {
            of.headers
                .iter()
                .map(|(name, wanted)| (name.as_str(), wanted))
        }
        (other.count().cmp(&self.count()))
            .then_with(|| methods(self).cmp(methods(other)))
            .then_with(|| headers(self).cmp(headers(other)))
            .then_with(|| self.query.cmp(&other.query))
    }

    fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }
}

fn header_holds(headers: &HeaderMap, name: &HeaderName, wanted: &ValuePattern) -> bool {
    match wanted {
        ValuePattern::Present => headers.contains_key(name),
        ValuePattern::Exact(text) => headers
            .get_all(name)
            .iter()
            .any(|value| value.as_bytes() == text.as_bytes()),
    }
}

/// A parameter without `=` has an empty value. `+` is itself, as RFC 3986 has it.
fn query_holds(query: Option<&str>, name: &str, wanted: &ValuePattern) -> bool {
    query.unwrap_or_default().split('&').any(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        !parameter.is_empty()
            && decodes_to(key, name)
            && match wanted {
                ValuePattern::Present => true,
                ValuePattern::Exact(text) => decodes_to(value, text),
            }
    })
}

fn decodes_to(encoded: &str, plain: &str) -> bool {
    Decoded(encoded.as_bytes()).eq(plain.bytes())
}

/// Bytes of a percent-encoded text (RFC 3986, section 2.1), decoded as they are asked for. A `%`
/// without two hexadecimal digits stands for itself.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, mut rest) = self.0.split_first()?;
        let mut byte = first;
        if let (b'%', [high, low, after @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            byte = high << 4 | low;
            rest = after;
        }
        self.0 = rest;
        Some(byte)
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_decoded_and_broken_sequences_stand_for_themselves() {
        assert!(decodes_to("a%20b", "a b"));
        assert!(decodes_to("%C3%a9", "é"));
        assert!(decodes_to("100%", "100%"));
        assert!(decodes_to("%4", "%4"));
        assert!(decodes_to("%zz%41", "%zzA"));
        assert!(decodes_to("a+b", "a+b"));
        assert!(!decodes_to("a%20b", "a"));
        assert!(!decodes_to("a", "ab"));
    }

    #[test]
    fn a_prefix_and_a_template_that_accept_the_same_paths_have_the_same_shape() {
        let prefix = PathPattern::Prefix("/a/b".into());
        let rest = vec![
            Segment::Literal("a".into()),
            Segment::Literal("b".into()),
            Segment::Rest("rest".into()),
        ];
        assert_eq!(
            Shape::new(&prefix),
            Shape::new(&PathPattern::Template(rest))
        );
        let literal = vec![Segment::Literal("a".into()), Segment::Literal("b".into())];
        let exact = PathPattern::Exact("/a/b".into());
        assert_eq!(
            Shape::new(&exact),
            Shape::new(&PathPattern::Template(literal))
        );
    }
}
