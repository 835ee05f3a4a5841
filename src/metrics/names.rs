//! The one table of metric families: name, kind, labels, help.
//!
//! Every family that Headgate exposes stands here and nowhere else; `families` fills those whose
//! cells live in this room, and other rooms fill theirs through `Sink` when a scrape pulls them.
//! Names follow Prometheus' rules: prefix, base units, `_total` on counters. Label values come from
//! the configuration or from the enums of `labels`, never from a request.

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations, with the bounds of `cells::BOUNDS`.
    Histogram,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// As a scrape shows it.
    pub name: &'static str,
    /// What its samples are.
    pub kind: Kind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence for the operator.
    pub help: &'static str,
}

macro_rules! families {
    ($($variant:ident $kind:ident $name:literal [$($label:literal),*] $help:literal)*) => {
        /// Every metric family of Headgate.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Name {
            $(#[doc = concat!("`", $name, "`: ", $help)] $variant,)*
        }

        impl Name {
            /// All names, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The line of the table.
            pub const fn family(self) -> Family {
                match self {
                    $(Self::$variant => Family {
                        name: $name,
                        kind: Kind::$kind,
                        labels: &[$($label),*],
                        help: $help,
                    },)*
                }
            }
        }
    };
}

families! {
    HttpRequests Counter "headgate_http_requests_total" ["route", "method", "code"]
        "Answered requests; 499 is a client that left before the answer's head."
    HttpRequestDuration Histogram "headgate_http_request_duration_seconds" ["route"]
        "From a request's head to the end of its answer."
    HttpResponseBytes Counter "headgate_http_response_bytes_total" ["route"]
        "Bytes of answer bodies sent to clients."
    HttpInFlight Gauge "headgate_http_in_flight_requests" ["route"]
        "Requests that are being served now."
    UpstreamRequestDuration Histogram "headgate_upstream_request_duration_seconds" ["upstream", "endpoint"]
        "From sending a request to an endpoint to the head of its answer."
    UpstreamConnectDuration Histogram "headgate_upstream_connect_duration_seconds" ["upstream"]
        "Time to connect to an endpoint, handshakes included."
    UpstreamEndpointUp Gauge "headgate_upstream_endpoint_up" ["upstream", "endpoint"]
        "1 if the endpoint takes requests, 0 if it is out."
    UpstreamInFlight Gauge "headgate_upstream_in_flight_requests" ["upstream", "endpoint"]
        "Requests that the endpoint is serving now."
    UpstreamConnections Counter "headgate_upstream_connections_total" ["upstream", "endpoint"]
        "Connections opened to the endpoint."
    UpstreamConnectionsIdle Gauge "headgate_upstream_connections_idle" ["upstream", "endpoint"]
        "Connections to the endpoint that are kept for the next request."
    UpstreamErrors Counter "headgate_upstream_errors_total" ["upstream", "reason"]
        "Exchanges that failed, by the error types of RFC 9209."
    Retries Counter "headgate_retries_total" ["upstream", "reason"]
        "Exchanges that were tried again, by why the one before failed."
    UpstreamStreamWaits Counter "headgate_upstream_stream_waits_total" ["upstream", "outcome"]
        "Requests that waited for a free stream of an HTTP/2 connection."
    UpstreamInformationalDropped Counter "headgate_upstream_informational_dropped_total" ["upstream"]
        "Informational answers (1xx) that were not passed on to a client."
    UpstreamTunnelsOpen Gauge "headgate_upstream_tunnels_open" ["upstream"]
        "Tunnels (WebSocket and the like) that are open now."
    UpstreamTunnels Counter "headgate_upstream_tunnels_total" ["upstream", "reason"]
        "Tunnels that ended, by who or what ended them."
    CacheRequests Counter "headgate_cache_requests_total" ["route", "result"]
        "Requests on caching routes, by what the cache made of them."
    CacheBypasses Counter "headgate_cache_bypasses_total" ["route", "reason"]
        "Requests on caching routes that went past the cache, by why."
    CacheRefusals Counter "headgate_cache_refusals_total" ["route", "reason"]
        "Answers on caching routes that were not stored, by why."
    CacheBytes Gauge "headgate_cache_bytes" []
        "Bytes stored, filling and still being read."
    CacheLimitBytes Gauge "headgate_cache_limit_bytes" []
        "Bytes that the cache may use."
    CacheEntries Gauge "headgate_cache_entries" []
        "Stored answers."
    CacheEvictions Counter "headgate_cache_evictions_total" []
        "Stored answers that had to make room."
    CacheDiskUp Gauge "headgate_cache_disk_up" []
        "1 if the cache uses its disk, 0 if it does without since an error."
    CacheDiskBytes Gauge "headgate_cache_disk_bytes" []
        "Bytes of the cache's files, in blocks of 4 KiB."
    CacheDiskLimitBytes Gauge "headgate_cache_disk_limit_bytes" []
        "Bytes that the cache's files may take."
    CacheDiskObjects Gauge "headgate_cache_disk_objects" []
        "Stored answers on disk."
    CacheDiskHits Counter "headgate_cache_disk_hits_total" []
        "Fetches that the disk answered."
    CacheDiskWrites Counter "headgate_cache_disk_writes_total" []
        "Answers that were written to disk."
    CacheDiskDropped Counter "headgate_cache_disk_dropped_total" []
        "Answers that were not written to disk because too many waited."
    CacheDiskEvictions Counter "headgate_cache_disk_evictions_total" []
        "Stored answers on disk that had to make room."
    CacheDiskDamaged Counter "headgate_cache_disk_damaged_total" []
        "Files of the cache that were not as they were written, and were deleted."
    CachePurges Counter "headgate_cache_purges_total" ["selector", "strength"]
        "Purges by operators, by what they were for and what they leave."
    Connections Counter "headgate_connections_total" ["listener"]
        "Accepted connections."
    ConnectionsOpen Gauge "headgate_connections_open" ["listener"]
        "Connections of clients that are open now."
    ConnectionsLimit Gauge "headgate_connections_limit" []
        "Most connections of clients that may be open."
    ConnectionsClosed Counter "headgate_connections_closed_total" ["reason"]
        "Connections of clients that ended, by why."
    Http2Streams Counter "headgate_http2_streams_total" []
        "Streams that clients opened over HTTP/2 and whose requests were looked at."
    Http2Resets Counter "headgate_http2_resets_total" ["by"]
        "Streams that were reset over HTTP/2, by who did it."
    Http2GoAways Counter "headgate_http2_goaways_total" ["code"]
        "GOAWAY frames that were sent, by their code."
    Http2Floods Counter "headgate_http2_floods_total" ["kind"]
        "Too much of something that is allowed in itself, over HTTP/2."
    TlsCertificateNotAfter Gauge "headgate_tls_certificate_not_after_timestamp_seconds" ["listener", "certificate"]
        "When a certificate ends, since the Unix epoch; one that was issued is on all listeners."
    TlsFileReloadFailed Gauge "headgate_tls_file_reload_failed" ["listener", "file"]
        "1 if the newest content of a TLS file is not in force, because it cannot be used."
    Rejects Counter "headgate_rejects_total" ["reason"]
        "Requests that Headgate answered itself with an error, by why."
    FilesRefused Counter "headgate_files_refused_total" []
        "Requests for files that were refused because the disk was behind."
    CompressionRefused Counter "headgate_compression_refused_total" []
        "Answers that went out plain because too much was being compressed."
    ConfigLastReloadSuccessful Gauge "headgate_config_last_reload_successful" []
        "1 if the last attempt to load the configuration succeeded."
    ConfigLastReloadSuccessTimestamp Gauge "headgate_config_last_reload_success_timestamp_seconds" []
        "When the configuration in force was loaded, since the Unix epoch."
    ConfigReloads Counter "headgate_config_reloads_total" ["outcome"]
        "Attempts to reload the configuration."
    ConfigGeneration Gauge "headgate_config_generation" []
        "Number of the configuration in force; grows by one with each successful load."
    ConfigInfo Gauge "headgate_config_info" ["sha256"]
        "Always 1; the digest of the configuration in force."
    AccessLogDropped Counter "headgate_access_log_dropped_total" []
        "Access log lines that were given up: the sink was too slow or failed."
    Panics Counter "headgate_panics_total" []
        "Panics that were caught; each is a bug."
    HealthChecks Counter "headgate_health_checks_total" ["upstream", "endpoint", "result"]
        "Active checks, by result."
    HealthTransitions Counter "headgate_health_transitions_total" ["upstream", "endpoint", "to"]
        "Changes of an endpoint's health, by the new state."
    AcmeOrders Counter "headgate_acme_orders_total" ["certificate", "result"]
        "Attempts to obtain or renew a certificate, by result."
    AcmeLastOrderSuccessful Gauge "headgate_acme_last_order_successful" ["certificate"]
        "1 if the last attempt to obtain or renew the certificate succeeded; absent before the first."
    AcmeNextOrderTimestamp Gauge "headgate_acme_next_order_timestamp_seconds" ["certificate"]
        "When the next attempt is planned, since the Unix epoch."
    BuildInfo Gauge "headgate_build_info" ["version", "os", "arch"]
        "Always 1; what is running."
    Workers Gauge "headgate_workers" []
        "Threads that serve requests."
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_naming_rules() {
        let mut seen = HashSet::new();
        for (index, name) in Name::ALL.iter().enumerate() {
            let family = name.family();
            assert_eq!(*name as usize, index, "{}", family.name);
            assert!(seen.insert(family.name), "{} stands twice", family.name);
            assert!(family.name.starts_with("headgate_"), "{}", family.name);
            assert_eq!(
                family.kind == Kind::Counter,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
            if family.kind == Kind::Histogram {
                assert!(family.name.ends_with("_seconds"), "{}", family.name);
            }
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
    }
}
