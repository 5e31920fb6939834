//! Words become a command. Relative expiries become absolute here, so that what travels to another
//! node, or waits for one, means the same when it arrives.

pub(in crate::command) mod client;
pub(in crate::command) mod cluster;
pub(in crate::command) mod expiry;
pub(in crate::command) mod key;
pub(in crate::command) mod lease;
pub(in crate::command) mod script;
pub(in crate::command) mod server;
pub(in crate::command) mod string;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::command::Command;
use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::Verb;
use crate::store::Slot;
use crate::time::Timestamp;

/// The command that the words are, the first of them its name.
///
/// # Errors
///
/// They are none; in the words of Redis where Redis would refuse them too.
pub fn parse(words: &[Bytes], now: Timestamp, entry_bytes_max: usize) -> Result<Command, Refusal> {
    verb_of(words)?.parse_words(words, now, entry_bytes_max)
}

/// The command that the first of the words names.
///
/// # Errors
///
/// It names none.
pub fn verb_of(words: &[Bytes]) -> Result<&'static Verb, Refusal> {
    let name = words.first().map(|name| &name[..]).unwrap_or_default();
    Verb::find(name).ok_or_else(|| Refusal::UnknownCommand { name: printable(name) })
}

/// The arguments of a command, taken one by one.
pub(in crate::command) struct Words<'a> {
    verb: &'static Verb,
    /// The part of the command that was named, as it was written.
    part: &'a [u8],
    rest: &'a [Bytes],
    pub(super) now: Timestamp,
    entry_bytes_max: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(
        verb: &'static Verb,
        rest: &'a [Bytes],
        now: Timestamp,
        entry_bytes_max: usize,
    ) -> Self {
        Self { verb, part: &[], rest, now, entry_bytes_max }
    }

    fn len(&self) -> usize {
        self.rest.len()
    }

    fn next(&mut self) -> Option<&'a Bytes> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The next word; without one the command has too few.
    fn word(&mut self) -> Result<Bytes, Refusal> {
        self.next().cloned().ok_or_else(|| self.verb.word_count())
    }

    /// A key, not larger than an entry may be.
    fn key(&mut self) -> Result<Bytes, Refusal> {
        let key = self.word()?;
        self.check(key.len())?;
        Ok(key)
    }

    fn check(&self, bytes: usize) -> Result<(), Refusal> {
        match bytes > self.entry_bytes_max {
            true => Err(Refusal::EntryTooLarge { bytes, bytes_max: self.entry_bytes_max }),
            false => Ok(()),
        }
    }

    /// A key and a value that fit an entry.
    fn entry(&mut self) -> Result<(Bytes, Bytes), Refusal> {
        let (key, value) = (self.word()?, self.word()?);
        self.check(key.len() + value.len())?;
        Ok((key, value))
    }

    fn integer(&mut self) -> Result<i64, Refusal> {
        parse_integer(&self.word()?).ok_or(Refusal::Invalid(Invalid::NotInteger))
    }

    /// All the rest, keys.
    fn keys(&mut self) -> Result<Vec<Bytes>, Refusal> {
        (0..self.len()).map(|_| self.key()).collect()
    }

    /// All the rest, keys and values in turn.
    fn entries(&mut self) -> Result<Vec<(Bytes, Bytes)>, Refusal> {
        if !self.len().is_multiple_of(2) {
            return Err(self.verb.word_count());
        }
        (0..self.len() / 2).map(|_| self.entry()).collect()
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), Refusal> {
        if self.rest.is_empty() { Ok(()) } else { Err(Invalid::Syntax.into()) }
    }

    /// The name of a part of a command, such as the ID of CLIENT ID, in capitals, and how many words
    /// follow it.
    fn subcommand(&mut self) -> Result<(String, usize), Refusal> {
        self.part = self.next().ok_or_else(|| self.verb.word_count())?;
        Ok((printable(self.part).to_ascii_uppercase(), self.len()))
    }

    fn no_subcommand(&self) -> Refusal {
        Invalid::Subcommand { command: self.verb.name(), name: printable(self.part) }.into()
    }

    /// The refusal of a part of a command with too few or too many words.
    fn subcommand_word_count(&self, name: &str) -> Refusal {
        Invalid::WordCount { command: format!("{}|{name}", self.verb.name()).to_ascii_lowercase() }.into()
    }
}

/// Whether a word is this one, in any case.
fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// Whether all keys lie in one slot.
pub(in crate::command) fn check_one_slot<'a>(
    mut keys: impl Iterator<Item = &'a Bytes>,
) -> Result<(), Refusal> {
    let Some(slot) = keys.next().map(|key| Slot::of(key)) else { return Ok(()) };
    if keys.all(|key| Slot::of(key) == slot) { Ok(()) } else { Err(Invalid::CrossSlot.into()) }
}

/// A whole number as Redis reads it: no plus sign, no leading zeros, no blanks.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [first, ..] => first.is_ascii_digit() && *first != b'0',
        [] => false,
    };
    // What passes is made of ASCII up to where parsing itself finds a fault.
    if is_canonical { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// So many characters of an unknown word are repeated to the client.
const NAME_CHARS_MAX: usize = 64;

/// A word fit to be shown: control characters and bytes that are no UTF-8 as `\xHH`, shortened.
pub fn printable(word: &[u8]) -> String {
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
