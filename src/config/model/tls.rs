//! TLS towards clients.
//!
//! `convert::tls` makes these, `net::tls` reads the files. Invariant: what a certificate does not say
//! itself is filled in from its listener, so `net` knows no defaults.

use std::path::PathBuf;
use std::sync::Arc;

/// A file of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// As it was typed; what logs and metrics call it.
    pub typed: Arc<str>,
    /// Resolved against the folder of the config file.
    pub path: PathBuf,
}

/// TLS termination on one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// At least one, unless `acme`; the first is the default where SNI matches none. No `cert` stands
    /// twice.
    pub certificates: Vec<Certificate>,
    /// Whether the certificates of `Config::acme`, which is there then, are served too. Default no.
    pub acme: bool,
    /// Oldest version that is spoken. Default 1.2.
    pub min_version: TlsVersion,
    /// The only ones that are spoken; with one at least of each version from `min_version` to 1.3,
    /// or none of 1.3. Default, an empty list: all.
    pub cipher_suites: Vec<CipherSuite>,
    /// What clients must show where no certificate says otherwise. Default `Off`.
    pub client_auth: ClientAuth,
    /// Files with keys for session tickets, the newest first. Default none: keys are made at start and
    /// replaced every 12 h.
    pub ticket_keys: Vec<NamedFile>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Chain, leaf first.
    pub cert: NamedFile,
    /// Private key.
    pub key: NamedFile,
    /// OCSP response for the leaf (DER), to be stapled.
    pub ocsp: Option<NamedFile>,
    /// What clients of its names must show. Default: the listener's.
    pub client_auth: ClientAuth,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They are.
    Ask(Ask),
}

/// How clients are asked for certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Those without one are turned away. One that does not verify always is.
    pub required: bool,
    /// Certificates of the authorities (PEM).
    pub ca: NamedFile,
    /// Revocation lists of these authorities (PEM).
    pub crl: Option<NamedFile>,
    /// Whether endpoints get `Client-Cert-Chain` besides `Client-Cert`. Default no.
    pub forward_chain: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V12,
    /// RFC 8446.
    V13,
}

macro_rules! suites {
    ($($variant:ident $version:ident $name:literal)*) => {
        /// What protects the bytes of a connection; by the names of the IANA registry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CipherSuite {
            $(#[doc = $name] $variant,)*
        }

        impl CipherSuite {
            /// All that are known, in the order in which they are preferred.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in the IANA registry.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The version of TLS that it belongs to.
            #[must_use]
            pub const fn version(self) -> TlsVersion {
                match self { $(Self::$variant => TlsVersion::$version,)* }
            }
        }
    };
}

suites! {
    Aes128Gcm V13 "TLS_AES_128_GCM_SHA256"
    Aes256Gcm V13 "TLS_AES_256_GCM_SHA384"
    ChaCha20 V13 "TLS_CHACHA20_POLY1305_SHA256"
    EcdsaAes128Gcm V12 "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    EcdsaAes256Gcm V12 "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    EcdsaChaCha20 V12 "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    RsaAes128Gcm V12 "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    RsaAes256Gcm V12 "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
    RsaChaCha20 V12 "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
}
