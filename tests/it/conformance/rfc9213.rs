//! RFC 9213: fields that are aimed at some caches alone.

use super::{Fields, lives_a_hundred_seconds};
use crate::harness::{Origin, Reply, Request, Timed};

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn s2_2_the_first_of_the_list_that_is_valid_governs_alone() {
    let table: &[(Fields, bool)] = &[
        (&[("cdn-cache-control", "max-age=100")], true),
        (&[("headgate-cache-control", "max-age=100")], true),
        (&[("surrogate-control", "max-age=100")], true),
        (
            &[
                ("cache-control", "max-age=1"),
                ("cdn-cache-control", "max-age=100"),
            ],
            true,
        ),
        (
            &[
                ("cache-control", "no-store"),
                ("cdn-cache-control", "max-age=100"),
            ],
            true,
        ),
        (
            &[
                ("cache-control", "private, no-cache, s-maxage=1"),
                ("cdn-cache-control", "max-age=100"),
            ],
            true,
        ),
        (
            &[
                ("cache-control", "max-age=3600"),
                ("cdn-cache-control", "max-age=1"),
            ],
            false,
        ),
        (
            &[
                ("cache-control", "max-age=100"),
                ("cdn-cache-control", "no-store"),
            ],
            false,
        ),
        (
            &[
                ("cache-control", "max-age=100"),
                ("cdn-cache-control", "private"),
            ],
            false,
        ),
        (
            &[
                ("cache-control", "max-age=100"),
                ("cdn-cache-control", "no-cache"),
            ],
            false,
        ),
        // Each goes before all that stand behind it in the list.
        (
            &[
                ("cdn-cache-control", "no-store"),
                ("surrogate-control", "no-store"),
                ("headgate-cache-control", "max-age=100"),
            ],
            true,
        ),
        (
            &[
                ("surrogate-control", "no-store"),
                ("cdn-cache-control", "max-age=100"),
            ],
            true,
        ),
        (
            &[
                ("cache-control", "no-store"),
                ("surrogate-control", "max-age=100"),
            ],
            true,
        ),
        (
            &[
                ("headgate-cache-control", "max-age=0"),
                ("cdn-cache-control", "max-age=100"),
            ],
            false,
        ),
        // Without a lifetime of its own nothing else lends one.
        (
            &[
                ("cdn-cache-control", "public"),
                ("cache-control", "max-age=100"),
            ],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s2_2_expires_means_nothing_beside_a_targeted_field() {
    let table: &[(Fields, bool)] = &[
        (
            &[("cdn-cache-control", "max-age=100"), ("expires", "@-3600")],
            true,
        ),
        (
            &[("cdn-cache-control", "max-age=100"), ("expires", "0")],
            true,
        ),
        (
            &[("cdn-cache-control", "max-age=0"), ("expires", "@3600")],
            false,
        ),
        (
            &[("cdn-cache-control", "public"), ("expires", "@3600")],
            false,
        ),
        (
            &[("cdn-cache-control", "max-age=x("), ("expires", "@100")],
            true,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s2_2_age_counts_as_ever() {
    let table: &[(Fields, bool)] = &[
        (
            &[("cdn-cache-control", "max-age=3600"), ("age", "7200")],
            false,
        ),
        (&[("cdn-cache-control", "max-age=130"), ("age", "30")], true),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s2_1_a_field_that_is_empty_or_no_dictionary_is_ignored() {
    const PLAIN: (&str, &str) = ("cache-control", "max-age=100");
    macro_rules! broken {
        ($($value:literal),*) => {
            vec![$((&[PLAIN, ("cdn-cache-control", $value)] as Fields, true)),*]
        };
    }
    let mut table = broken!(
        "",
        " ",
        "max-age=1, &&&&&",
        "no-store,",
        "max-age=1 public",
        "Max-Age=1",
        "no-store;",
        "max-age =1",
        "max-age= 1",
        "no-store, =",
        "\"no-store\""
    );
    table.extend([
        (
            &[
                PLAIN,
                ("cdn-cache-control", "no-store"),
                ("cdn-cache-control", "&"),
            ] as Fields,
            true,
        ),
        (
            &[
                ("cache-control", "no-store"),
                ("cdn-cache-control", "max-age=100, &"),
            ],
            false,
        ),
        (
            &[
                ("headgate-cache-control", "&"),
                ("cdn-cache-control", "max-age=100"),
                ("cache-control", "no-store"),
            ],
            true,
        ),
    ]);
    lives_a_hundred_seconds("", &table).await;
}

#[tokio::test]
async fn s2_1_members_have_types_and_parameters_are_ignored() {
    let table: &[(Fields, bool)] = &[
        (&[("cdn-cache-control", "max-age=100;foo=bar")], true),
        (
            &[(
                "cdn-cache-control",
                "max-age=100, unknown, other=1.5, third=(a b)",
            )],
            true,
        ),
        (&[("cdn-cache-control", "max-age=1, max-age=100")], true),
        (&[("cdn-cache-control", "max-age=100, no-store=?0")], true),
        (
            &[
                ("cdn-cache-control", "public"),
                ("cdn-cache-control", "max-age=100"),
            ],
            true,
        ),
        (&[("cdn-cache-control", "max-age=\"100\"")], false),
        (&[("cdn-cache-control", "max-age=100.0")], false),
        (&[("cdn-cache-control", "max-age=-100")], false),
        (&[("cdn-cache-control", "max-age")], false),
        (&[("cdn-cache-control", "max-age=100, no-store")], false),
        (&[("cdn-cache-control", "max-age=100, no-store=?1")], false),
        (&[("cdn-cache-control", "max-age=100, no-store;x=1")], false),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s2_large_numbers_are_very_large() {
    let table: &[(Fields, bool)] = &[
        (&[("cdn-cache-control", "max-age=2147483648")], true),
        (&[("cdn-cache-control", "max-age=99999999999")], true),
    ];
    super::kept("", table).await;
}

#[tokio::test]
async fn s3_1_cdn_cache_control_goes_on_and_what_is_ours_ends_here() {
    for cache_control in ["max-age=100", "no-store"] {
        let origin = Origin::start("a").await.on("/p", move |_| {
            Reply::ok("p")
                .header("headgate-cache-control", cache_control)
                .header("surrogate-control", cache_control)
                .header("cdn-cache-control", cache_control)
        });
        let gate = Timed::caching(&origin, "").await;
        let bypass = Request::get("/p").header("if-match", "*");
        let write = Request::post("/p", "x");
        for request in [Request::get("/p"), Request::get("/p"), bypass, write] {
            let answer = gate.send(&request).await.expect(200);
            let what = format!("{cache_control} {request:?} {}", answer.cache());
            assert_eq!(
                answer.header("cdn-cache-control"),
                Some(cache_control),
                "{what}"
            );
            assert_eq!(answer.header("headgate-cache-control"), None, "{what}");
            assert_eq!(answer.header("surrogate-control"), None, "{what}");
        }
    }
}

#[tokio::test]
async fn s2_authorization_is_shared_by_what_the_targeted_field_says() {
    for (fields, is_kept) in [
        (&[("cdn-cache-control", "max-age=100")][..], false),
        (
            &[
                ("cdn-cache-control", "max-age=100"),
                ("cache-control", "public"),
            ],
            false,
        ),
        (
            &[
                ("cdn-cache-control", "max-age=100, public"),
                ("cache-control", "private"),
            ],
            true,
        ),
        (&[("cdn-cache-control", "s-maxage=100")], true),
    ] {
        let origin = Origin::start("a")
            .await
            .on("/p", move |_| super::saying(fields, "p"));
        let gate = Timed::caching(&origin, "").await;
        let user = [("authorization", "Bearer x")];
        gate.get_with("/p", &user).await.expect(200);
        let second = gate.get_with("/p", &user).await.expect(200);
        assert_eq!(second.is_hit(), is_kept, "{fields:?}: {}", second.cache());
    }
}
