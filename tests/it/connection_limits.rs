//! How many connections clients may have, in total and from one address.

use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request, eventually};

const CLOSED: &str = "headgate_connections_closed_total";

/// A connection from an address of this machine that is not the usual one.
async fn from(last: u8, gate: &Gate) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    socket.bind(address).unwrap();
    Client::over(socket.connect(gate.address).await.unwrap())
}

async fn is_refused(client: &mut Client, words: &str) {
    // With an upload, so that something unread is there when it is closed.
    let request = Request::post("/refused", vec![b'x'; 10_000]);
    client.try_write(&request.bytes()).await.ok();
    let said = String::from_utf8(client.until_closed().await).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{said:?}"
    );
    assert!(said.contains("\r\nconnection: close\r\n"), "{said}");
    assert!(said.ends_with(words), "{said}");
}

/// A new connection is served, as soon as the end of an old one is known.
async fn until_served(gate: &Gate) -> Client {
    eventually("there is room", async || {
        let mut client = gate.client().await;
        let answer = client.try_send(&Request::get("/room")).await;
        answer
            .is_ok_and(|answer| answer.status == 200)
            .then_some(client)
    })
    .await
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_told_so_and_closed() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).top("limits: { connections: 3 }");
    let gate = Gate::start(&config).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = gate.client().await;
        client.get("/p").await.expect(200);
        held.push(client);
    }
    for _ in 0..5 {
        is_refused(
            &mut gate.client().await,
            "There are too many connections.\r\n",
        )
        .await;
    }
    gate.until(CLOSED, &[("reason", "connection_limit")], 5.0)
        .await;
    assert_eq!(
        gate.metrics()
            .await
            .total("headgate_connections_limit")
            .total_cmp(&3.0),
        std::cmp::Ordering::Equal
    );
    assert!(gate.logged("client connections are turned away") >= 1);
    for client in &mut held {
        client.get("/p").await.expect(200);
    }
    held.pop();
    held.push(until_served(&gate).await);
    assert_eq!(origin.requests("/refused"), 0);
}

#[tokio::test]
async fn a_reload_changes_the_limit() {
    let origin = Origin::start("a").await;
    let limited =
        |most: usize| Config::to(&[&origin]).top(&format!("limits: {{ connections: {most} }}"));
    let gate = Gate::start(&limited(1)).await;
    let mut first = gate.client().await;
    first.get("/p").await.expect(200);
    is_refused(&mut gate.client().await, "connections.\r\n").await;
    gate.become_config(&limited(2)).await;
    let mut second = gate.client().await;
    second.get("/p").await.expect(200);
    gate.become_config(&limited(1)).await;
    first.get("/p").await.expect(200);
    second.get("/p").await.expect(200);
    is_refused(&mut gate.client().await, "connections.\r\n").await;
}

#[tokio::test]
async fn one_address_cannot_take_the_room_of_another() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).top("limits: { connections_per_address: 2 }");
    let gate = Gate::start(&config).await;
    let (mut one, mut two) = (from(7, &gate).await, from(7, &gate).await);
    one.get("/p").await.expect(200);
    two.get("/p").await.expect(200);
    is_refused(
        &mut from(7, &gate).await,
        "There are too many connections from your address.\r\n",
    )
    .await;
    gate.until(CLOSED, &[("reason", "address_limit")], 1.0)
        .await;
    from(8, &gate).await.get("/p").await.expect(200);

    drop(one);
    eventually("its place is free", async || {
        let mut client = from(7, &gate).await;
        let answer = client.try_send(&Request::get("/p")).await;
        answer
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    })
    .await;
    two.get("/p").await.expect(200);
    assert_eq!(origin.requests("/refused"), 0);
}

#[tokio::test]
async fn addresses_are_those_that_a_trusted_proxy_names() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener("address: 127.0.0.1:0, proxy_protocol: { from: [127.0.0.1] }")
        .top("limits: { connections_per_address: 1 }");
    let gate = Gate::start(&config).await;
    let from = async |last: u8| {
        let mut client = gate.client().await;
        client
            .write(format!("PROXY TCP6 2001:db8::{last} ::1 1 2\r\n"))
            .await;
        client
    };
    let other = async || {
        let mut client = gate.client().await;
        client.write("PROXY TCP6 2001:db8:0:1::1 ::1 1 2\r\n").await;
        client
    };
    let mut one = from(1).await;
    one.get("/p").await.expect(200);
    other().await.get("/p").await.expect(200);
    // The same network of 64 bits.
    is_refused(&mut from(2).await, "from your address.\r\n").await;
    one.get("/p").await.expect(200);
    assert_eq!(origin.requests("/refused"), 0);
}

#[tokio::test]
async fn over_tls_a_connection_beyond_the_limit_is_only_closed() {
    let folder = TempDir::new().unwrap();
    let pair = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), pair.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("key.pem"),
        pair.signing_key.serialize_pem(),
    )
    .unwrap();
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .listener("address: 127.0.0.2:0, tls: { certificates: [{ cert: cert.pem, key: key.pem }] }")
        .top("limits: { connections: 1 }");
    let gate = Gate::start_in(folder, &config).await;
    let mut held = gate.client().await;
    held.get("/p").await.expect(200);

    let mut client = Client::connect(gate.listeners[1]).await;
    client.try_write(b"\x16\x03\x01").await.ok();
    assert_eq!(client.until_closed().await, b"");
    gate.until(CLOSED, &[("reason", "connection_limit")], 1.0)
        .await;
}

#[tokio::test]
async fn a_crowd_that_is_turned_away_does_not_stop_who_is_there() {
    let never = Latch::new();
    let blocked = never.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("").after(&blocked));
    let config = Config::to(&[&origin])
        .one_worker()
        .top("limits: { connections: 2 }");
    let gate = Gate::start(&config).await;
    let mut slow = gate.begin(&Request::get("/slow")).await;
    origin.until_asked("/slow", 1).await;
    let mut busy = gate.client().await;
    busy.get("/p").await.expect(200);

    // More than are talked to at a time, and none of them goes away by itself.
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(gate.client().await);
    }
    for _ in 0..20 {
        busy.get("/p").await.expect(200);
    }
    gate.until(CLOSED, &[("reason", "connection_limit")], 200.0)
        .await;
    for client in &mut crowd {
        client.until_closed().await;
    }
    never.open();
    slow.answer().await.expect(200);
    drop((slow, busy));
    until_served(&gate).await;
}
