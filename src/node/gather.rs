//! Replies of the parts of one command made one reply, and commands of very many parts.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::Codec;
use crate::command::Gather;
use crate::command::KeyCommand;
use crate::command::Many;
use crate::command::Refusal;
use crate::command::Reply;
use crate::node::acks::Acks;
use crate::node::context::Context;
use crate::node::redirect;
use crate::node::redirect::Access;
use crate::node::router;
use crate::protocol;
use crate::protocol::resp;

/// Parts that are carried out together.
const PARTS_MAX: usize = 1_024;
/// Bytes of keys and values that are carried out together, a single part apart: they must fit a frame.
const PARTS_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of replies that are held for one command.
const REPLY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Whether the parts can be carried out together with other commands.
pub fn is_small(many: &Many) -> bool {
    let bytes = || match many {
        Many::Set(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>(),
        Many::Get(keys) | Many::Delete(keys) | Many::Exists(keys) | Many::Touch(keys) => {
            keys.iter().map(Bytes::len).sum()
        }
    };
    many.len() <= PARTS_MAX && bytes() <= PARTS_BYTES_MAX
}

/// Appends the one reply that the encoded replies of all parts make. An error of any part is the reply:
/// then other parts may have been carried out.
pub fn gather(codec: Codec, how: Gather, replies: &[Bytes], out: &mut Vec<u8>) {
    if let Some(error) = replies.iter().find(|reply| resp::is_error(reply)) {
        out.extend_from_slice(error);
        return;
    }
    match how {
        Gather::List => {
            resp::array_header(replies.len(), out);
            replies.iter().for_each(|reply| out.extend_from_slice(reply));
        }
        Gather::Sum => {
            let sum = replies.iter().filter_map(|reply| resp::integer_of(reply)).sum();
            protocol::encode(codec, &Reply::Integer(sum), out);
        }
        Gather::AllDone => protocol::encode(codec, &Reply::Done, out),
    }
}

/// Carries out a command of any number of parts, some of them at a time, in order.
pub async fn run(
    context: &Arc<Context>,
    access: Access,
    (codec, acks): (Codec, &mut Acks),
    many: Many,
    out: &mut Vec<u8>,
) {
    let how = many.gather();
    let mut replies = Vec::with_capacity(many.len());
    let mut reply_bytes = 0;
    let mut rest = many.parts();
    while !rest.is_empty() {
        let later = rest.split_off(piece_len(&rest));
        let piece = redirect::run(context, access, (codec, acks), rest).await;
        reply_bytes += piece.iter().map(Bytes::len).sum::<usize>();
        replies.extend(piece);
        if reply_bytes > REPLY_BYTES_MAX {
            protocol::encode_refusal(codec, &Refusal::ReplyTooLong { bytes_max: REPLY_BYTES_MAX }, out);
            return;
        }
        rest = later;
    }
    gather(codec, how, &replies, out);
}

/// Carries out commands, some of them at a time, in order. Where the replies get too long, the rest is
/// refused.
pub async fn run_all(
    context: &Arc<Context>,
    codec: Codec,
    acks: &mut Acks,
    commands: Vec<KeyCommand>,
) -> Vec<Bytes> {
    let mut replies = Vec::with_capacity(commands.len());
    let (mut reply_bytes, mut rest) = (0, commands);
    while !rest.is_empty() {
        if reply_bytes > REPLY_BYTES_MAX {
            let mut refused = Vec::new();
            protocol::encode_refusal(
                codec,
                &Refusal::ReplyTooLong { bytes_max: REPLY_BYTES_MAX },
                &mut refused,
            );
            replies.resize(replies.len() + rest.len(), Bytes::from(refused));
            return replies;
        }
        let later = rest.split_off(piece_len(&rest));
        let piece = router::run(context, codec, acks, rest).await;
        reply_bytes += piece.iter().map(Bytes::len).sum::<usize>();
        replies.extend(piece);
        rest = later;
    }
    replies
}

/// How many of these are carried out together; at least one.
fn piece_len(commands: &[KeyCommand]) -> usize {
    let mut bytes = 0;
    let fits = |command: &&KeyCommand| {
        bytes += command.bytes();
        bytes <= PARTS_BYTES_MAX
    };
    commands.iter().take(PARTS_MAX).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(how: Gather, replies: &[&'static str]) -> String {
        let replies: Vec<Bytes> = replies.iter().map(|reply| Bytes::from_static(reply.as_bytes())).collect();
        let mut out = Vec::new();
        gather(Codec::Resp2, how, &replies, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_are_listed_or_added_up_in_order() {
        assert_eq!(gathered(Gather::List, &["$1\r\na\r\n", "$-1\r\n"]), "*2\r\n$1\r\na\r\n$-1\r\n");
        assert_eq!(gathered(Gather::Sum, &[":1\r\n", ":0\r\n", ":1\r\n"]), ":2\r\n");
        assert_eq!(gathered(Gather::AllDone, &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
    }

    #[test]
    fn an_error_of_one_part_is_the_reply() {
        for how in [Gather::List, Gather::Sum, Gather::AllDone] {
            assert_eq!(gathered(how, &[":1\r\n", "-ERR no\r\n", "-ERR other\r\n"]), "-ERR no\r\n");
        }
    }

    #[test]
    fn a_piece_is_bounded_in_number_and_bytes_and_never_empty() {
        let set = |bytes: usize| KeyCommand::set(Bytes::new(), vec![0; bytes].into());
        assert_eq!(piece_len(&vec![set(1); 5_000]), PARTS_MAX);
        assert_eq!(piece_len(&vec![set(PARTS_BYTES_MAX / 4); 10]), 4);
        assert_eq!(piece_len(&[set(PARTS_BYTES_MAX + 1), set(0)]), 1);
        assert!(is_small(&Many::Get(vec![Bytes::new(); PARTS_MAX])));
        assert!(!is_small(&Many::Get(vec![Bytes::new(); PARTS_MAX + 1])));
        assert!(!is_small(&Many::Set(vec![(Bytes::new(), vec![0; PARTS_BYTES_MAX + 1].into())])));
    }
}
