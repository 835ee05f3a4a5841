//! TLS of a listener: certificates, versions, client certificates, ticket keys.

use std::sync::Arc;

use super::Cx;
use super::fields::Unique;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{Ask, Certificate, CipherSuite, ClientAuth, NamedFile, Tls, TlsVersion};
use crate::config::raw;
use crate::config::suggest::suggestion;

/// Whether a certificate is asked for; `Off` needs no CA.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Off,
    Optional,
    Require,
}

impl Cx<'_> {
    pub(super) fn tls(self, raw: raw::Tls, at: At<'_>) -> Tls {
        const HINT: &str = "add `certificates: [{ cert: FILE, key: FILE }]`, or `acme: true`";
        let raw::Tls {
            certificates,
            acme,
            min_version,
            cipher_suites,
            client_auth,
            ticket_keys,
        } = raw;
        let versions = [("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];
        let min_version = self
            .choice(at, "min_version", &min_version, &versions)
            .unwrap_or(TlsVersion::V12);
        let client_auth = client_auth
            .0
            .and_then(|raw| self.client_auth(raw, at.field("client_auth")))
            .unwrap_or(ClientAuth::Off);
        let acme = acme.0.unwrap_or(false);
        let certificates = match certificates.0 {
            Some(items) => {
                let at = at.field("certificates");
                if items.is_empty() && !acme {
                    self.error(at.span(), "`certificates` is empty", HINT);
                }
                self.certificates(items, at, &client_auth)
            }
            None if acme => Vec::new(),
            None => {
                self.missing(at, "certificates", "`tls` without `certificates`", HINT);
                Vec::new()
            }
        };
        Tls {
            certificates,
            acme,
            min_version,
            cipher_suites: self.cipher_suites(cipher_suites, at, min_version),
            client_auth,
            ticket_keys: self.ticket_keys(ticket_keys, at),
        }
    }

    fn certificates(
        self,
        items: Vec<raw::Lenient<raw::Certificate>>,
        at: At<'_>,
        listener: &ClientAuth,
    ) -> Vec<Certificate> {
        let mut unique = Unique::new();
        let mut certificates = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let at = at.item(index);
            let Some(certificate) = item.0.and_then(|raw| self.certificate(raw, at, listener))
            else {
                continue;
            };
            let span = at.field("cert").span();
            let typed = Arc::clone(&certificate.cert.typed);
            unique.check(self, span, "the certificate", typed);
            certificates.push(certificate);
        }
        certificates
    }

    fn certificate(
        self,
        raw: raw::Certificate,
        at: At<'_>,
        listener: &ClientAuth,
    ) -> Option<Certificate> {
        let raw::Certificate {
            cert,
            key,
            ocsp,
            client_auth,
        } = raw;
        let file = |name: &str, typed: raw::Text| {
            if typed.0.is_none() {
                let message = format!("a certificate without its `{name}` file");
                let hint = "each needs `cert` and `key`, two PEM files";
                self.missing(at, name, message, hint);
            }
            self.named_file(at, name, typed)
        };
        let (cert, key) = (file("cert", cert), file("key", key));
        let ocsp = self.named_file(at, "ocsp", ocsp);
        let client_auth = client_auth
            .0
            .and_then(|raw| self.client_auth(raw, at.field("client_auth")));
        Some(Certificate {
            cert: cert?,
            key: key?,
            ocsp,
            client_auth: client_auth.unwrap_or_else(|| listener.clone()),
        })
    }

    fn named_file(self, at: At<'_>, key: &str, typed: raw::Text) -> Option<NamedFile> {
        let typed = typed.0?;
        Some(NamedFile {
            path: self.readable(at.field(key), &typed),
            typed: Arc::from(typed),
        })
    }

    fn client_auth(self, raw: raw::ClientAuth, at: At<'_>) -> Option<ClientAuth> {
        let raw::ClientAuth {
            mode,
            ca,
            crl,
            forward_chain,
        } = raw;
        let modes = [
            ("require", Mode::Require),
            ("optional", Mode::Optional),
            ("off", Mode::Off),
        ];
        if mode.0.is_none() {
            let hint = "add `mode: require`, `mode: optional` or `mode: off`";
            self.missing(at, "mode", "`client_auth` without a `mode`", hint);
        }
        let chosen = self.choice(at, "mode", &mode, &modes);
        let required = match chosen? {
            Mode::Off => {
                let others = ["ca", "crl", "forward_chain"];
                if let Some(other) = others.into_iter().find(|key| at.has(key)) {
                    let message =
                        format!("`mode: off` asks for no certificate, but `{other}` is given");
                    self.error(at.key_span(other), message, "remove one of them");
                }
                return Some(ClientAuth::Off);
            }
            Mode::Require => true,
            Mode::Optional => false,
        };
        if ca.0.is_none() {
            let hint = "add `ca: FILE`, the certificates of the authorities that are trusted (PEM)";
            self.missing(at, "ca", "`client_auth` without a `ca` file", hint);
        }
        let ca = self.named_file(at, "ca", ca);
        let crl = self.named_file(at, "crl", crl);
        Some(ClientAuth::Ask(Ask {
            required,
            ca: ca?,
            crl,
            forward_chain: forward_chain.0.unwrap_or(false),
        }))
    }

    fn cipher_suites(
        self,
        raw: raw::List<String>,
        at: At<'_>,
        min_version: TlsVersion,
    ) -> Vec<CipherSuite> {
        let Some(items) = raw.0 else {
            return Vec::new();
        };
        let at = at.field("cipher_suites");
        let mut suites = Vec::new();
        let mut understood = true;
        for (index, item) in items.into_iter().enumerate() {
            let Some(typed) = item.0 else {
                understood = false;
                continue;
            };
            match CipherSuite::ALL.iter().find(|it| it.as_str() == typed) {
                Some(suite) => suites.push(*suite),
                None => {
                    understood = false;
                    self.unknown_suite(at.item(index), &typed);
                }
            }
        }
        if understood && !suites.iter().any(|suite| suite.version() >= min_version) {
            let (message, hint) = if suites.is_empty() {
                (
                    "`cipher_suites` is empty",
                    "remove it to allow all that are known",
                )
            } else {
                (
                    "no cipher suite is left: these are not of TLS 1.3",
                    "add `TLS_AES_128_GCM_SHA256`, or lower `min_version`",
                )
            };
            self.error(at.span(), message, hint);
        }
        suites
    }

    fn unknown_suite(self, at: At<'_>, typed: &str) {
        let names: Vec<&str> = CipherSuite::ALL.iter().map(|it| it.as_str()).collect();
        let hint = suggestion(typed, &names, "known are").unwrap_or_default();
        let message = format!("`{}` is not a known cipher suite", quotable(typed));
        self.error(at.span(), message, hint);
    }

    fn ticket_keys(self, raw: raw::List<String>, at: At<'_>) -> Vec<NamedFile> {
        let Some(items) = raw.0 else {
            return Vec::new();
        };
        let at = at.field("ticket_keys");
        if items.is_empty() {
            let hint = "name a file, or remove it to have keys made at start";
            self.error(at.span(), "`ticket_keys` is empty", hint);
        }
        let files = items.into_iter().enumerate();
        let files = files.filter_map(|(index, item)| {
            let typed = item.0?;
            Some(NamedFile {
                path: self.readable(at.item(index), &typed),
                typed: Arc::from(typed),
            })
        });
        files.collect()
    }
}
