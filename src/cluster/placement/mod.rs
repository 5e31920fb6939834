//! Placement: what this node should hold, and the steps that bring it there.
//!
//! Events come in (members, records, finished pulls, hand-overs, time), outputs go out (a new view, a
//! new record of our own, pulls, hand-overs, purges). The rules:
//!
//! - A node claims nothing before it has joined, nor while it lacks the record of a live member.
//! - A copy is *synced* when a pull from its primary has ended; from then on the primary's stream
//!   keeps it so.
//! - A planned move: the target pulls, asks the primary to hand over, and serves on its hand-over
//!   message. The primary stops first and sends the message behind its last changes, so there are
//!   never two primaries in a planned move. A hand-over that nobody confirms is taken back.
//! - A copy that the ring no longer wants is dropped, but only after a while in which nobody wanted it.
//! - A gap in the stream of another node is repaired by a pull; the copies stay synced meanwhile.

mod doubt;
mod event;
mod healing;
mod peers;
mod remove;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::ownership::Ownership;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::cluster::record::Record;
use crate::cluster::removal::Removals;
use crate::cluster::ring::Ring;
use crate::cluster::view::Liveness;
use crate::cluster::view::View;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Moment;

use doubt::Doubt;
pub use event::Event;
pub use event::HandOver;
pub use event::Output;
pub use event::PullId;
use healing::Healing;
use peers::Peers;
pub use remove::ForgetRefusal;

/// Where copies are put, and how long a change is waited for.
#[derive(Clone, Debug)]
pub struct PlacementSettings {
    /// Copies of every partition, the primary included (RF); 1 to 5.
    pub copies: usize,
    /// How long a member is dead before its copies are rebuilt elsewhere.
    pub rereplicate_after: Duration,
    /// How long a member is dead before it is taken off the ring.
    pub forget_after: Duration,
    /// How long a copy that nobody wants is kept.
    pub drop_after: Duration,
    /// How long a hand-over may stay without an answer before it is asked for again, or taken back.
    pub hand_over_wait_max: Duration,
    /// How long, after a stall of the process, the other members are waited for.
    pub doubt_max: Duration,
    /// How many nodes are pulled from at a time.
    pub pulls_max: usize,
    /// How long the last holder of a partition is dead before the partition is taken empty. One that
    /// others held for dead begins a new life; its old one ends for us a moment before that is known.
    /// And who joins has the record of a holder a moment before membership says that it lives.
    pub claim_lost_after: Duration,
}

impl Default for PlacementSettings {
    fn default() -> Self {
        Self {
            copies: 2,
            rereplicate_after: Duration::from_secs(10),
            forget_after: Duration::from_secs(600),
            drop_after: Duration::from_secs(2),
            // Well below what a client is made to wait: a refused hand-over serves nobody meanwhile.
            hand_over_wait_max: Duration::from_millis(500),
            doubt_max: Duration::from_millis(500),
            pulls_max: 4,
            claim_lost_after: Duration::from_millis(300),
        }
    }
}

/// Something asked of another node, and since when.
#[derive(Clone, Debug)]
struct Pending {
    partitions: PartitionSet,
    since: Moment,
}

#[derive(Clone, Debug)]
struct Pulling {
    id: PullId,
    partitions: PartitionSet,
    /// See [`Output::Pull`].
    former: Option<NodeId>,
}

/// The state machine. One per node.
#[derive(Debug)]
pub struct Placement {
    settings: PlacementSettings,
    record: Arc<Record>,
    identity: Identity,
    peers: Peers,
    is_joined: bool,
    has_left: bool,
    view: Arc<View>,
    /// Partitions of which something may be stored here: more than the synced ones during a pull.
    stored: PartitionSet,
    pulls: BTreeMap<NodeId, Pulling>,
    pulls_started: u64,
    /// Partitions pulled and asked from their primary, which has not handed them over yet.
    taking: BTreeMap<NodeId, Pending>,
    /// Partitions handed over to a node that has not said yet that it has them.
    granted: BTreeMap<NodeId, Pending>,
    /// Partitions in which we may lack something that another holder has.
    repairs: BTreeMap<NodeId, PartitionSet>,
    healing: Healing,
    /// Partitions stored here that nobody wants here.
    surplus: Pending,
    /// Nothing is asked for before: a source said that it does not have what our view says it has.
    pulls_paused_until: Option<Moment>,
    /// What leaving nodes have handed over to us: until then we do not serve what they had before us.
    handed: BTreeMap<NodeId, PartitionSet>,
    /// Nodes that are no members any more.
    removals: Removals,
    /// The process stood still, and may have been replaced.
    doubt: Option<Doubt>,
    /// Partitions without a primary would be ours, but their last holder has only just died.
    has_waiting_orphans: bool,
    /// A partition was handed over or taken back: the shards need a view even if it is the same.
    must_show_view: bool,
}

