//! From what is known to what follows: the view, claims, pulls, drops.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::membership::NodeId;
use crate::cluster::ownership::Claim;
use crate::cluster::ownership::Ownership;
use crate::cluster::ownership::Standing;
use crate::cluster::placement::Event;
use crate::cluster::placement::Liveness;
use crate::cluster::placement::Output;
use crate::cluster::placement::Pending;
use crate::cluster::placement::Placement;
use crate::cluster::placement::Pulling;
use crate::cluster::record::Record;
use crate::cluster::ring::Ring;
use crate::cluster::view::Member;
use crate::cluster::view::View;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Moment;

impl Placement {
    /// Computes what follows from a change and says what is to be done about it.
    pub(super) fn settle(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.peers.age(now, &self.settings);
        let before = Arc::clone(&self.view);
        self.view = self.compute_view_at(now);
        self.report_joins(&before, out);
        self.report_promotions(&before, out);
        self.claim_orphans(now, out);
        self.drop_surplus(now, out);
        self.narrow_repairs();
        self.plan_pulls(now, out);
        self.offer_leftovers(out);
        let has_changed = !before.is_same(&self.view);
        if has_changed {
            self.healing.roles_changed(&before, &self.view);
        }
        if std::mem::take(&mut self.must_show_view) || has_changed {
            out.push(Output::View(Arc::clone(&self.view)));
        }
        let was = before.member(self.identity.node).map(|member| &member.record);
        if was.is_none_or(|was| {
            (was.generation, was.revision) != (self.record.generation, self.record.revision)
        }) {
            out.push(Output::Record(Arc::clone(&self.record)));
        }
        if self.record.is_leaving && !self.has_left && self.is_free_of_roles() && self.is_replaced() {
            self.has_left = true;
            out.push(Output::Left);
        }
    }

    pub(super) fn compute_view(&self) -> Arc<View> {
        self.compute_view_at(Moment::default())
    }

    fn compute_view_at(&self, now: Moment) -> Arc<View> {
        let me =
            Member { identity: self.identity, liveness: Liveness::Alive, record: Arc::clone(&self.record) };
        let mut members = vec![(me, self.record.standing())];
        members.extend(self.peers.on_ring().map(|(peer, identity, record)| {
            let member = Member { identity, liveness: peer.liveness, record: Arc::clone(record) };
            (member, peer.standing(now, &self.settings))
        }));
        members.sort_by_key(|(member, _)| member.identity.node);

        let weights = members.iter().map(|(member, _)| (member.identity.node, member.record.weight));
        let ring = match weights.clone().eq(self.view.weights()) {
            true => Arc::clone(self.view.ring()),
            false => Arc::new(Ring::new(weights, self.settings.copies)),
        };
        let claims: Vec<Claim> =
            members.iter().map(|(member, standing)| self.claim_of(&ring, member, *standing)).collect();
        let ownership = match Arc::ptr_eq(&ring, self.view.ring()) {
            true => self.view.ownership().renewed(&ring, &claims, self.settings.copies),
            false => Ownership::new(&ring, &claims, self.settings.copies),
        };
        let members = members.into_iter().map(|(member, _)| member).collect();
        let mut granted = PartitionSet::new();
        self.granted.values().for_each(|given| granted.union_with(&given.partitions));
        let view = View::new(self.identity.node, ring, members, ownership).with_granted(granted);
        Arc::new(if self.doubt.is_some() { view.in_doubt() } else { view })
    }

    fn claim_of(&self, ring: &Ring, member: &Member, standing: Standing) -> Claim {
        let node = member.identity.node;
        let mut synced = if member.is_current() { member.record.synced.clone() } else { PartitionSet::new() };
        if let Some(granted) = self.granted.get(&node) {
            synced.union_with(&granted.partitions);
        }
        if node == self.identity.node {
            synced.subtract(&self.withheld(ring));
        }
        Claim { node, standing, synced }
    }

    /// What we have and must not serve yet: a leaving node that had it before us has not handed it
    /// over, or we stood still and others may serve it.
    fn withheld(&self, ring: &Ring) -> PartitionSet {
        let mut withheld = PartitionSet::new();
        if self.doubt.is_some() {
            self.peers.live().filter_map(|node| self.peers.synced(node)).for_each(|s| withheld.union_with(s));
        }
        let me = self.identity.node;
        for leaver in self.peers.live().filter(|node| self.peers.is_leaving(*node)) {
            let handed = self.handed.get(&leaver);
            let is_awaited = |partition: &Partition| {
                !handed.is_some_and(|handed| handed.contains(*partition))
                    && ring.position(*partition, leaver) < ring.position(*partition, me)
            };
            let theirs = self.peers.synced(leaver).into_iter().flat_map(PartitionSet::iter);
            withheld.union_with(&theirs.filter(is_awaited).collect());
        }
        withheld
    }

