//! The room as its users see it: texts in, a model or rendered diagnostics out.

mod acme;
mod docs;
mod edge;
mod example;
mod meaning;
mod messages;

use std::path::Path;

use super::{Loaded, parse};

/// What every config needs, for tests of the rest.
const HEAD: &str = "listeners: [{ address: 127.0.0.1:0 }]\n";
const ROUTES: &str = "routes: [{ name: none, respond: { status: 204 } }]\n";

/// The text and a route, if it has none.
fn routed(text: &str) -> String {
    let is_lacking = !text.lines().any(|line| line.starts_with("routes:"));
    let routes = if is_lacking { ROUTES } else { "" };
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{text}{end}{routes}")
}

/// The text after `HEAD`.
fn whole(text: &str) -> String {
    routed(&format!("{HEAD}{text}"))
}

fn good(text: &str) -> Loaded {
    match parse(&whole(text), Path::new("gate.yaml")) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

/// The rendered errors of a whole text.
fn refused(text: &str) -> String {
    match parse(text, Path::new("gate.yaml")) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(diagnostics) => diagnostics.to_string(),
    }
}

/// The errors of a text after `HEAD`, each as `what is underlined | message`.
fn errors(text: &str) -> Vec<String> {
    let Err(diagnostics) = parse(&whole(text), Path::new("gate.yaml")) else {
        panic!("accepted:\n{text}");
    };
    let shown = |d: &super::errors::Diagnostic| match &d.place {
        Some(place) => {
            let underlined: String = place
                .source
                .chars()
                .skip(place.column - 1)
                .take(place.width)
                .collect();
            format!("{underlined} | {}", d.message)
        }
        None => d.message.clone(),
    };
    diagnostics.0.iter().map(shown).collect()
}
