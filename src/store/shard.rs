//! A shard's entries: many partitions, one recency order over all of them, one memory bound.
//!
//! The rule it keeps: whatever order changes and flushes arrive in, however often, the result is
//! the same. The greater version wins, of equal ones the greater content; nothing at or below a
//! partition's flush mark comes back. That holds as long as no tombstone had to be dropped: they
//! are kept for a bounded time and in bounded memory. Eviction makes room, is local and leaves
//! nothing behind.
//!
//! A flush and a drop hide what they are about at once, whatever there is; it is cleared away by and by.
//!
//! A value past its deadline is deleted as of its own version. So it reads as absent at once, and
//! when it is noticed it becomes a tombstone (unless that would be too old already), just as if
//! the change had arrived too late: an older value of the key cannot come back in its place.
//!
//! It has no clock and sends nothing: replication and routing are its owner's work. How entries
//! lie in memory is `slab`'s affair, which one a key has `tables`', what has to go `room`'s.

mod counts;
mod expiry;
mod limits;
mod room;
mod warm;

use std::time::Duration;

pub use limits::Applied;
pub use limits::ShardLimits;
pub use limits::ShardStats;

use crate::store::Change;
use crate::store::Item;
use crate::store::ItemContent;
use crate::store::Partition;
use crate::store::ScanCursor;
use crate::store::eviction::Order;
use crate::store::list::List;
use crate::store::record;
use crate::store::record::Record;
use crate::store::shard::counts::Kind;
use crate::store::slab::Slab;
use crate::store::table::KeyHash;
use crate::store::table::POSITION_BITS;
use crate::store::tables::Gone;
use crate::store::tables::Remains;
use crate::store::tables::Tables;
use crate::time::Timestamp;
use crate::time::Version;

/// The entries of some partitions. See the module.
pub struct Shard {
    limits: ShardLimits,
    /// More than the limit as long as a lower one has not been reached.
    memory_ceiling: usize,
    /// How far the search for values that a new policy has to know has come.
    adopted_up_to: ScanCursor,
    tables: Tables,
    slab: Slab,
    /// Values, by when they are to go.
    order: Order,
    /// Tombstones, by when they came here. That is nearly the order of their versions; where it is
    /// not, an old one waits behind a younger one, no longer than the greatest age again.
    tombstones: List,
    /// How far the search for values past their deadline has come.
    expired_up_to: ScanCursor,
    item_count: usize,
    tombstone_count: usize,
    tombstone_bytes: usize,
    forgotten: Version,
    hits: u64,
    misses: u64,
    evictions: u64,
    expirations: u64,
}

impl Shard {
    /// An empty shard. The seed is random, so that nobody can choose keys that collide.
    pub fn new(limits: ShardLimits, hash_seed: u64) -> Self {
        Self {
            tables: Tables::new(hash_seed),
            slab: Slab::new(limits.memory_bytes_max),
            order: Order::new(limits.eviction, limits.memory_bytes_max),
            memory_ceiling: limits.memory_bytes_max,
            adopted_up_to: ScanCursor::START,
            limits,
            tombstones: List::new(),
            expired_up_to: ScanCursor::START,
            item_count: 0,
            tombstone_count: 0,
            tombstone_bytes: 0,
            forgotten: Version::ZERO,
            hits: 0,
            misses: 0,
            evictions: 0,
            expirations: 0,
        }
    }

    /// The value of a key, which thereby is the most recently used.
    pub fn get(&mut self, partition: Partition, key: &[u8], now: Timestamp) -> Option<&[u8]> {
        self.get_hashed(partition, key, self.tables.hash(key), now)
    }

    /// As [`Shard::get`], for a key with that [`Shard::hash`].
    pub fn get_hashed(
        &mut self,
        partition: Partition,
        key: &[u8],
        hash: KeyHash,
        now: Timestamp,
    ) -> Option<&[u8]> {
        let index = self.look_up(partition, key, hash, now)?;
        self.order.renew(&mut self.slab, index);
        self.value_in(index)
    }

    /// As [`Shard::get`], but it does not count as a use of the key.
    pub fn get_aside(&mut self, partition: Partition, key: &[u8], now: Timestamp) -> Option<&[u8]> {
        let index = self.look_up(partition, key, self.tables.hash(key), now)?;
        self.value_in(index)
    }

