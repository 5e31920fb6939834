//! The codec against the `redis-protocol` crate, which somebody else wrote: what it encodes is read
//! here, and what is encoded here it reads, as what was meant.

use bytes::BytesMut;
use proptest::prelude::*;
use redis_protocol::resp2;
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp2::types::Resp2Frame;
use redis_protocol::resp3;
use redis_protocol::resp3::types::FrameMap;
use redis_protocol::resp3::types::OwnedFrame as Frame3;
use redis_protocol::resp3::types::VerbatimStringFormat;

use crate::command::Codec;
use crate::command::Refusal;
use crate::command::Reply;
use crate::protocol;
use crate::protocol::resp::ProtocolError;
use crate::protocol::resp::RespDecoder;
use crate::protocol::resp::RespLimits;
use crate::protocol::resp::encode_protocol_error;
use crate::protocol::resp::encode_refusal;
use crate::protocol::resp::integer_of;
use crate::protocol::resp::is_error;

/// A reply that owns what it says.
#[derive(Clone, Debug)]
enum Said {
    Done,
    Value(Vec<u8>),
    Absent,
    Deleted(u64),
    Integer(i64),
    Word,
    Bytes(Vec<u8>),
    List(Vec<Said>),
    Map(Vec<(Said, Said)>),
    Pong,
    Goodbye,
    Lines(Vec<String>),
    Refused(Refusal),
}

impl Said {
    fn reply(&self) -> Reply<'_> {
        match self {
            Said::Done => Reply::Done,
            Said::Value(value) => Reply::Value(value),
            Said::Absent => Reply::Absent,
            Said::Deleted(count) => Reply::Deleted(*count),
            Said::Integer(number) => Reply::Integer(*number),
            Said::Word => Reply::Word("string"),
            Said::Bytes(bytes) => Reply::Bytes(bytes.clone()),
            Said::List(list) => Reply::List(list.iter().map(Said::reply).collect()),
            Said::Map(pairs) => {
                Reply::Map(pairs.iter().map(|(name, value)| (name.reply(), value.reply())).collect())
            }
            Said::Pong => Reply::Pong,
            Said::Goodbye => Reply::Goodbye,
            Said::Lines(lines) => Reply::Lines(lines.clone()),
            Said::Refused(refusal) => Reply::Refused(refusal.clone()),
        }
    }

    /// What a client of the older version is meant to read.
    fn frame2(&self) -> Frame2 {
        match self {
            Said::Done | Said::Goodbye => Frame2::SimpleString(b"OK".to_vec()),
            Said::Pong => Frame2::SimpleString(b"PONG".to_vec()),
            Said::Word => Frame2::SimpleString(b"string".to_vec()),
            Said::Value(bytes) | Said::Bytes(bytes) => Frame2::BulkString(bytes.clone()),
            Said::Absent => Frame2::Null,
            Said::Deleted(count) => Frame2::Integer(i64::try_from(*count).unwrap()),
            Said::Integer(number) => Frame2::Integer(*number),
            Said::List(list) => Frame2::Array(list.iter().map(Said::frame2).collect()),
            Said::Map(pairs) => {
                let flat = pairs.iter().flat_map(|(name, value)| [name.frame2(), value.frame2()]);
                Frame2::Array(flat.collect())
            }
            Said::Lines(lines) => Frame2::BulkString(lines.join("\n").into_bytes()),
            Said::Refused(refusal) => Frame2::Error(error_text(refusal)),
        }
    }

    /// What a client of the newer version is meant to read.
    fn frame3(&self) -> Frame3 {
        let simple = |text: &str| Frame3::SimpleString { data: text.into(), attributes: None };
        match self {
            Said::Done | Said::Goodbye => simple("OK"),
            Said::Pong => simple("PONG"),
            Said::Word => simple("string"),
            Said::Value(bytes) | Said::Bytes(bytes) => {
                Frame3::BlobString { data: bytes.clone(), attributes: None }
            }
            Said::Absent => Frame3::Null,
            Said::Deleted(count) => Frame3::Number { data: i64::try_from(*count).unwrap(), attributes: None },
            Said::Integer(number) => Frame3::Number { data: *number, attributes: None },
            Said::List(list) => {
                Frame3::Array { data: list.iter().map(Said::frame3).collect(), attributes: None }
            }
            Said::Map(pairs) => {
                let data: FrameMap<Frame3, Frame3> =
                    pairs.iter().map(|(name, value)| (name.frame3(), value.frame3())).collect();
                Frame3::Map { data, attributes: None }
            }
            Said::Lines(lines) => Frame3::VerbatimString {
                data: lines.join("\n").into_bytes(),
                format: VerbatimStringFormat::Text,
                attributes: None,
            },
            Said::Refused(refusal) => Frame3::SimpleError { data: error_text(refusal), attributes: None },
        }
    }
}

