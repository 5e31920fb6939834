//! A shard's entries: many partitions, one recency order over all of them, one memory bound.
//!
//! The rule it keeps: whatever order changes and flushes arrive in, however often, the result is
//! the same. The greater version wins, of equal ones the greater content; nothing at or below a
//! partition's flush mark comes back. That holds as long as no tombstone had to be dropped: they
//! are kept for a bounded time and in bounded memory. Eviction makes room, is local and leaves
//! nothing behind.
//!
//! A value past its deadline is deleted as of its own version. So it reads as absent at once, and
//! when it is noticed it becomes a tombstone (unless that would be too old already), just as if
//! the change had arrived too late: an older value of the key cannot come back in its place.
//!
//! It has no clock and sends nothing: replication and routing are its owner's work. How entries
//! lie in memory is `slab`'s affair, which one a key has `tables`'.

use std::time::Duration;

use crate::store::Change;
use crate::store::Item;
use crate::store::ItemContent;
use crate::store::Partition;
use crate::store::ScanCursor;
use crate::store::slab;
use crate::store::slab::List;
use crate::store::slab::Slab;
use crate::store::tables;
use crate::store::tables::Tables;
use crate::time::Timestamp;
use crate::time::Version;

/// How much a shard may keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// All memory, including what an empty shard takes (about 200 KB).
    pub memory_bytes_max: usize,
    /// Bytes of a key and its value together that a command may write. Copies are not checked: what
    /// another node has accepted is stored.
    pub entry_bytes_max: usize,
    /// Values, if their number is bounded too. One is always kept.
    pub items_max: Option<usize>,
    /// The age at which a tombstone may go, by the time of its version.
    pub tombstone_age_max: Duration,
    /// Memory of tombstones, a part of all memory; above it the oldest go early.
    pub tombstone_bytes_max: usize,
}

impl ShardLimits {
    /// The usual limits within that much memory: any number of values, tombstones for ten minutes
    /// and in a sixteenth of the memory at most.
    pub const fn new(memory_bytes_max: usize) -> Self {
        Self {
            memory_bytes_max,
            entry_bytes_max: 65_536,
            items_max: None,
            tombstone_age_max: Duration::from_secs(600),
            tombstone_bytes_max: memory_bytes_max / 16,
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// It is the state of its key now.
    Newer,
    /// The shard knows the same or better already; nothing was changed.
    Stale,
    /// It could not fit even if it were alone; nothing was changed.
    TooLarge {
        /// What key and value would take.
        bytes: usize,
        /// What they may take.
        bytes_max: usize,
    },
}

/// Figures of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Values dropped to make room.
    pub evictions: u64,
    /// Values found past their deadline.
    pub expirations: u64,
    /// Values now, including those past their deadline that nobody has read since.
    pub items: usize,
    /// Tombstones now.
    pub tombstones: usize,
    /// Memory used now, see [`Shard::memory_bytes`].
    pub memory_bytes: usize,
    /// Memory that may be used.
    pub memory_bytes_max: usize,
}

/// The entries of some partitions. See the module.
pub struct Shard {
    limits: ShardLimits,
    tables: Tables,
    slab: Slab,
    /// Values, by when they were last read or written.
    recency: List,
    /// Tombstones, by when they came here. That is nearly the order of their versions; where it is
    /// not, an old one waits behind a younger one, no longer than the greatest age again.
    tombstones: List,
    /// How far the search for values past their deadline has come.
    expired_up_to: ScanCursor,
    item_count: usize,
    tombstone_count: usize,
    tombstone_bytes: usize,
    hits: u64,
    misses: u64,
    evictions: u64,
    expirations: u64,
}

impl Shard {
    /// An empty shard. The seed is random, so that nobody can choose keys that collide.
    pub fn new(limits: ShardLimits, hash_seed: u64) -> Self {
        Self {
            limits,
            tables: Tables::new(hash_seed),
            slab: Slab::new(),
            recency: List::new(),
            tombstones: List::new(),
            expired_up_to: ScanCursor::START,
            item_count: 0,
            tombstone_count: 0,
            tombstone_bytes: 0,
            hits: 0,
            misses: 0,
            evictions: 0,
            expirations: 0,
        }
    }

