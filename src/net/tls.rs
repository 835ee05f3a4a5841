//! TLS termination: certificates read from files and chosen by SNI.
//!
//! `snapshot::compile` builds one `ServerConfig` per TLS listener; `server` performs handshakes with
//! it. Invariant: a certificate and a key that do not belong together are refused when the config
//! is read, not at the first handshake.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::model;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read or holds nothing of use.
    #[error("cannot read {what} from {}: {reason}", path.display())]
    File {
        /// "certificates" or "a private key".
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
    /// The library refuses the whole.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// Builds what a TLS listener needs, from the files named in the config.
///
/// # Errors
/// When a file cannot be read, or a certificate and its key do not match.
pub fn server_config(
    tls: &model::Tls,
    spoken: model::Protocols,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let resolver = Resolver::new(&tls.certificates)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    if spoken.h2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    if spoken.http1 {
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    // Stateless tickets: every worker can resume what another began, with no shared lock.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Chooses a certificate by server name: exact, then wildcard, then the first of the config.
#[derive(Debug)]
struct Resolver {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By the part after `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Resolver {
    fn new(certificates: &[model::Certificate]) -> Result<Self, TlsError> {
        let mut resolver = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            first: None,
        };
        for pair in certificates {
            let key = Arc::new(read_pair(&pair.cert, &pair.key)?);
            for name in names(&key) {
                match name.strip_prefix("*.") {
                    Some(suffix) => resolver
                        .wildcard
                        .entry(suffix.into())
                        .or_insert_with(|| Arc::clone(&key)),
                    None => resolver
                        .exact
                        .entry(name.into_boxed_str())
                        .or_insert_with(|| Arc::clone(&key)),
                };
            }
            resolver.first.get_or_insert(key);
        }
        Ok(resolver)
    }

    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let named = name.as_deref().and_then(|name| {
            self.exact
                .get(name)
                .or_else(|| self.wildcard.get(name.split_once('.')?.1))
        });
        named.or(self.first.as_ref())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).cloned()
    }
}

fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |what, path: &Path, reason: String| TlsError::File {
        what,
        path: path.to_owned(),
        reason,
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file("certificates", cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(file("certificates", cert, "it holds none".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| file("a private key", key, error.to_string()))?;
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|error| {
        TlsError::Pair {
            cert: cert.to_owned(),
            key: key.to_owned(),
            reason: error.to_string(),
        }
    })
}

/// The DNS names of a certificate, lower case.
fn names(key: &CertifiedKey) -> Vec<String> {
    let Ok(der) = key.end_entity_cert() else {
        return Vec::new();
    };
    let Ok(cert) = webpki::EndEntityCert::try_from(der) else {
        return Vec::new();
    };
    cert.valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect()
}
