//! Which kind of device a client is: what a route may tell answers apart by.
//!
//! `key` asks, and `proxy` for every request of such a route that goes to an endpoint. The client hint counts before the words of `User-Agent` by which browsers tell: phones say
//! `Mobi`, tablets do not, though they name a system of phones. Endpoints are told the class in
//! `X-Device-Class`, so that they need not come to another opinion.

use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};

/// How endpoints are told.
const X_DEVICE_CLASS: HeaderName = HeaderName::from_static("x-device-class");

const SEC_CH_UA_MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");

/// Tells the endpoint the class of the client's device, whatever the client has said of it.
pub fn tell_device(request: &HeaderMap, sent: &mut HeaderMap) {
    sent.insert(X_DEVICE_CLASS, HeaderValue::from_static(class(request)));
}

/// `desktop`, `mobile` or `tablet`.
pub(super) fn class(request: &HeaderMap) -> &'static str {
    let agent = request
        .get(USER_AGENT)
        .map_or(&b""[..], |agent| agent.as_bytes());
    let says = |word: &[u8]| memchr::memmem::find(agent, word).is_some();
    let is_tablet = says(b"iPad") || says(b"Tablet") || (says(b"Android") && !says(b"Mobi"));
    match request.get(SEC_CH_UA_MOBILE).map(|hint| hint.as_bytes()) {
        Some(b"?1") => "mobile",
        _ if is_tablet => "tablet",
        Some(b"?0") => "desktop",
        _ if says(b"Mobi") => "mobile",
        _ => "desktop",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_by_what_browsers_say() {
        let of = |agent: &'static str, hint: Option<&'static str>| {
            let mut request = HeaderMap::new();
            request.insert(USER_AGENT, agent.parse().unwrap());
            if let Some(hint) = hint {
                request.insert(SEC_CH_UA_MOBILE, hint.parse().unwrap());
            }
            class(&request)
        };
        assert_eq!(
            of("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", None),
            "desktop"
        );
        assert_eq!(
            of(
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Mobile/15E148",
                None
            ),
            "mobile"
        );
        assert_eq!(
            of(
                "Mozilla/5.0 (Linux; Android 15; Pixel 9) Mobile Safari",
                None
            ),
            "mobile"
        );
        assert_eq!(
            of("Mozilla/5.0 (Linux; Android 15; SM-X910) Safari", None),
            "tablet"
        );
        assert_eq!(
            of("Mozilla/5.0 (iPad; CPU OS 18_0) Mobile/15E148", None),
            "tablet"
        );
        assert_eq!(of("Mozilla/5.0 (X11; Linux x86_64)", Some("?1")), "mobile");
        assert_eq!(
            of("Mozilla/5.0 (Linux; Android 15) Mobi", Some("?0")),
            "desktop"
        );
        assert_eq!(class(&HeaderMap::new()), "desktop");
    }
}
