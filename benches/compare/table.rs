//! A table of text, aligned for a terminal or as Markdown. The first column is left-aligned.

use std::fmt::Write as _;

/// Rows under a header; every row has as many cells as the header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(
            cells.len(),
            self.header.len(),
            "a row as wide as the header"
        );
        self.rows.push(cells);
    }

    pub(crate) fn render(&self, markdown: bool) -> String {
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&self.header]);
                cells
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        let (edge, between) = if markdown { ("|", " | ") } else { ("", "  ") };
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            let cells: Vec<String> = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            let joined = cells.join(between);
            let line = if markdown {
                format!("{edge} {joined} {edge}")
            } else {
                joined
            };
            // Writing to a string cannot fail.
            writeln!(text, "{}", line.trim_end()).ok();
        };
        line(&self.header);
        if markdown {
            let rule: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(column, &width)| match column {
                    0 => "-".repeat(width),
                    _ => format!("{}:", "-".repeat(width.saturating_sub(1))),
                })
                .collect();
            line(&rule);
        }
        for row in &self.rows {
            line(row);
        }
        text
    }
}
