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

use crate::range::Pieces;

use super::Cache;
use super::ageing::Ageing;
use super::content::HitBody;
use super::entry::Entry;
use super::flight::{Came, Ended, Phase, Stale, Ticket, Told};
use super::form::{Decoding, Form};
use super::portion::{self, Parts, Portion, cut};
use super::purge::{Generation, Standing};
use super::status::{Forward, Refusal, Uncacheable, Verdict};
use super::store::Whose;
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
pub(super) struct Role {
    /// It caused the fetch.
    pub(super) leads: bool,
    /// It may be one user's: only an answer for all will do, see `Personal`.
    pub(super) is_personal: bool,
    /// It names no user at all: what is refused because of a user may be for it.
    pub(super) is_anonymous: bool,
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
    /// The fetch failed before there was an answer, or brought an error that is not to be shared: look up again,
    /// a bounded number of times.
    Failed,
    /// The same of a fetch for one user's request, which this one is not: it may have been that request's fault.
    /// In the end, fetch for yourself, and do not store.
    FailedForUser(Refusal),
}

/// An answer that several requests may be given.
#[derive(Debug)]
pub struct Answer {
    /// Its status; `304` where the client's condition held, `206` or `416` where it asked for ranges.
    pub status: StatusCode,
    /// Its fields; `X-Request-Id` is empty, for the caller to overwrite.
    pub headers: HeaderMap,
    /// Its body, as it is stored.
    pub body: Reader,
    /// In which form the client gets it.
    pub form: Form,
}

