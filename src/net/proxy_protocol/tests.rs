//! Headers byte by byte.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by it"
)]

use super::*;

fn inet_of(source: &str, destination: &str) -> Header {
    Header::Inet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// Version 2 with this command, family, and what follows the length.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    [
        V2_SIGNATURE,
        &[command, family][..],
        &length.to_be_bytes(),
        payload,
    ]
    .concat()
}

const INET: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x41, 0x01, 0xbb];

fn with_additions(additions: &[&[u8]]) -> Vec<u8> {
    v2(0x21, 0x11, &[INET, &additions.concat()].concat())
}

/// With a checksum field at the end whose value is right.
fn with_checksum(before: &[u8]) -> Vec<u8> {
    let mut bytes = with_additions(&[before, &[3, 0, 4, 0, 0, 0, 0]]);
    let crc = crc32c_without(&bytes, 0);
    let end = bytes.len() - 4;
    bytes.splice(end.., crc.to_be_bytes());
    bytes
}

/// The header is taken whole and only whole, whatever follows, and no part of it is refused.
#[track_caller]
fn takes(bytes: &[u8], header: Header) {
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
    }
    let whole = Ok(Some((header, bytes.len())));
    assert_eq!(parse(bytes), whole);
    for more in [&b"\r\n"[..], b"GET / HTTP/1.1\r\n", b"PROXY ", &[0; 5000]] {
        assert_eq!(parse(&[bytes, more].concat()), whole);
    }
}

/// Refused with exactly this fault once `bytes` are there, and from then on with everything after.
#[track_caller]
fn refuses(bytes: &[u8], fault: HeaderFault) {
    assert_eq!(
        parse(bytes),
        Err(fault),
        "{:?}",
        String::from_utf8_lossy(bytes)
    );
    for more in [&b"\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 5000]] {
        assert!(parse(&[bytes, more].concat()).is_err());
    }
}

#[test]
fn version_1_names_the_client() {
    takes(
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 443\r\n",
        inet_of("192.0.2.7:40001", "198.51.100.1:443"),
    );
    takes(
        b"PROXY TCP6 2001:db8::1 2001:DB8::2 0 65535\r\n",
        inet_of("[2001:db8::1]:0", "[2001:db8::2]:65535"),
    );
}

#[test]
fn version_1_unknown_says_nothing_whatever_else_is_on_the_line() {
    takes(b"PROXY UNKNOWN\r\n", Header::Unknown);
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_V1 - 16));
    assert_eq!(longest.len(), LONGEST_V1);
    takes(longest.as_bytes(), Header::Unknown);
}

#[test]
fn version_1_is_exact() {
    for line in [
        "PROXY ",
        "PROXY TCP4",
        "PROXY TCP5 192.0.2.7 198.51.100.1 1 2",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1 2",
        "PROXY UNKNOWNS",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 ",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 00 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1x 2",
        "PROXY TCP4 192.0.2.07 198.51.100.1 1 2",
        "PROXY TCP4 192.0.2.256 198.51.100.1 1 2",
        "PROXY TCP4 192.0.2 198.51.100.1 1 2",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2",
        "PROXY TCP4 shop.example 198.51.100.1 1 2",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 2",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2",
        "PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2",
        "PROXY TCP6 2001:db8::1:: 2001:db8::2 1 2",
    ] {
        let bytes = format!("{line}\r\n");
        refuses(bytes.as_bytes(), HeaderFault::Line);
    }
    let good = "PROXY TCP4 192.0.2.7 198.51.100.1 1 2";
    for end in [
        "\n",
        "\r\r\n",
        "\r ",
        "\t\r\n",
        "\0\r\n",
        "\u{7f}\r\n",
        "é\r\n",
    ] {
        refuses(format!("{good}{end}").as_bytes(), HeaderFault::Line);
    }
}

#[test]
fn version_1_has_at_most_107_bytes() {
    let long = format!("PROXY UNKNOWN {}", "f".repeat(LONGEST_V1));
    assert_eq!(parse(&long.as_bytes()[..LONGEST_V1 - 2]), Ok(None));
    refuses(&long.as_bytes()[..LONGEST_V1 - 1], HeaderFault::TooLong);
}

