//! Serving: what one shard does for its partitions, as primary and as replica.
//!
//! It carries out commands for the partitions it is primary of, applies what other nodes stream to
//! it, answers pulls in bounded steps, and says what is to be streamed to whom. A change goes to all
//! other holders of its partition in the view, and to every node that has pulled the partition and
//! does not show as a holder yet: a pull and the changes that follow it leave no gap.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::StreamItem;
use crate::cluster::placement::HandOver;
use crate::cluster::placement::PullId;
use crate::cluster::view::Liveness;
use crate::cluster::view::View;
use crate::command::KeyCommand;
use crate::command::Reply;
use crate::command::execute;
use crate::store::Applied;
use crate::store::Change;
use crate::store::ItemContent;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::store::Shard;
use crate::store::ShardStats;
use crate::time::Clock;
use crate::time::Timestamp;
use crate::time::Version;

/// Slots that one step of a pull or a listing looks at: well below a millisecond.
const STEP_VISITS_MAX: usize = 2_000;
/// Bytes of keys and values that one step of a pull sends.
const STEP_BYTES_MAX: usize = 64 * 1024;
/// Partitions that are purged in one step.
const STEP_PURGES_MAX: usize = 8;

/// What is to be streamed, and to whom, in order.
pub type Outgoing = Vec<(NodeId, StreamItem)>;

/// What a node asked for that pulls.
#[derive(Clone, Debug)]
struct Pull {
    by: NodeId,
    id: PullId,
    wants: BTreeMap<Partition, Version>,
    cursor: ScanCursor,
    has_begun: bool,
}

/// One shard of a node. See the module.
pub struct Serving {
    store: Shard,
    clock: Clock,
    view: Arc<View>,
    /// This is shard `number` of `count`: it has every `count`-th partition.
    number: u16,
    count: u16,
    primary: PartitionSet,
    subscribers: BTreeMap<NodeId, PartitionSet>,
    pulls: VecDeque<Pull>,
    purging: PartitionSet,
}

impl Serving {
    /// Shard `number` of `count`, which serves nothing before it has seen a view that says so.
    pub fn new(store: Shard, number: u16, count: u16, view: Arc<View>) -> Self {
        let mut serving = Self {
            store,
            clock: Clock::default(),
            view: Arc::clone(&view),
            number,
            count,
            primary: PartitionSet::new(),
            subscribers: BTreeMap::new(),
            pulls: VecDeque::new(),
            purging: PartitionSet::new(),
        };
        serving.see(view);
        serving
    }

    /// Serves and replicates by this view from now on.
    pub fn see(&mut self, view: Arc<View>) {
        self.primary = self.partitions().filter(|partition| view.is_primary(*partition)).collect();
        // A node that shows as synced is a holder if the ring wants it; a dead one starts anew.
        self.subscribers.retain(|node, partitions| {
            let member = view.member(*node).filter(|member| member.liveness != Liveness::Dead);
            member.is_some_and(|member| {
                partitions.subtract(&member.record.synced);
                !partitions.is_empty()
            })
        });
        self.view = view;
    }

