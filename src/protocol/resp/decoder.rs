//! Requests in, words out, as many bytes at a time as the socket has.

use std::ops::Range;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;

use crate::protocol::resp::ProtocolError;
use crate::protocol::resp::RespLimits;
use crate::protocol::resp::number;

/// Bytes of a line that announces a length, without its end: the longest number has 20.
const LINE_BYTES_MAX: usize = 32;
/// The end of every line and word.
const END: &[u8] = b"\r\n";
/// A request of many words leaves no more room than this behind for the next ones.
const RANGES_KEPT_MAX: usize = 1_024;

/// Finds requests in what a connection has read. How the bytes were cut into pieces on their way
/// makes no difference to what is found.
#[derive(Clone, Debug)]
pub struct RespDecoder {
    limits: RespLimits,
    /// Words of the present request that are still to come; zero: between requests.
    words_left: usize,
    /// The length of the next word, once it has been announced.
    word_bytes: Option<usize>,
    /// So many bytes at the start of the input have been understood: a request that arrives in many
    /// pieces is read once, not once per piece.
    position: usize,
    /// Where in the input the words lie that are there.
    ranges: Vec<Range<usize>>,
}

impl RespDecoder {
    /// A decoder at the start of a request.
    pub const fn new(limits: RespLimits) -> Self {
        Self { limits, words_left: 0, word_bytes: None, position: 0, ranges: Vec::new() }
    }

    /// Whether the input begins with the first byte of a request, which decides its protocol: `*` is
    /// for this decoder. Otherwise the input begins with a request that this decoder has begun.
    pub const fn is_between_requests(&self) -> bool {
        self.words_left == 0
    }

    /// Takes the next request off the start of `input` and returns its words, at least one. None: more
    /// bytes are needed, or what comes next does not begin with `*` and is not RESP. Between two calls
    /// the caller may only append to `input`, unless this decoder is between requests.
    ///
    /// The words share the memory of `input`: who keeps one for long makes a copy. Requests without
    /// words are skipped. While a request is incomplete, `input` holds no more of it than its limit.
    ///
    /// # Errors
    ///
    /// The bytes are no request. Nothing that follows can be understood: the connection is to be closed.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while self.words_left == 0 {
            if input.first() != Some(&b'*') || !self.begin(input)? {
                return Ok(None);
            }
        }
        while self.words_left > 0 {
            if !self.read_word(input)? {
                return Ok(None);
            }
        }
        Ok(Some(self.take_words(input)))
    }

    /// Reads how many words there will be. A request without any is thrown away at once.
    fn begin(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let invalid = ProtocolError::InvalidWordCount;
        let Some(line) = line_of(input, ProtocolError::CountTooLong, invalid)? else { return Ok(false) };
        let announced = number::parse(&line[1..]).ok_or(invalid)?;
        let line_bytes = line.len() + END.len();
        if announced <= 0 {
            input.advance(line_bytes);
            return Ok(true);
        }
        let words = usize::try_from(announced).map_err(|_| invalid)?;
        if words > self.limits.arguments_max {
            return Err(invalid);
        }
        self.words_left = words;
        self.position = line_bytes;
        Ok(true)
    }

    /// Reads the next word; whether it was there.
    fn read_word(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let bytes = match self.word_bytes {
            Some(bytes) => bytes,
            None => {
                let Some(bytes) = self.read_length(input)? else { return Ok(false) };
                self.word_bytes = Some(bytes);
                bytes
            }
        };
        let end = self.position + bytes;
        let Some(behind) = input.get(end..end + END.len()) else { return Ok(false) };
        if behind != END {
            return Err(ProtocolError::InvalidWordLength);
        }
        self.ranges.push(self.position..end);
        self.position = end + END.len();
        self.word_bytes = None;
        self.words_left -= 1;
        Ok(true)
    }

    /// Reads how long the next word is.
    fn read_length(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let rest = &input[self.position..];
        match rest.first() {
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::NoWord(*other)),
            None => return Ok(None),
        }
        let invalid = ProtocolError::InvalidWordLength;
        let Some(line) = line_of(rest, ProtocolError::LengthTooLong, invalid)? else { return Ok(None) };
        let announced = number::parse(&line[1..]).ok_or(invalid)?;
        let bytes = usize::try_from(announced).map_err(|_| invalid)?;
        if bytes > self.limits.bulk_bytes_max {
            return Err(invalid);
        }
        let start = self.position + line.len() + END.len();
        let end = start.checked_add(bytes).and_then(|end| end.checked_add(END.len()));
        if end.is_none_or(|end| end > self.limits.request_bytes_max) {
            return Err(ProtocolError::RequestTooLarge);
        }
        self.position = start;
        Ok(Some(bytes))
    }

    fn take_words(&mut self, input: &mut BytesMut) -> Vec<Bytes> {
        let request = input.split_to(self.position).freeze();
        let words = self.ranges.drain(..).map(|range| request.slice(range)).collect();
        if self.ranges.capacity() > RANGES_KEPT_MAX {
            self.ranges = Vec::new();
        }
        self.position = 0;
        words
    }
}

