//! RFC 9111 section 3, with sections 6.5, 7.6.1 and 15 of RFC 9110: what is stored, and of what which parts.

use super::{Fields, kept, rows, saying};
use crate::harness::{Origin, Reply, Request, Timed};

#[tokio::test]
async fn s3_every_final_status_is_stored_with_a_stated_lifetime() {
    const FRESH: (&str, &str) = ("cache-control", "max-age=100");
    macro_rules! of {
        ($kept:literal: $($status:literal),*) => {
            vec![$((&[(":status", $status), FRESH] as Fields, $kept)),*]
        };
    }
    let mut table = of!(true: "200", "201", "202", "203", "204", "205", "226", "299", "300", "301",
        "302", "303", "305", "307", "308", "399", "400", "401", "402", "403", "404", "405", "406",
        "408", "409", "410", "411", "413", "414", "415", "417", "418", "421", "422", "425", "426",
        "428", "429", "431", "451", "499", "500", "501", "502", "503", "504", "505", "511", "599");
    // They answer conditions or a proxy's own questions; nobody asked for them.
    table.extend(of!(false: "304", "407", "412", "416"));
    let mut table: Vec<(Fields, bool)> = table;
    table.retain(|(fields, _)| fields[0].1 != "205");
    kept("", &table).await;
}

#[tokio::test]
async fn s3_a_stale_answer_of_any_status_is_not_served() {
    let statuses: Vec<Fields> = vec![
        &[(":status", "200"), ("cache-control", "max-age=10")],
        &[(":status", "299"), ("cache-control", "max-age=10")],
        &[(":status", "301"), ("cache-control", "max-age=10")],
        &[(":status", "404"), ("cache-control", "max-age=10")],
        &[(":status", "503"), ("cache-control", "max-age=10")],
        &[(":status", "599"), ("cache-control", "max-age=10")],
    ];
    let count = statuses.len();
    let origin = rows(statuses).await;
    let gate = Timed::caching(&origin, "").await;
    for row in 0..count {
        gate.get(&format!("/{row}")).await;
    }
    gate.advance(20);
    for row in 0..count {
        let answer = gate.get(&format!("/{row}")).await;
        assert_eq!(answer.text(), "2", "{}", answer.status);
    }
}

#[tokio::test]
async fn s3_interim_answers_are_not_stored_and_do_not_stand_for_the_final_one() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nx-interim: yes\r\n\
             cache-control: max-age=9999\r\n\r\n\
             HTTP/1.1 200 OK\r\ncache-control: max-age=100\r\ncontent-length: 5\r\n\r\nfinal",
        )
    });
    let gate = Timed::caching(&origin, "").await;
    let mut client = gate.client().await;
    client.write(Request::get("/p").bytes()).await;
    loop {
        let answer = client.answer().await;
        if answer.status >= 200 {
            assert_eq!(answer.text(), "final");
            break;
        }
    }
    let second = gate.get("/p").await.expect(200);
    assert!(second.is_hit(), "{}", second.cache());
    assert_eq!((second.text(), second.header("x-interim")), ("final", None));
    gate.advance(150);
    gate.get("/p").await;
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s3_answers_to_other_methods_are_not_stored() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        Reply::ok(format!("{} {}", seen.method, seen.earlier))
            .header("cache-control", "max-age=100, public")
            .header("content-location", "/p")
    });
    let gate = Timed::caching(&origin, "").await;
    for method in ["POST", "OPTIONS", "PUT", "M-SEARCH", "QUERY"] {
        let request = Request::new(method, "/p").body("x");
        let first = gate.send(&request).await.expect(200);
        let second = gate.send(&request).await.expect(200);
        assert_ne!(first.text(), second.text(), "{method}");
        assert!(!second.is_hit());
    }
    let head = Request::new("HEAD", "/p");
    gate.send(&head).await.expect(200);
    assert!(gate.get("/p").await.expect(200).text().starts_with("GET"));
}

