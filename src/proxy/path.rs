//! One spelling for each path (RFC 3986 section 6.2.2), and no path with two meanings.
//!
//! `normalize` asks once per request, `edge` for what a rewrite has made. Escapes of unreserved
//! characters are decoded, the digits of others are upper case, dot segments are gone; what servers
//! read differently (encoded slashes, path parameters, control bytes) is refused unless the config
//! says otherwise. Invariants: what is canonical stays as it is (`canonical` of it is `None`), and
//! finding that out takes one pass and no allocation; nothing climbs above the root.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use smallvec::SmallVec;

use crate::config::model::PathRules;

/// Why a path is not taken, for the client.
pub(super) type Refused = &'static str;

const BROKEN_ESCAPE: Refused = "the path has an escape that is not two hex digits";
const CONTROL: Refused = "the path has a control character";
const SLASH: Refused = "the path has an encoded slash";
const BACKSLASH: Refused = "the path has a backslash";
const SEMICOLON: Refused = "the path has a semicolon";
const EMPTY: Refused = "the path has an empty segment";
const CLIMBS: Refused = "the path leads above the root";
const DOTS: Refused = "the path has dot segments that servers read differently";
const NOT_ASCII: Refused = "the path has bytes that are not ASCII";
const OVERLONG: Refused = "the path has an over-long UTF-8 sequence";
const RELATIVE: Refused = "the path does not begin with a slash";

/// What a byte is to the quick look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Dot,
    Slash,
    /// To be looked at closely.
    Odd,
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler, below 256"
)]
const CLASSES: [Class; 256] = {
    let mut table = [Class::Odd; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        if is_pchar(byte as u8) {
            table[byte] = Class::Plain;
        }
        byte += 1;
    }
    table[b'.' as usize] = Class::Dot;
    table[b'/' as usize] = Class::Slash;
    table
};

/// `pchar` of RFC 3986 section 3.3 without escapes and without `;`.
const fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The canonical form of a path; `None` when it is already that.
///
/// # Errors
/// When the path is not one, or servers would read it in different ways.
pub(super) fn canonical(path: &str, rules: PathRules) -> Result<Option<String>, Refused> {
    if is_plainly_canonical(path.as_bytes()) {
        return Ok(None);
    }
    let decoded = decode(path.as_bytes(), rules)?;
    let made = join(&decoded, rules)?;
    Ok((made != path).then_some(made))
}

fn is_plainly_canonical(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else {
        return false;
    };
    // Bytes of the current segment, as far as they matter: 0, ".", ".." or more.
    let mut seen = 0_u8;
    for byte in rest {
        match CLASSES.get(usize::from(*byte)) {
            Some(Class::Plain) => seen = 3,
            Some(Class::Dot) => seen = seen.saturating_add(1).min(3),
            Some(Class::Slash) if seen == 3 => seen = 0,
            _ => return false,
        }
    }
    !matches!(seen, 1 | 2)
}

/// Decodes what needs no escape, and escapes what needs one. What is left of escapes can neither part
/// segments nor be a dot.
fn decode(path: &[u8], rules: PathRules) -> Result<String, Refused> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    // The byte that an escape right before stands for.
    let mut before: Option<u8> = None;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let [high, low, after @ ..] = rest else {
                return Err(BROKEN_ESCAPE);
            };
            let value = hex(*high)
                .zip(hex(*low))
                .map(|(high, low)| high << 4 | low)
                .ok_or(BROKEN_ESCAPE)?;
            rest = after;
            check_escaped(value, before, rules)?;
            if is_unreserved(value) {
                out.push(char::from(value));
            } else {
                escape(value, &mut out);
            }
            before = Some(value);
            continue;
        }
        before = None;
        match byte {
            b'/' => out.push('/'),
            b';' if rules.keep_semicolon => out.push(';'),
            b';' => return Err(SEMICOLON),
            b'\\' => return Err(BACKSLASH),
            0..=0x1f | 0x7f => return Err(CONTROL),
            0x80.. => return Err(NOT_ASCII),
            _ if is_pchar(byte) => out.push(char::from(byte)),
            // Not allowed in a path, and read by all in one way.
            _ => escape(byte, &mut out),
        }
    }
    Ok(out)
}

