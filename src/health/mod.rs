//! Which endpoints are fit to be used.
//!
//! ```text
//! prober --(one task a target)--> probe --Outcome--> Status --(thresholds)--> up | down
//! balancer: Status::is_up        upstream: Status::suspect, which has a check run at once
//! ```
//!
//! The balancer's endpoints hold an `Arc<Status>` each and read one word of it; this room never
//! sees an endpoint. Checks run on the control plane's runtime, so none of them can delay a
//! request. Invariant: an endpoint starts as up, and only checks change that.

mod probe;
mod prober;
mod registry;
mod status;
mod thresholds;

pub use probe::{Failure, Outcome};
pub use prober::{Prober, Target};
pub use registry::Registry;
pub use status::{Change, Counts, LastCheck, Report, Status};
pub use thresholds::{State, Thresholds, Verdict};
