//! A small certificate authority that speaks ACME (RFC 8555) with renewal information (RFC 9773).
//!
//! Takes nothing on trust: signatures, nonces and URLs of every request are checked, http-01 and
//! tls-alpn-01 are validated over real connections to wherever the test says the domains are, and
//! certificates are issued from the request. Tests script its refusals and its windows, and read what
//! was ordered. Invariant: a request that breaks a rule of the RFC is answered as an error and listed
//! in `complaints`, which must be empty when a `Ca` drops.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, ServerName,
    SubjectPublicKeyInfoDer,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Client, Latch, Request, patiently};

/// Identifier of the key that certificates are signed with.
const AUTHORITY: [u8; 20] = [7; 20];

pub(crate) struct Ca {
    address: SocketAddr,
    state: Arc<State>,
    serving: tokio::task::JoinHandle<()>,
}

/// What the CA was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    pub(crate) names: Vec<String>,
    pub(crate) replaces: Option<String>,
    authorizations: Vec<usize>,
    certificate: Option<String>,
}

#[derive(Debug, Clone)]
struct Authorization {
    domain: String,
    token: String,
    status: &'static str,
    error: Option<Value>,
}

#[derive(Debug, Clone)]
struct Account {
    key: Vec<u8>,
    thumb: String,
    contact: Value,
}

/// An answer instead of the one that a request deserves.
struct Refusal {
    endpoint: &'static str,
    status: u16,
    kind: &'static str,
    retry_after: Option<u64>,
}

struct State {
    issuer: CertifiedIssuer<'static, KeyPair>,
    base: String,
    /// Where all domains are: for http-01, for tls-alpn-01.
    domains_at: watch::Sender<Option<SocketAddr>>,
    refusals: Mutex<VecDeque<Refusal>>,
    external: Mutex<Option<(String, Vec<u8>)>>,
    /// Renewal information is held back until it opens.
    windows: Mutex<Option<Latch>>,
    /// How many of the first certificates are suggested to be renewed at once.
    overdue: Mutex<usize>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    nonces: HashSet<String>,
    accounts: Vec<Account>,
    orders: Vec<Ordered>,
    authorizations: Vec<Authorization>,
    /// Identifiers of issued certificates, in order.
    issued: Vec<String>,
    replaced: HashSet<String>,
    requests: HashMap<String, usize>,
    complaints: Vec<String>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    content_type: &'static str,
    body: String,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type: "application/json",
            body: body.to_string(),
        }
    }

    fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Self {
            content_type: "application/problem+json",
            ..Self::json(
                status,
                &json!({ "type": kind, "detail": detail, "status": status }),
            )
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A signed request, verified.
struct Signed {
    payload: Value,
    account: Option<usize>,
    jwk: Option<Value>,
}

impl Ca {
    pub(crate) async fn start() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_identifier_method = KeyIdMethod::PreSpecified(AUTHORITY.to_vec());
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            issuer,
            base: format!("https://{address}"),
            domains_at: watch::Sender::new(None),
            refusals: Mutex::default(),
            external: Mutex::default(),
            windows: Mutex::default(),
            overdue: Mutex::new(0),
            book: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let serving = tokio::spawn(serve(listener, acceptor, Arc::clone(&state)));
        Self {
            address,
            state,
            serving,
        }
    }

    /// From now on renewal information is held back until the latch opens.
    pub(crate) fn hold_windows(&self) -> Latch {
        let latch = Latch::new();
        *self.state.windows.lock() = Some(latch.clone());
        latch
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://{}/directory", self.address)
    }

    /// The same CA under another URL.
    pub(crate) fn other_directory(&self) -> String {
        format!("https://{}/other/directory", self.address)
    }

    /// What to trust, for it and for what it issues.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.state.issuer.der().clone()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.state.issuer.pem()
    }

    /// From now on validations go there; until then they wait.
    pub(crate) fn domains_are_at(&self, address: SocketAddr) {
        self.state.domains_at.send_replace(Some(address));
    }

    /// Answers the next request to this endpoint with an error.
    pub(crate) fn refuse(
        &self,
        endpoint: &'static str,
        status: u16,
        kind: &'static str,
        retry_after: Option<u64>,
    ) {
        self.state.refusals.lock().push_back(Refusal {
            endpoint,
            status,
            kind,
            retry_after,
        });
    }

    /// New accounts must be bound to this one.
    pub(crate) fn require_external_account(&self, key_id: &str, key: &[u8]) {
        *self.state.external.lock() = Some((key_id.to_owned(), key.to_vec()));
    }

    /// The windows of the first `count` certificates lie in the past.
    pub(crate) fn suggest_to_renew(&self, count: usize) {
        *self.state.overdue.lock() = count;
    }

    pub(crate) fn orders(&self) -> Vec<Ordered> {
        self.state.book.lock().orders.clone()
    }

    pub(crate) fn contacts(&self) -> Vec<Value> {
        let book = self.state.book.lock();
        book.accounts.iter().map(|it| it.contact.clone()).collect()
    }

    /// Identifiers of what was issued, in order.
    pub(crate) fn issued(&self) -> Vec<String> {
        self.state.book.lock().issued.clone()
    }

    /// How often an endpoint was asked; of all without a name.
    pub(crate) fn requests(&self, endpoint: &str) -> usize {
        let book = self.state.book.lock();
        if endpoint.is_empty() {
            return book.requests.values().sum();
        }
        book.requests.get(endpoint).copied().unwrap_or_default()
    }

    /// Tokens that were ever given out.
    pub(crate) fn tokens(&self) -> Vec<String> {
        let book = self.state.book.lock();
        book.authorizations
            .iter()
            .map(|it| it.token.clone())
            .collect()
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.serving.abort();
        let complaints = &self.state.book.lock().complaints;
        assert!(
            complaints.is_empty() || std::thread::panicking(),
            "the CA complains: {complaints:#?}"
        );
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // Who connects and leaves is nobody's concern.
            if let Ok(mut stream) = acceptor.accept(stream).await
                && let Some((method, path, body)) = read(&mut stream).await
            {
                let reply = state.answer(&method, &path, &body).await;
                let nonce = state.nonce();
                let Reply {
                    status,
                    headers,
                    content_type,
                    body,
                } = reply;
                let mut text = format!(
                    "HTTP/1.1 {status} x\r\nreplay-nonce: {nonce}\r\ncache-control: no-store\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n",
                    body.len()
                );
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("\r\n");
                if method != "HEAD" {
                    text.push_str(&body);
                }
                stream.write_all(text.as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        });
    }
}

