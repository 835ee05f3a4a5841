//! The validators of a file: its entity tag and its time of change (RFC 9110 section 8.8).
//!
//! The tag is made of size and time of change in nanoseconds, which are alike on every machine that a
//! deployment copies the file to. Two cases are told apart, so that a strong tag never names two
//! different contents:
//! - changed within the last moments: it may change again within one step of the file system's clock,
//!   so the tag is weak for now;
//! - a time that build tools set on everything alike (before 1980): it says nothing, so there is no
//!   `Last-Modified`, and the tag is made of what the file system knows of this one file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::config::model::Coding;

/// How long after a change a file may change again without a later time.
const UNSETTLED: Duration = Duration::from_secs(2);
/// The first second of 1980, with which the times of zip files begin.
const MEANINGFUL: i64 = 315_532_800;

/// What a client may ask about a file with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    /// With its quotes, and `W/` before them when it is weak.
    pub(super) tag: String,
    /// To the second; never later than now.
    pub(super) modified: Option<SystemTime>,
    /// Whether `modified` names one content only (RFC 9110 section 8.8.2.2).
    pub(super) is_settled: bool,
}

impl Validators {
    /// Of a file, or of its variant in a coding: these differ, since their bytes do.
    pub(super) fn of(facts: &Metadata, coding: Option<Coding>, now: SystemTime) -> Self {
        let is_meaningful = facts.mtime() >= MEANINGFUL;
        let (seconds, nanos) = if is_meaningful {
            (facts.mtime(), facts.mtime_nsec())
        } else {
            (facts.ctime(), facts.ctime_nsec())
        };
        let changed = time(seconds, nanos);
        let is_settled = now
            .duration_since(changed)
            .is_ok_and(|age| age >= UNSETTLED);
        let weakness = if is_settled { "" } else { "W/" };
        let inode = if is_meaningful {
            String::new()
        } else {
            format!("-{:x}", facts.ino())
        };
        let coding = coding.map_or("", Coding::suffix);
        Self {
            tag: format!(
                "{weakness}\"{:x}-{seconds:x}.{nanos:x}{inode}{coding}\"",
                facts.size()
            ),
            modified: is_meaningful.then(|| time(seconds, 0).min(time(whole(now), 0))),
            is_settled,
        }
    }

    /// As `ETag` has it.
    pub(super) fn field(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.tag).ok()
    }
}

fn time(seconds: i64, nanos: i64) -> SystemTime {
    let nanos = u32::try_from(nanos).unwrap_or(0);
    let since = Duration::new(u64::try_from(seconds).unwrap_or(0), nanos);
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

fn whole(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NOW: u64 = 1_700_000_000;

    fn of(name: &str, content: &str, changed: SystemTime) -> Validators {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(changed).unwrap();
        Validators::of(&file.metadata().unwrap(), None, at(NOW))
    }

    #[test]
    fn the_same_content_and_time_have_the_same_tag_on_every_machine() {
        let changed = at(NOW - 100) + Duration::from_nanos(5);
        let one = of("a", "abc", changed);
        assert_eq!(one, of("b", "xyz", changed));
        assert!(one.tag.starts_with('"') && one.is_settled);
        assert_eq!(one.modified, Some(at(NOW - 100)));
        assert_ne!(one.tag, of("a", "abcd", changed).tag);
        assert_ne!(
            one.tag,
            of("a", "abc", changed + Duration::from_nanos(1)).tag
        );
    }

    #[test]
    fn what_has_just_changed_has_a_weak_tag() {
        assert!(of("a", "a", at(NOW - 1)).tag.starts_with("W/\""));
        assert!(of("a", "a", at(NOW - 2)).tag.starts_with('"'));
    }

    #[test]
    fn a_time_to_come_is_told_as_now() {
        let later = of("a", "a", at(NOW + 1000));
        assert_eq!(later.modified, Some(at(NOW)));
        assert!(later.tag.starts_with("W/"));
    }

    #[test]
    fn a_time_that_says_nothing_is_not_told() {
        let (one, two) = (of("a", "abc", at(1)), of("a", "xyz", at(1)));
        assert_eq!(one.modified, None);
        assert_ne!(one.tag, two.tag);
    }

    #[test]
    fn variants_have_tags_of_their_own() {
        let file = tempfile::tempfile().unwrap();
        let facts = file.metadata().unwrap();
        let tags: Vec<_> = [None, Some(Coding::Brotli), Some(Coding::Gzip)]
            .map(|coding| Validators::of(&facts, coding, at(NOW)).tag)
            .into();
        assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
    }
}
