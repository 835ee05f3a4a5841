//! The head of a request: however its bytes arrive, the same comes of them; and what is written of it
//! reads as the same head, whole and with nothing behind it.
#![no_main]

use headgate::http1::{Fields, Limits, RequestHead, RequestParser, encode_request};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;

fn shown(head: &RequestHead) -> String {
    let offers = head.offers();
    format!("{head:?} {offers:?}")
}

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let whole = RequestParser::default().parse(data, &limits);

    let mut parser = RequestParser::default();
    let mut pieces = Ok(None);
    for cut in headgate_fuzz::cuts(data) {
        pieces = parser.parse(&data[..cut], &limits);
        if !matches!(pieces, Ok(None)) {
            break;
        }
    }
    match (&whole, &pieces) {
        (Ok(Some((one, length))), Ok(Some((other, other_length)))) => {
            assert_eq!(length, other_length);
            assert_eq!(shown(one), shown(other));
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        _ => panic!("whole {whole:?}, in pieces {pieces:?}"),
    }

    let Ok(Some((head, length))) = whole else {
        return;
    };
    assert!(length <= data.len());
    for (name, value) in &head.parts.headers {
        assert!(!name.as_str().is_empty());
        let bad = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
        assert!(!value.as_bytes().iter().any(bad), "{name}: {value:?}");
    }
    // What has another form is brought into this one first, which is what `road` is about.
    let target = head.parts.uri.path_and_query();
    let origin_form = |target: &&PathAndQuery| target.as_str().starts_with(['/', '*']);
    let Some(target) = target.filter(origin_form) else {
        return;
    };
    let mut written = Vec::new();
    let fields = Fields {
        headers: &head.parts.headers,
        framing: head.framing,
        connection: None,
    };
    encode_request(&mut written, &head.parts.method, target, fields);
    // A blank is written after every colon, sent or not.
    let roomy = Limits {
        head_bytes: limits.head_bytes * 2,
        ..limits
    };
    let again = RequestParser::default().parse(&written, &roomy);
    let Ok(Some((again, again_length))) = again else {
        panic!("{again:?}: {}", String::from_utf8_lossy(&written));
    };
    assert_eq!(again_length, written.len());
    assert_eq!(again.parts.method, head.parts.method);
    assert_eq!(again.parts.uri.path_and_query(), Some(target));
    assert_eq!(again.framing, head.framing);
    let without = |head: &RequestHead| {
        let mut headers = head.parts.headers.clone();
        for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers
    };
    assert_eq!(without(&again), without(&head));
});
