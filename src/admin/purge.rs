//! `POST /api/purge`: what is stored becomes unusable, or stale.
//!
//! The body is JSON: one of `url`, `prefix`, `tag` or `tags`, `host` and `all`, with `soft` and `dry_run`. A
//! purge is in force before anything is counted; the counts come from walking all that is stored, on a
//! thread of its own, one walk for all who wait. URLs are read by `proxy::url`, in the form of requests.
//! Invariant: nothing but what was named is purged: what cannot be read purges nothing.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::cache::{Cache, Selection, Selector, Strength};
use crate::config::model::PathRules;
use crate::metrics::{PurgeKind, PurgeStrength};
use crate::proxy::url::{self, Url};
use crate::reload::Apply;

use super::control::{is_from_another_site, problem};
use super::{Reply, State, json};

/// Largest body: thousands of tags.
const MAX_BODY: usize = 256 * 1024;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    url: Option<String>,
    prefix: Option<String>,
    tag: Option<String>,
    tags: Option<Vec<String>>,
    host: Option<String>,
    all: bool,
    soft: bool,
    dry_run: bool,
}

/// What is to be purged, in the form of requests.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Url(Url),
    Prefix(Url),
    Tags(Vec<String>),
    Host(String),
    All,
}

/// `POST /api/purge`.
pub(super) async fn purge<A: Apply>(state: &State<A>, request: Request<Incoming>) -> Reply {
    if is_from_another_site(&request) {
        return refused(StatusCode::FORBIDDEN, "the request comes from another site");
    }
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err((status, detail)) => return refused(status, detail),
    };
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => {
            let detail = format!("the body is no JSON object of a purge: {error}");
            return refused(StatusCode::BAD_REQUEST, &detail);
        }
    };
    let (soft, dry_run) = (asked.soft, asked.dry_run);
    let snapshot = state.reloader.current();
    let rules = snapshot.config.paths;
    let named = match Named::read(asked, rules) {
        Ok(named) => named,
        Err(detail) => return refused(StatusCode::BAD_REQUEST, &detail),
    };
    let cache = &state.sweeper.cache;
    let forms: Vec<_> = match &named {
        Named::Url(url) => snapshot.stored_forms(&url.target).collect(),
        _ => Vec::new(),
    };
    let selectors = named.selectors(&forms);
    let selection = cache.select(&selectors);
    if dry_run {
        let count = state.sweeper.sweep(selection, None).await;
        let told = json!({ "would_purge": count, "dry_run": true, "soft": soft, "selector": named.told() });
        return json(StatusCode::OK, &told);
    }
    let strength = match soft {
        true => Strength::Soft,
        false => Strength::Hard,
    };
    let mut number = 0;
    for selector in &selectors {
        match cache.purge(selector, strength) {
            Ok(last) => number = last,
            Err(error) => {
                // A walk finds out which of them still mean something.
                drop(state.sweeper.sweep(Selection::default(), None));
                return refused(StatusCode::TOO_MANY_REQUESTS, &error.to_string());
            }
        }
    }
    let counted = match strength {
        Strength::Soft => PurgeStrength::Soft,
        Strength::Hard => PurgeStrength::Hard,
    };
    state.metrics.control().purged(named.kind(), counted);
    let count = state.sweeper.sweep(selection, Some(number)).await;
    let selector = named.told();
    tracing::info!(%selector, ?strength, answers = count, "the cache was purged");
    let told = json!({ "purged": count, "dry_run": false, "soft": soft, "selector": selector });
    json(StatusCode::OK, &told)
}

fn refused(status: StatusCode, detail: &str) -> Reply {
    json(status, &problem(status, detail))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, (StatusCode, &'static str)> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_broken| {
            let detail = "the body is malformed or incomplete";
            (StatusCode::BAD_REQUEST, detail)
        })?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > MAX_BODY {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read)
}

