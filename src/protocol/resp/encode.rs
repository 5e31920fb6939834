//! Replies as Redis words them, in both versions of the protocol.

use crate::command::Refusal;
use crate::command::Reply;
use crate::protocol::resp::error::error_line;
use crate::protocol::resp::number;

/// Which replies a client understands. It says so by HELLO; before that, it is the older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RespVersion {
    /// Texts, numbers, errors, lists.
    Two,
    /// Also maps, texts with a format, and a null of its own.
    Three,
}

const OK: &[u8] = b"+OK\r\n";
/// The format of a text: three letters and a colon.
const PLAIN_TEXT: &[u8] = b"txt:";

/// Appends a reply. A value is copied once, into `out`.
pub fn encode(version: RespVersion, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match reply {
        Reply::Done | Reply::Goodbye => out.extend_from_slice(OK),
        Reply::Deleted(count) => integer(i64::try_from(*count).unwrap_or(i64::MAX), out),
        Reply::Integer(number) => integer(*number, out),
        Reply::Value(value) => bulk(value, out),
        Reply::Bytes(bytes) => bulk(bytes, out),
        Reply::Absent => out.extend_from_slice(match version {
            RespVersion::Two => b"$-1\r\n",
            RespVersion::Three => b"_\r\n",
        }),
        Reply::Word(word) => simple(word, out),
        Reply::Pong => simple("PONG", out),
        Reply::Lines(lines) => text(version, &lines.join("\n"), out),
        Reply::List(replies) | Reply::Line(replies) => {
            array_header(replies.len(), out);
            replies.iter().for_each(|reply| encode(version, reply, out));
        }
        Reply::Map(pairs) => {
            match version {
                RespVersion::Two => array_header(pairs.len() * 2, out),
                RespVersion::Three => header(b'%', pairs.len(), out),
            }
            for (name, value) in pairs {
                encode(version, name, out);
                encode(version, value, out);
            }
        }
        Reply::Refused(refusal) => encode_refusal(refusal, out),
    }
}

/// Appends the reply to something that was not carried out: the same in both versions.
///
/// The first word is what clients go by. On CLUSTERDOWN redis-py, ioredis, redis-rs and go-redis wait
/// and repeat the command, the first two after learning the slots anew; so it is said only of what has
/// not run. It is said also where too much waits already: on TRYAGAIN redis-py repeats eight times
/// without a pause, at the same node. TRYAGAIN is said as in Redis, of slots that move. What may have
/// run is a plain ERR: it must not be repeated by anybody who does not know what it does.
pub fn encode_refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    let (code, text) = match refusal {
        Refusal::Usage { usage } => ("ERR", wrong_word_count(usage)),
        Refusal::UnknownCommand { name } => {
            ("ERR", format!("unknown command '{name}', with args beginning with: "))
        }
        Refusal::Invalid(invalid) => (invalid.code(), invalid.to_string()),
        Refusal::EntryTooLarge { .. }
        | Refusal::LineTooLong { .. }
        | Refusal::ReplyTooLong { .. }
        | Refusal::TransactionTooLarge { .. }
        | Refusal::TooManyWatched { .. }
        | Refusal::PartAborted
        | Refusal::TooManyConnections
        | Refusal::Unknown => ("ERR", refusal.to_string()),
        // The code is the first word of its text.
        Refusal::Moved { slot, address } => ("MOVED", format!("{slot} {address}")),
        Refusal::OutOfMemory | Refusal::NoMemory { .. } => ("OOM", refusal.to_string()),
        Refusal::NoPrimary { .. } | Refusal::TooManyWaiting { .. } => ("CLUSTERDOWN", refusal.to_string()),
        Refusal::Incomplete { .. } => ("TRYAGAIN", refusal.to_string()),
    };
    error_line(code, text.as_bytes(), out);
}

fn wrong_word_count(usage: &str) -> String {
    let name = usage.split(' ').next().unwrap_or_default();
    format!("wrong number of arguments for '{}' command", name.to_ascii_lowercase())
}

/// Appends the start of a list of so many replies, which the caller appends behind it.
pub fn array_header(count: usize, out: &mut Vec<u8>) {
    header(b'*', count, out);
}

/// Appends the reply to a transaction that was not carried out: there is no list.
pub fn null_list(version: RespVersion, out: &mut Vec<u8>) {
    out.extend_from_slice(match version {
        RespVersion::Two => b"*-1\r\n",
        RespVersion::Three => b"_\r\n",
    });
}

