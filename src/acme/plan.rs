//! What is known of each certificate, and what is due next.
//!
//! Plain data, changed by `keeper` with what happened; times and dice come in as values. Invariant:
//! a certificate that is held is never given up for an order that failed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::{CertificateIdentifier, RenewalInfo};

use crate::net::tls::Pair;

use super::schedule::{self, Lifetime};

/// After a failure to ask for renewal information.
const ASK_PAUSE: Duration = Duration::from_secs(3600);
/// Asked again of a CA that has none.
const NEVER_MIND: Duration = Duration::from_secs(86_400);

/// What is to be done for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Ask when it should be renewed.
    Ask,
    /// Obtain or renew it.
    Order,
}

/// One certificate of the config.
#[derive(Debug)]
pub(super) struct Managed {
    pub(super) names: Arc<[Arc<str>]>,
    held: Option<Held>,
    /// Failed orders in a row.
    failures: u32,
    /// No order before this, after a failure.
    paused: SystemTime,
    /// The CA asked for that pause.
    by_ca: bool,
    /// When the last two orders succeeded, the last one first.
    succeeded: [Option<SystemTime>; 2],
}

#[derive(Debug)]
struct Held {
    pair: Pair,
    life: Lifetime,
    id: Option<CertificateIdentifier<'static>>,
    /// When it is renewed.
    renew_at: SystemTime,
    /// The window that `renew_at` was chosen from.
    window: Option<(SystemTime, SystemTime)>,
    ask_at: SystemTime,
}

impl Managed {
    pub(super) fn new(names: &Arc<[Arc<str>]>) -> Self {
        Self {
            names: Arc::clone(names),
            held: None,
            failures: 0,
            paused: SystemTime::UNIX_EPOCH,
            by_ca: false,
            succeeded: [None; 2],
        }
    }

