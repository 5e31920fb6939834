//! The requests that are by far the most frequent.

use bytes::Bytes;

use crate::command::KeyCommand;
use crate::command::Op;
use crate::command::Verb;

/// A request as it lies in the bytes that a client has sent. Nothing of it is copied before a shard has
/// it; it becomes a [`KeyCommand`] where it has to wait or to travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain<'a> {
    /// The value of a key.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// Gives a key a value, without conditions and for good.
    Set {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
}

impl Plain<'_> {
    /// The command that it is.
    pub fn verb(&self) -> &'static Verb {
        match self {
            Plain::Get { .. } => Verb::plain_get(),
            Plain::Set { .. } => Verb::plain_set(),
        }
    }

    /// The key.
    pub const fn key(&self) -> &[u8] {
        match self {
            Plain::Get { key } | Plain::Set { key, .. } => key,
        }
    }

    /// Whether it changes something.
    pub const fn is_write(&self) -> bool {
        match self {
            Plain::Get { .. } => false,
            Plain::Set { .. } => true,
        }
    }

    /// The same request free of the bytes that it lies in.
    pub fn to_command(&self) -> KeyCommand {
        match self {
            Plain::Get { key } => KeyCommand::new(Bytes::copy_from_slice(key), Op::Get),
            Plain::Set { key, value } => {
                KeyCommand::set(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
            }
        }
    }

    /// The bytes of the key and the value.
    pub const fn bytes(&self) -> usize {
        match self {
            Plain::Get { key } => key.len(),
            Plain::Set { key, value } => key.len() + value.len(),
        }
    }
}
