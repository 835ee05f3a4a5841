//! The key `acme`: which certificates, from whom, kept where.
//!
//! What only the CA can judge (whether a name resolves here, whether it issues for it) is not asked;
//! what no public CA would ever do is refused here, with the reason.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::Cx;
use super::fields::{Fault, Unique};
use super::patterns;
use crate::config::defaults;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{Acme, AcmeChallenge, ExternalAccount, HostPattern, Listener, Secret};
use crate::config::raw;
use crate::config::report::Problem;

/// What Let's Encrypt and most others put into one certificate.
const MAX_DOMAINS: usize = 100;
const DOMAINS_HINT: &str = "add `domains: [shop.example]`";

impl Cx<'_> {
    pub(super) fn acme(self, raw: raw::Acme, at: At<'_>) -> Acme {
        let raw::Acme {
            domains,
            certificates,
            contact,
            terms_agreed,
            directory,
            staging,
            challenge,
            state,
            ca,
            external_account,
        } = raw;
        if !at.has("domains") && !at.has("certificates") {
            self.missing(at, "domains", "`acme` without `domains`", DOMAINS_HINT);
        }
        self.terms(&terms_agreed, at);
        if state.0.as_deref().is_none_or(str::is_empty) {
            let hint = "add `state: DIR`, a folder that only Headgate may read, such as `/var/lib/headgate/acme`";
            let message = "`acme` without `state`, where keys and certificates are kept";
            if at.has("state") {
                self.error(at.field("state").span(), message, hint);
            } else {
                self.missing(at, "state", message, hint);
            }
        }
        let challenges = [
            ("http-01", AcmeChallenge::Http01),
            ("tls-alpn-01", AcmeChallenge::TlsAlpn01),
        ];
        Acme {
            certificates: self.acme_certificates(domains, certificates, at),
            contact: self.contacts(contact, at.field("contact")),
            directory: self.directory(&directory, &staging, at),
            challenge: self
                .choice(at, "challenge", &challenge, &challenges)
                .unwrap_or(AcmeChallenge::Http01),
            state: self.path(state.0.as_deref().unwrap_or_default()),
            ca: ca.0.map(|file| self.readable(at.field("ca"), &file)),
            external_account: external_account
                .0
                .and_then(|raw| self.external_account(raw, at.field("external_account"))),
        }
    }

    fn terms(self, typed: &raw::Lenient<bool>, at: At<'_>) {
        const HINT: &str = "read the CA's terms of service, then add `terms_agreed: true`";
        match typed.0 {
            Some(true) => {}
            Some(false) => {
                let message = "without `terms_agreed: true` the CA gives no account";
                self.error(at.field("terms_agreed").span(), message, HINT);
            }
            None => self.missing(at, "terms_agreed", "`acme` without `terms_agreed`", HINT),
        }
    }

    /// `domains` have a certificate each, so that one that fails keeps no other one back; each item of
    /// `certificates` is one.
    fn acme_certificates(
        self,
        domains: raw::List<String>,
        certificates: raw::List<raw::AcmeCertificate>,
        at: At<'_>,
    ) -> Vec<Arc<[Arc<str>]>> {
        let mut unique = Unique::new();
        let mut all = Vec::new();
        let own = self.domains(domains, at, &mut unique);
        all.extend(own.into_iter().map(|name| Arc::from([name])));
        let at = at.field("certificates");
        let Some(items) = certificates.0 else {
            return all;
        };
        if items.is_empty() {
            let hint = "add `certificates: [{ domains: [shop.example, www.shop.example] }]`";
            self.error(at.span(), "`certificates` is empty", hint);
        }
        for (index, item) in items.into_iter().enumerate() {
            let Some(raw::AcmeCertificate { domains }) = item.0 else {
                continue;
            };
            let at = at.item(index);
            if !at.has("domains") {
                let message = "a certificate without `domains`";
                self.missing(at, "domains", message, DOMAINS_HINT);
            }
            let names = self.domains(domains, at, &mut unique);
            if names.len() > MAX_DOMAINS {
                let message = format!(
                    "a certificate holds at most {MAX_DOMAINS} names, here are {}",
                    names.len()
                );
                self.error(at.field("domains").span(), message, "make several of it");
            }
            if !names.is_empty() {
                all.push(names.into());
            }
        }
        all
    }

    fn domains(
        self,
        typed: raw::List<String>,
        at: At<'_>,
        unique: &mut Unique<Arc<str>>,
    ) -> Vec<Arc<str>> {
        let at = at.field("domains");
        let Some(items) = typed.0 else {
            return Vec::new();
        };
        if items.is_empty() {
            self.error(at.span(), "`domains` is empty", DOMAINS_HINT);
        }
        let mut names = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let at = at.item(index);
            let name = item.0.and_then(|typed| self.settle(at, domain(&typed)));
            if let Some(name) = name {
                unique.check(self, at.span(), "the domain", Arc::clone(&name));
                names.push(name);
            }
        }
        names
    }

    fn contacts(self, typed: raw::List<String>, at: At<'_>) -> Vec<String> {
        let items = typed.0.unwrap_or_default().into_iter().enumerate();
        let read = |(index, item): (usize, raw::Lenient<String>)| {
            self.settle(at.item(index), contact(item.0?))
        };
        items.filter_map(read).collect()
    }

    fn directory(self, typed: &raw::Text, staging: &raw::Lenient<bool>, at: At<'_>) -> Arc<str> {
        let staging = staging.0.unwrap_or_default();
        let Some(typed) = typed.0.as_deref() else {
            return Arc::from(if staging {
                defaults::ACME_STAGING
            } else {
                defaults::ACME_DIRECTORY
            });
        };
        if staging {
            let message = "`staging` and `directory` exclude each other";
            let problem = Problem::error(at.key_span("staging"), message);
            self.report.push(
                problem
                    .and(at.key_span("directory"), "`directory` is given here")
                    .hint("`staging` chooses Let's Encrypt's; for another CA give the URL of its test directory"),
            );
        }
        let checked = self.settle(at.field("directory"), directory(typed));
        Arc::from(checked.unwrap_or(typed))
    }

    fn external_account(self, raw: raw::ExternalAccount, at: At<'_>) -> Option<ExternalAccount> {
        const HINT: &str = "the CA gives both: `key_id`, and a key to be put into a file";
        let raw::ExternalAccount {
            key_id,
            hmac_key_file,
        } = raw;
        for (key, absent) in [
            ("key_id", key_id.0.is_none()),
            ("hmac_key_file", hmac_key_file.0.is_none()),
        ] {
            if absent {
                let message = format!("`external_account` without `{key}`");
                self.missing(at, key, message, HINT);
            }
        }
        let place = at.field("hmac_key_file");
        let text = self.key_file(place, hmac_key_file.0.as_deref()?)?;
        let Some(key) = decode(&text) else {
            let message = "the file of `hmac_key_file` does not hold a key in base64url";
            self.error(
                place.span(),
                message,
                "put the key into it as the CA shows it",
            );
            return None;
        };
        Some(ExternalAccount {
            key_id: key_id.0?,
            hmac_key: Secret(Arc::from(key)),
        })
    }

    /// What `acme` and the listeners must have of each other.
    pub(super) fn acme_and_listeners(
        self,
        acme: Option<&Acme>,
        listeners: &[Listener],
        at: At<'_>,
    ) {
        let place = at.field("listeners");
        let Some(acme) = acme else {
            for (index, _) in listeners.iter().enumerate().filter(|(_, l)| uses_acme(l)) {
                if !at.has("acme") {
                    let message = "`acme: true`, but this file has no `acme`";
                    let hint =
                        "add `acme: { domains: [...], state: DIR, terms_agreed: true }` at the top";
                    let tls = place.item(index).field("tls");
                    self.error(tls.field("acme").span(), message, hint);
                }
            }
            return;
        };
        let challenge_span = if at.field("acme").has("challenge") {
            at.field("acme").field("challenge").span()
        } else {
            at.key_span("acme")
        };
        // A listener that could not be read says nothing about the others.
        let typed = at.field("acme").field("challenge");
        let unread = at.field("acme").has("challenge") && typed.holds_error(self.report);
        if unread || at.field("listeners").holds_error(self.report) {
            return;
        }
        let serves = listeners.iter().any(uses_acme);
        match acme.challenge {
            AcmeChallenge::Http01 if !listeners.iter().any(|l| l.tls.is_none()) => self.error(
                challenge_span,
                "http-01 is answered on a listener without `tls`, and there is none",
                "add one that the CA reaches at port 80, or use `challenge: tls-alpn-01`",
            ),
            AcmeChallenge::TlsAlpn01 if !serves => self.error(
                challenge_span,
                "tls-alpn-01 is answered on a listener with `tls: { acme: true }`, and there is none",
                "add it to the listener that the CA reaches at port 443",
            ),
            AcmeChallenge::Http01 if !serves => self.report.push(
                Problem::warning(at.key_span("acme"), "no listener serves these certificates")
                    .hint("add `tls: { acme: true }` to one"),
            ),
            AcmeChallenge::Http01 | AcmeChallenge::TlsAlpn01 => {}
        }
    }
}

