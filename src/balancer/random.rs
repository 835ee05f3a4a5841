//! By chance, in proportion to weight.

use super::pick::Member;

/// A usable member, drawn by weight in one pass.
pub(super) fn choose(members: &[Member], usable: impl Fn(&Member) -> bool) -> Option<usize> {
    let mut chosen = None;
    let mut total: u64 = 0;
    for (index, member) in members.iter().enumerate() {
        if usable(member) {
            total += u64::from(member.weight);
            // Each replaces the earlier ones with the chance weight / total so far.
            if fastrand::u64(..total) < u64::from(member.weight) {
                chosen = Some(index);
            }
        }
    }
    chosen
}
