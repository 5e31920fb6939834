//! The envelope of every gossip datagram.
//!
//! ```text
//! "CG" | version 1 | kind 1 | checksum 8 | cluster id 16 | bond 17 to 161 | payload
//! ```
//!
//! Rule kept here: nothing of a datagram is believed before its checksum (xxh3-64 over version,
//! kind, cluster id, bond and payload) and its cluster id are right, so neither a flipped bit nor a
//! foreign cluster at a reused address changes what we know. The checksum guards against
//! accidents, not against forgery.

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::membership::bond::BOND_BYTES_MAX;
use crate::cluster::membership::bond::Bond;
use crate::cluster::membership::identity::ClusterId;

/// The longest datagram, envelope included: fits every usual MTU.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;
/// Bytes before the bond.
pub const ENVELOPE_BYTES: usize = 28;
/// The longest payload.
pub const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - ENVELOPE_BYTES - BOND_BYTES_MAX;

const MAGIC: [u8; 2] = *b"CG";
const VERSION: u8 = 2;
/// Where the cluster id, the first of the bytes that the checksum reads as they lie, begins.
const CLUSTER_AT: usize = 12;

/// Why a datagram was dropped. Nothing of it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum PacketError {
    /// Shorter than the envelope.
    #[error("packet is truncated")]
    Truncated,
    /// Longer than [`DATAGRAM_BYTES_MAX`].
    #[error("packet is too long")]
    TooLong,
    /// Does not begin with the magic bytes: not from this program.
    #[error("packet is not a gossip packet")]
    BadMagic,
    /// From a version of the protocol that this node does not speak.
    #[error("packet has an unknown version")]
    UnknownVersion,
    /// The checksum does not fit: bits changed on the way.
    #[error("packet is corrupted")]
    BadChecksum,
    /// From another cluster, at an address that was once a member's or will be.
    #[error("packet is from another cluster")]
    ForeignCluster,
    /// A kind that this version does not know.
    #[error("packet has an unknown kind")]
    UnknownKind,
    /// The envelope is right but the bond or the payload cannot be read.
    #[error("packet has a malformed payload")]
    Malformed,
}

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message of foca's.
    Gossip,
    /// One record, sent by the node that it is about.
    Record,
    /// How things are with another side: see [`super::meeting`].
    Bond,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Kind::Gossip => 0,
            Kind::Record => 1,
            Kind::Bond => 2,
        }
    }

    const fn of_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Kind::Gossip),
            1 => Some(Kind::Record),
            2 => Some(Kind::Bond),
            _ => None,
        }
    }
}

/// Puts a payload into an envelope.
pub fn seal(cluster: ClusterId, kind: Kind, bond: &Bond, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(ENVELOPE_BYTES + BOND_BYTES_MAX + payload.len());
    datagram.extend_from_slice(&MAGIC);
    datagram.extend_from_slice(&[VERSION, kind.number()]);
    datagram.extend_from_slice(&[0; 8]);
    datagram.extend_from_slice(&cluster.as_raw().to_be_bytes());
    bond.write(&mut datagram);
    datagram.extend_from_slice(payload);
    let checksum = checksum(VERSION, kind.number(), &datagram[CLUSTER_AT..]);
    datagram[4..CLUSTER_AT].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

/// Takes a payload out of its envelope, if it was sealed for this cluster and arrived unharmed.
pub fn open(cluster: ClusterId, datagram: &[u8]) -> Result<(Kind, Bond, &[u8]), PacketError> {
    let (Some(envelope), Some(contents)) =
        (datagram.first_chunk::<ENVELOPE_BYTES>(), datagram.get(ENVELOPE_BYTES..))
    else {
        return Err(PacketError::Truncated);
    };
    if datagram.len() > DATAGRAM_BYTES_MAX {
        return Err(PacketError::TooLong);
    }
    let [m0, m1, version, kind, ..] = *envelope;
    if [m0, m1] != MAGIC {
        return Err(PacketError::BadMagic);
    }
    // Before the checksum: another version may compute it in another way.
    if version != VERSION {
        return Err(PacketError::UnknownVersion);
    }
    if envelope[4..CLUSTER_AT] != checksum(version, kind, &datagram[CLUSTER_AT..]).to_be_bytes() {
        return Err(PacketError::BadChecksum);
    }
    if envelope[CLUSTER_AT..] != cluster.as_raw().to_be_bytes() {
        return Err(PacketError::ForeignCluster);
    }
    let kind = Kind::of_number(kind).ok_or(PacketError::UnknownKind)?;
    let (bond, payload) = Bond::read(contents).ok_or(PacketError::Malformed)?;
    Ok((kind, bond, payload))
}

fn checksum(version: u8, kind: u8, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, u64::from_be_bytes([0, 0, 0, 0, 0, 0, version, kind]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> ClusterId {
        ClusterId::of_name("ours")
    }

    #[test]
    fn what_was_sealed_opens_in_the_same_cluster_only() {
        let datagram = seal(ours(), Kind::Record, &Bond::default(), b"payload");
        assert_eq!(open(ours(), &datagram), Ok((Kind::Record, Bond::default(), &b"payload"[..])));
        assert_eq!(open(ClusterId::of_name("theirs"), &datagram), Err(PacketError::ForeignCluster));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let datagram = seal(ours(), Kind::Gossip, &Bond::default(), b"payload");
        for bit in 0..datagram.len() * 8 {
            let mut corrupted = datagram.clone();
            corrupted[bit / 8] ^= 1 << (bit % 8);
            assert!(open(ours(), &corrupted).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed_and_named() {
        let datagram = seal(ours(), Kind::Gossip, &Bond::default(), b"payload");
        for length in 0..datagram.len() {
            let expected = match length < ENVELOPE_BYTES {
                true => PacketError::Truncated,
                false => PacketError::BadChecksum,
            };
            assert_eq!(open(ours(), &datagram[..length]), Err(expected), "length {length}");
        }
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let mut datagram = seal(ours(), Kind::Gossip, &Bond::default(), b"payload");
        datagram[2] = 9;
        assert_eq!(open(ours(), &datagram), Err(PacketError::UnknownVersion));
        datagram[0] = b'X';
        assert_eq!(open(ours(), &datagram), Err(PacketError::BadMagic));
        let long = seal(ours(), Kind::Gossip, &Bond::default(), &[0; DATAGRAM_BYTES_MAX]);
        assert_eq!(open(ours(), &long), Err(PacketError::TooLong));
        let mut odd = seal(ours(), Kind::Gossip, &Bond::default(), b"");
        odd[3] = 7;
        let sum = checksum(VERSION, 7, &odd[CLUSTER_AT..]);
        odd[4..CLUSTER_AT].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(open(ours(), &odd), Err(PacketError::UnknownKind));
    }
}
