//! Many who wait for one fetch that comes to nothing: they do not all ask an origin that is failing.
//!
//! Whoever caused a fetch gets what the origin said. Of those who wait one asks again, and after two fetches
//! in vain the rest are refused; after three for users, who may be the reason, each asks for itself.

use std::collections::HashSet;

use crate::harness::{Answer, Client, Config, Gate, Latch, Origin, Reply, Request, Seen, Timed};

const HERD: usize = 60;

/// An origin that answers `/p` as `reply` says, once the latch is open.
async fn origin(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Origin, Latch) {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a").await;
    let origin = origin.on("/p", move |seen| reply(seen).after(&wait));
    (origin, latch)
}

/// All of them wait for the fetch of the first before the latch opens.
async fn answers(gate: &Gate, origin: &Origin, go: &Latch, requests: &[Request]) -> Vec<Answer> {
    let mut clients: Vec<Client> = Vec::new();
    for request in requests {
        clients.push(gate.begin(request).await);
        origin.until_asked("/p", 1).await;
    }
    let all = requests.len() as f64;
    let in_flight = "headgate_http_in_flight_requests";
    gate.until(in_flight, &[("route", "shop")], all).await;
    go.open();
    let mut answers = Vec::new();
    for client in &mut clients {
        answers.push(client.answer().await);
    }
    answers
}

fn herd() -> Vec<Request> {
    vec![Request::get("/p"); HERD]
}

#[tokio::test]
async fn sixty_that_wait_for_an_origin_that_answers_with_an_error_ask_it_twice() {
    for (status, more) in [
        (503, None),
        (500, Some(("cache-control", "no-store"))),
        (502, Some(("cache-control", "private"))),
        // It could be asked about, and so be stored; and yet nobody else may have it.
        (504, Some(("etag", "\"1\""))),
    ] {
        let (origin, go) = origin(move |_| {
            let reply = Reply::new(status).body("its own words");
            match more {
                Some((name, value)) => reply.header(name, value),
                None => reply,
            }
        })
        .await;
        let gate = Gate::start(&Config::cached(&[&origin]).one_worker()).await;

        let answers = answers(&gate, &origin, &go, &herd()).await;

        let (own, refused): (Vec<_>, Vec<_>) = answers
            .iter()
            .partition(|answer| answer.text() == "its own words");
        assert_eq!((own.len(), refused.len()), (2, HERD - 2), "{status}");
        assert!(own.iter().all(|answer| answer.status == status));
        assert!(
            own[0]
                .cache()
                .starts_with("headgate; fwd=uri-miss; detail=")
        );
        for answer in refused {
            answer.problem(502);
            assert_eq!(answer.header("cache-status"), None);
        }
        assert_eq!(origin.requests("/p"), 2);
        // And nothing of it is remembered: whoever comes next asks.
        let next = gate.get("/p").await.expect(status);
        assert_eq!(next.cache(), own[0].cache());
    }
}

#[tokio::test]
async fn on_two_workers_they_ask_hardly_more_often() {
    let (origin, go) = origin(|_| Reply::new(503).body("")).await;
    let gate = Gate::start(&Config::cached(&[&origin]).workers(2)).await;

    let answers = answers(&gate, &origin, &go, &herd()).await;

    assert!(answers.iter().all(|answer| answer.status >= 500));
    // Those who wake late on the other worker may find the second fetch over.
    assert!(origin.requests("/p") <= 6, "{}", origin.requests("/p"));
}

