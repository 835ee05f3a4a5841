//! HAProxy: one thread, connections shared by all requests, its own cache.

use std::ffi::OsString;

use anyhow::Result;

use super::{Peer, Site};

#[derive(Debug)]
pub(crate) struct Haproxy;

impl Peer for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn version(&self) -> Option<String> {
        super::version_line("haproxy", &["-v"])
    }

    fn command(&self, site: &Site) -> Result<Vec<OsString>> {
        let config = site.write("haproxy.cfg", include_str!("haproxy.cfg"))?;
        // -db: in the foreground, without a master process.
        Ok(vec![
            "haproxy".into(),
            "-db".into(),
            "-f".into(),
            config.into(),
        ])
    }
}
