//! Asking the memory for what some keys will need before it is needed.
//!
//! To look a key up is to wait for the memory several times in a row: for its place in the table, for its
//! entry, for the neighbours of that one. The first waits of several keys can be one, and so can the second
//! and the third ones: whoever has several keys takes each of these steps for all of them before the next.

use prefetch_index::prefetch_index;

use crate::store::Partition;
use crate::store::Shard;
use crate::store::record::NONE;
use crate::store::table::KeyHash;

/// An entry that is most likely the one of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warmed(u32);

/// A line of the processor's cache.
const LINE_BYTES: usize = 64;
/// So much of a long entry is asked for; the processor goes on by itself when it is read.
const ENTRY_BYTES_MAX: usize = 4 * LINE_BYTES;
/// Where the links in a record are, between which a neighbour is found.
const LINKS: usize = 8;

impl Shard {
    /// The hash of a key. Another shard has another one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.tables.hash(key)
    }

    /// All steps for several keys, of which as many count as there are places. Returns their hashes.
    #[inline]
    pub fn warm<'k, const N: usize>(
        &self,
        keys: impl Iterator<Item = (Partition, &'k [u8])> + Clone,
    ) -> [KeyHash; N] {
        let mut hashes = [KeyHash::default(); N];
        for (hash, (partition, key)) in hashes.iter_mut().zip(keys.clone()) {
            *hash = self.hash(key);
            self.warm_table(partition, *hash);
        }
        let mut warmed = [None; N];
        for ((warmed, hash), (partition, _)) in warmed.iter_mut().zip(&hashes).zip(keys) {
            *warmed = self.warm_entry(partition, *hash);
        }
        warmed.iter().flatten().for_each(|warmed| self.warm_neighbours(*warmed));
        hashes
    }

    /// The first step.
    #[inline]
    pub(super) fn warm_table(&self, partition: Partition, hash: KeyHash) {
        if let Some(bytes) = self.tables.first_bytes(&self.slab, partition, hash) {
            prefetch_index(bytes, 0);
        }
    }

    /// The second step. Returns what the third one needs.
    #[inline]
    pub(super) fn warm_entry(&self, partition: Partition, hash: KeyHash) -> Option<Warmed> {
        let index = self.tables.guess(&self.slab, partition, hash)?;
        let bytes = self.slab.record(index).0;
        let bytes_max = match self.slab.slot_bytes(index) {
            0 => ENTRY_BYTES_MAX,
            slot_bytes => slot_bytes.min(ENTRY_BYTES_MAX),
        };
        // The last byte may be in one line more than the length says.
        let last = bytes_max - 1;
        (0..last).step_by(LINE_BYTES).for_each(|at| prefetch_index(bytes, at));
        prefetch_index(bytes, last);
        Some(Warmed(index))
    }

    /// The third step: the neighbours of the entry, between which it will not be when it has been used.
    #[inline]
    pub(super) fn warm_neighbours(&self, Warmed(index): Warmed) {
        let record = self.slab.record(index);
        for neighbour in [record.newer(), record.older()] {
            if neighbour != NONE {
                prefetch_index(self.slab.record(neighbour).0, LINKS);
            }
        }
    }
}
