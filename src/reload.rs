//! The only writer of the snapshot.
//!
//! `app` loads the first config with it; SIGHUP and `admin` ask it for the next. A reload reads,
//! converts, compiles against the live state, has `Apply` open what the new config needs (sockets),
//! swaps, and only then tells the others. Invariant: any failure before the swap changes nothing
//! that runs, and is kept in `State` for the log, the answer, the gauge and `/api/config`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock;
use crate::config::errors::{Diagnostic, LoadError};
use crate::config::{self, Loaded};
use crate::snapshot::{self, CompileError, Live, Snapshot};

/// What must follow a config besides the snapshot; `app` implements it.
pub trait Apply {
    /// What `prepare` has ready.
    type Ready;

    /// Makes everything ready that can fail, changing nothing that runs.
    ///
    /// # Errors
    /// With what an operator should read.
    fn prepare(&self, next: &Snapshot) -> Result<Self::Ready, String>;

    /// The snapshot is in force: puts to use what was made ready. Cannot fail.
    fn commit(&self, ready: Self::Ready, now: &Arc<Snapshot>);

    /// No new snapshot came into force: forgets what was begun for one.
    fn abandon(&self, current: &Snapshot);
}

/// Why a config did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be read or is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot run here.
    #[error("the config cannot be used")]
    Compile(#[from] CompileError),
    /// A listener or the like cannot be opened.
    #[error("the config cannot be used: {0}")]
    Prepare(String),
    /// Reading it ended in a fault of Headgate.
    #[error("the config could not be read: internal error")]
    Internal,
}

/// The config in force and the last attempt to change it.
#[derive(Debug, Clone)]
pub struct State {
    /// The file.
    pub path: PathBuf,
    /// Counts configs that came into force, from 1.
    pub generation: u64,
    /// Digest of the file's text, hexadecimal.
    pub sha256: String,
    /// When it came into force.
    pub loaded_at: SystemTime,
    /// What was typed, secrets redacted.
    pub document: Arc<serde_json::Value>,
    /// What is odd about it, rendered.
    pub warnings: Vec<String>,
    /// Keys that differ from what the process started with and need a restart.
    pub needs_restart: Vec<&'static str>,
    /// The last attempt, if it failed.
    pub failure: Option<Failure>,
}

/// A reload that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When.
    pub at: SystemTime,
    /// What an operator should read; several lines.
    pub message: String,
}

/// Loads configs and puts them into force.
#[derive(Debug)]
pub struct Reloader<A> {
    path: PathBuf,
    live: Arc<Live>,
    apply: A,
    current: Arc<ArcSwap<Snapshot>>,
    /// What the process started with, as its file said.
    first: config::model::Config,
    state: Mutex<State>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl<A: Apply> Reloader<A> {
    /// Begins with `snapshot`, compiled from `loaded`, in force.
    #[must_use]
    pub fn new(
        path: &Path,
        live: &Arc<Live>,
        apply: A,
        current: &Arc<ArcSwap<Snapshot>>,
        loaded: &Loaded,
    ) -> Self {
        let snapshot = current.load();
        let state = State::new(path, &snapshot, loaded, Vec::new());
        live.metrics
            .control()
            .config_loaded(state.generation, &state.sha256, state.loaded_at);
        for warning in &state.warnings {
            tracing::warn!("{warning}");
        }
        Self {
            path: path.to_owned(),
            live: Arc::clone(live),
            apply,
            current: Arc::clone(current),
            first: loaded.config.clone(),
            state: Mutex::new(state),
            one_at_a_time: tokio::sync::Mutex::new(()),
        }
    }

    /// The config in force and the last attempt to change it.
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// The snapshot in force.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Reads the file again and puts it into force. Reloads that come at once queue up.
    ///
    /// # Errors
    /// When the file is wrong or cannot run here; then nothing has changed.
    pub async fn reload(&self) -> Result<State, ReloadError> {
        let _turn = self.one_at_a_time.lock().await;
        match self.attempt().await {
            Ok(state) => {
                let State {
                    generation,
                    sha256,
                    loaded_at,
                    ..
                } = &state;
                self.live
                    .metrics
                    .control()
                    .config_reloaded(*generation, sha256, *loaded_at);
                tracing::info!(generation, sha256, "config reloaded");
                for warning in &state.warnings {
                    tracing::warn!("{warning}");
                }
                if !state.needs_restart.is_empty() {
                    let keys = state.needs_restart.join(", ");
                    tracing::warn!(keys, "changed in the file, but needs a restart");
                }
                Ok(state)
            }
            Err(error) => {
                self.live.metrics.control().reload_failed();
                self.apply.abandon(&self.current.load());
                let message = explain(&error);
                tracing::error!(
                    generation = self.current.load().generation,
                    "config not reloaded, the running one stays in force\n{message}"
                );
                self.state.lock().failure = Some(Failure {
                    at: clock::wall(),
                    message,
                });
                Err(error)
            }
        }
    }

    async fn attempt(&self) -> Result<State, ReloadError> {
        let generation = self.current.load().generation + 1;
        let (path, live) = (self.path.clone(), Arc::clone(&self.live));
        // Certificates are read and names resolved here; the control plane goes on meanwhile.
        let work = move || {
            let loaded = config::load(&path)?;
            let config = Arc::new(loaded.config.clone());
            match snapshot::compile(&config, &live, generation, clock::wall()) {
                Ok(snapshot) => Ok((loaded, snapshot)),
                Err(error) => Err(placed(error, &loaded)),
            }
        };
        let (loaded, next) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_panic| ReloadError::Internal)??;
        let ready = self.apply.prepare(&next).map_err(ReloadError::Prepare)?;
        let next = Arc::new(next);
        self.current.store(Arc::clone(&next));
        self.apply.commit(ready, &next);
        let restart = config::restart_only_changes(&self.first, &next.config);
        let state = State::new(&self.path, &next, &loaded, restart);
        *self.state.lock() = state.clone();
        Ok(state)
    }
}

impl State {
    fn new(
        path: &Path,
        snapshot: &Snapshot,
        loaded: &Loaded,
        needs_restart: Vec<&'static str>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            generation: snapshot.generation,
            sha256: loaded.sha256.clone(),
            loaded_at: clock::wall(),
            document: Arc::new(loaded.document.clone()),
            warnings: loaded.warnings.iter().map(Diagnostic::to_string).collect(),
            needs_restart,
            failure: None,
        }
    }
}

/// Why a config cannot run here, at the place in its file if it is because of a file that it names.
#[must_use]
pub fn placed(error: CompileError, loaded: &Loaded) -> ReloadError {
    let places = &loaded.places;
    let found = error
        .file()
        .and_then(|file| places.blame(file, explain(&error)));
    match found {
        Some(diagnostics) => ReloadError::Load(diagnostics.into()),
        None => ReloadError::Compile(error),
    }
}

/// An error with its causes, as an operator should read it.
#[must_use]
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
