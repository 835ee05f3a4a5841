//! The load generator: wrk or oha, and h2load for HTTP/2; a child process on the core that the
//! proxy does not have.
//!
//! `rounds`, `idle` and `profile` ask for a run and get an `Outcome`, or an error if a single
//! request of it failed: a figure over failing requests means nothing. Both tools are closed
//! loops (a connection asks again once it is answered), so their percentiles compare proxies
//! under the same pressure and say nothing about a fixed rate of arrivals.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

use crate::args::{Args, Over, Tool, Work};
use crate::peers;

/// Prints wrk's exact figures; `Wrk` reads them.
const WRK_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/wrk.lua");

/// Connections and streams of each, over HTTP/2.
const H2_CONNECTIONS: &str = "16";
const H2_STREAMS: &str = "32";
/// Requests at the same time, over HTTP/2.
pub(crate) const H2_CONCURRENT: u64 = 16 * 32;

/// What a browser sends, names that many parsers do not know by heart among them. No cookie: with
/// one, Varnish would not use its cache.
const BROWSER_HEADERS: [&str; 11] = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.5",
    "DNT: 1",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Sec-CH-UA-Platform: \"Linux\"",
    "Priority: u=0, i",
];

/// The load generator that was found.
#[derive(Debug)]
pub(crate) struct Generator {
    tool: Tool,
    version: String,
}

/// What a run did; every request of it was answered with a 2xx or 3xx and a whole body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// None where the generator does not tell.
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
}

