//! Certificates made on the spot, and clients that speak TLS.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Client, patiently};

/// Signs certificates.
pub(crate) struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

/// A certificate and its key.
pub(crate) struct Leaf {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    pub(crate) der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Its certificate as a file.
    pub(crate) fn write(&self, file: &Path) {
        std::fs::write(file, self.pem()).unwrap();
    }

    /// For these names, until the first of January of `year`.
    pub(crate) fn issue(&self, names: &[&str], year: i32) -> Leaf {
        let key = rcgen::KeyPair::generate().unwrap();
        self.sign(&Self::params(names, year), &key)
    }

    /// The same with an RSA key.
    pub(crate) fn issue_rsa(&self, names: &[&str], year: i32) -> Leaf {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        self.sign(&Self::params(names, year), &key)
    }

    /// With this serial number.
    pub(crate) fn issue_numbered(&self, names: &[&str], serial: u8) -> Leaf {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = Self::params(names, 2040);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[serial]));
        self.sign(&params, &key)
    }

    /// A list that revokes this serial number.
    pub(crate) fn revoke(&self, serial: u8) -> String {
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2040, 1, 1),
            crl_number: rcgen::SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(&[serial]),
                revocation_time: rcgen::date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// What a server needs to speak `protocols` as `name`; with `clients`, only to clients that this
    /// authority has certified.
    pub(crate) fn server(
        &self,
        name: &str,
        protocols: &[&str],
        clients: bool,
    ) -> Arc<ServerConfig> {
        let leaf = self.issue(&[name], 2040);
        let key = PrivateKeyDer::try_from(leaf.key_der).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let roots = Arc::new(self.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![leaf.der], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn params(names: &[&str], year: i32) -> rcgen::CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params
    }

    fn sign(&self, params: &rcgen::CertificateParams, key: &rcgen::KeyPair) -> Leaf {
        let cert = params.signed_by(key, &self.0).unwrap();
        Leaf {
            pem: cert.pem(),
            key_pem: key.serialize_pem(),
            der: cert.der().clone(),
            key_der: key.serialize_der(),
        }
    }
}

impl Leaf {
    /// As `NAME.pem` and `NAME.key`, each in one step.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        replace(&folder.join(format!("{name}.pem")), &self.pem);
        replace(&folder.join(format!("{name}.key")), &self.key_pem);
    }
}

/// Puts a file in place in one step.
pub(crate) fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A client that remembers its sessions.
#[derive(Clone)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    staples: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// What a client is made with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Speaks<'a> {
    /// All if there are none.
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    /// Knows only signatures by RSA.
    pub(crate) rsa_only: bool,
    pub(crate) shows: Option<&'a Leaf>,
    pub(crate) protocols: &'a [&'a [u8]],
}

impl<'a> Speaks<'a> {
    /// These versions alone.
    pub(crate) fn only(versions: &'a [&'static SupportedProtocolVersion]) -> Self {
        Self {
            versions,
            ..Self::default()
        }
    }
}

impl TlsClient {
    pub(crate) fn new(trusted: &Authority, speaks: Speaks<'_>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(trusted.roots());
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .unwrap();
        let staples = Arc::default();
        let verifier = Verifier {
            inner,
            rsa_only: speaks.rsa_only,
            staples: Arc::clone(&staples),
        };
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = match speaks.versions {
            [] => builder.with_safe_default_protocol_versions(),
            versions => builder.with_protocol_versions(versions),
        };
        let builder = builder
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match speaks.shows {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let key = PrivateKeyDer::try_from(leaf.key_der.clone()).unwrap();
                builder
                    .with_client_auth_cert(vec![leaf.der.clone()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = speaks.protocols.iter().map(|name| name.to_vec()).collect();
        Self {
            config: Arc::new(config),
            staples,
        }
    }

    pub(crate) fn trusting(trusted: &Authority) -> Self {
        Self::new(trusted, Speaks::default())
    }

    /// The handshake alone.
    pub(crate) async fn shake(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let stream = patiently("a connection", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        patiently("a handshake", connector.connect(name, stream)).await
    }

    /// A connection to send requests over.
    pub(crate) async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Client> {
        self.shake(address, name).await.map(Client::over)
    }

    /// The certificate that the server has now: no session is gone on with.
    pub(crate) async fn shown(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<CertificateDer<'static>> {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        let anew = Self {
            config: Arc::new(config),
            staples: Arc::clone(&self.staples),
        };
        let stream = anew.shake(address, name).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        Ok(chain[0].clone())
    }

    /// A request on a connection of its own, its status, and whether the session went on from an
    /// earlier one. An error where the server hung up instead.
    pub(crate) async fn visit(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<(u16, HandshakeKind)> {
        let stream = self.shake(address, name).await?;
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        let mut client = Client::over(stream);
        let request = super::Request::get("/visit").header("host", name);
        let answer = client.try_send(&request).await?;
        Ok((answer.status, kind))
    }

    /// The first bytes that it sends.
    pub(crate) fn hello(&self, name: &str) -> Vec<u8> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = rustls::ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut bytes = Vec::new();
        session.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The OCSP response that came with the last full handshake; empty for none.
    pub(crate) fn staple(&self) -> Vec<u8> {
        self.staples.lock().last().cloned().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    rsa_only: bool,
    staples: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.staples.lock().push(staple.to_vec());
        self.inner
            .verify_server_cert(leaf, others, name, staple, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.inner.supported_verify_schemes();
        if self.rsa_only {
            schemes.retain(|scheme| format!("{scheme:?}").starts_with("RSA"));
        }
        schemes
    }
}
