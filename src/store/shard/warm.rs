//! Reading what some keys will need before it is needed.
//!
//! To look a key up is to wait for the memory several times in a row: for its place in the table, for its
//! entry, for the neighbours of that one. The first waits of several keys can be one, and so can the second
//! and the third ones: whoever has several keys takes each of these steps for all of them before the next.

use std::hint::black_box;

use crate::store::Partition;
use crate::store::Shard;
use crate::store::record::NONE;
use crate::store::table::KeyHash;

/// An entry that is most likely the one of a key.
#[derive(Clone, Copy, Debug)]
pub struct Warmed(u32);

/// How far a line of the processor's cache reaches.
const LINE_BYTES: usize = 64;

impl Shard {
    /// The hash of a key. Another shard has another one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.tables.hash(key)
    }

    /// The first step.
    #[inline]
    pub fn warm_table(&self, partition: Partition, hash: KeyHash) {
        // Nobody needs it: it must not be left out for that.
        black_box(self.tables.first_byte(&self.slab, partition, hash));
    }

    /// The second step. Returns what the third one needs.
    #[inline]
    pub fn warm_entry(&self, partition: Partition, hash: KeyHash) -> Option<Warmed> {
        let index = self.tables.guess(&self.slab, partition, hash)?;
        let bytes = self.slab.record(index).0;
        black_box((bytes.first(), bytes.get(LINE_BYTES)));
        Some(Warmed(index))
    }

    /// The third step: the neighbours of the entry, between which it will not be when it has been used.
    #[inline]
    pub fn warm_neighbours(&self, Warmed(index): Warmed) {
        let record = self.slab.record(index);
        for neighbour in [record.newer(), record.older()] {
            if neighbour != NONE {
                black_box(self.slab.record(neighbour).newer());
            }
        }
    }
}
