//! What operators can see, as JSON.
//!
//! Pure functions of the state in force. Invariant: nothing here holds a secret: configs are shown
//! as `config` has redacted them.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::health::State;
use crate::reload;
use crate::snapshot::{Snapshot, Upstream};

/// `GET /`.
pub(super) const INDEX: &str = "\
Headgate's admin listener

GET  /metrics         Prometheus text
GET  /livez           is the process alive
GET  /readyz          does it take requests
GET  /api/config      the config in force, and the last failed reload
GET  /api/upstreams   endpoints and their state
POST /api/reload      read the config file again
POST /api/purge       purge the cache by url, prefix, tag, host or all (JSON)
";

/// `GET /api/config`.
pub(super) fn config(state: &reload::State) -> Value {
    json!({
        "generation": state.generation,
        "file": state.path,
        "sha256": state.sha256,
        "loaded_at": timestamp(state.loaded_at),
        "warnings": state.warnings,
        "needs_restart": state.needs_restart,
        "last_reload": {
            "successful": state.failure.is_none(),
            "at": timestamp(state.failure.as_ref().map_or(state.loaded_at, |failure| failure.at)),
            "error": state.failure.as_ref().map(|failure| &failure.message),
        },
        "config": *state.document,
    })
}

/// The answer to a reload that worked.
pub(super) fn reloaded(state: &reload::State) -> Value {
    json!({
        "generation": state.generation,
        "sha256": state.sha256,
        "warnings": state.warnings,
        "needs_restart": state.needs_restart,
    })
}

/// `GET /api/upstreams`.
pub(super) fn upstreams(snapshot: &Snapshot) -> Value {
    let upstreams: Vec<Value> = snapshot.upstreams.iter().map(upstream).collect();
    json!({ "generation": snapshot.generation, "upstreams": upstreams })
}

fn upstream(upstream: &Upstream) -> Value {
    let now = tokio::time::Instant::now();
    let endpoints: Vec<Value> = upstream
        .pool
        .members()
        .iter()
        .map(|member| {
            let report = member.status.report();
            let age = now.saturating_duration_since(report.since).as_secs_f64();
            json!({
                "address": member.endpoint.address,
                "state": state(report.state),
                "reason": report.reason,
                "for_seconds": (age * 1000.0).round() / 1000.0,
                "weight": member.weight,
                "in_flight": member.endpoint.in_flight(),
                "failures_in_a_row": member.endpoint.failures(),
                "last_check": report.last.map(|check| json!({
                    "seconds_ago": now.saturating_duration_since(check.at).as_secs_f64(),
                    "seconds": check.outcome.took.as_secs_f64(),
                    "error": check.outcome.result.err().map(|failure| failure.to_string()),
                })),
            })
        })
        .collect();
    json!({ "name": upstream.name, "endpoints": endpoints })
}

fn state(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Down => "down",
    }
}

fn timestamp(at: SystemTime) -> String {
    // The date format of HTTP: to the second, in UTC, and read by every tool.
    httpdate::fmt_http_date(at)
}
