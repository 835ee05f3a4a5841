//! A small, plain reference model of RFC 9111, written from the text.
//!
//! It shares nothing with the cache that it watches: what an answer says is kept as the values from which
//! its text is made (`Said`), so nothing is parsed here. The model does not predict what a cache does, since
//! the RFC leaves much to it; it says what is allowed: which of the answers ever given may be served again,
//! to whom and when (`World::may_serve`), and which may be stored at all. `walks` lets random requests loose
//! on the real thing and asks after each step. Times are whole seconds; where a fraction decides, both
//! outcomes are allowed.

use fastrand::Rng;

/// A second more or less, for what the clocks round.
const SLACK: i64 = 2;

/// A lifetime or an age as it is stated: a number, or something that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stated {
    Number(i64),
    Broken,
}

impl Stated {
    fn value(self) -> i64 {
        match self {
            Self::Number(number) => number,
            Self::Broken => 0,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Broken => "x1".to_owned(),
        }
    }
}

/// Which field bears the directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Everyone,
    Cdns,
    Us,
}

/// What an answer says of itself.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) status: u16,
    aim: Aim,
    flags: Vec<&'static str>,
    max_age: Option<Stated>,
    s_maxage: Option<Stated>,
    while_revalidating: Option<Stated>,
    if_error: Option<Stated>,
    /// From the time of the answer.
    expires: Option<Stated>,
    date: Option<i64>,
    last_modified: Option<i64>,
    age: Option<Stated>,
    pub(super) etag: Option<&'static str>,
    vary: Vec<&'static str>,
    sets_cookie: bool,
}

/// What a request asks.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field or a directive of its own"
)]
pub(super) struct Asked {
    pub(super) path: usize,
    pub(super) is_head: bool,
    pub(super) language: Option<&'static str>,
    pub(super) kind: Option<&'static str>,
    pub(super) authorized: bool,
    pub(super) cookie: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<i64>,
    pub(super) min_fresh: Option<i64>,
    /// Any at all where there is no number.
    pub(super) max_stale: Option<Option<i64>>,
    pub(super) if_error: Option<i64>,
}

/// An answer that was given.
#[derive(Debug, Clone)]
struct Given {
    number: usize,
    path: usize,
    said: Said,
    asked: Asked,
    at: i64,
    /// A write or a newer answer has taken its place.
    gone: bool,
    /// The cache said that it has stored it.
    stored: bool,
    /// And nothing has happened since by which it may have dropped it.
    kept: bool,
}

/// Why an answer may be stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    No,
    /// With 500, 502, 503 or 504.
    Answers,
    Unreachable,
}

/// All that was said, and what time it is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) random: Rng,
    pub(super) now: i64,
    /// Whether there is anything but one `GET` at a time.
    pub(super) is_busy: bool,
    given: Vec<Given>,
}