fn check_escaped(value: u8, before: Option<u8>, rules: PathRules) -> Result<(), Refused> {
    match (value, before) {
        (0..=0x1f | 0x7f, _) => Err(CONTROL),
        (b'/', _) if !rules.keep_encoded_slash => Err(SLASH),
        (b'\\', _) => Err(BACKSLASH),
        // Longer forms of characters that have shorter ones: a lenient decoder makes dots and slashes
        // of them (RFC 3629 section 3).
        (0xc0 | 0xc1, _) | (0x80..=0x9f, Some(0xe0)) | (0x80..=0x8f, Some(0xf0)) => Err(OVERLONG),
        _ => Ok(()),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn escape(byte: u8, out: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    out.push('%');
    for digit in [byte >> 4, byte & 0xf] {
        out.extend(DIGITS.get(usize::from(digit)));
    }
}

/// Removes dot segments (RFC 3986 section 5.2.4) and empty ones.
fn join(decoded: &str, rules: PathRules) -> Result<String, Refused> {
    let below = decoded.strip_prefix('/').ok_or(RELATIVE)?;
    let mut out = String::with_capacity(decoded.len());
    // Where each segment that stands in `out` begins, its slash included.
    let mut begins: SmallVec<[usize; 16]> = SmallVec::new();
    let (mut merged, mut climbed) = (false, false);
    let mut segments = below.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" if last => out.push('/'),
            "" if rules.merge_slashes => merged = true,
            "" => return Err(EMPTY),
            "." if last => out.push('/'),
            "." => {}
            ".." => {
                climbed = true;
                out.truncate(begins.pop().ok_or(CLIMBS)?);
                if last {
                    out.push('/');
                }
            }
            _ => {
                if hides_dots(segment) {
                    return Err(DOTS);
                }
                begins.push(out.len());
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    // Which segment `..` takes away depends on whether an empty one counts.
    if merged && climbed {
        return Err(DOTS);
    }
    Ok(out)
}

/// Whether a server that reads `;`, or what is encoded, as the end of a segment finds a dot segment.
fn hides_dots(segment: &str) -> bool {
    let mut rest = segment;
    let mut cut = false;
    loop {
        let end = rest.bytes().enumerate().find_map(|(at, byte)| {
            let after = rest.get(at..)?;
            match byte {
                b';' => Some((at, 1_usize)),
                b'%' if after.starts_with("%2F") || after.starts_with("%3B") => Some((at, 3)),
                _ => None,
            }
        });
        let (piece, after) = match end {
            Some((at, length)) => (rest.get(..at), rest.get(at.saturating_add(length)..)),
            None => (Some(rest), None),
        };
        cut |= after.is_some();
        if cut && matches!(piece, Some("." | "..")) {
            return true;
        }
        match after {
            Some(after) => rest = after,
            None => return false,
        }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests {
    use super::*;

    const STRICT: PathRules = PathRules {
        keep_encoded_slash: false,
        keep_semicolon: false,
        merge_slashes: false,
    };
    const LENIENT: PathRules = PathRules {
        keep_encoded_slash: true,
        keep_semicolon: true,
        merge_slashes: true,
    };

    fn under(rules: PathRules, path: &str) -> Result<String, Refused> {
        canonical(path, rules).map(|made| made.unwrap_or_else(|| path.to_owned()))
    }

    fn of(path: &str) -> Result<String, Refused> {
        under(PathRules::default(), path)
    }

    #[test]
    fn what_is_canonical_stays_untouched() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/...",
            "/.well-known/x",
            "/..a/b..",
            "/a-b_c~d",
            "/!$&'()*+,=:@",
            "/a%20b",
            "/%C3%A9",
            "/100%25",
            "/a%3Bb",
            "/%7Bid%7D",
            "/.hidden",
            "/a/..b/c",
        ] {
            assert_eq!(canonical(path, STRICT), Ok(None), "{path}");
            assert_eq!(canonical(path, LENIENT), Ok(None), "{path}");
        }
    }

    #[test]
    fn spellings_of_one_path_become_one() {
        for (path, canonical) in [
            ("/%61", "/a"),
            ("/%7Euser", "/~user"),
            ("/%7euser", "/~user"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/.%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a//b", "/a/b"),
            ("//", "/"),
            ("//a", "/a"),
            ("/a///", "/a/"),
            ("/a[1]|{b}\"^`<>", "/a%5B1%5D%7C%7Bb%7D%22%5E%60%3C%3E"),
            ("/%252e%252E/x", "/%252e%252E/x"),
            ("/%41%2d%5f%2E%30", "/A-_.0"),
        ] {
            assert_eq!(of(path).as_deref(), Ok(canonical), "{path}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        for (path, why) in [
            ("/%00", CONTROL),
            ("/a%0d%0Ab", CONTROL),
            ("/%7F", CONTROL),
            ("/\u{1}", CONTROL),
            ("/%", BROKEN_ESCAPE),
            ("/%4", BROKEN_ESCAPE),
            ("/%zz", BROKEN_ESCAPE),
            ("/%+1", BROKEN_ESCAPE),
            ("/%u002e", BROKEN_ESCAPE),
            ("/a%2Fb", SLASH),
            ("/a%2fb", SLASH),
            ("/..%2f..", SLASH),
            ("/a\\b", BACKSLASH),
            ("/a%5Cb", BACKSLASH),
            ("/a%5cb", BACKSLASH),
            ("/a;b", SEMICOLON),
            ("/..;/b", SEMICOLON),
            ("/..", CLIMBS),
            ("/../a", CLIMBS),
            ("/a/../../b", CLIMBS),
            ("/%2e%2e", CLIMBS),
            ("/./..", CLIMBS),
            ("/a//../b", DOTS),
            ("/a/b//c/../..", DOTS),
            ("/\u{e9}", NOT_ASCII),
            ("/%c0%ae%c0%ae/", OVERLONG),
            ("/%C1%9C", OVERLONG),
            ("/%e0%80%af", OVERLONG),
            ("/%f0%80%80%af", OVERLONG),
            ("/a%3B/..%3Bx", DOTS),
            ("", RELATIVE),
            ("a", RELATIVE),
            ("*", RELATIVE),
        ] {
            assert_eq!(of(path), Err(why), "{path:?}");
        }
        assert_eq!(under(STRICT, "/a//b"), Err(EMPTY));
        assert_eq!(under(STRICT, "//"), Err(EMPTY));
    }

    #[test]
    fn rules_let_through_what_they_name_and_no_hidden_dots() {
        assert_eq!(under(LENIENT, "/a%2fb").as_deref(), Ok("/a%2Fb"));
        assert_eq!(under(LENIENT, "/a;v=1/b").as_deref(), Ok("/a;v=1/b"));
        for path in [
            "/..;/a",
            "/.;x",
            "/..%2Fa",
            "/a%2F..",
            "/a%2f.%2Fb",
            "/%2e%2e;a",
            "/a;/..%3b",
            "/x%2f%2e%2e%2fy",
        ] {
            assert_eq!(under(LENIENT, path), Err(DOTS), "{path}");
        }
        assert_eq!(under(LENIENT, "/a\\b"), Err(BACKSLASH));
        assert_eq!(under(LENIENT, "/a%5cb"), Err(BACKSLASH));
    }

    /// What a lenient server makes of a path: decoded once, parameters cut, dots removed.
    fn naive_segments(path: &str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for segment in path.split('/').skip(1) {
            match segment {
                "." => {}
                ".." => drop(out.pop()),
                other => out.push(other.to_owned()),
            }
        }
        out
    }

    #[test]
    fn random_paths_have_one_canonical_form_without_dots_or_surprises() {
        const PIECES: [&str; 30] = [
            "/", "/", "/", ".", "..", "a", "B", "%2e", "%2E", "%61", "%2f", "%5c", ";", "//",
            "/./", "/../", "%00", "%", "%c3%a9", "~", "%7e", "\\", "[", "%25", "%252e", "..;",
            "%c0%ae", "*", "=", "%3b",
        ];
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut accepted = 0;
        for _ in 0..200_000 {
            let mut path = String::from("/");
            for _ in 0..random.usize(0..9) {
                path.push_str(PIECES[random.usize(..PIECES.len())]);
            }
            let rules = PathRules {
                keep_encoded_slash: random.bool(),
                keep_semicolon: random.bool(),
                merge_slashes: random.bool(),
            };
            let Ok(made) = under(rules, &path) else {
                continue;
            };
            accepted += 1;
            assert_eq!(canonical(&made, rules), Ok(None), "{path} -> {made}");
            assert!(
                made.starts_with('/') && !made.contains("//"),
                "{path} -> {made}"
            );
            assert!(made.is_ascii() && !made.contains('\\'), "{path} -> {made}");
            let segments: Vec<&str> = made.split('/').skip(1).collect();
            assert!(
                segments.iter().all(|s| *s != "." && *s != ".."),
                "{path} -> {made}"
            );
            // A server that decodes everything and cuts parameters climbs nowhere either.
            let decoded = made.replace("%2F", "/").replace("%25", "%");
            for segment in decoded.split('/') {
                let name = segment.split(';').next().unwrap_or_default();
                assert!(name != "..", "{path} -> {made}");
            }
            assert_eq!(
                naive_segments(&made).len(),
                segments.len(),
                "{path} -> {made}"
            );
            for escape in made.split('%').skip(1) {
                let digits = escape.get(..2).expect("two digits");
                assert!(
                    digits
                        .bytes()
                        .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
                );
            }
        }
        assert!(accepted > 10_000, "{accepted}");
    }

    #[test]
    fn random_bytes_never_break_it() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50_000 {
            let path: String = (0..random.usize(0..30))
                .map(|_| random.char('\0'..='\u{ff}'))
                .collect();
            if let Ok(made) = of(&path) {
                assert_eq!(canonical(&made, PathRules::default()), Ok(None), "{path:?}");
            }
        }
    }
}
