//! Client certificates: who must show one, whom it must come from, and how an endpoint learns of it.
//!
//! `server` builds one `ClientAuth` per certificate of the config; its `PolicyId` scopes session
//! tickets and tells names apart that a request must not cross (`Scope`). Invariant: two policies have
//! the same id only if they accept exactly the same clients.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::config::model;
use crate::net::roots;

use super::der::Leaf;
use super::watch::Files;
use super::{TlsError, unix};

/// Which clients a policy accepts, as a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId([u8; 32]);

impl PolicyId {
    /// Of these parts; their lengths count too.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in parts {
            hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        Self(id)
    }

    pub(super) fn as_bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// What is asked of clients.
#[derive(Debug, Clone)]
pub(super) struct ClientAuth {
    pub(super) id: PolicyId,
    /// None where no certificate is asked for.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) forward_chain: bool,
}

impl ClientAuth {
    pub(super) fn read(
        config: &model::ClientAuth,
        files: &Files,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let ask = match config {
            model::ClientAuth::Off => {
                return Ok(Self {
                    id: PolicyId::of(&[b"off"]),
                    verifier: None,
                    forward_chain: false,
                });
            }
            model::ClientAuth::Ask(ask) => ask,
        };
        let authorities = authorities(&ask.ca.path, files)?;
        let lists = match &ask.crl {
            Some(crl) => revocation_lists(&crl.path, files)?,
            None => Vec::new(),
        };
        let mode: &[u8] = if ask.required {
            b"require"
        } else {
            b"optional"
        };
        let mut parts = vec![mode];
        parts.extend(authorities.iter().map(|der| &**der));
        parts.push(b"crl");
        parts.extend(lists.iter().map(|der| &**der));
        let id = PolicyId::of(&parts);

        let trusted = roots::exactly(authorities)
            .map_err(|reason| unusable("CA certificates", &ask.ca.path, &reason))?;
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(provider))
                .with_crls(lists)
                .only_check_end_entity_revocation();
        if !ask.required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build();
        let verifier =
            verifier.map_err(|error| unusable("CA certificates", &ask.ca.path, &error))?;
        Ok(Self {
            id,
            verifier: Some(verifier),
            forward_chain: ask.forward_chain,
        })
    }
}

fn unusable(what: &'static str, path: &Path, reason: &dyn ToString) -> TlsError {
    TlsError::File {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Sorted, so that their order in the file does not matter.
fn authorities(path: &Path, files: &Files) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WHAT: &str = "CA certificates";
    let bytes = files
        .get(path)
        .map_err(|reason| unusable(WHAT, path, &reason))?;
    let mut all = roots::certificates(bytes).map_err(|reason| unusable(WHAT, path, &reason))?;
    all.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    Ok(all)
}

fn revocation_lists(
    path: &Path,
    files: &Files,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    const WHAT: &str = "revocation lists";
    let bytes = files
        .get(path)
        .map_err(|reason| unusable(WHAT, path, &reason))?;
    let all = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(WHAT, path, &error))?;
    if all.is_empty() {
        return Err(unusable(WHAT, path, &"it holds none"));
    }
    Ok(all)
}

/// A client's certificate as an endpoint gets it (RFC 9440).
#[derive(Debug, Clone)]
pub struct ClientCert {
    /// `Client-Cert`.
    pub leaf: HeaderValue,
    /// `Client-Cert-Chain`: what else the client sent.
    pub chain: Option<HeaderValue>,
}

/// The fields for a chain that was verified, leaf first; none for an empty one.
#[must_use]
pub fn client_cert(chain: &[CertificateDer<'_>], with_chain: bool) -> Option<ClientCert> {
    let (leaf, rest) = chain.split_first()?;
    let bytes = |der: &CertificateDer<'_>| format!(":{}:", STANDARD.encode(der));
    let leaf = HeaderValue::try_from(bytes(leaf)).ok()?;
    let chain = if with_chain && !rest.is_empty() {
        let members: Vec<String> = rest.iter().map(bytes).collect();
        HeaderValue::try_from(members.join(", ")).ok()
    } else {
        None
    };
    Some(ClientCert { leaf, chain })
}

/// Whether the leaf of a chain has ended at `now`, or cannot be read.
#[must_use]
pub fn has_ended(chain: &[CertificateDer<'_>], now: SystemTime) -> bool {
    let leaf = chain.first().and_then(|der| Leaf::read(der));
    leaf.is_none_or(|leaf| leaf.not_after < unix(now).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_becomes_byte_sequences() {
        let chain = [
            CertificateDer::from(vec![0, 1, 2]),
            CertificateDer::from(vec![0xff; 4]),
            CertificateDer::from(vec![3]),
        ];
        let told = client_cert(&chain, true).unwrap();
        assert_eq!(told.leaf, ":AAEC:");
        assert_eq!(told.chain.unwrap(), "://///w==:, :Aw==:");
        assert!(client_cert(&chain, false).unwrap().chain.is_none());
        assert!(client_cert(&chain[..1], true).unwrap().chain.is_none());
        assert!(client_cert(&[], true).is_none());
    }

    #[test]
    fn a_leaf_ends_after_its_last_second() {
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 7, 9);
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = [params.self_signed(&key).unwrap().der().clone()];
        let last = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_941_321_600);
        assert!(!has_ended(&chain, last));
        assert!(has_ended(&chain, last + std::time::Duration::from_secs(1)));
        assert!(has_ended(&[], last) && has_ended(&[vec![0].into()], last));
    }

    #[test]
    fn ids_tell_parts_apart_from_their_sum() {
        assert_eq!(PolicyId::of(&[b"a", b"b"]), PolicyId::of(&[b"a", b"b"]));
        assert_ne!(PolicyId::of(&[b"ab"]), PolicyId::of(&[b"a", b"b"]));
        assert_ne!(PolicyId::of(&[b"a", b""]), PolicyId::of(&[b"a"]));
    }
}
