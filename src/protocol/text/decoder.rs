//! Lines in, requests out, as many bytes at a time as the socket has.

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;
use memchr::memchr2;

use crate::command::Command;
use crate::command::Refusal;
use crate::command::Verb;
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
            match parse(line, self.limits.entry_bytes_max) {
                Ok(Some(command)) => return Some(Request::Command(command)),
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

/// The command on a line; none: there are only blanks on it.
fn parse(mut line: Bytes, entry_bytes_max: usize) -> Result<Option<Command>, Refusal> {
    skip_blanks(&mut line);
    if line.is_empty() {
        return Ok(None);
    }
    let word = &line[..word_bytes(&line)];
    let Some(verb) = Verb::from_word(word) else {
        return Err(Refusal::UnknownCommand { name: printable(word) });
    };
    line.advance(word.len());
    let command = match verb {
        Verb::Get => Command::Get { key: only_key(verb, line, entry_bytes_max)? },
        Verb::Set => {
            let (key, value) = key_and_value(verb, line, entry_bytes_max)?;
            Command::Set { key, value }
        }
        Verb::Delete => Command::Delete { key: only_key(verb, line, entry_bytes_max)? },
        Verb::Keys => nothing_more(verb, &line, Command::Keys)?,
        Verb::Flush => nothing_more(verb, &line, Command::Flush)?,
        Verb::Ping => nothing_more(verb, &line, Command::Ping)?,
        Verb::Exit => nothing_more(verb, &line, Command::Exit)?,
        Verb::Help => nothing_more(verb, &line, Command::Help)?,
        Verb::Nodes => nothing_more(verb, &line, Command::Nodes)?,
        Verb::Ring => nothing_more(verb, &line, Command::Ring)?,
        Verb::Stats => nothing_more(verb, &line, Command::Stats)?,
    };
    Ok(Some(command))
}

fn nothing_more(verb: Verb, rest: &[u8], command: Command) -> Result<Command, Refusal> {
    if rest.iter().all(is_blank) { Ok(command) } else { Err(Refusal::usage_of(verb)) }
}

fn only_key(verb: Verb, mut rest: Bytes, entry_bytes_max: usize) -> Result<Bytes, Refusal> {
    skip_blanks(&mut rest);
    let key_bytes = word_bytes(&rest);
    if key_bytes == 0 || !rest[key_bytes..].iter().all(is_blank) {
        return Err(Refusal::usage_of(verb));
    }
    check_entry(key_bytes, entry_bytes_max)?;
    rest.truncate(key_bytes);
    Ok(rest)
}

fn key_and_value(verb: Verb, mut rest: Bytes, entry_bytes_max: usize) -> Result<(Bytes, Bytes), Refusal> {
    skip_blanks(&mut rest);
    let key = rest.split_to(word_bytes(&rest));
    if key.is_empty() || rest.is_empty() {
        return Err(Refusal::usage_of(verb));
    }
    // The one blank that ends the key. All others belong to the value.
    rest.advance(1);
    let value = unescape(&rest);
    check_entry(key.len() + value.len(), entry_bytes_max)?;
    Ok((key, value))
}

fn check_entry(bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes > bytes_max { Err(Refusal::EntryTooLarge { bytes, bytes_max }) } else { Ok(()) }
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

/// So many characters of an unknown word are repeated to the client.
const NAME_CHARS_MAX: usize = 64;

/// A word fit to be shown: control characters and bytes that are no UTF-8 as `\xHH`, shortened.
fn printable(word: &[u8]) -> String {
    let mut shown = word.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|byte| hexadecimal(&[*byte]));
        chunk.valid().chars().map(printable_char).chain(invalid)
    });
    let mut name: String = shown.by_ref().take(NAME_CHARS_MAX).collect();
    if shown.next().is_some() {
        name.push_str("...");
    }
    name
}

