//! What a client can ask and what it is answered, whatever the protocol.

mod codec;
mod execute;
mod verb;
mod wire;

use bytes::Bytes;

pub use codec::Codec;
pub use execute::Executed;
pub use execute::execute;
pub use verb::Verb;
pub use verb::help_lines;

/// A request of a client, free of its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Gives a key a value.
    Set {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// All keys of the cluster.
    Keys,
    /// Deletes all keys of the cluster.
    Flush,
    /// Whether the node answers.
    Ping,
    /// Ends the connection.
    Exit,
    /// How to talk to a node.
    Help,
    /// The members and what they hold.
    Nodes,
    /// Which partitions are where.
    Ring,
    /// Figures of this node.
    Stats,
}

impl Command {
    /// Which command it is, without its arguments.
    pub const fn verb(&self) -> Verb {
        match self {
            Command::Get { .. } => Verb::Get,
            Command::Set { .. } => Verb::Set,
            Command::Delete { .. } => Verb::Delete,
            Command::Keys => Verb::Keys,
            Command::Flush => Verb::Flush,
            Command::Ping => Verb::Ping,
            Command::Exit => Verb::Exit,
            Command::Help => Verb::Help,
            Command::Nodes => Verb::Nodes,
            Command::Ring => Verb::Ring,
            Command::Stats => Verb::Stats,
        }
    }

    /// The key it is about: where it has one, the key decides which node carries it out.
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Command::Get { key } | Command::Set { key, .. } | Command::Delete { key } => Some(key),
            Command::Keys
            | Command::Flush
            | Command::Ping
            | Command::Exit
            | Command::Help
            | Command::Nodes
            | Command::Ring
            | Command::Stats => None,
        }
    }

    /// Whether it changes data.
    pub const fn is_write(&self) -> bool {
        self.verb().is_write()
    }

    /// Whether it may be repeated when nobody knows whether it has run: see [`Verb::is_idempotent`].
    pub const fn is_idempotent(&self) -> bool {
        self.verb().is_idempotent()
    }
}

/// The answer to a [`Command`], free of its protocol. A value is borrowed, so that a shard can
/// encode it straight from its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Done as asked.
    Done,
    /// The value of a key.
    Value(&'a [u8]),
    /// There is no such key.
    Absent,
    /// How many keys were deleted.
    Deleted(u64),
    /// A number.
    Integer(i64),
    /// A fixed word, such as the type of a value.
    Word(&'static str),
    /// Bytes made for the answer.
    Bytes(Vec<u8>),
    /// Several answers in one.
    List(Vec<Reply<'a>>),
    /// Names and values, in order.
    Map(Vec<(Reply<'a>, Reply<'a>)>),
    /// The answer to [`Command::Ping`].
    Pong,
    /// The answer to [`Command::Exit`].
    Goodbye,
    /// Lines for a human reader, each without its line end, none empty.
    Lines(Vec<String>),
    /// Not done, and why.
    Refused(Refusal),
}

/// Why a request was not carried out. Its text is what a client reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A command with the wrong number of words; nothing was done.
    #[error("Usage: {usage}")]
    Usage {
        /// How it is written, such as `SET <key> <value>`.
        usage: &'static str,
    },
    /// No command has this name; nothing was done.
    #[error("Unknown command: {name}")]
    UnknownCommand {
        /// The word as the client wrote it: printable, shortened.
        name: String,
    },
    /// Key and value together are over the limit; nothing was done.
    #[error("key and value have {bytes} bytes, the limit is {bytes_max}")]
    EntryTooLarge {
        /// What the client sent.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A line is over its limit; it was skipped to its end, nothing was done.
    #[error("line is longer than the limit of {bytes_max} bytes")]
    LineTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// The entry does not fit the memory of its shard; nothing was done.
    #[error("entry of {bytes} bytes does not fit the memory of a shard, {bytes_max} bytes")]
    NoMemory {
        /// What the entry needs.
        bytes: usize,
        /// What a shard has.
        bytes_max: usize,
    },
    /// No primary could be reached in time. The command has not run, unless it had reached a node that
    /// was lost then; only what may be repeated is tried again after that.
    #[error("no node could serve partition {partition} within {waited_ms} ms, try again")]
    NoPrimary {
        /// The partition asked for.
        partition: u16,
        /// How long the node waited.
        waited_ms: u64,
    },
    /// Too many requests are waiting for a primary to be replaced; as above.
    #[error("{waiting} requests already wait for a failover, try again")]
    TooManyWaiting {
        /// How many wait.
        waiting: usize,
    },
    /// The ring changed while keys were listed; what was listed is there, but some may be missing.
    #[error("the ring changed while {count} keys were listed, some may be missing or listed twice")]
    Incomplete {
        /// How many were listed.
        count: u64,
    },
    /// The node that had the command was lost and the command must not be repeated.
    #[error("the node that served the command was lost, it may or may not have run")]
    Unknown,
}

impl Refusal {
    /// The refusal of a command written wrongly.
    pub const fn usage_of(verb: Verb) -> Self {
        Self::Usage { usage: verb.usage() }
    }
}