    /// The value of a key, which thereby is the most recently used.
    pub fn get(&mut self, partition: Partition, key: &[u8], now: Timestamp) -> Option<&[u8]> {
        let Some(index) = self.find_value(partition, key, now) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.recency.renew(&mut self.slab, index);
        match self.slab.content(index) {
            ItemContent::Value { bytes, .. } => Some(bytes),
            ItemContent::Deleted => None,
        }
    }

    /// The slot of a key's value. One that is past its deadline is cleared away.
    fn find_value(&mut self, partition: Partition, key: &[u8], now: Timestamp) -> Option<u32> {
        let index = self.tables.find(&self.slab, partition, key)?;
        if self.slab.is_tombstone(index) {
            return None;
        }
        match self.slab.content(index).at(now) {
            ItemContent::Value { .. } => Some(index),
            ItemContent::Deleted => {
                self.expire(index, now);
                None
            }
        }
    }

    /// A key's value with all that is known of it, as if nobody had looked.
    pub fn peek(&self, partition: Partition, key: &[u8], now: Timestamp) -> Option<Item<'_>> {
        let index = self.tables.find(&self.slab, partition, key)?;
        let item = self.slab.item(index);
        match item.content.at(now) {
            ItemContent::Value { .. } => Some(item),
            ItemContent::Deleted => None,
        }
    }

    /// Whether a key has a value, as if nobody had looked.
    pub fn contains(&self, partition: Partition, key: &[u8], now: Timestamp) -> bool {
        self.peek(partition, key, now).is_some()
    }

    /// The version of a key's value or tombstone.
    pub fn version_of(&self, partition: Partition, key: &[u8]) -> Option<Version> {
        self.tables.find(&self.slab, partition, key).map(|index| self.slab.version(index))
    }

    /// Merges a change, then makes room if it is too much for the limits.
    pub fn apply(&mut self, partition: Partition, change: &Change, now: Timestamp) -> Applied {
        let Change { key, version, content } = change;
        self.apply_item(Item { partition, key, version: *version, content: content.into() }, now)
    }

    /// As [`Shard::apply`], for what nobody has made a [`Change`] of.
    pub fn apply_item(&mut self, item: Item<'_>, now: Timestamp) -> Applied {
        let Item { partition, key, version, content } = item;
        let content = content.at(now);
        let found = self.tables.find(&self.slab, partition, key);
        if version <= self.flushed_at(partition)
            || found.is_some_and(|index| !self.is_newer(index, version, content, now))
        {
            return Applied::Stale;
        }
        if let Some(too_large) = self.too_large(key, content) {
            return too_large;
        }
        let index = match found {
            Some(index) => self.overwrite(index, version, content),
            None => self.insert(Item { partition, key, version, content }),
        };
        self.drop_excess(index);
        Applied::Newer
    }

    /// Whether a change to the entry in a slot wins over what is there.
    fn is_newer(&self, index: u32, version: Version, content: ItemContent<'_>, now: Timestamp) -> bool {
        match version.cmp(&self.slab.version(index)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            // Both as of now, or the result would depend on which was here before it expired.
            std::cmp::Ordering::Equal => content > self.slab.content(index).at(now),
        }
    }

    /// Why an entry would not fit even if it were alone, if so.
    fn too_large(&self, key: &[u8], content: ItemContent<'_>) -> Option<Applied> {
        let alone_bytes = tables::EMPTY_BYTES + tables::SMALL_TABLE_BYTES_MAX + slab::CHUNK_BYTES;
        let bytes = slab::allocation_bytes(key, content);
        let bytes_max = self.limits.memory_bytes_max.saturating_sub(alone_bytes).min(slab::ENTRY_BYTES_MAX);
        let is_shard_too_small = self.limits.memory_bytes_max < alone_bytes;
        (is_shard_too_small || bytes > bytes_max).then_some(Applied::TooLarge { bytes, bytes_max })
    }

    fn overwrite(&mut self, index: u32, version: Version, content: ItemContent<'_>) -> u32 {
        self.unlink(index);
        self.slab.overwrite(index, version, content);
        self.link(index);
        index
    }

    fn insert(&mut self, item: Item<'_>) -> u32 {
        // Make room in the slab first: in a full shard the new entry takes an evicted one's slot.
        while !self.slab.has_room() && !self.has_memory_for_chunk() {
            let oldest = self.recency.oldest().or(self.tombstones.oldest());
            self.drop_entry(
                oldest.expect("an empty shard has memory for a chunk, or the entry is too large"),
            );
        }
        let index = self.slab.insert(item);
        self.tables.insert(&self.slab, index);
        self.link(index);
        index
    }

