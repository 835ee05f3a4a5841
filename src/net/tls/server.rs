//! What one listener handshakes with.
//!
//! The room `server` asks `choose` for the settings once it has a client's hello, `app` calls
//! `refresh` to follow the files while the process runs; a reload makes a new `Server`. Invariant:
//! the state is replaced as a whole, so that a handshake sees all of a change or none of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ClientHello;
use rustls::{CipherSuite, ServerConfig};

use crate::config::model;

#[cfg(test)]
use super::Pair;
use super::build::{Build, Failures, State, named, paths};
use super::certificates::canonical;
use super::watch::{Files, Stamps};
use super::{Scope, Shared, TlsError, unix};

/// How long before its end a certificate is complained about.
const SHORT_LIVED: Duration = Duration::from_secs(14 * 86_400);

/// TLS of one listener.
#[derive(Debug)]
pub struct Server {
    model: model::Tls,
    spoken: model::Protocols,
    shared: Arc<Shared>,
    provider: Arc<CryptoProvider>,
    state: ArcSwap<State>,
    /// Taken by `refresh` alone, however long that takes.
    watched: Mutex<Watched>,
    failures: ArcSwap<Failures>,
}

/// What the files said when they were last read.
#[derive(Debug)]
struct Watched {
    stamps: Stamps,
    settled: bool,
    digest: [u8; 32],
}

/// The settings for one handshake.
#[derive(Debug)]
pub struct Choice {
    /// To go on with.
    pub config: Arc<ServerConfig>,
    /// It is a handshake of tls-alpn-01: the connection ends after it.
    pub is_challenge: bool,
    /// Whether endpoints are told of a client's certificate, and of its chain.
    pub forward_chain: bool,
    /// Which hosts may be asked for; none where there will be no request.
    pub scope: Option<Scope>,
}

/// A certificate of the config, as it is in force.
#[derive(Debug, Clone)]
pub struct CertificateState {
    /// The file as in the config.
    pub name: Arc<str>,
    /// When it ends.
    pub not_after: SystemTime,
}

/// A file of the config.
#[derive(Debug, Clone)]
pub struct FileState {
    /// As in the config.
    pub name: Arc<str>,
    /// Its newest content cannot be used; the one before is in force.
    pub failed: bool,
}

impl Server {
    /// Reads all files that a listener's `tls` names; `spoken` is what clients are offered by ALPN.
    ///
    /// # Errors
    /// When one cannot be read or used. Only an OCSP response is merely complained about.
    pub fn read(
        tls: &model::Tls,
        spoken: model::Protocols,
        shared: &Arc<Shared>,
        now: SystemTime,
    ) -> Result<Arc<Self>, TlsError> {
        let mut provider = aws_lc_rs::default_provider();
        let wanted = match &*tls.cipher_suites {
            [] => model::CipherSuite::ALL,
            listed => listed,
        };
        let known = std::mem::take(&mut provider.cipher_suites);
        let find = |wanted: &model::CipherSuite| {
            let is_it = |suite: &&rustls::SupportedCipherSuite| {
                let name = suite.suite().as_str().unwrap_or_default();
                // rustls calls those of TLS 1.3 `TLS13_...`, everybody else `TLS_...`.
                name.replacen("TLS13_", "TLS_", 1) == wanted.as_str()
            };
            known.iter().find(is_it).copied()
        };
        provider.cipher_suites = wanted.iter().filter_map(find).collect();
        let provider = Arc::new(provider);
        let shared = &if tls.acme {
            Arc::clone(shared)
        } else {
            shared.without_issued()
        };
        let stamps = Stamps::take(paths(tls));
        let files = Files::read(paths(tls));
        let mut failures = Failures::new();
        let build = Build {
            model: tls,
            spoken,
            shared,
            provider: &provider,
            files: &files,
            now: unix(now).as_secs(),
        };
        let state = build.state(None, &mut failures)?;
        complain(&failures, &Failures::new());
        Ok(Arc::new(Self {
            model: tls.clone(),
            spoken,
            shared: Arc::clone(shared),
            state: ArcSwap::from_pointee(state),
            watched: Mutex::new(Watched {
                settled: stamps.are_settled(now),
                stamps,
                digest: files.digest(),
            }),
            failures: ArcSwap::from_pointee(failures),
            provider,
        }))
    }

    /// The settings for a client.
    #[must_use]
    pub fn choose(&self, hello: &ClientHello<'_>) -> Choice {
        let state = self.state.load();
        if self.shared.issued.answers(hello) {
            return Choice {
                config: Arc::clone(&state.challenge),
                is_challenge: true,
                forward_chain: false,
                scope: None,
            };
        }
        let name = hello.server_name().map(canonical);
        let policy = state.policy(name.as_deref(), &self.shared);
        Choice {
            config: Arc::clone(if self.prefers_chacha20(hello) {
                &policy.by_client
            } else {
                &policy.config
            }),
            is_challenge: false,
            forward_chain: policy.auth.forward_chain,
            scope: Some(Scope::new(&state, &self.shared, name, policy.auth.id)),
        }
    }

