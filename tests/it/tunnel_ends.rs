//! How tunnels end, and that each of their directions goes on by itself: clients and endpoints of either
//! version of HTTP.

use std::pin::Pin;

use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, Request as Head, Response};
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Config, Conn, Gate, Latch, Origin, Reply, Request, Server, patiently};

const OPEN: &str = "headgate_upstream_tunnels_open";
const TOTAL: &str = "headgate_upstream_tunnels_total";

/// Whether the client speaks HTTP/2, and whether the endpoint does.
const VERSIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// What one end reads.
enum Reader {
    Raw(Pin<Box<dyn AsyncRead + Send>>),
    H2(h2::RecvStream),
}

/// What one end writes.
enum Writer {
    Raw(Pin<Box<dyn AsyncWrite + Send>>),
    H2(h2::SendStream<Bytes>),
}

impl Reader {
    /// Some more bytes; none at the end, clean or not.
    async fn some(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Raw(stream) => {
                let mut bytes = vec![0; 64 * 1024];
                match patiently("bytes", stream.read(&mut bytes)).await {
                    Ok(0) | Err(_) => None,
                    Ok(count) => Some(bytes[..count].to_vec()),
                }
            }
            Self::H2(stream) => {
                let data = patiently("data", stream.data()).await?.ok()?;
                stream.flow_control().release_capacity(data.len()).unwrap();
                Some(data.to_vec())
            }
        }
    }

    async fn until_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(some) = self.some().await {
            all.extend(some);
        }
        all
    }

    /// As many bytes, of which no more have come.
    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.some().await.expect("more bytes"));
        }
        assert_eq!(all.len(), count, "{:?}", String::from_utf8_lossy(&all));
        all
    }
}

impl Writer {
    /// Whether the other end still takes something.
    async fn write(&mut self, mut bytes: &[u8]) -> bool {
        match self {
            Self::Raw(stream) => stream.write_all(bytes).await.is_ok(),
            Self::H2(stream) => {
                while !bytes.is_empty() {
                    stream.reserve_capacity(bytes.len());
                    let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                    let Some(Ok(room)) = room else { return false };
                    let (now, later) = bytes.split_at(room.min(bytes.len()));
                    if stream
                        .send_data(Bytes::copy_from_slice(now), false)
                        .is_err()
                    {
                        return false;
                    }
                    bytes = later;
                }
                true
            }
        }
    }

    async fn end(&mut self) {
        match self {
            Self::Raw(stream) => stream.shutdown().await.unwrap(),
            Self::H2(stream) => stream.send_data(Bytes::new(), true).unwrap(),
        }
    }

    /// Writes until the other end has taken nothing for a while.
    async fn flood(&mut self) {
        let block = vec![b'x'; 64 * 1024];
        let while_ = std::time::Duration::from_millis(300);
        while timeout(while_, self.write(&block)).await.is_ok_and(|it| it) {}
    }
}

/// An endpoint that opens every tunnel and then does as it is told.
async fn endpoint<F>(
    is_h2: bool,
    script: impl Fn(Reader, Writer) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    Server::start(move |mut conn: Conn| {
        let script = script.clone();
        async move {
            if is_h2 {
                return over_h2(conn, script).await;
            }
            if conn.client.request().await.is_none() {
                return;
            }
            let answer = "HTTP/1.1 101 Go\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n";
            conn.client.write(answer).await;
            let (read, write) = tokio::io::split(conn.client.into_stream());
            script(Reader::Raw(Box::pin(read)), Writer::Raw(Box::pin(write))).await;
        }
    })
    .await
}

async fn over_h2<F>(conn: Conn, script: impl Fn(Reader, Writer) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let stream = conn.client.into_stream();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((asked, mut respond))) = connection.accept().await {
        let out = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(script(Reader::H2(asked.into_body()), Writer::H2(out)));
    }
}

fn config(server: &Server, is_h2: bool) -> Config {
    let protocol = if is_h2 { "protocol: h2" } else { "" };
    Config::new()
        .upstream_at("shop", &server.address().to_string(), protocol)
        .route("shop", "path_prefix: /", "upstream: shop, upgrades: [echo]")
}

