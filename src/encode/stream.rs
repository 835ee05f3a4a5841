//! A body that is compressed while it streams.
//!
//! `proxy::outbound` polls it with its source. Invariants: one poll compresses at most `SLICE` bytes
//! and then lets the worker's other tasks run; whatever the source gave before it paused has gone out
//! compressed (so an event stream is not held back); a source that breaks off ends in its error and
//! never in a clean end; nothing is asked of the source while bytes wait here.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::config::model::{Coding, Level};

use super::budget::{Budget, Room};
use super::codec::Codec;
use super::judge::DIGESTS;

/// Most that one poll takes in: a millisecond's work at worst.
const SLICE: usize = 16 << 10;
/// Once so much has come out, it goes out.
const ENOUGH: usize = 16 << 10;

/// Why a body could not be compressed, or decompressed, to its end.
#[derive(Debug, thiserror::Error)]
pub enum CodingError<E> {
    /// Its source broke off.
    #[error("the source broke off")]
    Source(E),
    /// The compressor failed, or the body is not what its coding says.
    #[error("the codec failed: {0}")]
    Codec(#[source] io::Error),
}

/// The state of one compressed body; the source of its bytes is handed in with each poll.
#[derive(Debug)]
pub struct Stream {
    codec: Codec,
    /// From the source, not yet compressed.
    input: Bytes,
    /// Compressed, and perhaps still within the codec.
    unflushed: bool,
    /// Bytes that it was given so far.
    taken: u64,
    stage: Stage,
    /// The memory of the codec; given back with it.
    room: Option<Room>,
}

#[derive(Debug)]
enum Stage {
    Reading,
    Ending(Option<HeaderMap>),
    Trailers(HeaderMap),
    Over,
}

/// What a poll gives.
pub type Polled<E> = Poll<Option<Result<Frame<Bytes>, CodingError<E>>>>;

impl Stream {
    /// Compresses into `coding`. `length` is that of the source, where it is known.
    ///
    /// # Errors
    /// When there is no room for it in the budget, or no memory at all.
    pub fn new(
        budget: &Budget,
        coding: Coding,
        level: Level,
        length: Option<u64>,
    ) -> io::Result<Self> {
        let room = budget.reserve(Codec::cost(coding, level, length));
        let room = room.ok_or_else(|| io::Error::other("too much is being compressed"))?;
        Ok(Self {
            room: Some(room),
            codec: Codec::new(coding, level, length)?,
            input: Bytes::new(),
            unflushed: false,
            taken: 0,
            stage: Stage::Reading,
        })
    }

    /// Bytes of the source that it has read so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The next frame, of what `source` gives.
    pub fn poll<E>(
        &mut self,
        task: &mut Context<'_>,
        mut source: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Polled<E> {
        let mut slice = SLICE;
        loop {
            if !self.input.is_empty() {
                if slice == 0 {
                    if self.codec.ready() > 0 {
                        return self.data();
                    }
                    // The others first; then on.
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let piece = self.input.split_to(self.input.len().min(slice));
                slice = slice.saturating_sub(piece.len());
                self.taken += piece.len() as u64;
                self.unflushed = true;
                if let Err(error) = self.codec.push(&piece) {
                    return self.fail(CodingError::Codec(error));
                }
                if self.codec.ready() >= ENOUGH {
                    return self.data();
                }
                continue;
            }
            match std::mem::replace(&mut self.stage, Stage::Reading) {
                Stage::Reading => match source(task) {
                    Poll::Pending => return self.pause(),
                    Poll::Ready(None) => self.stage = Stage::Ending(None),
                    Poll::Ready(Some(Err(error))) => return self.fail(CodingError::Source(error)),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => self.input = data,
                        Err(frame) => {
                            let mut trailers = frame.into_trailers().ok();
                            for digest in &DIGESTS {
                                trailers.as_mut().map(|fields| fields.remove(digest));
                            }
                            self.stage = Stage::Ending(trailers);
                        }
                    },
                },
                Stage::Ending(trailers) => {
                    if let Err(error) = self.codec.finish() {
                        return self.fail(CodingError::Codec(error));
                    }
                    self.room = None;
                    self.stage = trailers.map_or(Stage::Over, Stage::Trailers);
                    if self.codec.ready() > 0 {
                        return self.data();
                    }
                }
                Stage::Trailers(trailers) => {
                    self.stage = Stage::Over;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Stage::Over => {
                    self.stage = Stage::Over;
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// The source has nothing for now: the client gets all that it gave.
    fn pause<E>(&mut self) -> Polled<E> {
        if self.unflushed {
            self.unflushed = false;
            if let Err(error) = self.codec.flush() {
                return self.fail(CodingError::Codec(error));
            }
        }
        if self.codec.ready() > 0 {
            self.data()
        } else {
            Poll::Pending
        }
    }

    fn data<E>(&mut self) -> Polled<E> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(self.codec.take())))))
    }

    fn fail<E>(&mut self, error: CodingError<E>) -> Polled<E> {
        self.stage = Stage::Over;
        self.input = Bytes::new();
        Poll::Ready(Some(Err(error)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Wake, Waker};

    use super::super::codec::tests::{decoded, prose};
    use super::*;

    type Given = Poll<Option<Result<Frame<Bytes>, &'static str>>>;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    struct Run {
        stream: Stream,
        script: VecDeque<Given>,
        wakes: Arc<Wakes>,
        asked: usize,
    }

    impl Run {
        fn new(coding: Coding, script: impl IntoIterator<Item = Given>) -> Self {
            Self {
                stream: Stream::new(&Budget::default(), coding, Level::Balanced, None).unwrap(),
                script: script.into_iter().collect(),
                wakes: Arc::default(),
                asked: 0,
            }
        }

        fn poll(&mut self) -> Polled<&'static str> {
            let waker = Waker::from(Arc::clone(&self.wakes));
            let (script, asked) = (&mut self.script, &mut self.asked);
            self.stream.poll(&mut Context::from_waker(&waker), |_| {
                *asked += 1;
                script.pop_front().unwrap_or(Poll::Pending)
            })
        }

        fn data(&mut self) -> Bytes {
            match self.poll() {
                Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
                other => panic!("no data: {other:?}"),
            }
        }
    }

    fn data(bytes: impl Into<Bytes>) -> Given {
        Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
    }

    #[test]
    fn what_came_before_a_pause_goes_out_at_once() {
        for coding in Coding::ALL {
            let mut run = Run::new(
                coding,
                [data("one\n"), Poll::Pending, data("two\n"), data("three\n")],
            );
            let mut coded = run.data().to_vec();
            assert_eq!(decoded(coding, &coded), b"one\n", "{coding:?}");
            coded.extend_from_slice(&run.data());
            assert_eq!(decoded(coding, &coded), b"one\ntwo\nthree\n", "{coding:?}");
            assert!(run.poll().is_pending(), "nothing is flushed twice");
            run.script.push_back(Poll::Ready(None));
            coded.extend_from_slice(&run.data());
            assert!(run.stream.is_end());
            assert!(matches!(run.poll(), Poll::Ready(None)));
            assert_eq!(decoded(coding, &coded), b"one\ntwo\nthree\n", "{coding:?}");
        }
    }

    #[test]
    fn one_poll_works_on_a_slice_and_asks_for_no_more_than_it_needs() {
        // Zeros vanish, so that a poll could go on for ever before something comes out.
        let mut run = Run::new(Coding::Zstd, [data(vec![0; 10 * SLICE]), Poll::Ready(None)]);
        for turn in 1..10 {
            match run.poll() {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(_))) => continue,
                other @ Poll::Ready(_) => panic!("{other:?}"),
            }
            assert_eq!(run.asked, 1, "the source is not asked while bytes wait");
            assert!(run.wakes.0.load(SeqCst) > 0 && turn < 10);
        }
        assert!(run.stream.input.len() <= SLICE);
    }

