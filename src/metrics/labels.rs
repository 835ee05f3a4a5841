//! The values that labels may take when they do not come from the configuration.
//!
//! Enums, so that no request can invent a series, and dense, so that a value is an index into a
//! table of cells. Methods outside the known list become `_OTHER`, as OpenTelemetry has it; statuses
//! outside the list become their class (`2xx`), so that `code=~"5.."` holds for every one.

use http::{Method, StatusCode};

macro_rules! labels {
    ($(#[$doc:meta])* $enum:ident { $($(#[$variant_doc:meta])* $variant:ident $text:literal)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $enum {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $enum {
            /// Every value, in the order of the cells.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// How many values there are.
            pub(super) const COUNT: usize = Self::ALL.len();

            /// The label's text, also for logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

labels! {
    /// Why an exchange with an upstream failed: the error types of RFC 9209 section 2.3 that a
    /// reverse proxy can meet.
    ProxyError {
        /// A name took too long to resolve.
        DnsTimeout "dns_timeout"
        /// A name did not resolve.
        DnsError "dns_error"
        /// No endpoint is configured for the request.
        DestinationNotFound "destination_not_found"
        /// Every endpoint is out.
        DestinationUnavailable "destination_unavailable"
        /// There is no route to the endpoint's address.
        DestinationIpUnroutable "destination_ip_unroutable"
        /// The endpoint refused the connection.
        ConnectionRefused "connection_refused"
        /// The connection broke before the answer was whole.
        ConnectionTerminated "connection_terminated"
        /// Connecting took too long.
        ConnectionTimeout "connection_timeout"
        /// The endpoint was silent for too long within its answer.
        ConnectionReadTimeout "connection_read_timeout"
        /// The endpoint did not take the request in time.
        ConnectionWriteTimeout "connection_write_timeout"
        /// Headgate will not open more connections.
        ConnectionLimitReached "connection_limit_reached"
        /// The TLS handshake failed.
        TlsProtocolError "tls_protocol_error"
        /// The endpoint's certificate was not accepted.
        TlsCertificateError "tls_certificate_error"
        /// The endpoint sent a TLS alert.
        TlsAlertReceived "tls_alert_received"
        /// The request could not be sent as it was.
        HttpRequestError "http_request_error"
        /// The answer ended too early.
        HttpResponseIncomplete "http_response_incomplete"
        /// The answer's header section is too large.
        HttpResponseHeaderSectionSize "http_response_header_section_size"
        /// The answer's body is too large.
        HttpResponseBodySize "http_response_body_size"
        /// The answer's transfer coding is not understood.
        HttpResponseTransferCoding "http_response_transfer_coding"
        /// The answer's body is not what its content coding says.
        HttpResponseContentCoding "http_response_content_coding"
        /// The answer's head took too long.
        HttpResponseTimeout "http_response_timeout"
        /// The endpoint and the client did not agree on an upgrade.
        HttpUpgradeFailed "http_upgrade_failed"
        /// The answer was not HTTP.
        HttpProtocolError "http_protocol_error"
        /// A fault of Headgate.
        ProxyInternalError "proxy_internal_error"
        /// A fault of the configuration.
        ProxyConfigurationError "proxy_configuration_error"
        /// The request went through this Headgate before.
        ProxyLoopDetected "proxy_loop_detected"
    }
}

labels! {
    /// Why a request on a caching route was not answered through the cache at all.
    CacheBypass {
        /// Neither `GET` nor `HEAD`, or a `HEAD` with nothing stored that answers it.
        Method "method"
        /// `Range`, on a route that passes it on, and what came is not one part.
        Range "range"
        /// `If-Match` or `If-Unmodified-Since`: for the origin alone to judge (RFC 9111 section 4.3.2).
        Precondition "precondition"
        /// `Authorization`: the answer may be personal.
        Authorization "authorization"
        /// `Upgrade`: what follows may not be HTTP.
        Upgrade "upgrade"
        /// A body on a `GET` or `HEAD`: the key does not cover it.
        RequestBody "request-body"
        /// `Cache-Control: no-store` of the request.
        RequestNoStore "request-no-store"
        /// No room within `cache.memory`, or to decompress what is stored.
        Memory "memory"
        /// What is stored is in a coding that the client does not take, and `no-transform` forbids to
        /// decompress it.
        NoTransform "no-transform"
        /// An answer for this URL was found uncacheable a moment ago.
        Uncacheable "uncacheable"
        /// The stored answer may never be reused unasked, and another request is asking already.
        Revalidating "revalidating"
    }
}

labels! {
    /// Why an answer on a caching route was not stored.
    CacheRefusal {
        /// Its status is not one that this cache stores, or not without a stated lifetime.
        Status "status"
        /// `no-store`.
        NoStore "no-store"
        /// `private`.
        Private "private"
        /// `Set-Cookie`, and the route does not say to strip it.
        SetCookie "set-cookie"
        /// The request had `Authorization`, and the answer does not say that it is for all (RFC 9111
        /// section 3.5).
        Authorization "authorization"
        /// The request had a cookie that the route does not name, and the answer does not say that it is
        /// for all.
        Cookie "cookie"
        /// More tags and groups than are kept.
        Tags "tags"
        /// `Vary: *`, or one that cannot be read.
        Vary "vary"
        /// Never fresh and without a validator, or fresh for nobody but the one who asked.
        NotReusable "not-reusable"
        /// A part without a strong validator, or one that says too little of the whole.
        Partial "partial"
        /// Larger than `cache.max_object`.
        TooLarge "too-large"
        /// No room within `cache.memory`.
        Memory "memory"
        /// It is stored in a coding that this client does not take, and `no-transform` forbids to decompress
        /// it.
        NoTransform "no-transform"
    }
}

labels! {
    /// What the cache made of a request on a caching route.
    CacheResult {
        /// A fresh stored answer was sent.
        Hit "hit"
        /// A stale stored answer was sent.
        Stale "stale"
        /// Nothing stored fitted; the upstream was asked.
        Miss "miss"
        /// A stored answer was confirmed by the upstream and sent.
        Revalidated "revalidated"
        /// Answered by the fetch of another request that came first.
        Collapsed "collapsed"
        /// The cache was not asked, or may not store.
        Bypass "bypass"
    }
}

labels! {
    /// What an operator's purge was for.
    PurgeKind {
        /// A URL with all its variants.
        Url "url"
        /// All URLs that begin so.
        Prefix "prefix"
        /// A tag.
        Tag "tag"
        /// A host.
        Host "host"
        /// Everything.
        All "all"
    }
}

labels! {
    /// What a purge leaves.
    PurgeStrength {
        /// Nothing.
        Hard "hard"
        /// Stale answers.
        Soft "soft"
    }
}

labels! {
    /// Why a client's connection ended.
    CloseReason {
        /// The client closed it.
        Client "client"
        /// Headgate closed it after a complete answer, as it had announced.
        Complete "complete"
        /// Headgate is draining.
        Drain "drain"
        /// A request's head took too long.
        HeaderTimeout "header_timeout"
        /// No request came.
        IdleTimeout "idle_timeout"
        /// A request's body stalled.
        BodyTimeout "body_timeout"
        /// The client did not take its answer.
        SlowReader "slow_reader"
        /// The client did not speak HTTP, or ambiguously.
        Malformed "malformed"
        /// The client sent too much of what is allowed in itself, over HTTP/2.
        Flood "flood"
        /// The TLS handshake failed.
        TlsHandshake "tls_handshake"
        /// The TLS handshake took too long.
        TlsTimeout "tls_timeout"
        /// A trusted proxy did not send a PROXY protocol header.
        ProxyHeader "proxy_header"
        /// A trusted proxy's PROXY protocol header took too long.
        ProxyHeaderTimeout "proxy_header_timeout"
        /// There were too many connections.
        ConnectionLimit "connection_limit"
        /// There were too many connections from the client's address.
        AddressLimit "address_limit"
        /// The connection broke.
        Io "io_error"
        /// The upstream broke off an answer that had begun.
        Upstream "upstream"
        /// A fault of Headgate.
        Internal "internal_error"
    }
}

labels! {
    /// What a client sent too much of over HTTP/2.
    Http2Flood {
        /// Requests that it took back.
        Reset "reset"
        /// Faults for which Headgate had to reset its streams.
        ProvokedReset "provoked_reset"
        /// PING.
        Ping "ping"
        /// SETTINGS.
        Settings "settings"
        /// PRIORITY.
        Priority "priority"
        /// WINDOW_UPDATE.
        WindowUpdate "window_update"
        /// DATA with little or nothing in it.
        SmallData "small_data"
        /// CONTINUATION.
        Continuation "continuation"
        /// Header fields.
        Fields "fields"
        /// Frames of unknown types.
        Unknown "unknown"
        /// Answers that it asked for and gave no window for.
        ClosedWindow "closed_window"
    }
}

labels! {
    /// The codes of RFC 9113 section 7.
    Http2Code {
        /// 0
        NoError "no_error"
        /// 1
        ProtocolError "protocol_error"
        /// 2
        InternalError "internal_error"
        /// 3
        FlowControlError "flow_control_error"
        /// 4
        SettingsTimeout "settings_timeout"
        /// 5
        StreamClosed "stream_closed"
        /// 6
        FrameSizeError "frame_size_error"
        /// 7
        RefusedStream "refused_stream"
        /// 8
        Cancel "cancel"
        /// 9
        CompressionError "compression_error"
        /// 10
        ConnectError "connect_error"
        /// 11
        EnhanceYourCalm "enhance_your_calm"
        /// 12
        InadequateSecurity "inadequate_security"
        /// 13
        Http11Required "http_1_1_required"
    }
}

labels! {
    /// Which side of a connection did something.
    Side {
        /// The client.
        Client "client"
        /// Headgate.
        Headgate "headgate"
    }
}

labels! {
    /// Who ended a tunnel.
    TunnelEnd {
        /// The client.
        Client "client"
        /// The endpoint.
        Upstream "upstream"
        /// Nobody said anything for too long.
        Idle "idle"
        /// The endpoint's connection broke.
        Error "error"
        /// A reload had removed its route or its endpoint.
        Removed "removed"
    }
}

labels! {
    /// Why Headgate answered with an error of its own.
    RejectReason {
        /// The request is ambiguous or not HTTP.
        Malformed "malformed"
        /// The request's head is too large.
        HeaderTooLarge "header_too_large"
        /// The request's body is too large.
        BodyTooLarge "body_too_large"
        /// The connection's client certificate was asked for by another host.
        Misdirected "misdirected"
        /// No route takes it.
        NoRoute "no_route"
        /// There is no such file, or none that may be seen.
        NoFile "no_file"
        /// The route does not answer this method.
        MethodNotAllowed "method_not_allowed"
        /// A policy refused it.
        Denied "denied"
        /// A rate limit refused it.
        RateLimited "rate_limited"
        /// The shard key is missing.
        ShardKeyMissing "shard_key_missing"
        /// The shard key is malformed or owned by no shard.
        ShardKeyInvalid "shard_key_invalid"
        /// Only a stored answer would do, and there is none (`only-if-cached`).
        NotCached "not_cached"
        /// An upgrade that is not supported.
        UpgradeRefused "upgrade_refused"
        /// Every endpoint is out.
        NoEndpoint "no_endpoint"
        /// The upstream failed, or did for others when this request waited for their fetches.
        UpstreamFailed "upstream_failed"
        /// The upstream took too long.
        UpstreamTimeout "upstream_timeout"
        /// The request's body took too long.
        RequestTimeout "request_timeout"
        /// Headgate is at a limit of its own.
        Overloaded "overloaded"
        /// The request came back to Headgate through its own upstream.
        Loop "loop"
        /// A fault of Headgate.
        Internal "internal_error"
    }
}

/// Method labels; the last one stands for every other method.
pub(super) const METHODS: [&str; 11] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY",
    "_OTHER",
];

/// Index of a method in `METHODS`.
#[inline]
pub(super) fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::PATCH => 5,
        Method::OPTIONS => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        Method::QUERY => 9,
        _ => 10,
    }
}

