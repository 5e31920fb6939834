//! What other nodes pull from a shard: all entries of some partitions that are newer than a version each.

use std::collections::BTreeMap;

use crate::cluster::membership::NodeId;
use crate::cluster::outgoing::Outgoing;
use crate::cluster::peer::StreamItem;
use crate::cluster::placement::PullId;
use crate::cluster::serving::Pull;
use crate::cluster::serving::STEP_BYTES_MAX;
use crate::cluster::serving::STEP_VISITS_MAX;
use crate::cluster::serving::Serving;
use crate::cluster::serving::VISITS;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::time::Version;

impl Serving {
    /// Begins to send a node what it lacks. From now on changes of these partitions go to it too.
    ///
    /// A node awaits one pull from another at a time: the latest takes the place of those before it.
    pub fn start_pull(&mut self, by: NodeId, id: PullId, wants: &[(Partition, Version)]) {
        if self.pulls.iter().any(|pull| pull.by == by && pull.id >= id) {
            return;
        }
        self.pulls.retain(|pull| pull.by != by);
        let wants: BTreeMap<Partition, Version> =
            wants.iter().filter(|(partition, _)| self.has(*partition)).copied().collect();
        let wanted: PartitionSet = wants.keys().copied().collect();
        self.streamed.union_with(&wanted);
        self.subscribers.entry(by).or_default().union_with(&wanted);
        let complete = wants.keys().copied().filter(|partition| self.can_complete(by, *partition)).collect();
        self.pulls.push_back(Pull { by, id, wants, complete, cursor: ScanCursor::START, has_begun: false });
    }

    /// The stream to a node begins anew. It sees the gap, and asks again for what it lacks.
    pub fn stream_broken(&mut self, to: NodeId) {
        self.pulls.retain(|pull| pull.by != to);
        self.subscribers.remove(&to);
    }

    /// Whether a pull of a partition that ends now would bring all of it: this node says that it has
    /// everything, and serves it, unless the other one has all of it too and only fills a gap.
    pub(super) fn can_complete(&self, by: NodeId, partition: Partition) -> bool {
        let is_synced = |node| {
            let member = self.view.member(node).filter(|member| member.is_current());
            member.is_some_and(|member| member.record.synced.contains(partition))
        };
        is_synced(self.view.me()) && (self.primary.contains(partition) || is_synced(by))
    }

    /// What this node has ceased to serve meanwhile is not complete, even if it serves it again later.
    pub(super) fn check_pulls(&mut self) {
        let mut pulls = std::mem::take(&mut self.pulls);
        for pull in &mut pulls {
            pull.complete =
                pull.complete.iter().filter(|partition| self.can_complete(pull.by, *partition)).collect();
        }
        self.pulls = pulls;
    }

    /// How many pulls are under way.
    pub fn pull_count(&self) -> usize {
        self.pulls.len()
    }

    pub(super) fn send_flush_marks(&self, pull: &Pull, out: &mut Outgoing) {
        for (partition, since) in &pull.wants {
            let version = self.store.flushed_at(*partition);
            if version > *since {
                out.push(pull.by, &StreamItem::Flushed { partition: *partition, version });
            }
        }
    }

    /// Sends what a step may look at and send.
    pub(super) fn send_chunk(&self, pull: &Pull, out: &mut Outgoing) -> Option<ScanCursor> {
        let (mut cursor, mut bytes, mut visits) = (pull.cursor, 0, 0);
        while bytes < STEP_BYTES_MAX && visits < STEP_VISITS_MAX {
            visits += VISITS;
            cursor = self.store.scan(cursor, VISITS, |item| {
                if pull.wants.get(&item.partition).is_some_and(|since| item.version > *since) {
                    let change = item.to_change();
                    bytes += change.bytes();
                    out.push(pull.by, &StreamItem::Change(change));
                }
            })?;
        }
        Some(cursor)
    }
}
