//! Deadlines of one worker, checked by one coarse tick.
//!
//! `server::guard` and `upstream::exchange` arm a `Timer` for whatever they wait for, or judge a peer's
//! `Progress`; the worker
//! calls `Deadlines::tick_in_turns` every `TICK`, which wakes the tasks whose time has passed. Arming,
//! disarming and dropping are a few plain stores, where a timer per request of the runtime's own
//! would cost a lock, an insertion and often a system call. The price is that a deadline fires up
//! to one tick late. Invariant: a timer that is armed and expired wakes its task at every tick
//! until it is disarmed, so no expiry can be lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

/// Resolution of every deadline.
pub const TICK: Duration = Duration::from_millis(TICK_MS);
const TICK_MS: u64 = 50;

/// Tasks that are woken before others have their turn.
const LOT: usize = 16;

const DISARMED: u64 = u64::MAX;

/// All deadlines of one worker.
#[derive(Debug, Default)]
pub struct Deadlines {
    now: Cell<u64>,
    entries: RefCell<Slab<Entry>>,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    waker: Option<Waker>,
}

impl Deadlines {
    /// An empty set at tick zero.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Ticks passed since the worker started.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// The tick at which `after` from now has passed; never earlier.
    #[must_use]
    pub fn at(&self, after: Duration) -> u64 {
        self.now.get().saturating_add(ticks(after))
    }

    /// The same as `tick_in_turns`, at once.
    #[cfg(test)]
    pub(crate) fn tick(&self) {
        self.advance();
        self.wake_late(0, usize::MAX);
    }

    /// One `TICK` has passed: wakes every task whose deadline has, some at a time. What else is ready on this
    /// worker has its turn between them, and need not wait for thousands of slow clients to be sent away.
    pub async fn tick_in_turns(&self) {
        self.advance();
        let mut next = 0;
        while let Some(left) = self.wake_late(next, LOT) {
            next = left;
            tokio::task::yield_now().await;
        }
    }

    fn advance(&self) {
        self.now.set(self.now.get() + 1);
    }

    /// Wakes up to `most` tasks whose deadline has passed, beginning with an entry; where to go on, if there
    /// may be more.
    fn wake_late(&self, from: usize, most: usize) -> Option<usize> {
        let (now, mut woken) = (self.now.get(), 0);
        let entries = self.entries.borrow();
        for key in from..entries.capacity() {
            let late = entries.get(key).filter(|entry| entry.at <= now);
            if let Some(waker) = late.and_then(|entry| entry.waker.as_ref()) {
                waker.wake_by_ref();
                woken += 1;
                if woken == most {
                    return Some(key + 1);
                }
            }
        }
        None
    }

    /// Wakes every task that holds a timer, armed or not; used to begin a drain.
    pub fn wake_all(&self) {
        for (_, entry) in self.entries.borrow().iter() {
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// A new timer, disarmed.
    #[must_use]
    pub fn timer(self: &Rc<Self>) -> Timer {
        let key = self.entries.borrow_mut().insert(Entry {
            at: DISARMED,
            waker: None,
        });
        Timer {
            set: Rc::clone(self),
            key,
        }
    }
}

/// `after` in ticks, rounded up, plus the part of a tick that has already passed.
fn ticks(after: Duration) -> u64 {
    // Divided as 64 bits, since every request arms some timers and 128 take much longer.
    let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    ms.div_ceil(TICK_MS) + 1
}

/// One deadline. Dropping it forgets it.
#[derive(Debug)]
pub struct Timer {
    set: Rc<Deadlines>,
    key: usize,
}

impl Timer {
    /// Fires `after` from now, replacing what was armed before.
    pub fn arm(&self, after: Duration) {
        let at = self.set.at(after);
        self.set.entries.borrow_mut()[self.key].at = at;
    }

    /// Does not fire until armed again.
    pub fn disarm(&self) {
        self.set.entries.borrow_mut()[self.key].at = DISARMED;
    }

    /// Does not fire until armed again, and forgets the task that waited.
    pub fn clear(&self) {
        let mut entries = self.set.entries.borrow_mut();
        entries[self.key].at = DISARMED;
        entries[self.key].waker = None;
    }

    /// Whether a deadline is set.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.set.entries.borrow()[self.key].at != DISARMED
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.set.entries.borrow()[self.key].at <= self.set.now.get()
    }

    /// Ready once the deadline has passed; otherwise the task is woken when it does.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut entries = self.set.entries.borrow_mut();
        let entry = &mut entries[self.key];
        if entry.at <= self.set.now.get() {
            return Poll::Ready(());
        }
        match &entry.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => entry.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.set.entries.borrow_mut().remove(self.key);
    }
}

/// Judges how much a peer moves while it is waited for, in windows of time: of the bytes that a client
/// takes or sends, and whatever else a peer may be slow with. What shows late is seen in steps: of
/// that the peer may be up to one step ahead, which is credit to live on while nothing shows.
#[derive(Debug)]
pub struct Progress {
    window: Timer,
    /// What had been moved in all when the window began.
    before: Cell<u64>,
    /// What was moved earlier and more than was asked for, up to `hidden`.
    credit: Cell<u64>,
    hidden: u64,
}

impl Progress {
    /// Nobody is waited for yet.
    #[must_use]
    pub fn new(set: &Rc<Deadlines>) -> Self {
        Self::in_steps(set, 0)
    }

    /// Of a peer that may have moved `hidden` more than shows: what it has moved before it is waited
    /// for counts, but never for more than that.
    #[must_use]
    pub fn in_steps(set: &Rc<Deadlines>, hidden: u64) -> Self {
        Self {
            window: set.timer(),
            before: Cell::new(0),
            credit: Cell::new(0),
            hidden,
        }
    }

