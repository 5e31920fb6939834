//! Line ends inside values: `\n`, `\r` and `\\` stand for LF, CR and a backslash.
//!
//! Any other backslash is itself, so a value typed by hand needs no care; therefore escaping touches
//! only what would otherwise be read as something else. The rule kept, for all bytes:
//! `unescape(escape(value)) == value`.

use bytes::Bytes;
use memchr::memchr_iter;
use memchr::memchr3;

/// Appends the value with its line ends escaped, and those backslashes which would begin an escape.
pub fn escape(value: &[u8], out: &mut Vec<u8>) {
    out.reserve(value.len());
    let mut rest = value;
    while let Some(at) = memchr3(b'\n', b'\r', b'\\', rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        out.extend_from_slice(match special {
            [b'\n', ..] => b"\\n",
            [b'\r', ..] => b"\\r",
            // What follows will be written as, or with, one of the letters of an escape.
            [b'\\', b'n' | b'r' | b'\\' | b'\n' | b'\r', ..] => b"\\\\",
            _ => b"\\",
        });
        rest = &special[1..];
    }
    out.extend_from_slice(rest);
}

/// The value that was escaped. It shares the memory of `escaped` unless there is an escape in it.
pub fn unescape(escaped: &Bytes) -> Bytes {
    let Some(mut at) = first_escape(escaped) else { return escaped.clone() };
    let mut value = Vec::with_capacity(escaped.len());
    let mut rest = &escaped[..];
    loop {
        value.extend_from_slice(&rest[..at]);
        value.push(match rest[at + 1] {
            b'n' => b'\n',
            b'r' => b'\r',
            other => other,
        });
        rest = &rest[at + 2..];
        match first_escape(rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    value.extend_from_slice(rest);
    value.into()
}

/// Where the first backslash stands that one of the three letters follows. The backslashes before
/// it are themselves and take nothing with them, so that the first is found without a parse.
fn first_escape(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\\', bytes).find(|at| matches!(bytes.get(at + 1), Some(b'n' | b'r' | b'\\')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape(value, &mut out);
        out
    }

    #[test]
    fn only_what_would_be_read_as_something_else_is_escaped() {
        for (value, wire) in [
            (&b"plain \0\xFF text"[..], &b"plain \0\xFF text"[..]),
            (b"two\r\nlines", br"two\r\nlines"),
            (br"C:\temp\x", br"C:\temp\x"),
            (br"C:\new\root", br"C:\\new\\root"),
            (br"\", br"\"),
            (br"\\", br"\\\"),
            (br"\\\", br"\\\\\"),
            (b"\\\n", br"\\\n"),
            (b"\\\r", br"\\\r"),
            (br"\\x", br"\\\x"),
            (b"", b""),
        ] {
            assert_eq!(escaped(value).escape_ascii().to_string(), wire.escape_ascii().to_string());
            assert_eq!(unescape(&Bytes::from_static(wire)), value);
        }
    }

    #[test]
    fn a_backslash_that_begins_no_escape_is_itself() {
        for wire in [&br"a\b\t\0\x41\"[..], b"\\\xFF", br"\N\R"] {
            assert_eq!(unescape(&Bytes::from_static(wire)), wire);
        }
    }

    #[test]
    fn a_value_without_escapes_is_not_copied() {
        let wire = Bytes::from_static(br"C:\temp");
        assert_eq!(unescape(&wire).as_ptr(), wire.as_ptr());
    }

    /// Values in which escapes are likely.
    fn values() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            3 => prop::sample::select(b"\\nr\n\rx ".to_vec()),
            1 => any::<u8>(),
        ];
        proptest::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn every_value_comes_back_and_its_escaped_form_is_within_a_line(value in values()) {
            let wire = escaped(&value);
            prop_assert!(memchr::memchr2(b'\n', b'\r', &wire).is_none());
            prop_assert!(wire.len() <= 2 * value.len());
            prop_assert_eq!(unescape(&Bytes::from(wire)), value);
        }

        #[test]
        fn a_value_without_line_end_and_escape_is_untouched(value in values()) {
            let is_plain = memchr::memchr2(b'\n', b'\r', &value).is_none() && first_escape(&value).is_none();
            prop_assert_eq!(escaped(&value) == value, is_plain);
        }
    }
}
