//! Transcripts of the text protocol: how they are written, and how one is played.
//!
//! A transcript is a file in `proto-spec/transcripts/`, read line by line:
//!
//! ```text
//! # Shows: the first line says what is shown. Other comments and empty lines mean nothing.
//! > SET k v         send this and LF
//! >- SET            send this without LF; the next line goes on
//! >repeat 70000 x   send this so many times, without LF
//! >* SET k v        send these words, which a blank parts, as a request of RESP
//! < OK              expect exactly this and LF
//! <- OK             expect exactly this; the next line goes on
//! <repeat 70000 x   expect this so many times, without LF
//! <* a note         expect one line, whatever is on it
//! <listing          expect lines, whatever is on them, then `END <their number>`
//! <listing a b      expect these lines in any order, then `END 2`
//! <end              expect that the connection is closed
//! ```
//!
//! In what is sent and expected `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` stand for bytes; nothing else
//! may follow a backslash. No line ends in white space: it would not be seen, `\x20` is.
//!
//! The same transcript is played against anything that is a [`Port`]: the codec in memory, or a
//! socket of a real node.

use std::io;
use std::path::Path;

/// What a transcript does, one line of it at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    ExpectAnyLine,
    /// Lines in any order and `END <number>`; none named: whatever they are.
    ExpectListing(Vec<Vec<u8>>),
    ExpectEnd,
}

/// A transcript, ready to be played.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The name of its file.
    pub name: String,
    /// What it shows, in its own words.
    pub shows: String,
    /// Steps with the number of the line they stand on.
    steps: Vec<(usize, Step)>,
}

/// How what is sent is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A line of the transcript at a time, each reply read before the next line is sent.
    AsWritten,
    /// As written, but a byte at a time.
    ByteByByte,
    /// Everything at once, then all replies are read.
    Pipelined,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::AsWritten, Mode::ByteByByte, Mode::Pipelined];
}

/// A connection to what a transcript is played against.
pub trait Port {
    /// Sends all of this. In pipelined mode it is the whole transcript at once, so a port to a socket
    /// must be able to read while it writes, or the socket buffers be large enough for both.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Appends what has been answered and not yet received; waits until there is something. Zero: the
    /// connection is closed. An error where nothing comes (in time).
    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize>;

    /// Says that nothing more will be sent (as a half close does), so that `receive` ends with zero.
    fn finish(&mut self) -> io::Result<()>;
}

/// Reads all transcripts of a folder, in the order of their names.
pub fn read_all(folder: &Path) -> Result<Vec<Transcript>, String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Transcript::parse(&name, &std::fs::read_to_string(path).map_err(failed)?)
        })
        .collect()
}

impl Transcript {
    /// Reads a transcript; the error names file and line.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let at = |number: usize, error: &str| format!("{name}:{number}: {error}");
        let shows = text.lines().next().and_then(|line| line.strip_prefix("# Shows: "));
        let shows = shows.ok_or_else(|| at(1, "the first line must be `# Shows: ...`"))?.to_owned();
        let mut steps: Vec<(usize, Step)> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            if line.ends_with([' ', '\t']) {
                return Err(at(number, "white space at the end of a line is not seen, write \\x20"));
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let step = parse_step(line).map_err(|error| at(number, &error))?;
            if steps.last().is_some_and(|(_, last)| *last == Step::ExpectEnd) {
                return Err(at(number, "nothing can follow the end of the connection"));
            }
            steps.push((number, step));
        }
        Ok(Self { name: name.to_owned(), shows, steps })
    }

    /// Plays it. The error says what was expected, what came, and on which line.
    pub fn play(&self, mode: Mode, port: &mut impl Port) -> Result<(), String> {
        let mut replies = Replies { port, bytes: Vec::new(), position: 0 };
        let in_mode = |error: String| format!("{} ({mode:?}):{error}", self.name);
        if mode == Mode::Pipelined {
            let sent: Vec<u8> =
                self.steps.iter().filter_map(|(_, step)| step.sent()).flatten().copied().collect();
            replies.port.send(&sent).map_err(|error| in_mode(format!("1: {error}")))?;
        }
        for (number, step) in &self.steps {
            replies.perform(step, mode).map_err(|error| in_mode(format!("{number}: {error}")))?;
        }
        replies.expect_nothing_more().map_err(|error| in_mode(format!("end: {error}")))
    }
}

impl Step {
    fn sent(&self) -> Option<&[u8]> {
        match self {
            Step::Send(bytes) => Some(bytes),
            Step::Expect(_) | Step::ExpectAnyLine | Step::ExpectListing(_) | Step::ExpectEnd => None,
        }
    }
}

