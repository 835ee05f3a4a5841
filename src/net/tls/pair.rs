//! A certificate chain and the key that belongs to it.
//!
//! `server` makes them from the files of the config, `acme` from what it was issued. Invariant: chain
//! and key of a `Pair` belong together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::net::roots;

use super::der::Leaf;
use super::{TlsError, ocsp, system};

/// A certificate chain and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    name: Arc<str>,
    key: Arc<CertifiedKey>,
    names: Arc<[Box<str>]>,
    /// Seconds since the Unix epoch.
    not_after: u64,
    /// When its staple must be looked at again, in the same unit.
    staple_until: Option<u64>,
}

impl Pair {
    /// From PEM: a chain with the leaf first, and its private key. `name` identifies it in metrics and
    /// among the others in a `Certificates`.
    ///
    /// # Errors
    /// When either holds nothing of use, or they do not belong together. `name` stands for the files.
    pub fn from_pem(name: &str, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let path = Path::new(name);
        Self::parse(Arc::from(name), (path, chain), (path, key))
    }

    /// From two PEM files and what they hold.
    pub(super) fn parse(
        name: Arc<str>,
        (cert_path, cert): (&Path, &[u8]),
        (key_path, key): (&Path, &[u8]),
    ) -> Result<Self, TlsError> {
        let file = |what, path: &Path, reason: String| TlsError::File {
            what,
            path: path.to_owned(),
            reason,
        };
        let unusable = |reason| file("certificates", cert_path, reason);
        let chain = roots::certificates(cert).map_err(unusable)?;
        let Some(leaf) = chain.first() else {
            return Err(unusable("it holds no certificate".to_owned()));
        };
        let private =
            roots::private_key(key).map_err(|reason| file("a private key", key_path, reason))?;
        let names = names(leaf).ok_or_else(|| {
            let is_old = roots::is_version_one(leaf);
            let reason = if is_old {
                roots::VERSION_ONE
            } else {
                "the first is not X.509"
            };
            unusable(reason.to_owned())
        })?;
        let not_after = Leaf::read(leaf).map_or(0, |leaf| leaf.not_after);
        let key = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(
            |error| TlsError::Pair {
                cert: PathBuf::from(cert_path),
                key: PathBuf::from(key_path),
                reason: error.to_string(),
            },
        )?;
        Ok(Self {
            name,
            key: Arc::new(key),
            names,
            not_after,
            staple_until: None,
        })
    }

    /// The same with an OCSP response to send along, if that fits and holds at `now` (seconds since
    /// the Unix epoch).
    ///
    /// # Errors
    /// With the reason why it is not sent.
    pub(super) fn with_staple(self, response: &[u8], now: u64) -> Result<Self, (Self, String)> {
        let leaf = self.key.cert.first().and_then(|der| Leaf::read(der));
        let Some(leaf) = leaf else {
            return Err((self, "the certificate cannot be read".to_owned()));
        };
        match ocsp::check(response, leaf.serial, now) {
            Ok(until) => {
                let mut key = CertifiedKey::clone(&self.key);
                key.ocsp = Some(response.to_vec());
                Ok(Self {
                    key: Arc::new(key),
                    staple_until: until,
                    ..self
                })
            }
            Err(reason) => Err((self, reason.to_string())),
        }
    }

    /// The same without one.
    pub(super) fn without_staple(self) -> Self {
        if self.key.ocsp.is_none() {
            return self;
        }
        let mut key = CertifiedKey::clone(&self.key);
        key.ocsp = None;
        Self {
            key: Arc::new(key),
            staple_until: None,
            ..self
        }
    }

    /// What it is called in metrics: the certificate file as in the config.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The DNS names of the leaf, lower case, wildcards with their `*.`.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// When the leaf ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        system(self.not_after)
    }

    /// From when on the leaf is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        let leaf = self.key.cert.first().and_then(|der| Leaf::read(der));
        system(leaf.map_or(0, |leaf| leaf.not_before))
    }

    /// The bytes of the leaf's authority key identifier and of its serial number, which name it to its
    /// CA (RFC 9773 section 4.1); none if the CA left the first one out.
    #[must_use]
    pub fn authority_and_serial(&self) -> Option<(&[u8], &[u8])> {
        let leaf = Leaf::read(self.key.cert.first()?)?;
        Some((leaf.authority?, leaf.serial))
    }

    /// Seconds since the Unix epoch.
    pub(super) fn not_after_seconds(&self) -> u64 {
        self.not_after
    }

    /// When the staple must be looked at again.
    pub(super) fn staple_until(&self) -> Option<u64> {
        self.staple_until
    }

    /// What the TLS library signs with.
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Order of preference among the pairs of one name: what signs faster comes first.
    pub(super) fn rank(&self) -> u8 {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 | SignatureAlgorithm::ED448 => 1,
            _ => 2,
        }
    }
}

/// The DNS names of a certificate, lower case.
fn names(leaf: &CertificateDer<'_>) -> Option<Arc<[Box<str>]>> {
    let cert = webpki::EndEntityCert::try_from(leaf).ok()?;
    Some(
        cert.valid_dns_names()
            .map(|name| name.to_ascii_lowercase().into_boxed_str())
            .collect(),
    )
}