type Lines = Vec<(&'static str, String)>;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            now: 0,
            is_busy: true,
            given: Vec::new(),
        }
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.usize(..of.len())].clone()
    }

    fn rarely<T>(&mut self, one_in: u8, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.random.u8(..one_in) == 0).then(|| make(self))
    }

    fn seconds(&mut self) -> Stated {
        match self.random.u8(..8) {
            0 => Stated::Broken,
            1 => Stated::Number(0),
            _ => Stated::Number(self.random.i64(5..120)),
        }
    }

    pub(super) fn request(&mut self) -> Asked {
        let plain = self.random.u8(..3) > 0;
        let mut asked = Asked {
            path: self.random.usize(..3),
            is_head: self.is_busy && self.random.u8(..12) == 0,
            language: self.one(&[
                None,
                None,
                Some("en"),
                Some("EN"),
                Some("de"),
                Some("de, en;q=0.5"),
            ]),
            kind: self.one(&[None, None, Some("1"), Some("2")]),
            ..Asked::default()
        };
        if !plain {
            asked.authorized = self.random.u8(..6) == 0;
            asked.cookie = self.random.u8(..6) == 0;
            asked.no_cache = self.random.u8(..6) == 0;
            asked.only_if_cached = self.random.u8(..8) == 0;
            asked.max_age = self.rarely(5, |world| world.one(&[0, 10, 40, 1000]));
            asked.min_fresh = self.rarely(6, |world| world.one(&[0, 10, 40]));
            asked.max_stale = self.rarely(4, |world| world.one(&[None, Some(5), Some(30)]));
            asked.if_error = self.rarely(6, |world| world.one(&[5, 60]));
        }
        asked
    }

    /// What an origin might say.
    fn said(&mut self) -> Said {
        let mut flags = Vec::new();
        for flag in [
            "no-store",
            "no-cache",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
            "immutable",
        ] {
            if self.random.u8(..9) == 0 {
                flags.push(flag);
            }
        }
        Said {
            status: self.one(&[200, 200, 200, 200, 200, 404, 302, 299, 599, 403]),
            aim: self.one(&[
                Aim::Everyone,
                Aim::Everyone,
                Aim::Everyone,
                Aim::Cdns,
                Aim::Us,
            ]),
            flags,
            max_age: self.rarely(2, Self::seconds),
            s_maxage: self.rarely(6, Self::seconds),
            while_revalidating: self.rarely(4, Self::seconds).filter(|_| self.is_busy),
            if_error: self.rarely(4, Self::seconds),
            expires: self.rarely(3, |world| match world.seconds() {
                Stated::Number(number) => Stated::Number(number - 10),
                Stated::Broken => Stated::Broken,
            }),
            date: self.rarely(2, |world| world.one(&[0, 0, -15, 15])),
            last_modified: self.rarely(3, |world| -world.one(&[100, 500, 1000])),
            age: self.rarely(5, Self::seconds),
            etag: self.one(&[None, Some("\"a\""), Some("\"b\""), Some("W/\"c\"")]),
            vary: self.one(&[
                vec![],
                vec![],
                vec!["accept-language"],
                vec!["x-kind"],
                vec!["x-kind", "accept-language"],
                vec!["*"],
            ]),
            sets_cookie: self.random.u8(..15) == 0,
        }
    }

    /// A new answer with its number.
    pub(super) fn answer(&mut self, asked: &Asked) -> (usize, Said) {
        let said = self.said();
        (self.give(said.clone(), asked), said)
    }

    /// An origin's word that what it was asked about by one of these tags still holds, and what it says now.
    /// Nothing when it has something new to say, or when the tag might mean more than one answer.
    pub(super) fn confirm(&mut self, asked: &Asked, tags: &str) -> Option<(usize, Said)> {
        let tag = self.one(&["\"a\"", "\"b\"", "W/\"c\""]);
        let held = |given: &&Given| {
            given.path == asked.path && given.stored && !given.gone && given.said.etag == Some(tag)
        };
        let mut held = self.given.iter().filter(held);
        let old = match (held.next(), held.next()) {
            (Some(only), None) if tags.contains(tag) => only.said.clone(),
            _ => return None,
        };
        let mut said = self.said();
        // What it does not say stays as it was, so it says all that matters.
        said.status = old.status;
        said.aim = old.aim;
        said.vary = old.vary;
        said.etag = old.etag;
        said.sets_cookie = false;
        said.date = Some(0);
        said.age = Some(Stated::Number(0));
        said.expires.get_or_insert(Stated::Number(30));
        said.last_modified.get_or_insert(-100);
        Some((self.give(said.clone(), asked), said))
    }

    /// What was confirmed takes the place of what it was, unless it may not be stored any more.
    pub(super) fn was_confirmed(&mut self, number: usize) {
        let path = self.given[number].path;
        for given in &mut self.given {
            given.kept &= given.path != path;
        }
        // It may be that it is not kept; then it must not be served either, which shows later.
        drop(self.was_stored(number));
    }

    fn give(&mut self, said: Said, asked: &Asked) -> usize {
        self.given.push(Given {
            number: self.given.len(),
            path: asked.path,
            said,
            asked: asked.clone(),
            at: self.now,
            gone: false,
            stored: false,
            kept: false,
        });
        self.given.len() - 1
    }

    /// The cache says that it keeps an answer; the older ones for the same requests are gone.
    pub(super) fn was_stored(&mut self, number: usize) -> Result<(), String> {
        let new = self.given[number].clone();
        if !new.may_be_stored() {
            return Err(format!("stored, which it may not be: {new:#?}"));
        }
        self.given[number].stored = true;
        self.given[number].kept = true;
        for old in &mut self.given[..number] {
            let same =
                old.path == new.path && old.said.vary == new.said.vary && old.is_for(&new.asked);
            old.gone |= same && old.stored;
        }
        Ok(())
    }

    /// A write went through: nothing from before may be served.
    pub(super) fn was_written(&mut self, path: usize) {
        for given in &mut self.given {
            given.gone |= given.path == path;
        }
    }

    /// Whether an answer from before may be served to a request now.
    pub(super) fn may_serve(
        &self,
        number: usize,
        asked: &Asked,
        failing: Failing,
    ) -> Result<(), String> {
        let given = &self.given[number];
        let why_not = given.forbids(asked, self.now, failing);
        if let Some(why) = why_not {
            return Err(format!(
                "served {why}: at {} to {asked:?}: {given:#?}",
                self.now
            ));
        }
        // Section 4: of more than one that would do, the most recent.
        let newer = self.given.iter().find(|other| {
            other.kept
                && other.number != number
                && other.dated() > given.dated() + SLACK
                && other.forbids(asked, self.now + SLACK, failing).is_none()
                && other
                    .said
                    .lifetime()
                    .is_some_and(|life| life > other.age(self.now) + SLACK)
        });
        match newer {
            Some(newer) => Err(format!("{given:#?} was served instead of {newer:#?}")),
            None => Ok(()),
        }
    }

    /// Whether a cache that is worth its memory would answer this request without asking.
    pub(super) fn should_hit(&self, asked: &Asked) -> Option<usize> {
        let is_plain = !asked.no_cache
            && !asked.authorized
            && asked.max_age.is_none()
            && asked.min_fresh.is_none();
        let last = self
            .given
            .iter()
            .rfind(|given| given.kept && given.path == asked.path);
        let last = last.filter(|_| is_plain)?;
        let life = last.said.lifetime()?;
        let is_fresh = life > last.age(self.now) + SLACK;
        let is_free = !last.gone && last.is_for(asked) && !last.said.has("no-cache");
        // Another that is older may fit too, and may be stale: of those that fit the latest is looked at.
        let fits = |other: &&Given| {
            !other.gone && other.stored && other.path == asked.path && other.is_for(asked)
        };
        let latest = self.given.iter().filter(fits).map(Given::dated).max();
        let is_latest = latest.is_none_or(|latest| last.dated() > latest - SLACK)
            && self.given.iter().filter(fits).count() == 1;
        (is_fresh && is_free && is_latest).then_some(last.number)
    }
}

