//! Who holds what: the nodes claim partitions in turns.
//!
//! The time of a node's turn is that of a race of exponential clocks, so that of two nodes one with
//! twice the weight gets twice as much. What a node that is full would have got is put down for it
//! as a spare: nobody takes over more readily once a holder is dead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::cluster::membership::NodeId;
use crate::cluster::ring::Bound;
use crate::cluster::ring::NodeIndex;
use crate::cluster::ring::WEIGHT_ONE;
use crate::cluster::ring::order::Order;
use crate::store::PARTITION_COUNT;
use crate::store::Partition;

/// Nobody.
const FREE: NodeIndex = NodeIndex::MAX;

/// Time, tie, node and turn of a claim, the earliest first.
type Claim = Reverse<(u64, u32, NodeIndex, u16)>;

/// The lists while they are being filled.
pub(super) struct Draft<'a> {
    nodes: &'a [(NodeId, u16)],
    bounds: &'a [Bound],
    copies: usize,
    length: usize,
    lists: Vec<NodeIndex>,
    /// Of each partition: the copies and the spares that its list has.
    filled: Vec<(usize, usize)>,
    /// Of each node: its copies, and at how many partitions it is at each rank.
    loads: Vec<u64>,
    ranks: Vec<u64>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(nodes: &'a [(NodeId, u16)], bounds: &'a [Bound], copies: usize, length: usize) -> Self {
        let partitions = usize::from(PARTITION_COUNT);
        Self {
            nodes,
            bounds,
            copies,
            length,
            lists: vec![FREE; length * partitions],
            filled: vec![(0, 0); partitions],
            loads: vec![0; nodes.len()],
            ranks: vec![0; nodes.len() * copies],
        }
    }

    /// The lists, `length` entries for each partition, the holders first.
    pub(super) fn run(mut self) -> Vec<NodeIndex> {
        let times = times();
        let time = |node: usize, turn: u16| {
            times[usize::from(turn)] * u64::from(WEIGHT_ONE) / u64::from(self.nodes[node].1.max(1))
        };
        let orders: Vec<Order> = self.nodes.iter().map(|(node, _)| Order::of(*node)).collect();
        let claim = |index: NodeIndex, turn: u16| {
            let node = usize::from(index);
            Reverse((time(node, turn), Order::tie(self.nodes[node].0, turn), index, turn))
        };
        let mut claims: BinaryHeap<Claim> =
            (0..).take(self.nodes.len()).map(|index| claim(index, 0)).collect();
        let mut open = self.filled.len();
        while open > 0
            && let Some(mut next) = claims.peek_mut()
        {
            let Reverse((.., index, turn)) = *next;
            match turn + 1 < PARTITION_COUNT {
                true => *next = claim(index, turn + 1),
                false => drop(PeekMut::pop(next)),
            }
            let partition = orders[usize::from(index)].partition(turn);
            if self.take(partition, index) {
                open -= 1;
            }
        }
        self.fill_up();
        self.lists
    }

    /// A node claims a partition; whether its list is complete with that.
    fn take(&mut self, partition: Partition, index: NodeIndex) -> bool {
        let node = usize::from(index);
        let (held, spares) = self.filled[partition.index()];
        let first = partition.index() * self.length;
        let is_small = self.length == self.nodes.len();
        if held < self.copies && self.loads[node] < self.bounds[node].copies {
            self.hold(partition, index);
        } else if spares < self.length - self.copies {
            self.lists[first + self.copies + spares] = index;
            self.filled[partition.index()].1 += 1;
        } else if held < self.copies && is_small {
            // Every node is on every list then, and whoever comes last holds: the bound yields.
            self.hold(partition, index);
        } else {
            return false;
        }
        self.filled[partition.index()] == (self.copies, self.length - self.copies)
    }

    /// Gives a node the best rank that is free and at which it has room, or the best that is free.
    fn hold(&mut self, partition: Partition, index: NodeIndex) {
        let node = usize::from(index);
        let first = partition.index() * self.length;
        let holders = &mut self.lists[first..first + self.copies];
        let ranks = &mut self.ranks[node * self.copies..(node + 1) * self.copies];
        let free = || (0..self.copies).filter(|rank| holders[*rank] == FREE);
        let has_room = |rank: &usize| ranks[*rank] < self.bounds[node].at_rank;
        let rank = free().find(has_room).or_else(|| free().next()).expect("fewer holders than copies");
        holders[rank] = index;
        ranks[rank] += 1;
        self.loads[node] += 1;
        self.filled[partition.index()].0 += 1;
    }

    /// All have claimed everything, and partitions lack copies, because all others were full: their first
    /// spares hold them.
    fn fill_up(&mut self) {
        let count = self.nodes.len();
        for partition in Partition::all() {
            let first = partition.index() * self.length;
            while self.filled[partition.index()].0 < self.copies {
                let spare = self.lists[first + self.copies];
                self.lists[first + self.copies..first + self.length].rotate_left(1);
                self.lists[first + self.length - 1] = FREE;
                self.hold(partition, spare);
                let list = &self.lists[first..first + self.length];
                let other = (partition.index()..partition.index() + count)
                    .filter_map(|number| NodeIndex::try_from(number % count).ok())
                    .find(|node| !list.contains(node));
                self.lists[first + self.length - 1] = other.expect("not all nodes are on the list");
            }
        }
    }
}

/// When a node of weight one has its turns: the claim of every further partition comes after a time in
/// inverse proportion to those that it has not claimed yet.
fn times() -> Vec<u64> {
    let after = |time: &mut u64, left: u64| {
        *time += (1 << 32) / left;
        Some(*time)
    };
    (1..=u64::from(PARTITION_COUNT)).rev().scan(0, after).collect()
}