#[test]
fn what_begins_like_neither_version_is_refused_at_its_first_wrong_byte() {
    assert_eq!(parse(b""), Ok(None));
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n",
        b"p",
        b"PROXX",
        b"PROXY\r",
        b"\n",
        b"\r\r",
        b"\x16\x03\x01",
        b"\0",
    ] {
        refuses(bytes, HeaderFault::Signature);
    }
    for at in 0..V2_SIGNATURE.len() {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes[at] ^= 1;
        refuses(&bytes[..=at], HeaderFault::Signature);
    }
}

#[test]
fn version_2_names_the_client() {
    takes(
        &v2(0x21, 0x11, INET),
        inet_of("192.0.2.7:40001", "198.51.100.1:443"),
    );
    let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let destination: Ipv6Addr = "2001:db8::2".parse().unwrap();
    let payload = [&source.octets()[..], &destination.octets(), &[0, 1, 0, 2]].concat();
    takes(
        &v2(0x21, 0x21, &payload),
        inet_of("[2001:db8::1]:1", "[2001:db8::2]:2"),
    );
    takes(&v2(0x21, 0x31, &[b'/'; 216]), Header::Unix);
}

#[test]
fn version_2_local_and_unknown_ignore_what_follows() {
    takes(&v2(0x20, 0x00, b""), Header::Local);
    takes(&v2(0x20, 0x11, INET), Header::Local);
    takes(&v2(0x20, 0xff, b"whatever"), Header::Local);
    takes(&v2(0x21, 0x00, b""), Header::Unknown);
    takes(&v2(0x21, 0x00, b"\x01\xff\xff"), Header::Unknown);
    takes(&v2(0x21, 0x00, &[0; LONGEST - V2_FIXED]), Header::Unknown);
}

#[test]
fn version_2_of_an_unknown_kind_is_refused_at_its_byte() {
    for command in (0..=u8::MAX).filter(|command| !matches!(command, 0x20 | 0x21)) {
        refuses(&[V2_SIGNATURE, &[command][..]].concat(), HeaderFault::Kind);
    }
    // Datagrams (0x12, 0x22, 0x32) cannot have come in by a stream.
    for family in (0..=u8::MAX).filter(|family| !matches!(family, 0x00 | 0x11 | 0x21 | 0x31)) {
        refuses(
            &[V2_SIGNATURE, &[0x21, family][..]].concat(),
            HeaderFault::Kind,
        );
    }
}

#[test]
fn version_2_whose_length_has_no_room_for_its_addresses_is_refused_before_they_come() {
    for (family, addresses) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        for length in [0, 1, addresses - 1] {
            refuses(
                &v2(0x21, family, &vec![0; length])[..V2_FIXED],
                HeaderFault::Length,
            );
        }
    }
    for payload in [LONGEST - V2_FIXED + 1, 0xffff] {
        refuses(
            &v2(0x21, 0x11, &vec![0; payload])[..V2_FIXED],
            HeaderFault::TooLong,
        );
        refuses(
            &v2(0x20, 0x00, &vec![0; payload])[..V2_FIXED],
            HeaderFault::TooLong,
        );
    }
}

#[test]
fn additions_are_skipped_and_must_end_with_the_header() {
    let client = inet_of("192.0.2.7:40001", "198.51.100.1:443");
    for additions in [
        &b"\x04\0\0"[..],
        b"\x01\0\x02h2\x02\0\x0cshop.example",
        b"\xee\0\x01x\x20\0\x05\x01\0\0\0\0",
    ] {
        takes(&with_additions(&[additions]), client);
    }
    for additions in [
        &b"\x04"[..],
        b"\x04\0",
        b"\x04\0\x01",
        b"\x04\0\0\x04",
        b"\x01\0\x03h2",
        b"\x01\xff\xffh2",
        b"\x01\0\x02h2\x02\0\x0dshop.example",
        b"\x03\0\x03abc",
        b"\x03\0\x05abcde",
    ] {
        let bytes = with_additions(&[additions]);
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Ok(None));
        refuses(&bytes, HeaderFault::Length);
    }
    let most = LONGEST - V2_FIXED - INET.len() - 3;
    let length = u16::try_from(most).unwrap().to_be_bytes();
    let bytes = with_additions(&[&[4], &length, &vec![0; most]]);
    assert_eq!(bytes.len(), LONGEST);
    takes(&bytes, client);
}

