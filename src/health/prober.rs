//! Who is checked, and when.
//!
//! `reload` applies the targets of the running config; each has a task on the control plane's
//! runtime that calls `probe` and records the outcome in the target's `Status`. A reload leaves the
//! tasks of unchanged targets alone, so it brings no burst of checks. Invariant: there is one task
//! per (upstream, address) that was last applied, and none after the `Prober` is dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::probe::{Failure, Way, probe};
use super::status::{Change, Status};
use super::thresholds::State;
use crate::config::model::{EndpointAddress, HealthCheck};
use crate::net::hop::Hop;

/// Checks that run at one time, so that thousands of endpoints do not take all descriptors when
/// they are first checked. The others wait their turn.
const MOST_AT_ONCE: usize = 512;
/// A suspected endpoint is checked out of turn no more often than this.
const BETWEEN_EXTRA_CHECKS: Duration = Duration::from_secs(1);

/// One endpoint to check.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// The endpoint's address as configured; unique within the upstream.
    pub address: Arc<str>,
    /// What the address resolved to.
    pub socket: EndpointAddress,
    /// How it is reached.
    pub hop: Arc<Hop>,
    /// How it is checked.
    pub check: HealthCheck,
    /// Where outcomes go; from `Registry::status` with the same check.
    pub status: Arc<Status>,
}

