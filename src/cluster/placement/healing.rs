//! Which copies complete each other: those that a dead primary leaves behind, and those of a node that
//! had to give way although it may have what nobody else has.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::placement::Output;
use crate::cluster::placement::Placement;
use crate::cluster::placement::Pulling;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::cluster::record::Departed;
use crate::cluster::view::View;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Moment;

/// What is to be completed, by whom.
#[derive(Debug, Default)]
pub(super) struct Healing {
    /// What we have and gave way in, or have a part of: we may have what the others lack.
    leftovers: PartitionSet,
    /// Who is to be told of them.
    untold: BTreeSet<NodeId>,
    /// What others may have and we lack, since they said so.
    offers: BTreeMap<NodeId, PartitionSet>,
    /// Partitions whose primary has died, by another holder and the dead one: the last that it sent may
    /// have reached the other and not us.
    bereaved: BTreeMap<(NodeId, NodeId), PartitionSet>,
    /// Partitions that others were primary of and have given away: what they sent as such may have
    /// reached their successor and not us.
    ceded: BTreeMap<NodeId, PartitionSet>,
    /// What nodes have said that they have after we took them for dead: others may have seen them alive
    /// all the while, and got what they sent as primary.
    unseen: BTreeMap<NodeId, PartitionSet>,
}

impl Healing {
    /// We give way in partitions, and tell all others of what we have had.
    pub(super) fn give_way(
        &mut self,
        had: &PartitionSet,
        replaced: &PartitionSet,
        others: impl Iterator<Item = NodeId>,
    ) {
        self.leave_over(&had.iter().filter(|partition| replaced.contains(*partition)).collect(), others);
    }

    /// What we have of partitions and do not count as a copy may be what the others lack: they are told.
    pub(super) fn leave_over(&mut self, partitions: &PartitionSet, others: impl Iterator<Item = NodeId>) {
        if !partitions.is_empty() {
            self.leftovers.union_with(partitions);
            self.untold.extend(others);
        }
    }

    /// What was asked for or said before may not have arrived.
    pub(super) fn link_up(&mut self, node: NodeId) {
        self.untold.insert(node);
    }

    /// What is stored of partitions is gone.
    pub(super) fn forget(&mut self, partitions: &PartitionSet) {
        self.leftovers.subtract(partitions);
    }

    /// A node is dead: what it has is not to be had.
    fn lose(&mut self, node: NodeId) {
        self.offers.remove(&node);
        self.untold.remove(&node);
        self.bereaved.retain(|(holder, _), _| *holder != node);
    }

    /// A node that we take for dead lives where we cannot see it.
    pub(super) fn lives_unseen(&mut self, node: NodeId, synced: &PartitionSet) {
        self.unseen.entry(node).or_default().union_with(synced);
    }

    /// Others have become primary.
    pub(super) fn roles_changed(&mut self, before: &View, after: &View) {
        for partition in Partition::all() {
            let (former, present) = (before.primary(partition), after.primary(partition));
            if let Some(former) = former.filter(|former| present != Some(*former)) {
                self.ceded.entry(former).or_default().insert(partition);
            }
        }
    }

    /// What was offered, by whom.
    pub(super) fn offers(&self) -> impl Iterator<Item = (&NodeId, &PartitionSet)> {
        self.offers.iter()
    }

    /// Whether copies that a dead primary has left behind are still to complete each other.
    fn is_under_way(&self, is_live: impl Fn(NodeId) -> bool) -> bool {
        self.bereaved.keys().any(|(holder, _)| is_live(*holder))
    }

    /// A pull of all that a node may have of partitions begins.
    pub(super) fn planned(&mut self, source: NodeId, partitions: &PartitionSet) {
        if let Some(offered) = self.offers.get_mut(&source) {
            offered.subtract(partitions);
        }
    }
}

impl Pulling {
    pub(super) fn output(&self, source: NodeId) -> Output {
        let Pulling { id, partitions, former } = self.clone();
        Output::Pull { source, id, partitions, former }
    }
}

