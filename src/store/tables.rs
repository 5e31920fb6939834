//! Which slot of the slab a key is in: one hash table per partition.
//!
//! A table holds slot numbers only; keys are compared and hashed where they lie in the slab. Hashes are
//! seeded: who does not know the seed cannot choose keys that collide.
//!
//! **Remains.** However many entries a partition has, it is flushed or dropped at once: its table is put
//! aside, and the entries are cleared away by and by. Where some entries are newer than the flush, those
//! that are not stay in the table, hidden by the flush mark, until a search over the table has found
//! them. Nobody who looks for a key, scans or counts sees remains, but for the hidden ones in the counts.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::store::PARTITION_COUNT;
use crate::store::Partition;
use crate::store::arena::Arena;
use crate::store::slab::Slab;
use crate::store::slab::record_in;
use crate::store::table::KeyHash;
use crate::store::table::POSITION_BITS;
use crate::store::table::Table;
use crate::time::Version;

/// What the tables of all partitions take while they are empty.
pub(super) const EMPTY_BYTES: usize = PARTITION_COUNT as usize * size_of::<Part>();

/// The tables of a shard, by partition.
pub(super) struct Tables {
    parts: Box<[Part]>,
    hash_seed: u64,
    /// Outside of the arena.
    allocated_bytes: usize,
    aside: VecDeque<Aside>,
    hidden: VecDeque<Hidden>,
}

/// A partition.
#[derive(Default)]
struct Part {
    table: Table,
    value_count: u32,
    deadline_count: u32,
    flushed_at: Version,
    /// No entry is newer.
    newest: Version,
}

/// A table whose entries are all to be cleared away.
struct Aside {
    partition: Partition,
    table: Table,
    next_bucket: usize,
    allocated_bytes: usize,
}

/// A partition some of whose entries are to be cleared away, from a position on.
struct Hidden {
    partition: Partition,
    position: u32,
}

/// Counts of entries that are gone at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) values: usize,
    pub(super) tombstones: usize,
}

impl Tables {
    pub(super) fn new(hash_seed: u64) -> Self {
        let parts = (0..PARTITION_COUNT).map(|_| Part::default()).collect();
        Self { parts, hash_seed, allocated_bytes: 0, aside: VecDeque::new(), hidden: VecDeque::new() }
    }

    /// The bytes taken by all tables, but for what lies in the arena.
    pub(super) fn memory_bytes(&self) -> usize {
        EMPTY_BYTES + self.allocated_bytes
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(xxh3_64_with_seed(key, self.hash_seed))
    }

    fn hash_in(&self) -> impl Fn(&Arena, u32) -> KeyHash + use<> {
        let hash_seed = self.hash_seed;
        move |arena, index| KeyHash(xxh3_64_with_seed(record_in(arena, index).key(), hash_seed))
    }

    /// The slot of a key, also if a flush has hidden what is there.
    #[inline]
    pub(super) fn find(&self, slab: &Slab, partition: Partition, key: &[u8], hash: KeyHash) -> Option<u32> {
        let is_it = |index| slab.record(index).is_of(partition, key);
        self.parts[partition.index()].table.find(slab.arena(), hash, is_it)
    }

