//! A shard map: where the key stands, and what it chooses.
//!
//! Joins `key` (finding the bytes) and `strategy` (choosing by them), and words the refusal.

use std::fmt;
use std::sync::Arc;

use super::key::{self, KeySource};
use super::strategy::Strategy;
use crate::config::model::{ShardKey, ShardMap, UpstreamId};

/// One compiled shard map, immutable and shared by all workers.
#[derive(Debug)]
pub struct Map {
    key: ShardKey,
    strategy: Strategy,
    /// Worded once, so that a refusal costs a reference count.
    described: Arc<str>,
}

impl Map {
    /// Compiles a shard map.
    pub fn new(map: &ShardMap) -> Self {
        let ShardMap {
            name: _,
            key,
            strategy,
        } = map;
        let described = match key {
            ShardKey::Path(name) => format!("path capture `{name}`"),
            ShardKey::Header(name) => format!("header `{name}`"),
            ShardKey::Cookie(name) => format!("cookie `{name}`"),
            ShardKey::Query(name) => format!("query parameter `{name}`"),
        };
        Self {
            key: key.clone(),
            strategy: Strategy::new(strategy),
            described: described.into(),
        }
    }

    /// The upstream that owns `request`. Allocates only where a key is percent-encoded.
    ///
    /// # Errors
    /// When the key is missing, malformed, owned by no shard, or given twice with different values.
    pub fn shard(&self, request: &KeySource<'_>) -> Result<UpstreamId, KeyError> {
        key::find(&self.key, request)
            .and_then(|key| self.strategy.choose(&key))
            .map_err(|problem| KeyError {
                key: Arc::clone(&self.described),
                expected: self.strategy.expected(),
                problem,
            })
    }
}

/// A request that no shard may take. Its text is fit for the client: it names the place of the key
/// and never a shard or the value that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError {
    /// Where the key was expected, such as ``path capture `user_id` ``.
    pub key: Arc<str>,
    /// What is wrong with it.
    pub problem: Problem,
    /// What would have been well-formed.
    expected: &'static str,
}

