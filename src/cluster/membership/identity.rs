//! Who a node is: its name's hash, the life it is in, and where it listens.
//!
//! A node keeps its [`NodeId`] for ever and gets a new [`Generation`] at each start and each time
//! it finds that the others have declared it down, because death is final in SWIM: only a later
//! life of the same node can come back. Rule kept here: of two identities of one node the later
//! generation wins everywhere, so all nodes settle on the same one.

use std::fmt;
use std::net::SocketAddr;

use bincode::Decode;
use bincode::Encode;
use serde::Deserialize;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;
use xxhash_rust::xxh3::xxh3_128;

/// A node, whatever life it is in: the hash of its name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct NodeId(u64);

impl NodeId {
    /// The id of the node with this name.
    pub fn of_name(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }

    /// The id with this raw representation.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw representation.
    pub const fn as_raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One life of a node, from start (or rejoin) to end; the later one is greater.
///
/// The shell makes it from the wall clock in milliseconds at start, so a restarted node is later
/// than its former life unless the clock went back; see [`super::Membership`] for that case.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct Generation(u64);

impl Generation {
    /// The generation with this raw representation.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw representation.
    pub const fn as_raw(self) -> u64 {
        self.0
    }

    /// The life after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cluster: the hash of its name, checked on every packet and every peer link.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct ClusterId(u128);

impl ClusterId {
    /// The id of the cluster with this name.
    pub fn of_name(name: &str) -> Self {
        Self(xxh3_128(name.as_bytes()))
    }

    /// The raw representation.
    pub const fn as_raw(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One life of a node at one address: what members know each other by.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The life it is in.
    pub generation: Generation,
    /// Where it takes gossip packets (UDP) and peer links (TCP).
    pub addr: SocketAddr,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.node, self.generation, self.addr)
    }
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let renewed = Self { generation: self.generation.next(), ..*self };
        (renewed != *self).then_some(renewed)
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    // Two processes with one name and one generation are a mistake; comparing the addresses makes
    // at least all members settle on the same one.
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.addr) > (adversary.generation, adversary.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use foca::Identity as _;

    fn identity(generation: u64, port: u16) -> Identity {
        Identity {
            node: NodeId::of_name("a"),
            generation: Generation::from_raw(generation),
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    #[test]
    fn the_later_life_wins_and_a_tie_has_one_winner() {
        assert!(identity(2, 1).win_addr_conflict(&identity(1, 9)));
        assert!(!identity(1, 9).win_addr_conflict(&identity(2, 1)));
        assert!(identity(1, 2).win_addr_conflict(&identity(1, 1)));
        assert!(!identity(1, 1).win_addr_conflict(&identity(1, 2)));
    }

    #[test]
    fn a_renewed_identity_wins_over_the_one_before() {
        let before = identity(7, 1);
        let after = before.renew().unwrap();
        assert!(after.win_addr_conflict(&before) && !before.win_addr_conflict(&after));
        assert_eq!(identity(u64::MAX, 1).renew(), None);
    }

    #[test]
    fn names_make_ids_that_print_in_fixed_width() {
        assert_eq!(NodeId::of_name("a"), NodeId::of_name("a"));
        assert_ne!(NodeId::of_name("a"), NodeId::of_name("b"));
        assert_eq!(NodeId::from_raw(0xab).to_string(), "00000000000000ab");
        assert_eq!(ClusterId::of_name("x").to_string().len(), 32);
    }

    #[test]
    fn identities_survive_their_encodings() {
        let config = bincode::config::standard();
        let bytes = bincode::encode_to_vec(identity(7, 1), config).unwrap();
        let (decoded, _): (Identity, usize) = bincode::decode_from_slice(&bytes, config).unwrap();
        assert_eq!(decoded, identity(7, 1));
    }
}
