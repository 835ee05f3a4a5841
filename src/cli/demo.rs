//! `headgate demo`: the reference shop behind Headgate, in one command.
//!
//! Reads the example config, starts one child process per endpoint that it names (`headgate backend`,
//! this same binary) with databases in a temporary folder, waits until each answers, and then serves
//! like `headgate run`. Children that end are reported and not started again. Invariant: nothing is
//! left behind: children end when their standard input closes, which happens however this process
//! ends, and remove the folder as they go.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use headgate_backends::Service;

use crate::app;
use crate::config::{self, model};
use crate::net::listen;

use super::{check, complain, logging, say};

/// The config that is used where there is no file.
const EXAMPLE: &str = include_str!("../../config.example.yaml");
/// How long a child may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(25);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The config. Default: `config.example.yaml` of this folder, or else the built-in copy of it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let folder = Folder::create()?;
    let path = config_path(arguments, &folder.0)?;
    let loaded = match config::load(&path) {
        Ok(loaded) => loaded,
        Err(error) => bail!("the config is not usable\n\n{}", check::explain(&error)),
    };
    let _log = logging::start(&loaded.config.log)?;
    check_ports(&loaded.config)?;
    say(format_args!("starting the shop in {}", folder.0.display()));
    let children = Children::start(&loaded.config, &folder.0)?.watch()?;
    let access_log = folder.0.join("access.log");
    let told = (path.clone(), access_log.clone());
    let ready = move |ready: &app::Ready| say(welcome(ready, &told.0, &told.1));
    let options = app::Options {
        access_log: Some(model::AccessLog {
            format: model::AccessLogFormat::Json,
            path: model::AccessLogPath::File(access_log),
        }),
        ready: Some(Box::new(ready)),
        ..app::Options::default()
    };
    let outcome = app::serve(&path, &loaded, options);
    children.stop();
    say("the shop is closed");
    outcome
}

fn config_path(arguments: &Arguments, folder: &Path) -> Result<PathBuf> {
    if let Some(path) = &arguments.config {
        return Ok(path.clone());
    }
    let here = PathBuf::from("config.example.yaml");
    if here.exists() {
        return Ok(here);
    }
    let path = folder.join("config.yaml");
    std::fs::write(&path, EXAMPLE).context("the example config cannot be written")?;
    Ok(path)
}

/// A temporary folder that goes when the demo ends.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let name = format!(
            "headgate-demo-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A child may have removed it already.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Refuses early, with one message per port, instead of half-way.
fn check_ports(config: &model::Config) -> Result<()> {
    let listeners = config.listeners.iter().filter_map(|it| match it.address {
        model::ListenAddress::Tcp(address) => Some(address),
        model::ListenAddress::Unix(_) => None,
    });
    let mut taken = Vec::new();
    for address in listeners.chain([config.admin.address]) {
        if let Err(error) = listen::group(address, 1, &[]) {
            taken.push(error.to_string());
        }
    }
    for endpoint in config
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.endpoints)
    {
        if let Err(error) = TcpListener::bind(&*endpoint.address) {
            let address = &endpoint.address;
            taken.push(format!("cannot listen on {address}: {error}"));
        }
    }
    if !taken.is_empty() {
        bail!(
            "the demo cannot start\n  {}\nstop what holds the ports, or run the demo with a config that names others",
            taken.join("\n  ")
        );
    }
    Ok(())
}

/// The services of the shop while they start.
#[derive(Debug)]
struct Children {
    running: Vec<(String, Child)>,
}

impl Children {
    fn start(config: &model::Config, folder: &Path) -> Result<Self> {
        let mut children = Self {
            running: Vec::new(),
        };
        let mut addresses = Vec::new();
        for upstream in &config.upstreams {
            let service = service_of(&upstream.name)?;
            for (index, endpoint) in upstream.endpoints.iter().enumerate() {
                let address: SocketAddr = endpoint.address.parse().with_context(|| {
                    format!("{} is not an IP address and port", endpoint.address)
                })?;
                let name = match upstream.endpoints.len() {
                    1 => upstream.name.to_string(),
                    _ => format!("{}-{}", upstream.name, index + 1),
                };
                // Endpoints of one upstream serve the same data.
                let database = folder.join(format!("{}.db", upstream.name));
                let child = spawn(service, &name, address, &database, folder)?;
                children.running.push((name, child));
                addresses.push(address);
            }
        }
        for (index, address) in addresses.into_iter().enumerate() {
            children.wait(index, address)?;
        }
        Ok(children)
    }

