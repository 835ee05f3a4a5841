//! Which requests an answer that varies may be given to (RFC 9111 section 4.1).
//!
//! An entry keeps the fields that its `Vary` nominates with the values that its request had;
//! `entry` compares a later request with them, `flight` does the same for an answer that is still
//! arriving. Values are normalised in ways that change nothing of what they mean: lines joined, space
//! around commas removed, empty members dropped; codings and languages are in lower case and in the order
//! of their weights. A value with quotes is only trimmed, since a comma inside of them means something.
//! Most requests send what the stored one sent, byte for byte, and then nothing is normalised.

use std::borrow::Cow;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderMap, HeaderName, HeaderValue, VARY};

/// The nominated fields with the values of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Vary(Box<[Nominated]>);

/// A nominated field: its name, its value as it was sent if in one line, its normalised value if it had one.
pub(super) type Part = (HeaderName, Option<HeaderValue>, Option<Box<[u8]>>);

#[derive(Debug, Clone)]
struct Nominated {
    name: HeaderName,
    /// As it was sent, if in one line.
    sent: Option<HeaderValue>,
    /// Normalised; `None` when it was absent.
    value: Option<Box<[u8]>>,
}

impl PartialEq for Nominated {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

impl Eq for Nominated {}

impl Nominated {
    fn matches(&self, request: &HeaderMap) -> bool {
        let mut lines = request.get_all(&self.name).iter();
        match (lines.next(), lines.next(), &self.sent) {
            (None, _, _) => self.value.is_none(),
            (Some(line), None, Some(sent)) if line == sent => true,
            _ => normalised(request, &self.name).as_deref() == self.value.as_deref(),
        }
    }
}

/// The answer varies by something that no field shows: `Vary: *`, or a `Vary` beyond reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unselectable;

impl Vary {
    /// What an answer nominates, filled with the values of the request that it answers. Where a route
    /// asks for one coding whatever clients take (`is_settled`), that field says nothing.
    pub(super) fn of(
        answer: &HeaderMap,
        request: &HeaderMap,
        is_settled: bool,
    ) -> Result<Self, Unselectable> {
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
        names.retain(|name| !is_settled || *name != ACCEPT_ENCODING);
        let nominated = names.into_iter().map(|name| {
            let mut lines = request.get_all(&name).iter();
            let sent = lines.next().filter(|_| lines.next().is_none());
            Nominated {
                // A copy of its own: the request's would keep all of its head.
                sent: sent.and_then(|line| HeaderValue::from_bytes(line.as_bytes()).ok()),
                value: normalised(request, &name).map(|value| value.into_owned().into()),
                name,
            }
        });
        Ok(Self(nominated.collect()))
    }

    /// Whether a request with these fields may be given the answer.
    pub(super) fn matches(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|nominated| nominated.matches(request))
    }

    /// Appends the values of the nominated fields in `request` to a key.
    pub(super) fn extend_key(&self, request: &HeaderMap, key: &mut Vec<u8>) {
        for Nominated { name, .. } in &self.0 {
            extend_key(name, request, key);
        }
    }

    /// The nominated fields, each as a `Part`.
    pub(super) fn parts(
        &self,
    ) -> impl Iterator<Item = (&HeaderName, Option<&HeaderValue>, Option<&[u8]>)> {
        self.0
            .iter()
            .map(|it| (&it.name, it.sent.as_ref(), it.value.as_deref()))
    }

    /// What `parts` gave.
    pub(super) fn from_parts(parts: Vec<Part>) -> Self {
        let nominated = parts.into_iter();
        let nominated = nominated.map(|(name, sent, value)| Nominated { name, sent, value });
        Self(nominated.collect())
    }

    /// Bytes held, roughly.
    pub(super) fn charge(&self) -> usize {
        let one = |it: &Nominated| {
            let value = it.value.as_ref().map_or(0, |value| value.len());
            let sent = it.sent.as_ref().map_or(0, HeaderValue::len);
            it.name.as_str().len() + value + sent + 160
        };
        self.0.iter().map(one).sum()
    }
}

