//! What RFC 9111 and its companions ask of a shared cache, statement by statement.
//!
//! Each test bears the number of its section: `s4_2_4_...` is section 4.2.4 of the RFC that its file is
//! about. The origin is scripted, clients are real sockets, and hours pass when a test says so (`Timed`).
//! Where many spellings mean one thing, a test is a table: one path of the origin for each row.

mod keys;
mod model;
mod rfc5861;
mod rfc8246;
mod rfc9110_ranges;
mod rfc9111_age;
mod rfc9111_dates;
mod rfc9111_directives;
mod rfc9111_freshness;
mod rfc9111_invalidation;
mod rfc9111_partial;
mod rfc9111_requests;
mod rfc9111_storing;
mod rfc9111_validation;
mod rfc9111_vary;
mod rfc9211;
mod rfc9213;
mod rfc9875;
mod walks;

use std::time::Duration;

use crate::harness::{Origin, Reply, Timed};

/// What an answer says. `:status` is its status; a value that begins with `@` is the date so many seconds
/// from now.
type Fields = &'static [(&'static str, &'static str)];

/// The date so many seconds from now.
fn date(seconds: i64) -> String {
    let away = Duration::from_secs(seconds.unsigned_abs());
    let now = headgate::clock::wall();
    httpdate::fmt_http_date(match seconds < 0 {
        true => now - away,
        false => now + away,
    })
}

fn filled(value: &str) -> String {
    match value.strip_prefix('@') {
        Some(seconds) => date(seconds.parse().unwrap()),
        None => value.to_owned(),
    }
}

/// An answer that says this.
fn saying(fields: Fields, body: &str) -> Reply {
    let status = fields.iter().find(|(name, _)| *name == ":status");
    let status = status.map_or(200, |(_, status)| status.parse().unwrap());
    let said = fields.iter().filter(|(name, _)| *name != ":status");
    let reply = said.fold(Reply::new(status), |reply, (name, value)| {
        reply.header(name, &filled(value))
    });
    match status {
        204 | 304 => reply,
        _ => reply.body(body),
    }
}

/// An origin that answers `/0`, `/1` and so on with the fields of that row, and in the body how often it was
/// asked.
async fn rows(rows: Vec<Fields>) -> Origin {
    Origin::start("a").await.on("*", move |seen| {
        let row: usize = seen.path().strip_prefix('/').unwrap().parse().unwrap();
        saying(rows[row], &(seen.earlier + 1).to_string())
    })
}

/// An answer that is kept for a hundred seconds is served from memory after fifty, and no more after a
/// hundred and fifty; one that is not kept, or not fresh, is never.
async fn lives_a_hundred_seconds(rule: &str, table: &[(Fields, bool)]) {
    let origin = rows(table.iter().map(|(fields, _)| *fields).collect()).await;
    let gate = Timed::caching(&origin, rule).await;
    for row in 0..table.len() {
        gate.get(&format!("/{row}")).await;
    }
    gate.advance(50);
    for (row, (fields, lives)) in table.iter().enumerate() {
        let answer = gate.get(&format!("/{row}")).await;
        assert_eq!(answer.is_hit(), *lives, "{fields:?}: {}", answer.cache());
    }
    gate.advance(100);
    for (row, (fields, _)) in table.iter().enumerate() {
        let answer = gate.get(&format!("/{row}")).await;
        let is_stale = answer.cache().contains("ttl=-");
        let is_late = answer.is_hit() && !is_stale && table[row].1;
        assert!(!is_late, "{fields:?} lives on: {}", answer.cache());
    }
}

/// Which of these answers are kept and served again at once.
async fn kept(rule: &str, table: &[(Fields, bool)]) {
    let origin = rows(table.iter().map(|(fields, _)| *fields).collect()).await;
    let gate = Timed::caching(&origin, rule).await;
    for (row, (fields, kept)) in table.iter().enumerate() {
        let target = format!("/{row}");
        gate.get(&target).await;
        let second = gate.get(&target).await;
        assert_eq!(second.is_hit(), *kept, "{fields:?}: {}", second.cache());
    }
}
