//! Stickiness by cookie.
//!
//! The cookie's value is a keyed hash (HMAC-SHA-256, 128 bits kept) of upstream and endpoint
//! address, worked out once per endpoint when a config is compiled; a request only compares it.
//! Invariant: a value reveals no address, and none can be made without the key. With a key from the
//! config the same endpoint has the same value after a restart and on every instance.

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use http::HeaderValue;

const VALUE_BYTES: usize = 16;

/// The cookie of one upstream.
#[derive(Debug)]
pub struct Sticky {
    name: Arc<str>,
    /// By member index, hexadecimal.
    values: Box<[Box<[u8]>]>,
    plain: Box<[HeaderValue]>,
    secure: Box<[HeaderValue]>,
}

impl Sticky {
    /// The cookie `name` for the endpoints of `upstream` (their addresses, in member order).
    #[must_use]
    pub fn new(name: &Arc<str>, key: &[u8], upstream: &str, addresses: &[Arc<str>]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let values: Box<[Box<[u8]>]> = addresses
            .iter()
            .map(|address| value(&key, upstream, address))
            .collect();
        let cookie = |value: &[u8], tail: &str| {
            let mut text = Vec::from(name.as_bytes());
            text.push(b'=');
            text.extend_from_slice(value);
            text.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax");
            text.extend_from_slice(tail.as_bytes());
            HeaderValue::from_bytes(&text).unwrap_or_else(|_invalid| HeaderValue::from_static(""))
        };
        Self {
            name: Arc::clone(name),
            plain: values.iter().map(|value| cookie(value, "")).collect(),
            secure: values
                .iter()
                .map(|value| cookie(value, "; Secure"))
                .collect(),
            values,
        }
    }

    /// The name of the cookie.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The member whose value the client sent, if any.
    #[must_use]
    pub fn member<'a>(&self, cookies: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
        cookies
            .flat_map(|field| field.split(|byte| *byte == b';'))
            .find_map(|pair| {
                let pair = pair.trim_ascii();
                let sent = pair
                    .strip_prefix(self.name.as_bytes())?
                    .strip_prefix(b"=")?;
                self.values
                    .iter()
                    .position(|value| constant_time::verify_slices_are_equal(value, sent).is_ok())
            })
    }

    /// The `Set-Cookie` value that binds a client to this member.
    #[must_use]
    pub fn cookie(&self, member: usize, secure: bool) -> Option<&HeaderValue> {
        if secure {
            self.secure.get(member)
        } else {
            self.plain.get(member)
        }
    }
}

fn value(key: &hmac::Key, upstream: &str, address: &str) -> Box<[u8]> {
    let mut context = hmac::Context::with_key(key);
    context.update(upstream.as_bytes());
    // Not part of either, so that no two pairs read the same.
    context.update(&[0]);
    context.update(address.as_bytes());
    let tag = context.sign();
    let digits = b"0123456789abcdef";
    tag.as_ref()
        .iter()
        .take(VALUE_BYTES)
        .flat_map(|byte| {
            [
                digits[usize::from(byte >> 4)],
                digits[usize::from(byte & 15)],
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky(key: &[u8]) -> Sticky {
        Sticky::new(
            &"DAB_ROUTE".into(),
            key,
            "shop",
            &["10.0.0.1:80".into(), "10.0.0.2:80".into()],
        )
    }

    fn sent(sticky: &Sticky, header: &str) -> Option<usize> {
        sticky.member([header.as_bytes()].into_iter())
    }

    #[test]
    fn the_value_set_is_the_value_recognised_among_other_cookies() {
        let sticky = sticky(b"0123456789abcdef");
        let set = sticky.cookie(1, false).unwrap().to_str().unwrap();
        let pair = set.split(';').next().unwrap();
        assert_eq!(sent(&sticky, &format!("a=b;  {pair} ; c=d")), Some(1));
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"));
        assert!(
            sticky
                .cookie(1, true)
                .unwrap()
                .to_str()
                .unwrap()
                .ends_with("; Secure")
        );
    }

    #[test]
    fn an_address_a_foreign_value_and_a_longer_name_are_not_accepted() {
        let ours = sticky(b"0123456789abcdef");
        let other = sticky(b"another key, 16+");
        let foreign = other
            .cookie(0, false)
            .unwrap()
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        assert_eq!(sent(&ours, foreign), None);
        assert_eq!(sent(&ours, "DAB_ROUTE=10.0.0.1:80"), None);
        assert_eq!(sent(&ours, "DAB_ROUTE="), None);
        let own = ours
            .cookie(0, false)
            .unwrap()
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        assert_eq!(sent(&ours, &format!("X{own}")), None);
        assert!(!own.contains("10.0.0.1"));
    }
}