/// The text of an error; its wording is tested where it is made.
fn error_text(refusal: &Refusal) -> String {
    let mut out = Vec::new();
    encode_refusal(refusal, &mut out);
    assert!(is_error(&out));
    let line = String::from_utf8(out).unwrap();
    line.strip_prefix('-').and_then(|line| line.strip_suffix("\r\n")).unwrap().to_owned()
}

fn encoded(codec: Codec, said: &Said) -> Vec<u8> {
    let mut out = Vec::new();
    protocol::encode(codec, &said.reply(), &mut out);
    out
}

fn refusals() -> impl Strategy<Value = Refusal> {
    let names = any::<String>().prop_map(|name| Refusal::UnknownCommand { name });
    let fixed = prop::sample::select(vec![
        Refusal::Usage { usage: "SET <key> <value>" },
        Refusal::EntryTooLarge { bytes: 9, bytes_max: 8 },
        Refusal::LineTooLong { bytes_max: 80 },
        Refusal::OutOfMemory,
        Refusal::NoMemory { bytes: 9, bytes_max: 8 },
        Refusal::NoPrimary { partition: 7, waited_ms: 2_000 },
        Refusal::TooManyWaiting { waiting: 5 },
        Refusal::Incomplete { count: 4 },
        Refusal::Unknown,
    ]);
    prop_oneof![names, fixed]
}

fn replies() -> impl Strategy<Value = Said> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let single = prop_oneof![
        Just(Said::Done),
        bytes().prop_map(Said::Value),
        Just(Said::Absent),
        (0..=i64::MAX as u64).prop_map(Said::Deleted),
        any::<i64>().prop_map(Said::Integer),
        Just(Said::Word),
        bytes().prop_map(Said::Bytes),
        Just(Said::Pong),
        Just(Said::Goodbye),
        proptest::collection::vec(".{0,20}", 0..4).prop_map(Said::Lines),
        refusals().prop_map(Said::Refused),
    ];
    single.prop_recursive(3, 24, 4, move |inner| {
        // Names of their own: a map of the oracle keeps only one of two that are equal.
        let pairs = proptest::collection::btree_map(bytes(), inner.clone(), 0..4)
            .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (Said::Bytes(name), value)).collect());
        prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Said::List), pairs.prop_map(Said::Map),]
    })
}

proptest! {
    #[test]
    fn requests_of_the_oracle_are_read_as_the_same_words(
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
        tail in proptest::collection::vec(any::<u8>(), 0..10),
    ) {
        let frame = Frame2::Array(words.iter().cloned().map(Frame2::BulkString).collect());
        let mut wire = vec![0; frame.encode_len(false)];
        let length = resp2::encode::encode(&mut wire, &frame, false).unwrap();
        wire.truncate(length);
        wire.extend_from_slice(&tail);
        let mut input = BytesMut::from(&wire[..]);
        let found = RespDecoder::new(RespLimits::default()).decode(&mut input).unwrap();
        prop_assert_eq!(found.unwrap(), words);
        prop_assert_eq!(&input[..], &tail[..]);
    }

    #[test]
    fn replies_of_the_older_version_are_read_by_the_oracle_as_meant(
        said in replies(),
        at in any::<prop::sample::Index>(),
    ) {
        let wire = encoded(Codec::Resp2, &said);
        prop_assert_eq!(resp2::decode::decode(&wire).unwrap(), Some((said.frame2(), wire.len())));
        prop_assert_eq!(resp2::decode::decode(&wire[..at.index(wire.len())]).unwrap(), None);
    }

    #[test]
    fn replies_of_the_newer_version_are_read_by_the_oracle_as_meant(
        said in replies(),
        at in any::<prop::sample::Index>(),
    ) {
        let wire = encoded(Codec::Resp3, &said);
        prop_assert_eq!(resp3::decode::complete::decode(&wire).unwrap(), Some((said.frame3(), wire.len())));
        prop_assert_eq!(resp3::decode::complete::decode(&wire[..at.index(wire.len())]).unwrap(), None);
    }

    #[test]
    fn what_is_gathered_without_decoding_is_what_the_oracle_decodes(said in replies()) {
        let wire = encoded(Codec::Resp2, &said);
        let frame = said.frame2();
        let number = match frame {
            Frame2::Integer(number) => Some(number),
            _ => None,
        };
        prop_assert_eq!(integer_of(&wire), number);
        prop_assert_eq!(is_error(&wire), matches!(frame, Frame2::Error(_)));
    }

    #[test]
    fn a_protocol_error_is_one_error_whatever_the_byte(byte: u8) {
        let mut wire = Vec::new();
        encode_protocol_error(ProtocolError::NoWord(byte), &mut wire);
        let (frame, length) = resp2::decode::decode(&wire).unwrap().unwrap();
        prop_assert!(matches!(frame, Frame2::Error(text) if text.starts_with("ERR Protocol error: ")));
        prop_assert_eq!(length, wire.len());
    }
}
