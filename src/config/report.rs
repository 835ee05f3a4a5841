//! Gathers problems while a config is read.
//!
//! `marks`, `raw` and `convert` push `Problem`s with the spans they saw; `finish` gives them their
//! source lines, sorts them by place and drops repeats. A report also knows what has been said
//! already, so that one mistake gives one message: a key that was misspelt is not missing as well,
//! and parts that hold an error are not compared with others.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::errors::{Diagnostic, Diagnostics, Place, Severity, printable};
use super::marks;
use super::places::Places;

/// A point between characters; both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// From a mark to the one after its last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) start: Mark,
    pub(crate) end: Mark,
}

impl Span {
    fn contains(self, mark: Mark) -> bool {
        // A block ends where the next thing begins; what has no width holds its one point.
        mark == self.start || (self.start < mark && mark < self.end)
    }
}

/// A diagnostic before it knows its source line.
#[derive(Debug)]
pub(crate) struct Problem {
    severity: Severity,
    span: Option<Span>,
    message: String,
    /// Boxed, since few have one and every reader hands problems on.
    second: Option<Box<(Span, &'static str)>>,
    hint: Option<String>,
}

impl Problem {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        let (severity, span) = (Severity::Error, Some(span));
        Self {
            severity,
            span,
            message: message.into(),
            second: None,
            hint: None,
        }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, message)
        }
    }

    /// An error of the file as a whole.
    pub(crate) fn of_file(message: impl Into<String>) -> Self {
        let severity = Severity::Error;
        Self {
            severity,
            span: None,
            message: message.into(),
            second: None,
            hint: None,
        }
    }

    pub(crate) fn span(&self) -> Option<Span> {
        self.span
    }

    /// Whether two values do not fit together that only stand together because their key was given
    /// twice, which has been said.
    fn is_of_joining(&self, repeated: &[Span]) -> bool {
        let (Some(one), Some(other)) = (self.span, &self.second) else {
            return false;
        };
        let other = other.0;
        repeated
            .iter()
            .any(|joined| joined.contains(one.start) != joined.contains(other.start))
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    pub(crate) fn and(self, span: Span, label: &'static str) -> Self {
        Self {
            second: Some(Box::new((span, label))),
            ..self
        }
    }
}

/// Errors after which reading stops: nobody reads more, and each costs memory.
const MAX_ERRORS: usize = 200;

/// The problems so far. Shared by reference through one reading, on one thread.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: RefCell<Vec<Problem>>,
    errors: Cell<usize>,
    misspelt: RefCell<HashSet<(Mark, String)>>,
    secrets: RefCell<Vec<Span>>,
    files: RefCell<Vec<(PathBuf, Span)>>,
    endpoints: RefCell<Vec<(String, Span)>>,
    /// Values of keys that were given before.
    repeated: RefCell<Vec<Span>>,
}

impl Report {
    pub(crate) fn push(&self, problem: Problem) {
        if problem.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
            if self.errors.get() > MAX_ERRORS {
                return;
            }
        }
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }

    /// Whether an error was found inside this span.
    pub(crate) fn touches(&self, span: Span) -> bool {
        self.problems.borrow().iter().any(|problem| {
            problem.severity == Severity::Error
                && problem.span.is_some_and(|at| span.contains(at.start))
        })
    }

    /// Remembers that in the mapping that starts here, an unknown key was probably `key`.
    pub(crate) fn misspelt(&self, mapping: Mark, key: &str) {
        self.misspelt.borrow_mut().insert((mapping, key.to_owned()));
    }

    pub(crate) fn is_misspelt(&self, mapping: Mark, key: &str) -> bool {
        self.misspelt.borrow().contains(&(mapping, key.to_owned()))
    }

    /// Remembers that what stands here must never be shown.
    pub(crate) fn secret(&self, span: Span) {
        self.secrets.borrow_mut().push(span);
    }

    pub(crate) fn is_secret(&self, span: Span) -> bool {
        self.secrets.borrow().contains(&span)
    }

    /// Remembers that a file is named here.
    pub(crate) fn names_file(&self, span: Span, path: PathBuf) {
        self.files.borrow_mut().push((path, span));
    }

    /// Remembers that an endpoint is named here.
    pub(crate) fn names_endpoint(&self, span: Span, address: &str) {
        self.endpoints.borrow_mut().push((address.to_owned(), span));
    }

    /// Remembers that the value here was joined to one that its key had before.
    pub(crate) fn repeats(&self, span: Span) {
        self.repeated.borrow_mut().push(span);
    }

    /// The places of files and endpoints with their source lines.
    pub(crate) fn places(&self, text: &str, file: &Path) -> Places {
        let masked = Source::new(text, &self.secrets.borrow());
        let files = self.files.borrow();
        let of = files
            .iter()
            .map(|(path, span)| (path.clone(), masked.place(*span)));
        let endpoints = self.endpoints.borrow();
        let endpoints = endpoints
            .iter()
            .map(|(address, span)| (address.clone(), masked.place(*span)));
        Places {
            file: shown(file),
            of: of.collect(),
            endpoints: endpoints.collect(),
        }
    }

    /// All problems with their source lines; warnings only when nothing is worse.
    pub(crate) fn finish(self, text: &str, file: &Path) -> Diagnostics {
        let masked = Source::new(text, &self.secrets.borrow());
        let file = shown(file);
        let has_errors = self.has_errors();
        let mut diagnostics: Vec<Diagnostic> = Vec::new();
        let repeated = self.repeated.into_inner();
        for problem in self.problems.into_inner() {
            if problem.is_of_joining(&repeated) {
                continue;
            }
            let Problem {
                severity,
                span,
                message,
                second,
                hint,
            } = problem;
            if has_errors && severity == Severity::Warning {
                continue;
            }
            let diagnostic = Diagnostic {
                severity,
                message,
                file: file.clone(),
                place: span.map(|span| masked.place(span)),
                second: second.map(|it| (masked.place(it.0), it.1.to_owned())),
                hint,
            };
            // An alias can lead to the same mistake twice.
            if !diagnostics.contains(&diagnostic) {
                diagnostics.push(diagnostic);
            }
        }
        diagnostics.sort_by_key(|d| d.place.as_ref().map(|place| (place.line, place.column)));
        if self.errors.get() > MAX_ERRORS {
            let more = self.errors.get() - MAX_ERRORS;
            diagnostics.push(Diagnostic {
                severity: Severity::Error,
                message: format!("{more} more errors are not shown"),
                file,
                place: None,
                second: None,
                hint: None,
            });
        }
        Diagnostics(diagnostics)
    }
}

