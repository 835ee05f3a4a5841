//! The riders' side of a flight: waiting for the answer, then reading its body.
//!
//! A `Waiter` is made by a look-up that found a fetch under way, or by a `Permit` for the client
//! that caused it; it becomes an `Answer` whose `Reader` takes the body at its own pace. Each
//! client's own conditions are applied to the shared answer here. Both may be dropped at any
//! point: the seat on the flight goes with them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::Cache;
use super::entry::{Ageing, Head, HitBody};
use super::flight::{Came, Ended, Phase, Ticket};
use super::purge::{Generation, Standing};
use super::status::{Forward, Refusal, Uncacheable, Verdict};
use super::tags::Tags;
use super::vary::Vary;

/// Waits for the answer of a fetch under way; a future.
#[derive(Debug)]
pub struct Waiter {
    ticket: Option<Ticket>,
    request: Arc<HeaderMap>,
    forward: Forward,
    role: Role,
    cache: Arc<Cache>,
}

/// In what way a request waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    /// It caused the fetch.
    pub(super) leads: bool,
    /// It may be one user's: only an answer for all will do, see `Personal`.
    pub(super) is_personal: bool,
    /// It takes a stale answer when the origin fails.
    pub(super) takes_stale: bool,
    /// When it looked up.
    pub(super) came: Generation,
}

/// What a wait led to.
#[derive(Debug)]
pub enum Outcome {
    /// The answer.
    Shared(Answer),
    /// It is not to be shared: fetch for yourself, and do not store.
    Released(Refusal),
    /// It is for requests with other nominated fields, or was purged before this one came: look up again.
    Varies,
    /// The fetch failed before there was an answer: look up again, a bounded number of times.
    Failed,
}

/// An answer that several requests may be given.
#[derive(Debug)]
pub struct Answer {
    /// Its status, or `304` where the client's condition held.
    pub status: StatusCode,
    /// Its fields; `X-Request-Id` is empty, for the caller to overwrite.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Reader,
}

/// The fetch broke off in the middle of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off before its end")]
pub struct ReadError;

impl Waiter {
    pub(super) fn new(
        ticket: Ticket,
        request: Arc<HeaderMap>,
        forward: Forward,
        role: Role,
        cache: Arc<Cache>,
    ) -> Self {
        Self {
            ticket: Some(ticket),
            request,
            forward,
            role,
            cache,
        }
    }

    /// Why this request may not have an answer that others share, if it may not.
    fn refused(&self, age: &Ageing, shared: Result<(), Uncacheable>) -> Option<Outcome> {
        if self.role.leads {
            return None;
        }
        let reason = match shared {
            Err(reason) => reason,
            Ok(()) if self.role.is_personal && !age.is_for_all() => Uncacheable::Authorization,
            Ok(()) => return None,
        };
        Some(Outcome::Released(Refusal {
            reason,
            forward: self.forward,
        }))
    }

    /// Whether an answer with these tags is for requests with other nominated fields, or for those who came
    /// before it was purged: what only the answer tells, its tags, was not known when this one boarded.
    fn is_for_others(&self, ticket: &Ticket, tags: &Tags, vary: &Vary) -> bool {
        let flight = &ticket.flight;
        let is_overtaken = || {
            let url = flight.stored_key().url();
            let generations = &self.cache.generations;
            let standing = generations.standing(flight.generation, url, tags.hashes());
            standing != Standing::Current
        };
        !self.role.leads
            && (!vary.matches(&self.request)
                || self.role.came.differs_from(flight.generation) && is_overtaken())
    }

    /// Looks at the flight, and leaves the waker there while there is nothing to see.
    fn look(&self, ticket: &Ticket, waker: &Waker) -> Option<Seen> {
        let mut state = ticket.flight.state.lock();
        let now = self.cache.clock.now();
        let leads = self.role.leads;
        match &state.phase {
            Phase::Awaiting => {
                if let Some(rider) = state.riders.get_mut(ticket.seat) {
                    rider.waker = Some(waker.clone());
                }
                None
            }
            Phase::Failed => Some(Seen::Other(Outcome::Failed)),
            Phase::Refused(refusal) => Some(Seen::Other(self.released(*refusal))),
            Phase::Ready {
                entry,
                shared,
                came,
            } => {
                if let Some(refused) = self.refused(&entry.age, *shared) {
                    return Some(Seen::Other(refused));
                }
                if self.is_for_others(ticket, &entry.tags, &entry.vary) {
                    return Some(Seen::Other(Outcome::Varies));
                }
                let verdict = match self.verdict(*came, &entry.age, now) {
                    Ok(verdict) => verdict,
                    Err(Unfit::LookAgain) => return Some(Seen::Other(Outcome::Varies)),
                    Err(Unfit::Failed) => return Some(Seen::Other(Outcome::Failed)),
                };
                let (status, headers) = self.head(&entry.head, &entry.age, verdict, now);
                let body = if status == StatusCode::NOT_MODIFIED {
                    HitBody::Empty
                } else {
                    entry.body.clone()
                };
                Some(Seen::Other(Outcome::Shared(Answer {
                    status,
                    headers,
                    body: body.into(),
                })))
            }
            Phase::Arriving(arrival) => {
                if arrival.body.ended == Some(Ended::Broken) {
                    return Some(Seen::Other(Outcome::Failed));
                }
                let shared = match arrival.age.is_reusable() {
                    true => Ok(()),
                    false => Err(Uncacheable::NotReusable),
                };
                if let Some(refused) = self.refused(&arrival.age, shared) {
                    return Some(Seen::Other(refused));
                }
                if self.is_for_others(ticket, &arrival.tags, &arrival.vary) {
                    return Some(Seen::Other(Outcome::Varies));
                }
                let verdict = match leads {
                    false => Verdict::Collapsed(self.forward),
                    true if arrival.body.is_windowed() => Verdict::Fetched(self.forward),
                    true => Verdict::Stored(self.forward),
                };
                let (status, mut headers) = self.head(&arrival.head, &arrival.age, verdict, now);
                if leads && status != StatusCode::NOT_MODIFIED {
                    for (name, value) in &arrival.own {
                        headers.append(name.clone(), value.clone());
                    }
                }
                Some(Seen::Arriving {
                    status,
                    headers,
                    length: arrival.length,
                })
            }
        }
    }

