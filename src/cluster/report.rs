//! What a node says about itself to another that draws the whole cluster: its figures and what has
//! happened to it. It is for people: no decision is made by it.

use bincode::Decode;
use bincode::Encode;

use crate::command::printable;
use crate::store::Blob;
use crate::time::Timestamp;

/// Happenings that a node remembers, and tells at most.
pub const HAPPENINGS_MAX: usize = 256;
/// Hot keys that a node tells others.
pub const HOT_KEYS_TOLD: usize = 128;
/// Slow commands that a node tells others.
pub const SLOW_COMMANDS_TOLD: usize = 16;

/// What a node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Its figures: the lines of STATS.
    pub figures: Vec<String>,
    /// What has happened to it that the asking node has not heard of, the latest last.
    pub happenings: Vec<Happening>,
    /// The keys that its clients ask for most, the most frequent first.
    pub hot_keys: Vec<HotKey>,
    /// Its latest slow commands, the last one first.
    pub slow: Vec<SlowCommand>,
}

/// A key that is asked for often.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HotKey {
    /// The key.
    pub key: Blob,
    /// About how often in a second.
    pub per_second: u64,
}

/// Commands that were carried out together and took long.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SlowCommand {
    /// Never given twice by one process.
    pub id: u64,
    /// When they were done, in seconds since 1970.
    pub at_secs: u64,
    /// How long they took, in microseconds.
    pub took_micros: u64,
    /// The name of the first, its key, and how many more there were.
    pub words: Vec<Blob>,
    /// From where they came.
    pub client: String,
    /// What the client calls itself.
    pub name: Blob,
}

impl SlowCommand {
    /// Its words as a line for people.
    pub fn text(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| printable(&word.0)).collect();
        words.join(" ")
    }
}

/// Something that a node has seen happen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Happening {
    /// Counts within the node's process.
    pub number: u64,
    /// When, by the node's own clock.
    pub at: Timestamp,
    /// What.
    pub kind: Kind,
    /// The other node that it is about, if it is about one.
    pub member: Option<String>,
    /// How many partitions it is about.
    pub partitions: u32,
    /// For a promotion: milliseconds since the former primary was lost, or last heard from.
    pub took_ms: Option<u64>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Kind {
    /// The node has started.
    Started,
    /// A member has joined.
    Joined,
    /// A member is suspected.
    Suspected,
    /// A suspected member lives.
    Refuted,
    /// A member is dead.
    Dead,
    /// A member has left.
    Left,
    /// The node was held for dead, and lives on in a new life.
    Rejoined,
    /// The process stood still.
    Stalled,
    /// The node serves partitions of a lost member.
    Promoted,
    /// The node serves partitions that nobody ever had.
    Claimed,
    /// The node serves partitions of which no copy was left.
    Lost,
    /// The node has full copies from a member.
    Synced,
    /// A member handed partitions over to the node.
    MovedHere,
    /// The node handed partitions over to a member.
    MovedAway,
    /// A member did not confirm a hand-over.
    TakenBack,
    /// Copies that nobody wants were dropped.
    Dropped,
    /// A member is taken out for good.
    Removed,
    /// The node was apart from the others for too long, and has started without what it had.
    Emptied,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 18] = [
        Kind::Started,
        Kind::Joined,
        Kind::Suspected,
        Kind::Refuted,
        Kind::Dead,
        Kind::Left,
        Kind::Rejoined,
        Kind::Stalled,
        Kind::Promoted,
        Kind::Claimed,
        Kind::Lost,
        Kind::Synced,
        Kind::MovedHere,
        Kind::MovedAway,
        Kind::TakenBack,
        Kind::Dropped,
        Kind::Removed,
        Kind::Emptied,
    ];

    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Started => "started",
            Kind::Joined => "joined",
            Kind::Suspected => "suspect",
            Kind::Refuted => "refuted",
            Kind::Dead => "dead",
            Kind::Left => "left",
            Kind::Rejoined => "rejoined",
            Kind::Stalled => "stalled",
            Kind::Promoted => "promoted",
            Kind::Claimed => "claimed",
            Kind::Lost => "lost",
            Kind::Synced => "synced",
            Kind::MovedHere => "moved-here",
            Kind::MovedAway => "moved-away",
            Kind::TakenBack => "taken-back",
            Kind::Dropped => "dropped",
            Kind::Removed => "removed",
            Kind::Emptied => "emptied",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_happening_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
