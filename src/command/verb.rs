//! The command table: the one place that knows what commands are called, how many words they take,
//! where their keys are, and how each is explained. Parsing, HELP, COMMAND and the specification take
//! it from here; tests compare `proto-spec/commands.md` and `proto-spec/text.md` with it.

use std::fmt;

use bytes::Bytes;

use crate::command::Command;
use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::parse;
use crate::command::parse::Words;
use crate::command::parse_integer;
use crate::time::Timestamp;

/// A command without its arguments: a row of the table.
pub struct Verb {
    name: &'static str,
    arity: i8,
    flags: &'static str,
    keys: KeyPositions,
    since: &'static str,
    group: &'static str,
    summary: &'static str,
    tips: &'static str,
    parse: fn(&mut Words<'_>) -> Result<Command, Refusal>,
    text: Option<TextForm>,
}

/// Which of the words are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPositions {
    /// The first key; zero: there are none.
    pub first: i8,
    /// The last one; negative: counted from the end.
    pub last: i8,
    /// From one to the next.
    pub step: i8,
}

/// How a command is written in the text protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextForm {
    /// Such as `SET <key> <value>`.
    pub usage: &'static str,
    /// So many words follow the command, the value not counted.
    pub words: usize,
    /// Whether the rest of the line is a value.
    pub has_value: bool,
    /// What it does, in a few words.
    pub help: &'static str,
}

