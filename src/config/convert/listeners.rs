//! Unix sockets, the PROXY protocol and the limits on connections.

use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;

use super::Cx;
use super::edge::network;
use super::fields::Fault;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{ConnectionLimits, ListenAddress, Peers};
use crate::config::report::Problem;
use crate::config::{defaults, raw};

/// Most bytes of a Unix socket's path (`sun_path` without its closing zero).
const LONGEST_PATH: usize = 107;

impl Cx<'_> {
    pub(super) fn listen_address(self, at: At<'_>, typed: &str) -> Option<ListenAddress> {
        match typed.strip_prefix("unix:") {
            Some(path) => self.settle(at, self.unix_path(path)),
            None => self.address(at, typed).map(ListenAddress::Tcp),
        }
    }

    fn unix_path(self, typed: &str) -> Result<ListenAddress, Fault> {
        let wrong = |what: &str, hint: &str| {
            let message = format!("`unix:{}` {what}", quotable(typed));
            Err(Fault::new(message, hint))
        };
        if typed.is_empty() || typed.ends_with('/') || typed.contains('\0') {
            return wrong(
                "names no file",
                "write the path of a socket, such as `unix:/run/headgate/web.sock`",
            );
        }
        if typed.starts_with('@') {
            return wrong(
                "is an abstract socket, which anyone on the machine could take",
                "write the path of a socket, such as `unix:/run/headgate/web.sock`",
            );
        }
        let path = self.path(typed);
        let length = path.as_os_str().as_bytes().len();
        if length > LONGEST_PATH {
            let what = format!("is {length} bytes long with its folder");
            return wrong(
                &what,
                &format!("the system takes at most {LONGEST_PATH} bytes"),
            );
        }
        Ok(ListenAddress::Unix(path.into()))
    }

    pub(super) fn socket_mode(
        self,
        at: At<'_>,
        typed: &raw::Text,
        address: Option<&ListenAddress>,
    ) -> u32 {
        let Some(typed) = &typed.0 else {
            return defaults::SOCKET_MODE;
        };
        let at = at.field("mode");
        if let Some(ListenAddress::Tcp(_)) = address {
            let problem = Problem::error(at.span(), "`mode` is for Unix sockets")
                .hint("remove it, or listen on `unix:PATH`");
            self.report.push(problem);
        }
        let digits = typed.strip_prefix("0o").unwrap_or(typed);
        let octal = digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(digits, 8).ok();
        let mode = mode.filter(|mode| octal && (3..=4).contains(&digits.len()) && *mode <= 0o777);
        let fault = || {
            Fault::new(
                format!("`{}` is not a file mode", quotable(typed)),
                "write three or four octal digits, such as `\"0660\"`",
            )
        };
        self.settle(at, mode.ok_or_else(fault))
            .unwrap_or(defaults::SOCKET_MODE)
    }

    pub(super) fn proxy_protocol(
        self,
        raw: raw::Lenient<raw::ProxyProtocol>,
        at: At<'_>,
        address: Option<&ListenAddress>,
    ) -> Peers {
        const HINT: &str = "add `from: [10.0.0.0/8]`, the networks of the proxies that send it";
        let mut senders = Peers::default();
        let Some(raw::ProxyProtocol { from }) = raw.0 else {
            return senders;
        };
        let Some(items) = from.0 else {
            self.missing(at, "from", "`proxy_protocol` without `from`", HINT);
            return senders;
        };
        let at = at.field("from");
        if items.is_empty() {
            self.error(at.span(), "`from` is empty", HINT);
        }
        for (index, item) in items.into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let at = at.item(index);
            if typed == "unix" {
                senders.unix = true;
                if let Some(ListenAddress::Tcp(_)) = address {
                    let hint = "name the addresses of the proxies, such as `10.0.0.0/8`";
                    self.error(at.span(), "`unix` is for Unix sockets", hint);
                }
            } else {
                senders.networks.extend(self.settle(at, network(&typed)));
            }
        }
        if let Some(ListenAddress::Unix(_)) = address
            && !senders.unix
        {
            let hint = "write `from: [unix]`: whoever gets to the socket has no address";
            self.error(at.span(), "nobody on a Unix socket is in `from`", hint);
        }
        senders
    }

    pub(super) fn connection_limits(
        self,
        total: &raw::Whole,
        per_address: &raw::Whole,
        at: At<'_>,
    ) -> ConnectionLimits {
        let most = |least, key, typed| {
            let number: Option<usize> = self.whole(at, key, typed, least..=10_000_000);
            number.and_then(NonZero::new)
        };
        ConnectionLimits {
            total: most(1, "connections", total),
            per_address: most(0, "connections_per_address", per_address),
        }
    }
}
