//! The few scripts that run here: those that caching libraries send unchanged, for locks, counters and
//! rate limits. A script is recognised by the SHA1 of its text, as Redis names it, and is carried out
//! natively by the shard of its keys, at once. There is no interpreter.

mod known;

use bincode::Decode;
use bincode::Encode;

use crate::command::Invalid;
use crate::command::Refusal;
use crate::store::Blob;

/// What a known script does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Script {
    /// Deletes a key if it has this value.
    DeleteIfEqual,
    /// Lets a key expire in so many milliseconds if it has this value.
    ExpireIfEqual,
    /// As before, or adds so many milliseconds to what is left, if the key expires at all.
    Extend,
    /// How many milliseconds a key has left if it has this value.
    TtlIfEqual,
    /// Gives a key another value if it has this one.
    SetIfEqual,
    /// Gives a key a value for so many seconds if it has none.
    SetIfAbsent,
    /// Adds to the number that a key is, if it is there.
    AddIfPresent,
    /// Adds to the number that a key is.
    Add,
    /// Adds to a number, which expires in so many seconds if it is new.
    CountSeconds,
    /// Adds to a number, which expires in so many milliseconds if it is new.
    CountMillis,
    /// Adds to a number, which expires in so many seconds if it is new, and how long it has left.
    CountLimited,
    /// Adds one to a number, which expires in so many milliseconds if it is new or is to begin anew.
    CountReset,
    /// Adds one to a number, which begins at one again when its milliseconds are over.
    CountWindow,
    /// The value of a key and how long it has left.
    ReadWindow,
    /// The counts of the window before and the present one, and how long each has left.
    SlidingWindow,
    /// Adds to the present window's count if both, weighted, are below a limit.
    AcquireSlidingWindow,
    /// Gives keys a value for so many milliseconds if none of them has one.
    Lock,
    /// Deletes those of the keys that have this value.
    Unlock,
    /// Gives keys their value for so many milliseconds again if all of them have it.
    Relock,
}

/// A known script, its further keys and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScriptCall {
    /// Which.
    pub script: Script,
    /// Its keys but for the first, all of one slot with it.
    pub keys: Vec<Blob>,
    /// Its arguments.
    pub arguments: Vec<Blob>,
}

/// The SHA1 of a script's text, as scripts are named: in small hexadecimal digits.
pub fn sha1_of(text: &[u8]) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}

impl Script {
    /// The script that this SHA1 names, in any case.
    pub fn find(sha1: &[u8]) -> Option<Self> {
        known::TABLE.iter().find(|known| known.sha1.as_bytes().eq_ignore_ascii_case(sha1)).map(|k| k.script)
    }

    /// How many keys and arguments it needs. Further arguments are ignored, as a script does.
    const fn needs(self) -> (usize, usize) {
        match self {
            Self::ReadWindow => (1, 0),
            Self::DeleteIfEqual
            | Self::TtlIfEqual
            | Self::AddIfPresent
            | Self::Add
            | Self::CountWindow
            | Self::Unlock => (1, 1),
            Self::ExpireIfEqual
            | Self::SetIfEqual
            | Self::SetIfAbsent
            | Self::CountSeconds
            | Self::CountMillis
            | Self::CountLimited
            | Self::CountReset
            | Self::Lock
            | Self::Relock => (1, 2),
            Self::Extend => (1, 3),
            Self::SlidingWindow => (2, 1),
            Self::AcquireSlidingWindow => (2, 3),
        }
    }

    /// Checks the number of keys and arguments of a call.
    ///
    /// # Errors
    ///
    /// They are too few.
    pub fn check(self, keys: usize, arguments: usize) -> Result<(), Refusal> {
        let (keys_min, arguments_min) = self.needs();
        match keys < keys_min || arguments < arguments_min {
            true => Err(Invalid::ScriptWords { keys: keys_min, arguments: arguments_min }.into()),
            false => Ok(()),
        }
    }

    /// Whether it changes nothing.
    pub const fn is_read_only(self) -> bool {
        matches!(self, Self::TtlIfEqual | Self::ReadWindow)
    }

    /// Whether running it twice leaves the same behind, with the same answer.
    pub const fn is_idempotent(self) -> bool {
        self.is_read_only() || matches!(self, Self::ExpireIfEqual | Self::Relock)
    }

    /// Whether a value may be part of its answer.
    pub const fn answers_value(self) -> bool {
        matches!(self, Self::ReadWindow | Self::SlidingWindow)
    }
}
