//! Decides what is due, and does it: one thing at a time.
//!
//! One task of the control plane. `apply` hands it each config, also while an order is on its way:
//! the order goes on unless what it was begun with has changed. Time comes from `clock`, waiting is
//! cut into pieces, so that a clock that was set or a machine that slept is noticed. Invariant: no
//! borrow of the state is held over an `.await`; what an order changes, it changes at its end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::config::model::Acme;
use crate::metrics::Metrics;
use crate::net::tls::Pair;

use super::challenges::Outlets;
use super::http::Http;
use super::order::{self, Issued, Wish};
use super::plan::{Managed, Task};
use super::session::{self, Settings, blocking};
use super::status::Status;
use super::{AcmeError, store};

/// For an order, its challenges and the CA's own time included.
const ORDER: Duration = Duration::from_secs(600);
/// For a look at the clock.
const LOOK: Duration = Duration::from_secs(600);

/// Keeps the certificates of the config.
#[derive(Debug)]
pub struct Keeper {
    desk: Rc<Desk>,
}

#[derive(Debug)]
struct Desk {
    outlets: Outlets,
    status: Arc<Status>,
    now: fn() -> SystemTime,
    changed: Notify,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    settings: Option<Arc<Settings>>,
    managed: Vec<Managed>,
    /// Served still, though no certificate of the config is this one: others may lack its names.
    leftovers: Vec<Pair>,
}

/// One thing to do.
#[derive(Debug)]
struct Job {
    settings: Arc<Settings>,
    names: Arc<[Arc<str>]>,
    task: Task,
}

/// A failure, and how long the CA wants to be left alone.
type Failure = (AcmeError, Option<Duration>);

impl Keeper {
    /// Starts with nothing to keep. To be called on the control plane's runtime, which ends the task.
    #[must_use]
    pub fn start(metrics: &Metrics, outlets: Outlets) -> Self {
        let desk = Rc::new(Desk {
            outlets,
            status: Status::registered(metrics),
            now: clock::wall,
            changed: Notify::new(),
            state: RefCell::default(),
        });
        tokio::task::spawn_local(Rc::clone(&desk).supervise());
        Self { desk }
    }

    /// A config is in force. Certificates that are kept on disk are served from here on; the CA is not
    /// waited for.
    pub fn apply(&self, config: Option<&Acme>) {
        self.desk.apply(config);
        self.desk.changed.notify_one();
    }
}

impl Desk {
    fn apply(&self, config: Option<&Acme>) {
        let state = &mut *self.state.borrow_mut();
        let settings = config.map(Settings::new);
        let same_folder = match (&state.settings, &settings) {
            (Some(old), Some(new)) => old.folder == new.folder,
            _ => false,
        };
        let mut before = std::mem::take(&mut state.managed);
        for names in config.map_or(&[][..], |config| &config.certificates) {
            let known = before.iter().position(|it| it.names == *names);
            let known = known
                .filter(|_| same_folder)
                .map(|at| before.swap_remove(at));
            let managed = known.map_or_else(
                || self.load(settings.as_deref(), names),
                |mut known| {
                    known.forgive();
                    known
                },
            );
            state.managed.push(managed);
        }
        let gone = before.iter().filter_map(|it| it.pair().cloned());
        state.leftovers.extend(gone);
        state.settings = settings;
        self.sweep(state);
        for managed in &state.managed {
            self.show(managed);
        }
        let names: Vec<_> = state.managed.iter().map(Managed::name).collect();
        self.status
            .retain(|name| names.iter().any(|known| ***known == *name));
    }

    /// What is kept on disk for these names is held from the start.
    fn load(&self, settings: Option<&Settings>, names: &Arc<[Arc<str>]>) -> Managed {
        let mut managed = Managed::new(names);
        let Some(path) = settings.map(|settings| settings.folder.certificate(names)) else {
            return managed;
        };
        let domain = managed.name();
        // One that has ended is better than none, and renewed at once.
        let read = store::read(&path).and_then(|bytes| {
            let judge = |bytes: Vec<u8>| order::judge(names, &bytes, SystemTime::UNIX_EPOCH);
            bytes.map(judge).transpose()
        });
        match read {
            Ok(Some(pair)) => {
                self.outlets.issued.insert(pair.clone());
                managed.hold(pair, fastrand::f64());
            }
            Ok(None) => {}
            Err(error @ AcmeError::Unusable(_)) => {
                tracing::warn!(%domain, path = %path.display(), %error, "a kept certificate is broken: it is obtained again");
                store::set_aside(&path);
            }
            Err(error) => tracing::error!(%domain, %error, "a kept certificate cannot be read"),
        }
        managed
    }

