//! Seeds and mutations: what is sent.
//!
//! A seed is one to three well-formed requests, each with a nonce of its own; a hidden one may stand
//! in a body, where only a confused reader takes it for a request. One to three mutations then bend
//! it. Everything follows from the seed and the stream's number. Invariant: no mutation touches a
//! nonce, so that a nonce at the origin always names the message it came in.

use fastrand::Rng;

/// A bent sequence of requests.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    /// Names of what was done to it.
    pub(crate) mutations: Vec<&'static str>,
    /// Where it is cut into writes.
    cuts: Vec<usize>,
}

impl Stream {
    /// Whether the client may have left before its answers: they were cut off with it.
    pub(crate) fn is_cut(&self) -> bool {
        self.mutations.contains(&"cut short")
    }

    /// The writes it is sent in.
    pub(crate) fn parts(&self) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        let mut from = 0;
        for &to in self.cuts.iter().chain([&self.bytes.len()]) {
            if let Some(part) = self.bytes.get(from..to).filter(|part| !part.is_empty()) {
                parts.push(part);
                from = to;
            }
        }
        parts
    }
}

/// Makes the streams of one seed.
#[derive(Debug)]
pub(crate) struct Maker {
    seed: u64,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Stream `number`: the same bytes whenever it is asked for.
    pub(crate) fn stream(&self, number: u64) -> Stream {
        let mut rng = Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = seed(number, &mut rng);
        let mut mutations = Vec::new();
        // A few stay as they are: what is well-formed must come through.
        let count = if number.is_multiple_of(50) {
            0
        } else {
            1 + rng.usize(..8) / 4 + rng.usize(..12) / 11
        };
        for _ in 0..count {
            let (name, change) = MUTATIONS[rng.usize(..MUTATIONS.len())];
            for _try in 0..4 {
                if let Some(bent) = change(&bytes, &mut rng)
                    && nonces(&bent) == nonces(&bytes)
                {
                    bytes = bent;
                    mutations.push(name);
                    break;
                }
            }
        }
        let mut cuts: Vec<usize> = (0..rng.usize(..3))
            .map(|_| rng.usize(..bytes.len().max(1)))
            .collect();
        cuts.sort_unstable();
        Stream {
            bytes,
            mutations,
            cuts,
        }
    }
}

/// Every nonce, in the order in which they stand.
fn nonces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|window| window == b"=N=") {
        let after = rest.get(at + 3..).unwrap_or_default();
        let end = after
            .iter()
            .position(|&byte| byte == b'=')
            .unwrap_or(after.len());
        found.push(after.get(..end).unwrap_or_default().to_vec());
        rest = after.get(end..).unwrap_or_default();
    }
    found
}

