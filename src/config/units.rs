//! Units as types, and how they are spelled: durations, sizes and ratios.
//!
//! `convert` reads them, `defaults` and messages print them. Each form is exact: no floating point,
//! no fractions, no unit that could mean two things (`KB`). Invariant: what `Display` writes parses
//! back to the same value, and the largest unit that fits is the one that is written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a text is not a value of its unit, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnitError {
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// How it may be spelled.
    pub hint: String,
}

impl UnitError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

const SIZE_HINT: &str = "write a whole number with B, KiB, MiB, GiB or TiB, such as `64KiB`";

impl FromStr for ByteSize {
    type Err = UnitError;

    /// Reads `64KiB`, `256MiB`, `240B` or a plain number of bytes.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let number = Number::split(text, "size", SIZE_HINT)?;
        let factor = match number.unit {
            "" => 1,
            unit => size_unit(unit)?,
        };
        number.value.checked_mul(factor).map(Self).ok_or_else(|| {
            UnitError::new(
                format!("the size `{}` is too large", brief(text)),
                SIZE_HINT,
            )
        })
    }
}

fn size_unit(unit: &str) -> Result<u64, UnitError> {
    if let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        return Ok(*factor);
    }
    let meant = match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        "t" | "tb" | "tib" => Some("TiB"),
        _ => None,
    };
    let hint = meant.map_or_else(
        || SIZE_HINT.to_owned(),
        |name| format!("sizes count in powers of 1024: did you mean `{name}`?"),
    );
    Err(UnitError::new(
        format!("unknown unit `{}`", brief(unit)),
        hint,
    ))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        let (unit, factor) = SIZE_UNITS
            .iter()
            .find(|(_, factor)| fits(*factor))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// Milliseconds of each unit, largest first: the order in which a duration is spelled.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const DURATION_HINT: &str =
    "write a whole number with ms, s, m, h or d, such as `30s`, `250ms` or `1h30m`";

/// Reads `30s`, `5m`, `250ms` or `1h30m`. Whole milliseconds; a number always has its unit, except
/// for a lone `0`.
///
/// # Errors
/// When the text is anything else, or more milliseconds than a `u64` holds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest: Option<(&str, u64)> = None;
    loop {
        let number = Number::split(rest, "duration", DURATION_HINT)?;
        let (unit, after) = match number.unit.find(|c: char| c.is_ascii_digit()) {
            Some(at) => number.unit.split_at(at),
            None => (number.unit, ""),
        };
        let factor = duration_unit(unit.trim_end(), number.value)?;
        if let Some((larger, before)) = smallest
            && factor >= before
        {
            return Err(UnitError::new(
                format!(
                    "`{}` comes after `{larger}` in the duration `{}`",
                    unit,
                    brief(text)
                ),
                "write the largest unit first and each unit once, such as `1h30m`",
            ));
        }
        smallest = Some((unit, factor));
        total = number
            .value
            .checked_mul(factor)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(|| {
                let message = format!("the duration `{}` is too long", brief(text));
                UnitError::new(message, DURATION_HINT)
            })?;
        if after.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = after;
    }
}

fn duration_unit(unit: &str, value: u64) -> Result<u64, UnitError> {
    if let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) {
        return Ok(*factor);
    }
    if unit.is_empty() {
        return Err(UnitError::new(
            format!("the duration `{value}` has no unit"),
            format!("write `{value}s` for seconds, or `{value}ms` for milliseconds"),
        ));
    }
    let meant = match unit.to_ascii_lowercase().as_str() {
        "msec" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        "sec" | "secs" | "second" | "seconds" | "s" => Some("s"),
        "min" | "mins" | "minute" | "minutes" | "m" => Some("m"),
        "hr" | "hrs" | "hour" | "hours" | "h" => Some("h"),
        "day" | "days" | "d" => Some("d"),
        _ => None,
    };
    let hint = meant.map_or_else(
        || DURATION_HINT.to_owned(),
        |name| format!("did you mean `{value}{name}`? The units are ms, s, m, h and d"),
    );
    Err(UnitError::new(
        format!("unknown unit `{}`", brief(unit)),
        hint,
    ))
}

