//! What a shard shows of its entries: borrowed views, and the cursor of a scan.

use bincode::Decode;
use bincode::Encode;
use bytes::Bytes;

use crate::store::Change;
use crate::store::Content;
use crate::store::Partition;
use crate::store::table::POSITION_BITS;
use crate::time::Timestamp;
use crate::time::Version;

/// An entry or tombstone, borrowed from its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Where it belongs.
    pub partition: Partition,
    /// The key.
    pub key: &'a [u8],
    /// When it was written.
    pub version: Version,
    /// What the key is since then.
    pub content: ItemContent<'a>,
}

/// The borrowed form of [`Content`], in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemContent<'a> {
    /// The key is deleted: a tombstone.
    Deleted,
    /// The key has a value.
    Value {
        /// The value.
        bytes: &'a [u8],
        /// From when on it is gone; none: never.
        expires_at: Option<Timestamp>,
    },
}

impl Item<'_> {
    /// Bytes of its key and value.
    pub fn bytes(&self) -> usize {
        match self.content {
            ItemContent::Deleted => self.key.len(),
            ItemContent::Value { bytes, .. } => self.key.len() + bytes.len(),
        }
    }

    /// A copy that can travel to another node.
    pub fn to_change(&self) -> Change {
        Change {
            key: Bytes::copy_from_slice(self.key),
            version: self.version,
            content: self.content.to_content(),
        }
    }
}

impl<'a> ItemContent<'a> {
    /// A copy that stands for itself.
    pub fn to_content(&self) -> Content {
        match *self {
            Self::Deleted => Content::Deleted,
            Self::Value { bytes, expires_at } => {
                Content::Value { bytes: Bytes::copy_from_slice(bytes), expires_at }
            }
        }
    }

    /// What it is at `now`: a value past its deadline is deleted.
    pub fn at(self, now: Timestamp) -> Self {
        match self {
            Self::Deleted => Self::Deleted,
            Self::Value { expires_at: Some(expires_at), .. } if expires_at <= now => Self::Deleted,
            Self::Value { .. } => self,
        }
    }
}

impl<'a> From<&'a Content> for ItemContent<'a> {
    fn from(content: &'a Content) -> Self {
        match content {
            Content::Deleted => Self::Deleted,
            Content::Value { bytes, expires_at } => Self::Value { bytes, expires_at: *expires_at },
        }
    }
}

/// How far a scan of a shard has come. It may come from a peer: any number is safe, one beyond
/// the end ends the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ScanCursor(pub(super) u32);

impl ScanCursor {
    /// Before everything.
    pub const START: ScanCursor = ScanCursor(0);

    /// Before everything of a partition.
    pub fn at(partition: Partition) -> Self {
        Self(u32::from(partition.number()) << POSITION_BITS)
    }

    /// The partition that comes next; none: it is at the end.
    pub fn partition(self) -> Option<Partition> {
        u16::try_from(self.0 >> POSITION_BITS).ok().and_then(Partition::new)
    }

    /// The cursor with this raw representation.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The raw representation; zero at the start.
    pub const fn as_raw(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrowed_content_orders_as_the_content_it_is_borrowed_from() {
        let value = |bytes: &'static [u8], millis: Option<u64>| Content::Value {
            bytes: Bytes::from_static(bytes),
            expires_at: millis.map(Timestamp::from_millis),
        };
        let contents =
            [Content::Deleted, value(b"", None), value(b"a", None), value(b"a", Some(1)), value(b"b", None)];
        for left in &contents {
            assert_eq!(ItemContent::from(left).to_content(), *left);
            for right in &contents {
                assert_eq!(left.cmp(right), ItemContent::from(left).cmp(&ItemContent::from(right)));
            }
        }
    }

    #[test]
    fn a_value_is_deleted_from_its_deadline_on_and_not_before() {
        let content = ItemContent::Value { bytes: b"v", expires_at: Some(Timestamp::from_millis(10)) };
        assert_eq!(content.at(Timestamp::from_millis(9)), content);
        assert_eq!(content.at(Timestamp::from_millis(10)), ItemContent::Deleted);
    }
}
