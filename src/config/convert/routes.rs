//! Routes: what they match, where they lead, and that no two of them match the same.
//!
//! Two routes cannot be told apart when the router would rank them equal for one request: the same
//! host and path patterns (whatever the captures are called), the same conditions, and methods that
//! are both open or share one.

use std::collections::HashMap;
use std::sync::Arc;

use super::Cx;
use super::edits::Heads;
use super::fields::{Fault, Names, Unique};
use super::patterns;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{
    HostPattern, Match, PathPattern, Redirect, Route, RouteEdge, Segment, ShardKey, ShardMap,
    ShardMapId, Target, UpstreamId, ValuePattern,
};
use crate::config::raw::{self, Lenient, Named};
use crate::config::report::{Problem, Span};
use crate::config::suggest::closest;

/// What a route can lead to.
pub(super) struct Targets<'a> {
    pub(super) upstreams: &'a Names,
    pub(super) map_names: &'a Names,
    pub(super) shard_maps: &'a [ShardMap],
}

/// The keys that say where a route leads.
const TARGETS: [(&str, &str); 5] = [
    ("upstream", "`upstream` is given here"),
    ("shard_map", "`shard_map` is given here"),
    ("redirect", "`redirect` is given here"),
    ("respond", "`respond` is given here"),
    ("files", "`files` is given here"),
];

