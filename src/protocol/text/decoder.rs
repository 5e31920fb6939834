//! Lines in, requests out, as many bytes at a time as the socket has.

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;
use memchr::memchr2;

use crate::command::Refusal;
use crate::command::TextForm;
use crate::command::Verb;
use crate::command::printable;
use crate::protocol::Request;
use crate::protocol::text::TextLimits;
use crate::protocol::text::unescape;

/// Finds requests in what a connection has read. How the bytes were cut into pieces on their way
/// makes no difference to what is found.
#[derive(Clone, Debug)]
pub struct TextDecoder {
    limits: TextLimits,
    /// So many bytes at the start of the input are known to hold no line end: a line that arrives in
    /// many pieces is searched once, not once per piece.
    searched: usize,
    /// A line was over its limit and refused; what is left of it is thrown away.
    is_skipping: bool,
}

impl TextDecoder {
    /// A decoder at the start of a line.
    pub const fn new(limits: TextLimits) -> Self {
        Self { limits, searched: 0, is_skipping: false }
    }

    /// Whether the input begins with the first byte of a request, which decides its protocol: see
    /// [`crate::protocol`]. Otherwise it begins with what is left of a line, or a part of one.
    pub const fn is_between_lines(&self) -> bool {
        self.searched == 0 && !self.is_skipping
    }

    /// Takes the next request off the start of `input`; none: more bytes are needed, or what comes
    /// behind lines that were skipped begins with `*` and is no line. Between two calls the caller may
    /// only append to `input`, unless this decoder is between lines.
    ///
    /// A key or value shares the memory of `input`, unless it had to be unescaped: who keeps it for
    /// long makes a copy. After `None`, `input` holds at most one line, which is not over its limit.
    pub fn decode(&mut self, input: &mut BytesMut) -> Option<Request> {
        let mut has_skipped = false;
        loop {
            if self.is_skipping {
                has_skipped = true;
                if !self.skip_line(input) {
                    return None;
                }
            }
            if has_skipped && input.first() == Some(&b'*') {
                return None;
            }
            let searched = self.searched.min(input.len());
            let Some(offset) = memchr(b'\n', &input[searched..]) else {
                return self.refuse_overlong(input);
            };
            self.searched = 0;
            let mut line = input.split_to(searched + offset + 1).freeze();
            line.truncate(content_bytes(&line[..searched + offset]));
            if line.len() > self.limits.line_bytes_max() {
                return Some(self.line_too_long());
            }
            match parse(line) {
                Ok(Some(request)) => return Some(request),
                Ok(None) => has_skipped = true,
                Err(refusal) => return Some(Request::Refused(refusal)),
            }
        }
    }

    /// Throws away what is there of an overlong line; whether its end was there too.
    fn skip_line(&mut self, input: &mut BytesMut) -> bool {
        match memchr(b'\n', input) {
            Some(end) => {
                input.advance(end + 1);
                self.is_skipping = false;
            }
            None => input.clear(),
        }
        !self.is_skipping
    }

    /// Judges a line whose end has not arrived: as soon as it must be over its limit, it is refused
    /// and no more of it is kept.
    fn refuse_overlong(&mut self, input: &mut BytesMut) -> Option<Request> {
        if content_bytes(input) <= self.limits.line_bytes_max() {
            self.searched = input.len();
            return None;
        }
        input.clear();
        self.searched = 0;
        self.is_skipping = true;
        Some(self.line_too_long())
    }

    fn line_too_long(&self) -> Request {
        Request::Refused(Refusal::LineTooLong { bytes_max: self.limits.line_bytes_max() })
    }
}

