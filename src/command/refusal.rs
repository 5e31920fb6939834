//! Why a command was not carried out, in the words that a client reads.

/// Why a request was not carried out. Its text is what a client reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A command with the wrong number of words; nothing was done.
    #[error("Usage: {usage}")]
    Usage {
        /// How it is written, such as `SET <key> <value>`.
        usage: &'static str,
    },
    /// The words make no sense, or not with what is stored; nothing was done.
    #[error(transparent)]
    Invalid(#[from] Invalid),
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
    /// There is no room, and the eviction policy lets nothing go; nothing was done.
    #[error("command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
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
    /// Another node serves the key, and the client is to ask there. Nothing was done.
    #[error("MOVED {slot} {address}")]
    Moved {
        /// The slot of the key.
        slot: u16,
        /// Where the node that serves it takes requests of cluster-aware clients.
        address: String,
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
    /// A node has as many clients as it may have; the connection is closed.
    #[error("max number of clients reached")]
    TooManyConnections,
    /// The reply would be longer than a node may hold for one client; a reading command changed nothing.
    #[error("the reply is longer than the limit of {bytes_max} bytes")]
    ReplyTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// The commands of a transaction, or those of one of its partitions, are over their limit; nothing
    /// was done.
    #[error("transaction of {bytes} bytes in {scope}, the limit is {bytes_max}")]
    TransactionTooLarge {
        /// All of it, or one partition.
        scope: &'static str,
        /// What it has.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// So many keys are watched already; these are not.
    #[error("more than {keys_max} watched keys")]
    TooManyWatched {
        /// The limit.
        keys_max: usize,
    },
    /// A watched key has changed while a transaction was carried out in parts: this part was not.
    #[error("a watched key has changed, this part of the transaction was not carried out")]
    PartAborted,
    /// The node that had the command was lost and the command must not be repeated.
    #[error("the node that served the command was lost, it may or may not have run")]
    Unknown,
}

/// A mistake that Redis knows too. Its text is that of Redis 7, which clients recognise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The words are in no order that the command knows.
    #[error("syntax error")]
    Syntax,
    /// A word, or a value that is to be counted with, is no whole number of 64 bits.
    #[error("value is not an integer or out of range")]
    NotInteger,
    /// A time to wait is no whole number of 64 bits.
    #[error("timeout is not an integer or out of range")]
    TimeoutNotInteger,
    /// A time to wait is below zero.
    #[error("timeout is negative")]
    TimeoutNegative,
    /// A number that must not be below zero is.
    #[error("value is out of range, must be positive")]
    NotPositive,
    /// A word, or a value that is to be counted with, is no number.
    #[error("value is not a valid float")]
    NotFloat,
    /// The sum of two numbers would be none.
    #[error("increment would produce NaN or Infinity")]
    NotFinite,
    /// A sum of whole numbers would not fit 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// The number to be subtracted cannot be negated.
    #[error("decrement would overflow")]
    DecrementOverflow,
    /// An expiry in no time that can be told.
    #[error("invalid expire time in '{command}' command")]
    ExpireTime {
        /// The command, in small letters.
        command: String,
    },
    /// Conditions for an expiry that exclude each other.
    #[error("NX and XX, GT or LT options at the same time are not compatible")]
    ExpireIfNoneAndOther,
    /// As above.
    #[error("GT and LT options at the same time are not compatible")]
    ExpireIfGreaterAndLess,
    /// A condition that does not exist.
    #[error("Unsupported option {option}")]
    Option {
        /// As the client wrote it: printable, shortened.
        option: String,
    },
    /// A slot that does not exist.
    #[error("Invalid or out of range slot")]
    Slot,
    /// A number of keys below zero.
    #[error("Invalid number of keys")]
    KeyCount,
    /// A number of entries of the slow log below -1.
    #[error("count should be greater than or equal to -1")]
    SlowLogCount,
    /// CLUSTER with a node that does not exist.
    #[error("Unknown node {id}")]
    Node {
        /// As the client wrote it: printable, shortened.
        id: String,
    },
    /// There is nothing to be renamed.
    #[error("no such key")]
    NoSuchKey,
    /// An offset below zero.
    #[error("offset is out of range")]
    Offset,
    /// A cursor that is no number.
    #[error("invalid cursor")]
    Cursor,
    /// Too few or too many words.
    #[error("wrong number of arguments for '{command}' command")]
    WordCount {
        /// The command, in small letters.
        command: String,
    },
    /// A part of a command that does not exist.
    #[error("unknown subcommand '{name}'. Try {command} HELP.")]
    Subcommand {
        /// The command, in capitals.
        command: &'static str,
        /// As the client wrote it: printable, shortened.
        name: String,
    },
    /// Keys of one command that must be kept together are not.
    #[error("Keys in request don't hash to the same slot")]
    CrossSlot,
    /// There is only database zero.
    #[error("DB index is out of range")]
    Database,
    /// HELLO with a version that is no number.
    #[error("Protocol version is not an integer or out of range")]
    VersionNotInteger,
    /// HELLO with a version that is not spoken here.
    #[error("unsupported protocol version")]
    Version,
    /// HELLO with a word that it does not know.
    #[error("Syntax error in HELLO option '{option}'")]
    HelloOption {
        /// As the client wrote it: printable, shortened.
        option: String,
    },
    /// There are no passwords here.
    #[error(
        "AUTH <password> called without any password configured for the default user. \
         Are you sure your configuration is correct?"
    )]
    NoPassword,
    /// A name of a client, or of its library, with blanks in it.
    #[error("{what} cannot contain spaces, newlines or special characters.")]
    ClientName {
        /// Which name.
        what: &'static str,
    },
    /// CLIENT KILL with the address of no connection.
    #[error("No such client")]
    NoClient,
    /// A kind of client that does not exist.
    #[error("Unknown client type '{kind}'")]
    ClientType {
        /// As the client wrote it: printable, shortened.
        kind: String,
    },
    /// CLIENT LIST with what cannot be the number of a connection.
    #[error("Invalid client ID")]
    ClientId,
    /// CLIENT KILL with what cannot be the number of a connection.
    #[error("client-id should be greater than 0")]
    ClientIdNotPositive,
    /// There is one user.
    #[error("No such user '{name}'")]
    NoUser {
        /// As the client wrote it: printable, shortened.
        name: String,
    },
    /// CLIENT SETINFO with something else than a library's name and version.
    #[error("Unrecognized option '{option}'")]
    UnrecognizedOption {
        /// As the client wrote it: printable, shortened.
        option: String,
    },
    /// COMMAND GETKEYS with a command that does not exist.
    #[error("Invalid command specified")]
    NoCommand,
    /// COMMAND GETKEYS with a command of too few or too many words.
    #[error("Invalid number of arguments specified for command")]
    WordCountSpecified,
    /// COMMAND GETKEYS with a command that has no keys.
    #[error("The command has no key arguments")]
    NoKeys,
    /// A word that cannot be the token of a lease.
    #[error("invalid lease token")]
    LeaseToken,
    /// A script that is none of the known ones.
    #[error("only scripts of well-known libraries run here, {sha1} is none of them")]
    UnknownScript {
        /// The SHA1 of its text.
        sha1: String,
    },
    /// A SHA1 that names none of the known scripts.
    #[error("No matching script. Please use EVAL.")]
    NoScript,
    /// A script that writes, where it must not.
    #[error("Write commands are not allowed from read-only scripts.")]
    ScriptWrites,
    /// A script with too few keys or arguments.
    #[error("the script takes {keys} keys and {arguments} arguments")]
    ScriptWords {
        /// So many at least.
        keys: usize,
        /// So many at least.
        arguments: usize,
    },
    /// A number of keys below zero.
    #[error("Number of keys can't be negative")]
    NegativeKeyCount,
    /// A number of keys beyond the words.
    #[error("Number of keys can't be greater than number of args")]
    TooManyKeys,
    /// MULTI within a transaction.
    #[error("MULTI calls can not be nested")]
    NestedMulti,
    /// EXEC or DISCARD where no MULTI was.
    #[error("{command} without MULTI")]
    NoMulti {
        /// Which.
        command: &'static str,
    },
    /// WATCH within a transaction.
    #[error("WATCH inside MULTI is not allowed")]
    WatchInMulti,
    /// EXEC of a transaction of which a command was refused at once.
    #[error("Transaction discarded because of previous errors.")]
    Discarded,
    /// A command that cannot be part of a transaction.
    #[error("Command not allowed inside a transaction")]
    NotInMulti,
    /// How often keys are used is not counted.
    #[error(
        "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
         switching between policies at runtime LRU and LFU data will take some time to adjust."
    )]
    NoFrequency,
    /// Where it is counted how often keys are used, it is not told for how long they were not.
    #[error(
        "An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
         policies at runtime LRU and LFU data will take some time to adjust."
    )]
    NoIdleTime,
    /// A setting that cannot be given that value; no setting was changed.
    #[error("CONFIG SET failed (possibly related to argument '{name}') - {reason}")]
    Setting {
        /// As the client wrote it: printable, shortened.
        name: String,
        /// Why.
        reason: String,
    },
    /// A setting that does not exist; no setting was changed.
    #[error("Unknown option or number of arguments for CONFIG SET - '{name}'")]
    UnknownSetting {
        /// As the client wrote it: printable, shortened.
        name: String,
    },
    /// CONFIG REWRITE: a node does not write its settings anywhere.
    #[error("The server is running without a config file")]
    NoConfigFile,
    /// DEBUG, which would let a client stop the node.
    #[error(
        "DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
         from a local connection, otherwise you need to set this option in the configuration file, and then \
         restart the server."
    )]
    NoDebug,
    /// SHUTDOWN ABORT while the node does not end, or when that cannot be taken back.
    #[error("No shutdown in progress.")]
    NoShutdown,
}

