//! As much of DER as it takes to learn when a certificate ends and what an OCSP response says.
//!
//! `pair` and `ocsp` walk the few fields that they need with `Der`; nothing is verified here. The
//! TLS library has parsed a certificate before it comes here. Invariant: any bytes end in `None` or
//! in a value, never in a panic, and nothing is read twice.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The elements that are left to read, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element: its tag and its content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        // High tag numbers stand in none of the structures that are read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // No length, which is not DER.
            0x80 => return None,
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
                (usize::try_from(length).ok()?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    /// The same, as elements.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(Self)
    }

    /// Passes over the next element if it has this tag.
    pub(super) fn skip_if(&mut self, tag: u8) {
        let before = *self;
        if self.expect(tag).is_none() {
            *self = before;
        }
    }

    /// A `Time` (RFC 5280 section 4.1.2.5), in seconds since the Unix epoch; 0 for one before it.
    pub(super) fn time(&mut self) -> Option<u64> {
        let (tag, text) = self.next()?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = number(text, 2)?;
                let century = if year < 50 { 2000 } else { 1900 };
                (year.checked_add(century)?, rest)
            }
            GENERALIZED_TIME => number(text, 4)?,
            _ => return None,
        };
        let (month, rest) = number(rest, 2)?;
        let (day, rest) = number(rest, 2)?;
        let (hour, rest) = number(rest, 2)?;
        let (minute, rest) = number(rest, 2)?;
        let (second, rest) = number(rest, 2)?;
        let sane = rest == b"Z"
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        if !sane {
            return None;
        }
        let of_day = hour
            .checked_mul(3600)?
            .checked_add(minute.checked_mul(60)?)?
            .checked_add(second)?;
        let days = days_since_epoch(year, month, day)?;
        let seconds = days.checked_mul(86_400)?.checked_add(of_day)?;
        Some(u64::try_from(seconds).unwrap_or(0))
    }
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let number = number.iter().try_fold(0_i64, |sum, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(i64::from(digit))
    })?;
    Some((number, rest))
}

/// Days from 1970-01-01 in the Gregorian calendar, years beginning in March so that the leap day is
/// the last of one.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let month = if month > 2 {
        month.checked_sub(3)?
    } else {
        month.checked_add(9)?
    };
    let of_year = month
        .checked_mul(153)?
        .checked_add(2)?
        .checked_div(5)?
        .checked_add(day)?
        .checked_sub(1)?;
    let leap = year
        .div_euclid(4)
        .checked_sub(year.div_euclid(100))?
        .checked_add(year.div_euclid(400))?;
    year.checked_mul(365)?
        .checked_add(leap)?
        .checked_add(of_year)?
        .checked_sub(719_468)
}

/// What Headgate wants to know of a certificate (RFC 5280 section 4.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf<'a> {
    /// Bytes of the serial number.
    pub(super) serial: &'a [u8],
    /// Seconds since the Unix epoch.
    pub(super) not_before: u64,
    /// The same.
    pub(super) not_after: u64,
    /// Identifier of the key that it was signed with (RFC 5280 section 4.2.1.1).
    pub(super) authority: Option<&'a [u8]>,
}

impl<'a> Leaf<'a> {
    pub(super) fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut tbs = Der::new(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
        // Version, if it is not the first.
        tbs.skip_if(0xa0);
        let serial = tbs.expect(INTEGER)?;
        let _algorithm = tbs.expect(SEQUENCE)?;
        let _issuer = tbs.expect(SEQUENCE)?;
        let mut validity = tbs.enter(SEQUENCE)?;
        let not_before = validity.time()?;
        let not_after = validity.time()?;
        let _subject = tbs.expect(SEQUENCE)?;
        let _key = tbs.expect(SEQUENCE)?;
        Some(Self {
            serial,
            not_before,
            not_after,
            authority: authority(tbs),
        })
    }
}

/// Looks for the identifier among what follows the key of a certificate.
fn authority(mut rest: Der<'_>) -> Option<&[u8]> {
    /// id-ce-authorityKeyIdentifier.
    const AUTHORITY: &[u8] = &[0x55, 0x1d, 0x23];
    // Unique identifiers of issuer and subject, which nobody uses.
    rest.skip_if(0x81);
    rest.skip_if(0x82);
    let mut extensions = rest.enter(0xa3)?.enter(SEQUENCE)?;
    while let Some(mut extension) = extensions.enter(SEQUENCE) {
        if extension.expect(OID)? != AUTHORITY {
            continue;
        }
        extension.skip_if(BOOLEAN);
        let value = extension.expect(OCTETS)?;
        return Der::new(value).enter(SEQUENCE)?.expect(0x80);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<u64> {
        let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
        bytes.extend_from_slice(text.as_bytes());
        Der::new(&bytes).time()
    }

    #[test]
    fn times_are_seconds_since_the_epoch() {
        let known = [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", 0),
            (GENERALIZED_TIME, "20000229120000Z", 951_825_600),
            (GENERALIZED_TIME, "20240229000001Z", 1_709_164_801),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ];
        for (tag, text, seconds) in known {
            assert_eq!(time(tag, text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "7001010000Z",
            "701301000000Z",
            "70010100000xZ",
            "700101000000",
        ] {
            assert_eq!(time(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(time(INTEGER, "700101000000Z"), None);
    }

    #[test]
    fn a_certificate_tells_its_end_and_its_serial() {
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 7, 9);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x12, 0x34]));
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let leaf = Leaf::read(cert.der()).unwrap();
        assert_eq!(leaf.serial, [0x12, 0x34]);
        assert_eq!(leaf.not_after, 1_941_321_600);
        assert_eq!(leaf.authority, None);
    }

    #[test]
    fn a_certificate_tells_its_beginning_and_who_signed_it() {
        use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair};
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1, 2, 3]);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2031, 7, 9);
        params.not_after = rcgen::date_time_ymd(2032, 7, 9);
        params.use_authority_key_identifier_extension = true;
        let cert = params
            .signed_by(&KeyPair::generate().unwrap(), &ca)
            .unwrap();
        let leaf = Leaf::read(cert.der()).unwrap();
        assert_eq!(leaf.not_before, 1_941_321_600);
        assert_eq!(leaf.authority, Some(&[1, 2, 3][..]));
    }

    #[test]
    fn mutilated_certificates_never_panic() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        let whole = params.self_signed(&key).unwrap().der().to_vec();
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            bytes.truncate(random.usize(..=whole.len()));
            for _ in 0..random.usize(0..4) {
                if let Some(byte) = random.choice(&mut bytes[..]) {
                    *byte = random.u8(..);
                }
            }
            // Whatever it says: it must not panic.
            let _any = Leaf::read(&bytes);
        }
    }
}
