//! `config.example.yaml` runs as it stands and shows every key there is.

use std::path::Path;

use crate::config::marks::{self, Kind, Node};
use crate::config::report::Report;
use crate::config::{Loaded, load, parse, raw};

fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.yaml"))
}

/// The example with all that is switched off switched on: a `#` in the first column that no single
/// blank follows is taken away.
fn complete() -> String {
    let text = std::fs::read_to_string(path()).unwrap();
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') || rest.starts_with("  ") => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_loads_without_an_error_or_a_warning() {
    let Loaded {
        config, warnings, ..
    } = load(path()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.upstreams.len(), 6);
    assert_eq!(
        config.listeners[0].address,
        std::net::SocketAddr::from(([127, 0, 0, 1], 8080)).into()
    );
}

#[test]
fn the_example_with_everything_switched_on_lacks_only_the_files_it_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("www")).unwrap();
    let errors = parse(&complete(), &folder.path().join("gate.yaml")).unwrap_err();
    let missing: Vec<&str> = errors
        .0
        .iter()
        .map(|d| match d.message.strip_prefix("cannot read the file `") {
            Some(rest) => rest.split('`').next().unwrap(),
            None => panic!("{d}"),
        })
        .collect();
    assert!(missing.contains(&"certs/shop.key"), "{missing:?}");

    for file in missing {
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "0123456789abcdef\n").unwrap();
    }
    let loaded = parse(&complete(), &folder.path().join("gate.yaml")).unwrap();
    assert_eq!(loaded.config.workers.get(), 2);
    assert_eq!(loaded.config.listeners.len(), 3);
}

#[test]
fn no_key_is_missing_from_the_example() {
    let tree = marks::parse(&complete(), &Report::default()).unwrap();
    let keys = raw::keys::all();
    assert!(
        keys.len() > 60,
        "the recorder found only {} keys",
        keys.len()
    );
    let missing: Vec<String> = keys
        .iter()
        .filter(|key| !shows(&tree, key))
        .map(|key| key.join("."))
        .collect();
    assert_eq!(missing, [] as [&str; 0]);
}

#[test]
fn the_list_of_keys_knows_names_lists_and_shorthands() {
    let keys: Vec<String> = raw::keys::all().iter().map(|key| key.join(".")).collect();
    for key in [
        "workers",
        "upstreams.*.endpoints.[].weight",
        "upstreams.*.sticky.key",
        "shard_maps.*.shards.[].values",
        "routes.[].match.headers.*.present",
        "listeners.[].tls.certificates.[].cert",
    ] {
        assert!(
            keys.iter().any(|known| known == key),
            "{key} is not in {keys:#?}"
        );
    }
}

fn shows(node: &Node, key: &[String]) -> bool {
    let Some((first, rest)) = key.split_first() else {
        return true;
    };
    match &node.kind {
        Kind::Scalar { .. } => false,
        Kind::Sequence(items) => first == "[]" && items.iter().any(|item| shows(item, rest)),
        Kind::Mapping(entries) => entries
            .iter()
            .filter(|entry| first == "*" || entry.key.text == *first)
            .any(|entry| shows(&entry.value, rest)),
    }
}
