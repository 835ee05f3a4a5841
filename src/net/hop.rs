//! From a connected socket to one that HTTP can be spoken on.
//!
//! `upstream` goes this way with requests and `health::probe` with checks, so both see the same:
//! the PROXY header first, if the upstream wants one, then the TLS handshake with the name, the
//! authorities and the protocol (ALPN) of the upstream. The caller brings the deadline. Invariant: a
//! stream comes out only when everything that was configured was agreed upon.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::model::{ProxyHeader, UpstreamProtocol};

use super::proxy_protocol::{self, Header, Version};
use super::socket::Socket;
use super::stream::Stream;
use super::tls_client::ClientTls;

/// How the endpoints of one upstream are reached.
#[derive(Debug, Clone, Default)]
pub struct Hop {
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// The header that each connection begins with.
    pub proxy_protocol: Option<ProxyHeader>,
    /// The encryption.
    pub tls: Option<Arc<ClientTls>>,
}

/// Why a connected socket is of no use.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// It broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The other side does not speak the protocol of the upstream.
    #[error("the endpoint did not agree on HTTP/2")]
    Protocol,
    /// The endpoint has no name that a certificate could be verified for.
    #[error("the endpoint has no name to verify")]
    Name,
}

/// A stream that is ready for HTTP.
#[derive(Debug)]
pub enum Ready<S> {
    /// In clear.
    Plain(S),
    /// Encrypted.
    Tls(Box<TlsStream<S>>),
}

impl From<Ready<Socket>> for Stream {
    fn from(ready: Ready<Socket>) -> Self {
        match ready {
            Ready::Plain(socket) => Self::Plain(socket),
            Ready::Tls(stream) => Self::TlsClient(stream),
        }
    }
}

impl Hop {
    /// Whether a connection that was made by `other` is as good as one made by this.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.proxy_protocol == other.proxy_protocol
            && match (&self.tls, &other.tls) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            }
    }

    /// Makes `socket` ready for HTTP. `address` is the endpoint's as in the config, `client` whom the
    /// connection is for.
    ///
    /// # Errors
    /// When the connection breaks or the two sides do not agree.
    pub async fn prepare<S>(
        &self,
        mut socket: S,
        address: &str,
        client: Header,
    ) -> Result<Ready<S>, HopError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let version = self.proxy_protocol.map(|version| match version {
            ProxyHeader::V1 => Version::V1,
            ProxyHeader::V2 => Version::V2,
        });
        if let Some(version) = version {
            let mut header = Vec::new();
            proxy_protocol::encode(version, &client, &mut header);
            socket.write_all(&header).await.map_err(HopError::Io)?;
        }
        let Some(tls) = &self.tls else {
            return Ok(Ready::Plain(socket));
        };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => own_name(address).ok_or(HopError::Name)?,
        };
        let stream = TlsConnector::from(Arc::clone(&tls.config))
            .connect(name, socket)
            .await
            .map_err(HopError::Tls)?;
        let agreed = stream.get_ref().1.alpn_protocol();
        let fits = match self.protocol {
            UpstreamProtocol::H2 => agreed == Some(b"h2"),
            UpstreamProtocol::Http1 => agreed.is_none_or(|it| it == b"http/1.1"),
        };
        if fits {
            Ok(Ready::Tls(Box::new(stream)))
        } else {
            Err(HopError::Protocol)
        }
    }
}

/// What the TLS library has to say about a failed read or write, if it was that.
#[must_use]
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The host of an endpoint's address; an IP address is verified as one.
fn own_name(address: &str) -> Option<ServerName<'static>> {
    if address.starts_with("unix:") {
        return None;
    }
    let (host, _port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_verified_by_its_host() {
        let name = |address| own_name(address).map(|name| name.to_str().into_owned());
        assert_eq!(name("shop.test:443").as_deref(), Some("shop.test"));
        assert_eq!(name("192.0.2.7:443").as_deref(), Some("192.0.2.7"));
        assert_eq!(name("[2001:db8::1]:443").as_deref(), Some("2001:db8::1"));
        assert_eq!(name("unix:/run/a.sock"), None);
    }
}
