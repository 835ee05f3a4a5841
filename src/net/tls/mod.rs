//! TLS towards clients: certificates, tickets, client certificates, and the settings of a handshake.
//!
//! | part           | is                                                                        |
//! |----------------|---------------------------------------------------------------------------|
//! | `Server`       | what one listener handshakes with; follows its files (`server`, `build`, `watch`) |
//! | `Shared`       | what all listeners of the process share and a reload keeps                |
//! | `Certificates` | pairs that come at run time and challenges of ACME (`certificates`)       |
//! | `Pair`         | a chain with its key (`pair`), with an OCSP staple (`ocsp`)               |
//! | `Tickets`      | keys of session tickets (`tickets`)                                       |
//! | `ClientAuth`   | who must show a certificate, and its identity as a policy (`client_auth`) |
//! | `Scope`        | which hosts a connection may ask for, whatever is reloaded (`scope`)      |
//!
//! `snapshot::compile` makes a `Server` per TLS listener, `server` performs handshakes with it, `app`
//! has its files watched. Invariant: a certificate and a key that do not belong together never meet a
//! client: a config that names them is refused, and a change of files that brings them changes nothing.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod build;
mod certificates;
mod client_auth;
mod der;
mod ocsp;
mod pair;
mod scope;
mod server;
mod tickets;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;

pub use certificates::Certificates;
pub use client_auth::{ClientCert, PolicyId, client_cert, has_ended};
pub use pair::Pair;
pub use scope::Scope;
pub use server::{CertificateState, Choice, FileState, Server};
pub use tickets::Tickets;

/// The protocol of a tls-alpn-01 handshake (RFC 8737 section 4).
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// What all TLS listeners of a process share. Outlives reloads.
#[derive(Debug)]
pub struct Shared {
    /// Certificates that are not the config's, for listeners with `acme: true`.
    pub issued: Arc<Certificates>,
    /// Ticket keys of listeners that have no key file.
    pub tickets: Arc<Tickets>,
    /// How often something that handshakes are judged by was replaced.
    changes: Arc<AtomicU64>,
}

impl Shared {
    /// Nothing issued, and random ticket keys.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            issued: Arc::default(),
            tickets: Arc::new(Tickets::random(tokio::time::Instant::now())?),
            changes: Arc::default(),
        }))
    }

    /// A listener has another `Server` now, or none: connections that are open are to be judged by it.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Release);
    }

    fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// For a listener that serves the config's files alone.
    fn without_issued(&self) -> Arc<Self> {
        Arc::new(Self {
            issued: Arc::default(),
            tickets: Arc::clone(&self.tickets),
            changes: Arc::clone(&self.changes),
        })
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds nothing of use.
    #[error("cannot read {what} from {}: {reason}", path.display())]
    File {
        /// "certificates", "a private key" and so on.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The pair does not work together.
    #[error("certificate {} and key {} cannot be used together: {reason}", cert.display(), key.display())]
    Pair {
        /// Certificate file.
        cert: PathBuf,
        /// Key file.
        key: PathBuf,
        /// What the TLS library says.
        reason: String,
    },
    /// Two certificates for one name ask their clients for different certificates.
    #[error("{first} and {second} are both for {name}, but their client_auth differs")]
    Policies {
        /// The name.
        name: Box<str>,
        /// One certificate, as in the config.
        first: Arc<str>,
        /// The other.
        second: Arc<str>,
    },
    /// The library refuses the whole.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
    /// The cryptography library failed; there is no more to be known.
    #[error("the cryptography library failed")]
    Crypto,
}

impl TlsError {
    /// The file that is to blame, if it is one: of a pair, the key.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } | Self::Pair { key: path, .. } => Some(path),
            Self::Policies { .. } | Self::Setup(_) | Self::Crypto => None,
        }
    }
}

/// Wall time as the TLS library wants it; the epoch for a clock set before it.
fn unix(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn system(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