/// The name of a file as it may be shown.
fn shown(file: &Path) -> String {
    file.to_string_lossy().chars().map(printable).collect()
}

/// The lines of a file as they may be shown.
struct Source {
    lines: Vec<String>,
}

impl Source {
    fn new(text: &str, secrets: &[Span]) -> Self {
        let mut lines: Vec<String> = marks::lines(text)
            .map(|line| line.chars().map(printable).collect())
            .collect();
        for secret in secrets {
            let first = secret.start.line.saturating_sub(1);
            let count = (secret.end.line + 1).saturating_sub(secret.start.line);
            for (line, number) in lines.iter_mut().skip(first).take(count).zip(first + 1..) {
                let from = if number == secret.start.line {
                    secret.start.column
                } else {
                    1
                };
                let to = if number == secret.end.line {
                    secret.end.column
                } else {
                    usize::MAX
                };
                *line = mask(line, from, to);
            }
        }
        Self { lines }
    }

    fn place(&self, span: Span) -> Place {
        let Span {
            start: Mark { line, column },
            end,
        } = span;
        let source = self
            .lines
            .get(line.saturating_sub(1))
            .cloned()
            .unwrap_or_default();
        // What spans lines is underlined to the end of its first.
        let last = if end.line == line {
            end.column
        } else {
            usize::MAX
        };
        let width = last.saturating_sub(column);
        let text: String = source
            .chars()
            .skip(column.saturating_sub(1))
            .take(width)
            .collect();
        // Inside brackets, the parser counts blanks after a quoted text to it.
        let quote = text
            .chars()
            .next()
            .filter(|first| matches!(first, '"' | '\''));
        let shown = match quote.and_then(|quote| text.rfind(quote)) {
            Some(closing) if closing > 0 => text.get(..=closing).unwrap_or(&text),
            _ => text.trim_end(),
        };
        Place {
            line,
            column,
            width: shown.chars().count().max(1),
            source,
        }
    }
}

/// The line with the characters of these columns starred out, blanks kept.
fn mask(line: &str, from: usize, to: usize) -> String {
    let star = |(column, c): (usize, char)| {
        if (from..to).contains(&column) && c != ' ' {
            '*'
        } else {
            c
        }
    };
    (1..).zip(line.chars()).map(star).collect()
}

/// What follows each `key:` of a line, where a secret may stand. For lines of a file that cannot be
/// parsed, so that nobody knows which keys these are.
pub(crate) fn probable_secrets(number: usize, line: &str) -> impl Iterator<Item = Span> {
    let end = Mark {
        line: number,
        column: line.chars().count() + 1,
    };
    line.match_indices("key").filter_map(move |(at, word)| {
        let (before, rest) = (line.get(..at)?, line.get(at + word.len()..)?);
        let value = rest
            .trim_start_matches(['"', '\'', ' '])
            .strip_prefix(':')?;
        let inside_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
        // A shard key is a mapping, and no secret.
        if inside_word || value.trim_start().starts_with(['{', '[']) {
            return None;
        }
        let column = line.get(..line.len() - value.len())?.chars().count() + 1;
        Some(Span {
            start: Mark {
                line: number,
                column,
            },
            end,
        })
    })
}
