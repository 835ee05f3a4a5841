//! The config file as a tree in which every key and value knows its place.
//!
//! `saphyr-parser` gives the events and their spans; `raw` reads types out of the tree, `convert`
//! walks it in step to say where things stand. What could hurt the reader is refused here: files
//! that are too large or too deep, aliases that multiply, several documents, tags, duplicate keys.
//! Invariant: a mapping in the tree has no key twice, and the tree has at most `MAX_NODES` nodes with
//! aliases followed.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::errors::quotable;
use super::report::{Mark, Problem, Report, Span, probable_secrets};
use super::syntax::explain;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// From the first to the last character; a block ends where the next token stands.
    pub(crate) span: Span,
    pub(crate) kind: Kind,
    /// Nodes in it and itself, aliases followed.
    size: usize,
    /// Written on several lines by indentation, not in brackets or as a scalar.
    block: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar {
        text: String,
        /// Written without quotes, so that `5` is a number and nothing is null.
        plain: bool,
    },
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Rc<Node>,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Node {
    fn new(span: Span, kind: Kind, block: bool) -> Self {
        let inner: usize = match &kind {
            Kind::Scalar { .. } => 0,
            Kind::Sequence(items) => items.iter().map(|item| item.size).sum(),
            Kind::Mapping(entries) => entries.iter().map(|entry| entry.value.size + 1).sum(),
        };
        Self {
            span,
            kind,
            size: inner + 1,
            block,
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Mapping(entries) => entries,
            Kind::Scalar { .. } | Kind::Sequence(_) => &[],
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.text == key)
    }
}

/// A node and the key that leads to it: where conversion stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) node: &'a Node,
    key: Option<&'a Key>,
}

impl<'a> At<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, key: None }
    }

    pub(crate) fn entry(entry: &'a Entry) -> Self {
        Self {
            node: &entry.value,
            key: Some(&entry.key),
        }
    }

    /// The value of a key. Where there is none: this very node, which is the place to say so, and
    /// also where the value of a shorthand stands.
    pub(crate) fn field(self, key: &str) -> Self {
        let found = self.node.entry(key);
        found.map_or(self, Self::entry)
    }

    /// Whether the key was typed, readable or not.
    pub(crate) fn has(self, key: &str) -> bool {
        self.node.entry(key).is_some()
    }

    /// Whether an error was found in the value, or at the key that leads to it.
    pub(crate) fn holds_error(self, report: &Report) -> bool {
        report.touches(self.node.span) || self.key.is_some_and(|key| report.touches(key.span))
    }

    pub(crate) fn item(self, index: usize) -> Self {
        match &self.node.kind {
            Kind::Sequence(items) => items
                .get(index)
                .map_or(self, |node| Self { node, key: None }),
            Kind::Scalar { .. } | Kind::Mapping(_) => self,
        }
    }

    /// Where the key itself stands.
    pub(crate) fn key_span(self, key: &str) -> Span {
        self.node
            .entry(key)
            .map_or_else(|| self.span(), |entry| entry.key.span)
    }

    /// What to underline: the value; where that is a block of lines or has no width, the key that
    /// leads to it.
    pub(crate) fn span(self) -> Span {
        if !self.node.block && self.node.span.start != self.node.span.end {
            return self.node.span;
        }
        match (self.key, &self.node.kind) {
            (Some(key), _) => key.span,
            (None, Kind::Mapping(entries)) => entries
                .first()
                .map_or(self.node.span, |entry| entry.key.span),
            (None, Kind::Scalar { .. } | Kind::Sequence(_)) => self.node.span,
        }
    }
}

/// Larger files are somebody's mistake.
pub(crate) const MAX_BYTES: usize = 4 << 20;
const MAX_NODES: usize = 200_000;
const MAX_DEPTH: usize = 32;

/// Reads the one document of a file. Duplicate keys are reported and reading goes on.
///
/// # Errors
/// The first thing after which no more can be understood.
pub(crate) fn parse(text: &str, report: &Report) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::of_file(format!(
            "the file has {} bytes; a config has at most {MAX_BYTES}",
            text.len()
        )));
    }
    let parser = Parser::new_from_str(text);
    let mut reading = Reading {
        parser,
        text,
        report,
        anchors: HashMap::new(),
        nodes: 0,
    };
    match reading.document() {
        Ok(Some(root)) => Ok(root),
        Err(problem) => {
            // What is secret is learnt by reading, which is not reached: mask what looks like it.
            if let Some(Span { start, .. }) = problem.span() {
                let line = lines(text)
                    .nth(start.line.saturating_sub(1))
                    .unwrap_or_default();
                probable_secrets(start.line, line).for_each(|secret| report.secret(secret));
            }
            Err(problem)
        }
        Ok(None) => Err(Problem::of_file("the file holds no configuration")
            .hint("start with `listeners:`; config.example.yaml shows every key")),
    }
}

/// A value that was given a name, to be repeated by an alias.
enum Anchor {
    Open,
    Done(Rc<Node>),
}

struct Reading<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    report: &'a Report,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
}

