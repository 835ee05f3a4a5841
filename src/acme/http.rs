//! Requests to the CA.
//!
//! The `HttpClient` of `instant_acme`: each request has a connection of its own, since a CA is spoken
//! to a dozen times in weeks. Remembers the last `Retry-After`, which `order` and `keeper` obey.
//! Invariant: every exchange has a deadline and every answer a cap; the CA's certificate is verified.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONNECTION, HOST, RETRY_AFTER, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Request, Response, Uri};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clock;
use crate::config::model::EndpointAddress;
use crate::net::transport::Transport;
use crate::net::{dial, roots};

use super::AcmeError;

/// For one request and its answer, all addresses of the CA included.
const PATIENCE: Duration = Duration::from_secs(60);
/// To connect to one address of the CA.
const CONNECT: Duration = Duration::from_secs(10);
/// Far more than any chain or directory has.
const MOST_BODY: usize = 1 << 20;
const MOST_HEAD: usize = 64 * 1024;
/// What RFC 9773 section 4.3.2 recommends, for a CA that does not say when to ask again.
const RENEWAL_INFO_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Nobody is waited for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 86_400);

/// Why a request had no answer. The text is for operators.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("{0} is not an https URL")]
    Url(Uri),
    #[error("cannot reach {host}: {source}")]
    Connect {
        host: String,
        source: std::io::Error,
    },
    #[error("{host} broke off: {source}")]
    Exchange { host: String, source: hyper::Error },
    #[error("{0} sent too much")]
    TooMuch(String),
    #[error("{0} did not answer in time")]
    Timeout(String),
    #[error("no request can be made: {0}")]
    Request(::http::Error),
}

/// Speaks to the CA.
#[derive(Debug, Clone)]
pub(super) struct Http {
    tls: Arc<ClientConfig>,
    last: Arc<Mutex<Last>>,
}

/// What the last answer says about time.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    retry_after: Option<Duration>,
    refused: bool,
}

impl Http {
    /// Trusts the roots in `ca`, or the system's. Reads files: not for a thread that must not wait.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, AcmeError> {
        let ours = |error: rustls::Error| AcmeError::Ours(error.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ours)?
            .with_root_certificates(authorities(ca)?)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            last: Arc::default(),
        })
    }

    /// How long the CA asked to wait in its last answer.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.last.lock().retry_after
    }

    /// The same, if that answer was a refusal (rate limits, overload).
    pub(super) fn refused_for(&self) -> Option<Duration> {
        let last = *self.last.lock();
        last.retry_after.filter(|_| last.refused)
    }

    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, HttpError> {
        *self.last.lock() = Last::default();
        let uri = request.uri().clone();
        let host = match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) => host.to_owned(),
            _ => return Err(HttpError::Url(uri)),
        };
        let is_get = request.method() == ::http::Method::GET;
        let exchange = async {
            let stream = self.connect(&host, uri.port_u16().unwrap_or(443)).await;
            let stream = stream.map_err(|source| HttpError::Connect {
                host: host.clone(),
                source,
            })?;
            send(stream, request, &host).await
        };
        let Ok(answer) = timeout(PATIENCE, exchange).await else {
            return Err(HttpError::Timeout(host));
        };
        let (mut parts, body) = answer?.into_parts();
        let asked = retry_after(&parts.headers);
        *self.last.lock() = Last {
            retry_after: asked,
            refused: parts.status.is_client_error() || parts.status.is_server_error(),
        };
        // `instant_acme` insists on one for renewal information, and adds any to the clock, whatever
        // its size.
        let told = asked.unwrap_or(RENEWAL_INFO_INTERVAL).as_secs();
        parts.headers.remove(RETRY_AFTER);
        if is_get || asked.is_some() {
            parts.headers.insert(RETRY_AFTER, HeaderValue::from(told));
        }
        let body = Box::new(body);
        Ok(BytesResponse { parts, body })
    }

    async fn connect(&self, host: &str, port: u16) -> std::io::Result<TlsStream<Transport>> {
        // An IPv6 address has brackets in a URL only.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(std::io::Error::other)?;
        let mut failure = std::io::Error::other("the name has no address");
        for address in tokio::net::lookup_host((bare, port)).await? {
            match timeout(CONNECT, dial::connect(&EndpointAddress::Ip(address))).await {
                Ok(Ok(stream)) => {
                    let connector = TlsConnector::from(Arc::clone(&self.tls));
                    return connector.connect(name, stream).await;
                }
                Ok(Err(error)) => failure = error,
                Err(_elapsed) => failure = std::io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failure)
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move {
            let answer = http.ask(request).await;
            answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}

/// One exchange; the connection ends with it.
async fn send(
    stream: TlsStream<Transport>,
    mut request: Request<BodyWrapper<Bytes>>,
    host: &str,
) -> Result<Response<Bytes>, HttpError> {
    let broke = |source| HttpError::Exchange {
        host: host.to_owned(),
        source,
    };
    let authority = request.uri().authority().map(|a| a.as_str().to_owned());
    let authority = authority.unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let path = Uri::try_from(path).map_err(|error| HttpError::Request(error.into()))?;
    *request.uri_mut() = path;
    let value = HeaderValue::try_from(authority);
    let headers = request.headers_mut();
    headers.insert(
        HOST,
        value.map_err(|error| HttpError::Request(error.into()))?,
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let agent = concat!("headgate/", env!("CARGO_PKG_VERSION"), " instant-acme");
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    let exchange = async {
        let (parts, body) = sender
            .send_request(request)
            .await
            .map_err(broke)?
            .into_parts();
        Ok(Response::from_parts(parts, gather(body, host).await?))
    };
    // The exchange hears of a broken connection by itself, so only it ends this.
    let drive = async {
        drop(connection.await);
        std::future::pending::<Response<Bytes>>().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = drive => Ok(never),
    }
}

async fn gather(mut body: Incoming, host: &str) -> Result<Bytes, HttpError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| HttpError::Exchange {
            host: host.to_owned(),
            source,
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len().saturating_add(data.len()) > MOST_BODY {
            return Err(HttpError::TooMuch(host.to_owned()));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Seconds or a date (RFC 9110 section 10.2.3), up to `LONGEST_WAIT`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(clock::wall()).unwrap_or_default()
    };
    Some(asked.min(LONGEST_WAIT))
}

fn authorities(ca: Option<&Path>) -> Result<RootCertStore, AcmeError> {
    let Some(path) = ca else {
        return roots::usable(roots::system()).ok_or_else(|| {
            let message =
                "the system has no root certificates to trust a CA by; name some with `acme.ca`";
            AcmeError::Ours(message.to_owned())
        });
    };
    let unusable = |reason: String| AcmeError::State {
        path: PathBuf::from(path),
        source: std::io::Error::other(reason),
    };
    roots::read(path).and_then(roots::exactly).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_read_in_seconds_and_as_a_date() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(read(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(read("18446744073709551615"), Some(LONGEST_WAIT));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn a_file_without_roots_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let error = Http::new(Some(&path)).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
