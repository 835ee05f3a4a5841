//! From a client's head to an endpoint's: what is let through is one message to a strict reader, in
//! canonical form, and says about the client what Headgate knows and nothing else.
#![no_main]

use std::cell::LazyCell;

use headgate::config::model::Config;
use headgate::http1::{Fields, Framing, Limits, RequestParser, encode_request};
use headgate::proxy::fuzzing;
use http::header::{CONNECTION, FORWARDED, HOST, HeaderMap};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static CONFIG: LazyCell<Config> = LazyCell::new(|| headgate_fuzz::config("trace: true"));
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.as_bytes())
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let Ok(Some((head, _))) = RequestParser::default().parse(data, &limits) else {
        return;
    };
    let (framing, empty) = (head.framing, head.framing == Framing::None);
    let mut head = head.parts;
    let parts = head.parts();
    let peer = headgate_fuzz::peer("203.0.113.9:4711");
    CONFIG.with(|config| {
        let Some(headers) = fuzzing::to_upstream(parts, &peer, empty, config) else {
            return;
        };
        let target = parts
            .uri
            .path_and_query()
            .expect("origin form, or an asterisk");
        let mut written = Vec::new();
        let fields = Fields {
            headers: &headers,
            framing,
            connection: None,
        };
        encode_request(&mut written, &parts.method, target, fields);
        let roomy = Limits {
            head_bytes: limits.head_bytes * 4,
            fields: limits.fields * 2,
            target_bytes: limits.target_bytes * 4,
        };
        let again = RequestParser::default().parse(&written, &roomy);
        let Ok(Some((again, length))) = again else {
            panic!("{again:?}: {}", String::from_utf8_lossy(&written));
        };
        assert_eq!(length, written.len());
        assert_eq!((&again.parts.method, again.framing), (&parts.method, framing));
        assert!(again.parts.headers.get_all(HOST).iter().count() <= 1);
        assert_eq!(
            text(&again.parts.headers, "x-forwarded-for"),
            [&b"203.0.113.9"[..]]
        );
        assert_eq!(text(&again.parts.headers, "x-forwarded-proto"), [&b"http"[..]]);
        for name in [CONNECTION, FORWARDED] {
            assert!(!again.parts.headers.contains_key(&name), "{name}");
        }
        for name in again.parts.headers.keys() {
            assert!(!name.as_str().contains(['_', '.']), "{name}");
        }
        let path = target.path();
        if path != "*" {
            assert_eq!(
                fuzzing::canonical_path(path, config.paths),
                Ok(None),
                "{path}"
            );
        }
        // A second Headgate behind this one finds nothing to change.
        let mut second = again.parts;
        let second = second.parts();
        let host = second.headers.get(HOST).cloned();
        if host.is_some() && fuzzing::to_upstream(second, &peer, empty, config).is_some() {
            assert_eq!(second.uri.path_and_query(), Some(target));
            assert_eq!(second.headers.get(HOST), host.as_ref());
        }
    });
});
