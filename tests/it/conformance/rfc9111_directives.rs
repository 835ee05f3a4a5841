//! RFC 9111 sections 4.2.1, 5.2 and 5.2.2: what the directives of an answer say, in every spelling.

use super::{Fields, kept, lives_a_hundred_seconds};
use crate::harness::{Origin, Reply, Timed};

#[tokio::test]
async fn s5_2_directives_are_read_in_every_spelling() {
    let one: &[(Fields, bool)] = &[
        (&[("cache-control", "max-age=100")], true),
        (&[("cache-control", "MaX-aGe=100")], true),
        (&[("cache-control", "max-age=\"100\"")], true),
        (&[("cache-control", "max-age=00100")], true),
        (&[("cache-control", ",, max-age=100 ,\t,")], true),
        (&[("cache-control", "public,max-age=100,x")], true),
        (
            &[("cache-control", "x"), ("cache-control", "max-age=100")],
            true,
        ),
        (&[("cache-control", "x=\"max-age=1\", max-age=100")], true),
        (&[("cache-control", "max-age=100, x=\"max-age=1\"")], true),
        (&[("cache-control", "x=\"no-store\", max-age=100")], true),
        (
            &[("cache-control", "x=\"\\\", no-store\", max-age=100")],
            true,
        ),
        (&[("cache-control", "x=\"max-age=100\"")], false),
        (&[("cache-control", "x=\"max-age=100")], false),
        (&[("cache-control", "max-age='100'")], false),
        (&[("cache-control", "max-age =100")], false),
        (&[("cache-control", "max-age= 100")], false),
        (&[("cache-control", "max-age=-100")], false),
        (&[("cache-control", "max-age=+100")], false),
        (&[("cache-control", "max-age=a100")], false),
        (&[("cache-control", "max-age=100a")], false),
        (&[("cache-control", "max-age=100.5")], false),
        (&[("cache-control", "max-age=100;x")], false),
        (&[("cache-control", "max-age=")], false),
        (&[("cache-control", "max-age")], false),
        (&[("cache-control", "max-age=0")], false),
        (&[("cache-control", "xmax-age=100")], false),
        (&[("cache-control", "")], false),
    ];
    lives_a_hundred_seconds("", one).await;
}

#[tokio::test]
async fn s1_2_2_numbers_that_are_too_large_are_taken_as_very_large() {
    let table: &[(Fields, bool)] = &[
        (&[("cache-control", "max-age=2147483647")], true),
        (&[("cache-control", "max-age=2147483648")], true),
        (&[("cache-control", "max-age=2147483649")], true),
        (&[("cache-control", "max-age=99999999999")], true),
        (
            &[(
                "cache-control",
                "max-age=99999999999999999999999999999999999999999999999",
            )],
            true,
        ),
        (
            &[
                ("cache-control", "max-age=99999999999"),
                ("age", "99999999999"),
            ],
            false,
        ),
    ];
    kept("", table).await;
}