impl Invalid {
    /// The word that stands before the text in RESP: clients go by it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::CrossSlot => "CROSSSLOT",
            Self::Version => "NOPROTO",
            Self::Discarded => "EXECABORT",
            Self::NoScript => "NOSCRIPT",
            Self::Syntax
            | Self::NotInteger
            | Self::TimeoutNotInteger
            | Self::TimeoutNegative
            | Self::NotPositive
            | Self::NotFloat
            | Self::NotFinite
            | Self::Overflow
            | Self::DecrementOverflow
            | Self::ExpireTime { .. }
            | Self::ExpireIfNoneAndOther
            | Self::ExpireIfGreaterAndLess
            | Self::Option { .. }
            | Self::Slot
            | Self::KeyCount
            | Self::SlowLogCount
            | Self::Node { .. }
            | Self::NoSuchKey
            | Self::Offset
            | Self::Cursor
            | Self::WordCount { .. }
            | Self::Subcommand { .. }
            | Self::Database
            | Self::VersionNotInteger
            | Self::HelloOption { .. }
            | Self::NoPassword
            | Self::ClientName { .. }
            | Self::NoClient
            | Self::ClientType { .. }
            | Self::ClientId
            | Self::ClientIdNotPositive
            | Self::NoUser { .. }
            | Self::UnrecognizedOption { .. }
            | Self::NoCommand
            | Self::WordCountSpecified
            | Self::NoKeys
            | Self::LeaseToken
            | Self::UnknownScript { .. }
            | Self::ScriptWrites
            | Self::ScriptWords { .. }
            | Self::NegativeKeyCount
            | Self::TooManyKeys
            | Self::NestedMulti
            | Self::NoMulti { .. }
            | Self::WatchInMulti
            | Self::NotInMulti
            | Self::NoFrequency
            | Self::NoIdleTime
            | Self::Setting { .. }
            | Self::UnknownSetting { .. }
            | Self::NoConfigFile
            | Self::NoDebug
            | Self::NoShutdown => "ERR",
        }
    }
}