/// A duration in the form in which a config spells it: `1h30m`, `250ms`. What is finer than a
/// millisecond is cut off, since a config cannot spell it.
pub fn display_duration(duration: Duration) -> impl fmt::Display {
    struct Spelled(Duration);
    impl fmt::Display for Spelled {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut rest = self.0.as_millis();
            if rest == 0 {
                return f.write_str("0s");
            }
            for (unit, factor) in DURATION_UNITS {
                let factor = u128::from(factor);
                if rest >= factor {
                    write!(f, "{}{unit}", rest / factor)?;
                    rest %= factor;
                }
            }
            Ok(())
        }
    }
    Spelled(duration)
}

/// A share of a whole, from nothing to all of it, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

const MILLION: u32 = 1_000_000;
const RATIO_HINT: &str = "write a number from 0 to 1 such as `0.01`, or a percentage such as `1%`";

impl Ratio {
    /// Parts per million, 0 to 1,000,000.
    #[must_use]
    pub fn parts_per_million(self) -> u32 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = UnitError;

    /// Reads `0.01` or `1%`, no finer than a part per million.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = |why: &str| {
            Err(UnitError::new(
                format!("the ratio `{}` {why}", brief(text)),
                RATIO_HINT,
            ))
        };
        let trimmed = text.trim();
        let (number, decimals) = match trimmed.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 4),
            None => (trimmed, 6),
        };
        if number.starts_with('-') {
            return refuse("is negative");
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return refuse("is not a number");
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > decimals {
            return refuse("is finer than a part per million");
        }
        // The decimal point is moved by padding, so no rounding can happen.
        match format!("{whole}{fraction:0<decimals$}").parse::<u32>() {
            Ok(parts) if parts <= MILLION => Ok(Self(parts)),
            _ => refuse("is more than the whole"),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        write!(f, "{whole}")?;
        if fraction > 0 {
            write!(f, ".{}", format!("{fraction:04}").trim_end_matches('0'))?;
        }
        f.write_str("%")
    }
}

/// A whole number and the text after it.
struct Number<'a> {
    value: u64,
    unit: &'a str,
}

impl<'a> Number<'a> {
    fn split(text: &'a str, what: &str, hint: &str) -> Result<Self, UnitError> {
        let refuse = |why: &str| {
            Err(UnitError::new(
                format!("the {what} `{}` {why}", brief(text)),
                hint.to_owned(),
            ))
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(UnitError::new(
                format!("the {what} is empty"),
                hint.to_owned(),
            ));
        }
        if trimmed.starts_with('-') {
            return refuse("is negative");
        }
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (digits, rest) = trimmed.split_at(end);
        if digits.is_empty() {
            return refuse("does not start with a number");
        }
        if rest.starts_with(['.', ',']) {
            return refuse("has a fraction: use a whole number of a smaller unit");
        }
        match digits.parse() {
            Ok(value) => Ok(Self {
                value,
                unit: rest.trim_start(),
            }),
            Err(_) => refuse("is too large"),
        }
    }
}