impl Cx<'_> {
    pub(super) fn routes(
        self,
        raw: raw::List<raw::Route>,
        root: At<'_>,
        targets: &Targets<'_>,
    ) -> Vec<Route> {
        // A file that was cut off ends before its routes, and would stop all that a running one serves.
        const HINT: &str =
            "every request would get 404: add `routes: [{ name: NAME, upstream: NAME }]`";
        let at = root.field("routes");
        match &raw.0 {
            None => self.missing(root, "routes", "the config has no `routes`", HINT),
            Some(items) if items.is_empty() => self.error(at.span(), "`routes` is empty", HINT),
            Some(_) => {}
        }
        let mut names = Unique::new();
        let mut apart = Apart::default();
        let mut routes = Vec::new();
        for (index, item) in raw.0.unwrap_or_default().into_iter().enumerate() {
            let Some(raw) = item.0 else { continue };
            let at = at.item(index);
            let place = place_of(at);
            let route = self.route(raw, at, targets);
            if !route.name.is_empty() {
                names.check(self, place, "the route name", Arc::clone(&route.name));
            }
            let judged = match (at.has("match"), at.field("match")) {
                (true, matches) => !matches.holds_error(self.report),
                (false, _) => !self.report.is_misspelt(at.node.span.start, "match"),
            };
            if judged {
                apart.check(self, &route, place);
            }
            routes.push(route);
        }
        routes
    }

    fn route(self, raw: raw::Route, at: At<'_>, targets: &Targets<'_>) -> Route {
        let raw::Route {
            name,
            matches,
            upstream,
            shard_map,
            files,
            cache,
            compress,
            redirect,
            respond,
            rewrite,
            request_headers,
            response_headers,
            hsts,
            cors,
            max_body,
            upgrades,
        } = raw;
        match &name.0 {
            Some(name) => self.name(place_of(at), "a route", name),
            None => self.missing(at, "name", "a route without a `name`", "add `name: NAME`"),
        }
        let name: Arc<str> = Arc::from(name.0.unwrap_or_default());
        let matches = self.matches(matches.0.unwrap_or_default(), at.field("match"));
        let (to_https, redirect) = match redirect.0 {
            Some(redirect) => self.redirect(redirect, at.field("redirect")),
            None => (None, None),
        };
        self.one_target(&name, to_https.is_some(), at);
        let own = self.own_target(redirect, respond, files, to_https.is_some(), at);
        let target = self.target(upstream, shard_map, at, targets).or(own);
        if let Some(Target::ShardMap(id)) = &target
            && !(at.has("match") && at.field("match").holds_error(self.report))
        {
            self.capture_is_there(&matches, *id, at, targets);
        }
        let edits = |raw: Lenient<raw::HeaderEdits>, heads, key| {
            raw.0.map(|raw| self.field_edits(raw, heads, at.field(key)))
        };
        let requests = Heads::Requests {
            shared: cache.0.is_some(),
        };
        let edge = RouteEdge {
            to_https,
            rewrite: rewrite
                .0
                .and_then(|raw| self.rewrite(raw, &matches.path, at.field("rewrite"))),
            request_headers: edits(request_headers, requests, "request_headers"),
            response_headers: edits(response_headers, Heads::Answers, "response_headers"),
            hsts: hsts.0.and_then(|raw| self.hsts(&raw, at.field("hsts"))),
            cors: cors.0.map(|raw| self.cors(raw, at.field("cors"))),
        };
        let compress = compress
            .0
            .map(|raw| self.compress(raw, at.field("compress")));
        let mut cache = cache.0.map(|raw| self.cache_rule(raw, at.field("cache")));
        if let (Some(cache), Some(compress)) = (&mut cache, &compress) {
            cache.coding = Some(compress.stored());
        }
        Route {
            name,
            matches,
            max_body: self.body_limit(at, "max_body", &max_body),
            upgrades: self.upgrades(upgrades, at.field("upgrades")),
            edge,
            target: target.unwrap_or(Target::Upstream(UpstreamId(0))),
            cache,
            compress,
        }
    }

    /// A route leads to one place. That plain requests go to HTTPS first is no place.
    fn one_target(self, name: &str, to_https: bool, at: At<'_>) {
        let route = if name.is_empty() {
            "a route".to_owned()
        } else {
            format!("the route `{}`", quotable(name))
        };
        let mut given = TARGETS
            .into_iter()
            .filter(|(key, _)| at.has(key) && !(to_https && *key == "redirect"));
        let Some((first, label)) = given.next() else {
            let is_misspelt =
                |(key, _): (&str, &str)| self.report.is_misspelt(at.node.span.start, key);
            if !to_https && !TARGETS.into_iter().any(is_misspelt) {
                let hint = "add `upstream: NAME`, `shard_map: NAME`, `redirect: { to: URL }`, \
                            `respond: { status: 200 }` or `files: { root: FOLDER }`";
                self.error(place_of(at), format!("{route} leads nowhere"), hint);
            }
            return;
        };
        if let Some((second, _)) = given.next() {
            let message = format!("{route} has both `{first}` and `{second}`");
            self.report.push(
                Problem::error(at.key_span(second), message)
                    .and(at.key_span(first), label)
                    .hint("a route has one target: keep one of them"),
            );
        }
    }

    /// What Headgate answers by itself.
    fn own_target(
        self,
        redirect: Option<Redirect>,
        respond: Lenient<raw::Respond>,
        files: Lenient<raw::Files>,
        to_https: bool,
        at: At<'_>,
    ) -> Option<Target> {
        let respond = respond
            .0
            .map(|respond| self.respond(respond, at.field("respond")));
        let files = files.0.map(|files| self.files(files, at.field("files")));
        let own = match (redirect, respond, files) {
            (Some(redirect), _, _) => Target::Redirect(Arc::new(redirect)),
            (None, Some(respond), _) => Target::Respond(Arc::new(respond)),
            (None, None, Some(files)) => Target::Files(Arc::new(files)),
            (None, None, None) if to_https => Target::Nothing,
            (None, None, None) => return None,
        };
        self.leads_on(at, &["cache", "request_headers", "max_body"]);
        if !matches!(own, Target::Files(_)) {
            self.leads_on(at, &["rewrite"]);
        }
        Some(own)
    }

    /// A route that Headgate answers by itself sends nothing on.
    fn leads_on(self, at: At<'_>, keys: &[&str]) {
        for key in keys {
            if at.has(key) && !at.has("upstream") && !at.has("shard_map") {
                let message = format!("`{key}` goes with requests that are sent on");
                self.error(
                    at.key_span(key),
                    message,
                    "Headgate answers these itself: remove it",
                );
            }
        }
    }

    fn target(
        self,
        upstream: raw::Text,
        shard_map: raw::Text,
        at: At<'_>,
        targets: &Targets<'_>,
    ) -> Option<Target> {
        let upstream = upstream
            .0
            .and_then(|name| targets.upstreams.find(self, at.field("upstream"), &name))
            .map(|index| Target::Upstream(UpstreamId(index)));
        let shard_map = shard_map
            .0
            .and_then(|name| targets.map_names.find(self, at.field("shard_map"), &name))
            .map(|index| Target::ShardMap(ShardMapId(index)));
        upstream.or(shard_map)
    }

    /// A map whose key is a capture needs a route that captures it.
    fn capture_is_there(self, matches: &Match, id: ShardMapId, at: At<'_>, targets: &Targets<'_>) {
        let Some(ShardMap {
            name,
            key: ShardKey::Path(wanted),
            ..
        }) = targets.shard_maps.get(id.0)
        else {
            return;
        };
        let captures: Vec<&str> = match &matches.path {
            PathPattern::Template(segments) => segments
                .iter()
                .filter_map(|segment| match segment {
                    Segment::Capture(name) => Some(&**name),
                    Segment::Literal(_) | Segment::Rest(_) => None,
                })
                .collect(),
            PathPattern::Any | PathPattern::Exact(_) | PathPattern::Prefix(_) => Vec::new(),
        };
        if captures.contains(&&**wanted) {
            return;
        }
        let message = format!(
            "the shard map `{name}` needs the capture `{wanted}`, which this route has not"
        );
        let hint = match closest(wanted, captures) {
            Some(near) => format!("rename the capture `{{{near}}}` to `{{{wanted}}}`"),
            None => {
                format!("match a `path` with `{{{wanted}}}` in it, such as \"/users/{{{wanted}}}\"")
            }
        };
        let problem = Problem::error(at.field("shard_map").span(), message).hint(hint);
        let matched = at.field("match");
        let path = ["path", "path_prefix"]
            .into_iter()
            .find(|key| matched.has(key));
        self.report.push(match path {
            Some(key) => problem.and(matched.field(key).span(), "the path of this route"),
            None => problem,
        });
    }

    fn matches(self, raw: raw::Match, at: At<'_>) -> Match {
        let raw::Match {
            host,
            path,
            path_prefix,
            methods,
            headers,
            query,
        } = raw;
        let host = host
            .0
            .and_then(|raw::Host(typed)| self.settle(at.field("host"), patterns::host(&typed)));
        if at.has("path") && at.has("path_prefix") {
            self.report.push(
                Problem::error(
                    at.key_span("path_prefix"),
                    "`path` and `path_prefix` exclude each other",
                )
                .and(at.key_span("path"), "`path` is given here")
                .hint("`path: \"/a/{*rest}\"` takes a whole tree and captures its rest"),
            );
        }
        let path = path
            .0
            .and_then(|typed| self.settle(at.field("path"), patterns::path(&typed)));
        let prefix = path_prefix
            .0
            .and_then(|typed| self.settle(at.field("path_prefix"), patterns::path_prefix(&typed)));
        Match {
            host: host.unwrap_or(HostPattern::Any),
            path: path.or(prefix).unwrap_or(PathPattern::Any),
            methods: self.methods(methods, at.field("methods")),
            headers: self.headers(headers, at.field("headers")),
            query: self.query(query, at.field("query")),
        }
    }

    pub(super) fn methods(self, raw: raw::List<String>, at: At<'_>) -> Vec<http::Method> {
        let Some(items) = raw.0 else {
            return Vec::new();
        };
        if items.is_empty() {
            self.error(
                at.span(),
                "`methods` is empty",
                "leave it out to match any method",
            );
        }
        let mut unique = Unique::new();
        let mut methods = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let at = at.item(index);
            let Some(method) = self.settle(at, method(&typed)) else {
                continue;
            };
            unique.check(self, at.span(), "the method", method.clone());
            methods.push(method);
        }
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        methods
    }

    fn headers(
        self,
        raw: Lenient<Named<raw::ValuePattern>>,
        at: At<'_>,
    ) -> Vec<(http::HeaderName, ValuePattern)> {
        let mut unique = Unique::new();
        let mut headers = Vec::new();
        for (typed, pattern) in raw.0.map(|Named(entries)| entries).unwrap_or_default() {
            let span = at.key_span(&typed);
            let Some(name) = self.header_name(span, &typed) else {
                continue;
            };
            unique.check(self, span, "the header", name.clone());
            if name == http::header::HOST {
                let hint = "use `host`, beside `headers`";
                self.error(span, "the host is not matched as a header", hint);
            }
            self.is_seen(span, &name);
            let at = at.field(&typed);
            let Some(pattern) = pattern.0.and_then(|raw| self.value_pattern(raw, at)) else {
                continue;
            };
            if let ValuePattern::Exact(value) = &pattern
                && (http::HeaderValue::from_str(value).is_err() || value.trim() != &**value)
            {
                let message = format!("no header can have the value `{}`", quotable(value));
                self.error(
                    at.span(),
                    message,
                    "use visible characters, without blanks around them",
                );
            }
            headers.push((name, pattern));
        }
        headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        headers
    }

    fn query(
        self,
        raw: Lenient<Named<raw::ValuePattern>>,
        at: At<'_>,
    ) -> Vec<(Arc<str>, ValuePattern)> {
        let mut query = Vec::new();
        for (typed, pattern) in raw.0.map(|Named(entries)| entries).unwrap_or_default() {
            if typed.is_empty() {
                let hint = "write the name of the parameter as it reads when decoded";
                self.error(at.key_span(&typed), "the query parameter has no name", hint);
            }
            if let Some(pattern) = pattern
                .0
                .and_then(|raw| self.value_pattern(raw, at.field(&typed)))
            {
                query.push((Arc::from(typed), pattern));
            }
        }
        query.sort();
        query
    }

    fn value_pattern(self, raw: raw::ValuePattern, at: At<'_>) -> Option<ValuePattern> {
        let raw::ValuePattern { exact, present } = raw;
        const HINT: &str = "write the value itself, or `{ present: true }` for any value";
        if at.has("exact") && at.has("present") {
            self.error(
                at.key_span("present"),
                "`exact` and `present` exclude each other",
                HINT,
            );
            return None;
        }
        if at.node.entries().is_empty() && exact.0.is_none() {
            self.error(at.span(), "a condition without a value", HINT);
        }
        match (exact.0, present.0) {
            (Some(value), _) => Some(ValuePattern::Exact(Arc::from(value))),
            (None, Some(true)) => Some(ValuePattern::Present),
            (None, Some(false)) => {
                let message = "a condition on absence is not supported";
                self.error(at.field("present").span(), message, HINT);
                None
            }
            (None, None) => None,
        }
    }
}

