//! Whether an answer is compressed, and what its head then says.
//!
//! Pure functions over heads; `proxy::respond` calls them for each answer of a route with `compress`.
//! A `HEAD` is judged as its `GET` would be, by the length that the head states.
//!
//! | answer                                                        | verdict     |
//! |---------------------------------------------------------------|-------------|
//! | `1xx`, `204`, `205`; coded already; `Content-Range`; `no-transform`; another type | `Untouched` |
//! | `206` of what a `200` might have been compressed of            | `Plain`     |
//! | `304` to a client that takes a coding                         | `Confirmed` |
//! | the client takes none, or the body is too small               | `Plain`     |
//! | everything else                                               | `Coded`     |

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderName, HeaderValue, VARY,
};
use http::{HeaderMap, StatusCode};

use crate::config::model::{Coding, Compress};
use crate::wire::fields::{members, opaque, vary};

use super::accept::{accepted, is};

/// What the types of gRPC and gRPC-Web begin with.
const GRPC: &[u8] = b"application/grpc";

/// Say what the bytes of the body are, and do not hold for others: RFC 9530, and its forerunners.
pub(super) const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// What `mark` changes in a head for an answer that is compressed, or decompressed.
pub const MARKED: [HeaderName; 9] = [
    ACCEPT_RANGES,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    ETAG,
    VARY,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// An answer and the request that it is for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The route's rule.
    pub rule: &'a Compress,
    /// Fields of the request.
    pub request: &'a HeaderMap,
    /// The answer's status.
    pub status: StatusCode,
    /// Bytes of the body, where they are known and no `Content-Length` says so.
    pub length: Option<u64>,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It could not have been compressed, whoever asked.
    Untouched,
    /// It goes out as it is; another client might have got it compressed.
    Plain,
    /// Without a body, it confirms what the client holds, which may be compressed.
    Confirmed,
    /// It is compressed.
    Coded(Coding),
    /// It came compressed, and goes out decompressed.
    Decoded,
}

/// Makes the head of an answer say what became of it.
pub fn mark(verdict: Verdict, answer: &mut HeaderMap) {
    match verdict {
        Verdict::Untouched => {}
        Verdict::Plain => vary(answer, &ACCEPT_ENCODING),
        Verdict::Confirmed => {
            vary(answer, &ACCEPT_ENCODING);
            weaken(answer);
        }
        Verdict::Coded(coding) => {
            changed(answer);
            answer.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
        }
        Verdict::Decoded => {
            changed(answer);
            answer.remove(CONTENT_ENCODING);
        }
    }
}

/// What describes the bytes that came does not hold for those that go out.
fn changed(answer: &mut HeaderMap) {
    vary(answer, &ACCEPT_ENCODING);
    weaken(answer);
    answer.remove(CONTENT_LENGTH);
    // Ranges are counted in the bytes that came, which this client does not see.
    answer.remove(ACCEPT_RANGES);
    for digest in &DIGESTS {
        answer.remove(digest);
    }
}

/// The coding of an answer, if it has one and that is known.
#[must_use]
pub fn coding_of(answer: &HeaderMap) -> Option<Coding> {
    let mut names = answer.get_all(CONTENT_ENCODING).iter().flat_map(members);
    let name = names.next()?;
    let known = Coding::ALL.into_iter().find(|coding| is(*coding, name));
    known.filter(|_| names.next().is_none())
}

/// Judges an answer by the fields of its head.
#[must_use]
pub fn judge(subject: &Subject<'_>, answer: &HeaderMap) -> Verdict {
    let Subject {
        rule,
        request,
        status,
        length,
    } = *subject;
    match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => return Verdict::Untouched,
        StatusCode::PARTIAL_CONTENT => return part(rule, answer),
        status if status.is_informational() => return Verdict::Untouched,
        StatusCode::NOT_MODIFIED => {
            let takes = !accepted(request, &rule.algorithms).codings.is_empty();
            return if takes {
                Verdict::Confirmed
            } else {
                Verdict::Plain
            };
        }
        _ => {}
    }
    if answer.contains_key(CONTENT_ENCODING)
        || answer.contains_key(CONTENT_RANGE)
        || forbids(answer)
        || !is_listed(rule, answer)
    {
        return Verdict::Untouched;
    }
    if forbids(request) {
        return Verdict::Plain;
    }
    let accepted = accepted(request, &rule.algorithms);
    let Some(coding) = accepted.codings.first() else {
        return Verdict::Plain;
    };
    let stated = answer
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let worth = match stated.or(length) {
        Some(0) => false,
        // A client that refuses plain bytes gets a small answer compressed too.
        Some(length) => length >= rule.min_size.0 || !accepted.identity,
        None => true,
    };
    if worth {
        Verdict::Coded(*coding)
    } else {
        Verdict::Plain
    }
}

