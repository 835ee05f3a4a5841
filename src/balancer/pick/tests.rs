//! The choice among members, without sockets.

use super::*;
use crate::balancer::Registry;

fn pool(balance: Balance, weights: &[u16], sticky: bool) -> Pool {
    let registry = Registry::default();
    let health = crate::health::Registry::default();
    let upstream: Arc<str> = "shop".into();
    let addresses: Vec<Arc<str>> = (0..weights.len())
        .map(|i| format!("127.0.0.1:{}", 9000 + i).into())
        .collect();
    let members = addresses
        .iter()
        .zip(weights)
        .map(|(address, weight)| Member {
            endpoint: registry.endpoint(
                &upstream,
                address,
                &address.parse::<std::net::SocketAddr>().unwrap().into(),
            ),
            status: health.status(&upstream, address, None),
            weight: *weight,
        })
        .collect();
    let sticky = sticky.then(|| Sticky::new(&"DAB_ROUTE".into(), &[7; 16], &upstream, &addresses));
    Pool::new(balance, members, sticky)
}

fn pick(pool: &Pool) -> Picked {
    pool.pick(std::iter::empty(), None, 0).unwrap()
}

#[test]
fn least_connections_fills_by_weight() {
    let pool = pool(Balance::LeastConnections, &[1, 2, 3], false);
    let held: Vec<Picked> = (0..60).map(|_| pick(&pool)).collect();
    let counts: Vec<u32> = pool
        .members()
        .iter()
        .map(|m| m.endpoint.in_flight())
        .collect();
    assert_eq!(counts, [10, 20, 30]);
    drop(held);
    assert!(
        pool.members()
            .iter()
            .all(|member| member.endpoint.in_flight() == 0)
    );
}

#[test]
fn ties_are_broken_evenly() {
    let pool = pool(Balance::LeastConnections, &[1, 1, 1, 1], false);
    let mut counts = [0_u32; 4];
    let seed = 11;
    println!("seed {seed}");
    fastrand::seed(seed);
    for _ in 0..4000 {
        counts[pick(&pool).member] += 1;
    }
    // 1000 each; six standard deviations are about 165.
    assert!(
        counts.iter().all(|count| (835..1165).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn random_follows_the_weights() {
    let pool = pool(Balance::Random, &[1, 3], false);
    let seed = 12;
    println!("seed {seed}");
    fastrand::seed(seed);
    let second = (0..4000).filter(|_| pick(&pool).member == 1).count();
    assert!((2830..3170).contains(&second), "{second}");
}

#[test]
fn a_failing_endpoint_is_paused_but_used_when_nothing_else_is_left() {
    let pool = pool(Balance::LeastConnections, &[1, 1], false);
    pool.members()[0].endpoint.failed(1000);
    for _ in 0..20 {
        assert_eq!(pool.pick(std::iter::empty(), None, 1001).unwrap().member, 1);
    }
    let other = pool.members()[1].endpoint.id;
    assert_eq!(
        pool.pick(std::iter::empty(), Some(other), 1001)
            .unwrap()
            .member,
        0
    );
    assert!(pool.members()[0].endpoint.is_paused(1001));
    pool.members()[0].endpoint.succeeded();
    assert!(!pool.members()[0].endpoint.is_paused(1001));
}

#[test]
fn pauses_grow_and_are_bounded() {
    let pool = pool(Balance::LeastConnections, &[1], false);
    let endpoint = &pool.members()[0].endpoint;
    endpoint.failed(0);
    assert!(endpoint.is_paused(249) && !endpoint.is_paused(250));
    endpoint.failed(249);
    assert!(
        !endpoint.is_paused(250),
        "a failure within the pause adds nothing"
    );
    let mut now = 250;
    for _ in 0..20 {
        endpoint.failed(now);
        now += 8000;
    }
    let last = now - 8000;
    assert!(endpoint.is_paused(last + 7999) && !endpoint.is_paused(last + 8000));
}

#[test]
fn a_client_stays_with_its_endpoint_and_is_told_when_it_moves() {
    let pool = pool(Balance::LeastConnections, &[1, 1, 1], true);
    let first = pick(&pool);
    assert!(first.tell_client);
    let cookie = pool
        .sticky()
        .unwrap()
        .cookie(first.member, false)
        .unwrap()
        .clone();
    let pair = cookie.as_bytes().split(|b| *b == b';').next().unwrap();
    for _ in 0..20 {
        let next = pool.pick([pair].into_iter(), None, 0).unwrap();
        assert_eq!((next.member, next.tell_client), (first.member, false));
    }
    let gone = pool.members()[first.member].endpoint.id;
    let moved = pool.pick([pair].into_iter(), Some(gone), 0).unwrap();
    assert_ne!(moved.member, first.member);
    assert!(moved.tell_client);
}

#[test]
fn nobody_left_is_an_error() {
    let pool = pool(Balance::RoundRobin, &[1], false);
    let only = pool.members()[0].endpoint.id;
    assert_eq!(
        pool.pick(std::iter::empty(), Some(only), 0).unwrap_err(),
        NoEndpoint
    );
}
