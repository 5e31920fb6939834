//! A view: the members and the ownership of all partitions as one node sees them at one time.

use std::sync::Arc;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::ownership::Ownership;
use crate::cluster::ownership::Roles;
use crate::cluster::record::Record;
use crate::cluster::ring::NodeIndex;
use crate::cluster::ring::Ring;
use crate::store::PARTITION_COUNT;
use crate::store::Partition;
use crate::store::PartitionSet;

/// What membership says about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It did not answer a probe; it has a while to refute that.
    Suspect,
    /// It is dead, or has left.
    Dead,
}

impl Liveness {
    /// Its name in tables and logs.
    pub fn name(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Dead => "dead",
        }
    }
}

/// A member in a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who, in which life, and where its peers reach it.
    pub identity: Identity,
    /// Whether it lives.
    pub liveness: Liveness,
    /// What it said about itself last.
    pub record: Arc<Record>,
}

impl Member {
    /// Whether it is not known to be dead.
    pub fn is_up(&self) -> bool {
        self.liveness != Liveness::Dead
    }

    /// Whether its record is of its present life.
    pub fn is_current(&self) -> bool {
        self.record.generation == self.identity.generation
    }
}

/// The members and the ownership of all partitions as one node sees them.
#[derive(Clone, Debug)]
pub struct View {
    me: NodeId,
    ring: Arc<Ring>,
    /// One for each node of the ring, in its order.
    members: Vec<Member>,
    ownership: Ownership,
    /// Handed over by `me` to nodes that have not said yet that they serve them.
    granted: PartitionSet,
    fingerprint: u32,
    is_in_doubt: bool,
}

/// A run of neighbouring partitions with the same primary and the same other holders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingArc {
    /// The first partition.
    pub first: Partition,
    /// The last partition.
    pub last: Partition,
    /// Who serves them.
    pub primary: Option<NodeIndex>,
    /// Who else holds them.
    pub replicas: Vec<NodeIndex>,
}

impl View {
    /// The view of `me`. There is a member for every node of the ring, in its order.
    pub fn new(me: NodeId, ring: Arc<Ring>, members: Vec<Member>, ownership: Ownership) -> Self {
        let fingerprint = ownership.fingerprint(&ring);
        let granted = PartitionSet::new();
        Self { me, ring, members, ownership, granted, fingerprint, is_in_doubt: false }
    }

    /// The same, of a process that stood still and may have been replaced.
    pub fn in_doubt(self) -> Self {
        Self { is_in_doubt: true, ..self }
    }

    /// Whether the process stood still and may have been replaced.
    pub fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// This view, in which `me` has handed these partitions over and nobody has confirmed it yet.
    pub fn with_granted(self, granted: PartitionSet) -> Self {
        Self { granted, ..self }
    }

