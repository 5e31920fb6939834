//! What a shard has, for whoever compares copies: all that is stored, served or not.

use crate::cluster::serving::STEP_VISITS_MAX;
use crate::cluster::serving::Serving;
use crate::cluster::serving::VISITS;
use crate::cluster::survey::Digests;
use crate::cluster::survey::SurveyedKey;
use crate::cluster::survey::digest_of;
use crate::store::Item;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::time::Timestamp;

/// Bytes of keys and values that one step looks at: it hashes them, some 100 microseconds.
const STEP_BYTES_MAX: usize = 1024 * 1024;

impl Serving {
    /// The digests of what one step may look at, and where to go on.
    pub fn digest(&self, cursor: ScanCursor, at: Timestamp) -> (Digests, Option<ScanCursor>) {
        let mut digests = Digests::default();
        let next = self.look(cursor, None, |item| {
            if let Some(digest) = digest_of(item, at) {
                digests.add(item.partition, digest);
            }
        });
        (digests, next)
    }

    /// The keys of some partitions, as many as one step may look at, and where to go on.
    pub fn survey(
        &self,
        cursor: ScanCursor,
        partitions: &PartitionSet,
        at: Timestamp,
    ) -> (Vec<SurveyedKey>, Option<ScanCursor>) {
        let mut keys = Vec::new();
        let next = self.look(cursor, Some(partitions), |item| {
            keys.extend(digest_of(item, at).map(|digest| SurveyedKey::of(item, digest)));
        });
        (keys, next)
    }

    /// Shows what one step may look at. Returns where to go on.
    fn look(
        &self,
        mut cursor: ScanCursor,
        partitions: Option<&PartitionSet>,
        mut visit: impl FnMut(&Item<'_>),
    ) -> Option<ScanCursor> {
        let is_wanted = |partition| partitions.is_none_or(|wanted| wanted.contains(partition));
        let (mut bytes, mut visits) = (0, 0);
        while bytes < STEP_BYTES_MAX && visits < STEP_VISITS_MAX {
            let here = cursor.partition()?;
            if !is_wanted(here) {
                cursor = ScanCursor::at(partitions?.iter().find(|wanted| *wanted > here)?);
            }
            visits += VISITS;
            cursor = self.store.scan(cursor, VISITS, |item| {
                bytes += item.bytes();
                if is_wanted(item.partition) {
                    visit(&item);
                }
            })?;
        }
        Some(cursor)
    }
}
