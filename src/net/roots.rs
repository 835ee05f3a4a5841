//! Certificates and keys out of PEM, and the authorities that are trusted.
//!
//! `tls` reads those of clients, `tls_client` and `acme` those of endpoints and of the CA. Invariant: a
//! file without a certificate or key, or with one that cannot be used, is an error with its reason in words;
//! only the system's own store may hold what is of no use.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a PEM text: at least one.
///
/// # Errors
/// When there is none or one cannot be read.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    some(CertificateDer::pem_slice_iter(pem).collect())
}

/// The certificates of a PEM file: at least one.
///
/// # Errors
/// When the file cannot be read, there is none, or one cannot be read.
pub fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    some(CertificateDer::pem_file_iter(path).and_then(Iterator::collect))
}

fn some(
    found: Result<Vec<CertificateDer<'static>>, Error>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(found)
}

/// The private key of a PEM text.
///
/// # Errors
/// When there is none, or it cannot be read without a passphrase.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        if is_encrypted(pem) {
            "it has a passphrase, for which nobody can be asked here: \
             take it off with `openssl pkey -in KEY -out NEW`"
                .to_owned()
        } else {
            error.to_string()
        }
    })
}

/// By the label of PKCS #8 (RFC 7468 section 11), or the field of the form before it (RFC 1421).
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |words: &[u8]| pem.windows(words.len()).any(|found| found == words);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// Whether a certificate is of X.509 version 1, which has no extensions. An authority may be.
#[must_use]
pub fn is_version_one(certificate: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const SERIAL_NUMBER: u8 = 0x02;
    let inside = |bytes: &'_ [u8]| -> Option<usize> {
        let [SEQUENCE, length, ..] = bytes else {
            return None;
        };
        let more = if *length < 0x80 { 0 } else { length & 0x7f };
        Some(2 + usize::from(more))
    };
    // The version is left out where it is 1, and the serial number is next (RFC 5280 section 4.1).
    let body = inside(certificate).and_then(|at| certificate.get(at..));
    let fields = body.and_then(|body| body.get(inside(body)?..));
    fields.and_then(<[u8]>::first) == Some(&SERIAL_NUMBER)
}

/// What to say of a server's certificate of version 1.
pub const VERSION_ONE: &str = "it is a certificate of X.509 version 1, which cannot say for which names it \
     is: make one of version 3";

/// The authorities that the system trusts, as far as they can be read; takes a while.
#[must_use]
pub fn system() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// A store of those of the system's authorities that can be used; none if there is none.
#[must_use]
pub fn usable(authorities: Vec<CertificateDer<'static>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (_usable, _ignored) = roots.add_parsable_certificates(authorities);
    (!roots.is_empty()).then_some(roots)
}

/// A store of exactly these authorities.
///
/// # Errors
/// When one cannot be used.
pub fn exactly(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_of_use_is_told() {
        for (pem, reason) in [
            (&b""[..], "it holds no certificate"),
            (b"nothing", "it holds no certificate"),
            (b"-----BEGIN CERTIFICATE-----\n", ""),
        ] {
            let told = certificates(pem).unwrap_err();
            assert!(reason.is_empty() || told == reason, "{told}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("none.pem")).is_err());

        let no_certificate = b"-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        let found = certificates(no_certificate).unwrap();
        assert!(exactly(found.clone()).is_err());
        assert!(usable(found).is_none());
    }

    #[test]
    fn authorities_of_a_file_are_trusted() {
        let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, pair.cert.pem().repeat(2)).unwrap();
        let found = read(&file).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(exactly(found.clone()).unwrap().len(), 2);
        assert!(usable(found).is_some());
    }

    #[test]
    fn a_key_with_a_passphrase_is_told_to_have_one() {
        for pem in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAEC\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
             AAEC\n-----END RSA PRIVATE KEY-----\n",
        ] {
            let told = private_key(pem.as_bytes()).unwrap_err();
            assert!(told.starts_with("it has a passphrase"), "{told}");
        }
        assert!(!private_key(b"").unwrap_err().contains("passphrase"));
        let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        assert!(private_key(pair.signing_key.serialize_pem().as_bytes()).is_ok());
    }

    /// `openssl x509 -req -in OLD.csr -signkey OLD.key -days 36500`
    const OLD: &[u8] = b"-----BEGIN CERTIFICATE-----\n\
        MIIBIjCByQIUE+r3/D7jR/awu0IRCtFekhIkLw4wCgYIKoZIzj0EAwIwEzERMA8G\n\
        A1UEAwwIb2xkLnRlc3QwIBcNMjYxMTIxMTkwNzA1WhgPMjEyNjEwMjgxOTA3MDVa\n\
        MBMxETAPBgNVBAMMCG9sZC50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n\
        cC3xohP6YKUkPIIVv8bvyReFx/5lus/D4HAQzoTpY6oO2d6RiSQfQnnv6aw/qjMc\n\
        C2q8QE4ut1jkMSQCtpJQKzAKBggqhkjOPQQDAgNIADBFAiEAkVQ5s44AZ7H8fV9w\n\
        /Yho5f+6sJkcgRT45XfmOh6OCl0CIHlMmwwtwTFlmRcsPAtFadq6OPSjH/ofDEVX\n\
        DEFAo0mZ\n\
        -----END CERTIFICATE-----";

    #[test]
    fn a_certificate_of_version_one_is_told_to_be_one() {
        let old = certificates(OLD).unwrap();
        assert!(is_version_one(&old[0]));
        // Of an authority the name and the key are enough.
        assert!(exactly(old).is_ok());
        let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        assert!(!is_version_one(pair.cert.der()));
        // What is shown to clients needs names, and is told so before its key is looked at.
        let key = pair.signing_key.serialize_pem();
        let error = crate::net::tls::Pair::from_pem("old", OLD, key.as_bytes()).unwrap_err();
        assert!(error.to_string().ends_with(VERSION_ONE), "{error}");
        for cut in 0..pair.cert.der().len().min(40) {
            assert!(!is_version_one(&pair.cert.der()[..cut]), "{cut}");
        }
    }
}