    /// Whether nobody who looks at a view could tell it from the other one. The fingerprint is not
    /// enough: what is wanted and what is surplus may change while all holders stay.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_in_doubt == other.is_in_doubt
            && self.granted == other.granted
            && self.members == other.members
            && self.ownership == other.ownership
    }

    /// Whose view it is.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The ring it is computed from.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The nodes of the ring and their weights.
    pub fn weights(&self) -> impl Iterator<Item = (NodeId, u16)> + '_ {
        self.members.iter().map(|member| (member.identity.node, member.record.weight))
    }

    /// The members in the order of the ring's nodes.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this id.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.ring.index_of(node).map(|index| &self.members[usize::from(index)])
    }

    /// The name of a member; of somebody else the id.
    pub fn name_of(&self, node: NodeId) -> String {
        self.member(node).map_or_else(|| node.to_string(), |member| member.record.name.clone())
    }

    /// The roles of all partitions.
    pub(in crate::cluster) const fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The roles of a partition, as indices into [`View::members`].
    pub fn roles(&self, partition: Partition) -> &Roles {
        self.ownership.roles(partition)
    }

    /// Who serves a partition.
    pub fn primary(&self, partition: Partition) -> Option<NodeId> {
        self.roles(partition).primary.map(|index| self.node(index))
    }

    /// Where a client's request for a partition goes; none: it waits. So it does in doubt: a client that
    /// was connected before the stall is to be hung up on, not answered, if this node was replaced.
    pub fn route(&self, partition: Partition) -> Option<NodeId> {
        self.primary(partition).filter(|_| !self.is_in_doubt)
    }

    /// The node that serves a partition beyond doubt, as far as this view knows: it lives, it says itself
    /// that it has all of it, and it is not about to give it away or to get it. A client that is sent
    /// to any other one might be sent back.
    pub fn steady_primary(&self, partition: Partition) -> Option<&Member> {
        let primary = self.roles(partition).primary.map(|index| &self.members[usize::from(index)]);
        primary.filter(|primary| {
            primary.liveness == Liveness::Alive
                && primary.is_current()
                && primary.record.synced.contains(partition)
                && !primary.record.is_leaving
                && !self.granted.contains(partition)
                && !self.is_in_doubt
        })
    }

    /// Whether this node has everything of a partition, and gets all changes of it.
    pub fn has_copy(&self, partition: Partition) -> bool {
        self.member(self.me).is_some_and(|me| me.record.synced.contains(partition))
    }

    /// The partitions that the ring wants here.
    pub fn wanted_here(&self) -> PartitionSet {
        let Some(me) = self.ring.index_of(self.me) else { return PartitionSet::new() };
        Partition::all().filter(|partition| self.roles(*partition).wanted.contains(&me)).collect()
    }

    /// Whether this node has everything that the ring wants here, which is something.
    pub fn has_what_it_should(&self) -> bool {
        let wanted = self.wanted_here();
        !wanted.is_empty() && wanted.iter().all(|partition| self.has_copy(partition))
    }

    /// Whether this node serves a partition.
    pub fn is_primary(&self, partition: Partition) -> bool {
        self.primary(partition) == Some(self.me)
    }

    /// The other nodes that changes of a partition are sent to: its holders, and those that only have
    /// it still. One of these may become a holder again, and must not have a hole then.
    pub fn receivers(&self, partition: Partition) -> impl Iterator<Item = NodeId> + '_ {
        let surplus = self.roles(partition).surplus.iter().map(|index| self.node(*index));
        self.other_holders(partition).chain(surplus.filter(|node| *node != self.me))
    }

    /// The other nodes that hold a partition.
    pub fn other_holders(&self, partition: Partition) -> impl Iterator<Item = NodeId> + '_ {
        self.roles(partition).holders.iter().map(|index| self.node(*index)).filter(|node| *node != self.me)
    }

    /// The members that should have a copy of a partition.
    pub fn wanted(&self, partition: Partition) -> impl Iterator<Item = NodeId> + '_ {
        self.roles(partition).wanted.iter().map(|index| self.node(*index))
    }

    /// The live holders of a partition that have all of it by their own word, in the order in which they
    /// would serve it.
    pub fn complete_copies(&self, partition: Partition) -> impl Iterator<Item = NodeId> + Clone + '_ {
        let is_complete = move |index: &&NodeIndex| {
            let member = &self.members[usize::from(**index)];
            member.is_up() && member.is_current() && member.record.synced.contains(partition)
        };
        self.roles(partition).holders.iter().filter(is_complete).map(|index| self.node(*index))
    }

    /// The other nodes that would serve a partition if this one were gone, the first one first.
    pub fn successors(&self, partition: Partition) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.complete_copies(partition).filter(|node| *node != self.me)
    }

    /// The partitions that a node serves.
    pub fn primaries_of(&self, node: NodeId) -> PartitionSet {
        Partition::all().filter(|partition| self.primary(*partition) == Some(node)).collect()
    }

    /// How many partitions a node holds without serving them.
    pub fn replica_count_of(&self, node: NodeId) -> usize {
        let Some(index) = self.ring.index_of(node) else { return 0 };
        let holds = |roles: &Roles| roles.primary != Some(index) && roles.holders.contains(&index);
        let is_synced = |partition| self.members[usize::from(index)].record.synced.contains(partition);
        Partition::all().filter(|partition| holds(self.roles(*partition)) && is_synced(*partition)).count()
    }

    /// How many partitions a node should have a copy of and has not got all of yet.
    pub fn missing_count_of(&self, node: NodeId) -> usize {
        let is_missing = |partition: &Partition| {
            self.wanted(*partition).any(|wanted| wanted == node)
                && self.complete_copies(*partition).all(|complete| complete != node)
        };
        Partition::all().filter(is_missing).count()
    }

    /// Equal where two nodes agree on all primaries and holders.
    pub fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// Whether every partition has its primary where the ring wants it and all copies in place.
    pub fn is_settled(&self) -> bool {
        Partition::all().all(|partition| {
            let roles = self.roles(partition);
            let is_synced =
                |index: &NodeIndex| self.members[usize::from(*index)].record.synced.contains(partition);
            roles.primary.is_some()
                && roles.primary == roles.wanted.first().copied()
                && roles.wanted == roles.holders
                && roles.wanted.iter().all(is_synced)
        })
    }

    /// The partitions as runs with the same holders, in ring order.
    pub fn arcs(&self) -> Vec<RingArc> {
        let mut arcs: Vec<RingArc> = Vec::new();
        for partition in Partition::all() {
            let roles = self.roles(partition);
            let replicas = roles.holders.iter().copied().filter(|node| Some(*node) != roles.primary);
            match arcs.last_mut() {
                Some(arc)
                    if arc.primary == roles.primary && replicas.clone().eq(arc.replicas.iter().copied()) =>
                {
                    arc.last = partition;
                }
                Some(_) | None => arcs.push(RingArc {
                    first: partition,
                    last: partition,
                    primary: roles.primary,
                    replicas: replicas.collect(),
                }),
            }
        }
        debug_assert!(arcs.len() <= usize::from(PARTITION_COUNT));
        arcs
    }

    fn node(&self, index: NodeIndex) -> NodeId {
        self.ring.nodes()[usize::from(index)]
    }
}
