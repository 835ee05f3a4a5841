//! Field lines (RFC 9110 section 5, RFC 9112 section 5), of heads and of trailers.
//!
//! Values are slices of the one copy that was made of the section. Invariant: names are tokens,
//! values hold no control byte but HTAB, and no line is folded.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::Fault;

use super::names;

/// Reads the lines at `ranges` of `section` into a map. `look` sees each field and says whether it is
/// kept.
pub(super) fn parse(
    section: &Bytes,
    ranges: impl Iterator<Item = (usize, usize)>,
    fields: &mut HeaderMap,
    mut look: impl FnMut(&HeaderName, &HeaderValue) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    for (begin, end) in ranges {
        let line = section.get(begin..end).unwrap_or_default();
        let (name, from, to) = split(line)?;
        let (from, to) = (begin.saturating_add(from), begin.saturating_add(to));
        let value = HeaderValue::from_maybe_shared(section.slice(from..to))
            .map_err(|_invalid| Fault::Malformed("a control byte in a field value"))?;
        if look(&name, &value)? {
            let _more = fields
                .try_append(name, value)
                .map_err(|_full| Fault::TooManyFields)?;
        }
    }
    Ok(())
}

/// Refuses a line that cannot be one, before its section is whole.
pub(super) fn check(line: &[u8]) -> Result<(), Fault> {
    let (_name, from, to) = split(line)?;
    let value = line.get(from..to).unwrap_or_default();
    if value.iter().any(|byte| is_control(*byte) && *byte != b'\t') {
        return Err(Fault::Malformed("a control byte in a field value"));
    }
    Ok(())
}

/// The name, and where in the line the value begins and ends.
fn split(line: &[u8]) -> Result<(HeaderName, usize, usize), Fault> {
    // Names are short: a plain search is over before a fast one has begun.
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(match line {
            [b' ' | b'\t', ..] => Fault::Malformed("a folded field line"),
            _ => Fault::Malformed("a field line without a colon"),
        });
    };
    let name = line.get(..colon).unwrap_or_default();
    let name = match names::known(name) {
        Some(name) => name,
        None => HeaderName::from_bytes(name).map_err(|_invalid| misnamed(name))?,
    };
    let mut from = colon.saturating_add(1);
    let mut to = line.len();
    while let Some(b' ' | b'\t') = line.get(from) {
        from = from.saturating_add(1);
    }
    while to > from
        && let Some(b' ' | b'\t') = line.get(to.saturating_sub(1))
    {
        to = to.saturating_sub(1);
    }
    Ok((name, from, to))
}

fn misnamed(name: &[u8]) -> Fault {
    Fault::Malformed(match name {
        [] => "a field without a name",
        [b' ' | b'\t', ..] => "a folded field line",
        [.., b' ' | b'\t'] => "a space before the colon of a field",
        _ => "a field name that is no token",
    })
}

/// C0 controls and DEL.
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
        | b'|' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

/// Whether `text` is a token.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}
