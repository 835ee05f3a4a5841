//! What proves control over a name, shown for as long as the CA may look.
//!
//! For http-01 a token with its content, which `proxy` answers on plaintext listeners; for
//! tls-alpn-01 a certificate, which `net::tls` shows to handshakes of `acme-tls/1`. Invariant: what is
//! shown goes when its `Shown` drops, however the order ends.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::net::tls::Certificates;

use super::AcmeError;

/// Answers of http-01 by token; nothing when none is expected.
pub type Tokens = ArcSwapOption<HashMap<Box<str>, Bytes>>;

/// A CA's token has 22 characters or more; none needs as many as this.
const MOST_TOKEN: usize = 512;

/// Where certificates and challenges go.
#[derive(Debug, Clone)]
pub struct Outlets {
    /// What TLS listeners serve.
    pub issued: Arc<Certificates>,
    /// What plaintext listeners answer. The keeper alone writes it.
    pub tokens: Arc<Tokens>,
}

/// Something on show, until it drops.
#[derive(Debug)]
pub(super) struct Shown {
    outlets: Outlets,
    what: What,
}

#[derive(Debug)]
enum What {
    Token(Box<str>),
    Certificate(Box<str>),
}

impl Outlets {
    /// Answers `/.well-known/acme-challenge/TOKEN` (RFC 8555 section 8.3).
    pub(super) fn show_token(&self, token: &str, content: &str) -> Result<Shown, AcmeError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if token.is_empty() || token.len() > MOST_TOKEN || !token.bytes().all(fits) {
            return Err(AcmeError::Ours(
                "the CA's token is not base64url".to_owned(),
            ));
        }
        self.change_tokens(|all| {
            all.insert(token.into(), Bytes::copy_from_slice(content.as_bytes()));
        });
        Ok(self.shown(What::Token(token.into())))
    }

    /// Answers handshakes of `acme-tls/1` for this domain (RFC 8737 section 3).
    pub(super) fn show_certificate(&self, domain: &str, digest: &[u8]) -> Result<Shown, AcmeError> {
        let key = proof(domain, digest).map_err(AcmeError::Ours)?;
        self.issued.challenge(domain, Arc::new(key));
        Ok(self.shown(What::Certificate(domain.into())))
    }

    fn shown(&self, what: What) -> Shown {
        Shown {
            outlets: self.clone(),
            what,
        }
    }

    fn change_tokens(&self, change: impl FnOnce(&mut HashMap<Box<str>, Bytes>)) {
        let mut all = self.tokens.load().as_deref().cloned().unwrap_or_default();
        change(&mut all);
        let all = (!all.is_empty()).then(|| Arc::new(all));
        self.tokens.store(all);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        match &self.what {
            What::Token(token) => self.outlets.change_tokens(|all| {
                all.remove(token);
            }),
            What::Certificate(domain) => self.outlets.issued.forget_challenge(domain),
        }
    }
}

/// A certificate for the domain with the digest in its acmeIdentifier, which is critical.
fn proof(domain: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new([domain.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let pair = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&pair).map_err(failed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| error.to_string())?;
    // Not `from_der`, which refuses critical extensions that it does not know.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_until_its_guard_drops_and_others_stay() {
        let outlets = Outlets {
            issued: Arc::default(),
            tokens: Arc::default(),
        };
        let one = outlets.show_token("one", "one.print").unwrap();
        let two = outlets.show_token("two", "two.print").unwrap();
        assert_eq!(outlets.tokens.load().as_ref().unwrap()["one"], "one.print");
        drop(one);
        let left = outlets.tokens.load_full().unwrap();
        assert_eq!(left.keys().map(|key| &**key).collect::<Vec<_>>(), ["two"]);
        drop(two);
        assert!(outlets.tokens.load().is_none());
    }

    #[test]
    fn the_proof_of_a_handshake_can_be_made() {
        let key = proof("a.example", &[7; 32]).unwrap();
        let leaf = key.end_entity_cert().unwrap();
        assert!(
            leaf.windows(34)
                .any(|bytes| bytes[..2] == [4, 32] && bytes[2..] == [7; 32])
        );
    }

    #[test]
    fn a_token_that_could_be_a_path_is_refused() {
        let outlets = Outlets {
            issued: Arc::default(),
            tokens: Arc::default(),
        };
        for token in ["", "../x", "a/b", "a b", &"x".repeat(600)] {
            assert!(outlets.show_token(token, "x").is_err(), "{token}");
        }
    }
}
