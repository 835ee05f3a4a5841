//! When a certificate is renewed, and when a failure is tried again.
//!
//! Pure: `plan` brings the time and a `dice` between 0 and 1. Invariant: a certificate is renewed
//! before 19/20 of its lifetime have passed, whatever the CA suggests, and nothing is tried again at
//! once.

use std::time::{Duration, SystemTime};

/// Between two questions for renewal information (RFC 9773 section 4.3.2).
const ASK_AGAIN: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(86_400);
/// After the first failure; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// A CA may ask for days; longer than this is taken for a mistake.
const LONGEST_ASKED: Duration = Duration::from_secs(7 * 86_400);
/// Two orders for the same names within this time are enough.
const ORDER_WINDOW: Duration = Duration::from_secs(3600);

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Lifetime {
    /// At two thirds, up to a hundredth of the lifetime earlier, so that certificates that were issued
    /// together are not renewed together.
    pub(super) fn renewal(self, dice: f64) -> SystemTime {
        self.at(2.0 / 3.0 - 0.01 * fraction(dice))
    }

    /// A time within the window that the CA suggests (RFC 9773 section 4.2).
    pub(super) fn within(self, start: SystemTime, end: SystemTime, dice: f64) -> SystemTime {
        let width = end.duration_since(start).unwrap_or_default();
        let chosen = start + width.mul_f64(fraction(dice));
        chosen.min(self.at(0.95))
    }

    fn at(self, part: f64) -> SystemTime {
        let whole = self.not_after.duration_since(self.not_before);
        self.not_before + whole.unwrap_or_default().mul_f64(fraction(part))
    }
}

fn fraction(dice: f64) -> f64 {
    if dice.is_finite() {
        dice.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// How long until the CA is asked again for renewal information.
pub(super) fn ask_again(retry_after: Duration) -> Duration {
    retry_after.clamp(*ASK_AGAIN.start(), *ASK_AGAIN.end())
}

/// How long to wait after the `failures`th failure in a row: a minute, doubled each time up to six
/// hours, of which a half is left to chance; or what the CA asks for and up to a tenth more, if that is
/// longer.
pub(super) fn pause(failures: u32, asked: Option<Duration>, dice: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let own = doubled.min(LONGEST_PAUSE);
    let own = own.mul_f64(0.5 + 0.5 * fraction(dice));
    let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
    own.max(asked + asked.mul_f64(0.1 * fraction(dice)))
}

/// The earliest time of the next order, after orders that succeeded at `last` and before that at
/// `second_last`: a CA that suggests to renew whatever it issues must not be asked in a circle.
pub(super) fn earliest(last: Option<SystemTime>, second_last: Option<SystemTime>) -> SystemTime {
    match (last, second_last) {
        (Some(last), Some(before)) if last < before + ORDER_WINDOW => last + ORDER_WINDOW,
        _ => SystemTime::UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn ninety_days() -> Lifetime {
        Lifetime {
            not_before: NOW,
            not_after: NOW + 90 * DAY,
        }
    }

    #[test]
    fn without_a_window_it_is_renewed_at_two_thirds() {
        let life = ninety_days();
        assert_eq!(life.renewal(0.0), NOW + 60 * DAY);
        let earliest = life.renewal(1.0);
        assert!(
            earliest < NOW + 60 * DAY && earliest > NOW + 59 * DAY,
            "{earliest:?}"
        );
    }

    #[test]
    fn within_a_window_every_time_is_possible_and_none_outside() {
        let life = ninety_days();
        let (start, end) = (NOW + 10 * DAY, NOW + 12 * DAY);
        assert_eq!(life.within(start, end, 0.0), start);
        assert_eq!(life.within(start, end, 0.5), NOW + 11 * DAY);
        assert_eq!(life.within(start, end, 1.0), end);
        // Backwards or beyond the end of the certificate.
        assert_eq!(life.within(end, start, 0.7), end);
        let late = life.within(NOW + 89 * DAY, NOW + 200 * DAY, 0.9);
        assert!(late < NOW + 86 * DAY, "{late:?}");
    }

    #[test]
    fn a_lifetime_that_runs_backwards_is_due_at_once() {
        let life = Lifetime {
            not_before: NOW + DAY,
            not_after: NOW,
        };
        assert_eq!(life.renewal(0.5), NOW + DAY);
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_obey_the_ca() {
        let minute = Duration::from_secs(60);
        assert_eq!(pause(1, None, 1.0), minute);
        assert_eq!(pause(1, None, 0.0), minute / 2);
        assert_eq!(pause(4, None, 1.0), 8 * minute);
        assert_eq!(pause(u32::MAX, None, 1.0), Duration::from_secs(6 * 3600));
        assert_eq!(pause(9, Some(3 * DAY), 0.0), 3 * DAY);
        assert!(pause(9, Some(DAY), 1.0) <= DAY + DAY / 9);
        assert_eq!(pause(1, Some(Duration::ZERO), 1.0), minute);
        assert!(pause(1, Some(Duration::MAX), 1.0) < 8 * DAY);
    }

    #[test]
    fn the_ca_is_asked_for_a_window_once_a_minute_at_most_and_once_a_day_at_least() {
        assert_eq!(ask_again(Duration::ZERO), Duration::from_secs(60));
        assert_eq!(
            ask_again(Duration::from_secs(7000)),
            Duration::from_secs(7000)
        );
        assert_eq!(ask_again(Duration::MAX), DAY);
    }

    #[test]
    fn the_third_order_within_an_hour_waits() {
        let minute = Duration::from_secs(60);
        assert!(earliest(Some(NOW + minute), None) <= NOW);
        assert_eq!(earliest(Some(NOW + minute), Some(NOW)), NOW + 61 * minute);
        assert!(earliest(Some(NOW + 2 * DAY), Some(NOW)) <= NOW);
    }
}