    fn has_memory_for_chunk(&self) -> bool {
        self.slab.can_grow() && self.memory_bytes() + slab::CHUNK_BYTES <= self.limits.memory_bytes_max
    }

    /// Drops entries until the limits are kept, never the value just written.
    fn drop_excess(&mut self, written: u32) {
        self.drop_excess_tombstones();
        let items_max = self.limits.items_max.unwrap_or(usize::MAX);
        while self.item_count > items_max || self.memory_bytes() > self.limits.memory_bytes_max {
            match self.recency.oldest().filter(|index| *index != written) {
                Some(oldest) => self.drop_entry(oldest),
                None => break,
            }
        }
        while self.memory_bytes() > self.limits.memory_bytes_max {
            let oldest = self.tombstones.oldest().expect("what was written fits when it is alone");
            self.drop_entry(oldest);
        }
    }

    fn drop_excess_tombstones(&mut self) {
        while self.tombstone_bytes > self.limits.tombstone_bytes_max {
            let oldest = self.tombstones.oldest().expect("tombstones that take memory are in their list");
            self.drop_entry(oldest);
        }
    }

    /// Drops an entry to make room. Values count as evicted.
    fn drop_entry(&mut self, index: u32) {
        self.evictions += u64::from(!self.slab.is_tombstone(index));
        self.remove(index);
    }

    /// Clears away a value past its deadline.
    fn expire(&mut self, index: u32, now: Timestamp) {
        self.expirations += 1;
        let version = self.slab.version(index);
        if self.is_old(version, now) {
            self.remove(index);
        } else {
            self.overwrite(index, version, ItemContent::Deleted);
            self.drop_excess_tombstones();
        }
    }

    /// Removes everything of a partition at or below a version, now and whenever it arrives.
    pub fn flush(&mut self, partition: Partition, version: Version) {
        if version <= self.flushed_at(partition) {
            return;
        }
        self.tables.set_flushed_at(partition, version);
        let slots = self.tables.slots(partition);
        let flushed: Vec<u32> = slots.filter(|index| self.slab.version(*index) <= version).collect();
        flushed.into_iter().for_each(|index| self.remove(index));
    }

    /// Up to which version a partition was flushed; [`Version::ZERO`] if never.
    pub fn flushed_at(&self, partition: Partition) -> Version {
        self.tables.flushed_at(partition)
    }

    /// Removes everything of a partition that this node holds no longer, as if it had never been.
    pub fn drop_partition(&mut self, partition: Partition) {
        self.tables.set_flushed_at(partition, Version::ZERO);
        let dropped: Vec<u32> = self.tables.slots(partition).collect();
        dropped.into_iter().for_each(|index| self.remove(index));
    }

    /// Drops tombstones that are old enough, in `steps_max` steps at most. Returns how many steps
    /// it took: fewer than allowed means that nothing is left to do for now.
    ///
    /// Values past their deadline are cleared away when they are read or evicted, and by
    /// [`Shard::expire_some`].
    pub fn sweep(&mut self, now: Timestamp, steps_max: usize) -> usize {
        for steps in 0..steps_max {
            match self.tombstones.oldest().filter(|index| self.is_old(self.slab.version(*index), now)) {
                Some(oldest) => self.drop_entry(oldest),
                None => return steps,
            }
        }
        steps_max
    }

    /// Clears away values past their deadline that nobody has read since: looks at `visits_max` slots,
    /// going on where the call before ended, and round again.
    pub fn expire_some(&mut self, now: Timestamp, visits_max: usize) {
        let mut expired: Vec<(Partition, Box<[u8]>)> = Vec::new();
        let next = self.scan(self.expired_up_to, visits_max, |item| match item.content {
            ItemContent::Value { .. } if item.content.at(now) == ItemContent::Deleted => {
                expired.push((item.partition, item.key.into()));
            }
            ItemContent::Value { .. } | ItemContent::Deleted => {}
        });
        self.expired_up_to = next.unwrap_or(ScanCursor::START);
        for (partition, key) in expired {
            // Finding it is what clears it away.
            let found = self.find_value(partition, &key, now);
            debug_assert!(found.is_none(), "what has expired is not found");
        }
    }

