//! How clients speak: one codec per protocol, each between bytes and [`crate::command`].
//!
//! A codec is plain values: bytes in, [`Request`]s out; replies in, bytes out. It knows nothing of
//! sockets, and commands know nothing of protocols. Decoding keeps state, so that each protocol has a
//! decoder of its own ([`text::TextDecoder`], [`resp::RespDecoder`]); encoding keeps none, so that a
//! [`Codec`] is a mere name which travels with a command to the shard, or to the node, that answers it.
//!
//! The first byte of each request decides its protocol: `*` is RESP, anything else a line of text.

pub mod resp;
pub mod text;

use bytes::Bytes;

use crate::command::Codec;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Verb;
use crate::protocol::resp::RespVersion;

/// What a line of text is: either way the client is owed exactly one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Something to carry out: see [`Verb::parse`].
    Asked {
        /// The command.
        verb: &'static Verb,
        /// As many as the command has in this protocol.
        arguments: Vec<Bytes>,
    },
    /// Something that cannot be carried out, and why.
    Refused(Refusal),
}

/// Appends a reply.
pub fn encode(codec: Codec, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match codec {
        Codec::Text => text::encode(reply, out),
        Codec::Resp2 => resp::encode(RespVersion::Two, reply, out),
        Codec::Resp3 => resp::encode(RespVersion::Three, reply, out),
    }
}

/// Appends the reply to something that was never a command, or to one that was not carried out.
pub fn encode_refusal(codec: Codec, refusal: &Refusal, out: &mut Vec<u8>) {
    match codec {
        Codec::Text => text::encode_refusal(refusal, out),
        Codec::Resp2 | Codec::Resp3 => resp::encode_refusal(refusal, out),
    }
}
