//! What the manual shows passes a check.
//!
//! Each block of YAML in `docs/` and the README is read as a config. What a block leaves out because it is
//! about something else (listeners, upstreams, routes, files) is added; what it shows is not touched.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::config::parse;

/// Blocks that cannot be read alone, by file and first line. There is none now.
const EXCEPT: &[(&str, &str)] = &[];

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    pages
}

/// The fenced blocks of YAML, each with the number of its first line.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match &mut open {
            None if line.trim() == "```yaml" => open = Some((number + 2, String::new())),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some((_, block)) => writeln!(block, "{line}").unwrap(),
        }
    }
    blocks
}

/// The block with the sections that it does not show.
fn completed(block: &str) -> String {
    let has = |section: &str| block.lines().any(|line| line.starts_with(section));
    let mut text = block.to_owned();
    if block.starts_with("    ") {
        // Keys of a route.
        text = format!("routes:\n  - name: r\n    upstream: shop\n{text}");
    }
    if !has("listeners:") {
        text.push_str("listeners: [{ address: 127.0.0.1:0 }]\n");
    }
    if !text.lines().any(|line| line.starts_with("routes:")) {
        text.push_str("routes: [{ name: none, respond: { status: 204 } }]\n");
    }
    if !has("upstreams:") {
        let named: BTreeSet<&str> = text
            .split("upstream: ")
            .skip(1)
            .filter_map(|rest| rest.split([' ', ',', '\n', '}']).next())
            .collect();
        let endpoints = |name| format!("{name}: {{ endpoints: [127.0.0.1:1] }}");
        let named: Vec<String> = named.into_iter().map(endpoints).collect();
        text.push_str(&format!("upstreams: {{ {} }}\n", named.join(", ")));
    }
    text
}

/// Reads a text, with whatever files it names at hand.
fn read(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("www")).unwrap();
    loop {
        let Err(errors) = parse(text, &folder.path().join("gate.yaml")) else {
            return Ok(());
        };
        let mut is_new = false;
        for error in &errors.0 {
            let missing = error.message.strip_prefix("cannot read the file `");
            if let Some((name, _)) = missing.and_then(|rest| rest.split_once('`')) {
                let file = folder.path().join(name);
                is_new |= !file.exists();
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "0123456789abcdef\n").unwrap();
            }
        }
        if !is_new {
            return Err(errors.to_string());
        }
    }
}

#[test]
fn every_block_of_yaml_in_the_manual_can_be_used() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for (line, block) in blocks(&page) {
            count += 1;
            let first = block.lines().next().unwrap_or_default().trim();
            let is_whole = ["listeners:", "routes:", "upstreams:"]
                .iter()
                .all(|section| block.lines().any(|line| line.starts_with(section)));
            let text = if is_whole {
                block.clone()
            } else {
                completed(&block)
            };
            let result = read(&text);
            match EXCEPT.contains(&(name, first)) {
                true => assert!(result.is_err(), "{name}:{line} passes: it is no exception"),
                false => wrong.extend(result.err().map(|why| format!("{name}:{line}\n{why}"))),
            }
        }
    }
    assert!(count > 20, "only {count} blocks were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