impl Said {
    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn status_is_known(&self) -> bool {
        !matches!(self.status, 299 | 599)
    }

    /// Sections 4.2.1 and 4.2.2: nothing where nothing is stated and nothing may be presumed.
    fn lifetime(&self) -> Option<i64> {
        if let Some(stated) = self.s_maxage.or(self.max_age) {
            return Some(stated.value());
        }
        let expires = self.expires.filter(|_| self.aim == Aim::Everyone);
        match expires {
            Some(Stated::Broken) => return Some(0),
            Some(Stated::Number(from_now)) => {
                return Some((from_now - self.date.unwrap_or(0)).max(0));
            }
            None => {}
        }
        if !matches!(self.status, 200 | 404) && !self.has("public") {
            return None;
        }
        let unchanged = self.date.unwrap_or(0) - self.last_modified?;
        Some((unchanged / 10).max(0))
    }

    /// Section 3.5.
    fn is_for_all(&self) -> bool {
        self.has("public") || self.has("must-revalidate") || self.s_maxage.is_some()
    }

    /// Section 4.2.4.
    fn forbids_stale(&self) -> bool {
        ["no-cache", "must-revalidate", "proxy-revalidate"]
            .iter()
            .any(|flag| self.has(flag))
            || self.s_maxage.is_some()
    }

    /// Its fields; dates are made by `date` from seconds from now. `number` tells it from all others.
    pub(super) fn lines(
        &self,
        number: usize,
        random: &mut Rng,
        date: impl Fn(i64) -> String,
    ) -> Lines {
        let mut lines: Lines = vec![("x-number", number.to_string())];
        let is_plain = self.aim == Aim::Everyone;
        let mut directives: Vec<String> = Vec::new();
        for flag in &self.flags {
            directives.push(spelled(flag, is_plain, random));
        }
        for (name, value) in [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.while_revalidating),
            ("stale-if-error", self.if_error),
        ] {
            let Some(value) = value else { continue };
            let name = spelled(name, is_plain, random);
            let quotes = if is_plain && random.u8(..5) == 0 {
                "\""
            } else {
                ""
            };
            directives.push(format!("{name}={quotes}{}{quotes}", value.text()));
        }
        random.shuffle(&mut directives);
        if random.u8(..4) == 0 {
            directives.insert(0, "foo=\"no-store, max-age=7777\"".to_owned());
        }
        // Of what repeats the first counts; of a dictionary the last, so there nothing repeats.
        if is_plain && self.max_age.is_some() && random.u8(..4) == 0 {
            directives.push("max-age=7777".to_owned());
        }
        let name = match self.aim {
            Aim::Everyone => "cache-control",
            Aim::Cdns => "cdn-cache-control",
            Aim::Us => "headgate-cache-control",
        };
        if !is_plain {
            // An empty field would count as absent.
            directives.push("bar".to_owned());
            let decoy =
                ["no-store", "private, max-age=9", "s-maxage=7777, public"][random.usize(..3)];
            lines.push(("cache-control", decoy.to_owned()));
        }
        // Even an empty one: in a 304 it takes the place of what was said before.
        if random.bool() || directives.is_empty() {
            lines.push((name, directives.join(", ")));
        } else {
            lines.extend(directives.into_iter().map(|directive| (name, directive)));
        }
        match self.expires {
            Some(Stated::Number(from_now)) => lines.push(("expires", date(from_now))),
            Some(Stated::Broken) => lines.push(("expires", "0".to_owned())),
            None => {}
        }
        if let Some(from_now) = self.date {
            lines.push(("date", date(from_now)));
        }
        if let Some(from_now) = self.last_modified {
            lines.push(("last-modified", date(from_now)));
        }
        if let Some(age) = self.age {
            lines.push(("age", age.text()));
        }
        if let Some(tag) = self.etag {
            lines.push(("etag", tag.to_owned()));
        }
        if !self.vary.is_empty() {
            lines.push(("vary", self.vary.join(" , ")));
        }
        if self.sets_cookie {
            lines.push(("set-cookie", "id=1".to_owned()));
        }
        lines
    }
}

