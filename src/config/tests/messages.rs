//! What the operator reads: rendered in full where the form matters, by place and message elsewhere.

use super::{errors, good, refused, routed, whole};
use crate::config::parse;

/// What a config needs besides listeners.
const REST: &str = "upstreams: { a: { endpoints: [h:1] } }\nroutes: [{ name: r, upstream: a }]\n";

#[test]
fn five_different_mistakes_give_five_messages_at_their_places() {
    let shown = refused(
        r#"workers: many
listeners:
  - address: 127.0.0.1:8080
timeouts:
  header: 10
  idel: 30s
upstreams:
  products: { endpoints: [127.0.0.1:9101] }
routes:
  - name: a
    match: { path_prefix: /a }
    upstream: product
  - name: b
    match: { path: "/x/{id}" }
    upstream: products
  - name: c
    match: { path: "/x/{name}" }
    upstream: products
"#,
    );
    assert_eq!(
        shown,
        r"error: expected a whole number for `workers`, found the text `many`
 --> gate.yaml:1:10
  |
1 | workers: many
  |          ^^^^

error: the duration `10` has no unit
 --> gate.yaml:5:11
  |
5 |   header: 10
  |           ^^
  = hint: write `10s` for seconds, or `10ms` for milliseconds

error: unknown key `idel` in `timeouts`
 --> gate.yaml:6:3
  |
6 |   idel: 30s
  |   ^^^^
  = hint: did you mean `idle`?

error: no upstream is named `product`
  --> gate.yaml:12:15
   |
12 |     upstream: product
   |               ^^^^^^^
   = hint: did you mean `products`?

error: the routes `b` and `c` cannot be told apart: a request can match both equally
  --> gate.yaml:16:11
   |
13 |   - name: b
   |           - matches the same
...
16 |   - name: c
   |           ^
   = hint: change `host`, `path`, `methods`, `headers` or `query` of one, or remove it"
    );
}

#[test]
fn a_key_given_twice_points_at_both_and_both_values_are_read() {
    let shown = refused(
        "listeners: [{ address: 127.0.0.1:0 }]
upstreams:
  a: { endpoints: [h:1] }
upstreams:
  b: { endpoints: h:2 }
routes:
  - { name: x, match: { path: /x }, upstream: a }
  - { name: y, match: { path: /y }, upstream: b }
",
    );
    assert_eq!(
        shown,
        "error: the key `upstreams` is given twice
 --> gate.yaml:4:1
  |
2 | upstreams:
  | --------- first given here
...
4 | upstreams:
  | ^^^^^^^^^
  = hint: keep one of them, or join what they hold

error: expected a list for `endpoints`, found the text `h:2`
 --> gate.yaml:5:19
  |
5 |   b: { endpoints: h:2 }
  |                   ^^^
  = hint: put it in brackets: [h:2]"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes")]
fn a_syntax_error_says_what_usually_causes_it() {
    for (text, place, message, hint) in [
        (
            "a: b: c\n",
            "1:5",
            "a `:` where no key can stand",
            "put a value that contains `: `",
        ),
        (
            "host: *.e.com\n",
            "1:7",
            "a value that starts with `*`",
            "\"*.shop.example\"",
        ),
        (
            "a: [1,\nb: 2\n",
            "2:1",
            "a list in brackets is not closed",
            "missing `]`",
        ),
        (
            "a:\n\tb: 1\n",
            "2:2",
            "a tab in the indentation",
            "indent with spaces",
        ),
        (
            "a: @x\n",
            "1:4",
            "a value cannot start with `@`",
            "in quotes",
        ),
        (
            "a: \"x\nb: 3\n",
            "1:4",
            "a quoted text does not end",
            "closing quote",
        ),
        (
            "a: {p: /u/{x}/o}\n",
            "1:11",
            "expected `,` or `}` here",
            "in quotes",
        ),
        (
            "a:\n   b: 1\n  c: 2\n",
            "3:3",
            "this line does not belong",
            "same column",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "2:1",
            "a second document begins here",
            "remove the `---`",
        ),
        (
            "a: !foo b\n",
            "1:4",
            "a tag (`!...`) has no meaning here",
            "in quotes",
        ),
        (
            "a: [}\n",
            "1:5",
            "expected a value here",
            "of the wrong kind",
        ),
        (
            "{[a]: b}\n",
            "1:2",
            "a key must be a single word",
            "in quotes",
        ),
    ] {
        let shown = refused(text);
        assert!(
            shown.starts_with(&format!("error: {message}")),
            "{text:?}\n{shown}"
        );
        assert!(
            shown.contains(&format!("--> gate.yaml:{place}\n")),
            "{text:?}\n{shown}"
        );
        let last = shown.lines().last().unwrap();
        assert!(
            last.contains("= hint: ") && last.contains(hint),
            "{text:?}\n{shown}"
        );
    }
}

#[test]
fn a_file_without_a_config_in_it_is_told_where_to_start() {
    for text in ["", "# nothing\n", "\u{feff}", "---\n---\n"] {
        let shown = refused(text);
        assert!(shown.starts_with("error: "), "{text:?}: {shown}");
    }
    assert_eq!(
        refused("# nothing\n"),
        "error: the file holds no configuration\n --> gate.yaml\n  = hint: start with `listeners:`; config.example.yaml shows every key"
    );
    assert!(
        refused("- a\n")
            .starts_with("error: expected a mapping for the top of the file, found a list")
    );
    assert!(refused("admin: {}\n").starts_with("error: the config has no `listeners`"));
}

#[test]
fn a_key_without_a_value_is_not_taken_for_a_default() {
    assert_eq!(errors("cache:\n"), ["cache | `cache` has no value"]);
    assert_eq!(errors("log: { level: ~ }\n"), ["~ | `level` has no value"]);
    assert_eq!(
        errors(
            "upstreams: { a: { endpoints: [h:1, ] } }\nroutes:\n  - name: r\n    upstream: a\n    cache:\n"
        ),
        ["cache | `cache` has no value"]
    );
    assert_eq!(
        errors("routes:\n  -\n"),
        [" | an item of `routes` has no value"]
    );
}

