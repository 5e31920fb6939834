//! The ring: which nodes a partition prefers, in which order.
//!
//! Consistent hashing (Karger et al., 1997) with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
//! 2018), applied to every rank of the preference lists: no node is first (second, …) for more than
//! 5 % above its fair share of partitions. A pure function of the nodes and their weights, so every
//! node that knows the same nodes computes the same lists.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::membership::NodeId;
use crate::store::PARTITION_COUNT;
use crate::store::Partition;
use crate::store::SLOT_COUNT;

/// Tokens of a node of weight [`WEIGHT_ONE`].
pub const TOKENS_PER_WEIGHT: u32 = 64;
/// The weight of an ordinary node, so that a smaller one can be expressed.
pub const WEIGHT_ONE: u16 = 100;
/// Ranks for which loads are bounded; beyond them a list goes on clockwise, unbounded.
pub const RANKS_BOUNDED_MAX: usize = 8;

/// How far over its fair share a node may be at one rank, in percent.
const LOAD_PERCENT_MAX: u64 = 105;

/// A node's place on the ring: its index in the sorted list of all that are on it.
pub type NodeIndex = u16;

/// The preference lists of all partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    nodes: Vec<NodeId>,
    /// Sorted clockwise.
    tokens: Vec<Token>,
    /// Ranks kept for every partition: as many as nodes, at most [`RANKS_BOUNDED_MAX`].
    ranks: usize,
    /// `ranks` entries per partition.
    lists: Vec<NodeIndex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Token {
    slot: u16,
    hash: u64,
    node: NodeIndex,
}

impl Ring {
    /// The ring of these nodes and weights (in hundredths of an ordinary node), in any order.
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, u16)>) -> Self {
        let mut weighted: Vec<(NodeId, u16)> = nodes.into_iter().collect();
        weighted.sort_unstable();
        weighted.dedup_by_key(|(node, _)| *node);
        let mut ring = Self {
            nodes: weighted.iter().map(|(node, _)| *node).collect(),
            tokens: tokens(&weighted),
            ranks: weighted.len().min(RANKS_BOUNDED_MAX),
            lists: Vec::new(),
        };
        ring.fill_lists(&weighted);
        ring
    }

    /// All nodes on the ring, sorted.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The index of a node in [`Ring::nodes`].
    pub fn index_of(&self, node: NodeId) -> Option<NodeIndex> {
        self.nodes.binary_search(&node).ok().and_then(|index| NodeIndex::try_from(index).ok())
    }

    /// The nodes that a partition prefers, best first; every node of the ring once.
    pub fn preference(&self, partition: Partition) -> impl Iterator<Item = NodeIndex> + '_ {
        let first = partition.index() * self.ranks;
        let bounded = &self.lists[first..first + self.ranks];
        let rest = (self.ranks < self.nodes.len()).then(|| self.clockwise(partition)).into_iter().flatten();
        bounded.iter().copied().chain(rest.filter(|node| !bounded.contains(node)))
    }

    /// Where a node stands in a partition's preference list; behind everybody if it is not on the ring.
    pub fn position(&self, partition: Partition, node: NodeId) -> usize {
        let index = self.index_of(node);
        self.preference(partition).position(|other| Some(other) == index).unwrap_or(usize::MAX)
    }

    /// All nodes clockwise from a partition, each once.
    fn clockwise(&self, partition: Partition) -> impl Iterator<Item = NodeIndex> + '_ {
        let mut seen = vec![false; self.nodes.len()];
        self.tokens_from(partition)
            .filter(move |node| !std::mem::replace(&mut seen[usize::from(*node)], true))
    }

    fn tokens_from(&self, partition: Partition) -> impl Iterator<Item = NodeIndex> + '_ {
        let start = self.tokens.partition_point(|token| token.slot < partition.first_slot());
        self.tokens[start..].iter().chain(&self.tokens[..start]).map(|token| token.node)
    }

    /// Rank by rank, so that the bound of a rank does not depend on the ranks after it.
    fn fill_lists(&mut self, weighted: &[(NodeId, u16)]) {
        self.lists = vec![NodeIndex::MAX; self.ranks * usize::from(PARTITION_COUNT)];
        let bounds = load_bounds(weighted);
        for rank in 0..self.ranks {
            let mut room = bounds.clone();
            for partition in Partition::all() {
                let node = self
                    .find_free(partition, rank, |node| room[usize::from(node)] > 0)
                    .or_else(|| self.exchange(partition, rank, &mut room))
                    // The last rank of a small ring has no choice left: the bound yields.
                    .or_else(|| self.find_free(partition, rank, |_| true))
                    .expect("a rank below the number of nodes leaves one free");
                room[usize::from(node)] = room[usize::from(node)].saturating_sub(1);
                self.lists[partition.index() * self.ranks + rank] = node;
            }
        }
    }

    /// The first node clockwise that is not in the partition's list and is allowed.
    fn find_free(
        &self,
        partition: Partition,
        rank: usize,
        allowed: impl Fn(NodeIndex) -> bool,
    ) -> Option<NodeIndex> {
        let taken = self.taken(partition, rank);
        self.tokens_from(partition).find(|node| !taken.contains(node) && allowed(*node))
    }

    /// The nodes of a partition before a rank.
    fn taken(&self, partition: Partition, rank: usize) -> &[NodeIndex] {
        let first = partition.index() * self.ranks;
        &self.lists[first..first + rank]
    }

    /// Makes room where every node with room stands in the list already: an earlier partition, the
    /// nearest first, gives up its node for one that has room.
    fn exchange(&mut self, partition: Partition, rank: usize, room: &mut [u64]) -> Option<NodeIndex> {
        if rank + 1 == self.nodes.len() {
            return None;
        }
        let with_room: Vec<NodeIndex> =
            (0..).take(room.len()).filter(|node| room[usize::from(*node)] > 0).collect();
        let taken = self.taken(partition, rank);
        let (giver, node) = Partition::all().take(partition.index()).rev().find_map(|giver| {
            let given = self.lists[giver.index() * self.ranks + rank];
            let replacement = with_room.iter().find(|node| !self.taken(giver, rank).contains(node))?;
            (!taken.contains(&given)).then_some((giver, *replacement))
        })?;
        let given = std::mem::replace(&mut self.lists[giver.index() * self.ranks + rank], node);
        room[usize::from(node)] -= 1;
        room[usize::from(given)] += 1;
        Some(given)
    }
}

