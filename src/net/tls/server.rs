//! What one listener handshakes with.
//!
//! `server` asks `choose` for the settings once it has a client's hello: a listener has one
//! `ServerConfig` for each client-auth policy, since rustls resumes whatever a ticket of the same
//! settings says. `refresh` follows the files while the process runs; a reload makes a new `Server`.
//! Invariant: the state is replaced as a whole, and each part of it (a pair, a CA, the ticket keys)
//! stays as it was when its files are not usable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::time_provider::DefaultTimeProvider;

use crate::config::model::{self, NamedFile};

use super::certificates::{Challenges, Index, Resolver, canonical};
use super::client_auth::ClientAuth;
use super::tickets::Ticketer;
use super::watch::{Files, Stamps};
use super::{ACME_TLS_ALPN, Pair, PolicyId, Shared, Tickets, TlsError, unix};

/// Protocols that are offered to clients, best first (ALPN).
pub const HTTPS_PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// How long before its end a certificate is complained about.
const SHORT_LIVED: Duration = Duration::from_secs(14 * 86_400);

/// TLS of one listener.
#[derive(Debug)]
pub struct Server {
    model: model::Tls,
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

/// By the file as in the config: why its newest content is not in force.
type Failures = BTreeMap<Arc<str>, String>;

/// What handshakes use.
#[derive(Debug)]
struct State {
    parts: Parts,
    files: Arc<Index>,
    /// Position in `policies` of each pair of `files`.
    policy_of: Vec<usize>,
    /// Distinct ones.
    policies: Vec<Policy>,
    /// Position of the listener's own policy, which issued certificates have.
    own: usize,
    challenge: Arc<ServerConfig>,
}

/// What is built from files, each kept when its files turn bad.
#[derive(Debug)]
struct Parts {
    /// In the order of the config.
    pairs: Vec<Pair>,
    /// The same.
    auth: Vec<ClientAuth>,
    own_auth: ClientAuth,
    tickets: Arc<Tickets>,
}

#[derive(Debug)]
struct Policy {
    auth: ClientAuth,
    config: Arc<ServerConfig>,
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
    /// Which hosts may be asked for; none where all hosts of the listener have one policy.
    pub scope: Option<Scope>,
}

/// Which hosts a connection may ask for: those with the client-auth policy it was accepted under.
#[derive(Debug)]
pub struct Scope {
    state: Arc<State>,
    shared: Arc<Shared>,
    name: Option<Box<str>>,
    policy: PolicyId,
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
    /// Reads all files that a listener's `tls` names.
    ///
    /// # Errors
    /// When one cannot be read or used. Only an OCSP response is merely complained about.
    pub fn read(
        tls: &model::Tls,
        shared: &Arc<Shared>,
        now: SystemTime,
    ) -> Result<Arc<Self>, TlsError> {
        let mut provider = aws_lc_rs::default_provider();
        if !tls.cipher_suites.is_empty() {
            let wanted = |suite: &rustls::SupportedCipherSuite| {
                let name = suite.suite().as_str().unwrap_or_default();
                // rustls calls those of TLS 1.3 `TLS13_...`, everybody else `TLS_...`.
                let name = name.replacen("TLS13_", "TLS_", 1);
                tls.cipher_suites.iter().any(|it| it.as_str() == name)
            };
            provider.cipher_suites.retain(wanted);
        }
        let provider = Arc::new(provider);
        let stamps = Stamps::take(paths(tls));
        let files = Files::read(paths(tls));
        let mut failures = Failures::new();
        let build = Build {
            model: tls,
            shared,
            provider: &provider,
            files: &files,
            now: unix(now).as_secs(),
        };
        let state = build.state(None, &mut failures)?;
        complain(&failures, &Failures::new());
        Ok(Arc::new(Self {
            model: tls.clone(),
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
        let several = state
            .policies
            .iter()
            .any(|other| other.auth.id != policy.auth.id);
        Choice {
            config: Arc::clone(&policy.config),
            is_challenge: false,
            forward_chain: policy.auth.forward_chain,
            scope: several.then(|| Scope {
                state: Arc::clone(&state),
                shared: Arc::clone(&self.shared),
                name: name.map(String::into_boxed_str),
                policy: policy.auth.id,
            }),
        }
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
            shared: &self.shared,
            provider: &self.provider,
            files: &files,
            now: seconds,
        };
        let changed = match build.state(Some(&state.parts), &mut failures) {
            Ok(next) => {
                self.state.store(Arc::new(next));
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

impl State {
    /// The policy of a name, spelled as `canonical` has it.
    fn policy(&self, name: Option<&str>, shared: &Shared) -> &Policy {
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

impl Scope {
    /// Whether a request for this host, with or without a port, may come over the connection.
    #[must_use]
    pub fn admits(&self, host: &str) -> bool {
        let host = match host.strip_prefix('[') {
            Some(literal) => literal.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        if self
            .name
            .as_deref()
            .is_some_and(|name| name.eq_ignore_ascii_case(host))
        {
            return true;
        }
        let host = canonical(host);
        let name = (!host.is_empty()).then_some(&*host);
        self.state.policy(name, &self.shared).auth.id == self.policy
    }
}

/// Files by what a failure is reported under: a pair is its certificate.
fn named(tls: &model::Tls) -> impl Iterator<Item = &NamedFile> {
    let model::Tls {
        certificates,
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
fn paths(tls: &model::Tls) -> impl Iterator<Item = &Path> {
    let keys = tls.certificates.iter().map(|pair| &pair.key);
    named(tls).chain(keys).map(|file| &*file.path)
}

/// Builds a state.
struct Build<'a> {
    model: &'a model::Tls,
    shared: &'a Arc<Shared>,
    provider: &'a Arc<CryptoProvider>,
    files: &'a Files,
    /// Seconds since the Unix epoch.
    now: u64,
}

impl Build<'_> {
    /// Of what the files hold, or where they do not and there is a part of `before`, of that.
    fn state(&self, before: Option<&Parts>, failures: &mut Failures) -> Result<State, TlsError> {
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
        config.alpn_protocols = HTTPS_PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        // Stateless: every worker can resume what another began, with no shared lock.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Ticketer {
            tickets: Arc::clone(&parts.tickets),
            policy: auth.id,
            time: Arc::new(DefaultTimeProvider),
        });
        config.send_tls13_tickets = 1;
        policies.push(Policy {
            auth: auth.clone(),
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
