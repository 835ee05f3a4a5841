//! What becomes of files when decisions overtake each other: the writer's thread is a test's, and works when
//! that says so.

use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{Method, StatusCode};
use tempfile::TempDir;

use crate::cache::store::Slot;
use crate::cache::{Lookup, Request, Started, key};
use crate::config::model::CacheStore;
use crate::config::units::ByteSize;

use super::reader::{Missing, note};
use super::*;

/// A disk that writes only in `Writer::drain`, and for which so many may wait.
struct Held {
    disk: Disk,
    writer: Writer,
}

fn held(folder: &TempDir, jobs: usize) -> Held {
    let config = CacheDisk {
        path: folder.path().join("disk"),
        size: ByteSize(1 << 20),
    };
    let (shared, journal, _) = Shared::open(&config, 1 << 20, 1 << 20, &Clock::default());
    let (jobs, queue) = sync_channel(jobs);
    let (_, ended) = sync_channel(1);
    let threads = Threads {
        jobs,
        readers: Box::default(),
        ended: Mutex::new(ended),
    };
    Held {
        writer: Writer::new(Arc::clone(&shared), journal.unwrap(), queue),
        disk: Disk {
            shared,
            threads: Some(threads),
            _memory: None,
        },
    }
}

impl Held {
    fn keep(&self, key: &[u8], entry: &Arc<Entry>) {
        self.disk.keep(&Key::of(key), entry);
    }

    fn find(&self, key: &[u8]) -> Option<Known> {
        let hash = purges::hash(b"key", &[key]);
        self.disk.shared.index.find(hash, &HeaderMap::new(), 0)
    }

    /// The body in the file of that key, which may be found or not.
    fn file(&self, key: &[u8]) -> Option<Vec<u8>> {
        let path = self.disk.shared.path(name_of(key, &Vary::default()));
        let file = std::fs::read(path).ok()?;
        Some(file[file.len() - 3..].to_vec())
    }
}

/// An answer as it is stored, and under which key.
fn answer(body: &'static [u8], seconds: u64) -> (Vec<u8>, Arc<Entry>) {
    let config = CacheStore {
        memory: ByteSize(1 << 20),
        max_object: ByteSize(1 << 20),
        disk: None,
        startup_grace: Duration::ZERO,
    };
    let cache = Cache::new(&config, Clock::default());
    let request = Request {
        source: "shop",
        method: &Method::GET,
        scheme: "http",
        host: b"shop",
        path_and_query: "/p",
        headers: &HeaderMap::new(),
        sticky_cookie: None,
    };
    let now = cache.clock().now();
    let Lookup::Fill(permit) = cache.look_up(&Arc::default(), &request, now, &mut Vec::new())
    else {
        panic!("nothing is stored");
    };
    let mut head = HeaderMap::new();
    let life = format!("max-age={seconds}").parse().unwrap();
    head.insert("cache-control", life);
    let Started::Filling(mut filler) = permit.start(StatusCode::OK, &head, None) else {
        panic!("it can be stored");
    };
    let chunk = Bytes::from_static(body);
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(filler.push(&chunk)).poll(&mut context).is_ready());
    filler.finish();
    let mut stored = None;
    cache.store.walk(|key, slot| {
        stored = Some((key.to_vec(), Arc::clone(&slot.variants()[0])));
    });
    stored.unwrap()
}

#[test]
fn an_answer_that_was_given_up_while_it_waited_is_not_written() {
    let ways: [fn(&Held, &[u8]); 3] = [
        // There is no room in the queue for what replaced it.
        |held, key| held.keep(key, &answer(b"new", 100).1),
        // What replaced it is not worth a file.
        |held, key| held.keep(key, &answer(b"new", 5).1),
        // It may not be stored any more.
        |held, key| held.disk.forget(key, &Vary::default()),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = held(&folder, 1);
        let (key, old) = answer(b"old", 100);
        held.keep(&key, &old);
        way(&held, &key);

        held.writer.drain();

        assert_eq!(held.find(&key), None, "{number}");
        assert_eq!(held.file(&key), None, "{number}");
        assert_eq!(held.disk.shared.queued.load(Ordering::Relaxed), 0);
        // And nothing of it stands in the way of the next.
        held.keep(&key, &old);
        held.writer.drain();
        assert!(held.find(&key).is_some(), "{number}");
    }
}

