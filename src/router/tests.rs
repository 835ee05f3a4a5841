//! The table against an oracle that knows only the definition: try every route, keep the best.

use std::cmp::Ordering;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Found, Request, Table};
use crate::config::model::{
    HostPattern, Match, PathPattern, Route, RouteEdge, RouteId, Segment, Target, UpstreamId,
    ValuePattern,
};

fn route(name: &str, path: PathPattern) -> Route {
    Route {
        name: name.into(),
        matches: Match {
            host: HostPattern::Any,
            path,
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
        },
        target: Target::Upstream(UpstreamId(0)),
        compress: None,
        max_body: None,
        upgrades: Vec::new(),
        edge: RouteEdge::default(),
        cache: None,
    }
}

fn on_host(mut route: Route, host: &str) -> Route {
    route.matches.host = match host.strip_prefix("*.") {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(host.into()),
    };
    route
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(path.into())
}

fn exact(path: &str) -> PathPattern {
    PathPattern::Exact(path.into())
}

fn template(text: &str) -> PathPattern {
    let segments = text.split('/').skip(1).map(|segment| {
        let inner = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match inner.map(|name| (name, name.strip_prefix('*'))) {
            None => Segment::Literal(segment.into()),
            Some((_, Some(name))) => Segment::Rest(name.into()),
            Some((name, None)) => Segment::Capture(name.into()),
        }
    });
    PathPattern::Template(segments.collect())
}

/// Looks up `GET http://host/path?query`; the target is split at `?`.
fn find(table: &Table, host: &str, target: &str) -> Option<Found> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let headers = HeaderMap::new();
    table.find(&Request {
        method: &Method::GET,
        host,
        path,
        query,
        headers: &headers,
    })
}

fn name<'r>(routes: &'r [Route], host: &str, target: &str) -> Option<&'r str> {
    find(&Table::new(routes), host, target).map(|found| &*routes[found.route.0].name)
}

#[test]
fn a_prefix_matches_whole_segments_only() {
    let routes = [route("products", prefix("/products"))];
    assert_eq!(name(&routes, "h", "/products"), Some("products"));
    assert_eq!(name(&routes, "h", "/products/"), Some("products"));
    assert_eq!(name(&routes, "h", "/products/7/x"), Some("products"));
    assert_eq!(name(&routes, "h", "/productsale"), None);
    assert_eq!(name(&routes, "h", "/Products"), None);
    assert_eq!(name(&routes, "h", "/"), None);
}

#[test]
fn captures_are_read_by_name_and_the_rest_may_be_empty() {
    let routes = [route("orders", template("/users/{user}/orders/{*rest}"))];
    let table = Table::new(&routes);
    for (path, rest) in [
        ("/users/42/orders", ""),
        ("/users/42/orders/", ""),
        ("/users/42/orders/7/items", "7/items"),
        ("/users/42/orders//", "/"),
    ] {
        let found = find(&table, "h", path).unwrap();
        assert_eq!(table.capture(&found, path, "user"), Some("42"), "{path}");
        assert_eq!(table.capture(&found, path, "rest"), Some(rest), "{path}");
        assert_eq!(table.capture(&found, path, "other"), None);
        assert_eq!(found.captures.value(path, 0), Some("42"));
        assert_eq!(found.captures.value(path, 2), None);
    }
    assert_eq!(
        find(&table, "h", "/users//orders"),
        None,
        "a capture is never empty"
    );
    assert_eq!(find(&table, "h", "/users/42/order"), None);
}

#[test]
fn more_literal_segments_win_wherever_they_stand() {
    let routes = [
        route("first literal", template("/a/{x}/{y}")),
        route("later literals", template("/{x}/b/c")),
        route("open", template("/a/{x}/{y}/{*rest}")),
        route("prefix", prefix("/a")),
        route("any", PathPattern::Any),
    ];
    assert_eq!(name(&routes, "h", "/a/b/c"), Some("later literals"));
    assert_eq!(name(&routes, "h", "/a/b/d"), Some("first literal"));
    assert_eq!(name(&routes, "h", "/a/b/d/e"), Some("open"));
    assert_eq!(name(&routes, "h", "/a/b"), Some("prefix"));
    assert_eq!(name(&routes, "h", "/z"), Some("any"));
}

