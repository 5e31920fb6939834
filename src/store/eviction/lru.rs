//! `lru`: the value that has not been read or written for longest goes, exactly.

use crate::store::list::List;
use crate::store::record::NONE;
use crate::store::record::UNLISTED;
use crate::store::slab::Slab;

#[derive(Default)]
pub(in crate::store) struct Lru {
    pub(in crate::store) list: List,
}

impl Lru {
    /// Whether a value is in the list, where it is known by that number.
    pub(super) fn holds(&self, slab: &Slab, index: u32, known: u32) -> bool {
        let record = slab.record(index);
        let is_linked = record.newer() != NONE || record.older() != NONE;
        record.list() == UNLISTED && (is_linked || self.list.oldest() == Some(known))
    }

    pub(super) fn add(&mut self, slab: &mut Slab, index: u32) {
        self.list.push(slab, index);
    }

    #[inline]
    pub(super) fn renew(&mut self, slab: &mut Slab, index: u32) {
        self.list.renew(slab, index);
    }

    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) {
        self.list.unlink(slab, index);
    }

    pub(super) fn follow(&mut self, slab: &mut Slab, _from: u32, to: u32) {
        self.list.follow(slab, to);
    }

    pub(super) fn next_to_go(&mut self, _slab: &mut Slab) -> Option<u32> {
        self.list.oldest()
    }
}
