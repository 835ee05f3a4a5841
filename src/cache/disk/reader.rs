//! From a file to an entry, on a thread that may wait for the disk.
//!
//! A fetch has asked, and waits through a channel. Everything is checked here: lengths, checksums, the key,
//! purges, the age. Invariant: memory is reserved before it is filled.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::cache::ageing::Ageing;
use crate::cache::budget::{ALLOCATION_OVERHEAD, Reservation, counted};
use crate::cache::content::HitBody;
use crate::cache::entry::Entry;
use crate::cache::freshness::Freshness;
use crate::cache::head::Head;
use crate::cache::key::Key;
use crate::cache::purge::{Generations, Standing};
use crate::cache::tags::Tags;

use super::Shared;
use super::index::{Known, Name};
use super::record::{Meta, PREFIX};

/// Bodies are read in pieces of this size.
const PIECE: u64 = 128 * 1024;

/// Something to read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) cache: Arc<Cache>,
    pub(super) known: Known,
    pub(super) key: Box<[u8]>,
    /// For the entry, when it is known how much that takes.
    pub(super) room: Option<Reservation>,
    pub(super) answer: oneshot::Sender<Found>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Found {
    Entry(Box<Entry>),
    /// Memory has no room for so many bytes, as far as this thread can tell: what a worker has let go of
    /// only that worker can free.
    NoRoom(usize),
    Nothing,
}

/// Why there is no entry.
pub(super) enum Missing {
    /// The file is gone.
    Away,
    /// It is not as it was written.
    Damaged,
    /// It is of no use any more.
    Useless,
    /// There is no memory for it now: so many bytes.
    NoRoom(usize),
    /// The disk does not work.
    Failed(io::Error),
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Away,
            ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::Failed(error),
        }
    }
}

/// Reads until nobody can ask any more.
pub(super) fn run(shared: &Shared, queue: &Receiver<Read>) {
    while let Ok(read) = queue.recv() {
        let Read {
            cache,
            known,
            key,
            room,
            answer,
        } = read;
        if answer.is_closed() || !shared.is_up() {
            continue;
        }
        let found = match entry(shared, &cache, known.name, &key, room) {
            Ok(entry) => Found::Entry(Box::new(entry)),
            Err(Missing::NoRoom(bytes)) => Found::NoRoom(bytes),
            Err(missing) => {
                note(shared, known, &missing);
                Found::Nothing
            }
        };
        // A fetch that has lost its patience does without.
        drop(answer.send(found));
    }
}

/// What is found out about a file counts for that one: the writer may have put another in its place.
pub(super) fn note(shared: &Shared, known: Known, missing: &Missing) {
    match missing {
        Missing::Failed(error) => shared.fail(error),
        Missing::Away => drop(shared.index.remove_known(known)),
        // The writer deletes them by and by.
        Missing::Damaged => {
            shared.damaged();
            shared.discard(known);
        }
        Missing::Useless => shared.discard(known),
        Missing::NoRoom(_) => {}
    }
}

fn entry(
    shared: &Shared,
    cache: &Cache,
    name: Name,
    key: &[u8],
    room: Option<Reservation>,
) -> Result<Entry, Missing> {
    let mut file = File::open(shared.path(name))?;
    let (meta, before) = head(&mut file)?;
    if meta.key != key {
        return Err(Missing::Damaged);
    }
    let length = file.metadata()?.len();
    if length != before.saturating_add(meta.body_length) {
        return Err(Missing::Damaged);
    }
    if meta.body_length > cache.max_object {
        return Err(Missing::Useless);
    }
    let now = cache.clock().now();
    let (born, age) = life(shared, &meta, now).ok_or(Missing::Useless)?;
    let url = meta.url();
    let tags = Tags::of(&meta.headers, url, &cache.hasher).ok_or(Missing::Useless)?;
    let head_charge = Head::charge(&meta.headers, meta.coded);
    let own = head_charge + meta.vary.charge() + tags.charge() + Entry::OVERHEAD;
    let bytes = own.saturating_add(body_charge(&meta).ok_or(Missing::Useless)?);
    let room = room.filter(|room| room.bytes() >= bytes);
    let room = room.or_else(|| cache.reserve(bytes));
    let mut room = room.ok_or(Missing::NoRoom(bytes))?;
    let mut own_room = room.split(own);
    let body = body(&mut file, &meta, room)?;
    // For eviction after the next start; that it fails is no reason to do without the answer.
    drop(file.set_modified(crate::clock::wall()));
    let wall = cache.clock().wall();
    let head_room = own_room.split(head_charge);
    let mut head = Head::copy(meta.status, &meta.headers, &[], meta.coded, wall, head_room);
    if meta.coded.is_some() {
        head.set_length(meta.body_length);
    }
    Ok(Entry {
        charge: own + body.charge(),
        head,
        body,
        age,
        dated: std::time::UNIX_EPOCH + Duration::from_millis(meta.dated),
        generation: Generations::at(born, cache.hasher.hash_one(Some(url))),
        vary: meta.vary,
        tags,
        parts: None,
        lines: OnceLock::new(),
        block: OnceLock::new(),
        _reservation: own_room,
    })
}

