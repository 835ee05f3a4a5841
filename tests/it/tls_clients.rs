//! HTTPS: client certificates, session tickets, and what keeps one client out of another's place.

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tempfile::{TempDir, tempdir};

use crate::harness::{Authority, Client, Config, Gate, Origin, Reply, Request, Speaks, TlsClient};
use crate::http2::wire::{END_STREAM, Wire, headers};
use crate::log_lines::{json, lines};

const PAIR: &str = "certificates: [{ cert: shop.pem, key: shop.key }]";

/// A folder with a pair for `shop.test` and the certificates of two authorities of clients.
struct Site {
    folder: TempDir,
    authority: Authority,
    staff: Authority,
    partners: Authority,
}

impl Site {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let authority = Authority::new("servers");
        let pair = authority.issue(&["shop.test"], 2040);
        pair.write(folder.path(), "shop");
        let site = Self {
            staff: Authority::new("staff"),
            partners: Authority::new("partners"),
            folder,
            authority,
        };
        for (name, ca) in [("staff", &site.staff), ("partners", &site.partners)] {
            let path = site.folder.path().join(format!("{name}-ca.pem"));
            std::fs::write(path, ca.pem()).unwrap();
        }
        site
    }

    fn client(&self, speaks: Speaks<'_>) -> TlsClient {
        TlsClient::new(&self.authority, speaks)
    }
}

fn listener(ip: &str, more: &str) -> String {
    format!("address: {ip}:0, tls: {{ {PAIR}, {more} }}")
}

#[tokio::test]
async fn a_required_certificate_is_verified_and_told_to_the_endpoint() {
    let site = Site::new();
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(
        "127.0.0.1",
        "client_auth: { mode: require, ca: staff-ca.pem, forward_chain: true }",
    ));
    let (member, stranger) = (
        site.staff.issue(&["ann"], 2040),
        site.partners.issue(&["eve"], 2040),
    );
    let both = [
        Speaks::default(),
        Speaks {
            shows: Some(&stranger),
            ..Speaks::default()
        },
    ];
    let refused: Vec<TlsClient> = both.map(|speaks| site.client(speaks)).into();
    let ann = |versions| {
        site.client(Speaks {
            shows: Some(&member),
            versions,
            ..Speaks::default()
        })
    };
    let clients = [ann(&[&TLS13]), ann(&[&TLS12])];
    let Site { folder, .. } = site;
    let gate = Gate::start_in(folder, &config).await;

    for client in refused {
        assert!(client.visit(gate.address, "shop.test").await.is_err());
    }
    assert_eq!(origin.connections(), 0);
    gate.until(
        "headgate_connections_closed_total",
        &[("reason", "tls_handshake")],
        2.0,
    )
    .await;

    for client in clients {
        // Told again when the session goes on from a ticket.
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = client.shake(gate.address, "shop.test").await.unwrap();
            let seen = stream.get_ref().1.handshake_kind().unwrap();
            assert!(
                seen == kind || seen == HandshakeKind::FullWithHelloRetryRequest,
                "{seen:?}"
            );
            let request = Request::get("/me")
                .header("Client-Cert", ":Zm9yZ2Vk:")
                .header("client_cert", ":Zm9yZ2Vk:")
                .header("Client-Cert-Chain", ":Zm9yZ2Vk:")
                .header("Connection", "client-cert");
            Client::over(stream).send(&request).await.expect(200);
            let head = origin.last("/me");
            assert_eq!(head.all("client-cert"), [byte_sequence(&member.der)]);
            assert_eq!(head.all("client_cert"), [] as [&str; 0]);
            assert_eq!(head.all("client-cert-chain"), [] as [&str; 0]);
        }
    }
}

