//! Media types by the end of a file's name.
//!
//! The types of the web's own formats as IANA registers them (RFC 9239 for scripts); text is UTF-8,
//! as the web's is. A table of our own: the few types that front ends are made of, without the
//! thousand others that a general table brings. What is not in it is `application/octet-stream`,
//! which browsers save and do not guess at.

use http::HeaderValue;

/// The type of a file called `name`.
pub(super) fn of(name: &[u8]) -> HeaderValue {
    let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    // A name that only begins with a dot has no end of its own.
    let end = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .filter(|dot| *dot > 0)
        .and_then(|dot| name.get(dot..)?.strip_prefix(b"."))
        .unwrap_or_default();
    let known = TYPES
        .iter()
        .find(|(known, _)| end.eq_ignore_ascii_case(known.as_bytes()));
    HeaderValue::from_static(known.map_or("application/octet-stream", |(_, kind)| kind))
}

const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json", "application/json"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("gif", "image/gif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("woff2", "font/woff2"),
    ("woff", "font/woff"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("eot", "application/vnd.ms-fontobject"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("map", "application/json"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("htm", "text/html; charset=utf-8"),
    ("xhtml", "application/xhtml+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("ics", "text/calendar; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("xml", "application/xml"),
    ("xsl", "application/xslt+xml"),
    ("rss", "application/rss+xml"),
    ("atom", "application/atom+xml"),
    ("jsonld", "application/ld+json"),
    ("geojson", "application/geo+json"),
    ("ndjson", "application/x-ndjson"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("zst", "application/zstd"),
    ("tar", "application/x-tar"),
    ("epub", "application/epub+zip"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("apng", "image/apng"),
    ("jxl", "image/jxl"),
    ("heic", "image/heic"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("webm", "video/webm"),
    ("ogv", "video/ogg"),
    ("mov", "video/quicktime"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("ts", "video/mp2t"),
    ("mpd", "application/dash+xml"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("flac", "audio/flac"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_end_of_the_name_counts_in_any_case() {
        for (name, kind) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.c/APP.JS", "text/javascript; charset=utf-8"),
            ("app.min.css", "text/css; charset=utf-8"),
            ("data.tar.gz", "application/gzip"),
            ("site.webmanifest", "application/manifest+json"),
            ("LICENSE", "application/octet-stream"),
            ("a.html/x", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("x.", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn each_end_stands_once_in_lower_case() {
        for (index, (end, _)) in TYPES.iter().enumerate() {
            assert!(
                TYPES[..index].iter().all(|(other, _)| other != end),
                "{end}"
            );
            assert_eq!(*end, end.to_ascii_lowercase());
        }
    }
}
