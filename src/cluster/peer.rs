//! What nodes say to each other over a peer link: see `proto-spec/peer.md`.
//!
//! The node that dials sends [`Request`]s and the stream of changes; the node that accepts answers.

mod errand;
mod frame;

use std::sync::Arc;

use bincode::Decode;
use bincode::Encode;

pub use self::errand::Detour;
pub use self::errand::Errand;
pub use self::frame::FRAME_BYTES_MAX;
pub use self::frame::FrameError;
pub use self::frame::LENGTH_BYTES;
pub use self::frame::decode;
pub use self::frame::encode;
pub use self::frame::encode_behind;
pub use self::frame::encode_sized;
use crate::cluster::membership::Bond;
use crate::cluster::membership::ClusterId;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::placement::HandOver;
use crate::cluster::placement::PullId;
use crate::cluster::record::Departed;
use crate::cluster::record::Record;
use crate::cluster::removal::Removal;
use crate::cluster::replication::StreamStart;
use crate::cluster::report::Report;
use crate::cluster::survey::PartitionDigest;
use crate::cluster::survey::SurveyedKey;
use crate::command::Ack;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::store::Blob;
use crate::store::Change;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::time::Timestamp;
use crate::time::Version;

/// The version of these messages. Nodes of different versions do not link.
pub const PEER_VERSION: u16 = 12;
/// What a [`StreamItem::Change`] begins with.
pub const CHANGE_ITEM: u8 = 0;

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
        /// When to answer.
        ack: Ack,
        /// The commands.
        commands: Arc<Vec<KeyCommand>>,
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
        /// What you serve as I see it; none: it is all the same to me.
        expected: Option<PartitionSet>,
    },
    /// Delete all keys of the partitions that you serve.
    Flush {
        /// Named by the answer.
        id: u64,
    },
    /// Say how many keys you serve.
    Size {
        /// Named by the answer.
        id: u64,
    },
    /// Answer when the lease of a key has ended.
    AwaitLease {
        /// Named by the answer.
        id: u64,
        /// The key.
        key: Blob,
    },
    /// Choose one of the keys that you serve.
    Choose {
        /// Named by the answer.
        id: u64,
    },
    /// Pull partitions from me: I may have what you lack.
    Offer {
        /// Which.
        partitions: PartitionSet,
    },
    /// Nodes are no members any more.
    Remove {
        /// Named by the answer.
        id: u64,
        /// Which.
        removals: Vec<Removal>,
    },
    /// Say what you have of every partition, in a few numbers.
    Digest {
        /// Named by the answer.
        id: u64,
        /// Values that are gone at this time are left out.
        at: Timestamp,
    },
    /// Say what you have of some partitions, key by key.
    Survey {
        /// Named by the answer.
        id: u64,
        /// Where to go on.
        position: ScanPosition,
        /// Which partitions.
        partitions: PartitionSet,
        /// Values that are gone at this time are left out.
        at: Timestamp,
    },
    /// Say how you are.
    Report {
        /// Named by the answer.
        id: u64,
        /// The number of the last happening that is known.
        after: u64,
    },
    /// Answer when so many replicas have what was written to partitions that you serve, or in time.
    AwaitCopies {
        /// Named by the answer.
        id: u64,
        /// Where it was written.
        partitions: PartitionSet,
        /// How long ago, at most.
        age_ms: u64,
        /// So many are enough.
        wanted: u32,
        /// How long to wait.
        wait_ms: u64,
    },
    /// Pass a request on, for somebody who does not reach whom it is for.
    Relay {
        /// Which way.
        detour: Detour,
        /// The request, under the number that the answer names.
        errand: Errand,
    },
    /// Give a sign of life.
    Ping,
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
        /// The latest version that the node knows of, those of these commands included.
        latest: Version,
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
        /// Whether exactly the expected partitions are served.
        is_as_expected: bool,
    },
    /// The answer to [`Request::Flush`].
    Flushed {
        /// Of the request.
        id: u64,
        /// The partitions that were flushed.
        partitions: PartitionSet,
    },
    /// The answer to [`Request::Size`].
    Sized {
        /// Of the request.
        id: u64,
        /// How many keys.
        keys: u64,
        /// How many of them expire.
        expiring: u64,
        /// Of which partitions these are all keys.
        partitions: PartitionSet,
    },
    /// The answer to [`Request::AwaitLease`].
    LeaseOver {
        /// Of the request.
        id: u64,
        /// It has not ended, but too many wait already.
        is_full: bool,
    },
    /// The answer to [`Request::Choose`].
    Chosen {
        /// Of the request.
        id: u64,
        /// The key; none: there is none.
        key: Option<Blob>,
    },
    /// The answer to [`Request::Remove`].
    Removed {
        /// Of the request.
        id: u64,
    },
    /// The answer to [`Request::Digest`].
    Digested {
        /// Of the request.
        id: u64,
        /// Of all partitions that have values.
        digests: Vec<PartitionDigest>,
        /// Values that were evicted since the start.
        evictions: u64,
    },
    /// The answer to [`Request::Survey`].
    Surveyed {
        /// Of the request.
        id: u64,
        /// Some keys.
        keys: Vec<SurveyedKey>,
        /// Where to go on; none: that was all.
        next: Option<ScanPosition>,
    },
    /// The answer to [`Request::Report`].
    Reported {
        /// Of the request.
        id: u64,
        /// How the node is.
        report: Report,
    },
    /// The answer to [`Request::AwaitCopies`].
    Copied {
        /// Of the request.
        id: u64,
        /// So many replicas have it, where they are the fewest.
        count: u32,
        /// Whether these are all.
        spread: Spread,
        /// That is so for what was written in the last so many microseconds.
        holds_us: u64,
    },
    /// An answer to [`Request::Relay`]: whom it is for did not answer, or was not asked.
    Unreached {
        /// Of the request.
        id: u64,
        /// Whether it may have been carried out.
        may_have_run: bool,
    },
    /// The answer to [`Request::Ping`].
    Pong,
}

