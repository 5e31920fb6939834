//! Plays the transcripts of `proto-spec/transcripts/` against the text codec in memory: as written,
//! byte by byte, and pipelined. Another test plays the same files against a real node.

#[path = "support/transcript.rs"]
mod transcript;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;
use bytes::BytesMut;
use cachegopher::command::Codec;
use cachegopher::command::Command;
use cachegopher::command::Refusal;
use cachegopher::command::Reply;
use cachegopher::command::Verb;
use cachegopher::command::help_lines;
use cachegopher::protocol;
use cachegopher::protocol::Request;
use cachegopher::protocol::text::TextDecoder;
use cachegopher::protocol::text::TextLimits;
use cachegopher::protocol::text::encode_end;
use cachegopher::protocol::text::encode_key_line;

use transcript::Mode;
use transcript::Port;
use transcript::Transcript;

/// A node that is one table, and a connection to it without a socket.
struct MemoryNode {
    decoder: TextDecoder,
    input: BytesMut,
    output: Vec<u8>,
    table: BTreeMap<Bytes, Bytes>,
    is_closed: bool,
}

impl MemoryNode {
    fn new() -> Self {
        Self {
            decoder: TextDecoder::new(TextLimits::default()),
            input: BytesMut::new(),
            output: Vec::new(),
            table: BTreeMap::new(),
            is_closed: false,
        }
    }

    fn answer(&mut self, command: Command) {
        let verb = command.verb();
        let reply = match command {
            Command::Get { key } => match self.table.get(&key) {
                Some(value) => Reply::Value(value),
                None => Reply::Absent,
            },
            Command::Set { key, value } => {
                self.table.insert(key, value);
                Reply::Done
            }
            Command::Delete { key } => Reply::Deleted(self.table.remove(&key).map_or(0, |_| 1)),
            Command::Keys => {
                self.table.keys().for_each(|key| encode_key_line(key, &mut self.output));
                return encode_end(self.table.len() as u64, &mut self.output);
            }
            Command::Flush => {
                self.table.clear();
                Reply::Done
            }
            Command::Ping => Reply::Pong,
            Command::Exit => {
                self.is_closed = true;
                Reply::Goodbye
            }
            Command::Help => Reply::Lines(help_lines()),
            Command::Nodes => Reply::Lines(vec!["a 127.0.0.1:31337 alive".to_owned()]),
            Command::Ring => Reply::Lines(vec!["0-4095 a".to_owned()]),
            Command::Stats => Reply::Lines(vec![format!("keys {}", self.table.len())]),
        };
        protocol::encode(Codec::Text, verb, &reply, &mut self.output);
    }
}

impl Port for MemoryNode {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.extend_from_slice(bytes);
        while !self.is_closed {
            match self.decoder.decode(&mut self.input) {
                Some(Request::Command(command)) => self.answer(command),
                Some(Request::Refused(refusal)) => {
                    protocol::encode_refusal(Codec::Text, &refusal, &mut self.output)
                }
                None => break,
            }
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.output.len();
        into.append(&mut self.output);
        if count == 0 && !self.is_closed {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "no answer"));
        }
        Ok(count)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.is_closed = true;
        Ok(())
    }
}

fn specification() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-spec")
}

fn transcripts() -> Result<Vec<Transcript>, String> {
    transcript::read_all(&specification().join("transcripts"))
}

