//! What a start would do with the files of a config, without starting.
//!
//! `headgate check` asks; `snapshot::compile` does the same in earnest. Names of endpoints are not
//! resolved: where a config is checked is often not where it runs. Invariant: nothing is written, opened
//! for good or connected to.

use anyhow::Error;

use crate::clock;
use crate::config::model::Config;
use crate::net::tls;
use crate::net::tls_client::ClientTlsStore;

/// What a start would say.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// Why it would fail.
    pub errors: Vec<String>,
    /// What it would complain about.
    pub warnings: Vec<String>,
}

/// Reads certificates, keys, authorities, OCSP responses and ticket keys as a start would.
#[must_use]
pub fn rehearse(config: &Config) -> Rehearsal {
    let mut found = Rehearsal::default();
    match tls::Shared::new() {
        Ok(shared) => found.listeners(config, &shared),
        Err(error) => found.errors.push(error.to_string()),
    }
    let store = ClientTlsStore::default();
    for upstream in &config.upstreams {
        let outbound = &upstream.outbound;
        if let Some(typed) = &outbound.tls
            && let Err(error) = store.settings(&upstream.name, typed, outbound.protocol)
        {
            let error = Error::new(error).context(format!("upstream {}", upstream.name));
            found.errors.push(format!("{error:#}"));
        }
    }
    found
}

impl Rehearsal {
    fn listeners(&mut self, config: &Config, shared: &std::sync::Arc<tls::Shared>) {
        let now = clock::wall();
        for listener in &config.listeners {
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
                Err(error) => {
                    let error = Error::new(error).context(format!("listener {address}"));
                    self.errors.push(format!("{error:#}"));
                }
            }
        }
    }
}
