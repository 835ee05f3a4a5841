//! The canonical form of a host: it stays as it is, in lower case, and can stand in a URI as its
//! authority. The first byte says whether the scheme is `https`.
#![no_main]

use headgate::proxy::fuzzing::canonical_host;
use http::uri::Authority;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, host)) = data.split_first() else {
        return;
    };
    let Ok(host) = std::str::from_utf8(host) else {
        return;
    };
    let secure = choice & 1 != 0;
    let Some(made) = canonical_host(host, secure) else {
        return;
    };
    assert_eq!(
        canonical_host(&made, secure).as_deref(),
        Some(&*made),
        "{host}"
    );
    assert!(!made.is_empty() && made.is_ascii(), "{made}");
    let forbidden = |c: char| {
        c.is_ascii_uppercase()
            || c.is_control()
            || matches!(
                c,
                ' ' | '/' | '\\' | '@' | '?' | '#' | '%' | '"' | ',' | ';'
            )
    };
    assert!(!made.contains(forbidden), "{made}");
    let authority: Authority = made.parse().expect("an authority");
    assert_eq!(authority.as_str(), made);
    assert!(!authority.host().is_empty());
});
