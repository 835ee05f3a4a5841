//! Median and quartiles: what is reported of repeated measurements.

/// Median and quartiles of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Spread {
    /// Of `sample`, interpolated between neighbours; none of an empty one.
    pub(crate) fn of(sample: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = sample.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            lower: quarter(&sorted, 1)?,
            median: quarter(&sorted, 2)?,
            upper: quarter(&sorted, 3)?,
        })
    }

    /// `median (lower-upper)` with this many digits after the point.
    pub(crate) fn show(&self, digits: usize) -> String {
        let Self {
            lower,
            median,
            upper,
        } = self;
        format!("{median:.digits$} ({lower:.digits$}-{upper:.digits$})")
    }
}

/// The value below which `quarters` fourths of the sample lie.
fn quarter(sorted: &[f64], quarters: usize) -> Option<f64> {
    let steps = (sorted.len().checked_sub(1)?) * quarters;
    let (below, rest) = (steps / 4, [0.0, 0.25, 0.5, 0.75][steps % 4]);
    let low = *sorted.get(below)?;
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    Some((high - low).mul_add(rest, low))
}
