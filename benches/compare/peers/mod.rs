//! Who is measured: one file per proxy, each with a template of its configuration beside it.
//!
//! A `Peer` says how it is found and started on a `Site`; a `Subject` is one that runs and has
//! shown that it serves the origin's answers. To add a proxy: a file here that implements `Peer`,
//! its template, and one line in `others`.
//!
//! Every template gives its proxy what Headgate has: one worker, keep-alive on both sides without
//! a limit on requests, room for every connection of the run in its upstream pool, deadlines on,
//! counters on where it has them, access log off where it can be, `X-Forwarded-For` and a request
//! id added, active health checks where it has them, and `/cached` served from memory. Headgate
//! adds `X-Forwarded-Proto`, `X-Forwarded-Host` and `Via` besides; the peers are spared that.

pub(crate) mod haproxy;
pub(crate) mod headgate;
pub(crate) mod nginx;
pub(crate) mod varnish;

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::args::{Args, Case, Over};
use crate::http;
use crate::process::Process;

const START_DEADLINE: Duration = Duration::from_secs(20);

/// A proxy that can be measured.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;

    /// The version it tells; none when it is not installed.
    fn version(&self) -> Option<String>;

    /// Writes its configuration into `site.folder`; returns the program and its arguments, to be
    /// run in the foreground.
    fn command(&self, site: &Site) -> Result<Vec<OsString>>;

    /// Whether it has TLS itself.
    fn has_tls(&self) -> bool {
        true
    }

    /// Where `GET` answers 200 once it is ready.
    fn ready(&self, site: &Site) -> (SocketAddr, &'static str) {
        (site.listen, "/json")
    }
}

/// Every peer that the bench knows, whether installed or not.
pub(crate) fn others() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(haproxy::Haproxy),
        Box::new(nginx::Nginx),
        Box::new(varnish::Varnish),
    ]
}

/// The place of one proxy: its folder, its ports, and what is behind it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) listen: SocketAddr,
    /// With TLS: HTTP/2 and HTTP/1.1.
    pub(crate) secure: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) origin: SocketAddr,
    /// Client connections that it must be able to hold.
    pub(crate) connections: u32,
}

impl Site {
    fn new(peer: &str, parent: &Path, origin: SocketAddr, args: &Args) -> Result<Self> {
        let folder = parent.join(peer);
        fs::create_dir(&folder)?;
        write_certificate(&folder)?;
        // All are held until all are known, so that they differ.
        let listen = TcpListener::bind(("127.0.0.1", 0))?;
        let secure = TcpListener::bind(("127.0.0.1", 0))?;
        let admin = TcpListener::bind(("127.0.0.1", 0))?;
        let idle = if args.cases().contains(&Case::Idle) {
            args.idle_connections
        } else if args.cases().contains(&Case::Slow) {
            args.slow_connections
        } else {
            0
        };
        Ok(Self {
            folder,
            listen: listen.local_addr()?,
            secure: secure.local_addr()?,
            admin: admin.local_addr()?,
            origin,
            // HAProxy closes connections to its servers that are idle once a quarter of its descriptors is
            // in use, and HTTP/2 has hundreds of requests at once.
            connections: args.connections.max(idle).max(2_000) + 300,
        })
    }

    /// Fills `template`'s `@NAMES@` in and writes it as `file`; returns the path.
    pub(crate) fn write(&self, file: &str, template: &str) -> Result<PathBuf> {
        let text = template
            .replace("@FOLDER@", &self.folder.to_string_lossy())
            .replace("@LISTEN@", &self.listen.to_string())
            .replace("@TLS@", &self.secure.to_string())
            .replace("@ADMIN@", &self.admin.to_string())
            .replace("@ORIGIN@", &self.origin.to_string())
            .replace("@ORIGIN_HOST@", &self.origin.ip().to_string())
            .replace("@ORIGIN_PORT@", &self.origin.port().to_string())
            .replace("@CONNECTIONS@", &self.connections.to_string());
        let path = self.folder.join(file);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// `site.crt` and `site.key`, and both in `site.pem` as HAProxy wants them; ECDSA P-256.
fn write_certificate(folder: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.join("site.pem"), format!("{cert}{key}"))?;
    fs::write(folder.join("site.crt"), cert)?;
    fs::write(folder.join("site.key"), key)?;
    Ok(())
}

/// What a slice is measured on: a running proxy, or the origin itself.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    address: SocketAddr,
    /// None without TLS.
    secure: Option<SocketAddr>,
    process: Option<Process>,
}

impl Subject {
    /// Starts `peer` in a folder of its own below `parent` and waits until it serves.
    pub(crate) async fn start(
        peer: &dyn Peer,
        parent: &Path,
        origin: SocketAddr,
        args: &Args,
    ) -> Result<Self> {
        let site = Site::new(peer.name(), parent, origin, args)?;
        let command = peer.command(&site)?;
        let mut process = Process::start(args.proxy_core, &command, &site.folder)?;
        wait_ready(peer, &site, &mut process)
            .await
            .with_context(|| format!("{} did not start", peer.name()))?;
        for case in args.cases() {
            if let Some(work) = case.work() {
                let own = http::fetch(origin, work.path).await?;
                let through = http::fetch(site.listen, work.path).await?;
                ensure!(
                    through.status == 200 && through.body == own.body,
                    "{} changes the answer to {}",
                    peer.name(),
                    work.path
                );
            }
        }
        Ok(Self {
            name: peer.name(),
            version: peer.version().unwrap_or_default(),
            address: site.listen,
            secure: peer.has_tls().then_some(site.secure),
            process: Some(process),
        })
    }

    /// The origin, asked without a proxy: the floor of what the rest of the machine does.
    pub(crate) fn direct(origin: SocketAddr) -> Self {
        Self {
            name: "no proxy",
            version: String::new(),
            address: origin,
            secure: None,
            process: None,
        }
    }

    /// Whether it can be asked this way.
    pub(crate) fn speaks(&self, over: Over) -> bool {
        !over.is_secure() || self.secure.is_some()
    }

    /// Where it is asked this way.
    pub(crate) fn address(&self, over: Over) -> SocketAddr {
        match self.secure {
            Some(secure) if over.is_secure() => secure,
            _ => self.address,
        }
    }

    /// The proxy's process; none for `direct`.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// Name and version, as they are printed.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
            .trim_end()
            .to_owned()
    }

    pub(crate) async fn stop(self) {
        if let Some(process) = self.process {
            process.stop().await;
        }
    }
}

async fn wait_ready(peer: &dyn Peer, site: &Site, process: &mut Process) -> Result<()> {
    let (address, path) = peer.ready(site);
    let deadline = tokio::time::Instant::now() + START_DEADLINE;
    loop {
        process.expect_running()?;
        if http::fetch(address, path)
            .await
            .is_ok_and(|answer| answer.status == 200)
        {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "no 200 from {address}{path} within {START_DEADLINE:?}:\n{}",
                process.output()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The version in what `program` prints first, on whichever stream; none if it does not start.
pub(crate) fn version_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next()?;
    // `nginx version: nginx/1.22.1`, `varnishd (varnish-7.1.1 revision ...)`: the first word with
    // a number that has a dot.
    let version = line.split_whitespace().find_map(|word| {
        let number = word.trim_start_matches(|c: char| !c.is_ascii_digit());
        number
            .contains('.')
            .then(|| number.trim_end_matches([')', ',']).to_owned())
    });
    Some(version.unwrap_or_else(|| line.to_owned()))
}