/// Runs the checks.
pub struct Prober {
    runtime: Handle,
    slots: Arc<Semaphore>,
    tasks: AHashMap<(Arc<str>, Arc<str>), Task>,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober")
            .field("targets", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Prober {
    /// Runs its tasks on `runtime`: the control plane's.
    pub fn new(runtime: Handle) -> Self {
        let slots = Arc::new(Semaphore::new(MOST_AT_ONCE));
        Self {
            runtime,
            slots,
            tasks: AHashMap::new(),
        }
    }

    /// Makes `targets` the whole of what is checked. The first check of a new or changed one runs
    /// at once; unchanged ones keep their turn; the others end, in the middle of a check too.
    pub fn apply(&mut self, targets: Vec<Target>) {
        let mut next = AHashMap::with_capacity(targets.len());
        for target in targets {
            let key = (Arc::clone(&target.upstream), Arc::clone(&target.address));
            let kept = self.tasks.remove(&key).filter(|task| task.serves(&target));
            next.insert(key, kept.unwrap_or_else(|| self.spawn(target)));
        }
        self.tasks = next;
    }

    fn spawn(&self, target: Target) -> Task {
        let running = self
            .runtime
            .spawn(watch(target.clone(), Arc::clone(&self.slots)));
        Task { target, running }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task {
    target: Target,
    running: JoinHandle<()>,
}

impl Task {
    /// False also where the task died of a defect: a reload brings it back.
    fn serves(&self, target: &Target) -> bool {
        let Target {
            upstream,
            address,
            socket,
            hop,
            check,
            status,
        } = &self.target;
        *upstream == target.upstream
            && *address == target.address
            && *socket == target.socket
            && hop.is_same(&target.hop)
            && *check == target.check
            && Arc::ptr_eq(status, &target.status)
            && !self.running.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn watch(target: Target, slots: Arc<Semaphore>) {
    let mut pace = Pace::default();
    // Requests have failed there, and no check has said yet whether it is well or out.
    let mut suspected = false;
    loop {
        let Ok(slot) = slots.acquire().await else {
            return;
        };
        let started = Instant::now();
        check(&target).await;
        drop(slot);
        let due = after(started, jittered(target.check.interval, fastrand::f64()));
        suspected = suspected && target.status.is_in_doubt();
        if !suspected {
            tokio::select! {
                () = sleep_until(due) => continue,
                () = target.status.suspected() => suspected = true,
            }
        }
        sleep_until(pace.next_extra(Instant::now()).min(due)).await;
    }
}

async fn check(target: &Target) {
    let Target {
        upstream,
        address,
        socket,
        hop,
        check,
        status,
    } = target;
    status.begin_check();
    let way = Way {
        socket,
        hop,
        address,
    };
    let outcome = probe(&check.probe, way, check.timeout).await;
    if let Err(failure @ Failure::Ours(_)) = &outcome.result {
        tracing::warn!(%upstream, endpoint = %address, reason = %failure, "health check skipped");
    }
    let Some(Change {
        state,
        reason,
        after,
    }) = status.record(outcome, Instant::now())
    else {
        return;
    };
    match state {
        State::Up => tracing::info!(
            %upstream, endpoint = %address, state = "up", %reason, after = ?after,
            "endpoint is used again"
        ),
        State::Down => tracing::warn!(
            %upstream, endpoint = %address, state = "down", %reason, after = ?after,
            "endpoint is taken out"
        ),
    }
}

/// Keeps extra checks apart.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// When the next extra check may run, at `now` or later; counts it as run.
    fn next_extra(&mut self, now: Instant) -> Instant {
        let at = self
            .last
            .map_or(now, |last| now.max(after(last, BETWEEN_EXTRA_CHECKS)));
        self.last = Some(at);
        at
    }
}

/// `interval` give or take a tenth, by a `chance` from 0 to 1, so that endpoints that were first
/// checked together drift apart.
fn jittered(interval: Duration, chance: f64) -> Duration {
    let tenth = interval / 10;
    (interval - tenth).saturating_add(tenth.mul_f64(2.0 * chance.clamp(0.0, 1.0)))
}

/// `Instant` addition panics when it overflows; nobody waits longer than a year.
fn after(start: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    start + wait.min(YEAR)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::SocketAddr;

    use parking_lot::Mutex;
    use tokio::net::TcpSocket;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::super::registry::Registry;
    use super::super::status::tests::tcp_check;
    use super::super::thresholds::State;
    use super::*;

    /// Counts the connections it accepts; while it listens, checks pass.
    struct Server {
        socket: SocketAddr,
        accepted: mpsc::Receiver<()>,
        task: JoinHandle<()>,
        /// Bound and never listening: after `stop` it keeps others from taking the port.
        _reserved: TcpSocket,
    }

    impl Server {
        fn start() -> Self {
            let bound = |address: SocketAddr| {
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_reuseport(true).unwrap();
                socket.bind(address).unwrap();
                socket
            };
            let first = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
            let socket = first.local_addr().unwrap();
            let reserved = bound(socket);
            let listener = first.listen(64).unwrap();
            let (tell, accepted) = mpsc::channel(64);
            let task = tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    tell.send(()).await.unwrap();
                }
            });
            Self {
                socket,
                accepted,
                task,
                _reserved: reserved,
            }
        }

        async fn stop(&mut self) {
            self.task.abort();
            assert!((&mut self.task).await.unwrap_err().is_cancelled());
        }
    }

    fn target(registry: &Registry, socket: SocketAddr, check: &HealthCheck) -> Target {
        let (upstream, address) = (Arc::from("shop"), Arc::from("shop.test:80"));
        let status = registry.status(&upstream, &address, Some(check));
        Target {
            upstream,
            address,
            socket: socket.into(),
            hop: Arc::default(),
            check: check.clone(),
            status,
        }
    }

    async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let wait = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), wait).await.expect(what);
    }

    async fn checks(status: &Status, count: u64) {
        eventually("a check ends", || status.counts().checks >= count).await;
        assert_eq!(status.counts().checks, count);
    }

    #[tokio::test]
    async fn the_first_check_runs_at_once_and_an_unchanged_target_keeps_its_task() {
        let mut server = Server::start();
        let registry = Registry::new();
        let check = tcp_check(2, 3);
        let target = target(&registry, server.socket, &check);
        let mut prober = Prober::new(Handle::current());
        prober.apply(vec![target.clone()]);
        checks(&target.status, 1).await;
        let id = |prober: &Prober| prober.tasks.values().map(|task| task.running.id()).next();
        let first = id(&prober);

        prober.apply(vec![target.clone()]);
        assert_eq!(id(&prober), first);
        target.status.suspect();
        checks(&target.status, 2).await;
        server.accepted.recv().await.unwrap();
        server.accepted.recv().await.unwrap();
        assert!(
            server.accepted.try_recv().is_err(),
            "no more connections than checks"
        );
    }

    #[tokio::test]
    async fn another_check_or_socket_starts_anew_and_a_removed_target_is_left_alone() {
        let server = Server::start();
        let moved = Server::start();
        let registry = Registry::new();
        let check = tcp_check(2, 3);
        let first = target(&registry, server.socket, &check);
        let mut prober = Prober::new(Handle::current());
        prober.apply(vec![first.clone()]);
        checks(&first.status, 1).await;

        let elsewhere = target(&registry, moved.socket, &check);
        assert!(
            Arc::ptr_eq(&first.status, &elsewhere.status),
            "state follows the address"
        );
        prober.apply(vec![elsewhere]);
        checks(&first.status, 2).await;

        let stricter = target(&registry, moved.socket, &tcp_check(2, 1));
        prober.apply(vec![stricter.clone()]);
        checks(&stricter.status, 1).await;

        prober.apply(Vec::new());
        assert!(prober.tasks.is_empty());
        // The task held the only other reference to the status.
        eventually("the task ends", || Arc::strong_count(&stricter.status) == 1).await;
    }

    #[tokio::test]
    async fn a_suspicion_takes_a_dead_endpoint_out_long_before_its_turn() {
        let mut server = Server::start();
        let registry = Registry::new();
        let target = target(&registry, server.socket, &tcp_check(1, 1));
        let mut prober = Prober::new(Handle::current());
        prober.apply(vec![target.clone()]);
        checks(&target.status, 1).await;
        assert!(target.status.is_up());

        server.stop().await;
        target.status.suspect();
        eventually("it goes down", || !target.status.is_up()).await;
        let report = target.status.report();
        assert_eq!(report.state, State::Down);
        assert_eq!(report.reason.as_deref(), Some("connection refused"));
    }

    #[tokio::test]
    async fn one_suspicion_is_followed_up_until_it_is_decided() {
        let mut server = Server::start();
        let registry = Registry::new();
        let target = target(&registry, server.socket, &tcp_check(1, 3));
        let mut prober = Prober::new(Handle::current());
        prober.apply(vec![target.clone()]);
        checks(&target.status, 1).await;
        server.stop().await;

        tokio::time::pause();
        let before = Instant::now();
        target.status.suspect();
        while target.status.is_up() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(target.status.counts().checks, 4);
        let took = before.elapsed();
        assert!(took < target.check.interval, "{took:?} of paused time");
    }

    #[tokio::test]
    async fn every_change_is_one_line_with_the_endpoint_and_the_reason() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        let _installed = tracing::subscriber::set_default(subscriber);

        let registry = Registry::new();
        let mut dead = Server::start();
        dead.stop().await;
        let down = target(&registry, dead.socket, &tcp_check(1, 1));
        let mut prober = Prober::new(Handle::current());
        prober.apply(vec![down.clone()]);
        eventually("it goes down", || !down.status.is_up()).await;

        let server = Server::start();
        prober.apply(vec![target(&registry, server.socket, &tcp_check(1, 1))]);
        eventually("it comes back", || down.status.is_up()).await;
        drop(prober);

        let text = String::from_utf8(log.0.lock().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for (line, level, state, reason) in [
            (
                lines[0],
                "WARN",
                "state=\"down\"",
                "reason=connection refused",
            ),
            (
                lines[1],
                "INFO",
                "state=\"up\"",
                "reason=1 successful check",
            ),
        ] {
            for part in [
                level,
                state,
                reason,
                "upstream=shop",
                "endpoint=shop.test:80",
            ] {
                assert!(line.contains(part), "{part} in {line}");
            }
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn extra_checks_are_a_second_apart() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::default();
        assert_eq!(pace.next_extra(at(0)), at(0));
        assert_eq!(pace.next_extra(at(1)), at(1000));
        assert_eq!(pace.next_extra(at(1001)), at(2000));
        assert_eq!(pace.next_extra(at(9000)), at(9000));
    }

    #[test]
    fn jitter_is_a_tenth_either_way() {
        let interval = Duration::from_secs(30);
        assert_eq!(jittered(interval, 0.0), Duration::from_secs(27));
        assert_eq!(jittered(interval, 0.5), interval);
        assert_eq!(jittered(interval, 1.0), Duration::from_secs(33));
        assert_eq!(jittered(Duration::ZERO, 0.7), Duration::ZERO);
        let forever = after(Instant::now(), jittered(Duration::MAX, 1.0));
        assert!(forever > Instant::now());
    }
}
