//! TLS towards endpoints: who may sign their certificates, what we show them, what is resumed.
//!
//! `snapshot::compile` asks `ClientTlsStore` for the settings of each upstream; `hop` performs
//! handshakes with them. Invariant: whatever is wrong with a file is found when the config is
//! compiled; settings whose keys and files are unchanged are the same object across reloads, so that
//! sessions are resumed and pooled connections stay.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as provider, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};

use crate::config::model::{TlsVersion, UpstreamProtocol, UpstreamTls};

use super::roots;

/// Why TLS to an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A file cannot be used.
    #[error("`tls.{key}`: cannot use {}: {reason}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No authority is known to the system.
    #[error("`tls`: the system has no certificate authorities; name one with `ca: FILE`")]
    NoAuthorities,
    /// The name is none.
    #[error("`tls.server_name`: `{0}` is not a name that a certificate can have")]
    Name(Arc<str>),
    /// The library refuses the whole.
    #[error("`tls`: it cannot be set up")]
    Setup(#[from] rustls::Error),
}

impl ClientTlsError {
    /// The file that is to blame, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::NoAuthorities | Self::Name(_) | Self::Setup(_) => None,
        }
    }
}

/// Settings of TLS to the endpoints of one upstream.
#[derive(Debug)]
pub struct ClientTls {
    /// For handshakes; holds the sessions to resume.
    pub config: Arc<ClientConfig>,
    /// The name that every endpoint must have, if it is not its own.
    pub server_name: Option<ServerName<'static>>,
}

/// The settings in use, found again by name of the upstream.
#[derive(Debug, Default)]
pub struct ClientTlsStore(Mutex<HashMap<Arc<str>, Known>>);

#[derive(Debug)]
struct Known {
    typed: UpstreamTls,
    protocol: UpstreamProtocol,
    /// Of every byte that was read.
    files: Digest,
    settings: Weak<ClientTls>,
}

impl ClientTlsStore {
    /// The settings that `typed` asks for; those in use if nothing has changed.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn settings(
        &self,
        upstream: &Arc<str>,
        typed: &UpstreamTls,
        protocol: UpstreamProtocol,
    ) -> Result<Arc<ClientTls>, ClientTlsError> {
        let files = Files::read(typed)?;
        let digest = files.digest();
        let mut known = self.0.lock();
        known.retain(|_, known| known.settings.strong_count() > 0);
        if let Some(known) = known.get(upstream)
            && known.typed == *typed
            && known.protocol == protocol
            && known.files.as_ref() == digest.as_ref()
            && let Some(settings) = known.settings.upgrade()
        {
            return Ok(settings);
        }
        let settings = Arc::new(build(typed, protocol, files)?);
        known.insert(
            Arc::clone(upstream),
            Known {
                typed: typed.clone(),
                protocol,
                files: digest,
                settings: Arc::downgrade(&settings),
            },
        );
        Ok(settings)
    }
}

/// What the files of one upstream hold.
struct Files {
    authorities: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
}

impl Files {
    fn read(typed: &UpstreamTls) -> Result<Self, ClientTlsError> {
        let authorities = match &typed.ca {
            _ if !typed.verify => Vec::new(),
            Some(path) => roots::read(path).map_err(|reason| unusable("ca", path, &reason))?,
            None => roots::system(),
        };
        if typed.verify && authorities.is_empty() {
            return Err(ClientTlsError::NoAuthorities);
        }
        let (chain, key) = match &typed.identity {
            None => (Vec::new(), None),
            Some(pair) => {
                let key = std::fs::read(&pair.key)
                    .map_err(|error| error.to_string())
                    .and_then(|pem| roots::private_key(&pem))
                    .map_err(|reason| unusable("key", &pair.key, &reason))?;
                let chain = roots::read(&pair.cert);
                let chain = chain.map_err(|reason| unusable("cert", &pair.cert, &reason))?;
                (chain, Some(key))
            }
        };
        Ok(Self {
            authorities,
            chain,
            key,
        })
    }