fn parse_step(line: &str) -> Result<Step, String> {
    let (directive, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(match directive {
        ">" => Step::Send(line_of(rest)?),
        ">-" => Step::Send(bytes_of(rest)?),
        ">repeat" => Step::Send(repeated(rest)?),
        ">*" => Step::Send(request_of(rest)?),
        "<" => Step::Expect(line_of(rest)?),
        "<-" => Step::Expect(bytes_of(rest)?),
        "<repeat" => Step::Expect(repeated(rest)?),
        "<*" => Step::ExpectAnyLine,
        "<listing" => Step::ExpectListing(rest.split_whitespace().map(bytes_of).collect::<Result<_, _>>()?),
        "<end" => Step::ExpectEnd,
        _ => return Err(format!("unknown directive {directive}")),
    })
}

fn line_of(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = bytes_of(text)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Words as a request of RESP. A blank in a word is written `\x20`, an empty word `""`.
fn request_of(text: &str) -> Result<Vec<u8>, String> {
    let words = text.split(' ').map(|word| bytes_of(if word == "\"\"" { "" } else { word }));
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(&word);
        bytes.extend_from_slice(b"\r\n");
    }
    Ok(bytes)
}

fn repeated(text: &str) -> Result<Vec<u8>, String> {
    let (times, what) = text.split_once(' ').ok_or("a repetition is a number and a text")?;
    let times: usize = times.parse().map_err(|_| format!("{times} is not a number"))?;
    Ok(bytes_of(what)?.repeat(times))
}

/// The bytes that a text with escapes stands for.
fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = match escape.as_bytes() {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', ..] => {
                let digits = escape.get(1..3).ok_or("\\x needs two digits")?;
                (u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?, 3)
            }
            _ => return Err(format!("unknown escape \\{escape}")),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// What a port has answered, and how much of it has been compared.
struct Replies<'a, P> {
    port: &'a mut P,
    bytes: Vec<u8>,
    position: usize,
}

impl<P: Port> Replies<'_, P> {
    fn perform(&mut self, step: &Step, mode: Mode) -> Result<(), String> {
        match (step, mode) {
            (Step::Send(_), Mode::Pipelined) => Ok(()),
            (Step::Send(bytes), Mode::AsWritten) => self.port.send(bytes).map_err(|error| error.to_string()),
            (Step::Send(bytes), Mode::ByteByByte) => {
                bytes.chunks(1).try_for_each(|byte| self.port.send(byte)).map_err(|error| error.to_string())
            }
            (Step::Expect(expected), _) => self.expect(expected),
            (Step::ExpectAnyLine, _) => self.line().map(drop),
            (Step::ExpectListing(expected), _) => self.expect_listing(expected),
            (Step::ExpectEnd, _) => self.expect_end(),
        }
    }

    fn expect(&mut self, expected: &[u8]) -> Result<(), String> {
        while self.pending().len() < expected.len() && expected.starts_with(self.pending()) {
            self.receive_more().map_err(|error| {
                format!("expected {}, got {} and then {error}", shown(expected), shown(self.pending()))
            })?;
        }
        if !self.pending().starts_with(expected) {
            let pending = self.pending();
            let line_bytes =
                pending.iter().position(|byte| *byte == b'\n').map_or(pending.len(), |end| end + 1);
            return Err(format!("expected {}, got {}", shown(expected), shown(&pending[..line_bytes])));
        }
        self.position += expected.len();
        Ok(())
    }

    /// The next line, with its end.
    fn line(&mut self) -> Result<Vec<u8>, String> {
        let mut searched = 0;
        loop {
            let found = self.pending()[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = found {
                let line = self.pending()[..=searched + end].to_vec();
                self.position += line.len();
                return Ok(line);
            }
            searched = self.pending().len();
            self.receive_more().map_err(|error| {
                format!("expected a line, got {} and then {error}", shown(self.pending()))
            })?;
        }
    }

    fn expect_listing(&mut self, expected: &[Vec<u8>]) -> Result<(), String> {
        let mut lines = Vec::new();
        loop {
            let mut line = self.line()?;
            line.pop();
            if line == format!("END {}", lines.len()).as_bytes() {
                break;
            }
            if line.starts_with(b"END ") || line.starts_with(b"ERROR: ") {
                return Err(format!("got {} after {} lines of a listing", shown(&line), lines.len()));
            }
            lines.push(line);
        }
        lines.sort();
        let mut sorted = expected.to_vec();
        sorted.sort();
        if !sorted.is_empty() && sorted != lines {
            let got: Vec<String> = lines.iter().map(|line| shown(line)).collect();
            return Err(format!("expected other lines than {}", got.join(" ")));
        }
        Ok(())
    }

    fn expect_end(&mut self) -> Result<(), String> {
        if self.pending().is_empty() {
            match self.port.receive(&mut self.bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(format!("expected the end of the connection, got {error}")),
            }
        }
        Err(format!("expected the end of the connection, got {}", shown(self.pending())))
    }

    fn expect_nothing_more(&mut self) -> Result<(), String> {
        self.port.finish().map_err(|error| error.to_string())?;
        self.expect_end()
    }

    fn pending(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    fn receive_more(&mut self) -> Result<(), String> {
        match self.port.receive(&mut self.bytes) {
            Ok(0) => Err("the end of the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Bytes as a transcript shows them, long ones shortened.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 100;
    let start = bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii();
    if bytes.len() > SHOWN_MAX {
        format!("\"{start}\" ({} bytes)", bytes.len())
    } else {
        format!("\"{start}\"")
    }
}
