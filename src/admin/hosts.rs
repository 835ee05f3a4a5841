//! By which names operators ask.
//!
//! Any name can be made to lead here, and a page under such a name is then its own site to a browser:
//! it could read all that is here (DNS rebinding). So a name must be known: an address proves that
//! nobody resolved anything, `localhost` never leaves the machine, the others are `admin.hosts`.
//! Invariant: a request that names another host learns and changes nothing.

use http::Request;
use http::header::HOST;

use crate::config::model::HostPattern;

/// What such a request is told.
pub(super) const REFUSED: &str =
    "this host is not known here; ask by address, or name it in admin.hosts\n";

/// Whether a request is for a host that is known, or for none, as no browser sends it.
pub(super) fn admit<B>(request: &Request<B>, hosts: &[HostPattern]) -> bool {
    let mut named = request.headers().get_all(HOST).iter();
    let target = request.uri().authority().map(|it| it.as_str().as_bytes());
    let known = |host: &[u8]| is_address(host) || is_named(host, hosts);
    named.all(|host| host.is_empty() || known(host.as_bytes())) && target.is_none_or(known)
}

/// Without its port.
fn name(host: &[u8]) -> Option<&str> {
    let host = std::str::from_utf8(host).ok()?;
    Some(match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    })
}

/// Whether a host is an IP address or `localhost`, with or without a port.
pub(super) fn is_address(host: &[u8]) -> bool {
    name(host).is_some_and(|name| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
    })
}

fn is_named(host: &[u8], hosts: &[HostPattern]) -> bool {
    let Some(name) = name(host).map(str::to_ascii_lowercase) else {
        return false;
    };
    let name = name.strip_suffix('.').unwrap_or(&name);
    hosts.iter().any(|pattern| match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(known) => **known == *name,
        HostPattern::Suffix(suffix) => name
            .strip_suffix(&**suffix)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|labels| !labels.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_that_are_given_are_known() {
        let hosts = [
            HostPattern::Exact("gate.shop".into()),
            HostPattern::Suffix("ops.shop".into()),
        ];
        let admits = |host: &str| {
            let request = Request::builder().header(HOST, host).body(()).unwrap();
            admit(&request, &hosts)
        };
        for host in [
            "",
            "127.0.0.1",
            "127.0.0.1:9900",
            "[::1]:9900",
            "localhost:9900",
            "LOCALHOST",
            "gate.shop:9900",
            "Gate.Shop.",
            "one.ops.shop:9900",
        ] {
            assert!(admits(host), "{host:?}");
        }
        for host in [
            "evil.test",
            "evil.test:9900",
            "127.0.0.1.evil.test",
            "a.gate.shop",
            "ops.shop",
            "devops.shop",
            "localhost.evil.test",
        ] {
            assert!(!admits(host), "{host:?}");
        }
        assert!(admit(&Request::new(()), &[]), "HTTP/1.0 has none");
        let absolute = Request::builder().uri("http://evil.test/metrics").body(());
        assert!(!admit(&absolute.unwrap(), &[]));
    }
}
