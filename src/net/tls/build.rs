//! From the files of a listener to the settings of its handshakes.
//!
//! `server` calls it when a config is read and whenever files have changed. There is one
//! `ServerConfig` for each client-auth policy, since rustls resumes whatever a ticket of the same
//! settings says. Invariant: a part whose files are not usable stays as it was, if it ever was; the
//! others follow their files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::DefaultTimeProvider;

use crate::config::model::{self, NamedFile};

use super::certificates::{Challenges, Index, Resolver};
use super::client_auth::ClientAuth;
use super::tickets::Ticketer;
use super::watch::Files;
use super::{ACME_TLS_ALPN, Pair, Shared, Tickets, TlsError};

/// By the file as in the config: why its newest content is not in force.
pub(super) type Failures = BTreeMap<Arc<str>, String>;

/// What handshakes use.
#[derive(Debug)]
pub(super) struct State {
    pub(super) parts: Parts,
    pub(super) files: Arc<Index>,
    /// Position in `policies` of each pair of `files`.
    pub(super) policy_of: Vec<usize>,
    /// Distinct ones.
    pub(super) policies: Vec<Policy>,
    /// Position of the listener's own policy, which issued certificates have.
    pub(super) own: usize,
    pub(super) challenge: Arc<ServerConfig>,
}

/// What is built from files, each kept when its files turn bad.
#[derive(Debug)]
pub(super) struct Parts {
    /// In the order of the config.
    pub(super) pairs: Vec<Pair>,
    /// The same.
    pub(super) auth: Vec<ClientAuth>,
    pub(super) own_auth: ClientAuth,
    pub(super) tickets: Arc<Tickets>,
}

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) auth: ClientAuth,
    /// Takes the first cipher suite of ours that a client has.
    pub(super) config: Arc<ServerConfig>,
    /// Takes the first one of the client's that we have.
    pub(super) by_client: Arc<ServerConfig>,
}

impl State {
    /// The policy of a name, spelled as `canonical` has it.
    pub(super) fn policy(&self, name: Option<&str>, shared: &Shared) -> &Policy {
        let position = |group: &[usize]| self.policy_of.get(*group.first()?).copied();
        let named = name.and_then(|name| {
            let group = self.files.exact(name).or_else(|| self.files.wildcard(name));
            group
                .and_then(position)
                .or_else(|| shared.issued.has(name).then_some(self.own))
        });
        let chosen = named
            .or_else(|| position(self.files.first()))
            .unwrap_or(self.own);
        // Every position was made for this list.
        self.policies
            .get(chosen)
            .or_else(|| self.policies.first())
            .expect("the listener's own policy is always in the list")
    }
}

/// Files by what a failure is reported under: a pair is its certificate.
pub(super) fn named(tls: &model::Tls) -> impl Iterator<Item = &NamedFile> {
    let model::Tls {
        certificates,
        acme: _,
        min_version: _,
        cipher_suites: _,
        client_auth,
        ticket_keys,
    } = tls;
    let pairs = certificates.iter().flat_map(|pair| {
        let model::Certificate {
            cert,
            key: _,
            ocsp,
            client_auth,
        } = pair;
        std::iter::once(cert).chain(ocsp).chain(asked(client_auth))
    });
    pairs.chain(asked(client_auth)).chain(ticket_keys)
}

fn asked(auth: &model::ClientAuth) -> impl Iterator<Item = &NamedFile> {
    let files = match auth {
        model::ClientAuth::Off => None,
        model::ClientAuth::Ask(ask) => Some(std::iter::once(&ask.ca).chain(&ask.crl)),
    };
    files.into_iter().flatten()
}

/// Every file that is read.
pub(super) fn paths(tls: &model::Tls) -> impl Iterator<Item = &Path> {
    let keys = tls.certificates.iter().map(|pair| &pair.key);
    named(tls).chain(keys).map(|file| &*file.path)
}

/// Builds a state.
pub(super) struct Build<'a> {
    pub(super) model: &'a model::Tls,
    pub(super) spoken: model::Protocols,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) provider: &'a Arc<CryptoProvider>,
    pub(super) files: &'a Files,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
}

