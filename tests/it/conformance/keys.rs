//! What stored answers are told apart by, and what names a user.

use crate::harness::{Config, Gate, Origin, Reply, Request, Timed};

/// An origin that answers with what it was asked, and keeps nothing to itself.
async fn mirror() -> Origin {
    Origin::start("a").await.on("/p", |seen| {
        let said = |name| seen.header(name).unwrap_or("-").to_owned();
        let body = format!(
            "{} {} {} {}",
            seen.target,
            said("x-currency"),
            said("cookie"),
            said("x-device-class")
        );
        Reply::ok(body).header("cache-control", "max-age=60")
    })
}

#[tokio::test]
async fn parameters_that_the_route_drops_are_neither_told_apart_nor_passed_on() {
    let origin = mirror().await;
    let gate = Timed::caching(&origin, "key: { query: { drop: ['utm_*'], sort: true } }").await;

    let first = gate.get("/p?b=1&utm_source=evil&a=2").await.expect(200);
    let second = gate.get("/p?a=2&b=1&utm_medium=x").await.expect(200);
    let other = gate.get("/p?a=3&b=1").await.expect(200);

    assert!(first.text().starts_with("/p?a=2&b=1 "), "{}", first.text());
    assert!(second.is_hit(), "{}", second.cache());
    assert!(!other.is_hit(), "{}", other.cache());
}

#[tokio::test]
async fn a_write_reaches_what_is_stored_without_the_dropped_parameters() {
    let origin = mirror().await;
    let gate = Timed::caching(&origin, "key: { query: { keep: [id] } }").await;
    gate.get("/p?id=1&x=2").await.expect(200);

    gate.send(&Request::post("/p?x=9&id=1", "new"))
        .await
        .expect(200);

    assert!(!gate.get("/p?id=1").await.is_hit());
}

#[tokio::test]
async fn fields_and_cookies_that_the_route_names_tell_answers_apart() {
    let origin = mirror().await;
    let gate = Timed::caching(&origin, "key: { headers: [x-currency], cookies: [shop] }").await;
    for (currency, cookie) in [("eur", "shop=1"), ("usd", "shop=1"), ("eur", "shop=2")] {
        let fields = [("x-currency", currency), ("cookie", cookie)];
        let first = gate.get_with("/p", &fields).await.expect(200);
        assert!(!first.is_hit(), "{}", first.cache());
        let second = gate.get_with("/p", &fields).await.expect(200);
        assert!(second.is_hit(), "{}", second.cache());
        assert!(
            second.text().contains(&format!("{currency} {cookie}")),
            "{}",
            second.text()
        );
    }
}

#[tokio::test]
async fn devices_are_told_apart_by_class_and_the_endpoint_is_told_which() {
    let origin = mirror().await;
    let gate = Timed::caching(&origin, "key: { device: true }").await;
    let phone = |model: &str| format!("Mozilla/5.0 (Linux; Android 15; {model}) Mobile");
    let one = [("user-agent", &*phone("A")), ("x-device-class", "forged")];
    let first = gate.get_with("/p", &one).await.expect(200);
    assert!(first.text().ends_with(" mobile"), "{}", first.text());
    let second = gate.get_with("/p", &[("user-agent", &*phone("B"))]).await;
    assert!(second.is_hit(), "{}", second.cache());
    let desktop = gate.get_with("/p", &[("user-agent", "Firefox")]).await;
    assert!(desktop.text().ends_with(" desktop"), "{}", desktop.text());
}