/// What is wrong with a shard key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The request does not have it.
    Missing,
    /// Its form is not the one that the strategy reads.
    Malformed,
    /// It is well-formed, but no shard owns it.
    Unlisted,
    /// It is there more than once, with different values.
    Repeated,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            problem,
            expected,
        } = self;
        match problem {
            Problem::Missing => write!(f, "{key} is missing"),
            Problem::Malformed => write!(f, "{key} is malformed: expected {expected}"),
            Problem::Unlisted => write!(f, "{key} has a value that is not known here"),
            Problem::Repeated => write!(f, "{key} is given more than once, with different values"),
        }
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::config::model::ShardStrategy;

    fn modulo(key: ShardKey, shards: usize) -> Map {
        let shards = (0..shards).map(UpstreamId).collect();
        Map::new(&ShardMap {
            name: "orders".into(),
            key,
            strategy: ShardStrategy::Modulo { shards },
        })
    }

    fn list(key: ShardKey, default: Option<UpstreamId>) -> Map {
        let values = vec![
            ("eu".into(), UpstreamId(0)),
            ("são paulo".into(), UpstreamId(1)),
        ];
        let strategy = ShardStrategy::List { values, default };
        Map::new(&ShardMap {
            name: "regions".into(),
            key,
            strategy,
        })
    }

    fn by_path(map: &Map, value: Option<&str>) -> Result<usize, Problem> {
        let capture = |name: &str| if name == "user_id" { value } else { None };
        let source = KeySource {
            capture: &capture,
            headers: &HeaderMap::new(),
            query: None,
        };
        map.shard(&source)
            .map(|shard| shard.0)
            .map_err(|error| error.problem)
    }

    fn by_query(map: &Map, query: &str) -> Result<usize, Problem> {
        let headers = HeaderMap::new();
        let source = KeySource {
            capture: &|_| None,
            headers: &headers,
            query: Some(query),
        };
        map.shard(&source)
            .map(|shard| shard.0)
            .map_err(|error| error.problem)
    }

    fn by_headers(map: &Map, fields: &[(HeaderName, &str)]) -> Result<usize, Problem> {
        let fields = fields.iter().cloned();
        let headers: HeaderMap = fields
            .map(|(name, value)| (name, HeaderValue::from_str(value).unwrap()))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
        let source = KeySource {
            capture: &|_| None,
            headers: &headers,
            query: None,
        };
        map.shard(&source)
            .map(|shard| shard.0)
            .map_err(|error| error.problem)
    }

    #[test]
    fn modulo_takes_decimal_digits_of_a_u64_and_nothing_else() {
        let map = modulo(ShardKey::Path("user_id".into()), 3);
        for (value, shard) in [
            ("0", 0),
            ("7", 1),
            ("007", 1),
            ("%37", 1),
            ("18446744073709551615", 0),
            ("00000000000000000008", 2),
        ] {
            assert_eq!(by_path(&map, Some(value)), Ok(shard), "{value}");
        }
        for value in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "1e3",
            "%31%",
            "%3",
            "%zz",
            "٣",
            "18446744073709551616",
            "99999999999999999999",
            "000000000000000000001",
        ] {
            assert_eq!(
                by_path(&map, Some(value)),
                Err(Problem::Malformed),
                "{value}"
            );
        }
        assert_eq!(by_path(&map, None), Err(Problem::Missing));
    }

    #[test]
    fn a_list_takes_its_values_only_unless_it_has_a_default() {
        let strict = list(ShardKey::Path("user_id".into()), None);
        assert_eq!(by_path(&strict, Some("eu")), Ok(0));
        assert_eq!(by_path(&strict, Some("s%C3%A3o%20paulo")), Ok(1));
        assert_eq!(by_path(&strict, Some("EU")), Err(Problem::Unlisted));
        assert_eq!(by_path(&strict, Some("%FF")), Err(Problem::Unlisted));
        assert_eq!(by_path(&strict, Some("%e")), Err(Problem::Malformed));
        let lenient = list(ShardKey::Path("user_id".into()), Some(UpstreamId(9)));
        assert_eq!(by_path(&lenient, Some("us")), Ok(9));
        assert_eq!(by_path(&lenient, Some("%e")), Err(Problem::Malformed));
        assert_eq!(by_path(&lenient, None), Err(Problem::Missing));
    }

    #[test]
    fn a_query_key_is_decoded_and_may_be_repeated_only_alike() {
        let map = modulo(ShardKey::Query("user id".into()), 3);
        assert_eq!(by_query(&map, "a=2&user%20id=7"), Ok(1));
        assert_eq!(by_query(&map, "user%20id=7&user%20id=%37"), Ok(1));
        assert_eq!(
            by_query(&map, "user%20id=7&user%20id=8"),
            Err(Problem::Repeated)
        );
        assert_eq!(
            by_query(&map, "user%20id=7&user%20id"),
            Err(Problem::Repeated)
        );
        assert_eq!(by_query(&map, "user%20id="), Err(Problem::Malformed));
        assert_eq!(by_query(&map, "user=7&id=7"), Err(Problem::Missing));
        assert_eq!(by_query(&map, ""), Err(Problem::Missing));
        assert_eq!(by_path(&map, Some("7")), Err(Problem::Missing));
    }

    #[test]
    fn a_header_key_may_be_repeated_only_alike() {
        let field = HeaderName::from_static("x-user");
        let map = modulo(ShardKey::Header(field.clone()), 3);
        let sent = |values: &[&'static str]| {
            let fields: Vec<_> = values.iter().map(|value| (field.clone(), *value)).collect();
            by_headers(&map, &fields)
        };
        assert_eq!(sent(&["5"]), Ok(2));
        assert_eq!(sent(&["5", "5"]), Ok(2));
        assert_eq!(sent(&["5", "05"]), Err(Problem::Repeated));
        assert_eq!(sent(&["5, 5"]), Err(Problem::Malformed));
        assert_eq!(
            sent(&["%35"]),
            Err(Problem::Malformed),
            "headers are not percent-encoded"
        );
        assert_eq!(sent(&[]), Err(Problem::Missing));
    }

    #[test]
    fn a_cookie_key_is_found_among_others_and_may_be_repeated_only_alike() {
        let map = modulo(ShardKey::Cookie("user".into()), 3);
        let sent = |values: &[&'static str]| {
            let fields: Vec<_> = values.iter().map(|value| (COOKIE, *value)).collect();
            by_headers(&map, &fields)
        };
        assert_eq!(sent(&["a=1; user=5;b=2"]), Ok(2));
        assert_eq!(sent(&["a=1", "user=5"]), Ok(2));
        assert_eq!(sent(&["user=5; user=5"]), Ok(2));
        assert_eq!(sent(&["user=5", "user=6"]), Err(Problem::Repeated));
        assert_eq!(sent(&["User=5; xuser=5; user"]), Err(Problem::Missing));
        assert_eq!(sent(&["user="]), Err(Problem::Malformed));
    }

    #[test]
    fn a_refusal_names_the_key_and_not_the_value() {
        let map = modulo(ShardKey::Path("user_id".into()), 3);
        let capture = |_: &str| Some("secret");
        let source = KeySource {
            capture: &capture,
            headers: &HeaderMap::new(),
            query: None,
        };
        let error = map.shard(&source).unwrap_err();
        assert_eq!(
            error.to_string(),
            "path capture `user_id` is malformed: expected a decimal integer from 0 to \
             18446744073709551615"
        );
        let missing = by_query(&modulo(ShardKey::Query("q".into()), 1), "");
        assert_eq!(missing, Err(Problem::Missing));
    }

    #[test]
    fn no_bytes_make_a_look_up_panic() {
        let map = modulo(ShardKey::Query("é".into()), 3);
        let pieces = ["%", "%c3", "%a9", "é", "=", "&", "7", ";", "\0"];
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let count = random.usize(0..10);
            let query: String = (0..count)
                .map(|_| pieces[random.usize(..pieces.len())])
                .collect();
            if let Ok(shard) = by_query(&map, &query) {
                assert!(shard < 3, "seed {seed}");
            }
        }
    }
}