/// All before the body, and how many bytes that is.
fn head(file: &mut File) -> Result<(Meta, u64), Missing> {
    let mut bytes = vec![0; PREFIX];
    file.read_exact(&mut bytes)?;
    let length = Meta::length(&bytes).ok_or(Missing::Damaged)?;
    bytes.resize(length, 0);
    let rest = bytes.get_mut(PREFIX..).unwrap_or_default();
    file.read_exact(rest)?;
    let meta = Meta::decode(&bytes).ok_or(Missing::Damaged)?;
    Ok((meta, length as u64))
}

/// The same for who makes the index: the meta part, and the bytes of the file as it should be.
pub(super) fn look(file: &mut File) -> io::Result<Option<(Meta, u64)>> {
    match head(file) {
        Ok((meta, before)) => {
            let length = before.saturating_add(meta.body_length);
            Ok((file.metadata()?.len() == length).then_some((meta, length)))
        }
        Err(Missing::Failed(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Since when purges count, and the age; nothing when they have left nothing, or nobody can be asked if
/// what is doubtful still holds.
fn life(shared: &Shared, meta: &Meta, now: Instant) -> Option<(u64, Ageing)> {
    let purges = shared.purges.lock();
    let is_ours = meta.epoch == shared.epoch;
    // Of another epoch's numbers nothing is known, but all of this one's came after it.
    let born = if is_ours { meta.born } else { 0 };
    let standing = purges.standing(born, meta.url(), &meta.headers);
    let is_lost = purges.lost;
    drop(purges);
    let age = shared.base.wall_of(now).checked_sub(meta.received);
    let received = shared.base.instant_of(meta.received);
    let mut freshness = meta.freshness;
    let received = match (age, received) {
        (Some(_), Some(received)) if is_ours && !is_lost => received,
        _ => {
            freshness.always_validated = true;
            freshness.never_stale = true;
            now
        }
    };
    let has_validator = ["etag", "last-modified"]
        .iter()
        .any(|name| meta.headers.contains_key(*name));
    match standing {
        Standing::Gone => return None,
        // As stale as something that has just become so.
        Standing::Stale => {
            let current = now.saturating_duration_since(received) + freshness.initial_age;
            freshness.lifetime = freshness.lifetime.min(current);
        }
        Standing::Current => {}
    }
    let Freshness {
        always_validated, ..
    } = freshness;
    let is_useful = has_validator || !always_validated;
    is_useful.then(|| (born, Ageing::new(received, freshness)))
}

/// Bytes of memory that the body takes in pieces.
fn body_charge(meta: &Meta) -> Option<usize> {
    let pieces = meta.body_length.div_ceil(PIECE);
    let overhead = pieces.checked_mul(ALLOCATION_OVERHEAD as u64)?;
    usize::try_from(meta.body_length.checked_add(overhead)?).ok()
}

fn body(file: &mut File, meta: &Meta, mut room: Reservation) -> Result<HitBody, Missing> {
    let mut left = meta.body_length;
    let mut list = Vec::new();
    while left > 0 {
        let length = left.min(PIECE);
        list.push(piece(file, length, &mut room)?);
        left -= length;
    }
    if !meta.is_of(list.iter().map(|bytes| &**bytes)) {
        return Err(Missing::Damaged);
    }
    Ok(HitBody::from_iter(list))
}

fn piece(file: &mut File, length: u64, room: &mut Reservation) -> Result<Bytes, Missing> {
    let length = usize::try_from(length).map_err(|_huge| Missing::Damaged)?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(counted(&[&bytes], room.split(length + ALLOCATION_OVERHEAD)))
}

/// The key under which an answer was stored, as it is to be found again.
pub(super) fn name_of(meta: &Meta) -> Name {
    super::name_of(Key::of(&meta.key).bytes, &meta.vary)
}
