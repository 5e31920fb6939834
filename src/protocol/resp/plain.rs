//! Plain requests, found without a decoder: see [`Plain`].

use crate::command::Plain;

/// Digits of a length that is read here. Longer words are for the decoder.
const DIGITS_MAX: usize = 6;
/// What stands before the key, but for the number of words and the name.
const NAME_START: usize = b"*2\r\n$3\r\n".len();

/// The plain request at the start of `input`, and how long it is. None: it is another one, has not
/// arrived as a whole, or is written in an unusual way; a [`super::RespDecoder`] that is between requests
/// knows better.
pub fn plain(input: &[u8]) -> Option<(Plain<'_>, usize)> {
    let (head, rest) = input.split_at_checked(NAME_START + b"GET\r\n".len())?;
    let [b'*', words, b'\r', b'\n', b'$', b'3', b'\r', b'\n', n, a, m, b'\r', b'\n'] = head else {
        return None;
    };
    let request = match (words, [n, a, m].map(u8::to_ascii_uppercase)) {
        (b'2', [b'G', b'E', b'T']) => {
            let (key, rest) = word(rest)?;
            (Plain::Get { key }, input.len() - rest.len())
        }
        (b'3', [b'S', b'E', b'T']) => {
            let (key, rest) = word(rest)?;
            let (value, rest) = word(rest)?;
            (Plain::Set { key, value }, input.len() - rest.len())
        }
        _ => return None,
    };
    Some(request)
}

/// The word at the start of `input`, and what is behind it.
fn word(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = input.strip_prefix(b"$")?;
    let mut length = 0;
    for (place, byte) in digits.iter().enumerate().take(DIGITS_MAX + 1) {
        match byte {
            b'0'..=b'9' if place < DIGITS_MAX => length = length * 10 + usize::from(byte - b'0'),
            // A length has no leading zeros.
            b'\r' if place == 1 || (place > 1 && digits[0] != b'0') => {
                let rest = digits[place..].strip_prefix(b"\r\n")?;
                let (word, rest) = rest.split_at_checked(length)?;
                return Some((word, rest.strip_prefix(b"\r\n")?));
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::resp::RespDecoder;
    use crate::protocol::resp::RespLimits;

    #[test]
    fn a_get_and_a_set_are_found_in_any_case_and_nothing_behind_them_is_touched() {
        let get = b"*2\r\n$3\r\ngEt\r\n$1\r\nk\r\n*2\r\n";
        assert_eq!(plain(get), Some((Plain::Get { key: b"k" }, get.len() - 4)));
        let set = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nrest";
        let value = b"\r\n\r\n\r\n\r\n\r\n\r\n";
        assert_eq!(plain(set), Some((Plain::Set { key: b"", value }, set.len() - 4)));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_decoder() {
        for other in [
            &b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nv\r\n"[..],
            b"*2\r\n$3\r\nSET\r\n$1\r\nk\r\n",
            b"*2\r\n$3\r\nTTL\r\n$1\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\r\nkk\r\n",
            b"*2\r\n$3\r\nGET\r\n$-1\r\n",
            b"*2\r\n$3\r\nGET\r\n$1234567\r\n",
            b"GET k\r\n",
        ] {
            assert_eq!(plain(other), None, "{}", other.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_the_decoder_finds(
            name in prop::sample::select(vec!["GET", "get", "SET", "Set", "DEL", "GETS"]),
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut stream = format!("*{}\r\n${}\r\n{name}\r\n", words.len() + 1, name.len()).into_bytes();
            for word in &words {
                stream.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                stream.extend_from_slice(word);
                stream.extend_from_slice(b"\r\n");
            }
            stream.truncate(cut.index(stream.len() + 1));
            let mut input = BytesMut::from(&stream[..]);
            let decoded = RespDecoder::new(RespLimits::default()).decode(&mut input).unwrap();
            let is_plain = |words: &Vec<Bytes>| matches!(
                (words[0].to_ascii_uppercase().as_slice(), words.len()), (b"GET", 2) | (b"SET", 3));
            let expected = decoded.filter(is_plain).map(|words| (words, stream.len() - input.len()));
            let found = plain(&stream).map(|(request, bytes)| {
                let words: Vec<Bytes> = match request {
                    Plain::Get { key } => vec![stream[8..11].to_vec().into(), key.to_vec().into()],
                    Plain::Set { key, value } =>
                        vec![stream[8..11].to_vec().into(), key.to_vec().into(), value.to_vec().into()],
                };
                (words, bytes)
            });
            prop_assert_eq!(found, expected);
        }
    }
}
