//! Commands that one shard carries out: those about a single key, or keys of one partition.

use bincode::Decode;
use bincode::Encode;
use bytes::Bytes;

use crate::command::ScriptCall;
use crate::command::Together;
use crate::store::Blob;
use crate::time::Timestamp;

/// A key and what is to be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyCommand {
    /// The key. It decides which node carries the command out.
    pub key: Blob,
    /// What is to be done.
    pub op: Op,
}

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
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
    /// Adds to the decimal number that its value is: this one, in decimals.
    AddFloat(Blob),
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
    /// What it is now, in bytes that differ after any change: see [`Together::unchanged`].
    Mark,
    /// Several commands at once; the key is that of any of them.
    Together(Together),
    /// A known script, of which it is the first key.
    Script(ScriptCall),
    /// Its value, and a lease of it for one caller if there is none, or only one that is stale.
    GetLease {
        /// A value is stale that expires within so many milliseconds.
        stale_millis: u64,
    },
    /// Gives it a value, if the lease has not ended.
    SetLease(SetLease),
    /// About how often it was used lately, from 0 to 15.
    Frequency,
    /// Since when it was not written, in seconds.
    IdleTime,
    /// Reads it, and that does not count as a use.
    Aside(Aside),
}

/// What [`Op::Aside`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Aside {
    /// Its value.
    Get,
    /// How long its value is.
    Length,
    /// A part of its value, as by [`Op::Range`].
    Range {
        /// The first byte.
        start: i64,
        /// The last byte.
        end: i64,
    },
}

/// The arguments of [`Op::Set`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
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

