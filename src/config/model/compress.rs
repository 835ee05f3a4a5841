//! What `compress` means: which answers of a route are compressed on their way out, and how.
//!
//! `convert` makes it, `encode` acts on it. `Coding` is also what `files` calls the variants that lie
//! beside a file. Invariant: every level keeps to the memory per answer that `encode::codec` states.

use std::sync::Arc;

use crate::config::units::ByteSize;

/// A content coding that Headgate knows (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `zstd`, RFC 8878.
    Zstd,
    /// `br`, RFC 7932.
    Brotli,
    /// `gzip`, RFC 1952.
    Gzip,
}

impl Coding {
    /// Every coding, in the order that is best where a client does not mind.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// As it stands in `Content-Encoding`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// What a file that is compressed so ends with, after the name of the original.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }
}

/// Which answers are compressed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// At least one, each once; the first is taken where a client likes several alike.
    /// Default `zstd`, `br`, `gzip`.
    pub algorithms: Vec<Coding>,
    /// Answers whose length is known to be less are not worth it. Default 1 KiB.
    pub min_size: ByteSize,
    /// Media types that are compressed, at least one. Default: text, JSON, XML, scripts and the like.
    pub types: Vec<TypePattern>,
    /// Default `balanced`.
    pub level: Level,
}

impl Compress {
    /// The coding in which a route that caches too fetches and stores its answers: gzip, since whoever takes
    /// any takes that, or the first where it is not wanted.
    #[must_use]
    pub fn stored(&self) -> Coding {
        let first = self.algorithms.first().copied().unwrap_or(Coding::Gzip);
        match self.algorithms.contains(&Coding::Gzip) {
            true => Coding::Gzip,
            false => first,
        }
    }
}

/// Which media types; all parts in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypePattern {
    /// `application/json`.
    Exact(Arc<str>),
    /// `text/*`, stored as `text/`.
    Prefix(Arc<str>),
    /// `*+json`, stored as `+json`: structured syntax suffixes (RFC 6839).
    Suffix(Arc<str>),
}

impl TypePattern {
    /// Whether this is the type `essence`, which has no parameters.
    #[must_use]
    pub fn matches(&self, essence: &[u8]) -> bool {
        let part = |part: Option<&[u8]>, wanted: &str| {
            part.is_some_and(|part| part.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        match self {
            Self::Exact(wanted) => part(Some(essence), wanted),
            Self::Prefix(wanted) => part(essence.get(..wanted.len()), wanted),
            Self::Suffix(wanted) => part(
                essence
                    .len()
                    .checked_sub(wanted.len())
                    .and_then(|start| essence.get(start..)),
                wanted,
            ),
        }
    }
}

/// What a byte saved may cost. Words instead of each algorithm's numbers, so that no choice breaks
/// the bounds on memory and on the time that a slice takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Least time.
    Fast,
    /// What most want.
    Balanced,
    /// Fewest bytes that are still worth doing while a client waits.
    Small,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_types_in_any_case() {
        let json = TypePattern::Exact("application/json".into());
        assert!(json.matches(b"Application/JSON"));
        assert!(!json.matches(b"application/json5"));
        let text = TypePattern::Prefix("text/".into());
        assert!(text.matches(b"TEXT/css"));
        assert!(!text.matches(b"tex") && !text.matches(b"texture/x"));
        let suffix = TypePattern::Suffix("+json".into());
        assert!(suffix.matches(b"application/problem+JSON"));
        assert!(!suffix.matches(b"son") && !suffix.matches(b"application/json"));
    }
}
