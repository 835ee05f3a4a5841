//! A running Headgate with a config file of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;

use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::{Answer, Client, Config, Metrics, Process, Request, eventually};

pub(crate) struct Gate {
    pub(crate) process: Process,
    /// Of its first listener; nowhere if all are Unix sockets.
    pub(crate) address: SocketAddr,
    /// Those on IP addresses.
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) path: PathBuf,
    /// Kept from one look to the next: whoever polls would else use up the ports of the machine.
    asking: Mutex<Option<Client>>,
    folder: TempDir,
}

impl Gate {
    /// Starts one and waits until it serves.
    pub(crate) async fn start(config: &Config) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config).await
    }

    /// The same, with files that the config names relative to its folder.
    pub(crate) async fn start_in(folder: TempDir, config: &Config) -> Self {
        Self::starts(folder, config, None).await
    }

    /// The same with so many descriptors.
    pub(crate) async fn start_with(descriptors: usize, config: &Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::starts(folder, config, Some(descriptors)).await
    }

    async fn starts(folder: TempDir, config: &Config, descriptors: Option<usize>) -> Self {
        let path = folder.path().join("gate.yaml");
        std::fs::write(&path, config.text()).unwrap();
        let arguments = ["run", "-c", path.to_str().unwrap()];
        let mut process = match descriptors {
            Some(most) => Process::start_with(most, arguments, folder.path()),
            None => Process::start(arguments, folder.path()),
        };
        let ready = eventually("headgate is ready", async || {
            if let Some(status) = process.try_end() {
                panic!("{status}: {:#?}\n{}", process.errors(), config.text());
            }
            process
                .errors()
                .into_iter()
                .find(|line| line.contains("headgate is ready"))
        })
        .await;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let listeners = ready["listeners"].as_str().unwrap();
        let listeners = listeners.strip_prefix('[').unwrap();
        let listeners: Vec<SocketAddr> = listeners
            .strip_suffix(']')
            .unwrap()
            .split(", ")
            .filter(|address| !address.starts_with("unix:"))
            .map(|address| address.parse().unwrap())
            .collect();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            process,
            address: listeners.first().copied().unwrap_or(nowhere),
            listeners,
            admin: ready["admin"].as_str().unwrap().parse().unwrap(),
            path,
            asking: Mutex::default(),
            folder,
        }
    }

    /// A file beside the config.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A connection by a Unix socket beside the config.
    pub(crate) async fn unix_client(&self, name: &str) -> Client {
        Client::over(UnixStream::connect(self.file(name)).await.unwrap())
    }

    /// A request on a connection of its own.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        self.client().await.send(request).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(&Request::get(target)).await
    }

    /// Starts a request and leaves its answer for later.
    pub(crate) async fn begin(&self, request: &Request) -> Client {
        let mut client = self.client().await;
        client.write(request.bytes()).await;
        client
    }

    /// A request to the operators' listener.
    pub(crate) async fn ask(&self, request: &Request) -> Answer {
        let request = &request.clone().or_host(&self.admin.to_string());
        let kept = self.asking.lock().take();
        let kept = match kept {
            // It may have been closed meanwhile.
            Some(mut client) => client.try_send(request).await.ok().map(|it| (client, it)),
            None => None,
        };
        let (client, answer) = match kept {
            Some(done) => done,
            None => {
                let mut client = Client::connect(self.admin).await;
                let answer = client.send(request).await;
                (client, answer)
            }
        };
        *self.asking.lock() = Some(client);
        answer
    }

    pub(crate) async fn look(&self, target: &str) -> Answer {
        self.ask(&Request::get(target)).await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(self.look("/metrics").await.expect(200).text())
    }

    /// Waits until the sum of these series is `value`.
    pub(crate) async fn until(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name} {labels:?} is {value}");
        eventually(&what, async || {
            let sum = self.metrics().await.sum(name, labels);
            (sum.total_cmp(&value).is_eq()).then_some(())
        })
        .await;
    }

    /// `/api/upstreams`, one endpoint.
    pub(crate) async fn endpoint(&self, upstream: &str, address: SocketAddr) -> Value {
        let all = self.look("/api/upstreams").await.expect(200).json();
        let upstreams = all["upstreams"].as_array().unwrap();
        let found = upstreams
            .iter()
            .find(|one| one["name"] == upstream)
            .unwrap();
        let endpoints = found["endpoints"].as_array().unwrap();
        let address = address.to_string();
        endpoints
            .iter()
            .find(|one| one["address"] == address.as_str())
            .unwrap()
            .clone()
    }

    /// Waits until an endpoint is `up` or `down`.
    pub(crate) async fn until_endpoint(&self, upstream: &str, address: SocketAddr, state: &str) {
        let what = format!("{address} is {state}");
        eventually(&what, async || {
            (self.endpoint(upstream, address).await["state"] == state).then_some(())
        })
        .await;
    }

    pub(crate) async fn config(&self) -> Value {
        self.look("/api/config").await.expect(200).json()
    }

    pub(crate) async fn generation(&self) -> u64 {
        self.config().await["generation"].as_u64().unwrap()
    }

    /// Replaces the config file, as editors do.
    pub(crate) fn write(&self, text: &str) {
        let new = self.file("gate.yaml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }

    /// Asks for a reload of what is in the file.
    pub(crate) async fn reload(&self) -> Answer {
        self.ask(&Request::new("POST", "/api/reload")).await
    }

    /// Puts a config into force.
    pub(crate) async fn become_config(&self, config: &Config) {
        self.write(&config.text());
        self.reload().await.expect(200);
    }

    /// Puts a config into force by SIGHUP, and waits for that.
    pub(crate) async fn hang_up(&self, config: &Config) {
        let next = self.generation().await + 1;
        self.write(&config.text());
        self.process.signal(Signal::HUP);
        let what = format!("generation {next} is in force");
        eventually(&what, async || {
            (self.generation().await == next).then_some(())
        })
        .await;
    }

    /// Waits for a line of the log with these words.
    pub(crate) async fn log(&self, words: &str) -> Value {
        let line = self.process.error_line(words).await;
        serde_json::from_str(&line).unwrap()
    }

    /// How many lines of the log have these words.
    pub(crate) fn logged(&self, words: &str) -> usize {
        self.process
            .errors()
            .iter()
            .filter(|line| line.contains(words))
            .count()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.end().await
    }

    /// Resident memory in bytes: now, and the most it ever was.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
            kibibytes * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}