impl Placement {
    /// A node that holds nothing and knows nobody. `record` says who it is.
    pub fn new(settings: PlacementSettings, identity: Identity, record: Record, now: Moment) -> Self {
        let record = Arc::new(record);
        let (ring, members) = (Arc::new(Ring::default()), Vec::new());
        let view = View::new(identity.node, ring, members, Ownership::default());
        let surplus = Pending { partitions: PartitionSet::new(), since: now };
        let mut placement = Self {
            settings,
            record,
            identity,
            peers: Peers::default(),
            is_joined: false,
            has_left: false,
            view: Arc::new(view),
            stored: PartitionSet::new(),
            pulls: BTreeMap::new(),
            pulls_started: 0,
            taking: BTreeMap::new(),
            granted: BTreeMap::new(),
            repairs: BTreeMap::new(),
            healing: Healing::default(),
            surplus,
            pulls_paused_until: None,
            handed: BTreeMap::new(),
            removals: Removals::default(),
            doubt: None,
            has_waiting_orphans: false,
            must_show_view: false,
        };
        placement.view = placement.compute_view();
        placement
    }

    /// The current view.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// This node's own record.
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The name of a node, if it has ever said it.
    pub fn name_of(&self, node: NodeId) -> String {
        self.peers.record_of(node).map_or_else(|| node.to_string(), |record| record.name.clone())
    }

    /// Whether a node has said that it leaves: its silence is no loss.
    pub fn is_leaving(&self, node: NodeId) -> bool {
        self.peers.is_leaving(node)
    }

    /// The records of all members that are not dead, this node's own first.
    pub fn records(&self) -> Vec<Record> {
        let own = std::iter::once(&self.record);
        own.chain(self.peers.live_records()).map(|record| Record::clone(record)).collect()
    }

    /// This node has given up on all its seeds: it may claim partitions. One that was found by a single
    /// member of a cluster must not do so before it has heard of the others.
    pub fn joined(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.is_joined = true;
        self.settle(now, out);
    }

    /// Membership says that a member lives, for the first time or in a new generation.
    pub fn member_alive(&mut self, identity: Identity, now: Moment, out: &mut Vec<Output>) {
        if self.is_removed(identity) {
            return;
        }
        self.reappears(identity);
        if self.peers.alive(identity, now) {
            self.forget_requests(identity.node);
            self.keep_surplus(now);
            // It may have kept its data and have served clients where we could not see it: in a split.
            // Its stream may have told us of the gap before this, or never does. One that has started
            // anew has nothing that both hold, so for it this costs nothing.
            self.repairs.insert(identity.node, PartitionSet::full());
            self.settle(now, out);
        }
    }

    /// Membership suspects a member, or no longer does.
    pub fn member_suspect(
        &mut self,
        identity: Identity,
        is_suspect: bool,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        if self.peers.suspect(identity, is_suspect) {
            self.settle(now, out);
        }
    }

    /// Membership says that a member is dead or has left.
    pub fn member_down(&mut self, identity: Identity, now: Moment, out: &mut Vec<Output>) {
        if self.peers.down(identity, now) {
            self.forget_requests(identity.node);
            self.bereave(identity.node);
            self.stop_doubting(identity.node);
            self.settle(now, out);
        }
    }

    /// A record of another node has arrived, from itself or through others.
    pub fn record_arrived(&mut self, record: Record, now: Moment, out: &mut Vec<Output>) {
        let node = record.node;
        if node == self.identity.node || self.removals.bars(node, record.generation) {
            return;
        }
        let was_dead = self.peers.is_dead(node);
        if let Some(confirmed) = self.peers.record(record, now) {
            if was_dead {
                self.healing.lives_unseen(node, &confirmed);
            }
            if let Some(granted) = self.granted.get_mut(&node) {
                granted.partitions.subtract(&confirmed);
            }
            self.settle(now, out);
        }
    }

    /// We were declared dead by somebody and live on under a new generation.
    pub fn rejoined(&mut self, identity: Identity, now: Moment, out: &mut Vec<Output>) {
        self.identity = identity;
        self.change_record(|record| record.generation = identity.generation);
        // That settles whether we were replaced.
        self.end_doubt(out);
        self.settle(now, out);
    }

    /// The shard of these partitions has failed and lost what it had.
    pub fn shard_lost(&mut self, partitions: &PartitionSet, now: Moment, out: &mut Vec<Output>) {
        self.change_record(|record| record.synced.subtract(partitions));
        self.stored.subtract(partitions);
        self.healing.forget(partitions);
        // What was pulled into the old shard is gone: pull again, from the start.
        self.pulls.clear();
        self.taking.clear();
        self.settle(now, out);
    }

