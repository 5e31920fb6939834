//! Plays the transcripts of `proto-spec/transcripts/` against the text codec in memory: as written,
//! byte by byte, and pipelined. Another test plays the same files against a real node.

#[path = "support/transcript.rs"]
mod transcript;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;
use bytes::BytesMut;
use cachegopher::command::Admitted;
use cachegopher::command::Cluster;
use cachegopher::command::Codec;
use cachegopher::command::Command;
use cachegopher::command::Gather;
use cachegopher::command::Invalid;
use cachegopher::command::KeyCommand;
use cachegopher::command::Mark;
use cachegopher::command::Refusal;
use cachegopher::command::Reply;
use cachegopher::command::Tenure;
use cachegopher::command::Transaction;
use cachegopher::command::Verb;
use cachegopher::command::execute;
use cachegopher::command::help_lines;
use cachegopher::command::matches;
use cachegopher::command::parse;
use cachegopher::command::server::Server;
use cachegopher::command::server::SlowLog;
use cachegopher::protocol;
use cachegopher::protocol::Request;
use cachegopher::protocol::resp;
use cachegopher::protocol::resp::RespDecoder;
use cachegopher::protocol::resp::RespLimits;
use cachegopher::protocol::text::TextDecoder;
use cachegopher::protocol::text::TextLimits;
use cachegopher::protocol::text::encode_end;
use cachegopher::protocol::text::encode_key_line;
use cachegopher::store::ItemContent;
use cachegopher::store::Partition;
use cachegopher::store::ScanCursor;
use cachegopher::store::Shard;
use cachegopher::store::ShardLimits;
use cachegopher::store::Slot;
use cachegopher::time::Clock;
use cachegopher::time::Timestamp;

use transcript::Mode;
use transcript::Port;
use transcript::Transcript;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const ENTRY_BYTES_MAX: usize = 65_536;

/// A node that is one shard, and a connection to it without a socket. Time stands still.
struct MemoryNode {
    text: TextDecoder,
    resp: RespDecoder,
    codec: Codec,
    input: BytesMut,
    output: Vec<u8>,
    shard: Shard,
    clock: Clock,
    tenure: Tenure,
    transaction: Transaction,
    is_closed: bool,
}

impl MemoryNode {
    fn new() -> Self {
        Self {
            text: TextDecoder::new(TextLimits::default()),
            resp: RespDecoder::new(RespLimits::default()),
            codec: Codec::Resp2,
            input: BytesMut::new(),
            output: Vec::new(),
            shard: Shard::new(ShardLimits::new(64 << 20), 1),
            clock: Clock::default(),
            tenure: Tenure::new(1),
            transaction: Transaction::default(),
            is_closed: false,
        }
    }

    /// Answers what comes next in the input; false: nothing is complete.
    fn serve_next(&mut self) -> bool {
        let is_resp = self.text.is_between_lines()
            && (!self.resp.is_between_requests() || self.input.first() == Some(&b'*'));
        if is_resp { self.serve_words() } else { self.serve_line() }
    }

    fn serve_line(&mut self) -> bool {
        let command = match self.text.decode(&mut self.input) {
            Some(Request::Asked { verb, arguments }) => verb.parse(&arguments, NOW, ENTRY_BYTES_MAX),
            Some(Request::Refused(refusal)) => Err(refusal),
            // What was skipped may end before a request of the other protocol.
            None => return self.text.is_between_lines() && self.input.first() == Some(&b'*'),
        };
        match command {
            Ok(command) => self.answer(Codec::Text, command),
            Err(refusal) => protocol::encode_refusal(Codec::Text, &refusal, &mut self.output),
        }
        true
    }

    fn serve_words(&mut self) -> bool {
        let words = match self.resp.decode(&mut self.input) {
            Ok(Some(words)) => words,
            Ok(None) => {
                let is_left = self.resp.is_between_requests() && !self.input.is_empty();
                return is_left && self.input.first() != Some(&b'*');
            }
            Err(error) => {
                resp::encode_protocol_error(error, &mut self.output);
                self.is_closed = true;
                return true;
            }
        };
        match self.transaction.admit(&words, parse(&words, NOW, ENTRY_BYTES_MAX)) {
            Admitted::Run(Command::Exec) => self.exec(),
            Admitted::Run(command) => self.answer(self.codec, command),
            Admitted::Kept => self.output.extend(b"+QUEUED\r\n"),
            Admitted::Done => self.output.extend(b"+OK\r\n"),
            Admitted::Refused(Refusal::UnknownCommand { .. }) => {
                self.output.extend(resp::unknown_command(&words));
            }
            Admitted::Refused(refusal) => protocol::encode_refusal(self.codec, &refusal, &mut self.output),
        }
        true
    }