#[test]
fn a_candidate_whose_conditions_fail_gives_way_to_the_next_best() {
    let mut post = route("post", exact("/a/b"));
    post.matches.methods = vec![Method::POST];
    let mut flagged = route("flagged", prefix("/a/b"));
    flagged.matches.query = vec![("flag".into(), ValuePattern::Present)];
    let routes = [
        route("any", PathPattern::Any),
        route("prefix", prefix("/a")),
        flagged,
        post,
    ];
    assert_eq!(name(&routes, "h", "/a/b?flag"), Some("flagged"));
    assert_eq!(name(&routes, "h", "/a/b?flagged"), Some("prefix"));
    assert_eq!(name(&routes, "h", "/a/b"), Some("prefix"));
}

#[test]
fn hosts_fall_through_from_exact_to_longest_suffix_to_any() {
    let routes = [
        on_host(route("exact", prefix("/e")), "x.shop.example"),
        on_host(route("long", prefix("/l")), "*.shop.example"),
        on_host(route("short", prefix("/s")), "*.example"),
        route("any", PathPattern::Any),
    ];
    let hosts = [
        "x.shop.example",
        "X.Shop.EXAMPLE:8080",
        "x.shop.example.",
        "x.SHOP.example.:1",
    ];
    for host in hosts {
        assert_eq!(name(&routes, host, "/e"), Some("exact"), "{host}");
        assert_eq!(name(&routes, host, "/l"), Some("long"), "{host}");
        assert_eq!(name(&routes, host, "/s"), Some("short"), "{host}");
        assert_eq!(name(&routes, host, "/z"), Some("any"), "{host}");
    }
    assert_eq!(
        name(&routes, "shop.example", "/l"),
        Some("any"),
        "a suffix wants a label more"
    );
    assert_eq!(name(&routes, ".shop.example", "/l"), Some("any"));
    assert_eq!(name(&routes, "a.b.shop.example", "/l"), Some("long"));
    assert_eq!(name(&routes, "notshop.example", "/l"), Some("any"));
    let endless = format!("{}.shop.example", "a".repeat(300));
    assert_eq!(name(&routes, &endless, "/l"), Some("any"));
}

#[test]
fn an_address_in_brackets_keeps_them_and_loses_its_port() {
    let routes = [on_host(route("six", PathPattern::Any), "[2001:db8::1]")];
    assert_eq!(name(&routes, "[2001:DB8::1]:443", "/"), Some("six"));
    assert_eq!(name(&routes, "[2001:db8::1]", "/"), Some("six"));
    assert_eq!(name(&routes, "[2001:db8::2]", "/"), None);
    assert_eq!(name(&routes, "[2001:db8::1", "/"), None);
}

#[test]
fn header_conditions_look_at_every_value_of_the_field() {
    let mut beta = route("beta", PathPattern::Any);
    let field = HeaderName::from_static("x-group");
    beta.matches.headers = vec![(field.clone(), ValuePattern::Exact("beta".into()))];
    let table = Table::new(&[beta]);
    let mut headers = HeaderMap::new();
    let look_up = |headers: &HeaderMap| {
        let query = None;
        table.find(&Request {
            method: &Method::GET,
            host: "h",
            path: "/",
            query,
            headers,
        })
    };
    assert_eq!(look_up(&headers), None);
    headers.append(field.clone(), HeaderValue::from_static("alpha"));
    assert_eq!(look_up(&headers), None);
    headers.append(field, HeaderValue::from_static("beta"));
    assert_eq!(look_up(&headers).map(|found| found.route), Some(RouteId(0)));
}

#[test]
fn query_conditions_compare_decoded_names_and_values() {
    let mut routes = [route("colour", PathPattern::Any)];
    routes[0].matches.query = vec![("a b".into(), ValuePattern::Exact("é".into()))];
    assert_eq!(name(&routes, "h", "/?x=1&a%20b=%C3%A9"), Some("colour"));
    assert_eq!(
        name(&routes, "h", "/?a%20b=other&a%20b=%c3%a9"),
        Some("colour")
    );
    assert_eq!(name(&routes, "h", "/?a%20b=e"), None);
    assert_eq!(name(&routes, "h", "/"), None);
}