/// The line at the start of `input`, without its end; none: its end has not arrived. Whether a line
/// is too long depends only on its first bytes, not on how many have arrived.
fn line_of(
    input: &[u8],
    too_long: ProtocolError,
    invalid: ProtocolError,
) -> Result<Option<&[u8]>, ProtocolError> {
    let Some(length) = memchr(b'\r', &input[..input.len().min(LINE_BYTES_MAX + 1)]) else {
        return if input.len() > LINE_BYTES_MAX { Err(too_long) } else { Ok(None) };
    };
    match input.get(length + 1) {
        Some(b'\n') => Ok(Some(&input[..length])),
        Some(_) => Err(invalid),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: RespLimits = RespLimits { arguments_max: 4, bulk_bytes_max: 8, request_bytes_max: 64 };

    /// What a stream of bytes holds: the words of its requests, and what ended it.
    type Found = (Vec<Vec<Bytes>>, Option<ProtocolError>);

    /// Decodes until an error or a byte that begins no request of this protocol.
    fn decode_all(limits: RespLimits, chunks: &[&[u8]]) -> Found {
        let mut decoder = RespDecoder::new(limits);
        let mut input = BytesMut::new();
        let mut requests = Vec::new();
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(words)) => requests.push(words),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.decode(&mut input), Err(error));
                        return (requests, Some(error));
                    }
                }
            }
            let is_foreign = decoder.is_between_requests() && input.first().is_some_and(|byte| *byte != b'*');
            if !is_foreign {
                assert!(input.len() <= limits.request_bytes_max.saturating_add(LINE_BYTES_MAX));
                assert!(decoder.ranges.len() <= input.len() / 6);
                assert!(decoder.ranges.capacity() <= (2 * decoder.ranges.len()).max(RANGES_KEPT_MAX));
            }
        }
        (requests, None)
    }

    fn words(request: &[&'static [u8]]) -> Vec<Bytes> {
        request.iter().map(|word| Bytes::from_static(word)).collect()
    }

    fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        request
    }

    fn assert_error(limits: RespLimits, stream: &[u8], error: ProtocolError) {
        let expected = (Vec::new(), Some(error));
        assert_eq!(decode_all(limits, &[stream]), expected, "{}", stream.escape_ascii());
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode_all(limits, &bytes), expected, "{}", stream.escape_ascii());
    }

    #[test]
    fn a_request_is_its_words_whatever_is_in_them() {
        let stream = b"*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n";
        let expected = vec![words(&[b"SET", b"a\r\nb", b""]), words(&[b"PING"])];
        assert_eq!(decode_all(SMALL, &[stream]), (expected, None));
    }

    #[test]
    fn requests_without_words_are_skipped() {
        let stream = b"*0\r\n*-1\r\n*-10\r\n*1\r\n$1\r\na\r\n*0\r\n";
        assert_eq!(decode_all(SMALL, &[stream]), (vec![words(&[b"a"])], None));
    }

    #[test]
    fn what_does_not_begin_with_a_star_is_left_to_others() {
        let mut decoder = RespDecoder::new(SMALL);
        let mut input = BytesMut::from(&b"*0\r\n*1\r\n$1\r\na\r\nPING\r\n"[..]);
        assert_eq!(decoder.decode(&mut input), Ok(Some(words(&[b"a"]))));
        for _ in 0..2 {
            assert_eq!(decoder.decode(&mut input), Ok(None));
            assert!(decoder.is_between_requests());
            assert_eq!(&input[..], b"PING\r\n");
        }
    }

    #[test]
    fn it_is_between_requests_until_it_knows_that_words_will_come() {
        let mut decoder = RespDecoder::new(SMALL);
        let mut input = BytesMut::new();
        for byte in b"*1\r" {
            input.extend_from_slice(&[*byte]);
            assert_eq!(decoder.decode(&mut input), Ok(None));
            assert!(decoder.is_between_requests());
            assert_eq!(input[0], b'*');
        }
        for byte in b"\n$1\r\na\r" {
            input.extend_from_slice(&[*byte]);
            assert_eq!(decoder.decode(&mut input), Ok(None));
            assert!(!decoder.is_between_requests());
        }
        input.extend_from_slice(b"\n");
        assert_eq!(decoder.decode(&mut input), Ok(Some(words(&[b"a"]))));
        assert!(decoder.is_between_requests() && input.is_empty());
    }

    #[test]
    fn a_number_of_words_that_is_none_or_too_large_is_an_error() {
        let error = ProtocolError::InvalidWordCount;
        for stream in [
            &b"*5\r\n"[..],
            b"*20000000\r\n",
            b"*99999999999999999999\r\n",
            b"*\r\n",
            b"*x\r\n",
            b"*+1\r\n",
            b"*01\r\n",
            b"*1 \r\n",
            b"*1\rx",
            b"*-\r\n",
        ] {
            assert_error(SMALL, stream, error);
        }
        assert_error(RespLimits::default(), b"*1048577\r\n", error);
        assert_eq!(decode_all(RespLimits::default(), &[b"*1048576\r\n"]), (vec![], None));
    }

    #[test]
    fn a_length_that_is_none_or_too_large_is_an_error() {
        let error = ProtocolError::InvalidWordLength;
        for word in
            ["$-10", "$-1", "$9", "$2000000000", "$99999999999999999999", "$blabla", "$", "$ 1", "$1\rx"]
        {
            assert_error(SMALL, format!("*1\r\n{word}\r\n").as_bytes(), error);
        }
        assert_error(RespLimits::default(), b"*1\r\n$524289\r\n", error);
        assert_eq!(decode_all(RespLimits::default(), &[b"*1\r\n$524288\r\n"]), (vec![], None));
    }

    #[test]
    fn a_word_of_another_length_than_announced_is_an_error() {
        for stream in [&b"*1\r\n$3\r\nabcd\r\n"[..], b"*1\r\n$3\r\nab\r\n\r\n", b"*1\r\n$1\r\na\rx"] {
            assert_error(SMALL, stream, ProtocolError::InvalidWordLength);
        }
    }

    #[test]
    fn anything_where_a_word_must_be_announced_is_an_error_at_its_first_byte() {
        assert_error(SMALL, b"*1\r\nf", ProtocolError::NoWord(b'f'));
        assert_error(SMALL, b"*1\r\n\r\n", ProtocolError::NoWord(b'\r'));
        assert_error(SMALL, b"*2\r\n$1\r\na\r\n*", ProtocolError::NoWord(b'*'));
        assert_error(SMALL, b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", ProtocolError::NoWord(b'f'));
    }

    #[test]
    fn a_line_that_never_ends_is_an_error_and_not_waited_for() {
        let digits = "1".repeat(LINE_BYTES_MAX);
        assert_error(SMALL, format!("*{digits}").as_bytes(), ProtocolError::CountTooLong);
        assert_error(SMALL, format!("*{digits}\r\n").as_bytes(), ProtocolError::CountTooLong);
        assert_error(SMALL, format!("*1\r\n${digits}").as_bytes(), ProtocolError::LengthTooLong);
        assert_error(SMALL, format!("*{}\r\n", &digits[1..]).as_bytes(), ProtocolError::InvalidWordCount);
        assert_error(SMALL, &[&b"*\0"[..], &[b'A'; 40]].concat(), ProtocolError::CountTooLong);
        assert_eq!(decode_all(SMALL, &[b"*", &digits.as_bytes()[1..]]), (vec![], None));
    }

    #[test]
    fn all_words_together_have_a_limit_that_is_checked_before_they_arrive() {
        let limits = RespLimits { request_bytes_max: 26, ..SMALL };
        let whole = b"*2\r\n$4\r\nabcd\r\n$6\r\nabcdef\r\n";
        assert_eq!(whole.len(), 26);
        assert_eq!(decode_all(limits, &[whole]), (vec![words(&[b"abcd", b"abcdef"])], None));
        assert_error(limits, b"*2\r\n$4\r\nabcd\r\n$7\r\n", ProtocolError::RequestTooLarge);
        let huge = RespLimits { bulk_bytes_max: usize::MAX, request_bytes_max: usize::MAX, ..SMALL };
        assert_eq!(decode_all(huge, &[b"*1\r\n$9223372036854775807\r\n"]), (vec![], None));
    }

    #[test]
    fn the_limits_follow_from_the_largest_entry() {
        let limits = RespLimits::default();
        assert_eq!((limits.bulk_bytes_max, limits.request_bytes_max), (512 * 1024, 64 * 1024 * 1024));
        let limits = RespLimits::for_entries_of(16 * 1024 * 1024);
        assert_eq!(limits.request_bytes_max, 2 * limits.bulk_bytes_max);
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut decoder = RespDecoder::new(RespLimits::default());
        let mut input = BytesMut::from(&b"*1048576\r\n$524288\r\n"[..]);
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert_eq!(decoder.ranges.capacity(), 0);
        assert!(input.capacity() < 100);
    }

    #[test]
    fn words_are_not_copied_and_read_only_once() {
        let mut decoder = RespDecoder::new(SMALL);
        let mut input = BytesMut::with_capacity(64);
        input.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$3\r\nke");
        let start = input.as_ptr();
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert_eq!((decoder.position, decoder.words_left, decoder.word_bytes), (17, 1, Some(3)));
        input.extend_from_slice(b"y\r\n");
        let found = decoder.decode(&mut input).unwrap().unwrap();
        assert_eq!(found, words(&[b"GET", b"key"]));
        assert_eq!(found[0].as_ptr(), start.wrapping_add(8));
        assert_eq!(found[1].as_ptr(), start.wrapping_add(17));
    }

    /// Streams in which requests, their parts and mistakes are likely.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let word = proptest::collection::vec(any::<u8>(), 0..10);
        let piece = prop_oneof![
            6 => proptest::collection::vec(word, 0..5).prop_map(|words| encoded(&words)),
            3 => prop::sample::select(vec![
                &b"*1\r\n"[..], b"*2\r\n", b"*-1\r\n", b"$1\r\n", b"$0\r\n\r\n", b"$", b"*", b"a\r\n", b"\r", b"\n",
                b"00000000000000000000000000000000",
            ]).prop_map(<[u8]>::to_vec),
            1 => proptest::collection::vec(any::<u8>(), 0..40),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// The stream in pieces of these sizes, used over and over.
    fn cut<'a>(stream: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
        let mut rest = stream;
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            let (chunk, more) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        chunks
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_into_chunks_makes_no_difference(
            stream in streams(),
            sizes in proptest::collection::vec(1usize..30, 1..20),
        ) {
            let whole = decode_all(SMALL, &[&stream]);
            prop_assert_eq!(&decode_all(SMALL, &cut(&stream, &sizes)), &whole);
            prop_assert_eq!(&decode_all(SMALL, &cut(&stream, &[1])), &whole);
        }

        #[test]
        fn every_request_comes_back_however_it_is_cut(
            requests in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..10), 1..6),
            sizes in proptest::collection::vec(1usize..300, 1..20),
        ) {
            let stream: Vec<u8> = requests.iter().flat_map(|words| encoded(words)).collect();
            let expected: Vec<Vec<Bytes>> =
                requests.into_iter().map(|words| words.into_iter().map(Bytes::from).collect()).collect();
            prop_assert_eq!(decode_all(RespLimits::default(), &cut(&stream, &sizes)), (expected, None));
        }

        #[test]
        fn a_request_cut_short_is_waited_for(
            request in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5),
            at in any::<prop::sample::Index>(),
        ) {
            let whole = encoded(&request);
            let cut = &whole[..at.index(whole.len())];
            prop_assert_eq!(decode_all(RespLimits::default(), &[cut]), (vec![], None));
        }

        #[test]
        fn no_bytes_make_it_fail_otherwise_than_by_an_error(
            mut stream in proptest::collection::vec(any::<u8>(), 0..200),
            sizes in proptest::collection::vec(1usize..30, 1..20),
        ) {
            stream.insert(0, b'*');
            let whole = decode_all(SMALL, &[&stream]);
            prop_assert_eq!(decode_all(SMALL, &cut(&stream, &sizes)), whole);
        }
    }
}
