//! Looks the names of endpoints up, as a start would, and says which lead nowhere.
//!
//! For `rehearsal`. A resolver that reaches nobody takes seconds for each name, so several are asked about
//! at once, and after a while nobody is waited for. Invariant: it ends within `PATIENCE`, whatever the
//! network does.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// For all of them together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Names that are asked about at one time.
const AT_ONCE: usize = 32;

/// Which of these `host:port` lead nowhere, and why.
pub(super) fn unknown(addresses: impl Iterator<Item = Arc<str>>) -> Vec<(Arc<str>, String)> {
    // Addresses need no resolver.
    let is_name = |address: &Arc<str>| address.parse::<std::net::SocketAddr>().is_err();
    let mut left: BTreeSet<Arc<str>> = addresses.filter(is_name).collect();
    let queue = Arc::new(Mutex::new(left.clone().into_iter()));
    let (sender, answers) = channel();
    for _ in 0..left.len().min(AT_ONCE) {
        let (queue, sender) = (Arc::clone(&queue), sender.clone());
        let ask = move || {
            let next = || queue.lock().next();
            while let Some(address) = next() {
                let result = resolve(&address);
                // Nobody may be waiting any more.
                if sender.send((address, result)).is_err() {
                    return;
                }
            }
        };
        // Left to itself: nothing can be done about a resolver that is slow.
        let named = std::thread::Builder::new().name("headgate-names".to_owned());
        if named.spawn(ask).is_err() {
            break;
        }
    }
    drop(sender);
    let end = Instant::now() + PATIENCE;
    let mut unknown = Vec::new();
    let left_of_it = || end.saturating_duration_since(Instant::now());
    while let Ok((address, result)) = answers.recv_timeout(left_of_it()) {
        left.remove(&address);
        unknown.extend(result.err().map(|reason| (address, reason)));
    }
    let late = |address| (address, "no answer came in time".to_owned());
    unknown.extend(left.into_iter().map(late));
    unknown.sort();
    unknown
}

fn resolve(address: &str) -> Result<(), String> {
    match address.to_socket_addrs() {
        Ok(mut found) => match found.next() {
            Some(_) => Ok(()),
            None => Err("the name has no address".to_owned()),
        },
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_nowhere_are_told_once_each() {
        // `.invalid` is nobody's (RFC 6761 section 6.4), and `localhost` is everybody's.
        let asked = [
            "127.0.0.1:1",
            "[::1]:1",
            "localhost:1",
            "b.invalid:1",
            "a.invalid:1",
            "b.invalid:1",
        ];
        let unknown = unknown(asked.iter().map(|&address| Arc::from(address)));
        let names: Vec<&str> = unknown.iter().map(|(address, _)| &**address).collect();
        assert_eq!(names, ["a.invalid:1", "b.invalid:1"]);
    }
}
