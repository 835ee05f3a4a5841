//! A worker's threads for system calls that may wait for a disk.
//!
//! `serve` has files looked up here, `reader` has chunks read. The threads are made when there is work
//! and none of them is free, `THREADS` at most, and belong to one worker, so that workers do not meet
//! on a lock. Invariants: at most `QUEUE` look-ups wait, more are refused; reads of answers that have
//! begun are never refused, and each answer waits for one at most.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::Refusal;

/// Threads of one worker.
const THREADS: usize = 4;
/// Look-ups that may wait.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one worker and their queue. They end with it.
#[derive(Debug, Default)]
pub struct Disk {
    shared: Arc<Shared>,
}

/// What a body keeps, to have itself read.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job.
    idle: usize,
    threads: usize,
    over: bool,
}

impl Disk {
    /// Runs `job` when it is its turn, unless nobody waits for its result any more.
    ///
    /// # Errors
    /// `Busy` when too many wait already.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let result = self.shared.submit(job, QUEUE)?;
        let failed = |_| Refusal::Failed(io::Error::other("the look-up did not end"));
        result.await.map_err(failed)
    }

    pub(super) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }
}

impl Handle {
    /// Runs `job` for an answer that has begun.
    ///
    /// # Errors
    /// When there is no thread to run it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Refusal> {
        self.0.submit(job, usize::MAX)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.over = true;
        state.jobs.clear();
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce() -> T + Send + 'static,
        bound: usize,
    ) -> Result<oneshot::Receiver<T>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !sender.is_closed() {
                // Whoever asked may leave meanwhile.
                drop(sender.send(job()));
            }
        });
        let mut state = self.state.lock();
        if state.jobs.len() >= bound || state.over {
            return Err(Refusal::Busy);
        }
        if state.idle <= state.jobs.len() && state.threads < THREADS {
            match self.spawn() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(Refusal::Failed(error)),
                // Those that are there get to it.
                Err(error) => tracing::warn!(%error, "no more threads for files"),
            }
        }
        state.jobs.push_back(job);
        self.work.notify_one();
        Ok(receiver)
    }

    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(self);
        std::thread::Builder::new()
            .name("headgate-disk".to_owned())
            .spawn(move || shared.work())
            .map(drop)
    }

    fn work(&self) {
        let mut state = self.state.lock();
        while !state.over {
            match state.jobs.pop_front() {
                Some(job) => {
                    drop(state);
                    // A panic fails the one request, whose sender it drops.
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::error!("a look-up of a file ended in a panic");
                    }
                    state = self.state.lock();
                }
                None => {
                    state.idle += 1;
                    self.work.wait(&mut state);
                    state.idle -= 1;
                }
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Shared")
            .field("waiting", &state.jobs.len())
            .field("threads", &state.threads)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_look_ups_but_not_reads_of_what_has_begun() {
        let disk = Disk::default();
        let (gates, held): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<()>()).unzip();
        let (began, begins) = mpsc::channel();
        let mut running = Vec::new();
        for gate in held {
            let began = began.clone();
            let job = move || {
                began.send(()).unwrap();
                gate.recv().ok();
            };
            running.push(disk.shared.submit(job, QUEUE).unwrap());
            // One after the other, so that each finds no thread idle.
            begins.recv().unwrap();
        }
        let waiting: Vec<_> = (0..QUEUE)
            .map(|n| disk.shared.submit(move || n, QUEUE).unwrap())
            .collect();
        assert!(matches!(disk.run(|| ()).await, Err(Refusal::Busy)));
        let read = disk.handle().run(|| "read").unwrap();
        drop(gates);
        for (n, result) in waiting.into_iter().enumerate() {
            assert_eq!(result.await, Ok(n));
        }
        assert_eq!(read.await, Ok("read"));
        assert_eq!(disk.shared.state.lock().threads, THREADS);
        assert!(disk.run(|| ()).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_fails_one_look_up_and_leaves_the_thread() {
        let disk = Disk::default();
        let panics: Result<(), _> = disk.run(|| panic!("as the test wants")).await;
        assert!(matches!(panics, Err(Refusal::Failed(_))));
        assert_eq!(disk.run(|| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn nobody_works_for_those_who_have_left() {
        let disk = Disk::default();
        let (gate, held) = mpsc::channel::<()>();
        let (ran, runs) = mpsc::channel();
        let mut blocked = Vec::new();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..THREADS {
            let held = Arc::clone(&held);
            blocked.push(
                disk.shared
                    .submit(move || held.lock().recv().ok(), QUEUE)
                    .unwrap(),
            );
        }
        drop(
            disk.shared
                .submit(move || ran.send(()).ok(), QUEUE)
                .unwrap(),
        );
        drop(gate);
        for one in blocked {
            one.await.unwrap();
        }
        disk.run(|| ()).await.unwrap();
        assert!(runs.recv().is_err(), "it ran all the same");
    }
}