#[tokio::test]
async fn s3_1_fields_of_one_connection_or_of_a_proxy_are_not_stored() {
    const GONE: &[(&str, &str)] = &[
        ("connection", "x-a, X-B, keep-alive"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "x"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
    ];
    const KEPT: &[(&str, &str)] = &[
        ("x-c", "3"),
        ("test-header", "4"),
        ("content-foo", "5"),
        ("content-type", "text/plain;charset=utf-8"),
        ("content-language", "de"),
        ("content-location", "/foo"),
        ("content-md5", "rL0Y20zC+Fzt72VPzMSk2A=="),
        ("content-security-policy", "default-src 'self'"),
        ("clear-site-data", "cache"),
        ("expires", "Fri, 01 Jan 2038 01:01:01 GMT"),
        ("public-key-pins", "x"),
        ("set-cookie2", "a=b"),
        ("www-authenticate", "Basic"),
        ("x-frame-options", "deny"),
        ("x-xss-protection", "1"),
        ("cdn-cache-control", "max-age=100"),
        ("etag", "\"abc\""),
        ("cache-control", "max-age=100"),
    ];
    let origin = Origin::start("a").await.on("/p", |_| {
        let all = GONE.iter().chain(KEPT);
        all.fold(Reply::ok("p"), |reply, (name, value)| {
            reply.header(name, value)
        })
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    let hit = gate.get("/p").await.expect(200);
    assert!(hit.is_hit(), "{}", hit.cache());
    for (name, value) in GONE {
        let said = hit.all(name);
        assert!(!said.iter().any(|said| said == value), "{name}: {said:?}");
    }
    for (name, value) in KEPT {
        assert_eq!(hit.all(name), [*value], "{name}");
    }
}

#[tokio::test]
async fn s3_3_what_broke_off_is_not_stored_and_what_ended_is() {
    let fresh = "HTTP/1.1 200 OK\r\ncache-control: max-age=100\r\n";
    for (rest, is_kept) in [
        ("content-length: 10\r\n\r\n12345", false),
        ("transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n", false),
        (
            "transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
            true,
        ),
        ("content-length: 5\r\n\r\n12345", true),
        // Without a length the close is its end (RFC 9112 section 6.3).
        ("\r\n12345", true),
    ] {
        let origin = Origin::start("a")
            .await
            .on("/p", move |seen| match seen.earlier {
                0 => Reply::raw(format!("{fresh}{rest}")).close(),
                _ => Reply::ok("whole").header("cache-control", "max-age=100"),
            });
        let gate = Timed::caching(&origin, "").await;
        let mut client = gate.client().await;
        // What a client of a broken answer sees is tested elsewhere.
        drop(
            client
                .try_send(&Request::get("/p").header("connection", "close"))
                .await,
        );
        let second = gate.get("/p").await.expect(200);
        let expected = if is_kept { "12345" } else { "whole" };
        assert_eq!(second.text(), expected, "{rest:?}: {}", second.cache());
    }
}

#[tokio::test]
async fn rfc9110_s6_5_trailers_are_neither_stored_nor_merged_into_the_head() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\ncache-control: max-age=100\r\ntrailer: x-sum\r\n\
             transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nx-sum: 7\r\n\
             cache-control: max-age=9999\r\n\r\n",
        )
    });
    let gate = Timed::caching(&origin, "").await;
    let request = Request::get("/p")
        .header("te", "trailers")
        .header("connection", "te");
    gate.send(&request).await.expect(200);
    let hit = gate.send(&request).await.expect(200);
    assert!(hit.is_hit(), "{}", hit.cache());
    assert_eq!((hit.text(), hit.header("x-sum")), ("12345", None));
    assert_eq!(hit.all("cache-control"), ["max-age=100"]);
    assert!(hit.trailers.is_empty() && hit.header("trailer").is_none());
}

#[tokio::test]
async fn s7_3_cookies_are_stored_for_nobody() {
    const COOKIE: (&str, &str) = ("set-cookie", "id=1");
    for (rule, cache_control, is_kept) in [
        ("", "max-age=100", false),
        ("", "public, max-age=100", false),
        ("", "max-age=100, private=\"set-cookie\"", true),
        ("", "max-age=100, no-cache=\"Set-Cookie, x\"", true),
        ("set_cookie: strip", "max-age=100", true),
        ("set_cookie: strip", "max-age=100, private", false),
    ] {
        let origin = Origin::start("a").await.on("/p", move |_| {
            Reply::ok("p")
                .header(COOKIE.0, COOKIE.1)
                .header("cache-control", cache_control)
        });
        let gate = Timed::caching(&origin, rule).await;
        let first = gate.get("/p").await.expect(200);
        assert_eq!(first.header("set-cookie"), Some("id=1"), "{cache_control}");
        let second = gate.get("/p").await.expect(200);
        assert_eq!(
            second.is_hit(),
            is_kept,
            "{cache_control}: {}",
            second.cache()
        );
        assert_eq!(second.header("set-cookie").is_none(), is_kept);
    }
}

#[tokio::test]
async fn s4_a_newer_answer_that_may_not_be_stored_leaves_no_stale_one_fresh() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match seen.earlier {
            0 => saying(&[("cache-control", "max-age=10")], "old"),
            n => saying(
                &[("cache-control", "no-store")],
                if n == 1 { "new" } else { "newer" },
            ),
        });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    assert_eq!(gate.get("/p").await.expect(200).text(), "new");
    assert_eq!(gate.get("/p").await.expect(200).text(), "newer");
}

#[tokio::test]
async fn s4_unsafe_methods_are_written_through() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        Reply::ok(seen.method.clone()).header("cache-control", "max-age=100")
    });
    let gate = Timed::caching(&origin, "").await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        gate.get("/p").await.expect(200);
        let answer = gate.send(&Request::new(method, "/p").body("x")).await;
        assert_eq!(answer.expect(200).text(), method);
        assert_eq!(origin.last("/p").body, b"x");
    }
}

#[tokio::test]
async fn s2_each_query_has_an_answer_of_its_own() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        Reply::ok(seen.target.clone()).header("cache-control", "max-age=100")
    });
    let gate = Timed::caching(&origin, "").await;
    for target in [
        "/p",
        "/p?",
        "/p?a=1",
        "/p?a=2",
        "/p?a=1&b=2",
        "/p?b=2&a=1",
        "/p?A=1",
    ] {
        for is_hit in [false, true] {
            let answer = gate.get(target).await.expect(200);
            assert_eq!((answer.text(), answer.is_hit()), (target, is_hit));
        }
    }
}
