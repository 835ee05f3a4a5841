//! What is allowed and hardly meant: warned about, once the rest is read.
//!
//! Proxies that are everybody, and routes that no request can reach by the config's own rules, or only by
//! a path that nobody asks for.
//! Invariant: nothing here is an error, and nothing changes what the config means.

use super::Cx;
use super::patterns::{NO_EXPRESSIONS, is_like_an_expression};
use crate::config::marks::{At, Kind};
use crate::config::model::{self, PathRules};
use crate::config::report::Problem;

impl Cx<'_> {
    /// Looks through a config that is read; `root` is where it stands.
    pub(super) fn warn_of_odd(self, config: &model::Config, root: At<'_>) {
        let anybody = "anybody can then say who the client is";
        self.warn_of_everybody(root.field("trusted_proxies"), anybody);
        let listeners = root.field("listeners");
        for index in 0..config.listeners.len() {
            let senders = listeners.item(index).field("proxy_protocol");
            self.warn_of_everybody(senders.field("from"), anybody);
        }
        let routes = root.field("routes");
        for (index, route) in config.routes.iter().enumerate() {
            let matches = routes.item(index).field("match");
            for key in ["path", "path_prefix"] {
                self.warn_of_refused(matches, key, config.paths);
            }
            if !route.matches.methods.is_empty()
                && route
                    .matches
                    .methods
                    .iter()
                    .all(|it| *it == http::Method::CONNECT)
            {
                let problem = "the route takes nothing: CONNECT is refused";
                let hint = "WebSocket over HTTP/2 is matched as GET";
                let span = matches.field("methods").span();
                self.report.push(Problem::warning(span, problem).hint(hint));
            }
        }
    }

    /// A list of networks that holds all addresses.
    fn warn_of_everybody(self, at: At<'_>, what_then: &str) {
        let Kind::Sequence(items) = &at.node.kind else {
            return;
        };
        for index in 0..items.len() {
            let item = at.item(index);
            if let Kind::Scalar { text, .. } = &item.node.kind
                && text.ends_with("/0")
            {
                let message = format!("`{text}` is every address: {what_then}");
                let hint = "name the networks of your own proxies";
                self.report
                    .push(Problem::warning(item.span(), message).hint(hint));
            }
        }
    }

    /// A path that holds what is refused in requests.
    fn warn_of_refused(self, matches: At<'_>, key: &str, rules: PathRules) {
        if !matches.has(key) {
            return;
        }
        let at = matches.field(key);
        let Kind::Scalar { text, .. } = &at.node.kind else {
            return;
        };
        if is_like_an_expression(text) {
            let message = "the path is taken as it stands, letter by letter";
            let problem = Problem::warning(at.span(), message);
            self.report.push(problem.hint(NO_EXPRESSIONS));
        }
        if text.contains(';') && !rules.keep_semicolon {
            let message = "the route takes nothing: paths with `;` are refused";
            let hint = "set `paths: { semicolon: keep }`, or match without it";
            self.report
                .push(Problem::warning(at.span(), message).hint(hint));
        }
    }
}
