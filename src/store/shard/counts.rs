//! What a shard counts of its entries, and the lists that they are in.

use crate::store::ItemContent;
use crate::store::Partition;
use crate::store::Shard;

impl Shard {
    /// Puts an entry into its list.
    pub(super) fn link(&mut self, index: u32) {
        if self.slab.record(index).is_tombstone() {
            self.tombstones.push(&mut self.slab, index);
            self.tombstone_bytes += self.slab.entry_bytes(index);
        } else {
            self.order.add(&mut self.slab, index);
        }
    }

    /// Takes an entry out of its list.
    pub(super) fn unlink(&mut self, index: u32) {
        if self.slab.record(index).is_tombstone() {
            self.tombstones.unlink(&mut self.slab, index);
            self.tombstone_bytes -= self.slab.entry_bytes(index);
        } else {
            self.order.remove(&mut self.slab, index);
        }
    }

    pub(super) fn count_in(&mut self, partition: Partition, kind: Kind) {
        if kind == Kind::Tombstone {
            self.tombstone_count += 1;
        } else {
            self.item_count += 1;
            *self.tables.value_count_mut(partition) += 1;
            *self.tables.deadline_count_mut(partition) += u32::from(kind == Kind::ValueWithDeadline);
        }
    }

    pub(super) fn count_out(&mut self, partition: Partition, kind: Kind) {
        if kind == Kind::Tombstone {
            self.tombstone_count -= 1;
        } else {
            self.item_count -= 1;
            *self.tables.value_count_mut(partition) -= 1;
            *self.tables.deadline_count_mut(partition) -= u32::from(kind == Kind::ValueWithDeadline);
        }
    }
}

/// What an entry counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tombstone,
    Value,
    ValueWithDeadline,
}

impl Kind {
    pub(super) fn of(content: ItemContent<'_>) -> Self {
        match content {
            ItemContent::Deleted => Self::Tombstone,
            ItemContent::Value { expires_at: None, .. } => Self::Value,
            ItemContent::Value { expires_at: Some(_), .. } => Self::ValueWithDeadline,
        }
    }
}
