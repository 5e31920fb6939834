//! The command table: the one place that knows what commands are called, how they are written,
//! what they do to the data and how HELP explains them. Codecs, routers and the specification take
//! it from here; a test compares `proto-spec/text.md` with it.

use bincode::Decode;
use bincode::Encode;

/// Which command it is, without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Verb {
    /// See [`crate::command::Command::Get`].
    Get,
    /// See [`crate::command::Command::Set`].
    Set,
    /// See [`crate::command::Command::Delete`].
    Delete,
    /// See [`crate::command::Command::Keys`].
    Keys,
    /// See [`crate::command::Command::Flush`].
    Flush,
    /// See [`crate::command::Command::Ping`].
    Ping,
    /// See [`crate::command::Command::Exit`].
    Exit,
    /// See [`crate::command::Command::Help`].
    Help,
    /// See [`crate::command::Command::Nodes`].
    Nodes,
    /// See [`crate::command::Command::Ring`].
    Ring,
    /// See [`crate::command::Command::Stats`].
    Stats,
}

/// A row of the table.
struct Row {
    verb: Verb,
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    is_write: bool,
    is_idempotent: bool,
}

/// A row of a command that changes nothing and may therefore be repeated.
const fn read(verb: Verb, name: &'static str, usage: &'static str, help: &'static str) -> Row {
    Row { verb, name, usage, help, is_write: false, is_idempotent: true }
}

/// A row of a command that changes data, and leaves the same data behind when it runs twice.
const fn write(verb: Verb, name: &'static str, usage: &'static str, help: &'static str) -> Row {
    Row { verb, name, usage, help, is_write: true, is_idempotent: true }
}

/// In the order of [`Verb`], the most frequent first: lookups go through it from the start.
const TABLE: [Row; 11] = [
    read(Verb::Get, "GET", "GET <key>", "the value of a key"),
    write(Verb::Set, "SET", "SET <key> <value>", "gives a key a value: the rest of the line"),
    write(Verb::Delete, "DELETE", "DELETE <key>", "deletes a key"),
    read(Verb::Keys, "KEYS", "KEYS", "all keys of the cluster"),
    write(Verb::Flush, "FLUSH", "FLUSH", "deletes all keys of the cluster"),
    read(Verb::Ping, "PING", "PING", "whether the node answers"),
    read(Verb::Exit, "EXIT", "EXIT", "ends the connection"),
    read(Verb::Help, "HELP", "HELP", "this list"),
    read(Verb::Nodes, "NODES", "NODES", "the nodes of the cluster and what they hold"),
    read(Verb::Ring, "RING", "RING", "which partitions are where"),
    read(Verb::Stats, "STATS", "STATS", "figures of this node"),
];

// A row out of order does not compile.
const _: () = {
    let mut index = 0;
    while index < TABLE.len() {
        assert!(TABLE[index].verb as usize == index, "the command table is in the order of Verb");
        index += 1;
    }
};

impl Verb {
    /// All verbs in the order of the table.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TABLE.iter().map(|row| row.verb)
    }

    /// The verb that this word names, in any case.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        TABLE.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(word)).map(|row| row.verb)
    }

    /// Its name, in capitals.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// How the command is written, such as `SET <key> <value>`.
    pub const fn usage(self) -> &'static str {
        self.row().usage
    }

    /// What it does, in a few words.
    pub const fn help(self) -> &'static str {
        self.row().help
    }

    /// Whether it changes data.
    pub const fn is_write(self) -> bool {
        self.row().is_write
    }

    /// Whether running it twice leaves the same data behind as running it once, so that it may be
    /// repeated when nobody knows whether it has run. (The reply may differ: a repeated DELETE can
    /// answer that there is no such key.)
    pub const fn is_idempotent(self) -> bool {
        self.row().is_idempotent
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// What HELP answers: a line per command.
pub fn help_lines() -> Vec<String> {
    let width = TABLE.iter().map(|row| row.usage.len()).max().unwrap_or_default();
    TABLE.iter().map(|row| format!("{:width$}  {}", row.usage, row.help)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_found_by_its_name_in_any_case() {
        for verb in Verb::all() {
            assert_eq!(Verb::from_word(verb.name().as_bytes()), Some(verb));
            assert_eq!(Verb::from_word(verb.name().to_lowercase().as_bytes()), Some(verb));
            assert!(verb.usage().starts_with(verb.name()));
        }
        assert_eq!(Verb::from_word(b""), None);
        assert_eq!(Verb::from_word(b"GETS"), None);
    }

    #[test]
    fn help_has_an_aligned_line_per_command() {
        let lines = help_lines();
        assert_eq!(lines.len(), Verb::all().len());
        assert_eq!(lines[0], "GET <key>          the value of a key");
        assert_eq!(lines[1], "SET <key> <value>  gives a key a value: the rest of the line");
    }
}
