//! Requests and replies in the protocols of the servers that are compared.

use memchr::memchr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// RESP2.
    Resp,
    /// CacheGopher's lines.
    Text,
    /// The lines of memcached.
    Memcached,
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A value of so many bytes.
    Value(usize),
    /// There is no such key.
    Absent,
    /// A write was done.
    Done,
    /// An error.
    Error,
}

impl Protocol {
    pub fn get(self, key: &[u8], out: &mut Vec<u8>) {
        match self {
            Protocol::Resp => words(&[b"GET", key], out),
            Protocol::Text => line(&[b"GET ", key, b"\n"], out),
            Protocol::Memcached => line(&[b"get ", key, b"\r\n"], out),
        }
    }

    pub fn set(self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let length = value.len().to_string();
        match self {
            Protocol::Resp => words(&[b"SET", key, value], out),
            Protocol::Text => line(&[b"SET ", key, b" ", value, b"\n"], out),
            Protocol::Memcached => {
                line(&[b"set ", key, b" 0 0 ", length.as_bytes(), b"\r\n", value, b"\r\n"], out);
            }
        }
    }

    /// The reply at the start of `input` and its length; none: more is needed.
    pub fn reply(self, input: &[u8]) -> Option<(Reply, usize)> {
        let end = memchr(b'\n', input)? + 1;
        let line = input[..end].trim_ascii_end();
        Some(match self {
            Protocol::Resp => match line {
                b"+OK" => (Reply::Done, end),
                b"$-1" => (Reply::Absent, end),
                [b'$', length @ ..] => {
                    let length = number(length)?;
                    let whole = end + length + 2;
                    (input.len() >= whole).then_some((Reply::Value(length), whole))?
                }
                _ => (Reply::Error, end),
            },
            Protocol::Text => match line {
                b"OK" => (Reply::Done, end),
                b"ERROR: Key not found" => (Reply::Absent, end),
                line if line.starts_with(b"ERROR") => (Reply::Error, end),
                line => (Reply::Value(line.len()), end),
            },
            Protocol::Memcached => match line {
                b"STORED" => (Reply::Done, end),
                b"END" => (Reply::Absent, end),
                line if line.starts_with(b"VALUE ") => {
                    let length = number(line.rsplit(|byte| *byte == b' ').next()?)?;
                    let whole = end + length + b"\r\nEND\r\n".len();
                    (input.len() >= whole).then_some((Reply::Value(length), whole))?
                }
                _ => (Reply::Error, end),
            },
        })
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn line(parts: &[&[u8]], out: &mut Vec<u8>) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn words(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
