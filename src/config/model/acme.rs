//! What the key `acme` means.
//!
//! `acme` obtains and renews by it; `snapshot` asks only whether it is there. Invariant: a domain
//! stands in one certificate only, and its names are lower case, without a wildcard.

use std::path::PathBuf;
use std::sync::Arc;

use super::Secret;

/// Certificates that are obtained and renewed by ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The names of each certificate: at least one certificate, of 1 to 100 names each. The first name
    /// stands for the certificate in logs and metrics.
    pub certificates: Vec<Arc<[Arc<str>]>>,
    /// Where the CA may write to, as `mailto:` URLs.
    pub contact: Vec<String>,
    /// The CA's directory, an `https` URL. Default: Let's Encrypt, its staging one with `staging`.
    pub directory: Arc<str>,
    /// How control over a name is proven. Default `http-01`.
    pub challenge: AcmeChallenge,
    /// Folder of the account and the certificates; resolved against the folder of the config file.
    pub state: PathBuf,
    /// Roots to trust for the directory, PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// The account at the CA that the ACME account is bound to.
    pub external_account: Option<ExternalAccount>,
}

/// How control over a name is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a file under `/.well-known/acme-challenge/` on port 80 (RFC 8555 section 8.3).
    Http01,
    /// By a certificate for the protocol `acme-tls/1` on port 443 (RFC 8737).
    TlsAlpn01,
}

/// An account at the CA (RFC 8555 section 7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// As the CA names it.
    pub key_id: String,
    /// The key that the CA gave, decoded.
    pub hmac_key: Secret,
}