    /// Takes out of service what is not in the config any more and nobody's stand-in.
    fn sweep(&self, state: &mut State) {
        let State {
            managed, leftovers, ..
        } = state;
        leftovers.retain(|pair| {
            // Under this name there is another pair by now, or will be.
            let replaced = managed
                .iter()
                .any(|it| it.name() == pair.name() && it.pair().is_some());
            let stands_in = |it: &Managed| {
                let covers = |name: &Arc<str>| pair.names().iter().any(|known| **known == **name);
                it.pair().is_none() && it.names.iter().any(covers)
            };
            if replaced {
                return false;
            }
            let stays = managed.iter().any(stands_in);
            if !stays {
                self.outlets.issued.remove(pair.name());
            }
            stays
        });
    }

    /// Has metrics say how it stands.
    fn show(&self, managed: &Managed) {
        let now = (self.now)();
        self.status.update(managed.name(), |figures| {
            figures.next = Some(managed.order_at().max(now));
        });
    }

    /// A panic would be a bug, and must not end all renewals.
    async fn supervise(self: Rc<Self>) {
        loop {
            let Err(_panic) = tokio::task::spawn_local(Rc::clone(&self).run()).await;
            sleep(LOOK).await;
        }
    }

    async fn run(self: Rc<Self>) -> Infallible {
        loop {
            let Some((at, job)) = self.next() else {
                self.changed.notified().await;
                continue;
            };
            let wait = at.duration_since((self.now)()).unwrap_or_default();
            if !wait.is_zero() {
                tokio::select! {
                    () = sleep(wait.min(LOOK)) => {}
                    () = self.changed.notified() => {}
                }
                continue;
            }
            let mut work = pin!(self.work(&job));
            loop {
                tokio::select! {
                    () = &mut work => break,
                    () = self.changed.notified() => {
                        if !self.is_wanted(&job) {
                            tracing::info!(domain = %first(&job.names), "an order was given up: the config has changed");
                            break;
                        }
                    }
                }
            }
        }
    }

    fn next(&self) -> Option<(SystemTime, Job)> {
        let state = self.state.borrow();
        let settings = state.settings.as_ref()?;
        let (managed, (at, task)) = state
            .managed
            .iter()
            .map(|managed| (managed, managed.next()))
            .min_by_key(|(_, (at, _))| *at)?;
        let job = Job {
            settings: Arc::clone(settings),
            names: Arc::clone(&managed.names),
            task,
        };
        Some((at, job))
    }

    fn is_wanted(&self, job: &Job) -> bool {
        let state = self.state.borrow();
        let settings = state.settings.as_ref();
        settings.is_some_and(|now| now.continues(&job.settings))
            && state.managed.iter().any(|it| it.names == job.names)
    }

    /// Changes what is known of the job's certificate, if the config has it still.
    fn record(&self, job: &Job, change: impl FnOnce(&mut Managed)) {
        let state = &mut *self.state.borrow_mut();
        if let Some(managed) = state.managed.iter_mut().find(|it| it.names == job.names) {
            change(managed);
            self.show(managed);
        }
        self.sweep(state);
    }

    async fn work(&self, job: &Job) {
        match job.task {
            Task::Ask => self.ask(job).await,
            Task::Order => self.order(job).await,
        }
    }

    async fn ask(&self, job: &Job) {
        let id = self.look(job, |managed| managed.id().cloned());
        let Some(id) = id else {
            return;
        };
        let http = match session::http(&job.settings).await {
            Ok(http) => http,
            Err(error) => return self.not_suggested(job, &(error, None)),
        };
        let asking = async {
            let account = session::account(&job.settings, &http).await?;
            Ok::<_, AcmeError>(account.renewal_info(&id).await?)
        };
        let asked = timeout(ORDER, asking)
            .await
            .unwrap_or(Err(AcmeError::Timeout));
        let now = (self.now)();
        match asked {
            Ok((info, again)) => {
                let before = self.look(job, |it| Some(it.order_at()));
                self.record(job, |it| it.suggested(&info, again, now, fastrand::f64()));
                let after = self.look(job, |it| Some(it.order_at()));
                if let Some(at) = after.filter(|_| after != before) {
                    let (domain, at, why) = (first(&job.names), date(at), info.explanation_url);
                    tracing::info!(%domain, at, why, "the CA suggests when to renew");
                }
            }
            Err(AcmeError::Protocol(instant_acme::Error::Unsupported(_))) => {
                self.record(job, |it| it.not_suggested(None, now));
            }
            Err(error) => self.not_suggested(job, &(error, http.refused_for())),
        }
    }