    /// The stream from a node has a gap: what it sent in between is unknown.
    fn stream_gap(&mut self, source: NodeId, now: Moment, out: &mut Vec<Output>) {
        self.pulls.remove(&source);
        self.taking.remove(&source);
        if !planted::has(Bug::IgnoreGap) {
            self.repairs.insert(source, PartitionSet::full());
        }
        // A hand-over may have been lost in it: better two primaries than none. But every stream begins
        // with a gap, and what one that leaves later has not handed over then must be waited for.
        if self.peers.is_leaving(source) {
            self.handed.insert(source, PartitionSet::full());
        }
        self.settle(now, out);
    }

    /// Our link to a node is up: it has told us of all members that it knows, so we have joined. What
    /// was asked of it before may not have arrived.
    pub fn link_up(&mut self, node: NodeId, now: Moment, out: &mut Vec<Output>) {
        self.is_joined = true;
        let id = self.next_pull_id();
        if let Some(pulling) = self.pulls.get_mut(&node) {
            pulling.id = id;
            out.push(pulling.output(node));
        }
        self.healing.link_up(node);
        if let Some(taking) = self.taking.get_mut(&node) {
            taking.since = now;
            out.push(Output::TakeOver { primary: node, partitions: taking.partitions.clone() });
        }
        self.keep_surplus(now);
        self.settle(now, out);
    }

    /// Others pull from us, or may want to: what nobody wants here may be what they lack.
    pub fn keep_surplus(&mut self, now: Moment) {
        self.surplus.since = now;
    }

    /// A pull has ended: of the partitions in `complete` everything that the source had when it began
    /// has been applied here. Of others that were asked for the source does not have everything.
    pub fn pull_done(
        &mut self,
        source: NodeId,
        id: PullId,
        complete: &PartitionSet,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        match self.pulls.get(&source) {
            Some(pulling) if pulling.id == id => {}
            Some(_) | None => return,
        }
        let Some(pulling) = self.pulls.remove(&source) else { return };
        let (mut synced, mut taking) = (PartitionSet::new(), PartitionSet::new());
        for partition in
            pulling.partitions.iter().filter(|partition| !self.record.synced.contains(*partition))
        {
            if !complete.contains(partition) && !planted::has(Bug::CountUnsynced) {
                // Our view or its own is behind: ask again when they may agree.
                self.pulls_paused_until = Some(now + Self::TICK);
                continue;
            }
            // Pulled from a node that is not primary any more: it will be pulled from the new one.
            if self.view.primary(partition) == Some(source) {
                match self.precedes(source, partition) {
                    true => taking.insert(partition),
                    false => synced.insert(partition),
                };
            }
        }
        if !synced.is_empty() {
            self.change_record(|record| record.synced.union_with(&synced));
            out.push(Output::Event(Event::Synced { partitions: synced, source }));
        }
        if !taking.is_empty() {
            out.push(Output::TakeOver { primary: source, partitions: taking.clone() });
            let before = self.taking.entry(source);
            let all = before.or_insert_with(|| Pending { partitions: PartitionSet::new(), since: now });
            all.partitions.union_with(&taking);
            all.since = now;
        }
        self.settle(now, out);
    }

    /// Another node asks for the primary role of partitions that it has pulled from us.
    pub fn take_over_asked(&mut self, by: NodeId, asked: &PartitionSet, now: Moment, out: &mut Vec<Output>) {
        if !self.peers.standing(by, now, &self.settings).is_up() {
            return;
        }
        let again = self.granted.get(&by).map(|granted| granted.partitions.clone()).unwrap_or_default();
        let is_ours = |partition: &Partition| self.view.is_primary(*partition) || again.contains(*partition);
        self.grant(by, asked.iter().filter(is_ours).collect(), now, out);
        self.settle(now, out);
    }

    /// A primary has stopped serving these partitions and has sent us all that it had. It says
    /// itself whether it leaves, since its record may not have arrived yet.
    pub fn handed_over(&mut self, by: NodeId, given: &HandOver, now: Moment, out: &mut Vec<Output>) {
        let mut taken = self.taking.get(&by).map(|taking| taking.partitions.clone()).unwrap_or_default();
        let is_known =
            |partition: &Partition| taken.contains(*partition) || self.record.synced.contains(*partition);
        // What was given up meanwhile (a gap, a stall) is not ours to serve; the giver takes it back.
        let accepted: PartitionSet = given.partitions.iter().filter(is_known).collect();
        if accepted.is_empty() {
            return;
        }
        taken.subtract(&accepted);
        match taken.is_empty() {
            true => drop(self.taking.remove(&by)),
            false => drop(self.taking.insert(by, Pending { partitions: taken, since: now })),
        }
        if given.is_leaving {
            self.peers.leaving(by, now);
            self.handed.entry(by).or_default().union_with(&given.partitions);
        }
        self.change_record(|record| record.synced.union_with(&accepted));
        out.push(Output::Event(Event::TookOver { partitions: accepted, from: by }));
        self.settle(now, out);
    }

