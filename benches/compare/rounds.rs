//! Interleaved slices: in every round each proxy works for a few seconds, one after the other.
//!
//! The machine drifts by more than the proxies differ, so they are compared within a round, and
//! the order turns by one from round to round. All proxies stay up; one without load costs
//! nothing. Each slice is checked against the origin's counters before it becomes a figure.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::args::{Args, Case, Over, Work};
use crate::cpu::{self, Account, Spent};
use crate::load::{self, Generator, Outcome};
use crate::memory;
use crate::origin::{Origin, Stats};
use crate::peers::Subject;
use crate::procfs;

/// One subject's measured seconds in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) outcome: Outcome,
    /// Of the proxy; none without one.
    pub(crate) spent: Option<Spent>,
    /// Busy time of all cores.
    pub(crate) machine: Duration,
    /// Bytes of the proxy at the slice's end; none without one.
    pub(crate) memory: Option<u64>,
}

impl Slice {
    /// Microseconds of `time` per request of the slice.
    pub(crate) fn per_request(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / requests(self.outcome)
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        requests(self.outcome) / self.outcome.elapsed.as_secs_f64()
    }

    /// Microseconds of the proxy's CPU per request.
    pub(crate) fn cpu(&self) -> Option<f64> {
        self.spent.map(|spent| self.per_request(spent.total))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "request counts stay far below 2^52"
)]
pub(crate) fn requests(outcome: Outcome) -> f64 {
    outcome.requests as f64
}

/// The slices of `case`: one list per subject, one entry per round.
pub(crate) async fn measure(
    args: &Args,
    generator: &Generator,
    case: Case,
    work: &Work,
    origin: &Origin,
    subjects: &[&Subject],
) -> Result<Vec<Vec<Slice>>> {
    let mut slices = vec![Vec::new(); subjects.len()];
    for (round, first) in (1..=args.rounds).zip((0..subjects.len()).cycle()) {
        let mut line = format!("{} round {round}/{}:", case.name(), args.rounds);
        let turned = (0..subjects.len()).cycle().skip(first).take(subjects.len());
        for index in turned {
            let (Some(subject), Some(kept)) = (subjects.get(index), slices.get_mut(index)) else {
                continue;
            };
            let slice = slice(args, generator, work, origin, subject)
                .await
                .with_context(|| format!("{} of {}", case.name(), subject.name))?;
            line += &match slice.cpu() {
                Some(cpu) => format!(" {} {cpu:.2} us", subject.name),
                None => format!(" ({} {:.0}/s)", subject.name, slice.requests_per_second()),
            };
            kept.push(slice);
        }
        eprintln!("{line}");
    }
    Ok(slices)
}

async fn slice(
    args: &Args,
    generator: &Generator,
    work: &Work,
    origin: &Origin,
    subject: &Subject,
) -> Result<Slice> {
    procfs::wait_quiet(args.even_if_busy).await?;
    generator
        .run(args, subject.address(work.over), work, args.warm_up)
        .await?;
    let account = || subject.pid().map(Account::read).transpose();

    let stats_before = origin.stats().await?;
    let machine_before = cpu::machine_busy()?;
    let before = account()?;
    let outcome = generator
        .run(args, subject.address(work.over), work, args.seconds)
        .await?;
    let after = account()?;
    let machine = cpu::machine_busy()?.saturating_sub(machine_before);
    let stats = origin.stats().await?;

    if subject.pid().is_some() {
        expect_honest(args, work, outcome, stats_before, stats)?;
    }
    let spent = match (before, after) {
        (Some(before), Some(after)) => Some(after.since(&before)?),
        _ => None,
    };
    let memory = subject.pid().map(memory::proportional).transpose()?;
    Ok(Slice {
        outcome,
        spent,
        machine,
        memory,
    })
}

/// Did the proxy do what the case is named after?
fn expect_honest(
    args: &Args,
    work: &Work,
    outcome: Outcome,
    before: Stats,
    after: Stats,
) -> Result<()> {
    let connections = after.connections - before.connections;
    let reached = after.requests - before.requests;
    if work.from_cache {
        ensure!(
            reached <= 1 + outcome.requests / 10_000,
            "{reached} of {} requests reached the origin: the cache does not answer",
            outcome.requests
        );
    } else {
        ensure!(
            reached >= outcome.requests,
            "only {reached} of {} requests reached the origin: something else answers",
            outcome.requests
        );
        let most = match work.over {
            Over::Http2 => load::H2_CONCURRENT,
            Over::Http1 | Over::Tls | Over::Handshakes => u64::from(args.connections),
        };
        ensure!(
            connections <= most,
            "{connections} new connections for {reached} requests: the upstream's are not reused"
        );
    }
    Ok(())
}
