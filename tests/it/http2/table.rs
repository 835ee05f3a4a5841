//! The tables of `docs/http2.md` name these tests, and leave none out.

use std::collections::BTreeSet;
use std::path::Path;

/// Every test of this folder that bears a section's number, as `file::name`.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/http2");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line = line.trim_start();
            let name = line.strip_prefix("async fn ").unwrap_or(line);
            let end = name.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            let (name, rest) = name.split_at(end.unwrap_or(name.len()));
            let number = name.strip_prefix("rfc8441_").unwrap_or(name);
            let number = number.strip_prefix("rfc7541_").unwrap_or(number);
            let mut letters = number.chars();
            let section = letters.next() == Some('s')
                && letters.next().is_some_and(|it| it.is_ascii_digit())
                && number.contains('_');
            if section && (rest.starts_with("()") || rest.starts_with(": ")) {
                names.insert(format!("{file}::{name}"));
            }
        }
    }
    names
}

/// Every pattern of the tables: `file::name`, which may end in `*`.
fn patterns() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http2.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named = words.filter(|word| word.contains("::"));
    named.map(str::to_owned).collect()
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[test]
fn the_documented_table_names_every_test_of_a_section_and_no_other() {
    let (tests, patterns) = (tests(), patterns());
    assert!(tests.len() > 200, "{tests:?}");
    for test in &tests {
        let named = patterns.iter().any(|pattern| fits(pattern, test));
        assert!(named, "docs/http2.md leaves out {test}");
    }
    let sections = |pattern: &&String| {
        let name = pattern.split("::").nth(1).unwrap_or_default();
        name.starts_with('s') && name[1..].starts_with(|it: char| it.is_ascii_digit())
    };
    for pattern in patterns.iter().filter(sections) {
        let found = tests.iter().any(|test| fits(pattern, test));
        assert!(found, "docs/http2.md names {pattern}, and there is none");
    }
}
