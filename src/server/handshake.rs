//! From an accepted socket to an encrypted stream.
//!
//! `connection` calls it first thing on a TLS listener. The client's hello is read before anything is
//! decided: `net::tls` chooses certificate, client-auth policy or an ACME challenge by it, and a
//! client that speaks plain HTTP gets an answer that it understands. Invariant: every wait is under
//! the deadline of a request head, and what a client sends before its hello is whole is bounded by
//! the TLS library's buffer.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustls::server::{Accepted, Acceptor};
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::StartHandshake;

use crate::clock;
use crate::metrics::CloseReason;
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::wire;

use super::accept::Tls;
use super::guard::Watch;
use super::linger::Linger;

/// First byte of every TLS connection: a record of the handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// A hello with a post-quantum key share is 1.5 to 2 KiB.
const HELLO: usize = 4096;

/// What a client gets that speaks HTTP without TLS.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 59\r\n\
    connection: close\r\n\r\n\
    This port speaks HTTPS: the request came without TLS (400)\n";
/// Most bytes that are read after that answer, see `linger`.
const LINGER_BYTES: usize = 64 * 1024;

/// A connection that got no further than its handshake.
#[derive(Debug)]
pub(super) struct Ended {
    /// For the counter.
    pub(super) reason: CloseReason,
    /// For the log; none where there is nothing to say.
    pub(super) words: Option<Cow<'static, str>>,
}

impl Ended {
    fn failed(words: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: CloseReason::TlsHandshake,
            words: Some(words.into()),
        }
    }

    fn quietly(reason: CloseReason) -> Self {
        Self {
            reason,
            words: None,
        }
    }
}

/// Performs the handshake, and says what was agreed. With the settings goes where the listener's are
/// found later.
///
/// # Errors
/// When there is no connection to speak HTTP over.
pub(super) async fn handshake(
    mut socket: Socket,
    (server, listener): &(Arc<tls::Server>, Tls),
    watch: &Watch,
) -> Result<(Stream, wire::Tls), Ended> {
    let accepted = match hello(&mut socket, watch).await {
        Ok(accepted) => accepted,
        Err(Unusable::Plain) => return Err(refuse_plain(socket, watch).await),
        Err(Unusable::Alert(error, mut alert)) => {
            let mut bytes = Vec::new();
            // Writing to memory does not fail, and nobody waits for an alert.
            drop(alert.write_all(&mut bytes));
            drop(within(watch, socket.write_all(&bytes)).await);
            return Err(Ended::failed(error.to_string()));
        }
        Err(Unusable::Ended(ended)) => return Err(ended),
    };
    let choice = server.choose(&accepted.client_hello());
    let accept = StartHandshake::from_parts(accepted, socket).into_stream(choice.config);
    let stream = match within(watch, accept).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return Err(Ended::failed(error.to_string())),
        None => return Err(timed_out()),
    };
    if choice.is_challenge {
        // RFC 8737 section 3: the handshake was all.
        let mut stream = stream;
        drop(within(watch, stream.shutdown()).await);
        return Err(Ended::quietly(CloseReason::Complete));
    }
    let (_, session) = stream.get_ref();
    let client_cert = client_cert(session, choice.forward_chain)?;
    let agreed = wire::Tls {
        version: version(session),
        cipher: cipher(session),
        client_cert: client_cert.map(|cert| wire::ClientCert {
            leaf: cert.leaf,
            chain: cert.chain,
        }),
        scope: choice
            .scope
            .map(|scope| Rc::new(Scope(scope, Arc::clone(listener))) as Rc<dyn wire::Scope>),
    };
    Ok((Stream::Tls(Box::new(stream)), agreed))
}

/// Waits for a future as long as the connection's deadline allows.
async fn within<F: Future>(watch: &Watch, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => watch.poll_deadline(cx).map(|_error| None),
    })
    .await
}

fn timed_out() -> Ended {
    Ended {
        reason: CloseReason::TlsTimeout,
        words: Some("it took too long".into()),
    }
}

