//! `none`: nothing goes, so there is nothing to keep in order.

use crate::store::slab::Slab;

pub(in crate::store) struct Never;

impl Never {
    pub(super) fn add(&mut self, _slab: &mut Slab, _index: u32) {}

    #[inline]
    pub(super) fn renew(&mut self, _slab: &mut Slab, _index: u32) {}

    pub(super) fn remove(&mut self, _slab: &mut Slab, _index: u32) {}

    pub(super) fn follow(&mut self, _slab: &mut Slab, _from: u32, _to: u32) {}

    pub(super) fn next_to_go(&mut self, _slab: &mut Slab) -> Option<u32> {
        None
    }
}
