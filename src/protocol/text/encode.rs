//! Replies as lines, each ended by LF alone: clients read up to LF.

use crate::command::Refusal;
use crate::command::Reply;
use crate::protocol::text::escape;

const ABSENT: &[u8] = b"ERROR: Key not found\n";
const DONE: &[u8] = b"OK\n";

/// Appends a reply.
pub fn encode(reply: &Reply<'_>, out: &mut Vec<u8>) {
    match reply {
        Reply::Done => out.extend_from_slice(DONE),
        Reply::Value(value) => {
            escape(value, out);
            out.push(b'\n');
        }
        Reply::Absent => out.extend_from_slice(ABSENT),
        Reply::Deleted(0) => out.extend_from_slice(ABSENT),
        Reply::Deleted(_) => out.extend_from_slice(DONE),
        Reply::Integer(number) => out.extend_from_slice(format!("{number}\n").as_bytes()),
        Reply::Word(word) => {
            out.extend_from_slice(word.as_bytes());
            out.push(b'\n');
        }
        Reply::Bytes(bytes) => {
            escape(bytes, out);
            out.push(b'\n');
        }
        Reply::Line(replies) => {
            for reply in replies {
                encode(reply, out);
                // The end of the line becomes the blank before the next word.
                if let Some(end) = out.last_mut() {
                    *end = b' ';
                }
            }
            if let Some(end) = out.last_mut() {
                *end = b'\n';
            }
        }
        Reply::List(replies) => {
            replies.iter().for_each(|reply| encode(reply, out));
            encode_end(replies.len() as u64, out);
        }
        Reply::Map(pairs) => {
            for (name, value) in pairs {
                encode(name, out);
                encode(value, out);
            }
            encode_end(pairs.len() as u64 * 2, out);
        }
        Reply::Pong => out.extend_from_slice(b"PONG\n"),
        Reply::Goodbye => out.extend_from_slice(b"Goodbye!\n"),
        Reply::Lines(lines) => {
            for line in lines {
                escape(line.as_bytes(), out);
                out.push(b'\n');
            }
            encode_end(lines.len() as u64, out);
        }
        Reply::Refused(refusal) => encode_refusal(refusal, out),
    }
}

/// Appends the reply to something that was not carried out.
pub fn encode_refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("ERROR: {refusal}\n").as_bytes());
}

/// Appends a key of the reply to KEYS, which is streamed: see [`encode_end`].
///
/// A key is written as it is. Only blanks and line ends, which keys of this protocol cannot hold or
/// could not show, are written as `\xHH`: so that no key can look like the last line of the reply.
pub fn encode_key_line(key: &[u8], out: &mut Vec<u8>) {
    out.reserve(key.len() + 1);
    for byte in key {
        match byte {
            b' ' => out.extend_from_slice(br"\x20"),
            b'\t' => out.extend_from_slice(br"\x09"),
            b'\n' => out.extend_from_slice(br"\x0a"),
            b'\r' => out.extend_from_slice(br"\x0d"),
            _ => out.push(*byte),
        }
    }
    out.push(b'\n');
}

/// Appends the last line of a reply of several lines: how many came before it.
pub fn encode_end(count: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("END {count}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: Reply<'_>) -> String {
        let mut out = Vec::new();
        encode(&reply, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_a_line() {
        assert_eq!(encoded(Reply::Done), "OK\n");
        assert_eq!(encoded(Reply::Value(b"two\nlines")), "two\\nlines\n");
        assert_eq!(encoded(Reply::Value(b"")), "\n");
        assert_eq!(encoded(Reply::Absent), "ERROR: Key not found\n");
        assert_eq!(encoded(Reply::Pong), "PONG\n");
        assert_eq!(encoded(Reply::Goodbye), "Goodbye!\n");
    }

    #[test]
    fn what_belongs_on_one_line_is_one() {
        assert_eq!(encoded(Reply::Line(vec![Reply::Word("BUSY")])), "BUSY\n");
        let value = Reply::Bytes(b"two words\n".to_vec());
        assert_eq!(encoded(Reply::Line(vec![Reply::Word("HIT"), value])), "HIT two words\\n\n");
        assert_eq!(encoded(Reply::Line(vec![Reply::Word("HIT"), Reply::Value(b"")])), "HIT \n");
    }

    #[test]
    fn deleting_nothing_is_an_error() {
        assert_eq!(encoded(Reply::Deleted(1)), "OK\n");
        assert_eq!(encoded(Reply::Deleted(0)), "ERROR: Key not found\n");
    }

    #[test]
    fn several_lines_end_with_their_number_and_cannot_hold_a_line_end() {
        assert_eq!(encoded(Reply::Lines(Vec::new())), "END 0\n");
        let lines = vec!["node a".to_owned(), "b\nEND 9".to_owned()];
        assert_eq!(encoded(Reply::Lines(lines)), "node a\nb\\nEND 9\nEND 2\n");
    }

    #[test]
    fn no_key_looks_like_the_end_of_the_list() {
        let mut out = Vec::new();
        encode_key_line(b"END 3", &mut out);
        encode_key_line(b"a\tb\r\n\\n\xFF", &mut out);
        encode_end(2, &mut out);
        assert_eq!(out, b"END\\x203\na\\x09b\\x0d\\x0a\\n\xFF\nEND 2\n");
    }

    #[test]
    fn every_refusal_is_one_error_line() {
        let refusals = [
            (Refusal::Usage { usage: "SET <key> <value>" }, "Usage: SET <key> <value>"),
            (Refusal::UnknownCommand { name: "X".to_owned() }, "Unknown command: X"),
            (Refusal::EntryTooLarge { bytes: 9, bytes_max: 8 }, "key and value have 9 bytes, the limit is 8"),
            (Refusal::LineTooLong { bytes_max: 80 }, "line is longer than the limit of 80 bytes"),
            (Refusal::OutOfMemory, "command not allowed when used memory > 'maxmemory'."),
            (
                Refusal::NoMemory { bytes: 9, bytes_max: 8 },
                "entry of 9 bytes does not fit the memory of a shard, 8 bytes",
            ),
            (
                Refusal::NoPrimary { partition: 7, waited_ms: 2_000 },
                "no node could serve partition 7 within 2000 ms, try again",
            ),
            (Refusal::TooManyWaiting { waiting: 5 }, "5 requests already wait for a failover, try again"),
            (Refusal::Unknown, "the node that served the command was lost, it may or may not have run"),
        ];
        for (refusal, text) in refusals {
            assert_eq!(encoded(Reply::Refused(refusal)), format!("ERROR: {text}\n"));
        }
    }
}
