//! The PROXY protocol (HAProxy's `proxy-protocol.txt`), versions 1 and 2, as bytes.
//!
//! `server` reads the header that a trusted proxy puts in front of a connection; `upstream` and
//! `health` write the one that an endpoint asks for. No sockets here: `parse` looks at what has come
//! so far, and the caller hands on whatever follows the header. Invariant: a header is taken only when
//! it is whole and exact. No length in it is believed before it is held against what is there, nothing
//! beyond `LONGEST` is waited for, and what cannot become a header any more is refused at once, so
//! that the answer does not depend on how the bytes were split.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of a header, version 2 with all that it may carry.
pub const LONGEST: usize = 4096;
/// Most bytes of a version 1 header, its CRLF included.
const LONGEST_V1: usize = 107;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const V2_FIXED: usize = 16;
/// Two paths of 108 bytes.
const UNIX_ADDRESSES: usize = 216;
const TLV_CRC32C: u8 = 0x03;

/// Which form of header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// For whom a connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The proxy connects for itself, to check our health for example. Version 1 cannot say so.
    Local,
    /// For a client whose address the proxy does not know or cannot name.
    Unknown,
    /// For this client.
    Inet {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// For a client on a Unix socket. Its paths are not kept.
    Unix,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// They begin like neither version.
    #[error("the connection does not begin with a PROXY protocol header")]
    Signature,
    /// Longer than this version allows, or than we take.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// Version 1, but not its grammar.
    #[error("the PROXY protocol header is malformed")]
    Line,
    /// Version 2 with a version, command, family or transport that means nothing for a stream.
    #[error("the PROXY protocol header is of an unknown kind")]
    Kind,
    /// Version 2 whose lengths do not fit each other.
    #[error("the lengths in the PROXY protocol header do not fit")]
    Length,
    /// Version 2 whose checksum is wrong, or there twice.
    #[error("the checksum of the PROXY protocol header is wrong")]
    Checksum,
}

/// Reads the header at the beginning of `bytes`: none while it is not whole, else what it says and
/// how many bytes it has. At most `LONGEST` bytes are needed to come to a result.
///
/// # Errors
/// As soon as the bytes cannot become a header any more.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderFault> {
    if begins(bytes, V1_PREFIX) {
        return parse_v1(bytes);
    }
    if begins(bytes, V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    Err(HeaderFault::Signature)
}

/// Whether `bytes` begin with `prefix`, or may still come to.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, want)| byte == want)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderFault> {
    // The first byte that is not part of the text must begin the CRLF.
    let text = bytes.iter().position(|byte| !matches!(byte, b' '..=b'~'));
    let Some(end) = text else {
        // Two more are to come.
        let room = LONGEST_V1.saturating_sub(2);
        return if bytes.len() > room {
            Err(HeaderFault::TooLong)
        } else {
            Ok(None)
        };
    };
    let (line, rest) = bytes.split_at_checked(end).ok_or(HeaderFault::Line)?;
    let length = end.saturating_add(2);
    if length > LONGEST_V1 {
        return Err(HeaderFault::TooLong);
    }
    match rest {
        [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some((line_v1(line)?, length))),
        _ => Err(HeaderFault::Line),
    }
}