/// A name as some origin might write it.
fn spelled(name: &str, in_any_case: bool, random: &mut Rng) -> String {
    match in_any_case && random.u8(..4) == 0 {
        true => name.to_uppercase(),
        false => name.to_owned(),
    }
}

impl Given {
    fn dated(&self) -> i64 {
        self.at + self.said.date.unwrap_or(0)
    }

    /// Section 4.2.3.
    fn age(&self, now: i64) -> i64 {
        let apparent = (-self.said.date.unwrap_or(0)).max(0);
        let stated = match self.said.age {
            Some(Stated::Number(age)) => age,
            Some(Stated::Broken) | None => 0,
        };
        apparent.max(stated) + now - self.at
    }

    /// Section 4.1.
    fn is_for(&self, asked: &Asked) -> bool {
        self.said.vary.iter().all(|name| match *name {
            "accept-language" => {
                let low = |asked: &Asked| asked.language.map(str::to_lowercase);
                low(&self.asked) == low(asked)
            }
            "x-kind" => self.asked.kind == asked.kind,
            _ => false,
        })
    }

    /// Section 3.
    fn may_be_stored(&self) -> bool {
        let said = &self.said;
        let understood = said.has("must-understand") && said.status_is_known();
        let states_a_life = said.max_age.is_some()
            || said.s_maxage.is_some()
            || (said.aim == Aim::Everyone && said.expires.is_some());
        let is_personal = self.asked.authorized || self.asked.cookie;
        !self.asked.is_head
            && (!said.has("no-store") || understood)
            && (!said.has("must-understand") || understood)
            && !said.has("private")
            && !said.sets_cookie
            && (!is_personal || said.is_for_all())
            && (states_a_life || said.has("public") || matches!(said.status, 200 | 404))
    }

    /// Why this answer may not be served to a request, if it may not (sections 4 and 5.2.1).
    fn forbids(&self, asked: &Asked, now: i64, failing: Failing) -> Option<&'static str> {
        let said = &self.said;
        let life = said.lifetime().unwrap_or_default();
        let age = self.age(now);
        let staleness = age - life;
        let is_fresh = staleness <= SLACK;
        let demands = asked.no_cache || asked.max_age.is_some() || asked.min_fresh.is_some();
        let within = |window: Option<i64>| window.is_some_and(|window| staleness <= window + SLACK);
        let stated = |window: Option<Stated>| window.map(Stated::value);
        let is_reload = asked.max_age == Some(0) && said.has("immutable");
        if self.gone {
            return Some("what is gone");
        }
        if self.path != asked.path || !self.is_for(asked) {
            return Some("what is for another request");
        }
        if !self.may_be_stored() {
            return Some("what may not be stored");
        }
        if asked.authorized && !said.is_for_all() {
            return Some("to a user what is not for all");
        }
        if asked.no_cache || said.has("no-cache") {
            return Some("without asking");
        }
        if asked.max_age.is_some_and(|most| age > most + SLACK) && !(is_reload && is_fresh) {
            return Some("what is too old");
        }
        if asked
            .min_fresh
            .is_some_and(|least| life - age + SLACK < least)
        {
            return Some("what is not fresh for long enough");
        }
        let tolerated = match asked.max_stale {
            Some(None) => true,
            Some(most) => within(most),
            None => false,
        };
        let revalidating = !demands && within(stated(said.while_revalidating));
        let on_error = failing != Failing::No
            && (within(stated(said.if_error))
                || within(asked.if_error)
                || failing == Failing::Unreachable);
        if !is_fresh && (said.forbids_stale() || !(tolerated || revalidating || on_error)) {
            return Some("what is stale");
        }
        None
    }
}
