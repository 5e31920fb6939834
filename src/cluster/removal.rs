//! Removals: nodes that are no members any more, and must not become members again.
//!
//! A node that leaves for good is removed up to its last life; started again it joins as a newcomer.
//! One that is forgotten is removed with all lives to come. Every node keeps all removals that it has
//! heard of, tells them to whoever it links to, and passes on what is news to it. Merging is the same
//! in any order, and memory is bounded: beyond [`REMOVALS_MAX`] the oldest are dropped, and whoever
//! they were about may join again, as any newcomer.

use std::collections::BTreeMap;

use bincode::Decode;
use bincode::Encode;

use crate::cluster::membership::Generation;
use crate::cluster::membership::NodeId;
use crate::time::Timestamp;

/// Removals that a node keeps.
pub const REMOVALS_MAX: usize = 256;

/// A node that is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Removal {
    /// The node.
    pub node: NodeId,
    /// The last of its lives that is removed.
    pub until: Generation,
    /// When that was decided.
    pub at: Timestamp,
}

impl Removal {
    /// A node never comes back.
    pub const fn for_ever(node: NodeId, at: Timestamp) -> Self {
        Self { node, until: Generation::from_raw(u64::MAX), at }
    }
}

/// All removals that a node knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removals {
    by_node: BTreeMap<NodeId, (Generation, Timestamp)>,
}

impl Removals {
    /// Adds a removal. Whether that was news.
    pub fn add(&mut self, removal: Removal) -> bool {
        let stated = (removal.until, removal.at);
        let known = self.by_node.entry(removal.node).or_insert((Generation::from_raw(0), removal.at));
        let is_news = stated > *known;
        *known = stated.max(*known);
        if self.by_node.len() > REMOVALS_MAX {
            let oldest = self.by_node.iter().min_by_key(|(node, (_, at))| (*at, **node));
            let oldest = oldest.map(|(node, _)| *node).expect("there are more than the limit");
            self.by_node.remove(&oldest);
        }
        is_news && self.by_node.contains_key(&removal.node)
    }

    /// Whether a node is removed in this life.
    pub fn bars(&self, node: NodeId, generation: Generation) -> bool {
        self.by_node.get(&node).is_some_and(|(until, _)| generation <= *until)
    }

    /// The removal of a node that never comes back.
    pub fn for_ever(&self, node: NodeId) -> Option<Removal> {
        let (until, at) = *self.by_node.get(&node)?;
        (until == Removal::for_ever(node, at).until).then_some(Removal { node, until, at })
    }

    /// All of them.
    pub fn all(&self) -> Vec<Removal> {
        self.by_node
            .iter()
            .map(|(node, (until, at))| Removal { node: *node, until: *until, at: *at })
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal(node: u64, until: u64, at: u64) -> Removal {
        Removal {
            node: NodeId::from_raw(node),
            until: Generation::from_raw(until),
            at: Timestamp::from_millis(at),
        }
    }

    #[test]
    fn a_node_that_left_may_come_back_in_a_later_life_and_one_that_is_forgotten_never() {
        let mut removals = Removals::default();
        assert!(removals.add(removal(1, 5, 0)));
        assert!(removals.add(Removal::for_ever(NodeId::from_raw(2), Timestamp::from_millis(0))));
        let bars = |node, generation| removals.bars(NodeId::from_raw(node), Generation::from_raw(generation));
        assert!(bars(1, 5) && !bars(1, 6));
        assert!(bars(2, u64::MAX));
        assert!(!bars(3, 1));
        let for_ever = |node| removals.for_ever(NodeId::from_raw(node)).map(|removal| removal.node);
        assert_eq!([1, 2, 3].map(for_ever), [None, Some(NodeId::from_raw(2)), None]);
    }

    #[test]
    fn the_same_removals_in_any_order_give_the_same_and_only_the_first_time_they_are_news() {
        let all = [removal(1, 5, 3), removal(1, 7, 2), removal(2, 1, 1)];
        let (mut forwards, mut backwards) = (Removals::default(), Removals::default());
        all.iter().for_each(|removal| assert!(forwards.add(*removal)));
        assert_eq!(all.iter().rev().filter(|removal| backwards.add(**removal)).count(), 2);
        assert_eq!(forwards, backwards);
        assert!(!all.iter().any(|removal| forwards.add(*removal)));
    }

    #[test]
    fn beyond_the_limit_the_oldest_go_in_whatever_order_they_come() {
        let count = REMOVALS_MAX as u64 + 10;
        let (mut forwards, mut backwards) = (Removals::default(), Removals::default());
        assert!((0..count).all(|n| forwards.add(removal(n, 1, n))));
        (0..count).rev().for_each(|n| assert_eq!(backwards.add(removal(n, 1, n)), n >= 10));
        assert_eq!(forwards, backwards);
        assert_eq!(forwards.len(), REMOVALS_MAX);
        assert!(!forwards.bars(NodeId::from_raw(9), Generation::from_raw(1)));
        assert!(!forwards.add(removal(9, 1, 9)), "what is dropped at once is no news");
    }
}