    #[test]
    fn a_source_that_breaks_off_is_never_ended() {
        for coding in Coding::ALL {
            let mut run = Run::new(coding, [data("half"), Poll::Ready(Some(Err("broken")))]);
            assert!(matches!(
                run.poll(),
                Poll::Ready(Some(Err(CodingError::Source("broken"))))
            ));
        }
    }

    #[test]
    fn trailers_follow_the_last_byte() {
        let mut fields = HeaderMap::new();
        fields.insert("x-sum", "1".parse().unwrap());
        let mut sent = fields.clone();
        sent.insert("content-digest", "sha-256=:x:".parse().unwrap());
        let last = Poll::Ready(Some(Ok(Frame::trailers(sent))));
        let mut run = Run::new(Coding::Gzip, [data("all"), last]);
        assert_eq!(decoded(Coding::Gzip, &run.data()), b"all");
        assert!(!run.stream.is_end());
        let Poll::Ready(Some(Ok(frame))) = run.poll() else {
            panic!("no trailers");
        };
        assert_eq!(frame.into_trailers().unwrap(), fields);
        assert!(run.stream.is_end());
    }

    #[test]
    fn a_long_body_comes_out_whole() {
        let mut random = fastrand::Rng::with_seed(11);
        let text = prose(&mut random, 2 << 20);
        for coding in Coding::ALL {
            let pieces = text.chunks(50_000).map(|piece| data(piece.to_vec()));
            let mut run = Run::new(coding, pieces.chain([Poll::Ready(None)]));
            let mut coded = Vec::new();
            while !run.stream.is_end() {
                if let Poll::Ready(Some(frame)) = run.poll() {
                    coded.extend_from_slice(&frame.unwrap().into_data().unwrap());
                }
            }
            assert_eq!(decoded(coding, &coded), text, "{coding:?}");
        }
    }

    #[test]
    fn the_room_is_given_back_at_the_end_and_when_a_client_leaves() {
        let budget = Budget::default();
        let new = || Stream::new(&budget, Coding::Brotli, Level::Small, None);
        let mut all: Vec<Stream> = std::iter::from_fn(|| new().ok()).collect();
        assert!(all.len() > 30, "{}", all.len());
        let mut task = Context::from_waker(Waker::noop());
        let end = |_: &mut Context<'_>| -> Given { Poll::Ready(None) };
        drop(all[0].poll(&mut task, end));
        assert!(all[0].is_end());
        let another = new().unwrap();
        assert!(new().is_err());
        drop(another);
        all.pop();
        assert!(new().is_ok());
    }
}
