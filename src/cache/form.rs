//! In what coding an answer is stored, and in which form a client is given it (RFC 9110 sections 8.4 and
//! 12.5.3).
//!
//! On a route that compresses too, `permit` asks the origin for one coding whatever clients take, and `vary`
//! does not tell requests apart by theirs. What is stored is either in the origin's coding or was compressed
//! on its way in; its head is that of the stored bytes, so that clients that take the coding get both as they
//! are. For the others `Head::decoded` makes the head of the plain answer, and the proxy decompresses the
//! body. Invariants: what the origin has said is kept, since it is asked by its own validators; the two
//! forms never share a strong one; `no-transform` of either side gets what the origin has sent, or goes
//! to ask it.

use std::borrow::Cow;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED,
};

use crate::config::model::{CacheRule, Coding};
use crate::encode::{self, MARKED, Maker, Verdict};
use crate::wire::fields;

use super::head::Head;

/// The coding in which an answer is stored, for clients that take it and for those that do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) coding: Coding,
    pub(super) by: Maker,
    /// The origin forbids that anything but its own bytes is sent.
    is_fixed: bool,
}

/// In which form a client is given an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the origin has sent it to such clients.
    AsSent,
    /// In the coding in which it is stored, which the client takes.
    Coded,
    /// Decompressed.
    Plain(Decoding),
}

/// How a stored body becomes plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// The coding in which it is stored.
    pub coding: Coding,
    /// Who has compressed it.
    pub by: Maker,
    /// Bytes that come out, where that is known.
    pub length: Option<u64>,
}

impl Coded {
    pub(super) fn new(coding: Coding, by: Maker, said: &HeaderMap) -> Self {
        Self {
            coding,
            by,
            is_fixed: encode::forbids(said),
        }
    }

    /// Of what the origin has said, on a route that compresses; `coding` is that in which its answer is
    /// compressed on the way in, if it is.
    pub(super) fn of(rule: &CacheRule, said: &HeaderMap, coding: Option<Coding>) -> Option<Self> {
        if let Some(coding) = coding {
            return Some(Self::new(coding, Maker::Headgate, said));
        }
        rule.coding?;
        let coding = encode::coding_of(said)?;
        Some(Self::new(coding, Maker::Origin, said))
    }

    /// The same under a head that the origin has changed.
    pub(super) fn under(self, said: &HeaderMap) -> Self {
        Self::new(self.coding, self.by, said)
    }

    /// The head of the stored bytes.
    pub(super) fn shown(self, said: &HeaderMap) -> HeaderMap {
        let mut shown = said.clone();
        let verdict = match self.by {
            Maker::Headgate => Verdict::Coded(self.coding),
            Maker::Origin => Verdict::Plain,
        };
        encode::mark(verdict, &mut shown);
        shown
    }
}

/// Whether what clients take says nothing of who may be given an answer. Of a coding that cannot be read, it
/// does.
pub(super) fn is_settled(rule: &CacheRule, said: &HeaderMap) -> bool {
    let is_known = || !said.contains_key(CONTENT_ENCODING) || encode::coding_of(said).is_some();
    rule.coding.is_some() && is_known()
}

/// What the origin has said and the stored head may not say, and what validation goes by.
pub(super) fn is_kept_as_said(name: &HeaderName) -> bool {
    MARKED.contains(name) || *name == LAST_MODIFIED
}

impl Head {
    /// In which form a request gets the answer; nothing when it is for the origin to say.
    pub(super) fn form(&self, request: &HeaderMap) -> Option<Form> {
        let Some(coded) = self.coded else {
            return Some(Form::AsSent);
        };
        let is_bound = || coded.is_fixed || encode::forbids(request);
        let takes = encode::takes(request, coded.coding);
        match coded.by {
            // To compress is to transform; to undo it gives what the origin has sent.
            Maker::Headgate if takes && !is_bound() => Some(Form::Coded),
            Maker::Origin if takes => Some(Form::Coded),
            Maker::Origin if is_bound() => None,
            Maker::Headgate | Maker::Origin => Some(Form::Plain(self.decoding(coded))),
        }
    }

    fn decoding(&self, coded: Coded) -> Decoding {
        let stated = || self.said.as_ref()?.get(CONTENT_LENGTH)?.to_str().ok();
        Decoding {
            coding: coded.coding,
            by: coded.by,
            length: match coded.by {
                Maker::Headgate => stated().and_then(|length| length.parse().ok()),
                Maker::Origin => None,
            },
        }
    }

    /// The head that goes with a form.
    pub(super) fn in_form(&self, form: Form) -> Cow<'_, Self> {
        match form {
            Form::AsSent | Form::Coded => Cow::Borrowed(self),
            Form::Plain(_) => Cow::Owned(self.decoded()),
        }
    }

    /// The head of the plain answer. Ranges are of the stored bytes, so it promises none.
    fn decoded(&self) -> Self {
        let mut headers = self.headers.clone();
        match self.coded.map(|coded| coded.by) {
            Some(Maker::Headgate) => {
                self.restore(&mut headers);
                headers.remove(ACCEPT_RANGES);
                fields::vary(&mut headers, &ACCEPT_ENCODING);
            }
            Some(Maker::Origin) => encode::mark(Verdict::Decoded, &mut headers),
            None => {}
        }
        Self {
            status: self.status,
            headers,
            for_us: Box::default(),
            inner: self.inner.clone(),
            coded: None,
            said: None,
        }
    }

    /// Puts back what the origin has said in the place of what the stored bytes made of it.
    pub(super) fn restore(&self, headers: &mut HeaderMap) {
        let Some(said) = &self.said else { return };
        for name in &MARKED {
            headers.remove(name);
        }
        for (name, value) in said.iter().filter(|(name, _)| MARKED.contains(name)) {
            headers.append(name.clone(), value.clone());
        }
    }

    /// The fields by which the origin is asked if the answer still holds.
    pub(super) fn validators(&self) -> &HeaderMap {
        self.said.as_deref().unwrap_or(&self.headers)
    }

    /// States the length of the stored body, and that which the origin's had before it was compressed.
    pub(super) fn set_lengths(&mut self, stored: u64, plain: Option<u64>) {
        self.set_length(stored);
        let said = match self.coded.map(|coded| coded.by) {
            Some(Maker::Headgate) => plain,
            Some(Maker::Origin) => Some(stored),
            None => None,
        };
        if let (Some(said), Some(length)) = (&mut self.said, said) {
            said.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
}
