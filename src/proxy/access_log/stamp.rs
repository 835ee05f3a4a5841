//! Wall time as text, once a second rather than once a line.
//!
//! Civil dates are computed here with integers alone (proleptic Gregorian, UTC, no leap seconds);
//! the caller brings the time. Times before 1970 are written as 1970, times after 9999 as the last
//! second of 9999, so that the width never changes.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// The text of the current second, kept until the second changes. One for each worker.
#[derive(Debug, Clone)]
pub struct Stamp {
    second: u64,
    /// `2026-11-21T08:49:00`
    rfc3339: [u8; 19],
    /// `21/Nov/2026:08:49:00 +0000`
    combined: [u8; 26],
}

impl Default for Stamp {
    fn default() -> Self {
        Self::of_second(0)
    }
}

impl Stamp {
    /// RFC 3339 in UTC with milliseconds: `2026-11-21T08:49:00.123Z`.
    pub(super) fn rfc3339(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        let millis = self.turn_to(at);
        out.extend_from_slice(&self.rfc3339);
        out.push(b'.');
        out.extend_from_slice(&digits::<3>(millis));
        out.push(b'Z');
    }

    /// As in Apache's formats, without the brackets: `21/Nov/2026:08:49:00 +0000`.
    pub(super) fn combined(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        self.turn_to(at);
        out.extend_from_slice(&self.combined);
    }

    /// Returns the milliseconds within the second.
    fn turn_to(&mut self, at: SystemTime) -> u32 {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since_epoch.as_secs().min(LAST_SECOND);
        if second != self.second {
            *self = Self::of_second(second);
        }
        since_epoch.subsec_millis()
    }

    fn of_second(second: u64) -> Self {
        let Date { year, month, day } = date(second / 86_400);
        // Below 86,400.
        let clock = u32::try_from(second % 86_400).unwrap_or_default();
        let (hour, minute) = (digits::<2>(clock / 3_600), digits::<2>(clock / 60 % 60));
        let (year, day, second_of_minute) =
            (digits::<4>(year), digits::<2>(day), digits::<2>(clock % 60));
        let name = MONTHS[(month - 1) as usize];

        let mut rfc3339 = *b"0000-00-00T00:00:00";
        rfc3339[0..4].copy_from_slice(&year);
        rfc3339[5..7].copy_from_slice(&digits::<2>(month));
        rfc3339[8..10].copy_from_slice(&day);
        rfc3339[11..13].copy_from_slice(&hour);
        rfc3339[14..16].copy_from_slice(&minute);
        rfc3339[17..19].copy_from_slice(&second_of_minute);

        let mut combined = *b"00/Jan/0000:00:00:00 +0000";
        combined[0..2].copy_from_slice(&day);
        combined[3..6].copy_from_slice(name);
        combined[7..11].copy_from_slice(&year);
        combined[12..14].copy_from_slice(&hour);
        combined[15..17].copy_from_slice(&minute);
        combined[18..20].copy_from_slice(&second_of_minute);
        Self {
            second,
            rfc3339,
            combined,
        }
    }
}

struct Date {
    year: u32,
    /// 1 to 12.
    month: u32,
    /// 1 to 31.
    day: u32,
}

/// The date of a day since 1970-01-01, by Howard Hinnant's `civil_from_days`: years begin in March,
/// so that the leap day is the last of its year; 146,097 days make 400 of them.
fn date(days: u64) -> Date {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    // All of them far below 2^32: the day is at most that of `LAST_SECOND`.
    let small = |number: u64| u32::try_from(number).unwrap_or_default();
    Date {
        year: small(year),
        month: small(month),
        day: small(day),
    }
}

/// The last `N` decimal digits.
pub(super) fn digits<const N: usize>(mut number: u32) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rfc3339(at: SystemTime) -> String {
        let mut out = Vec::new();
        Stamp::default().rfc3339(at, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The same second by another hand: `Sat, 21 Nov 2026 08:49:00 GMT`.
    fn agrees_with_httpdate(stamp: &mut Stamp, second: u64) {
        let at = UNIX_EPOCH + Duration::from_secs(second);
        let theirs = httpdate::fmt_http_date(at);
        let fields: Vec<&str> = theirs.split(' ').collect();
        let [_, day, month, year, clock, _] = fields[..] else {
            panic!("{theirs}")
        };

        let mut out = Vec::new();
        stamp.combined(at, &mut out);
        assert_eq!(
            out,
            format!("{day}/{month}/{year}:{clock} +0000").as_bytes(),
            "{second}"
        );
        out.clear();
        stamp.rfc3339(at, &mut out);
        let number = MONTHS
            .iter()
            .position(|name| *name == month.as_bytes())
            .unwrap()
            + 1;
        let expected = format!("{year}-{number:02}-{day}T{clock}.000Z");
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{second}");
    }

    #[test]
    fn dates_agree_with_another_implementation() {
        let mut stamp = Stamp::default();
        for day in 0..60_000 {
            agrees_with_httpdate(&mut stamp, day * 86_400);
            agrees_with_httpdate(&mut stamp, day * 86_400 + 86_399);
        }
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            agrees_with_httpdate(&mut stamp, random.u64(0..=LAST_SECOND));
        }
    }

    #[test]
    fn the_text_follows_the_second_and_the_milliseconds() {
        let mut stamp = Stamp::default();
        let mut out = Vec::new();
        for millis in [
            1_795_250_940_007,
            1_795_250_940_999,
            1_795_250_941_000,
            1_795_250_940_010,
        ] {
            stamp.rfc3339(UNIX_EPOCH + Duration::from_millis(millis), &mut out);
            out.push(b' ');
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-21T08:49:00.007Z 2026-11-21T08:49:00.999Z \
             2026-11-21T08:49:01.000Z 2026-11-21T08:49:00.010Z "
        );
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        assert_eq!(
            rfc3339(UNIX_EPOCH - Duration::from_secs(5)),
            "1970-01-01T00:00:00.000Z"
        );
        let far = UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 10);
        assert_eq!(rfc3339(far), "9999-12-31T23:59:59.000Z");
    }
}
