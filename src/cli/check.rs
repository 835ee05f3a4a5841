//! `headgate check`: what is wrong with a config, or what is in it.

use std::path::Path;
use std::process::ExitCode;

use crate::app;
use crate::config::errors::LoadError;
use crate::config::{self, model};

use super::{complain, say};

/// Prints the findings. Success means that a process would start with this file, where the names of its
/// endpoints can be resolved.
pub(super) fn check(path: &Path) -> ExitCode {
    match config::load(path) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(format_args!("{warning}\n"));
            }
            let app::Rehearsal { errors, warnings } = app::rehearse(&loaded);
            for warning in &warnings {
                complain(format_args!("{warning}\n"));
            }
            if !errors.is_empty() {
                for error in &errors {
                    complain(format_args!("{error}\n"));
                }
                complain(count(errors.len()));
                return ExitCode::FAILURE;
            }
            let summary = summary(&loaded.config);
            say(format_args!("{}: ok: {summary}", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error as an operator should read it: every diagnostic and their number.
pub(super) fn explain(error: &LoadError) -> String {
    match error {
        LoadError::Invalid(found) => {
            format!("{found}\n\n{}", count(found.0.len()))
        }
        LoadError::Read { .. } => format!("error: {}", crate::reload::explain(error)),
    }
}

fn count(errors: usize) -> String {
    let plural = if errors == 1 { "" } else { "s" };
    format!("{errors} error{plural} found")
}

fn summary(config: &model::Config) -> String {
    let endpoints: usize = config
        .upstreams
        .iter()
        .map(|upstream| upstream.endpoints.len())
        .sum();
    [
        (config.listeners.len(), "listener"),
        (config.routes.len(), "route"),
        (config.upstreams.len(), "upstream"),
        (endpoints, "endpoint"),
        (config.shard_maps.len(), "shard map"),
    ]
    .map(|(count, noun)| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }))
    .join(", ")
}
