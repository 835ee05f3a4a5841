//! What proxies say about clients: nothing of it counts from a peer that is not trusted, and from one
//! that is, every hop but the client is trusted too. The first byte chooses which fields are read; the
//! rest is field lines.
#![no_main]

use std::cell::LazyCell;
use std::net::IpAddr;

use headgate::config::model::Config;
use headgate::proxy::fuzzing::{self, Sender};
use headgate::wire::ClientAddress;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const MODES: [&str; 3] = ["x-forwarded", "rfc7239", "both"];
/// As `proxy::forwarded` has it, and our peer.
const MAX_HOPS: usize = 32 + 2;

thread_local! {
    static CONFIGS: LazyCell<[Config; 3]> = LazyCell::new(|| MODES.map(|mode| {
        headgate_fuzz::config(&format!("trusted_proxies: [10.0.0.0/8, 'fd00::/8']\nforwarded: {mode}"))
    }));
}

fn trusted(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let mut fields = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        // A letter for the usual names, so that most inputs are about something.
        let (name, value) = match line.split_first() {
            Some((b'x', value)) => (HeaderName::from_static("x-forwarded-for"), value),
            Some((b'f', value)) => (HeaderName::from_static("forwarded"), value),
            Some((b'p', value)) => (HeaderName::from_static("x-forwarded-proto"), value),
            Some((b'h', value)) => (HeaderName::from_static("x-forwarded-host"), value),
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            fields.append(name, value);
        }
    }
    let mode = usize::from(*choice) % 3;
    CONFIGS.with(|configs| {
        let config = &configs[mode];
        let stranger = headgate_fuzz::peer("203.0.113.9:4711");
        let expected = Sender {
            address: stranger.address,
            secure: false,
            hops: None,
        };
        assert_eq!(fuzzing::sender(&fields, &stranger, config), expected);

        let peer = headgate_fuzz::peer("10.0.0.1:5000");
        let Sender { address, hops, .. } = fuzzing::sender(&fields, &peer, config);
        let hops = hops.expect("the peer is trusted");
        assert!(hops.len() <= MAX_HOPS, "{hops:?}");
        assert_eq!(Some(&hops[0]), address.ip().as_ref());
        assert_eq!(hops.last(), peer.address.ip().as_ref());
        assert!(hops[1..].iter().all(trusted), "{hops:?}");
        assert!(matches!(address, ClientAddress::Inet(_)));

        // What is passed on to the next Headgate, which trusts us, tells it the same.
        let mut request = http::Request::new(());
        *request.headers_mut() = fields;
        request
            .headers_mut()
            .insert("host", HeaderValue::from_static("shop"));
        let (mut parts, ()) = request.into_parts();
        let sent = fuzzing::to_upstream(&mut parts, &peer, true, config).expect("a good request");
        let next = headgate_fuzz::peer("10.9.9.9:1");
        let theirs = fuzzing::sender(&sent, &next, config)
            .hops
            .expect("the peer is trusted");
        let short = hops.len() < MAX_HOPS - 2;
        if short && mode != 2 {
            let ours: Vec<IpAddr> = hops.into_iter().chain(next.address.ip()).collect();
            assert_eq!(theirs, ours);
        }
    });
});
