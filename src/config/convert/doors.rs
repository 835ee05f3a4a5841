//! Listeners that let in whom another one turns away.
//!
//! Routes belong to all listeners. Where one asks its clients for certificates, what is behind it is
//! only as safe as the others are: a connection is judged by the listener that accepted it (`421` is
//! about the names of one listener). Nothing that an operator may not want, so it is a warning.

use super::Cx;
use crate::config::marks::At;
use crate::config::model::{ClientAuth, Config, ListenAddress, Listener, Route, Target, Tls};
use crate::config::report::Problem;

impl Cx<'_> {
    /// Only for a config without errors, whose listeners are those of the list, one by one.
    pub(super) fn warn_of_open_doors(self, config: &Config, at: At<'_>) {
        let listeners = &config.listeners;
        for (index, open) in listeners.iter().enumerate() {
            let strict = listeners.iter().position(|strict| {
                let asks = strict
                    .tls
                    .as_ref()
                    .is_some_and(|tls| asks(tls).any(required));
                asks && lets_more_in(open, strict, &config.routes)
            });
            let Some(strict) = strict else { continue };
            let message = "clients without a certificate get to all routes here";
            let hint = "routes belong to all listeners: give this one the same `client_auth`, \
                        or remove it";
            let problem = Problem::warning(at.item(index).field("address").span(), message)
                .and(
                    at.item(strict).key_span("tls"),
                    "certificates are asked for here",
                )
                .hint(hint);
            self.report.push(problem);
        }
    }
}

fn lets_more_in(open: &Listener, strict: &Listener, routes: &[Route]) -> bool {
    match (&open.address, &open.tls) {
        // Who may open the file is let in by that.
        (ListenAddress::Unix(_), _) => false,
        (ListenAddress::Tcp(_), None) => !routes.iter().all(is_for_tls_only),
        (ListenAddress::Tcp(_), Some(tls)) => {
            let alike = strict.tls.as_ref().is_some_and(|other| {
                tls.client_auth == other.client_auth && tls.certificates == other.certificates
            });
            !alike && !asks(tls).all(required)
        }
    }
}

fn is_for_tls_only(route: &Route) -> bool {
    match route.target {
        Target::Upstream(_) | Target::ShardMap(_) | Target::Files(_) => {
            route.edge.to_https.is_some()
        }
        Target::Redirect(_) | Target::Respond(_) | Target::Nothing => true,
    }
}

/// What a listener asks of its clients, name by name.
fn asks(tls: &Tls) -> impl Iterator<Item = &ClientAuth> {
    let names = tls.certificates.iter().map(|pair| &pair.client_auth);
    std::iter::once(&tls.client_auth)
        .filter(|_| tls.certificates.is_empty() || tls.acme)
        .chain(names)
}

fn required(auth: &ClientAuth) -> bool {
    matches!(auth, ClientAuth::Ask(ask) if ask.required)
}
