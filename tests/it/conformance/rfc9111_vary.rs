//! RFC 9111 section 4.1: which of the stored answers is for a request.

use super::date;
use crate::harness::{Origin, Reply, Timed};

type Sent = &'static [(&'static str, &'static str)];

/// Whether what was stored for `first` is given to `second`.
async fn shares(vary: &'static str, first: Sent, second: Sent) -> bool {
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::ok("p")
            .header("cache-control", "max-age=100")
            .header("vary", vary)
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get_with("/p", first).await.expect(200);
    gate.get_with("/p", second).await.expect(200).is_hit()
}

#[tokio::test]
async fn s4_1_every_nominated_field_must_be_the_same() {
    for (vary, first, second, is_shared) in [
        ("foo", &[("foo", "1")][..], &[("foo", "1")][..], true),
        ("foo", &[("foo", "1")], &[("foo", "2")], false),
        ("foo", &[("foo", "1")], &[], false),
        ("foo", &[], &[("foo", "1")], false),
        ("foo", &[], &[("foo", "")], false),
        ("foo", &[], &[], true),
        ("FOO", &[("foo", "1")], &[("foo", "2")], false),
        (
            "foo",
            &[("foo", "1"), ("x", "1")],
            &[("foo", "1"), ("x", "2")],
            true,
        ),
        (
            "foo, bar",
            &[("foo", "1"), ("bar", "2")],
            &[("bar", "2"), ("foo", "1")],
            true,
        ),
        (
            "foo, bar",
            &[("foo", "1"), ("bar", "2")],
            &[("foo", "1"), ("bar", "3")],
            false,
        ),
        (
            "foo, bar",
            &[("foo", "1"), ("bar", "2")],
            &[("foo", "1")],
            false,
        ),
        (
            "foo, bar, baz",
            &[("foo", "1"), ("baz", "3")],
            &[("foo", "1"), ("baz", "3")],
            true,
        ),
        (
            "foo, bar, baz",
            &[("foo", "1"), ("bar", "abc"), ("baz", "789")],
            &[("foo", "1"), ("baz", "789"), ("bar", "abcde")],
            false,
        ),
        (",foo,,", &[("foo", "1")], &[("foo", "2")], false),
        ("", &[("foo", "1")], &[("foo", "2")], true),
    ] {
        assert_eq!(
            shares(vary, first, second).await,
            is_shared,
            "{vary}: {first:?} {second:?}"
        );
    }
}

#[tokio::test]
async fn s4_1_values_are_compared_by_what_they_mean() {
    for (vary, first, second, is_shared) in [
        ("foo", &[("foo", "1,2")][..], &[("foo", " 1, 2 ")][..], true),
        (
            "foo",
            &[("foo", "1, 2")],
            &[("foo", "1"), ("foo", "2")],
            true,
        ),
        ("foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false),
        ("foo", &[("foo", "a")], &[("foo", "A")], false),
        ("foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")], false),
        (
            "accept-encoding",
            &[("accept-encoding", "gzip, br")],
            &[("accept-encoding", "BR;q=1.0,x-gzip")],
            true,
        ),
        (
            "accept-encoding",
            &[("accept-encoding", "gzip")],
            &[("accept-encoding", "gzip;q=0")],
            false,
        ),
        (
            "accept-language",
            &[("accept-language", "en, de;q=0.5")],
            &[("accept-language", " eN ,  De;q=0.50")],
            true,
        ),
        (
            "accept-language",
            &[("accept-language", "en;q=0.5, de")],
            &[("accept-language", "de, en;q=0.5")],
            true,
        ),
        // Both are equal, but some origins take the first.
        (
            "accept-language",
            &[("accept-language", "en, de")],
            &[("accept-language", "de, en")],
            false,
        ),
    ] {
        assert_eq!(
            shares(vary, first, second).await,
            is_shared,
            "{vary}: {first:?} {second:?}"
        );
    }
}

