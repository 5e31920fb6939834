//! What a shard shows to the witness of a simulation, and how planted bugs mislead it.

use bytes::Bytes;

use crate::cluster::peer::StreamItem;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::cluster::serving::Serving;
use crate::cluster::witness;
use crate::cluster::witness::Fact;
use crate::store::Change;
use crate::store::Content;
use crate::store::Partition;
use crate::time::Timestamp;
use crate::time::Version;

impl Serving {
    /// Whether a planted bug takes care of an item.
    pub(super) fn is_misled_by(&mut self, item: &StreamItem, now: Timestamp) -> bool {
        match item {
            StreamItem::Change(change) if planted::has(Bug::ApplyOlderVersion) => {
                let last = Change { version: self.clock.next(now), ..change.clone() };
                self.apply_change(&last, now);
                true
            }
            StreamItem::Change(change) => {
                planted::has(Bug::DropTombstones) && change.content == Content::Deleted
            }
            StreamItem::Flushed { .. } => planted::has(Bug::KeepFlushHere),
            StreamItem::Together(_) | StreamItem::PullDone { .. } | StreamItem::HandOver(_) => false,
        }
    }

    pub(super) fn show_made(&self, partition: Partition, change: &Change) {
        self.show(Fact::Made(change.clone()));
        self.show_held(partition, &change.key);
    }

    pub(super) fn show_set(&self, partition: Partition, key: &[u8], value: &[u8], version: Version) {
        let bytes = Bytes::copy_from_slice(value);
        let content = Content::Value { bytes, expires_at: None };
        self.show_made(partition, &Change { key: Bytes::copy_from_slice(key), version, content });
    }

    pub(super) fn show_held(&self, partition: Partition, key: &Bytes) {
        if let Some(version) = self.store.version_of(partition, key) {
            self.show(Fact::Holds(key.clone(), version));
        }
    }

    pub(super) fn show_flushed(&self, partition: Partition, version: Version, is_made: bool) {
        self.show(Fact::Flushed { partition, version, is_made });
    }

    pub(super) fn show_dropped(&self, partition: Partition) {
        self.show(Fact::Dropped(partition));
    }

    fn show(&self, fact: Fact) {
        witness::tell(self.view.me(), fact);
    }
}
