//! Handshakes in memory: which settings and which certificate a client's hello leads to.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::Acceptor;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;

use super::*;
use crate::config::model::{Ask, Certificate, ClientAuth, NamedFile, Protocols, Tls, TlsVersion};

/// 2030-01-01.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_893_456_000)
}

struct Made {
    der: Vec<u8>,
    pem: String,
    key_pem: String,
    key: rcgen::KeyPair,
}

fn make(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Made {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let cert = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Made {
        der: cert.der().to_vec(),
        pem: cert.pem(),
        key_pem: key.serialize_pem(),
        key,
    }
}

fn ecdsa(names: &[&str]) -> Made {
    make(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

/// Files of one listener.
struct Site {
    folder: TempDir,
    tls: Tls,
}

impl Site {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            tls: Tls {
                certificates: Vec::new(),
                acme: true,
                min_version: TlsVersion::V12,
                cipher_suites: Vec::new(),
                client_auth: ClientAuth::Off,
                ticket_keys: Vec::new(),
            },
        }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> NamedFile {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        NamedFile {
            typed: Arc::from(name),
            path,
        }
    }

    fn pair(self, name: &str, made: &Made) -> Self {
        let auth = ClientAuth::Off;
        self.pair_asking(name, made, auth)
    }

    fn pair_asking(mut self, name: &str, made: &Made, client_auth: ClientAuth) -> Self {
        let certificate = Certificate {
            cert: self.file(&format!("{name}.pem"), &made.pem),
            key: self.file(&format!("{name}.key"), &made.key_pem),
            ocsp: None,
            client_auth,
        };
        self.tls.certificates.push(certificate);
        self
    }

    fn requiring(&self, name: &str, ca: &Made) -> ClientAuth {
        ClientAuth::Ask(Ask {
            required: true,
            ca: self.file(name, &ca.pem),
            crl: None,
            forward_chain: false,
        })
    }

    fn serve(&self) -> (Arc<Server>, Arc<Shared>) {
        let shared = Shared::new().unwrap();
        (
            Server::read(&self.tls, Protocols::default(), &shared, now()).unwrap(),
            shared,
        )
    }
}

#[derive(Debug)]
struct TrustAnyone(Vec<SignatureScheme>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// What a client offers.
#[derive(Clone)]
struct Offer {
    name: Option<&'static str>,
    protocols: Vec<&'static [u8]>,
    schemes: Vec<SignatureScheme>,
    /// Words of the names of cipher suites; those with the first one come first.
    suites: Vec<&'static str>,
}

fn offer(name: &'static str) -> Offer {
    Offer {
        name: Some(name),
        protocols: vec![b"http/1.1"],
        schemes: aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes(),
        suites: Vec::new(),
    }
}

impl Offer {
    fn protocols(mut self, protocols: &[&'static [u8]]) -> Self {
        self.protocols = protocols.to_vec();
        self
    }

    fn schemes(mut self, schemes: &[SignatureScheme]) -> Self {
        self.schemes = schemes.to_vec();
        self
    }

    fn client(&self) -> ClientConnection {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| {
            let name = suite.suite().as_str().unwrap();
            self.suites.iter().position(|word| name.contains(word))
        });
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnyone(self.schemes.clone())))
            .with_no_client_auth();
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        config.enable_sni = self.name.is_some();
        let name = ServerName::try_from(self.name.unwrap_or("nobody")).unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// What the server chooses, and the certificate that it shows if it goes on.
    fn to(&self, server: &Server) -> (Choice, Result<Vec<u8>, rustls::Error>) {
        let (choice, client) = self.greets(server);
        let shown = client.map(|client| client.peer_certificates().unwrap()[0].to_vec());
        (choice, shown)
    }

    /// The cipher suite that is agreed on.
    fn agreed(&self, server: &Server) -> String {
        let client = self.greets(server).1.unwrap();
        let suite = client.negotiated_cipher_suite().unwrap().suite();
        suite.as_str().unwrap().to_owned()
    }

    /// The client once the server has answered its first message.
    fn greets(&self, server: &Server) -> (Choice, Result<ClientConnection, rustls::Error>) {
        let mut client = self.client();
        let mut acceptor = Acceptor::default();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        acceptor.read_tls(&mut &hello[..]).unwrap();
        let accepted = acceptor.accept().ok().flatten().unwrap();
        let choice = server.choose(&accepted.client_hello());
        let connection = accepted.into_connection(Arc::clone(&choice.config));
        let client = connection.map_err(|(error, _)| error).map(|mut session| {
            let mut bytes = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
            client
        });
        (choice, client)
    }

    fn shown(&self, server: &Server) -> Vec<u8> {
        self.to(server).1.unwrap()
    }
}

fn scope(choice: Choice) -> Scope {
    choice.scope.expect("several policies")
}

#[test]
fn names_are_matched_exactly_then_by_wildcard_of_one_label_then_by_the_first() {
    let (first, wild, exact) = (
        ecdsa(&["first.test"]),
        ecdsa(&["*.shop.test", "shop.test"]),
        ecdsa(&["a.shop.test"]),
    );
    let site = Site::new()
        .pair("first", &first)
        .pair("wild", &wild)
        .pair("exact", &exact);
    let (server, _) = site.serve();
    for (name, made) in [
        ("first.test", &first),
        ("shop.test", &wild),
        ("b.shop.test", &wild),
        ("B.SHOP.test", &wild),
        ("a.shop.test", &exact),
        ("A.Shop.Test", &exact),
        ("x.a.shop.test", &first),
        ("b.b.shop.test", &first),
        ("unknown.test", &first),
    ] {
        assert!(offer(name).shown(&server) == made.der, "{name}");
    }
    let nameless = Offer {
        name: None,
        ..offer("")
    };
    assert!(nameless.shown(&server) == first.der);
}

#[test]
fn the_dot_of_the_root_and_the_case_make_no_difference() {
    assert_eq!(certificates::canonical("A.shop.TEST."), "a.shop.test");
}

#[test]
fn of_two_keys_for_a_name_the_client_gets_one_that_it_can_verify() {
    let rsa = make(&["shop.test"], &rcgen::PKCS_RSA_SHA256);
    let curve = ecdsa(&["shop.test"]);
    // ECDSA first, in whatever order they stand.
    let site = Site::new().pair("rsa", &rsa).pair("ecdsa", &curve);
    let (server, _) = site.serve();
    assert!(offer("shop.test").shown(&server) == curve.der);
    assert!(offer("other.test").shown(&server) == curve.der);
    let old = offer("shop.test").schemes(&[SignatureScheme::RSA_PSS_SHA256]);
    assert!(old.shown(&server) == rsa.der);
    let old = offer("other.test").schemes(&[SignatureScheme::RSA_PSS_SHA256]);
    assert!(old.shown(&server) == rsa.der);
}

#[test]
fn a_client_that_offers_only_unknown_protocols_is_refused() {
    let site = Site::new().pair("shop", &ecdsa(&["shop.test"]));
    let (server, _) = site.serve();
    let (_, shown) = offer("shop.test").protocols(&[b"spdy/3"]).to(&server);
    assert_eq!(shown, Err(rustls::Error::NoApplicationProtocol));
    // Nothing offered is a client of HTTP/1.1.
    offer("shop.test").protocols(&[]).shown(&server);
}

#[test]
fn what_is_issued_while_the_process_runs_is_shown_at_once() {
    let file = ecdsa(&["shop.test", "*.shop.test"]);
    let site = Site::new().pair("shop", &file);
    let (server, shared) = site.serve();
    let issued = ecdsa(&["api.shop.test", "shop.test", "new.test"]);
    assert!(offer("new.test").shown(&server) == file.der);

    let pair = Pair::from_pem("acme", issued.pem.as_bytes(), issued.key_pem.as_bytes()).unwrap();
    shared.issued.insert(pair);
    assert!(offer("new.test").shown(&server) == issued.der);
    assert!(offer("api.shop.test").shown(&server) == issued.der);
    assert!(
        offer("shop.test").shown(&server) == file.der,
        "a file's name"
    );
    assert!(offer("b.shop.test").shown(&server) == file.der);

    let renewed = ecdsa(&["new.test"]);
    let pair = Pair::from_pem("acme", renewed.pem.as_bytes(), renewed.key_pem.as_bytes()).unwrap();
    shared.issued.insert(pair);
    assert!(offer("new.test").shown(&server) == renewed.der);
    assert_eq!(shared.issued.pairs().len(), 1);
    shared.issued.remove("acme");
    assert!(offer("new.test").shown(&server) == file.der);
}

#[test]
fn a_listener_without_acme_shows_its_files_alone() {
    let file = ecdsa(&["shop.test"]);
    let mut site = Site::new().pair("shop", &file);
    site.tls.acme = false;
    let (server, shared) = site.serve();
    let issued = ecdsa(&["new.test"]);
    let pair = Pair::from_pem("acme", issued.pem.as_bytes(), issued.key_pem.as_bytes()).unwrap();
    shared.issued.insert(pair);
    assert!(offer("new.test").shown(&server) == file.der);
}

#[test]
fn a_challenge_is_shown_to_exactly_its_protocol_and_asks_for_no_certificate() {
    let file = ecdsa(&["shop.test"]);
    let mut site = Site::new().pair("shop", &file);
    let auth = site.requiring("ca.pem", &ecdsa(&["ca"]));
    site.tls.client_auth = auth.clone();
    site.tls.certificates[0].client_auth = auth;
    let (server, shared) = site.serve();
    let asked = offer("Shop.test").protocols(&[ACME_TLS_ALPN]);
    let (choice, shown) = asked.to(&server);
    assert!(!choice.is_challenge);
    assert_eq!(shown, Err(rustls::Error::NoApplicationProtocol));

    let answer = ecdsa(&["shop.test"]);
    let key = CertifiedKey::from_der(
        vec![answer.der.clone().into()],
        PrivateKeyDer::try_from(answer.key.serialize_der()).unwrap(),
        &aws_lc_rs::default_provider(),
    )
    .unwrap();
    shared.issued.challenge("shop.test", Arc::new(key));
    let (choice, shown) = asked.to(&server);
    assert!(choice.is_challenge);
    assert!(shown.unwrap() == answer.der);

    let both = offer("shop.test").protocols(&[ACME_TLS_ALPN, b"http/1.1"]);
    let (choice, shown) = both.to(&server);
    assert!(!choice.is_challenge && shown.unwrap() == file.der);
    let other = offer("other.test").protocols(&[ACME_TLS_ALPN]);
    assert!(!other.to(&server).0.is_challenge);

    shared.issued.forget_challenge("SHOP.test");
    assert!(!asked.to(&server).0.is_challenge);
}

#[test]
fn a_connection_may_ask_for_hosts_of_its_own_policy_only() {
    let (open, staff) = (
        ecdsa(&["shop.test", "*.shop.test"]),
        ecdsa(&["*.staff.test"]),
    );
    let site = Site::new().pair("open", &open);
    let auth = site.requiring("ca.pem", &ecdsa(&["ca"]));
    let site = site.pair_asking("staff", &staff, auth);
    let (server, shared) = site.serve();

    let anyone = scope(offer("a.shop.test").to(&server).0);
    for host in [
        "a.shop.test",
        "A.SHOP.test:443",
        "b.shop.test",
        "unknown.test",
        "",
    ] {
        assert!(anyone.admits(host), "{host}");
    }
    for host in ["a.staff.test", "A.Staff.test:8443", "a.staff.test."] {
        assert!(!anyone.admits(host), "{host}");
    }
    let member = scope(offer("a.staff.test").to(&server).0);
    assert!(member.admits("b.staff.test") && member.admits("a.staff.test:443"));
    for host in ["shop.test", "[::1]:443", "x.a.staff.test", ""] {
        assert!(!member.admits(host), "{host}");
    }

    // No certificate that is issued later loosens what a file says.
    let issued = ecdsa(&["a.staff.test"]);
    let pair = Pair::from_pem("acme", issued.pem.as_bytes(), issued.key_pem.as_bytes()).unwrap();
    shared.issued.insert(pair);
    assert!(scope(offer("a.staff.test").to(&server).0).admits("b.staff.test"));
    assert!(!anyone.admits("a.staff.test"));
}

#[test]
fn where_there_is_one_policy_every_host_may_be_asked_for() {
    let site = Site::new()
        .pair("one", &ecdsa(&["one.test"]))
        .pair("two", &ecdsa(&["two.test"]));
    let (server, _) = site.serve();
    let anyone = scope(offer("one.test").to(&server).0);
    assert!(anyone.admits("two.test") && anyone.admits("unknown.test") && anyone.stands());
}

#[test]
fn a_policy_that_a_reload_changes_holds_for_connections_that_are_open() {
    let (open, staff) = (ecdsa(&["shop.test"]), ecdsa(&["staff.test"]));
    let site = Site::new().pair("open", &open).pair("staff", &staff);
    let (before, shared) = site.serve();
    let auth = site.requiring("ca.pem", &ecdsa(&["ca"]));
    let mut stricter = site.tls.clone();
    stricter.certificates[1].client_auth = auth;
    let read = |tls: &Tls| {
        let spoken = Protocols::default();
        Server::read(tls, spoken, &shared, now()).unwrap()
    };
    let [at_shop, at_staff] =
        ["shop.test", "staff.test"].map(|name| scope(offer(name).to(&before).0));
    let both = |current: &Arc<Server>| {
        [&at_shop, &at_staff].map(|scope| {
            scope.follow(|| Some(Arc::clone(current)));
            let hosts = ["shop.test", "staff.test"].map(|host| scope.admits(host));
            (scope.stands(), hosts)
        })
    };
    assert_eq!(both(&before), [(true, [true, true]); 2]);

    let after = read(&stricter);
    assert_eq!(both(&after), [(true, [true, true]); 2], "nobody has told");
    shared.changed();
    assert_eq!(
        both(&after),
        [(true, [true, false]), (false, [true, false])],
        "a client that has shown nothing"
    );
    // And back, with settings that are new and the same.
    let again = read(&site.tls);
    shared.changed();
    assert_eq!(both(&again), [(true, [true, true]); 2]);
}

#[test]
fn two_certificates_for_one_name_must_ask_for_the_same() {
    let site = Site::new().pair("one", &ecdsa(&["shop.test"]));
    let auth = site.requiring("ca.pem", &ecdsa(&["ca"]));
    let rsa = make(&["shop.test"], &rcgen::PKCS_RSA_SHA256);
    let site = site.pair_asking("two", &rsa, auth);
    let error = Server::read(
        &site.tls,
        Protocols::default(),
        &Shared::new().unwrap(),
        now(),
    )
    .unwrap_err();
    let words = error.to_string();
    for part in ["one.pem", "two.pem", "shop.test", "client_auth"] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_pair_that_turns_bad_stays_as_it_was_while_others_are_renewed() {
    let (one, two) = (ecdsa(&["one.test"]), ecdsa(&["two.test"]));
    let site = Site::new().pair("one", &one).pair("two", &two);
    let (server, _) = site.serve();
    let failed = || {
        let files = server.files().into_iter().filter(|file| file.failed);
        files.map(|file| file.name.to_string()).collect::<Vec<_>>()
    };
    assert!(!server.refresh(now()), "nothing has changed");

    let renewed = ecdsa(&["two.test"]);
    site.file("one.key", &two.key_pem);
    site.file("two.pem", &renewed.pem);
    site.file("two.key", &renewed.key_pem);
    assert!(server.refresh(now()));
    assert_eq!(failed(), ["one.pem"]);
    assert!(offer("one.test").shown(&server) == one.der);
    assert!(offer("two.test").shown(&server) == renewed.der);
    assert!(!server.refresh(now()), "the same is not tried twice");

    for content in ["", "garbage"] {
        site.file("one.pem", content);
        server.refresh(now());
        assert_eq!(failed(), ["one.pem"]);
        assert!(offer("one.test").shown(&server) == one.der);
    }
    std::fs::remove_file(site.folder.path().join("two.key")).unwrap();
    server.refresh(now());
    assert_eq!(failed(), ["one.pem", "two.pem"]);

    let good = ecdsa(&["one.test", "three.test"]);
    site.file("one.pem", &good.pem);
    site.file("one.key", &good.key_pem);
    site.file("two.key", &renewed.key_pem);
    assert!(server.refresh(now()));
    assert_eq!(failed(), [] as [&str; 0]);
    assert!(offer("three.test").shown(&server) == good.der);
    assert!(offer("two.test").shown(&server) == renewed.der);
}

#[test]
fn authorities_and_ticket_keys_that_turn_bad_stay_as_they_were_and_follow_when_good() {
    let mut site = Site::new().pair("shop", &ecdsa(&["shop.test"]));
    let auth = site.requiring("ca.pem", &ecdsa(&["ca"]));
    site.tls.client_auth = auth.clone();
    site.tls.certificates[0].client_auth = auth;
    site.tls.ticket_keys = vec![site.file("tickets.key", [1; 80])];
    let (server, _) = site.serve();
    let config = || offer("shop.test").to(&server).0.config;
    let ticket = config().ticketer.encrypt(b"session").unwrap();
    let failed = || {
        let files = server.files().into_iter().filter(|file| file.failed);
        files.map(|file| file.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(failed(), [] as [&str; 0]);

    site.file("ca.pem", "");
    site.file("tickets.key", "one key");
    server.refresh(now());
    assert_eq!(failed(), ["ca.pem", "tickets.key"]);
    assert!(config().ticketer.decrypt(&ticket).is_some());

    // Other authorities are another policy: what was given under the old one is over.
    site.file("ca.pem", &ecdsa(&["other"]).pem);
    site.file("tickets.key", [1; 80]);
    server.refresh(now());
    assert_eq!(failed(), [] as [&str; 0]);
    assert!(config().ticketer.decrypt(&ticket).is_none());
}

#[test]
fn a_staple_is_sent_while_it_holds_and_a_bad_one_is_complained_about() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["shop.test".to_owned()]).unwrap();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x11]));
    let cert = params.self_signed(&key).unwrap();
    let made = Made {
        der: cert.der().to_vec(),
        pem: cert.pem(),
        key_pem: key.serialize_pem(),
        key,
    };
    let mut site = Site::new().pair("shop", &made);
    let good = ocsp::tests::response(&[0x11], 0x80, "20291231000000Z", Some("20300102000000Z"));
    site.tls.certificates[0].ocsp = Some(site.file("shop.ocsp", &good));
    let (server, _) = site.serve();
    let staple = |server: &Server| {
        let state = server.pairs_for_tests();
        state[0].key().ocsp.clone()
    };
    assert_eq!(staple(&server).as_deref(), Some(&good[..]));

    // Its end comes without any file changing.
    let later = now() + Duration::from_secs(86_400);
    assert!(server.refresh(later));
    assert_eq!(staple(&server), None);
    assert!(
        server
            .files()
            .iter()
            .any(|file| file.failed && &*file.name == "shop.ocsp")
    );

    let next = ocsp::tests::response(&[0x11], 0x80, "20300101000000Z", Some("20300109000000Z"));
    site.file("shop.ocsp", &next);
    assert!(server.refresh(later));
    assert_eq!(staple(&server).as_deref(), Some(&next[..]));
    let other = ocsp::tests::response(&[0x12], 0x80, "20300101000000Z", None);
    site.file("shop.ocsp", &other);
    server.refresh(later);
    assert_eq!(staple(&server), None);
    assert!(offer("shop.test").shown(&server) == made.der);
}

