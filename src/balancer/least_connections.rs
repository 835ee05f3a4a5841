//! Fewest requests in flight for its weight.
//!
//! One pass over the members, reading one atomic each. Invariant: among equals each has the same
//! chance, whatever its place in the list, so that an idle upstream is not served by its first
//! endpoint alone.

use super::pick::Member;

/// The least loaded usable member.
pub(super) fn choose(members: &[Member], usable: impl Fn(&Member) -> bool) -> Option<usize> {
    let mut best: Option<(usize, Load)> = None;
    let mut equals: usize = 0;
    for (index, member) in members.iter().enumerate() {
        if !usable(member) {
            continue;
        }
        let load = Load {
            in_flight: member.endpoint.in_flight(),
            weight: member.weight,
        };
        let order = best
            .as_ref()
            .map_or(std::cmp::Ordering::Less, |(_, least)| load.compare(least));
        match order {
            std::cmp::Ordering::Less => {
                best = Some((index, load));
                equals = 1;
            }
            std::cmp::Ordering::Equal => {
                equals += 1;
                // The k-th of equals replaces the earlier ones with chance 1/k: an even draw in one pass.
                if fastrand::usize(..equals) == 0 {
                    best = Some((index, load));
                }
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    best.map(|(index, _)| index)
}

struct Load {
    in_flight: u32,
    weight: u16,
}

impl Load {
    /// Compares (in flight + 1) / weight by cross-multiplication: the load that the member would
    /// have with this request, so that of two idle members the heavier is preferred.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let ours = (u64::from(self.in_flight) + 1) * u64::from(other.weight);
        let theirs = (u64::from(other.in_flight) + 1) * u64::from(self.weight);
        ours.cmp(&theirs)
    }
}