/// The arguments of [`Op::SetLease`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetLease {
    /// The token of the lease.
    pub token: u64,
    /// The value.
    pub value: Blob,
    /// When it expires.
    pub expiry: Expiry,
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
    /// If the key expires, and it would be earlier.
    IfSomeAndLess,
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

    /// The same command, as one that does not count as a use of the key where it is a read that would. (TOUCH
    /// is for nothing else.)
    pub fn aside(self) -> Self {
        let op = match self.op {
            Op::Get => Op::Aside(Aside::Get),
            Op::Length => Op::Aside(Aside::Length),
            Op::Range { start, end } => Op::Aside(Aside::Range { start, end }),
            Op::Together(together) => Op::Together(together.aside()),
            other => other,
        };
        Self { op, ..self }
    }

    /// Whether the reply may be as long as a value. Others are short.
    pub fn answers_value(&self) -> bool {
        match &self.op {
            Op::Get
            | Op::Range { .. }
            | Op::Take
            | Op::GetExpire(_)
            | Op::GetLease { .. }
            | Op::Aside(Aside::Get | Aside::Range { .. })
            | Op::Together(_) => true,
            Op::Set(set) => set.answer == SetAnswer::Former,
            Op::Script(call) => call.script.answers_value(),
            Op::Delete
            | Op::Exists
            | Op::Touch
            | Op::Type
            | Op::Expire { .. }
            | Op::TimeToLive(_)
            | Op::Persist
            | Op::Add(_)
            | Op::AddFloat(_)
            | Op::Append(_)
            | Op::Length
            | Op::SetRange { .. }
            | Op::Rename { .. }
            | Op::SetAllIfAbsent { .. }
            | Op::MemoryUsage
            | Op::Encoding
            | Op::Frequency
            | Op::IdleTime
            | Op::Aside(Aside::Length)
            | Op::SetLease(_)
            | Op::Mark => false,
        }
    }

    /// How many of its replies may be as long as a value.
    pub fn values_answered(&self) -> usize {
        match &self.op {
            Op::Together(together) => {
                together.commands.iter().filter(|command| command.answers_value()).count()
            }
            _ => usize::from(self.answers_value()),
        }
    }

    /// Whether it changes nothing, so that a copy may answer it.
    pub fn is_read(&self) -> bool {
        match &self.op {
            Op::Get
            | Op::Exists
            | Op::Touch
            | Op::Type
            | Op::TimeToLive(_)
            | Op::Length
            | Op::Range { .. }
            | Op::MemoryUsage
            | Op::Encoding
            | Op::Frequency
            | Op::IdleTime
            | Op::Aside(_) => true,
            Op::Set(_)
            | Op::Delete
            | Op::Expire { .. }
            | Op::Persist
            | Op::Add(_)
            | Op::AddFloat(_)
            | Op::Append(_)
            | Op::SetRange { .. }
            | Op::Take
            | Op::GetExpire(_)
            | Op::Rename { .. }
            | Op::SetAllIfAbsent { .. }
            // Leases and what a key is count where it is written.
            | Op::GetLease { .. }
            | Op::SetLease(_)
            | Op::Mark
            | Op::Together(_)
            | Op::Script(_) => false,
        }
    }

    /// The bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let of_op = match &self.op {
            Op::Set(set) => set.value.0.len(),
            Op::SetLease(set) => set.value.0.len(),
            Op::Append(bytes) | Op::SetRange { bytes, .. } => bytes.0.len(),
            Op::Rename { to, .. } => to.0.len(),
            Op::SetAllIfAbsent { value, others } => {
                others.iter().map(|(key, value)| key.0.len() + value.0.len()).sum::<usize>() + value.0.len()
            }
            Op::Get
            | Op::Delete
            | Op::Exists
            | Op::Touch
            | Op::Type
            | Op::Expire { .. }
            | Op::TimeToLive(_)
            | Op::Persist
            | Op::Add(_)
            | Op::AddFloat(_)
            | Op::Length
            | Op::Range { .. }
            | Op::Take
            | Op::GetExpire(_)
            | Op::MemoryUsage
            | Op::Encoding
            | Op::Frequency
            | Op::IdleTime
            | Op::Aside(_)
            | Op::GetLease { .. }
            | Op::Mark => 0,
            Op::Together(together) => together.bytes(),
            Op::Script(call) => call.keys.iter().chain(&call.arguments).map(|word| word.0.len()).sum(),
        };
        self.key.0.len() + of_op
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
            | Op::GetExpire(Expiry::Keep)
            | Op::MemoryUsage
            | Op::Encoding
            | Op::Frequency
            | Op::IdleTime
            | Op::Aside(_)
            // A lease whose token is lost ends by itself.
            | Op::GetLease { .. }
            | Op::Mark => true,
            Op::Together(together) => together.is_idempotent(),
            Op::Script(call) => call.script.is_idempotent(),
            Op::Set(set) => match (set.condition, set.answer) {
                (SetCondition::Always, SetAnswer::Done) => true,
                (SetCondition::Always | SetCondition::IfAbsent | SetCondition::IfPresent, _) => false,
            },
            Op::Expire { condition, .. } => *condition == ExpireCondition::Always,
            Op::Add(_)
            | Op::AddFloat(_)
            | Op::Append(_)
            | Op::Take
            | Op::GetExpire(Expiry::Never | Expiry::At(_))
            | Op::Rename { .. }
            | Op::SetLease(_)
            | Op::SetAllIfAbsent { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bincode::config::standard;
    use proptest::prelude::*;

    use super::*;

    fn blob(bytes: &'static [u8]) -> Blob {
        Blob(Bytes::from_static(bytes))
    }

    fn ops() -> Vec<Op> {
        let set = Set {
            value: blob(b"v"),
            expiry: Expiry::At(Timestamp::from_millis(7)),
            condition: SetCondition::IfPresent,
            answer: SetAnswer::Former,
        };
        vec![
            Op::Get,
            Op::Set(set),
            Op::Delete,
            Op::Exists,
            Op::Touch,
            Op::Type,
            Op::Expire { at: Timestamp::from_millis(9), condition: ExpireCondition::IfSomeAndLess },
            Op::TimeToLive(TimeFormat::EpochMillis),
            Op::Persist,
            Op::Add(-5),
            Op::AddFloat(blob(b"0.5")),
            Op::Append(blob(b"a")),
            Op::Length,
            Op::Range { start: -1, end: i64::MAX },
            Op::SetRange { offset: u32::MAX, bytes: blob(b"\0\xFF") },
            Op::Take,
            Op::GetExpire(Expiry::Never),
            Op::Rename { to: blob(b""), if_absent: true },
            Op::SetAllIfAbsent { value: blob(b"1"), others: vec![(blob(b"k2"), blob(b"2"))] },
            Op::MemoryUsage,
            Op::Encoding,
            Op::Mark,
            Op::Frequency,
            Op::IdleTime,
            Op::Aside(Aside::Get),
            Op::Aside(Aside::Range { start: 0, end: -1 }),
        ]
    }

    #[test]
    fn every_command_arrives_as_sent_and_cut_short_is_refused() {
        for op in ops() {
            let sent = KeyCommand::new(Bytes::from_static(b"k\xFF\0"), op);
            let wire = bincode::encode_to_vec(&sent, standard()).unwrap();
            let (got, used) = bincode::decode_from_slice::<KeyCommand, _>(&wire, standard()).unwrap();
            assert_eq!((got, used), (sent, wire.len()));
            let cut = &wire[..wire.len() - 1];
            assert!(bincode::decode_from_slice::<KeyCommand, _>(cut, standard()).is_err());
        }
    }

    #[test]
    fn a_corrupt_length_is_an_error_and_not_an_allocation() {
        let mut wire = bincode::encode_to_vec(u64::MAX / 2, standard()).unwrap();
        wire.extend_from_slice(b"only this");
        assert!(bincode::decode_from_slice::<KeyCommand, _>(&wire, standard()).is_err());
        // bincode asks for the memory of a list at once: only the limit of a frame bounds it.
        let others = (b"k".to_vec(), 18u32, b"v".to_vec(), u64::MAX / 2);
        let wire = bincode::encode_to_vec(others, standard()).unwrap();
        let config = standard().with_limit::<1024>();
        assert!(bincode::decode_from_slice::<KeyCommand, _>(&wire, config).is_err());
    }

    #[test]
    fn what_answers_with_the_state_before_is_never_repeated() {
        let is_idempotent = |op| KeyCommand::new(Bytes::new(), op).is_idempotent();
        assert!(KeyCommand::set(Bytes::new(), Bytes::new()).is_idempotent());
        let repeated: Vec<bool> = ops().into_iter().map(is_idempotent).collect();
        let counted = repeated.iter().filter(|is_repeated| **is_repeated).count();
        assert_eq!(counted, 17);
        assert!(is_idempotent(Op::GetExpire(Expiry::Keep)));
        assert!(!is_idempotent(Op::Add(1)) && !is_idempotent(Op::Take));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(wire in proptest::collection::vec(any::<u8>(), 0..60)) {
            // Only the absence of a panic is of interest here.
            let config = standard().with_limit::<1024>();
            let _ = bincode::decode_from_slice::<KeyCommand, _>(&wire, config);
        }
    }
}
