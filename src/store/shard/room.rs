//! Making room in a shard.
//!
//! Room for an entry is made before it is written, in this order: what flushes and drops have left is
//! cleared away; records are moved together, so that a page is free for another use; a region is given
//! back where there is more than the limit; then the entry goes that the policy names. So
//! nothing is evicted as long as there is a page to gain, and the limits hold after every change.

use crate::store::Applied;
use crate::store::Item;
use crate::store::ItemContent;
use crate::store::Shard;
use crate::store::arena;
use crate::store::memory;
use crate::store::record;
use crate::store::record::Record;
use crate::store::shard::counts::Kind;
use crate::store::table::KeyHash;
use crate::store::tables::EMPTY_BYTES;

/// Steps of clearing away between two looks at whether there is room.
const CLEAR_STEPS: usize = 4;

impl Shard {
    /// Why an entry would not fit even if it were alone, if so.
    pub(super) fn too_large(&self, bytes: usize) -> Option<Applied> {
        let arena = self.slab.arena();
        // The usual region, which its table needs too.
        let region_bytes = arena.growth_bytes(1) + arena::SPAN_OVERHEAD_BYTES;
        let bytes_max = match self
            .limits
            .memory_bytes_max
            .checked_sub(EMPTY_BYTES + self.order.memory_bytes() + region_bytes)
        {
            Some(left) => {
                let pages = left.saturating_sub(arena::SPAN_OVERHEAD_BYTES) / memory::PAGE_BYTES;
                let in_own_region = pages * memory::PAGE_BYTES;
                in_own_region.max(arena.common_bytes_max() - arena::GRANULE_BYTES)
            }
            None => 0,
        };
        let bytes_max = bytes_max.min(record::RECORD_BYTES_MAX);
        (bytes > bytes_max).then_some(Applied::TooLarge { bytes, bytes_max })
    }

    /// Writes an entry that wins over the one that its key has, if there is one.
    pub(super) fn write(
        &mut self,
        item: Item<'_>,
        record_bytes: usize,
        hash: KeyHash,
        former: Option<u32>,
    ) -> Applied {
        let is_value = |content: ItemContent<'_>| content != ItemContent::Deleted;
        let had_value = former.is_some_and(|index| is_value(self.slab.record(index).content()));
        if is_value(item.content) && !had_value && !self.make_room_for_value() {
            return Applied::NoRoom;
        }
        let former = match had_value {
            true => former,
            // It may have moved, or gone.
            false => self.tables.find(&self.slab, item.partition, item.key, hash),
        };
        if let Some(index) = former.filter(|index| self.slab.fits(*index, record_bytes)) {
            self.overwrite(index, item);
            return Applied::Newer;
        }
        let applied = self.place(item, record_bytes, hash, former);
        if (applied, is_value(item.content)) == (Applied::NoRoom, false) {
            // A delete is never refused: it makes the room for its tombstone itself, or leaves none. What
            // it deletes may have moved.
            if let Some(former) = self.tables.find(&self.slab, item.partition, item.key, hash) {
                self.remove(former);
                if self.place(item, record_bytes, hash, None) == Applied::NoRoom {
                    self.forgotten = self.forgotten.max(item.version);
                }
            }
            return Applied::Newer;
        }
        applied
    }

    /// Drops values until one more is allowed; false: that may not be.
    fn make_room_for_value(&mut self) -> bool {
        let items_max = self.limits.items_max.unwrap_or(usize::MAX).max(1);
        while self.item_count >= items_max {
            if self.has_remains() {
                self.clear_some(CLEAR_STEPS);
                continue;
            }
            let Some(next) = self.order.next_to_go(&mut self.slab) else { return false };
            self.drop_entry(next);
        }
        true
    }

    /// Writes an entry to a slot that is found for it, in place of the one that its key has.
    pub(super) fn place(
        &mut self,
        item: Item<'_>,
        record_bytes: usize,
        hash: KeyHash,
        former: Option<u32>,
    ) -> Applied {
        let is_value = |record: Record<'_>| !record.is_tombstone() && !self.is_hidden(record);
        let had_value = former.is_some_and(|index| is_value(self.slab.record(index)));
        let index = loop {
            // Each may have a span more.
            if self.memory_bytes() + 2 * arena::SPAN_OVERHEAD_BYTES > self.memory_ceiling {
                if !self.make_room() {
                    return Applied::NoRoom;
                }
            } else if !self.tables.reserve(&mut self.slab, item.partition, hash) {
                if self.may_grow(1) {
                    self.slab.arena_mut().add_region();
                } else if !self.make_room() {
                    return Applied::NoRoom;
                }
            } else if let Some(index) = self.slab.insert(item, record_bytes) {
                break index;
            } else if self.may_grow(record_bytes) {
                break self.slab.insert_in_new_memory(item, record_bytes);
            } else if !self.make_room() {
                return Applied::NoRoom;
            }
        };
        // Only now: to make room it may have moved, or gone, which is no eviction then.
        if let Some(former) = self.tables.find(&self.slab, item.partition, item.key, hash) {
            self.count_out(item.partition, Kind::of(self.slab.record(former).content()));
            self.unlink(former);
            self.tables.replace(&mut self.slab, item.partition, hash, former, index);
            self.slab.remove(former);
        } else {
            self.evictions -= u64::from(had_value);
            self.tables.insert(&mut self.slab, item.partition, hash, index);
        }
        self.link(index);
        self.count_in(item.partition, Kind::of(item.content));
        Applied::Newer
    }

    /// Whether memory may be added for a span of that length.
    fn may_grow(&self, bytes: usize) -> bool {
        let grown_bytes = self.memory_bytes() + self.slab.growth_bytes(bytes) + arena::SPAN_OVERHEAD_BYTES;
        self.slab.can_grow() && grown_bytes <= self.memory_ceiling
    }

    /// Gets a step nearer to room for an entry; false: nothing may go.
    pub(super) fn make_room(&mut self) -> bool {
        if self.has_remains() {
            self.clear_some(CLEAR_STEPS);
            return true;
        }
        if let Some(slots) = self.slab.emptiest_page() {
            slots.into_iter().for_each(|index| self.move_record(index));
            return true;
        }
        let bytes = self.memory_bytes() + 2 * arena::SPAN_OVERHEAD_BYTES;
        if bytes > self.limits.memory_bytes_max && self.slab.give_back_region() {
            return true;
        }
        let next = self.order.next_to_go(&mut self.slab).or(self.tombstones.oldest());
        next.inspect(|index| self.drop_entry(*index)).is_some()
    }

    fn move_record(&mut self, from: u32) {
        let to = self.slab.move_record(from);
        self.tables.rename(&mut self.slab, from, to);
        match self.slab.record(to).is_tombstone() {
            true => self.tombstones.follow(&mut self.slab, to),
            false => self.order.follow(&mut self.slab, from, to),
        }
    }

    pub(super) fn drop_excess_tombstones(&mut self) {
        while self.tombstone_bytes > self.limits.tombstone_bytes_max {
            let oldest = self.tombstones.oldest().expect("tombstones that take memory are in their list");
            self.drop_entry(oldest);
        }
    }

    /// Drops an entry to make room. Values count as evicted.
    pub(super) fn drop_entry(&mut self, index: u32) {
        let record = self.slab.record(index);
        match record.is_tombstone() {
            true => self.forgotten = self.forgotten.max(record.version()),
            false => self.evictions += 1,
        }
        self.remove(index);
    }
}