    /// The peer, which has moved `moved` bytes in all, is waited for: ready once it was for a whole
    /// `window` in which it has not moved `least` of them and has no credit left. Else the task is
    /// woken when the window is over, and the next one begins when this is asked again.
    pub fn poll(&self, cx: &Context<'_>, moved: u64, window: Duration, least: u64) -> Poll<()> {
        let over = self.window.is_expired();
        if over || !self.window.is_armed() {
            let new = moved.saturating_sub(self.before.get());
            let least = if over { least } else { 0 };
            let Some(left) = self.credit.get().saturating_add(new).checked_sub(least) else {
                return Poll::Ready(());
            };
            self.credit.set(left.min(self.hidden));
            self.before.set(moved);
            self.window.arm(window);
        }
        self.window.poll(cx)
    }

    /// The peer is not waited for any more: its next window begins with the next wait.
    pub fn rest(&self) {
        self.window.disarm();
    }

    /// Whether the peer is waited for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.window.is_armed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    fn expired(timer: &Timer) -> bool {
        timer.poll(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_deadline_never_fires_early_and_at_most_one_tick_late() {
        let set = Deadlines::new();
        let timer = set.timer();
        timer.arm(TICK * 2);
        set.tick();
        set.tick();
        assert!(
            !expired(&timer),
            "the first tick may come at once after arming"
        );
        set.tick();
        assert!(expired(&timer));
        timer.disarm();
        assert!(!expired(&timer));
    }

    #[test]
    fn a_dropped_timer_is_forgotten_and_its_place_is_used_again() {
        let set = Deadlines::new();
        let first = set.timer();
        let key = first.key;
        drop(first);
        let second = set.timer();
        assert_eq!(second.key, key);
        assert!(!second.is_armed());
    }

    #[test]
    fn the_longest_duration_does_not_overflow() {
        let set = Deadlines::new();
        let timer = set.timer();
        timer.arm(Duration::MAX);
        set.tick();
        assert!(!timer.is_expired());
    }

    #[test]
    fn a_peer_that_moves_enough_in_each_window_is_never_too_slow() {
        let set = Deadlines::new();
        let progress = Progress::new(&set);
        let cx = Context::from_waker(Waker::noop());
        let slow = |moved| progress.poll(&cx, moved, TICK, 10).is_ready();
        let pass = || (0..2).for_each(|_| set.tick());
        assert!(!slow(0) && progress.is_waiting());
        for moved in [10, 20, 30] {
            pass();
            assert!(!slow(moved), "{moved}");
        }
        pass();
        assert!(slow(39), "one byte too few");
        // Who is not waited for need not move at all.
        progress.rest();
        pass();
        assert!(!progress.is_waiting() && !slow(39));
        pass();
        assert!(slow(40));
    }

    #[test]
    fn a_peer_whose_progress_shows_in_steps_is_not_too_slow_between_them() {
        let set = Deadlines::new();
        let progress = Progress::in_steps(&set, 100);
        let cx = Context::from_waker(Waker::noop());
        let slow = |moved| progress.poll(&cx, moved, TICK, 10).is_ready();
        let pass = || (0..2).for_each(|_| set.tick());
        // What was taken before the first wait counts, and not for more than one step.
        assert!(!slow(1000));
        for _ in 0..10 {
            pass();
            assert!(!slow(1000));
        }
        // One step in time, just so: for ever.
        for step in 1..10 {
            pass();
            assert!(!slow(1000 + step * 100), "{step}");
            for _ in 0..9 {
                pass();
                assert!(!slow(1000 + step * 100), "{step}");
            }
        }
        pass();
        assert!(slow(1900 + 9), "the credit is used up");
        // Nor is a pace saved up that was never promised.
        let progress = Progress::in_steps(&set, 100);
        let slow = |moved| progress.poll(&cx, moved, TICK, 10).is_ready();
        assert!(!slow(5));
        pass();
        assert!(slow(5), "it has had five bytes, and cannot hide more");
    }

    #[tokio::test]
    async fn others_have_their_turn_while_many_are_late() {
        let set = Deadlines::new();
        let (waiting, woken) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let most = Rc::new(Cell::new(0));
        let late = LocalSet::new();
        let many = LOT * 10 + 1;
        for _ in 0..many {
            let (timer, woken) = (set.timer(), Rc::clone(&woken));
            let waiting = Rc::clone(&waiting);
            timer.arm(Duration::ZERO);
            late.spawn_local(async move {
                waiting.set(waiting.get() + 1);
                std::future::poll_fn(|cx| timer.poll(cx)).await;
                woken.set(woken.get() + 1);
            });
        }
        late.run_until(async {
            while waiting.get() < many {
                tokio::task::yield_now().await;
            }
            let (seen, noted) = (Rc::clone(&woken), Rc::clone(&most));
            let other = tokio::task::spawn_local(async move {
                let mut before = seen.get();
                while before < many {
                    tokio::task::yield_now().await;
                    noted.set(noted.get().max(seen.get() - before));
                    before = seen.get();
                }
            });
            set.tick_in_turns().await;
            other.await.unwrap();
        })
        .await;
        assert_eq!(woken.get(), many);
        assert!(most.get() <= 2 * LOT, "{} at once", most.get());
    }

    #[tokio::test]
    async fn an_expired_timer_wakes_its_task() {
        let set = Deadlines::new();
        let timer = set.timer();
        timer.arm(Duration::ZERO);
        let wait = std::future::poll_fn(|cx| timer.poll(cx));
        let ticking = async {
            for _ in 0..2 {
                set.tick();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(wait, ticking);
    }
}