    fn mark(&self, key: Bytes) -> Mark {
        let was = self.tenure.mark(&self.shard, Partition::of(&key), &key, NOW);
        Mark { key, was }
    }

    /// One command after the other: how a node cuts a transaction into parts is its own affair.
    fn exec(&mut self) {
        let (requests, watched) = self.transaction.take();
        let is_same = |Mark { key, was }: &Mark| {
            self.tenure.is_as_marked(&self.shard, Partition::of(key), key, was, NOW)
        };
        if !watched.iter().all(is_same) {
            return self.output.extend(if self.codec == Codec::Resp3 { &b"_\r\n"[..] } else { b"*-1\r\n" });
        }
        resp::array_header(requests.len(), &mut self.output);
        for words in requests {
            match parse(&words, NOW, ENTRY_BYTES_MAX) {
                Ok(command) => self.answer(self.codec, command),
                Err(refusal) => protocol::encode_refusal(self.codec, &refusal, &mut self.output),
            }
        }
    }

    fn run(&mut self, codec: Codec, command: &KeyCommand) -> Vec<u8> {
        let partition = Partition::of(&command.key.0);
        let executed = execute(command, partition, &mut self.shard, &mut self.clock, &mut self.tenure, NOW);
        let mut reply = Vec::new();
        protocol::encode(codec, &executed.reply, &mut reply);
        reply
    }

