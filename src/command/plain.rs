//! The requests that are by far the most frequent.

/// A request as it lies in the bytes that a client has sent. Nothing of it is copied before a shard has
/// it; whoever cannot carry it out there and then reads it again as a [`crate::command::Command`].
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
    /// The key.
    pub const fn key(&self) -> &[u8] {
        match self {
            Plain::Get { key } | Plain::Set { key, .. } => key,
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