    /// Whether a client names ChaCha20 first of what is spoken here: its processor has no AES.
    fn prefers_chacha20(&self, hello: &ClientHello<'_>) -> bool {
        let spoken = &self.provider.cipher_suites;
        let mut offered = hello.cipher_suites().iter();
        let first = offered.find(|it| spoken.iter().any(|suite| suite.suite() == **it));
        first.is_some_and(|first| {
            matches!(
                *first,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
            )
        })
    }

    /// What handshakes use at this moment.
    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Looks whether files have changed and puts what is usable of them into force; says whether
    /// anything was. May take as long as a file system takes.
    pub fn refresh(&self, now: SystemTime) -> bool {
        let mut watched = self.watched.lock();
        let seconds = unix(now).as_secs();
        let state = self.state.load();
        let staple_ends = state
            .parts
            .pairs
            .iter()
            .any(|pair| pair.staple_until().is_some_and(|until| until <= seconds));
        let stamps = Stamps::take(paths(&self.model));
        if stamps == watched.stamps && watched.settled && !staple_ends {
            return false;
        }
        let files = Files::read(paths(&self.model));
        watched.settled = stamps.are_settled(now);
        watched.stamps = stamps;
        let digest = files.digest();
        if digest == watched.digest && !staple_ends {
            return false;
        }
        watched.digest = digest;
        let mut failures = Failures::new();
        let build = Build {
            model: &self.model,
            spoken: self.spoken,
            shared: &self.shared,
            provider: &self.provider,
            files: &files,
            now: seconds,
        };
        let changed = match build.state(Some(&state.parts), &mut failures) {
            Ok(next) => {
                self.state.store(Arc::new(next));
                self.shared.changed();
                tracing::info!(
                    files = self.model.certificates.len(),
                    "TLS files read again"
                );
                true
            }
            Err(error) => {
                let all = named(&self.model).map(|file| Arc::clone(&file.typed));
                failures.extend(all.map(|file| (file, error.to_string())));
                false
            }
        };
        complain(&failures, &self.failures.load());
        self.failures.store(Arc::new(failures));
        if changed {
            self.warn_of_expiry(now);
        }
        changed
    }

    /// Logs certificates that end soon or have ended.
    pub fn warn_of_expiry(&self, now: SystemTime) {
        let now = unix(now).as_secs();
        for pair in &self.state.load().parts.pairs {
            let (ends, certificate) = (pair.not_after_seconds(), pair.name());
            if ends <= now {
                tracing::error!(%certificate, "the certificate has expired");
            } else if ends - now < SHORT_LIVED.as_secs() {
                let days = (ends - now) / 86_400;
                tracing::warn!(%certificate, days, "the certificate expires soon");
            }
        }
    }

    /// The config's files whose content is not used, with the reason.
    #[must_use]
    pub fn complaints(&self) -> Vec<(Arc<str>, String)> {
        let failures = self.failures.load();
        let pairs = failures.iter();
        pairs
            .map(|(file, reason)| (Arc::clone(file), reason.clone()))
            .collect()
    }

    /// The config's certificates as they are in force.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateState> {
        let state = self.state.load();
        let pairs = state.parts.pairs.iter();
        pairs
            .map(|pair| CertificateState {
                name: Arc::clone(pair.name()),
                not_after: pair.not_after(),
            })
            .collect()
    }

    /// The config's files; a pair is its certificate's file.
    #[must_use]
    pub fn files(&self) -> Vec<FileState> {
        let failures = self.failures.load();
        let mut files: Vec<Arc<str>> = named(&self.model)
            .map(|file| Arc::clone(&file.typed))
            .collect();
        files.sort_unstable();
        files.dedup();
        files
            .into_iter()
            .map(|name| FileState {
                failed: failures.contains_key(&name),
                name,
            })
            .collect()
    }
}

#[cfg(test)]
impl Server {
    pub(super) fn pairs_for_tests(&self) -> Vec<Pair> {
        self.state.load().parts.pairs.clone()
    }

    pub(super) fn suites_for_tests(&self) -> &[rustls::SupportedCipherSuite] {
        &self.provider.cipher_suites
    }
}

/// Logs what went wrong, unless that is known already.
fn complain(failures: &Failures, known: &Failures) {
    for (file, reason) in failures {
        if known.get(file) != Some(reason) {
            tracing::error!(%file, "a TLS file is not put into force: {reason}");
        }
    }
}
