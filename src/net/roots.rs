//! Certificates out of PEM, and the authorities that are trusted.
//!
//! `tls` reads those of clients, `tls_client` and `acme` those of endpoints and of the CA. Invariant: a
//! file without a certificate, or with one that cannot be used, is an error with its reason in words;
//! only the system's own store may hold what is of no use.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error, PemObject as _};

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
}
