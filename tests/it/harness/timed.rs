//! A Headgate in this process, for whose cache hours pass when a test says so.
//!
//! Everything else about it is as in a process of its own: sockets, workers, deadlines. Stopped when
//! dropped.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use headgate::app::{self, Options};
use headgate::clock::{Ahead, Clock};
use headgate::config::model::{AccessLog, AccessLogFormat, AccessLogPath, ListenAddress};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Answer, Client, Config, Metrics, Request, eventually, patiently};

pub(crate) struct Timed {
    address: SocketAddr,
    pub(crate) admin: SocketAddr,
    ahead: Ahead,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Timed {
    /// Starts one with one worker and waits until it serves.
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_ahead(config, 0).await
    }

    /// The same, so many seconds from now.
    pub(crate) async fn start_ahead(config: Config, seconds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.yaml");
        std::fs::write(&path, config.one_worker().text()).unwrap();
        let (clock, ahead) = Clock::adjustable();
        ahead.advance(Duration::from_secs(seconds));
        let (stop, stopped) = oneshot::channel();
        let (tell, ready) = oneshot::channel();
        let options = Options {
            access_log: Some(AccessLog {
                format: AccessLogFormat::Off,
                path: AccessLogPath::Stdout,
            }),
            ready: Some(Box::new(move |ready| drop(tell.send(ready.clone())))),
            clock,
            stop: Some(stopped),
        };
        let thread = std::thread::spawn(move || app::run(&path, options).unwrap());
        let ready = patiently("headgate in this process", ready).await.unwrap();
        let address = match ready.listeners.first() {
            Some(ListenAddress::Tcp(address)) => *address,
            other => panic!("{other:?}"),
        };
        Self {
            address,
            admin: ready.admin,
            ahead,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// The same, with one route that caches everything of an origin; `rule` is what its `cache` says.
    pub(crate) async fn caching(origin: &super::Origin, rule: &str) -> Self {
        let route = format!("upstream: shop, cache: {{ {rule} }}");
        let config = Config::new().upstream("shop", &[origin], "");
        Self::start(config.route("shop", "path_prefix: /", &route)).await
    }

    /// Lets time pass for what is stored.
    pub(crate) fn advance(&self, seconds: u64) {
        self.ahead.advance(Duration::from_secs(seconds));
    }

    /// A request to the operators' listener.
    pub(crate) async fn ask(&self, request: &Request) -> Answer {
        Client::connect(self.admin).await.send(request).await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let answer = self.ask(&Request::get("/metrics")).await;
        Metrics::parse(answer.expect(200).text())
    }

    /// Waits until a metric without labels is `value`.
    pub(crate) async fn until(&self, name: &str, value: f64) {
        eventually(&format!("{name} is {value}"), async || {
            let now = self.metrics().await.sum(name, &[]);
            now.total_cmp(&value).is_eq().then_some(())
        })
        .await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A request on a connection of its own.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        self.client().await.send(request).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(&Request::get(target)).await
    }

    /// A `GET` with these fields.
    pub(crate) async fn get_with(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        let request = Request::get(target);
        let request = fields.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        self.send(&request).await
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its own is told by its thread; a second one here would hide the test's.
            let _ended = thread.join();
        }
    }
}
