//! An order of entries, threaded through their records. An entry is in one list at most.

use crate::store::record;
use crate::store::record::NONE;
use crate::store::slab::Slab;

/// The ends of a list.
pub(super) struct List {
    newest: u32,
    oldest: u32,
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    pub(super) const fn new() -> Self {
        Self { newest: NONE, oldest: NONE }
    }

    /// The entry that was added before all others.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Adds an entry that is in no list.
    pub(super) fn push(&mut self, slab: &mut Slab, index: u32) {
        let bytes = slab.bytes_mut(index);
        record::set_newer(bytes, NONE);
        record::set_older(bytes, self.newest);
        match self.newest {
            NONE => self.oldest = index,
            newest => record::set_newer(slab.bytes_mut(newest), index),
        }
        self.newest = index;
    }

    /// Takes out an entry of this list.
    pub(super) fn unlink(&mut self, slab: &mut Slab, index: u32) {
        let record = slab.record(index);
        let (newer, older) = (record.newer(), record.older());
        self.join(slab, older, newer);
    }

    /// Makes neighbours of two entries, or ends of this list.
    fn join(&mut self, slab: &mut Slab, older: u32, newer: u32) {
        match newer {
            NONE => self.newest = older,
            newer => record::set_older(slab.bytes_mut(newer), older),
        }
        match older {
            NONE => self.oldest = newer,
            older => record::set_newer(slab.bytes_mut(older), newer),
        }
    }

    /// Makes an entry of this list the newest.
    pub(super) fn renew(&mut self, slab: &mut Slab, index: u32) {
        if self.newest != index {
            self.unlink(slab, index);
            self.push(slab, index);
        }
    }

    /// Tells the neighbours of an entry of this list where it lies now.
    pub(super) fn follow(&mut self, slab: &mut Slab, index: u32) {
        let record = slab.record(index);
        let (newer, older) = (record.newer(), record.older());
        self.join(slab, older, index);
        self.join(slab, index, newer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Item;
    use crate::store::ItemContent;
    use crate::store::Partition;
    use crate::time::Version;

    // What the tests of a shard look at.
    impl List {
        pub(in crate::store) fn oldest_first(&self, slab: &Slab) -> Vec<u32> {
            let at = |index: u32| (index != NONE).then_some(index);
            let order: Vec<u32> =
                std::iter::successors(at(self.oldest), |index| at(slab.record(*index).newer())).collect();
            let back: Vec<u32> =
                std::iter::successors(at(self.newest), |index| at(slab.record(*index).older())).collect();
            assert!(order.iter().eq(back.iter().rev()), "both directions agree");
            order
        }
    }

    #[test]
    fn a_list_keeps_its_order_through_renewals_removals_and_moves() {
        let (mut slab, mut list) = (Slab::new(0), List::new());
        let mut add = |key: u8| {
            let partition = Partition::new(7).unwrap();
            let version = Version::from_raw(1);
            let item = Item { partition, key: &[key], version, content: ItemContent::Deleted };
            let index = slab.insert(item, 21).unwrap_or_else(|| slab.insert_in_new_memory(item, 21));
            list.push(&mut slab, index);
            index
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(&mut add);
        list.renew(&mut slab, a);
        list.renew(&mut slab, a);
        list.unlink(&mut slab, c);
        assert_eq!(list.oldest_first(&slab), [b, d, a]);
        for index in [b, d, a] {
            let copy = slab.bytes_mut(index)[..21].to_vec();
            slab.bytes_mut(c)[..21].copy_from_slice(&copy);
            list.follow(&mut slab, c);
            assert_eq!(list.oldest_first(&slab), [b, d, a].map(|at| if at == index { c } else { at }));
            list.follow(&mut slab, index);
        }
    }
}