/// Opens a tunnel.
async fn call(gate: &Gate, is_h2: bool, path: &str) -> (Reader, Writer) {
    let mut stream = TcpStream::connect(gate.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    if is_h2 {
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let announced = || async { sender.is_extended_connect_protocol_enabled().then_some(()) };
        crate::harness::eventually("tunnels are announced", announced).await;
        let request = Head::builder().method(Method::CONNECT);
        let mut request = request
            .uri(format!("http://shop.test{path}"))
            .body(())
            .unwrap();
        request
            .extensions_mut()
            .insert(Protocol::from_static("echo"));
        let (answer, out) = sender.send_request(request, false).unwrap();
        let answer = patiently("an answer", answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        return (Reader::H2(answer.into_body()), Writer::H2(out));
    }
    let offer = format!(
        "GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
    );
    stream.write_all(offer.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently("a head", stream.read_u8()).await.unwrap());
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{:?}",
        String::from_utf8(head)
    );
    let (read, write) = stream.into_split();
    (Reader::Raw(Box::pin(read)), Writer::Raw(Box::pin(write)))
}

/// Sends everything back, and ends when its peer does.
async fn echo(mut reader: Reader, mut writer: Writer) {
    while let Some(some) = reader.some().await {
        if !writer.write(&some).await {
            return;
        }
    }
    writer.end().await;
}

async fn says_back((reader, writer): &mut (Reader, Writer), text: &str) {
    assert!(writer.write(text.as_bytes()).await);
    assert_eq!(reader.exactly(text.len()).await, text.as_bytes());
}

#[tokio::test]
async fn each_direction_goes_on_while_nobody_reads_the_other() {
    const MUCH: usize = 1 << 20;
    for (client_h2, endpoint_h2) in VERSIONS {
        let (full, come) = (Latch::new(), Latch::new());
        let (stalled, arrived) = (full.clone(), come.clone());
        let server = endpoint(endpoint_h2, move |mut reader, mut writer| {
            let (stalled, arrived) = (stalled.clone(), arrived.clone());
            async move {
                writer.flood().await;
                stalled.open();
                let mut count = 0;
                while count < MUCH {
                    count += reader.some().await.expect("more").len();
                }
                arrived.open();
                reader.until_end().await;
            }
        })
        .await;
        let gate = Gate::start(&config(&server, endpoint_h2)).await;

        let (_unread, mut writer) = call(&gate, client_h2, "/").await;
        patiently("what nobody reads", full.opened()).await;
        assert!(patiently("room", writer.write(&vec![b'y'; MUCH])).await);
        patiently("what is sent meanwhile", come.opened()).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_reads_nothing_can_be_read_from() {
    for (client_h2, endpoint_h2) in VERSIONS {
        let full = Latch::new();
        let wait = full.clone();
        let server = endpoint(endpoint_h2, move |reader, mut writer| {
            let wait = wait.clone();
            async move {
                wait.opened().await;
                assert!(writer.write(b"still here").await);
                writer.end().await;
                drop(reader);
            }
        })
        .await;
        let gate = Gate::start(&config(&server, endpoint_h2)).await;

        let (mut reader, mut writer) = call(&gate, client_h2, "/").await;
        writer.flood().await;
        full.open();
        assert_eq!(reader.exactly(10).await, b"still here");
    }
}

#[tokio::test]
async fn a_client_goes_on_when_its_endpoint_has_ended_its_side() {
    for (client_h2, endpoint_h2) in VERSIONS {
        let ended = Latch::new();
        let end = ended.clone();
        let server = endpoint(endpoint_h2, move |mut reader, mut writer| {
            let end = end.clone();
            async move {
                assert!(writer.write(b"goodbye").await);
                writer.end().await;
                assert_eq!(reader.until_end().await, b"one more thing");
                end.open();
            }
        })
        .await;
        let gate = Gate::start(&config(&server, endpoint_h2)).await;

        let (mut reader, mut writer) = call(&gate, client_h2, "/").await;
        assert_eq!(reader.until_end().await, b"goodbye");
        gate.until(OPEN, &[], 1.0).await;
        assert!(writer.write(b"one more ").await);
        assert!(writer.write(b"thing").await);
        writer.end().await;
        patiently("the end", ended.opened()).await;
        gate.until(OPEN, &[], 0.0).await;
        gate.until(TOTAL, &[("reason", "upstream")], 1.0).await;
    }
}

#[tokio::test]
async fn an_endpoint_goes_on_when_its_client_has_ended_its_side() {
    for (client_h2, endpoint_h2) in VERSIONS {
        let server = endpoint(endpoint_h2, |mut reader, mut writer| async move {
            assert_eq!(reader.until_end().await, b"hello");
            assert!(writer.write(b"good").await);
            assert!(writer.write(b"bye").await);
            writer.end().await;
        })
        .await;
        let gate = Gate::start(&config(&server, endpoint_h2)).await;

        let (mut reader, mut writer) = call(&gate, client_h2, "/").await;
        assert!(writer.write(b"hello").await);
        writer.end().await;
        assert_eq!(reader.until_end().await, b"goodbye");
        gate.until(OPEN, &[], 0.0).await;
        gate.until(TOTAL, &[("reason", "upstream")], 1.0).await;
    }
}

/// Writes until the kernel says that nobody is there.
async fn until_refused(writer: &mut Writer) {
    patiently("a reset", async {
        while writer.write(b"x").await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stays_silent_after_the_end_is_closed_after_its_idle_time() {
    for endpoint_h2 in [false, true] {
        let ended = Latch::new();
        let end = ended.clone();
        let server = endpoint(endpoint_h2, move |mut reader, mut writer| {
            let end = end.clone();
            async move {
                writer.end().await;
                assert_eq!(reader.until_end().await, b"");
                end.open();
            }
        })
        .await;
        let config = config(&server, endpoint_h2).top("timeouts: { idle: 200ms }");
        let gate = Gate::start(&config).await;

        let (mut reader, mut writer) = call(&gate, false, "/").await;
        assert_eq!(reader.until_end().await, b"");
        patiently("the endpoint to hear of it", ended.opened()).await;
        gate.until(OPEN, &[], 0.0).await;
        until_refused(&mut writer).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_closes_the_client_at_once() {
    let server = endpoint(false, |reader, mut writer| async move {
        assert!(writer.write(b"last words").await);
        drop((reader, writer));
    })
    .await;
    let gate = Gate::start(&config(&server, false)).await;

    let (mut reader, mut writer) = call(&gate, false, "/").await;
    assert_eq!(reader.until_end().await, b"last words");
    until_refused(&mut writer).await;
    gate.until("headgate_connections_open", &[], 0.0).await;
    gate.until(OPEN, &[], 0.0).await;
}

#[tokio::test]
async fn a_stop_lets_tunnels_go_on_until_they_end() {
    for (client_h2, endpoint_h2) in VERSIONS {
        let server = endpoint(endpoint_h2, echo).await;
        let mut gate = Gate::start(&config(&server, endpoint_h2)).await;
        let mut tunnel = call(&gate, client_h2, "/").await;
        says_back(&mut tunnel, "before").await;

        gate.process.signal(Signal::TERM);
        gate.log("requests may finish").await;
        says_back(&mut tunnel, "meanwhile").await;
        assert!(gate.process.try_end().is_none());
        tunnel.1.end().await;

        assert_eq!(tunnel.0.until_end().await, b"");
        assert_eq!(gate.process.end().await.code(), Some(0));
        assert_eq!(gate.logged("every request has finished"), 1);
    }
}

#[tokio::test]
async fn a_stop_cuts_tunnels_when_its_time_is_over() {
    for client_h2 in [false, true] {
        let server = endpoint(false, echo).await;
        let config = config(&server, false).top("timeouts: { shutdown: 200ms }");
        let mut gate = Gate::start(&config).await;
        let mut tunnel = call(&gate, client_h2, "/").await;
        says_back(&mut tunnel, "before").await;

        assert_eq!(gate.stop().await.code(), Some(0));

        assert_eq!(tunnel.0.until_end().await, b"");
        assert_eq!(gate.logged("time was up"), 1);
    }
}

/// Where a reload takes something away: what stays, and what goes.
fn before_and_after(kept: &Server, gone: &Server, origin: &Origin) -> (Config, Config) {
    let upgrades = "upgrades: [echo]";
    let one = |config: Config, name: &str, upstream: &str| {
        let path = format!("path_prefix: /{name}");
        config.route(name, &path, &format!("upstream: {upstream}, {upgrades}"))
    };
    let upstreams = Config::new()
        .top("timeouts: { shutdown: 300ms }")
        .upstream_at("kept", &kept.address().to_string(), "")
        .upstream("origin", &[origin], "");
    let after = one(one(upstreams, "kept", "kept"), "stream", "origin");
    let before = after
        .clone()
        .upstream_at("gone", &gone.address().to_string(), "");
    let before = one(before, "endpoint", "gone");
    let before = one(before, "route", "kept");
    (one(before, "old-stream", "origin"), after)
}

#[tokio::test]
async fn what_a_reload_takes_away_is_cut_after_a_while_and_nothing_else_is() {
    for client_h2 in [false, true] {
        let never = Latch::new();
        let wait = never.clone();
        let origin = Origin::start("a").await.on("*", move |_| {
            let reply = Reply::new(200).header("content-length", "10").then("begun");
            reply.then_wait(&wait).then("ended")
        });
        let (kept, gone) = (endpoint(false, echo).await, endpoint(false, echo).await);
        let (before, after) = before_and_after(&kept, &gone, &origin);
        let gate = Gate::start(&before).await;

        let mut of_kept = call(&gate, client_h2, "/kept").await;
        let mut of_endpoint = call(&gate, client_h2, "/endpoint").await;
        let mut of_route = call(&gate, client_h2, "/route").await;
        for tunnel in [&mut of_kept, &mut of_endpoint, &mut of_route] {
            says_back(tunnel, "before").await;
        }
        let mut stream = gate.begin(&Request::get("/stream")).await;
        let mut old_stream = gate.begin(&Request::get("/old-stream")).await;
        for client in [&mut stream, &mut old_stream] {
            client.head().await.expect(200);
            assert_eq!(client.exactly(5).await, b"begun");
        }
        // Nothing that is in use goes with this one.
        let more = before
            .clone()
            .route("more", "path: /more", "upstream: kept");
        gate.become_config(&more).await;
        for tunnel in [&mut of_kept, &mut of_endpoint, &mut of_route] {
            says_back(tunnel, "unrelated").await;
        }

        gate.become_config(&after).await;

        assert_eq!(of_endpoint.0.until_end().await, b"");
        assert_eq!(of_route.0.until_end().await, b"");
        assert_eq!(old_stream.until_closed().await, b"");
        let removed = [("upstream", "kept"), ("reason", "removed")];
        gate.until(TOTAL, &removed, 1.0).await;
        gate.until(OPEN, &[("upstream", "kept")], 1.0).await;
        says_back(&mut of_kept, "after").await;
        never.open();
        assert_eq!(stream.exactly(5).await, b"ended");
    }
}

#[tokio::test]
async fn what_is_back_in_time_is_not_cut() {
    let (one, two) = (endpoint(false, echo).await, endpoint(false, echo).await);
    let config = |shutdown: &str, names: &[&str]| {
        let mut config = Config::new().top(&format!("timeouts: {{ shutdown: {shutdown} }}"));
        for (name, server) in [("one", &one), ("two", &two)] {
            let path = format!("path_prefix: /{name}");
            let route = format!("upstream: {name}, upgrades: [echo]");
            config = config.upstream_at(name, &server.address().to_string(), "");
            if names.contains(&name) {
                config = config.route(name, &path, &route);
            }
        }
        config
    };
    let gate = Gate::start(&config("1h", &["one", "two"])).await;
    let mut of_one = call(&gate, false, "/one").await;
    let mut of_two = call(&gate, false, "/two").await;

    gate.become_config(&config("1h", &["two"])).await;
    says_back(&mut of_one, "its route is gone").await;
    gate.become_config(&config("300ms", &["one"])).await;

    // This one's time is over, and so would have been that of the other.
    assert_eq!(of_two.0.until_end().await, b"");
    says_back(&mut of_one, "its route is back").await;
}