    /// Nodes that leave and have not handed over in time what they had before us: they cannot reach us,
    /// and better two primaries than none.
    pub(super) fn leavers_given_up(&self, now: Moment) -> impl Iterator<Item = NodeId> + '_ {
        let limit = 2 * self.settings.hand_over_wait_max;
        let full = PartitionSet::full();
        self.peers.late_leavers(limit, now).filter(move |node| self.handed.get(node) != Some(&full))
    }

    pub(super) fn give_up_leavers(&mut self, now: Moment) {
        for node in self.leavers_given_up(now).collect::<Vec<NodeId>>() {
            self.handed.insert(node, PartitionSet::full());
        }
    }

    fn report_joins(&self, before: &View, out: &mut Vec<Output>) {
        for member in self.view.members().iter().filter(|m| m.identity != self.identity && m.is_up()) {
            let was = before.member(member.identity.node);
            if was.is_none_or(|was| was.identity != member.identity || !was.is_up()) {
                out.push(Output::Event(Event::Joined(member.identity)));
            }
        }
    }

    fn report_promotions(&self, before: &View, out: &mut Vec<Output>) {
        let mut promoted: BTreeMap<NodeId, PartitionSet> = BTreeMap::new();
        let me = self.identity.node;
        for partition in Partition::all().filter(|partition| self.view.is_primary(*partition)) {
            let former = before.primary(partition).filter(|former| *former != me);
            // A planned move has told its story already; a new node that claims has none.
            if let Some(former) = former.filter(|former| !self.can_still_serve(*former, partition)) {
                promoted.entry(former).or_default().insert(partition);
            }
        }
        let events = promoted.into_iter().map(|(former, partitions)| Event::Promoted { partitions, former });
        out.extend(events.map(Output::Event));
    }

    fn can_still_serve(&self, node: NodeId, partition: Partition) -> bool {
        self.view.member(node).is_some_and(Member::is_up) && self.peers.is_synced(node, partition)
    }

    /// Takes the partitions that no live member has, if it falls to us.
    fn claim_orphans(&mut self, now: Moment, out: &mut Vec<Output>) {
        if !self.is_joined || self.record.is_leaving || self.peers.has_unknown(now) {
            return;
        }
        let me = self.view.ring().index_of(self.identity.node);
        let is_ours = |partition: &Partition| {
            let roles = self.view.roles(*partition);
            roles.primary.is_none() && roles.heir == me
        };
        let limit = self.settings.claim_lost_after;
        let (waiting, orphans): (Vec<Partition>, Vec<Partition>) = Partition::all()
            .filter(is_ours)
            .partition(|partition| self.peers.has_lost_holder(*partition, limit, now));
        self.has_waiting_orphans = !waiting.is_empty();
        let orphans: PartitionSet = orphans.into_iter().collect();
        if orphans.is_empty() {
            return;
        }
        let had_owner = |partition: &Partition| {
            self.peers.was_ever_synced(*partition) || self.stored.contains(*partition)
        };
        let lost: PartitionSet = orphans.iter().filter(had_owner).collect();
        let mut claimed = orphans.clone();
        claimed.subtract(&lost);
        self.change_record(|record: &mut Record| record.synced.union_with(&orphans));
        if !lost.is_empty() {
            out.push(Output::Event(Event::Lost { partitions: lost }));
        }
        if !claimed.is_empty() {
            out.push(Output::Event(Event::Claimed { partitions: claimed }));
        }
        self.view = self.compute_view_at(now);
    }

    /// Drops what nobody wants here, once that has been so for a while.
    fn drop_surplus(&mut self, now: Moment, out: &mut Vec<Output>) {
        let me = self.view.ring().index_of(self.identity.node);
        let is_unwanted = |partition: &Partition| {
            let roles = self.view.roles(*partition);
            roles.primary.is_some() && !me.is_some_and(|me| roles.holders.contains(&me))
        };
        let surplus: PartitionSet = self.stored.iter().filter(is_unwanted).collect();
        // Or the copy may be needed in a moment: that of the suspect may be the only one as new.
        if surplus != self.surplus.partitions || self.peers.has_suspect() {
            self.surplus = Pending { partitions: surplus, since: now };
        } else if !surplus.is_empty() && now.since(self.surplus.since) >= self.settings.drop_after {
            self.change_record(|record| record.synced.subtract(&surplus));
            self.stored.subtract(&surplus);
            self.healing.forget(&surplus);
            // The rest of a pull under way would be taken for all of it.
            self.pulls.values_mut().for_each(|pulling| pulling.partitions.subtract(&surplus));
            self.taking.values_mut().for_each(|taking| taking.partitions.subtract(&surplus));
            self.surplus.partitions = PartitionSet::new();
            out.push(Output::Event(Event::Dropped { partitions: surplus.clone() }));
            out.push(Output::Purge(surplus));
            self.view = self.compute_view_at(now);
        }
    }

    fn plan_pulls(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.pulls_paused_until = self.pulls_paused_until.filter(|until| now < *until);
        if !self.is_joined || self.pulls_paused_until.is_some() {
            return;
        }
        for (source, partitions) in self.missing_by_source() {
            if self.pulls.len() >= self.settings.pulls_max {
                return;
            }
            if self.pulls.contains_key(&source) || partitions.is_empty() {
                continue;
            }
            // The rest stays: a copy that is not complete yet may lack it when it is.
            if let Some(gap) = self.repairs.get_mut(&source) {
                gap.subtract(&partitions);
            }
            self.healing.planned(source, &partitions);
            self.start_pull(source, partitions, None, out);
        }
        self.plan_bereaved(out);
    }

    pub(super) fn start_pull(
        &mut self,
        source: NodeId,
        partitions: PartitionSet,
        former: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        let id = self.next_pull_id();
        self.stored.union_with(&partitions);
        let pulling = Pulling { id, partitions, former };
        out.push(pulling.output(source));
        self.pulls.insert(source, pulling);
    }

    /// A gap matters where the other node had a copy when it came to be. One that has come back empty
    /// has nothing that we lack.
    fn narrow_repairs(&mut self) {
        for (source, gap) in &mut self.repairs {
            if let Some(theirs) = self.peers.synced(*source) {
                *gap = gap.iter().filter(|partition| theirs.contains(*partition)).collect();
            }
        }
        let peers = &self.peers;
        self.repairs.retain(|source, gap| peers.is_known(*source) && !gap.is_empty());
    }

    /// What we should have and have not, by the node that has it.
    pub(super) fn missing_by_source(&self) -> BTreeMap<NodeId, PartitionSet> {
        let mut missing: BTreeMap<NodeId, PartitionSet> = BTreeMap::new();
        let me = self.view.ring().index_of(self.identity.node);
        for partition in Partition::all().filter(|partition| !self.record.synced.contains(*partition)) {
            let is_wanted = me.is_some_and(|me| self.view.roles(partition).wanted.contains(&me));
            let source = self.view.primary(partition).filter(|_| is_wanted);
            let is_asked = |source: &NodeId| {
                self.taking.get(source).is_some_and(|taking| taking.partitions.contains(partition))
            };
            if let Some(source) = source.filter(|source| !is_asked(source)) {
                missing.entry(source).or_default().insert(partition);
            }
        }
        for (source, gap) in &self.repairs {
            if self.peers.is_live(*source) && self.peers.synced(*source).is_some() {
                let both = gap.iter().filter(|partition| self.record.synced.contains(*partition));
                missing.entry(*source).or_default().union_with(&both.collect());
            }
        }
        for (source, offered) in self.healing.offers().filter(|(source, _)| self.peers.is_live(**source)) {
            let both = offered.iter().filter(|partition| self.record.synced.contains(*partition));
            missing.entry(*source).or_default().union_with(&both.collect());
        }
        missing
    }

    /// Whether there are as many copies without this node as there should be; one that only stops may
    /// be back before that.
    fn is_replaced(&self) -> bool {
        let is_copied = |partition: Partition| {
            let wanted = &self.view.roles(partition).wanted;
            wanted
                .iter()
                .all(|node| self.peers.is_synced(self.view.ring().nodes()[usize::from(*node)], partition))
        };
        !self.record.is_retiring || Partition::all().all(is_copied)
    }

    /// Whether all roles are given away, or nobody is left to take them.
    fn is_free_of_roles(&self) -> bool {
        let has_heir = self.peers.live().any(|node| !self.peers.is_leaving(node));
        !has_heir || Partition::all().all(|partition| !self.view.is_primary(partition))
    }
}