impl Build<'_> {
    /// Of what the files hold, or where they do not and there is a part of `before`, of that.
    pub(super) fn state(
        &self,
        before: Option<&Parts>,
        failures: &mut Failures,
    ) -> Result<State, TlsError> {
        let parts = self.parts(before, failures)?;
        let files = Arc::new(Index::new(parts.pairs.clone()));
        let mut policies = Vec::new();
        let own = self.policy(&parts.own_auth, &parts, &files, &mut policies)?;
        let policy_of = parts
            .auth
            .iter()
            .map(|auth| self.policy(auth, &parts, &files, &mut policies))
            .collect::<Result<Vec<_>, _>>()?;
        for (name, group) in files.groups() {
            let Some((first, rest)) = group.split_first() else {
                continue;
            };
            let differs = |at: &&usize| policy_of.get(**at) != policy_of.get(*first);
            if let Some(other) = rest.iter().find(differs) {
                let label = |at: &usize| match parts.pairs.get(*at) {
                    Some(pair) => Arc::clone(pair.name()),
                    None => Arc::from(""),
                };
                return Err(TlsError::Policies {
                    name: Box::from(name),
                    first: label(first),
                    second: label(other),
                });
            }
        }
        Ok(State {
            challenge: self.challenge()?,
            parts,
            files,
            policy_of,
            policies,
            own,
        })
    }

    fn parts(&self, before: Option<&Parts>, failures: &mut Failures) -> Result<Parts, TlsError> {
        let model::Tls {
            certificates,
            acme: _,
            min_version: _,
            cipher_suites: _,
            client_auth,
            ticket_keys,
        } = self.model;
        let (mut pairs, mut auth) = (Vec::new(), Vec::new());
        for (at, certificate) in certificates.iter().enumerate() {
            let old = before.and_then(|parts| parts.pairs.get(at));
            let pair = keep(self.pair(certificate), old, &certificate.cert, failures)?;
            pairs.push(self.staple(pair, certificate.ocsp.as_ref(), failures));
            let old = before.and_then(|parts| parts.auth.get(at));
            auth.push(self.auth(&certificate.client_auth, old, failures)?);
        }
        let old = before.map(|parts| &parts.own_auth);
        let own_auth = self.auth(client_auth, old, failures)?;
        let tickets = match ticket_keys.first() {
            None => Arc::clone(&self.shared.tickets),
            Some(first) => {
                let files = ticket_keys.iter();
                let files = files.map(|file| (&*file.path, self.files.get(&file.path)));
                let read = Tickets::from_files(files).map(Arc::new);
                keep(read, before.map(|parts| &parts.tickets), first, failures)?
            }
        };
        Ok(Parts {
            pairs,
            auth,
            own_auth,
            tickets,
        })
    }

    fn auth(
        &self,
        config: &model::ClientAuth,
        before: Option<&ClientAuth>,
        failures: &mut Failures,
    ) -> Result<ClientAuth, TlsError> {
        let read = ClientAuth::read(config, self.files, self.provider);
        match config {
            model::ClientAuth::Off => read,
            model::ClientAuth::Ask(ask) => keep(read, before, &ask.ca, failures),
        }
    }

    fn pair(&self, certificate: &model::Certificate) -> Result<Pair, TlsError> {
        let get = |what, file: &NamedFile| {
            self.files.get(&file.path).map_err(|reason| TlsError::File {
                what,
                path: file.path.clone(),
                reason,
            })
        };
        let model::Certificate { cert, key, .. } = certificate;
        Pair::parse(
            Arc::clone(&cert.typed),
            (&cert.path, get("certificates", cert)?),
            (&key.path, get("a private key", key)?),
        )
    }

    /// The pair with the staple that the file holds now, or without one.
    fn staple(&self, pair: Pair, file: Option<&NamedFile>, failures: &mut Failures) -> Pair {
        let pair = pair.without_staple();
        let Some(file) = file else {
            return pair;
        };
        let stapled = match self.files.get(&file.path) {
            Ok(response) => pair.with_staple(response, self.now),
            Err(reason) => Err((pair, reason)),
        };
        stapled.unwrap_or_else(|(pair, reason)| {
            let words = format!("the OCSP response is not sent: {reason}");
            failures.insert(Arc::clone(&file.typed), words);
            pair
        })
    }

    /// The position of a policy in the list, where it is put if it is new.
    fn policy(
        &self,
        auth: &ClientAuth,
        parts: &Parts,
        files: &Arc<Index>,
        policies: &mut Vec<Policy>,
    ) -> Result<usize, TlsError> {
        let same = |known: &Policy| {
            known.auth.id == auth.id && known.auth.forward_chain == auth.forward_chain
        };
        if let Some(at) = policies.iter().position(same) {
            return Ok(at);
        }
        let builder = self.builder()?;
        let builder = match &auth.verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver {
            files: Arc::clone(files),
            issued: Arc::clone(&self.shared.issued),
        }));
        if self.spoken.h2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        if self.spoken.http1 {
            config.alpn_protocols.push(b"http/1.1".to_vec());
        }
        // Stateless: every worker can resume what another began, with no shared lock.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Ticketer {
            tickets: Arc::clone(&parts.tickets),
            policy: auth.id,
            time: Arc::new(DefaultTimeProvider),
        });
        config.send_tls13_tickets = 1;
        let by_client = Arc::new(config.clone());
        config.ignore_client_order = true;
        policies.push(Policy {
            auth: auth.clone(),
            by_client,
            config: Arc::new(config),
        });
        Ok(policies.len() - 1)
    }

    fn challenge(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let resolver = Challenges(Arc::clone(&self.shared.issued));
        let builder = self.builder()?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ACME_TLS_ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn builder(
        &self,
    ) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
        let versions: &[&rustls::SupportedProtocolVersion] = match self.model.min_version {
            model::TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            model::TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(self.provider));
        Ok(builder.with_protocol_versions(versions)?)
    }
}

/// What was read, or what there was before and a note of the failure.
fn keep<T: Clone>(
    read: Result<T, TlsError>,
    before: Option<&T>,
    file: &NamedFile,
    failures: &mut Failures,
) -> Result<T, TlsError> {
    match (read, before) {
        (Err(error), Some(before)) => {
            failures.insert(Arc::clone(&file.typed), error.to_string());
            Ok(before.clone())
        }
        (read, _) => read,
    }
}
