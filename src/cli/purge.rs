//! `headgate purge`: asks the operators' listener of a running Headgate to purge its cache.
//!
//! The address comes from the command line or from the config that the other process runs with. A purge is
//! one request to `POST /api/purge`; its refusals are told in its own words. Invariant: success means that
//! the purge is in force.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::config;

use super::{check, say};

/// To connect, and for each read and write: longer than the other side keeps a connection.
const PATIENCE: Duration = Duration::from_secs(35);
/// Largest answer that is read.
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    what: What,
    /// Leave stale answers: they are asked about again, and served while the origin fails.
    #[arg(long)]
    soft: bool,
    /// Purge nothing, and say how many stored answers it would be.
    #[arg(long)]
    dry_run: bool,
}

/// Which Headgate.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// The config file that it runs with, which says where operators reach it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where operators reach it.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// What is purged.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// A URL with all its variants, such as `https://shop.example/products/1`
    #[arg(long)]
    url: Option<String>,
    /// All URLs that begin so.
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// All that has this tag (Surrogate-Key, Cache-Tag); may be repeated.
    #[arg(long)]
    tag: Vec<String>,
    /// All of a host, by http and https. The port counts: `shop.example` does not reach what is stored for
    /// `shop.example:8080`.
    #[arg(long)]
    host: Option<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
}

/// Purges, and says what it has reached.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        to,
        what,
        soft,
        dry_run,
    } = arguments;
    let address = to.address()?;
    let mut body = what.body();
    body["soft"] = soft.into();
    body["dry_run"] = dry_run.into();
    let (status, answer) = ask(address, &body.to_string())
        .with_context(|| format!("the operators' listener at {address} does not answer"))?;
    if status != 200 {
        let detail = answer["detail"].as_str().map(str::to_owned);
        bail!(detail.unwrap_or_else(|| format!("it answers with status {status}")));
    }
    say(told(&answer, soft, dry_run));
    Ok(())
}

fn told(answer: &Value, soft: bool, dry_run: bool) -> String {
    let count = answer[if dry_run { "would_purge" } else { "purged" }].as_u64();
    let answers = match count {
        Some(1) => "1 stored answer".to_owned(),
        Some(count) => format!("{count} stored answers"),
        None => "an unknown number of stored answers".to_owned(),
    };
    match (dry_run, soft) {
        (true, false) => format!("would purge {answers}"),
        (true, true) => format!("would make {answers} stale"),
        (false, false) => format!("purged {answers}"),
        (false, true) => format!("made {answers} stale"),
    }
}

impl To {
    /// Where to connect to.
    fn address(self) -> Result<SocketAddr> {
        let mut address = match (self.admin, self.config) {
            (Some(address), _) => address,
            (None, Some(path)) => match config::load(&path) {
                Ok(loaded) => loaded.config.admin.address,
                Err(error) => bail!("the config is not usable\n\n{}", check::explain(&error)),
            },
            (None, None) => bail!("say which Headgate, by --config or --admin"),
        };
        if address.port() == 0 {
            bail!("the operators' listener has any free port; name it with --admin");
        }
        match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        Ok(address)
    }
}

impl What {
    fn body(self) -> Value {
        let Self {
            url,
            prefix,
            tag,
            host,
            all,
        } = self;
        match (url, prefix, host) {
            (Some(url), _, _) => json!({ "url": url }),
            (_, Some(prefix), _) => json!({ "prefix": prefix }),
            (_, _, Some(host)) => json!({ "host": host }),
            (None, None, None) if all => json!({ "all": true }),
            (None, None, None) => json!({ "tags": tag }),
        }
    }
}

/// Sends a request that ends its connection, and reads the answer to its end.
fn ask(address: SocketAddr, body: &str) -> Result<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!(
        "POST /api/purge HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer broke off")?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status: u16 = status
        .and_then(|status| status.parse().ok())
        .context("the answer is not HTTP")?;
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}
