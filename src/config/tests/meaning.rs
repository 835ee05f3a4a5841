//! What a correct config means: defaults, forms, order, what is kept from view.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{HEAD, good, routed, whole};
use crate::config::errors::LoadError;
use crate::config::model::{
    AccessLogFormat, AccessLogPath, Balance, CacheRule, Coding, Compress, Files, HostPattern,
    Level, LogFormat, LogLevel, Outbound, PathPattern, Probe, ProxyHeader, Secret, ShardKey,
    ShardStrategy, Target, TlsVersion, TypePattern, UpstreamId, UpstreamProtocol, ValuePattern,
};
use crate::config::units::ByteSize;
use crate::config::{load, parse, restart_only_changes};

#[test]
fn what_is_not_typed_has_the_documented_defaults() {
    let config =
        good("upstreams: { a: { endpoints: [Host:80], sticky: {}, health_check: {} } }\n").config;
    assert_eq!(
        config.workers,
        std::thread::available_parallelism().unwrap()
    );
    assert_eq!(config.admin.address, "127.0.0.1:9900".parse().unwrap());
    let seconds = Duration::from_secs;
    let timeouts = &config.timeouts;
    assert_eq!(
        [
            timeouts.header,
            timeouts.idle,
            timeouts.body_idle,
            timeouts.shutdown
        ],
        [seconds(10), seconds(60), seconds(30), seconds(30)]
    );
    assert_eq!(timeouts.min_rate, ByteSize(240));
    let heads = &config.limits.heads;
    assert_eq!(
        (heads.header_bytes, heads.headers, heads.uri_bytes),
        (ByteSize(32 << 10), 100, ByteSize(8 << 10))
    );
    assert_eq!(
        heads.requests_per_connection.map(std::num::NonZero::get),
        Some(10_000)
    );
    assert_eq!(
        (config.log.level, config.log.format),
        (LogLevel::Info, LogFormat::Text)
    );
    assert_eq!(config.access_log.format, AccessLogFormat::Off);
    assert_eq!(config.access_log.path, AccessLogPath::Stdout);
    assert_eq!(config.cache.memory.to_string(), "256MiB");
    assert_eq!(config.cache.max_object.to_string(), "8MiB");

    let upstream = &config.upstreams[0];
    assert_eq!(upstream.balance, Balance::LeastConnections);
    assert_eq!(
        (
            &*upstream.endpoints[0].address,
            upstream.endpoints[0].weight
        ),
        ("host:80", 1)
    );
    assert_eq!(upstream.max_idle, 256);
    let sticky = upstream.sticky.as_ref().unwrap();
    assert_eq!((&*sticky.cookie, &sticky.key), ("DAB_ROUTE", &None));
    let check = upstream.health_check.as_ref().unwrap();
    assert_eq!(
        check.probe,
        Probe::Http {
            path: Arc::from("/"),
            host: None,
            status: 200
        }
    );
    assert_eq!((check.interval, check.timeout), (seconds(30), seconds(5)));
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (2, 3));
    let timeouts = &upstream.timeouts;
    assert_eq!(
        [
            timeouts.connect,
            timeouts.first_byte,
            timeouts.body_idle,
            timeouts.idle,
            timeouts.tunnel_idle
        ],
        [
            seconds(2),
            seconds(30),
            seconds(30),
            seconds(50),
            seconds(3600)
        ]
    );
    assert_eq!(upstream.outbound, Outbound::default());
}

