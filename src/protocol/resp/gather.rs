//! Replies of several nodes made one, without decoding them: sums of numbers (DEL, EXISTS), and lists
//! (MGET) as an [`array_header`](crate::protocol::resp::array_header) and the replies behind it as
//! they are.

use crate::protocol::resp::number;

/// The number that an encoded reply is; none: it is something else.
pub fn integer_of(reply: &[u8]) -> Option<i64> {
    number::parse(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// Whether an encoded reply is an error.
pub fn is_error(reply: &[u8]) -> bool {
    reply.first() == Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_off_a_reply_and_nothing_else_is() {
        assert_eq!(integer_of(b":0\r\n"), Some(0));
        assert_eq!(integer_of(b":-12\r\n"), Some(-12));
        for reply in
            [&b""[..], b":\r\n", b":1", b":1\n", b":1\r\n:2\r\n", b"$1\r\n1\r\n", b"-ERR 1\r\n", b":1\r"]
        {
            assert_eq!(integer_of(reply), None);
        }
    }

    #[test]
    fn an_error_is_told_by_its_first_byte() {
        assert!(is_error(b"-ERR no\r\n"));
        for reply in [&b""[..], b"+OK\r\n", b":-1\r\n", b"$1\r\n-\r\n", b"_\r\n"] {
            assert!(!is_error(reply));
        }
    }
}