/// The start of a text, fit to be shown in a message.
fn brief(text: &str) -> String {
    super::errors::quotable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration_error(text: &str) -> (String, String) {
        let error = parse_duration(text).unwrap_err();
        (error.message, error.hint)
    }

    #[test]
    fn durations_read_what_the_manual_shows() {
        for (text, millis) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1h 30m", 5_400_000),
            ("0", 0),
            ("0s", 0),
            ("90s", 90_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_bare_number_is_told_which_unit_it_may_have_meant() {
        assert_eq!(
            duration_error("30"),
            (
                "the duration `30` has no unit".to_owned(),
                "write `30s` for seconds, or `30ms` for milliseconds".to_owned()
            )
        );
        assert_eq!(
            duration_error("5sec").1,
            "did you mean `5s`? The units are ms, s, m, h and d"
        );
    }

    #[test]
    fn empty_negative_fractional_and_overflowing_durations_are_refused() {
        assert_eq!(duration_error("").0, "the duration is empty");
        assert_eq!(duration_error("-5s").0, "the duration `-5s` is negative");
        assert_eq!(
            duration_error("1.5s").0,
            "the duration `1.5s` has a fraction: use a whole number of a smaller unit"
        );
        assert_eq!(
            duration_error("99999999999999999999s").0.split_once(" is "),
            Some(("the duration `99999999999999999999s`", "too large"))
        );
        assert!(
            duration_error("18446744073709551615h")
                .0
                .ends_with("is too long")
        );
        assert!(
            duration_error("213503982334d14h25m52s")
                .0
                .ends_with("is too long")
        );
        assert_eq!(
            duration_error("soon").0,
            "the duration `soon` does not start with a number"
        );
        assert!(duration_error("30m1h").0.contains("`h` comes after `m`"));
        assert!(duration_error("1s1s").0.contains("`s` comes after `s`"));
        assert_eq!(duration_error("1h30").0, "the duration `30` has no unit");
    }

    #[test]
    fn durations_print_as_they_are_spelled() {
        for text in ["30s", "5m", "250ms", "1h30m", "1d", "1m30s250ms", "0s"] {
            let parsed = parse_duration(text).unwrap();
            assert_eq!(display_duration(parsed).to_string(), text);
        }
        assert_eq!(
            display_duration(Duration::from_secs(90)).to_string(),
            "1m30s"
        );
    }

    #[test]
    fn sizes_read_and_print_in_powers_of_1024() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("256MiB", 268_435_456),
            ("240B", 240),
            ("1TiB", 1 << 40),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize(bytes));
            assert_eq!(size.to_string(), text);
        }
        assert_eq!("1000".parse(), Ok(ByteSize(1000)));
        assert_eq!(ByteSize(0).to_string(), "0B");
        assert_eq!(ByteSize(1536).to_string(), "1536B");
        assert_eq!(
            ByteSize(u64::MAX).to_string().parse(),
            Ok(ByteSize(u64::MAX))
        );
    }

    #[test]
    fn sizes_that_are_ambiguous_negative_empty_or_too_large_are_refused() {
        let error = |text: &str| text.parse::<ByteSize>().unwrap_err();
        assert_eq!(error("64KB").message, "unknown unit `KB`");
        assert_eq!(
            error("64KB").hint,
            "sizes count in powers of 1024: did you mean `KiB`?"
        );
        assert_eq!(error("").message, "the size is empty");
        assert_eq!(error("-1B").message, "the size `-1B` is negative");
        assert_eq!(
            error("16777216TiB").message,
            "the size `16777216TiB` is too large"
        );
        assert_eq!(
            error("18446744073709551616").message,
            "the size `18446744073709551616` is too large"
        );
        assert!(error("1.5GiB").message.contains("has a fraction"));
    }

    #[test]
    fn ratios_read_both_forms_and_print_a_percentage() {
        for (text, parts, printed) in [
            ("0.01", 10_000, "1%"),
            ("1%", 10_000, "1%"),
            ("0.5%", 5_000, "0.5%"),
            ("1", 1_000_000, "100%"),
            ("0", 0, "0%"),
            ("0.000001", 1, "0.0001%"),
            ("12.5%", 125_000, "12.5%"),
        ] {
            let ratio: Ratio = text.parse().unwrap();
            assert_eq!(ratio.parts_per_million(), parts, "{text}");
            assert_eq!(ratio.to_string(), printed);
            assert_eq!(printed.parse(), Ok(ratio));
        }
    }

    #[test]
    fn ratios_outside_the_whole_are_refused() {
        for text in [
            "",
            "-1%",
            "1.1",
            "101%",
            "half",
            "0.0000001",
            "%",
            ".5",
            "99999999999",
        ] {
            assert!(text.parse::<Ratio>().is_err(), "{text:?}");
        }
    }
}