impl Generator {
    /// The wanted tool, or the first that is installed.
    pub(crate) fn detect(wanted: Option<Tool>) -> Result<Self> {
        let candidates = wanted.map_or_else(|| vec![Tool::Wrk, Tool::Oha], |tool| vec![tool]);
        for tool in candidates {
            let (name, version) = match tool {
                Tool::Wrk => ("wrk", peers::version_line("wrk", &["-v"])),
                Tool::Oha => ("oha", peers::version_line("oha", &["--version"])),
            };
            if let Some(version) = version {
                return Ok(Self {
                    tool,
                    version: format!("{name} {version}"),
                });
            }
        }
        bail!("no load generator: install wrk or oha");
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Whether this kind of load can be made with what is installed.
    pub(crate) fn speaks(&self, over: Over) -> bool {
        match over {
            Over::Http1 => true,
            // oha resumes sessions, and a resumed handshake is no full one.
            Over::Tls | Over::Handshakes => self.tool == Tool::Wrk,
            Over::Http2 => peers::version_line("h2load", &["--version"]).is_some(),
        }
    }

    /// `seconds` of `work` against `address`.
    pub(crate) async fn run(
        &self,
        args: &Args,
        address: SocketAddr,
        work: &Work,
        seconds: u64,
    ) -> Result<Outcome> {
        let (connections, seconds) = (args.connections.to_string(), format!("{seconds}s"));
        let scheme = if work.over.is_secure() {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://{address}{}", work.path);
        if work.over == Over::Http2 {
            let outcome = H2load::run(args, &url, &seconds, work).await;
            return outcome.with_context(|| format!("h2load on {url}"));
        }
        let mut command = Command::new("taskset");
        command.args(["-c", &args.load_core]);
        match self.tool {
            Tool::Wrk => command
                .args(["wrk", "-t1", "-c", &connections, "-d", &seconds])
                .args(["-s", WRK_SCRIPT, &url]),
            Tool::Oha => command
                .args([
                    "oha",
                    "--no-tui",
                    "--output-format",
                    "json",
                    "--redirect",
                    "0",
                    "-w",
                    "--insecure",
                ])
                .args(["-c", &connections, "-z", &seconds, &url]),
        };
        if work.over == Over::Handshakes {
            command.args(["-H", "Connection: close"]);
        }
        if args.browser {
            command.args(BROWSER_HEADERS.iter().flat_map(|&header| ["-H", header]));
        }
        let output = output_of(command).await?;
        match self.tool {
            Tool::Wrk => Wrk::parse(&output)?.check(work),
            Tool::Oha => Oha::parse(&output)?.check(work),
        }
        .with_context(|| format!("{} on {url}", self.version))
    }
}

/// Runs `command` to its end; returns its standard output.
async fn output_of(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("taskset did not start (util-linux)")?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "the load generator failed: {stdout}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// The line that `wrk.lua` adds.
#[derive(Debug, Deserialize)]
struct Wrk {
    requests: u64,
    bytes: u64,
    elapsed_us: u64,
    p50_us: u64,
    p99_us: u64,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

impl Wrk {
    fn parse(output: &str) -> Result<Self> {
        let line = output
            .lines()
            .rfind(|line| line.starts_with('{'))
            .context("wrk: no figures")?;
        Ok(serde_json::from_str(line)?)
    }

    fn check(self, work: &Work) -> Result<Outcome> {
        if self.connect + self.read + self.write + self.status + self.timeout > 0 {
            bail!(
                "failed requests: {} connect, {} read, {} write, {} status, {} timeout",
                self.connect,
                self.read,
                self.write,
                self.status,
                self.timeout
            );
        }
        expect_bodies(self.requests, self.bytes, work)?;
        Ok(Outcome {
            requests: self.requests,
            elapsed: Duration::from_micros(self.elapsed_us),
            p50: Some(Duration::from_micros(self.p50_us)),
            p99: Some(Duration::from_micros(self.p99_us)),
        })
    }
}

/// The part of oha's JSON that is used here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Oha {
    summary: OhaSummary,
    /// Seconds, by `p50`, `p99` and others.
    latency_percentiles: BTreeMap<String, f64>,
    status_code_distribution: BTreeMap<String, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OhaSummary {
    /// Seconds.
    total: f64,
    /// Bytes of bodies.
    total_data: u64,
}

impl Oha {
    fn parse(output: &str) -> Result<Self> {
        serde_json::from_str(output).context("oha: no figures")
    }

    fn check(self, work: &Work) -> Result<Outcome> {
        let requests = self
            .status_code_distribution
            .get("200")
            .copied()
            .unwrap_or(0);
        if !self.error_distribution.is_empty() || self.status_code_distribution.len() > 1 {
            bail!(
                "failed requests: {:?} {:?}",
                self.error_distribution,
                self.status_code_distribution
            );
        }
        expect_bodies(requests, self.summary.total_data, work)?;
        let percentile = |name: &str| -> Result<Duration> {
            let seconds = self
                .latency_percentiles
                .get(name)
                .context("oha: no percentile")?;
            Ok(Duration::from_secs_f64(*seconds))
        };
        Ok(Outcome {
            requests,
            elapsed: Duration::from_secs_f64(self.summary.total),
            p50: Some(percentile("p50")?),
            p99: Some(percentile("p99")?),
        })
    }
}

/// What h2load prints for people.
#[derive(Debug)]
struct H2load {
    succeeded: u64,
    unsuccessful: u64,
    /// Bytes of bodies.
    data: u64,
    elapsed: Duration,
}

impl H2load {
    async fn run(args: &Args, url: &str, seconds: &str, work: &Work) -> Result<Outcome> {
        let mut command = Command::new("taskset");
        command
            .args(["-c", &args.load_core, "h2load", "-t", "1"])
            .args(["-c", H2_CONNECTIONS, "-m", H2_STREAMS, "-D", seconds, url]);
        Self::parse(&output_of(command).await?)?.check(work)
    }

    fn parse(output: &str) -> Result<Self> {
        let line = |start: &str| {
            let found = output.lines().find_map(|line| line.strip_prefix(start));
            found.with_context(|| format!("h2load: no line `{start}`:\n{output}"))
        };
        let counts = line("requests: ")?;
        let count = |name: &str| -> Result<u64> {
            let count = counts.split(", ").find_map(|part| part.strip_suffix(name));
            Ok(count
                .context("h2load: a count is missing")?
                .trim()
                .parse()?)
        };
        let data = line("traffic: ")?
            .rsplit('(')
            .next()
            .and_then(|part| part.strip_suffix(") data"))
            .context("h2load: no bytes of data")?;
        let elapsed = line("finished in ")?.split(',').next().unwrap_or_default();
        let elapsed = match elapsed.strip_suffix("ms") {
            Some(milliseconds) => milliseconds.parse::<f64>()? / 1e3,
            None => elapsed.trim_end_matches('s').parse()?,
        };
        let ok = line("status codes: ")?
            .split(" 2xx")
            .next()
            .unwrap_or_default()
            .parse::<u64>()?;
        let succeeded = count(" succeeded")?;
        Ok(Self {
            succeeded,
            unsuccessful: count(" failed")? + count(" timeout")? + succeeded.saturating_sub(ok),
            data: data.parse()?,
            elapsed: Duration::from_secs_f64(elapsed),
        })
    }

    fn check(self, work: &Work) -> Result<Outcome> {
        if self.unsuccessful > 0 {
            bail!("{} requests failed", self.unsuccessful);
        }
        expect_bodies(self.succeeded, self.data, work)?;
        Ok(Outcome {
            requests: self.succeeded,
            elapsed: self.elapsed,
            p50: None,
            p99: None,
        })
    }
}

/// A short answer is as wrong as a 500, and much faster.
fn expect_bodies(requests: u64, bytes: u64, work: &Work) -> Result<()> {
    if requests == 0 {
        bail!("not one request was answered");
    }
    if bytes < requests * work.body {
        bail!(
            "{bytes} bytes for {requests} answers of {} bytes each",
            work.body
        );
    }
    Ok(())
}
