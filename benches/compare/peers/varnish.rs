//! Varnish: one pool of threads that are there before the load, storage in memory.
//!
//! It always writes its log to shared memory, and has no switch for that. A pass is not what it is
//! made for; the proxied cases show it all the same.

use std::ffi::OsString;

use anyhow::Result;

use super::{Peer, Site};

#[derive(Debug)]
pub(crate) struct Varnish;

impl Peer for Varnish {
    fn name(&self) -> &'static str {
        "varnish"
    }

    fn version(&self) -> Option<String> {
        super::version_line("varnishd", &["-V"])
    }

    fn has_tls(&self) -> bool {
        false
    }

    fn command(&self, site: &Site) -> Result<Vec<OsString>> {
        let vcl = site.write("shop.vcl", include_str!("varnish.vcl"))?;
        let mut command: Vec<OsString> = ["varnishd", "-F", "-j", "none", "-s", "malloc,256m"]
            .map(Into::into)
            .to_vec();
        command.extend(["-a".into(), site.listen.to_string().into()]);
        command.extend(["-f".into(), vcl.into()]);
        command.extend(["-n".into(), site.folder.join("work").into()]);
        // One core has no use for a second pool (two were measured, and are slower); a client
        // connection at work takes a thread.
        for parameter in [
            "thread_pools=1",
            "thread_pool_min=200",
            "timeout_idle=300",
            "backend_idle_timeout=300",
        ] {
            command.extend(["-p".into(), parameter.into()]);
        }
        Ok(command)
    }
}
