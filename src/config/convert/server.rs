//! What faces clients and operators: workers, listeners, deadlines, logs, the cache's bounds.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::Cx;
use super::fields::{DEADLINE, Fault, Unique};
use super::patterns;
use crate::config::defaults;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{
    AccessLog, AccessLogFormat, AccessLogPath, Admin, CacheDisk, CacheStore, ClientTimeouts,
    Listener, Log, LogFormat, LogLevel,
};
use crate::config::raw;
use crate::config::report::Problem;
use crate::config::units::ByteSize;

/// Longer than that, and what is stale is no exception any more.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

impl Cx<'_> {
    pub(super) fn workers(self, typed: &raw::Whole, at: At<'_>) -> NonZeroUsize {
        self.whole(at, "workers", typed, 1..=1024)
            .and_then(NonZeroUsize::new)
            .unwrap_or_else(defaults::workers)
    }

    pub(super) fn admin(self, raw: raw::Admin, at: At<'_>) -> Admin {
        let raw::Admin { address, hosts } = raw;
        let places = at.field("hosts");
        let hosts = hosts.0.unwrap_or_default().into_iter().enumerate();
        let hosts = hosts.filter_map(|(index, item)| {
            let typed = item.0?;
            self.settle(places.item(index), patterns::host(&typed))
        });
        let hosts = hosts.collect();
        let address = address
            .0
            .and_then(|typed| self.address(at.field("address"), &typed));
        if let Some(address) = address
            && !address.ip().to_canonical().is_loopback()
        {
            // Names in `hosts` keep web pages away and nobody else.
            let message =
                "whoever reaches the admin listener can purge, reload and read the config";
            let hint = "listen on 127.0.0.1, or let a firewall admit operators and scrapers alone";
            let problem = Problem::warning(at.field("address").span(), message);
            self.report.push(problem.hint(hint));
        }
        Admin {
            address: address.unwrap_or(defaults::ADMIN),
            hosts,
        }
    }

    pub(super) fn listeners(
        self,
        raw: raw::List<raw::Listener>,
        root: At<'_>,
        admin: &Admin,
    ) -> Vec<Listener> {
        const HINT: &str = "add `listeners: [{ address: 0.0.0.0:8080 }]`";
        let at = root.field("listeners");
        let Some(items) = raw.0 else {
            self.missing(root, "listeners", "the config has no `listeners`", HINT);
            return Vec::new();
        };
        if items.is_empty() {
            self.error(at.span(), "`listeners` is empty", HINT);
        }
        let mut unique = Unique::new();
        let mut listeners = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Some(raw::Listener {
                address,
                mode,
                protocols,
                proxy_protocol,
                tls,
            }) = item.0
            else {
                continue;
            };
            let at = at.item(index);
            let Some(typed) = address.0 else {
                self.missing(
                    at,
                    "address",
                    "a listener without an `address`",
                    "add `address: 0.0.0.0:8080`",
                );
                continue;
            };
            let address_at = at.field("address");
            let tls = tls.0.map(|tls| self.tls(tls, at.field("tls")));
            let address = self.listen_address(address_at, &typed);
            let mode = self.socket_mode(at, &mode, address.as_ref());
            let protocols = self.protocols(protocols, at.field("protocols"));
            let proxy_protocol =
                self.proxy_protocol(proxy_protocol, at.field("proxy_protocol"), address.as_ref());
            let Some(address) = address else {
                continue;
            };
            // Port 0 asks the system for a free one, so two of them differ.
            if !address.is_any_port() {
                let what = "the listener address";
                unique.check(self, address_at.span(), what, address.clone());
                if address == admin.address.into() {
                    self.listener_is_admin(address_at, root, admin.address);
                }
            }
            listeners.push(Listener {
                address,
                mode,
                protocols,
                proxy_protocol,
                tls,
            });
        }
        listeners
    }

    fn listener_is_admin(self, at: At<'_>, root: At<'_>, address: SocketAddr) {
        let problem = Problem::error(
            at.span(),
            format!("`{address}` is the address of the admin listener"),
        )
        .hint("give one of them another port");
        let admin = root.field("admin");
        self.report
            .push(if root.has("admin") && admin.has("address") {
                problem.and(admin.field("address").span(), "the admin listener")
            } else {
                problem
            });
    }

    pub(super) fn address(self, at: At<'_>, typed: &str) -> Option<SocketAddr> {
        self.settle(at, socket_address(typed))
    }

    pub(super) fn client_timeouts(self, raw: raw::ClientTimeouts, at: At<'_>) -> ClientTimeouts {
        let raw::ClientTimeouts {
            header,
            idle,
            body_idle,
            min_rate,
            shutdown,
        } = raw;
        let deadline = |key, typed: &raw::Text, default| {
            self.duration(at, key, typed, &DEADLINE).unwrap_or(default)
        };
        let rates = ByteSize(0)..=ByteSize(1 << 30);
        ClientTimeouts {
            header: deadline("header", &header, defaults::HEADER_TIMEOUT),
            idle: deadline("idle", &idle, defaults::IDLE_TIMEOUT),
            body_idle: deadline("body_idle", &body_idle, defaults::BODY_IDLE_TIMEOUT),
            min_rate: self
                .size(at, "min_rate", &min_rate, &rates)
                .unwrap_or(defaults::MIN_RATE),
            shutdown: self
                .duration(
                    at,
                    "shutdown",
                    &shutdown,
                    &(Duration::ZERO..=*DEADLINE.end()),
                )
                .unwrap_or(defaults::SHUTDOWN),
        }
    }

    pub(super) fn log(self, raw: raw::Log, at: At<'_>) -> Log {
        let raw::Log { level, format } = raw;
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        Log {
            level: self
                .choice(at, "level", &level, &levels)
                .unwrap_or(LogLevel::Info),
            format: self
                .choice(at, "format", &format, &formats)
                .unwrap_or(LogFormat::Text),
        }
    }

    pub(super) fn access_log(self, raw: raw::AccessLog, at: At<'_>) -> AccessLog {
        let raw::AccessLog { format, path } = raw;
        let formats = [
            ("off", AccessLogFormat::Off),
            ("json", AccessLogFormat::Json),
            ("combined", AccessLogFormat::Combined),
        ];
        let path = match path.0.as_deref() {
            None | Some("stdout") => AccessLogPath::Stdout,
            Some("") => {
                let hint = "write `stdout` or the path of a file";
                self.error(
                    at.field("path").span(),
                    "the path of the access log is empty",
                    hint,
                );
                AccessLogPath::Stdout
            }
            Some(file) => {
                let path = self.path(file);
                let place = at.field("path").span();
                self.report.names_file(place, path.clone());
                AccessLogPath::File(path)
            }
        };
        let format = self
            .choice(at, "format", &format, &formats)
            .unwrap_or(AccessLogFormat::Off);
        AccessLog { format, path }
    }

    pub(super) fn cache_store(self, raw: raw::CacheStore, at: At<'_>) -> CacheStore {
        let raw::CacheStore {
            memory,
            max_object,
            disk,
            startup_grace,
        } = raw;
        let memory_bounds = ByteSize(1 << 20)..=ByteSize(1 << 44);
        let typed_memory = self.size(at, "memory", &memory, &memory_bounds);
        let memory = typed_memory.unwrap_or(defaults::CACHE_MEMORY);
        let object_bounds = ByteSize(1)..=*memory_bounds.end();
        let typed = self.size(at, "max_object", &max_object, &object_bounds);
        let quarter = ByteSize(memory.0 / 4);
        // An unreadable `memory` says nothing about the size of an object.
        let judged = typed_memory.is_some() || !at.has("memory");
        if let Some(object) = typed
            && object > quarter
            && judged
        {
            self.error(
                at.field("max_object").span(),
                format!("`max_object` is {object}, more than a quarter of `memory` ({memory})"),
                format!("it may be at most {quarter}, so that one object cannot empty the cache"),
            );
        }
        CacheStore {
            memory,
            max_object: typed.unwrap_or_else(|| defaults::cache_max_object(memory)),
            disk: self.cache_disk(disk.0, at),
            startup_grace: self
                .duration(
                    at,
                    "startup_grace",
                    &startup_grace,
                    &(Duration::ZERO..=LONGEST_GRACE),
                )
                .unwrap_or_default(),
        }
    }

    fn cache_disk(self, typed: Option<raw::CacheDisk>, at: At<'_>) -> Option<CacheDisk> {
        let raw::CacheDisk { path, size } = typed?;
        let at = at.field("disk");
        let bounds = ByteSize(1 << 20)..=ByteSize(1 << 50);
        let size = self.size(at, "size", &size, &bounds);
        let Some(folder) = path.0.as_deref().filter(|path| !path.is_empty()) else {
            self.error(
                at.span(),
                "`disk` needs the `path` of a folder",
                "it is made if it does not exist, and must be for this Headgate alone",
            );
            return None;
        };
        let place = at.field("path").span();
        let path = self.path(folder);
        self.report.names_file(place, path.clone());
        Some(CacheDisk {
            path,
            size: size.unwrap_or(defaults::CACHE_DISK),
        })
    }
}

fn socket_address(typed: &str) -> Result<SocketAddr, Fault> {
    if let Ok(address) = typed.parse() {
        return Ok(address);
    }
    let typed = quotable(typed);
    let typed = typed.as_str();
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let hint = if is_port(typed) {
        format!(
            "write `0.0.0.0:{typed}` for all addresses, or `127.0.0.1:{typed}` for this machine"
        )
    } else if let Some(port) = typed.strip_prefix(':').or_else(|| typed.strip_prefix("*:")) {
        format!("write `0.0.0.0:{port}`, or `[::]:{port}` for IPv6")
    } else if let Some(port) = typed.strip_prefix("localhost:") {
        format!("a listener needs an IP address: `127.0.0.1:{port}`")
    } else if typed.parse::<std::net::Ipv4Addr>().is_ok() {
        format!("add a port: `{typed}:8080`")
    } else if typed.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("put it in brackets and add a port: `[{typed}]:8080`")
    } else {
        "write an IP address and a port, such as `0.0.0.0:8080` or `[::1]:8080`".to_owned()
    };
    Err(Fault::new(
        format!("`{typed}` is not an address to listen on"),
        hint,
    ))
}