    fn look_up(&mut self, partition: Partition, key: &[u8], hash: KeyHash, now: Timestamp) -> Option<u32> {
        let found = self.find_value(partition, key, hash, now);
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    fn value_in(&self, index: u32) -> Option<&[u8]> {
        match self.slab.record(index).content() {
            ItemContent::Value { bytes, .. } => Some(bytes),
            ItemContent::Deleted => None,
        }
    }

    /// The slot of a key's value. One that is past its deadline is cleared away.
    fn find_value(&mut self, partition: Partition, key: &[u8], hash: KeyHash, now: Timestamp) -> Option<u32> {
        let index = self.find_hashed(partition, key, hash)?;
        let content = self.slab.record(index).content();
        match content.at(now) {
            ItemContent::Value { .. } => Some(index),
            ItemContent::Deleted => {
                if content != ItemContent::Deleted {
                    self.expire(index, now);
                }
                None
            }
        }
    }

    /// The slot of a key's value or tombstone.
    fn find(&self, partition: Partition, key: &[u8]) -> Option<u32> {
        self.find_hashed(partition, key, self.tables.hash(key))
    }

    fn find_hashed(&self, partition: Partition, key: &[u8], hash: KeyHash) -> Option<u32> {
        let index = self.tables.find(&self.slab, partition, key, hash)?;
        (!self.is_hidden(self.slab.record(index))).then_some(index)
    }

    /// Whether a flush has passed an entry that is still in its table.
    fn is_hidden(&self, record: Record<'_>) -> bool {
        record.version() <= self.tables.flushed_at(record.partition())
    }

    /// A key's value with all that is known of it, as if nobody had looked.
    pub fn peek(&self, partition: Partition, key: &[u8], now: Timestamp) -> Option<Item<'_>> {
        let item = self.slab.record(self.find(partition, key)?).item();
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
        self.find(partition, key).map(|index| self.slab.record(index).version())
    }

    /// Merges a change, after making room for it if it is too much for the limits.
    pub fn apply(&mut self, partition: Partition, change: &Change, now: Timestamp) -> Applied {
        let Change { key, version, content } = change;
        self.apply_item(Item { partition, key, version: *version, content: content.into() }, now)
    }

    /// As [`Shard::apply`], for what nobody has made a [`Change`] of.
    pub fn apply_item(&mut self, item: Item<'_>, now: Timestamp) -> Applied {
        self.apply_hashed(item, self.tables.hash(item.key), now)
    }

    /// As [`Shard::apply_item`], for a key with that [`Shard::hash`].
    pub fn apply_hashed(&mut self, item: Item<'_>, hash: KeyHash, now: Timestamp) -> Applied {
        let Item { partition, key, version, content } = item;
        let content = content.at(now);
        let found = self.tables.find(&self.slab, partition, key, hash);
        if version <= self.flushed_at(partition)
            || found.is_some_and(|index| !self.is_newer(index, version, content, now))
        {
            return Applied::Stale;
        }
        let item = Item { content, ..item };
        let record_bytes = record::record_bytes(&item);
        if let Some(too_large) = self.too_large(record_bytes) {
            return too_large;
        }
        self.tables.observe(partition, version);
        let applied = self.write(item, record_bytes, hash, found);
        self.drop_excess_tombstones();
        applied
    }