#[test]
fn the_order_of_cipher_suites_is_ours_unless_a_client_has_no_hardware_for_aes() {
    let made = ecdsa(&["shop.test"]);
    let (server, _) = Site::new().pair("shop", &made).serve();
    let listed = |suites: &[&str]| {
        let mut site = Site::new().pair("shop", &made);
        let known = crate::config::model::CipherSuite::ALL.iter();
        let all: Vec<_> = known.copied().collect();
        let find = |name: &&str| *all.iter().find(|it| it.as_str() == *name).unwrap();
        site.tls.cipher_suites = suites.iter().map(find).collect();
        site.serve().0
    };
    let both = listed(&["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"]);
    let asks = |words: &[&'static str], server: &Server| {
        let suites = words.to_vec();
        let offer = Offer {
            suites,
            ..offer("shop.test")
        };
        offer.agreed(server)
    };
    for (words, of_all, of_both) in [
        (
            ["AES_256", "AES_128", "CHACHA20"],
            "TLS13_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384",
        ),
        (
            ["AES_128", "AES_256", "CHACHA20"],
            "TLS13_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384",
        ),
        (
            ["AES_256", "CHACHA20", "AES_128"],
            "TLS13_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384",
        ),
        (
            ["CHACHA20", "AES_256", "AES_128"],
            "TLS13_CHACHA20_POLY1305_SHA256",
            "TLS13_AES_256_GCM_SHA384",
        ),
    ] {
        assert_eq!(asks(&words, &server), of_all, "{words:?}");
        assert_eq!(asks(&words, &both), of_both, "{words:?}");
    }
}

#[test]
fn cipher_suites_and_versions_are_what_the_config_says() {
    use crate::config::model::CipherSuite;
    let made = ecdsa(&["shop.test"]);
    for suite in CipherSuite::ALL {
        let mut site = Site::new().pair("shop", &made);
        site.tls.cipher_suites = vec![*suite];
        let (server, _) = site.serve();
        let suites = server.suites_for_tests();
        assert_eq!(suites.len(), 1, "{}", suite.as_str());
    }
    let mut site = Site::new().pair("shop", &made);
    site.tls.min_version = TlsVersion::V13;
    let (server, _) = site.serve();
    assert!(offer("shop.test").to(&server).1.is_ok());
}
