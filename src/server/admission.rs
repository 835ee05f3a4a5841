//! How many connections of clients may be open: in total, and from one address.
//!
//! One `Admission` for all workers. `accept` takes a `Ticket` for each connection and gives it back by
//! dropping it; no request comes near. An address is an IPv4 address or an IPv6 /64, which is what one
//! customer of a network is given. Invariant: what is counted is exactly the tickets that are held, so
//! the table of addresses never has more entries than there are connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ahash::RandomState;
use parking_lot::Mutex;

/// Parts of the table, each with a lock of its own.
const PARTS: usize = 64;

/// Who is one address to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl Key {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.into()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                let bits = [a, b, c, d].map(u64::from);
                Self::V6(bits.into_iter().fold(0, |all, part| all << 16 | part))
            }
        }
    }
}

/// Which limit has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `limits.connections`.
    Total,
    /// `limits.connections_per_address`.
    Address,
}

type Part = Mutex<HashMap<Key, usize, RandomState>>;

/// Counts the connections of clients.
#[derive(Debug)]
pub struct Admission {
    open: AtomicUsize,
    most: AtomicUsize,
    /// 0: any number.
    most_per_address: AtomicUsize,
    addresses: Box<[Part]>,
    hasher: RandomState,
}

impl Admission {
    /// Nobody is there; at most `most` may come, and at most `most_per_address` (0: any number) from
    /// one address.
    #[must_use]
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        // Keyed at random: a peer cannot choose addresses that meet in one bucket.
        let hasher = RandomState::new();
        let part = || Mutex::new(HashMap::with_hasher(hasher.clone()));
        Arc::new(Self {
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            most_per_address: AtomicUsize::new(most_per_address),
            addresses: std::iter::repeat_with(part).take(PARTS).collect(),
            hasher,
        })
    }

    /// Other limits from now on. Connections that are open stay; those that came while addresses were
    /// not limited are not counted for theirs.
    pub fn limit(&self, most: usize, most_per_address: usize) {
        self.most.store(most, Relaxed);
        self.most_per_address.store(most_per_address, Relaxed);
    }

    /// How many may be open in total.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// A place for one more connection.
    ///
    /// # Errors
    /// When there is none.
    pub fn enter(self: &Arc<Self>) -> Result<Ticket, Full> {
        if self.open.fetch_add(1, Relaxed) < self.most.load(Relaxed) {
            return Ok(Ticket {
                admission: Arc::clone(self),
                key: None,
            });
        }
        self.open.fetch_sub(1, Relaxed);
        Err(Full::Total)
    }

    fn part(&self, key: Key) -> &Part {
        let hash = self.hasher.hash_one(key);
        // The upper bits: the table within a part uses the lower ones.
        let index = usize::try_from(hash >> 32).unwrap_or_default() % PARTS;
        &self.addresses[index]
    }
}

/// A place that is taken until this drops.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    key: Option<Key>,
}

impl Ticket {
    /// The connection is one from `ip`. To be called once, when its client is known.
    ///
    /// # Errors
    /// When too many from there are open already.
    pub fn is_from(&mut self, ip: IpAddr) -> Result<(), Full> {
        let most = self.admission.most_per_address.load(Relaxed);
        if most == 0 || self.key.is_some() {
            return Ok(());
        }
        let key = Key::of(ip);
        let mut part = self.admission.part(key).lock();
        let count = part.entry(key).or_insert(0);
        if *count >= most {
            return Err(Full::Address);
        }
        *count += 1;
        self.key = Some(key);
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Relaxed);
        let Some(key) = self.key else { return };
        let mut part = self.admission.part(key).lock();
        if let Some(count) = part.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                part.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn entries(admission: &Admission) -> usize {
        admission
            .addresses
            .iter()
            .map(|part| part.lock().len())
            .sum()
    }

    #[test]
    fn there_is_room_again_when_a_connection_ends() {
        let admission = Admission::new(2, 0);
        let first = admission.enter().unwrap();
        let _second = admission.enter().unwrap();
        assert_eq!(admission.enter().unwrap_err(), Full::Total);
        assert_eq!(admission.open(), 2);
        drop(first);
        let _third = admission.enter().unwrap();
        admission.limit(3, 0);
        let _fourth = admission.enter().unwrap();
        assert_eq!(admission.enter().unwrap_err(), Full::Total);
    }

    #[test]
    fn one_address_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            (
                "2001:db8::1",
                "2001:db8::ffff:ffff:ffff:ffff",
                "2001:db8:0:1::1",
            ),
            ("::1", "::2", "0.0.0.1"),
        ] {
            let admission = Admission::new(10, 1);
            let mut held = admission.enter().unwrap();
            held.is_from(ip(one)).unwrap();
            let refused = admission.enter().unwrap().is_from(ip(same));
            assert_eq!(refused, Err(Full::Address), "{one} {same}");
            admission.enter().unwrap().is_from(ip(other)).unwrap();
            drop(held);
            admission.enter().unwrap().is_from(ip(same)).unwrap();
            assert_eq!(admission.open(), 0);
        }
    }

    #[test]
    fn the_table_holds_nobody_who_has_left() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let admission = Admission::new(50, 3);
        let mut held: Vec<(u8, Ticket)> = Vec::new();
        for _ in 0..5_000 {
            if random.bool() && !held.is_empty() {
                held.swap_remove(random.usize(..held.len()));
            } else if let Ok(mut ticket) = admission.enter() {
                let who = random.u8(..40);
                let before = held.iter().filter(|(known, _)| *known == who).count();
                let result = ticket.is_from(IpAddr::from([192, 0, 2, who]));
                assert_eq!(result.is_ok(), before < 3);
                if result.is_ok() {
                    held.push((who, ticket));
                }
            } else {
                assert_eq!(held.len(), 50);
            }
            let mut distinct: Vec<u8> = held.iter().map(|(who, _)| *who).collect();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(entries(&admission), distinct.len());
            assert_eq!(admission.open(), held.len());
        }
    }
}
