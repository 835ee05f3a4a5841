//! Where a config names files and endpoints.
//!
//! Files are read and names resolved after the config, when it is compiled. `report` keeps these places,
//! so that `reload` and `app` can show what is wrong with them at the key that names them. Invariant: like
//! all that is shown, no place holds a secret.

use std::path::{Path, PathBuf};

use super::errors::{Diagnostic, Diagnostics, Place, Severity};

/// The places of a config at which files and endpoints are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The config file, as it was named.
    pub(super) file: String,
    pub(super) of: Vec<(PathBuf, Place)>,
    pub(super) endpoints: Vec<(String, Place)>,
}

impl Places {
    /// An error about a file that the config names, at the first place that does; none if there is no such
    /// place.
    #[must_use]
    pub fn blame(&self, file: &Path, message: String) -> Option<Diagnostics> {
        let place = Some(self.file(file)?);
        let hint = "the file is there, but what it holds is of no use here";
        let error = self.diagnostic(Severity::Error, place, message, hint);
        Some(Diagnostics(vec![error]))
    }

    /// The first place that names a file.
    #[must_use]
    pub fn file(&self, file: &Path) -> Option<&Place> {
        let found = self.of.iter().find(|(named, _)| named == file);
        found.map(|(_, place)| place)
    }

    /// The first place that names an endpoint.
    #[must_use]
    pub fn endpoint(&self, address: &str) -> Option<&Place> {
        let found = self.endpoints.iter().find(|(named, _)| named == address);
        found.map(|(_, place)| place)
    }

    /// What to say about one of these places.
    #[must_use]
    pub fn diagnostic(
        &self,
        severity: Severity,
        place: Option<&Place>,
        message: String,
        hint: &str,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            message,
            file: self.file.clone(),
            place: place.cloned(),
            second: None,
            hint: Some(hint.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_is_blamed_at_the_key_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "").unwrap();
        let text = "listeners: [{ address: 127.0.0.1:0 }]\nupstreams:\n  a:\n    endpoints: [h:1]\n    \
                    tls: { ca: ca.pem }\nroutes: [{ name: r, upstream: a }]\n";
        let loaded = crate::config::parse(text, &folder.path().join("gate.yaml")).unwrap();
        let blame = |name| {
            let file = folder.path().join(name);
            loaded.places.blame(&file, "it is empty".to_owned())
        };
        let shown = blame("ca.pem").unwrap().to_string();
        assert!(shown.starts_with("error: it is empty\n"), "{shown}");
        assert!(
            shown.contains(
                "gate.yaml:5:16\n  |\n5 |     tls: { ca: ca.pem }\n  |                ^^^^^^\n"
            ),
            "{shown}"
        );
        assert_eq!(blame("other.pem"), None);
    }
}