#[tokio::test]
async fn an_answer_to_a_cookie_is_kept_only_when_it_says_that_it_is_for_all() {
    for (cache_control, is_kept) in [("max-age=60", false), ("max-age=60, public", true)] {
        let origin = Origin::start("a").await.on("/p", move |_| {
            Reply::ok("p").header("cache-control", cache_control)
        });
        let gate = Timed::caching(&origin, "").await;
        let user = [("cookie", "session=1")];
        let first = gate.get_with("/p", &user).await.expect(200);
        let second = gate.get_with("/p", &user).await.expect(200);
        assert_eq!(
            second.is_hit(),
            is_kept,
            "{cache_control}: {}",
            second.cache()
        );
        if !is_kept {
            assert_eq!(first.cache(), "headgate; fwd=uri-miss; detail=cookie");
        }
        // Those who show no cookie are answered from the store either way.
        gate.get("/p").await.expect(200);
        assert!(gate.get("/p").await.is_hit());
    }
}

#[tokio::test]
async fn cookies_that_the_route_ignores_name_nobody() {
    let origin = mirror().await;
    let gate = Timed::caching(&origin, "ignore_cookies: ['_ga*', consent]").await;
    let visitor = [("cookie", "_ga_1=a; consent=yes")];
    gate.get_with("/p", &visitor).await.expect(200);
    assert!(gate.get_with("/p", &visitor).await.is_hit());
}

#[tokio::test]
async fn rfc9111_s3_5_an_answer_to_authorization_is_kept_only_when_it_says_so() {
    for (cache_control, is_kept) in [
        ("max-age=60", false),
        ("max-age=60, proxy-revalidate", false),
        ("max-age=60, public", true),
        ("max-age=60, must-revalidate", true),
        ("s-maxage=60", true),
    ] {
        let origin = Origin::start("a").await.on("/p", move |_| {
            Reply::ok("p").header("cache-control", cache_control)
        });
        let gate = Timed::caching(&origin, "").await;
        let user = [("authorization", "Bearer x")];
        gate.get_with("/p", &user).await.expect(200);
        let second = gate.get_with("/p", &user).await.expect(200);
        assert_eq!(
            second.is_hit(),
            is_kept,
            "{cache_control}: {}",
            second.cache()
        );
    }
}

#[tokio::test]
async fn a_user_is_not_given_what_was_stored_for_the_anonymous() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        Reply::ok(seen.header("authorization").unwrap_or("nobody"))
            .header("cache-control", "max-age=60")
    });
    let gate = Timed::caching(&origin, "").await;
    assert_eq!(gate.get("/p").await.expect(200).text(), "nobody");
    let user = gate.get_with("/p", &[("authorization", "Bearer x")]).await;
    assert_eq!(user.text(), "Bearer x");
    assert_eq!(gate.get("/p").await.expect(200).text(), "nobody");
}

/// An origin that answers by what its proxies claim; the gate trusts who comes by its Unix socket.
async fn claiming(rule: &str) -> (Origin, Gate) {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let said = |name| seen.header(name).unwrap_or("-").to_owned();
        let body = format!(
            "{} {}",
            said("x-price-group"),
            said("x-token-claim-currency")
        );
        Reply::ok(body).header("cache-control", "max-age=60")
    });
    let config = Config::new()
        .top("trusted_proxies: [unix]")
        .top("claims: { trusted_only: [X-Price-Group] }")
        .listener("address: unix:web.sock")
        .upstream("shop", &[&origin], "");
    let route = format!("upstream: shop, cache: {{ {rule} }}");
    let gate = Gate::start(&config.route("shop", "path_prefix: /", &route)).await;
    (origin, gate)
}

