//! What is wrong with a config, and how it is shown.
//!
//! `report` gathers problems while `marks`, `raw` and `convert` read, and turns them into these;
//! `cli`, `reload` and `admin` print or serialise them. Invariant: no text in here holds a secret or
//! a control character, since it goes to logs, terminals and the admin API.
//!
//! ```text
//! error: no upstream is named `product`
//!   --> headgate.yaml:12:15
//!    |
//! 12 |     upstream: product
//!    |               ^^^^^^^
//!    = hint: did you mean `products`?
//! ```

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;

/// One thing that is wrong, or odd, in a config file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the config can be used all the same.
    pub severity: Severity,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// The config file, as it was named.
    pub file: String,
    /// Where; none when it concerns the file as a whole.
    pub place: Option<Place>,
    /// A second place in the same file that belongs to it, with its label.
    pub second: Option<(Place, String)>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The config is refused.
    Error,
    /// The config is used; someone should look.
    Warning,
}

/// A stretch of one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In characters, at least 1.
    pub width: usize,
    /// The line itself, secrets masked, a tab as one space.
    pub source: String,
}

/// Every problem of one file, sorted by place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

/// Why a config could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read the config file {}", Shown(&path.to_string_lossy()))]
    Read {
        /// The config file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read, and is wrong.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", Shown(&self.message))?;
        let mut excerpts: Vec<Excerpt<'_>> = Vec::new();
        if let Some(place) = &self.place {
            excerpts.push(Excerpt {
                place,
                underline: "^",
                label: "",
            });
        }
        if let Some((place, label)) = &self.second {
            excerpts.push(Excerpt {
                place,
                underline: "-",
                label,
            });
        }
        let file = Shown(&self.file);
        let gutter = excerpts
            .iter()
            .map(|e| e.place.line.to_string().len())
            .max()
            .unwrap_or(1);
        match &self.place {
            Some(Place { line, column, .. }) => {
                write!(
                    f,
                    "\n{:gutter$}--> {file}:{line}:{column}\n{:gutter$} |",
                    "", ""
                )?;
            }
            None => write!(f, "\n{:gutter$}--> {file}", "")?,
        }
        // Both places stand in the order of the file; the colour of an underline tells them apart
        // on paper too.
        excerpts.sort_by_key(|excerpt| excerpt.place.line);
        let mut shown: Option<usize> = None;
        for excerpt in excerpts {
            excerpt.render(f, gutter, shown)?;
            shown = Some(excerpt.place.line);
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{:gutter$} = hint: {}", "", Shown(hint))?;
        }
        Ok(())
    }
}

/// A place with the way it is underlined.
struct Excerpt<'a> {
    place: &'a Place,
    underline: &'a str,
    label: &'a str,
}

/// Characters of a line that are shown at most; around the place when the line is longer.
const SHOWN_WIDTH: usize = 120;
const SHOWN_BEFORE: usize = 60;

impl Excerpt<'_> {
    fn render(
        &self,
        f: &mut fmt::Formatter<'_>,
        gutter: usize,
        shown: Option<usize>,
    ) -> fmt::Result {
        let Place {
            line,
            column,
            width,
            source,
        } = self.place;
        let length = source.chars().count();
        let offset = column.saturating_sub(1);
        let start = if length > SHOWN_WIDTH {
            offset.saturating_sub(SHOWN_BEFORE)
        } else {
            0
        };
        if shown.is_some_and(|before| line.saturating_sub(before) > 1) {
            f.write_str("\n...")?;
        }
        if shown != Some(*line) {
            let text: String = source
                .chars()
                .skip(start)
                .take(SHOWN_WIDTH)
                .map(printable)
                .collect();
            write!(f, "\n{line:>gutter$} |")?;
            if !text.trim().is_empty() {
                write!(f, " {}", text.trim_end())?;
            }
        }
        let indent = offset.saturating_sub(start);
        let width = (*width).min(SHOWN_WIDTH.saturating_sub(indent)).max(1);
        write!(
            f,
            "\n{:gutter$} | {:indent$}{}",
            "",
            "",
            self.underline.repeat(width)
        )?;
        if !self.label.is_empty() {
            write!(f, " {}", Shown(self.label))?;
        }
        Ok(())
    }
}

