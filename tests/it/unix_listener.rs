//! Listening on Unix sockets, and on IPv6 addresses.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::Signal;
use tokio::net::{UnixListener, UnixStream};

use crate::harness::{Client, Config, Gate, Latch, Origin, Process, Reply, Request, eventually};

const SOCKET: &str = "address: 'unix:gate.sock'";

async fn log_lines(gate: &Gate, count: usize) -> Vec<serde_json::Value> {
    let path = gate.file("access.log");
    let text = eventually("the lines are written", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.matches('\n').count() >= count).then_some(text)
    })
    .await;
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const LOG: &str = "access_log: { format: json, path: access.log }";

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_client_on_a_unix_socket_is_served_and_has_no_address() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(SOCKET).top(LOG);
    let mut gate = Gate::start(&config).await;
    let path = gate.file("gate.sock");
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    assert_eq!(mode(&path), 0o660);

    let forged = Request::get("/p").header("x-forwarded-for", "192.0.2.9");
    gate.unix_client("gate.sock")
        .await
        .send(&forged)
        .await
        .expect(200);
    assert_eq!(origin.last("/p").all("x-forwarded-for"), ["unknown"]);
    let line = &log_lines(&gate, 1).await[0];
    assert_eq!(line["client"], "unix:");
    assert_eq!(line.get("client_port"), None);

    assert!(gate.stop().await.success());
    assert!(!path.exists(), "its file is gone with the process");
}

#[tokio::test]
async fn every_worker_serves_the_one_socket() {
    let gathered = Latch::new();
    let all = gathered.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |_| Reply::ok("").after(&all));
    let config = Config::to(&[&origin]).only_listener(SOCKET).workers(4);
    let gate = Gate::start(&config).await;

    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = gate.unix_client("gate.sock").await;
        client.write(Request::get("/p").bytes()).await;
        clients.push(client);
    }
    origin.until_asked("/p", 100).await;
    gathered.open();
    for client in &mut clients {
        client.answer().await.expect(200);
    }
}

#[tokio::test]
async fn a_reload_adds_changes_and_removes_a_socket() {
    let origin = Origin::start("a").await;
    let plain = Config::to(&[&origin]);
    let gate = Gate::start(&plain).await;
    let path = gate.file("gate.sock");

    gate.become_config(&plain.clone().listener(SOCKET)).await;
    let mut client = gate.unix_client("gate.sock").await;
    client.get("/p").await.expect(200);
    let open = format!("{SOCKET}, mode: '0600'");
    gate.become_config(&plain.clone().listener(&open)).await;
    assert_eq!(mode(&path), 0o600);
    client.get("/p").await.expect(200);

    gate.become_config(&plain).await;
    assert!(!path.exists());
    client.get("/p").await.expect(200);
    gate.become_config(&plain.clone().listener(SOCKET)).await;
    gate.unix_client("gate.sock")
        .await
        .get("/p")
        .await
        .expect(200);
}

#[tokio::test]
async fn a_reload_that_fails_leaves_no_socket_behind() {
    let origin = Origin::start("a").await;
    let plain = Config::to(&[&origin]);
    let gate = Gate::start(&plain).await;
    std::fs::write(gate.file("taken"), "").unwrap();

    let both = plain
        .clone()
        .listener(SOCKET)
        .listener("address: 'unix:taken'");
    gate.write(&both.text());
    let said = gate.reload().await;
    assert_ne!(said.status, 200);
    assert!(said.text().contains("not a socket"), "{}", said.text());
    assert!(!gate.file("gate.sock").exists());
}

#[tokio::test]
async fn a_socket_in_use_is_refused_and_one_left_behind_is_replaced() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(SOCKET);
    let mut first = Gate::start(&config).await;
    let mut second = Process::start(["run", "-c", first.path.to_str().unwrap()], Path::new("/"));
    assert!(!second.end().await.success());
    let said = second.errors().join("\n");
    assert!(
        said.contains("another process listens there already"),
        "{said}"
    );
    first
        .unix_client("gate.sock")
        .await
        .get("/p")
        .await
        .expect(200);

    first.process.signal(Signal::KILL);
    first.process.end().await;
    assert!(first.file("gate.sock").exists());
    let third = Process::start(["run", "-c", first.path.to_str().unwrap()], Path::new("/"));
    third.error_line("headgate is ready").await;
    first
        .unix_client("gate.sock")
        .await
        .get("/p")
        .await
        .expect(200);
}

#[tokio::test]
async fn a_file_that_someone_else_put_there_stays() {
    let origin = Origin::start("a").await;
    let mut gate = Gate::start(&Config::to(&[&origin]).only_listener(SOCKET)).await;
    let (path, new) = (gate.file("gate.sock"), gate.file("new.sock"));
    let _theirs = UnixListener::bind(&new).unwrap();
    std::fs::rename(&new, &path).unwrap();

    assert!(gate.stop().await.success());
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn an_ipv6_client_is_served_beside_ipv4_on_one_port() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener("address: '[::]:0'")
        .top(LOG);
    // The port that is free for IPv6 may be taken for IPv4.
    let (gate, port) = eventually("a port is free for both", async || {
        let gate = Gate::start(&config).await;
        let port = gate.address.port();
        let v4 = config.clone().listener(&format!("address: 0.0.0.0:{port}"));
        gate.write(&v4.text());
        (gate.reload().await.status == 200).then_some((gate, port))
    })
    .await;

    Client::connect(([0, 0, 0, 0, 0, 0, 0, 1], port).into())
        .await
        .get("/six")
        .await
        .expect(200);
    Client::connect(([127, 0, 0, 1], port).into())
        .await
        .get("/four")
        .await
        .expect(200);
    assert_eq!(origin.last("/six").header("x-forwarded-for"), Some("::1"));
    assert_eq!(
        origin.last("/four").header("x-forwarded-for"),
        Some("127.0.0.1")
    );
    let clients: Vec<_> = log_lines(&gate, 2)
        .await
        .iter()
        .map(|line| line["client"].clone())
        .collect();
    assert!(
        clients.contains(&"::1".into()) && clients.contains(&"127.0.0.1".into()),
        "{clients:?}"
    );
}
