//! Clearing away values past their deadline.

use crate::store::Applied;
use crate::store::Item;
use crate::store::ItemContent;
use crate::store::Partition;
use crate::store::ScanCursor;
use crate::store::Shard;
use crate::store::record;
use crate::time::Timestamp;

impl Shard {
    /// Clears away a value past its deadline.
    pub(super) fn expire(&mut self, index: u32, now: Timestamp) {
        self.expirations += 1;
        let item = self.slab.record(index).item();
        if self.is_old(item.version, now) {
            self.remove(index);
            return;
        }
        let key: Box<[u8]> = item.key.into();
        let tombstone = Item { key: &key, content: ItemContent::Deleted, ..item };
        let record_bytes = record::record_bytes(&tombstone);
        if self.slab.fits(index, record_bytes) {
            self.overwrite(index, tombstone);
        } else {
            // It goes first, so that there is room for what is less.
            let hash = self.tables.hash(&key);
            self.remove(index);
            // Without room for what is less than it was there is none for a tombstone.
            if self.place(tombstone, record_bytes, hash, None) == Applied::NoRoom {
                self.forgotten = self.forgotten.max(tombstone.version);
            }
        }
        self.drop_excess_tombstones();
    }

    /// Clears away values past their deadline that nobody has read since: looks at `visits_max` slots,
    /// going on where the call before ended, and round again. Where nothing has a deadline it does not look.
    pub fn expire_some(&mut self, now: Timestamp, visits_max: usize) {
        let mut expired: Vec<(Partition, Box<[u8]>)> = Vec::new();
        let may_expire = |partition| self.tables.deadline_count(partition) > 0;
        let next = self.scan_where(self.expired_up_to, visits_max, may_expire, |item| match item.content {
            ItemContent::Value { .. } if item.content.at(now) == ItemContent::Deleted => {
                expired.push((item.partition, item.key.into()));
            }
            ItemContent::Value { .. } | ItemContent::Deleted => {}
        });
        self.expired_up_to = next.unwrap_or(ScanCursor::START);
        for (partition, key) in expired {
            // Finding it is what clears it away.
            let found = self.find_value(partition, &key, self.tables.hash(&key), now);
            debug_assert!(found.is_none(), "what has expired is not found");
        }
    }
}
