//! HTTPS: files that change while Headgate runs, OCSP staples, and when certificates end.

use std::path::Path;

use tempfile::tempdir;

use crate::harness::{Authority, Config, Gate, Origin, TlsClient, eventually, replace};

const ENDS: &str = "headgate_tls_certificate_not_after_timestamp_seconds";
const FAILED: &str = "headgate_tls_file_reload_failed";
/// The first of January, since the epoch.
const Y2040: f64 = 2_208_988_800.0;
const Y2041: f64 = 2_240_611_200.0;

fn listener(certificates: &[&str]) -> String {
    let pair = |name: &&str| format!("{{ cert: {name}.pem, key: {name}.key }}");
    let pairs: Vec<String> = certificates.iter().map(pair).collect();
    format!(
        "address: 127.0.0.1:0, tls: {{ certificates: [{}] }}",
        pairs.join(", ")
    )
}

#[tokio::test]
async fn a_new_pair_is_used_without_a_reload_and_its_end_is_a_metric() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue(&["one.test"], 2040)
        .write(folder.path(), "one");
    authority
        .issue(&["two.test"], 2041)
        .write(folder.path(), "two");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(&["one", "two"]));
    let gate = Gate::start_in(folder, &config).await;
    let client = TlsClient::trusting(&authority);
    let metrics = gate.metrics().await;
    let of = |name| [("listener", "127.0.0.1:0"), ("certificate", name)];
    assert!((metrics.sum(ENDS, &of("one.pem")) - Y2040).abs() < 0.5);
    assert!((metrics.sum(ENDS, &of("two.pem")) - Y2041).abs() < 0.5);
    let mut kept = client.connect(gate.address, "one.test").await.unwrap();
    kept.get("/").await.expect(200);

    let renewed = authority.issue(&["one.test", "three.test"], 2041);
    let generation = gate.generation().await;
    renewed.write(gate.path.parent().unwrap(), "one");
    gate.until(ENDS, &of("one.pem"), Y2041).await;
    for name in ["one.test", "three.test"] {
        let shown = client.shown(gate.address, name).await.unwrap();
        assert!(shown == renewed.der, "{name}");
    }
    assert_eq!(gate.generation().await, generation);
    // A connection outlives the certificate that it began with.
    kept.get("/").await.expect(200);
}

#[tokio::test]
async fn a_bad_pair_keeps_the_old_one_until_a_good_one_comes() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    let first = authority.issue(&["shop.test"], 2040);
    first.write(folder.path(), "shop");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(&["shop"]));
    let gate = Gate::start_in(folder, &config).await;
    let client = TlsClient::trusting(&authority);
    let shop = [("file", "shop.pem")];
    gate.until(FAILED, &shop, 0.0).await;

    let second = authority.issue(&["shop.test"], 2041);
    replace(&gate.file("shop.pem"), &second.pem);
    gate.until(FAILED, &shop, 1.0).await;
    let line = gate.log("a TLS file is not put into force").await;
    let words = line.to_string();
    assert!(
        words.contains("shop.key") && words.contains("shop.pem"),
        "{words}"
    );
    let shown = client.shown(gate.address, "shop.test").await.unwrap();
    assert!(shown == first.der);
    // A reload fails as a whole, and says which file it is.
    let refused = gate.reload().await.expect(422);
    assert!(refused.text().contains("shop.key"), "{}", refused.text());
    let shown = client.shown(gate.address, "shop.test").await.unwrap();
    assert!(shown == first.der);

    replace(&gate.file("shop.key"), &second.key_pem);
    gate.until(FAILED, &shop, 0.0).await;
    let shown = client.shown(gate.address, "shop.test").await.unwrap();
    assert!(shown == second.der);

    for (file, content) in [("shop.pem", ""), ("shop.key", "-----BEGIN")] {
        replace(&gate.file(file), content);
        gate.until(FAILED, &shop, 1.0).await;
        let shown = client.shown(gate.address, "shop.test").await.unwrap();
        assert!(shown == second.der, "{file}");
        second.write(gate.path.parent().unwrap(), "shop");
        gate.until(FAILED, &shop, 0.0).await;
    }
    std::fs::remove_file(gate.file("shop.pem")).unwrap();
    gate.until(FAILED, &shop, 1.0).await;
    assert!(client.shown(gate.address, "shop.test").await.unwrap() == second.der);
}