fn uses_acme(listener: &Listener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.acme)
}

/// A name that a CA can check over HTTP or TLS.
fn domain(typed: &str) -> Result<Arc<str>, Fault> {
    let shown = quotable(typed);
    if typed.starts_with("*.") {
        let message = format!(
            "`{shown}`: a wildcard can only be proven by dns-01, which Headgate does not do"
        );
        return Err(Fault::new(message, "list the names one by one"));
    }
    if typed.parse::<IpAddr>().is_ok() {
        let message = format!("`{shown}` is an address; ACME is used for names here");
        return Err(Fault::new(message, "write the name that clients use"));
    }
    match patterns::host(typed)? {
        HostPattern::Exact(name) if name.contains('.') => Ok(name),
        HostPattern::Exact(_) | HostPattern::Suffix(_) | HostPattern::Any => Err(Fault::new(
            format!("no CA issues for `{shown}`"),
            "write the whole name, such as `shop.example`",
        )),
    }
}

fn contact(typed: String) -> Result<String, Fault> {
    let shown = quotable(&typed);
    match typed.strip_prefix("mailto:") {
        // RFC 8555 section 7.3: one address, and nothing after it.
        Some(address) if address.contains('@') && !address.contains([',', '?', ' ']) => Ok(typed),
        None if typed.contains('@') => Err(Fault::new(
            format!("`{shown}` is not a URL"),
            format!("write `mailto:{shown}`"),
        )),
        Some(_) | None => Err(Fault::new(
            format!("`{shown}` is not a contact"),
            "write `mailto:` and one address",
        )),
    }
}