/// Which of the replicas have what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Spread {
    /// All.
    Everywhere,
    /// Not all.
    Partly,
    /// Nobody can say: who serves a partition does so only since then.
    Unknown,
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
    /// What binds it to the others.
    pub bond: Bond,
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
    /// The number of this link, which no other link of the two has had.
    pub link: u64,
    /// Its wall clock.
    pub wall: Timestamp,
    /// The records of all members that live, its own first.
    pub records: Vec<Record>,
    /// The members that are dead and still on the ring.
    pub departed: Vec<Departed>,
}

/// Why there can be no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
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
    /// The dialling node is no member any more.
    #[error("this node was removed from the cluster")]
    Removed,
    /// The two were apart for longer than tombstones are kept: one of them has to begin anew.
    #[error("this node and the one there were apart for too long")]
    Apart {
        /// Who refuses.
        identity: Identity,
        /// What binds it to the others, so that the dialling node can see which of them it is.
        bond: Bond,
    },
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
    /// The states of several keys of one partition, which changed at once.
    Together(Vec<Change>),
}

impl StreamItem {
    /// The key that changes, if it is one.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Change(change) => Some(&change.key),
            Self::Together(_) | Self::Flushed { .. } | Self::PullDone { .. } | Self::HandOver(_) => None,
        }
    }
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

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use bytes::Bytes;
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::membership::Generation;
    use crate::cluster::report::Happening;
    use crate::cluster::report::HotKey;
    use crate::cluster::report::Kind;
    use crate::cluster::report::SlowCommand;
    use crate::command::Op;
    use crate::store::Content;
    use crate::time::Timestamp;

    fn key() -> Bytes {
        Bytes::from_static(b"key")
    }

    fn partition(number: u16) -> Partition {
        Partition::new(number).unwrap()
    }

    fn pull_id() -> PullId {
        PullId { generation: Generation::from_raw(300), number: 7 }
    }

    fn identity() -> Identity {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 41_337));
        Identity { node: NodeId::from_raw(1), generation: Generation::from_raw(2), addr }
    }

    fn record() -> Record {
        Record {
            node: NodeId::from_raw(1),
            generation: Generation::from_raw(2),
            revision: 3,
            name: "n1".to_owned(),
            host: "h".to_owned(),
            client_port: 31_337,
            redirect_port: 32_337,
            weight: 100,
            is_leaving: false,
            is_retiring: false,
            synced: PartitionSet::new(),
        }
    }

    fn change() -> Change {
        let content = Content::Value {
            bytes: Bytes::from_static(b"v"),
            expires_at: Some(Timestamp::from_millis(1_000)),
        };
        Change { key: key(), version: Version::from_raw(258), content }
    }

    /// One of each, in the order of `proto-spec/peer.md`.
    fn requests() -> Vec<Request> {
        let set = [partition(1), partition(64)].into_iter().collect::<PartitionSet>();
        vec![
            Request::Hello(Hello {
                version: PEER_VERSION,
                cluster: ClusterId::of_name("c"),
                from: record(),
                identity: identity(),
                bond: Bond::default(),
                link: Some((NodeId::from_raw(9), StreamStart { epoch: 5, first: 1 })),
            }),
            Request::Forward {
                id: 1,
                codec: Codec::Text,
                ack: Ack::Async,
                commands: Arc::new(vec![
                    KeyCommand::new(key(), Op::Get),
                    KeyCommand::set(key(), Bytes::from_static(b"v")),
                    KeyCommand::new(key(), Op::Delete),
                ]),
            },
            Request::Stream {
                number: 2,
                items: vec![
                    StreamItem::Change(change()),
                    StreamItem::Change(Change { content: Content::Deleted, ..change() }),
                    StreamItem::Flushed { partition: partition(9), version: Version::from_raw(77) },
                    StreamItem::PullDone {
                        id: pull_id(),
                        shards: 2,
                        partitions: set.clone(),
                        up_to: Version::from_raw(78),
                    },
                    StreamItem::HandOver(HandOver { partitions: set.clone(), is_leaving: true }),
                    StreamItem::Together(vec![change(), change()]),
                ],
            },
            Request::Pull { id: pull_id(), wants: vec![(partition(1), Version::ZERO)] },
            Request::TakeOver { partitions: set.clone() },
            Request::Record(Box::new(record())),
            Request::Scan { id: 3, position: ScanPosition::START, visits: None, expected: None },
            Request::Flush { id: 4 },
            Request::Size { id: 5 },
            Request::AwaitLease { id: 6, key: Blob(key()) },
            Request::Choose { id: 7 },
            Request::Offer { partitions: set },
            Request::Remove {
                id: 6,
                removals: vec![Removal {
                    node: NodeId::from_raw(1),
                    until: Generation::from_raw(2),
                    at: Timestamp::from_millis(3),
                }],
            },
            Request::Digest { id: 7, at: Timestamp::from_millis(3) },
            Request::Survey {
                id: 8,
                position: ScanPosition::START,
                partitions: PartitionSet::full(),
                at: Timestamp::from_millis(3),
            },
            Request::Report { id: 8, after: 9 },
            Request::AwaitCopies {
                id: 9,
                partitions: PartitionSet::full(),
                age_ms: 1,
                wanted: 2,
                wait_ms: 3,
            },
            Request::Relay {
                detour: Detour { from: NodeId::from_raw(1), to: NodeId::from_raw(2), given_up: 3 },
                errand: Errand::new(Request::Forward {
                    id: 1,
                    codec: Codec::Text,
                    ack: Ack::Async,
                    commands: Arc::new(vec![KeyCommand::new(key(), Op::Get)]),
                })
                .unwrap(),
            },
            Request::Ping,
        ]
    }

    fn responses() -> Vec<Response> {
        vec![
            Response::Welcome(Welcome {
                identity: identity(),
                resume_from: 1,
                link: 2,
                wall: Timestamp::from_millis(3),
                records: vec![record()],
                departed: vec![Departed { identity: identity(), record: record(), for_ms: 5 }],
            }),
            Response::Refused(LinkRefusal::OtherCluster),
            Response::Refused(LinkRefusal::OtherVersion { version: 2 }),
            Response::Refused(LinkRefusal::OtherNode),
            Response::Refused(LinkRefusal::SameName),
            Response::Refused(LinkRefusal::Removed),
            Response::Forwarded {
                id: 1,
                outcomes: vec![Outcome::Reply { end: 3 }, Outcome::Moved],
                replies: Blob(Bytes::from_static(b"OK\n")),
                latest: Version::from_raw(258),
            },
            Response::Applied { number: 2 },
            Response::Scanned {
                id: 3,
                keys: vec![Blob(key())],
                next: Some(ScanPosition::START),
                is_as_expected: true,
            },
            Response::Flushed { id: 4, partitions: PartitionSet::full() },
            Response::Sized { id: 5, keys: 9, expiring: 1, partitions: PartitionSet::full() },
            Response::LeaseOver { id: 6, is_full: false },
            Response::Chosen { id: 7, key: Some(Blob(key())) },
            Response::Removed { id: 6 },
            Response::Digested {
                id: 7,
                digests: vec![PartitionDigest { partition: partition(1), keys: 2, sum: 3 }],
                evictions: 4,
            },
            Response::Surveyed {
                id: 8,
                keys: vec![SurveyedKey { key: Blob(key()), version: Version::from_raw(2), digest: 3 }],
                next: None,
            },
            Response::Reported { id: 8, report: report() },
            Response::Copied { id: 9, count: 1, spread: Spread::Partly, holds_us: 7 },
            Response::Unreached { id: 1, may_have_run: true },
            Response::Pong,
        ]
    }

    fn report() -> Report {
        let happening = Happening {
            number: 10,
            at: Timestamp::from_millis(3),
            kind: Kind::Promoted,
            member: Some("n2".to_owned()),
            partitions: 4,
            took_ms: Some(5),
        };
        let slow = SlowCommand {
            id: 1,
            at_secs: 2,
            took_micros: 3,
            words: vec![Blob(Bytes::from_static(b"GET"))],
            client: "c".to_owned(),
            name: Blob(Bytes::new()),
        };
        Report {
            figures: vec!["keys 9".to_owned()],
            happenings: vec![happening],
            hot_keys: vec![HotKey { key: Blob(key()), per_second: 6 }],
            slow: vec![slow],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn frames_are_byte_for_byte_as_the_specification_shows_them() {
        let spec = include_str!("../../proto-spec/peer.md");
        let [
            _,
            forward,
            _,
            pull,
            _,
            _,
            scan,
            flush,
            size,
            lease,
            choose,
            _,
            remove,
            digest,
            _,
            report,
            _,
            relay,
            ping,
        ] = &requests()[..]
        else {
            panic!("nineteen requests")
        };
        let stream = Request::Stream { number: 2, items: vec![StreamItem::Change(change())] };
        let [_, refused, version, _, _, _, forwarded, applied, scanned, _, _, rest @ ..] = &responses()[..]
        else {
            panic!("twenty responses")
        };
        let frames = [forward, &stream, pull, scan, flush, size, lease, choose, remove, digest, report];
        let frames = frames.into_iter().chain([relay, ping]).map(encode);
        let frames = frames.chain([refused, version, forwarded, applied, scanned].map(encode));
        let frames = frames.chain(rest.iter().map(encode));
        let lines = frames.map(|frame| format!("`{}`", hex(&frame)));
        let missing: Vec<String> = lines.filter(|line| !spec.contains(line)).collect();
        assert!(missing.is_empty(), "proto-spec/peer.md does not show:\n{}", missing.join("\n"));
    }

    #[test]
    fn every_message_arrives_as_sent_and_leaves_what_follows_it() {
        for sent in requests() {
            let mut input = BytesMut::from(&encode(&sent)[..]);
            input.extend_from_slice(b"next");
            assert_eq!(decode::<Request>(&mut input), Ok(Some(sent)));
            assert_eq!(&input[..], b"next");
        }
        for sent in responses() {
            let mut input = BytesMut::from(&encode(&sent)[..]);
            assert_eq!(decode::<Response>(&mut input), Ok(Some(sent)));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn an_incomplete_frame_is_waited_for_and_one_cut_short_is_refused() {
        for request in requests() {
            let frame = encode(&request);
            for length in 0..frame.len() {
                let mut input = BytesMut::from(&frame[..length]);
                assert_eq!(decode::<Request>(&mut input), Ok(None));
                assert_eq!(input.len(), length, "nothing is consumed");
            }
            // The same message in a frame that announces less than it needs.
            for length in 0..frame.len() - LENGTH_BYTES {
                let mut input = BytesMut::from(&(length as u32).to_be_bytes()[..]);
                input.extend_from_slice(&frame[LENGTH_BYTES..LENGTH_BYTES + length]);
                assert!(matches!(decode::<Request>(&mut input), Err(FrameError::Malformed(_))));
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_read() {
        let bytes = FRAME_BYTES_MAX + 1;
        let mut input = BytesMut::from(&(bytes as u32).to_be_bytes()[..]);
        assert_eq!(decode::<Request>(&mut input), Err(FrameError::TooLong { bytes }));
        let mut input = BytesMut::from(&(FRAME_BYTES_MAX as u32).to_be_bytes()[..]);
        assert_eq!(decode::<Request>(&mut input), Ok(None));
    }

    #[test]
    fn bytes_behind_a_message_are_refused() {
        let frame = encode(&Request::Flush { id: 4 });
        let mut input = BytesMut::from(&(frame.len() as u32 - 4 + 2).to_be_bytes()[..]);
        input.extend_from_slice(&frame[LENGTH_BYTES..]);
        input.extend_from_slice(&[0, 0]);
        assert_eq!(decode::<Request>(&mut input), Err(FrameError::TrailingBytes(2)));
    }

    #[test]
    fn a_count_that_the_frame_cannot_hold_is_an_error_and_not_an_allocation() {
        // A forward of 2^60 commands; the allocation would abort the test.
        let mut body = vec![1, 1, 0, 253];
        body.extend_from_slice(&(1_u64 << 60).to_le_bytes());
        let mut input = BytesMut::from(&(body.len() as u32).to_be_bytes()[..]);
        input.extend_from_slice(&body);
        assert!(matches!(decode::<Request>(&mut input), Err(FrameError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..400), tag in 0..20_u8) {
            let mut framed = BytesMut::new();
            framed.put_u32(body.len() as u32 + 1);
            framed.put_u8(tag);
            framed.extend_from_slice(&body);
            // Only the absence of a panic is of interest here.
            let _ = decode::<Request>(&mut framed.clone());
            let _ = decode::<Response>(&mut framed);
            let _ = decode::<Request>(&mut BytesMut::from(&body[..]));
        }

        #[test]
        fn a_flipped_bit_never_panics(which in 0..19_usize, at: prop::sample::Index, bit in 0..8_u8) {
            let mut frame = BytesMut::from(&encode(&requests()[which])[..]);
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            let _ = decode::<Request>(&mut frame);
        }

        #[test]
        fn any_command_and_change_arrive_as_sent(
            key in prop::collection::vec(any::<u8>(), 0..300),
            value in prop::collection::vec(any::<u8>(), 0..300),
            numbers in any::<[u64; 3]>(),
        ) {
            let [id, version, expiry] = numbers;
            let (key, bytes) = (Bytes::from(key), Bytes::from(value));
            let command = KeyCommand::set(key.clone(), bytes.clone());
            let content = Content::Value { bytes, expires_at: Some(Timestamp::from_millis(expiry)) };
            let change = Change { key, version: Version::from_raw(version), content };
            for sent in [
                Request::Forward { id, codec: Codec::Text, ack: Ack::Async, commands: Arc::new(vec![command; 3]) },
                Request::Stream { number: id, items: vec![StreamItem::Change(change); 2] },
            ] {
                let mut input = BytesMut::from(&encode(&sent)[..]);
                prop_assert_eq!(decode::<Request>(&mut input), Ok(Some(sent)));
            }
        }
    }
}