#[tokio::test]
async fn s4_1_a_star_among_the_members_fits_no_request() {
    for lines in [
        &["*"][..],
        &["*, *"],
        &["*", "*"],
        &[", *"],
        &["", "*"],
        &["*, foo"],
        &["foo, *"],
        &["foo", "*"],
        &["a b"],
        &["foo;bar"],
    ] {
        let origin = Origin::start("a").await.on("/p", move |_| {
            let reply = Reply::ok("p").header("cache-control", "max-age=100");
            lines
                .iter()
                .fold(reply, |reply, line| reply.header("vary", line))
        });
        let gate = Timed::caching(&origin, "").await;
        let sent = [("foo", "1"), ("baz", "789")];
        let first = gate.get_with("/p", &sent).await.expect(200);
        let second = gate.get_with("/p", &sent).await.expect(200);
        assert!(!second.is_hit(), "{lines:?}: {}", second.cache());
        assert_eq!(
            first.cache(),
            "headgate; fwd=uri-miss; detail=vary",
            "{lines:?}"
        );
    }
}

/// An origin whose answers vary by `foo`, until asked with `plain`.
async fn varying() -> Origin {
    Origin::start("a").await.on("/p", |seen| {
        let kind = seen.header("foo").unwrap_or("none");
        let reply =
            Reply::ok(format!("{kind} {}", seen.earlier)).header("cache-control", "max-age=100");
        match kind {
            "plain" => reply,
            _ => reply.header("vary", "foo"),
        }
    })
}

#[tokio::test]
async fn s4_1_variants_are_kept_beside_each_other() {
    let origin = varying().await;
    let gate = Timed::caching(&origin, "").await;
    for kind in ["1", "2", "3"] {
        gate.get_with("/p", &[("foo", kind)]).await.expect(200);
    }
    for kind in ["1", "2", "3"] {
        let answer = gate.get_with("/p", &[("foo", kind)]).await;
        assert!(
            answer.is_hit() && answer.text().starts_with(kind),
            "{kind}: {}",
            answer.cache()
        );
    }
    let other = gate.get_with("/p", &[("foo", "4")]).await;
    assert_eq!(other.cache(), "headgate; fwd=vary-miss; stored");
}

#[tokio::test]
async fn s4_1_of_several_that_fit_the_most_recent_is_preferred() {
    // The second answer varies by nothing, so it fits every request; the first is for `1` alone.
    for (first, second, wins) in [(-10, 0, "second"), (0, -10, "first")] {
        let origin = Origin::start("a").await.on("/p", move |seen| {
            let reply = Reply::new(200).header("cache-control", "max-age=100");
            match seen.header("foo") {
                Some("1") => reply
                    .header("vary", "foo")
                    .header("date", &date(first))
                    .body("first"),
                _ => reply
                    .header("vary", "bar")
                    .header("date", &date(second))
                    .body("second"),
            }
        });
        let gate = Timed::caching(&origin, "").await;
        gate.get_with("/p", &[("foo", "1")]).await.expect(200);
        gate.get_with("/p", &[("foo", "2")]).await.expect(200);
        let both = gate.get_with("/p", &[("foo", "1")]).await;
        assert!(both.is_hit(), "{}", both.cache());
        assert_eq!(both.text(), wins, "{first} {second}");
    }
}

#[tokio::test]
async fn s4_1_variants_of_one_url_are_bounded() {
    let origin = varying().await;
    let gate = Timed::caching(&origin, "").await;
    for n in 0..40 {
        gate.get_with("/p", &[("foo", &n.to_string())])
            .await
            .expect(200);
    }
    let mut hits = 0;
    for n in (0..40).rev() {
        let only = [
            ("foo", &*n.to_string()),
            ("cache-control", "only-if-cached"),
        ];
        let answer = gate.get_with("/p", &only).await;
        hits += usize::from(answer.is_hit());
    }
    assert_eq!(hits, 16);
}

#[tokio::test]
async fn s4_1_and_s4_3_1_the_nominated_fields_go_along_with_a_validation() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        match seen.header("if-none-match") {
            Some(_) => Reply::new(304),
            None => Reply::ok("p"),
        }
        .header("etag", "\"abcdef\"")
        .header("vary", "abc")
        .header("cache-control", "max-age=10")
    });
    let gate = Timed::caching(&origin, "").await;
    let sent = [("abc", "123")];
    gate.get_with("/p", &sent).await.expect(200);
    gate.advance(20);
    assert_eq!(gate.get_with("/p", &sent).await.expect(200).text(), "p");
    let asked = origin.last("/p");
    assert_eq!(asked.header("if-none-match"), Some("\"abcdef\""));
    assert_eq!(asked.header("abc"), Some("123"));
}
