//! How much a node may hold.
//!
//! In integers, since every node has to come to the same numbers.

use crate::cluster::membership::NodeId;
use crate::store::PARTITION_COUNT;

/// Shares are counted in parts of a copy.
const WHOLE: u64 = 1 << 10;
/// How far over its fair share a node may be, in percent.
const OVER_PERCENT: u64 = 8;
/// The same for small shares, which chance spreads more: two partitions at a rank, and some of the share.
const OVER_LEAST: u64 = 2 * WHOLE;
const OVER_PARTS: (u64, u64) = (3, 80);
/// Of smaller shares only the copies are bounded: of these few, a whole number at every rank moves too much.
const EVEN_FROM: u64 = 40 * WHOLE;

/// The most that a node may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Copies, at whatever rank.
    pub(super) copies: u64,
    /// Copies at one rank.
    pub(super) at_rank: u64,
}

/// The bounds of all nodes.
pub(super) fn bounds(weighted: &[(NodeId, u16)], copies: usize) -> Vec<Bound> {
    let partitions = u64::from(PARTITION_COUNT);
    let ranks = copies as u64;
    let total: u64 = weighted.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let fair = fair_shares(weighted, ranks);
    let bound = |((node, weight), fair): (&(NodeId, u16), u64)| {
        let at_rank = bounded(partitions * WHOLE * u64::from(*weight) / total.max(1)) / WHOLE;
        // Where a heavy node has a copy of everything, the others hold more than their weight says.
        let share = bounded(fair / ranks);
        // Rounded up or down by the node's id, so that not all bounds change with the same join.
        let copies = (share * ranks + node.as_raw() % WHOLE).saturating_sub(WHOLE) / WHOLE;
        let (copies, at_rank) = match fair / ranks < EVEN_FROM {
            true => (copies, at_rank.max(copies.div_ceil(ranks))),
            false => (copies.min(share / WHOLE * ranks), at_rank),
        };
        Bound { copies: copies.clamp(1, partitions), at_rank: at_rank.clamp(1, partitions) }
    };
    weighted.iter().zip(fair).map(bound).collect()
}

fn bounded(share: u64) -> u64 {
    let (part, of) = OVER_PARTS;
    share + (share * OVER_PERCENT / 100).max(OVER_LEAST + share * part / of)
}

/// Copies by weight, of a partition at most one: what is too much for a heavy node falls to the others.
fn fair_shares(weighted: &[(NodeId, u16)], copies: u64) -> Vec<u64> {
    let most = u64::from(PARTITION_COUNT) * WHOLE;
    let mut shares: Vec<Option<u64>> = vec![None; weighted.len()];
    loop {
        let open = || weighted.iter().zip(&shares).filter(|(_, share)| share.is_none());
        let weight: u64 = open().map(|((_, weight), _)| u64::from(*weight)).sum();
        let left = most * copies - shares.iter().flatten().sum::<u64>();
        let share = |of: u16| left * u64::from(of) / weight.max(1);
        let has_too_much = open().any(|((_, weight), _)| share(*weight) > most);
        let settled: Vec<Option<u64>> = weighted
            .iter()
            .zip(&shares)
            .map(|((_, weight), known)| match known {
                None if !has_too_much => Some(share(*weight)),
                None if share(*weight) > most => Some(most),
                known => *known,
            })
            .collect();
        shares = settled;
        if !has_too_much {
            return shares.into_iter().flatten().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weights: &[u16], copies: usize) -> Vec<u64> {
        let weighted = |(number, weight): (usize, &u16)| (NodeId::from_raw(number as u64), *weight);
        let weighted: Vec<(NodeId, u16)> = weights.iter().enumerate().map(weighted).collect();
        fair_shares(&weighted, copies as u64).into_iter().map(|share| share / WHOLE).collect()
    }

    #[test]
    fn shares_follow_the_weights_as_far_as_a_node_can_hold_them() {
        let all = u64::from(PARTITION_COUNT);
        assert_eq!(of(&[100, 100], 1), [all / 2, all / 2]);
        assert_eq!(of(&[100, 100], 2), [all, all]);
        assert_eq!(of(&[1_000, 100, 100], 2), [all, all / 2, all / 2], "one copy of each is all it can have");
        assert_eq!(of(&[1_000, 900, 100, 100], 3), [all, all, all / 2, all / 2]);
    }

    #[test]
    fn bounds_leave_room_for_all_copies() {
        for count in 1..=200 {
            let weighted: Vec<(NodeId, u16)> =
                (0..count).map(|number| (NodeId::of_name(&format!("n{number}")), 100)).collect();
            for copies in 1..=5.min(count) {
                let room: u64 = bounds(&weighted, copies).iter().map(|bound| bound.copies).sum();
                assert!(
                    room >= u64::from(PARTITION_COUNT) * copies as u64,
                    "{copies} copies on {count} nodes"
                );
            }
        }
    }
}
