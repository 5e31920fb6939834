//! Serving: what one shard does for its partitions, as primary and as replica.
//!
//! It carries out commands for the partitions it is primary of, applies what other nodes stream to
//! it, answers pulls in bounded steps, and says what is to be streamed to whom. A change goes to all
//! other nodes that hold its partition in the view or say that they have all of it, and to every node
//! that has pulled the partition and does not show as such yet: a pull and the changes that follow it
//! leave no gap. A node that is not served without a gap is not told that its pull is complete.

mod keys;
mod pulls;
#[cfg(feature = "sim")]
mod shown;
mod survey;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

pub use keys::Served;

use crate::cluster::membership::NodeId;
use crate::cluster::outgoing::Outgoing;
use crate::cluster::peer::StreamItem;
use crate::cluster::placement::HandOver;
use crate::cluster::placement::PullId;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::cluster::view::View;
use crate::command::KeyCommand;
use crate::command::Plain;
use crate::command::Reply;
use crate::command::Tenure;
use crate::command::execute;
use crate::command::set_plainly;
use crate::store::Applied;
use crate::store::Change;
use crate::store::EvictionPolicy;
use crate::store::ItemContent;
use crate::store::KeyHash;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::store::Shard;
use crate::store::ShardStats;
use crate::store::Slot;
use crate::store::Spare;
use crate::time::Clock;
use crate::time::Timestamp;
use crate::time::Version;

/// Slots that one step of a pull or a listing looks at: well below a millisecond.
const STEP_VISITS_MAX: usize = if cfg!(feature = "sim") { 4 } else { 2_000 };
/// Bytes of keys and values that one step of a pull sends.
const STEP_BYTES_MAX: usize = 64 * 1024;
/// Slots looked at between two looks at the bytes: few, since one entry may be larger than a step.
const VISITS: usize = if cfg!(feature = "sim") { 2 } else { 8 };
/// Bytes of keys and values that travel as one: with one entry more they fit a frame.
const TOGETHER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Keys that the memory is asked for at once.
pub const WARMED_MAX: usize = 32;
/// Steps of clearing away what flushes and purges have left: some hundred microseconds.
const STEP_CLEARS_MAX: usize = 128;
/// Entries that go, or pass to another policy, on the way to other limits: as above.
const STEP_SETTLES_MAX: usize = 512;

/// What a node asked for that pulls.
#[derive(Clone, Debug)]
struct Pull {
    by: NodeId,
    id: PullId,
    wants: BTreeMap<Partition, Version>,
    /// Those of which this shard has had everything from the beginning of the pull until now.
    complete: PartitionSet,
    cursor: ScanCursor,
    has_begun: bool,
}

/// One shard of a node. See the module.
pub struct Serving {
    store: Shard,
    clock: Clock,
    tenure: Tenure,
    view: Arc<View>,
    /// This is shard `number` of `count`: it has every `count`-th partition.
    number: u16,
    count: u16,
    primary: PartitionSet,
    /// Whose changes somebody gets, and some more: all others need no look at the view.
    streamed: PartitionSet,
    subscribers: BTreeMap<NodeId, PartitionSet>,
    pulls: VecDeque<Pull>,
}

impl Serving {
    /// Shard `number` of `count`, which serves nothing before it has seen a view that says so.
    pub fn new(store: Shard, clock: Clock, tenure: Tenure, number: u16, count: u16, view: Arc<View>) -> Self {
        let mut serving = Self {
            store,
            clock,
            tenure,
            view: Arc::clone(&view),
            number,
            count,
            primary: PartitionSet::new(),
            streamed: PartitionSet::new(),
            subscribers: BTreeMap::new(),
            pulls: VecDeque::new(),
        };
        serving.see(view);
        serving
    }

