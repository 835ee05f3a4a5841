//! Upstreams: endpoints, stickiness, checks, deadlines.

use std::sync::Arc;

use super::Cx;
use super::fields::{DEADLINE, Unique};
use super::outbound::{Typed, endpoint_address};
use super::patterns;
use crate::config::defaults;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{
    Balance, Endpoint, HealthCheck, Probe, Secret, Sticky, Upstream, UpstreamTimeouts,
};
use crate::config::raw::{self, Lenient, Named};
use crate::config::report::Problem;
use crate::config::units::display_duration;

/// A shorter key could be guessed from the cookies that it made.
const MIN_KEY_BYTES: usize = 16;

impl Cx<'_> {
    /// One upstream for each name, in order, so that indices of names are ids.
    pub(super) fn upstreams(self, raw: Lenient<Named<raw::Upstream>>, at: At<'_>) -> Vec<Upstream> {
        let Some(Named(entries)) = raw.0 else {
            return Vec::new();
        };
        let convert = |(name, upstream): (String, Lenient<raw::Upstream>)| {
            self.name(at.key_span(&name), "an upstream", &name);
            let at_upstream = at.field(&name);
            let readable = upstream.0.is_some();
            self.upstream(name, upstream.0.unwrap_or_default(), at_upstream, readable)
        };
        entries.into_iter().map(convert).collect()
    }

    fn upstream(self, name: String, raw: raw::Upstream, at: At<'_>, readable: bool) -> Upstream {
        let raw::Upstream {
            balance,
            endpoints,
            sticky,
            health_check,
            timeouts,
            max_idle,
            protocol,
            tls,
            proxy_protocol,
        } = raw;
        let balances = [
            ("least_connections", Balance::LeastConnections),
            ("round_robin", Balance::RoundRobin),
            ("random", Balance::Random),
        ];
        if endpoints.0.is_none() && readable {
            let message = format!("the upstream `{}` has no `endpoints`", quotable(&name));
            self.missing(at, "endpoints", message, "add `endpoints: [HOST:PORT]`");
        }
        let balance = self.choice(at, "balance", &balance, &balances);
        let endpoints = self.endpoints(endpoints, at.field("endpoints"));
        let typed = Typed {
            protocol,
            tls,
            proxy_protocol,
        };
        Upstream {
            outbound: self.outbound(typed, at, &endpoints),
            name: Arc::from(name),
            balance: balance.unwrap_or(Balance::LeastConnections),
            endpoints,
            sticky: sticky
                .0
                .map(|sticky| self.sticky(sticky, at.field("sticky"))),
            health_check: health_check
                .0
                .map(|it| self.health_check(it, at.field("health_check"))),
            timeouts: self.upstream_timeouts(timeouts.0.unwrap_or_default(), at.field("timeouts")),
            max_idle: self
                .whole(at, "max_idle", &max_idle, 0..=65_536)
                .unwrap_or(defaults::MAX_IDLE),
        }
    }

    fn endpoints(self, raw: raw::List<raw::Endpoint>, at: At<'_>) -> Vec<Endpoint> {
        let Some(items) = raw.0 else {
            return Vec::new();
        };
        if items.is_empty() {
            self.error(
                at.span(),
                "`endpoints` is empty",
                "add at least one `HOST:PORT`",
            );
        }
        let mut unique = Unique::new();
        let mut endpoints = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Some(raw::Endpoint { address, weight }) = item.0 else {
                continue;
            };
            let at = at.item(index);
            let weight = self.whole(at, "weight", &weight, 1..=65_535);
            let Some(typed) = address.0 else {
                self.missing(
                    at,
                    "address",
                    "an endpoint without an `address`",
                    "add `address: HOST:PORT`",
                );
                continue;
            };
            let at = at.field("address");
            let Some(address) = self.settle(at, endpoint_address(&typed)) else {
                continue;
            };
            unique.check(self, at.span(), "the endpoint", address.clone());
            self.report.names_endpoint(at.span(), &address);
            let weight = weight.unwrap_or(defaults::WEIGHT);
            endpoints.push(Endpoint {
                address: Arc::from(address),
                weight,
            });
        }
        endpoints
    }

    fn sticky(self, raw: raw::Sticky, at: At<'_>) -> Sticky {
        let raw::Sticky {
            cookie,
            key,
            key_file,
        } = raw;
        if let Some(name) = &cookie.0 {
            self.cookie_name(at.field("cookie"), name);
        }
        if at.has("key") && at.has("key_file") {
            let problem = Problem::error(
                at.key_span("key_file"),
                "`key` and `key_file` exclude each other",
            );
            self.report.push(
                problem
                    .and(at.key_span("key"), "`key` is given here")
                    .hint("keep one"),
            );
        }
        let (bytes, place) = match (key.0, key_file.0) {
            (Some(raw::Secret(text)), _) => (Some(text.into_bytes()), at.field("key")),
            (None, Some(file)) => {
                let place = at.field("key_file");
                (self.key_file(place, &file), place)
            }
            (None, None) => (None, at),
        };
        if let Some(bytes) = &bytes
            && bytes.len() < MIN_KEY_BYTES
        {
            let message = format!("a sticky key needs at least {MIN_KEY_BYTES} bytes");
            let hint = "make one with `openssl rand -hex 32`";
            self.error(place.span(), message, hint);
        }
        Sticky {
            cookie: Arc::from(cookie.0.as_deref().unwrap_or(defaults::STICKY_COOKIE)),
            key: bytes.map(|bytes| Secret(Arc::from(bytes))),
        }
    }

    fn health_check(self, raw: raw::HealthCheck, at: At<'_>) -> HealthCheck {
        let raw::HealthCheck {
            kind,
            path,
            host,
            status,
            interval,
            timeout,
            healthy_threshold,
            unhealthy_threshold,
        } = raw;
        let is_tcp = self
            .choice(at, "type", &kind, &[("http", false), ("tcp", true)])
            .unwrap_or_default();
        let probe = if is_tcp {
            for key in ["path", "host", "status"]
                .into_iter()
                .filter(|key| at.has(key))
            {
                let message = format!("`{key}` has no meaning for a check of `type: tcp`");
                self.error(at.key_span(key), message, "remove it, or use `type: http`");
            }
            Probe::Tcp
        } else {
            self.http_probe(path, host, &status, at)
        };
        let typed_interval = self.duration(at, "interval", &interval, &DEADLINE);
        let interval = typed_interval.unwrap_or(defaults::PROBE_INTERVAL);
        let typed_timeout = self.duration(at, "timeout", &timeout, &DEADLINE);
        let timeout = typed_timeout.unwrap_or_else(|| defaults::probe_timeout(interval));
        if timeout > interval && (typed_interval.is_some() || !at.has("interval")) {
            self.error(
                at.field("timeout").span(),
                format!(
                    "`timeout` is {}, longer than the `interval` of {}",
                    display_duration(timeout),
                    display_duration(interval)
                ),
                "a check must have ended when the next one begins",
            );
        }
        let threshold = |key, typed: &raw::Whole, default| {
            self.whole(at, key, typed, 1..=1000).unwrap_or(default)
        };
        let healthy = threshold(
            "healthy_threshold",
            &healthy_threshold,
            defaults::HEALTHY_THRESHOLD,
        );
        let unhealthy = threshold(
            "unhealthy_threshold",
            &unhealthy_threshold,
            defaults::UNHEALTHY_THRESHOLD,
        );
        HealthCheck {
            probe,
            interval,
            timeout,
            healthy_threshold: healthy,
            unhealthy_threshold: unhealthy,
        }
    }

    fn http_probe(
        self,
        path: raw::Text,
        host: raw::Text,
        status: &raw::Whole,
        at: At<'_>,
    ) -> Probe {
        let path = path.0.unwrap_or_else(|| defaults::PROBE_PATH.to_owned());
        if at.has("path") {
            self.settle(at.field("path"), patterns::probe_path(&path));
        }
        if let Some(host) = &host.0 {
            self.settle(at.field("host"), patterns::authority(host));
        }
        Probe::Http {
            path: Arc::from(path),
            host: host.0.map(Arc::from),
            status: self
                .whole(at, "status", status, 200..=599)
                .unwrap_or(defaults::PROBE_STATUS),
        }
    }

    fn upstream_timeouts(self, raw: raw::UpstreamTimeouts, at: At<'_>) -> UpstreamTimeouts {
        let raw::UpstreamTimeouts {
            connect,
            first_byte,
            body_idle,
            idle,
            tunnel_idle,
        } = raw;
        let deadline = |key, typed: &raw::Text, default| {
            self.duration(at, key, typed, &DEADLINE).unwrap_or(default)
        };
        UpstreamTimeouts {
            connect: deadline("connect", &connect, defaults::CONNECT_TIMEOUT),
            first_byte: deadline("first_byte", &first_byte, defaults::FIRST_BYTE_TIMEOUT),
            body_idle: deadline("body_idle", &body_idle, defaults::UPSTREAM_BODY_IDLE),
            idle: deadline("idle", &idle, defaults::UPSTREAM_IDLE),
            tunnel_idle: deadline("tunnel_idle", &tunnel_idle, defaults::TUNNEL_IDLE),
        }
    }
}