    /// Whether a change to the entry in a slot wins over what is there.
    fn is_newer(&self, index: u32, version: Version, content: ItemContent<'_>, now: Timestamp) -> bool {
        let record = self.slab.record(index);
        match version.cmp(&record.version()) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            // Both as of now, or the result would depend on which was here before it expired.
            std::cmp::Ordering::Equal => content > record.content().at(now),
        }
    }

    /// Gives an entry another version and content in its slot, which is long enough.
    fn overwrite(&mut self, index: u32, item: Item<'_>) {
        let (before, after) = (Kind::of(self.slab.record(index).content()), Kind::of(item.content));
        self.unlink(index);
        self.slab.overwrite(index, item);
        self.link(index);
        if before != after {
            self.count_out(item.partition, before);
            self.count_in(item.partition, after);
        }
    }

    /// Removes everything of a partition at or below a version, now and whenever it arrives. What it
    /// takes is given back by [`Shard::clear_some`].
    pub fn flush(&mut self, partition: Partition, version: Version) {
        if version > self.flushed_at(partition) {
            let gone = self.tables.flush(partition, version);
            self.count_gone(gone);
        }
    }

    /// Up to which version a partition was flushed; [`Version::ZERO`] if never.
    pub fn flushed_at(&self, partition: Partition) -> Version {
        self.tables.flushed_at(partition)
    }

    /// Removes everything of a partition that this node holds no longer, as if it had never been. What
    /// it takes is given back by [`Shard::clear_some`].
    pub fn drop_partition(&mut self, partition: Partition) {
        let gone = self.tables.drop_partition(partition);
        self.count_gone(gone);
    }

    fn count_gone(&mut self, gone: Gone) {
        self.item_count -= gone.values;
        self.tombstone_count -= gone.tombstones;
    }

    /// Whether flushes and drops have left something to [`Shard::clear_some`].
    pub fn has_remains(&self) -> bool {
        self.tables.has_remains()
    }

    /// Clears away some of what flushes and drops have left, in so many steps; each is about a bucket of
    /// a table.
    pub fn clear_some(&mut self, steps_max: usize) {
        for _ in 0..steps_max {
            if !self.has_remains() {
                return;
            }
            match self.tables.some_remains(&mut self.slab) {
                Remains::Aside(indexes) => indexes.into_iter().for_each(|index| {
                    self.unlink(index);
                    self.slab.remove(index);
                }),
                Remains::Hidden(indexes) => indexes.into_iter().for_each(|index| self.remove(index)),
            }
        }
    }

    /// Drops tombstones that are old enough, in `steps_max` steps at most. Returns how many steps
    /// it took: fewer than allowed means that nothing is left to do for now.
    ///
    /// Values past their deadline are cleared away when they are read or evicted, and by
    /// [`Shard::expire_some`].
    pub fn sweep(&mut self, now: Timestamp, steps_max: usize) -> usize {
        for steps in 0..steps_max {
            match self
                .tombstones
                .oldest()
                .filter(|index| self.is_old(self.slab.record(*index).version(), now))
            {
                Some(oldest) => self.remove(oldest),
                None => return steps,
            }
        }
        steps_max
    }

    /// The latest version of a delete whose tombstone went before its time, for want of memory.
    pub fn forgotten(&self) -> Version {
        self.forgotten
    }

    /// Whether a tombstone of that version need not be kept.
    fn is_old(&self, version: Version, now: Timestamp) -> bool {
        let age_millis = now.as_millis().saturating_sub(version.time().as_millis());
        Duration::from_millis(age_millis) >= self.limits.tombstone_age_max
    }

    /// Visits values and tombstones of all partitions from a cursor on, `visits_max` of them and a few
    /// more at most, in the order of their partitions. Returns where to go on; none when it is done.
    ///
    /// What is there during the whole scan is visited exactly once, whatever happens between the
    /// steps. Values past their deadline are visited too.
    pub fn scan<'a>(
        &'a self,
        cursor: ScanCursor,
        visits_max: usize,
        visit: impl FnMut(Item<'a>),
    ) -> Option<ScanCursor> {
        self.scan_where(cursor, visits_max, |_| true, visit)
    }

    /// As [`Shard::scan`], without the partitions that are not wanted.
    fn scan_where<'a>(
        &'a self,
        cursor: ScanCursor,
        visits_max: usize,
        is_wanted: impl Fn(Partition) -> bool,
        mut visit: impl FnMut(Item<'a>),
    ) -> Option<ScanCursor> {
        let mut number = (cursor.0 >> POSITION_BITS) as u16;
        let mut position = cursor.0 & ((1 << POSITION_BITS) - 1);
        let mut visits = 0;
        while let Some(partition) = Partition::new(number) {
            if visits >= visits_max.max(1) {
                return Some(ScanCursor(u32::from(number) << POSITION_BITS | position));
            }
            let next = is_wanted(partition).then(|| {
                self.tables.visit(&self.slab, partition, position, |index| {
                    let record = self.slab.record(index);
                    if !self.is_hidden(record) {
                        visits += 1;
                        visit(record.item());
                    }
                })
            });
            let next = next.flatten();
            number += u16::from(next.is_none());
            position = next.unwrap_or(0);
        }
        None
    }

    /// Everything of a partition, in no order.
    pub fn items_of(&self, partition: Partition) -> impl Iterator<Item = Item<'_>> {
        let mut next = Some(0);
        let some_items = move || {
            let mut items = Vec::new();
            next = self.tables.visit(&self.slab, partition, next?, |index| {
                let record = self.slab.record(index);
                if !self.is_hidden(record) {
                    items.push(record.item());
                }
            });
            Some(items)
        };
        std::iter::from_fn(some_items).flatten()
    }

    /// How many values a partition has; of what a flush hides, what is not cleared away yet may count.
    pub fn len_of(&self, partition: Partition) -> usize {
        self.tables.value_count(partition)
    }

    /// How many values of a partition have a deadline.
    pub fn expiring_len_of(&self, partition: Partition) -> usize {
        self.tables.deadline_count(partition)
    }

    /// The values of a partition, in no order, those past their deadline included.
    pub fn values_of(&self, partition: Partition) -> impl Iterator<Item = Item<'_>> {
        self.items_of(partition).filter(|item| item.content != ItemContent::Deleted)
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

    /// The memory taken: tables, and the regions in which keys and values lie,
    /// whether all of them is used or not.
    pub fn memory_bytes(&self) -> usize {
        self.tables.memory_bytes() + self.slab.memory_bytes() + self.order.memory_bytes()
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
        let record = self.slab.record(index);
        let (partition, kind) = (record.partition(), Kind::of(record.content()));
        self.unlink(index);
        if self.tables.remove(&mut self.slab, index) {
            self.count_out(partition, kind);
        }
        self.slab.remove(index);
    }
}

#[cfg(test)]
mod merging;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
