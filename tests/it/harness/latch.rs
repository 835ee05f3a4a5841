//! Something that scripts wait for and tests open. Once open it stays so.

use std::sync::Arc;

use tokio::sync::watch;

/// Clones are the same latch.
#[derive(Clone)]
pub(crate) struct Latch(Arc<watch::Sender<bool>>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn opened(&self) {
        let mut watch = self.0.subscribe();
        // The sender lives as long as this borrow of it.
        drop(watch.wait_for(|open| *open).await);
    }
}
