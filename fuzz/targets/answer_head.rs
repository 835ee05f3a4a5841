//! The head of an answer: however its bytes arrive, the same comes of them. The first byte chooses the
//! method that is answered.
#![no_main]

use headgate::http1::{AnswerParser, Limits};
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let method = [Method::GET, Method::HEAD, Method::CONNECT][usize::from(*choice) % 3].clone();
    let limits = Limits::default();
    let whole = AnswerParser::default().parse(data, &method, &limits);

    let mut parser = AnswerParser::default();
    let mut pieces = Ok(None);
    for cut in headgate_fuzz::cuts(data) {
        pieces = parser.parse(&data[..cut], &method, &limits);
        if !matches!(pieces, Ok(None)) {
            break;
        }
    }
    match (&whole, &pieces) {
        (Ok(Some((one, length))), Ok(Some((other, other_length)))) => {
            assert_eq!(length, other_length);
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
            for value in one.headers.values() {
                let bad = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
                assert!(!value.as_bytes().iter().any(bad), "{value:?}");
            }
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        _ => panic!("whole {whole:?}, in pieces {pieces:?}"),
    }
});
