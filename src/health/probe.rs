//! One check of one endpoint, from a fresh connection to a result.
//!
//! `prober` calls `probe` and hands the `Outcome` to `status`. The connection is made for the check
//! and closed after it, so a check also proves that the endpoint still accepts; it goes the way that
//! requests go (`net::hop`): PROXY header, TLS, HTTP/1.1 or HTTP/2. Invariant: one deadline holds for
//! the whole, and nothing that the peer sends is kept: heads are capped, bodies are dropped as they
//! come and read up to a cap.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::config::model::{EndpointAddress, Probe, UpstreamProtocol};
use crate::net::dial;
use crate::net::hop::{Hop, HopError, Ready};
use crate::net::proxy_protocol::Header;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the endpoint answered as it should, or why not.
    pub result: Result<(), Failure>,
    /// From the first packet to the result.
    pub took: Duration,
}

/// Why a check failed. The text is for operators and goes into logs and the admin API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// Another error while connecting.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The check did not end in time.
    #[error("timeout after {0:?}")]
    Timeout(Duration),
    /// The answer's status is not the expected one.
    #[error("status {got}, expected {expected}")]
    Status {
        /// What was answered.
        got: u16,
        /// What the check asks for.
        expected: u16,
    },
    /// The answer broke off, or is no HTTP.
    #[error("broken answer: {0}")]
    Answer(String),
    /// Headgate itself could not check; says nothing about the endpoint.
    #[error("could not check: {0}")]
    Ours(String),
}

impl Failure {
    /// Whether the fault is Headgate's and the endpoint must not suffer for it: out of descriptors
    /// or ports, every endpoint would go down at once.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }
}

/// What is checked, and the way there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// Where it is.
    pub(super) socket: &'a EndpointAddress,
    /// How it is reached.
    pub(super) hop: &'a Hop,
    /// Its address as in the config; what `Host` says unless the check names one.
    pub(super) address: &'a str,
}

/// Checks an endpoint once, within `limit`.
pub(super) async fn probe(check: &Probe, way: Way<'_>, limit: Duration) -> Outcome {
    let start = Instant::now();
    let attempt = async {
        let stream = dial::connect(way.socket)
            .await
            .map_err(|error| connect_failure(&error))?;
        let Probe::Http { path, host, status } = check else {
            return Ok(());
        };
        let ready = way
            .hop
            .prepare(stream, way.address, Header::Local)
            .await
            .map_err(|error| hop_failure(&error))?;
        let host = host.as_deref().unwrap_or_else(|| host_of(way.address));
        match ready {
            Ready::Plain(stream) => ask(way.hop, stream, path, host, *status).await,
            Ready::Tls(stream) => ask(way.hop, stream, path, host, *status).await,
        }
    };
    // Boxed: there are as many checks under way as slots, and most of the time none.
    let result = timeout(limit, Box::pin(attempt))
        .await
        .unwrap_or(Err(Failure::Timeout(limit)));
    Outcome {
        result,
        took: start.elapsed(),
    }
}

/// A Unix socket has no name to be called by.
fn host_of(address: &str) -> &str {
    if address.starts_with("unix:") {
        "localhost"
    } else {
        address
    }
}

fn hop_failure(error: &HopError) -> Failure {
    Failure::Connect(match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

fn connect_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        _ if dial::is_ours(error) => Failure::Ours(error.to_string()),
        _ => Failure::Connect(error.to_string()),
    }
}

/// Bytes of an answer's body that are read; an endpoint that sends more has answered well enough.
const MOST_BODY: usize = 64 * 1024;
/// Bytes of an answer's head.
const MOST_HEAD: usize = 16 * 1024;

