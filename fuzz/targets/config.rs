//! A config file: it is read or explained, the same way each time, and every explanation points into
//! the text.
#![no_main]

use std::path::Path;

use headgate::config;
use headgate::config::errors::Diagnostic;
use libfuzzer_sys::fuzz_target;

fn check(found: &[Diagnostic], text: &str) {
    // As YAML counts them; the end of the text may be given as the line after the last.
    let lines = text.replace("\r\n", "\n").split(['\r', '\n']).count();
    for one in found {
        assert!(!one.message.is_empty());
        // It can be shown, and nothing in it can play with a terminal.
        let shown = one.to_string();
        let bad = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(bad), "{shown:?}");
        if let Some(place) = &one.place {
            assert!(place.line >= 1 && place.line <= lines + 1, "{place:?}");
            assert!(place.column >= 1, "{place:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Files that a config names are opened.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let file = Path::new("/nonexistent/fuzz.yaml");
    let one = config::parse(text, file);
    let other = config::parse(text, file);
    match (one, other) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one.config, other.config);
            check(&one.warnings, text);
            assert!(!one.config.listeners.is_empty());
        }
        (Err(one), Err(other)) => {
            assert!(!one.0.is_empty());
            assert_eq!(one.to_string(), other.to_string());
            check(&one.0, text);
        }
        _ => panic!("read once and refused once"),
    }
});