impl<'a> Reading<'a> {
    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Problem::error(span, "a second document begins here")
                        .hint("a config is one document: remove the `---`"));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(Rc::unwrap_or_clone(self.node(event, span, 0)?)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((
                event,
                Span {
                    start: mark(span.start),
                    end: mark(span.end),
                },
            )),
            Some(Err(error)) => Err(self.syntax_error(&error)),
            None => Err(Problem::of_file("the file ends within a value")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node>, Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::error(
                span,
                format!("values are nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        if let Event::Scalar(_, _, _, Some(_))
        | Event::SequenceStart(_, Some(_))
        | Event::MappingStart(_, Some(_)) = &event
        {
            let hint = "remove it, or put a value that starts with `!` in quotes";
            return Err(Problem::error(span, "a tag (`!...`) has no meaning here").hint(hint));
        }
        let (anchor, node) = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    plain,
                };
                (anchor, Node::new(span, kind, false))
            }
            Event::SequenceStart(anchor, _) => {
                self.anchors.insert(anchor, Anchor::Open);
                (anchor, self.sequence(span.start, depth)?)
            }
            Event::MappingStart(anchor, _) => {
                self.anchors.insert(anchor, Anchor::Open);
                (anchor, self.mapping(span.start, depth)?)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(Problem::error(span, "expected a value")),
        };
        self.count(1, span)?;
        let node = Rc::new(node);
        // Zero is the parser's word for "no anchor".
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Done(Rc::clone(&node)));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Rc<Node>, Problem> {
        match self.anchors.get(&id) {
            Some(Anchor::Done(node)) => {
                let node = Rc::clone(node);
                self.count(node.size, span)?;
                Ok(node)
            }
            Some(Anchor::Open) | None => Err(Problem::error(
                span,
                "this alias stands inside the value that it repeats",
            )),
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let message = format!("the config holds more than {MAX_NODES} values, aliases followed");
        Err(Problem::error(span, message))
    }

    fn sequence(&mut self, start: Mark, depth: usize) -> Result<Node, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                let (end, block) = end_of(span);
                return Ok(Node::new(Span { start, end }, Kind::Sequence(items), block));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn mapping(&mut self, start: Mark, depth: usize) -> Result<Node, Problem> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                let (end, block) = end_of(span);
                return Ok(Node::new(
                    Span { start, end },
                    Kind::Mapping(entries),
                    block,
                ));
            }
            let key = self.node(event, span, depth + 1)?;
            let Kind::Scalar { text, .. } = &key.kind else {
                return Err(Problem::error(span, "a key must be a single word or text")
                    .hint("put a value that contains braces or brackets in quotes"));
            };
            let key = Key {
                text: text.clone(),
                span,
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            self.enter(&mut entries, Entry { key, value });
        }
    }

    /// Adds an entry. A key that is there already is reported, and its value joined to the first
    /// one, so that what refers to either finds it and what is wrong in either is reported.
    fn enter(&self, entries: &mut Vec<Entry>, entry: Entry) {
        let Some(first) = entries
            .iter_mut()
            .find(|old| old.key.text == entry.key.text)
        else {
            entries.push(entry);
            return;
        };
        // It is not read, so nobody else says that it may be a secret.
        if entry.key.text == "key" {
            self.report.secret(entry.value.span);
        }
        let message = format!("the key `{}` is given twice", quotable(&entry.key.text));
        self.report.push(
            Problem::error(entry.key.span, message)
                .and(first.key.span, "first given here")
                .hint("keep one of them, or join what they hold"),
        );
        let mut joined = (*first.value).clone();
        self.report.repeats(entry.value.span);
        let added = Rc::unwrap_or_clone(entry.value);
        match (&mut joined.kind, added.kind) {
            (Kind::Mapping(old), Kind::Mapping(new)) => {
                new.into_iter().for_each(|entry| self.enter(old, entry));
            }
            (Kind::Sequence(old), Kind::Sequence(new)) => old.extend(new),
            _ => return,
        }
        joined.size += added.size;
        first.value = Rc::new(joined);
    }

    fn syntax_error(&self, error: &ScanError) -> Problem {
        let at = mark(*error.marker());
        let mut lines = lines(self.text).skip(at.line.saturating_sub(1));
        let line = lines.next().unwrap_or_default();
        let (message, hint) = explain(error.info(), line, at.column);
        let end = Mark {
            column: at.column + 1,
            ..at
        };
        Problem::error(Span { start: at, end }, message).maybe_hint(hint)
    }
}

/// The lines of a text as YAML counts them: a carriage return alone ends one too (YAML 1.2 section
/// 5.4). A place in another line than the reader's would show, and hide, the wrong text.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((line, after)) = text.split_once(['\r', '\n']) else {
            rest = None;
            return (!text.is_empty()).then_some(text);
        };
        let is_cr = text.as_bytes().get(line.len()) == Some(&b'\r');
        let next = after.strip_prefix('\n').filter(|_| is_cr);
        rest = Some(next.unwrap_or(after));
        Some(line)
    })
}

/// Where a container ends, and whether it is a block. A bracket's span runs on over blanks and a
/// comment after it; a block's end has no width.
fn end_of(span: Span) -> (Mark, bool) {
    let block = span.start == span.end;
    let end = Mark {
        column: span.start.column + usize::from(!block),
        ..span.start
    };
    (end, block)
}

/// The parser counts columns from 0.
fn mark(marker: saphyr_parser::Marker) -> Mark {
    Mark {
        line: marker.line(),
        column: marker.col() + 1,
    }
}