    /// Whether a tombstone of that version need not be kept.
    fn is_old(&self, version: Version, now: Timestamp) -> bool {
        let age_millis = now.as_millis().saturating_sub(version.time().as_millis());
        Duration::from_millis(age_millis) >= self.limits.tombstone_age_max
    }

    /// Visits values and tombstones of all partitions from a cursor on, looking at `visits_max`
    /// slots at most (and at least one). Returns where to go on; none when it is done.
    ///
    /// What is there during the whole scan is visited exactly once, whatever happens between the
    /// steps. Values past their deadline are visited too.
    pub fn scan<'a>(
        &'a self,
        cursor: ScanCursor,
        visits_max: usize,
        visit: impl FnMut(Item<'a>),
    ) -> Option<ScanCursor> {
        self.slab.scan(cursor.0, visits_max.max(1), visit).map(ScanCursor)
    }

    /// Everything of a partition, in no order.
    pub fn items_of(&self, partition: Partition) -> impl Iterator<Item = Item<'_>> {
        self.tables.slots(partition).map(|index| self.slab.item(index))
    }

    /// How many values a partition has.
    pub fn len_of(&self, partition: Partition) -> usize {
        self.tables.value_count(partition)
    }

    /// How many values of a partition have a deadline.
    pub fn expiring_len_of(&self, partition: Partition) -> usize {
        self.tables.deadline_count(partition)
    }

    /// The values of a partition, in no order, those past their deadline included.
    pub fn values_of(&self, partition: Partition) -> impl Iterator<Item = Item<'_>> {
        let is_value = |index: &u32| !self.slab.is_tombstone(*index);
        self.tables.slots(partition).filter(is_value).map(|index| self.slab.item(index))
    }

    /// How many values there are, including those past their deadline that nobody has read since.
    pub fn len(&self) -> usize {
        self.item_count
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.item_count == 0
    }

    /// How many tombstones there are.
    pub fn tombstone_count(&self) -> usize {
        self.tombstone_count
    }

    /// The memory in use: tables, chunks of slots (whether used or free), keys and values, each as
    /// the allocator rounds it up. Tombstones are included; pages that the allocator keeps for
    /// later are not (measured: a tenth more while tables grow).
    pub fn memory_bytes(&self) -> usize {
        self.tables.memory_bytes() + self.slab.memory_bytes()
    }

    /// What it may keep.
    pub fn limits(&self) -> &ShardLimits {
        &self.limits
    }

    /// Its figures.
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            hits: self.hits,
            misses: self.misses,
            evictions: self.evictions,
            expirations: self.expirations,
            items: self.item_count,
            tombstones: self.tombstone_count,
            memory_bytes: self.memory_bytes(),
            memory_bytes_max: self.limits.memory_bytes_max,
        }
    }

    /// Forgets an entry altogether.
    fn remove(&mut self, index: u32) {
        self.unlink(index);
        self.tables.remove(&self.slab, index);
        self.slab.remove(index);
    }

    /// Puts an entry into its list and counts it.
    fn link(&mut self, index: u32) {
        if self.slab.is_tombstone(index) {
            self.tombstones.push(&mut self.slab, index);
            self.tombstone_count += 1;
            self.tombstone_bytes += self.slab.entry_bytes(index);
            *self.tables.tombstone_count_mut(self.slab.partition(index)) += 1;
        } else {
            self.recency.push(&mut self.slab, index);
            self.item_count += 1;
            let partition = self.slab.partition(index);
            *self.tables.deadline_count_mut(partition) += u32::from(self.has_deadline(index));
        }
    }

    fn has_deadline(&self, index: u32) -> bool {
        matches!(self.slab.content(index), ItemContent::Value { expires_at: Some(_), .. })
    }

    /// Takes an entry out of its list and the counts.
    fn unlink(&mut self, index: u32) {
        if self.slab.is_tombstone(index) {
            self.tombstones.unlink(&mut self.slab, index);
            self.tombstone_count -= 1;
            self.tombstone_bytes -= self.slab.entry_bytes(index);
            *self.tables.tombstone_count_mut(self.slab.partition(index)) -= 1;
        } else {
            self.recency.unlink(&mut self.slab, index);
            self.item_count -= 1;
            let partition = self.slab.partition(index);
            *self.tables.deadline_count_mut(partition) -= u32::from(self.has_deadline(index));
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