#[test]
fn a_misspelt_key_is_not_missing_as_well() {
    assert_eq!(
        errors("upstreams: { a: { endpoint: [h:1] } }\nroutes: [{ nam: r, upstraem: a }]\n"),
        [
            "endpoint | unknown key `endpoint` in `a`",
            "nam | unknown key `nam` in an item of `routes`",
            "upstraem | unknown key `upstraem` in an item of `routes`",
        ]
    );
    // Nothing can be said of names while their section cannot be read.
    assert_eq!(
        errors("upstream: { a: { endpoints: [h:1] } }\nroutes: [{ name: r, upstream: a }]\n"),
        ["upstream | unknown key `upstream`"]
    );
    assert_eq!(
        errors("upstreams: [h:1]\nroutes: [{ name: r, upstream: a }]\n"),
        ["[h:1] | expected a mapping from names for `upstreams`, found a list"]
    );
}

#[test]
fn wrong_values_at_the_top_are_told_how_to_be_written() {
    for (text, error) in [
        ("workers: 0\n", "0 | `workers` must be at least 1, it is 0"),
        (
            "workers: -3\n",
            "-3 | `workers` must be at least 1, it is -3",
        ),
        (
            "workers: 1.5\n",
            "1.5 | expected a whole number for `workers`, found the number `1.5`",
        ),
        (
            "workers: \"2\"\n",
            "\"2\" | expected a whole number for `workers`, found the text `2`",
        ),
        (
            "workers: [2]\n",
            "[2] | expected a whole number for `workers`, found a list",
        ),
        (
            "admin: 127.0.0.1:99\n",
            "127.0.0.1:99 | expected a mapping for `admin`, found the text `127.0.0.1:99`",
        ),
        (
            "admin: { address: 9900 }\n",
            "9900 | `9900` is not an address to listen on",
        ),
        (
            "timeouts: { idle: 0s }\n",
            "0s | `idle` must be at least 1ms, it is 0s",
        ),
        (
            "timeouts: { idle: 25h }\n",
            "25h | `idle` must be at most 1d, it is 1d1h",
        ),
        ("timeouts: { min_rate: 1KB }\n", "1KB | unknown unit `KB`"),
        (
            "log: { level: warning }\n",
            "warning | unknown value `warning` for `level`",
        ),
        (
            "log: { level: [info] }\n",
            "[info] | expected a single value for `level`, found a list",
        ),
        (
            "access_log: { format: jsn }\n",
            "jsn | unknown value `jsn` for `format`",
        ),
        (
            "cache: { memory: 1KiB }\n",
            "1KiB | `memory` must be at least 1MiB, it is 1KiB",
        ),
        (
            "cache: { startup_grace: 2d }\n",
            "2d | `startup_grace` must be at most 1d, it is 2d",
        ),
        (
            "cache: { memory: 16MiB, max_object: 5MiB }\n",
            "5MiB | `max_object` is 5MiB, more than a quarter of `memory` (16MiB)",
        ),
        // What cannot be read is not compared.
        (
            "cache: { memory: 1XB, max_object: 100MiB }\n",
            "1XB | unknown unit `XB`",
        ),
        (
            "cache: { disk: { size: 1GiB } }\n",
            "{ size: 1GiB } | `disk` needs the `path` of a folder",
        ),
        (
            "cache: { disk: { path: d, size: 1KiB } }\n",
            "1KiB | `size` must be at least 1MiB, it is 1KiB",
        ),
        ("<<: { workers: 1 }\n", "<< | unknown key `<<`"),
    ] {
        assert_eq!(errors(text), [error], "{text}");
    }
}

#[test]
fn listeners_are_judged_together() {
    for (text, error) in [
        ("listeners: []\n", "`listeners` is empty"),
        ("listeners: [{}]\n", "a listener without an `address`"),
        (
            "listeners: [{ address: :80 }]\n",
            "`:80` is not an address to listen on",
        ),
        (
            "listeners: [{ address: 1.2.3.4:80 }, { address: 1.2.3.4:80 }]\n",
            "the listener address `1.2.3.4:80` is given twice",
        ),
        (
            "listeners: [{ address: 127.0.0.1:9900 }]\n",
            "`127.0.0.1:9900` is the address of the admin listener",
        ),
        (
            "listeners: [{ address: 1.2.3.4:80, tls: {} }]\n",
            "`tls` without `certificates`",
        ),
        (
            "listeners: [{ address: 1.2.3.4:80, tls: { certificates: [] } }]\n",
            "`certificates` is empty",
        ),
        (
            "listeners: [{ address: 1.2.3.4:80, tls: { certificates: [{ cert: /dev/null, key: x }] } }]\n",
            "cannot read the file `/dev/null`: it is not a regular file",
        ),
    ] {
        let shown = refused(&routed(text));
        assert!(
            shown.starts_with(&format!("error: {error}\n")),
            "{text}{shown}"
        );
    }
}

/// Keys of `tls`, the error, and a part of what is said about it.
const WRONG_TLS: &[(&str, &str, &str)] = &[
    (
        "certificates: [{ cert: a, key: b }, { cert: a, key: a }]",
        "the certificate `a` is given twice",
        "first given here",
    ),
    (
        "certificates: [{ cert: a, key: b, ocsp: c }]",
        "cannot read the file `c`",
        "relative paths start at",
    ),
    (
        "min_version: 1.1",
        "unknown value `1.1` for `min_version`",
        "`1.2` and `1.3`",
    ),
    (
        "cipher_suites: []",
        "`cipher_suites` is empty",
        "remove it to allow all",
    ),
    (
        "cipher_suites: [TLS_AES_128_GCM_SHA265]",
        "`TLS_AES_128_GCM_SHA265` is not a known cipher suite",
        "did you mean `TLS_AES_128_GCM_SHA256`",
    ),
    (
        "min_version: 1.3, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
        "no cipher suite is left: these are not of TLS 1.3",
        "lower `min_version`",
    ),
    (
        "client_auth: { ca: a }",
        "`client_auth` without a `mode`",
        "`mode: optional`",
    ),
    (
        "client_auth: { mode: required, ca: a }",
        "unknown value `required` for `mode`",
        "`require`, `optional` and `off`",
    ),
    (
        "client_auth: { mode: require }",
        "`client_auth` without a `ca` file",
        "add `ca: FILE`",
    ),
    (
        "client_auth: { mode: off, ca: a }",
        "`mode: off` asks for no certificate, but `ca` is given",
        "remove one of them",
    ),
    (
        "ticket_keys: []",
        "`ticket_keys` is empty",
        "have keys made at start",
    ),
    (
        "ticket_keys: a",
        "expected a list for `ticket_keys`, found",
        "put it in brackets: [a]",
    ),
];

