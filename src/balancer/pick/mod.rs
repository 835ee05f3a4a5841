//! One upstream as one config sees it, and the choice among its members.
//!
//! Order of the choice: the sticky cookie's member if it may serve; else the algorithm among the
//! members that are up and not paused; else among those that are up. Invariant: a member that
//! health checks call down, or that the caller excludes, is never picked.

use std::sync::Arc;

use crate::config::model::Balance;
use crate::health::Status;

use super::endpoint::{Endpoint, EndpointId, InFlight};
use super::sticky::Sticky;
use super::{least_connections, random, round_robin::RoundRobin};

/// An endpoint in one config.
#[derive(Debug)]
pub struct Member {
    /// Its live state.
    pub endpoint: Arc<Endpoint>,
    /// What health checks say of it.
    pub status: Arc<Status>,
    /// 1 to 65535.
    pub weight: u16,
}

impl Member {
    /// Whether it may get requests at all.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.status.is_up()
    }
}

/// The members of an upstream and the way to choose among them.
#[derive(Debug)]
pub struct Pool {
    members: Box<[Member]>,
    algorithm: Algorithm,
    sticky: Option<Sticky>,
}

#[derive(Debug)]
enum Algorithm {
    LeastConnections,
    RoundRobin(RoundRobin),
    Random,
}

/// A choice.
#[derive(Debug)]
pub struct Picked {
    /// Index into `Pool::members`.
    pub member: usize,
    /// Counts the request at the endpoint until dropped.
    pub in_flight: InFlight,
    /// The client has no (valid) sticky cookie for this endpoint and is to be given one.
    pub tell_client: bool,
}

/// No member may take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no endpoint is available")]
pub struct NoEndpoint;

impl Pool {
    /// A pool of at least one member.
    #[must_use]
    pub fn new(balance: Balance, members: Vec<Member>, sticky: Option<Sticky>) -> Self {
        let algorithm = match balance {
            Balance::LeastConnections => Algorithm::LeastConnections,
            Balance::RoundRobin => {
                let weights: Vec<u16> = members.iter().map(|member| member.weight).collect();
                Algorithm::RoundRobin(RoundRobin::new(&weights))
            }
            Balance::Random => Algorithm::Random,
        };
        Self {
            members: members.into(),
            algorithm,
            sticky,
        }
    }

    /// In the order of the config.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Stickiness, if the upstream has it.
    #[must_use]
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// Chooses a member. `cookies` are the request's `Cookie` values, `now` is milliseconds of the
    /// clock that `Endpoint::failed` is told; `exclude` has failed this request already.
    ///
    /// # Errors
    /// When no member is up, or the only ones are excluded.
    pub fn pick<'a>(
        &self,
        cookies: impl Iterator<Item = &'a [u8]>,
        exclude: Option<EndpointId>,
        now: u64,
    ) -> Result<Picked, NoEndpoint> {
        let usable = |member: &Member| member.is_up() && Some(member.endpoint.id) != exclude;
        let stuck = self
            .sticky
            .as_ref()
            .and_then(|sticky| sticky.member(cookies));
        if let Some(index) = stuck
            && self
                .members
                .get(index)
                .is_some_and(|m| usable(m) && !m.endpoint.is_paused(now))
        {
            return Ok(self.picked(index, false));
        }
        let index = self
            .choose(|member| usable(member) && !member.endpoint.is_paused(now))
            .or_else(|| self.choose(usable))
            .ok_or(NoEndpoint)?;
        Ok(self.picked(index, self.sticky.is_some() && stuck != Some(index)))
    }

    fn picked(&self, member: usize, tell_client: bool) -> Picked {
        let in_flight = InFlight::new(&self.members[member].endpoint);
        Picked {
            member,
            in_flight,
            tell_client,
        }
    }

    fn choose(&self, usable: impl Fn(&Member) -> bool) -> Option<usize> {
        match &self.algorithm {
            Algorithm::LeastConnections => least_connections::choose(&self.members, usable),
            Algorithm::RoundRobin(turns) => turns.choose(|index| usable(&self.members[index])),
            Algorithm::Random => random::choose(&self.members, usable),
        }
    }
}

#[cfg(test)]
mod tests;
