//! How endpoints are reached: addresses, protocol, TLS, PROXY protocol.

use std::sync::Arc;

use super::Cx;
use super::fields::Fault;
use super::patterns;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{
    Endpoint, Identity, Outbound, ProxyHeader, TlsVersion, UpstreamProtocol, UpstreamTls,
};
use crate::config::raw::{self, Lenient};
use crate::config::report::Problem;

/// Bytes of a Unix socket's path (`sun_path` without its final zero).
const LONGEST_SOCKET_PATH: usize = 107;

/// The keys of an upstream that say how it is reached.
pub(super) struct Typed {
    pub(super) protocol: raw::Text,
    pub(super) tls: Lenient<raw::UpstreamTls>,
    pub(super) proxy_protocol: raw::Text,
}

impl Cx<'_> {
    pub(super) fn outbound(self, typed: Typed, at: At<'_>, endpoints: &[Endpoint]) -> Outbound {
        let protocols = [
            ("http1", UpstreamProtocol::Http1),
            ("h2", UpstreamProtocol::H2),
        ];
        let versions = [("v1", ProxyHeader::V1), ("v2", ProxyHeader::V2)];
        let protocol = self
            .choice(at, "protocol", &typed.protocol, &protocols)
            .unwrap_or_default();
        let proxy_protocol = self.choice(at, "proxy_protocol", &typed.proxy_protocol, &versions);
        if protocol == UpstreamProtocol::H2 && proxy_protocol.is_some() {
            let problem = Problem::error(
                at.key_span("proxy_protocol"),
                "`proxy_protocol` cannot be used with `protocol: h2`",
            );
            self.report.push(
                problem
                    .and(at.key_span("protocol"), "connections are shared by clients")
                    .hint("a PROXY header names one client: use `protocol: http1`, or remove it"),
            );
        }
        let tls = typed
            .tls
            .0
            .map(|tls| self.upstream_tls(tls, at.field("tls")));
        if let Some(tls) = &tls
            && tls.server_name.is_none()
            && !at.field("tls").has("server_name")
            && endpoints.iter().any(|it| it.unix_path().is_some())
        {
            self.error(
                at.key_span("tls"),
                "TLS to a Unix socket needs a name to verify",
                "add `server_name: NAME` to `tls`",
            );
        }
        Outbound {
            protocol,
            tls,
            proxy_protocol,
        }
    }

    fn upstream_tls(self, raw: raw::UpstreamTls, at: At<'_>) -> UpstreamTls {
        let raw::UpstreamTls {
            ca,
            server_name,
            cert,
            key,
            min_version,
            verify,
        } = raw;
        let versions = [("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];
        let verify = verify.0.unwrap_or(true);
        if !verify {
            let problem = Problem::warning(
                at.key_span("verify"),
                "the certificates of this upstream are not verified: anybody on the way can read along",
            );
            self.report
                .push(problem.hint("name the authority with `ca: FILE` instead"));
        }
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            if at.has(one) && !at.has(other) {
                self.error(
                    at.key_span(one),
                    format!("`{one}` without `{other}`"),
                    "a client certificate needs `cert` and `key`, two PEM files",
                );
            }
        }
        let file = |name, typed: raw::Text| {
            let typed = typed.0?;
            Some(self.readable(at.field(name), &typed))
        };
        let identity = match (file("cert", cert), file("key", key)) {
            (Some(cert), Some(key)) => Some(Identity { cert, key }),
            _ => None,
        };
        let server_name = server_name.0.and_then(|name| {
            self.settle(at.field("server_name"), patterns::server_name(&name))
                .map(Arc::from)
        });
        UpstreamTls {
            ca: file("ca", ca),
            server_name,
            identity,
            min_version: self
                .choice(at, "min_version", &min_version, &versions)
                .unwrap_or(TlsVersion::V12),
            verify,
        }
    }
}

/// `host:port` with the host lower-cased, or `unix:/path`.
pub(super) fn endpoint_address(typed: &str) -> Result<String, Fault> {
    let Some(path) = typed.strip_prefix("unix:") else {
        return patterns::host_and_port(typed);
    };
    let shown = quotable(typed);
    if !path.starts_with('/') {
        return Err(Fault::new(
            format!("`{shown}` does not name a Unix socket"),
            "write the whole path: `unix:/run/app.sock`",
        ));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(Fault::new(
            format!("the path of the Unix socket is {} bytes long", path.len()),
            format!("the system takes at most {LONGEST_SOCKET_PATH} bytes"),
        ));
    }
    if path.chars().any(char::is_control) {
        return Err(Fault::new(
            format!("`{shown}` has a control character"),
            "write the path of the socket as it is",
        ));
    }
    Ok(typed.to_owned())
}