#[test]
fn wrong_tls_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    for (tls, error, hint) in WRONG_TLS {
        let pair = "certificates: [{ cert: a, key: b }], ";
        let pair = if tls.starts_with("certificates") {
            ""
        } else {
            pair
        };
        let text = format!(
            "listeners: [{{ address: 1.2.3.4:80, tls: {{ {pair}{tls} }} }}]\n\
             upstreams: {{ a: {{ endpoints: [b:1] }} }}\n\
             routes: [{{ name: a, upstream: a }}]\n"
        );
        let errors = parse(&text, &folder.path().join("gate.yaml")).unwrap_err();
        let shown = errors.to_string();
        assert!(
            shown.starts_with(&format!("error: {error}")),
            "{tls}\n{shown}"
        );
        assert!(shown.contains(hint), "{tls}\n{shown}");
        assert_eq!(errors.0.len(), 1, "{shown}");
    }
}

#[test]
fn wrong_upstreams_are_told_why() {
    for (body, error) in [
        ("{}", "{} | the upstream `a` has no `endpoints`"),
        ("{ endpoints: [] }", "[] | `endpoints` is empty"),
        ("{ endpoints: [h] }", "h | `h` has no port"),
        (
            "{ endpoints: [h:1, H:1] }",
            "H:1 | the endpoint `h:1` is given twice",
        ),
        (
            "{ endpoints: [{ weight: 2 }] }",
            "{ weight: 2 } | an endpoint without an `address`",
        ),
        (
            "{ endpoints: [{ address: h:1, weight: 0 }] }",
            "0 | `weight` must be at least 1, it is 0",
        ),
        (
            "{ endpoints: [[h:1]] }",
            "[h:1] | expected a text or a mapping for an item of `endpoints`, found a list",
        ),
        (
            "{ endpoints: [h:1], max_idle: 70000 }",
            "70000 | `max_idle` must be at most 65536, it is 70000",
        ),
        (
            "{ endpoints: [h:1], balance: roundrobin }",
            "roundrobin | unknown value `roundrobin` for `balance`",
        ),
        (
            "{ endpoints: [h:1], sticky: { cookie: \"a b\" } }",
            "\"a b\" | `a b` cannot be the name of a cookie",
        ),
        (
            "{ endpoints: [h:1], health_check: { type: udp } }",
            "udp | unknown value `udp` for `type`",
        ),
        (
            "{ endpoints: [h:1], health_check: { type: tcp, path: / } }",
            "path | `path` has no meaning for a check of `type: tcp`",
        ),
        (
            "{ endpoints: [h:1], health_check: { path: healthz } }",
            "healthz | the path `healthz` does not start with `/`",
        ),
        (
            "{ endpoints: [h:1], health_check: { timeout: 40s } }",
            "40s | `timeout` is 40s, longer than the `interval` of 30s",
        ),
        (
            "{ endpoints: [h:1], health_check: { interval: 5, timeout: 40s } }",
            "5 | the duration `5` has no unit",
        ),
        (
            "{ endpoints: [h:1], health_check: { status: 99 } }",
            "99 | `status` must be at least 200, it is 99",
        ),
    ] {
        assert_eq!(
            errors(&format!("upstreams: {{ a: {body} }}\n")),
            [error],
            "{body}"
        );
    }
    assert_eq!(
        errors("upstreams: { \"a b\": { endpoints: [h:1] } }\n"),
        ["\"a b\" | `a b` cannot be the name of an upstream"]
    );
}

const UPSTREAMS: &str = "upstreams: { a: { endpoints: [h:1] }, b: { endpoints: [h:2] } }\n";