/// Final statuses that get a cell of their own; 499 is a client that left.
const CODES: [u16; FIRST_CLASS as usize] = [
    101, 200, 201, 202, 203, 204, 205, 206, 207, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402,
    403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424,
    425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];

/// How many cells are a status's own; the first cell of `CLASSES`.
const FIRST_CLASS: u8 = 56;

/// Labels of the cells after `CODES`: the rest of each class, and statuses of no class.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "_OTHER"];

/// How many cells a status can fall in.
pub(super) const CODE_CELLS: usize = CODES.len() + CLASSES.len();

/// Cell of each status from 100 to 599.
const CODE_INDEX: [u8; 500] = {
    let mut table = [0; 500];
    let mut status = 0;
    let mut class = FIRST_CLASS;
    while status < table.len() {
        if status > 0 && status % 100 == 0 {
            class += 1;
        }
        table[status] = class;
        status += 1;
    }
    let mut index: u8 = 0;
    while (index as usize) < CODES.len() {
        table[CODES[index as usize] as usize - 100] = index;
        index += 1;
    }
    table
};

/// Cell of a status.
#[inline]
pub(super) fn code_index(status: StatusCode) -> usize {
    // A `StatusCode` is never below 100.
    match CODE_INDEX.get(usize::from(status.as_u16()) - 100) {
        Some(index) => usize::from(*index),
        None => CODE_CELLS - 1,
    }
}

