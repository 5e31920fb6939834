//! Which slot of the slab a key is in: one hash table per partition.
//!
//! A table holds slot numbers only; keys are compared and hashed where they lie in the slab, so
//! whoever removes an entry takes it out here first. A table takes memory with its first entry,
//! shrinks when it has become sparse and gives back everything with its last, so that evicting
//! entries always ends below the memory bound. Hashes are seeded: who does not know the seed
//! cannot choose keys that collide.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::store::PARTITION_COUNT;
use crate::store::Partition;
use crate::store::size_class::size_class;
use crate::store::slab::Slab;
use crate::time::Version;

/// What the tables of all partitions take while they are empty.
pub(super) const EMPTY_BYTES: usize = PARTITION_COUNT as usize * size_of::<Table>();
/// The most that a table with one entry takes.
pub(super) const SMALL_TABLE_BYTES_MAX: usize = 256;

/// More bytes than this for each entry make a table sparse. One that has just grown takes 12.
const ENTRY_BYTES_MAX: usize = 64;

/// The tables of a shard, by partition.
pub(super) struct Tables {
    tables: Box<[Table]>,
    hash_seed: u64,
    allocated_bytes: usize,
}

#[derive(Default)]
struct Table {
    slots: HashTable<u32>,
    flushed_at: Version,
    tombstone_count: u32,
    deadline_count: u32,
}

impl Tables {
    pub(super) fn new(hash_seed: u64) -> Self {
        let tables = (0..PARTITION_COUNT).map(|_| Table::default()).collect();
        Self { tables, hash_seed, allocated_bytes: 0 }
    }

    /// The bytes taken by all tables.
    pub(super) fn memory_bytes(&self) -> usize {
        EMPTY_BYTES + self.allocated_bytes
    }

    /// The slot of a key.
    pub(super) fn find(&self, slab: &Slab, partition: Partition, key: &[u8]) -> Option<u32> {
        let hash = xxh3_64_with_seed(key, self.hash_seed);
        self.tables[partition.index()].slots.find(hash, |index| slab.key(*index) == key).copied()
    }

    /// All slots of a partition, in no order.
    pub(super) fn slots(&self, partition: Partition) -> impl Iterator<Item = u32> + '_ {
        self.tables[partition.index()].slots.iter().copied()
    }

    /// How many entries and tombstones a partition has.
    pub(super) fn len(&self, partition: Partition) -> usize {
        self.tables[partition.index()].slots.len()
    }

    /// Adds the entry in a slot, whose key is not there yet.
    pub(super) fn insert(&mut self, slab: &Slab, index: u32) {
        let hash_of = hash_of(slab, self.hash_seed);
        let slots = &mut self.tables[slab.partition(index).index()].slots;
        let bytes_before = allocated_bytes(slots);
        slots.insert_unique(hash_of(&index), index, &hash_of);
        self.allocated_bytes += allocated_bytes(slots);
        self.allocated_bytes -= bytes_before;
    }

    /// Takes out the entry in a slot, which is still there.
    pub(super) fn remove(&mut self, slab: &Slab, index: u32) {
        let hash_of = hash_of(slab, self.hash_seed);
        let slots = &mut self.tables[slab.partition(index).index()].slots;
        let bytes_before = allocated_bytes(slots);
        slots
            .find_entry(hash_of(&index), |found| *found == index)
            .expect("every slot in use is in the table of its partition")
            .remove();
        if slots.is_empty() {
            *slots = HashTable::new();
        } else if bytes_before > (slots.len() * ENTRY_BYTES_MAX).max(SMALL_TABLE_BYTES_MAX) {
            slots.shrink_to(slots.len() * 2, &hash_of);
        }
        self.allocated_bytes += allocated_bytes(slots);
        self.allocated_bytes -= bytes_before;
    }

    /// Up to which version a partition was flushed.
    pub(super) fn flushed_at(&self, partition: Partition) -> Version {
        self.tables[partition.index()].flushed_at
    }

    /// Remembers up to which version a partition was flushed.
    pub(super) fn set_flushed_at(&mut self, partition: Partition, version: Version) {
        self.tables[partition.index()].flushed_at = version;
    }

    /// How many of a partition's entries are tombstones. The owner of the tombstones counts.
    pub(super) fn tombstone_count_mut(&mut self, partition: Partition) -> &mut u32 {
        &mut self.tables[partition.index()].tombstone_count
    }

    /// How many of a partition's values have a deadline. The owner of the values counts.
    pub(super) fn deadline_count_mut(&mut self, partition: Partition) -> &mut u32 {
        &mut self.tables[partition.index()].deadline_count
    }

    /// As above.
    pub(super) fn deadline_count(&self, partition: Partition) -> usize {
        self.tables[partition.index()].deadline_count as usize
    }

    /// How many of a partition's entries are values.
    pub(super) fn value_count(&self, partition: Partition) -> usize {
        self.len(partition) - self.tables[partition.index()].tombstone_count as usize
    }
}

fn hash_of(slab: &Slab, hash_seed: u64) -> impl Fn(&u32) -> u64 + '_ {
    move |index| xxh3_64_with_seed(slab.key(*index), hash_seed)
}

fn allocated_bytes(slots: &HashTable<u32>) -> usize {
    size_class(slots.allocation_size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Item;
    use crate::store::ItemContent;

    // What the tests of a shard compare its bookkeeping with.
    impl Tables {
        pub(in crate::store) fn recounted_memory_bytes(&self) -> usize {
            let allocated: usize = self.tables.iter().map(|table| allocated_bytes(&table.slots)).sum();
            size_of_val(&*self.tables) + allocated
        }
    }

    fn item(key: &[u8]) -> Item<'_> {
        let partition = Partition::new(7).unwrap();
        Item { partition, key, version: Version::from_raw(1), content: ItemContent::Deleted }
    }

    #[test]
    fn a_table_shrinks_as_it_empties_and_takes_nothing_in_the_end() {
        let (mut slab, mut tables) = (Slab::new(), Tables::new(42));
        for number in 0..10_000_u32 {
            let index = slab.insert(item(&number.to_be_bytes()));
            tables.insert(&slab, index);
        }
        for index in 0..10_000_u32 {
            let bytes = tables.memory_bytes() - EMPTY_BYTES;
            let count = tables.len(item(b"").partition);
            assert!(bytes <= (count * ENTRY_BYTES_MAX).max(SMALL_TABLE_BYTES_MAX), "{bytes} for {count}");
            assert_eq!(tables.find(&slab, item(b"").partition, &index.to_be_bytes()), Some(index));
            tables.remove(&slab, index);
            slab.remove(index);
        }
        assert_eq!(tables.memory_bytes(), EMPTY_BYTES);
    }

    #[test]
    fn a_key_is_found_in_its_own_partition_only() {
        let (mut slab, mut tables) = (Slab::new(), Tables::new(42));
        let index = slab.insert(item(b"k"));
        tables.insert(&slab, index);
        assert_eq!(tables.find(&slab, item(b"").partition, b"k"), Some(index));
        assert_eq!(tables.find(&slab, Partition::new(8).unwrap(), b"k"), None);
    }
}