fn tokens(weighted: &[(NodeId, u16)]) -> Vec<Token> {
    let mut tokens: Vec<Token> = weighted
        .iter()
        .zip(0..)
        .flat_map(|((node, weight), index)| {
            let count = (u32::from(*weight) * TOKENS_PER_WEIGHT / u32::from(WEIGHT_ONE)).max(1);
            (0..count).map(move |number| {
                let hash = xxh3_64_with_seed(&number.to_le_bytes(), node.as_raw());
                // The upper bits: uniform, and independent of those that break ties.
                let slot = u16::try_from((hash >> 48) % u64::from(SLOT_COUNT)).expect("below the slot count");
                Token { slot, hash, node: index }
            })
        })
        .collect();
    tokens.sort_unstable();
    tokens
}

fn load_bounds(weighted: &[(NodeId, u16)]) -> Vec<u64> {
    let total: u64 = weighted.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let bound = |weight: u16| {
        (u64::from(PARTITION_COUNT) * u64::from(weight) * LOAD_PERCENT_MAX).div_ceil(100 * total.max(1))
    };
    weighted.iter().map(|(_, weight)| bound(*weight)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(names: std::ops::Range<u32>) -> Ring {
        Ring::new(names.map(|n| (NodeId::of_name(&format!("node-{n}")), WEIGHT_ONE)))
    }

    fn loads(ring: &Ring, rank: usize) -> Vec<usize> {
        let mut loads = vec![0; ring.nodes().len()];
        for partition in Partition::all() {
            if let Some(node) = ring.preference(partition).nth(rank) {
                loads[usize::from(node)] += 1;
            }
        }
        loads
    }

    #[test]
    fn every_partition_prefers_every_node_once() {
        for count in [1, 2, 3, 8, 12] {
            let ring = ring(0..count);
            for partition in Partition::all() {
                let mut list: Vec<NodeIndex> = ring.preference(partition).collect();
                assert_eq!(list.len(), count as usize);
                list.sort_unstable();
                list.dedup();
                assert_eq!(list.len(), count as usize, "a node twice in the list of {partition}");
            }
        }
    }

    #[test]
    fn no_node_is_over_its_share_at_the_ranks_that_hold_copies() {
        for count in [2, 3, 5, 10, 100] {
            let ring = ring(0..count);
            let bound = (4_096.0 * 1.05 / f64::from(count)).ceil() as usize;
            for rank in 0..2.min(count as usize - 1) {
                let peak = loads(&ring, rank).into_iter().max().unwrap();
                assert!(peak <= bound, "{count} nodes, rank {rank}: {peak} over {bound}");
            }
        }
    }

    #[test]
    fn a_node_of_half_the_weight_gets_half_the_share() {
        let nodes = [("a", 100), ("b", 100), ("c", 50)].map(|(name, weight)| (NodeId::of_name(name), weight));
        let ring = Ring::new(nodes);
        let light = ring.index_of(NodeId::of_name("c")).unwrap();
        let share = loads(&ring, 0)[usize::from(light)];
        assert!((700..=861).contains(&share), "{share} of 4096 partitions");
    }

    #[test]
    fn the_order_in_which_nodes_are_named_does_not_matter() {
        let nodes = ["a", "b", "c", "d"].map(|name| (NodeId::of_name(name), WEIGHT_ONE));
        assert_eq!(Ring::new(nodes), Ring::new(nodes.into_iter().rev()));
    }

    #[test]
    fn a_node_that_joins_takes_its_share_and_little_else_moves() {
        let before = ring(0..10);
        let after = ring(0..11);
        let first =
            |ring: &Ring, partition| ring.nodes()[usize::from(ring.preference(partition).next().unwrap())];
        let moved = Partition::all().filter(|p| first(&before, *p) != first(&after, *p)).count();
        let ideal = 4_096 / 11;
        assert!(moved <= ideal * 3 / 2, "{moved} moved, ideal {ideal}");
    }
}
