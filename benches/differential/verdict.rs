//! What became of the streams: what was wrong, and how the proxies differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::client::Answers;
use crate::origin::Seen;
use crate::streams::Stream;

/// Violations that are shown in full.
const SHOWN: usize = 20;

/// What became of the streams of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    judged: u64,
    violations: BTreeMap<String, u64>,
    examples: Vec<String>,
    kinds: BTreeMap<&'static str, Kind>,
}

/// What became of the streams with one mutation.
#[derive(Debug, Default, Clone, Copy)]
struct Kind {
    streams: u64,
    /// Something was answered by the proxy itself with 4xx or 5xx.
    refused: u64,
    /// Nothing of it reached the origin.
    kept_off: u64,
    wrong: u64,
}

impl Verdicts {
    pub(crate) fn judged(&self) -> u64 {
        self.judged
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.values().sum()
    }

    pub(crate) fn judge(&mut self, number: u64, stream: &Stream, answers: &Answers, seen: &[Seen]) {
        self.judged += 1;
        let wrong = faults(stream, answers, seen);
        for fault in &wrong {
            *self.violations.entry(fault.clone()).or_default() += 1;
        }
        if !wrong.is_empty() && self.examples.len() < SHOWN {
            self.examples.push(format!(
                "stream {number} {:?}: {wrong:?}\n  sent {}\n  answers {:?}\n  origin {}",
                stream.mutations,
                shown(&stream.bytes),
                answers.heads,
                seen.iter()
                    .map(|seen| shown(&seen.bytes))
                    .collect::<Vec<_>>()
                    .join("\n         "),
            ));
        }
        for &mutation in &stream.mutations {
            // Alone, a mutation's effect is its own.
            if stream.mutations.len() == 1 {
                let kind = self.kinds.entry(mutation).or_default();
                kind.streams += 1;
                let refused = answers
                    .heads
                    .iter()
                    .any(|(status, nonce)| *status >= 400 && nonce.is_none());
                kind.refused += u64::from(refused);
                kind.kept_off += u64::from(seen.is_empty());
                kind.wrong += u64::from(!wrong.is_empty());
            }
        }
    }

    /// Requests that no stream in progress can have caused.
    pub(crate) fn judge_late(&mut self, seen: &[Seen]) {
        // One whose nonce was lost cannot be told from what its stream sent in time.
        let late = seen
            .iter()
            .filter(|seen| !seen.nonce.is_empty() || seen.fault.is_some());
        for seen in late {
            *self
                .violations
                .entry("a request after its stream had ended".to_owned())
                .or_default() += 1;
            if self.examples.len() < SHOWN {
                self.examples
                    .push(format!("late: {:?} {}", seen.fault, shown(&seen.bytes)));
            }
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.char_indices().nth(600) {
        Some((end, _)) => format!(
            "{}... ({} bytes)",
            text.get(..end).unwrap_or_default(),
            bytes.len()
        ),
        None => text,
    }
}

/// What is wrong with what became of a stream.
fn faults(stream: &Stream, answers: &Answers, seen: &[Seen]) -> Vec<String> {
    let mut faults = Vec::new();
    for seen in seen {
        if let Some(fault) = &seen.fault {
            faults.push(format!("at the origin: {fault}"));
        }
    }
    if answers.is_stuck {
        faults.push("neither answered nor closed".to_owned());
    }
    let answered: Vec<&str> = answers
        .heads
        .iter()
        .filter_map(|(_, nonce)| nonce.as_deref())
        .filter(|nonce| !nonce.is_empty())
        .collect();
    for (at, one) in seen.iter().enumerate() {
        if one.fault.is_some() || one.nonce.is_empty() {
            continue;
        }
        if seen
            .iter()
            .take(at)
            .any(|earlier| earlier.nonce == one.nonce)
        {
            let twice = stream
                .bytes
                .windows(one.nonce.len().max(1))
                .filter(|w| *w == one.nonce.as_bytes())
                .count();
            if twice < 2 {
                faults.push("one message arrived twice".to_owned());
            }
        } else if !answered.contains(&one.nonce.as_str()) && !stream.is_cut() {
            faults.push("a request whose answer the client never saw".to_owned());
        }
    }
    // Answers come in the order of the messages.
    let at = |nonce: &str| {
        stream
            .bytes
            .windows(nonce.len().max(1))
            .position(|window| window == nonce.as_bytes())
    };
    if !answered.is_sorted_by_key(|nonce| at(nonce)) {
        faults.push("answers in another order".to_owned());
    }
    faults.sort();
    faults.dedup();
    faults
}

/// The proxies side by side.
pub(crate) fn table(all: &[(String, Verdicts)]) -> String {
    let mut text = String::from("\n| Streams with only this mutation |");
    for (title, _) in all {
        write!(text, " {title}: refused | kept from the origin | wrong |").ok();
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|---:|---:|".repeat(all.len()));
    text.push('\n');
    let kinds: std::collections::BTreeSet<&str> = all
        .iter()
        .flat_map(|(_, verdicts)| verdicts.kinds.keys().copied())
        .collect();
    for kind in kinds {
        write!(text, "| {kind} |").ok();
        for (_, verdicts) in all {
            let found = verdicts.kinds.get(kind).copied().unwrap_or_default();
            let share = |part: u64| 100 * part / found.streams.max(1);
            write!(
                text,
                " {} % | {} % | {} |",
                share(found.refused),
                share(found.kept_off),
                found.wrong
            )
            .ok();
        }
        text.push('\n');
    }
    for (title, verdicts) in all {
        writeln!(
            text,
            "\n{title}: {} streams, {} violations",
            verdicts.judged,
            verdicts.violations()
        )
        .ok();
        for (fault, count) in &verdicts.violations {
            writeln!(text, "  {count} x {fault}").ok();
        }
        let shown = if title.starts_with("headgate") {
            SHOWN
        } else {
            2
        };
        for example in verdicts.examples.iter().take(shown) {
            writeln!(text, "  {example}").ok();
        }
    }
    text
}