impl Named {
    fn read(asked: Asked, rules: PathRules) -> Result<Self, String> {
        let Asked {
            url,
            prefix,
            tag,
            tags,
            host,
            all,
            soft: _,
            dry_run: _,
        } = asked;
        let is_tagged = tag.is_some() || tags.is_some();
        let given = [
            url.is_some(),
            prefix.is_some(),
            is_tagged,
            host.is_some(),
            all,
        ];
        if given.iter().filter(|is_given| **is_given).count() != 1 {
            let detail = "name one of `url`, `prefix`, `tag` (or `tags`), `host` and `all`";
            return Err(detail.to_owned());
        }
        let read = |text: &str| {
            url::absolute(text, rules).map_err(|error| format!("`{text}` is no URL: {error}"))
        };
        if let Some(text) = url {
            return Ok(Self::Url(read(&text)?));
        }
        if let Some(text) = prefix {
            return Ok(Self::Prefix(read(&text)?));
        }
        if let Some(text) = host {
            let host = url::host(&text, "https");
            return host
                .map(Self::Host)
                .map_err(|error| format!("`{text}` is no host: {error}"));
        }
        if all {
            return Ok(Self::All);
        }
        let tags = tag.into_iter().chain(tags.into_iter().flatten());
        let tags: Vec<String> = tags.map(|tag| tag.trim().to_owned()).collect();
        if tags.is_empty() || tags.iter().any(String::is_empty) {
            return Err("a tag has a name".to_owned());
        }
        Ok(Self::Tags(tags))
    }

    /// `forms` are those under which a URL may be stored.
    fn selectors<'a>(&'a self, forms: &'a [Cow<'_, str>]) -> Vec<Selector<'a>> {
        match self {
            Self::Url(url) => forms
                .iter()
                .map(|target| Selector::Url {
                    scheme: url.scheme,
                    host: &url.host,
                    target,
                })
                .collect(),
            Self::Prefix(url) => vec![Selector::Prefix {
                scheme: url.scheme,
                host: &url.host,
                target: &url.target,
            }],
            Self::Tags(tags) => tags.iter().map(|tag| Selector::Tag(tag)).collect(),
            Self::Host(host) => vec![Selector::Host(host)],
            Self::All => vec![Selector::All],
        }
    }

    fn kind(&self) -> PurgeKind {
        match self {
            Self::Url(_) => PurgeKind::Url,
            Self::Prefix(_) => PurgeKind::Prefix,
            Self::Tags(_) => PurgeKind::Tag,
            Self::Host(_) => PurgeKind::Host,
            Self::All => PurgeKind::All,
        }
    }

    /// As the answer and the log have it.
    fn told(&self) -> Value {
        let whole = |url: &Url| format!("{}://{}{}", url.scheme, url.host, url.target);
        match self {
            Self::Url(url) => json!({ "url": whole(url) }),
            Self::Prefix(url) => json!({ "prefix": whole(url) }),
            Self::Tags(tags) => json!({ "tags": tags }),
            Self::Host(host) => json!({ "host": host }),
            Self::All => json!({ "all": true }),
        }
    }
}

/// Walks what is stored, once for all who wait.
#[derive(Debug)]
pub(super) struct Sweeper {
    cache: Arc<Cache>,
    waiting: RefCell<Vec<Waiting>>,
    is_walking: Cell<bool>,
}

#[derive(Debug)]
struct Waiting {
    asked: (Selection, Option<u64>),
    tell: oneshot::Sender<u64>,
}

impl Sweeper {
    pub(super) fn new(cache: &Arc<Cache>) -> Rc<Self> {
        Rc::new(Self {
            cache: Arc::clone(cache),
            waiting: RefCell::default(),
            is_walking: Cell::new(false),
        })
    }

    /// How many answers the purge of that number has reached, or would reach. The walk takes place even
    /// when nobody waits for what is returned; nothing when it failed.
    fn sweep(
        self: &Rc<Self>,
        selection: Selection,
        number: Option<u64>,
    ) -> impl Future<Output = Option<u64>> + use<> {
        let (tell, told) = oneshot::channel();
        self.waiting.borrow_mut().push(Waiting {
            asked: (selection, number),
            tell,
        });
        if !self.is_walking.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).walk());
        }
        async { told.await.ok() }
    }

    async fn walk(self: Rc<Self>) {
        loop {
            let (asked, tell): (Vec<_>, Vec<_>) = std::mem::take(&mut *self.waiting.borrow_mut())
                .into_iter()
                .map(|waiting| (waiting.asked, waiting.tell))
                .unzip();
            if asked.is_empty() {
                self.is_walking.set(false);
                return;
            }
            let cache = Arc::clone(&self.cache);
            let walk = tokio::task::spawn_blocking(move || cache.sweep(&asked));
            // A panic has been told already; those who wait are told that nothing was counted.
            let Ok(swept) = walk.await else {
                continue;
            };
            for (tell, count) in tell.into_iter().zip(swept.answers) {
                // Nobody may wait any more.
                tell.send(count).ok();
            }
        }
    }
}