#[test]
fn only_a_route_for_any_path_takes_a_target_that_is_no_path() {
    let routes = [
        route("rest", template("/{*rest}")),
        route("any", PathPattern::Any),
    ];
    assert_eq!(name(&routes, "h", "*"), Some("any"));
    assert_eq!(name(&routes[..1], "h", "*"), None);
    assert_eq!(name(&routes[..1], "h", ""), None);
}

#[test]
fn each_of_ten_thousand_routes_is_found() {
    let routes: Vec<_> = (0..10_000)
        .map(|index| match index % 4 {
            0 => route(&format!("{index}"), exact(&format!("/exact/{index}"))),
            1 => route(&format!("{index}"), prefix(&format!("/prefix-{index}"))),
            2 => route(
                &format!("{index}"),
                template(&format!("/{{x}}/t{index}/{{y}}")),
            ),
            _ => on_host(
                route(&format!("{index}"), PathPattern::Any),
                &format!("h{index}.example"),
            ),
        })
        .collect();
    let table = Table::new(&routes);
    for index in 0..routes.len() {
        let (host, path) = match index % 4 {
            0 => ("h".to_owned(), format!("/exact/{index}")),
            1 => ("h".to_owned(), format!("/prefix-{index}/below")),
            2 => ("h".to_owned(), format!("/a/t{index}/b")),
            _ => (format!("h{index}.example"), "/".to_owned()),
        };
        assert_eq!(find(&table, &host, &path).unwrap().route, RouteId(index));
    }
}

/// Every node of this trie has both a literal and a capture child, and the path goes on for long
/// after it: the walk still ends at the deepest pattern.
#[test]
fn a_path_of_a_hundred_thousand_segments_is_walked_no_deeper_than_the_patterns() {
    let mut routes: Vec<_> = (0..1_u32 << 12)
        .map(|bits| {
            let segment = |at: u32| if bits >> at & 1 == 1 { "/a" } else { "/{c}" };
            let text: String = (0..12).map(segment).collect();
            route(&text, template(&format!("{text}/end")))
        })
        .collect();
    routes.push(route("open", template("/{c}/{*rest}")));
    let path = "/a".repeat(100_000);
    assert_eq!(name(&routes, "h", &path), Some("open"));
    let path = format!("{}/end", "/a".repeat(12));
    assert_eq!(name(&routes, "h", &path), path.strip_suffix("/end"));
}

#[test]
fn the_table_agrees_with_trying_every_route_in_order_of_specificity() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let routes: Vec<_> = (0..random.usize(1..40))
            .map(|at| any_route(&mut random, at))
            .collect();
        let table = Table::new(&routes);
        for _ in 0..60 {
            let asked = Asked::any(&mut random);
            let expected = asked.best_of(&routes);
            let found = table.find(&asked.request()).map(|found| found.route);
            assert_eq!(found, expected, "seed {seed}, {asked:?}, {routes:#?}");
        }
    }
}

/// Templates that overlap as much as they can, so that what a walk leaves out matters.
#[test]
fn the_walk_leaves_out_no_better_route_where_templates_overlap() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let routes: Vec<_> = (0..random.usize(4..24))
            .map(|at| {
                let pieces = ["/a", "/b", "/{x}", "/{x}"];
                let text: String = (0..4).map(|_| pieces[random.usize(..4)]).collect();
                let end = if random.bool() { "" } else { "/{*rest}" };
                let mut made = route(&format!("route-{at}"), template(&(text + end)));
                if random.u8(0..4) == 0 {
                    made.matches.methods = vec![Method::POST];
                }
                made
            })
            .collect();
        let table = Table::new(&routes);
        for _ in 0..40 {
            let mut asked = Asked::any(&mut random);
            asked.path = (0..4).map(|_| ["/a", "/b"][random.usize(..2)]).collect();
            let found = table.find(&asked.request()).map(|found| found.route);
            assert_eq!(
                found,
                asked.best_of(&routes),
                "seed {seed}, {asked:?}, {routes:#?}"
            );
        }
    }
}