    /// Serves and replicates by this view from now on.
    pub fn see(&mut self, view: Arc<View>) {
        let primary: PartitionSet =
            self.partitions().filter(|partition| view.is_primary(*partition)).collect();
        let mut gained = primary.clone();
        gained.subtract(&self.primary);
        if !gained.is_empty() {
            self.tenure.begin();
        }
        self.tenure.keep(&primary);
        self.primary = primary;
        // Who shows as synced gets all changes anyway. Others stay, even if this view does not know
        // them: a pull may be faster than the news of the node that asks for it.
        self.subscribers.retain(|node, partitions| {
            if let Some(member) = view.member(*node).filter(|member| member.is_current()) {
                partitions.subtract(&member.record.synced);
            }
            !partitions.is_empty()
        });
        let is_received = |partition: &Partition| view.receivers(*partition).next().is_some();
        self.streamed = self.partitions().filter(is_received).collect();
        self.subscribers.values().for_each(|partitions| self.streamed.union_with(partitions));
        self.view = view;
        self.check_pulls();
    }

    /// Has the memory ready that so many keys need at most. A lone one would not gain by it.
    pub fn warm<'k>(&self, keys: impl Iterator<Item = &'k [u8]> + Clone) {
        if keys.clone().nth(1).is_some() {
            self.store.warm::<WARMED_MAX>(keys.map(|key| (Partition::of(key), key)));
        }
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
        let executed = execute(command, partition, &mut self.store, &mut self.clock, &mut self.tenure, now);
        reply(&executed.reply);
        let changes = executed.changes;
        #[cfg(feature = "sim")]
        changes.iter().for_each(|change| self.show_made(partition, change));
        match <[Change; 1]>::try_from(changes) {
            Ok([change]) => self.stream(partition, &StreamItem::Change(change), out),
            Err(changes) => self.stream_together(partition, changes, out),
        }
        true
    }

    /// As [`Serving::run`], for a plain request for a key of that partition, with that hash.
    pub fn run_plain(
        &mut self,
        (partition, hash): (Partition, KeyHash),
        request: &Plain<'_>,
        now: Timestamp,
        out: &mut Outgoing,
        reply: impl FnOnce(&Reply<'_>),
    ) -> bool {
        if !self.primary.contains(partition) {
            return false;
        }
        match *request {
            Plain::Get { key } => {
                reply(&self.store.get_hashed(partition, key, hash, now).map_or(Reply::Absent, Reply::Value));
            }
            Plain::Set { key, value } => {
                match set_plainly(key, value, (partition, hash), &mut self.store, &mut self.clock, now) {
                    Ok(version) => {
                        self.tenure.changed(key);
                        reply(&Reply::Done);
                        if let Some(version) = version {
                            #[cfg(feature = "sim")]
                            self.show_set(partition, key, value, version);
                            self.stream_value(partition, key, value, version, out);
                        }
                    }
                    Err(refusal) => reply(&Reply::Refused(refusal)),
                }
            }
        }
        true
    }

    /// Answers a command that changes nothing from this node's copy, which may be behind its primary;
    /// false: there is no full copy here, or the command is not such a one.
    pub fn run_on_copy(
        &mut self,
        command: &KeyCommand,
        now: Timestamp,
        reply: impl FnOnce(&Reply<'_>),
    ) -> bool {
        let partition = Partition::of(&command.key.0);
        let may_answer = command.is_read() && self.view.has_copy(partition);
        if may_answer {
            let (store, clock, tenure) = (&mut self.store, &mut self.clock, &mut self.tenure);
            reply(&execute(command, partition, store, clock, tenure, now).reply);
        }
        may_answer
    }

    /// What is stored: to have it [warm](Shard::warm_table) before it is asked for.
    pub const fn store(&self) -> &Shard {
        &self.store
    }

    /// Applies an item of another node's stream. A primary passes on what it did not know: it was written where
    /// this node could not be seen, or came to a copy whose source has died. Another holder tells the primary
    /// what it did not know, unless that comes from there: where it comes from, the primary may never see.
    pub fn apply(&mut self, item: &StreamItem, from: NodeId, now: Timestamp, out: &mut Outgoing) {
        #[cfg(feature = "sim")]
        if self.is_misled_by(item, now) {
            return;
        }
        let news_of = match item {
            StreamItem::Change(change) => self.apply_change(change, now),
            StreamItem::Together(changes) => {
                changes.iter().filter_map(|change| self.apply_change(change, now)).last()
            }
            StreamItem::Flushed { partition, version } => {
                self.clock.observe(*version);
                let is_news = *version > self.store.flushed_at(*partition);
                self.store.flush(*partition, *version);
                self.tenure.flushed(*partition);
                #[cfg(feature = "sim")]
                self.show_flushed(*partition, *version, false);
                is_news.then_some(*partition)
            }
            // About the node, not about a shard.
            StreamItem::PullDone { .. } | StreamItem::HandOver(_) => None,
        };
        let Some(partition) = news_of else { return };
        if self.primary.contains(partition) {
            let others = self.receivers(partition).filter(|node| *node != from);
            others.for_each(|node| out.push(node, item));
            return;
        }
        let primary = self.view.primary(partition).filter(|node| *node != from && *node != self.view.me());
        primary.filter(|_| self.view.has_copy(partition)).into_iter().for_each(|node| out.push(node, item));
    }

    /// The partition of a change, if it was news.
    fn apply_change(&mut self, change: &Change, now: Timestamp) -> Option<Partition> {
        let partition = Partition::of(&change.key);
        self.clock.observe(change.version);
        let is_news = match self.store.apply(partition, change, now) {
            Applied::Newer => {
                self.tenure.changed(&change.key);
                true
            }
            Applied::Stale => false,
            // A copy with less memory than its primary: as if it had been evicted.
            Applied::NoRoom | Applied::TooLarge { .. } => false,
        };
        #[cfg(feature = "sim")]
        self.show_held(partition, &change.key);
        is_news.then_some(partition)
    }

    /// Stops serving partitions and tells the new primary, behind all changes made here.
    pub fn hand_over(&mut self, to: NodeId, given: &HandOver, out: &mut Outgoing) {
        let partitions: PartitionSet = self.partitions().filter(|p| given.partitions.contains(*p)).collect();
        if !partitions.is_empty() {
            self.primary.subtract(&partitions);
            self.tenure.keep(&self.primary);
            self.check_pulls();
            if planted::has(Bug::SkipHandOver) {
                return;
            }
            out.push(to, &StreamItem::HandOver(HandOver { partitions, is_leaving: given.is_leaving }));
        }
    }

    /// Sets other limits, which [`Serving::step`] gets nearer to.
    pub fn limit(&mut self, memory_bytes_max: usize, eviction: EvictionPolicy) {
        self.store.limit(memory_bytes_max, eviction);
    }

    /// See [`Shard::use_spare`].
    pub fn use_spare(&mut self, spare: &mut Spare) {
        self.store.use_spare(spare);
    }

    /// Whether there is something for [`Serving::step`] to do.
    pub fn has_work(&self) -> bool {
        !self.pulls.is_empty() || self.store.has_remains() || self.store.is_unsettled()
    }

    /// Does a bounded piece of what takes long. A pull goes on only where `may_send` says that its
    /// node can take more.
    pub fn step(&mut self, now: Timestamp, may_send: impl Fn(NodeId) -> bool, out: &mut Outgoing) {
        self.store.clear_some(STEP_CLEARS_MAX);
        self.store.settle_some(STEP_SETTLES_MAX);
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
                    partitions: pull.complete,
                    up_to: self.clock.next(now),
                };
                out.push(pull.by, &item);
            }
        }
    }

    /// Forgets all that is stored of partitions.
    pub fn purge(&mut self, partitions: &PartitionSet) {
        let purged = self.partitions().filter(|partition| partitions.contains(*partition));
        purged.for_each(|partition| {
            self.store.drop_partition(partition);
            #[cfg(feature = "sim")]
            self.show_dropped(partition);
        });
    }

    /// Deletes all entries of the partitions of this shard that the node serves, out of these.
    pub fn flush(&mut self, partitions: &PartitionSet, now: Timestamp, out: &mut Outgoing) -> PartitionSet {
        let served: PartitionSet =
            self.partitions().filter(|p| partitions.contains(*p) && self.primary.contains(*p)).collect();
        for partition in served.iter() {
            let version = self.clock.next(now);
            self.store.flush(partition, version);
            self.tenure.flushed(partition);
            #[cfg(feature = "sim")]
            self.show_flushed(partition, version, true);
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
        let (mut cursor, mut bytes, mut visits) = (cursor, 0, 0);
        while bytes < STEP_BYTES_MAX && visits < visits_max.min(STEP_VISITS_MAX) {
            let step = VISITS.min(visits_max);
            visits += step;
            cursor = self.store.scan(cursor, step, |item| match item.content.at(now) {
                ItemContent::Value { .. } if self.primary.contains(item.partition) => {
                    bytes += item.key.len();
                    key(item.key);
                }
                ItemContent::Value { .. } | ItemContent::Deleted => {}
            })?;
        }
        Some(cursor)
    }

    /// The keys of a slot that this node has, served or not.
    pub fn keys_of(&self, slot: u16, now: Timestamp) -> impl Iterator<Item = &[u8]> {
        let items = Partition::of_slot(slot).into_iter().flat_map(|p| self.store.items_of(p));
        items.filter_map(move |item| match item.content.at(now) {
            ItemContent::Value { .. } if Slot::of(item.key).number() == slot => Some(item.key),
            ItemContent::Value { .. } | ItemContent::Deleted => None,
        })
    }

    /// Drops old tombstones and clears away some of what has expired, a bounded number of each. Returns the
    /// latest version of a delete whose tombstone went before its time.
    pub fn sweep(&mut self, now: Timestamp) -> Version {
        self.store.sweep(now, STEP_VISITS_MAX);
        self.store.expire_some(now, STEP_VISITS_MAX);
        self.tenure.sweep(now);
        self.store.forgotten()
    }

    /// The other nodes that would serve a partition if this one were gone, the first one first. All of them
    /// get its changes.
    pub fn successors(&self, partition: Partition) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.view.successors(partition)
    }

    /// The partitions that it serves.
    pub const fn serves(&self) -> &PartitionSet {
        &self.primary
    }

    /// Whether somebody has a lease of the key.
    pub fn is_leased(&self, key: &[u8], now: Timestamp) -> bool {
        self.tenure.is_leased(key, now)
    }

    /// Whether there are [`Serving::ended_leases`].
    pub fn has_ended_leases(&self) -> bool {
        self.tenure.has_ended()
    }

    /// Keys whose lease has ended since the last call.
    pub fn ended_leases(&mut self) -> Vec<Bytes> {
        self.tenure.take_ended()
    }

    /// The latest version that was given here, or seen.
    pub fn latest(&self) -> Version {
        self.clock.last()
    }

    /// The figures of the store.
    pub fn stats(&self) -> ShardStats {
        self.store.stats()
    }

    fn has(&self, partition: Partition) -> bool {
        partition.number() % self.count == self.number
    }

    fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        Partition::all().skip(usize::from(self.number)).step_by(usize::from(self.count))
    }

    fn stream(&self, partition: Partition, item: &StreamItem, out: &mut Outgoing) {
        self.receivers(partition).for_each(|node| out.push(node, item));
    }

    /// Streams a value that lies in the bytes of a client.
    fn stream_value(
        &self,
        partition: Partition,
        key: &[u8],
        value: &[u8],
        version: Version,
        out: &mut Outgoing,
    ) {
        if !self.streamed.contains(partition) {
            return;
        }
        self.receivers(partition).for_each(|node| out.push_value(node, key, value, version));
    }

    /// Who gets the changes of a partition, see the module.
    fn receivers(&self, partition: Partition) -> impl Iterator<Item = NodeId> + '_ {
        let is_new = move |node: &NodeId| self.view.receivers(partition).all(|receiver| receiver != *node);
        let subscribed =
            self.subscribers.iter().filter(move |(_, partitions)| partitions.contains(partition));
        let subscribed = subscribed.map(|(node, _)| *node).filter(is_new);
        self.view.receivers(partition).chain(subscribed)
    }

    /// What changed at once arrives at once, as far as it fits a frame.
    fn stream_together(&self, partition: Partition, changes: Vec<Change>, out: &mut Outgoing) {
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let mut bytes = 0;
            let mut together = Vec::new();
            while let Some(change) = changes.next_if(|_| bytes < TOGETHER_BYTES_MAX) {
                bytes += change.bytes();
                together.push(change);
            }
            self.stream(partition, &StreamItem::Together(together), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::example;
    use crate::cluster::membership::Generation;
    use crate::command::Op;
    use crate::command::Together;
    use crate::store::ShardLimits;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn node(name: &str) -> NodeId {
        NodeId::of_name(name)
    }

    /// The view of the first of these nodes, with what each has synced.
    fn view(nodes: &[(&str, &PartitionSet)]) -> Arc<View> {
        let member = |(name, synced): &(&str, &PartitionSet)| {
            let mut member = example::member(name);
            Arc::make_mut(&mut member.record).synced = (*synced).clone();
            member
        };
        Arc::new(example::view(nodes.iter().map(member).collect()))
    }

    fn serving(view: Arc<View>) -> Serving {
        let store = Shard::new(ShardLimits::new(4 << 20), 1);
        Serving::new(store, Clock::default(), Tenure::new(1), 0, 1, view)
    }

    fn set(serving: &mut Serving, key: &[u8], out: &mut Outgoing) -> bool {
        let key = Bytes::copy_from_slice(key);
        serving.run(&KeyCommand::set(key, Bytes::from_static(b"v")), NOW, out, |_| {})
    }

    fn pull_id(number: u64) -> PullId {
        PullId { generation: Generation::from_raw(1), number }
    }

    fn run_pulls(serving: &mut Serving) -> Outgoing {
        let mut out = Outgoing::new();
        while serving.pull_count() > 0 {
            serving.step(NOW, |_| true, &mut out);
        }
        out
    }

    fn ends(out: &Outgoing) -> Vec<(PullId, PartitionSet)> {
        let end = |(_, item): &(NodeId, StreamItem)| match item {
            StreamItem::PullDone { id, partitions, .. } => Some((*id, partitions.clone())),
            StreamItem::Change(_)
            | StreamItem::Together(_)
            | StreamItem::Flushed { .. }
            | StreamItem::HandOver(_) => None,
        };
        out.decoded().iter().filter_map(end).collect()
    }

    fn everything() -> Vec<(Partition, Version)> {
        Partition::all().map(|partition| (partition, Version::ZERO)).collect()
    }

    #[test]
    fn changes_follow_a_pull_though_the_view_does_not_know_the_node_yet_until_the_stream_breaks() {
        let full = PartitionSet::full();
        let mut serving = serving(view(&[("a", &full)]));
        serving.start_pull(node("new"), pull_id(1), &everything());
        serving.see(view(&[("a", &full), ("b", &PartitionSet::new())]));
        let mut out = Outgoing::new();
        assert!(set(&mut serving, b"key", &mut out));
        assert!(out.nodes().any(|to| to == node("new")));
        serving.stream_broken(node("new"));
        out.clear();
        set(&mut serving, b"key", &mut out);
        assert!(out.nodes().all(|to| to != node("new")));
        assert_eq!(serving.pull_count(), 0);
    }

    #[test]
    fn a_copy_that_is_not_needed_gets_all_changes_for_as_long_as_it_says_that_it_is_full() {
        let full = PartitionSet::full();
        let view = view(&[("a", &full), ("b", &full), ("c", &full), ("d", &full)]);
        let served = view.primaries_of(node("a"));
        let key = (0..).map(|n| format!("key-{n}")).find(|k| served.contains(Partition::of(k.as_bytes())));
        let mut serving = serving(view);
        let mut out = Outgoing::new();
        assert!(set(&mut serving, key.unwrap().as_bytes(), &mut out));
        assert_eq!(out.nodes().count(), 3);
    }

    #[test]
    fn what_changes_at_once_travels_as_one_item() {
        let full = PartitionSet::full();
        let mut serving = serving(view(&[("a", &full)]));
        serving.start_pull(node("b"), pull_id(1), &everything());
        let set = |key: &'static [u8]| KeyCommand::set(Bytes::from_static(key), Bytes::from_static(b"v"));
        let together = Together::new(vec![set(b"{t}1"), set(b"{t}2"), set(b"{t}1")]);
        let command = KeyCommand::new(Bytes::from_static(b"{t}1"), Op::Together(together));
        let mut out = Outgoing::new();
        assert!(serving.run(&command, NOW, &mut out, |_| {}));
        let [(_, StreamItem::Together(changes))] = &out.decoded()[..] else { panic!("one item: {out:?}") };
        let keys: Vec<&[u8]> = changes.iter().map(|change| &change.key[..]).collect();
        assert_eq!(keys, [b"{t}2", b"{t}1"], "the last state of each key");
    }

    #[test]
    fn marks_and_leases_end_when_the_partition_comes_to_another_primary_or_back() {
        let full = PartitionSet::full();
        let alone = view(&[("a", &full), ("b", &PartitionSet::new())]);
        let mut serving = serving(Arc::clone(&alone));
        let key = Bytes::from_static(b"key");
        let ask = |serving: &mut Serving, op: Op| {
            let mut reply = String::new();
            let command = KeyCommand::new(key.clone(), op);
            serving.run(&command, NOW, &mut Outgoing::new(), |r| reply = format!("{r:?}"));
            reply
        };
        let mark = ask(&mut serving, Op::Mark);
        assert_eq!(ask(&mut serving, Op::Mark), mark);
        let lease = ask(&mut serving, Op::GetLease { stale_millis: 0 });
        assert!(serving.is_leased(b"key", NOW) && serving.ended_leases().is_empty());
        let partitions = [Partition::of(b"key")].into_iter().collect();
        let given = HandOver { partitions, is_leaving: false };
        serving.hand_over(node("b"), &given, &mut Outgoing::new());
        assert_eq!(serving.ended_leases(), ["key"]);
        serving.see(alone);
        assert_ne!(ask(&mut serving, Op::Mark), mark);
        assert_ne!(ask(&mut serving, Op::GetLease { stale_millis: 0 }), lease);
    }

    #[test]
    fn the_end_of_a_pull_names_only_what_was_served_here_all_the_time() {
        let (full, none) = (PartitionSet::full(), PartitionSet::new());
        let [first, second] = [1, 2].map(|number| Partition::new(number).unwrap());
        let alone = view(&[("a", &full), ("b", &none)]);
        let mut serving = serving(Arc::clone(&alone));
        serving.start_pull(node("b"), pull_id(1), &[(first, Version::ZERO), (second, Version::ZERO)]);
        // Given away and got back: what was written elsewhere meanwhile was not sent from here.
        let given = HandOver { partitions: [second].into_iter().collect(), is_leaving: false };
        serving.hand_over(node("b"), &given, &mut Outgoing::new());
        serving.see(alone);
        assert_eq!(ends(&run_pulls(&mut serving)), [(pull_id(1), [first].into_iter().collect())]);
    }

    #[test]
    fn what_was_not_known_passes_from_a_primary_to_all_and_from_others_to_it_but_not_back() {
        let full = PartitionSet::full();
        let view = view(&[("a", &full), ("b", &full), ("c", &full)]);
        let served = view.primaries_of(node("a"));
        let mut keys = (0..).map(|n| Bytes::from(format!("key-{n}")));
        let key = keys.find(|key| served.contains(Partition::of(key))).unwrap();
        let other = keys.find(|key| !served.contains(Partition::of(key))).unwrap();
        let mut serving = serving(view);
        let content = crate::store::Content::Deleted;
        let item = |key: &Bytes| {
            let (key, content) = (key.clone(), content.clone());
            StreamItem::Change(Change { key, version: Version::first_of(NOW), content })
        };
        let mut out = Outgoing::new();
        serving.apply(&item(&key), node("b"), NOW, &mut out);
        assert_eq!(out.decoded(), [(node("c"), item(&key))]);
        out.clear();
        serving.apply(&item(&key), node("c"), NOW, &mut out);
        assert_eq!(out.decoded(), [], "it is known");
        let (primary, third) = match serving.view.primary(Partition::of(&other)) == Some(node("b")) {
            true => (node("b"), node("c")),
            false => (node("c"), node("b")),
        };
        serving.apply(&item(&other), primary, NOW, &mut out);
        assert_eq!(out.decoded(), [], "its primary has told the others");
        let unknown = keys.find(|key| serving.view.primary(Partition::of(key)) == Some(primary)).unwrap();
        serving.apply(&item(&unknown), third, NOW, &mut out);
        match serving.view.has_copy(Partition::of(&unknown)) {
            true => assert_eq!(
                out.decoded(),
                [(primary, item(&unknown))],
                "which it may have no other way to learn"
            ),
            false => assert_eq!(out.decoded(), []),
        }
        out.clear();
        let flush = StreamItem::Flushed { partition: Partition::of(&key), version: Version::first_of(NOW) };
        serving.apply(&flush, node("b"), NOW, &mut out);
        assert_eq!(out.decoded(), [(node("c"), flush)]);
    }

    #[test]
    fn who_has_a_full_copy_may_fill_a_gap_from_one_that_does_not_serve() {
        let full = PartitionSet::full();
        let mut serving = serving(view(&[("a", &full), ("b", &full)]));
        serving.start_pull(node("b"), pull_id(1), &everything());
        assert_eq!(ends(&run_pulls(&mut serving)), [(pull_id(1), full)]);
    }

    #[test]
    fn the_latest_pull_of_a_node_replaces_those_before_it() {
        let full = PartitionSet::full();
        let mut serving = serving(view(&[("a", &full)]));
        serving.start_pull(node("b"), pull_id(1), &everything());
        serving.start_pull(node("b"), pull_id(3), &everything());
        serving.start_pull(node("b"), pull_id(2), &everything());
        serving.start_pull(node("c"), pull_id(1), &everything());
        assert_eq!(serving.pull_count(), 2);
        assert_eq!(ends(&run_pulls(&mut serving)).len(), 2);
    }

    #[test]
    fn a_step_of_a_listing_is_bounded_by_bytes_whatever_the_length_of_the_keys() {
        let mut serving = serving(view(&[("a", &PartitionSet::full())]));
        let mut out = Outgoing::new();
        (0..40_u8).for_each(|n| assert!(set(&mut serving, &[n; 40_000], &mut out)));
        let (mut cursor, mut keys) = (Some(ScanCursor::START), 0);
        while let Some(from) = cursor {
            let mut bytes = 0;
            cursor = serving.list(from, usize::MAX, NOW, |key| {
                bytes += key.len();
                keys += 1;
            });
            assert!(bytes <= STEP_BYTES_MAX + VISITS * 40_000);
        }
        assert_eq!(keys, 40);
    }
}