#[test]
fn a_checksum_must_be_right_and_there_once() {
    let client = inet_of("192.0.2.7:40001", "198.51.100.1:443");
    let good = with_checksum(b"\x01\0\x02h2");
    takes(&good, client);
    // All but the byte that says that there is one.
    let kind = good.len() - 7;
    for at in (V2_FIXED..good.len()).filter(|at| *at != kind) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(parse(&bad).is_err(), "byte {at} is not covered");
    }
    // The first one is right for the header that it is in, the second cannot be right as well.
    let twice = with_checksum(&[3, 0, 4, 0, 0, 0, 0]);
    refuses(&twice, HeaderFault::Checksum);
}

#[test]
fn the_checksum_is_crc32c() {
    // RFC 3720 appendix B.4: 32 bytes of zero, and of one bits.
    assert_eq!(crc32c_without(&[0; 32], 0), 0x8a91_36aa);
    // The four bytes that count as zero lie outside.
    assert_eq!(
        crc32c_without(b"123456789\0\0\0\0", 0),
        crc32c_without(b"123456789abcd", 0)
    );
    assert_eq!(
        crc32c_without(&[&[0; 4][..], &[0xff; 4]].concat(), 8),
        crc32c_without(&[0, 0, 0, 0, 255, 255, 255, 255], 4)
    );
}

fn encoded(version: Version, header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(version, header, &mut bytes);
    bytes
}

#[test]
fn what_is_written_is_what_the_specification_shows() {
    let v4 = inet_of("192.0.2.7:40001", "198.51.100.1:443");
    assert_eq!(
        encoded(Version::V1, &v4),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 443\r\n"
    );
    assert_eq!(encoded(Version::V2, &v4), v2(0x21, 0x11, INET));
    for header in [Header::Local, Header::Unknown, Header::Unix] {
        assert_eq!(encoded(Version::V1, &header), b"PROXY UNKNOWN\r\n");
    }
    assert_eq!(encoded(Version::V2, &Header::Local), v2(0x20, 0, b""));
    assert_eq!(encoded(Version::V2, &Header::Unknown), v2(0x21, 0, b""));
    assert_eq!(encoded(Version::V2, &Header::Unix), v2(0x21, 0, b""));
}

#[test]
fn addresses_of_two_families_are_written_as_ipv6() {
    let mixed = inet_of("192.0.2.7:1", "[2001:db8::2]:2");
    assert_eq!(
        encoded(Version::V1, &mixed),
        b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::2 1 2\r\n"
    );
    let read = inet_of("[::ffff:192.0.2.7]:1", "[2001:db8::2]:2");
    for version in [Version::V1, Version::V2] {
        takes(&encoded(version, &mixed), read);
        // Both mapped: they are IPv4.
        let mapped = inet_of("[::ffff:192.0.2.7]:1", "[::ffff:198.51.100.1]:2");
        takes(
            &encoded(version, &mapped),
            inet_of("192.0.2.7:1", "198.51.100.1:2"),
        );
    }
}

#[test]
fn what_is_written_is_read_back() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..500 {
        let mut v4 = || SocketAddr::from((random.u32(..).to_be_bytes(), random.u16(..)));
        let (source, destination) = (v4(), v4());
        let header = Header::Inet {
            source,
            destination,
        };
        takes(&encoded(Version::V1, &header), header);
        takes(&encoded(Version::V2, &header), header);
        let mut v6 =
            || SocketAddr::from(((random.u128(..) | 1 << 127).to_be_bytes(), random.u16(..)));
        let (source, destination) = (v6(), v6());
        let header = Header::Inet {
            source,
            destination,
        };
        takes(&encoded(Version::V1, &header), header);
        takes(&encoded(Version::V2, &header), header);
    }
}
