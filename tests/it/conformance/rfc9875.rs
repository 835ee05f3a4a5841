//! RFC 9875: groups of answers, and writes that say which ones they have changed.

use crate::harness::{Config, Gate, Latch, Origin, Reply, Request, Timed};

/// An origin of `/a` in the groups "a" and "ab", `/b` in "ab" and "b", `/none` in none; a request for `/w`
/// by any method is answered with this status and says that these groups have changed.
async fn origin(status: u16, changed: &'static str) -> Origin {
    let of = |path: &'static str| Reply::ok(path).header("cache-control", "max-age=3600, public");
    Origin::start("o")
        .await
        .on("/a", move |_| {
            of("a").header("cache-groups", "\"a\", \"ab\";x=1")
        })
        .on("/b", move |_| {
            of("b").header("cache-groups", "\"ab\", \"b\"")
        })
        .on("/none", move |_| of("none"))
        .on("/w", move |_| {
            Reply::new(status)
                .header("cache-group-invalidation", changed)
                .body("")
        })
}

/// Which of them are still served after a request for `/w`.
async fn left(method: &str, status: u16, changed: &'static str) -> Vec<&'static str> {
    const ALL: [&str; 3] = ["/a", "/b", "/none"];
    let origin = origin(status, changed).await;
    let gate = Timed::caching(&origin, "").await;
    for path in ALL {
        gate.get(path).await.expect(200);
    }
    gate.send(&Request::new(method, "/w")).await.expect(status);
    let mut left = Vec::new();
    for path in ALL {
        if gate.get(path).await.is_hit() {
            left.push(path);
        }
    }
    left
}

#[tokio::test]
async fn s3_a_write_invalidates_the_groups_that_its_answer_names() {
    assert_eq!(left("POST", 200, "\"ab\"").await, ["/none"]);
    assert_eq!(left("PUT", 200, "\"x\", \"b\";p").await, ["/a", "/none"]);
    assert_eq!(left("FROB", 200, "\"a\", \"b\"").await, ["/none"]);
    // Whatever else its answer says.
    assert_eq!(left("POST", 409, "\"a\"").await, ["/b", "/none"]);
}

#[tokio::test]
async fn s2_2_1_invalidation_by_a_group_goes_no_further() {
    // `/a` and `/b` share "ab", which is not named.
    assert_eq!(left("POST", 200, "\"a\"").await, ["/b", "/none"]);
}

#[tokio::test]
async fn s3_answers_to_safe_methods_invalidate_nothing() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let left = left(method, 200, "\"ab\"").await;
        assert_eq!(left, ["/a", "/b", "/none"], "{method}");
    }
}

#[tokio::test]
async fn s3_a_list_that_cannot_be_read_is_ignored_and_names_have_case() {
    for changed in [
        "\"ab",
        "\"ab\", ",
        "ab",
        "\"AB\"",
        "(\"ab\")",
        "\"ab\" \"b\"",
    ] {
        let left = left("POST", 200, changed).await;
        assert_eq!(left, ["/a", "/b", "/none"], "{changed}");
    }
}

#[tokio::test]
async fn s2_1_groups_are_of_their_origin() {
    let origin = origin(200, "\"ab\"").await;
    let gate = Timed::caching(&origin, "").await;
    let at = |method: &str, path: &str| Request::new(method, path).header("host", "other.test");
    gate.get("/a").await.expect(200);
    gate.send(&at("GET", "/a")).await.expect(200);

    gate.send(&at("POST", "/w")).await.expect(200);

    assert!(gate.get("/a").await.is_hit());
    assert!(!gate.send(&at("GET", "/a")).await.is_hit());
}

/// A fetch in flight that turns out to be in a group which has changed meanwhile: neither stored, nor given
/// to those who came after the change.
#[tokio::test]
async fn s3_an_older_fetch_in_flight_counts_as_changed() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = origin(200, "\"g\"").await.on("/p", move |seen| {
        let reply = match seen.earlier {
            0 => Reply::ok("old").after(&wait),
            _ => Reply::ok("new"),
        };
        reply
            .header("cache-control", "max-age=3600")
            .header("cache-groups", "\"g\"")
    });
    let gate = Gate::start(&Config::cached(&[&origin]).workers(2)).await;

    let mut early = gate.begin(&Request::get("/p")).await;
    origin.until_asked("/p", 1).await;
    gate.send(&Request::post("/w", "x")).await.expect(200);
    let mut late = Vec::new();
    for _ in 0..4 {
        late.push(gate.begin(&Request::get("/p")).await);
    }
    // They wait for a fetch that may still be the right one.
    gate.until("headgate_http_in_flight_requests", &[], 5.0)
        .await;
    latch.open();

    assert_eq!(early.answer().await.expect(200).text(), "old");
    for client in &mut late {
        assert_eq!(client.answer().await.expect(200).text(), "new");
    }
    assert!(gate.get("/p").await.is_hit());
    assert_eq!(origin.requests("/p"), 2);
}