#[test]
fn no_text_makes_a_look_up_panic() {
    let pieces = [
        "/", "a", "é", "%", "%2", "%41", ".", ":", "[", "]", "&", "=", "A", "\0", "//",
    ];
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let routes: Vec<_> = (0..20).map(|at| any_route(&mut random, at)).collect();
        let table = Table::new(&routes);
        for _ in 0..50 {
            let mut text = || -> String {
                (0..random.usize(0..9))
                    .map(|_| pieces[random.usize(..pieces.len())])
                    .collect()
            };
            let (host, path, query) = (text(), text(), text());
            let headers = HeaderMap::new();
            let request = Request {
                method: &Method::GET,
                host: &host,
                path: &path,
                query: Some(&query),
                headers: &headers,
            };
            if let Some(found) = table.find(&request) {
                let PathPattern::Template(segments) = &routes[found.route.0].matches.path else {
                    continue;
                };
                let literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
                let captures = segments.len() - segments.iter().filter(literal).count();
                for index in 0..captures {
                    assert!(
                        found.captures.value(&path, index).is_some(),
                        "seed {seed}: {path}"
                    );
                }
            }
        }
    }
}

const WORDS: [&str; 3] = ["a", "b", "c"];
const HOSTS: [&str; 5] = ["a.b", "b.a.b", "c.b.a.b", "*.b", "*.a.b"];

fn any_route(random: &mut fastrand::Rng, at: usize) -> Route {
    let mut text = String::new();
    let length = random.usize(1..4);
    let kind = random.u8(0..5);
    for _ in 0..length {
        text.push('/');
        let capture = kind >= 3 && random.bool();
        text.push_str(if capture {
            "{x}"
        } else {
            WORDS[random.usize(..3)]
        });
    }
    let path = match kind {
        0 => PathPattern::Any,
        1 => exact(&text),
        2 => prefix(&text),
        3 => template(&text),
        _ => template(&(text + "/{*rest}")),
    };
    let mut made = route(&format!("route-{at}"), path);
    if random.bool() {
        made = on_host(made, HOSTS[random.usize(..HOSTS.len())]);
    }
    if random.bool() {
        made.matches.methods =
            [vec![Method::GET], vec![Method::GET, Method::POST]][random.usize(..2)].clone();
    }
    for word in WORDS {
        let wanted = if random.bool() {
            ValuePattern::Present
        } else {
            ValuePattern::Exact("1".into())
        };
        if random.u8(0..6) == 0 {
            let field = HeaderName::from_static(word);
            made.matches.headers.push((field, wanted.clone()));
        }
        if random.u8(0..6) == 0 {
            made.matches.query.push((word.into(), wanted));
        }
    }
    made
}

#[derive(Debug)]
struct Asked {
    method: Method,
    host: &'static str,
    path: String,
    query: Vec<(&'static str, &'static str)>,
    query_text: String,
    headers: HeaderMap,
}

impl Asked {
    fn any(random: &mut fastrand::Rng) -> Self {
        let mut path = String::new();
        for _ in 0..random.usize(0..5) {
            path.push('/');
            path.push_str(["a", "b", "c", "a", "b", ""][random.usize(..6)]);
        }
        let mut query = Vec::new();
        let mut headers = HeaderMap::new();
        for word in WORDS {
            let value = ["1", "2"][random.usize(..2)];
            if random.bool() {
                query.push((word, value));
            }
            if random.bool() {
                headers.append(word, HeaderValue::from_static(value));
            }
        }
        let pairs: Vec<_> = query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Self {
            method: [Method::GET, Method::POST, Method::PUT][random.usize(..3)].clone(),
            host: ["a.b", "b.a.b", "c.b.a.b", "z.a.b", "z.b", "z"][random.usize(..6)],
            path,
            query_text: pairs.join("&"),
            query,
            headers,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            host: self.host,
            path: &self.path,
            query: Some(&self.query_text),
            headers: &self.headers,
        }
    }

    fn best_of(&self, routes: &[Route]) -> Option<RouteId> {
        let taken = (0..routes.len()).filter(|&at| self.is_taken_by(&routes[at].matches));
        taken
            .min_by(|&a, &b| precedence(&routes[a], &routes[b]))
            .map(RouteId)
    }