/// A part varies as the whole does (RFC 9110 section 15.3.7). Of several parts in one body, the fields
/// do not say what they are parts of.
fn part(rule: &Compress, answer: &HeaderMap) -> Verdict {
    let is_open = !answer.contains_key(CONTENT_ENCODING) && !forbids(answer);
    if is_open && (is_listed(rule, answer) || essence(answer) == Some(b"multipart/byteranges")) {
        Verdict::Plain
    } else {
        Verdict::Untouched
    }
}

/// `Cache-Control: no-transform`, in an answer or a request (RFC 9111 sections 5.2.1.6 and 5.2.2.6).
#[must_use]
pub fn forbids(headers: &HeaderMap) -> bool {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

fn is_listed(rule: &Compress, answer: &HeaderMap) -> bool {
    let Some(essence) = essence(answer) else {
        return false;
    };
    // gRPC has codings of its own, and its clients do not expect this one.
    let is_grpc = essence
        .get(..GRPC.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(GRPC));
    !is_grpc && rule.types.iter().any(|pattern| pattern.matches(essence))
}

/// The media type without its parameters.
fn essence(answer: &HeaderMap) -> Option<&[u8]> {
    let value = answer.get(CONTENT_TYPE)?.as_bytes();
    let essence = value.split(|byte| *byte == b';').next()?;
    Some(essence.trim_ascii())
}

/// The compressed bytes are not the bytes that a strong tag names (RFC 9110 section 8.8.3.3), and what
/// they are may differ from one release of Headgate to the next. What is no tag cannot be weakened: it goes,
/// or the plain bytes and these would have the same.
fn weaken(answer: &mut HeaderMap) {
    let Some(tag) = answer.get(ETAG) else { return };
    let opaque = opaque(tag.as_bytes());
    let weak = match opaque {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'"') => [b"W/", opaque].concat(),
        _ => Vec::new(),
    };
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(weak)) {
        Ok(weak) if !weak.is_empty() => {
            answer.insert(ETAG, weak);
        }
        _ => {
            answer.remove(ETAG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Level, TypePattern};
    use crate::config::units::ByteSize;

    fn rule() -> Compress {
        Compress {
            algorithms: vec![Coding::Zstd, Coding::Gzip],
            min_size: ByteSize(100),
            types: vec![
                TypePattern::Prefix("text/".into()),
                TypePattern::Suffix("+text".into()),
            ],
            level: Level::Balanced,
        }
    }

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn judged(
        status: u16,
        request: &[(&'static str, &'static str)],
        answer: &[(&'static str, &'static str)],
    ) -> (Verdict, HeaderMap) {
        let mut answer = map(answer);
        let subject = Subject {
            rule: &rule(),
            request: &map(request),
            status: StatusCode::from_u16(status).unwrap(),
            length: None,
        };
        let verdict = judge(&subject, &answer);
        mark(verdict, &mut answer);
        (verdict, answer)
    }

    const GZIP: (&str, &str) = ("accept-encoding", "gzip");
    const TEXT: (&str, &str) = ("content-type", "Text/HTML; charset=utf-8");

    #[test]
    fn a_compressed_answer_says_so_and_forgets_what_no_longer_holds() {
        let (verdict, head) = judged(
            200,
            &[GZIP],
            &[
                TEXT,
                ("content-length", "100"),
                ("etag", "\"a\""),
                ("accept-ranges", "bytes"),
                ("content-md5", "x"),
                ("repr-digest", "x"),
                ("content-digest", "x"),
                ("digest", "x"),
                ("vary", "cookie"),
                ("x", "stays"),
            ],
        );
        assert_eq!(verdict, Verdict::Coded(Coding::Gzip));
        let expected = map(&[
            TEXT,
            ("content-encoding", "gzip"),
            ("etag", "W/\"a\""),
            ("vary", "cookie"),
            ("vary", "accept-encoding"),
            ("x", "stays"),
        ]);
        assert_eq!(head, expected);
    }

    #[test]
    fn what_cannot_be_compressed_is_left_as_it_is() {
        let tag = ("etag", "\"a\"");
        for (status, answer) in [
            (101, vec![TEXT]),
            (204, vec![TEXT]),
            (205, vec![TEXT]),
            (206, vec![("content-type", "image/png"), tag]),
            (206, vec![TEXT, ("content-encoding", "br")]),
            (200, vec![TEXT, tag, ("content-encoding", "br")]),
            (200, vec![TEXT, tag, ("content-encoding", "identity")]),
            (416, vec![TEXT, ("content-range", "bytes */5")]),
            (
                200,
                vec![TEXT, tag, ("cache-control", "max-age=1, No-Transform")],
            ),
            (200, vec![("content-type", "image/png"), tag]),
            (200, vec![("content-type", "Application/gRPC+text")]),
            (200, vec![tag]),
        ] {
            let (verdict, head) = judged(status, &[GZIP], &answer);
            assert_eq!(verdict, Verdict::Untouched, "{status} {answer:?}");
            assert_eq!(head, map(&answer));
        }
    }

    #[test]
    fn what_others_might_get_compressed_varies() {
        for (request, answer) in [
            (vec![], vec![TEXT]),
            (vec![("accept-encoding", "br")], vec![TEXT]),
            (vec![GZIP, ("cache-control", "no-transform")], vec![TEXT]),
            (vec![GZIP], vec![TEXT, ("content-length", "99")]),
            (vec![GZIP], vec![TEXT, ("content-length", "0")]),
        ] {
            let (verdict, head) = judged(200, &request, &answer);
            assert_eq!(verdict, Verdict::Plain, "{request:?} {answer:?}");
            let mut expected = map(&answer);
            expected.append("vary", HeaderValue::from(ACCEPT_ENCODING));
            assert_eq!(head, expected);
        }
    }

    #[test]
    fn vary_is_said_once() {
        for said in ["Accept-Encoding", "cookie, ACCEPT-ENCODING", "*"] {
            let (_, head) = judged(200, &[GZIP], &[TEXT, ("vary", said)]);
            assert_eq!(head.get_all("vary").iter().count(), 1, "{said}");
        }
    }

    #[test]
    fn a_client_that_refuses_plain_bytes_gets_a_small_answer_compressed() {
        let small = [TEXT, ("content-length", "5")];
        let (verdict, _) = judged(200, &[("accept-encoding", "gzip, identity;q=0")], &small);
        assert_eq!(verdict, Verdict::Coded(Coding::Gzip));
    }

    #[test]
    fn a_304_has_the_tag_of_the_answer_that_it_confirms() {
        let (verdict, head) = judged(304, &[GZIP], &[("etag", "\"a\"")]);
        assert_eq!(verdict, Verdict::Confirmed);
        assert_eq!(
            head,
            map(&[("etag", "W/\"a\""), ("vary", "accept-encoding")])
        );
        let (_, head) = judged(304, &[], &[("etag", "\"a\"")]);
        assert_eq!(head["etag"], "\"a\"");
    }

    #[test]
    fn a_weak_tag_stays_and_what_is_no_tag_goes_with_the_plain_bytes() {
        let (_, head) = judged(200, &[GZIP], &[TEXT, ("etag", "W/\"a\"")]);
        assert_eq!(head["etag"], "W/\"a\"");
        for tag in ["unquoted", "\"a", "\"", "\"a\"b\"", "W/a", "w/\"a\"", ""] {
            for status in [200, 304] {
                let (_, head) = judged(status, &[GZIP], &[TEXT, ("etag", tag)]);
                assert_eq!(head.get("etag"), None, "{tag}");
            }
            let (_, head) = judged(200, &[], &[TEXT, ("etag", tag)]);
            assert_eq!(head["etag"], tag);
        }
    }

    #[test]
    fn a_part_varies_as_the_whole_does() {
        let several = ("content-type", "multipart/byteranges; boundary=x");
        let of_one = [TEXT, ("content-range", "bytes 0-1/9"), ("etag", "\"a\"")];
        for answer in [&of_one[..], &[several]] {
            for request in [&[GZIP][..], &[]] {
                let (verdict, head) = judged(206, request, answer);
                assert_eq!(verdict, Verdict::Plain);
                let mut expected = map(answer);
                expected.append("vary", HeaderValue::from(ACCEPT_ENCODING));
                assert_eq!(head, expected);
            }
        }
    }
}