fn directory(typed: &str) -> Result<&str, Fault> {
    let shown = quotable(typed);
    let hint = format!("write a URL such as `{}`", defaults::ACME_DIRECTORY);
    let uri: http::Uri = typed
        .parse()
        .map_err(|_error| Fault::new(format!("`{shown}` is not a URL"), hint.clone()))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        let message = format!("`{shown}` is not an `https` URL, which RFC 8555 requires");
        return Err(Fault::new(message, hint));
    }
    Ok(typed)
}

/// A key as CAs show it: base64url mostly, base64 sometimes, padded or not.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?.trim().trim_end_matches('=');
    if text.is_empty() {
        return None;
    }
    let url_safe = URL_SAFE_NO_PAD.decode(text);
    url_safe.or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_public_ca_can_check_are_refused() {
        assert_eq!(&*domain("Shop.Example").unwrap(), "shop.example");
        for name in [
            "*.shop.example",
            "127.0.0.1",
            "::1",
            "localhost",
            "shop.example:80",
            "",
            "a b.example",
        ] {
            assert!(domain(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_contact_is_one_address() {
        assert!(contact("mailto:ops@shop.example".to_owned()).is_ok());
        for text in [
            "ops@shop.example",
            "mailto:",
            "mailto:a@b,c@d",
            "mailto:a@b?x",
            "tel:1",
        ] {
            assert!(contact(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_read_in_either_alphabet() {
        assert_eq!(decode(b"_-8\n").unwrap(), [0xff, 0xef]);
        assert_eq!(decode(b"/+8=").unwrap(), [0xff, 0xef]);
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"a key!"), None);
    }
}
