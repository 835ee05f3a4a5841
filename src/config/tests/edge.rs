//! What faces clients: trust, paths, limits, and what a route does on its edge.

use http::{HeaderValue, Method, StatusCode};

use super::{errors, good};
use crate::config::model::{
    BodyLimit, Config, Forwarding, OriginPattern, Origins, PathPiece, PathRules, Peers, Rewrite,
    Target, Template,
};
use crate::config::units::ByteSize;

const UPSTREAM: &str = "upstreams: { a: { endpoints: [h:1] } }\n";

fn config(top: &str, route: &str) -> Config {
    good(&format!(
        "{UPSTREAM}{top}\nroutes: [{{ name: r, {route} }}]\n"
    ))
    .config
}

#[test]
fn the_edge_has_the_documented_defaults() {
    let config = config("", "upstream: a");
    assert_eq!(config.limits.body, BodyLimit(ByteSize(1 << 30)));
    assert_eq!(config.trusted_proxies, Peers::default());
    assert_eq!(config.forwarded, Forwarding::XForwarded);
    assert_eq!(config.paths, PathRules::default());
    assert!(config.paths.merge_slashes && !config.paths.keep_semicolon);
    assert!(!config.keep_underscores && !config.trace);
    assert_eq!(config.claims.keep, [] as [http::HeaderName; 0]);
    let route = &config.routes[0];
    assert_eq!(route.max_body, None);
    assert_eq!(route.upgrades, ["websocket".into()]);
    assert_eq!(route.edge, crate::config::model::RouteEdge::default());
}

#[test]
fn limits_and_rules_are_read() {
    let top = "limits: { body: 0 }\nforwarded: both\ntrace: true\nunderscore_headers: keep\n\
               claims: { keep: [X-Proto], trusted_only: [X-Price-Group, X-Claim-] }\n\
               trusted_proxies: [10.0.0.0/8, unix, \"::1\"]\n\
               paths: { encoded_slash: keep, semicolon: keep, merge_slashes: false }";
    let config = config(top, "upstream: a, max_body: 10MiB, upgrades: []");
    assert_eq!(config.limits.body.bytes(), u64::MAX);
    assert_eq!(config.trusted_proxies.networks.len(), 2);
    assert!(config.trusted_proxies.unix);
    assert_eq!(config.forwarded, Forwarding::Both);
    assert!(config.keep_underscores && config.trace);
    assert_eq!(config.claims.keep, ["x-proto"]);
    let trusted_only = config.claims.trusted_only.as_deref().unwrap();
    assert_eq!(trusted_only, ["x-price-group", "x-claim-"]);
    let rules = PathRules {
        keep_encoded_slash: true,
        keep_semicolon: true,
        merge_slashes: false,
    };
    assert_eq!(config.paths, rules);
    assert_eq!(config.routes[0].max_body.unwrap().bytes(), 10 << 20);
    assert!(config.routes[0].upgrades.is_empty());
}

#[test]
fn targets_of_headgates_own_are_read() {
    let of = |route: &str| config("", route).routes[0].clone();
    let Target::Redirect(redirect) = of("redirect: { to: \"https://b{path}\" }").target else {
        panic!("no redirect");
    };
    assert_eq!(redirect.status, StatusCode::FOUND);
    assert!(matches!(redirect.to, Template::Made(_)));
    let Target::Respond(answer) = of("respond: { body: ok, headers: { X-A: b } }").target else {
        panic!("no answer");
    };
    assert_eq!((answer.status, answer.headers.len()), (StatusCode::OK, 2));

    let alone = of("redirect: { https: true }");
    assert_eq!(alone.target, Target::Nothing);
    let beside = of("redirect: { https: true, port: 8443, status: 301 }, upstream: a");
    assert!(matches!(beside.target, Target::Upstream(_)));
    let rule = beside.edge.to_https.unwrap();
    assert_eq!(
        (rule.port.get(), rule.status),
        (8443, StatusCode::MOVED_PERMANENTLY)
    );
}

