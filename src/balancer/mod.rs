//! Which endpoint of an upstream takes a request.
//!
//! `registry` keeps each endpoint's live state by (upstream, address) across reloads; a `Pool`,
//! built by `snapshot::compile`, is one config's view of an upstream: members with weights, the
//! algorithm, and the sticky cookie's values. `proxy::forward` calls `Pool::pick` and holds the
//! `InFlight` guard for as long as the exchange lasts. Invariant: an endpoint's in-flight count is
//! exactly the number of guards alive, on whichever workers and under whichever snapshots.

pub mod endpoint;
mod least_connections;
mod pick;
mod random;
pub mod registry;
mod round_robin;
pub mod sticky;

pub use endpoint::{Endpoint, EndpointId, InFlight};
pub use pick::{Member, NoEndpoint, Picked, Pool};
pub use registry::Registry;