const QUOTED_WIDTH: usize = 60;

/// A piece of what was typed, fit for a message: one line, no control characters, not too long.
pub(crate) fn quotable(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_WIDTH).map(printable).collect();
    if text.chars().nth(QUOTED_WIDTH).is_some() {
        shown.push_str("...");
    }
    shown
}

/// A text as a terminal may get it: what a config holds may stand in messages and hints, wherever
/// they come from.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .map(|c| if c == '\n' { c } else { printable(c) })
            .try_for_each(|c| f.write_char(c))
    }
}

/// The character itself, or a stand-in for one that could move the cursor or hide text.
pub(crate) fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        // Bidirectional controls can make a line read as something else.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize, column: usize, width: usize, source: &str) -> Place {
        Place {
            line,
            column,
            width,
            source: source.to_owned(),
        }
    }

    fn diagnostic(place: Option<Place>, second: Option<(Place, String)>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            message: "it is wrong".to_owned(),
            file: "gate.yaml".to_owned(),
            place,
            second,
            hint: Some("mend it".to_owned()),
        }
    }

    #[test]
    fn a_place_is_underlined_and_followed_by_the_hint() {
        let shown = diagnostic(Some(place(12, 3, 4, "a: here")), None).to_string();
        assert_eq!(
            shown,
            "error: it is wrong\n  --> gate.yaml:12:3\n   |\n12 | a: here\n   |   ^^^^\n   = hint: mend it"
        );
    }

    #[test]
    fn two_places_stand_in_the_order_of_the_file() {
        let second = Some((place(9, 1, 2, "ab: 1"), "first given here".to_owned()));
        let shown = diagnostic(Some(place(12, 1, 2, "ab: 2")), second).to_string();
        assert_eq!(
            shown,
            "error: it is wrong\n  --> gate.yaml:12:1\n   |\n 9 | ab: 1\n   | -- first given here\n...\n12 | ab: 2\n   | ^^\n   = hint: mend it"
        );
    }

    #[test]
    fn a_problem_of_the_whole_file_shows_no_line() {
        assert_eq!(
            diagnostic(None, None).to_string(),
            "error: it is wrong\n --> gate.yaml\n  = hint: mend it"
        );
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let source = format!("{}HERE{}", "x".repeat(1000), "y".repeat(1000));
        let shown = diagnostic(Some(place(1, 1001, 4, &source)), None).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3].len(), "1 | ".len() + SHOWN_WIDTH);
        assert_eq!(lines[3].find("HERE"), lines[4].find("^^^^"));
    }

    #[test]
    fn nothing_that_is_shown_can_move_the_cursor() {
        let evil = Diagnostic {
            severity: Severity::Error,
            message: "no `\x1b[2J`".to_owned(),
            file: "ga\x07te.yaml".to_owned(),
            place: Some(place(2, 5, 4, "\x1b\ta: here")),
            second: Some((place(1, 1, 1, "\u{9b}31m"), "\x1b[1m".to_owned())),
            hint: Some("did you mean `\x1b]0;`?\nor not".to_owned()),
        };
        assert_eq!(
            evil.to_string(),
            "error: no `\u{fffd}[2J`\n --> ga\u{fffd}te.yaml:2:5\n  |\n1 | \u{fffd}31m\n  | - \u{fffd}[1m\n2 | \u{fffd} a: here\n  |     ^^^^\n  = hint: did you mean `\u{fffd}]0;`?\nor not"
        );
        let unread = LoadError::Read {
            path: PathBuf::from("\x1b[2J.yaml"),
            source: std::io::ErrorKind::NotFound.into(),
        };
        assert_eq!(
            unread.to_string(),
            "cannot read the config file \u{fffd}[2J.yaml"
        );
    }

    #[test]
    fn what_is_quoted_cannot_move_the_cursor() {
        assert_eq!(quotable("a\x1b[2Jb\tc"), "a\u{fffd}[2Jb c");
        assert_eq!(quotable(&"x".repeat(100)).len(), QUOTED_WIDTH + 3);
    }
}