#[tokio::test]
async fn what_fails_once_reaches_one_and_the_others_get_what_comes_next() {
    let (origin, go) = origin(|seen| match seen.earlier {
        0 => Reply::new(503).body("once"),
        _ => Reply::ok("for all").header("cache-control", "max-age=60"),
    })
    .await;
    let gate = Gate::start(&Config::cached(&[&origin]).workers(2)).await;

    let answers = answers(&gate, &origin, &go, &herd()).await;

    let (first, others) = answers.split_first().unwrap();
    assert_eq!((first.status, first.text()), (503, "once"));
    for other in others {
        assert_eq!((other.status, other.text()), (200, "for all"));
    }
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn an_error_with_a_cookie_reaches_nobody_else() {
    let (origin, go) = origin(|seen| {
        Reply::new(500)
            .header("set-cookie", &format!("id={}", seen.earlier))
            .header("cache-control", "max-age=60")
            .body("yours")
    })
    .await;
    let gate = Gate::start(&Config::cached(&[&origin]).workers(2)).await;

    let answers = answers(&gate, &origin, &go, &herd()).await;

    let mut given = HashSet::new();
    for answer in answers {
        match answer.cookie("id") {
            Some((id, _)) => assert!(given.insert(id), "it was given twice"),
            None => drop(answer.problem(502)),
        }
    }
    assert_eq!(given.len(), origin.requests("/p"));
    assert!(given.len() < HERD / 2);
}

fn user(number: usize) -> Request {
    Request::get("/p").header("cookie", &format!("session={number}"))
}

#[tokio::test]
async fn users_do_not_ask_an_origin_that_is_not_fit_all_at_once_either() {
    let (origin, go) = origin(|_| Reply::new(503).body("")).await;
    let gate = Gate::start(&Config::cached(&[&origin]).one_worker()).await;
    let users: Vec<_> = (0..HERD).map(user).collect();
    let answers = answers(&gate, &origin, &go, &users).await;
    assert!(answers.iter().all(|answer| answer.status >= 500));
    assert_eq!(origin.requests("/p"), 2);
}

/// An origin that has an answer for all but these users.
async fn broken_for(users: std::ops::Range<usize>) -> (Origin, Latch) {
    let broken: Vec<String> = users.map(|number| format!("session={number}")).collect();
    origin(move |seen| {
        let cookie = seen.header("cookie").unwrap_or_default();
        match broken.iter().any(|user| user == cookie) {
            true => Reply::new(500).header("cache-control", "no-store").body(""),
            false => Reply::ok("p").header("cache-control", "max-age=60"),
        }
    })
    .await
}

#[tokio::test]
async fn what_fails_for_users_does_not_fail_those_who_are_none() {
    // The third who asks is nobody, and asks for all; or it is a user too, and each asks for itself.
    for (users, asked) in [(2, 3), (3, 13)] {
        let (origin, go) = broken_for(0..users).await;
        let gate = Gate::start(&Config::cached(&[&origin]).one_worker()).await;

        let mut requests: Vec<_> = (0..users).map(user).collect();
        requests.extend(vec![Request::get("/p"); 10]);
        let answers = answers(&gate, &origin, &go, &requests).await;

        let (broken, others) = answers.split_at(users);
        assert!(broken.iter().all(|answer| answer.status == 500));
        for other in others {
            assert_eq!((other.status, other.text()), (200, "p"));
        }
        if users == 3 {
            let told = "headgate; fwd=uri-miss; detail=status";
            assert!(others.iter().all(|answer| answer.cache() == told));
        }
        assert_eq!(origin.requests("/p"), asked);
    }
}

#[tokio::test]
async fn what_fails_for_a_user_after_answers_for_others_fails_nobody_else() {
    // Two answers for all who take another language, and then an error for a user.
    let (origin, go) = origin(|seen| match seen.header("cookie") {
        Some(_) => Reply::new(500).header("cache-control", "no-store").body(""),
        None => {
            let by = ["x-a", "x-b"].get(seen.earlier).copied().unwrap_or("x-a");
            let reply = Reply::ok("p").header("cache-control", "max-age=60");
            reply.header("vary", by)
        }
    })
    .await;
    let gate = Gate::start(&Config::cached(&[&origin]).one_worker()).await;
    let requests = [
        Request::get("/p").header("x-a", "1").header("x-b", "1"),
        Request::get("/p").header("x-a", "2").header("x-b", "2"),
        user(1).header("x-a", "2").header("x-b", "3"),
        Request::get("/p").header("x-a", "2").header("x-b", "3"),
    ];

    let answers = answers(&gate, &origin, &go, &requests).await;

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 500, 200]);
    assert_eq!(origin.requests("/p"), 4);
}

#[tokio::test]
async fn what_fails_for_users_does_not_fail_other_users() {
    let (origin, go) = broken_for(0..3).await;
    let gate = Gate::start(&Config::cached(&[&origin]).one_worker()).await;

    let users: Vec<_> = (0..HERD).map(user).collect();
    let answers = answers(&gate, &origin, &go, &users).await;

    let (broken, others) = answers.split_at(3);
    assert!(broken.iter().all(|answer| answer.status == 500));
    for other in others {
        assert_eq!((other.status, other.text()), (200, "p"));
    }
    // After three in vain each asks for itself, and once.
    assert_eq!(origin.requests("/p"), HERD);
}

#[tokio::test]
async fn what_is_stale_is_tried_before_anybody_is_refused() {
    let go = Latch::new();
    let wait = go.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |seen| match seen.earlier {
            0 => Reply::ok("old").header("cache-control", "max-age=60, stale-if-error=600"),
            _ => Reply::new(503).body("").after(&wait),
        });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(100);

    let mut clients = Vec::new();
    for _ in 0..HERD {
        let mut client = gate.client().await;
        client.write(Request::get("/p").bytes()).await;
        clients.push(client);
    }
    gate.until("headgate_http_in_flight_requests", HERD as f64)
        .await;
    go.open();
    for mut client in clients {
        let answer = client.answer().await.expect(200);
        assert!(
            answer.cache().contains("detail=stale-if-error"),
            "{}",
            answer.cache()
        );
    }
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn those_who_take_what_is_stale_have_it_though_who_asks_for_them_takes_none() {
    for answers in [true, false] {
        let go = Latch::new();
        let wait = go.clone();
        let origin = Origin::start("a")
            .await
            .on("/p", move |seen| match seen.earlier {
                0 => Reply::ok("old").header("cache-control", "max-age=60, stale-if-error=600"),
                _ if answers => Reply::new(503).body("its own words").after(&wait),
                _ => Reply::nothing().after(&wait).close(),
            });
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        gate.advance(100);

        let reload = Request::get("/p").header("cache-control", "no-cache");
        let mut requests = vec![reload; 2];
        requests.extend(vec![Request::get("/p"); 10]);
        let mut clients = Vec::new();
        for request in &requests {
            let mut client = gate.client().await;
            client.write(request.bytes()).await;
            clients.push(client);
            origin.until_asked("/p", 2).await;
        }
        let all = requests.len() as f64;
        gate.until("headgate_http_in_flight_requests", all).await;
        go.open();

        for (index, mut client) in clients.into_iter().enumerate() {
            let answer = client.answer().await;
            if index >= 2 {
                assert_eq!((answer.status, answer.text()), (200, "old"));
                let told = answer.cache();
                assert!(told.contains("detail=stale-if-error"), "{told}");
            } else if answers {
                assert_eq!((answer.status, answer.text()), (503, "its own words"));
                assert_eq!(answer.cache(), "headgate; fwd=stale; detail=status");
            } else {
                answer.problem(502);
            }
        }
        // Once for each that demands an answer of now; how often one is tried again is not this one's matter.
        assert!(!answers || origin.requests("/p") == 3);
    }
}