fn method(typed: &str) -> Result<http::Method, Fault> {
    const REGISTERED: [&str; 8] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
    ];
    let shown = quotable(typed);
    let upper = typed.to_ascii_uppercase();
    if upper != typed {
        let hint = format!("methods are upper case: write `{}`", quotable(&upper));
        return Err(Fault::new(format!("`{shown}` is not a method"), hint));
    }
    if let Ok(method) = http::Method::from_bytes(typed.as_bytes()) {
        return Ok(method);
    }
    let hint = match closest(typed, REGISTERED) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "such as `GET` or `POST`".to_owned(),
    };
    Err(Fault::new(format!("`{shown}` is not a method"), hint))
}

/// The name is what an operator looks for, so it stands for the route.
fn place_of(route: At<'_>) -> Span {
    if route.has("name") {
        route.field("name").span()
    } else {
        route.span()
    }
}

/// Everything but the methods by which requests are told apart.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    host: HostPattern,
    path: PathPattern,
    headers: Vec<(http::HeaderName, ValuePattern)>,
    query: Vec<(Arc<str>, ValuePattern)>,
}

/// The routes so far, by shape.
#[derive(Default)]
struct Apart(HashMap<Shape, Vec<Earlier>>);

struct Earlier {
    name: Arc<str>,
    methods: Vec<http::Method>,
    place: Span,
}