/// Appends one field of a request to a key.
pub(super) fn extend_key(name: &HeaderName, request: &HeaderMap, key: &mut Vec<u8>) {
    // No value holds a zero byte or a line feed, so neither can be imitated.
    key.push(0);
    key.extend_from_slice(name.as_str().as_bytes());
    if let Some(value) = normalised(request, name) {
        key.push(b'\n');
        key.extend_from_slice(&value);
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
    let joined = joined(headers, name)?;
    Some(match *name {
        ACCEPT_ENCODING => weighed(&joined, true).map_or(joined, Cow::Owned),
        // Of languages of one weight, some servers take the first.
        ACCEPT_LANGUAGE => weighed(&joined, false).map_or(joined, Cow::Owned),
        _ => joined,
    })
}

/// Members in lower case, those of the largest weight first; `sorted` if the order of others means
/// nothing. Nothing when a weight cannot be read.
fn weighed(list: &[u8], sorted: bool) -> Option<Vec<u8>> {
    let mut members = Vec::new();
    for member in list.split(|byte| *byte == b',') {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next()?.to_ascii_lowercase();
        let weight = match parts.next() {
            None => 1000,
            Some(weight) => thousandths(
                weight
                    .strip_prefix(b"q=")
                    .or_else(|| weight.strip_prefix(b"Q="))?,
            )?,
        };
        if parts.next().is_some() {
            return None;
        }
        // RFC 9110 section 8.4.1.3: two names of one coding.
        let name = name
            .strip_prefix(b"x-")
            .map_or(name.as_slice(), |rest| match rest {
                b"gzip" | b"compress" if sorted => rest,
                _ => name.as_slice(),
            });
        members.push((std::cmp::Reverse(weight), name.to_vec()));
    }
    if sorted {
        members.sort();
        members.dedup();
    } else {
        members.sort_by_key(|(weight, _)| *weight);
    }
    let mut text = Vec::with_capacity(list.len());
    for (weight, name) in members {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(&name);
        if weight.0 != 1000 {
            text.extend_from_slice(format!(";{}", weight.0).as_bytes());
        }
    }
    Some(text)
}

/// A weight (RFC 9110 section 12.4.2) in thousandths.
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, rest) = weight.split_first()?;
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        _ => return None,
    };
    let mut value = match whole {
        b'0' => 0,
        b'1' => 1,
        _ => return None,
    };
    for place in 0..3 {
        let digit = decimals.get(place).copied().unwrap_or(b'0');
        value = value * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (value <= 1000).then_some(value)
}

/// A field's lines as one, without space that means nothing.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
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
        Vary::of(&map(&[("vary", nominated)]), &map(request), false).unwrap()
    }

    #[test]
    fn an_answer_without_vary_matches_every_request() {
        let vary = Vary::of(&HeaderMap::new(), &map(&[("accept", "x")]), false).unwrap();
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
        let vary = vary("accept", &[("accept", "a/b, c/d")]);
        assert!(vary.matches(&map(&[("accept", " a/b ,,c/d ")])));
        assert!(vary.matches(&map(&[("accept", "a/b"), ("accept", "c/d")])));
        assert!(!vary.matches(&map(&[("accept", "c/d, a/b")])));
    }

    #[test]
    fn codings_are_the_same_in_any_order_and_spelling() {
        let same = |one, other| {
            vary("accept-encoding", &[("accept-encoding", one)])
                .matches(&map(&[("accept-encoding", other)]))
        };
        assert!(same("gzip, br", "br,GZIP"));
        assert!(same("gzip;q=1.0, br;q=0.50", "br; q=0.5, x-gzip"));
        assert!(same("gzip, gzip", "gzip"));
        assert!(!same("gzip, br", "gzip, br;q=0.5"));
        assert!(!same("gzip, br;q=0", "gzip"));
        assert!(!same("gzip", ""));
        assert!(!same("gzip;q=2", "gzip"), "not a weight: as it stands");
        assert!(same("gzip;q=2, br", "gzip;q=2,br"));
    }

    #[test]
    fn languages_are_the_same_in_any_case_and_in_the_order_of_their_weights() {
        let same = |one, other| {
            vary("accept-language", &[("accept-language", one)])
                .matches(&map(&[("accept-language", other)]))
        };
        assert!(same(
            "de-CH, en;q=0.8, fr;q=0.9",
            "DE-ch,fr;q=0.90,en;q=0.8"
        ));
        assert!(!same("de, en", "en, de"), "some servers take the first");
        assert!(!same("de;q=0.1", "de"));
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
                Vary::of(&map(&[("vary", line)]), &HeaderMap::new(), false),
                Err(Unselectable)
            );
        }
        let many: String = (0..40).map(|n| format!("x-{n},")).collect();
        let mut answer = HeaderMap::new();
        answer.insert(VARY, many.parse().unwrap());
        assert_eq!(
            Vary::of(&answer, &HeaderMap::new(), false),
            Err(Unselectable)
        );
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
