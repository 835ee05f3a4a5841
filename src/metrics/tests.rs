//! What a scrape shows, and that workers add up.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use http::{Method, StatusCode};

use super::*;

/// A scrape, parsed back: series as written, and its value.
fn scrape(metrics: &Metrics) -> HashMap<String, f64> {
    let mut series = HashMap::new();
    for line in metrics
        .render()
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            series
                .insert(name.to_owned(), value.parse().unwrap())
                .is_none(),
            "{line} twice"
        );
    }
    series
}

fn count_one(route: &Route, worker: usize) {
    route
        .worker(worker)
        .count(&Method::GET, StatusCode::OK, Duration::from_millis(2), 10);
}

#[test]
fn counts_of_two_workers_are_summed_in_a_scrape() {
    let metrics = Metrics::new(2);
    let route = metrics.route("products");
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let route = &route;
            scope.spawn(move || (0..50_000).for_each(|_| count_one(route, worker)));
        }
    });
    route.worker(0).enter();
    route.worker(1).enter();
    route.worker(1).enter();
    route.worker(1).leave();

    let series = scrape(&metrics);
    let get = r#"headgate_http_requests_total{route="products",method="GET",code="200"}"#;
    assert_eq!(series[get], 100_000.0);
    assert_eq!(
        series[r#"headgate_http_response_bytes_total{route="products"}"#],
        1_000_000.0
    );
    assert_eq!(
        series[r#"headgate_http_in_flight_requests{route="products"}"#],
        2.0
    );
    let sum = series[r#"headgate_http_request_duration_seconds_sum{route="products"}"#];
    assert!((sum - 200.0).abs() < 1e-6, "{sum}");
    assert_eq!(series["headgate_workers"], 2.0);
}

#[test]
fn a_histogram_is_cumulative_and_its_bounds_are_in_seconds() {
    let metrics = Metrics::new(1);
    let route = metrics.route("r");
    for micros in [500, 501, 75_000, 1_000_000, 11_000_000] {
        let duration = Duration::from_micros(micros);
        route
            .worker(0)
            .count(&Method::GET, StatusCode::OK, duration, 0);
    }
    let series = scrape(&metrics);
    let expected = [
        ("0.0005", 1.0),
        ("0.001", 2.0),
        ("0.0025", 2.0),
        ("0.005", 2.0),
        ("0.01", 2.0),
        ("0.025", 2.0),
        ("0.05", 2.0),
        ("0.075", 3.0),
        ("0.1", 3.0),
        ("0.25", 3.0),
        ("0.5", 3.0),
        ("0.75", 3.0),
        ("1", 4.0),
        ("2.5", 4.0),
        ("5", 4.0),
        ("7.5", 4.0),
        ("10", 4.0),
        ("+Inf", 5.0),
    ];
    for (bound, count) in expected {
        let bucket =
            format!(r#"headgate_http_request_duration_seconds_bucket{{route="r",le="{bound}"}}"#);
        assert_eq!(series[&bucket], count, "{bucket}");
    }
    let buckets = series
        .keys()
        .filter(|name| name.contains("request_duration_seconds_bucket"));
    assert_eq!(buckets.count(), expected.len());
    assert_eq!(
        series[r#"headgate_http_request_duration_seconds_count{route="r"}"#],
        5.0
    );
}

#[test]
fn an_unknown_method_or_status_makes_no_series_of_its_own() {
    let metrics = Metrics::new(1);
    let route = metrics.route("r");
    for (method, status) in [("PURGE", 299), ("BREW", 298), ("GET", 599), ("GET", 799)] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        route.worker(0).count(&method, status, Duration::ZERO, 0);
    }
    let series = scrape(&metrics);
    let total = |method: &str, code: &str| {
        series[&format!(
            r#"headgate_http_requests_total{{route="r",method="{method}",code="{code}"}}"#
        )]
    };
    assert_eq!(total("_OTHER", "2xx"), 2.0);
    assert_eq!(total("GET", "5xx"), 1.0);
    assert_eq!(total("GET", "_OTHER"), 1.0);
    assert_eq!(
        series
            .keys()
            .filter(|name| name.contains("requests_total{route"))
            .count(),
        3
    );
}

#[test]
fn counters_go_on_when_a_name_is_resolved_again() {
    let metrics = Metrics::new(1);
    count_one(&metrics.route("r"), 0);
    count_one(&metrics.route("r"), 0);
    metrics.endpoint("u", "a:1").worker(0).opened();
    metrics.endpoint("u", "a:1").worker(0).opened();
    let series = scrape(&metrics);
    assert_eq!(
        series[r#"headgate_http_requests_total{route="r",method="GET",code="200"}"#],
        2.0
    );
    let opened = r#"headgate_upstream_connections_total{upstream="u",endpoint="a:1"}"#;
    assert_eq!(series[opened], 2.0);
}

#[test]
fn names_that_left_the_configuration_are_forgotten() {
    let metrics = Metrics::new(1);
    let old = metrics.route("old");
    for name in ["old", "kept"] {
        count_one(&metrics.route(name), 0);
        metrics
            .upstream(name)
            .worker(0)
            .error(ProxyError::ConnectionRefused);
        metrics.endpoint(name, "a:1").worker(0).opened();
        metrics.listener(name).worker(0).accepted();
    }
    let name: Arc<str> = Arc::from("kept");
    metrics.retain(&Kept {
        routes: HashSet::from([Arc::clone(&name)]),
        upstreams: HashSet::from([Arc::clone(&name)]),
        endpoints: HashSet::from([(Arc::clone(&name), Arc::from("a:1"))]),
        listeners: HashSet::from([name]),
    });
    // An older snapshot may still hold the handle.
    count_one(&old, 0);

    let text = metrics.render();
    assert!(!text.contains("\"old\""), "{text}");
    let series = scrape(&metrics);
    for name in [
        r#"headgate_http_requests_total{route="kept",method="GET",code="200"}"#,
        r#"headgate_upstream_errors_total{upstream="kept",reason="connection_refused"}"#,
        r#"headgate_upstream_connections_total{upstream="kept",endpoint="a:1"}"#,
        r#"headgate_connections_open{listener="kept"}"#,
    ] {
        assert_eq!(series[name], 1.0, "{name}");
    }
}

#[test]
fn one_endpoint_address_in_two_upstreams_is_counted_apart() {
    let metrics = Metrics::new(1);
    metrics.endpoint("a", "h:1").worker(0).parked();
    metrics
        .endpoint("b", "h:1")
        .worker(0)
        .answered(Duration::from_millis(1));
    let series = scrape(&metrics);
    let idle = |upstream: &str| {
        series[&format!(
            r#"headgate_upstream_connections_idle{{upstream="{upstream}",endpoint="h:1"}}"#
        )]
    };
    assert_eq!((idle("a"), idle("b")), (1.0, 0.0));
}

#[test]
fn a_label_cannot_break_out_of_its_quotes() {
    let metrics = Metrics::new(1);
    count_one(&metrics.route("a\"} 1\nforged 2\\"), 0);
    let text = metrics.render();
    assert!(
        text.contains(r#"{route="a\"} 1\nforged 2\\",method="GET",code="200"} 1"#),
        "{text}"
    );
    assert!(text.lines().all(|line| !line.starts_with("forged")));
}

#[test]
fn a_failed_reload_shows_and_leaves_the_configuration_in_force() {
    let metrics = Metrics::new(1);
    let control = metrics.control();
    assert!(!scrape(&metrics).contains_key("headgate_config_generation"));

    control.config_loaded(1, "aa", UNIX_EPOCH + Duration::from_millis(1_500));
    control.config_reloaded(2, "bb", UNIX_EPOCH + Duration::from_millis(2_500));
    control.reload_failed();

    let series = scrape(&metrics);
    assert_eq!(series["headgate_config_last_reload_successful"], 0.0);
    assert_eq!(
        series["headgate_config_last_reload_success_timestamp_seconds"],
        2.5
    );
    assert_eq!(series["headgate_config_generation"], 2.0);
    assert_eq!(series[r#"headgate_config_info{sha256="bb"}"#], 1.0);
    assert!(!series.contains_key(r#"headgate_config_info{sha256="aa"}"#));
    assert_eq!(
        series[r#"headgate_config_reloads_total{outcome="success"}"#],
        1.0
    );
    assert_eq!(
        series[r#"headgate_config_reloads_total{outcome="failure"}"#],
        1.0
    );
}

#[test]
fn what_other_rooms_own_is_pulled_when_scraped() {
    let metrics = Metrics::new(1);
    let bytes = Arc::new(Mutex::new(7));
    let owned = Arc::clone(&bytes);
    let again = Arc::downgrade(&metrics);
    metrics.pull(move |sink| {
        // A pull may ask for handles without a deadlock.
        again.upgrade().unwrap().route("r");
        sink.put_count(Name::CacheBytes, &[], *owned.lock());
        sink.put(Name::UpstreamEndpointUp, &["u", "a:1"], 1.0);
    });
    assert_eq!(scrape(&metrics)["headgate_cache_bytes"], 7.0);
    *bytes.lock() = 8;
    let series = scrape(&metrics);
    assert_eq!(series["headgate_cache_bytes"], 8.0);
    assert_eq!(
        series[r#"headgate_upstream_endpoint_up{upstream="u",endpoint="a:1"}"#],
        1.0
    );
}

#[test]
fn every_sample_belongs_to_a_described_family() {
    let metrics = Metrics::new(1);
    count_one(&metrics.route("r"), 0);
    metrics.route("r").worker(0).cache(CacheResult::Hit);
    metrics.worker(0).closed(CloseReason::IdleTimeout);
    metrics.worker(0).reject(RejectReason::NoRoute);
    metrics
        .upstream("u")
        .worker(0)
        .connected(Duration::from_millis(1));
    metrics
        .upstream("u")
        .worker(0)
        .retry(ProxyError::ConnectionTerminated);
    metrics.control().panicked();
    metrics.control().access_log_dropped(3);

    let text = metrics.render();
    let mut family = "";
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            family = described.split(' ').next().unwrap();
            assert!(text.contains(&format!("# HELP {family} ")), "{family}");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} stands under {family}");
        }
    }
    let series = scrape(&metrics);
    for (name, value) in [
        (
            r#"headgate_cache_requests_total{route="r",result="hit"}"#,
            1.0,
        ),
        (
            r#"headgate_connections_closed_total{reason="idle_timeout"}"#,
            1.0,
        ),
        (
            r#"headgate_connections_closed_total{reason="slow_reader"}"#,
            0.0,
        ),
        (r#"headgate_rejects_total{reason="no_route"}"#, 1.0),
        (
            r#"headgate_retries_total{upstream="u",reason="connection_terminated"}"#,
            1.0,
        ),
        (
            r#"headgate_upstream_connect_duration_seconds_count{upstream="u"}"#,
            1.0,
        ),
        ("headgate_panics_total", 1.0),
        ("headgate_access_log_dropped_total", 3.0),
    ] {
        assert_eq!(series[name], value, "{name}");
    }
    assert!(
        series
            .keys()
            .any(|name| name.starts_with("headgate_build_info{version="))
    );
    #[cfg(target_os = "linux")]
    assert!(series["process_resident_memory_bytes"] > 0.0);
}

#[test]
fn the_manual_lists_every_family_as_it_is() {
    let manual = include_str!("../../docs/metrics.md");
    let rows: Vec<&str> = manual
        .lines()
        .filter(|line| line.starts_with("| `headgate_"))
        .collect();
    for name in Name::ALL {
        let family = name.family();
        let kind = format!("{:?}", family.kind).to_lowercase();
        let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let labels = match labels.len() {
            0 => "-".to_owned(),
            _ => labels.join(", "),
        };
        let row = format!(
            "| `{}` | {kind} | {labels} | {} |",
            family.name, family.help
        );
        assert!(
            rows.contains(&&*row),
            "docs/metrics.md lacks this row:\n{row}"
        );
    }
    assert_eq!(
        rows.len(),
        Name::ALL.len(),
        "docs/metrics.md has rows for nothing"
    );
}

/// The values in the table below a heading of the manual, in their order.
fn values_below<'a>(manual: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, section) = manual
        .split_once(&format!("\n### {heading}\n"))
        .unwrap_or_else(|| panic!("docs/metrics.md has no section {heading}"));
    section
        .lines()
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .flat_map(|(values, _)| values.split("`, `"))
        .collect()
}

#[test]
fn the_manual_lists_every_value_of_every_label() {
    macro_rules! texts {
        ($enum:ident) => {
            $enum::ALL.iter().map(|value| value.as_str()).collect()
        };
    }
    let manual = include_str!("../../docs/metrics.md");
    let expected: [(&str, &str, Vec<&str>); 11] = [
        (
            "result",
            "headgate_cache_requests_total",
            texts!(CacheResult),
        ),
        (
            "reason",
            "headgate_cache_bypasses_total",
            texts!(CacheBypass),
        ),
        (
            "reason",
            "headgate_cache_refusals_total",
            texts!(CacheRefusal),
        ),
        ("selector", "headgate_cache_purges_total", texts!(PurgeKind)),
        (
            "strength",
            "headgate_cache_purges_total",
            texts!(PurgeStrength),
        ),
        (
            "reason",
            "headgate_connections_closed_total",
            texts!(CloseReason),
        ),
        ("by", "headgate_http2_resets_total", texts!(Side)),
        ("code", "headgate_http2_goaways_total", texts!(Http2Code)),
        ("kind", "headgate_http2_floods_total", texts!(Http2Flood)),
        ("reason", "headgate_rejects_total", texts!(RejectReason)),
        (
            "reason",
            "headgate_upstream_tunnels_total",
            texts!(TunnelEnd),
        ),
    ];
    for (label, family, texts) in expected {
        let listed = values_below(manual, &format!("`{label}` of `{family}`"));
        assert_eq!(listed, texts, "{label} of {family}");
    }
    let errors: Vec<&str> = texts!(ProxyError);
    let listed = values_below(manual, "`reason` of `headgate_upstream_errors_total`");
    assert_eq!(listed, errors);
}