    fn not_suggested(&self, job: &Job, (error, asked): &Failure) {
        let domain = first(&job.names);
        tracing::warn!(%domain, %error, "the CA did not say when to renew");
        let now = (self.now)();
        self.record(job, |it| it.not_suggested(Some(*asked), now));
    }

    async fn order(&self, job: &Job) {
        match self.obtain(job).await {
            Ok(issued) => self.adopt(job, issued).await,
            Err((error, asked)) => self.failed(job, &error, asked),
        }
    }

    async fn obtain(&self, job: &Job) -> Result<Issued, Failure> {
        let http = session::http(&job.settings)
            .await
            .map_err(|error| (error, None))?;
        let obtaining = async {
            match self.obtain_over(job, &http).await {
                // The CA has lost it, as staging ones do now and then.
                Err(error) if error.is("accountDoesNotExist") => {
                    session::forget(&job.settings).await?;
                    self.obtain_over(job, &http).await
                }
                outcome => outcome,
            }
        };
        let outcome = timeout(ORDER, obtaining)
            .await
            .unwrap_or(Err(AcmeError::Timeout));
        outcome.map_err(|error| (error, http.refused_for()))
    }

    async fn obtain_over(&self, job: &Job, http: &Http) -> Result<Issued, AcmeError> {
        let account = session::account(&job.settings, http).await?;
        let replaces = self.look(job, |managed| managed.id().cloned());
        let wish = Wish {
            names: &job.names,
            challenge: job.settings.config.challenge,
            replaces: replaces.as_ref(),
            outlets: &self.outlets,
        };
        wish.obtain(&account, http, (self.now)()).await
    }

    /// The value that `look` finds of the job's certificate.
    fn look<T>(&self, job: &Job, look: impl FnOnce(&Managed) -> Option<T>) -> Option<T> {
        let state = self.state.borrow();
        let managed = state.managed.iter().find(|it| it.names == job.names)?;
        look(managed)
    }

    async fn adopt(&self, job: &Job, issued: Issued) {
        let Issued { pair, pem } = issued;
        let domain = first(&job.names);
        let path = job.settings.folder.certificate(&job.names);
        // It is served even if it cannot be kept: a restart would order again, which is said here.
        if let Err(error) = blocking(move || store::write(&path, &pem)).await {
            tracing::error!(%domain, %error, "a certificate was obtained but cannot be kept");
        }
        let ends = date(pair.not_after());
        tracing::info!(%domain, names = job.names.len(), ends, "certificate obtained");
        let now = (self.now)();
        // Kept, but not served, if the config has dropped it meanwhile.
        self.record(job, |it| {
            self.outlets.issued.insert(pair.clone());
            it.succeeded(pair, now, fastrand::f64());
            self.status.update(it.name(), |figures| {
                figures.succeeded += 1;
                figures.last = Some(true);
            });
        });
    }

    fn failed(&self, job: &Job, error: &AcmeError, asked: Option<Duration>) {
        let domain = first(&job.names);
        let now = (self.now)();
        self.record(job, |it| {
            it.failed(now, asked, fastrand::f64());
            self.status.update(it.name(), |figures| {
                figures.failed += 1;
                figures.last = Some(false);
            });
        });
        let next = self.look(job, |it| Some(date(it.order_at())));
        let in_use = self.look(job, |it| it.pair().map(Pair::not_after));
        match in_use {
            Some(ends) if ends > now => {
                let ends = date(ends);
                tracing::warn!(%domain, %error, next, ends, "certificate not renewed, the old one stays in use");
            }
            Some(_) | None => {
                tracing::error!(%domain, %error, next, "certificate not obtained");
            }
        }
    }
}

/// A date for the log; the formatter panics after the year 9999.
fn date(at: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let last = SystemTime::UNIX_EPOCH + LAST;
    httpdate::fmt_http_date(at.clamp(SystemTime::UNIX_EPOCH, last))
}

fn first(names: &Arc<[Arc<str>]>) -> &Arc<str> {
    static NOBODY: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(""));
    names.first().unwrap_or(&NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_that_a_certificate_may_have_can_be_logged() {
        let epoch = SystemTime::UNIX_EPOCH;
        let far = epoch + Duration::from_secs(400_000_000_000);
        assert_eq!(date(far), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(date(epoch), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