/// Appends bytes of any kind.
pub fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn text(version: RespVersion, text: &str, out: &mut Vec<u8>) {
    match version {
        RespVersion::Two => bulk(text.as_bytes(), out),
        RespVersion::Three => {
            header(b'=', PLAIN_TEXT.len() + text.len(), out);
            out.extend_from_slice(PLAIN_TEXT);
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn integer(number: i64, out: &mut Vec<u8>) {
    out.push(b':');
    number::append(number, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a word of our own: it holds no line end.
fn simple(word: &str, out: &mut Vec<u8>) {
    out.push(b'+');
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn header(kind: u8, length: usize, out: &mut Vec<u8>) {
    out.push(kind);
    number::append_length(length, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(version: RespVersion, reply: &Reply<'_>) -> String {
        let mut out = Vec::new();
        encode(version, reply, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn assert_encoded(reply: Reply<'_>, two: &str, three: &str) {
        assert_eq!(encoded(RespVersion::Two, &reply), two);
        assert_eq!(encoded(RespVersion::Three, &reply), three);
    }

    fn assert_same(reply: Reply<'_>, expected: &str) {
        assert_encoded(reply, expected, expected);
    }

    #[test]
    fn most_replies_are_the_same_in_both_versions() {
        assert_same(Reply::Done, "+OK\r\n");
        assert_same(Reply::Goodbye, "+OK\r\n");
        assert_same(Reply::Pong, "+PONG\r\n");
        assert_same(Reply::Word("string"), "+string\r\n");
        assert_same(Reply::Value(b"two\r\nlines"), "$10\r\ntwo\r\nlines\r\n");
        assert_same(Reply::Value(b""), "$0\r\n\r\n");
        assert_same(Reply::Bytes(b"made".to_vec()), "$4\r\nmade\r\n");
        assert_same(Reply::Integer(-1), ":-1\r\n");
        assert_same(Reply::Deleted(0), ":0\r\n");
        assert_same(Reply::Deleted(u64::MAX), ":9223372036854775807\r\n");
        assert_same(Reply::List(vec![]), "*0\r\n");
        assert_same(Reply::List(vec![Reply::Value(b"a"), Reply::Integer(2)]), "*2\r\n$1\r\na\r\n:2\r\n");
    }

    #[test]
    fn the_newer_version_has_a_null_maps_and_texts() {
        assert_encoded(Reply::Absent, "$-1\r\n", "_\r\n");
        assert_encoded(Reply::List(vec![Reply::Absent]), "*1\r\n$-1\r\n", "*1\r\n_\r\n");
        let map =
            Reply::Map(vec![(Reply::Value(b"a"), Reply::Integer(1)), (Reply::Value(b"b"), Reply::Absent)]);
        assert_encoded(
            map,
            "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$-1\r\n",
            "%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n_\r\n",
        );
        let lines = Reply::Lines(vec!["one".to_owned(), "two".to_owned()]);
        assert_encoded(lines, "$7\r\none\ntwo\r\n", "=11\r\ntxt:one\ntwo\r\n");
        assert_encoded(Reply::Lines(vec![]), "$0\r\n\r\n", "=4\r\ntxt:\r\n");
    }

    #[test]
    fn every_refusal_is_an_error_whose_first_word_tells_a_client_what_to_do() {
        for (refusal, text) in [
            (Refusal::Usage { usage: "GET <key>" }, "ERR wrong number of arguments for 'get' command"),
            (Refusal::Usage { usage: "STATS" }, "ERR wrong number of arguments for 'stats' command"),
            (
                Refusal::UnknownCommand { name: "a\r\n+OK".to_owned() },
                "ERR unknown command 'a  +OK', with args beginning with: ",
            ),
            (
                Refusal::EntryTooLarge { bytes: 9, bytes_max: 8 },
                "ERR key and value have 9 bytes, the limit is 8",
            ),
            (Refusal::LineTooLong { bytes_max: 80 }, "ERR line is longer than the limit of 80 bytes"),
            (Refusal::OutOfMemory, "OOM command not allowed when used memory > 'maxmemory'."),
            (
                Refusal::NoMemory { bytes: 9, bytes_max: 8 },
                "OOM entry of 9 bytes does not fit the memory of a shard, 8 bytes",
            ),
            (
                Refusal::NoPrimary { partition: 7, waited_ms: 2_000 },
                "CLUSTERDOWN no node could serve partition 7 within 2000 ms, try again",
            ),
            (
                Refusal::TooManyWaiting { waiting: 5 },
                "CLUSTERDOWN 5 requests already wait for a failover, try again",
            ),
            (
                Refusal::Incomplete { count: 4 },
                "TRYAGAIN the ring changed while 4 keys were listed, some may be missing or listed twice",
            ),
            (Refusal::Unknown, "ERR the node that served the command was lost, it may or may not have run"),
        ] {
            assert_same(Reply::Refused(refusal), &format!("-{text}\r\n"));
        }
    }

    #[test]
    fn a_reply_is_appended_without_an_allocation_where_there_is_room() {
        let mut out = Vec::with_capacity(64);
        let room = out.as_ptr();
        encode(RespVersion::Two, &Reply::Value(&[b'x'; 50]), &mut out);
        assert_eq!((out.as_ptr(), out.len()), (room, 57));
    }
}