/// Method, path and body.
async fn read(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Option<(String, String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.unwrap_or_default();
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some((method, path, bytes[end..end + length].to_vec()))
}

impl State {
    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    fn nonce(&self) -> String {
        let nonce = format!("{:032x}", fastrand::u128(..));
        self.book.lock().nonces.insert(nonce.clone());
        nonce
    }

    fn complain(&self, what: impl Into<String>) -> Reply {
        let what = what.into();
        let reply = Reply::problem(400, "malformed", &what);
        self.book.lock().complaints.push(what);
        reply
    }

    async fn answer(self: &Arc<Self>, method: &str, path: &str, body: &[u8]) -> Reply {
        let path = path.trim_start_matches('/');
        let (endpoint, rest) = path.split_once('/').unwrap_or((path, ""));
        *self
            .book
            .lock()
            .requests
            .entry(endpoint.to_owned())
            .or_default() += 1;
        match (method, endpoint) {
            ("GET", "directory" | "other") => self.directory(),
            ("HEAD" | "GET", "new-nonce") => Reply::json(200, &Value::Null),
            ("GET", "renewal") => self.renewal(rest).await,
            ("POST", _) => match self.verify(path, body) {
                Ok(signed) => self.signed(endpoint, rest, &signed),
                Err(reply) => reply,
            },
            _ => self.complain(format!("{method} {path}")),
        }
    }

    fn directory(&self) -> Reply {
        let external = self.external.lock().is_some();
        Reply::json(
            200,
            &json!({
                "newNonce": self.url("new-nonce"),
                "newAccount": self.url("new-account"),
                "newOrder": self.url("new-order"),
                "revokeCert": self.url("revoke"),
                "keyChange": self.url("key-change"),
                "renewalInfo": self.url("renewal"),
                "meta": { "externalAccountRequired": external },
            }),
        )
    }

    /// RFC 9773 section 4.2; nobody signs this.
    async fn renewal(&self, id: &str) -> Reply {
        let held = self.windows.lock().clone();
        if let Some(latch) = held {
            latch.opened().await;
        }
        let at = self.book.lock().issued.iter().position(|known| known == id);
        let Some(at) = at else {
            return self.complain(format!("renewal information of {id}, which was not issued"));
        };
        let now = OffsetDateTime::now_utc();
        let day = Duration::from_secs(86_400);
        let (start, end) = if at < *self.overdue.lock() {
            (now - 2 * day, now - day)
        } else {
            (now + 30 * day, now + 32 * day)
        };
        let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
        let window = json!({ "start": text(start), "end": text(end) });
        Reply::json(200, &json!({ "suggestedWindow": window })).header("retry-after", "21600")
    }

    /// RFC 8555 sections 6.2 to 6.5.
    fn verify(&self, path: &str, body: &[u8]) -> Result<Signed, Reply> {
        let malformed = |what: &str| self.complain(format!("{path}: {what}"));
        let jws: Value = serde_json::from_slice(body).map_err(|_error| malformed("no JSON"))?;
        let text = |name: &str| jws[name].as_str().unwrap_or_default().to_owned();
        let (protected, payload) = (text("protected"), text("payload"));
        let header: Value = decode_json(&protected).ok_or_else(|| malformed("no header"))?;
        if header["alg"] != "ES256" {
            return Err(malformed("not ES256"));
        }
        if header["url"] != self.url(path).as_str() {
            return Err(malformed("signed for another URL"));
        }
        let (key, account) = match (header["kid"].as_str(), &header["jwk"]) {
            (Some(kid), Value::Null) => {
                let number = kid.strip_prefix(&self.url("account/"));
                let number = number.and_then(|number| number.parse::<usize>().ok());
                let book = self.book.lock();
                match number.and_then(|at| Some((at, book.accounts.get(at)?))) {
                    Some((at, account)) => (account.key.clone(), Some(at)),
                    None => return Err(Reply::problem(400, "accountDoesNotExist", "unknown")),
                }
            }
            (None, jwk) if path == "new-account" => (point(jwk), None),
            _ => return Err(malformed("neither kid nor jwk")),
        };
        let signed = format!("{protected}.{payload}");
        let given = B64.decode(text("signature")).unwrap_or_default();
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
            .verify(signed.as_bytes(), &given)
            .map_err(|_error| malformed("the signature is wrong"))?;
        let nonce = header["nonce"].as_str().unwrap_or_default();
        if !self.book.lock().nonces.remove(nonce) {
            return Err(malformed("the nonce was not given or used already"));
        }
        let endpoint = path.split('/').next().unwrap_or_default();
        let mut refusals = self.refusals.lock();
        if let Some(at) = refusals.iter().position(|it| it.endpoint == endpoint) {
            let refusal = refusals.remove(at).unwrap();
            let reply = Reply::problem(refusal.status, refusal.kind, "as the test wants it");
            let seconds = refusal.retry_after.map(|seconds| seconds.to_string());
            return Err(match seconds {
                Some(seconds) => reply.header("retry-after", seconds),
                None => reply,
            });
        }
        Ok(Signed {
            payload: decode_json(&payload).unwrap_or_default(),
            account,
            jwk: header.get("jwk").cloned(),
        })
    }

    fn signed(self: &Arc<Self>, endpoint: &str, rest: &str, signed: &Signed) -> Reply {
        let number = || rest.split('/').next().and_then(|text| text.parse().ok());
        match endpoint {
            "new-account" => self.new_account(signed),
            "account" => {
                let mut book = self.book.lock();
                let account = &mut book.accounts[signed.account.unwrap()];
                account.contact = signed.payload["contact"].clone();
                Reply::json(
                    200,
                    &json!({ "status": "valid", "contact": account.contact }),
                )
            }
            "new-order" => self.new_order(&signed.payload),
            "order" => self.order(number().unwrap()),
            "authorization" => self.authorization(number().unwrap()),
            "challenge" => self.challenge(rest, signed.account.unwrap()),
            "finalize" => self.finalize(number().unwrap(), &signed.payload),
            "certificate" => {
                let order = self.book.lock().orders[number().unwrap()].clone();
                Reply {
                    content_type: "application/pem-certificate-chain",
                    body: order.certificate.unwrap(),
                    ..Reply::json(200, &Value::Null)
                }
            }
            _ => self.complain(format!("no such endpoint: {endpoint}")),
        }
    }

    fn new_account(&self, signed: &Signed) -> Reply {
        let payload = &signed.payload;
        if payload["termsOfServiceAgreed"] != true {
            return self.complain("the terms of service are not agreed to");
        }
        let Some(jwk) = &signed.jwk else {
            return self.complain("newAccount without a key");
        };
        if let Some((key_id, key)) = &*self.external.lock() {
            let binding = &payload["externalAccountBinding"];
            let text = |name: &str| binding[name].as_str().unwrap_or_default();
            let header = decode_json(text("protected")).unwrap_or_default();
            let message = format!("{}.{}", text("protected"), text("payload"));
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            let tag = B64.decode(text("signature")).unwrap_or_default();
            let is_bound = hmac::verify(&key, message.as_bytes(), &tag).is_ok()
                && header["alg"] == "HS256"
                && header["kid"] == key_id.as_str()
                && header["url"] == self.url("new-account").as_str()
                && decode_json(text("payload")).as_ref() == Some(jwk);
            if !is_bound {
                return self.complain("the external account is not bound");
            }
        }
        let thumb = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        let thumb = digest::digest(&digest::SHA256, thumb.as_bytes());
        let mut book = self.book.lock();
        book.accounts.push(Account {
            key: point(jwk),
            thumb: B64.encode(thumb),
            contact: payload["contact"].clone(),
        });
        let url = format!("account/{}", book.accounts.len() - 1);
        Reply::json(201, &json!({ "status": "valid" })).header("location", self.url(&url))
    }

    fn new_order(&self, payload: &Value) -> Reply {
        let replaces = payload["replaces"].as_str().map(str::to_owned);
        let identifiers = payload["identifiers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if identifiers.iter().any(|it| it["type"] != "dns") || identifiers.is_empty() {
            return self.complain("an order without names");
        }
        let mut book = self.book.lock();
        if let Some(replaced) = &replaces {
            if !book.issued.contains(replaced) {
                drop(book);
                return self.complain("it replaces what was not issued");
            }
            if !book.replaced.insert(replaced.clone()) {
                return Reply::problem(409, "alreadyReplaced", "it was replaced before");
            }
        }
        let mut order = Ordered {
            names: Vec::new(),
            replaces,
            authorizations: Vec::new(),
            certificate: None,
        };
        for identifier in &identifiers {
            let domain = identifier["value"].as_str().unwrap().to_owned();
            order.names.push(domain.clone());
            order.authorizations.push(book.authorizations.len());
            let token = B64.encode(fastrand::u128(..).to_ne_bytes());
            book.authorizations.push(Authorization {
                domain,
                token,
                status: "pending",
                error: None,
            });
        }
        book.orders.push(order);
        let number = book.orders.len() - 1;
        drop(book);
        let mut reply = self.order(number);
        reply.status = 201;
        reply.header("location", self.url(&format!("order/{number}")))
    }

    fn order(&self, number: usize) -> Reply {
        let book = self.book.lock();
        let order = &book.orders[number];
        let status = |at: &usize| book.authorizations[*at].status;
        let all = || order.authorizations.iter();
        let status = if order.certificate.is_some() {
            "valid"
        } else if all().any(|at| status(at) == "invalid") {
            "invalid"
        } else if all().all(|at| status(at) == "valid") {
            "ready"
        } else {
            "pending"
        };
        let identifiers = order.names.iter();
        let identifiers: Vec<_> = identifiers
            .map(|name| json!({ "type": "dns", "value": name }))
            .collect();
        let authorizations: Vec<_> = all()
            .map(|at| self.url(&format!("authorization/{at}")))
            .collect();
        let mut body = json!({
            "status": status,
            "identifiers": identifiers,
            "authorizations": authorizations,
            "finalize": self.url(&format!("finalize/{number}")),
        });
        if let Some(replaces) = &order.replaces {
            body["replaces"] = json!(replaces);
        }
        if order.certificate.is_some() {
            body["certificate"] = json!(self.url(&format!("certificate/{number}")));
        }
        Reply::json(200, &body)
    }

    fn authorization(&self, number: usize) -> Reply {
        let book = self.book.lock();
        let it = &book.authorizations[number];
        let challenge = |kind: &str| {
            let mut challenge = json!({
                "type": kind,
                "url": self.url(&format!("challenge/{number}/{kind}")),
                "token": it.token,
                "status": it.status,
            });
            if let Some(error) = &it.error {
                challenge["error"] = error.clone();
            }
            challenge
        };
        let body = json!({
            "status": it.status,
            "identifier": { "type": "dns", "value": it.domain },
            "challenges": [challenge("dns-01"), challenge("http-01"), challenge("tls-alpn-01")],
        });
        Reply::json(200, &body)
    }

    /// The client is ready: the validation begins.
    fn challenge(self: &Arc<Self>, rest: &str, account: usize) -> Reply {
        let (number, kind) = rest.split_once('/').unwrap();
        let number: usize = number.parse().unwrap();
        let (it, thumb) = {
            let book = self.book.lock();
            let it = book.authorizations[number].clone();
            (it, book.accounts[account].thumb.clone())
        };
        let (state, kind) = (Arc::clone(self), kind.to_owned());
        let (token, url) = (it.token.clone(), self.url(&format!("challenge/{rest}")));
        let body = json!({ "type": kind, "url": url, "token": token, "status": "processing" });
        tokio::spawn(async move {
            let proof = format!("{}.{thumb}", it.token);
            let at = state
                .domains_at
                .subscribe()
                .wait_for(Option::is_some)
                .await
                .unwrap()
                .unwrap();
            let outcome = match kind.as_str() {
                "http-01" => by_http(at, &it, &proof).await,
                "tls-alpn-01" => by_tls(at, &it, &proof).await,
                other => Err(format!("{other} is not validated here")),
            };
            let mut book = state.book.lock();
            let it = &mut book.authorizations[number];
            match outcome {
                Ok(()) => it.status = "valid",
                Err(detail) => {
                    it.status = "invalid";
                    let kind = "urn:ietf:params:acme:error:incorrectResponse";
                    it.error = Some(json!({ "type": kind, "detail": detail }));
                }
            }
        });
        Reply::json(200, &body)
    }

    fn finalize(&self, number: usize, payload: &Value) -> Reply {
        let csr = B64
            .decode(payload["csr"].as_str().unwrap_or_default())
            .unwrap_or_default();
        let csr = CertificateSigningRequestDer::from(csr);
        let mut request = match CertificateSigningRequestParams::from_der(&csr) {
            Ok(request) => request,
            Err(error) => return self.complain(format!("badCSR: {error}")),
        };
        let wanted: HashSet<String> = request
            .params
            .subject_alt_names
            .iter()
            .map(|name| match name {
                rcgen::SanType::DnsName(name) => name.to_string(),
                other => format!("{other:?}"),
            })
            .collect();
        let ordered = self.book.lock().orders[number].clone();
        if wanted != ordered.names.iter().cloned().collect() {
            return self.complain(format!("badCSR: {wanted:?} instead of {:?}", ordered.names));
        }
        let pending = ordered.authorizations.iter();
        let mut book = self.book.lock();
        if pending
            .into_iter()
            .any(|at| book.authorizations[*at].status != "valid")
        {
            return Reply::problem(403, "orderNotReady", "not every name is proven");
        }
        let serial = [0x51, u8::try_from(book.issued.len()).unwrap()];
        let params = &mut request.params;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(3600);
        params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(90 * 86_400);
        let certificate = request.signed_by(&self.issuer).unwrap();
        book.orders[number].certificate =
            Some(format!("{}{}", certificate.pem(), self.issuer.pem()));
        book.issued
            .push(format!("{}.{}", B64.encode(AUTHORITY), B64.encode(serial)));
        drop(book);
        self.order(number)
    }
}

/// RFC 8555 section 8.3.
async fn by_http(at: SocketAddr, it: &Authorization, proof: &str) -> Result<(), String> {
    let path = format!("/.well-known/acme-challenge/{}", it.token);
    let request = Request::get(&path).header("host", &it.domain);
    let mut client = Client::try_connect(at)
        .await
        .map_err(|error| error.to_string())?;
    let answer = client
        .try_send(&request)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != 200 || answer.body != proof.as_bytes() {
        let body = String::from_utf8_lossy(&answer.body);
        return Err(format!("{path}: {} {body}", answer.status));
    }
    Ok(())
}

/// RFC 8737 section 3.
async fn by_tls(at: SocketAddr, it: &Authorization, proof: &str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = TcpStream::connect(at)
        .await
        .map_err(|error| error.to_string())?;
    let name = ServerName::try_from(it.domain.clone()).unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = patiently("a handshake", handshake)
        .await
        .map_err(|e| e.to_string())?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("acme-tls/1 was not agreed on".to_owned());
    }
    let leaf = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .cloned()
        .unwrap();
    let has = |bytes: &[u8]| leaf.windows(bytes.len()).any(|some| some == bytes);
    // subjectAltName: this domain alone; critical, since there is no subject (RFC 5280 section 4.1.2.6).
    // webpki does not read a certificate with what follows.
    let length = u8::try_from(it.domain.len()).unwrap();
    let mut names = vec![6, 3, 0x55, 0x1d, 0x11, 1, 1, 0xff, 4, length + 4];
    names.extend_from_slice(&[0x30, length + 2, 0x82, length]);
    names.extend_from_slice(it.domain.as_bytes());
    if !has(&names) {
        return Err("the certificate is not for this domain alone".to_owned());
    }
    // The extension as a whole: id-pe-acmeIdentifier, critical, the digest in an OCTET STRING.
    let mut extension = vec![
        6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f, 1, 1, 0xff, 4, 0x22, 4, 0x20,
    ];
    extension.extend_from_slice(digest::digest(&digest::SHA256, proof.as_bytes()).as_ref());
    if !has(&extension) {
        return Err("the acmeIdentifier is missing or wrong".to_owned());
    }
    // Nobody answers requests on such a connection.
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .ok();
    let mut bytes = Vec::new();
    patiently("the close", stream.read_to_end(&mut bytes))
        .await
        .ok();
    if bytes.is_empty() {
        Ok(())
    } else {
        Err("data on a connection of acme-tls/1".to_owned())
    }
}

fn decode_json(text: &str) -> Option<Value> {
    serde_json::from_slice(&B64.decode(text).ok()?).ok()
}

/// The uncompressed point of a key.
fn point(jwk: &Value) -> Vec<u8> {
    let part = |name: &str| {
        B64.decode(jwk[name].as_str().unwrap_or_default())
            .unwrap_or_default()
    };
    [vec![4], part("x"), part("y")].concat()
}

/// A validation looks at the certificate itself.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(
            "TLS 1.3 was offered alone".to_owned(),
        ))
    }

    /// The server has the key, though webpki does not read its certificate.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        // A key on the curve P-256, in the form that certificates have it.
        let form = [
            0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86,
            0x48, 0xce, 0x3d, 3, 1, 7,
        ];
        let mut keys = certificate.windows(91).filter(|key| key.starts_with(&form));
        let key = SubjectPublicKeyInfoDer::from(keys.next().unwrap());
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
