//! What a client asks of its connection or of the node, rather than of keys.

use std::time::Duration;

use bytes::Bytes;

use crate::command::Ack;
use crate::command::client::Client;

/// About the connection or the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Which protocol to speak from now on.
    Hello(Hello),
    /// The connection is as at its start.
    Reset,
    /// About connections.
    Client(Client),
    /// About commands.
    About(About),
    /// Figures of the node, as Redis names them.
    Info {
        /// Only these sections, in small letters; none: the usual ones.
        sections: Vec<String>,
    },
    /// Settings, as Redis names them.
    Config(Config),
    /// The node hands over and ends.
    Shutdown,
    /// The node's clock.
    Time,
    /// Which scripts are known.
    Scripts {
        /// In the order asked for.
        known: Vec<bool>,
    },
    /// When writes of this connection are acknowledged from now on.
    Ack(Ack),
    /// How many replicas have what this connection has written.
    Wait(Wait),
    /// Whether this node's copies may answer reads of the connection.
    ReadCopies(bool),
    /// About what took long.
    SlowLog(SlowLog),
    /// The keys that are asked for most.
    HotKeys {
        /// No more than so many.
        count: usize,
    },
}

/// The arguments of WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// So many are enough.
    pub replicas: usize,
    /// How long to wait for them; none: for ever.
    pub timeout: Option<Duration>,
    /// Not at all: it is one of the commands of a transaction.
    pub is_at_once: bool,
}

/// About what took long on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowLog {
    /// The latest entries.
    Latest {
        /// No more than so many; none: all of them.
        count: Option<usize>,
    },
    /// How many entries there are.
    Count,
    /// Forgets all entries.
    Clear,
}

/// The arguments of HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Whether to speak the newer version; none: as before.
    pub is_resp3: Option<bool>,
    /// What the connection is called from now on.
    pub name: Option<Bytes>,
}

/// About settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// Those whose names match one of these patterns.
    Get(Vec<Bytes>),
    /// Gives settings, named in small letters, other values: all of them or none.
    Set(Vec<(String, Bytes)>),
    /// Figures are counted from zero again.
    ResetStatistics,
}

/// About commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// All of them.
    All,
    /// These.
    Some(Vec<String>),
    /// How many there are.
    Count,
    /// What they are called.
    Names(NameFilter),
    /// What these do; none named: all of them.
    Documentation(Vec<String>),
    /// The keys among the words of a request.
    Keys(Vec<Bytes>),
    /// As above, and what is done with each.
    KeysAndFlags(Vec<Bytes>),
    /// The parts of a command, for a human reader.
    Parts(&'static str),
}

/// Which commands are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameFilter {
    /// All.
    All,
    /// Those of a module: there are none.
    Module,
    /// Those of a category, such as `read`.
    Category(String),
    /// Those whose name matches.
    Pattern(Bytes),
}
