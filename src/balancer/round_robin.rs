//! In turn, smoothly by weight.
//!
//! The order is laid out once, when the config is compiled (nginx's smooth weighted algorithm: a
//! member of weight 5 beside two of weight 1 gets a a b a c a a, not a a a a a b c); a turn is one
//! atomic increment, shared by all workers. Invariant: with all members usable, each is chosen
//! exactly in proportion to its weight over one length of the order.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Longest order that is laid out; weights are scaled down to fit.
const LONGEST: u64 = 4096;

#[derive(Debug)]
pub(super) struct RoundRobin {
    order: Box<[usize]>,
    turn: AtomicUsize,
}

impl RoundRobin {
    pub(super) fn new(weights: &[u16]) -> Self {
        let order = lay_out(&scaled(weights));
        // Not always the first member after a reload.
        let turn = AtomicUsize::new(fastrand::usize(..order.len().max(1)));
        Self { order, turn }
    }

    /// The next usable member in turn. An unusable one passes its turn to the next in the order.
    pub(super) fn choose(&self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let length = self.order.len();
        let first = self.turn.fetch_add(1, Relaxed);
        (0..length)
            .map(|step| self.order[first.wrapping_add(step) % length])
            .find(|i| usable(*i))
    }
}

/// The weights in their smallest proportion, at most `LONGEST` in sum.
fn scaled(weights: &[u16]) -> Vec<u64> {
    let common = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
    let mut scaled: Vec<u64> = weights.iter().map(|w| u64::from(*w) / common).collect();
    let total: u64 = scaled.iter().sum();
    if total > LONGEST {
        for weight in &mut scaled {
            *weight = (*weight * LONGEST / total).max(1);
        }
    }
    scaled
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lay_out(weights: &[u64]) -> Box<[usize]> {
    let total: u64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let signed = |weight: u64| i64::try_from(weight).unwrap_or(i64::MAX);
    (0..total)
        .filter_map(|_| {
            for (credit, weight) in credit.iter_mut().zip(weights) {
                *credit += signed(*weight);
            }
            // The first of the largest, so that the order does not depend on the iterator's habits.
            let (index, _) = credit
                .iter()
                .enumerate()
                .rev()
                .max_by_key(|(_, credit)| **credit)?;
            credit[index] -= signed(total);
            Some(index)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heavy_member_is_spread_between_the_others() {
        assert_eq!(*lay_out(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn huge_weights_are_scaled_and_nobody_is_left_out() {
        let order = lay_out(&scaled(&[65535, 65534, 1]));
        assert!(order.len() <= 4097);
        assert!(order.contains(&2));
    }

    #[test]
    fn an_unusable_member_passes_its_turn_on() {
        let turns = RoundRobin::new(&[1, 1, 1]);
        let chosen: Vec<_> = (0..6)
            .filter_map(|_| turns.choose(|index| index != 1))
            .collect();
        assert_eq!(chosen.len(), 6);
        assert!(!chosen.contains(&1));
        assert_eq!(turns.choose(|_| false), None);
    }
}