    fn keys(&self) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let end = self.shard.scan(ScanCursor::START, usize::MAX >> 1, |item| match item.content.at(NOW) {
            ItemContent::Value { .. } => keys.push(Bytes::copy_from_slice(item.key)),
            ItemContent::Deleted => {}
        });
        assert!(end.is_none());
        keys.sort();
        keys
    }

    fn about_slots(&self, asked: Cluster) -> Reply<'static> {
        let of = |slot: u16| self.keys().into_iter().filter(move |key| Slot::of(key).number() == slot);
        match asked {
            Cluster::KeySlot(key) => Reply::Integer(Slot::of(&key).number().into()),
            Cluster::CountKeys { slot } => Reply::Integer(of(slot).count() as i64),
            Cluster::Keys { slot, count_max } => {
                Reply::List(of(slot).take(count_max).map(|key| Reply::Bytes(key.into())).collect())
            }
            Cluster::FailureReports { node } => {
                let id = String::from_utf8_lossy(&node).into_owned();
                Reply::Refused(Invalid::Node { id }.into())
            }
            // One node is no cluster: these are tested where they are said.
            Cluster::Info | Cluster::MyId | Cluster::Nodes => Reply::Bytes(Vec::new()),
            Cluster::Slots | Cluster::Shards | Cluster::Links => Reply::List(Vec::new()),
        }
    }

    fn answer(&mut self, codec: Codec, command: Command) {
        let bulk = |key: &Bytes| Reply::Bytes(key.to_vec());
        let reply = match command {
            // Nobody else could end the wait.
            Command::Key(command) | Command::AwaitLease { command, .. } => {
                let reply = self.run(codec, &command);
                return self.output.extend(reply);
            }
            Command::Many(many) => {
                let how = many.gather();
                let replies: Vec<Vec<u8>> = many.parts().iter().map(|part| self.run(codec, part)).collect();
                match how {
                    Gather::List => {
                        resp::array_header(replies.len(), &mut self.output);
                        return self.output.extend(replies.concat());
                    }
                    Gather::Sum => Reply::Integer(replies.iter().filter_map(|r| resp::integer_of(r)).sum()),
                    Gather::AllDone => Reply::Done,
                }
            }
            Command::Keys { .. } if codec == Codec::Text => {
                let keys = self.keys();
                keys.iter().for_each(|key| encode_key_line(key, &mut self.output));
                return encode_end(keys.len() as u64, &mut self.output);
            }
            Command::Keys { pattern } => {
                let is_wanted = |key: &&Bytes| pattern.as_ref().is_none_or(|pattern| matches(pattern, key));
                Reply::List(self.keys().iter().filter(is_wanted).map(bulk).collect())
            }
            Command::Scan { pattern, is_none_of, .. } => {
                let is_wanted = |key: &&Bytes| {
                    !is_none_of && pattern.as_ref().is_none_or(|pattern| matches(pattern, key))
                };
                let keys = self.keys().iter().filter(is_wanted).map(bulk).collect();
                Reply::List(vec![Reply::Bytes(b"0".to_vec()), Reply::List(keys)])
            }
            Command::Size => Reply::Integer(self.keys().len() as i64),
            Command::RandomKey => self.keys().first().map_or(Reply::Absent, bulk),
            Command::Flush => {
                let version = self.clock.next(NOW);
                Partition::all().for_each(|partition| self.shard.flush(partition, version));
                Reply::Done
            }
            Command::Ping { message: None } => Reply::Pong,
            Command::Ping { message: Some(message) } | Command::Echo { message } => bulk(&message),
            Command::Nothing | Command::Unwatch => Reply::Done,
            Command::Watch { keys } => {
                let marks: Vec<Mark> = keys.into_iter().map(|key| self.mark(key)).collect();
                self.transaction.watch(marks);
                Reply::Done
            }
            // Answered when they are read.
            Command::Multi | Command::Exec | Command::Discard => return,
            Command::Exit => {
                self.is_closed = true;
                Reply::Goodbye
            }
            Command::Help => Reply::Lines(help_lines()),
            Command::Nodes => Reply::Lines(vec!["a 127.0.0.1:31337 alive".to_owned()]),
            Command::Ring => Reply::Lines(vec!["0-4095 a".to_owned()]),
            Command::Stats => Reply::Lines(vec![format!("keys {}", self.keys().len())]),
            Command::Cluster(asked) => self.about_slots(asked),
            // What a node says about itself is tested where it is said.
            Command::Server(server) => match server {
                Server::Reset => {
                    self.transaction.reset();
                    self.codec = Codec::Resp2;
                    Reply::Word("RESET")
                }
                Server::About(about) => cachegopher::command::describe(&about),
                Server::Time => {
                    Reply::List(vec![Reply::Bytes(b"1700000000".to_vec()), Reply::Bytes(b"0".to_vec())])
                }
                Server::Scripts { known } => {
                    Reply::List(known.into_iter().map(|known| Reply::Integer(known.into())).collect())
                }
                // Nobody has a copy.
                Server::Wait(_) => Reply::Integer(0),
                Server::Info { .. } => Reply::Bytes(Vec::new()),
                Server::ReadCopies(_) | Server::Ack(_) => Reply::Done,
                // Nothing is slow here, and no key is asked for often.
                Server::SlowLog(SlowLog::Count) => Reply::Integer(0),
                Server::SlowLog(SlowLog::Clear) => Reply::Done,
                Server::SlowLog(SlowLog::Latest { .. }) | Server::HotKeys { .. } => match codec {
                    Codec::Text => Reply::Lines(Vec::new()),
                    Codec::Resp2 | Codec::Resp3 => Reply::List(Vec::new()),
                },
                Server::Hello(_) | Server::Client(_) | Server::Config(_) | Server::Shutdown => Reply::Done,
            },
        };
        protocol::encode(codec, &reply, &mut self.output);
    }
}

impl Port for MemoryNode {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.extend_from_slice(bytes);
        while !self.is_closed && self.serve_next() {}
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
    for form in Verb::all().filter_map(Verb::text_form) {
        assert!(text.contains(&format!("\n### `{}`\n", form.usage)), "no section for {}", form.usage);
    }
}

#[test]
fn the_specification_describes_every_command_as_the_table_does() {
    let text = std::fs::read_to_string(specification().join("commands.md")).unwrap();
    let row = |verb: &Verb| {
        let keys = verb.keys();
        format!(
            "\n### {}\n\n{}\n\n`words {}` `keys {} {} {}` `since {}` `group {}` `flags {}`\n",
            verb.name(),
            verb.summary(),
            verb.arity(),
            keys.first,
            keys.last,
            keys.step,
            verb.since(),
            verb.group(),
            verb.flags().collect::<Vec<_>>().join(" "),
        )
    };
    for verb in Verb::all() {
        assert!(text.contains(&row(verb)), "commands.md must have this section:\n{}", row(verb));
    }
    let sections = text.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(sections, Verb::all().len(), "commands.md has a section of no command");
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
        Refusal::TooManyConnections,
        Invalid::NotInteger.into(),
        Invalid::Overflow.into(),
        Invalid::ExpireTime { command: "<command>".to_owned() }.into(),
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
        // The first word of a request of the other protocol.
        let requests = text.lines().filter_map(|line| line.strip_prefix(">* ")?.split(' ').next());
        words.extend(requests.map(str::to_uppercase));
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
