//! "Did you mean": the nearest word, or the words to choose from.
//!
//! Used by `raw` for keys and by `convert` for names and choices. Invariant: what is suggested is one
//! of the candidates, which come from the program or are names of the same file.

/// The candidate that was probably meant.
pub(crate) fn closest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', ' ', '.'], "_");
    let typed = plain(typed);
    // The distance is quadratic, and nobody meant a key with a thousand letters.
    if typed.len() > 100 {
        return None;
    }
    let distance = |word: &str| strsim::damerau_levenshtein(&typed, &plain(word));
    let (best, steps) = candidates
        .into_iter()
        .map(|word| (word, distance(word)))
        .min_by_key(|(_, steps)| *steps)?;
    let allowed = (typed.chars().count().max(best.chars().count()) / 3).max(1);
    (steps <= allowed && steps < best.chars().count()).then_some(best)
}

/// "did you mean", or the list to choose from.
pub(crate) fn suggestion(typed: &str, candidates: &[&str], all: &str) -> Option<String> {
    if let Some(best) = closest(typed, candidates.iter().copied()) {
        return Some(format!("did you mean `{best}`?"));
    }
    (!candidates.is_empty()).then(|| format!("{all} {}", list(candidates)))
}

/// `a`, `b` and `c`; the first few of many.
pub(crate) fn list(words: &[&str]) -> String {
    const SHOWN: usize = 12;
    let quoted: Vec<String> = words
        .iter()
        .take(SHOWN)
        .map(|word| format!("`{word}`"))
        .collect();
    match quoted.as_slice() {
        _ if words.len() > SHOWN => {
            format!("{} and {} more", quoted.join(", "), words.len() - SHOWN)
        }
        [] => "none".to_owned(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