/// What a version 1 line says; it has no CRLF any more.
fn line_v1(line: &[u8]) -> Result<Header, HeaderFault> {
    let line = std::str::from_utf8(line).map_err(|_impossible| HeaderFault::Line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(HeaderFault::Line);
    if word()? != "PROXY" {
        return Err(HeaderFault::Line);
    }
    let v6 = match word()? {
        "TCP4" => false,
        "TCP6" => true,
        // Whatever follows on the line is to be ignored.
        "UNKNOWN" => return Ok(Header::Unknown),
        _ => return Err(HeaderFault::Line),
    };
    let (source, destination) = (ip_v1(word()?, v6)?, ip_v1(word()?, v6)?);
    let (source_port, destination_port) = (port_v1(word()?)?, port_v1(word()?)?);
    if words.next().is_some() {
        return Err(HeaderFault::Line);
    }
    Ok(Header::Inet {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn ip_v1(word: &str, v6: bool) -> Result<IpAddr, HeaderFault> {
    let ip = if v6 {
        word.parse::<Ipv6Addr>().map(IpAddr::V6)
    } else {
        word.parse::<Ipv4Addr>().map(IpAddr::V4)
    };
    ip.map_err(|_malformed| HeaderFault::Line)
}

/// 0 to 65535 in decimal, without a sign or a leading zero.
fn port_v1(word: &str) -> Result<u16, HeaderFault> {
    let canonical = word == "0" || matches!(word.as_bytes(), [b'1'..=b'9', ..]);
    let port = word.parse().map_err(|_malformed| HeaderFault::Line);
    if canonical {
        port
    } else {
        Err(HeaderFault::Line)
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderFault> {
    let fixed = bytes.get(V2_SIGNATURE.len()..).unwrap_or_default();
    // Each byte is judged when it comes.
    let local = match fixed.first() {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(HeaderFault::Kind),
    };
    let addresses = match fixed.get(1) {
        None => return Ok(None),
        // Of a connection of the proxy's own everything else is to be ignored.
        Some(_) if local => 0,
        Some(0x00) => 0,
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => UNIX_ADDRESSES,
        Some(_) => return Err(HeaderFault::Kind),
    };
    let (Some(high), Some(low)) = (fixed.get(2), fixed.get(3)) else {
        return Ok(None);
    };
    let payload = usize::from(u16::from_be_bytes([*high, *low]));
    let length = V2_FIXED.saturating_add(payload);
    if length > LONGEST {
        return Err(HeaderFault::TooLong);
    }
    if payload < addresses {
        return Err(HeaderFault::Length);
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(None);
    };
    let payload = whole.get(V2_FIXED..).ok_or(HeaderFault::Length)?;
    let (addresses, additions) = payload
        .split_at_checked(addresses)
        .ok_or(HeaderFault::Length)?;
    let header = match addresses.len() {
        0 if local => Header::Local,
        0 => Header::Unknown,
        12 => inet(addresses).ok_or(HeaderFault::Length)?,
        36 => inet6(addresses).ok_or(HeaderFault::Length)?,
        _ => Header::Unix,
    };
    // Where the addresses are not known, nor is the place where additions begin.
    if !matches!(header, Header::Local | Header::Unknown) {
        check_additions(whole, additions)?;
    }
    Ok(Some((header, length)))
}

fn inet(bytes: &[u8]) -> Option<Header> {
    let (source, rest) = bytes.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    ports(
        Ipv4Addr::from(*source).into(),
        Ipv4Addr::from(*destination).into(),
        rest,
    )
}

fn inet6(bytes: &[u8]) -> Option<Header> {
    let (source, rest) = bytes.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    ports(
        Ipv6Addr::from(*source).into(),
        Ipv6Addr::from(*destination).into(),
        rest,
    )
}

fn ports(source: IpAddr, destination: IpAddr, bytes: &[u8]) -> Option<Header> {
    let (source_port, rest) = bytes.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    Some(Header::Inet {
        source: SocketAddr::new(source, u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(*destination_port)),
    })
}

/// Walks the type-length-value fields after the addresses, which must end where the header does.
/// None of them means anything to us but the checksum.
fn check_additions(whole: &[u8], additions: &[u8]) -> Result<(), HeaderFault> {
    let mut rest = additions;
    let mut checked = false;
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk().ok_or(HeaderFault::Length)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, after) = after.split_at_checked(length).ok_or(HeaderFault::Length)?;
        rest = after;
        if *kind == TLV_CRC32C {
            let value = <[u8; 4]>::try_from(value).map_err(|_size| HeaderFault::Length)?;
            if checked || crc32c_without(whole, after.len()) != u32::from_be_bytes(value) {
                return Err(HeaderFault::Checksum);
            }
            checked = true;
        }
    }
    Ok(())
}

/// CRC-32C (RFC 4960 appendix B) of a header, as if the four bytes before its last `after` were zero.
fn crc32c_without(whole: &[u8], after: usize) -> u32 {
    let end = whole.len().saturating_sub(after);
    let start = end.saturating_sub(4);
    let mut crc = u32::MAX;
    for (index, byte) in whole.iter().enumerate() {
        let byte = if (start..end).contains(&index) {
            0
        } else {
            *byte
        };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc >>= 1;
            if odd {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    !crc
}

/// Writes a header to `out`. Addresses of two families go as IPv6, the IPv4 one mapped. What a
/// version cannot say (`Local` and `Unix` in 1, the paths of `Unix` in 2) goes as unknown.
pub fn encode(version: Version, header: &Header, out: &mut Vec<u8>) {
    match version {
        Version::V1 => encode_v1(header, out),
        Version::V2 => encode_v2(header, out),
    }
}

/// Both addresses in one family.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    fn of(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| address.ip().to_canonical();
        match (canonical(source), canonical(destination)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4(source, destination),
            (source, destination) => Self::V6(mapped(source), mapped(destination)),
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn encode_v1(header: &Header, out: &mut Vec<u8>) {
    let Header::Inet {
        source,
        destination,
    } = header
    else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let (from, to) = (source.port(), destination.port());
    let line = match Pair::of(*source, *destination) {
        Pair::V4(source, destination) => {
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Pair::V6(source, destination) => {
            format!("PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    };
    out.extend_from_slice(line.as_bytes());
}

fn encode_v2(header: &Header, out: &mut Vec<u8>) {
    out.extend_from_slice(V2_SIGNATURE);
    let (source, destination) = match header {
        Header::Local => return out.extend_from_slice(&[0x20, 0, 0, 0]),
        Header::Unknown | Header::Unix => return out.extend_from_slice(&[0x21, 0, 0, 0]),
        Header::Inet {
            source,
            destination,
        } => (source, destination),
    };
    match Pair::of(*source, *destination) {
        Pair::V4(source, destination) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        Pair::V6(source, destination) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

#[cfg(test)]
mod tests;
