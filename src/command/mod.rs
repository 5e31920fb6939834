//! What a client can ask and what it is answered, whatever the protocol.
//!
//! A request is words. [`parse`] makes a [`Command`] of them, by the one table of [`Verb`]s. Commands
//! about keys are carried out by the shards of the keys' partitions ([`execute`]); those about
//! several keys are cut into [`KeyCommand`]s and their replies gathered; the rest is the node's.

mod ack;
pub mod client;
mod cluster;
mod codec;
mod describe;
mod execute;
mod glob;
mod help;
mod key;
mod lease;
mod many;
mod parse;
mod plain;
mod refusal;
mod reply;
mod script;
pub mod server;
mod tenure;
mod together;
mod transaction;
mod verb;

use std::time::Duration;

use bytes::Bytes;

pub use ack::Ack;
pub use cluster::Cluster;
pub use codec::Codec;
pub use describe::describe;
pub use execute::Executed;
pub use execute::execute;
pub use execute::set_plainly;
pub use glob::matches;
pub use key::Aside;
pub use key::ExpireCondition;
pub use key::Expiry;
pub use key::KeyCommand;
pub use key::Op;
pub use key::Set;
pub use key::SetAnswer;
pub use key::SetCondition;
pub use key::SetLease;
pub use key::TimeFormat;
pub use many::Gather;
pub use many::Many;
pub use parse::parse;
pub use parse::parse_integer;
pub use parse::printable;
pub use parse::verb_of;
pub use plain::Plain;
pub use refusal::Invalid;
pub use refusal::Refusal;
pub use reply::Reply;
pub use script::Script;
pub use script::ScriptCall;
pub use tenure::Tenure;
pub use together::Together;
pub use transaction::Admitted;
pub use transaction::Mark;
pub use transaction::Plan;
pub use transaction::Planned;
pub use transaction::Step;
pub use transaction::Transaction;
pub use verb::KeyPositions;
pub use verb::TextForm;
pub use verb::Verb;
pub use verb::help_lines;

/// A request of a client, free of its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// For the shard of its key.
    Key(KeyCommand),
    /// For the shards of several keys.
    Many(Many),
    /// For the shard of its key, again and again until the key is not busy.
    AwaitLease {
        /// What to ask.
        command: KeyCommand,
        /// How long.
        wait: Duration,
    },
    /// All keys of the cluster, or those that match a pattern.
    Keys {
        /// The pattern.
        pattern: Option<Bytes>,
    },
    /// Some keys of the cluster, and where to go on.
    Scan {
        /// Where to go on; zero: the beginning.
        cursor: u64,
        /// Only those that match.
        pattern: Option<Bytes>,
        /// About how many to look at.
        count: usize,
        /// Only keys of this type: there is but one.
        is_none_of: bool,
    },
    /// How many keys the cluster has.
    Size,
    /// Any key of the cluster.
    RandomKey,
    /// Deletes all keys of the cluster.
    Flush,
    /// About the connection or the node.
    Server(server::Server),
    /// What follows is kept for EXEC.
    Multi,
    /// Carries out what was kept.
    Exec,
    /// Forgets what was kept.
    Discard,
    /// EXEC does nothing if one of these keys changes before it.
    Watch {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Keys may change again.
    Unwatch,
    /// About the cluster's slots and nodes.
    Cluster(Cluster),
    /// Accepted and without effect.
    Nothing,
    /// Whether the node answers; with these words if there are any.
    Ping {
        /// The words.
        message: Option<Bytes>,
    },
    /// Says this.
    Echo {
        /// This.
        message: Bytes,
    },
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
    /// Shows each of the keys that it asks for.
    pub fn each_key(&self, mut show: impl FnMut(&[u8])) {
        match self {
            Self::Key(command) | Self::AwaitLease { command, .. } => show(&command.key.0),
            Self::Many(Many::Set(pairs)) => pairs.iter().for_each(|(key, _)| show(key)),
            Self::Many(Many::Get(keys) | Many::Delete(keys) | Many::Exists(keys) | Many::Touch(keys)) => {
                keys.iter().for_each(|key| show(key));
            }
            Self::Watch { .. }
            | Self::Nothing
            | Self::Ping { .. }
            | Self::Echo { .. }
            | Self::Help
            | Self::Multi
            | Self::Exec
            | Self::Discard
            | Self::Unwatch
            | Self::Keys { .. }
            | Self::Scan { .. }
            | Self::Size
            | Self::RandomKey
            | Self::Flush
            | Self::Cluster(_)
            | Self::Server(_)
            | Self::Exit
            | Self::Nodes
            | Self::Ring
            | Self::Stats => {}
        }
    }
}
