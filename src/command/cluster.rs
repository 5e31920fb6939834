//! What a client asks about the cluster's slots and nodes: the parts of CLUSTER.

use bytes::Bytes;

/// About slots and nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Whether all slots are served, and by how many nodes.
    Info,
    /// The id of this node.
    MyId,
    /// The nodes and their slots, as lines.
    Nodes,
    /// The slots and their nodes.
    Slots,
    /// The slots that have the same nodes, and these.
    Shards,
    /// The links of this node to others.
    Links,
    /// The slot of a key.
    KeySlot(Bytes),
    /// How many keys of a slot this node has.
    CountKeys {
        /// The slot.
        slot: u16,
    },
    /// Some keys of a slot that this node has.
    Keys {
        /// The slot.
        slot: u16,
        /// No more than so many.
        count_max: usize,
    },
    /// How many nodes are known to suspect this one.
    FailureReports {
        /// Its id, as the client wrote it.
        node: Bytes,
    },
}
