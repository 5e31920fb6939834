//! What a shard is asked for, and what it answers.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Outcome;
use crate::cluster::peer::StreamItem;
use crate::cluster::placement::HandOver;
use crate::cluster::placement::PullId;
use crate::cluster::serving::Served;
use crate::cluster::survey::Digests;
use crate::cluster::survey::SurveyedKey;
use crate::cluster::view::View;
use crate::command::Ack;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::node::acks::Part;
use crate::node::lease::Waited;
use crate::node::wait::Lines;
use crate::node::wait::Writes;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::store::ShardStats;
use crate::store::Spare;
use crate::time::Timestamp;
use crate::time::Version;

/// What a shard is asked for, or told.
#[derive(Debug)]
pub enum Message {
    /// Carry out commands.
    Run(Batch),
    /// Apply items of another node's stream.
    Apply {
        /// Whose stream.
        from: NodeId,
        /// In order.
        items: Vec<StreamItem>,
        /// Told when all are applied.
        done: oneshot::Sender<()>,
    },
    /// Serve by this view.
    View {
        /// The view.
        view: Arc<View>,
        /// How many stalls of the process it takes into account.
        stalls: u64,
    },
    /// Stop serving partitions.
    HandOver {
        /// The new primary.
        to: NodeId,
        /// Which.
        given: Arc<HandOver>,
    },
    /// A node asks for what it lacks.
    Pull {
        /// The node.
        by: NodeId,
        /// What the end of the answer names.
        id: PullId,
        /// What it wants.
        wants: Arc<Vec<(Partition, Version)>>,
    },
    /// Our stream to a node begins anew: it will ask again.
    StreamBroken(NodeId),
    /// Forget what is stored of partitions.
    Purge(Arc<PartitionSet>),
    /// Delete all keys of partitions.
    Flush(Flush),
    /// List some of the keys that the node serves.
    List {
        /// Where to go on.
        cursor: ScanCursor,
        /// So many slots are looked at.
        visits_max: usize,
        /// What whoever asks takes the node to serve; none: it is all the same.
        expected: Option<Arc<PartitionSet>>,
        /// Gets them.
        reply: oneshot::Sender<Listed<ScanCursor>>,
    },
    /// Some keys of a slot that the node has, and how many there are.
    SlotKeys {
        /// The slot.
        slot: u16,
        /// No more keys than so many.
        count_max: usize,
        /// Gets them.
        reply: oneshot::Sender<(Vec<bytes::Bytes>, usize)>,
    },
    /// Say when the lease of a key has ended.
    AwaitLease {
        /// The key.
        key: bytes::Bytes,
        /// Who waits.
        waiter: oneshot::Sender<Waited>,
    },
    /// Say what is stored, in a few numbers for each partition: as much as one step may look at.
    Digest {
        /// Where to go on.
        cursor: ScanCursor,
        /// Values that are gone at this time are left out.
        at: Timestamp,
        /// Gets the digests of what was looked at, and where to go on.
        reply: oneshot::Sender<(Digests, Option<ScanCursor>)>,
    },
    /// Say what is stored of some partitions, key by key: as much as one step may look at.
    Survey {
        /// Where to go on.
        cursor: ScanCursor,
        /// Which partitions.
        partitions: Arc<PartitionSet>,
        /// Values that are gone at this time are left out.
        at: Timestamp,
        /// Gets the keys, and where to go on.
        reply: oneshot::Sender<(Vec<SurveyedKey>, Option<ScanCursor>)>,
    },
    /// Say who has these writes, if this shard can.
    Lines(Arc<Writes>, oneshot::Sender<Lines>),
    /// The shard's figures, and the keys of the partitions that it serves.
    Stats(oneshot::Sender<(ShardStats, Served)>),
    /// Keep to the memory and the policy that the node has now; told when it is known.
    Limit(oneshot::Sender<()>),
    /// Choose one of the keys that are served.
    Choose {
        /// By this number.
        random: u64,
        /// Gets the key, and how many there are.
        reply: oneshot::Sender<Option<(bytes::Bytes, u64)>>,
    },
    /// Go on with what takes long.
    Step,
    /// Drop old tombstones and some of what has expired.
    Sweep,
    /// Use this piece of memory; none: this system has no such ones.
    Spare(Option<Spare>),
}

/// Commands for one shard.
#[derive(Debug)]
pub struct Batch {
    /// How to encode the replies.
    pub codec: Codec,
    /// In order.
    pub commands: Vec<KeyCommand>,
    /// Whether copies that the node does not serve may answer what changes nothing.
    pub may_read_copies: bool,
    /// When the writes among them are acknowledged.
    pub ack: Ack,
    /// Gets the replies.
    pub reply: oneshot::Sender<Replies>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Replies {
    /// The batch's commands, so that what was not carried out can be tried elsewhere.
    pub commands: Vec<KeyCommand>,
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// The replies, encoded one after the other.
    pub bytes: bytes::Bytes,
    /// What the writes wait for.
    pub acks: Vec<Part>,
}

/// Some of the keys that are served.
#[derive(Debug)]
pub struct Listed<At> {
    /// The keys.
    pub keys: Vec<bytes::Bytes>,
    /// Where to go on; none: that was all.
    pub next: Option<At>,
    /// Whether exactly those partitions are served that whoever asked expects here.
    pub is_as_expected: bool,
}

/// Nobody has answered.
impl<At> Default for Listed<At> {
    fn default() -> Self {
        Self { keys: Vec::new(), next: None, is_as_expected: false }
    }
}

/// A flush in progress.
#[derive(Debug)]
pub struct Flush {
    /// Which partitions.
    pub partitions: Arc<PartitionSet>,
    /// Where to go on.
    pub next: u16,
    /// What was flushed so far.
    pub flushed: PartitionSet,
    /// Gets all that was flushed.
    pub reply: oneshot::Sender<PartitionSet>,
}
