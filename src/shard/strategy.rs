//! How the bytes of a key choose a shard.
//!
//! Pure and stateless: the same key gives the same shard in every worker and every instance that
//! runs the same config. `map` calls it with the bytes that `key` found.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use ahash::AHashMap;

use super::map::Problem;
use crate::config::model::{ShardStrategy, UpstreamId};

#[derive(Debug)]
pub(super) enum Strategy {
    Modulo(Box<[UpstreamId]>),
    List {
        values: AHashMap<Box<[u8]>, UpstreamId>,
        default: Option<UpstreamId>,
    },
}

/// Digits of `u64::MAX`. More are refused even where they are zeros, so that a key has a bounded
/// number of spellings.
const MOST_DIGITS: usize = 20;

impl Strategy {
    pub(super) fn new(strategy: &ShardStrategy) -> Self {
        match strategy {
            ShardStrategy::Modulo { shards } => Self::Modulo(shards.clone().into()),
            ShardStrategy::List { values, default } => Self::List {
                values: values
                    .iter()
                    .map(|(value, shard)| (Box::from(value.as_bytes()), *shard))
                    .collect(),
                default: *default,
            },
        }
    }

    pub(super) fn choose(&self, key: &[u8]) -> Result<UpstreamId, Problem> {
        match self {
            Self::Modulo(shards) => {
                let number = decimal(key).ok_or(Problem::Malformed)?;
                let count = u64::try_from(shards.len()).unwrap_or(u64::MAX);
                let index = number
                    .checked_rem(count)
                    .and_then(|rest| usize::try_from(rest).ok());
                index
                    .and_then(|index| shards.get(index))
                    .copied()
                    .ok_or(Problem::Unlisted)
            }
            Self::List { values, default } => values
                .get(key)
                .copied()
                .or(*default)
                .ok_or(Problem::Unlisted),
        }
    }

    /// What a well-formed key is, for the client.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Self::Modulo(_) => "a decimal integer from 0 to 18446744073709551615",
            Self::List { .. } => "valid percent-encoding",
        }
    }
}

/// Digits only: `str::parse` would take a sign.
fn decimal(key: &[u8]) -> Option<u64> {
    if key.is_empty() || key.len() > MOST_DIGITS {
        return None;
    }
    key.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte & 0x0f))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
