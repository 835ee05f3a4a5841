//! What is counted off the request path, by any thread.
//!
//! `reload` says how the configuration stands, the access log how many lines it gave up, the panic
//! hook that it ran. The three facts about the configuration in force change together, under one
//! lock, so that no scrape sees the generation of one file beside the digest of another.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::cells::Shared;
use super::labels::{PurgeKind, PurgeStrength};
use super::names::Name;
use super::render::Sink;

/// What any thread may count.
#[derive(Debug, Default)]
pub struct Control {
    reloads_succeeded: Shared,
    reloads_failed: Shared,
    access_log_dropped: Shared,
    panics: Shared,
    purges: [[Shared; PurgeStrength::COUNT]; PurgeKind::COUNT],
    config: Mutex<ConfigState>,
}

/// How the configuration stands.
#[derive(Debug, Default)]
struct ConfigState {
    last_successful: bool,
    in_force: Option<InForce>,
}

#[derive(Debug)]
struct InForce {
    generation: u64,
    sha256: String,
    loaded_at: SystemTime,
}

impl Control {
    /// The configuration that the process starts with is in force. `sha256` is the file's digest in
    /// hexadecimal.
    pub fn config_loaded(&self, generation: u64, sha256: &str, at: SystemTime) {
        let in_force = InForce {
            generation,
            sha256: sha256.to_owned(),
            loaded_at: at,
        };
        *self.config.lock() = ConfigState {
            last_successful: true,
            in_force: Some(in_force),
        };
    }

    /// A reload put a configuration in force.
    pub fn config_reloaded(&self, generation: u64, sha256: &str, at: SystemTime) {
        self.reloads_succeeded.add(1);
        self.config_loaded(generation, sha256, at);
    }

    /// A reload failed and changed nothing.
    pub fn reload_failed(&self) {
        self.reloads_failed.add(1);
        self.config.lock().last_successful = false;
    }

    /// Access log lines were given up.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.add(lines);
    }

    /// How many access log lines were given up so far.
    pub fn access_log_dropped_total(&self) -> u64 {
        self.access_log_dropped.value()
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.panics.add(1);
    }

    /// An operator purged something.
    pub fn purged(&self, kind: PurgeKind, strength: PurgeStrength) {
        self.purges[kind as usize][strength as usize].add(1);
    }

    pub(super) fn collect(&self, sink: &mut Sink) {
        sink.put_count(
            Name::ConfigReloads,
            &["success"],
            self.reloads_succeeded.value(),
        );
        sink.put_count(
            Name::ConfigReloads,
            &["failure"],
            self.reloads_failed.value(),
        );
        sink.put_count(Name::AccessLogDropped, &[], self.access_log_dropped.value());
        sink.put_count(Name::Panics, &[], self.panics.value());
        for kind in PurgeKind::ALL {
            for strength in PurgeStrength::ALL {
                let labels = [kind.as_str(), strength.as_str()];
                let purges = &self.purges[*kind as usize][*strength as usize];
                sink.put_count(Name::CachePurges, &labels, purges.value());
            }
        }
        let config = self.config.lock();
        let successful = u64::from(config.last_successful);
        sink.put_count(Name::ConfigLastReloadSuccessful, &[], successful);
        if let Some(InForce {
            generation,
            sha256,
            loaded_at,
        }) = &config.in_force
        {
            let since_epoch = loaded_at.duration_since(UNIX_EPOCH).unwrap_or_default();
            let at = since_epoch.as_secs_f64();
            sink.put(Name::ConfigLastReloadSuccessTimestamp, &[], at);
            sink.put_count(Name::ConfigGeneration, &[], *generation);
            sink.put_count(Name::ConfigInfo, &[sha256], 1);
        }
    }
}