impl Answer {
    /// What has to be done to the body, if anything.
    pub fn decoding(&self) -> Option<Decoding> {
        match self.form {
            Form::Plain(decoding) if !self.body.is_end_stream() => Some(decoding),
            Form::AsSent | Form::Coded | Form::Plain(_) => None,
        }
    }
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
        Some(self.released(Refusal {
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
        // What is made of it is made without the lock.
        let outcome = match Shown::by(ticket, waker)? {
            Shown::Failed => Outcome::Failed,
            Shown::Refused {
                stale: Some(Stale { entry, status }),
                ..
            } if !self.role.leads && self.role.takes_stale => {
                self.ready(ticket, &entry, Ok(()), Came::Fallback(status))
            }
            Shown::Refused { refusal, error, .. } => self.alone(refusal, error),
            Shown::Ready {
                entry,
                shared,
                came,
            } => self.ready(ticket, &entry, shared, came),
            Shown::Arriving { told, is_windowed } => {
                return Some(self.arriving(ticket, &told, is_windowed));
            }
        };
        Some(Seen::Other(outcome))
    }

    /// The answer that is stored.
    fn ready(
        &self,
        ticket: &Ticket,
        entry: &Arc<Entry>,
        shared: Result<(), Uncacheable>,
        came: Came,
    ) -> Outcome {
        let now = self.cache.clock.now();
        if let Some(refused) = self.refused(&entry.age, shared) {
            return refused;
        }
        if self.is_for_others(ticket, &entry.tags, &entry.vary) {
            return Outcome::Varies;
        }
        let verdict = match self.verdict(came, &entry.age, now) {
            Ok(verdict) => verdict,
            Err(Unfit::LookAgain) => return Outcome::Varies,
            Err(Unfit::Failed) => return Outcome::Failed,
        };
        let Some(form) = entry.head.form(&self.request) else {
            return self.refused_form();
        };
        let head = entry.head.in_form(form);
        let portion = Portion::of(&entry.head, form, &self.request, Some(entry.body.len()));
        let age = self.age(&entry.age, verdict, now);
        let (status, headers, pieces) = portion.head(&head, age, verdict);
        Outcome::Shared(Answer {
            status,
            headers,
            body: entry.portion(pieces).into(),
            form,
        })
    }

    /// The answer as far as it has come.
    fn arriving(&self, ticket: &Ticket, arrival: &Told, is_windowed: bool) -> Seen {
        let now = self.cache.clock.now();
        let leads = self.role.leads;
        let shared = match arrival.age.is_reusable() {
            true => Ok(()),
            false => Err(Uncacheable::NotReusable),
        };
        if let Some(refused) = self.refused(&arrival.age, shared) {
            return Seen::Other(refused);
        }
        if self.is_for_others(ticket, &arrival.tags, &arrival.vary) {
            return Seen::Other(Outcome::Varies);
        }
        let verdict = match leads {
            false => Verdict::Collapsed(self.forward),
            true if is_windowed => Verdict::Fetched(self.forward),
            true => Verdict::Stored(self.forward),
        };
        let Some(form) = arrival.head.form(&self.request) else {
            return Seen::Other(self.refused_form());
        };
        let head = arrival.head.in_form(form);
        let portion = Portion::of(&arrival.head, form, &self.request, arrival.length).in_order();
        let age = self.age(&arrival.age, verdict, now);
        let (status, mut headers, pieces) = portion.head(&head, age, verdict);
        if leads && status != StatusCode::NOT_MODIFIED {
            for (name, value) in &arrival.own {
                headers.append(name.clone(), value.clone());
            }
        }
        Seen::Arriving {
            status,
            headers,
            length: arrival.length,
            pieces,
            form,
        }
    }

    /// The stored bytes are not for this client, and may not be made into others.
    fn refused_form(&self) -> Outcome {
        Outcome::Released(Refusal {
            reason: Uncacheable::NoTransform,
            forward: self.forward,
        })
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

    /// The answer is for the one who asked.
    fn alone(&self, refusal: Refusal, error: Option<Whose>) -> Outcome {
        match error.filter(|_| !self.role.leads) {
            None => self.released(refusal),
            // Why it would not be shared is that request's affair; that it was an error is why this one goes alone.
            Some(Whose::Users) => Outcome::FailedForUser(Refusal {
                reason: Uncacheable::Status,
                forward: self.forward,
            }),
            Some(Whose::Anyone) => Outcome::Failed,
        }
    }

    fn released(&self, refusal: Refusal) -> Outcome {
        let was_for_a_user = matches!(
            refusal.reason,
            Uncacheable::Authorization | Uncacheable::Cookie
        );
        if was_for_a_user && self.role.is_anonymous {
            return Outcome::Varies;
        }
        Outcome::Released(Refusal {
            forward: self.forward,
            ..refusal
        })
    }

    /// `Age` of the answer, in seconds, if it has one.
    fn age(&self, ageing: &Ageing, verdict: Verdict, now: Instant) -> Option<u64> {
        // RFC 9111 section 5.1: an `Age` says that the origin did not make this answer just now.
        let is_new = self.role.leads
            && !matches!(verdict, Verdict::Fallback { .. } | Verdict::Recalled { .. });
        (!is_new || ageing.began_old()).then(|| ageing.current(now).as_secs())
    }
}

/// What a flight shows.
enum Shown {
    Failed,
    Refused {
        refusal: Refusal,
        error: Option<Whose>,
        stale: Option<Stale>,
    },
    Ready {
        entry: Arc<Entry>,
        shared: Result<(), Uncacheable>,
        came: Came,
    },
    Arriving {
        told: Arc<Told>,
        is_windowed: bool,
    },
}

impl Shown {
    /// Nothing yet: the waker is left there.
    fn by(ticket: &Ticket, waker: &Waker) -> Option<Self> {
        let mut state = ticket.flight.state.lock();
        Some(match &state.phase {
            Phase::Awaiting => {
                if let Some(rider) = state.riders.get_mut(ticket.seat) {
                    rider.waker = Some(waker.clone());
                }
                return None;
            }
            Phase::Failed => Self::Failed,
            Phase::Refused {
                refusal,
                error,
                stale,
            } => Self::Refused {
                refusal: *refusal,
                error: *error,
                stale: stale.clone(),
            },
            Phase::Ready {
                entry,
                shared,
                came,
            } => Self::Ready {
                entry: Arc::clone(entry),
                shared: *shared,
                came: *came,
            },
            Phase::Arriving(arrival) if arrival.body.ended == Some(Ended::Broken) => Self::Failed,
            Phase::Arriving(arrival) => Self::Arriving {
                told: Arc::clone(&arrival.told),
                is_windowed: arrival.body.is_windowed(),
            },
        })
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
        pieces: Option<Pieces>,
        form: Form,
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
                pieces,
                form,
            }) => {
                let body = match pieces {
                    None => Reader {
                        source: Source::Live(ticket),
                        left: length,
                    },
                    Some(pieces) if pieces.is_empty() => HitBody::Empty.into(),
                    Some(pieces) => Reader {
                        left: Some(portion::length(&pieces)),
                        source: Source::LiveParts(ticket, pieces),
                    },
                };
                Poll::Ready(Outcome::Shared(Answer {
                    status,
                    headers,
                    body,
                    form,
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
    LiveParts(Ticket, Pieces),
    Parts(Box<Parts>),
    Ended,
}

impl From<HitBody> for Reader {
    fn from(body: HitBody) -> Self {
        let left = Some(body.len());
        let source = match body {
            HitBody::Parts(parts) => Source::Parts(parts),
            body => Source::Stored { body, next: 0 },
        };
        Self { source, left }
    }
}

impl From<Parts> for Reader {
    fn from(parts: Parts) -> Self {
        Self::from(HitBody::Parts(Box::new(parts)))
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
                    HitBody::Empty | HitBody::Parts(_) => None,
                    HitBody::One(bytes) => (*next == 1).then(|| bytes.clone()),
                    HitBody::Segments(list) => list.get(*next - 1).cloned(),
                }
                .map(Ok)
            }
            Source::Live(ticket) => match ticket.poll_read(None, u64::MAX, cx.waker()) {
                Poll::Ready(read) => read,
                Poll::Pending => return Poll::Pending,
            },
            Source::LiveParts(ticket, pieces) => {
                let read = portion::next(pieces, |start, length| {
                    let read = ticket.poll_read(Some(start), length, cx.waker());
                    read.map(|read| read.and_then(Result::ok))
                });
                match read {
                    Poll::Ready(read) => read,
                    Poll::Pending => return Poll::Pending,
                }
            }
            Source::Parts(parts) => parts.read(),
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
    /// The next piece of the body, `most` bytes of it at most, after those that were read or after the
    /// first `from`; `None` at its end.
    pub(super) fn poll_read(
        &self,
        from: Option<u64>,
        most: u64,
        waker: &Waker,
    ) -> Poll<Option<Result<Bytes, ReadError>>> {
        let mut guard = self.flight.state.lock();
        let state = &mut *guard;
        let (Phase::Arriving(arrival), Some(rider)) =
            (&state.phase, state.riders.get_mut(self.seat))
        else {
            return Poll::Ready(Some(Err(ReadError)));
        };
        if rider.is_cut {
            return Poll::Ready(Some(Err(ReadError)));
        }
        let before = rider.at;
        rider.at = from.unwrap_or(before);
        let read = match arrival.body.after(rider.at) {
            Some(bytes) => {
                let bytes = cut(&bytes, 0, most).unwrap_or(bytes);
                rider.at += bytes.len() as u64;
                Poll::Ready(Some(Ok(bytes)))
            }
            None => match arrival.body.ended {
                Some(Ended::Whole) => Poll::Ready(None),
                Some(Ended::Broken) => Poll::Ready(Some(Err(ReadError))),
                None => {
                    rider.waker = Some(waker.clone());
                    Poll::Pending
                }
            },
        };
        let pump = if rider.at == before {
            None
        } else {
            state.pump_after(before)
        };
        drop(guard);
        if let Some(pump) = pump {
            pump.wake();
        }
        read
    }
}
