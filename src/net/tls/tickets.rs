//! Session tickets: a client that has been here before skips the costly part of a handshake.
//!
//! Stateless: the session travels with the client, encrypted, so that every worker, and every
//! Headgate with the same key files, can go on with it. `server` makes one `Ticketer` per client-auth
//! policy over the shared `Tickets`; `app` calls `rotate`. A ticket is
//!
//! ```text
//! name of the key (16) | nonce (12) | AES-256-GCM( issued at (8) | session ) with the policy as associated data
//! ```
//!
//! Invariant: a ticket opens only under the policy that it was sealed under (CVE-2025-23419 is what
//! happens otherwise), and for `LIFETIME` at most. Keys of a file never rotate by themselves,
//! random ones do after `LIFETIME`.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use tokio::time::Instant;

use super::{PolicyId, TlsError};

/// How long a ticket may be used, and how long a random key seals.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Keys that one listener may have.
const MAX_KEYS: usize = 64;
const NAME: usize = 16;
/// Largest session that is worth a ticket: what else is in a handshake message must fit beside it.
const MAX_SESSION: usize = 32 * 1024;
/// What other servers' key files hold: a name, a MAC key and a cipher key.
const SHORT: usize = 48;
const LONG: usize = 80;

/// Ticket keys of one or more listeners.
#[derive(Debug)]
pub struct Tickets {
    keys: ArcSwap<Keys>,
}

#[derive(Debug)]
struct Keys {
    /// The first seals, all open.
    all: Vec<Arc<Key>>,
    /// When the first was made, if it is to be replaced by another.
    since: Option<Instant>,
}

#[derive(Debug)]
struct Key {
    name: [u8; NAME],
    cipher: RandomizedNonceKey,
}

impl Tickets {
    /// One random key, made at `now`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random(now: Instant) -> Result<Self, TlsError> {
        Ok(Self {
            keys: ArcSwap::from_pointee(Keys {
                all: vec![Arc::new(Key::random()?)],
                since: Some(now),
            }),
        })
    }

    /// The keys in these files, in their order.
    pub(super) fn from_files<'a>(
        files: impl Iterator<Item = (&'a Path, Result<&'a [u8], String>)>,
    ) -> Result<Self, TlsError> {
        let mut all = Vec::new();
        for (path, bytes) in files {
            let file = |reason: String| TlsError::File {
                what: "ticket keys",
                path: path.to_owned(),
                reason,
            };
            let before = all.len();
            for material in materials(bytes.map_err(file)?).map_err(|e| file(e.to_owned()))? {
                all.push(Arc::new(Key::new(&material)?));
            }
            if all.len() == before {
                return Err(file("it holds none".to_owned()));
            }
            if all.len() > MAX_KEYS {
                return Err(file(format!("there are more than {MAX_KEYS} keys")));
            }
        }
        let keys = ArcSwap::from_pointee(Keys { all, since: None });
        Ok(Self { keys })
    }

    /// Makes a new random key when the one that seals is old enough. The one before opens for as long
    /// again; keys from files stay.
    ///
    /// # Errors
    /// When the system has no randomness; then the old key goes on.
    pub fn rotate(&self, now: Instant) -> Result<(), TlsError> {
        let keys = self.keys.load();
        let due = keys
            .since
            .is_some_and(|since| now.duration_since(since) >= LIFETIME);
        if !due {
            return Ok(());
        }
        let mut all = vec![Arc::new(Key::random()?)];
        all.extend(keys.all.first().cloned());
        self.keys.store(Arc::new(Keys {
            all,
            since: Some(now),
        }));
        Ok(())
    }
}

impl Key {
    fn random() -> Result<Self, TlsError> {
        let mut material = [0; SHORT];
        rand::fill(&mut material).map_err(|_unspecified| TlsError::Crypto)?;
        Self::new(&material)
    }

