//! RFC 9111 sections 4.2, 4.2.2 and 5.3: `Expires`, `Date`, and what is presumed without them.

use super::{Fields, date, kept, lives_a_hundred_seconds};
use crate::harness::{Origin, Reply, Timed};

#[tokio::test]
async fn s5_3_expires_counts_from_date() {
    let table: &[(Fields, bool)] = &[
        (&[("date", "@0"), ("expires", "@100")], true),
        // Both clocks are fast.
        (&[("date", "@400"), ("expires", "@500")], true),
        (&[("date", "@400"), ("expires", "@300")], false),
        // The origin's clock is slow: its answer looks old already.
        (&[("date", "@-30"), ("expires", "@20")], false),
        (&[("date", "@0"), ("expires", "@0")], false),
        (&[("date", "@0"), ("expires", "@-3600")], false),
        (&[("expires", "@100")], true),
        (&[("date", "foo"), ("expires", "@100")], true),
        (
            &[("date", "@0"), ("date", "@50"), ("expires", "@100")],
            true,
        ),
        (
            &[("date", "@-10"), ("expires", "@10"), ("age", "25")],
            false,
        ),
        (&[("date", "@10"), ("expires", "@20"), ("age", "15")], false),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s5_3_what_is_no_date_has_passed() {
    let table: &[(Fields, bool)] = &[
        (&[("expires", "0")], false),
        (&[("expires", "-1")], false),
        (&[("expires", "")], false),
        (&[("expires", "tomorrow")], false),
        (&[("expires", "@3600"), ("expires", "@7200")], false),
        (&[("expires", "0"), ("expires", "@3600")], false),
        (&[("expires", "Thu, 18 Aug 2050 02:01:18 UTC")], false),
        (&[("expires", "Thu, 18 Aug 2050 02:01:18 +0000")], false),
        (&[("expires", "Thu, 18 Aug 50 02:01:18 GMT")], false),
        (&[("expires", "Thu 18 Aug 2050 02:01:18 GMT")], false),
        (&[("expires", "Thu, 18  Aug  2050 02:01:18 GMT")], false),
        (&[("expires", "Thu, 18-Aug-2050 02:01:18 GMT")], false),
        (&[("expires", "Thu, 18 Aug 2050 02.01.18 GMT")], false),
        (&[("expires", "Thu, 18 Aug 2050 2:01:18 GMT")], false),
        (&[("expires", "Thu, 01 Jan 1900 00:00:00 GMT")], false),
        // It was stated, if badly: nothing is presumed in its place.
        (&[("expires", "0"), ("last-modified", "@-864000")], false),
    ];
    kept("default_ttl: 60s", table).await;
}

#[tokio::test]
async fn s4_2_dates_are_read_in_three_formats_and_any_case() {
    let table: &[(Fields, bool)] = &[
        (&[("expires", "Thu, 18 Aug 2050 02:01:18 GMT")], true),
        (&[("expires", "Thursday, 18-Aug-50 02:01:18 GMT")], true),
        (&[("expires", "Thu Aug 18 02:01:18 2050")], true),
        (&[("expires", "THU, 18 Aug 2050 02:01:18 GMT")], true),
        (&[("expires", "Thu, 18 AUG 2050 02:01:18 GMT")], true),
        (&[("expires", "Thu, 18 Aug 2050 02:01:18 gMT")], true),
        (&[("expires", "thursday, 18-aug-50 02:01:18 gmt")], true),
    ];
    kept("", table).await;
}

#[tokio::test]
async fn s4_2_2_a_tenth_of_the_time_unchanged_is_presumed_where_nothing_is_stated() {
    let table: &[(Fields, bool)] = &[
        (&[("last-modified", "@-1000"), ("date", "@0")], true),
        (&[("last-modified", "@-1000")], true),
        (&[("last-modified", "@-300"), ("date", "@0")], false),
        (&[("last-modified", "@100"), ("date", "@0")], false),
        (&[("last-modified", "yesterday"), ("date", "@0")], false),
        (&[("date", "@0")], false),
        (&[("etag", "\"1\"")], false),
        (&[("last-modified", "@-1000"), ("age", "60")], false),
        (
            &[("last-modified", "@-1000"), ("cache-control", "no-cache")],
            false,
        ),
    ];
    lives_a_hundred_seconds("", table).await;
}

#[tokio::test]
async fn s4_2_2_only_statuses_that_are_cacheable_by_themselves_or_public_ones_are_presumed() {
    const OLD: (&str, &str) = ("last-modified", "@-1000");
    macro_rules! of {
        ($($status:literal),*) => {
            &[$(&[(":status", $status), OLD] as Fields),*]
        };
    }
    macro_rules! public {
        ($($status:literal),*) => {
            &[$(&[(":status", $status), OLD, ("cache-control", "public")] as Fields),*]
        };
    }
    let by_themselves: &[Fields] = of!(
        "200", "203", "204", "300", "301", "308", "404", "405", "410", "414", "501"
    );
    let not: &[Fields] = of!(
        "201", "202", "299", "302", "303", "307", "400", "401", "403", "429", "451", "499", "500",
        "502", "503", "504", "599"
    );
    let public: &[Fields] = public!("201", "302", "307", "403", "500", "599");
    let mut table: Vec<(Fields, bool)> = Vec::new();
    table.extend(by_themselves.iter().map(|fields| (*fields, true)));
    table.extend(not.iter().map(|fields| (*fields, false)));
    table.extend(public.iter().map(|fields| (*fields, true)));
    lives_a_hundred_seconds("", &table).await;
}

#[tokio::test]
async fn s4_2_2_no_more_is_presumed_than_the_route_allows() {
    let old: Fields = &[("last-modified", "@-100000")];
    lives_a_hundred_seconds("heuristic: 100s", &[(old, true)]).await;
    lives_a_hundred_seconds("heuristic: 0s", &[(old, false)]).await;
    // What the route presumes goes before.
    lives_a_hundred_seconds("default_ttl: 100s", &[(old, true)]).await;
    lives_a_hundred_seconds(
        "status_ttl: { 404: 100s }",
        &[
            (&[(":status", "404")], true),
            (&[(":status", "404"), ("cache-control", "max-age=1")], false),
            (&[(":status", "404"), ("cache-control", "no-store")], false),
            (&[(":status", "410")], false),
        ],
    )
    .await;
    lives_a_hundred_seconds(
        "status_ttl: { 5xx: 100s, 503: 0s }",
        &[
            (&[(":status", "500")], true),
            (&[(":status", "503")], false),
        ],
    )
    .await;
}

#[tokio::test]
async fn s5_3_a_date_in_another_format_is_the_same_date() {
    // What `Date` says is measured against, in the oldest format there is.
    let origin = Origin::start("a").await.on("/p", |_| {
        let now = date(0);
        let words: Vec<&str> = now
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .collect();
        let [weekday, day, month, year, time, _] = words[..] else {
            panic!("{now}")
        };
        let day = day.trim_start_matches('0');
        let asctime = format!("{weekday} {month} {day:>2} {time} {year}");
        Reply::ok("p")
            .header("date", &asctime)
            .header("expires", &date(100))
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(50);
    assert!(gate.get("/p").await.is_hit());
}