    /// The name that stands for it.
    pub(super) fn name(&self) -> &Arc<str> {
        static NOBODY: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(""));
        self.names.first().unwrap_or(&NOBODY)
    }

    /// From now on this one is held.
    pub(super) fn hold(&mut self, pair: Pair, dice: f64) {
        let life = Lifetime {
            not_before: pair.not_before(),
            not_after: pair.not_after(),
        };
        let id = pair.authority_and_serial().map(|(authority, serial)| {
            CertificateIdentifier::new(authority.into(), serial.into()).into_owned()
        });
        self.held = Some(Held {
            pair,
            life,
            id,
            renew_at: life.renewal(dice),
            window: None,
            ask_at: SystemTime::UNIX_EPOCH,
        });
    }

    /// What is held.
    pub(super) fn pair(&self) -> Option<&Pair> {
        self.held.as_ref().map(|held| &held.pair)
    }

    /// What names it to the CA.
    pub(super) fn id(&self) -> Option<&CertificateIdentifier<'static>> {
        self.held.as_ref()?.id.as_ref()
    }

    /// When the next order is due.
    pub(super) fn order_at(&self) -> SystemTime {
        let wanted = self
            .held
            .as_ref()
            .map_or(SystemTime::UNIX_EPOCH, |held| held.renew_at);
        let [last, before] = self.succeeded;
        wanted
            .max(self.paused)
            .max(schedule::earliest(last, before))
    }

    /// What comes next, and when.
    pub(super) fn next(&self) -> (SystemTime, Task) {
        let order = (self.order_at(), Task::Order);
        match &self.held {
            Some(held) if held.id.is_some() && held.ask_at <= order.0 => (held.ask_at, Task::Ask),
            Some(_) | None => order,
        }
    }

    /// An order succeeded.
    pub(super) fn succeeded(&mut self, pair: Pair, now: SystemTime, dice: f64) {
        self.hold(pair, dice);
        self.failures = 0;
        self.paused = SystemTime::UNIX_EPOCH;
        self.by_ca = false;
        self.succeeded = [Some(now), self.succeeded[0]];
    }

    /// An order failed; `asked` is how long the CA wants to be left alone.
    pub(super) fn failed(&mut self, now: SystemTime, asked: Option<Duration>, dice: f64) {
        self.failures = self.failures.saturating_add(1);
        self.paused = now + schedule::pause(self.failures, asked, dice);
        self.by_ca = asked.is_some();
    }

    /// The operator has changed something: failures are tried again now, unless the CA asked not to.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        if !self.by_ca {
            self.paused = SystemTime::UNIX_EPOCH;
        }
    }

    /// The CA suggests when to renew, and when to be asked again.
    pub(super) fn suggested(
        &mut self,
        info: &RenewalInfo,
        again: Duration,
        now: SystemTime,
        dice: f64,
    ) {
        let Some(held) = &mut self.held else {
            return;
        };
        let window = &info.suggested_window;
        let window = (SystemTime::from(window.start), SystemTime::from(window.end));
        // A new choice each time would prefer late times.
        if held.window != Some(window) {
            held.renew_at = held.life.within(window.0, window.1, dice);
            held.window = Some(window);
        }
        held.ask_at = now + schedule::ask_again(again);
    }

    /// The CA has no suggestion (`None`), or could not be asked; it may want to be left alone.
    pub(super) fn not_suggested(&mut self, failed: Option<Option<Duration>>, now: SystemTime) {
        let Some(held) = &mut self.held else {
            return;
        };
        held.ask_at = now
            + match failed {
                None => NEVER_MIND,
                Some(asked) => schedule::ask_again(asked.unwrap_or_default().max(ASK_PAUSE)),
            };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn names() -> Arc<[Arc<str>]> {
        Arc::from([Arc::from("a.example")])
    }

    /// Valid for ninety days from `now`; signed by a CA, so that it can be named to it.
    fn pair(now: SystemTime) -> Pair {
        use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = now.into();
        params.not_after = (now + 90 * DAY).into();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &ca).unwrap();
        Pair::from_pem(
            "a.example",
            leaf.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
        )
        .unwrap()
    }

    fn info(start: SystemTime, end: SystemTime) -> RenewalInfo {
        let text = |at: SystemTime| {
            let at = time::OffsetDateTime::from(at);
            at.format(&time::format_description::well_known::Rfc3339)
                .unwrap()
        };
        let window = serde_json::json!({ "start": text(start), "end": text(end) });
        serde_json::from_value(serde_json::json!({ "suggestedWindow": window })).unwrap()
    }

    /// A whole second, as certificates have them.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    #[test]
    fn what_is_not_held_is_ordered_at_once_and_again_after_pauses_that_grow() {
        let now = now();
        let mut managed = Managed::new(&names());
        assert_eq!(managed.next().1, Task::Order);
        assert!(managed.next().0 <= now);
        let mut before = now;
        for _ in 0..5 {
            managed.failed(now, None, 1.0);
            assert!(managed.order_at() > before);
            before = managed.order_at();
        }
        managed.forgive();
        assert!(managed.order_at() <= now);
    }

    #[test]
    fn a_pause_that_the_ca_asked_for_is_not_forgiven() {
        let now = now();
        let mut managed = Managed::new(&names());
        managed.failed(now, Some(2 * DAY), 0.0);
        managed.forgive();
        assert_eq!(managed.order_at(), now + 2 * DAY);
    }

    #[test]
    fn a_held_one_is_asked_for_first_and_renewed_within_its_window() {
        let now = now();
        let mut managed = Managed::new(&names());
        managed.succeeded(pair(now), now, 0.0);
        assert!(managed.id().is_some());
        assert_eq!(managed.next(), (SystemTime::UNIX_EPOCH, Task::Ask));
        assert_eq!(managed.order_at(), now + 60 * DAY);

        let window = info(now + 30 * DAY, now + 32 * DAY);
        managed.suggested(&window, DAY / 4, now, 0.5);
        assert_eq!(managed.order_at(), now + 31 * DAY);
        assert_eq!(managed.next(), (now + DAY / 4, Task::Ask));
        // The same window is the same choice.
        managed.suggested(&window, DAY / 4, now, 0.9);
        assert_eq!(managed.order_at(), now + 31 * DAY);

        // A window in the past is for now, and for what follows at once only once.
        let past = info(now - 2 * DAY, now - DAY);
        managed.suggested(&past, DAY, now, 0.5);
        assert!(managed.order_at() < now);
        assert_eq!(managed.next().1, Task::Order);
        managed.succeeded(pair(now), now, 0.0);
        managed.suggested(&past, DAY, now, 0.5);
        assert_eq!(managed.order_at(), now + Duration::from_secs(3600));
    }

    #[test]
    fn a_failed_order_gives_nothing_up() {
        let now = now();
        let mut managed = Managed::new(&names());
        managed.succeeded(pair(now), now, 0.0);
        managed.not_suggested(None, now);
        managed.failed(now + 61 * DAY, None, 0.0);
        assert!(managed.pair().is_some());
        assert!(managed.order_at() > now + 61 * DAY);
    }
}
