//! What the targets share: how an input is cut into pieces, and a config to judge by.

use std::net::SocketAddr;
use std::path::Path;

use headgate::config::{self, model::Config};
use headgate::wire::Peer;

/// Places at which to cut an input, in order, its end among them. They depend on the bytes alone, so
/// that a finding is found again.
pub fn cuts(data: &[u8]) -> Vec<usize> {
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    // Every byte of a short input now and then, few pieces of a long one.
    let longest = [1, 2, 7, 64, 4096][next(5)];
    let mut at = 0;
    let mut cuts = Vec::new();
    while at < data.len() {
        at = (at + 1 + next(longest)).min(data.len());
        cuts.push(at);
    }
    cuts
}

/// A config with one route and this at its top level.
pub fn config(top: &str) -> Config {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ a: {{ endpoints: [h:1] }} }}\n\
         routes: [{{ name: a, match: {{ path_prefix: / }}, upstream: a }}]\n{top}\n"
    );
    match config::parse(&text, Path::new("fuzz.yaml")) {
        Ok(loaded) => loaded.config,
        Err(found) => panic!("{found}"),
    }
}

/// A peer over TCP without TLS.
pub fn peer(address: &str) -> Peer {
    let address: SocketAddr = address.parse().expect("an address");
    Peer::new(
        address,
        Some(SocketAddr::from(([192, 0, 2, 1], 80))),
        false,
        1,
    )
}
