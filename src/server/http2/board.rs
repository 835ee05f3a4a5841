//! Which streams of a connection are to be polled again.
//!
//! A connection is one task with many futures. Each place of a stream has a waker of its own, made once and used by
//! all streams that come to lie there; it sets a bit and wakes the task, unless that is running and will look
//! anyway. Wakers may be called from any thread. Invariant: a bit that is set is seen before the task rests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// What the wakers of a connection share.
#[derive(Debug)]
pub(super) struct Board {
    task: AtomicWaker,
    running: AtomicBool,
    /// A bit for each place.
    words: Box<[AtomicU64]>,
}

impl Board {
    /// For `places` streams at a time.
    pub(super) fn new(places: u32) -> Arc<Self> {
        let words = (0..places.div_ceil(u64::BITS)).map(|_| AtomicU64::new(0));
        Arc::new(Self {
            task: AtomicWaker::new(),
            running: AtomicBool::new(false),
            words: words.collect(),
        })
    }

    /// The task runs, and looks at the board before it rests.
    pub(super) fn runs(&self, task: &Waker) {
        self.task.register(task);
        self.running.store(true, Ordering::SeqCst);
    }

    /// The task rests; false if a bit was set meanwhile, and then it runs on.
    pub(super) fn rests(&self) -> bool {
        self.running.store(false, Ordering::SeqCst);
        let set = |word: &AtomicU64| word.load(Ordering::SeqCst) != 0;
        if self.words.iter().any(set) {
            self.running.store(true, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Something is to be written: the task is woken, if it does not run.
    pub(super) fn nudge(&self) {
        if !self.running.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }

    /// Takes the bits of a word down; none if there is no such word.
    pub(super) fn take(&self, word: usize) -> Option<u64> {
        let word = self.words.get(word)?;
        if word.load(Ordering::Relaxed) == 0 {
            return Some(0);
        }
        Some(word.swap(0, Ordering::SeqCst))
    }

    fn set(&self, place: usize) {
        let bits = u64::BITS as usize;
        if let Some(word) = self.words.get(place / bits) {
            word.fetch_or(1 << (place % bits), Ordering::SeqCst);
        }
        self.nudge();
    }
}

/// The waker of one place.
#[derive(Debug)]
struct Bell {
    board: Arc<Board>,
    place: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.board.set(self.place);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.board.set(self.place);
    }
}

/// The wakers of a connection's places.
#[derive(Debug, Default)]
pub(super) struct Wakers(Vec<Waker>);

impl Wakers {
    /// That of a place.
    pub(super) fn at(&mut self, board: &Arc<Board>, place: usize) -> &Waker {
        while self.0.len() <= place {
            let bell = Bell {
                board: Arc::clone(board),
                place: self.0.len(),
            };
            self.0.push(Waker::from(Arc::new(bell)));
        }
        self.0.get(place).unwrap_or(Waker::noop())
    }

    /// Gives memory back that nobody needs.
    pub(super) fn rest(&mut self) {
        self.0 = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_stream_that_is_woken_is_seen_before_the_task_rests_or_wakes_it() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let board = Board::new(100);
        let mut wakers = Wakers::default();
        let wakes = || count.0.load(Ordering::SeqCst);

        board.runs(&task);
        wakers.at(&board, 70).wake_by_ref();
        assert_eq!(wakes(), 0, "it runs");
        assert!(!board.rests());
        assert_eq!((board.take(0), board.take(1)), (Some(0), Some(1 << 6)));
        assert_eq!(board.take(2), None);
        assert!(board.rests());

        wakers.at(&board, 3).wake_by_ref();
        assert_eq!(wakes(), 1);
        wakers.at(&board, 3).wake_by_ref();
        assert_eq!(wakes(), 1, "the task knows");
        board.runs(&task);
        assert_eq!(board.take(0), Some(1 << 3));
        board.nudge();
        assert_eq!(wakes(), 1);
        assert!(board.rests());
        board.nudge();
        assert_eq!(wakes(), 2);
    }
}
