//! A request as it goes over the wire, and what may be done with it when no answer comes.

use bytes::Bytes;

use crate::client::Error;
use crate::command;
use crate::command::Command;
use crate::command::Verb;
use crate::protocol::resp;
use crate::store::Partition;
use crate::time::Timestamp;

/// What running it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing.
    Read,
    /// Running it twice leaves the same data behind as running it once.
    Repeatable,
    /// It must not be repeated by anybody who does not know whether it has run.
    Once,
}

/// A request, encoded once for all attempts.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub wire: Vec<u8>,
    pub effect: Effect,
    /// The partition of its first key, by which its node is chosen.
    pub partition: Option<Partition>,
}

impl Request {
    /// A request of which the library itself knows what it does.
    pub fn new(effect: Effect, key: Option<&[u8]>, words: &[&[u8]]) -> Self {
        let mut wire = Vec::with_capacity(words.iter().map(|word| word.len() + 16).sum::<usize>() + 16);
        resp::array_header(words.len(), &mut wire);
        words.iter().for_each(|word| resp::bulk(word, &mut wire));
        Self { wire, effect, partition: key.map(Partition::of) }
    }

    /// A request in the words of an application, of which the command table knows what it does.
    ///
    /// # Errors
    ///
    /// It is about the connection it comes on, and those of a client are shared.
    pub fn of_words(words: &[Bytes]) -> Result<Self, Error> {
        let verb = words.first().and_then(|name| Verb::find(name));
        if let Some(verb) = verb.filter(|verb| is_about_connection(verb)) {
            let text = format!("ERR {} is about one connection: use client::Connection", verb.name());
            return Err(Error::Refused { code: "ERR".to_owned(), text });
        }
        let key = verb.and_then(|verb| verb.keys_in(words).next());
        let words_of = words.iter().map(|word| &word[..]).collect::<Vec<_>>();
        Ok(Self::new(effect(verb, words), key.map(|key| &key[..]), &words_of))
    }
}

fn is_about_connection(verb: &Verb) -> bool {
    match verb.group() {
        "connection" => !matches!(verb.name(), "PING" | "ECHO"),
        "transactions" | "pubsub" => true,
        _ => matches!(verb.name(), "READONLY" | "READWRITE" | "ASKING" | "EXIT" | "WAIT" | "MONITOR"),
    }
}

fn effect(verb: Option<&Verb>, words: &[Bytes]) -> Effect {
    let Some(verb) = verb else { return Effect::Once };
    if verb.flags().any(|flag| flag == "readonly") {
        return Effect::Read;
    }
    // Times and limits make no difference to what kind of command it is.
    let start = Timestamp::from_millis(0);
    match command::parse(words, start, usize::MAX) {
        Ok(Command::Key(command)) if command.is_idempotent() => Effect::Repeatable,
        Ok(Command::Many(_) | Command::Flush) => Effect::Repeatable,
        Ok(Command::Ping { .. } | Command::Echo { .. } | Command::Help) => Effect::Read,
        Ok(_) | Err(_) => Effect::Once,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Request, Error> {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        Request::of_words(&words)
    }

    #[test]
    fn the_command_table_knows_what_may_be_repeated() {
        for (line, effect) in [
            ("get k", Effect::Read),
            ("SCAN 0", Effect::Read),
            ("PING", Effect::Read),
            ("SET k v", Effect::Repeatable),
            ("SET k v EX 10", Effect::Repeatable),
            ("MSET a 1 b 2", Effect::Repeatable),
            ("DEL a b", Effect::Repeatable),
            ("FLUSH", Effect::Repeatable),
            ("EXPIRE k 10", Effect::Repeatable),
            ("SET k v NX", Effect::Once),
            ("INCR k", Effect::Once),
            ("APPEND k v", Effect::Once),
            ("GETDEL k", Effect::Once),
            ("RENAME {a}1 {a}2", Effect::Once),
            ("NOTHING k", Effect::Once),
            ("SET k", Effect::Once),
        ] {
            assert_eq!(of(line).unwrap().effect, effect, "{line}");
        }
    }

    #[test]
    fn a_request_goes_where_its_first_key_lives() {
        assert_eq!(of("MSET a 1 b 2").unwrap().partition, Some(Partition::of(b"a")));
        assert_eq!(of("NODES").unwrap().partition, None);
        assert_eq!(of("GET k").unwrap().wire, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }

    #[test]
    fn what_is_about_a_connection_is_refused_on_shared_ones() {
        for line in ["HELLO 3", "quit", "READONLY", "CLIENT SETNAME x", "EXIT"] {
            assert!(matches!(of(line), Err(Error::Refused { .. })), "{line}");
        }
    }
}