type Parse = fn(&mut Words<'_>) -> Result<Command, Refusal>;

const NO_KEY: (i8, i8, i8) = (0, 0, 0);
const ONE_KEY: (i8, i8, i8) = (1, 1, 1);
const TWO_KEYS: (i8, i8, i8) = (1, 2, 1);
const ALL_KEYS: (i8, i8, i8) = (1, -1, 1);
const PAIRS: (i8, i8, i8) = (1, -1, 2);
const SECOND: (i8, i8, i8) = (2, 2, 1);

/// A row: name, number of words (negative: at least so many, the name included), flags, keys, the
/// version of Redis that had it first (or ours), group, what parses its arguments, what it does.
#[allow(clippy::too_many_arguments, reason = "a row of a table has as many cells as the table has columns")]
const fn row(
    name: &'static str,
    arity: i8,
    flags: &'static str,
    (first, last, step): (i8, i8, i8),
    since: &'static str,
    group: &'static str,
    parse: Parse,
    summary: &'static str,
) -> Verb {
    let keys = KeyPositions { first, last, step };
    Verb { name, arity, flags, keys, since, group, summary, tips: "", parse, text: None }
}

impl Verb {
    /// Whom a cluster-aware client is to ask, and what it is to make of the answers.
    const fn with_tips(self, tips: &'static str) -> Self {
        Self { tips, ..self }
    }

    const fn text(self, usage: &'static str, words: usize, help: &'static str) -> Self {
        Self { text: Some(TextForm { usage, words, has_value: false, help }), ..self }
    }

    const fn text_with_value(self, usage: &'static str, words: usize, help: &'static str) -> Self {
        Self { text: Some(TextForm { usage, words, has_value: true, help }), ..self }
    }
}

/// The most frequent first: lookups go through it from the start.
#[rustfmt::skip]
static TABLE: &[Verb] = &[
    row("GET", 2, "readonly fast", ONE_KEY, "1.0.0", "string", parse::string::get, "The value of a key.")
        .text("GET <key>", 1, "the value of a key"),
    row("SET", -3, "write denyoom", ONE_KEY, "1.0.0", "string", parse::string::set, "Gives a key a value, on conditions and for a time if wanted.")
        .text_with_value("SET <key> <value>", 1, "gives a key a value: the rest of the line"),
    row("MGET", -2, "readonly fast", ALL_KEYS, "1.0.0", "string", parse::string::mget, "The values of several keys.")
        .with_tips("request_policy:multi_shard"),
    row("MSET", -3, "write denyoom", PAIRS, "1.0.1", "string", parse::string::mset, "Gives several keys values, each of them atomically.")
        .with_tips("request_policy:multi_shard response_policy:all_succeeded"),
    row("DEL", -2, "write", ALL_KEYS, "1.0.0", "generic", parse::key::del, "Deletes keys and says how many there were.")
        .with_tips("request_policy:multi_shard response_policy:agg_sum"),
    row("INCR", 2, "write denyoom fast", ONE_KEY, "1.0.0", "string", parse::string::incr, "Adds one to the whole number that a key is.")
        .text("INCR <key>", 1, "adds one to the number that a key is"),
    row("SETEX", 4, "write denyoom", ONE_KEY, "2.0.0", "string", parse::string::setex, "Gives a key a value for some seconds.")
        .text_with_value("SETEX <key> <seconds> <value>", 2, "gives a key a value for so long"),
    row("EXPIRE", -3, "write fast", ONE_KEY, "1.0.0", "generic", parse::key::expire, "Lets a key expire in some seconds.")
        .text("EXPIRE <key> <seconds>", 2, "lets a key expire in so long"),
    row("TTL", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", parse::key::ttl, "How many seconds a key has left.")
        .text("TTL <key>", 1, "how many seconds a key has left"),
    row("EXISTS", -2, "readonly fast", ALL_KEYS, "1.0.0", "generic", parse::key::exists, "How many of the keys are there.")
        .with_tips("request_policy:multi_shard response_policy:agg_sum"),
    row("SETNX", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", parse::string::setnx, "Gives a key a value if it has none."),
    row("PSETEX", 4, "write denyoom", ONE_KEY, "2.6.0", "string", parse::string::psetex, "Gives a key a value for some milliseconds."),
    row("GETSET", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", parse::string::getset, "Gives a key a value and answers with the one before."),
    row("GETDEL", 2, "write fast", ONE_KEY, "6.2.0", "string", parse::string::getdel, "The value of a key, which is deleted."),
    row("GETEX", -2, "write fast", ONE_KEY, "6.2.0", "string", parse::string::getex, "The value of a key, and when it expires from now on."),
    row("MSETNX", -3, "write denyoom", PAIRS, "1.0.1", "string", parse::string::msetnx, "Gives keys of one slot values if none of them has one."),
    row("DECR", 2, "write denyoom fast", ONE_KEY, "1.0.0", "string", parse::string::decr, "Subtracts one from the whole number that a key is."),
    row("INCRBY", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", parse::string::incrby, "Adds to the whole number that a key is."),
    row("DECRBY", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", parse::string::decrby, "Subtracts from the whole number that a key is."),
    row("INCRBYFLOAT", 3, "write denyoom fast", ONE_KEY, "2.6.0", "string", parse::string::incrbyfloat, "Adds to the decimal number that a key is."),
    row("APPEND", 3, "write denyoom fast", ONE_KEY, "2.0.0", "string", parse::string::append, "Adds bytes to the end of a value."),
    row("STRLEN", 2, "readonly fast", ONE_KEY, "2.2.0", "string", parse::string::strlen, "How long a value is."),
    row("GETRANGE", 4, "readonly", ONE_KEY, "2.4.0", "string", parse::string::getrange, "A part of a value."),
    row("SUBSTR", 4, "readonly", ONE_KEY, "1.0.0", "string", parse::string::getrange, "A part of a value: the old name of GETRANGE."),
    row("SETRANGE", 4, "write denyoom", ONE_KEY, "2.2.0", "string", parse::string::setrange, "Overwrites a part of a value."),
    row("UNLINK", -2, "write fast", ALL_KEYS, "4.0.0", "generic", parse::key::del, "Deletes keys: the same as DEL.")
        .with_tips("request_policy:multi_shard response_policy:agg_sum"),
    row("TOUCH", -2, "readonly fast", ALL_KEYS, "3.2.1", "generic", parse::key::touch, "How many of the keys are there; they count as used.")
        .with_tips("request_policy:multi_shard response_policy:agg_sum"),
    row("TYPE", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", parse::key::kind, "The type of a key: string or none."),
    row("PEXPIRE", -3, "write fast", ONE_KEY, "2.6.0", "generic", parse::key::pexpire, "Lets a key expire in some milliseconds."),
    row("EXPIREAT", -3, "write fast", ONE_KEY, "1.2.0", "generic", parse::key::expireat, "Lets a key expire at a second since the epoch."),
    row("PEXPIREAT", -3, "write fast", ONE_KEY, "2.6.0", "generic", parse::key::pexpireat, "Lets a key expire at a millisecond since the epoch."),
    row("PTTL", 2, "readonly fast", ONE_KEY, "2.6.0", "generic", parse::key::pttl, "How many milliseconds a key has left."),
    row("EXPIRETIME", 2, "readonly fast", ONE_KEY, "7.0.0", "generic", parse::key::expiretime, "At which second since the epoch a key expires."),
    row("PEXPIRETIME", 2, "readonly fast", ONE_KEY, "7.0.0", "generic", parse::key::pexpiretime, "At which millisecond since the epoch a key expires."),
    row("PERSIST", 2, "write fast", ONE_KEY, "2.2.0", "generic", parse::key::persist, "Lets a key expire no more."),
    row("RENAME", 3, "write", TWO_KEYS, "1.0.0", "generic", parse::key::rename, "Gives a key of the same slot the value of a key, which is deleted."),
    row("RENAMENX", 3, "write fast", TWO_KEYS, "1.0.0", "generic", parse::key::renamenx, "As RENAME, if the other key is not there."),
    row("OBJECT", -2, "readonly", SECOND, "2.2.3", "generic", parse::key::object, "What a value is like: ENCODING, FREQ, IDLETIME."),
    row("MEMORY", -2, "readonly", SECOND, "4.0.0", "server", parse::key::memory, "MEMORY USAGE: the memory that a key takes, in bytes."),
    row("KEYS", 2, "readonly", NO_KEY, "1.0.0", "generic", parse::key::keys, "All keys of the cluster that match a pattern.")
        .with_tips("request_policy:all_shards nondeterministic_output_order")
        .text("KEYS", 0, "all keys of the cluster"),
    row("SCAN", -2, "readonly", NO_KEY, "2.8.0", "generic", parse::key::scan, "Some keys of the cluster, and where to go on.")
        .with_tips("nondeterministic_output request_policy:special response_policy:special"),
    row("RANDOMKEY", 1, "readonly", NO_KEY, "1.0.0", "generic", parse::key::randomkey, "Any key of the cluster.")
        .with_tips("request_policy:all_shards response_policy:special nondeterministic_output"),
    row("DBSIZE", 1, "readonly fast", NO_KEY, "1.0.0", "server", parse::server::dbsize, "How many keys the cluster has.")
        .with_tips("request_policy:all_shards response_policy:agg_sum"),
    row("FLUSHALL", -1, "write", NO_KEY, "1.0.0", "server", parse::server::flushall, "Deletes all keys of the cluster.")
        .with_tips("request_policy:all_shards response_policy:all_succeeded"),
    row("FLUSHDB", -1, "write", NO_KEY, "1.0.0", "server", parse::server::flushall, "Deletes all keys of the cluster: the same as FLUSHALL.")
        .with_tips("request_policy:all_shards response_policy:all_succeeded"),
    row("PING", -1, "fast", NO_KEY, "1.0.0", "connection", parse::server::ping, "Whether the node answers.")
        .with_tips("request_policy:all_shards response_policy:all_succeeded")
        .text("PING", 0, "whether the node answers"),
    row("ECHO", 2, "fast", NO_KEY, "1.0.0", "connection", parse::server::echo, "Says what it was told."),
    row("HELLO", -1, "loading stale fast", NO_KEY, "6.0.0", "connection", parse::server::hello, "Agrees on the version of the protocol.")
        .text("HELLO <version>", 1, "agrees on RESP: the reply is in it already"),
    row("AUTH", -2, "loading stale fast", NO_KEY, "1.0.0", "connection", parse::server::auth, "Refused: there are no passwords."),
    row("SELECT", 2, "loading stale fast", NO_KEY, "1.0.0", "connection", parse::server::select, "Chooses database 0, the only one."),
    row("QUIT", -1, "loading stale fast", NO_KEY, "1.0.0", "connection", parse::server::exit, "Ends the connection."),
    row("RESET", 1, "loading stale fast", NO_KEY, "6.2.0", "connection", parse::server::reset, "Makes the connection as it was at its start."),
    row("CLIENT", -2, "loading stale", NO_KEY, "2.4.0", "connection", parse::client::client, "About connections: ID, INFO, LIST, GETNAME, SETNAME, SETINFO, KILL, REPLY, NO-EVICT, NO-TOUCH."),
    row("READONLY", 1, "loading stale fast", NO_KEY, "3.0.0", "cluster", parse::cluster::readonly, "Lets the node's copies answer reads of the connection."),
    row("READWRITE", 1, "loading stale fast", NO_KEY, "3.0.0", "cluster", parse::cluster::readwrite, "Lets primaries alone answer, as at the start."),
    row("ASKING", 1, "fast", NO_KEY, "3.0.0", "cluster", parse::server::nothing, "Accepted and without effect: nobody is told to ask elsewhere once."),
    row("CLUSTER", -2, "loading stale", NO_KEY, "3.0.0", "cluster", parse::cluster::cluster, "About slots and nodes: INFO, MYID, NODES, SLOTS, SHARDS, LINKS, KEYSLOT, COUNTKEYSINSLOT, GETKEYSINSLOT, COUNT-FAILURE-REPORTS."),
    row("COMMAND", -1, "loading stale", NO_KEY, "2.8.13", "server", parse::server::command, "This table: COUNT, DOCS, GETKEYS, GETKEYSANDFLAGS, INFO, LIST."),
    row("INFO", -1, "loading stale", NO_KEY, "1.0.0", "server", parse::server::info, "Figures of the node.")
        .with_tips("nondeterministic_output request_policy:all_shards response_policy:special"),
    row("CONFIG", -2, "admin loading stale", NO_KEY, "2.0.0", "server", parse::server::config, "Settings as Redis names them: GET, SET, RESETSTAT."),
    row("TIME", 1, "loading stale fast", NO_KEY, "2.6.0", "server", parse::server::time, "The node's clock: seconds and microseconds."),
    row("WAIT", 3, "noscript", NO_KEY, "3.0.0", "generic", parse::server::wait, "How many replicas have what the connection has written, once there are so many.")
        .with_tips("request_policy:all_shards response_policy:agg_min"),
    row("SLOWLOG", -2, "admin loading stale", NO_KEY, "2.2.12", "server", parse::server::slowlog, "What took long on the node: GET, LEN, RESET.")
        .with_tips("request_policy:all_nodes nondeterministic_output")
        .text("SLOWLOG", 0, "what took long on this node"),
    row("SHUTDOWN", -1, "admin loading stale", NO_KEY, "1.0.0", "server", parse::server::shutdown, "Hands everything over, then ends the node."),
    row("DEBUG", -2, "admin loading stale", NO_KEY, "1.0.0", "server", parse::server::debug, "Refused."),
    row("FUNCTION", -2, "write", NO_KEY, "7.0.0", "scripting", parse::server::function, "FUNCTION FLUSH, which does nothing: there are no functions."),
    row("EVAL", -3, "movablekeys", NO_KEY, "2.6.0", "scripting", parse::script::eval, "Runs a script that is known by its text."),
    row("EVALSHA", -3, "movablekeys", NO_KEY, "2.6.0", "scripting", parse::script::evalsha, "Runs a script that is known by its SHA1."),
    row("EVAL_RO", -3, "readonly movablekeys", NO_KEY, "7.0.0", "scripting", parse::script::eval_ro, "As EVAL, if the script only reads."),
    row("EVALSHA_RO", -3, "readonly movablekeys", NO_KEY, "7.0.0", "scripting", parse::script::evalsha_ro, "As EVALSHA, if the script only reads."),
    row("SCRIPT", -2, "write", NO_KEY, "2.6.0", "scripting", parse::script::script, "SCRIPT LOAD and EXISTS for the scripts that are known, and FLUSH, which keeps them."),
    row("MULTI", 1, "loading stale fast", NO_KEY, "1.2.0", "transactions", parse::server::multi, "Keeps the commands that follow for EXEC."),
    row("EXEC", 1, "loading stale", NO_KEY, "1.2.0", "transactions", parse::server::exec, "Carries out what was kept since MULTI: at once, as far as its keys lie in one partition."),
    row("DISCARD", 1, "loading stale fast", NO_KEY, "2.0.0", "transactions", parse::server::discard, "Forgets what was kept since MULTI."),
    row("WATCH", -2, "loading stale fast", ALL_KEYS, "2.2.0", "transactions", parse::server::watch, "Lets EXEC do nothing if one of the keys changes before it."),
    row("UNWATCH", 1, "loading stale fast", NO_KEY, "2.2.0", "transactions", parse::server::unwatch, "Watches no key any more."),
    row("GETLEASE", -2, "write fast", ONE_KEY, "0.1.0", "cachegopher", parse::lease::getlease, "The value of a key; for one of those that miss it, a lease to set it.")
        .text("GETLEASE <key> <milliseconds> <seconds>", 3, "the value, or for one caller a lease"),
    row("SETLEASE", -4, "write denyoom fast", ONE_KEY, "0.1.0", "cachegopher", parse::lease::setlease, "Gives a key a value, if the lease has not ended.")
        .text_with_value("SETLEASE <key> <token> <seconds> <value>", 3, "sets what was leased"),
    row("DELETE", 2, "write", ONE_KEY, "0.1.0", "cachegopher", parse::key::del, "Deletes a key.")
        .text("DELETE <key>", 1, "deletes a key"),
    row("FLUSH", 1, "write", NO_KEY, "0.1.0", "cachegopher", parse::server::flushall, "Deletes all keys of the cluster.")
        .text("FLUSH", 0, "deletes all keys of the cluster"),
    row("EXIT", 1, "fast", NO_KEY, "0.1.0", "cachegopher", parse::server::exit, "Ends the connection.")
        .text("EXIT", 0, "ends the connection"),
    row("HELP", 1, "fast", NO_KEY, "0.1.0", "cachegopher", parse::server::help, "How to talk to a node with lines of text.")
        .text("HELP", 0, "this list"),
    row("NODES", 1, "readonly", NO_KEY, "0.1.0", "cachegopher", parse::server::nodes, "The nodes of the cluster and what they hold.")
        .text("NODES", 0, "the nodes of the cluster and what they hold"),
    row("RING", 1, "readonly", NO_KEY, "0.1.0", "cachegopher", parse::server::ring, "Which partitions are where.")
        .text("RING", 0, "which partitions are where"),
    row("ACK", 2, "fast", NO_KEY, "0.1.0", "cachegopher", parse::server::ack, "When writes of this connection are acknowledged: ASYNC or REPLICATED.")
        .text("ACK <mode>", 1, "when writes are acknowledged: async or replicated"),
    row("STATS", 1, "readonly", NO_KEY, "0.1.0", "cachegopher", parse::server::stats, "Figures of the node, a line each.")
        .text("STATS", 0, "figures of this node"),
    row("HOTKEYS", -1, "readonly", NO_KEY, "0.1.0", "cachegopher", parse::server::hotkeys, "The keys that are asked for most, and about how often in a second.")
        .text("HOTKEYS", 0, "the keys that are asked for most"),
];

impl Verb {
    /// What a [`Plain`](super::Plain) get is. (No constant: that would not lie in the table, see
    /// [`Verb::index`].)
    pub fn plain_get() -> &'static Self {
        &TABLE[0]
    }

    /// What a [`Plain`](super::Plain) set is.
    pub fn plain_set() -> &'static Self {
        &TABLE[1]
    }

    /// All commands in the order of the table.
    pub fn all() -> impl ExactSizeIterator<Item = &'static Self> {
        TABLE.iter()
    }

    /// The command that this word names, in any case.
    pub fn find(word: &[u8]) -> Option<&'static Self> {
        TABLE.iter().find(|verb| verb.name.as_bytes().eq_ignore_ascii_case(word))
    }

    /// Its name, in capitals.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How many words it takes, its name included; negative: at least so many.
    pub const fn arity(&self) -> i8 {
        self.arity
    }

    /// Its flags, as Redis names them.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.flags.split(' ')
    }

    /// Where its keys are.
    pub const fn keys(&self) -> KeyPositions {
        self.keys
    }

    /// The version of Redis that had it first; for our own commands, of this software.
    pub const fn since(&self) -> &'static str {
        self.since
    }

    /// What it belongs to.
    pub const fn group(&self) -> &'static str {
        self.group
    }

    /// What it does, in a sentence.
    pub const fn summary(&self) -> &'static str {
        self.summary
    }

    /// Whom a cluster-aware client is to ask, and what it is to make of the answers, as Redis names it.
    pub fn tips(&self) -> impl Iterator<Item = &'static str> {
        self.tips.split_terminator(' ')
    }

    /// How it is written in the text protocol, if it is a part of it.
    pub const fn text_form(&self) -> Option<&TextForm> {
        self.text.as_ref()
    }

    /// The keys among the words of a request, its name included.
    pub fn keys_in<'a>(&self, words: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        let at = |position: i8| usize::try_from(position).unwrap_or_default();
        let counted = self.has_counted_keys().then(|| counted_keys(words));
        let KeyPositions { first, step, .. } = self.keys;
        let first = if counted.is_some() { COUNT_AT + 1 } else { at(first) };
        let count = match self.keys {
            KeyPositions { first: 0, .. } => counted.unwrap_or_default(),
            KeyPositions { last, .. } if last < 0 => words.len().saturating_sub(at(-last - 1)),
            KeyPositions { last, .. } => words.len().min(at(last) + 1),
        };
        words[..count].iter().skip(first).step_by(at(step).max(1))
    }

    /// Whether a word says how many keys follow it.
    fn has_counted_keys(&self) -> bool {
        self.flags().any(|flag| flag == "movablekeys")
    }

    /// Whether it takes so many words, its name included.
    pub fn takes(&self, words: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= arity } else { words == arity }
    }

    /// The refusal of this command with too few or too many words.
    pub fn word_count(&self) -> Refusal {
        Invalid::WordCount { command: self.name.to_ascii_lowercase() }.into()
    }

    /// Its place in the table: figures about commands are kept by it.
    pub fn index(&'static self) -> usize {
        (std::ptr::from_ref(self).addr() - TABLE.as_ptr().addr()) / size_of::<Self>()
    }

    /// The command that these words make it, its name the first of them.
    ///
    /// # Errors
    ///
    /// There are too few or too many, or they are none of this command.
    pub fn parse_words(
        &'static self,
        words: &[Bytes],
        now: Timestamp,
        entry_bytes_max: usize,
    ) -> Result<Command, Refusal> {
        match words.get(1..) {
            Some(arguments) if self.takes(words.len()) => self.parse(arguments, now, entry_bytes_max),
            Some(_) | None => Err(self.word_count()),
        }
    }

    /// The command that these arguments make it. Their number is checked where it depends on others.
    ///
    /// # Errors
    ///
    /// The arguments are none of this command.
    pub fn parse(
        &'static self,
        arguments: &[Bytes],
        now: Timestamp,
        entry_bytes_max: usize,
    ) -> Result<Command, Refusal> {
        (self.parse)(&mut Words::new(self, arguments, now, entry_bytes_max))
    }
}