#[test]
fn wrong_shard_maps_are_told_why() {
    for (body, error) in [
        (
            "{ key: { query: q }, strategy: modulo }",
            "{ key: { query: q }, strategy: modulo } | the shard map `m` has no `shards`",
        ),
        (
            "{ key: { query: q }, strategy: modulo, shards: [] }",
            "[] | `shards` is empty",
        ),
        (
            "{ key: { query: q }, shards: [a] }",
            "{ key: { query: q }, shards: [a] } | the shard map `m` has no `strategy`",
        ),
        (
            "{ key: { query: q }, shards: [a], strategy: mod }",
            "mod | unknown value `mod` for `strategy`",
        ),
        (
            "{ strategy: modulo, shards: [a] }",
            "{ strategy: modulo, shards: [a] } | the shard map `m` has no `key`",
        ),
        (
            "{ key: {}, strategy: modulo, shards: [a] }",
            "{} | a shard key without a place to find it",
        ),
        (
            "{ key: { query: q, header: h }, strategy: modulo, shards: [a] }",
            "query | a shard key has one place, not several",
        ),
        (
            "{ key: { path: \"{id}\" }, strategy: modulo, shards: [a] }",
            "\"{id}\" | `{id}` cannot be the name of a capture",
        ),
        (
            "{ key: { header: \"x y\" }, strategy: modulo, shards: [a] }",
            "\"x y\" | `x y` cannot be the name of a header",
        ),
        (
            "{ key: { query: q }, strategy: modulo, shards: [a, c] }",
            "c | no upstream is named `c`",
        ),
        (
            "{ key: { query: q }, strategy: modulo, shards: [a], default: b }",
            "default | `default` has no meaning for `strategy: modulo`",
        ),
        (
            "{ key: { query: q }, strategy: modulo, shards: [{ upstream: a, values: [x] }] }",
            "values | `values` has no meaning for `strategy: modulo`",
        ),
        (
            "{ key: { query: q }, strategy: list, shards: [a] }",
            "a | a shard of a list without `values`",
        ),
        (
            "{ key: { query: q }, strategy: list, shards: [{ values: [x] }] }",
            "{ values: [x] } | a shard without an `upstream`",
        ),
        (
            "{ key: { query: q }, strategy: list, shards: [{ upstream: a, values: [x, x] }] }",
            "x | the value `x` is given twice",
        ),
        (
            "{ key: { query: q }, strategy: list, shards: [{ upstream: a, values: [x] }], default: c }",
            "c | no upstream is named `c`",
        ),
    ] {
        let text = format!("{UPSTREAMS}shard_maps: {{ m: {body} }}\n");
        assert_eq!(errors(&text), [error], "{body}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes")]
fn wrong_routes_are_told_why() {
    for (body, error) in [
        (
            "{ upstream: a }",
            "{ upstream: a } | a route without a `name`",
        ),
        ("{ name: r }", "r | the route `r` leads nowhere"),
        (
            "{ name: r, upstream: a, shard_map: m }",
            "shard_map | the route `r` has both `upstream` and `shard_map`",
        ),
        (
            "{ name: r, upstream: a, files: { root: . } }",
            "files | the route `r` has both `upstream` and `files`",
        ),
        ("{ name: r, files: {} }", "{} | `files` without a `root`"),
        (
            "{ name: r, files: { root: . }, cache: {} }",
            "cache | `cache` goes with requests that are sent on",
        ),
        (
            "{ name: r, files: { root: ., index: a/b } }",
            "a/b | `a/b` is not the name of a file",
        ),
        (
            "{ name: r, files: { root: ., fallback: index.html } }",
            "index.html | `index.html` is not the path of a file below `root`",
        ),
        (
            "{ name: r, files: { root: ., fallback: /../x } }",
            "/../x | `/../x` is not the path of a file below `root`",
        ),
        (
            "{ name: r, files: { root: ., precompressed: [gz] } }",
            "gz | `gz` is not a coding",
        ),
        (
            "{ name: r, files: { root: ., cache_control: ' x' } }",
            "' x' | no header can have the value ` x`",
        ),
        (
            "{ name: r, files: { root: ., listing: always } }",
            "always | unknown value `always` for `listing`",
        ),
        (
            "{ name: r, upstream: a, compress: { algorithms: [] } }",
            "[] | `algorithms` is empty",
        ),
        (
            "{ name: r, upstream: a, compress: { algorithms: [br, br] } }",
            "br | the coding `br` is given twice",
        ),
        (
            "{ name: r, upstream: a, cache: { purge: [] } }",
            "[] | `purge` is empty",
        ),
        (
            "{ name: r, upstream: a, cache: { debug: [] } }",
            "[] | `debug` is empty",
        ),
        (
            "{ name: r, upstream: a, cache: { key: { headers: [x-forwarded-proto] } } }",
            "x-forwarded-proto | `x-forwarded-proto` is what Headgate tells endpoints, and nothing decides by it",
        ),
        (
            "{ name: r, upstream: a, cache: { purge: [unix, 10.0.0.1/8] } }",
            "10.0.0.1/8 | `10.0.0.1/8` has bits beyond its prefix",
        ),
        (
            "{ name: r, upstream: a, cache: { purge: [anybody] } }",
            "anybody | `anybody` is not a network",
        ),
        (
            "{ name: r, upstream: a, compress: { types: [json] } }",
            "json | `json` is not a media type",
        ),
        (
            "{ name: r, upstream: a, compress: { types: [] } }",
            "[] | `types` is empty",
        ),
        (
            "{ name: r, upstream: a, compress: { level: best } }",
            "best | unknown value `best` for `level`",
        ),
        (
            "{ name: r, upstream: a, match: { path: /x, path_prefix: /y } }",
            "path_prefix | `path` and `path_prefix` exclude each other",
        ),
        (
            "{ name: r, upstream: a, match: { path: \"/x/{a}b\" } }",
            "\"/x/{a}b\" | `{a}b` mixes a capture with other text",
        ),
        (
            "{ name: r, upstream: a, match: { host: \"h:80\" } }",
            "\"h:80\" | the host `h:80` has a port",
        ),
        (
            "{ name: r, upstream: a, match: { methods: [get] } }",
            "get | `get` is not a method",
        ),
        (
            "{ name: r, upstream: a, match: { methods: GET } }",
            "GET | expected a list for `methods`, found the text `GET`",
        ),
        (
            "{ name: r, upstream: a, match: { methods: [GET, GET] } }",
            "GET | the method `GET` is given twice",
        ),
        (
            "{ name: r, upstream: a, match: { headers: { X-A: a, x-a: b } } }",
            "x-a | the header `x-a` is given twice",
        ),
        (
            "{ name: r, upstream: a, match: { headers: { Host: h } } }",
            "Host | the host is not matched as a header",
        ),
        (
            "{ name: r, upstream: a, match: { query: { q: { present: false } } } }",
            "false | a condition on absence is not supported",
        ),
        (
            "{ name: r, upstream: a, match: { query: { q: { present: 1 } } } }",
            "1 | expected `true` or `false` for `present`, found the number `1`",
        ),
        (
            "{ name: r, upstream: a, match: { query: { q: {} } } }",
            "{} | a condition without a value",
        ),
        (
            "{ name: r, upstream: a, cache: { default_ttl: 5 } }",
            "5 | the duration `5` has no unit",
        ),
        (
            "{ name: r, upstream: a, path: /x }",
            "path | unknown key `path` in an item of `routes`",
        ),
        (
            "{ name: r, shard_map: n, match: { path: \"/{user}\" } }",
            "n | no shard map is named `n`",
        ),
        (
            "{ name: r, shard_map: m, match: { path: \"/{usr}\" } }",
            "m | the shard map `m` needs the capture `user`, which this route has not",
        ),
        (
            "{ name: r, shard_map: m }",
            "m | the shard map `m` needs the capture `user`, which this route has not",
        ),
    ] {
        let map = "shard_maps: { m: { key: { path: user }, strategy: modulo, shards: [b] } }";
        assert_eq!(
            errors(&format!("{UPSTREAMS}routes: [{body}]\n{map}\n")),
            [error],
            "{body}"
        );
    }
}

/// The errors of routes with these matches, all to one upstream.
fn judged(matches: &[&str]) -> Vec<String> {
    let route = |(index, matches): (usize, &&str)| {
        format!("  - {{ name: r{index}, upstream: a, match: {{ {matches} }} }}\n")
    };
    let routes: String = matches.iter().enumerate().map(route).collect();
    let text = format!("listeners: [{{ address: 127.0.0.1:0 }}]\n{UPSTREAMS}routes:\n{routes}");
    match parse(&text, std::path::Path::new("gate.yaml")) {
        Ok(_) => Vec::new(),
        Err(diagnostics) => diagnostics.0.into_iter().map(|d| d.message).collect(),
    }
}

#[test]
fn routes_that_match_the_same_are_refused_whatever_their_captures_are_called() {
    for same in [
        ["path: /x", "path: /x"],
        ["path_prefix: /x", "path_prefix: /x/"],
        ["path_prefix: /", ""],
        ["path: \"/{a}/{*b}\"", "path: \"/{c}/{*d}\""],
        ["host: A.example", "host: a.example"],
        ["methods: [GET, POST]", "methods: [POST, PUT]"],
        ["headers: { X-A: a, X-B: b }", "headers: { x-b: b, x-a: a }"],
        [
            "query: { a: \"1\", b: { present: true } }",
            "query: { b: { present: true }, a: { exact: 1 } }",
        ],
    ] {
        let found = judged(&same);
        assert_eq!(found.len(), 1, "{same:?}: {found:?}");
        assert!(found[0].starts_with("the routes `r0` and `r1` cannot be told apart"));
    }
}

#[test]
fn routes_that_differ_in_one_part_are_accepted() {
    for differ in [
        ["path: /x", "path: /y"],
        ["path: /x", "path_prefix: /x"],
        ["path: \"/x/{a}\"", "path: \"/x/{*a}\""],
        ["host: a.example", "host: \"*.a.example\""],
        ["methods: [GET]", "methods: [POST]"],
        ["methods: [GET]", ""],
        ["headers: { X-A: a }", "headers: { X-A: { present: true } }"],
        ["query: { a: \"1\" }", "query: { a: \"2\" }"],
    ] {
        assert_eq!(judged(&differ), [] as [&str; 0], "{differ:?}");
    }
}

#[test]
fn a_route_whose_match_is_wrong_is_not_compared_with_others() {
    assert_eq!(
        judged(&["path: x", ""]),
        ["the path `x` does not start with `/`"]
    );
    assert_eq!(
        judged(&["host: [x]", ""]),
        ["expected a single value for `host`, found a list"]
    );
    assert_eq!(judged(&["hots: x", ""]), ["unknown key `hots` in `match`"]);
}

#[test]
fn two_routes_with_one_name_point_at_both() {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\n{UPSTREAMS}routes:\n  - {{ name: r, upstream: a, match: {{ path: /x }} }}\n  - {{ name: r, upstream: b, match: {{ path: /y }} }}\n"
    );
    assert_eq!(
        refused(&text),
        "error: the route name `r` is given twice
 --> gate.yaml:5:13
  |
4 |   - { name: r, upstream: a, match: { path: /x } }
  |             - first given here
5 |   - { name: r, upstream: b, match: { path: /y } }
  |             ^"
    );
}