async fn ask<S>(hop: &Hop, stream: S, path: &str, host: &str, expected: u16) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ours = |error: http::Error| Failure::Ours(error.to_string());
    let request = Request::builder()
        .method(Method::GET)
        .header(header::USER_AGENT, "headgate-health");
    if hop.protocol == UpstreamProtocol::H2 {
        let scheme = if hop.tls.is_some() { "https" } else { "http" };
        let target = Uri::builder()
            .scheme(scheme)
            .authority(host)
            .path_and_query(path)
            .build()
            .map_err(ours)?;
        let request = request.version(Version::HTTP_2).uri(target).body(());
        return ask_h2(stream, request.map_err(ours)?, expected).await;
    }
    let request = request
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(ours)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| answer_failure(&error))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| answer_failure(&error))?;
        let got = response.status().as_u16();
        if got != expected {
            return Err(Failure::Status { got, expected });
        }
        read_and_drop(response.into_body()).await
    };
    // The exchange hears of a broken connection by itself, so only it may end the check; an answer
    // that is whole must not be lost because the connection ended first.
    let drive = async {
        drop(connection.await);
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        result = exchange => result,
        never = drive => match never {},
    }
}

async fn ask_h2<S>(stream: S, request: Request<()>, expected: u16) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(u32::try_from(MOST_HEAD).unwrap_or(u32::MAX))
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(|error| h2_failure(&error))?;
    let exchange = async move {
        let (response, _sent) = sender
            .send_request(request, true)
            .map_err(|error| h2_failure(&error))?;
        let response = response.await.map_err(|error| h2_failure(&error))?;
        let got = response.status().as_u16();
        if got != expected {
            return Err(Failure::Status { got, expected });
        }
        let mut body = response.into_body();
        let mut read = 0_usize;
        while let Some(data) = body.data().await {
            let length = data.map_err(|error| h2_failure(&error))?.len();
            read = read.saturating_add(length);
            if read >= MOST_BODY {
                break;
            }
            body.flow_control()
                .release_capacity(length)
                .map_err(|error| h2_failure(&error))?;
        }
        Ok(())
    };
    let drive = async {
        drop(connection.await);
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        result = exchange => result,
        never = drive => match never {},
    }
}

fn h2_failure(error: &h2::Error) -> Failure {
    Failure::Answer(error.to_string())
}

async fn read_and_drop(mut body: hyper::body::Incoming) -> Result<(), Failure> {
    let mut read = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| answer_failure(&error))?;
        read = read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if read >= MOST_BODY {
            break;
        }
    }
    Ok(())
}

