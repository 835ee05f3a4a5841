//! RFC 9111 sections 4.2.3 and 5.1: how old an answer is, and how that is told.

use super::{Fields, date, lives_a_hundred_seconds};
use crate::harness::{Latch, Origin, Reply, Request, Timed};

#[tokio::test]
async fn s5_1_of_several_ages_the_first_counts_and_a_broken_one_is_passed_over() {
    let table: &[(Fields, bool)] = &[
        (&[("cache-control", "max-age=100"), ("age", "0")], true),
        (&[("cache-control", "max-age=130"), ("age", "30")], true),
        (&[("cache-control", "max-age=130"), ("age", "0030")], true),
        (
            &[("cache-control", "max-age=130"), ("age", "30, 9000")],
            true,
        ),
        (
            &[
                ("cache-control", "max-age=130"),
                ("age", "30"),
                ("age", "9000"),
            ],
            true,
        ),
        (
            &[("cache-control", "max-age=130"), ("age", "9000, 30")],
            false,
        ),
        (
            &[
                ("cache-control", "max-age=130"),
                ("age", "9000"),
                ("age", "0"),
            ],
            false,
        ),
        (&[("cache-control", "max-age=100"), ("age", "abc")], true),
        (&[("cache-control", "max-age=100"), ("age", "-7200")], true),
        (&[("cache-control", "max-age=100"), ("age", "7200.0")], true),
        (&[("cache-control", "max-age=100"), ("age", "")], true),
        (&[("cache-control", "max-age=100"), ("age", "7200")], false),
        (
            &[
                ("cache-control", "max-age=100"),
                ("age", "999999999999999999999999999999"),
            ],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s4_2_3_an_old_date_makes_an_answer_old() {
    let table: &[(Fields, bool)] = &[
        (&[("cache-control", "max-age=100"), ("date", "@0")], true),
        (&[("cache-control", "max-age=100"), ("date", "@60")], true),
        (&[("cache-control", "max-age=130"), ("date", "@-30")], true),
        (
            &[("cache-control", "max-age=100"), ("date", "@-7200")],
            false,
        ),
        // The larger of both counts.
        (
            &[
                ("cache-control", "max-age=100"),
                ("date", "@-10"),
                ("age", "90"),
            ],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s4_2_3_the_time_that_a_fetch_takes_is_part_of_the_age() {
    let latch = Latch::new();
    let held = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::ok("p")
            .after(&held)
            .header("age", "10")
            .header("cache-control", "max-age=100")
    });
    let gate = Timed::caching(&origin, "").await;
    let mut client = gate.client().await;
    client.write(Request::get("/p").bytes()).await;
    origin.until_asked("/p", 1).await;
    gate.advance(60);
    latch.open();
    let first = client.answer().await.expect(200);
    let age = |answer: &crate::harness::Answer| -> u64 {
        answer.header("age").expect("an age").parse().unwrap()
    };
    assert!((70..100).contains(&age(&first)), "{}", age(&first));
    let second = gate.get("/p").await;
    assert!(second.is_hit() && age(&second) >= 70, "{}", second.cache());
    gate.advance(35);
    assert!(!gate.get("/p").await.is_hit());
}

#[tokio::test]
async fn s4_and_s5_1_what_is_stored_is_told_with_its_age_and_with_its_own_date() {
    for fields in [
        &[("cache-control", "max-age=1000")][..],
        &[("expires", "@1000")],
        &[("last-modified", "@-864000")],
    ] {
        let said = date(0);
        let stated = said.clone();
        let origin = Origin::start("a").await.on("/p", move |_| {
            super::saying(fields, "p")
                .header("date", &stated)
                .header("age", "30")
        });
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        gate.advance(100);
        let hit = gate.get("/p").await.expect(200);
        assert!(hit.is_hit(), "{}", hit.cache());
        let age: u64 = hit.header("age").unwrap().parse().unwrap();
        assert!((130..160).contains(&age), "{age}");
        assert_eq!(hit.all("age").len(), 1);
        assert_eq!(hit.all("date"), [said.as_str()]);
    }
}

#[tokio::test]
async fn s5_1_an_answer_that_the_origin_has_just_made_has_no_age() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("p").header("cache-control", "max-age=60")
    });
    let gate = Timed::caching(&origin, "").await;
    assert_eq!(gate.get("/p").await.expect(200).header("age"), None);
}
