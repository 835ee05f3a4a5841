//! What codings a client takes: `Accept-Encoding` (RFC 9110 section 12.5.3).
//!
//! `judge` asks for the algorithms of a route, `proxy` for the variants that lie beside a file. One
//! pass over the field, no allocation; a member that cannot be read counts as not there.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use smallvec::SmallVec;

use crate::config::model::Coding;

/// What of that which is on offer a client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The best first: by the client's weights, and where these are alike in the order of the offer.
    /// Codings that the client likes less than plain bytes are left out.
    pub codings: SmallVec<[Coding; 3]>,
    /// Whether it takes plain bytes.
    pub identity: bool,
}

/// Thousandths.
type Weight = u16;

const WHOLE: Weight = 1000;

/// Chooses among `offered`. A client that sends no `Accept-Encoding` takes anything, and gets plain
/// bytes, which every client reads.
#[must_use]
pub fn accepted(request: &HeaderMap, offered: &[Coding]) -> Accepted {
    let mut weights: [Option<Weight>; 3] = [None; 3];
    let mut identity = None;
    let mut any = None;
    for line in request.get_all(ACCEPT_ENCODING) {
        for member in line.as_bytes().split(|byte| *byte == b',') {
            let Some((name, weight)) = read(member) else {
                continue;
            };
            let slot = match name {
                b"*" => &mut any,
                name if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                name => {
                    let known = Coding::ALL.iter().zip(&mut weights);
                    match known.into_iter().find(|(coding, _)| is(**coding, name)) {
                        Some((_, slot)) => slot,
                        None => continue,
                    }
                }
            };
            *slot = Some(weight);
        }
    }
    let weight = |wanted: Coding| {
        let known = Coding::ALL.iter().zip(weights);
        let own = known
            .into_iter()
            .find_map(|(coding, weight)| (*coding == wanted).then_some(weight)?);
        own.or(any).unwrap_or(0)
    };
    // Plain bytes that nobody spoke of are the last resort, whatever `*` weighs.
    let floor = identity.unwrap_or(0).max(1);
    let mut codings: SmallVec<[Coding; 3]> = offered
        .iter()
        .copied()
        .filter(|coding| weight(*coding) >= floor)
        .collect();
    codings.sort_by_key(|coding| std::cmp::Reverse(weight(*coding)));
    Accepted {
        codings,
        identity: identity.or(any) != Some(0),
    }
}

/// Whether a client takes a coding, and likes it no less than plain bytes.
#[must_use]
pub fn takes(request: &HeaderMap, coding: Coding) -> bool {
    !accepted(request, &[coding]).codings.is_empty()
}

/// Whether `name` is a name of a coding.
pub(super) fn is(coding: Coding, name: &[u8]) -> bool {
    // A recipient treats `x-gzip` as `gzip` (RFC 9110 section 8.4.1.3).
    let name = match name.split_at_checked(2) {
        Some((head, rest)) if coding == Coding::Gzip && head.eq_ignore_ascii_case(b"x-") => rest,
        _ => name,
    };
    name.eq_ignore_ascii_case(coding.token().as_bytes())
}

/// One member: a name and its weight.
fn read(member: &[u8]) -> Option<(&[u8], Weight)> {
    let mut parts = member.split(|byte| *byte == b';');
    let name = parts.next()?.trim_ascii();
    if name.is_empty() {
        return None;
    }
    let weight = match parts.next() {
        None => WHOLE,
        Some(parameter) => {
            let (key, value) = parameter.trim_ascii().split_at_checked(2)?;
            if !key.eq_ignore_ascii_case(b"q=") {
                return None;
            }
            qvalue(value)?
        }
    };
    parts.next().is_none().then_some((name, weight))
}

/// RFC 9110 section 12.4.2: `0` to `1` with at most three digits after the point.
fn qvalue(text: &[u8]) -> Option<Weight> {
    let (first, rest) = text.split_first()?;
    let digits = match rest.split_first() {
        None => rest,
        Some((b'.', digits)) => digits,
        Some(_) => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fraction = digits
        .iter()
        .zip([100, 10, 1])
        .map(|(digit, place): (&u8, Weight)| {
            Weight::from(digit.wrapping_sub(b'0')).saturating_mul(place)
        })
        .fold(0, Weight::saturating_add);
    match (first, fraction) {
        (b'0', fraction) => Some(fraction),
        (b'1', 0) => Some(WHOLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Coding::{Brotli, Gzip, Zstd};

    fn of(lines: &[&str]) -> (Vec<Coding>, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, line.parse().unwrap());
        }
        let Accepted { codings, identity } = accepted(&headers, &[Zstd, Brotli, Gzip]);
        (codings.to_vec(), identity)
    }

    #[test]
    fn weights_lead_and_the_order_of_the_offer_decides_ties() {
        assert_eq!(of(&["gzip, br"]), (vec![Brotli, Gzip], true));
        assert_eq!(
            of(&["gzip;q=1.0, br;q=0.8, zstd;q=0.9"]).0,
            [Gzip, Zstd, Brotli]
        );
        assert_eq!(of(&["gzip", "zstd;q=0.001"]).0, [Gzip, Zstd]);
        assert_eq!(of(&["GZIP , X-GZip;Q=0.5"]).0, [Gzip]);
    }

    #[test]
    fn without_the_field_or_with_an_empty_one_the_bytes_stay_plain() {
        assert_eq!(of(&[]), (vec![], true));
        assert_eq!(of(&[""]), (vec![], true));
        assert_eq!(of(&[" , ,"]), (vec![], true));
    }

    #[test]
    fn zero_is_never() {
        assert_eq!(of(&["gzip;q=0, br"]), (vec![Brotli], true));
        assert_eq!(of(&["*;q=0"]), (vec![], false));
        assert_eq!(of(&["*;q=0, gzip"]), (vec![Gzip], false));
        assert_eq!(of(&["identity;q=0"]), (vec![], false));
        assert!(!of(&["identity;q=0, *"]).1);
        assert_eq!(of(&["*;q=0, identity"]), (vec![], true));
    }

    #[test]
    fn a_star_stands_for_whatever_is_not_named() {
        assert_eq!(of(&["*"]), (vec![Zstd, Brotli, Gzip], true));
        assert_eq!(of(&["*;q=0.5, br"]).0, [Brotli, Zstd, Gzip]);
        assert_eq!(of(&["zstd;q=0, *"]).0, [Brotli, Gzip]);
    }

    #[test]
    fn a_client_that_prefers_plain_bytes_gets_them() {
        assert_eq!(of(&["identity, gzip;q=0.5"]), (vec![], true));
        assert_eq!(of(&["identity;q=0.5, gzip;q=0.5, br;q=0.4"]).0, [Gzip]);
    }

    #[test]
    fn a_member_that_cannot_be_read_is_not_there() {
        for odd in [
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.1234",
            "gzip;q=",
            "gzip;q=.5",
            "gzip;q=-1",
            "gzip;level=1",
            "gzip;q=1;q=1",
            "gzip q=1",
            "gzi",
            "xx-gzip",
            "\"gzip\"",
            ";q=1",
        ] {
            assert_eq!(of(&[odd]).0, [], "{odd}");
        }
    }
}