fn answer_failure(error: &hyper::Error) -> Failure {
    Failure::Answer(match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;

    async fn check(check: &Probe, socket: SocketAddr, limit: Duration) -> Outcome {
        let way = Way {
            socket: &socket.into(),
            hop: &Hop::default(),
            address: "shop:80",
        };
        probe(check, way, limit).await
    }

    const LIMIT: Duration = Duration::from_secs(60);

    fn http() -> Probe {
        Probe::Http {
            path: "/healthz?deep=1".into(),
            host: None,
            status: 200,
        }
    }

    async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Answers one connection with `answer`, and returns the head it was sent.
    async fn server(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            head
        });
        (address, task)
    }

    /// Answers one connection with `head`, and then with `more` until it is closed.
    async fn endless_server(head: &'static str, more: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(more.as_bytes()).await.is_ok() {}
        });
        address
    }

    async fn answered(answer: &'static str) -> Result<(), Failure> {
        let (socket, _task) = server(answer).await;
        check(&http(), socket, LIMIT).await.result
    }

    #[tokio::test]
    async fn it_asks_for_the_path_and_says_who_asks() {
        let (socket, task) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(check(&http(), socket, LIMIT).await.result, Ok(()));
        let head = task.await.unwrap().to_ascii_lowercase();
        assert!(
            head.starts_with("get /healthz?deep=1 http/1.1\r\n"),
            "{head}"
        );
        for field in [
            "host: shop:80",
            "user-agent: headgate-health",
            "connection: close",
        ] {
            assert!(head.contains(&format!("\r\n{field}\r\n")), "{head}");
        }

        let (socket, task) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
        let named = Probe::Http {
            path: "/".into(),
            host: Some("api.test".into()),
            status: 204,
        };
        assert_eq!(check(&named, socket, LIMIT).await.result, Ok(()));
        assert!(
            task.await
                .unwrap()
                .to_ascii_lowercase()
                .contains("\r\nhost: api.test\r\n")
        );
    }

    #[tokio::test]
    async fn another_status_is_a_failure_that_names_both() {
        let failure = answered("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap_err();
        assert_eq!(
            failure,
            Failure::Status {
                got: 503,
                expected: 200
            }
        );
        assert_eq!(failure.to_string(), "status 503, expected 200");
    }

    #[tokio::test]
    async fn bodies_end_as_http_says() {
        assert_eq!(
            answered("HTTP/1.1 200 OK\r\n\r\nuntil the close").await,
            Ok(())
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(answered(chunked).await, Ok(()));
        let cut = answered("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await;
        assert!(matches!(cut, Err(Failure::Answer(_))), "{cut:?}");
    }

    #[tokio::test]
    async fn what_is_no_http_is_a_broken_answer() {
        for answer in [
            "",
            "HTTP/1.1 2",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "\0\0\0\0\r\n\r\n",
        ] {
            let result = answered(answer).await;
            assert!(
                matches!(result, Err(Failure::Answer(_))),
                "{answer:?}: {result:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_read_up_to_the_cap() {
        let head = "HTTP/1.1 200 OK\r\n\r\n";
        let socket = endless_server(head, "x").await;
        assert_eq!(check(&http(), socket, LIMIT).await.result, Ok(()));
    }

    #[tokio::test]
    async fn an_endless_head_is_refused_at_the_cap() {
        let socket = endless_server("HTTP/1.1 200 OK\r\nx: ", "aaaaaaaaaaaaaaaa").await;
        let result = check(&http(), socket, LIMIT).await.result;
        assert!(matches!(result, Err(Failure::Answer(_))), "{result:?}");
    }

    #[tokio::test]
    async fn a_closed_port_is_connection_refused_for_both_kinds() {
        // Bound without listening, so that nobody else can take the port meanwhile.
        let reserved = TcpSocket::new_v4().unwrap();
        reserved
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .unwrap();
        let socket = reserved.local_addr().unwrap();
        for kind in [Probe::Tcp, http()] {
            let failure = check(&kind, socket, LIMIT).await.result.unwrap_err();
            assert_eq!(failure.to_string(), "connection refused");
        }
    }

    #[tokio::test]
    async fn a_tcp_check_passes_where_a_connection_can_be_made() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap();
        assert_eq!(check(&Probe::Tcp, socket, LIMIT).await.result, Ok(()));
    }

    #[tokio::test]
    async fn a_check_goes_over_a_unix_socket_and_over_http_2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("origin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
            while connection.accept().await.is_some() {}
            request.uri().to_string()
        });
        let hop = Hop {
            protocol: UpstreamProtocol::H2,
            ..Hop::default()
        };
        let way = Way {
            socket: &EndpointAddress::Unix(path.as_path().into()),
            hop: &hop,
            address: "unix:/run/origin.sock",
        };
        assert_eq!(probe(&http(), way, LIMIT).await.result, Ok(()));
        assert_eq!(serving.await.unwrap(), "http://localhost/healthz?deep=1");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap();
        let limit = Duration::from_secs(5);
        let outcome = check(&http(), socket, limit).await;
        let failure = outcome.result.unwrap_err();
        assert_eq!(failure, Failure::Timeout(limit));
        assert_eq!(failure.to_string(), "timeout after 5s");
        assert!(outcome.took >= limit);
    }

    #[test]
    fn running_out_of_descriptors_or_ports_is_our_own_fault() {
        for code in [23, 24] {
            assert!(connect_failure(&io::Error::from_raw_os_error(code)).is_ours());
        }
        assert!(connect_failure(&io::ErrorKind::AddrNotAvailable.into()).is_ours());
        let unreachable = connect_failure(&io::ErrorKind::HostUnreachable.into());
        assert_eq!(unreachable, Failure::Connect("host unreachable".to_owned()));
        assert!(!unreachable.is_ours());
    }
}
