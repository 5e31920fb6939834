//! Commands that one shard carries out: those about a single key, or keys of one partition.

use bincode::Decode;
use bincode::Encode;
use bytes::Bytes;

use crate::store::Blob;
use crate::time::Timestamp;

/// A key and what is to be done with it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct KeyCommand {
    /// The key. It decides which node carries the command out.
    pub key: Blob,
    /// What is to be done.
    pub op: Op,
}

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Op {
    /// Its value.
    Get,
    /// Gives it a value.
    Set(Set),
    /// Deletes it, and says how many keys that were.
    Delete,
    /// Whether it is there, as a number.
    Exists,
    /// As [`Op::Exists`], and it counts as used.
    Touch,
    /// The type of its value.
    Type,
    /// When it expires from now on.
    Expire {
        /// The time.
        at: Timestamp,
        /// Only if.
        condition: ExpireCondition,
    },
    /// How long it still is there, or until when.
    TimeToLive(TimeFormat),
    /// It does not expire any more.
    Persist,
    /// Adds to the number that its value is.
    Add(i64),
    /// Adds to the decimal number that its value is.
    AddFloat(f64),
    /// Adds to the end of its value.
    Append(Blob),
    /// How long its value is.
    Length,
    /// A part of its value; negative positions count from the end.
    Range {
        /// The first byte.
        start: i64,
        /// The last byte.
        end: i64,
    },
    /// Overwrites a part of its value.
    SetRange {
        /// From here on.
        offset: u32,
        /// With this.
        bytes: Blob,
    },
    /// Its value, and deletes it.
    Take,
    /// Its value, and when it expires from now on.
    GetExpire(Expiry),
    /// Gives another key of the partition its value, and deletes it.
    Rename {
        /// The other key.
        to: Blob,
        /// Only if the other key is not there.
        if_absent: bool,
    },
    /// Gives it and other keys of the partition values, if none of them is there.
    SetAllIfAbsent {
        /// Its value.
        value: Blob,
        /// The others and their values.
        others: Vec<(Blob, Blob)>,
    },
    /// The memory that it takes, in bytes.
    MemoryUsage,
    /// How its value is stored, as Redis names it.
    Encoding,
}

/// The arguments of [`Op::Set`].
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Set {
    /// The value.
    pub value: Blob,
    /// When it expires.
    pub expiry: Expiry,
    /// Only if.
    pub condition: SetCondition,
    /// What to answer.
    pub answer: SetAnswer,
}

/// When a key expires from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Expiry {
    /// As before.
    Keep,
    /// Never.
    Never,
    /// Then.
    At(Timestamp),
}

/// When a key is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SetCondition {
    /// In any case.
    Always,
    /// If it is not there.
    IfAbsent,
    /// If it is there.
    IfPresent,
}

/// What a set answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SetAnswer {
    /// That it is done, or nothing.
    Done,
    /// The value before.
    Former,
    /// Whether it is done, as a number.
    Number,
}

/// When an expiry is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ExpireCondition {
    /// In any case.
    Always,
    /// If the key does not expire.
    IfNone,
    /// If the key expires.
    IfSome,
    /// If it would be later.
    IfGreater,
    /// If it would be earlier.
    IfLess,
}

/// How a time is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TimeFormat {
    /// Seconds from now, rounded.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Seconds since the Unix epoch.
    EpochSeconds,
    /// Milliseconds since the Unix epoch.
    EpochMillis,
}

impl KeyCommand {
    /// Does this with that key.
    pub fn new(key: Bytes, op: Op) -> Self {
        Self { key: Blob(key), op }
    }

    /// Gives a key a value, as plainly as possible.
    pub fn set(key: Bytes, value: Bytes) -> Self {
        let (expiry, condition, answer) = (Expiry::Never, SetCondition::Always, SetAnswer::Done);
        Self::new(key, Op::Set(Set { value: Blob(value), expiry, condition, answer }))
    }

    /// Whether running it twice leaves the same data behind as running it once, so that it may be
    /// repeated when nobody knows whether it has run. (The reply may differ: a repeated deletion
    /// finds nothing to delete.) What answers with the value before, or depends on there being none,
    /// is not: its second answer would deny what the first did.
    pub fn is_idempotent(&self) -> bool {
        match &self.op {
            Op::Get
            | Op::Delete
            | Op::Exists
            | Op::Touch
            | Op::Type
            | Op::TimeToLive(_)
            | Op::Persist
            | Op::Length
            | Op::Range { .. }
            | Op::SetRange { .. }
            | Op::GetExpire(_)
            | Op::MemoryUsage
            | Op::Encoding => true,
            Op::Set(set) => match (set.condition, set.answer) {
                (SetCondition::Always, SetAnswer::Done) => true,
                (SetCondition::Always | SetCondition::IfAbsent | SetCondition::IfPresent, _) => false,
            },
            Op::Expire { condition, .. } => *condition == ExpireCondition::Always,
            Op::Add(_)
            | Op::AddFloat(_)
            | Op::Append(_)
            | Op::Take
            | Op::Rename { .. }
            | Op::SetAllIfAbsent { .. } => false,
        }
    }
}