/// RFC 8941 section 3.3.5.
fn byte_sequence(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from(":");
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for at in 0..4 {
            let index = (word >> (18 - 6 * at)) & 63;
            let padded = at > group.len();
            text.push(if padded {
                '='
            } else {
                ALPHABET[index as usize].into()
            });
        }
    }
    text.push(':');
    text
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_wrong_and_is_never_forged() {
    let site = Site::new();
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener(&listener(
            "127.0.0.1",
            "client_auth: { mode: optional, ca: staff-ca.pem }",
        ))
        .listener(&listener("127.0.0.2", "min_version: \"1.2\""))
        .listener("address: 127.0.0.3:0");
    let stranger = site.partners.issue(&["eve"], 2040);
    let nobody = site.client(Speaks::default());
    let eve = site.client(Speaks {
        shows: Some(&stranger),
        ..Speaks::default()
    });
    let Site { folder, .. } = site;
    let gate = Gate::start_in(folder, &config).await;

    assert!(eve.visit(gate.address, "shop.test").await.is_err());
    assert_eq!(origin.connections(), 0);
    let forged = Request::get("/me")
        .header("client-cert", ":Zm9yZ2Vk:")
        .header("Client_Cert_Chain", ":Zm9yZ2Vk:");
    let mut clients = vec![Client::connect(gate.listeners[2]).await];
    for address in &gate.listeners[..2] {
        clients.push(nobody.connect(*address, "shop.test").await.unwrap());
    }
    for mut client in clients {
        client.send(&forged).await.expect(200);
        let head = origin.last("/me");
        for name in ["client-cert", "client_cert_chain", "client-cert-chain"] {
            assert_eq!(head.all(name), [] as [&str; 0], "{name}");
        }
    }
}

/// A gate that caches whom an origin was told, and two clients of it.
struct Cached {
    origin: Origin,
    _gate: Gate,
    /// Shows a certificate.
    known: Client,
    /// That, as the origin is told.
    certificate: String,
    unknown: Client,
}

impl Cached {
    async fn start(cache_control: &'static str) -> Self {
        let site = Site::new();
        let origin = Origin::start("a").await.on("/mine", move |seen| {
            let who = seen.header("client-cert").unwrap_or("nobody").to_owned();
            Reply::ok(who).header("cache-control", cache_control)
        });
        let config = Config::cached(&[&origin]).only_listener(&listener(
            "127.0.0.1",
            "client_auth: { mode: optional, ca: staff-ca.pem }",
        ));
        let member = site.staff.issue(&["ann"], 2040);
        let ann = site.client(Speaks {
            shows: Some(&member),
            ..Speaks::default()
        });
        let nobody = site.client(Speaks::default());
        let gate = Gate::start_in(site.folder, &config).await;
        Self {
            origin,
            known: ann.connect(gate.address, "shop.test").await.unwrap(),
            certificate: byte_sequence(&member.der),
            unknown: nobody.connect(gate.address, "shop.test").await.unwrap(),
            _gate: gate,
        }
    }
}

#[tokio::test]
async fn what_was_answered_to_a_certificate_is_answered_to_nobody_else() {
    let mut cached = Cached::start("max-age=60").await;
    let request = Request::get("/mine");
    let told = cached.known.send(&request).await.expect(200);
    assert_eq!(told.text(), cached.certificate);
    let other = cached.unknown.send(&request).await.expect(200);
    assert_eq!(other.text(), "nobody");
    let again = cached.known.send(&request).await.expect(200);
    assert_eq!(again.text(), cached.certificate);
}

