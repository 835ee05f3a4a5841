//! Doors into this room for `fuzz/`, compiled for it and, so that they stay whole, with the tests.

use std::time::Duration;

use http::HeaderMap;

use super::control::{MaxStale, RequestControl};
use super::targeted;

pub use super::disk::fuzzing::{Journal, reread, torn};

/// What an answer says of its storage, in a form to compare; and the longest time in it.
#[must_use]
pub fn answer_control(headers: &HeaderMap) -> (String, Duration) {
    let (control, is_targeted) = targeted::control(headers);
    let times = [
        control.s_maxage,
        control.max_age,
        control.stale_while_revalidate,
        control.stale_if_error,
    ];
    let longest = times.into_iter().flatten().max().unwrap_or_default();
    (format!("{control:?} {is_targeted}"), longest)
}

/// What a request says of the answers that it takes, in a form to compare; and the longest time in it.
#[must_use]
pub fn request_control(headers: &HeaderMap) -> (String, Duration) {
    let control = RequestControl::read(headers);
    let max_stale = match control.max_stale {
        Some(MaxStale::Of(most)) => Some(most),
        Some(MaxStale::Any) | None => None,
    };
    let times = [
        control.max_age,
        control.min_fresh,
        max_stale,
        control.stale_if_error,
    ];
    let longest = times.into_iter().flatten().max().unwrap_or_default();
    (format!("{control:?}"), longest)
}