#[test]
fn edits_are_made_ready() {
    let of = |route: &str| {
        config("", &format!("upstream: a, {route}")).routes[0]
            .edge
            .clone()
    };
    let prefix = of("rewrite: { strip_prefix: /api/, replace_prefix: / }").rewrite;
    let (strip, with) = ("/api".into(), "".into());
    assert_eq!(prefix, Some(Rewrite::Prefix { strip, with }));
    let edge = of("match: { path: \"/old/{id}\" }, rewrite: { path: \"/new/{id}/x\" }");
    let Some(Rewrite::Template(pieces)) = edge.rewrite else {
        panic!("no template");
    };
    assert_eq!(pieces[1], PathPiece::Capture("id".into()));

    let json =
        r#"response_headers: { set: { Nel: '{"max_age":60}' }, add: { X-Id: "{request_id}" } }"#;
    let edits = of(json).response_headers.unwrap();
    let fixed = Template::Fixed(HeaderValue::from_static(r#"{"max_age":60}"#));
    assert_eq!(edits.set[0].1, fixed);
    assert!(matches!(edits.add[0].1, Template::Made(_)));

    let hsts = of("hsts: { max_age: 365d, include_subdomains: true, preload: true }").hsts;
    assert_eq!(
        hsts.unwrap(),
        "max-age=31536000; includeSubDomains; preload"
    );

    let cors = of(
        "cors: { origins: [\"https://a\", \"https://*.b:81\"], methods: [PUT, GET], headers: [X-A, X-B], max_age: 10m }",
    );
    let cors = cors.cors.unwrap();
    assert_eq!(cors.methods, [Method::GET, Method::PUT]);
    assert_eq!(cors.allow_headers.unwrap(), "x-a, x-b");
    assert_eq!(cors.max_age.unwrap(), "600");
    let below = OriginPattern::Below {
        scheme: "https://".into(),
        suffix: ".b:81".into(),
    };
    assert_eq!(
        cors.origins,
        Origins::Of(vec![OriginPattern::Exact("https://a".into()), below])
    );
}

#[test]
fn what_the_top_says_wrongly_is_told() {
    for (top, error) in [
        ("limits: { body: 5 MB }", "5 MB | unknown unit `MB`"),
        (
            "trusted_proxies: 10.0.0.0/8",
            "10.0.0.0/8 | expected a list for `trusted_proxies`, found the text `10.0.0.0/8`",
        ),
        (
            "trusted_proxies: [10.0.0.1/8]",
            "10.0.0.1/8 | `10.0.0.1/8` has bits beyond its prefix",
        ),
        (
            "trusted_proxies: [lb.example]",
            "lb.example | `lb.example` is not a network",
        ),
        (
            "trusted_proxies: [\"::1\", \"::1\"]",
            "\"::1\" | the network `::1` is given twice",
        ),
        (
            "trusted_proxies: [unix, unix]",
            "unix | the network `unix` is given twice",
        ),
        (
            "forwarded: rfc",
            "rfc | unknown value `rfc` for `forwarded`",
        ),
        (
            "paths: { semicolon: drop }",
            "drop | unknown value `drop` for `semicolon`",
        ),
        (
            "paths: { merge_slashes: 1 }",
            "1 | expected `true` or `false` for `merge_slashes`, found the number `1`",
        ),
        (
            "claims: { keep: [X-Forwarded-For] }",
            "X-Forwarded-For | endpoints take `x-forwarded-for` for Headgate's word",
        ),
        (
            "claims: { keep: [client-cert] }",
            "client-cert | endpoints take `client-cert` for Headgate's word",
        ),
        (
            "claims: { keep: [x_proto] }",
            "x_proto | `x_proto` is another spelling of a claim",
        ),
        (
            "claims: { keep: [x-proto, X-Proto] }",
            "X-Proto | the header `x-proto` is given twice",
        ),
        (
            "claims: { trusted_only: [x_price_group] }",
            "x_price_group | `x_price_group` is another spelling of a claim",
        ),
        (
            "claims: { keep: [x-a], trusted_only: [X-A] }",
            "x-a | `x-a` is for trusted proxies only, and for everybody",
        ),
        (
            "claims: { trusted_only: [Cookie] }",
            "Cookie | `cookie` is not a claim: requests of all clients have it",
        ),
        (
            "underscore_headers: no",
            "no | unknown value `no` for `underscore_headers`",
        ),
    ] {
        let text = format!("{UPSTREAM}{top}\nroutes: [{{ name: r, upstream: a }}]\n");
        assert_eq!(errors(&text), [error], "{top}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes")]
fn what_a_route_says_wrongly_about_its_edge_is_told() {
    for (route, error) in [
        (
            "upstream: a, respond: {}",
            "respond | the route `r` has both `upstream` and `respond`",
        ),
        (
            "redirect: { to: /x }, respond: {}",
            "respond | the route `r` has both `redirect` and `respond`",
        ),
        ("redirect: {}", "{} | a `redirect` that leads nowhere"),
        (
            "redirect: { to: //evil }",
            "//evil | `//evil` is not a URL to go to",
        ),
        (
            "redirect: { to: \"https://{hots}/\" }",
            "\"https://{hots}/\" | there is no variable `{hots}`",
        ),
        (
            "redirect: { to: /x, status: 200 }",
            "200 | `200` is not a status of a redirect",
        ),
        (
            "redirect: { to: /x, https: true }",
            "https | `to` and `https` exclude each other",
        ),
        (
            "redirect: { to: /x, port: 1 }",
            "port | `port` goes with `https: true` only",
        ),
        (
            "respond: { status: 100 }",
            "100 | `status` must be at least 200, it is 100",
        ),
        (
            "respond: { status: 204, body: x }",
            "x | an answer of status 204 has no body",
        ),
        (
            "respond: { headers: { Content-Length: \"5\" } }",
            "Content-Length | `content-length` belongs to one connection or frames a message",
        ),
        (
            "respond: { headers: { Content-Type: a } }",
            "Content-Type | the type has a key of its own",
        ),
        (
            "respond: {}, cache: {}",
            "cache | `cache` goes with requests that are sent on",
        ),
        (
            "upstream: a, rewrite: {}",
            "{} | a `rewrite` that changes nothing",
        ),
        (
            "upstream: a, rewrite: { replace_prefix: /x }",
            "replace_prefix | `replace_prefix` without a `strip_prefix`",
        ),
        (
            "upstream: a, rewrite: { strip_prefix: /x, path: /y }",
            "strip_prefix | `path` and `strip_prefix` exclude each other",
        ),
        (
            "upstream: a, rewrite: { path: \"/y/{id}\" }",
            "\"/y/{id}\" | this route captures no `id`",
        ),
        (
            "upstream: a, rewrite: { path: y }",
            "y | the path `y` does not begin with `/`",
        ),
        (
            "upstream: a, request_headers: { set: { Connection: close } }",
            "Connection | `connection` belongs to one connection or frames a message",
        ),
        (
            "upstream: a, request_headers: { remove: [Host] }",
            "Host | a request needs its `Host`",
        ),
        (
            "upstream: a, response_headers: { set: { Host: x } }",
            "Host | an answer has no `Host`",
        ),
        (
            "upstream: a, response_headers: { add: { X: \"a\\r\\nSet-Cookie: b\" } }",
            "\"a\\r\\nSet-Cookie: b\" | no header can have the value `a��Set-Cookie: b`",
        ),
        (
            "upstream: a, response_headers: { set: { X-A: a }, remove: [x-a] }",
            "x-a | the header `x-a` is given twice",
        ),
        (
            "upstream: a, response_headers: { set: { X-A: \"{id}\" } }",
            "\"{id}\" | there is no variable `{id}`",
        ),
        (
            "upstream: a, cache: {}, request_headers: { set: { X-A: \"a {client_ip}\" } }",
            "\"a {client_ip}\" | `{client_ip}` differs from client to client, and this route caches for all",
        ),
        (
            "upstream: a, cache: {}, request_headers: { add: { X-A: \"{request_id}\" } }",
            "\"{request_id}\" | `{request_id}` differs from request to request, and this route caches for all",
        ),
        ("upstream: a, hsts: {}", "{} | `hsts` without a `max_age`"),
        (
            "upstream: a, hsts: { max_age: 1d, preload: true }",
            "preload | `preload` needs `include_subdomains: true` and a `max_age` of 365d",
        ),
        ("upstream: a, cors: {}", "{} | `cors` without `origins`"),
        (
            "upstream: a, cors: { origins: [\"*\"], credentials: true }",
            "\"*\" | `*` with `credentials` would hand every site the users' data",
        ),
        (
            "upstream: a, cors: { origins: [shop.example] }",
            "shop.example | `shop.example` is not an origin",
        ),
        (
            "upstream: a, cors: { origins: [\"https://a/\"] }",
            "\"https://a/\" | `https://a/` is not an origin",
        ),
        (
            "upstream: a, cors: { origins: [\"https://a:443\"] }",
            "\"https://a:443\" | `https://a:443` is not an origin",
        ),
        (
            "upstream: a, cors: { origins: [\"https://a\"], max_age: 2d }",
            "2d | `max_age` must be at most 1d, it is 2d",
        ),
        (
            "upstream: a, max_body: -1",
            "-1 | the size `-1` is negative",
        ),
        (
            "upstream: a, upgrades: [h2c]",
            "h2c | `h2c` would change what speaks HTTP, and is never taken",
        ),
        (
            "upstream: a, upgrades: [HTTP/2.0]",
            "HTTP/2.0 | `HTTP/2.0` would change what speaks HTTP, and is never taken",
        ),
        (
            "upstream: a, upgrades: [chat/2]",
            "chat/2 | `chat/2` cannot be the name of a protocol",
        ),
        (
            "upstream: a, upgrades: [websocket, WebSocket]",
            "WebSocket | the protocol `websocket` is given twice",
        ),
    ] {
        let text = format!("{UPSTREAM}routes: [{{ name: r, {route} }}]\n");
        assert_eq!(errors(&text), [error], "{route}");
    }
}

#[test]
fn a_field_that_nobody_sees_is_no_condition_and_no_key() {
    for (name, why) in [
        (
            "Connection",
            "`connection` is about one connection, and nothing decides by it",
        ),
        (
            "te",
            "`te` is about one connection, and nothing decides by it",
        ),
        (
            "X-Forwarded-Proto",
            "`x-forwarded-proto` is what Headgate tells endpoints, and nothing decides by it",
        ),
        (
            "forwarded",
            "`forwarded` is what Headgate tells endpoints, and nothing decides by it",
        ),
        (
            "X_Secret",
            "`x_secret` is dropped for its `_` or `.`, so no request has it",
        ),
    ] {
        let expected = format!("{name} | {why}");
        let route =
            format!("routes: [{{ name: r, match: {{ headers: {{ {name}: x }} }}, upstream: a }}]");
        assert_eq!(errors(&format!("{UPSTREAM}{route}\n")), [expected.as_str()]);
        let map = format!(
            "shard_maps: {{ m: {{ key: {{ header: {name} }}, strategy: modulo, shards: [a] }} }}\n\
             routes: [{{ name: r, shard_map: m }}]"
        );
        assert_eq!(errors(&format!("{UPSTREAM}{map}\n")), [expected.as_str()]);
    }
    let kept = config(
        "underscore_headers: keep",
        "match: { headers: { X_Secret: x } }, upstream: a",
    );
    assert_eq!(kept.routes[0].matches.headers[0].0, "x_secret");
    let claimed = config(
        "",
        "match: { headers: { X-SSL-Client-Verify: SUCCESS } }, upstream: a",
    );
    assert_eq!(claimed.routes.len(), 1);
}

#[test]
fn what_differs_by_client_may_not_go_where_an_answer_is_kept() {
    let shown = super::refused(
        "listeners: [{ address: 127.0.0.1:0 }]
upstreams: { a: { endpoints: [h:1] } }
routes:
  - name: r
    upstream: a
    cache: {}
    request_headers: { set: { X-Who: \"{client_ip}\" } }
",
    );
    assert_eq!(
        shown,
        "error: `{client_ip}` differs from client to client, and this route caches for all
 --> gate.yaml:7:38
  |
7 |     request_headers: { set: { X-Who: \"{client_ip}\" } }
  |                                      ^^^^^^^^^^^^^
  = hint: remove it, endpoints get `X-Forwarded-For` anyway; or remove `cache` from the route"
    );
    // What the key has may be told, and answers are edited after the cache.
    for route in [
        "upstream: a, cache: {}, request_headers: { set: { X-A: \"{host}{path}{query}{scheme}\" } }",
        "upstream: a, cache: {}, response_headers: { set: { X-A: \"{client_ip}{request_id}\" } }",
        "upstream: a, request_headers: { set: { X-A: \"{client_ip}{request_id}\" } }",
    ] {
        config("", route);
    }
}
