//! One scrape of `/metrics`, read and proven to be the Prometheus text format.

use std::collections::{BTreeMap, HashMap};

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) families: HashMap<String, String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Reads a scrape.
    ///
    /// Panics where it is not in the format: each family has one `HELP` and one `TYPE` before its
    /// samples, each sample belongs to one, and no series stands twice.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line does not end");
        let mut families: HashMap<String, String> = HashMap::new();
        let mut helped = None;
        let mut samples: Vec<(String, BTreeMap<String, String>, f64)> = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("a help text");
                assert!(!words.is_empty(), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(helped.as_deref(), Some(name), "TYPE follows HELP: {line}");
                let before = families.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "{name} stands twice");
            } else {
                let (name, labels, value) = sample(line);
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| {
                        name.strip_suffix(end)
                            .filter(|name| families.contains_key(*name))
                    })
                    .unwrap_or(&name);
                assert!(families.contains_key(family), "no TYPE for {line}");
                let twice = samples.iter().any(|(n, l, _)| *n == name && *l == labels);
                assert!(!twice, "twice: {line}");
                samples.push((name, labels, value));
            }
        }
        Self { families, samples }
    }

    /// The sum of all series of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |known: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(name, value)| known.get(*name).is_some_and(|known| known == value))
        };
        let matching = self
            .samples
            .iter()
            .filter(|(known, have, _)| known == name && has(have));
        matching.map(|(_, _, value)| value).sum()
    }

    /// The same, written `name{label=value,...}`.
    pub(crate) fn total(&self, series: &str) -> f64 {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let labels: Vec<_> = labels.filter_map(|label| label.split_once('=')).collect();
        self.sum(name, &labels)
    }

    /// Whether there is a series of this name with these labels.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.samples.iter().any(|(known, have, _)| {
            known == name
                && labels
                    .iter()
                    .all(|(n, v)| have.get(*n).is_some_and(|known| known == v))
        })
    }
}

/// `name{label="value",...} number`.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line
        .rsplit_once(' ')
        .unwrap_or_else(|| panic!("not a sample: {line}"));
    let value = match value {
        "+Inf" => f64::INFINITY,
        number => number
            .parse()
            .unwrap_or_else(|error| panic!("{line}: {error}")),
    };
    let Some((name, rest)) = series.split_once('{') else {
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let mut rest = rest
        .strip_suffix('}')
        .unwrap_or_else(|| panic!("no brace: {line}"));
    let mut labels = BTreeMap::new();
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters
                .next()
                .unwrap_or_else(|| panic!("an open quote: {line}"))
            {
                (at, '"') => break at,
                (_, '\\') => text.push(characters.next().map_or('\\', |(_, escaped)| escaped)),
                (_, character) => text.push(character),
            }
        };
        let before = labels.insert(label.to_owned(), text);
        assert!(before.is_none(), "a label twice: {line}");
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    assert!(rest.is_empty(), "{line}");
    (name.to_owned(), labels, value)
}