    /// From a name of 16 bytes and a secret of any length.
    fn new(material: &[u8]) -> Result<Self, TlsError> {
        let (name, secret) = material
            .split_first_chunk::<NAME>()
            .ok_or(TlsError::Crypto)?;
        // Whatever the secret's length and use elsewhere, this is a key of its own.
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"headgate session ticket\0");
        hash.update(secret);
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, hash.finish().as_ref())
            .map_err(|_unspecified| TlsError::Crypto)?;
        Ok(Self {
            name: *name,
            cipher,
        })
    }
}

/// The keys of a file: exactly one of 48 or 80 bytes, or lines in base64 or hexadecimal; empty lines
/// and lines that start with `#` are passed over.
fn materials(file: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    if matches!(file.len(), SHORT | LONG) {
        return Ok(vec![file.to_vec()]);
    }
    let text = std::str::from_utf8(file)
        .map_err(|_binary| "a key has 48 or 80 bytes, or is a line in base64 or hexadecimal")?;
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            unhex(line)
                .or_else(|| STANDARD.decode(line).ok())
                .filter(|key| matches!(key.len(), SHORT | LONG))
                .ok_or("a line is not 48 or 80 bytes in base64 or hexadecimal")
        })
        .collect()
}

fn unhex(line: &str) -> Option<Vec<u8>> {
    let (pairs, []) = line.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect()
}

/// Seals and opens the tickets of one policy.
#[derive(Debug)]
pub(super) struct Ticketer {
    pub(super) tickets: Arc<Tickets>,
    pub(super) policy: PolicyId,
    pub(super) time: Arc<dyn TimeProvider>,
}