    /// Carries out a command if this node serves its partition; false: it does not, nothing was done.
    pub fn run(
        &mut self,
        command: &KeyCommand,
        now: Timestamp,
        out: &mut Outgoing,
        reply: impl FnOnce(&Reply<'_>),
    ) -> bool {
        let partition = Partition::of(&command.key.0);
        if !self.primary.contains(partition) {
            return false;
        }
        self.purge_now(partition);
        let executed = execute(command, partition, &mut self.store, &mut self.clock, now);
        reply(&executed.reply);
        for change in executed.changes {
            self.replicate(partition, change, out);
        }
        true
    }

    /// Applies an item of another node's stream.
    pub fn apply(&mut self, item: &StreamItem, now: Timestamp) {
        match item {
            StreamItem::Change(change) => {
                let partition = Partition::of(&change.key);
                self.purge_now(partition);
                self.clock.observe(change.version);
                match self.store.apply(partition, change, now) {
                    Applied::Newer | Applied::Stale => {}
                    // A copy with less memory than its primary: as if it had been evicted.
                    Applied::TooLarge { .. } => {}
                }
            }
            StreamItem::Flushed { partition, version } => {
                self.purge_now(*partition);
                self.clock.observe(*version);
                self.store.flush(*partition, *version);
            }
            // About the node, not about a shard.
            StreamItem::PullDone { .. } | StreamItem::HandOver(_) => {}
        }
    }

    /// Stops serving partitions and tells the new primary, behind all changes made here.
    pub fn hand_over(&mut self, to: NodeId, given: &HandOver, out: &mut Outgoing) {
        let partitions: PartitionSet = self.partitions().filter(|p| given.partitions.contains(*p)).collect();
        if !partitions.is_empty() {
            self.primary.subtract(&partitions);
            out.push((to, StreamItem::HandOver(HandOver { partitions, is_leaving: given.is_leaving })));
        }
    }

    /// Begins to send a node what it lacks. From now on changes of these partitions go to it too.
    pub fn start_pull(&mut self, by: NodeId, id: PullId, wants: &[(Partition, Version)]) {
        let wants: BTreeMap<Partition, Version> =
            wants.iter().filter(|(partition, _)| self.has(*partition)).copied().collect();
        self.subscribers.entry(by).or_default().union_with(&wants.keys().copied().collect());
        self.pulls.push_back(Pull { by, id, wants, cursor: ScanCursor::START, has_begun: false });
    }

    /// Forgets the pulls of a node: its link was lost, it will ask again.
    pub fn cancel_pulls(&mut self, by: NodeId) {
        self.pulls.retain(|pull| pull.by != by);
    }

    /// Whether there is something for [`Serving::step`] to do.
    pub fn has_work(&self) -> bool {
        !self.pulls.is_empty() || !self.purging.is_empty()
    }

    /// Does a bounded piece of what takes long. A pull goes on only where `may_send` says that its
    /// node can take more.
    pub fn step(&mut self, now: Timestamp, may_send: impl Fn(NodeId) -> bool, out: &mut Outgoing) {
        let purged: Vec<Partition> = self.purging.iter().take(STEP_PURGES_MAX).collect();
        purged.into_iter().for_each(|partition| self.purge_now(partition));
        // Round robin over the pulls, so that a slow node does not hold up the others.
        let Some(mut pull) = self.pulls.pop_front() else { return };
        if !may_send(pull.by) {
            self.pulls.push_back(pull);
            return;
        }
        if !std::mem::replace(&mut pull.has_begun, true) {
            self.send_flush_marks(&pull, out);
        }
        match self.send_chunk(&pull, out) {
            Some(cursor) => self.pulls.push_back(Pull { cursor, ..pull }),
            None => {
                let item = StreamItem::PullDone {
                    id: pull.id,
                    shards: self.count,
                    partitions: pull.wants.keys().copied().collect(),
                    up_to: self.clock.next(now),
                };
                out.push((pull.by, item));
            }
        }
    }

    /// Forgets all that is stored of partitions, by and by.
    pub fn purge(&mut self, partitions: &PartitionSet) {
        self.purging.union_with(&self.partitions().filter(|p| partitions.contains(*p)).collect());
    }

    /// Deletes all entries of the partitions of this shard that the node serves, out of these.
    pub fn flush(&mut self, partitions: &PartitionSet, now: Timestamp, out: &mut Outgoing) -> PartitionSet {
        let served: PartitionSet =
            self.partitions().filter(|p| partitions.contains(*p) && self.primary.contains(*p)).collect();
        for partition in served.iter() {
            self.purge_now(partition);
            let version = self.clock.next(now);
            self.store.flush(partition, version);
            self.stream(partition, &StreamItem::Flushed { partition, version }, out);
        }
        served
    }

    /// Lists some keys of the partitions that the node serves, looking at so many slots, or as many as
    /// one step may look at. Returns where to go on.
    pub fn list(
        &self,
        cursor: ScanCursor,
        visits_max: usize,
        now: Timestamp,
        mut key: impl FnMut(&[u8]),
    ) -> Option<ScanCursor> {
        self.store.scan(cursor, visits_max.min(STEP_VISITS_MAX), |item| match item.content.at(now) {
            ItemContent::Value { .. } if self.primary.contains(item.partition) => key(item.key),
            ItemContent::Value { .. } | ItemContent::Deleted => {}
        })
    }

    /// Drops old tombstones and clears away some of what has expired, a bounded number of each.
    pub fn sweep(&mut self, now: Timestamp) {
        self.store.sweep(now, STEP_VISITS_MAX);
        self.store.expire_some(now, STEP_VISITS_MAX);
    }

    /// The figures of the store.
    pub fn stats(&self) -> ShardStats {
        self.store.stats()
    }

    /// How many keys there are in the partitions that the node serves.
    pub fn keys_served(&self) -> usize {
        self.primary.iter().map(|partition| self.store.len_of(partition)).sum()
    }

    fn has(&self, partition: Partition) -> bool {
        partition.number() % self.count == self.number
    }

    fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        Partition::all().skip(usize::from(self.number)).step_by(usize::from(self.count))
    }

    /// A partition that is being purged and comes to use again must not lose what comes now.
    fn purge_now(&mut self, partition: Partition) {
        if self.purging.remove(partition) {
            self.store.drop_partition(partition);
        }
    }

    fn replicate(&mut self, partition: Partition, change: Change, out: &mut Outgoing) {
        self.stream(partition, &StreamItem::Change(change), out);
    }

    fn stream(&self, partition: Partition, item: &StreamItem, out: &mut Outgoing) {
        let holders = self.view.other_holders(partition);
        out.extend(holders.map(|node| (node, item.clone())));
        let is_new = |node: &NodeId| self.view.other_holders(partition).all(|holder| holder != *node);
        let subscribed = self.subscribers.iter().filter(|(_, partitions)| partitions.contains(partition));
        out.extend(subscribed.filter(|(node, _)| is_new(node)).map(|(node, _)| (*node, item.clone())));
    }

    fn send_flush_marks(&self, pull: &Pull, out: &mut Outgoing) {
        for (partition, since) in &pull.wants {
            let version = self.store.flushed_at(*partition);
            if version > *since {
                out.push((pull.by, StreamItem::Flushed { partition: *partition, version }));
            }
        }
    }

    /// Sends what a step may look at and send.
    fn send_chunk(&self, pull: &Pull, out: &mut Outgoing) -> Option<ScanCursor> {
        let (mut cursor, mut bytes, mut visits) = (pull.cursor, 0, 0);
        while bytes < STEP_BYTES_MAX && visits < STEP_VISITS_MAX {
            // Few at a time, since one entry may be as large as a whole step.
            const VISITS: usize = 16;
            visits += VISITS;
            cursor = self.store.scan(cursor, VISITS, |item| {
                if pull.wants.get(&item.partition).is_some_and(|since| item.version > *since) {
                    let change = item.to_change();
                    bytes += change.bytes();
                    out.push((pull.by, StreamItem::Change(change)));
                }
            })?;
        }
        Some(cursor)
    }
}
