//! Whether an OCSP response may be stapled (RFC 6960 section 4.2).
//!
//! `pair` asks before it sends one along. Checked are success, the serial number, `good`, and the
//! times; the signature is left to the client, whose trust it is about. Invariant: a staple is never
//! sent past its `nextUpdate`.

use super::der::{Der, ENUMERATED, INTEGER, OCTETS, OID, SEQUENCE};

/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// Clocks of issuers that run ahead, in seconds.
const SKEW: u64 = 300;

/// Why a response is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OcspError {
    #[error("it is not an OCSP response")]
    Malformed,
    #[error("the responder did not answer the question")]
    Unsuccessful,
    #[error("it is about another certificate")]
    OtherCertificate,
    #[error("it does not say that the certificate is good")]
    NotGood,
    #[error("it is not valid yet")]
    Early,
    #[error("it has expired")]
    Expired,
}

/// Until when the response may be sent (`nextUpdate`, seconds since the Unix epoch); none where it
/// sets no end.
///
/// # Errors
/// When it may not be sent at `now`, for the certificate with this serial number.
pub(super) fn check(response: &[u8], serial: &[u8], now: u64) -> Result<Option<u64>, OcspError> {
    let mut whole = Der::new(response)
        .enter(SEQUENCE)
        .ok_or(OcspError::Malformed)?;
    if whole.expect(ENUMERATED).ok_or(OcspError::Malformed)? != [0] {
        return Err(OcspError::Unsuccessful);
    }
    let mut found = None;
    let mut responses = responses(whole).ok_or(OcspError::Malformed)?;
    while let Some((SEQUENCE, content)) = responses.next() {
        let single = Single::read(content).ok_or(OcspError::Malformed)?;
        if single.serial == serial {
            found = Some(single);
            break;
        }
    }
    let single = found.ok_or(OcspError::OtherCertificate)?;
    if !single.good {
        return Err(OcspError::NotGood);
    }
    if single.this_update > now.saturating_add(SKEW) {
        return Err(OcspError::Early);
    }
    if single.next_update.is_some_and(|until| until <= now) {
        return Err(OcspError::Expired);
    }
    Ok(single.next_update)
}

/// The list of single responses in what follows `responseStatus`.
fn responses(mut whole: Der<'_>) -> Option<Der<'_>> {
    let mut bytes = whole.enter(0xa0)?.enter(SEQUENCE)?;
    if bytes.expect(OID)? != BASIC {
        return None;
    }
    let basic = bytes.expect(OCTETS)?;
    let mut data = Der::new(basic).enter(SEQUENCE)?.enter(SEQUENCE)?;
    // Version, if it is not the first.
    data.skip_if(0xa0);
    let (_responder, _name_or_key) = data.next()?;
    let _produced_at = data.time()?;
    data.enter(SEQUENCE)
}

/// `SingleResponse`.
struct Single<'a> {
    serial: &'a [u8],
    good: bool,
    this_update: u64,
    next_update: Option<u64>,
}

impl<'a> Single<'a> {
    fn read(content: &'a [u8]) -> Option<Self> {
        let mut single = Der::new(content);
        let mut id = single.enter(SEQUENCE)?;
        let _algorithm = id.expect(SEQUENCE)?;
        let _issuer_name = id.expect(OCTETS)?;
        let _issuer_key = id.expect(OCTETS)?;
        let serial = id.expect(INTEGER)?;
        let (status, _details) = single.next()?;
        let this_update = single.time()?;
        let next_update = match single.enter(0xa0) {
            Some(mut explicit) => Some(explicit.time()?),
            None => None,
        };
        Some(Self {
            serial,
            good: status == 0x80,
            this_update,
            next_update,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match u8::try_from(content.len()) {
            Ok(short) if short < 0x80 => bytes.push(short),
            Ok(long) => bytes.extend_from_slice(&[0x81, long]),
            Err(_) => {
                bytes.push(0x82);
                bytes.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
            }
        }
        bytes.extend_from_slice(content);
        bytes
    }

    fn time(text: &str) -> Vec<u8> {
        element(0x18, text.as_bytes())
    }

    /// An unsigned response about one certificate, with its status' tag.
    pub(crate) fn response(serial: &[u8], status: u8, this: &str, next: Option<&str>) -> Vec<u8> {
        let id = [
            element(SEQUENCE, &element(OID, &[0x2b, 0x0e, 3, 2, 0x1a])),
            element(OCTETS, &[1; 20]),
            element(OCTETS, &[2; 20]),
            element(INTEGER, serial),
        ];
        let mut single = element(SEQUENCE, &id.concat());
        single.extend(element(status, &[]));
        single.extend(time(this));
        if let Some(next) = next {
            single.extend(element(0xa0, &time(next)));
        }
        let mut data = element(0xa2, &element(OCTETS, &[3; 20]));
        data.extend(time(this));
        data.extend(element(SEQUENCE, &element(SEQUENCE, &single)));
        let basic = element(SEQUENCE, &element(SEQUENCE, &data));
        let bytes = [element(OID, BASIC), element(OCTETS, &basic)].concat();
        let mut whole = element(ENUMERATED, &[0]);
        whole.extend(element(0xa0, &element(SEQUENCE, &bytes)));
        element(SEQUENCE, &whole)
    }

    const JAN_2030: u64 = 1_893_456_000;
    const DAY: u64 = 86_400;

    #[test]
    fn a_good_response_holds_until_its_next_update() {
        let good = response(&[7], 0x80, "20300101000000Z", Some("20300108000000Z"));
        assert_eq!(
            check(&good, &[7], JAN_2030 + DAY),
            Ok(Some(JAN_2030 + 7 * DAY))
        );
        assert_eq!(
            check(&good, &[7], JAN_2030 + 7 * DAY),
            Err(OcspError::Expired)
        );
        assert_eq!(check(&good, &[7], JAN_2030 - DAY), Err(OcspError::Early));
        assert_eq!(
            check(&good, &[8], JAN_2030),
            Err(OcspError::OtherCertificate)
        );
        let endless = response(&[7], 0x80, "20300101000000Z", None);
        assert_eq!(check(&endless, &[7], JAN_2030 + 900 * DAY), Ok(None));
    }

    #[test]
    fn a_revoked_or_unknown_certificate_is_not_vouched_for() {
        for status in [0xa1, 0x82] {
            let bad = response(&[7], status, "20300101000000Z", None);
            assert_eq!(check(&bad, &[7], JAN_2030), Err(OcspError::NotGood));
        }
    }

    #[test]
    fn what_is_no_response_is_malformed_and_never_panics() {
        assert_eq!(check(b"", &[7], 0), Err(OcspError::Malformed));
        assert_eq!(check(b"-----BEGIN", &[7], 0), Err(OcspError::Malformed));
        let try_later = element(SEQUENCE, &element(ENUMERATED, &[3]));
        assert_eq!(check(&try_later, &[7], 0), Err(OcspError::Unsuccessful));
        let good = response(&[7], 0x80, "20300101000000Z", Some("20300108000000Z"));
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            bytes.truncate(random.usize(..=good.len()));
            if let Some(byte) = random.choice(&mut bytes[..]) {
                *byte = random.u8(..);
            }
            // Whatever it says: it must not panic.
            let _any = check(&bytes, &[7], JAN_2030);
        }
    }
}
