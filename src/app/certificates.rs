//! Follows the files of TLS listeners between reloads, and turns ticket keys.
//!
//! A task of the control plane looks at the files of the snapshot in force every `PERIOD`; what has
//! changed is read on a blocking thread, since a file system may be slow. Invariant: no worker waits
//! for it, and a handshake uses either all of a change or nothing of it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock;
use crate::snapshot::{Live, Snapshot};

/// From one look to the next.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// Looks every `period`. Never ends.
pub(super) async fn watch(live: Arc<Live>, current: Arc<ArcSwap<Snapshot>>, period: Duration) {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = live.tls.tickets.rotate(Instant::now()) {
            tracing::error!(%error, "session tickets keep their key");
        }
        let snapshot = current.load_full();
        if snapshot.tls.iter().all(Option::is_none) {
            continue;
        }
        let look = move || {
            for server in snapshot.tls.iter().flatten() {
                server.refresh(clock::wall());
            }
        };
        if tokio::task::spawn_blocking(look).await.is_err() {
            tracing::error!("looking at TLS files ended in a panic");
        }
    }
}