/// Why there is no hello.
enum Unusable {
    /// This is HTTP without TLS.
    Plain,
    /// The client is told.
    Alert(rustls::Error, rustls::server::AcceptedAlert),
    Ended(Ended),
}

/// Reads until the client's hello is whole.
async fn hello(socket: &mut Socket, watch: &Watch) -> Result<Accepted, Unusable> {
    let mut acceptor = Acceptor::default();
    let mut begun = false;
    let read = poll_fn(|cx| {
        loop {
            // Not kept from one poll to the next: a connection that is made in pieces costs no buffer.
            let mut space = [MaybeUninit::uninit(); HELLO];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return watch.poll_deadline(cx).map(|_error| None),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Some(Err(broken(begun, &error))));
                }
            }
            let bytes = buffer.filled();
            if let Some(done) = advance(&mut acceptor, bytes, begun).transpose() {
                return Poll::Ready(Some(done));
            }
            begun = true;
        }
    });
    match read.await {
        Some(done) => done,
        None => Err(Unusable::Ended(timed_out())),
    }
}

/// Takes some bytes of a hello; none means that there is more to come.
fn advance(
    acceptor: &mut Acceptor,
    mut bytes: &[u8],
    begun: bool,
) -> Result<Option<Accepted>, Unusable> {
    match bytes.first() {
        None => {
            let error = io::ErrorKind::UnexpectedEof.into();
            return Err(broken(begun, &error));
        }
        Some(first) if !begun && *first != HANDSHAKE_RECORD => {
            return Err(if first.is_ascii_uppercase() {
                Unusable::Plain
            } else {
                Unusable::Ended(Ended::failed("it does not begin like TLS"))
            });
        }
        Some(_) => {}
    }
    while !bytes.is_empty() {
        let taken = acceptor.read_tls(&mut bytes);
        taken.map_err(|error| Unusable::Ended(Ended::failed(error.to_string())))?;
    }
    acceptor
        .accept()
        .map_err(|(error, alert)| Unusable::Alert(error, alert))
}

/// A client that comes and goes without a word is a check of the port, and not worth a line.
fn broken(begun: bool, error: &io::Error) -> Unusable {
    Unusable::Ended(if begun {
        Ended::failed(format!("the connection broke: {error}"))
    } else {
        Ended::quietly(CloseReason::Client)
    })
}

/// Tells a client in its own language that it is at the wrong port.
async fn refuse_plain(mut socket: Socket, watch: &Watch) -> Ended {
    let telling = async {
        socket.write_all(SPEAK_TLS).await?;
        socket.shutdown().await?;
        let mut lingering = Linger::new(LINGER_BYTES);
        poll_fn(|cx| lingering.poll(cx, &mut socket)).await;
        io::Result::Ok(())
    };
    // It was told if it listened; the connection ends in any case.
    drop(within(watch, telling).await);
    Ended::failed("the client speaks HTTP without TLS")
}

/// What endpoints are told of the client's certificate.
fn client_cert(
    session: &ServerConnection,
    with_chain: bool,
) -> Result<Option<tls::ClientCert>, Ended> {
    let Some(chain) = session.peer_certificates() else {
        return Ok(None);
    };
    // A full handshake has just verified it; a ticket only tells that some handshake did.
    if session.handshake_kind() == Some(HandshakeKind::Resumed)
        && tls::has_ended(chain, clock::wall())
    {
        return Err(Ended::failed("the client's certificate has expired since"));
    }
    Ok(tls::client_cert(chain, with_chain))
}

fn version(session: &ServerConnection) -> &'static str {
    match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

/// By the name in the IANA registry; the library has names of its own for those of TLS 1.3.
fn cipher(session: &ServerConnection) -> &'static str {
    let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
    match suite {
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.and_then(|suite| suite.as_str()).unwrap_or("unknown"),
    }
}

/// `net` and the road do not know each other.
#[derive(Debug)]
struct Scope(tls::Scope, Tls);

impl wire::Scope for Scope {
    fn admits(&self, host: &str) -> bool {
        self.0.follow(|| Option::clone(&self.1.load()));
        self.0.admits(host)
    }

    fn stands(&self) -> bool {
        self.0.stands()
    }
}
