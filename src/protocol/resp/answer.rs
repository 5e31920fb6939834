//! Replies as a client reads them: bytes in, [`Answer`]s out; the counterpart of the encoder.
//!
//! How the bytes were cut into pieces makes no difference, and what has been read is not read again:
//! an answer of many pieces is decoded in one pass. A length that a node announces sizes no memory
//! before its bytes have arrived.

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;

use crate::protocol::resp::number;

/// Bytes of one value, or of a line, in an answer.
const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Lists within lists.
const DEPTH_MAX: usize = 16;
/// Room for so many answers is made on the word of a node that they will come.
const ROOM_MAX: usize = 256;
/// The format before a text: three letters and a colon.
const FORMAT_BYTES: usize = 4;

/// A reply that a client has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A fixed word, such as `OK`.
    Word(String),
    /// Not done: a code, a blank and the reason.
    Error(String),
    /// A number.
    Integer(i64),
    /// A value, or a text as version 2 of the protocol has it.
    Value(Bytes),
    /// Lines for a human reader, as version 3 has them.
    Text(Bytes),
    /// There is nothing.
    Absent,
    /// Several answers in one.
    List(Vec<Answer>),
    /// Names and values, in order.
    Map(Vec<(Answer, Answer)>),
}

/// What a node sent is no reply. The connection cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A line begins with a byte that announces no reply.
    #[error("a reply cannot begin with byte {0:#04x}")]
    Kind(u8),
    /// A number is none, or beyond its limit.
    #[error("no length or number: {0:?}")]
    Number(String),
    /// A value is not followed by CR and LF, or a text has no format.
    #[error("a value does not end where it was announced to")]
    End,
    /// Lists are nested too deeply.
    #[error("lists are nested more than {DEPTH_MAX} deep")]
    Depth,
}

/// A list that is not complete.
#[derive(Debug)]
struct Open {
    is_map: bool,
    left: usize,
    answers: Vec<Answer>,
}

/// What stands at the start of the input.
enum Part {
    Whole(Answer),
    List { is_map: bool, count: usize },
}

/// Finds answers in what a connection has read.
#[derive(Debug, Default)]
pub struct AnswerDecoder {
    open: Vec<Open>,
}

impl AnswerDecoder {
    /// Takes the next answer off the input; none: more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`AnswerError`]: nobody knows where the next answer begins.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, AnswerError> {
        loop {
            let mut answer = match part(input)? {
                None => return Ok(None),
                Some(Part::Whole(answer)) => answer,
                Some(Part::List { is_map, count }) => {
                    if self.open.len() == DEPTH_MAX {
                        return Err(AnswerError::Depth);
                    }
                    let answers = Vec::with_capacity(count.min(ROOM_MAX));
                    self.open.push(Open { is_map, left: count, answers });
                    if count > 0 {
                        continue;
                    }
                    self.close()
                }
            };
            loop {
                let Some(list) = self.open.last_mut() else {
                    return Ok(Some(answer));
                };
                list.answers.push(answer);
                list.left -= 1;
                if list.left > 0 {
                    break;
                }
                answer = self.close();
            }
        }
    }

    /// The innermost list, which is complete.
    fn close(&mut self) -> Answer {
        let list = self.open.pop().expect("only a list that was opened is closed");
        match list.is_map {
            false => Answer::List(list.answers),
            true => {
                let mut answers = list.answers.into_iter();
                let pairs = std::iter::from_fn(|| Some((answers.next()?, answers.next()?)));
                Answer::Map(pairs.collect())
            }
        }
    }
}

