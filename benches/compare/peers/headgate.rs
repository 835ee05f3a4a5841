//! Headgate itself, with metrics, health checks, deadlines and request ids on.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use super::{Peer, Site};

#[derive(Debug)]
pub(crate) struct Headgate {
    pub(crate) binary: PathBuf,
}

impl Peer for Headgate {
    fn name(&self) -> &'static str {
        "headgate"
    }

    fn version(&self) -> Option<String> {
        super::version_line(self.binary.to_str()?, &["--version"])
    }

    fn command(&self, site: &Site) -> Result<Vec<OsString>> {
        let config = site.write("headgate.yaml", include_str!("headgate.yaml"))?;
        Ok(vec![
            self.binary.clone().into(),
            "run".into(),
            "-c".into(),
            config.into(),
        ])
    }

    fn ready(&self, site: &Site) -> (SocketAddr, &'static str) {
        (site.admin, "/readyz")
    }
}