    /// Time has passed. Call it every [`Placement::TICK`] or so.
    pub fn handle_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        if !self.is_due(now) {
            return;
        }
        self.end_doubt_in_time(now, out);
        self.give_up_leavers(now);
        let overdue = |pending: &Pending, limit| now.since(pending.since) >= limit;
        let wait_max = self.settings.hand_over_wait_max;
        for (primary, taking) in self.taking.iter_mut().filter(|(_, taking)| overdue(taking, wait_max)) {
            taking.since = now;
            out.push(Output::TakeOver { primary: *primary, partitions: taking.partitions.clone() });
        }
        let is_lapsed = |granted: &Pending| granted.partitions.is_empty() || overdue(granted, wait_max);
        let lapsed: Vec<(NodeId, Pending)> =
            self.granted.extract_if(.., |_, granted| is_lapsed(granted)).collect();
        for (to, granted) in lapsed.into_iter().filter(|(_, granted)| !granted.partitions.is_empty()) {
            self.must_show_view = true;
            if !self.record.is_leaving {
                out.push(Output::Event(Event::GrantLapsed { partitions: granted.partitions, to }));
            }
        }
        self.settle(now, out);
    }

    /// Whether something follows from the time alone.
    fn is_due(&self, now: Moment) -> bool {
        let wait_max = self.settings.hand_over_wait_max;
        let asked = self.taking.values().chain(self.granted.values());
        let is_unwanted = !self.surplus.partitions.is_empty();
        asked.into_iter().any(|pending| now.since(pending.since) >= wait_max)
            || (is_unwanted && now.since(self.surplus.since) >= self.settings.drop_after)
            || self.pulls_paused_until.is_some_and(|until| now >= until)
            || self.doubt.as_ref().is_some_and(|doubt| now.since(doubt.since) >= self.settings.doubt_max)
            || self.has_waiting_orphans
            || self.leavers_given_up(now).next().is_some()
            || self.peers.has_aged(now, &self.settings)
    }

    /// How often time is to be passed in.
    pub const TICK: Duration = Duration::from_millis(100);

    /// Whether we come before another node once both have a partition synced.
    fn precedes(&self, other: NodeId, partition: Partition) -> bool {
        let ring = self.view.ring();
        self.peers.is_leaving(other)
            || ring.position(partition, self.identity.node) < ring.position(partition, other)
    }

    fn grant(&mut self, to: NodeId, partitions: PartitionSet, now: Moment, out: &mut Vec<Output>) {
        if partitions.is_empty() {
            return;
        }
        let granted =
            self.granted.entry(to).or_insert_with(|| Pending { partitions: PartitionSet::new(), since: now });
        granted.partitions.union_with(&partitions);
        granted.since = now;
        out.push(Output::Event(Event::HandedOver { partitions: partitions.clone(), to }));
        let is_leaving = self.record.is_leaving;
        out.push(Output::HandOver { to, given: HandOver { partitions, is_leaving } });
        self.must_show_view = true;
    }

    /// What was asked of a node, or given to it, in a life that is over. A repair under way goes on
    /// when the node is back: if it was never dead, nothing else tells us of the gap again.
    fn forget_requests(&mut self, node: NodeId) {
        if let Some(pulling) = self.pulls.remove(&node) {
            let gap = self.repairs.entry(node).or_default();
            gap.union_with(&pulling.partitions.iter().filter(|p| self.record.synced.contains(*p)).collect());
            // Of the others a part is here, which may be what only this source had.
            let mut partial = pulling.partitions;
            partial.subtract(&self.record.synced);
            self.healing.leave_over(&partial, self.peers.live());
        }
        self.taking.remove(&node);
        self.granted.remove(&node);
        self.handed.remove(&node);
    }

    fn next_pull_id(&mut self) -> PullId {
        self.pulls_started += 1;
        PullId { generation: self.identity.generation, number: self.pulls_started }
    }

    fn change_record(&mut self, change: impl FnOnce(&mut Record)) {
        let record = Arc::make_mut(&mut self.record);
        change(record);
        record.revision += 1;
        self.stored.union_with(&self.record.synced);
    }
}