impl Ticketer {
    fn now(&self) -> Option<u64> {
        self.time.current_time().map(|now| now.as_secs())
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > MAX_SESSION {
            return None;
        }
        let keys = self.tickets.keys.load();
        let key = keys.all.first()?;
        let mut sealed = self.now()?.to_be_bytes().to_vec();
        sealed.extend_from_slice(session);
        let aad = Aad::from(self.policy.as_bytes());
        let nonce = key.cipher.seal_in_place_append_tag(aad, &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.tickets.keys.load();
        let mut sealed = sealed.to_vec();
        let key = keys.all.iter().find(|key| key.name == *name)?;
        let aad = Aad::from(self.policy.as_bytes());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.cipher.open_in_place(nonce, aad, &mut sealed).ok()?;
        let (issued_at, session) = opened.split_first_chunk::<8>()?;
        let age = self.now()?.saturating_sub(u64::from_be_bytes(*issued_at));
        (age <= LIFETIME.as_secs()).then(|| session.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustls::pki_types::UnixTime;

    use super::*;

    #[derive(Debug, Default)]
    struct Clock(AtomicU64);

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            let seconds = Duration::from_secs(self.0.load(Ordering::Relaxed));
            Some(UnixTime::since_unix_epoch(seconds))
        }
    }

    fn ticketer(tickets: &Arc<Tickets>, policy: u8, clock: &Arc<Clock>) -> Ticketer {
        Ticketer {
            tickets: Arc::clone(tickets),
            policy: PolicyId::of(&[&[policy]]),
            time: Arc::clone(clock) as Arc<dyn TimeProvider>,
        }
    }

    fn file(bytes: &[u8]) -> Result<Tickets, TlsError> {
        Tickets::from_files([(Path::new("keys"), Ok(bytes))].into_iter())
    }

    #[test]
    fn a_ticket_opens_under_its_policy_only() {
        let clock = Arc::default();
        let tickets = Arc::new(Tickets::random(Instant::now()).unwrap());
        let (one, other) = (ticketer(&tickets, 1, &clock), ticketer(&tickets, 2, &clock));
        let ticket = one.encrypt(b"session").unwrap();
        assert_eq!(one.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(other.decrypt(&ticket), None);
    }

    #[test]
    fn two_tickets_for_one_session_differ() {
        let tickets = Arc::new(Tickets::random(Instant::now()).unwrap());
        let one = ticketer(&tickets, 1, &Arc::default());
        assert_ne!(one.encrypt(b"session"), one.encrypt(b"session"));
    }

    #[test]
    fn a_ticket_is_refused_after_its_lifetime() {
        let clock: Arc<Clock> = Arc::default();
        let tickets = Arc::new(Tickets::random(Instant::now()).unwrap());
        let one = ticketer(&tickets, 1, &clock);
        let ticket = one.encrypt(b"session").unwrap();
        clock.0.store(LIFETIME.as_secs(), Ordering::Relaxed);
        assert!(one.decrypt(&ticket).is_some());
        clock.0.store(LIFETIME.as_secs() + 1, Ordering::Relaxed);
        assert!(one.decrypt(&ticket).is_none());
    }

    #[test]
    fn the_key_before_the_last_rotation_opens_and_the_one_before_that_does_not() {
        let began = Instant::now();
        let tickets = Arc::new(Tickets::random(began).unwrap());
        let one = ticketer(&tickets, 1, &Arc::default());
        let ticket = one.encrypt(b"session").unwrap();

        tickets
            .rotate(began + LIFETIME - Duration::from_secs(1))
            .unwrap();
        let same = one.encrypt(b"session").unwrap();
        assert_eq!(same[..NAME], ticket[..NAME], "rotated too early");

        tickets.rotate(began + LIFETIME).unwrap();
        let next = one.encrypt(b"session").unwrap();
        assert_ne!(next[..NAME], ticket[..NAME], "not rotated");
        assert!(one.decrypt(&ticket).is_some());

        tickets.rotate(began + LIFETIME * 2).unwrap();
        assert!(one.decrypt(&ticket).is_none());
        assert!(one.decrypt(&next).is_some());
    }

    #[test]
    fn the_first_key_of_a_file_seals_and_all_open() {
        let (old, new) = ([1; 48], [2; 80]);
        let before = Arc::new(file(&old).unwrap());
        let lines = format!(
            "# newest first\n{}\n\n  {}\n",
            STANDARD.encode(new),
            "01".repeat(48)
        );
        let after = Arc::new(file(lines.as_bytes()).unwrap());
        let clock = Arc::default();
        let ticket = ticketer(&before, 1, &clock).encrypt(b"session").unwrap();
        let after = ticketer(&after, 1, &clock);
        assert!(after.decrypt(&ticket).is_some());
        let ticket = after.encrypt(b"session").unwrap();
        assert_eq!(ticket[..NAME], new[..NAME]);
        assert!(ticketer(&before, 1, &clock).decrypt(&ticket).is_none());
    }

    #[test]
    fn keys_of_a_file_do_not_rotate() {
        let tickets = Arc::new(file(&[1; 80]).unwrap());
        tickets.rotate(Instant::now() + LIFETIME * 9).unwrap();
        let ticket = ticketer(&tickets, 1, &Arc::default())
            .encrypt(b"s")
            .unwrap();
        assert_eq!(ticket[..NAME], [1; NAME]);
    }

    #[test]
    fn a_file_without_keys_is_refused() {
        for bytes in [&b""[..], b"\n# none\n", b"deadbeef\n", &[0xff; 47]] {
            let error = file(bytes).unwrap_err().to_string();
            assert!(error.contains("ticket keys from keys"), "{error}");
        }
    }

    #[test]
    fn forged_tickets_do_not_open() {
        let tickets = Arc::new(Tickets::random(Instant::now()).unwrap());
        let one = ticketer(&tickets, 1, &Arc::default());
        let whole = one.encrypt(b"session").unwrap();
        for length in 0..whole.len() {
            assert_eq!(one.decrypt(&whole[..length]), None);
        }
        for at in 0..whole.len() {
            let mut forged = whole.clone();
            forged[at] ^= 1;
            assert_eq!(one.decrypt(&forged), None, "byte {at}");
        }
    }
}
