//! nginx: one worker, upstream keep-alive on, its cache on tmpfs.

use std::ffi::OsString;

use anyhow::Result;

use super::{Peer, Site};

#[derive(Debug)]
pub(crate) struct Nginx;

impl Peer for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn version(&self) -> Option<String> {
        super::version_line("nginx", &["-v"])
    }

    fn command(&self, site: &Site) -> Result<Vec<OsString>> {
        // It closes idle client connections once a sixteenth of its table or less is free, and the
        // upstream's connections are in the same table.
        let table = (site.connections * 2).to_string();
        let template = include_str!("nginx.conf").replace("@TABLE@", &table);
        let config = site.write("nginx.conf", &template)?;
        Ok(vec![
            "nginx".into(),
            "-e".into(),
            "stderr".into(),
            "-c".into(),
            config.into(),
        ])
    }
}
