//! Plain requests, found without a decoder: see [`Plain`].

use memchr::memchr;
use memchr::memchr2;

use crate::command::Plain;
use crate::protocol::text::TextLimits;

/// The plain request on the line at the start of `input`, and how long the line is with its end. None: it
/// is another one, has not arrived as a whole, or is written in an unusual way; a [`super::TextDecoder`]
/// that is between lines knows better.
pub fn plain(limits: TextLimits, input: &[u8]) -> Option<(Plain<'_>, usize)> {
    let [n, a, m, b' ', ..] = input else { return None };
    let name = [n, a, m].map(u8::to_ascii_uppercase);
    let is_get = match &name {
        b"GET" => true,
        b"SET" => false,
        _ => return None,
    };
    let end = memchr(b'\n', input)?;
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    if line.len() > limits.line_bytes_max() {
        return None;
    }
    let rest = line.get(b"GET ".len()..).filter(|rest| !rest.is_empty())?;
    let request = match (is_get, memchr2(b' ', b'\t', rest)) {
        (true, None) => Plain::Get { key: rest },
        (false, Some(blank)) if blank > 0 && memchr(b'\\', &rest[blank..]).is_none() => {
            Plain::Set { key: &rest[..blank], value: &rest[blank + 1..] }
        }
        (true, Some(_)) | (false, _) => return None,
    };
    Some((request, end + 1))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::command::Verb;
    use crate::protocol::Request;
    use crate::protocol::text::TextDecoder;

    const SMALL: TextLimits = TextLimits { entry_bytes_max: 8 };

    #[test]
    fn a_get_and_a_set_are_found_in_any_case() {
        let found = |line: &'static [u8]| plain(TextLimits::default(), line);
        assert_eq!(found(b"gEt key\r\nPING\n"), Some((Plain::Get { key: b"key" }, 9)));
        assert_eq!(found(b"SET k a b \n"), Some((Plain::Set { key: b"k", value: b"a b " }, 11)));
        assert_eq!(found(b"SET k \n"), Some((Plain::Set { key: b"k", value: b"" }, 7)));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_decoder() {
        for line in [
            &b"GET k \n"[..],
            b"GET  k\n",
            b"GET k",
            b"GET \n",
            b"SET k\n",
            b"SET k a\\nb\n",
            b" GET k\n",
            b"TTL k\n",
        ] {
            assert_eq!(plain(TextLimits::default(), line), None, "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_it_finds_the_decoder_finds_too(
            line in "(GET|get|SET|Set|PING)[ \t]{0,2}[a-c\\\\ \t\r]{0,30}\n?",
        ) {
            let mut input = BytesMut::from(line.as_bytes());
            if let Some((request, bytes)) = plain(SMALL, line.as_bytes()) {
                let found = TextDecoder::new(SMALL).decode(&mut input);
                let (name, arguments): (&[u8], Vec<&[u8]>) = match request {
                    Plain::Get { key } => (b"GET", vec![key]),
                    Plain::Set { key, value } => (b"SET", vec![key, value]),
                };
                let verb = Verb::find(name).unwrap();
                let arguments = arguments.into_iter().map(Bytes::copy_from_slice).collect();
                prop_assert_eq!(found, Some(Request::Asked { verb, arguments }));
                prop_assert_eq!(bytes, line.len() - input.len());
            }
        }
    }
}