#[test]
fn no_message_shows_a_secret() {
    let secret = "hunter2hunter2";
    for text in [
        format!("upstreams: {{ a: {{ sticky: {{ key: {secret} }} }} }}\n"),
        format!("workers: 1\rupstreams: {{ a: {{ sticky: {{ key: {secret} }} }} }}\r\n"),
        format!("upstreams:\n  a:\n    sticky:\n      key: [{secret}]\n"),
        format!("upstreams:\n  a:\n    sticky: {{ kye: {secret} }}\n"),
        format!("upstreams:\n  a:\n    sticky: {{ key: ab, key: {secret} }}\n"),
        format!("upstreams:\n  a:\n    sticky: {{ key: |\n  {secret}\n}}\n"),
        format!("upstreams:\n  a:\n    sticky:\n      key: \"{secret}\n      x: y\n"),
        format!("upstreams:\n  a:\n    sticky: {{ key: *{secret} }}\n"),
        format!("upstreams:\n  a:\n    sticky: {{ \"key\" : !{secret} }}\n"),
    ] {
        let shown = refused(&text);
        assert!(shown.contains("--> gate.yaml:"), "{shown}");
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
    }
}

#[test]
fn places_count_characters_not_bytes() {
    let shown = refused("# ü\nadmin: { \"ü\": 1 }\r\n");
    assert!(
        shown.contains("2 | admin: { \"ü\": 1 }\n  |          ^^^\n"),
        "{shown}"
    );
}

