//! A server that a test plays itself, connection by connection, over any socket.
//!
//! `Origin` answers requests by script; this hands out the connections, for what is not about
//! requests: TLS, HTTP/2, PROXY headers, bytes at the wrong time. Invariant: a script that panics fails
//! its test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Client;
use super::client::Stream;

/// One connection, handshakes done.
pub(crate) struct Conn {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) client: Client,
    /// What TLS agreed on: the name asked for, the protocol, whether a session was resumed.
    pub(crate) tls: Option<Agreed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) resumed: bool,
    pub(crate) certified: bool,
}

pub(crate) struct Server {
    address: Option<SocketAddr>,
    accepted: Arc<AtomicUsize>,
    faults: Arc<Mutex<Vec<String>>>,
    running: JoinHandle<()>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    pub(crate) async fn start<F>(script: impl Fn(Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0", None, script).await
    }

    pub(crate) async fn tls<F>(
        config: Arc<ServerConfig>,
        script: impl Fn(Conn) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0", Some(config), script).await
    }

    pub(crate) async fn at<F>(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(Conn) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::on(Listener::Tcp(listener), Some(address), tls, script)
    }

    pub(crate) fn unix<F>(path: &Path, script: impl Fn(Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = UnixListener::bind(path).unwrap();
        Self::on(Listener::Unix(listener), None, None, script)
    }

    fn on<F>(
        listener: Listener,
        address: Option<SocketAddr>,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(Conn) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let accepted = Arc::new(AtomicUsize::new(0));
        let faults = Arc::new(Mutex::new(Vec::new()));
        let (count, list) = (Arc::clone(&accepted), Arc::clone(&faults));
        let running = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                tokio::select! {
                    stream = listener.accept() => {
                        let number = count.fetch_add(1, SeqCst) + 1;
                        match &tls {
                            None => {
                                let client = Client::over(stream);
                                tasks.spawn(script(Conn { number, client, tls: None }));
                            }
                            Some(config) => {
                                let Ok(stream) = TlsAcceptor::from(Arc::clone(config)).accept(stream).await else {
                                    continue;
                                };
                                let (_, session) = stream.get_ref();
                                let tls = Some(Agreed {
                                    name: session.server_name().map(str::to_owned),
                                    protocol: session.alpn_protocol().map(<[u8]>::to_vec),
                                    resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
                                    certified: session.peer_certificates().is_some(),
                                });
                                let client = Client::over(stream);
                                tasks.spawn(script(Conn { number, client, tls }));
                            }
                        }
                    }
                    Some(ended) = tasks.join_next() => {
                        if let Err(error) = ended && error.is_panic() {
                            list.lock().push(error.to_string());
                        }
                    }
                }
            }
        });
        Self {
            address,
            accepted,
            faults,
            running,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("a TCP server")
    }

    /// Connections it accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
        let faults = self.faults.lock();
        assert!(
            faults.is_empty() || std::thread::panicking(),
            "in a server: {faults:?}"
        );
    }
}

impl Listener {
    async fn accept(&self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
        }
    }
}