#[tokio::test]
async fn a_claim_of_a_trusted_proxy_tells_answers_apart_and_nobody_else_can_choose_it() {
    let by_name = "key: { headers: [x-price-group, x-token-claim-currency] }";
    for (rule, currency) in [(by_name, "eur"), ("", "-")] {
        let (origin, gate) = claiming(rule).await;
        let get = |group: &str| {
            let request = Request::get("/p").header("x-price-group", group);
            match currency {
                "-" => request,
                currency => request.header("x-token-claim-currency", currency),
            }
        };
        let mut proxy = gate.unix_client("web.sock").await;
        for (group, is_hit) in [
            ("gold", false),
            ("gold", true),
            ("blue", false),
            ("blue", true),
        ] {
            let answer = proxy.send(&get(group)).await.expect(200);
            assert_eq!(answer.text(), format!("{group} {currency}"));
            assert_eq!(answer.is_hit(), is_hit, "{rule}: {}", answer.cache());
        }
        for (group, is_hit) in [("gold", false), ("blue", true), ("x", true)] {
            let answer = gate.send(&get(group)).await.expect(200);
            assert_eq!((answer.text(), answer.is_hit()), ("- -", is_hit), "{rule}");
        }
        assert_eq!(origin.requests("/p"), 3);
    }
}

#[tokio::test]
async fn a_claim_of_who_asks_goes_past_the_cache_where_the_key_does_not_name_it() {
    let (origin, gate) = claiming("key: { headers: [x-price-group] }").await;
    let mut proxy = gate.unix_client("web.sock").await;
    for _ in 0..2 {
        let request = Request::get("/p").header("x-token-claim-currency", "eur");
        let answer = proxy.send(&request).await.expect(200);
        assert!(answer.cache().contains("bypass"), "{}", answer.cache());
    }
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn a_claim_comes_no_later_than_with_the_head() {
    let (origin, gate) = claiming("").await;
    let mut client = gate.client().await;
    client
        .write(
            b"POST /p HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\
              trailer: x-price-group, x-late\r\n\r\n1\r\na\r\n0\r\nx-price-group: gold\r\nx-late: 1\r\n\r\n",
        )
        .await;
    client.answer().await.expect(200);
    let trailers = origin.last("/p").trailers.join(" ").to_ascii_lowercase();
    assert!(trailers.contains("x-late"), "{trailers}");
    assert!(!trailers.contains("price-group"), "{trailers}");
}

#[tokio::test]
async fn a_cookie_that_comes_twice_cannot_choose_what_others_get() {
    let origin = mirror().await;
    let gate = Timed::caching(&origin, "key: { cookies: [shop] }").await;
    for forged in ["shop=1; shop=2", "shop=1;shop =2", "shop=2; shop=1", "shop"] {
        let answer = gate.get_with("/p", &[("cookie", forged)]).await;
        assert!(!answer.is_hit(), "{forged}: {}", answer.cache());
    }
    let first = Request::get("/p").header("cookie", "shop=1");
    let lines = first.header("cookie", "shop=3");
    assert!(!gate.send(&lines).await.is_hit());
    let honest = gate.get_with("/p", &[("cookie", "shop=1")]).await;
    assert!(!honest.is_hit(), "{}", honest.cache());
    assert!(honest.text().contains(" shop=1 "), "{}", honest.text());
}

#[tokio::test]
async fn endpoints_are_told_the_device_by_requests_past_the_cache_too() {
    let origin = mirror().await;
    let gate = Timed::caching(&origin, "key: { device: true }").await;
    let fields = [
        ("user-agent", "Mozilla/5.0 (Linux; Android 15) Mobile"),
        ("x-device-class", "desktop"),
        ("cache-control", "no-store"),
    ];
    let answer = gate.get_with("/p", &fields).await.expect(200);
    assert!(answer.text().ends_with(" mobile"), "{}", answer.text());
}

#[tokio::test]
async fn what_the_route_drops_is_in_no_field_that_it_writes_either() {
    let origin = mirror().await;
    let config = Config::new().upstream("shop", &[&origin], "");
    let route = "upstream: shop, cache: { key: { query: { drop: ['utm_*'] } } }, \
                 request_headers: { set: { x-currency: '{path}{query}' } }";
    let gate = Timed::start(config.route("shop", "path_prefix: /", route)).await;
    let answer = gate.get("/p?utm_x=evil&a=1").await.expect(200);
    assert_eq!(answer.text(), "/p?a=1 /p?a=1 - -");
}