fn part(input: &mut BytesMut) -> Result<Option<Part>, AnswerError> {
    let Some(kind) = input.first().copied() else {
        return Ok(None);
    };
    if !b"+-:$=*%_".contains(&kind) {
        return Err(AnswerError::Kind(kind));
    }
    let Some(end) = memchr(b'\n', input) else {
        return if input.len() > VALUE_BYTES_MAX { Err(AnswerError::End) } else { Ok(None) };
    };
    let line = input.get(1..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(AnswerError::End)?;
    let part = match kind {
        b'+' => Part::Whole(Answer::Word(text(line))),
        b'-' => Part::Whole(Answer::Error(text(line))),
        b':' => Part::Whole(Answer::Integer(number::parse(line).ok_or_else(|| not_a_number(line))?)),
        b'_' => Part::Whole(Answer::Absent),
        b'$' | b'=' if line != b"-1" => {
            let bytes = length(line)?;
            return Ok(value(input, end + 1, bytes, kind == b'=')?.map(Part::Whole));
        }
        b'*' if line != b"-1" => Part::List { is_map: false, count: length(line)? },
        b'%' => Part::List { is_map: true, count: length(line)? * 2 },
        _ => Part::Whole(Answer::Absent),
    };
    input.advance(end + 1);
    Ok(Some(part))
}

/// The value that begins behind the line that announced it.
fn value(
    input: &mut BytesMut,
    start: usize,
    bytes: usize,
    has_format: bool,
) -> Result<Option<Answer>, AnswerError> {
    if input.len() < start + bytes + 2 {
        return Ok(None);
    }
    if &input[start + bytes..start + bytes + 2] != b"\r\n" {
        return Err(AnswerError::End);
    }
    input.advance(start);
    let mut value = input.split_to(bytes).freeze();
    input.advance(2);
    if has_format {
        if value.len() < FORMAT_BYTES {
            return Err(AnswerError::End);
        }
        value.advance(FORMAT_BYTES);
        return Ok(Some(Answer::Text(value)));
    }
    Ok(Some(Answer::Value(value)))
}

fn length(line: &[u8]) -> Result<usize, AnswerError> {
    let length = number::parse(line).and_then(|number| usize::try_from(number).ok());
    length.filter(|length| *length <= VALUE_BYTES_MAX).ok_or_else(|| not_a_number(line))
}

fn not_a_number(line: &[u8]) -> AnswerError {
    AnswerError::Number(text(&line[..line.len().min(32)]))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::Reply;
    use crate::protocol::resp;
    use crate::protocol::resp::RespVersion;

    /// All answers in the bytes, which arrive in pieces of one size.
    fn decoded(bytes: &[u8], piece: usize) -> Result<Vec<Answer>, AnswerError> {
        let (mut decoder, mut input) = (AnswerDecoder::default(), BytesMut::new());
        let mut answers = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            input.extend_from_slice(piece);
            while let Some(answer) = decoder.decode(&mut input)? {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    fn value(bytes: &'static [u8]) -> Answer {
        Answer::Value(Bytes::from_static(bytes))
    }

    #[test]
    fn every_kind_of_reply_is_read_as_it_was_written() {
        let list = Reply::List(vec![Reply::Value(b"a\r\nb"), Reply::Absent, Reply::List(Vec::new())]);
        let map = Reply::Map(vec![(Reply::Word("name"), Reply::Lines(vec!["x".into(), "y".into()]))]);
        let replies = [Reply::Done, Reply::Integer(-7), Reply::Value(b""), list, map, Reply::Pong];
        let expected = |map: Answer| {
            let list = vec![value(b"a\r\nb"), Answer::Absent, Answer::List(Vec::new())];
            let word = |word: &str| Answer::Word(word.to_owned());
            vec![word("OK"), Answer::Integer(-7), value(b""), Answer::List(list), map, word("PONG")]
        };
        let name = || Answer::Word("name".to_owned());
        for (version, map) in [
            (RespVersion::Two, Answer::List(vec![name(), value(b"x\ny")])),
            (RespVersion::Three, Answer::Map(vec![(name(), Answer::Text(Bytes::from_static(b"x\ny")))])),
        ] {
            let mut wire = Vec::new();
            replies.iter().for_each(|reply| resp::encode(version, reply, &mut wire));
            for piece in 1..wire.len() {
                assert_eq!(decoded(&wire, piece).unwrap(), expected(map.clone()), "pieces of {piece}");
            }
        }
    }

    #[test]
    fn an_error_is_an_answer_and_what_is_no_reply_is_an_error() {
        let refused = Answer::Error("ERR no".to_owned());
        assert_eq!(decoded(b"-ERR no\r\n", 3).unwrap(), [refused]);
        assert_eq!(decoded(b"*-1\r\n$-1\r\n", 9).unwrap(), [Answer::Absent, Answer::Absent]);
        assert_eq!(decoded(b"hello\r\n", 9), Err(AnswerError::Kind(b'h')));
        assert_eq!(decoded(b"$x\r\n", 9), Err(AnswerError::Number("x".to_owned())));
        assert_eq!(decoded(b"$-2\r\n", 9), Err(AnswerError::Number("-2".to_owned())));
        assert_eq!(decoded(b":1\n", 9), Err(AnswerError::End));
        assert_eq!(decoded(b"$1\r\nabc", 9), Err(AnswerError::End));
        assert_eq!(decoded(b"=2\r\nab\r\n", 9), Err(AnswerError::End));
        assert_eq!(decoded(&b"*1\r\n".repeat(DEPTH_MAX + 1), 9), Err(AnswerError::Depth));
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let (mut decoder, mut input) = (AnswerDecoder::default(), BytesMut::from(&b"*500000000\r\n"[..]));
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(decoder.open[0].answers.capacity() <= ROOM_MAX);
        assert!(decoded(b"*5000000000\r\n", 99).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), piece in 1..9_usize) {
            // Only the absence of a panic is of interest here.
            let _ = decoded(&bytes, piece);
        }

        #[test]
        fn what_looks_like_replies_never_panics(bytes in "[-+:$*%=_\r\n0-9a]{0,60}", piece in 1..9_usize) {
            let _ = decoded(bytes.as_bytes(), piece);
        }
    }
}
