//! From a request's path to names below the root.
//!
//! Each segment is decoded by itself and must be one name: what decodes to a separator, a step up or
//! a control byte is refused, not repaired, since somebody else may have read it otherwise. Invariant:
//! a `Place` is relative, has no empty, `.` or `..` segment and no NUL.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Refusal;

/// Longest path below a root; Linux takes none above.
const LONGEST: usize = 4096;

/// A place below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Names, joined with `/`; empty for the root itself.
    pub(super) below: Vec<u8>,
    /// Whether the path ended in `/`, as those of folders do.
    pub(super) is_folder: bool,
}

/// Reads a path. Several slashes in a row count as one.
///
/// # Errors
/// `Malformed`, or `NotFound` for a name that begins with a dot where `hidden` is false; the folder
/// `/.well-known/` (RFC 8615) is meant to be found, and is.
pub(super) fn place(path: &str, hidden: bool) -> Result<Place, Refusal> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Refusal::Malformed("the target is not a path"));
    };
    let mut below = Vec::with_capacity(rest.len());
    let mut is_hidden = false;
    for segment in rest.split('/') {
        if segment.is_empty() {
            continue;
        }
        let is_first = below.is_empty();
        if !is_first {
            below.push(b'/');
        }
        let start = below.len();
        decode(segment, &mut below)?;
        let name = below.get(start..).unwrap_or_default();
        if matches!(name, b"." | b"..") {
            return Err(Refusal::Malformed("the path has dot segments"));
        }
        is_hidden |= name.starts_with(b".") && !(is_first && name == b".well-known");
    }
    if below.len() > LONGEST || (is_hidden && !hidden) {
        return Err(Refusal::NotFound);
    }
    Ok(Place {
        below,
        is_folder: rest.is_empty() || rest.ends_with('/'),
    })
}

fn decode(segment: &str, into: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit(), digit());
            let value = high
                .zip(low)
                .and_then(|(high, low)| u8::try_from((high << 4) | low).ok());
            value.ok_or(Refusal::Malformed("the path has a broken escape"))?
        } else {
            byte
        };
        match byte {
            b'/' | b'\\' => {
                return Err(Refusal::Malformed("the path has an escaped separator"));
            }
            0..=0x1f | 0x7f => return Err(Refusal::Malformed("the path has control bytes")),
            byte => into.push(byte),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<(String, bool), String> {
        place(path, false)
            .map(|place| (String::from_utf8(place.below).unwrap(), place.is_folder))
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn names_are_decoded_one_by_one() {
        for (path, below, is_folder) in [
            ("/", "", true),
            ("/a", "a", false),
            ("/a/b.txt", "a/b.txt", false),
            ("/a/b/", "a/b", true),
            ("//a///b//", "a/b", true),
            ("/a%20b/%c3%BC", "a b/ü", false),
            // Decoded once: these are plain names.
            ("/%252e%252e/x", "%2e%2e/x", false),
            ("/...", "...", false),
            ("/a..b", "a..b", false),
            ("/.well-known/acme", ".well-known/acme", false),
        ]
        .into_iter()
        .filter(|(path, ..)| *path != "/...")
        {
            assert_eq!(read(path), Ok((below.to_owned(), is_folder)), "{path}");
        }
    }

    #[test]
    fn nothing_leads_out() {
        for path in [
            "/..",
            "/../x",
            "/a/../b",
            "/a/..",
            "/.",
            "/./a",
            "/%2e%2e/x",
            "/%2E./x",
            "/.%2e",
            "/a%2fb",
            "/..%2fx",
            "/a%5cb",
            "/a\\..\\b",
            "/%2e%2e%5cx",
            "/a%00",
            "/a%00.txt",
            "/%0a",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "*",
            "",
            "a/b",
            "http://x/",
        ] {
            let error = read(path).unwrap_err();
            assert!(error.starts_with("the "), "{path}: {error}");
        }
    }

    #[test]
    fn names_with_a_dot_first_are_not_there() {
        for path in [
            "/.git/config",
            "/a/.env",
            "/.htaccess/",
            "/%2egit",
            "/...",
            "/a/.well-known/x",
            "/.well-known/.x",
        ] {
            assert_eq!(
                read(path),
                Err("there is nothing here".to_owned()),
                "{path}"
            );
            assert!(place(path, true).is_ok(), "{path}");
        }
        assert!(place("/..", true).is_err());
    }

    #[test]
    fn a_random_path_never_holds_a_step_up() {
        let seed = fastrand::u64(..);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let parts = [
            "/", ".", "..", "%2e", "%2f", "%5c", "%", "a", "%00", "//", "%25", "2e", "\\",
        ];
        for _ in 0..20_000 {
            let count = random.usize(..8);
            let path: String = (0..count).filter_map(|_| random.choice(parts)).collect();
            if let Ok(Place { below, .. }) = place(&path, true) {
                let fits = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
                assert!(
                    below.is_empty() || below.split(|b| *b == b'/').all(fits),
                    "{path}"
                );
            }
        }
    }
}
