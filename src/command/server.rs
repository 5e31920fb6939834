//! What a client asks of its connection or of the node, rather than of keys.

use bytes::Bytes;

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
    Settings {
        /// Those that match one of these.
        patterns: Vec<Bytes>,
    },
    /// The node's clock.
    Time,
    /// Which scripts are known.
    Scripts {
        /// In the order asked for.
        known: Vec<bool>,
    },
    /// Whether this node's copies may answer reads of the connection.
    ReadCopies(bool),
}

/// The arguments of HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Whether to speak the newer version; none: as before.
    pub is_resp3: Option<bool>,
    /// What the connection is called from now on.
    pub name: Option<Bytes>,
}

/// About connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// The number of this one.
    Id,
    /// What is known of this one.
    Info,
    /// What is known of this one, as of a list.
    List,
    /// What this one is called.
    Name,
    /// What to call this one.
    SetName(Bytes),
    /// The library that uses this one.
    SetLibrary(Bytes),
    /// The version of that library.
    SetLibraryVersion(Bytes),
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
    Names,
    /// What these do; none named: all of them.
    Documentation(Vec<String>),
    /// The keys among the words of a request.
    Keys(Vec<Bytes>),
}