fn seed(number: u64, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..1 + rng.usize(..3) {
        let nonce = format!("X-Nonce: =N={number}.{index}=\r\n");
        let hidden = format!(
            "GET /hidden HTTP/1.1\r\nHost: shop.test\r\nX-Nonce: =N={number}.{index}h=\r\n\r\n"
        );
        let host = "Host: shop.test\r\n";
        bytes.extend_from_slice(
            match rng.usize(..11) {
                0 => format!("GET /plain?a=1 HTTP/1.1\r\n{host}Accept: */*\r\n{nonce}\r\n"),
                1 => format!("HEAD /head HTTP/1.1\r\n{host}{nonce}\r\n"),
                2 => format!("POST /length HTTP/1.1\r\n{host}{nonce}Content-Length: 11\r\n\r\nhello=world"),
                3 => format!("POST /chunks HTTP/1.1\r\n{host}{nonce}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n=world\r\n0\r\n\r\n"),
                4 => format!("POST /trailers HTTP/1.1\r\n{host}{nonce}Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3;a=b\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
                5 => format!("GET http://shop.test/absolute HTTP/1.1\r\n{host}{nonce}\r\n"),
                6 => format!("POST /hides HTTP/1.1\r\n{host}{nonce}Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
                7 => format!("POST /hides HTTP/1.1\r\n{host}{nonce}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
                8 => format!("PUT /put/a%20b HTTP/1.1\r\n{host}Cookie: a=1; b=2\r\n{nonce}Content-Length: 0\r\n\r\n"),
                9 => format!("DELETE /gone HTTP/1.1\r\n{host}Connection: keep-alive\r\n{nonce}\r\n"),
                _ => format!("OPTIONS /options HTTP/1.1\r\n{host}{nonce}Max-Forwards: 5\r\n\r\n"),
            }
            .as_bytes(),
        );
    }
    bytes
}

type Change = fn(&[u8], &mut Rng) -> Option<Vec<u8>>;

const MUTATIONS: &[(&str, Change)] = &[
    ("both lengths", |b, r| {
        add_field(b, r, &["Content-Length: 5", "Transfer-Encoding: chunked"])
    }),
    ("second Content-Length, equal", |b, r| {
        add_field(b, r, &["Content-Length: 11", "Content-Length: 0"])
    }),
    ("second Content-Length, other", |b, r| {
        add_field(b, r, &["Content-Length: 3", "Content-Length: 44"])
    }),
    ("Content-Length as a list", |b, r| {
        length_value(b, r, &["11, 11", "11,12", ", 11", "11,"])
    }),
    ("Content-Length with a sign", |b, r| {
        length_value(b, r, &["+11", "-11", "+0", "-0"])
    }),
    ("Content-Length in other notations", |b, r| {
        length_value(
            b,
            r,
            &["0x0b", "1e1", "11.0", "0b11", "1_1", "\"11\"", "１１"],
        )
    }),
    ("Content-Length, empty or broken", |b, r| {
        length_value(b, r, &["", " ", "a", "11 11", "11;", "11\t1"])
    }),
    ("Content-Length, huge", |b, r| {
        length_value(
            b,
            r,
            &[
                "18446744073709551627",
                "99999999999999999999999999",
                "9223372036854775808",
            ],
        )
    }),
    ("Content-Length with zeros", |b, r| {
        length_value(b, r, &["011", "0000000000000000000000011"])
    }),
    ("Content-Length, a little off", |b, r| {
        length_value(b, r, &["10", "12", "1", "0"])
    }),
    ("Content-Length, odd name", |b, r| {
        replace_one(
            b,
            r,
            "Content-Length:",
            &[
                "Content-Length :",
                "Content-Length\t:",
                " Content-Length:",
                "Content\u{ad}-Length:",
                "Content_Length:",
                "Content-Length\0:",
                "\x0bContent-Length:",
                "content-LENGTH:",
            ],
        )
    }),
    ("transfer coding, other", |b, r| {
        coding_value(
            b,
            r,
            &[
                "gzip",
                "identity",
                "gzip, chunked",
                "x",
                "deflate",
                "",
                "chunked;q=1",
                "chunked;",
            ],
        )
    }),
    ("transfer coding, repeated", |b, r| {
        coding_value(
            b,
            r,
            &[
                "chunked, chunked",
                "chunked, identity",
                "identity, chunked",
                "chunked,",
                ", chunked",
                "chunked\r\nTransfer-Encoding: chunked",
                "chunked\r\nTransfer-Encoding: x",
            ],
        )
    }),
    ("transfer coding, disguised", |b, r| {
        coding_value(
            b,
            r,
            &[
                "\x0bchunked",
                "chunked\x0b",
                "\"chunked\"",
                "'chunked'",
                "chun\0ked",
                "chunked\0",
                "xchunked",
                "\u{a0}chunked",
                "chunked\r\n\t",
                "\tchunked",
            ],
        )
    }),
    ("transfer coding, legal spelling", |b, r| {
        coding_value(b, r, &["Chunked", "CHUNKED", " chunked ", "\tchunked\t"])
    }),
    ("Transfer-Encoding, odd name", |b, r| {
        replace_one(
            b,
            r,
            "Transfer-Encoding:",
            &[
                "Transfer-Encoding :",
                "Transfer-Encoding\t:",
                " Transfer-Encoding:",
                "Transfer_Encoding:",
                "Transfer-Encoding\r\n :",
                "X: x\nTransfer-Encoding:",
                "\0Transfer-Encoding:",
                "transfer-ENCODING:",
            ],
        )
    }),
    ("Transfer-Encoding in HTTP/1.0", |b, r| {
        let b = replace_one(b, r, "HTTP/1.1", &["HTTP/1.0"])?;
        add_field(&b, r, &["Transfer-Encoding: chunked"])
    }),
    ("chunk size, other notations", |b, r| {
        chunk_size(
            b,
            r,
            &[
                "0x5",
                "+5",
                "-5",
                " 5",
                "5 ",
                "05",
                "5\t",
                "0000000000000000000005",
                "5.0",
                "５",
                "5h",
                "\"5\"",
            ],
        )
    }),
    ("chunk size, huge", |b, r| {
        chunk_size(
            b,
            r,
            &[
                "ffffffffffffffff",
                "10000000000000005",
                "fffffffffffffffff5",
                "8000000000000000",
                "100000005",
            ],
        )
    }),
    ("chunk size, off", |b, r| {
        chunk_size(b, r, &["4", "6", "0", "1", "ff"])
    }),
    ("chunk extension", |b, r| {
        chunk_size(
            b,
            r,
            &[
                "5;a",
                "5;a=b",
                "5 ;a=\"b;c\"",
                "5;a=\"\r\n\"",
                "5;\n",
                "5;a\rb",
                "5;a=b\n",
                "5;;",
                "5;\0",
                "5\r;a",
            ],
        )
    }),
    ("chunk end", |b, r| {
        replace_one(
            b,
            r,
            "hello\r\n",
            &[
                "hello\n",
                "hello",
                "hello\r",
                "helloXX",
                "hello\r\n\r\n",
                "hello\n\r",
                "hello\rX",
            ],
        )
    }),
    ("last chunk", |b, r| {
        replace_one(
            b,
            r,
            "\r\n0\r\n",
            &[
                "\r\n0\n",
                "\n0\r\n",
                "\r\n00\r\n",
                "\r\n0;a=b\r\n",
                "\r\n0 \r\n",
                "\r\n-0\r\n",
                "\r\n0\r\r\n",
                "\r\n0\r\nContent-Length: 5\r\n",
                "\r\n0\r\nHost: other\r\n",
                "\r\n0\r\n : x\r\n",
                "\r\n0\r\nbroken\r\n",
            ],
        )
    }),
    ("bare LF", |b, r| replace_one(b, r, "\r\n", &["\n"])),
    ("bare CR", |b, r| replace_one(b, r, "\r\n", &["\r"])),
    ("odd line ends", |b, r| {
        replace_one(
            b,
            r,
            "\r\n",
            &[
                "\r\r\n", "\n\r", "\r\n\n", "\r \n", "\u{85}", "\u{2028}", "\0\r\n", "\x0b\r\n",
            ],
        )
    }),
    ("all lines end in LF", |b, _| {
        Some(
            String::from_utf8_lossy(b)
                .replace("\r\n", "\n")
                .into_bytes(),
        )
    }),
    ("folded field", |b, r| {
        add_field(
            b,
            r,
            &[
                "X-Fold: a\r\n b",
                "X-Fold: a\r\n\tb",
                "X-Fold:\r\n Transfer-Encoding: chunked",
                " X-First: a",
            ],
        )
    }),
    ("space before the colon", |b, r| {
        add_field(b, r, &["X-Space : a", "X-Tab\t: a", "Host : other"])
    }),
    ("broken field name", |b, r| {
        add_field(
            b,
            r,
            &[
                ": nameless",
                "X Y: a",
                "X(): a",
                "X\x7f: a",
                "X\u{e9}: a",
                "X\0: a",
                "no colon",
                "\"X\": a",
                "X[]: a",
                "X@: a",
            ],
        )
    }),
    ("control byte in a value", |b, r| {
        add_field(
            b,
            r,
            &[
                "X-C: a\0b",
                "X-C: a\x01b",
                "X-C: a\x7fb",
                "X-C: a\x0bb",
                "X-C: a\x1bb",
                "X-C: a\rb",
                "X-C: a\x08",
            ],
        )
    }),
    ("bytes above ASCII in a value", |b, r| {
        add_field(b, r, &["X-C: \u{e9}", "X-C: \u{10d}\u{10a}"])
    }),
    ("second Host", |b, r| {
        add_field(
            b,
            r,
            &["Host: shop.test", "Host: other.test", "hOST: other.test"],
        )
    }),
    ("no Host", |b, r| {
        replace_one(b, r, "Host: shop.test\r\n", &[""])
    }),
    ("broken Host", |b, r| {
        replace_one(
            b,
            r,
            "Host: shop.test",
            &[
                "Host:",
                "Host: shop.test/x",
                "Host: a@shop.test",
                "Host: shop.test, other",
                "Host: shop test",
                "Host: shop.test:x",
                "Host: shop.test#a",
                "Host: [::1",
                "Host: shop.test\\x",
                "Host: \"shop.test\"",
            ],
        )
    }),
    ("other authority", |b, r| {
        replace_one(
            b,
            r,
            "http://shop.test/",
            &[
                "http://other.test/",
                "http://shop.test:81/",
                "http://a@shop.test/",
                "https://shop.test/",
                "http:///",
                "ftp://shop.test/",
                "http://shop.test",
                "http://shop.test?",
                "http:/",
            ],
        )
    }),
    ("fragment", |b, r| target(b, r, &["/a#b", "/#", "/a?b#c"])),
    ("dots in the path", |b, r| {
        target(
            b,
            r,
            &[
                "/a/../b",
                "/../a",
                "/a/./b",
                "/..",
                "/%2e%2e/a",
                "/a/%2E%2e/b",
                "/.%2e/",
            ],
        )
    }),
    ("encoded separators", |b, r| {
        target(
            b,
            r,
            &[
                "/a%2fb",
                "/a%2Fb",
                "/a%5cb",
                "/a%00b",
                "/a%0d%0ab",
                "/a%",
                "/a%2",
                "/a%zz",
                "/a%252fb",
            ],
        )
    }),
    ("odd separators", |b, r| {
        target(
            b,
            r,
            &[
                "//a", "/a//b", "/a\\b", "/a;b", "/a/..;/b", "/a;/../b", "/;",
            ],
        )
    }),
    ("bytes in the target", |b, r| {
        target(
            b,
            r,
            &[
                "/a\tb", "/a\0b", "/a\x7f", "/a\u{e9}", "/a\"b", "/a<b>", "/a{b}", "/a|b", "a",
                "*", "", "?a",
            ],
        )
    }),
    ("request line, spaces", |b, r| {
        replace_one(
            b,
            r,
            " HTTP/1.1",
            &[
                "  HTTP/1.1",
                "\tHTTP/1.1",
                " HTTP/1.1 ",
                " x HTTP/1.1",
                "HTTP/1.1",
                " \x0bHTTP/1.1",
            ],
        )
    }),
    ("version", |b, r| {
        replace_one(
            b,
            r,
            "HTTP/1.1",
            &[
                "HTTP/1.0",
                "HTTP/1.2",
                "HTTP/2.0",
                "HTTP/0.9",
                "HTTP/1.10",
                "HTTP/01.1",
                "http/1.1",
                "HTTP/1",
                "HTTP/1.",
                "HTTP/11",
                "HTTP /1.1",
                "XTTP/1.1",
                "",
            ],
        )
    }),
    ("method", |b, r| {
        replace_one(
            b,
            r,
            "POST ",
            &[
                "post ",
                "P(ST ",
                "CONNECT ",
                "TRACE ",
                "POST\t",
                " POST ",
                "",
                "PO\0ST ",
                "M-SEARCH ",
            ],
        )
    }),
    ("empty lines first", |b, r| {
        let first = ["\r\n", "\r\n\r\n", "\n", "\r", " ", "\0"][r.usize(..6)];
        Some([first.as_bytes(), b].concat())
    }),
    ("empty lines between", |b, r| {
        replace_one(
            b,
            r,
            "hello=world",
            &[
                "hello=world\r\n",
                "hello=world\n",
                "hello=world\r\n\r\n",
                "hello=worldX",
            ],
        )
    }),
    ("Connection names fields", |b, r| {
        add_field(
            b,
            r,
            &[
                "Connection: close",
                "Connection: Host",
                "Connection: Content-Length",
                "Connection: Transfer-Encoding",
                "Connection: X-Nonce, close",
                "Connection: X-Forwarded-For, Via",
                "Proxy-Connection: keep-alive",
                "Connection: ,,",
            ],
        )
    }),
    ("upgrade", |b, r| {
        add_field(
            b,
            r,
            &[
                "Connection: Upgrade\r\nUpgrade: h2c",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
                "Upgrade: websocket",
            ],
        )
    }),
    ("expectation", |b, r| {
        add_field(
            b,
            r,
            &[
                "Expect: 100-continue",
                "Expect: x",
                "Expect: 100-Continue, x",
            ],
        )
    }),
    ("claims", |b, r| {
        add_field(
            b,
            r,
            &[
                "X-Forwarded-For: 1.2.3.4",
                "X_Forwarded_For: 1.2.3.4",
                "Forwarded: for=1.2.3.4",
                "X-Real-IP: 1.2.3.4",
                "X-HTTP-Method-Override: DELETE",
            ],
        )
    }),
    ("large", |b, r| {
        let many = "a".repeat([9_000, 33_000, 70_000][r.usize(..3)]);
        add_field(b, r, &[&format!("X-Large: {many}")])
    }),
    ("many fields", |b, r| {
        let many = "X-Many: a\r\n".repeat([90, 150, 1_100][r.usize(..3)]);
        add_field(b, r, &[many.trim_end()])
    }),
    ("long target", |b, r| {
        let long = format!("/{}", "a".repeat([5_000, 9_000, 40_000][r.usize(..3)]));
        target(b, r, &[&long])
    }),
    ("a byte changed", |b, r| {
        let mut b = b.to_vec();
        let at = r.usize(..b.len());
        *b.get_mut(at)? = r.u8(..);
        Some(b)
    }),
    ("a byte added", |b, r| {
        let mut b = b.to_vec();
        b.insert(
            r.usize(..=b.len()),
            *r.choice(b"\r\n\0 \t:;,0a%/\x0b\x7f\xff")?,
        );
        Some(b)
    }),
    ("a byte removed", |b, r| {
        let mut b = b.to_vec();
        b.remove(r.usize(..b.len()));
        Some(b)
    }),
    ("a piece repeated", |b, r| {
        let (from, to) = range(b, r);
        let piece = b.get(from..to)?;
        let (head, tail) = b.split_at(to);
        Some([head, piece, tail].concat())
    }),
    ("a piece removed", |b, r| {
        let (from, to) = range(b, r);
        Some([b.get(..from)?, b.get(to..)?].concat())
    }),
    ("cut short", |b, r| {
        Some(b.get(..r.usize(..b.len()))?.to_vec())
    }),
];

fn range(bytes: &[u8], rng: &mut Rng) -> (usize, usize) {
    let from = rng.usize(..bytes.len());
    (from, (from + 1 + rng.usize(..20)).min(bytes.len()))
}

/// Puts one of `lines` after one of the request lines.
fn add_field(bytes: &[u8], rng: &mut Rng, lines: &[&str]) -> Option<Vec<u8>> {
    let line = rng.choice(lines)?;
    replace_one(
        bytes,
        rng,
        "HTTP/1.1\r\n",
        &[&format!("HTTP/1.1\r\n{line}\r\n")],
    )
}

fn length_value(bytes: &[u8], rng: &mut Rng, values: &[&str]) -> Option<Vec<u8>> {
    let values: Vec<String> = values
        .iter()
        .map(|value| format!("Content-Length: {value}\r\n\r\nhello=world"))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    replace_one(bytes, rng, "Content-Length: 11\r\n\r\nhello=world", &values)
}

fn coding_value(bytes: &[u8], rng: &mut Rng, values: &[&str]) -> Option<Vec<u8>> {
    let values: Vec<String> = values
        .iter()
        .map(|value| format!("Transfer-Encoding: {value}\r\n"))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    replace_one(bytes, rng, "Transfer-Encoding: chunked\r\n", &values)
}

fn chunk_size(bytes: &[u8], rng: &mut Rng, values: &[&str]) -> Option<Vec<u8>> {
    let values: Vec<String> = values
        .iter()
        .map(|value| format!("{value}\r\nhello"))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    replace_one(bytes, rng, "5\r\nhello", &values)
}

fn target(bytes: &[u8], rng: &mut Rng, targets: &[&str]) -> Option<Vec<u8>> {
    let known = [
        "/plain?a=1",
        "/length",
        "/chunks",
        "/head",
        "/gone",
        "/put/a%20b",
    ];
    let known = *rng.choice(known.as_slice())?;
    let (from, to) = (format!(" {known} "), format!(" {} ", rng.choice(targets)?));
    replace_one(bytes, rng, &from, &[&to])
}

/// Replaces one of the places where `from` stands; none if it stands nowhere.
fn replace_one(bytes: &[u8], rng: &mut Rng, from: &str, to: &[&str]) -> Option<Vec<u8>> {
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    let at = *rng.choice(&places)?;
    let to = rng.choice(to)?;
    Some(
        [
            bytes.get(..at)?,
            to.as_bytes(),
            bytes.get(at + from.len()..)?,
        ]
        .concat(),
    )
}