#[tokio::test]
async fn a_turned_link_is_a_change() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    let version = |name: &str, year: i32| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        authority.issue(&["shop.test"], year).write(&path, "shop");
    };
    version("..2026_1", 2040);
    version("..2026_2", 2041);
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    };
    link("..2026_1", "..data");
    link("..data/shop.pem", "shop.pem");
    link("..data/shop.key", "shop.key");
    link("..2026_2", "..data_tmp");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(&["shop"]));
    let gate = Gate::start_in(folder, &config).await;
    let shop = [("certificate", "shop.pem")];
    gate.until(ENDS, &shop, Y2040).await;
    std::fs::rename(gate.file("..data_tmp"), gate.file("..data")).unwrap();
    gate.until(ENDS, &shop, Y2041).await;
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_complained_about() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue(&["shop.test"], 2020)
        .write(folder.path(), "shop");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(&["shop"]));
    let gate = Gate::start_in(folder, &config).await;
    let line = gate.log("the certificate has expired").await;
    assert_eq!(line["certificate"], "shop.pem");
}

#[tokio::test]
async fn a_staple_is_seen_by_the_client_and_an_expired_one_is_not_sent() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue_numbered(&["shop.test"], 0x2a)
        .write(folder.path(), "shop");
    let good = response(0x2a, "20200101000000Z", "20400101000000Z");
    std::fs::write(folder.path().join("shop.ocsp"), &good).unwrap();
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: \
         [{ cert: shop.pem, key: shop.key, ocsp: shop.ocsp }] }",
    );
    let gate = Gate::start_in(folder, &config).await;
    let staple = async || {
        let client = TlsClient::trusting(&authority);
        client.shown(gate.address, "shop.test").await.unwrap();
        client.staple()
    };
    assert!(staple().await == good);

    let file = [("file", "shop.ocsp")];
    for bad in [
        response(0x2a, "20200101000000Z", "20200108000000Z"),
        response(0x2b, "20200101000000Z", "20400101000000Z"),
        b"not one".to_vec(),
    ] {
        replace(&gate.file("shop.ocsp"), &bad);
        gate.until(FAILED, &file, 1.0).await;
        assert_eq!(staple().await, b"");
        replace(&gate.file("shop.ocsp"), &good);
        gate.until(FAILED, &file, 0.0).await;
        assert!(staple().await == good);
    }
}

/// An OCSP response that says "good" (RFC 6960 section 4.2.1), without a signature.
fn response(serial: u8, this_update: &str, next_update: &str) -> Vec<u8> {
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        let mut bytes = vec![tag];
        if length >= 0x80 {
            bytes.push(0x81);
        }
        bytes.push(length);
        bytes.extend_from_slice(content);
        bytes
    }
    let octets = |byte| element(4, &[byte; 20]);
    let time = |text: &str| element(0x18, text.as_bytes());
    let sha1 = element(0x30, &element(6, &[0x2b, 0x0e, 3, 2, 0x1a]));
    let id = [sha1, octets(1), octets(2), element(2, &[serial])].concat();
    let single = [
        element(0x30, &id),
        element(0x80, &[]),
        time(this_update),
        element(0xa0, &time(next_update)),
    ];
    let data = [
        element(0xa2, &octets(3)),
        time(this_update),
        element(0x30, &element(0x30, &single.concat())),
    ];
    let basic = element(0x30, &element(0x30, &data.concat()));
    let oid = element(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
    let bytes = element(0x30, &[oid, element(4, &basic)].concat());
    element(0x30, &[element(10, &[0]), element(0xa0, &bytes)].concat())
}

#[tokio::test]
async fn a_listener_whose_files_are_only_touched_is_left_alone() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    let pair = authority.issue(&["shop.test"], 2040);
    pair.write(folder.path(), "shop");
    authority
        .issue(&["last.test"], 2040)
        .write(folder.path(), "last");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(&["shop", "last"]));
    let gate = Gate::start_in(folder, &config).await;
    pair.write(gate.path.parent().unwrap() as &Path, "shop");
    // A change that comes later has been seen, and was the only one.
    authority
        .issue(&["last.test"], 2041)
        .write(gate.path.parent().unwrap(), "last");
    gate.until(ENDS, &[("certificate", "last.pem")], Y2041)
        .await;
    let told = eventually("the change is told", async || {
        let lines = gate.logged("TLS files read again");
        (lines > 0).then_some(lines)
    })
    .await;
    // The two files of a pair may be seen one after the other.
    assert!(told <= 2, "{told}");
}
