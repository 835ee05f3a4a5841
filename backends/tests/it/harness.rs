//! A service on a port of the system's choice and a client that hides nothing.
//!
//! Tests start a [`Shop`] (one service, one file, any number of instances) and speak to it through
//! raw sockets, so that they see the bytes of an answer and not a library's idea of it. A server that
//! fails cuts its connections, which fails the test; [`Instance::stop`] also looks at how it ended.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use headgate_backends::{Clock, Error, Options, Service, bind, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// Bounds a test that hangs; longer than any deadline of a service.
const PATIENCE: Duration = Duration::from_secs(600);

/// One service's file and clock, and whoever serves it.
pub(crate) struct Shop {
    service: Service,
    folder: TempDir,
    now: Arc<AtomicU64>,
}

pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One keep-alive connection.
pub(crate) struct Connection(TcpStream);

impl Shop {
    pub(crate) fn new(service: Service) -> Self {
        let now = Arc::new(AtomicU64::new(1_800_000_000));
        Self {
            service,
            folder: tempfile::tempdir().unwrap(),
            now,
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    pub(crate) fn options(&self, name: &str) -> Options {
        let now = Arc::clone(&self.now);
        let clock =
            Clock::new(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed)));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Options {
            clock,
            ..Options::new(self.service, name, any, self.database())
        }
    }

    /// Moves time forward for all instances.
    pub(crate) fn pass(&self, time: Duration) {
        self.now.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    pub(crate) async fn start(&self, name: &str) -> Instance {
        let options = self.options(name);
        let listener = bind(&options).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(serve(listener, options, async move { drop(stopped.await) }));
        Instance {
            address,
            stop,
            ended,
        }
    }
}

/// A shop with one instance, which is enough for most tests.
pub(crate) async fn start(service: Service) -> (Shop, Instance) {
    let shop = Shop::new(service);
    let instance = shop.start(&format!("{service}-1")).await;
    (shop, instance)
}

impl Instance {
    /// Ends it as a signal would and waits until its file is closed.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.ended)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.address).await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &[], Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, &[], Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, &[], Some(body)).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        self.connect().await.send(method, path, headers, body).await
    }
}

impl Connection {
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: shop.test\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            head += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        self.write(&format!("{head}\r\n{body}")).await;
        self.read(method == "HEAD").await
    }

    pub(crate) async fn write(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub(crate) async fn read(&mut self, head_only: bool) -> Answer {
        timeout(PATIENCE, self.read_answer(head_only))
            .await
            .expect("an answer")
    }

    /// Whether the server has closed, with nothing more to read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(
            timeout(PATIENCE, self.0.read(&mut byte))
                .await
                .expect("an end"),
            Ok(0)
        )
    }

    async fn read_answer(&mut self, head_only: bool) -> Answer {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let count = self.0.read_buf(&mut bytes).await.unwrap();
            assert_ne!(
                count,
                0,
                "closed within a head: {:?}",
                String::from_utf8_lossy(&bytes)
            );
        };
        let mut body = bytes.split_off(end);
        let head = String::from_utf8(bytes).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while body.len() < length && !head_only {
            assert_ne!(
                self.0.read_buf(&mut body).await.unwrap(),
                0,
                "closed within a body"
            );
        }
        answer.body = body;
        answer
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body, which must be what its type says.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem document, which must be whole and say `status`.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let document: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(document["status"], status);
        assert!(
            document["title"].is_string() && document["detail"].is_string(),
            "{text}"
        );
        assert!(self.header("x-served-by").is_some());
        document
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}

/// Reads a database from the outside, as another process would.
pub(crate) fn query(database: &Path, sql: &str) -> i64 {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}
