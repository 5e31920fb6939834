//! The order in which a node claims partitions: a shuffle that its id decides.
//!
//! Blocks of neighbouring partitions are dealt into tiers, a tier is claimed after the other, and within
//! a tier all partitions are shuffled. Small clusters are mostly decided by the tiers, so neighbours
//! share owners and the slot map stays short; in large ones a node holds less than a tier, and would
//! hold uneven shares if it got whole blocks.

use crate::cluster::membership::NodeId;
use crate::store::PARTITION_COUNT;
use crate::store::Partition;

/// Neighbouring partitions that are in one tier.
const BLOCK_BITS: u32 = 4;
/// Tiers of a node's order.
const TIER_BITS: u32 = 2;

const PARTITION_BITS: u32 = PARTITION_COUNT.trailing_zeros();
const _: () = assert!(PARTITION_COUNT.is_power_of_two());

/// The claims of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    blocks: Shuffle,
    tiers: [Shuffle; 1 << TIER_BITS],
}

impl Order {
    pub(super) fn of(node: NodeId) -> Self {
        let mut keys = Keys(node.as_raw());
        let blocks = Shuffle::new(PARTITION_BITS - BLOCK_BITS, &mut keys);
        let tiers = std::array::from_fn(|_| Shuffle::new(PARTITION_BITS - TIER_BITS, &mut keys));
        Self { blocks, tiers }
    }

    /// The partition that is claimed in this turn, counted from 0.
    pub(super) fn partition(&self, turn: u16) -> Partition {
        let within_bits = PARTITION_BITS - TIER_BITS;
        let tier = turn >> within_bits;
        let within = self.tiers[usize::from(tier)].apply(turn & low(within_bits));
        let block = self.blocks.apply(tier << (within_bits - BLOCK_BITS) | within >> BLOCK_BITS);
        Partition::new(block << BLOCK_BITS | within & low(BLOCK_BITS)).expect("of so many bits")
    }

    /// Who is first of those that claim in the same turn: the smallest.
    pub(super) fn tie(node: NodeId, turn: u16) -> u32 {
        (mix(node.as_raw() ^ u64::from(turn) << 48) >> 32) as u32
    }
}

/// A bijection on numbers of so many bits: each step (times an odd number, plus a number, folded) is one.
#[derive(Clone, Copy, Debug)]
struct Shuffle {
    bits: u32,
    steps: [(u16, u16); 4],
}

impl Shuffle {
    fn new(bits: u32, keys: &mut Keys) -> Self {
        let step = |key: u64| ((key as u16) | 1, (key >> 32) as u16);
        Self { bits, steps: std::array::from_fn(|_| step(keys.next())) }
    }

    fn apply(&self, number: u16) -> u16 {
        self.steps.iter().fold(number, |number, (factor, addend)| {
            let number = number.wrapping_mul(*factor).wrapping_add(*addend) & low(self.bits);
            number ^ number >> self.bits.div_ceil(2)
        })
    }
}

/// A sequence of random keys from one number (SplitMix64).
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

const fn mix(mut number: u64) -> u64 {
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

const fn low(bits: u32) -> u16 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PartitionSet;

    #[test]
    fn a_node_claims_every_partition_once() {
        for name in ["a", "b", "c"] {
            let order = Order::of(NodeId::of_name(name));
            let claimed: PartitionSet = (0..PARTITION_COUNT).map(|turn| order.partition(turn)).collect();
            assert_eq!(claimed, PartitionSet::full(), "the claims of {name}");
        }
    }

    #[test]
    fn neighbours_are_in_one_tier() {
        let order = Order::of(NodeId::of_name("a"));
        let tier = |wanted: u16| {
            (0..PARTITION_COUNT)
                .filter(move |turn| turn >> (PARTITION_BITS - TIER_BITS) == wanted)
                .map(|turn| order.partition(turn).number() >> BLOCK_BITS)
        };
        for tier in (0..1 << TIER_BITS).map(tier) {
            let mut blocks: Vec<u16> = tier.collect();
            blocks.sort_unstable();
            blocks.dedup();
            assert_eq!(blocks.len(), 1 << (PARTITION_BITS - BLOCK_BITS - TIER_BITS));
        }
    }
}
