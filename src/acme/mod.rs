//! Certificates that are obtained and renewed by themselves: ACME (RFC 8555), ARI (RFC 9773).
//!
//! | part         | is                                                                        |
//! |--------------|---------------------------------------------------------------------------|
//! | `Keeper`     | the one task that decides what is due, and does it (`keeper`)              |
//! | `plan`       | what the keeper knows of each certificate, as plain data                  |
//! | `schedule`   | when: windows, two thirds of a lifetime, backing off; pure                |
//! | `session`    | an account at the CA, kept in the state folder                            |
//! | `order`      | one conversation with the CA, from the names to the chain                 |
//! | `challenges` | what proves control over a name, shown for as long as it is needed         |
//! | `store`      | the state folder: private, written whole or not at all                    |
//! | `http`       | requests to the CA, over `net::dial`                                      |
//! | `status`     | how things stand, for metrics                                             |
//!
//! `app` starts the keeper on the control plane and hands it each config; certificates go to
//! `net::tls::Certificates`, where the next handshake finds them. Invariant: whatever fails, the
//! certificate in use stays in use, and the CA is not asked again before its time.

mod challenges;
mod http;
mod keeper;
mod order;
mod plan;
mod schedule;
mod session;
mod status;
mod store;

use std::path::PathBuf;

pub use challenges::{Outlets, Tokens};
pub use keeper::Keeper;

/// Why a certificate was not obtained.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The CA refused, or could not be asked.
    #[error(transparent)]
    Protocol(#[from] instant_acme::Error),
    /// Control over a name was not proven.
    #[error("{domain}: {reason}")]
    Challenge {
        /// The name.
        domain: String,
        /// What the CA says.
        reason: String,
    },
    /// What the CA issued cannot be used.
    #[error("the CA issued what cannot be used: {0}")]
    Unusable(String),
    /// The order did not end in time.
    #[error("the order did not end in time")]
    Timeout,
    /// The state folder cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Headgate itself is at fault or lacks something.
    #[error("{0}")]
    Ours(String),
}

impl AcmeError {
    /// Whether the CA gave this answer (`urn:ietf:params:acme:error:`, RFC 8555 section 6.7).
    fn is(&self, kind: &str) -> bool {
        let Self::Protocol(instant_acme::Error::Api(problem)) = self else {
            return false;
        };
        let known = problem.r#type.as_deref().unwrap_or_default();
        known.strip_prefix("urn:ietf:params:acme:error:") == Some(kind)
    }
}
