//! Who is asked, and how each is set up: defaults, one upstream, nothing made stricter or laxer.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use crate::process::Process;

/// A proxy that is installed.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    /// With its version.
    pub(crate) title: String,
    program: PathBuf,
}

/// One that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.process.stop().await;
    }
}

/// Headgate, and the others where they are installed.
pub(crate) fn installed(headgate: Option<&Path>) -> Result<Vec<Proxy>> {
    let headgate = match headgate {
        Some(path) => std::path::absolute(path)?,
        None => PathBuf::from(env!("CARGO_BIN_EXE_headgate")),
    };
    let mut found = Vec::new();
    for (name, program, flag) in [
        ("headgate", headgate, "--version"),
        ("nginx", "nginx".into(), "-v"),
        ("haproxy", "haproxy".into(), "-v"),
    ] {
        match Command::new(&program).arg(flag).output() {
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                let text = String::from_utf8_lossy(&text);
                let version = text
                    .split_whitespace()
                    .map(|word| word.trim_start_matches("nginx/"))
                    .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
                let title = format!("{name} {}", version.unwrap_or_default());
                found.push(Proxy {
                    name,
                    title,
                    program,
                });
            }
            Err(_) => eprintln!("SKIPPED: {name} is not installed"),
        }
    }
    Ok(found)
}

impl Proxy {
    /// Starts it in a folder of its own in front of `origin`.
    pub(crate) async fn start(&self, parent: &Path, origin: SocketAddr) -> Result<Running> {
        let folder = parent.join(self.name);
        fs::create_dir(&folder)?;
        let free = || -> Result<SocketAddr> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?) };
        let (address, admin) = (free()?, free()?);
        let (file, text) = match self.name {
            "headgate" => (
                "headgate.yaml",
                format!(
                    "workers: 1\nlisteners: [{{ address: '{address}' }}]\nadmin: {{ address: '{admin}' }}\n\
                 upstreams: {{ origin: {{ endpoints: ['{origin}'] }} }}\n\
                 routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: origin }}]\n"
                ),
            ),
            "nginx" => (
                "nginx.conf",
                format!(
                    "daemon off; worker_processes 1; error_log stderr crit; pid {0}/pid;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{ access_log off; proxy_ignore_client_abort on;\n\
                 client_body_temp_path {0}/1; proxy_temp_path {0}/2; fastcgi_temp_path {0}/3; uwsgi_temp_path {0}/4; scgi_temp_path {0}/5;\n\
                 upstream origin {{ server {origin}; keepalive 64; }}\n\
                 server {{ listen {address} backlog=4096; proxy_http_version 1.1; proxy_set_header Connection '';\n\
                 proxy_set_header Host $http_host; location / {{ proxy_pass http://origin; }} }} }}\n",
                    folder.display()
                ),
            ),
            _ => (
                "haproxy.cfg",
                format!(
                    "global\n nbthread 1\n maxconn 4000\ndefaults\n mode http\n http-reuse always\n timeout connect 2s\n\
                 timeout client 15s\n timeout server 15s\n timeout http-request 10s\n\
                 frontend f\n bind {address}\n default_backend b\nbackend b\n server s {origin}\n"
                ),
            ),
        };
        let path = folder.join(file);
        fs::write(&path, text)?;
        let program = self.program.clone().into_os_string();
        let path = path.into_os_string();
        let command = match self.name {
            "headgate" => vec![program, "run".into(), "-c".into(), path],
            "nginx" => vec![program, "-e".into(), "stderr".into(), "-c".into(), path],
            _ => vec![program, "-db".into(), "-f".into(), path],
        };
        let mut process = Process::start(0, &command, &folder)?;
        for _ in 0..200 {
            process.expect_running().with_context(|| self.name)?;
            if TcpStream::connect(address).await.is_ok() {
                return Ok(Running { address, process });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not listen:\n{}", self.name, process.output());
    }
}