/// Label of a cell of `code_index`.
pub(super) fn code_label(index: usize) -> String {
    match CODES.get(index) {
        Some(code) => code.to_string(),
        None => CLASSES[(index - CODES.len()).min(CLASSES.len() - 1)].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_has_its_own_label() {
        for (index, name) in METHODS.iter().enumerate() {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(method_index(&method), index, "{name}");
        }
        assert_eq!(
            METHODS[method_index(&Method::from_bytes(b"PURGE").unwrap())],
            "_OTHER"
        );
        assert_eq!(
            METHODS[method_index(&Method::from_bytes(b"get").unwrap())],
            "_OTHER"
        );
    }

    #[test]
    fn a_status_is_labelled_exactly_or_by_its_class() {
        for status in 100..1000 {
            let label = code_label(code_index(StatusCode::from_u16(status).unwrap()));
            let expected = match status {
                _ if CODES.contains(&status) => status.to_string(),
                100..600 => format!("{}xx", status / 100),
                _ => "_OTHER".to_owned(),
            };
            assert_eq!(label, expected, "{status}");
        }
    }

    #[test]
    fn label_texts_are_unique_words() {
        fn check(texts: &[&str]) {
            for (index, text) in texts.iter().enumerate() {
                assert!(
                    text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{text}"
                );
                assert!(!texts[..index].contains(text), "{text} stands twice");
            }
        }
        check(
            &ProxyError::ALL
                .iter()
                .map(|v| v.as_str())
                .collect::<Vec<_>>(),
        );
        check(
            &CacheResult::ALL
                .iter()
                .map(|v| v.as_str())
                .collect::<Vec<_>>(),
        );
        check(
            &TunnelEnd::ALL
                .iter()
                .map(|v| v.as_str())
                .collect::<Vec<_>>(),
        );
        check(
            &CloseReason::ALL
                .iter()
                .map(|v| v.as_str())
                .collect::<Vec<_>>(),
        );
        check(
            &RejectReason::ALL
                .iter()
                .map(|v| v.as_str())
                .collect::<Vec<_>>(),
        );
    }
}
