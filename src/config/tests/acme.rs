//! The key `acme`: its defaults, and what an operator reads about mistakes in it.

use super::{good, refused, routed};
use crate::config::model::AcmeChallenge;

#[test]
#[expect(clippy::too_many_lines, reason = "what is shown, in full")]
fn mistakes_about_acme_are_told_with_what_to_do() {
    let shown = refused(
        "listeners:
  - { address: 127.0.0.1:0, tls: { acme: true } }
acme:
  domains: [\"*.shop.example\", localhost, 10.0.0.1, a.example, a.example]
  certificates: [{ domains: [] }]
  contact: [ops@shop.example]
  terms_agreed: false
  directory: http://ca.example/directory
  staging: true
  challenge: dns-01
routes: [{ name: none, respond: { status: 204 } }]
",
    );
    assert_eq!(
        shown,
        r#"error: `acme` without `state`, where keys and certificates are kept
 --> gate.yaml:3:1
  |
3 | acme:
  | ^^^^
  = hint: add `state: DIR`, a folder that only Headgate may read, such as `/var/lib/headgate/acme`

error: `*.shop.example`: a wildcard can only be proven by dns-01, which Headgate does not do
 --> gate.yaml:4:13
  |
4 |   domains: ["*.shop.example", localhost, 10.0.0.1, a.example, a.example]
  |             ^^^^^^^^^^^^^^^^
  = hint: list the names one by one

error: no CA issues for `localhost`
 --> gate.yaml:4:31
  |
4 |   domains: ["*.shop.example", localhost, 10.0.0.1, a.example, a.example]
  |                               ^^^^^^^^^
  = hint: write the whole name, such as `shop.example`

error: `10.0.0.1` is an address; ACME is used for names here
 --> gate.yaml:4:42
  |
4 |   domains: ["*.shop.example", localhost, 10.0.0.1, a.example, a.example]
  |                                          ^^^^^^^^
  = hint: write the name that clients use

error: the domain `a.example` is given twice
 --> gate.yaml:4:63
  |
4 |   domains: ["*.shop.example", localhost, 10.0.0.1, a.example, a.example]
  |                                                               ^^^^^^^^^
  |                                                    --------- first given here

error: `domains` is empty
 --> gate.yaml:5:29
  |
5 |   certificates: [{ domains: [] }]
  |                             ^^
  = hint: add `domains: [shop.example]`

error: `ops@shop.example` is not a URL
 --> gate.yaml:6:13
  |
6 |   contact: [ops@shop.example]
  |             ^^^^^^^^^^^^^^^^
  = hint: write `mailto:ops@shop.example`

error: without `terms_agreed: true` the CA gives no account
 --> gate.yaml:7:17
  |
7 |   terms_agreed: false
  |                 ^^^^^
  = hint: read the CA's terms of service, then add `terms_agreed: true`

error: `http://ca.example/directory` is not an `https` URL, which RFC 8555 requires
 --> gate.yaml:8:14
  |
8 |   directory: http://ca.example/directory
  |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = hint: write a URL such as `https://acme-v02.api.letsencrypt.org/directory`

error: `staging` and `directory` exclude each other
 --> gate.yaml:9:3
  |
8 |   directory: http://ca.example/directory
  |   --------- `directory` is given here
9 |   staging: true
  |   ^^^^^^^
  = hint: `staging` chooses Let's Encrypt's; for another CA give the URL of its test directory

error: unknown value `dns-01` for `challenge`
  --> gate.yaml:10:14
   |
10 |   challenge: dns-01
   |              ^^^^^^
   = hint: the choices are `http-01` and `tls-alpn-01`"#
    );
}

#[test]
fn acme_and_the_listeners_must_fit() {
    const ACME: &str = "acme: { domains: [a.example], state: s, terms_agreed: true";
    let refusal = |listeners: &str, acme: &str| {
        let shown = refused(&routed(&format!("listeners: [{listeners}]\n{acme}\n")));
        shown.lines().next().unwrap().to_owned()
    };
    let plain = "{ address: 127.0.0.1:0 }";
    let tls = "{ address: 127.0.0.1:0, tls: { acme: true } }";
    assert_eq!(
        refusal(tls, ""),
        "error: `acme: true`, but this file has no `acme`"
    );
    assert_eq!(
        refusal(tls, &format!("{ACME} }}")),
        "error: http-01 is answered on a listener without `tls`, and there is none"
    );
    assert_eq!(
        refusal(plain, &format!("{ACME}, challenge: tls-alpn-01 }}")),
        "error: tls-alpn-01 is answered on a listener with `tls: { acme: true }`, and there is none"
    );
    assert_eq!(
        refusal(plain, "acme: { state: s, terms_agreed: true }"),
        "error: `acme` without `domains`"
    );
}

#[test]
fn each_domain_is_a_certificate_and_so_is_each_item_of_certificates() {
    let config = good(
        "acme: { domains: [A.example, b.example], certificates: [{ domains: [c.example, d.example] }], state: /s, terms_agreed: true }\n",
    )
    .config;
    let acme = config.acme.unwrap();
    let names: Vec<String> = acme.certificates.iter().map(|it| it.join(" ")).collect();
    assert_eq!(names, ["a.example", "b.example", "c.example d.example"]);
    assert_eq!(
        &*acme.directory,
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    assert_eq!(acme.challenge, AcmeChallenge::Http01);
    assert_eq!((acme.ca, acme.external_account), (None, None));

    let staging = "acme: { domains: [a.example], state: /s, terms_agreed: true, staging: true }\n";
    let acme = good(staging).config.acme.unwrap();
    assert_eq!(
        &*acme.directory,
        "https://acme-staging-v02.api.letsencrypt.org/directory"
    );
}