#[test]
fn files_that_would_exhaust_memory_are_refused() {
    let lists: String = (1..12)
        .map(|i| format!("l{i}: &l{i} [{}]\n", format!("*l{}, ", i - 1).repeat(10)))
        .collect();
    let shown = refused(&format!("l0: &l0 [x]\n{lists}"));
    assert!(
        shown.contains("more than 200000 values, aliases followed"),
        "{shown}"
    );

    let shown = refused(&format!("a: {}{}", "[".repeat(100), "]".repeat(100)));
    assert!(shown.contains("nested more than 32 levels deep"), "{shown}");

    let shown = refused(&format!("a: {}", "x".repeat(5 << 20)));
    assert!(shown.contains("a config has at most 4194304"), "{shown}");

    let shown = refused("upstreams: &u\n  a: *u\n");
    assert!(
        shown.contains("this alias stands inside the value that it repeats"),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_used_to_reach_an_endpoint_is_told_at_its_key() {
    let shown = errors(
        "upstreams:
  a: { endpoints: [h:1], protocol: h2, proxy_protocol: v1 }
  b: { endpoints: [\"unix:run/b.sock\"], protocol: spdy }
  c: { endpoints: [\"unix:/run/c.sock\"], tls: {} }
  d: { endpoints: [h:1], tls: { cert: nowhere.pem } }
  e: { endpoints: [h:1], tls: { server_name: \"h:443\", min_version: 1.1 } }
",
    );
    assert_eq!(
        shown,
        [
            "proxy_protocol | `proxy_protocol` cannot be used with `protocol: h2`",
            "\"unix:run/b.sock\" | `unix:run/b.sock` does not name a Unix socket",
            "spdy | unknown value `spdy` for `protocol`",
            "tls | TLS to a Unix socket needs a name to verify",
            "cert | `cert` without `key`",
            "nowhere.pem | cannot read the file `nowhere.pem`: No such file or directory (os error 2)",
            "\"h:443\" | the host `h:443` has a port",
            "1.1 | unknown value `1.1` for `min_version`",
        ]
    );
}

#[test]
fn what_is_wrong_about_http2_is_told_at_its_key() {
    for (text, error) in [
        (
            "limits: { http2: { streams: 0 } }",
            "0 | `streams` must be at least 1, it is 0",
        ),
        (
            "limits: { http2: { streams: 1001 } }",
            "1001 | `streams` must be at most 1000, it is 1001",
        ),
        (
            "limits: { http2: { resets: many } }",
            "many | expected a whole number for `resets`, found the text `many`",
        ),
        (
            "limits: { http2: { resets: 0 } }",
            "0 | `resets` must be at least 1, it is 0",
        ),
        (
            "limits: { http2: { stream_window: 17MiB } }",
            "17MiB | `stream_window` must be at most 16MiB, it is 17MiB",
        ),
        (
            "limits: { http2: { stream_window: 1023B } }",
            "1023B | `stream_window` must be at least 1KiB, it is 1023B",
        ),
        (
            "limits: { http2: { connection_window: 64KB } }",
            "64KB | unknown unit `KB`",
        ),
        (
            "limits: { http2: { connection_window: 32KiB } }",
            "32KiB | `connection_window` must be at least 65535B, it is 32KiB",
        ),
        (
            "limits: { http2: { max_streams: 5 } }",
            "max_streams | unknown key `max_streams` in `http2`",
        ),
        (
            "limits: { http2: 100 }",
            "100 | expected a mapping for `http2`, found the number `100`",
        ),
    ] {
        assert_eq!(errors(&format!("{text}\n{REST}")), [error], "{text}");
    }
}

#[test]
fn what_is_wrong_about_the_protocols_of_a_listener_is_told_at_its_item() {
    for (protocols, message, underlined) in [
        ("[]", "`protocols` is empty", "[]"),
        ("[http1, h3]", "a protocol is `http1` or `h2`", "h3"),
        ("[h2, h2]", "the protocol `h2` is given twice", "h2"),
        (
            "h2",
            "expected a list for `protocols`, found the text `h2`",
            "h2",
        ),
    ] {
        let shown = refused(&format!(
            "listeners: [{{ address: 127.0.0.1:0, protocols: {protocols} }}]\n{REST}"
        ));
        assert!(shown.starts_with(&format!("error: {message}\n")), "{shown}");
        let carets = shown.lines().nth(4).unwrap_or_default();
        assert_eq!(carets.matches('^').count(), underlined.len(), "{shown}");
    }
    let shown = refused(&format!(
        "listeners:\n  - address: 127.0.0.1:0\n    protocols: [http1, h3]\n{REST}"
    ));
    assert_eq!(
        shown,
        "error: a protocol is `http1` or `h2`
 --> gate.yaml:3:24
  |
3 |     protocols: [http1, h3]
  |                        ^^
  = hint: the choices are `http1` and `h2`; leave it out for both"
    );
}

#[test]
fn a_listener_that_lets_in_whom_another_turns_away_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["shop.pem", "staff.pem", "key", "ca", "other"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    let warned = |others: &str, route: &str| -> Vec<String> {
        let text = format!(
            "listeners:\n  - {{ address: 127.0.0.1:1, tls: {{ certificates: [\
             {{ cert: shop.pem, key: key }}, {{ cert: staff.pem, key: key, \
             client_auth: {{ mode: require, ca: ca }} }}] }} }}\n  - {{ {others} }}\n\
             upstreams: {{ a: {{ endpoints: [h:1] }} }}\nroutes: [{{ name: r, {route} }}]\n"
        );
        let loaded = match parse(&text, &folder.path().join("gate.yaml")) {
            Ok(loaded) => loaded,
            Err(diagnostics) => panic!("{diagnostics}"),
        };
        loaded.warnings.iter().map(ToString::to_string).collect()
    };
    let auth = |mode: &str| {
        format!(
            "address: 127.0.0.1:2, tls: {{ certificates: [{{ cert: shop.pem, key: key }}], \
             client_auth: {{ mode: {mode} }} }}"
        )
    };
    let plain = "address: 127.0.0.1:2";
    let found = warned(plain, "upstream: a");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("warning: clients without a certificate get to all routes here\n"),
        "{found:?}"
    );
    assert!(found[0].contains("gate.yaml:3:16\n"), "{found:?}");
    assert!(found[0].contains("certificates are asked for here"));
    assert_eq!(warned(&auth("off"), "upstream: a").len(), 1);
    assert_eq!(warned(&auth("optional, ca: ca"), "upstream: a").len(), 1);
    // The other one is the stricter one now: for `shop.pem` the first asks for none.
    let found = warned(&auth("require, ca: ca"), "upstream: a");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("gate.yaml:2:16\n"), "{found:?}");
    // It sends everybody to the other one.
    let to_https = "redirect: { https: true }, upstream: a";
    assert_eq!(warned(plain, to_https).len(), 0);
    assert_eq!(
        warned(plain, "respond: { body: x }").len(),
        1,
        "`a` is unused"
    );
    assert_eq!(warned("address: 'unix:gate.sock'", "upstream: a").len(), 0);
    let same = "address: 127.0.0.1:2, tls: { certificates: [{ cert: shop.pem, key: key }, \
                { cert: staff.pem, key: key, client_auth: { mode: require, ca: ca } }] }";
    assert_eq!(warned(same, "upstream: a").len(), 0);
}

#[test]
fn certificates_that_are_not_verified_are_warned_about() {
    let loaded = good("upstreams: { a: { endpoints: [h:1], tls: { verify: false } } }\n");
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.message.contains("not verified")),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn after_many_errors_the_rest_is_counted() {
    let text: String = (0..1000).map(|i| format!("k{i}: 1\n")).collect();
    let shown = errors(&text);
    assert_eq!(shown.len(), 201);
    assert_eq!(shown[200], "800 more errors are not shown");
}

/// Whatever becomes of a file, the answer is a config or errors in order, and never a panic.
#[test]
fn a_damaged_example_is_read_or_refused_in_order() {
    let example = include_str!("../../../config.example.yaml");
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("SEED={seed}");
    let rounds = std::env::var("ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300);
    let marks: Vec<char> = "{}[]:,-#&*!|>'\"%@\t\n \u{0}\u{feff}ü~".chars().collect();
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..rounds {
        let mut text: Vec<char> = example.chars().collect();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..text.len());
            let end = (at + random.usize(..20)).min(text.len());
            match random.u8(..4) {
                0 => drop(text.drain(at..end)),
                1 => text[at] = marks[random.usize(..marks.len())],
                2 => text.swap(at, end.saturating_sub(1)),
                _ => {
                    let copied: Vec<char> = text[at..end].to_vec();
                    text.splice(at..at, copied);
                }
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(diagnostics) = parse(&text, std::path::Path::new("/nowhere/gate.yaml")) {
            assert!(!diagnostics.0.is_empty(), "{text}");
            let places: Vec<_> = diagnostics
                .0
                .iter()
                .map(|d| d.place.as_ref().map(|p| (p.line, p.column)))
                .collect();
            assert!(places.is_sorted(), "{diagnostics}");
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes")]
fn listeners_on_unix_sockets_and_their_proxies_are_checked() {
    let listener = |text: &str| {
        format!(
            "listeners: [{{ {text} }}]\nroutes: [{{ name: none, respond: {{ status: 204 }} }}]\n"
        )
    };
    let long = "s".repeat(108);
    for (text, place, message, hint) in [
        (
            "address: 'unix:'",
            "1:24",
            "`unix:` names no file",
            "unix:/run/headgate/web.sock",
        ),
        (
            "address: 'unix:/run/'",
            "1:24",
            "`unix:/run/` names no file",
            "path of a socket",
        ),
        (
            "address: 'unix:@gate'",
            "1:24",
            "abstract socket",
            "path of a socket",
        ),
        (
            &format!("address: 'unix:{long}'"),
            "1:24",
            "bytes long with its folder",
            "at most 107 bytes",
        ),
        (
            "address: '127.0.0.1:1', mode: '0600'",
            "1:45",
            "`mode` is for Unix sockets",
            "listen on `unix:PATH`",
        ),
        (
            "address: 'unix:s', mode: 1777",
            "1:40",
            "`1777` is not a file mode",
            "`\"0660\"`",
        ),
        (
            "address: 'unix:s', mode: 066x",
            "1:40",
            "`066x` is not a file mode",
            "octal digits",
        ),
        (
            "address: 'unix:s', mode: 0o888",
            "1:40",
            "is not a file mode",
            "octal digits",
        ),
        (
            "address: '127.0.0.1:1', proxy_protocol: {}",
            "1:55",
            "`proxy_protocol` without `from`",
            "add `from: [10.0.0.0/8]`",
        ),
        (
            "address: '127.0.0.1:1', proxy_protocol: { from: [] }",
            "1:63",
            "`from` is empty",
            "networks of the proxies",
        ),
        (
            "address: '127.0.0.1:1', proxy_protocol: { from: [unix] }",
            "1:64",
            "`unix` is for Unix sockets",
            "addresses of the proxies",
        ),
        (
            "address: 'unix:s', proxy_protocol: { from: [::1] }",
            "1:58",
            "nobody on a Unix socket",
            "`from: [unix]`",
        ),
        (
            "address: '127.0.0.1:1', proxy_protocol: { from: [10.1.0.0/8] }",
            "1:64",
            "bits beyond its prefix",
            "`10.0.0.0/8`",
        ),
        (
            "address: '127.0.0.1:1', proxy_protocol: { from: [10.0.0.0/33] }",
            "1:64",
            "is not a network",
            "0 to 32",
        ),
        (
            "address: '127.0.0.1:1', proxy_protocol: { from: ['::ffff:10.0.0.0/104'] }",
            "1:64",
            "is not a network",
            "as IPv4",
        ),
        (
            "address: '127.0.0.1:1', proxy_protocol: { from: [lb.example] }",
            "1:64",
            "`lb.example` is not a network",
            "2001:db8::/32",
        ),
    ] {
        let shown = refused(&listener(text));
        for part in [&format!("gate.yaml:{place}\n"), message, hint] {
            assert!(shown.contains(part), "{part} is not in:\n{shown}");
        }
    }
}

#[test]
fn limits_on_connections_have_bounds() {
    assert_eq!(
        errors(
            "limits: { connections: 0, connections_per_address: -1 }\nroutes: [{ name: none, respond: { status: 204 } }]\n"
        ),
        [
            "0 | `connections` must be at least 1, it is 0",
            "-1 | `connections_per_address` must be at least 0, it is -1",
        ]
    );
}

#[test]
fn a_carriage_return_alone_ends_a_line() {
    let shown = refused(
        "listeners: [{ address: 127.0.0.1:0 }]\rworkers: many\r\nroutes: [{ name: none, respond: { status: 204 } }]\n",
    );
    let words = " --> gate.yaml:2:10\n  |\n2 | workers: many\n  |          ^^^^";
    assert!(shown.contains(words), "{shown}");
}

#[test]
fn a_config_without_routes_is_refused() {
    let hint = "every request would get 404: add `routes: [{ name: NAME, upstream: NAME }]`";
    for (text, message, place) in [
        (
            "listeners: [{ address: 127.0.0.1:0 }]\n",
            "the config has no `routes`",
            "1:1",
        ),
        (
            "listeners: [{ address: 127.0.0.1:0 }]\nroutes: []\n",
            "`routes` is empty",
            "2:9",
        ),
    ] {
        let shown = refused(text);
        assert!(shown.starts_with(&format!("error: {message}\n")), "{shown}");
        assert!(
            shown.contains(&format!("--> gate.yaml:{place}\n")),
            "{shown}"
        );
        assert!(shown.ends_with(&format!("= hint: {hint}")), "{shown}");
    }
    // One mistake, one message.
    assert_eq!(
        refused("listeners: [{ address: 127.0.0.1:0 }]\nroute: [{ name: r, respond: {} }]\n")
            .matches("error: ")
            .count(),
        1
    );
}

#[test]
fn what_was_written_as_for_another_server_is_told_how_it_is_written_here() {
    let route = |keys: &str| format!("routes: [{{ name: r, {keys} }}]\n");
    let text = |line: &str| format!("{line}\n");
    for (text, message, hint) in [
        (
            route("match: { host: [a.test, b.test] }, respond: {}"),
            "expected a single value for `host`, found a list",
            "a route matches one host or `*.NAME`: write one route for each",
        ),
        (
            route("match: { path: \"~ ^/a\" }, respond: {}"),
            "the path `~ ^/a` does not start with `/`",
            "there are no regular expressions: write `{name}` for one segment",
        ),
        (
            route("match: { path: '/users/\\d+' }, respond: {}"),
            "has a character that no URL has",
            "there are no regular expressions",
        ),
        (
            route("match: { path: /a }"),
            "the route `r` leads nowhere",
            "`redirect: { to: URL }`, `respond: { status: 200 }` or `files: { root: FOLDER }`",
        ),
        (
            route("respond: {}, compress: true"),
            "expected a mapping for `compress`, found the word `true`",
            "write `compress: {}` for its defaults; its keys are",
        ),
        (
            route("respond: {}, cors: true"),
            "expected a mapping for `cors`, found the word `true`",
            "its keys are `origins`",
        ),
        (
            route("respond: {}, compress: false"),
            "expected a mapping for `compress`, found the word `false`",
            "leave it out",
        ),
        (
            text("admin: { address: [::1]:9900 }"),
            "an address that begins with `[` reads as a list",
            "put it in quotes: \"[::1]:9900\"",
        ),
        (
            text("admin:\n  address: [::]:9900"),
            "an address that begins with `[` reads as a list",
            "put it in quotes: \"[::]:9900\"",
        ),
    ] {
        let shown = refused(&whole(&text));
        assert_eq!(shown.matches("error: ").count(), 1, "{text}{shown}");
        assert!(shown.contains(message), "{text}{shown}");
        assert!(
            shown.lines().last().unwrap().contains(hint),
            "{text}{shown}"
        );
    }
}

#[test]
fn a_path_that_reads_like_a_regular_expression_is_warned_about() {
    for (keys, is_odd) in [
        ("path: /users/.*", true),
        ("path: /users/(.+)", true),
        ("path: /users$", true),
        ("path_prefix: /users/.+", true),
        ("path: /Products(1)", false),
        ("path: /a.b/c+d", false),
        ("path: \"/users/{id}\"", false),
    ] {
        let loaded = good(&format!(
            "routes: [{{ name: r, match: {{ {keys} }}, respond: {{}} }}]\n"
        ));
        let odd = loaded
            .warnings
            .iter()
            .any(|it| it.message == "the path is taken as it stands, letter by letter");
        assert_eq!(odd, is_odd, "{keys}");
    }
}

#[test]
fn a_pattern_for_parameters_has_its_star_at_the_end_alone() {
    for (name, is_good) in [
        ("\"utm_*\"", true),
        ("\"*\"", true),
        ("page", true),
        ("\"*utm*\"", false),
        ("\"*utm\"", false),
        ("\"u*m\"", false),
    ] {
        for key in ["drop", "keep"] {
            let cache = format!("cache: {{ key: {{ query: {{ {key}: [{name}] }} }} }}");
            let text = format!(
                "upstreams: {{ a: {{ endpoints: [h:1] }} }}\nroutes: [{{ name: r, upstream: a, {cache} }}]\n"
            );
            if is_good {
                good(&text);
                continue;
            }
            let bare = name.trim_matches('"');
            let message = format!("{name} | `{bare}` is not the name of a parameter");
            assert_eq!(errors(&text), [message]);
        }
    }
}

#[test]
fn an_admin_listener_that_others_can_reach_is_warned_about() {
    for (admin, is_open) in [
        ("", false),
        ("admin: { address: 127.0.0.9:9900 }\n", false),
        ("admin: { address: '[::1]:9900' }\n", false),
        ("admin: { address: '[::ffff:127.0.0.1]:9900' }\n", false),
        ("admin: { address: 0.0.0.0:9900 }\n", true),
        (
            "admin: { address: '[::]:9900', hosts: [gate.test] }\n",
            true,
        ),
        ("admin: { address: 10.0.0.1:9900 }\n", true),
    ] {
        let loaded = good(admin);
        let warnings: Vec<&str> = loaded.warnings.iter().map(|it| &*it.message).collect();
        let open = "whoever reaches the admin listener can purge, reload and read the config";
        assert_eq!(warnings.contains(&open), is_open, "{admin}{warnings:?}");
    }
}

#[test]
fn what_only_stands_together_by_a_key_given_twice_is_not_compared() {
    let shown = refused(
        "listeners: [{ address: 127.0.0.1:80 }]
listeners: [{ address: 127.0.0.1:80 }]
upstreams: { a: { endpoints: [h:1] } }
upstreams: { a: { endpoints: [h:1] } }
routes: [{ name: r, match: { path: /a }, match: { path_prefix: /b }, upstream: a }]
routes: [{ name: r, upstream: a, upstream: x }]
",
    );
    let first: Vec<&str> = shown
        .lines()
        .filter(|it| it.starts_with("error: "))
        .collect();
    assert_eq!(
        first,
        [
            "error: the key `listeners` is given twice",
            "error: the key `upstreams` is given twice",
            "error: the key `match` is given twice",
            "error: the key `routes` is given twice",
            "error: the key `upstream` is given twice",
        ],
        "{shown}"
    );
}
