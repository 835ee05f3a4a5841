//! The PROXY protocol header: a part of a good one is never refused, nothing behind it is looked at, a
//! result comes within the bound, and what is written is read back.
#![no_main]

use headgate::net::proxy_protocol::{Header, LONGEST, Version, encode, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    for cut in headgate_fuzz::cuts(data) {
        let part = parse(&data[..cut]);
        match (part, whole) {
            (Ok(None), _) => {}
            // Once there is a result it does not change.
            (Ok(Some(part)), Ok(Some(whole))) => assert_eq!(part, whole),
            (Err(_), Err(_)) => {}
            _ => panic!("{cut} bytes {part:?}, whole {whole:?}"),
        }
    }
    if data.len() >= LONGEST {
        assert_ne!(whole, Ok(None));
    }
    let Ok(Some((header, length))) = whole else {
        return;
    };
    assert!(length <= data.len().min(LONGEST));
    for end in 0..length {
        assert_eq!(parse(&data[..end]), Ok(None));
    }
    for version in [Version::V1, Version::V2] {
        let mut written = Vec::new();
        encode(version, &header, &mut written);
        let expected = match header {
            Header::Inet {
                source,
                destination,
            } => {
                let ip = |one: std::net::SocketAddr| one.ip().to_canonical();
                let both_v4 = ip(source).is_ipv4() && ip(destination).is_ipv4();
                let canonical = |mut one: std::net::SocketAddr| {
                    if both_v4 {
                        one.set_ip(one.ip().to_canonical());
                    } else if let std::net::IpAddr::V4(v4) = one.ip() {
                        one.set_ip(v4.to_ipv6_mapped().into());
                    }
                    one
                };
                Header::Inet {
                    source: canonical(source),
                    destination: canonical(destination),
                }
            }
            Header::Local if version == Version::V2 => Header::Local,
            Header::Local | Header::Unknown | Header::Unix => Header::Unknown,
        };
        let read = parse(&written);
        assert_eq!(read, Ok(Some((expected, written.len()))), "{header:?}");
    }
});
