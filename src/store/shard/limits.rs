//! What a shard may keep, and how it gets there when that changes.
//!
//! A new limit or policy is not reached at once, which could take seconds, but in steps that its owner
//! asks for. Until the memory is down, what is written has what was there: each change makes the room that
//! it needs itself, and none has to make up for all that is too much.

use std::time::Duration;

use crate::store::EvictionPolicy;
use crate::store::Partition;
use crate::store::ScanCursor;
use crate::store::Shard;
use crate::store::Spare;
use crate::store::arena;
use crate::store::table::POSITION_BITS;
use crate::time::Timestamp;

/// What a shard may take, while its memory is too much, beyond what it takes: the little that a change
/// adds where it adds no region.
const SLACK_BYTES: usize = 64 * 1024;

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
    /// What goes when there is no room.
    pub eviction: EvictionPolicy,
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
            eviction: EvictionPolicy::Lru,
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
    /// There is no room, and nothing may go to make some; nothing was changed.
    NoRoom,
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

impl Shard {
    /// Sets other limits, which are kept when [`Shard::settle_some`] has nothing more to do.
    pub fn limit(&mut self, memory_bytes_max: usize, eviction: EvictionPolicy) {
        if eviction != self.limits.eviction {
            self.limits.eviction = eviction;
            self.order.change(eviction, memory_bytes_max);
        } else if memory_bytes_max != self.limits.memory_bytes_max {
            self.order.resize(memory_bytes_max);
        } else {
            return;
        }
        self.memory_ceiling = self.memory_ceiling.max(self.memory_bytes() + SLACK_BYTES);
        self.limits.memory_bytes_max = memory_bytes_max;
        self.limits.tombstone_bytes_max =
            self.tombstone_bytes.max(ShardLimits::new(memory_bytes_max).tombstone_bytes_max);
        self.lower_ceiling();
    }

    /// Whether something is to be moved into a spare piece of memory, see [`Spare`].
    pub fn wants_spare(&self) -> bool {
        self.slab.arena().wants_spare()
    }

    /// Moves some of what is stored, if it wants that, to a spare piece, which becomes the memory that this
    /// was in. It takes as long as a copy of 2 MiB.
    pub fn use_spare(&mut self, spare: &mut Spare) {
        self.slab.arena_mut().use_spare(spare);
    }

    /// Whether the limits that were set are not reached yet.
    pub fn is_unsettled(&self) -> bool {
        self.memory_ceiling > self.limits.memory_bytes_max
            || self.limits.tombstone_bytes_max > self.tombstone_bytes_wanted()
            || self.order.is_changing()
    }

    /// Gets nearer to the limits in so many steps, each about an entry.
    pub fn settle_some(&mut self, steps_max: usize) {
        self.drop_some_tombstones(steps_max);
        self.shrink_some(steps_max);
        if self.order.is_changing() {
            self.adopt_some(steps_max);
        }
    }

    fn tombstone_bytes_wanted(&self) -> usize {
        ShardLimits::new(self.limits.memory_bytes_max).tombstone_bytes_max
    }

    fn drop_some_tombstones(&mut self, steps_max: usize) {
        let wanted = self.tombstone_bytes_wanted();
        if self.limits.tombstone_bytes_max <= wanted {
            return;
        }
        for _ in 0..steps_max {
            match self.tombstones.oldest().filter(|_| self.tombstone_bytes > wanted) {
                Some(oldest) => self.drop_entry(oldest),
                None => break,
            }
        }
        self.limits.tombstone_bytes_max = self.tombstone_bytes.max(wanted);
    }

    fn shrink_some(&mut self, steps_max: usize) {
        for _ in 0..steps_max {
            if self.memory_ceiling <= self.limits.memory_bytes_max {
                return;
            }
            let evictions = self.evictions;
            if !self.make_room() {
                // Nothing may go: whatever needs room is refused.
                self.memory_ceiling = self.limits.memory_bytes_max;
                return;
            }
            self.lower_ceiling();
            if self.evictions == evictions {
                // A page or a region was emptied, which takes as long as many entries.
                return;
            }
        }
    }

    fn lower_ceiling(&mut self) {
        let (taken, wanted) = (self.memory_bytes(), self.limits.memory_bytes_max);
        self.memory_ceiling = match taken + 2 * arena::SPAN_OVERHEAD_BYTES <= wanted {
            true => wanted,
            false => self.memory_ceiling.min(taken + SLACK_BYTES).max(wanted),
        };
    }

    /// Passes values on to the policy that is new.
    fn adopt_some(&mut self, values_max: usize) {
        let is_done = match self.order.has_listed_former() {
            true => self.order.adopt_listed(&mut self.slab, values_max),
            false => self.adopt_some_found(values_max),
        };
        if is_done {
            self.adopted_up_to = ScanCursor::START;
            self.order.has_changed(self.limits.memory_bytes_max);
        }
    }

    /// As above, where no list leads to them: they are searched for.
    fn adopt_some_found(&mut self, values_max: usize) -> bool {
        let ScanCursor(cursor) = self.adopted_up_to;
        let mut number = (cursor >> POSITION_BITS) as u16;
        let mut position = cursor & ((1 << POSITION_BITS) - 1);
        let mut found = Vec::new();
        while let Some(partition) = Partition::new(number).filter(|_| found.len() < values_max) {
            let next = self.tables.visit(&self.slab, partition, position, |index| found.push(index));
            number += u16::from(next.is_none());
            position = next.unwrap_or(0);
        }
        for index in found {
            if !self.slab.record(index).is_tombstone() {
                self.order.adopt(&mut self.slab, index);
            }
        }
        self.adopted_up_to = ScanCursor(u32::from(number) << POSITION_BITS | position);
        // What was flushed meanwhile was not found, but is asked for until it is cleared away.
        let is_searched = Partition::new(number).is_none();
        if is_searched {
            self.clear_some(values_max);
        }
        is_searched && !self.has_remains()
    }

    /// About how often a key was used lately, from 0 to 15; none: there is no such key, or nobody counts.
    pub fn frequency(&self, partition: Partition, key: &[u8], now: Timestamp) -> Option<u64> {
        self.peek(partition, key, now)?;
        self.order.frequency(&self.slab, self.find(partition, key)?)
    }
}
