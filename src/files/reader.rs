//! The body of a file's answer: chunks that `disk` reads, as the client takes them.
//!
//! `proxy::outbound` polls it. Invariants: at most one chunk is read ahead of the one that was handed
//! out, so a slow client costs two chunks; a body ends only after as many bytes as its head promised.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::range::{Piece, Pieces};

use super::disk::{Disk, Handle};
use super::open;

/// Most that is read at once.
pub(super) const CHUNK: usize = 64 << 10;

/// What is left of a body.
#[derive(Debug)]
pub struct Reader {
    disk: Handle,
    file: Option<Arc<File>>,
    pieces: Pieces,
    /// Read, and not yet handed out.
    ready: Option<Bytes>,
    reading: Option<oneshot::Receiver<io::Result<Vec<u8>>>>,
    /// Bytes to come.
    left: u64,
}

impl Reader {
    /// `first` was read already, and is not among the pieces.
    pub(super) fn new(
        disk: &Disk,
        file: Option<Arc<File>>,
        pieces: Pieces,
        first: Option<Bytes>,
    ) -> Self {
        let read = first.as_ref().map_or(0, |first| first.len() as u64);
        Self {
            disk: disk.handle(),
            file,
            left: pieces
                .iter()
                .map(Piece::length)
                .fold(read, u64::saturating_add),
            pieces,
            ready: first,
            reading: None,
        }
    }

    /// Bytes to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next chunk.
    ///
    /// # Errors
    /// When the file has become shorter or cannot be read.
    pub fn poll(&mut self, task: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(chunk) = self.ready.take() {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                if let Err(error) = self.read_ahead() {
                    return Poll::Ready(Some(Err(error)));
                }
                return Poll::Ready(Some(Ok(chunk)));
            }
            if let Some(reading) = &mut self.reading {
                let Poll::Ready(read) = Pin::new(reading).poll(task) else {
                    return Poll::Pending;
                };
                self.reading = None;
                match read.unwrap_or_else(|_gone| Err(io::Error::other("nobody read on"))) {
                    Ok(chunk) => self.ready = Some(Bytes::from(chunk)),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
                continue;
            }
            if let Some(Piece::Text(_)) = self.pieces.front() {
                if let Some(Piece::Text(text)) = self.pieces.pop_front() {
                    self.ready = Some(text);
                }
                continue;
            }
            if self.pieces.is_empty() {
                return Poll::Ready(None);
            }
            match self.read_ahead() {
                Ok(()) if self.reading.is_some() => {}
                Ok(()) => {
                    let error = io::Error::other("there is no file to read");
                    return Poll::Ready(Some(Err(error)));
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Has the next chunk read, if the next piece is of the file and no chunk is on its way.
    fn read_ahead(&mut self) -> io::Result<()> {
        let (None, Some(file)) = (&self.reading, &self.file) else {
            return Ok(());
        };
        let Some((offset, length)) = next_chunk(&mut self.pieces) else {
            return Ok(());
        };
        let file = Arc::clone(file);
        let reading = self.disk.run(move || open::read(&file, offset, length));
        self.reading = Some(reading.map_err(io::Error::other)?);
        Ok(())
    }
}

/// Takes up to a chunk off the first piece, when that is of the file.
pub(super) fn next_chunk(pieces: &mut Pieces) -> Option<(u64, usize)> {
    let Some(Piece::Span { start, length }) = pieces.front_mut() else {
        return None;
    };
    let offset = *start;
    let count = usize::try_from(*length).unwrap_or(CHUNK).min(CHUNK);
    *start = start.saturating_add(count as u64);
    *length = length.saturating_sub(count as u64);
    if *length == 0 {
        pieces.pop_front();
    }
    Some((offset, count))
}
