//! Who of the holders is first, second, …: evenly, and without moving a copy.
//!
//! If a node is at one rank more often than its bound allows, or so seldom that it would be at the later
//! ones, it changes places with another holder; where that one has no room either, it changes on with
//! a third, and so on, along the shortest way (a bipartite matching by augmenting paths).

use std::collections::VecDeque;

use crate::cluster::ring::Bound;
use crate::cluster::ring::NodeIndex;
use crate::store::PARTITION_COUNT;

/// The holders while they are put in order.
pub(super) struct Ranks<'a> {
    lists: &'a mut [NodeIndex],
    length: usize,
    copies: usize,
    bounds: &'a [Bound],
    /// The partitions that a node holds.
    held: Vec<Vec<usize>>,
}

/// Whether a node has to give a rank away or to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Less,
    More,
}

/// Of each node that was reached the one before, and a partition that both hold.
type Way = Vec<Option<(usize, usize)>>;

/// At how many partitions a node is at the rank in question, and should be.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    at_rank: u64,
    later: u64,
    least: u64,
    most: u64,
}

impl<'a> Ranks<'a> {
    pub(super) fn new(lists: &'a mut [NodeIndex], length: usize, bounds: &'a [Bound], copies: usize) -> Self {
        let mut held: Vec<Vec<usize>> = vec![Vec::new(); bounds.len()];
        if !bounds.is_empty() {
            for partition in 0..usize::from(PARTITION_COUNT) {
                for node in &lists[partition * length..][..copies] {
                    held[usize::from(*node)].push(partition);
                }
            }
        }
        Self { lists, length, copies, bounds, held }
    }

    /// Rank by rank; the last is what the others leave.
    pub(super) fn even_out(&mut self) {
        for rank in 0..self.copies.saturating_sub(1) {
            let mut counts = self.counts(rank);
            for node in 0..self.bounds.len() {
                while counts[node].at_rank > counts[node].most
                    && self.change(node, rank, Want::Less, &mut counts)
                {}
                while counts[node].at_rank < counts[node].least
                    && self.change(node, rank, Want::More, &mut counts)
                {}
            }
        }
    }

    fn counts(&self, rank: usize) -> Vec<Count> {
        let mut counts = vec![Count::default(); self.bounds.len()];
        for list in self.lists.chunks(self.length.max(1)) {
            for (place, node) in list[..self.copies].iter().enumerate().skip(rank) {
                let count = &mut counts[usize::from(*node)];
                match place == rank {
                    true => count.at_rank += 1,
                    false => count.later += 1,
                }
            }
        }
        let ranks_after = (self.copies - rank - 1) as u64;
        for (count, bound) in counts.iter_mut().zip(self.bounds) {
            count.most = bound.at_rank;
            let too_many = (count.at_rank + count.later).saturating_sub(ranks_after * bound.at_rank);
            count.least = too_many.min(bound.at_rank);
        }
        counts
    }

    /// Changes one place of `from`, and those along the way to a node that has one to give or to take.
    fn change(&mut self, from: usize, rank: usize, want: Want, counts: &mut [Count]) -> bool {
        let Some((end, way)) = self.way(from, rank, want, counts) else { return false };
        let mut node = end;
        while node != from {
            let (before, partition) = way[node].expect("the way leads back");
            let list = &mut self.lists[partition * self.length..][..self.copies];
            let later = if want == Want::Less { node } else { before };
            let place = list.iter().position(|other| usize::from(*other) == later).expect("it holds it");
            list.swap(rank, place);
            node = before;
        }
        let (loser, winner) = if want == Want::Less { (from, end) } else { (end, from) };
        counts[loser].at_rank -= 1;
        counts[winner].at_rank += 1;
        true
    }

    /// The nearest node that can change, and the way to it.
    fn way(&self, from: usize, rank: usize, want: Want, counts: &[Count]) -> Option<(usize, Way)> {
        let mut way: Way = vec![None; counts.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for partition in &self.held[node] {
                let list = &self.lists[*partition * self.length..][..self.copies];
                let is_first = usize::from(list[rank]) == node;
                let others = match want {
                    Want::Less if is_first => &list[rank + 1..],
                    Want::More if list[rank + 1..].iter().any(|other| usize::from(*other) == node) => {
                        &list[rank..=rank]
                    }
                    Want::Less | Want::More => &[],
                };
                for other in others.iter().map(|other| usize::from(*other)) {
                    if other == from || way[other].is_some() {
                        continue;
                    }
                    way[other] = Some((node, *partition));
                    let count = &counts[other];
                    let can_change = match want {
                        Want::Less => count.at_rank < count.most,
                        Want::More => count.at_rank > count.least,
                    };
                    if can_change {
                        return Some((other, way));
                    }
                    queue.push_back(other);
                }
            }
        }
        None
    }
}
