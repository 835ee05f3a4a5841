//! What answers and requests say of caching: any bytes are read, to no time beyond 2^31 seconds; the case of
//! letters, unknown directives and, but for quotes, the division into lines mean nothing. The first byte
//! chooses the field.
#![no_main]

use headgate::cache::fuzzing::{answer_control, request_control};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const FIELDS: [&str; 4] = [
    "cache-control",
    "headgate-cache-control",
    "cdn-cache-control",
    "surrogate-control",
];

fn fields(name: &HeaderName, lines: &[Vec<u8>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line).ok()?);
    }
    Some(headers)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let name = FIELDS[usize::from(*choice) % FIELDS.len()];
    let is_plain = name == "cache-control";
    let name = HeaderName::from_static(name);
    let lines: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let Some(headers) = fields(&name, &lines) else {
        return;
    };
    let read = |headers: &HeaderMap| (answer_control(headers), request_control(headers));
    let expected = read(&headers);
    for longest in [expected.0.1, expected.1.1] {
        assert!(longest.as_secs() <= 1 << 31, "{longest:?}");
    }
    let same = |changed: Vec<Vec<u8>>| {
        let changed = fields(&name, &changed).expect("no worse than before");
        assert_eq!(read(&changed), expected, "{headers:?} {changed:?}");
    };
    if !is_plain {
        return;
    }
    same(lines.iter().map(|line| line.to_ascii_uppercase()).collect());
    let mut more = lines.clone();
    more.insert(0, b"unknown, other=\"max-age=5\", x=1".to_vec());
    same(more);
    if !text.contains(&b'"') {
        same(vec![lines.join(&b", "[..])]);
    }
});
