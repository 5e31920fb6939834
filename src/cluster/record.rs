//! A record: what a node says about itself to all others.
//!
//! Records travel as broadcasts of the membership protocol and, complete, over every new peer link.
//! Of two records of one node the one with the greater generation counts, then the greater revision.

use bincode::Decode;
use bincode::Encode;

use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::ownership::Standing;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::store::PartitionSet;

/// Longest name of a node and longest host that it announces, in bytes: a record must fit a packet.
pub const NAME_BYTES_MAX: usize = 128;

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Who says it.
    pub node: NodeId,
    /// In which life.
    pub generation: Generation,
    /// Grows with every change within a generation.
    pub revision: u64,
    /// The node's name, for people.
    pub name: String,
    /// Where clients reach it: host name or address.
    pub host: String,
    /// Its client port.
    pub client_port: u16,
    /// Its port for cluster-aware clients.
    pub redirect_port: u16,
    /// Its share of the partitions, in hundredths of an ordinary node.
    pub weight: u16,
    /// It is about to leave: it takes no roles and gives away those it has.
    pub is_leaving: bool,
    /// It leaves for good: its copies are rebuilt elsewhere before it goes.
    pub is_retiring: bool,
    /// The partitions of which it has everything.
    pub synced: PartitionSet,
}

/// A member that is dead and still on the ring: without it who joins would compute another ring.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Departed {
    /// Who, in its last life.
    pub identity: Identity,
    /// What it said last.
    pub record: Record,
    /// For how long it is dead, in milliseconds.
    pub for_ms: u64,
}

impl Record {
    /// Whether this replaces `other`, a record of the same node.
    pub fn is_newer_than(&self, other: &Record) -> bool {
        if planted::has(Bug::AcceptOldGeneration) {
            return self.revision > other.revision;
        }
        (self.generation, self.revision) > (other.generation, other.revision)
    }

    /// The address for cluster-aware clients that it announces, as Redis writes one: they part it at the
    /// last colon.
    pub fn redirect_address(&self) -> String {
        format!("{}:{}", self.host, self.redirect_port)
    }

    /// How a live node counts that says this.
    pub fn standing(&self) -> Standing {
        match (self.is_retiring, self.is_leaving) {
            (true, _) => Standing::Retiring,
            (false, true) => Standing::Leaving,
            (false, false) => Standing::Live,
        }
    }

    /// The client address that it announces.
    pub fn client_address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.client_port),
            false => format!("{}:{}", self.host, self.client_port),
        }
    }
}