/// The length of a line without the one CR that may be part of its end.
fn content_bytes(line: &[u8]) -> usize {
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

/// What is asked for on a line; none: there are only blanks on it.
fn parse(mut line: Bytes) -> Result<Option<Request>, Refusal> {
    skip_blanks(&mut line);
    if line.is_empty() {
        return Ok(None);
    }
    let name = line.split_to(word_bytes(&line));
    let verb = Verb::find(&name).and_then(|verb| Some((verb, verb.text_form()?)));
    let Some((verb, form)) = verb else {
        return Err(Refusal::UnknownCommand { name: printable(&name) });
    };
    let arguments = arguments(form, line).ok_or(Refusal::Usage { usage: form.usage })?;
    Ok(Some(Request::Asked { verb, arguments }))
}

/// The arguments on the rest of a line; none: they are too few or too many.
fn arguments(form: &TextForm, mut rest: Bytes) -> Option<Vec<Bytes>> {
    let mut arguments = Vec::with_capacity(form.words + usize::from(form.has_value));
    for _ in 0..form.words {
        skip_blanks(&mut rest);
        let word = rest.split_to(word_bytes(&rest));
        if word.is_empty() {
            return None;
        }
        arguments.push(word);
    }
    if form.has_value {
        // The one blank that ends the last word. All others belong to the value.
        rest.try_get_u8().ok()?;
        arguments.push(unescape(&rest));
    } else if !rest.iter().all(is_blank) {
        return None;
    }
    Some(arguments)
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn skip_blanks(line: &mut Bytes) {
    let blanks = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    line.advance(blanks);
}

/// How many bytes come before the first blank.
fn word_bytes(line: &[u8]) -> usize {
    memchr2(b' ', b'\t', line).unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::text::escape;

    const SMALL: TextLimits = TextLimits { entry_bytes_max: 8 };

    fn decode_all(limits: TextLimits, chunks: &[&[u8]]) -> Vec<Request> {
        let mut decoder = TextDecoder::new(limits);
        let mut input = BytesMut::new();
        let mut requests = Vec::new();
        for chunk in chunks {
            input.extend_from_slice(chunk);
            while let Some(request) = decoder.decode(&mut input) {
                requests.push(request);
            }
            assert!(content_bytes(&input) <= limits.line_bytes_max());
        }
        requests
    }

    fn decode_line(line: &[u8]) -> Request {
        let mut requests = decode_all(TextLimits::default(), &[line, b"\n"]);
        assert_eq!(requests.len(), 1, "{}", line.escape_ascii());
        requests.remove(0)
    }

    fn asked(name: &str, arguments: &[&[u8]]) -> Request {
        let verb = Verb::find(name.as_bytes()).unwrap();
        let arguments = arguments.iter().map(|argument| Bytes::copy_from_slice(argument)).collect();
        Request::Asked { verb, arguments }
    }

    fn get(key: &[u8]) -> Request {
        asked("GET", &[key])
    }

    fn set(key: &[u8], value: &[u8]) -> Request {
        asked("SET", &[key, value])
    }

    fn usage(name: &str) -> Request {
        let verb = Verb::find(name.as_bytes()).unwrap();
        Request::Refused(Refusal::Usage { usage: verb.text_form().unwrap().usage })
    }

    fn text_verbs() -> impl Iterator<Item = &'static Verb> {
        Verb::all().filter(|verb| verb.text_form().is_some())
    }

    fn unknown(name: &str) -> Request {
        Request::Refused(Refusal::UnknownCommand { name: name.to_owned() })
    }

    #[test]
    fn a_key_ends_at_one_blank_and_the_value_is_the_rest_of_the_line() {
        assert_eq!(decode_line(b"SET k v"), set(b"k", b"v"));
        assert_eq!(decode_line(b"SET k  two words "), set(b"k", b" two words "));
        assert_eq!(decode_line(b"SET k\t\tv"), set(b"k", b"\tv"));
        assert_eq!(decode_line(b" \tSET \t k v"), set(b"k", b"v"));
        assert_eq!(decode_line(b"SET k "), set(b"k", b""));
        assert_eq!(decode_line(b"SET k"), usage("SET"));
        assert_eq!(decode_line(b"SET "), usage("SET"));
    }

    #[test]
    fn one_carriage_return_belongs_to_the_line_end_and_others_are_data() {
        assert_eq!(decode_line(b"SET k v\r"), set(b"k", b"v"));
        assert_eq!(decode_line(b"SET k v\r\r"), set(b"k", b"v\r"));
        assert_eq!(decode_line(b"SET k\ra b\rc"), set(b"k\ra", b"b\rc"));
    }

    #[test]
    fn values_are_unescaped_and_keys_are_not() {
        assert_eq!(decode_line(br"SET a\nb a\nb\r\\c\d\"), set(br"a\nb", b"a\nb\r\\c\\d\\"));
        assert_eq!(decode_line(br"GET a\nb"), get(br"a\nb"));
        assert_eq!(decode_line(b"SET \xFF\0 \0\xFE"), set(b"\xFF\0", b"\0\xFE"));
    }

    #[test]
    fn command_words_are_read_in_any_case_and_may_be_followed_by_blanks() {
        assert_eq!(decode_line(b"gEt   key \t"), get(b"key"));
        for verb in text_verbs() {
            let usage = verb.text_form().unwrap().usage;
            let arguments = usage.strip_prefix(verb.name()).unwrap();
            let line = format!("{}{arguments}", verb.name().to_lowercase());
            let Request::Asked { verb: found, .. } = decode_line(line.as_bytes()) else {
                panic!("refused: {line}")
            };
            assert_eq!(found, verb);
        }
        assert_eq!(decode_line(b" SETEX  k\t 10  v "), asked("SETEX", &[b"k", b"10", b" v "]));
        assert_eq!(decode_line(b"EXPIRE k 10 "), asked("EXPIRE", &[b"k", b"10"]));
    }

    #[test]
    fn a_command_that_is_no_part_of_this_protocol_is_unknown() {
        assert_eq!(decode_line(b"MGET a b"), unknown("MGET"));
        assert_eq!(decode_line(b"SCAN 0"), unknown("SCAN"));
    }

    #[test]
    fn every_command_with_too_many_or_too_few_words_is_answered_with_its_own_usage() {
        for verb in text_verbs() {
            let form = verb.text_form().unwrap();
            if !form.has_value {
                let line = format!("{}{}", verb.name(), " x".repeat(form.words + 1));
                assert_eq!(decode_line(line.as_bytes()), usage(verb.name()));
            }
            if form.words > 0 {
                let line = format!("{}{}", verb.name(), " x".repeat(form.words - 1));
                assert_eq!(decode_line(line.as_bytes()), usage(verb.name()));
            }
        }
    }

    #[test]
    fn an_unknown_word_is_repeated_shortened_and_printable() {
        assert_eq!(decode_line(b"GETS k"), unknown("GETS"));
        assert_eq!(decode_line("größe".as_bytes()), unknown("größe"));
        assert_eq!(decode_line(b"a\0\x1B\xFF\\"), unknown(r"a\x00\x1b\xff\"));
        assert_eq!(decode_line(&[b'x'; 64]), unknown(&"x".repeat(64)));
        assert_eq!(decode_line(&[b'x'; 65]), unknown(&("x".repeat(64) + "...")));
    }

    #[test]
    fn lines_with_nothing_on_them_are_ignored() {
        assert_eq!(decode_all(SMALL, &[b"\n\r\n \t\nPING\n\n"]), vec![asked("PING", &[])]);
    }

    #[test]
    fn the_largest_entry_fits_a_line_even_if_every_byte_is_escaped() {
        let limits = TextLimits::default();
        let mut line = b"SET k ".to_vec();
        escape(&vec![b'\n'; limits.entry_bytes_max - 1], &mut line);
        let Request::Asked { arguments, .. } = decode_line(&line) else { panic!("refused") };
        assert_eq!(arguments[1].len(), limits.entry_bytes_max - 1);
    }

    #[test]
    fn an_overlong_line_is_refused_once_and_skipped_without_being_kept() {
        let bytes_max = SMALL.line_bytes_max();
        let refused = Request::Refused(Refusal::LineTooLong { bytes_max });
        let mut decoder = TextDecoder::new(SMALL);
        let mut input = BytesMut::from(&vec![b'x'; bytes_max + 1][..]);
        assert_eq!(decoder.decode(&mut input), Some(refused.clone()));
        for _ in 0..3 {
            assert!(input.is_empty());
            input.extend_from_slice(&[b'x'; 500]);
            assert_eq!(decoder.decode(&mut input), None);
        }
        input.extend_from_slice(b"the end\nPING\n");
        assert_eq!(decoder.decode(&mut input), Some(asked("PING", &[])));
        let whole = [vec![b'x'; bytes_max + 1], b"\nPING\n".to_vec()].concat();
        assert_eq!(decode_all(SMALL, &[&whole]), vec![refused, asked("PING", &[])]);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_read_whatever_its_end() {
        let word = vec![b'x'; SMALL.line_bytes_max()];
        let expected = vec![unknown(&("x".repeat(64) + "..."))];
        assert_eq!(decode_all(SMALL, &[&word, b"\n"]), expected);
        assert_eq!(decode_all(SMALL, &[&word, b"\r", b"\n"]), expected);
    }

    #[test]
    fn a_partial_line_is_searched_only_once() {
        let mut decoder = TextDecoder::new(TextLimits::default());
        let mut input = BytesMut::from(&b"SET k val"[..]);
        assert_eq!(decoder.decode(&mut input), None);
        assert_eq!(decoder.searched, 9);
        input.extend_from_slice(b"ue\n");
        assert_eq!(decoder.decode(&mut input), Some(set(b"k", b"value")));
        assert_eq!(decoder.searched, 0);
    }

    #[test]
    fn it_is_between_lines_unless_a_line_has_begun() {
        let mut decoder = TextDecoder::new(SMALL);
        let mut input = BytesMut::new();
        for (bytes, is_between) in [(&b""[..], true), (b"PI", false), (b"NG\r\n", true), (b" \n", true)] {
            input.extend_from_slice(bytes);
            while decoder.decode(&mut input).is_some() {}
            assert_eq!(decoder.is_between_lines(), is_between, "{}", bytes.escape_ascii());
        }
        for (bytes, is_between) in [(&[b'x'; 100][..], false), (b"the end", false), (b"\n", true)] {
            input.extend_from_slice(bytes);
            while decoder.decode(&mut input).is_some() {}
            assert_eq!(decoder.is_between_lines(), is_between, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_star_behind_lines_that_were_skipped_begins_no_line() {
        let mut decoder = TextDecoder::new(SMALL);
        let mut input = BytesMut::new();
        for (bytes, is_refused) in
            [(&b"\r\n \n*1\r\n"[..], false), (&[b'x'; 100], true), (b"\n\n*1\r\n", false)]
        {
            input.clear();
            input.extend_from_slice(bytes);
            assert_eq!(decoder.decode(&mut input).is_some(), is_refused);
            if !is_refused {
                assert!(decoder.is_between_lines());
                assert_eq!(&input[..], b"*1\r\n");
            }
        }
    }

    #[test]
    fn a_key_and_a_value_without_escapes_are_not_copied() {
        let mut input = BytesMut::from(&b"SET key C:\\temp\n"[..]);
        let start = input.as_ptr();
        let request = TextDecoder::new(TextLimits::default()).decode(&mut input);
        let Some(Request::Asked { arguments, .. }) = request else { panic!("refused") };
        assert_eq!(arguments[0].as_ptr(), start.wrapping_add(4));
        assert_eq!(arguments[1].as_ptr(), start.wrapping_add(8));
    }

    /// Bytes in which commands, line ends and overlong lines are likely.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => prop::sample::select(vec![
                &b"GET "[..], b"set ", b"DELETE", b"PING", b"k", b" ", b"\t", b"\n", b"\r\n", b"\r", b"\\", b"\\n",
            ]).prop_map(<[u8]>::to_vec),
            // Whoever has read a star at the start of a line does not hand it to this decoder.
            2 => proptest::collection::vec(any::<u8>().prop_filter("no star", |byte| *byte != b'*'), 0..8),
            1 => (70usize..180).prop_map(|length| vec![b'x'; length]),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_into_chunks_makes_no_difference(
            stream in streams(),
            sizes in proptest::collection::vec(1usize..50, 1..20),
        ) {
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for size in sizes.iter().cycle() {
                let (chunk, more) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            let whole = decode_all(SMALL, &[&stream]);
            prop_assert_eq!(&decode_all(SMALL, &chunks), &whole);
            prop_assert_eq!(&decode_all(SMALL, &bytes), &whole);
        }

        #[test]
        fn every_value_written_escaped_is_read_back(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut line = b"SET k ".to_vec();
            escape(&value, &mut line);
            prop_assert_eq!(decode_line(&line), set(b"k", &value));
        }
    }
}
