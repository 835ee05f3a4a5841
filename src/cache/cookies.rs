//! Which cookies of a request may name a user.
//!
//! The look-up in `mod` asks: an answer to a request that names a user is kept only when it says that it
//! is for all. Cookies that Headgate sets itself, and those that the route tells to ignore, name nobody.
//! Invariant: a cookie that cannot be read names a user.

use http::header::{COOKIE, HeaderMap, HeaderValue};

use crate::config::model::CacheRule;

/// Whether a line of `Cookie` holds one that may name a user.
pub(super) fn name_a_user(rule: &CacheRule, sticky: Option<&str>, line: &HeaderValue) -> bool {
    let mut crumbs = line.as_bytes().split(|byte| *byte == b';');
    crumbs.any(|crumb| {
        let crumb = crumb.trim_ascii();
        let name = name_of(crumb);
        let is_ours = sticky.is_some_and(|sticky| sticky.as_bytes() == name);
        !crumb.is_empty() && !is_ours && !rule.ignores_cookie(name)
    })
}

/// Each cookie of this name as it is spelled, in their order: servers differ in which of them counts.
pub(super) fn named<'a>(request: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = request.get_all(COOKIE).into_iter();
    let crumbs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let crumbs = crumbs.map(<[u8]>::trim_ascii);
    crumbs.filter(move |crumb| name_of(crumb) == name.as_bytes())
}

/// The name of a cookie, without blanks around it.
fn name_of(crumb: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'=', crumb).unwrap_or(crumb.len());
    crumb.get(..end).unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_cookie_names_a_user_unless_it_is_ours_or_ignored() {
        let rule = CacheRule {
            ignored_cookies: vec![Arc::from("consent"), Arc::from("_ga*")],
            ..CacheRule::default()
        };
        let names = |line: &'static str| {
            name_a_user(&rule, Some("DAB_ROUTE"), &HeaderValue::from_static(line))
        };
        for nobody in [
            "",
            "consent=1",
            "DAB_ROUTE=x; _ga=1; _ga_2=3;consent",
            " ; ",
        ] {
            assert!(!names(nobody), "{nobody}");
        }
        for user in [
            "session=1",
            "consent=1; sid=2",
            "consents=1",
            "Consent=1",
            "DAB_ROUTE2=x",
            "=x",
        ] {
            assert!(names(user), "{user}");
        }
        let all = CacheRule {
            ignored_cookies: vec![Arc::from("*")],
            ..CacheRule::default()
        };
        assert!(!name_a_user(
            &all,
            None,
            &HeaderValue::from_static("session=1")
        ));
    }
}
