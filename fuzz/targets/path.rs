//! The canonical form of a path: it stays as it is, and has nothing in it that servers read in
//! different ways. The first byte chooses the rules.
#![no_main]

use headgate::config::model::PathRules;
use headgate::proxy::fuzzing::canonical_path;
use libfuzzer_sys::fuzz_target;

fn check(path: &str, rules: PathRules) {
    assert!(path.starts_with('/') && path.is_ascii(), "{path}");
    assert!(!path.contains("//"), "{path}");
    for segment in path.split('/') {
        assert!(!matches!(segment, "." | ".."), "{path}");
        let name = segment.split(';').next();
        assert!(!matches!(name, Some("." | "..")), "{path}");
    }
    let forbidden =
        |c: char| c.is_control() || matches!(c, ' ' | '\\' | '"' | '<' | '>' | '?' | '#');
    assert!(!path.contains(forbidden), "{path}");
    assert!(rules.keep_semicolon || !path.contains(';'), "{path}");
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('%') {
        let digits = after.get(..2).expect("two digits");
        let upper = |digit: u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
        assert!(digits.bytes().all(upper), "{path}");
        let byte = u8::from_str_radix(digits, 16).expect("hexadecimal");
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        assert!(
            !unreserved && !byte.is_ascii_control() && byte != b'\\',
            "{path}"
        );
        assert!(rules.keep_encoded_slash || byte != b'/', "{path}");
        rest = after;
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, path)) = data.split_first() else {
        return;
    };
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    let rules = PathRules {
        keep_encoded_slash: choice & 1 != 0,
        keep_semicolon: choice & 2 != 0,
        merge_slashes: choice & 4 != 0,
    };
    match canonical_path(path, rules) {
        Ok(None) => check(path, rules),
        Ok(Some(made)) => {
            assert_ne!(made, path);
            check(&made, rules);
            assert_eq!(canonical_path(&made, rules), Ok(None), "{path} -> {made}");
        }
        Err(_) => {}
    }
});