impl Placement {
    /// Whether there is a living node of which we still have to ask, or are asking, what we may lack.
    pub fn is_healing(&self) -> bool {
        !self.pulls.is_empty()
            || self.missing_by_source().values().any(|partitions| !partitions.is_empty())
            || self.healing.is_under_way(|holder| self.peers.is_live(holder))
    }

    /// The members that are dead and still on the ring: see [`Placement::remember`].
    pub fn departed(&self, now: Moment) -> Vec<Departed> {
        self.peers.departed(now)
    }

    /// A member died before we came, and those that were there keep its place on the ring.
    pub fn remember(&mut self, departed: Departed, now: Moment, out: &mut Vec<Output>) {
        let Identity { node, generation, .. } = departed.identity;
        let is_other = node != self.identity.node && !self.removals.bars(node, generation);
        if is_other && self.peers.remember(departed, now) {
            self.settle(now, out);
        }
    }

    /// A node may have what we lack of these partitions.
    pub fn offered(&mut self, by: NodeId, partitions: &PartitionSet, now: Moment, out: &mut Vec<Output>) {
        self.healing.offers.entry(by).or_default().union_with(partitions);
        self.settle(now, out);
    }

    /// A node has died. Its copies that are left complete each other, each from what it has of the dead
    /// one's stream on. Called before the view changes.
    pub(super) fn bereave(&mut self, dead: NodeId) {
        self.healing.lose(dead);
        // One that stops hands over first, and its successor is primary before it is gone.
        let ceded = self.healing.ceded.remove(&dead).unwrap_or_default();
        if planted::has(Bug::ForgetBereaved) {
            return;
        }
        // What it had in a repair that has not come to its end, others may have got from it meanwhile.
        let lacking = self.repairs.get(&dead);
        let is_left = |partition: &Partition| {
            self.view.primary(*partition) == Some(dead)
                || ceded.contains(*partition)
                || lacking.is_some_and(|lacking| lacking.contains(*partition))
        };
        let left = Partition::all().filter(is_left).collect();
        self.complete_each_other(dead, &left);
    }

    /// A node shows itself. If that is another life than the one that we took for dead, and that one went
    /// on unseen, then it is only now that its copies are left behind.
    pub(super) fn reappears(&mut self, identity: Identity) {
        let unseen = self.healing.unseen.remove(&identity.node);
        if let Some(left) = unseen.filter(|_| self.peers.is_other_life(identity)) {
            self.complete_each_other(identity.node, &left);
        }
    }

    /// We and all others who have these partitions pull from each other what a node has sent last.
    fn complete_each_other(&mut self, dead: NodeId, left: &PartitionSet) {
        for partition in left.iter().filter(|partition| self.record.synced.contains(*partition)) {
            for holder in self.view.receivers(partition).filter(|holder| *holder != dead) {
                if self.peers.is_synced(holder, partition) {
                    self.healing.bereaved.entry((holder, dead)).or_default().insert(partition);
                }
            }
        }
    }

    /// Behind all other pulls: these bring little.
    pub(super) fn plan_bereaved(&mut self, out: &mut Vec<Output>) {
        let is_ready =
            |(holder, _): &&(NodeId, NodeId)| self.peers.is_live(*holder) && !self.pulls.contains_key(holder);
        let ready: Vec<(NodeId, NodeId)> = self.healing.bereaved.keys().filter(is_ready).copied().collect();
        for (holder, dead) in ready {
            if self.pulls.len() >= self.settings.pulls_max || self.pulls.contains_key(&holder) {
                continue;
            }
            let partitions = self.healing.bereaved.remove(&(holder, dead)).unwrap_or_default();
            let ours: PartitionSet =
                partitions.iter().filter(|partition| self.record.synced.contains(*partition)).collect();
            if !ours.is_empty() {
                self.start_pull(holder, ours, Some(dead), out);
            }
        }
    }

    /// Tells who has not been told yet of what we gave way in.
    pub(super) fn offer_leftovers(&mut self, out: &mut Vec<Output>) {
        let untold = std::mem::take(&mut self.healing.untold);
        if !self.healing.leftovers.is_empty() {
            let partitions = &self.healing.leftovers;
            out.extend(untold.into_iter().map(|to| Output::Offer { to, partitions: partitions.clone() }));
        }
    }
}