    fn is_taken_by(&self, matches: &Match) -> bool {
        let value = |wanted: &ValuePattern, value: &str| match wanted {
            ValuePattern::Present => true,
            ValuePattern::Exact(text) => **text == *value,
        };
        let host = match &matches.host {
            HostPattern::Any => true,
            HostPattern::Exact(name) => **name == *self.host,
            HostPattern::Suffix(name) => self.host.ends_with(&format!(".{name}")),
        };
        host && takes_path(&matches.path, &self.path)
            && (matches.methods.is_empty() || matches.methods.contains(&self.method))
            && matches.headers.iter().all(|(field, wanted)| {
                self.headers
                    .get(field)
                    .is_some_and(|sent| value(wanted, sent.to_str().unwrap()))
            })
            && matches.query.iter().all(|(field, wanted)| {
                self.query
                    .iter()
                    .any(|(name, sent)| **field == **name && value(wanted, sent))
            })
    }
}

fn takes_path(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Any => true,
        PathPattern::Exact(text) => **text == *path,
        PathPattern::Prefix(text) => *path == **text || path.starts_with(&format!("{text}/")),
        PathPattern::Template(segments) => {
            let parts: Vec<_> = path.split('/').skip(1).collect();
            let open = matches!(segments.last(), Some(Segment::Rest(_)));
            let fixed = segments.len() - usize::from(open);
            let long_enough = if open {
                parts.len() >= fixed
            } else {
                parts.len() == fixed
            };
            path.starts_with('/')
                && long_enough
                && segments
                    .iter()
                    .zip(&parts)
                    .all(|(segment, part)| match segment {
                        Segment::Literal(text) => **text == **part,
                        Segment::Capture(_) => !part.is_empty(),
                        Segment::Rest(_) => true,
                    })
        }
    }
}

/// The definition, one line a rule; `Less` goes first.
fn precedence(a: &Route, b: &Route) -> Ordering {
    let host = |route: &Route| match &route.matches.host {
        HostPattern::Exact(_) => (2, 0),
        HostPattern::Suffix(name) => (1, name.len()),
        HostPattern::Any => (0, 0),
    };
    let (path_a, path_b) = (path_rules(&a.matches.path), path_rules(&b.matches.path));
    let conditions = |route: &Route| {
        let Match {
            methods,
            headers,
            query,
            ..
        } = &route.matches;
        usize::from(!methods.is_empty()) + headers.len() + query.len()
    };
    let lists = |route: &Route| {
        let Match {
            methods,
            headers,
            query,
            ..
        } = route.matches.clone();
        let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
        let headers: Vec<(String, ValuePattern)> = headers
            .into_iter()
            .map(|(field, wanted)| (field.to_string(), wanted))
            .collect();
        (methods, headers, query)
    };
    (host(b).cmp(&host(a)))
        .then(path_b.exact.cmp(&path_a.exact))
        .then(path_b.literals.cmp(&path_a.literals))
        .then(path_b.captures.cmp(&path_a.captures))
        .then(path_a.open.cmp(&path_b.open))
        .then(path_b.map.cmp(&path_a.map))
        .then(conditions(b).cmp(&conditions(a)))
        .then_with(|| lists(a).cmp(&lists(b)))
        .then(a.name.cmp(&b.name))
}

struct PathRules {
    exact: bool,
    literals: usize,
    captures: usize,
    open: bool,
    /// One letter a segment; a literal is the greater letter.
    map: String,
}

fn path_rules(pattern: &PathPattern) -> PathRules {
    let map: String = match pattern {
        PathPattern::Any => String::new(),
        PathPattern::Exact(text) | PathPattern::Prefix(text) => {
            "l".repeat(text.matches('/').count())
        }
        PathPattern::Template(segments) => segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Literal(_) => Some('l'),
                Segment::Capture(_) => Some('c'),
                Segment::Rest(_) => None,
            })
            .collect(),
    };
    let open = match pattern {
        PathPattern::Any | PathPattern::Prefix(_) => true,
        PathPattern::Exact(_) => false,
        PathPattern::Template(segments) => matches!(segments.last(), Some(Segment::Rest(_))),
    };
    let captures = map.matches('c').count();
    PathRules {
        exact: !open && captures == 0,
        literals: map.matches('l').count(),
        captures,
        open,
        map,
    }
}
