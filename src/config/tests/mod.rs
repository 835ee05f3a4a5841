//! The room as its users see it: texts in, a model or rendered diagnostics out.

mod acme;
mod edge;
mod example;
mod meaning;
mod messages;

use std::path::Path;

use super::{Loaded, parse};

/// What every config needs, for tests of the rest.
const HEAD: &str = "listeners: [{ address: 127.0.0.1:0 }]\n";

fn good(text: &str) -> Loaded {
    match parse(&format!("{HEAD}{text}"), Path::new("gate.yaml")) {
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
    let Err(diagnostics) = parse(&format!("{HEAD}{text}"), Path::new("gate.yaml")) else {
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
