//! `ttl`: the value with the nearest deadline goes, exactly; values without one stay.

use std::collections::BTreeSet;

use crate::store::slab::Slab;
use crate::time::Timestamp;

/// What an element takes in a set whose nodes are two thirds full.
const ELEMENT_BYTES: usize = 26;

#[derive(Default)]
pub(in crate::store) struct Soonest {
    deadlines: BTreeSet<(Timestamp, u32)>,
}

impl Soonest {
    pub(super) fn memory_bytes(&self) -> usize {
        self.deadlines.len() * ELEMENT_BYTES
    }

    /// Whether a value is in the set, where it is known by that number.
    pub(super) fn holds(&self, slab: &Slab, index: u32, known: u32) -> bool {
        let expires_at = slab.record(index).expires_at();
        expires_at.is_some_and(|expires_at| self.deadlines.contains(&(expires_at, known)))
    }

    pub(super) fn add(&mut self, slab: &mut Slab, index: u32) {
        if let Some(expires_at) = slab.record(index).expires_at() {
            self.deadlines.insert((expires_at, index));
        }
    }

    #[inline]
    pub(super) fn renew(&mut self, _slab: &mut Slab, _index: u32) {}

    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) {
        if let Some(expires_at) = slab.record(index).expires_at() {
            self.deadlines.remove(&(expires_at, index));
        }
    }

    pub(super) fn follow(&mut self, slab: &mut Slab, from: u32, to: u32) {
        if let Some(expires_at) = slab.record(to).expires_at() {
            self.deadlines.remove(&(expires_at, from));
            self.deadlines.insert((expires_at, to));
        }
    }

    pub(super) fn next_to_go(&mut self, _slab: &mut Slab) -> Option<u32> {
        self.deadlines.first().map(|(_, index)| *index)
    }
}
