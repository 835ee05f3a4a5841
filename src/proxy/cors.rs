//! The CORS protocol of the Fetch standard, for routes that have `cors`.
//!
//! `handle` answers preflights with `preflight`, `edge` finishes every answer of the route with
//! `finish`. Headgate is the authority: what an endpoint says about other origins is replaced.
//! Invariant: where the answer depends on `Origin`, it says so in `Vary`, whether allowed or not.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::config::model::{Cors, OriginPattern, Origins};
use crate::wire::fields::vary;

use super::outbound::Stream;

const OURS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// The method that a preflight asks for.
pub(super) fn asked(request: &Parts) -> Option<Method> {
    if request.method != Method::OPTIONS || !request.headers.contains_key(ORIGIN) {
        return None;
    }
    let method = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

/// The answer to a preflight; `finish` adds what it allows.
pub(super) fn preflight() -> Response<Stream> {
    let mut response = Response::new(Stream::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Says in an answer who may read it.
pub(super) fn finish(rule: &Cors, request: &Parts, headers: &mut HeaderMap) {
    for name in &OURS {
        headers.remove(name);
    }
    let preflight = asked(request);
    let constant = matches!(rule.origins, Origins::Any) && !rule.credentials;
    if !constant {
        vary(headers, &ORIGIN);
    }
    if preflight.is_some() {
        vary(headers, &ACCESS_CONTROL_REQUEST_METHOD);
        vary(headers, &ACCESS_CONTROL_REQUEST_HEADERS);
    }
    let Some(origin) = allowed(rule, &request.headers) else {
        return;
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if rule.credentials {
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    let mut say = |name: HeaderName, value: Option<&HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    };
    if preflight.is_some() {
        say(ACCESS_CONTROL_ALLOW_METHODS, Some(&rule.allow_methods));
        say(ACCESS_CONTROL_ALLOW_HEADERS, rule.allow_headers.as_ref());
        say(ACCESS_CONTROL_MAX_AGE, rule.max_age.as_ref());
    } else {
        say(ACCESS_CONTROL_EXPOSE_HEADERS, rule.expose.as_ref());
    }
}

/// The value of `Access-Control-Allow-Origin`, if there is to be one.
fn allowed(rule: &Cors, fields: &HeaderMap) -> Option<HeaderValue> {
    let patterns = match &rule.origins {
        Origins::Any => return Some(HeaderValue::from_static("*")),
        Origins::Of(patterns) => patterns,
    };
    let mut origins = fields.get_all(ORIGIN).iter();
    let origin = origins.next()?;
    if origins.next().is_some() {
        return None;
    }
    let text = origin.to_str().ok()?;
    let fits = patterns.iter().any(|pattern| match pattern {
        OriginPattern::Exact(exact) => **exact == *text,
        OriginPattern::Below { scheme, suffix } => text
            .strip_prefix(&**scheme)
            .and_then(|rest| rest.strip_suffix(&**suffix))
            .is_some_and(is_labels),
    });
    fits.then(|| origin.clone())
}

/// One or more labels of a host name.
fn is_labels(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::VARY;

    fn rule(origins: Origins, credentials: bool) -> Cors {
        Cors {
            origins,
            methods: vec![Method::PUT],
            allow_methods: HeaderValue::from_static("PUT"),
            allow_headers: Some(HeaderValue::from_static("x-a")),
            expose: Some(HeaderValue::from_static("x-b")),
            credentials,
            max_age: Some(HeaderValue::from_static("600")),
        }
    }

    fn finished(rule: &Cors, method: &str, fields: &[(&str, &str)]) -> HeaderMap {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("https://of.endpoint"),
        );
        headers.insert(VARY, HeaderValue::from_static("Accept, origin"));
        finish(rule, &parts, &mut headers);
        headers
    }

    fn of() -> Origins {
        Origins::Of(vec![
            OriginPattern::Exact("https://a.example".into()),
            OriginPattern::Below {
                scheme: "https://".into(),
                suffix: ".b.example:81".into(),
            },
        ])
    }

    #[test]
    fn an_origin_must_be_named_or_stand_below_a_named_domain() {
        for (origin, allowed) in [
            ("https://a.example", true),
            ("https://x.b.example:81", true),
            ("https://x.y.b.example:81", true),
            ("http://a.example", false),
            ("https://a.example.evil", false),
            ("https://xa.example", false),
            ("https://b.example:81", false),
            ("https://evil/.b.example:81", false),
            ("https://evil:1.b.example:81", false),
            ("https://.b.example:81", false),
            ("https://u@x.b.example:81", false),
            ("https://A.example", false),
            ("null", false),
        ] {
            let headers = finished(&rule(of(), true), "GET", &[("origin", origin)]);
            let told = headers
                .get(ACCESS_CONTROL_ALLOW_ORIGIN)
                .map(|v| v.to_str().unwrap());
            assert_eq!(told, allowed.then_some(origin), "{origin}");
            assert_eq!(
                headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS),
                allowed
            );
            assert_eq!(
                headers.get_all(VARY).iter().collect::<Vec<_>>(),
                ["Accept, origin"]
            );
        }
    }

    #[test]
    fn everybody_gets_a_constant_answer() {
        let headers = finished(&rule(Origins::Any, false), "GET", &[]);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "x-b");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }

    #[test]
    fn a_preflight_is_told_what_it_may_send() {
        let fields = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "PUT"),
        ];
        let headers = finished(&rule(of(), false), "OPTIONS", &fields);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "x-a");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "600");
        assert!(!headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
        assert_eq!(headers.get_all(VARY).iter().count(), 3);
    }

    #[test]
    fn two_origins_are_none() {
        let fields = [
            ("origin", "https://a.example"),
            ("origin", "https://a.example"),
        ];
        let headers = finished(&rule(of(), false), "GET", &fields);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }
}