fn printable_char(character: char) -> String {
    let text = character.to_string();
    if character.is_control() { hexadecimal(text.as_bytes()) } else { text }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
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

    fn get(key: &'static [u8]) -> Request {
        Request::Command(Command::Get { key: Bytes::from_static(key) })
    }

    fn set(key: &'static [u8], value: &'static [u8]) -> Request {
        Request::Command(Command::Set { key: Bytes::from_static(key), value: Bytes::from_static(value) })
    }

    fn usage(verb: Verb) -> Request {
        Request::Refused(Refusal::usage_of(verb))
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
        assert_eq!(decode_line(b"SET k"), usage(Verb::Set));
        assert_eq!(decode_line(b"SET "), usage(Verb::Set));
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
        for verb in Verb::all() {
            let arguments = verb.usage().strip_prefix(verb.name()).unwrap();
            let line = format!("{}{arguments} ", verb.name().to_lowercase());
            let Request::Command(command) = decode_line(line.as_bytes()) else { panic!("refused: {line}") };
            assert_eq!(command.verb(), verb);
        }
    }

    #[test]
    fn every_command_with_too_many_or_too_few_words_is_answered_with_its_own_usage() {
        for verb in Verb::all().filter(|verb| *verb != Verb::Set) {
            let line = format!("{} one two", verb.name());
            assert_eq!(decode_line(line.as_bytes()), usage(verb));
        }
        for verb in [Verb::Get, Verb::Set, Verb::Delete] {
            assert_eq!(decode_line(verb.name().as_bytes()), usage(verb));
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
        assert_eq!(decode_all(SMALL, &[b"\n\r\n \t\nPING\n\n"]), vec![Request::Command(Command::Ping)]);
    }

    #[test]
    fn an_entry_is_measured_after_unescaping() {
        let too_large = |bytes| Request::Refused(Refusal::EntryTooLarge { bytes, bytes_max: 8 });
        assert_eq!(decode_all(SMALL, &[b"SET k 1234567\n"]), vec![set(b"k", b"1234567")]);
        assert_eq!(decode_all(SMALL, &[b"SET k 12345678\n"]), vec![too_large(9)]);
        assert_eq!(decode_all(SMALL, &[br"SET k \n\n\n\n\n\n\n", b"\n"]), vec![set(b"k", b"\n\n\n\n\n\n\n")]);
        assert_eq!(decode_all(SMALL, &[b"GET 123456789\n"]), vec![too_large(9)]);
    }

    #[test]
    fn the_largest_entry_fits_a_line_even_if_every_byte_is_escaped() {
        let limits = TextLimits::default();
        let mut line = b"SET k ".to_vec();
        escape(&vec![b'\n'; limits.entry_bytes_max - 1], &mut line);
        let Request::Command(Command::Set { value, .. }) = decode_line(&line) else { panic!("refused") };
        assert_eq!(value.len(), limits.entry_bytes_max - 1);
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
        assert_eq!(decoder.decode(&mut input), Some(Request::Command(Command::Ping)));
        let whole = [vec![b'x'; bytes_max + 1], b"\nPING\n".to_vec()].concat();
        assert_eq!(decode_all(SMALL, &[&whole]), vec![refused, Request::Command(Command::Ping)]);
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
        let Some(Request::Command(Command::Set { key, value })) = request else { panic!("refused") };
        assert_eq!(key.as_ptr(), start.wrapping_add(4));
        assert_eq!(value.as_ptr(), start.wrapping_add(8));
    }

    /// Bytes in which commands, line ends and overlong lines are likely.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => prop::sample::select(vec![
                &b"GET "[..], b"set ", b"DELETE", b"PING", b"k", b" ", b"\t", b"\n", b"\r\n", b"\r", b"\\", b"\\n",
            ]).prop_map(<[u8]>::to_vec),
            2 => proptest::collection::vec(any::<u8>(), 0..8),
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
            let expected = Command::Set { key: Bytes::from_static(b"k"), value: value.into() };
            prop_assert_eq!(decode_line(&line), Request::Command(expected));
        }
    }
}
