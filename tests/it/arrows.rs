//! The arrows between the rooms of the house point one way.
//!
//! Reads the source: a room may name only the rooms that the table grants it. Tests within `src`
//! may use what they like. A new arrow is a decision: it changes the table here and the one in
//! `ARCHITECTURE.md`, or it is not made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which rooms a room may use.
const TABLE: &[(&str, &[&str])] = &[
    ("body", &[]),
    ("clock", &[]),
    ("metrics", &[]),
    ("config", &[]),
    ("range", &[]),
    ("wire", &["body"]),
    ("http1", &["body", "wire"]),
    ("http2", &["body", "wire"]),
    ("encode", &["config", "body"]),
    ("files", &["config", "body", "metrics", "range"]),
    ("acme", &["config", "net", "clock", "metrics"]),
    ("net", &["config"]),
    ("router", &["config"]),
    (
        "server",
        &[
            "config", "net", "body", "wire", "metrics", "clock", "http1", "http2",
        ],
    ),
    ("health", &["config", "net", "body", "metrics", "clock"]),
    (
        "cache",
        &["config", "body", "metrics", "clock", "range", "encode"],
    ),
    ("shard", &["config", "metrics"]),
    ("balancer", &["config", "health", "metrics"]),
    (
        "upstream",
        &[
            "config", "net", "body", "balancer", "metrics", "http1", "http2",
        ],
    ),
    (
        "snapshot",
        &[
            "config", "net", "metrics", "router", "cache", "shard", "balancer", "health",
            "upstream", "clock",
        ],
    ),
    (
        "proxy",
        &[
            "body", "clock", "metrics", "config", "wire", "router", "health", "cache", "shard",
            "balancer", "upstream", "snapshot", "encode", "files",
        ],
    ),
    (
        "reload",
        &[
            "config", "snapshot", "balancer", "health", "metrics", "clock",
        ],
    ),
    (
        "admin",
        &[
            "config", "body", "metrics", "snapshot", "reload", "cache", "shard", "balancer",
            "health",
        ],
    ),
    (
        "app",
        &[
            "body", "clock", "metrics", "config", "wire", "net", "router", "server", "health",
            "cache", "shard", "balancer", "upstream", "snapshot", "proxy", "reload", "admin",
            "http1", "http2", "encode", "files", "acme", "range",
        ],
    ),
    ("cli", &["config", "app"]),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// Arrows that hold for one module alone: from, to.
const EXCEPTIONS: &[(&str, &str)] = &[
    // What values of fields say is read in one place; nothing of a connection comes with it.
    ("encode", "wire::fields"),
    ("files", "wire::fields"),
    ("cache", "wire::fields"),
    // A worker's deadlines are handed from station to station; no socket comes with them.
    ("proxy", "net::deadline"),
    // The demo asks whether its ports are free; an error is told in the words of a reload.
    ("cli", "net::listen"),
    // What is purged has the form that requests are brought into.
    ("admin", "proxy::url"),
    ("cli", "reload::explain"),
];

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The same without files that are compiled for tests only.
fn production_sources() -> Vec<PathBuf> {
    let mut all = sources();
    all.retain(|path| {
        let mut parts = path.iter().map(|part| part.to_string_lossy());
        !parts.any(|part| part == "tests" || part == "tests.rs")
    });
    all
}

/// Path below `src`, such as `proxy/handle.rs`.
fn below(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    path.strip_prefix(src).unwrap().to_str().unwrap().to_owned()
}

/// The source without comments, without strings and without what is compiled for tests only.
fn production(text: &str) -> String {
    let code = strip_comments_and_strings(text);
    let mut kept = String::new();
    let mut rest = code.as_str();
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        rest = after_item(after);
    }
    kept.push_str(rest);
    kept
}

/// What follows the first item: up to its `;`, or to the end of its braces.
fn after_item(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return &text[at + 1..];
                }
            }
            ';' if depth == 0 => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

fn strip_comments_and_strings(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &rest[hashes + 2..];
            rest = body
                .find(&close)
                .map_or("", |end| &body[end + close.len()..]);
        } else if first == '"' {
            rest = after_string(&rest[1..]);
        } else if let Some(length) = character_literal(rest) {
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// How many hashes a raw string begins with, if one begins here.
fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].starts_with('"').then_some(hashes)
}

fn after_string(text: &str) -> &str {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// Length of the character literal that begins here; a lifetime is none.
fn character_literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    if body.starts_with('\\') {
        // The character after the backslash may be a quote itself.
        return body[2..].find('\'').map(|at| at + 4);
    }
    let first = body.chars().next()?;
    body[first.len_utf8()..]
        .starts_with('\'')
        .then(|| first.len_utf8() + 2)
}

/// Every `crate::a::b` as `a::b`, groups taken apart.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$')) {
            continue;
        }
        paths(&code[at + "crate::".len()..], "", &mut found);
    }
    found
}