#[test]
fn endpoints_are_reached_as_their_upstream_says() {
    let config = good(
        "upstreams:
  a: { endpoints: [\"[::1]:80\", \"unix:/run/a.sock\"], proxy_protocol: v1 }
  b: { endpoints: [b.test:443], protocol: h2, tls: {} }
  c: { endpoints: [\"unix:/run/c.sock\"], tls: { server_name: C.test, min_version: 1.3 } }
",
    )
    .config;
    let [a, b, c] = &config.upstreams[..] else {
        panic!("three upstreams");
    };
    assert_eq!(&*a.endpoints[0].address, "[::1]:80");
    assert_eq!(a.endpoints[1].unix_path(), Some(Path::new("/run/a.sock")));
    assert_eq!(a.outbound.proxy_protocol, Some(ProxyHeader::V1));
    assert_eq!(b.outbound.protocol, UpstreamProtocol::H2);
    let tls = b.outbound.tls.as_ref().unwrap();
    assert!(tls.verify && tls.ca.is_none() && tls.identity.is_none());
    assert_eq!(tls.min_version, TlsVersion::V12);
    let tls = c.outbound.tls.as_ref().unwrap();
    assert_eq!(tls.server_name.as_deref(), Some("c.test"));
    assert_eq!(tls.min_version, TlsVersion::V13);
}

#[test]
fn defaults_that_hang_on_another_key_follow_it() {
    let config = good(
        "cache: { memory: 16MiB }\nupstreams: { a: { endpoints: [h:1], health_check: { interval: 2s } } }\n",
    )
    .config;
    assert_eq!(config.cache.max_object.to_string(), "4MiB");
    let check = config.upstreams[0].health_check.as_ref().unwrap();
    assert_eq!(check.timeout, Duration::from_secs(2));
}

#[test]
fn a_route_holds_what_its_match_says_sorted_and_lower_case() {
    let config = good(
        r#"upstreams: { a: { endpoints: [h:1] } }
routes:
  - name: r
    match:
      host: "*.Shop.Example"
      path_prefix: /p/
      methods: [POST, GET]
      headers: { X-B: 2, x-a: { present: true } }
      query: { z: yes, b: { exact: 1.10 } }
    upstream: a
    cache: { default_ttl: 1h30m }
"#,
    )
    .config;
    let route = &config.routes[0];
    let matches = &route.matches;
    assert_eq!(matches.host, HostPattern::Suffix(Arc::from("shop.example")));
    assert_eq!(matches.path, PathPattern::Prefix(Arc::from("/p")));
    assert_eq!(matches.methods, [http::Method::GET, http::Method::POST]);
    let exact = |text: &str| ValuePattern::Exact(Arc::from(text));
    assert_eq!(
        matches.headers,
        [
            (http::HeaderName::from_static("x-a"), ValuePattern::Present),
            (http::HeaderName::from_static("x-b"), exact("2")),
        ]
    );
    // Texts are taken as typed, whatever YAML would make of them.
    assert_eq!(
        matches.query,
        [
            (Arc::from("b"), exact("1.10")),
            (Arc::from("z"), exact("yes"))
        ]
    );
    assert_eq!(route.target, Target::Upstream(UpstreamId(0)));
    assert_eq!(
        route.cache,
        Some(CacheRule {
            default_ttl: Some(Duration::from_secs(5400)),
            ..CacheRule::default()
        })
    );
}

#[test]
fn shard_maps_hold_proven_upstreams() {
    let config = good(
        "upstreams: { a: { endpoints: [h:1] }, b: { endpoints: [h:2] } }
shard_maps:
  m: { key: { header: X-User }, strategy: modulo, shards: [b, a] }
  l: { key: { cookie: uid }, strategy: list, shards: [{ upstream: a, values: [x, 007] }], default: b }
",
    )
    .config;
    assert_eq!(
        config.shard_maps[0].key,
        ShardKey::Header(http::HeaderName::from_static("x-user"))
    );
    assert_eq!(
        config.shard_maps[0].strategy,
        ShardStrategy::Modulo {
            shards: vec![UpstreamId(1), UpstreamId(0)]
        }
    );
    let values = vec![
        (Arc::from("x"), UpstreamId(0)),
        (Arc::from("007"), UpstreamId(0)),
    ];
    assert_eq!(
        config.shard_maps[1].strategy,
        ShardStrategy::List {
            values,
            default: Some(UpstreamId(1))
        }
    );
}

#[test]
fn an_anchor_can_be_repeated() {
    let config = good("upstreams:\n  a: &x { endpoints: [h:1] }\n  b: *x\n").config;
    assert_eq!(config.upstreams[0].endpoints, config.upstreams[1].endpoints);
}

#[test]
fn files_and_compression_have_the_documented_defaults() {
    let config = good(
        "upstreams: { a: { endpoints: [h:1] } }
routes:
  - { name: site, match: { path_prefix: / }, files: { root: . } }
  - { name: app, match: { path_prefix: /app }, upstream: a, compress: {} }
  - name: all
    match: { path_prefix: /all }
    files: { root: src, index: i.htm, fallback: /app/i.htm, precompressed: [gzip, br],
             cache_control: no-cache, hidden: true, listing: never }
    compress: { algorithms: [br], min_size: 2KiB, types: [Text/*, \"*+json\", a/b], level: small }
",
    )
    .config;
    let files = |index: usize| match &config.routes[index].target {
        Target::Files(files) => (**files).clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        files(0),
        Files {
            root: PathBuf::from("."),
            index: "index.html".into(),
            fallback: None,
            precompressed: Vec::new(),
            cache_control: None,
            hidden: false,
        }
    );
    assert_eq!(config.routes[0].compress, None);
    let compress = config.routes[1].compress.as_ref().unwrap();
    assert_eq!(
        compress.algorithms,
        [Coding::Zstd, Coding::Brotli, Coding::Gzip]
    );
    assert_eq!(
        (compress.min_size, compress.level),
        (ByteSize(1024), Level::Balanced)
    );
    assert_eq!(
        compress.types.len(),
        crate::config::defaults::COMPRESS_TYPES.len()
    );
    assert_eq!(
        files(2),
        Files {
            root: PathBuf::from("src"),
            index: "i.htm".into(),
            fallback: Some("app/i.htm".into()),
            precompressed: vec![Coding::Gzip, Coding::Brotli],
            cache_control: Some(http::HeaderValue::from_static("no-cache")),
            hidden: true,
        }
    );
    assert_eq!(
        config.routes[2].compress,
        Some(Compress {
            algorithms: vec![Coding::Brotli],
            min_size: ByteSize(2048),
            types: vec![
                TypePattern::Prefix("text/".into()),
                TypePattern::Suffix("+json".into()),
                TypePattern::Exact("a/b".into()),
            ],
            level: Level::Small,
        })
    );
}

#[test]
fn what_is_not_used_is_a_warning() {
    let loaded = good(
        "upstreams: { a: { endpoints: [h:1] }, b: { endpoints: [h:2] } }
shard_maps: { m: { key: { query: q }, strategy: modulo, shards: [a] } }
",
    );
    let shown: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "warning: the upstream `b` is not used
 --> gate.yaml:2:39
  |
2 | upstreams: { a: { endpoints: [h:1] }, b: { endpoints: [h:2] } }
  |                                       ^
  = hint: name it in a route, or remove it",
            "warning: the shard map `m` is not used
 --> gate.yaml:3:15
  |
3 | shard_maps: { m: { key: { query: q }, strategy: modulo, shards: [a] } }
  |               ^
  = hint: name it in a route, or remove it",
        ]
    );
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let routes = |path: &str, more: &str| {
        format!(
            "routes: [{{ name: a, match: {{ path: {path}{more} }}, respond: {{ status: 204 }} }}]\n"
        )
    };
    let listeners = "listeners: [{ address: 127.0.0.1:0, proxy_protocol: { from: [10.0.0.0/8, 0.0.0.0/0] } }]\n";
    for (text, warned) in [
        (format!("{HEAD}trusted_proxies: [10.0.0.0/8]\n"), None),
        (
            format!("{HEAD}trusted_proxies: [10.0.0.0/8, \"::/0\"]\n"),
            Some("`::/0` is every address: anybody can then say who the client is"),
        ),
        (
            listeners.to_owned(),
            Some("`0.0.0.0/0` is every address: anybody can then say who the client is"),
        ),
        (
            format!("{HEAD}{}", routes("\"/a;b\"", "")),
            Some("the route takes nothing: paths with `;` are refused"),
        ),
        (
            format!(
                "{HEAD}paths: {{ semicolon: keep }}\n{}",
                routes("\"/a;b\"", "")
            ),
            None,
        ),
        (
            format!("{HEAD}{}", routes("/a", ", methods: [CONNECT]")),
            Some("the route takes nothing: CONNECT is refused"),
        ),
        (
            format!("{HEAD}{}", routes("/a", ", methods: [CONNECT, GET]")),
            None,
        ),
    ] {
        let loaded = parse(&routed(&text), Path::new("gate.yaml")).unwrap();
        let shown: Vec<_> = loaded.warnings.iter().map(|it| &*it.message).collect();
        assert_eq!(shown, Vec::from_iter(warned), "{text}");
    }
}

#[test]
fn the_document_shows_what_was_typed_but_no_secret() {
    let loaded = good(
        "upstreams:\n  a:\n    endpoints: [h:1]\n    sticky: { key: 0123456789abcdef }\n    max_idle: 8\n",
    );
    let sticky = loaded.config.upstreams[0].sticky.clone().unwrap();
    assert_eq!(sticky.key, Some(Secret(Arc::from(*b"0123456789abcdef"))));
    assert_eq!(
        loaded.document,
        serde_json::json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "upstreams": { "a": {
                "endpoints": ["h:1"],
                "sticky": { "key": "<redacted>" },
                "max_idle": 8,
            }},
            "routes": [{ "name": "none", "respond": { "status": 204 } }],
        })
    );
    assert!(!format!("{loaded:?}").contains("0123456789abcdef"));
}

#[test]
fn a_key_file_is_read_from_the_folder_of_the_config_without_its_newline() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("k"), "0123456789abcdef\n").unwrap();
    let path = folder.path().join("gate.yaml");
    let text = "upstreams: { a: { endpoints: [h:1], sticky: { key_file: k } } }\naccess_log: { path: log }\n";
    std::fs::write(&path, whole(text)).unwrap();
    let config = load(&path).unwrap().config;
    let key = config.upstreams[0].sticky.clone().unwrap().key;
    assert_eq!(key, Some(Secret(Arc::from(*b"0123456789abcdef"))));
    assert_eq!(
        config.access_log.path,
        AccessLogPath::File(folder.path().join("log"))
    );

    std::fs::write(folder.path().join("k"), "0123456789abcde\n").unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(
        error.contains("a sticky key needs at least 16 bytes"),
        "{error}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.yaml");
    assert!(matches!(load(&path), Err(LoadError::Read { path: named, .. }) if named == path));

    std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.starts_with("error: line 2 is not UTF-8\n"), "{error}");
    std::fs::write(&path, vec![b'#'; 5 << 20]).unwrap();
    assert!(
        load(&path)
            .unwrap_err()
            .to_string()
            .starts_with("error: the file has more than")
    );
}

#[test]
fn the_hash_is_that_of_the_text() {
    let hash = |text: &str| parse(&routed(text), Path::new("x")).unwrap().sha256;
    assert_eq!(
        hash("listeners: [{ address: 127.0.0.1:0 }]"),
        hash("listeners: [{ address: 127.0.0.1:0 }]")
    );
    assert_ne!(hash(HEAD), hash(&format!("{HEAD}#\n")));
    assert_eq!(hash(HEAD).len(), 64);
}

#[test]
fn only_what_a_restart_alone_can_change_is_named() {
    let old = good("upstreams: { a: { endpoints: [h:1] } }\n").config;
    assert_eq!(restart_only_changes(&old, &old), [] as [&str; 0]);
    let mut new = good("timeouts: { idle: 1s }\n").config;
    assert_eq!(restart_only_changes(&old, &new), [] as [&str; 0]);
    new = good(
        "workers: 99\nadmin: { address: 127.0.0.1:1 }\nlog: { level: debug }\naccess_log: { format: json }\ncache: { memory: 1MiB, max_object: 1KiB, disk: { path: d }, startup_grace: 1s }\n",
    )
    .config;
    assert_eq!(
        restart_only_changes(&old, &new),
        [
            "workers",
            "admin.address",
            "log",
            "access_log",
            "cache.memory",
            "cache.max_object",
            "cache.disk",
            "cache.startup_grace"
        ]
    );
    new = old.clone();
    new.access_log.path = AccessLogPath::File(PathBuf::from("x"));
    assert_eq!(restart_only_changes(&old, &new), ["access_log"]);
}

#[test]
fn a_listener_on_a_unix_socket_has_a_path_a_mode_and_trusted_proxies() {
    let text = "listeners:
  - address: unix:run/gate.sock
    mode: 0600
    proxy_protocol: { from: [unix, 10.0.0.0/8, '::1'] }
  - address: '[::]:80'
limits: { connections: 9, connections_per_address: 0 }
routes: [{ name: none, respond: { status: 204 } }]
";
    let loaded = parse(text, Path::new("/etc/headgate/gate.yaml"));
    let config = loaded.unwrap_or_else(|error| panic!("{error}")).config;
    let [unix, v6] = &config.listeners[..] else {
        panic!("{:?}", config.listeners);
    };
    assert_eq!(unix.address.to_string(), "unix:/etc/headgate/run/gate.sock");
    assert_eq!(unix.mode, 0o600);
    let senders = &unix.proxy_protocol;
    for (ip, included) in [
        (None, true),
        (Some("10.1.2.3"), true),
        (Some("::1"), true),
        (Some("11.0.0.1"), false),
    ] {
        let ip = ip.map(|ip| ip.parse().unwrap());
        assert_eq!(senders.include(ip), included, "{ip:?}");
    }
    assert_eq!(v6.address.to_string(), "[::]:80");
    assert_eq!(v6.mode, 0o660);
    assert!(!v6.proxy_protocol.include(None));
    let limits = config.limits.connections;
    assert_eq!(limits.total.map(std::num::NonZero::get), Some(9));
    assert_eq!(limits.per_address, None);
}
