//! Replies of several nodes made one, without decoding them: sums of numbers (DEL, EXISTS), and lists
//! (MGET) as an [`array_header`](crate::protocol::resp::array_header) and the replies behind it as
//! they are.

use bytes::Bytes;

use crate::protocol::resp::number;

/// The number that an encoded reply is; none: it is something else.
pub fn integer_of(reply: &[u8]) -> Option<i64> {
    number::parse(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// The bytes that an encoded reply is; none: it is something else.
pub fn bulk_of(reply: &Bytes) -> Option<Bytes> {
    let (length, start) = header(reply, 0, b'$')?;
    let end = start.checked_add(length)?;
    (reply.get(end..)? == b"\r\n").then(|| reply.slice(start..end))
}

/// The encoded elements of an encoded list; none: it is something else.
pub fn elements_of(reply: &Bytes) -> Option<Vec<Bytes>> {
    let (count, mut start) = header(reply, 0, b'*')?;
    let mut elements = Vec::new();
    for _ in 0..count {
        let end = end_of(reply, start)?;
        elements.push(reply.slice(start..end));
        start = end;
    }
    (start == reply.len()).then_some(elements)
}

/// The number behind a byte of this kind, and where its line ends; none: it is below zero.
fn header(reply: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let line = reply.get(at..)?.strip_prefix(&[kind])?;
    let length = line.windows(2).position(|pair| pair == b"\r\n")?;
    let number = usize::try_from(number::parse(&line[..length])?).ok()?;
    Some((number, at + 1 + length + 2))
}

/// Where the encoded reply ends that begins there.
fn end_of(replies: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut left) = (start, 1usize);
    while left > 0 {
        left -= 1;
        let kind = *replies.get(at)?;
        at = match (kind, header(replies, at, kind)) {
            (b'$' | b'=', Some((length, start))) => start.checked_add(length)?.checked_add(2)?,
            (b'*', Some((count, start))) => {
                left = left.checked_add(count)?;
                start
            }
            (b'%', Some((count, start))) => {
                left = left.checked_add(count.checked_mul(2)?)?;
                start
            }
            // A line, or an absent one of the above.
            _ => at + replies.get(at..)?.windows(2).position(|pair| pair == b"\r\n")? + 2,
        };
    }
    (at <= replies.len()).then_some(at)
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
    fn a_list_is_cut_into_its_elements_whatever_they_are() {
        let elements = [
            "+OK\r\n",
            ":-1\r\n",
            "$-1\r\n",
            "_\r\n",
            "-ERR *1\r\n",
            "$4\r\n*1\r\n\r\n",
            "*0\r\n",
            "*-1\r\n",
        ];
        let nested = ["%1\r\n+a\r\n*2\r\n:1\r\n$0\r\n\r\n", "=6\r\ntxt:\r\n\r\n"];
        let elements: Vec<&str> = elements.into_iter().chain(nested).collect();
        let list = format!("*{}\r\n{}", elements.len(), elements.concat());
        assert_eq!(elements_of(&Bytes::from(list.clone())).unwrap(), elements);
        for cut in 0..list.len() {
            assert_eq!(elements_of(&Bytes::copy_from_slice(&list.as_bytes()[..cut])), None, "{cut}");
        }
        assert_eq!(elements_of(&Bytes::from(list + "+")), None);
        assert_eq!(elements_of(&Bytes::from_static(b"*0\r\n")), Some(Vec::new()));
        for reply in ["", "$1\r\na\r\n", "*-1\r\n", "*1\r\n$9223372036854775807\r\na\r\n"] {
            assert_eq!(elements_of(&Bytes::from(reply)), None);
        }
    }

    #[test]
    fn bytes_are_taken_out_of_a_reply() {
        assert_eq!(bulk_of(&Bytes::from_static(b"$2\r\n\r\n\r\n")), Some(Bytes::from_static(b"\r\n")));
        for reply in ["", "$-1\r\n", "$2\r\na\r\n", "$1\r\nab\r\n", "+OK\r\n"] {
            assert_eq!(bulk_of(&Bytes::from(reply)), None);
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