/// Reads a path or a group of them after `prefix`; returns what follows.
fn paths<'a>(text: &'a str, prefix: &str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = paths(rest, prefix, found).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
            assert!(rest.len() < before, "not a list of paths: {rest:.40}");
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}::{name}")
    };
    match rest.strip_prefix("::") {
        Some(more) if more.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '{')) => {
            paths(more, &path, found)
        }
        _ => {
            found.insert(path);
            let rest = rest.trim_start();
            rest.strip_prefix("as ").map_or(rest, |alias| {
                alias
                    .trim_start()
                    .trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
            })
        }
    }
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn every_room_uses_only_the_rooms_that_the_table_grants_it() {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut used_exceptions = BTreeSet::new();
    for path in production_sources() {
        let file = below(&path);
        let room = room_of(&file);
        let Some(allowed) = table.get(room) else {
            wrong.push(format!(
                "{file}: the room `{room}` has no line in the table"
            ));
            continue;
        };
        let code = production(&std::fs::read_to_string(&path).unwrap());
        for used in &uses(&code) {
            let other = used.split("::").next().unwrap();
            let known = table.contains_key(other);
            if !known || other == room || allowed.contains(&other) {
                continue;
            }
            let is = |module: &str| used == module || used.starts_with(&format!("{module}::"));
            let excepted = EXCEPTIONS
                .iter()
                .find(|(from, module)| *from == room && is(module));
            match excepted {
                Some(exception) => drop(used_exceptions.insert(*exception)),
                None => wrong.push(format!("{file}: `{room}` may not use `{used}`")),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows against the table:\n{}",
        wrong.join("\n")
    );
    for exception in EXCEPTIONS {
        assert!(
            used_exceptions.contains(exception),
            "{exception:?} is not needed any more"
        );
    }
}

#[test]
fn the_manual_shows_the_same_table() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `"));
    let shown: BTreeMap<&str, BTreeSet<&str>> = rows
        .filter_map(|row| {
            let (room, rest) = row.split_once("` |")?;
            let (_, uses) = rest.trim_end_matches([' ', '|']).rsplit_once('|')?;
            let uses = uses.split(',').map(str::trim);
            Some((room, uses.filter(|used| *used != "-").collect()))
        })
        .filter(|(room, _)| TABLE.iter().any(|(known, _)| known == room))
        .collect();
    for (room, uses) in TABLE {
        if ["lib", "main"].contains(room) {
            continue;
        }
        let exceptions = EXCEPTIONS.iter().filter(|(from, _)| from == room);
        let mut expected: BTreeSet<&str> = uses.iter().copied().collect();
        expected.extend(exceptions.map(|(_, module)| *module));
        if *room == "app" {
            assert_eq!(
                expected.len(),
                TABLE.len() - 4,
                "every room but cli and itself"
            );
            expected = BTreeSet::from(["every room but cli"]);
        }
        assert_eq!(
            shown.get(room),
            Some(&expected),
            "`{room}` in ARCHITECTURE.md"
        );
    }
}

#[test]
fn the_table_has_no_cycle() {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < table.len() {
        let free = table.iter().find(|(room, uses)| {
            !done.contains(*room) && uses.iter().all(|used| done.contains(used))
        });
        let (room, _) = free.unwrap_or_else(|| {
            let left: Vec<_> = table.keys().filter(|room| !done.contains(*room)).collect();
            panic!("these use each other in a circle: {left:?}")
        });
        done.insert(room);
    }
}

#[test]
fn outbound_connections_are_opened_in_one_place() {
    for path in production_sources() {
        let file = below(&path);
        let code = production(&std::fs::read_to_string(&path).unwrap());
        // The demo waits for its children before there is a data plane, and `headgate purge` has none.
        let allowed = ["net/dial.rs", "cli/demo.rs", "cli/purge.rs"].contains(&file.as_str());
        assert!(
            allowed || !code.contains("TcpStream::connect"),
            "{file} dials by itself"
        );
    }
}

#[test]
fn every_file_introduces_itself() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no head", below(&path));
    }
}

#[test]
fn the_reader_sees_groups_and_skips_comments_strings_and_tests() {
    let code = production(
        r##"
        //! crate::comment
        use crate::{net, router::{self, Table}, config as c};
        fn f() -> &'static str { let _ = ('"', '\'', b'x'); "crate::string" }
        const R: &str = r#"crate::raw "quoted" "#;
        #[cfg(test)]
        mod tests { use crate::tests_only; fn g() { if true { crate::inner::h() } } }
        #[cfg(test)]
        mod more;
        fn h<'a>(x: &'a crate::wire::Peer) { crate::clock::wall(); }
        "##,
    );
    let uses = uses(&code);
    let expected = [
        "clock::wall",
        "config",
        "net",
        "router::Table",
        "router::self",
        "wire::Peer",
    ];
    assert_eq!(
        uses.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}