    fn digest(&self) -> Digest {
        let mut digest = Context::new(&SHA256);
        for certificate in self.authorities.iter().chain(&self.chain) {
            digest.update(certificate);
        }
        if let Some(key) = &self.key {
            digest.update(key.secret_der());
        }
        digest.finish()
    }
}

fn unusable(key: &'static str, path: &Path, reason: &dyn ToString) -> ClientTlsError {
    ClientTlsError::File {
        key,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn build(
    typed: &UpstreamTls,
    protocol: UpstreamProtocol,
    files: Files,
) -> Result<ClientTls, ClientTlsError> {
    const NEWEST: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let server_name = match &typed.server_name {
        None => None,
        Some(name) => Some(
            ServerName::try_from(name.to_string())
                .map_err(|_invalid| ClientTlsError::Name(Arc::clone(name)))?,
        ),
    };
    let crypto = Arc::new(provider::default_provider());
    let versions = match typed.min_version {
        TlsVersion::V12 => BOTH,
        TlsVersion::V13 => NEWEST,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&crypto))
        .with_protocol_versions(versions)?;
    let builder = if typed.verify {
        // The system's store may hold what no standard allows; a file of the config may not.
        let trusted = match &typed.ca {
            None => roots::usable(files.authorities).ok_or(ClientTlsError::NoAuthorities)?,
            Some(path) => {
                roots::exactly(files.authorities).map_err(|reason| unusable("ca", path, &reason))?
            }
        };
        builder.with_root_certificates(trusted)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(&crypto)))
    };
    let mut config = match (files.key, &typed.identity) {
        (Some(key), Some(pair)) => builder
            .with_client_auth_cert(files.chain, key)
            .map_err(|error| unusable("cert", &pair.cert, &error))?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![match protocol {
        UpstreamProtocol::Http1 => b"http/1.1".to_vec(),
        UpstreamProtocol::H2 => b"h2".to_vec(),
    }];
    Ok(ClientTls {
        config: Arc::new(config),
        server_name,
    })
}

/// `verify: false`: takes every certificate, but still demands that its owner signs the handshake.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    fn new(crypto: &CryptoProvider) -> Self {
        Self(crypto.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Identity;

    fn typed(ca: &Path) -> UpstreamTls {
        UpstreamTls {
            ca: Some(ca.to_owned()),
            server_name: None,
            identity: None,
            min_version: TlsVersion::V12,
            verify: true,
        }
    }

    fn write(path: &Path) {
        let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        std::fs::write(path, pair.cert.pem()).unwrap();
    }

    #[test]
    fn settings_are_kept_until_a_key_or_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        write(&ca);
        let (store, shop) = (ClientTlsStore::default(), Arc::from("shop"));
        let settings = |typed: &UpstreamTls| {
            store
                .settings(&shop, typed, UpstreamProtocol::Http1)
                .unwrap()
        };
        let first = settings(&typed(&ca));
        assert!(Arc::ptr_eq(&first, &settings(&typed(&ca))));
        let mut newer = typed(&ca);
        newer.min_version = TlsVersion::V13;
        assert!(!Arc::ptr_eq(&first, &settings(&newer)));
        let first = settings(&typed(&ca));
        write(&ca);
        assert!(!Arc::ptr_eq(&first, &settings(&typed(&ca))));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, cert) = (folder.path().join("ca.pem"), folder.path().join("c.pem"));
        let key = folder.path().join("c.key");
        std::fs::write(&ca, "nothing of use").unwrap();
        let store = ClientTlsStore::default();
        let refused = |typed: &UpstreamTls| {
            let result = store.settings(&"shop".into(), typed, UpstreamProtocol::H2);
            result.unwrap_err().to_string()
        };
        let text = refused(&typed(&ca));
        assert!(text.starts_with("`tls.ca`: cannot use"), "{text}");
        write(&ca);
        write(&cert);
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&key, other.serialize_pem()).unwrap();
        let mut with_identity = typed(&ca);
        with_identity.identity = Some(Identity { cert, key });
        let text = refused(&with_identity);
        assert!(text.starts_with("`tls.cert`: cannot use"), "{text}");
    }
}