#[test]
fn of_answers_that_wait_the_last_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = held(&folder, 9);
    let (key, old) = answer(b"old", 100);
    held.keep(&key, &old);
    held.disk.forget(&key, &Vary::default());
    held.keep(&key, &answer(b"new", 100).1);
    held.writer.drain();
    assert!(held.find(&key).is_some());
    assert_eq!(held.file(&key).as_deref(), Some(&b"new"[..]));
    assert_eq!(held.disk.stats().writes, 1);
}

#[test]
fn of_two_workers_that_store_one_key_at_once_disk_and_memory_have_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = CacheStore {
        memory: ByteSize(64 << 20),
        max_object: ByteSize(1 << 20),
        disk: Some(CacheDisk {
            path: folder.path().join("disk"),
            size: ByteSize(64 << 20),
        }),
        startup_grace: Duration::ZERO,
    };
    let cache = Cache::new(&config, Clock::default());
    // No more than may wait to be written.
    let keys: Vec<Vec<u8>> = (0..JOBS / 2 - 1)
        .map(|number| {
            let mut key = Vec::new();
            key::build(&mut key, "shop", "http", b"shop", &format!("/{number}"));
            key
        })
        .collect();
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        for body in [b"one", b"two"] {
            let (cache, keys, together) = (&cache, &keys, &together);
            scope.spawn(move || {
                let (_, entry) = answer(body, 100);
                for key in keys {
                    let room = cache.reserve(Slot::OVERHEAD).unwrap();
                    together.wait();
                    assert!(cache.keep(&Key::of(key), &entry, room));
                }
            });
        }
    });
    assert!(cache.close(Duration::MAX));
    let disk = cache.disk.as_ref().unwrap();
    assert_eq!(disk.stats().dropped, 0);
    for key in &keys {
        let slot = cache.store.find(key).unwrap();
        let stored: Vec<u8> = slot.variants()[0]
            .body
            .pieces()
            .flatten()
            .copied()
            .collect();
        let file = std::fs::read(disk.shared.path(name_of(key, &Vary::default()))).unwrap();
        assert!(file.ends_with(&stored), "{}", key.escape_ascii());
    }
}

#[test]
fn what_lies_there_from_before_is_not_found_once_it_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (key, old) = answer(b"old", 100);
    let mut before = held(&folder, 9);
    before.keep(&key, &old);
    before.writer.drain();
    drop(before);

    let mut held = held(&folder, 9);
    held.keep(&key, &answer(b"new", 100).1);
    held.writer.scan().unwrap();
    assert_eq!(held.find(&key), None, "its place is another's");
    held.writer.drain();
    assert!(held.find(&key).is_some());
    assert_eq!(held.file(&key).as_deref(), Some(&b"new"[..]));
}

#[test]
fn what_a_reader_finds_out_counts_for_the_file_that_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = held(&folder, 9);
    let (key, old) = answer(b"old", 100);
    held.keep(&key, &old);
    held.writer.drain();
    let found = held.find(&key).unwrap();
    held.keep(&key, &answer(b"new", 100).1);
    held.writer.drain();

    for missing in [Missing::Away, Missing::Damaged, Missing::Useless] {
        note(&held.disk.shared, found, &missing);
        held.writer.drain();
        assert!(held.find(&key).is_some());
        assert_eq!(held.file(&key).as_deref(), Some(&b"new"[..]));
        assert_eq!(held.disk.stats().objects, 1);
    }

    let found = held.find(&key).unwrap();
    note(&held.disk.shared, found, &Missing::Useless);
    assert_eq!(held.find(&key), None);
    held.disk.wake();
    held.writer.drain();
    assert_eq!((held.file(&key), held.disk.stats().objects), (None, 0));
}
