//! What placement wants done, and what it tells people.

use std::sync::Arc;

use bincode::Decode;
use bincode::Encode;

use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::record::Record;
use crate::cluster::removal::Removal;
use crate::cluster::view::View;
use crate::store::PartitionSet;

/// Tells one pull of a node from its others, those of its former lives included: what was asked by
/// a process that is dead now may still be answered to its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PullId {
    /// The life in which it was asked for.
    pub generation: Generation,
    /// Counts within that life.
    pub number: u64,
}

/// What a primary says when it has stopped serving partitions in favour of the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HandOver {
    /// Which.
    pub partitions: PartitionSet,
    /// The former primary leaves the cluster: it is not to get them back.
    pub is_leaving: bool,
}

/// What is to be done. The order matters: a hand-over comes before the view in which it shows.
#[derive(Clone, Debug)]
pub enum Output {
    /// Serve, forward and replicate by this view from now on.
    View(Arc<View>),
    /// Tell all others this about us.
    Record(Arc<Record>),
    /// Ask a node for what we lack of partitions.
    Pull {
        /// Whom to ask.
        source: NodeId,
        /// What its answer will name.
        id: PullId,
        /// Of which partitions.
        partitions: PartitionSet,
        /// This node is dead, and whatever it had sent us the source has too: only what is newer is
        /// lacking.
        former: Option<NodeId>,
    },
    /// Tell a node that it may lack something of partitions that we have.
    Offer {
        /// Whom to tell.
        to: NodeId,
        /// Which.
        partitions: PartitionSet,
    },
    /// Ask a primary to hand partitions over to us.
    TakeOver {
        /// Whom to ask.
        primary: NodeId,
        /// Which.
        partitions: PartitionSet,
    },
    /// Stop serving partitions, then tell the new primary, behind the last changes.
    HandOver {
        /// The new primary.
        to: NodeId,
        /// What to tell it.
        given: HandOver,
    },
    /// Forget all that is stored of partitions.
    Purge(PartitionSet),
    /// This process stood still and was replaced: clients that were connected before the end of that
    /// wait for what others have long served, or would read what is out of date.
    HangUp,
    /// Something that people want to read.
    Event(Event),
    /// All roles are given away: the node can go.
    Left,
    /// These nodes are no members any more: have no links with them, and tell all others.
    Removed(Vec<Removal>),
    /// We are no member any more: the node ends.
    Barred,
}

/// What has happened to members and partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member counts from now on, for the first time or in a new life.
    Joined(Identity),
    /// We serve partitions because those before us are dead or unsynced.
    Promoted {
        /// Which.
        partitions: PartitionSet,
        /// Who served them before.
        former: NodeId,
    },
    /// We serve partitions that nobody ever had.
    Claimed {
        /// Which.
        partitions: PartitionSet,
    },
    /// We serve partitions whose copies are all gone: empty, or with what we had.
    Lost {
        /// Which.
        partitions: PartitionSet,
    },
    /// We have a full copy of partitions.
    Synced {
        /// Which.
        partitions: PartitionSet,
        /// From whom.
        source: NodeId,
    },
    /// We serve partitions that their former primary handed over.
    TookOver {
        /// Which.
        partitions: PartitionSet,
        /// Who did.
        from: NodeId,
    },
    /// We stopped serving partitions in favour of another node.
    HandedOver {
        /// Which.
        partitions: PartitionSet,
        /// To whom.
        to: NodeId,
    },
    /// We serve partitions again that we had handed over to a node that never said it has them.
    GrantLapsed {
        /// Which.
        partitions: PartitionSet,
        /// To whom.
        to: NodeId,
    },
    /// We dropped our copies of partitions.
    Dropped {
        /// Which.
        partitions: PartitionSet,
    },
}
