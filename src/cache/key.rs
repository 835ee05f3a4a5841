//! The bytes under which an answer is found: who answers, and the URL (RFC 9111 section 2).
//!
//! `store` and `flight` use the same bytes. They are built into a buffer that the caller keeps, so
//! a look-up allocates nothing. A zero byte parts the pieces: none of them can hold one, so two
//! different URLs never share a key. Nominated `Vary` values follow in a flight's key only.

/// Writes a key into `scratch`, replacing what it held, and returns where the URL begins in it: what
/// comes from elsewhere is kept apart, but a write invalidates the URL wherever it came from.
///
/// `source` names who answers: two upstreams, or two shards, may have different answers for one URL.
/// `host` is as sent: its case and the scheme's own port do not matter (RFC 9110 section 4.2.3).
/// `path_and_query` is as it is forwarded.
pub(super) fn build(
    scratch: &mut Vec<u8>,
    source: &str,
    scheme: &str,
    host: &[u8],
    path_and_query: &str,
) -> usize {
    scratch.clear();
    scratch.extend_from_slice(source.as_bytes());
    scratch.push(0);
    let url = scratch.len();
    scratch.extend_from_slice(scheme.as_bytes());
    scratch.push(0);
    let port: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let name = host.strip_suffix(port).unwrap_or(host);
    let host = scratch.len();
    scratch.extend_from_slice(name);
    scratch.get_mut(host..).map(<[u8]>::make_ascii_lowercase);
    scratch.push(0);
    scratch.extend_from_slice(path_and_query.as_bytes());
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scheme: &str, host: &str, path: &str) -> Vec<u8> {
        let mut scratch = b"left over".to_vec();
        build(&mut scratch, "shop", scheme, host.as_bytes(), path);
        scratch
    }

    #[test]
    fn spellings_of_one_host_share_a_key() {
        assert_eq!(
            key("http", "Shop.Example:80", "/"),
            key("http", "shop.example", "/")
        );
        assert_eq!(key("https", "shop:443", "/"), key("https", "SHOP", "/"));
        assert_ne!(key("https", "shop:80", "/"), key("https", "shop", "/"));
        assert_ne!(key("http", "shop", "/A"), key("http", "shop", "/a"));
    }

    #[test]
    fn sources_are_kept_apart_and_share_their_url() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let url_of_one = build(&mut one, "a", "http", b"shop", "/");
        let url_of_other = build(&mut other, "b-2", "http", b"shop", "/");
        assert_ne!(one, other);
        assert_eq!(one[url_of_one..], other[url_of_other..]);
    }

    #[test]
    fn each_part_of_a_url_tells_keys_apart() {
        let keys = [
            key("http", "a", "/"),
            key("https", "a", "/"),
            key("http", "a:81", "/"),
            key("http", "a", "/?"),
            key("http", "a", "/?x=1"),
            key("http", "a", "/b"),
            key("http", "a/b", "/"),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == one), Some(i));
        }
    }
}