impl Apart {
    fn check(&mut self, cx: Cx<'_>, route: &Route, place: Span) {
        let Match {
            host,
            path,
            methods,
            headers,
            query,
        } = &route.matches;
        let shape = Shape {
            host: host.clone(),
            path: patterns::shape(path),
            headers: headers.clone(),
            query: query.clone(),
        };
        let alike = self.0.entry(shape).or_default();
        let overlaps = |other: &[http::Method]| match (methods.is_empty(), other.is_empty()) {
            (true, true) => true,
            (false, false) => methods.iter().any(|method| other.contains(method)),
            // A route that names its methods goes before one that does not.
            (true, false) | (false, true) => false,
        };
        if let Some(first) = alike.iter().find(|earlier| overlaps(&earlier.methods)) {
            let message = format!(
                "the routes `{}` and `{}` cannot be told apart: a request can match both equally",
                quotable(&first.name),
                quotable(&route.name)
            );
            let hint =
                "change `host`, `path`, `methods`, `headers` or `query` of one, or remove it";
            let problem = Problem::error(place, message).and(first.place, "matches the same");
            cx.report.push(problem.hint(hint));
        }
        alike.push(Earlier {
            name: Arc::clone(&route.name),
            methods: methods.clone(),
            place,
        });
    }
}