    /// Waits until a child listens.
    fn wait(&mut self, index: usize, address: SocketAddr) -> Result<()> {
        let (name, child) = &mut self.running[index];
        let mut waited = Duration::ZERO;
        while TcpStream::connect_timeout(&address, PAUSE).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{name} did not start ({status}); it said why above");
            }
            if waited > PATIENCE {
                bail!("{name} does not listen on {address}");
            }
            pause(PAUSE);
            waited += PAUSE;
        }
        let pid = child.id();
        say(format_args!("  {name:<12} {address}  pid {pid}"));
        Ok(())
    }

    /// From now on, a child that ends is reaped and reported at once.
    fn watch(self) -> Result<Watched> {
        let mut watched = Watched {
            leashes: Vec::new(),
            watchers: Vec::new(),
            closing: Arc::default(),
        };
        for (name, mut child) in self.running {
            // Waiting for a child closes what it still holds of its standard input.
            watched.leashes.extend(child.stdin.take());
            let closing = Arc::clone(&watched.closing);
            let watcher = std::thread::Builder::new()
                .name("headgate-watch".to_owned())
                .spawn(move || attend(&name, child, &closing))
                .context("the services cannot be watched")?;
            watched.watchers.push(watcher);
        }
        Ok(watched)
    }
}

/// Waits for the end of a child, and reports it unless the demo has caused it.
fn attend(name: &str, mut child: Child, closing: &AtomicBool) {
    let pid = child.id();
    match child.wait() {
        Ok(_) if closing.load(Ordering::Acquire) => {}
        Ok(status) => {
            complain(format_args!(
                "headgate: {name} (pid {pid}) ended: {status}; it is not started again"
            ));
        }
        Err(error) => complain(format_args!("headgate: {name} (pid {pid}): {error}")),
    }
}

/// The services of the shop, each with a thread that waits for its end.
#[derive(Debug)]
struct Watched {
    /// A child ends when its own is dropped.
    leashes: Vec<ChildStdin>,
    watchers: Vec<JoinHandle<()>>,
    closing: Arc<AtomicBool>,
}

impl Watched {
    /// Closes the children's standard input and waits for their end.
    fn stop(self) {
        self.closing.store(true, Ordering::Release);
        drop(self.leashes);
        for watcher in self.watchers {
            // A watcher that panicked has said so.
            watcher.join().ok();
        }
    }
}

/// Blocks this thread, which serves nobody yet.
fn pause(time: Duration) {
    // Nobody sends, so receiving only waits.
    let (sender, receiver) = mpsc::channel::<()>();
    receiver.recv_timeout(time).ok();
    drop(sender);
}

/// The upstream `orders-1` is a shard of the service `orders`.
fn service_of(upstream: &str) -> Result<Service> {
    let name = upstream.split('-').next().unwrap_or(upstream);
    name.parse()
        .with_context(|| format!("the demo has no service for the upstream {upstream}"))
}

fn spawn(
    service: Service,
    name: &str,
    address: SocketAddr,
    database: &Path,
    folder: &Path,
) -> Result<Child> {
    let binary = std::env::current_exe().context("where is this binary?")?;
    std::process::Command::new(binary)
        .args([
            "backend",
            &service.to_string(),
            "--name",
            name,
            "--until-stdin-closes",
        ])
        .args(["--listen", &address.to_string()])
        .arg("--database")
        .arg(database)
        .arg("--remove")
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} cannot be started"))
}

fn welcome(ready: &app::Ready, config: &Path, access_log: &Path) -> String {
    let proxy = ready
        .listeners
        .first()
        .map_or_else(String::new, |a| format!("http://{a}"));
    let admin = format!("http://{}", ready.admin);
    let (config, log) = (config.display(), access_log.display());
    let pid = std::process::id();
    format!(
        "
the shop is open

  proxy   {proxy}
  admin   {admin}   (/metrics, /api/upstreams, /api/config)
  config  {config}   (edit it, then: kill -HUP {pid})
  log     {log}

try
  curl -i {proxy}/products/1                       # twice: the second answer comes from the cache
  curl -i {proxy}/users/7/orders -H 'content-type: application/json' \\
       -d '{{\"items\":[{{\"product_id\":1,\"quantity\":2,\"unit_price_cents\":990}}]}}'
  curl -s {admin}/api/upstreams                    # then kill one of the services above, and look again

Ctrl-C stops it all"
    )
}