    /// How a stored answer came about for this request, if it may have it.
    fn verdict(&self, came: Came, age: &Ageing, now: Instant) -> Result<Verdict, Unfit> {
        let Role {
            leads, takes_stale, ..
        } = self.role;
        Ok(match came {
            Came::Validated => Verdict::Validated {
                forward: match self.forward {
                    // It came from disk, after the look-up.
                    Forward::UriMiss => Forward::Stale,
                    forward => forward,
                },
                collapsed: !leads,
            },
            Came::Found => Verdict::Hit { ttl: age.ttl(now) },
            // It waited for a fetch, and asks for more than that something is fresh.
            Came::Recalled if !leads && !takes_stale => return Err(Unfit::LookAgain),
            Came::Recalled => Verdict::Recalled { ttl: age.ttl(now) },
            Came::Fallback(_) if !takes_stale => return Err(Unfit::Failed),
            Came::Fallback(status) => Verdict::Fallback {
                status,
                collapsed: !leads,
            },
        })
    }

    fn released(&self, refusal: Refusal) -> Outcome {
        Outcome::Released(Refusal {
            forward: self.forward,
            ..refusal
        })
    }

    fn head(
        &self,
        head: &Head,
        ageing: &Ageing,
        verdict: Verdict,
        now: Instant,
    ) -> (StatusCode, HeaderMap) {
        // RFC 9111 section 5.1: an `Age` says that the origin did not make this answer just now.
        let is_new = self.role.leads
            && !matches!(verdict, Verdict::Fallback { .. } | Verdict::Recalled { .. });
        let age = (!is_new || ageing.began_old()).then(|| ageing.current(now).as_secs());
        if head.is_held_by(&self.request) {
            (StatusCode::NOT_MODIFIED, head.not_modified(age, verdict))
        } else {
            (head.status, head.answer(age, verdict))
        }
    }
}

/// Why a request may not have what others may.
enum Unfit {
    LookAgain,
    Failed,
}

enum Seen {
    Arriving {
        status: StatusCode,
        headers: HeaderMap,
        length: Option<u64>,
    },
    Other(Outcome),
}

impl Future for Waiter {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(ticket) = self.ticket.take() else {
            return Poll::Ready(Outcome::Failed);
        };
        match self.look(&ticket, cx.waker()) {
            None => {
                self.ticket = Some(ticket);
                Poll::Pending
            }
            Some(Seen::Other(outcome)) => Poll::Ready(outcome),
            Some(Seen::Arriving {
                status,
                headers,
                length,
            }) => {
                let body = if status == StatusCode::NOT_MODIFIED {
                    HitBody::Empty.into()
                } else {
                    Reader {
                        source: Source::Live(ticket),
                        left: length,
                    }
                };
                Poll::Ready(Outcome::Shared(Answer {
                    status,
                    headers,
                    body,
                }))
            }
        }
    }
}

/// The body of an answer, stored or still arriving.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    /// Bytes to come, when that is known.
    left: Option<u64>,
}

#[derive(Debug)]
enum Source {
    Stored { body: HitBody, next: usize },
    Live(Ticket),
    Ended,
}

impl From<HitBody> for Reader {
    fn from(body: HitBody) -> Self {
        let left = Some(body.len());
        Self {
            source: Source::Stored { body, next: 0 },
            left,
        }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let read = match &mut self.source {
            Source::Stored { body, next } => {
                *next += 1;
                match body {
                    HitBody::Empty => None,
                    HitBody::One(bytes) => (*next == 1).then(|| bytes.clone()),
                    HitBody::Segments(list) => list.get(*next - 1).cloned(),
                }
                .map(Ok)
            }
            Source::Live(ticket) => match ticket.poll_read(cx.waker()) {
                Poll::Ready(read) => read,
                Poll::Pending => return Poll::Pending,
            },
            Source::Ended => None,
        };
        match &read {
            Some(Ok(bytes)) => {
                let taken = bytes.len() as u64;
                self.left = self.left.map(|left| left.saturating_sub(taken));
            }
            Some(Err(_)) | None => {
                self.source = Source::Ended;
                self.left = Some(0);
            }
        }
        Poll::Ready(read.map(|read| read.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Ticket {
    /// The next piece of the body; `None` at its end.
    fn poll_read(&self, waker: &Waker) -> Poll<Option<Result<Bytes, ReadError>>> {
        let mut guard = self.flight.state.lock();
        let state = &mut *guard;
        let (Phase::Arriving(arrival), Some(rider)) =
            (&state.phase, state.riders.get_mut(self.seat))
        else {
            return Poll::Ready(Some(Err(ReadError)));
        };
        let at = rider.at;
        if let Some(bytes) = arrival.body.after(at) {
            rider.at += bytes.len() as u64;
            let pump = state.pump_after(at);
            drop(guard);
            if let Some(pump) = pump {
                pump.wake();
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        match arrival.body.ended {
            Some(Ended::Whole) => Poll::Ready(None),
            Some(Ended::Broken) => Poll::Ready(Some(Err(ReadError))),
            None => {
                rider.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}
