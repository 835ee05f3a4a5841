//! From slices to tables: medians, quartiles, and the ratio to Headgate round by round.
//!
//! A ratio is taken within each round, where both proxies met the same machine, and only then is
//! its median taken. `TARGETS` are the ratios that Headgate promises to keep.

use std::fmt::Write as _;

use crate::args::{Args, Case};
use crate::idle::Cost;
use crate::peers::Subject;
use crate::rounds::Slice;
use crate::slow::Pair;
use crate::spread::Spread;
use crate::table::Table;

/// Headgate's CPU per request as a part of a peer's, at most.
const TARGETS: [(Case, &str, f64); 7] = [
    (Case::Proxied1k, "haproxy", 0.90),
    (Case::CacheHit1k, "haproxy", 0.70),
    (Case::CacheHit1k, "varnish", 0.50),
    (Case::TlsHit1k, "haproxy", 0.70),
    (Case::TlsHandshake, "haproxy", 0.50),
    (Case::H2Hit1k, "haproxy", 0.35),
    (Case::H2Proxied1k, "haproxy", 0.80),
];

/// Bytes that Headgate may take for an idle connection.
const IDLE_TARGET: f64 = 20.0 * 1_024.0;

/// The table of a case under load, with its targets below.
pub(crate) fn load(
    args: &Args,
    case: Case,
    subjects: &[&Subject],
    slices: &[Vec<Slice>],
) -> String {
    let of = |name: &str| {
        let found = subjects
            .iter()
            .zip(slices)
            .find(|(subject, _)| subject.name == name);
        found.map(|(_, slices)| slices.as_slice())
    };
    let (headgate, direct) = (of("headgate"), of("no proxy"));
    let mut table = Table::new(&[
        case.name(),
        "CPU us/request",
        "user + system",
        "machine us/request",
        "requests/s",
        "p50 us",
        "p99 us",
        "PSS MiB",
        "Headgate / it",
    ]);
    for (subject, slices) in subjects.iter().zip(slices) {
        let is_headgate = subject.name == "headgate";
        let ratio = headgate
            .filter(|_| !is_headgate)
            .and_then(|ours| ratio(ours, slices));
        table.row(vec![
            subject.title(),
            shown(Spread::of(slices.iter().filter_map(Slice::cpu)), 2),
            split(slices),
            machine(slices, direct),
            shown(Spread::of(slices.iter().map(Slice::requests_per_second)), 0),
            median(
                slices
                    .iter()
                    .filter_map(|slice| Some(slice.outcome.p50?.as_secs_f64() * 1e6)),
            ),
            median(
                slices
                    .iter()
                    .filter_map(|slice| Some(slice.outcome.p99?.as_secs_f64() * 1e6)),
            ),
            mebibytes(slices),
            shown(ratio, 3),
        ]);
    }
    let mut text = format!("\n{}", table.render(args.markdown));
    for (_, peer, most) in TARGETS.iter().filter(|(of, _, _)| *of == case) {
        let Some(ratio) = headgate
            .zip(of(peer))
            .and_then(|(ours, theirs)| ratio(ours, theirs))
        else {
            continue;
        };
        let verdict = if ratio.median <= *most {
            "met"
        } else {
            "MISSED"
        };
        let line = format!(
            "target: at most {most:.2} of {peer}: {:.3}, {verdict}",
            ratio.median
        );
        // Writing to a string cannot fail.
        writeln!(text, "\n{line}").ok();
    }
    text
}

/// The table of the idle case.
pub(crate) fn idle(args: &Args, costs: &[Cost]) -> String {
    let mut table = Table::new(&[
        "idle",
        "connections",
        "PSS before MiB",
        "PSS after MiB",
        "KiB/connection",
    ]);
    for cost in costs {
        table.row(vec![
            cost.title.clone(),
            cost.connections.to_string(),
            format!("{:.1}", bytes(cost.before) / MEBIBYTE),
            format!("{:.1}", bytes(cost.after) / MEBIBYTE),
            format!("{:.2}", cost.per_connection() / 1_024.0),
        ]);
    }
    let mut text = format!("\n{}", table.render(args.markdown));
    if let Some(ours) = costs.iter().find(|cost| cost.title.starts_with("headgate")) {
        let verdict = verdict(ours.per_connection() <= IDLE_TARGET);
        writeln!(
            text,
            "\ntarget: at most {:.0} KiB: {verdict}",
            IDLE_TARGET / 1_024.0
        )
        .ok();
    }
    text
}

/// The table of the slow case.
pub(crate) fn slow(args: &Args, pairs: &[Pair]) -> String {
    let mut table = Table::new(&[
        "slow connections",
        "p99 without",
        "p99 with",
        "KiB/connection",
        "verdict",
    ]);
    for pair in pairs {
        let fits = pair.memory <= pair.kind.most_memory();
        table.row(vec![
            pair.kind.name().to_owned(),
            format!("{:.2} ms", pair.without.as_secs_f64() * 1e3),
            format!("{:.2} ms", pair.with.as_secs_f64() * 1e3),
            format!("{:.1}", pair.memory / 1_024.0),
            verdict(fits && pair.is_kept()).to_owned(),
        ]);
    }
    format!(
        "\n{}\ntarget: p99 at most 1.3 times or 2 ms more; at most 20 KiB, over HTTP/2 64 KiB\n",
        table.render(args.markdown)
    )
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

const MEBIBYTE: f64 = 1_048_576.0;

/// Ours as a part of theirs, by round.
fn ratio(ours: &[Slice], theirs: &[Slice]) -> Option<Spread> {
    let pairs = ours.iter().zip(theirs);
    Spread::of(pairs.filter_map(|(ours, theirs)| Some(ours.cpu()? / theirs.cpu()?)))
}

/// User and system time per request.
fn split(slices: &[Slice]) -> String {
    let part = |of: fn(f64) -> f64| {
        let parts = slices
            .iter()
            .filter_map(|slice| Some(slice.cpu()? * of(slice.spent?.user_share)));
        Spread::of(parts).map(|spread| spread.median)
    };
    match (part(|user| user), part(|user| 1.0 - user)) {
        (Some(user), Some(system)) => format!("{user:.1} + {system:.1}"),
        _ => dash(),
    }
}

/// Busy time of the machine per request; for a proxy, beyond what the same request costs without.
fn machine(slices: &[Slice], direct: Option<&[Slice]>) -> String {
    let busy = |slice: &Slice| slice.per_request(slice.machine);
    if slices.iter().all(|slice| slice.spent.is_none()) {
        return shown(Spread::of(slices.iter().map(busy)), 1);
    }
    let pairs = slices.iter().zip(direct.unwrap_or_default());
    match Spread::of(pairs.map(|(with, without)| busy(with) - busy(without))) {
        Some(spread) => format!("+{}", spread.show(1)),
        None => dash(),
    }
}

fn mebibytes(slices: &[Slice]) -> String {
    let sizes = slices.iter().filter_map(|slice| slice.memory);
    Spread::of(sizes.map(|size| bytes(size) / MEBIBYTE))
        .map_or_else(dash, |spread| format!("{:.1}", spread.median))
}

fn median(values: impl Iterator<Item = f64>) -> String {
    Spread::of(values).map_or_else(dash, |spread| format!("{:.0}", spread.median))
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(dash, |spread| spread.show(digits))
}

fn dash() -> String {
    "-".to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "sizes stay far below 2^52")]
pub(crate) fn bytes(count: u64) -> f64 {
    count as f64
}
