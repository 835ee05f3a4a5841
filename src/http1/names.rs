//! Field names that are known by heart.
//!
//! `fields` asks here first: making a `HeaderName` of any other name costs a search and, for one that the
//! `http` crate does not know, an allocation. Invariant: what is found here is what
//! `HeaderName::from_bytes` would have made.

use http::header::{self, HeaderName};

/// A name in its usual spelling, and what it is.
type Known = (&'static str, HeaderName);

/// The name that is written so, if it is one of the usual ones, in its usual spelling or in lower case.
pub(super) fn known(name: &[u8]) -> Option<HeaderName> {
    let is =
        |(usual, known): &&Known| usual.as_bytes() == name || known.as_str().as_bytes() == name;
    let found = of_length(name.len()).iter().find(is);
    found.map(|(_, known)| known.clone())
}

fn of_length(length: usize) -> &'static [Known] {
    match length {
        2 => &OF_2,
        3 => &OF_3,
        4 => &OF_4,
        5 => &OF_5,
        6 => &OF_6,
        7 => &OF_7,
        8 => &OF_8,
        9 => &OF_9,
        10 => &OF_10,
        11 => &OF_11,
        12 => &OF_12,
        13 => &OF_13,
        14 => &OF_14,
        15 => &OF_15,
        16 => &OF_16,
        17 => &OF_17,
        18 => &OF_18,
        25 => &OF_25,
        _ => &[],
    }
}

static OF_2: [Known; 1] = [("TE", header::TE)];
static OF_3: [Known; 3] = [
    ("Age", header::AGE),
    ("DNT", header::DNT),
    ("Via", header::VIA),
];
static OF_4: [Known; 4] = [
    ("Date", header::DATE),
    ("ETag", header::ETAG),
    ("Host", header::HOST),
    ("Vary", header::VARY),
];
static OF_5: [Known; 1] = [("Range", header::RANGE)];
static OF_6: [Known; 6] = [
    ("Accept", header::ACCEPT),
    ("Cookie", header::COOKIE),
    ("Expect", header::EXPECT),
    ("Origin", header::ORIGIN),
    ("Pragma", header::PRAGMA),
    ("Server", header::SERVER),
];
static OF_7: [Known; 2] = [("Expires", header::EXPIRES), ("Referer", header::REFERER)];
static OF_8: [Known; 2] = [
    ("Location", header::LOCATION),
    ("Priority", HeaderName::from_static("priority")),
];
static OF_9: [Known; 1] = [("Sec-CH-UA", HeaderName::from_static("sec-ch-ua"))];
static OF_10: [Known; 4] = [
    ("Connection", header::CONNECTION),
    ("Keep-Alive", HeaderName::from_static("keep-alive")),
    ("Set-Cookie", header::SET_COOKIE),
    ("User-Agent", header::USER_AGENT),
];
static OF_11: [Known; 1] = [("traceparent", HeaderName::from_static("traceparent"))];
static OF_12: [Known; 2] = [
    ("Content-Type", header::CONTENT_TYPE),
    ("X-Request-Id", HeaderName::from_static("x-request-id")),
];
static OF_13: [Known; 5] = [
    ("Cache-Control", header::CACHE_CONTROL),
    ("Authorization", header::AUTHORIZATION),
    ("If-None-Match", header::IF_NONE_MATCH),
    ("Accept-Ranges", header::ACCEPT_RANGES),
    ("Last-Modified", header::LAST_MODIFIED),
];
static OF_14: [Known; 5] = [
    ("Content-Length", header::CONTENT_LENGTH),
    ("Sec-Fetch-Dest", HeaderName::from_static("sec-fetch-dest")),
    ("Sec-Fetch-Mode", HeaderName::from_static("sec-fetch-mode")),
    ("Sec-Fetch-Site", HeaderName::from_static("sec-fetch-site")),
    ("Sec-Fetch-User", HeaderName::from_static("sec-fetch-user")),
];
static OF_15: [Known; 3] = [
    ("Accept-Encoding", header::ACCEPT_ENCODING),
    ("Accept-Language", header::ACCEPT_LANGUAGE),
    (
        "X-Forwarded-For",
        HeaderName::from_static("x-forwarded-for"),
    ),
];
static OF_16: [Known; 3] = [
    ("Content-Encoding", header::CONTENT_ENCODING),
    (
        "Sec-CH-UA-Mobile",
        HeaderName::from_static("sec-ch-ua-mobile"),
    ),
    (
        "X-Forwarded-Host",
        HeaderName::from_static("x-forwarded-host"),
    ),
];
static OF_17: [Known; 3] = [
    ("Transfer-Encoding", header::TRANSFER_ENCODING),
    ("If-Modified-Since", header::IF_MODIFIED_SINCE),
    (
        "X-Forwarded-Proto",
        HeaderName::from_static("x-forwarded-proto"),
    ),
];
static OF_18: [Known; 1] = [(
    "Sec-CH-UA-Platform",
    HeaderName::from_static("sec-ch-ua-platform"),
)];
static OF_25: [Known; 2] = [
    (
        "Upgrade-Insecure-Requests",
        header::UPGRADE_INSECURE_REQUESTS,
    ),
    (
        "Strict-Transport-Security",
        header::STRICT_TRANSPORT_SECURITY,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_what_would_have_been_made_of_it() {
        let mut count = 0;
        for length in 0..64 {
            for (usual, name) in of_length(length) {
                count += 1;
                assert_eq!(usual.len(), length, "{usual} is in the wrong group");
                for spelt in [(*usual).to_owned(), usual.to_lowercase()] {
                    let made = HeaderName::from_bytes(spelt.as_bytes()).unwrap();
                    assert_eq!(made, *name, "{spelt}");
                    assert_eq!(known(spelt.as_bytes()), Some(made));
                }
            }
        }
        assert!(count > 40, "only {count} names are known");
        assert_eq!(known(b"X-Unheard-Of"), None);
        assert_eq!(known(b""), None);
    }
}
