//! How the certificates stand, for metrics.
//!
//! The keeper writes, a scrape reads. Labels are the first names of certificates, which the config has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::clock;
use crate::metrics::{Metrics, Name, Sink};

/// What is known of one certificate.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    /// Whether the last order succeeded; none before the first.
    pub(super) last: Option<bool>,
    /// When the next order is planned.
    pub(super) next: Option<SystemTime>,
}

/// Figures by first name.
#[derive(Debug, Default)]
pub(super) struct Status(Mutex<BTreeMap<Arc<str>, Figures>>);

impl Status {
    pub(super) fn registered(metrics: &Metrics) -> Arc<Self> {
        let status = Arc::new(Self::default());
        let pulled = Arc::clone(&status);
        metrics.pull(move |sink| pulled.collect(sink));
        status
    }

    /// Changes what is known of one certificate.
    pub(super) fn update(&self, name: &Arc<str>, change: impl FnOnce(&mut Figures)) {
        change(self.0.lock().entry(Arc::clone(name)).or_default());
    }

    /// Forgets certificates that the config does not name.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| keep(name));
    }

    fn collect(&self, sink: &mut Sink) {
        for (name, figures) in &*self.0.lock() {
            let Figures {
                succeeded,
                failed,
                last,
                next,
            } = figures;
            sink.put_count(Name::AcmeOrders, &[name, "success"], *succeeded);
            sink.put_count(Name::AcmeOrders, &[name, "failure"], *failed);
            if let Some(last) = last {
                sink.put_count(Name::AcmeLastOrderSuccessful, &[name], u64::from(*last));
            }
            if let Some(at) = next {
                let at = clock::since_epoch(*at).as_secs_f64();
                sink.put(Name::AcmeNextOrderTimestamp, &[name], at);
            }
        }
    }
}