#[tokio::test]
async fn s4_2_1_of_what_repeats_the_first_counts_and_of_what_conflicts_the_strictest() {
    let table: &[(Fields, bool)] = &[
        (&[("cache-control", "max-age=100, max-age=1")], true),
        (
            &[
                ("cache-control", "max-age=100"),
                ("cache-control", "max-age=1000"),
            ],
            true,
        ),
        (&[("cache-control", "max-age=1, max-age=100")], false),
        (&[("cache-control", "max-age=x, max-age=100")], false),
        (&[("cache-control", "max-age=100, no-cache")], false),
        (&[("cache-control", "no-cache, max-age=100")], false),
        (&[("cache-control", "max-age=100, no-store")], false),
        (&[("cache-control", "public, private, max-age=100")], false),
        (&[("cache-control", "public, no-store, max-age=100")], false),
        (
            &[("cache-control", "immutable, no-cache, max-age=100")],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s4_2_1_the_most_specific_lifetime_counts() {
    let table: &[(Fields, bool)] = &[
        (&[("cache-control", "s-maxage=100")], true),
        (&[("cache-control", "S-MaxAge=\"100\", max-age=1")], true),
        (&[("cache-control", "max-age=1, s-maxage=100")], true),
        (
            &[
                ("expires", "@-10"),
                ("cache-control", "max-age=0, s-maxage=100"),
            ],
            true,
        ),
        (&[("cache-control", "max-age=3600, s-maxage=1")], false),
        (&[("cache-control", "s-maxage=1, max-age=3600")], false),
        (
            &[
                ("cache-control", "max-age=3600"),
                ("cache-control", "s-maxage=1"),
            ],
            false,
        ),
        (&[("cache-control", "max-age=3600, s-maxage=x")], false),
        (
            &[("expires", "@-7200"), ("cache-control", "max-age=100")],
            true,
        ),
        (&[("expires", "0"), ("cache-control", "max-age=100")], true),
        (
            &[("expires", "@3600"), ("cache-control", "max-age=0")],
            false,
        ),
        (
            &[("expires", "@3600"), ("cache-control", "max-age=x")],
            false,
        ),
        (
            &[
                ("last-modified", "@-100000"),
                ("cache-control", "max-age=0"),
            ],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s5_2_2_5_and_s5_2_2_7_what_forbids_storing_forbids_it_in_every_spelling() {
    let table: &[(Fields, bool)] = &[
        (&[("cache-control", "max-age=100, No-StOrE")], false),
        (&[("cache-control", "max-age=100, no-store=x")], false),
        (
            &[
                ("cache-control", "max-age=100"),
                ("cache-control", "no-store"),
            ],
            false,
        ),
        (
            &[("expires", "@3600"), ("cache-control", "no-store")],
            false,
        ),
        (&[("cache-control", "max-age=100, no-stored")], true),
        (&[("cache-control", "max-age=100, PRIVATE")], false),
        (&[("cache-control", "s-maxage=100, private")], false),
        (&[("cache-control", "max-age=100, private=\"\"")], false),
        (&[("cache-control", "max-age=100, private=\"a b\"")], false),
        (&[("cache-control", "max-age=100, private=\"a")], false),
        (&[("cache-control", "max-age=100, private=\"x-a\"")], true),
        (&[("cache-control", "max-age=100, private=x-a")], true),
        (
            &[("cache-control", "max-age=100, private=\"x-a\", private")],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s5_2_2_3_must_understand_takes_the_place_of_no_store_where_the_status_is_known() {
    let table: &[(Fields, bool)] = &[
        (
            &[("cache-control", "max-age=100, no-store, must-understand")],
            true,
        ),
        (
            &[
                (":status", "404"),
                ("cache-control", "must-understand, no-store, max-age=100"),
            ],
            true,
        ),
        (
            &[
                (":status", "299"),
                ("cache-control", "must-understand, no-store, max-age=100"),
            ],
            false,
        ),
        (
            &[
                (":status", "599"),
                ("cache-control", "must-understand, max-age=100"),
            ],
            false,
        ),
        (
            &[
                (":status", "416"),
                ("cache-control", "must-understand, no-store, max-age=100"),
            ],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

/// A first answer with fields that `cache_control` names, and one that was answered from memory.
async fn first_and_second(cache_control: &'static str) -> (Vec<String>, Vec<String>) {
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::ok("p")
            .header("x-a", "1")
            .header("x-b", "2")
            .header("cache-control", cache_control)
            .header("cache-control", "max-age=60")
    });
    let gate = Timed::caching(&origin, "").await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = gate.get("/p").await.expect(200);
        let names = ["x-a", "x-b"].into_iter();
        let present = names.filter(|name| answer.header(name).is_some());
        seen.push(present.map(str::to_owned).collect::<Vec<_>>());
        if seen.len() == 2 {
            assert!(answer.is_hit(), "{cache_control}: {}", answer.cache());
        }
    }
    let second = seen.pop().unwrap();
    (seen.pop().unwrap(), second)
}

#[tokio::test]
async fn s5_2_2_4_and_s5_2_2_7_named_fields_are_for_the_first_client_alone() {
    for (cache_control, left) in [
        ("no-cache=\"x-a\"", &["x-b"][..]),
        ("private=\"x-a\"", &["x-b"]),
        ("no-cache=\"X-A , x-b\"", &[]),
        ("private=x-a, no-cache=\"x-b\"", &[]),
        ("private=\"x-c\"", &["x-a", "x-b"]),
    ] {
        let (first, second) = first_and_second(cache_control).await;
        assert_eq!(first, ["x-a", "x-b"], "{cache_control}");
        assert_eq!(second, left, "{cache_control}");
    }
}

#[tokio::test]
async fn s5_2_2_4_no_cache_is_asked_about_each_time() {
    for cache_control in [
        "no-cache",
        "NO-CACHE, max-age=3600",
        "no-cache=\"\", max-age=3600",
        "no-cache=\"x-a\", no-cache, s-maxage=3600",
    ] {
        let origin = Origin::start("a").await.on("/p", move |seen| {
            let reply = match seen.header("if-none-match") {
                Some("\"1\"") => Reply::new(304),
                _ => Reply::ok("page"),
            };
            reply
                .header("etag", "\"1\"")
                .header("cache-control", cache_control)
        });
        let gate = Timed::caching(&origin, "").await;
        for asked in 1..4 {
            let answer = gate.get("/p").await.expect(200);
            assert_eq!(answer.text(), "page");
            assert_eq!(origin.requests("/p"), asked, "{cache_control}");
        }
        assert_eq!(origin.last("/p").header("if-none-match"), Some("\"1\""));
    }
}

#[tokio::test]
async fn s5_2_3_unknown_directives_mean_nothing() {
    let table: &[(Fields, bool)] = &[
        (&[("cache-control", "foobar, max-age=100")], true),
        (&[("cache-control", "foo=bar, max-age=100")], true),
        (&[("cache-control", "foo=\"a, b\", max-age=100")], true),
        (&[("cache-control", "=, max-age=100")], true),
        (&[("cache-control", "no-transform, max-age=100")], true),
        (
            &[("cache-control", "pre-check=0, post-check=0, max-age=100")],
            true,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s5_4_pragma_of_an_answer_means_nothing() {
    let table: &[(Fields, bool)] = &[
        (
            &[("cache-control", "max-age=100"), ("pragma", "no-cache")],
            true,
        ),
        (&[("cache-control", "max-age=100"), ("pragma", "x")], true),
    ];
    lives_a_hundred_seconds("", table).await;
}
