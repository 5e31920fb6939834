//! A change: the state of one key (never the operation), as it travels between copies.

use bytes::Bytes;

use crate::time::Timestamp;
use crate::time::Version;

/// The state of one key at one version. Applying changes in any order gives the same result:
/// the greater version wins; of equal versions the greater content (see [`Content`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// When, in the order that decides.
    pub version: Version,
    /// What the key is from then on.
    pub content: Content,
}

impl Change {
    /// Bytes of its key and value.
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Deleted => self.key.len(),
            Content::Value { bytes, .. } => self.key.len() + bytes.len(),
        }
    }
}

/// What a key is: a value, or deleted. Ordered so that of two contents with one version the
/// greater is kept: a value is greater than a deletion, then the greater bytes, then the later
/// deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// The key is deleted: a tombstone.
    Deleted,
    /// The key has a value.
    Value {
        /// The value.
        bytes: Bytes,
        /// From when on it is gone; none: never.
        expires_at: Option<Timestamp>,
    },
}