#[test]
fn every_transcript_is_played_as_written_byte_by_byte_and_pipelined() {
    let transcripts = transcripts().unwrap();
    assert!(!transcripts.is_empty(), "no transcript was found");
    let mut failures = Vec::new();
    for transcript in &transcripts {
        for mode in Mode::ALL {
            if let Err(failure) = transcript.play(mode, &mut MemoryNode::new()) {
                failures.push(format!("{failure}\n  (shows: {})", transcript.shows));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_specification_names_every_command_with_its_usage() {
    let text = std::fs::read_to_string(specification().join("text.md")).unwrap();
    for verb in Verb::all() {
        assert!(text.contains(&format!("\n### `{}`\n", verb.usage())), "no section for {}", verb.usage());
    }
}

#[test]
fn the_specification_names_every_error() {
    let text = std::fs::read_to_string(specification().join("text.md")).unwrap();
    // Numbers stand in for the names that the specification gives them.
    let refusals = [
        Refusal::Usage { usage: "`<usage>`" },
        Refusal::UnknownCommand { name: "<word>".to_owned() },
        Refusal::EntryTooLarge { bytes: 1, bytes_max: 2 },
        Refusal::LineTooLong { bytes_max: 1 },
        Refusal::NoMemory { bytes: 1, bytes_max: 2 },
        Refusal::NoPrimary { partition: 1, waited_ms: 2 },
        Refusal::TooManyWaiting { waiting: 1 },
        Refusal::Incomplete { count: 1 },
        Refusal::Unknown,
    ];
    for refusal in refusals {
        let wording = refusal.to_string().replace("`<usage>`", "<usage>");
        let wording = wording.replace('1', "<n>").replace('2', "<m>");
        assert!(text.contains(&format!("| `ERROR: {wording}` |")), "no row for `ERROR: {wording}`");
    }
}

#[test]
fn every_command_word_is_sent_by_some_transcript() {
    let folder = specification().join("transcripts");
    let mut words = BTreeSet::new();
    for transcript in transcripts().unwrap() {
        let text = std::fs::read_to_string(folder.join(&transcript.name)).unwrap();
        words.extend(
            text.lines().filter_map(|line| line.strip_prefix("> ")?.split(' ').next().map(str::to_owned)),
        );
    }
    for verb in Verb::all() {
        assert!(words.contains(verb.name()), "no transcript sends {}", verb.name());
    }
}

#[test]
fn a_transcript_that_does_not_hold_is_told_with_its_line() {
    for (text, wording) in [
        ("# Shows: x\n> PING\n< PING\n", r#"x (AsWritten):3: expected "PING\n", got "PONG\n""#),
        ("# Shows: x\n> PING\n< PONG\n< PONG\n", "4: expected \"PONG\\n\", got \"\" and then no answer"),
        ("# Shows: x\n> PING\n", "end: expected the end of the connection, got \"PONG\\n\""),
        ("# Shows: x\n> PING\n<- PO\n", "end: expected the end of the connection, got \"NG\\n\""),
        ("# Shows: x\n> PING\n< PONG\n<end\n", "4: expected the end of the connection, got no answer"),
        ("# Shows: x\n> EXIT\n< Goodbye!\n<*\n", "4: expected a line, got \"\" and then the end"),
        ("# Shows: x\n> SET a 1\n< OK\n> KEYS\n<listing b\n", "5: expected other lines than \"a\""),
    ] {
        let played = Transcript::parse("x", text).unwrap().play(Mode::AsWritten, &mut MemoryNode::new());
        let failure = played.expect_err("it does not hold");
        assert!(failure.contains(wording), "{failure}");
    }
}

#[test]
fn a_transcript_written_wrongly_is_refused_with_its_line() {
    for (text, wording) in [
        ("> PING\n", "x:1: the first line"),
        ("# Shows: x\n? PING\n", "x:2: unknown directive ?"),
        ("# Shows: x\n>PING\n", "x:2: unknown directive >PING"),
        ("# Shows: x\n\n> PING \n", "x:3: white space"),
        ("# Shows: x\n> \\q\n", "x:2: unknown escape \\q"),
        ("# Shows: x\n> \\x4\n", "x:2: \\x needs two digits"),
        ("# Shows: x\n> \\xZZ\n", "x:2: \\xZZ is no byte"),
        ("# Shows: x\n>repeat many x\n", "x:2: many is not a number"),
        ("# Shows: x\n<end\n> PING\n", "x:3: nothing can follow"),
    ] {
        let error = Transcript::parse("x", text).expect_err("it is written wrongly");
        assert!(error.contains(wording), "{error}");
    }
}
