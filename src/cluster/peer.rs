//! What nodes say to each other over a peer link: see `proto-spec/peer.md`.
//!
//! A frame is its length (32 bits, big endian) and its message in bincode's standard encoding. The
//! length is checked before anything is read, a message must use all of its frame, and no number in
//! it sizes memory before it has been checked. The node that dials sends [`Request`]s and the stream
//! of changes; the node that accepts answers.

use bincode::Decode;
use bincode::Encode;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::cluster::membership::ClusterId;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::placement::HandOver;
use crate::cluster::placement::PullId;
use crate::cluster::record::Record;
use crate::cluster::replication::StreamStart;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::store::Blob;
use crate::store::Change;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::time::Version;

/// The version of these messages. Nodes of different versions do not link.
pub const PEER_VERSION: u16 = 1;
/// The longest frame, in bytes, its length field not counted.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the length field.
pub const LENGTH_BYTES: usize = 4;

/// What the node that dials says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// First on every connection.
    Hello(Hello),
    /// Carry out commands whose partitions you serve.
    Forward {
        /// Named by the answer.
        id: u64,
        /// In which protocol to encode the replies.
        codec: Codec,
        /// The commands.
        commands: Vec<KeyCommand>,
    },
    /// A frame of the stream of changes.
    Stream {
        /// Its number in the stream's epoch.
        number: u64,
        /// What it brings, in order.
        items: Vec<StreamItem>,
    },
    /// Put all that you have of partitions, newer than a version each, into your stream to me.
    Pull {
        /// Named by the end of the answer.
        id: PullId,
        /// What is wanted.
        wants: Vec<(Partition, Version)>,
    },
    /// Hand partitions that I have pulled over to me.
    TakeOver {
        /// Which.
        partitions: PartitionSet,
    },
    /// What I say about myself has changed.
    Record(Box<Record>),
    /// List some keys that you serve.
    Scan {
        /// Named by the answer.
        id: u64,
        /// Where to go on.
        position: ScanPosition,
        /// About how many slots to look at; none: as many as fit a piece.
        visits: Option<u32>,
    },
    /// Say how many keys you serve.
    Size {
        /// Named by the answer.
        id: u64,
    },
    /// Delete all keys of the partitions that you serve.
    Flush {
        /// Named by the answer.
        id: u64,
    },
}

/// What the node that accepted says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Response {
    /// The answer to [`Request::Hello`].
    Welcome(Welcome),
    /// The answer to [`Request::Hello`] where there can be no link; the connection is closed.
    Refused(LinkRefusal),
    /// The answer to [`Request::Forward`].
    Forwarded {
        /// Of the request.
        id: u64,
        /// One for each command.
        outcomes: Vec<Outcome>,
        /// The replies, encoded one after the other.
        replies: Blob,
    },
    /// All frames of the stream up to this number are applied.
    Applied {
        /// The number.
        number: u64,
    },
    /// The answer to [`Request::Scan`].
    Scanned {
        /// Of the request.
        id: u64,
        /// The keys.
        keys: Vec<Blob>,
        /// Where to go on; none: that was all.
        next: Option<ScanPosition>,
    },
    /// The answer to [`Request::Size`].
    Sized {
        /// Of the request.
        id: u64,
        /// How many keys.
        keys: u64,
    },
    /// The answer to [`Request::Flush`].
    Flushed {
        /// Of the request.
        id: u64,
        /// The partitions that were flushed.
        partitions: PartitionSet,
    },
}

/// Who dials, and why.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`PEER_VERSION`].
    pub version: u16,
    /// Only nodes of one cluster link.
    pub cluster: ClusterId,
    /// Who dials.
    pub from: Record,
    /// Who dials, and where it listens.
    pub identity: Identity,
    /// Whom it wants to reach and from where its stream goes on; none: it only asks who is there.
    pub link: Option<(NodeId, StreamStart)>,
}

/// Who accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// Who accepted, and where it listens.
    pub identity: Identity,
    /// The frame from which on it wants the dialling node's stream.
    pub resume_from: u64,
    /// All records it knows, its own first.
    pub records: Vec<Record>,
}

/// Why there can be no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum LinkRefusal {
    /// The nodes belong to different clusters.
    #[error("the node there belongs to another cluster")]
    OtherCluster,
    /// The nodes speak different versions.
    #[error("the node there speaks version {version} of the peer protocol, not {PEER_VERSION}")]
    OtherVersion {
        /// What the refusing node speaks.
        version: u16,
    },
    /// Another node listens there than the one that is sought.
    #[error("another node has taken the address")]
    OtherNode,
    /// The dialling node has the same name as the one that it reached.
    #[error("the node there has the same name")]
    SameName,
}

/// Something in the stream from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StreamItem {
    /// The state of a key.
    Change(Change),
    /// All entries of a partition at or below a version are gone.
    Flushed {
        /// The partition.
        partition: Partition,
        /// The version.
        version: Version,
    },
    /// One shard has sent all that a pull asked for.
    PullDone {
        /// Which pull.
        id: PullId,
        /// How many shards of the sender there are; the pull is done when each has said so.
        shards: u16,
        /// The partitions of this shard that were asked for.
        partitions: PartitionSet,
        /// Everything of them up to this version has been sent.
        up_to: Version,
    },
    /// The sender has stopped serving partitions: the receiver is their primary.
    HandOver(HandOver),
}

/// What became of a forwarded command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It has run; its reply ends here in the encoded replies.
    Reply {
        /// Offset of the byte after it.
        end: u32,
    },
    /// It has not run: the node does not serve its partition.
    Moved,
}

/// A position in the listing of a node's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScanPosition {
    /// The shard.
    pub shard: u16,
    /// Where in the shard.
    pub cursor: ScanCursor,
}

impl ScanPosition {
    /// The beginning.
    pub const START: ScanPosition = ScanPosition { shard: 0, cursor: ScanCursor::START };
}

/// A frame that cannot be read. The link ends; nothing of the frame has taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its length is over the limit.
    #[error("frame of {bytes} bytes, the limit is {FRAME_BYTES_MAX}")]
    TooLong {
        /// The announced length.
        bytes: usize,
    },
    /// It is no message of this version.
    #[error("frame cannot be decoded: {0}")]
    Malformed(String),
    /// Something stands behind the message.
    #[error("frame has {0} bytes behind its message")]
    TrailingBytes(usize),
}

/// Encodes a message with its length before it.
pub fn encode<M: Encode>(message: &M) -> Bytes {
    let mut frame = BytesMut::new().writer();
    frame.get_mut().put_u32(0);
    bincode::encode_into_std_write(message, &mut frame, bincode::config::standard())
        .expect("encoding into memory cannot fail");
    let mut frame = frame.into_inner();
    let length = u32::try_from(frame.len() - LENGTH_BYTES).expect("a frame is below four gigabytes");
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// Takes the next complete message from what has arrived.
///
/// # Errors
///
/// [`FrameError`]: the link cannot go on.
pub fn decode<M: Decode<()>>(input: &mut BytesMut) -> Result<Option<M>, FrameError> {
    let Some(length) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { bytes });
    }
    let Some(body) = input.get(LENGTH_BYTES..LENGTH_BYTES + bytes) else { return Ok(None) };
    let config = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();
    let (message, used) =
        bincode::decode_from_slice(body, config).map_err(|error| FrameError::Malformed(error.to_string()))?;
    if used < bytes {
        return Err(FrameError::TrailingBytes(bytes - used));
    }
    let _ = input.split_to(LENGTH_BYTES + bytes);
    Ok(Some(message))
}