#[tokio::test]
async fn of_what_is_stored_nothing_is_for_a_certificate_whatever_it_asks_for() {
    // Not even what is for all: an origin that is told of certificates may mean all who show one.
    let mut cached = Cached::start("public, max-age=60").await;
    let stored = Request::get("/mine").header("cache-control", "only-if-cached");
    cached.known.send(&stored).await.problem(504);
    cached.unknown.send(&stored).await.problem(504);
    assert_eq!(cached.origin.requests("/mine"), 0);

    cached.known.get("/mine").await.expect(200);
    cached.unknown.send(&stored).await.problem(504);
    cached.unknown.get("/mine").await.expect(200);
    cached.known.send(&stored).await.problem(504);
    let hit = cached.unknown.send(&stored).await.expect(200);
    assert_eq!((hit.text(), hit.is_hit()), ("nobody", true));
    assert_eq!(cached.origin.requests("/mine"), 2);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_once_the_list_says_so() {
    let site = Site::new();
    let origin = Origin::start("a").await;
    let good = site.staff.issue_numbered(&["ann"], 7);
    let list = site.folder.path().join("staff-crl.pem");
    std::fs::write(&list, site.staff.revoke(8)).unwrap();
    let config = Config::to(&[&origin]).only_listener(&listener(
        "127.0.0.1",
        "client_auth: { mode: require, ca: staff-ca.pem, crl: staff-crl.pem }",
    ));
    let ann = site.client(Speaks {
        shows: Some(&good),
        ..Speaks::default()
    });
    let Site { folder, staff, .. } = site;
    let gate = Gate::start_in(folder, &config).await;
    assert_eq!(ann.visit(gate.address, "shop.test").await.unwrap().0, 200);

    crate::harness::replace(&list, staff.revoke(7));
    // Not by her ticket either: a policy with another list is another policy.
    crate::harness::eventually("she is refused", async || {
        ann.visit(gate.address, "shop.test")
            .await
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_host_of_another_policy_is_misdirected_and_reaches_no_endpoint() {
    let site = Site::new();
    site.authority
        .issue(&["staff.test"], 2040)
        .write(site.folder.path(), "staff");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: [\
         { cert: shop.pem, key: shop.key }, { cert: staff.pem, key: staff.key, \
         client_auth: { mode: require, ca: staff-ca.pem } }] }",
    );
    let member = site.staff.issue(&["ann"], 2040);
    let nobody = site.client(Speaks::default());
    let ann = site.client(Speaks {
        shows: Some(&member),
        ..Speaks::default()
    });
    let Site { folder, .. } = site;
    let gate = Gate::start_in(folder, &config).await;

    assert!(nobody.visit(gate.address, "staff.test").await.is_err());
    let mut client = nobody.connect(gate.address, "shop.test").await.unwrap();
    for host in ["staff.test", "STAFF.test:443"] {
        let request = Request::get("/secret").header("host", host);
        client.send(&request).await.problem(421);
    }
    assert_eq!(origin.requests("/secret"), 0);
    // The connection is good for its own host still, and for a name that nobody has.
    client.get("/open").await.expect(200);
    client
        .send(&Request::get("/open").header("host", "unknown.test"))
        .await
        .expect(200);
    gate.until("headgate_rejects_total", &[("reason", "misdirected")], 2.0)
        .await;

    let mut client = ann.connect(gate.address, "staff.test").await.unwrap();
    let request = |host| Request::get("/secret").header("host", host);
    client.send(&request("staff.test")).await.expect(200);
    client.send(&request("shop.test")).await.problem(421);
    assert_eq!(origin.requests("/secret"), 1);
}

#[tokio::test]
async fn over_http_2_too_a_host_of_another_policy_is_misdirected_and_the_rest_goes_on() {
    let site = Site::new();
    site.authority
        .issue(&["staff.test"], 2040)
        .write(site.folder.path(), "staff");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener(
            "address: 127.0.0.1:0, tls: { certificates: [\
             { cert: shop.pem, key: shop.key }, { cert: staff.pem, key: staff.key, \
             client_auth: { mode: require, ca: staff-ca.pem } }] }",
        )
        .top("access_log: { format: json, path: access.log }");
    let nobody = site.client(Speaks {
        protocols: &[b"h2"],
        ..Speaks::default()
    });
    let Site { folder, .. } = site;
    let gate = Gate::start_in(folder, &config).await;

    let stream = nobody.shake(gate.address, "shop.test").await.unwrap();
    let mut wire = Wire::over(stream);
    wire.open(&[]).await;
    for (id, host, status) in [
        (1, "staff.test", 421),
        (3, "STAFF.test:443", 421),
        (5, "shop.test", 200),
    ] {
        let asked = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", host),
            (":path", "/p"),
        ];
        wire.send(headers(id, END_STREAM, &asked)).await;
        wire.answer(id).await.expect(status);
    }
    assert_eq!(origin.requests("*"), 1);
    for line in lines(&gate, 3).await {
        assert_eq!(json(&line)["version"], "HTTP/2.0", "{}", json(&line));
    }
}

#[tokio::test]
async fn a_ticket_is_good_on_every_worker_and_after_a_reload() {
    let site = Site::new();
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .workers(4)
        .only_listener(&listener("127.0.0.1", "min_version: \"1.2\""));
    let clients = [
        site.client(Speaks::only(&[&TLS13])),
        site.client(Speaks::only(&[&TLS12])),
    ];
    let Site { folder, .. } = site;
    let gate = Gate::start_in(folder, &config).await;
    for client in &clients {
        let (_, kind) = client.visit(gate.address, "shop.test").await.unwrap();
        assert_ne!(kind, HandshakeKind::Resumed);
        // The kernel spreads connections over the workers.
        for _ in 0..24 {
            let visit = client.visit(gate.address, "shop.test").await.unwrap();
            assert_eq!(visit, (200, HandshakeKind::Resumed));
        }
    }
    gate.hang_up(&config).await;
    for client in &clients {
        let visit = client.visit(gate.address, "shop.test").await.unwrap();
        assert_eq!(visit, (200, HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn a_ticket_is_good_wherever_its_key_file_is() {
    let site = Site::new();
    let origin = Origin::start("a").await;
    let tls = listener("127.0.0.1", "ticket_keys: [tickets.key]");
    let config = Config::to(&[&origin]).only_listener(&tls);
    let client = site.client(Speaks::default());
    let keys = |numbers: &[&str]| numbers.map_lines();
    let other = tempdir().unwrap();
    for name in ["shop.pem", "shop.key"] {
        std::fs::copy(site.folder.path().join(name), other.path().join(name)).unwrap();
    }
    std::fs::write(site.folder.path().join("tickets.key"), keys(&["01"])).unwrap();
    // The other has a newer key, and knows the old one.
    std::fs::write(other.path().join("tickets.key"), keys(&["02", "01"])).unwrap();
    let Site { folder, .. } = site;
    let one = Gate::start_in(folder, &config).await;
    let two = Gate::start_in(other, &config).await;

    client.visit(one.address, "shop.test").await.unwrap();
    let visit = client.visit(two.address, "shop.test").await.unwrap();
    assert_eq!(visit, (200, HandshakeKind::Resumed));
    // Its tickets are sealed with the newer key, which the first learns from its file.
    let (_, kind) = client.visit(one.address, "shop.test").await.unwrap();
    assert_ne!(kind, HandshakeKind::Resumed);
    client.visit(two.address, "shop.test").await.unwrap();
    crate::harness::replace(&one.file("tickets.key"), keys(&["02", "01"]));
    crate::harness::eventually("the file is read", async || {
        client.visit(two.address, "shop.test").await.unwrap();
        let (_, kind) = client.visit(one.address, "shop.test").await.unwrap();
        (kind == HandshakeKind::Resumed).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_becomes_stricter_holds_for_connections_that_are_open() {
    let site = Site::new();
    site.authority
        .issue(&["staff.test"], 2040)
        .write(site.folder.path(), "staff");
    let origin = Origin::start("a").await;
    let config = |asks: &str| {
        let staff = format!("{{ cert: staff.pem, key: staff.key{asks} }}");
        Config::to(&[&origin]).one_worker().only_listener(&format!(
            "address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: shop.pem, key: shop.key }}, {staff}] }}"
        ))
    };
    let stricter = config(", client_auth: { mode: require, ca: staff-ca.pem }");
    let anybody = site.client(Speaks::default());
    let Site { folder, .. } = site;
    let gate = Gate::start_in(folder, &config("")).await;
    let (mut shop, mut staff) = (
        anybody.connect(gate.address, "shop.test").await.unwrap(),
        anybody.connect(gate.address, "staff.test").await.unwrap(),
    );
    let ask = |host: &str| Request::get("/p").header("host", host);
    for client in [&mut shop, &mut staff] {
        client.send(&ask("staff.test")).await.expect(200);
        client.send(&ask("shop.test")).await.expect(200);
    }
    assert_eq!(origin.requests("*"), 4);

    gate.become_config(&stricter).await;

    // Made for the host that asks for more now: closed, so that its client makes another one.
    let refused = staff.send(&ask("staff.test")).await;
    refused.problem(421);
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(staff.until_closed().await, b"");
    // Made for another one: as good as before, but not for that.
    let refused = shop.send(&ask("staff.test")).await;
    refused.problem(421);
    assert_eq!(refused.header("connection"), None);
    assert_eq!(origin.requests("*"), 4);
    shop.send(&ask("shop.test")).await.expect(200);
    gate.become_config(&config("")).await;
    shop.send(&ask("staff.test")).await.expect(200);
}

trait Lines {
    fn map_lines(&self) -> String;
}

impl Lines for &[&str] {
    /// Keys of 80 bytes in hexadecimal, each of one byte again and again.
    fn map_lines(&self) -> String {
        self.iter().map(|byte| byte.repeat(80) + "\n").collect()
    }
}

#[tokio::test]
async fn a_ticket_of_one_client_policy_opens_nothing_under_another() {
    let site = Site::new();
    let origin = Origin::start("a").await;
    std::fs::write(
        site.folder.path().join("tickets.key"),
        (&["01"][..]).map_lines(),
    )
    .unwrap();
    let keys = "ticket_keys: [tickets.key]";
    let config = Config::to(&[&origin])
        .only_listener(&listener(
            "127.0.0.1",
            &format!("{keys}, client_auth: {{ mode: require, ca: staff-ca.pem }}"),
        ))
        .listener(&listener(
            "127.0.0.2",
            &format!("{keys}, client_auth: {{ mode: require, ca: partners-ca.pem }}"),
        ))
        .listener(&listener("127.0.0.3", keys))
        .listener(&listener(
            "127.0.0.4",
            &format!("{keys}, client_auth: {{ mode: require, ca: staff-ca.pem }}"),
        ));
    let member = site.staff.issue(&["ann"], 2040);
    let clients = [&[&TLS13], &[&TLS12]].map(|versions| {
        site.client(Speaks {
            shows: Some(&member),
            versions,
            ..Speaks::default()
        })
    });
    let Site { folder, .. } = site;
    let gate = Gate::start_in(folder, &config).await;
    let [staff, partners, open, staff_too] = gate.listeners[..] else {
        panic!("four listeners");
    };
    for ann in clients {
        let visit = async |address| ann.visit(address, "shop.test").await;
        visit(staff).await.unwrap();
        assert_eq!(visit(staff_too).await.unwrap().1, HandshakeKind::Resumed);
        // Her ticket is all that she could show: her certificate is not the partners'.
        assert!(visit(partners).await.is_err());
        assert_ne!(visit(open).await.unwrap().1, HandshakeKind::Resumed);
        // And a ticket that needed no certificate opens no door that asks for one.
        assert!(visit(partners).await.is_err());
        assert_ne!(visit(staff).await.unwrap().1, HandshakeKind::Resumed);
    }
    assert_eq!(origin.requests("/visit"), 8);
}