    /// Where a key begins to be looked for, if anywhere.
    #[inline]
    pub(super) fn first_bytes<'a>(
        &self,
        slab: &'a Slab,
        partition: Partition,
        hash: KeyHash,
    ) -> Option<&'a [u8]> {
        self.parts[partition.index()].table.first_bytes(slab.arena(), hash)
    }

    /// The slot of a key with that hash, most likely.
    #[inline]
    pub(super) fn guess(&self, slab: &Slab, partition: Partition, hash: KeyHash) -> Option<u32> {
        self.parts[partition.index()].table.find(slab.arena(), hash, |_| true)
    }

    /// Takes the memory that another entry needs; false: there is none.
    pub(super) fn reserve(&mut self, slab: &mut Slab, partition: Partition, hash: KeyHash) -> bool {
        let hash_of = self.hash_in();
        let table = &mut self.parts[partition.index()].table;
        let bytes_before = table.allocated_bytes();
        let is_there = table.reserve(slab.arena_mut(), hash, hash_of);
        self.allocated_bytes += table.allocated_bytes() - bytes_before;
        is_there
    }

    /// Adds the entry in a slot, whose key is not there yet, into memory that was reserved.
    pub(super) fn insert(&mut self, slab: &mut Slab, partition: Partition, hash: KeyHash, index: u32) {
        self.parts[partition.index()].table.insert(slab.arena_mut(), hash, index);
    }

    /// Takes out the entry in a slot, which is still there; whether it was more than remains.
    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) -> bool {
        let record = slab.record(index);
        let (partition, hash) = (record.partition(), self.hash(record.key()));
        let hash_of = self.hash_in();
        let table = &mut self.parts[partition.index()].table;
        if table.remove(slab.arena_mut(), hash, index) {
            let bytes_before = table.allocated_bytes();
            table.shrink(slab.arena_mut(), hash, hash_of);
            self.allocated_bytes -= bytes_before - table.allocated_bytes();
            return true;
        }
        let mut aside = self.aside.iter_mut().filter(|aside| aside.partition == partition);
        let was_aside = aside.any(|aside| aside.table.remove(slab.arena_mut(), hash, index));
        debug_assert!(was_aside, "every slot in use is in a table of its partition");
        false
    }

    /// Names an entry that has moved by its new slot.
    pub(super) fn rename(&mut self, slab: &mut Slab, from: u32, to: u32) {
        let record = slab.record(to);
        let (partition, hash) = (record.partition(), self.hash(record.key()));
        if !self.replace(slab, partition, hash, from, to) {
            let mut aside = self.aside.iter_mut().filter(|aside| aside.partition == partition);
            let was_aside = aside.any(|aside| aside.table.rename(slab.arena_mut(), hash, from, to));
            debug_assert!(was_aside, "every slot in use is in a table of its partition");
        }
    }

    /// Puts an entry in the place of another one of the same key; whether that was there.
    pub(super) fn replace(
        &mut self,
        slab: &mut Slab,
        partition: Partition,
        hash: KeyHash,
        from: u32,
        to: u32,
    ) -> bool {
        self.parts[partition.index()].table.rename(slab.arena_mut(), hash, from, to)
    }

    /// Up to which version a partition was flushed.
    #[inline]
    pub(super) fn flushed_at(&self, partition: Partition) -> Version {
        self.parts[partition.index()].flushed_at
    }

    /// Takes note that an entry of a partition has that version.
    pub(super) fn observe(&mut self, partition: Partition, version: Version) {
        let part = &mut self.parts[partition.index()];
        part.newest = part.newest.max(version);
    }

    /// Flushes a partition. Returns what is gone at once.
    pub(super) fn flush(&mut self, partition: Partition, version: Version) -> Gone {
        let part = &mut self.parts[partition.index()];
        part.flushed_at = version;
        if part.newest <= version {
            return self.put_aside(partition);
        }
        if part.table.len() > 0 {
            self.hidden.retain(|hidden| hidden.partition != partition);
            self.hidden.push_back(Hidden { partition, position: 0 });
        }
        Gone::default()
    }

    /// Drops a partition as if it had never been. Returns what is gone.
    pub(super) fn drop_partition(&mut self, partition: Partition) -> Gone {
        self.parts[partition.index()].flushed_at = Version::ZERO;
        self.put_aside(partition)
    }

    fn put_aside(&mut self, partition: Partition) -> Gone {
        self.hidden.retain(|hidden| hidden.partition != partition);
        let part = &mut self.parts[partition.index()];
        part.newest = Version::ZERO;
        part.deadline_count = 0;
        let values = std::mem::take(&mut part.value_count) as usize;
        let table = std::mem::take(&mut part.table);
        let tombstones = table.len() - values;
        if table.len() > 0 {
            let allocated_bytes = table.allocated_bytes();
            self.aside.push_back(Aside { partition, table, next_bucket: 0, allocated_bytes });
        }
        Gone { values, tombstones }
    }

    /// Whether there are remains.
    pub(super) fn has_remains(&self) -> bool {
        !self.aside.is_empty() || !self.hidden.is_empty()
    }

    /// Some remains, few at a time; all of them are in no table any more, or [`Tables::is_hidden`]. Maybe
    /// none although there are more.
    pub(super) fn some_remains(&mut self, slab: &mut Slab) -> Remains {
        if let Some(aside) = self.aside.front_mut() {
            if let Some(indexes) = aside.table.drain_some(slab.arena_mut(), &mut aside.next_bucket) {
                return Remains::Aside(indexes);
            }
            self.allocated_bytes -= aside.allocated_bytes;
            self.aside.pop_front();
        } else if let Some(Hidden { partition, position }) = self.hidden.pop_front() {
            let part = &self.parts[partition.index()];
            let mut indexes = Vec::new();
            let next = part.table.visit(slab.arena(), position, self.hash_in(), |index| {
                if slab.record(index).version() <= part.flushed_at {
                    indexes.push(index);
                }
            });
            if let Some(position) = next {
                self.hidden.push_front(Hidden { partition, position });
            }
            return Remains::Hidden(indexes);
        }
        Remains::Hidden(Vec::new())
    }

    /// Visits the slots of a partition from a position on, see [`Table::visit`].
    pub(super) fn visit(
        &self,
        slab: &Slab,
        partition: Partition,
        position: u32,
        visit: impl FnMut(u32),
    ) -> Option<u32> {
        self.parts[partition.index()].table.visit(slab.arena(), position, self.hash_in(), visit)
    }

    /// How many of a partition's entries are values. The owner of the values counts.
    pub(super) fn value_count_mut(&mut self, partition: Partition) -> &mut u32 {
        &mut self.parts[partition.index()].value_count
    }

    /// How many of a partition's values have a deadline. The owner of the values counts.
    pub(super) fn deadline_count_mut(&mut self, partition: Partition) -> &mut u32 {
        &mut self.parts[partition.index()].deadline_count
    }

    /// As above.
    pub(super) fn deadline_count(&self, partition: Partition) -> usize {
        self.parts[partition.index()].deadline_count as usize
    }

    /// How many of a partition's entries are values.
    pub(super) fn value_count(&self, partition: Partition) -> usize {
        self.parts[partition.index()].value_count as usize
    }
}

/// Entries to be cleared away.
pub(super) enum Remains {
    /// They are in no table any more.
    Aside(Vec<u32>),
    /// They are still in their tables.
    Hidden(Vec<u32>),
}

const _: () = assert!(PARTITION_COUNT as u64 * (1 << POSITION_BITS) <= 1 << 32, "both fit a cursor");

#[cfg(test)]
mod tests {
    use super::*;

    // What the tests of a shard compare its bookkeeping with.
    impl Tables {
        pub(in crate::store) fn recounted_memory_bytes(&self) -> usize {
            let allocated: usize = self.parts.iter().map(|part| part.table.allocated_bytes()).sum();
            let aside: usize = self.aside.iter().map(|aside| aside.allocated_bytes).sum();
            size_of_val(&*self.parts) + allocated + aside
        }
    }
}
