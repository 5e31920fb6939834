//! What is said about requests that are none. The texts are those of Redis 7, which clients and
//! Redis' own tests know.

use bytes::Bytes;
use memchr::memchr;

/// The framing of a request is broken. It is said once, then the connection is closed: nobody knows
/// where the next request begins. Nothing of the request was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of words is no number, over its limit, or not followed by CR and LF.
    #[error("Protocol error: invalid multibulk length")]
    InvalidWordCount,
    /// The length of a word is no number, negative or over its limit, or CR and LF do not follow the
    /// number, or the word.
    #[error("Protocol error: invalid bulk length")]
    InvalidWordLength,
    /// Where a word had to be announced stands this byte.
    #[error("Protocol error: expected '$', got '{}'", Shown(*.0))]
    NoWord(u8),
    /// The line with the number of words is longer than any number.
    #[error("Protocol error: too big mbulk count string")]
    CountTooLong,
    /// The line with the length of a word is longer than any number.
    #[error("Protocol error: too big bulk count string")]
    LengthTooLong,
    /// All words of the request together are over the limit. Redis has no text for it: it closes the
    /// connection without a word.
    #[error("Protocol error: too big multibulk request")]
    RequestTooLarge,
}

/// A byte as part of a line of text. Redis sends it as it is, line ends as blanks; here a byte that is
/// no printable ASCII is written `\xHH`, since clients decode errors as UTF-8.
struct Shown(u8);

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            b'\r' | b'\n' => formatter.write_str(" "),
            byte @ b' '..=b'~' => write!(formatter, "{}", char::from(byte)),
            byte => write!(formatter, "\\x{byte:02x}"),
        }
    }
}

/// Appends what the client is told before its connection is closed.
pub fn encode_protocol_error(error: ProtocolError, out: &mut Vec<u8>) {
    error_line("ERR", error.to_string().as_bytes(), out);
}

/// So many bytes of the name, and about as many of the arguments, are repeated to the client.
const REPEATED_BYTES_MAX: usize = 128;

/// The whole reply to words that are no command, byte by byte as Redis 7 words it: each argument in
/// quotes and with a blank behind it, until 128 bytes are said; a word ends at a NUL.
pub fn unknown_command(words: &[Bytes]) -> Vec<u8> {
    let (name, arguments) = words.split_first().map_or((&[][..], &[][..]), |(name, rest)| (&name[..], rest));
    let mut said = Vec::new();
    for argument in arguments {
        let room = REPEATED_BYTES_MAX.saturating_sub(said.len());
        if room == 0 {
            break;
        }
        said.push(b'\'');
        said.extend_from_slice(shown(argument, room));
        said.extend_from_slice(b"' ");
    }
    let text = [
        b"unknown command '",
        shown(name, REPEATED_BYTES_MAX),
        b"', with args beginning with: ",
        said.as_slice(),
    ];
    let mut out = Vec::new();
    error_line("ERR", &text.concat(), &mut out);
    out
}

/// The start of a word, up to a NUL.
fn shown(word: &[u8], bytes_max: usize) -> &[u8] {
    let word = &word[..word.len().min(bytes_max)];
    &word[..memchr(0, word).unwrap_or(word.len())]
}

/// Appends an error. Line ends in its text become blanks: it must not be read as two replies.
pub fn error_line(code: &str, text: &[u8], out: &mut Vec<u8>) {
    out.push(b'-');
    out.extend_from_slice(code.as_bytes());
    out.push(b' ');
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(error: ProtocolError) -> String {
        let mut out = Vec::new();
        encode_protocol_error(error, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn unknown(words: &[&'static [u8]]) -> String {
        let words: Vec<Bytes> = words.iter().map(|word| Bytes::from_static(word)).collect();
        String::from_utf8(unknown_command(&words)).unwrap()
    }

    #[test]
    fn errors_are_worded_as_redis_words_them() {
        for (error, text) in [
            (ProtocolError::InvalidWordCount, "invalid multibulk length"),
            (ProtocolError::InvalidWordLength, "invalid bulk length"),
            (ProtocolError::NoWord(b'f'), "expected '$', got 'f'"),
            (ProtocolError::NoWord(b'\''), "expected '$', got '''"),
            (ProtocolError::NoWord(b'\n'), "expected '$', got ' '"),
            (ProtocolError::NoWord(0xFF), "expected '$', got '\\xff'"),
            (ProtocolError::NoWord(0), "expected '$', got '\\x00'"),
            (ProtocolError::CountTooLong, "too big mbulk count string"),
            (ProtocolError::LengthTooLong, "too big bulk count string"),
            (ProtocolError::RequestTooLarge, "too big multibulk request"),
        ] {
            assert_eq!(encoded(error), format!("-ERR Protocol error: {text}\r\n"));
        }
    }

    #[test]
    fn an_unknown_command_is_repeated_with_its_arguments() {
        assert_eq!(unknown(&[b"foo"]), "-ERR unknown command 'foo', with args beginning with: \r\n");
        assert_eq!(
            unknown(&[b"LPUSH", b"k", b"two words", b""]),
            "-ERR unknown command 'LPUSH', with args beginning with: 'k' 'two words' '' \r\n"
        );
        assert_eq!(
            unknown(&[b"a\r\n+OK", b"x\0y", b"\n"]),
            "-ERR unknown command 'a  +OK', with args beginning with: 'x' ' ' \r\n"
        );
        assert_eq!(unknown(&[]), "-ERR unknown command '', with args beginning with: \r\n");
    }

    #[test]
    fn an_unknown_command_is_repeated_up_to_128_bytes() {
        static LONG: [u8; 200] = [b'x'; 200];
        let name = "x".repeat(128);
        assert_eq!(
            unknown(&[&LONG]),
            format!("-ERR unknown command '{name}', with args beginning with: \r\n")
        );
        // One argument of 123 bytes and its quotes leave 2 bytes to the next, and none to the third.
        let (first, second) = ("x".repeat(123), "x".repeat(2));
        assert_eq!(
            unknown(&[b"foo", &LONG[..123], &LONG, &LONG]),
            format!("-ERR unknown command 'foo', with args beginning with: '{first}' '{second}' \r\n")
        );
    }
}
