//! What a start would do with the files of a config, without starting.
//!
//! `headgate check` asks; `snapshot::compile` does the same in earnest. Names of endpoints are not
//! resolved: where a config is checked is often not where it runs. Invariant: nothing is written, opened
//! for good or connected to.

use std::sync::Arc;

use crate::clock;
use crate::config::Loaded;
use crate::config::errors::LoadError;
use crate::net::tls;
use crate::net::tls_client::ClientTlsStore;
use crate::reload::{self, ReloadError};
use crate::snapshot::CompileError;

/// What a start would say.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// Why it would fail: each with its place in the config, if it has one.
    pub errors: Vec<String>,
    /// What it would complain about.
    pub warnings: Vec<String>,
}

/// Reads certificates, keys, authorities, OCSP responses and ticket keys as a start would.
#[must_use]
pub fn rehearse(loaded: &Loaded) -> Rehearsal {
    let mut found = Rehearsal::default();
    match tls::Shared::new() {
        Ok(shared) => found.listeners(loaded, &shared),
        Err(error) => found.errors.push(format!("error: {error}")),
    }
    let store = ClientTlsStore::default();
    for upstream in &loaded.config.upstreams {
        let outbound = &upstream.outbound;
        if let Some(typed) = &outbound.tls
            && let Err(source) = store.settings(&upstream.name, typed, outbound.protocol)
        {
            let upstream = Arc::clone(&upstream.name);
            let error = CompileError::UpstreamTls { upstream, source };
            found.errors.push(shown(error, loaded));
        }
    }
    found
}

impl Rehearsal {
    fn listeners(&mut self, loaded: &Loaded, shared: &Arc<tls::Shared>) {
        let now = clock::wall();
        for listener in &loaded.config.listeners {
            let Some(typed) = &listener.tls else { continue };
            let address = &listener.address;
            match tls::Server::read(typed, listener.protocols, shared, now) {
                Ok(server) => {
                    let unused = server.complaints().into_iter();
                    self.warnings.extend(unused.map(|(file, reason)| {
                        format!("listener {address}: {file} would not be used: {reason}")
                    }));
                    let ended = server.certificates().into_iter();
                    self.warnings.extend(
                        ended
                            .filter(|certificate| certificate.not_after <= now)
                            .map(|certificate| {
                                format!("listener {address}: {} has expired", certificate.name)
                            }),
                    );
                }
                Err(source) => {
                    let address = address.clone();
                    let error = CompileError::Tls { address, source };
                    self.errors.push(shown(error, loaded));
                }
            }
        }
    }
}

fn shown(error: CompileError, loaded: &Loaded) -> String {
    match reload::placed(error, loaded) {
        ReloadError::Load(LoadError::Invalid(found)) => found.to_string(),
        other => format!("error: {}", reload::explain(&other)),
    }
}
