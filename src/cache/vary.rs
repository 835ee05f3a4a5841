//! Which requests an answer that varies may be given to (RFC 9111 section 4.1).
//!
//! An entry keeps the fields that its `Vary` nominates with the values that its request had;
//! `entry` compares a later request with them, `flight` does the same for an answer that is still
//! arriving. Values are normalised: lines joined, space around commas removed, empty members
//! dropped; a value with quotes is only trimmed, since a comma inside of them means something.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, VARY};

/// The nominated fields and their normalised values; `None` for a field that was absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Vary(Box<[Nominated]>);

type Nominated = (HeaderName, Option<Box<[u8]>>);

/// The answer varies by something that no field shows: `Vary: *`, or a `Vary` beyond reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unselectable;

impl Vary {
    /// What an answer nominates, filled with the values of the request that it answers.
    pub(super) fn of(answer: &HeaderMap, request: &HeaderMap) -> Result<Self, Unselectable> {
        let mut names = Vec::new();
        for line in answer.get_all(VARY) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                let member = member.trim_ascii();
                if member.is_empty() {
                    continue;
                }
                if member == b"*" || is_not_shown(member) || names.len() >= MAX_NOMINATED {
                    return Err(Unselectable);
                }
                names.push(HeaderName::from_bytes(member).map_err(|_invalid| Unselectable)?);
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let value = |name: &HeaderName| normalised(request, name).map(|v| v.into_owned().into());
        Ok(Self(
            names
                .into_iter()
                .map(|name| (value(&name), name))
                .map(|(v, n)| (n, v))
                .collect(),
        ))
    }

    /// Whether a request with these fields may be given the answer.
    pub(super) fn matches(&self, request: &HeaderMap) -> bool {
        self.0
            .iter()
            .all(|(name, value)| normalised(request, name).as_deref() == value.as_deref())
    }

    /// Appends the values of the nominated fields in `request` to a key.
    pub(super) fn extend_key(&self, request: &HeaderMap, key: &mut Vec<u8>) {
        for (name, _) in &self.0 {
            // No value holds a zero byte or a line feed, so neither can be imitated.
            key.push(0);
            key.extend_from_slice(name.as_str().as_bytes());
            if let Some(value) = normalised(request, name) {
                key.push(b'\n');
                key.extend_from_slice(&value);
            }
        }
    }

    /// Bytes held, roughly.
    pub(super) fn charge(&self) -> usize {
        let one = |(name, value): &Nominated| {
            name.as_str().len() + value.as_ref().map_or(0, |v| v.len()) + 96
        };
        self.0.iter().map(one).sum()
    }
}

/// Fields that Headgate writes on the way to the endpoint: no request shows what they will be
/// (RFC 9440 section 2.4).
fn is_not_shown(member: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [
        b"client-cert",
        b"client-cert-chain",
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-real-ip",
        b"x-request-id",
    ];
    NAMES.iter().any(|name| member.eq_ignore_ascii_case(name))
}

/// More nominated fields than this are not worth telling apart.
const MAX_NOMINATED: usize = 32;

/// A field's value over all its lines, or `None` when it is absent. Borrows in the common case of
/// one line without space to remove.
fn normalised<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers
        .get_all(name)
        .iter()
        .map(|line| line.as_bytes().trim_ascii());
    let first = lines.next()?;
    let second = lines.next();
    let is_plain = |line: &[u8]| !line.contains(&b',') || line.contains(&b'"');
    if second.is_none() && is_plain(first) {
        return Some(Cow::Borrowed(first));
    }
    let mut joined = Vec::with_capacity(first.len() + 16);
    for line in [first].into_iter().chain(second).chain(lines) {
        let parts: &mut dyn Iterator<Item = &[u8]> = if is_plain(line) {
            &mut std::iter::once(line)
        } else {
            &mut line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
        };
        for part in parts.filter(|part| !part.is_empty()) {
            if !joined.is_empty() {
                joined.push(b',');
            }
            joined.extend_from_slice(part);
        }
    }
    Some(Cow::Owned(joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn vary(nominated: &'static str, request: &[(&'static str, &'static str)]) -> Vary {
        Vary::of(&map(&[("vary", nominated)]), &map(request)).unwrap()
    }

    #[test]
    fn an_answer_without_vary_matches_every_request() {
        let vary = Vary::of(&HeaderMap::new(), &map(&[("accept", "x")])).unwrap();
        assert!(vary == Vary::default() && vary.matches(&HeaderMap::new()));
    }

    #[test]
    fn a_request_matches_when_each_nominated_field_is_the_same() {
        let vary = vary(
            "Accept, ,accept-language",
            &[("accept", "a"), ("cookie", "1")],
        );
        assert!(vary.matches(&map(&[("accept", "a"), ("cookie", "2")])));
        assert!(!vary.matches(&map(&[("accept", "b")])));
        assert!(!vary.matches(&map(&[])));
        assert!(!vary.matches(&map(&[("accept", "a"), ("accept-language", "de")])));
        assert!(!vary.matches(&map(&[("accept", "a"), ("accept-language", "")])));
    }

    #[test]
    fn lists_are_the_same_however_they_are_spaced_and_split() {
        let vary = vary("accept-encoding", &[("accept-encoding", "gzip, br")]);
        assert!(vary.matches(&map(&[("accept-encoding", " gzip ,,br ")])));
        assert!(vary.matches(&map(&[
            ("accept-encoding", "gzip"),
            ("accept-encoding", "br")
        ])));
        assert!(!vary.matches(&map(&[("accept-encoding", "br, gzip")])));
    }

    #[test]
    fn space_inside_quotes_is_kept() {
        let vary = vary("x", &[("x", "\"a, b\"")]);
        assert!(vary.matches(&map(&[("x", " \"a, b\" ")])));
        assert!(!vary.matches(&map(&[("x", "\"a,b\"")])));
    }

    #[test]
    fn what_no_field_shows_cannot_be_selected() {
        for line in [
            "*",
            "accept, *",
            "a b",
            "accept, Client-Cert",
            "X-Forwarded-For",
        ] {
            assert_eq!(
                Vary::of(&map(&[("vary", line)]), &HeaderMap::new()),
                Err(Unselectable)
            );
        }
        let many: String = (0..40).map(|n| format!("x-{n},")).collect();
        let mut answer = HeaderMap::new();
        answer.insert(VARY, many.parse().unwrap());
        assert_eq!(Vary::of(&answer, &HeaderMap::new()), Err(Unselectable));
    }

    #[test]
    fn keys_of_different_values_differ() {
        let vary = vary("a, b", &[]);
        let key = |request: &[_]| {
            let mut key = Vec::new();
            vary.extend_key(&map(request), &mut key);
            key
        };
        assert_ne!(key(&[("a", "1")]), key(&[("b", "1")]));
        assert_ne!(key(&[("a", "")]), key(&[]));
        assert_eq!(key(&[("a", "1, 2")]), key(&[("a", "1,2")]));
    }
}