/// Where commands whose keys are counted have their count: behind the script.
const COUNT_AT: usize = 2;

/// Where the counted keys of a request end; zero: there are none.
fn counted_keys(words: &[Bytes]) -> usize {
    let count = words.get(COUNT_AT).and_then(|count| parse_integer(count));
    let end = count.and_then(|count| usize::try_from(count).ok()?.checked_add(COUNT_AT + 1));
    end.filter(|end| *end <= words.len()).unwrap_or_default()
}

impl PartialEq for Verb {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Verb {}

impl fmt::Debug for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What HELP answers: a line per command of the text protocol.
pub fn help_lines() -> Vec<String> {
    let forms = || TABLE.iter().filter_map(Verb::text_form);
    let width = forms().map(|form| form.usage.len()).max().unwrap_or_default();
    forms().map(|form| format!("{:width$}  {}", form.usage, form.help)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_commands_are_those_of_the_table() {
        for (verb, name) in [(Verb::plain_get(), "GET"), (Verb::plain_set(), "SET")] {
            assert_eq!(verb.name(), name);
            assert_eq!(Verb::all().nth(verb.index()), Some(verb));
        }
    }

    #[test]
    fn every_command_is_found_by_its_name_in_any_case_and_is_there_once() {
        for (index, verb) in Verb::all().enumerate() {
            assert_eq!(verb.index(), index);
            assert_eq!(Verb::find(verb.name().as_bytes()), Some(verb));
            assert_eq!(Verb::find(verb.name().to_lowercase().as_bytes()), Some(verb));
            assert_eq!(Verb::all().filter(|other| other.name == verb.name).count(), 1, "{verb:?}");
        }
        assert_eq!(Verb::find(b""), None);
        assert_eq!(Verb::find(b"GETS"), None);
    }

    #[test]
    fn a_form_of_the_text_protocol_is_as_its_usage_says() {
        for verb in Verb::all() {
            let Some(form) = verb.text_form() else { continue };
            let mut words = form.usage.split(' ');
            assert_eq!(words.next(), Some(verb.name));
            assert_eq!(words.clone().count(), form.words + usize::from(form.has_value));
            assert_eq!(words.next_back() == Some("<value>"), form.has_value);
        }
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let keys = |words: &[&'static str]| -> Vec<Bytes> {
            let words: Vec<Bytes> = words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect();
            Verb::find(&words[0]).unwrap().keys_in(&words).cloned().collect()
        };
        assert_eq!(keys(&["GET", "a"]), ["a"]);
        assert_eq!(keys(&["MGET", "a", "b", "c"]), ["a", "b", "c"]);
        assert_eq!(keys(&["MSET", "a", "1", "b", "2"]), ["a", "b"]);
        assert_eq!(keys(&["RENAME", "a", "b"]), ["a", "b"]);
        assert_eq!(keys(&["OBJECT", "ENCODING", "a"]), ["a"]);
        assert_eq!(keys(&["EVAL", "text", "2", "a", "b", "c"]), ["a", "b"]);
        assert!(keys(&["EVALSHA", "name", "2", "a"]).is_empty());
        assert!(keys(&["EVAL", "text", "-1", "a"]).is_empty());
        assert!(keys(&["PING", "a"]).is_empty());
        assert!(keys(&["GET"]).is_empty());
    }
}
