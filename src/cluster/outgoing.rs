//! What is to be streamed to other nodes, encoded as it travels as soon as it is made.
//!
//! A shard that is held appends its items to an [`Outgoing`]; from there they are copied to the
//! [`Drafts`] of each node, out of which its sender makes frames. A draft has room for what stands before
//! the items of a frame, so that it becomes one where it lies. The rule kept: an item costs no allocation,
//! and what travels is exactly what [`peer::encode`] would have written.

use bytes::Bytes;

use crate::cluster::membership::NodeId;
use crate::cluster::peer;
use crate::cluster::peer::LENGTH_BYTES;
use crate::cluster::peer::Request;
use crate::cluster::peer::StreamItem;
use crate::store;
use crate::store::PartitionSet;
use crate::time::Version;

/// Bytes of items in one frame of the stream, a run of them or a single longer one apart.
const FRAME_ITEMS_BYTES_MAX: usize = if cfg!(feature = "sim") { 192 } else { 256 * 1024 };
/// Bytes of items for one node that are copied at once, a single longer one apart.
const RUN_BYTES_MAX: usize = if cfg!(feature = "sim") { 64 } else { 8 * 1024 };
/// Room of buffers that are kept to be used again.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// What stands before the items of a frame, at most: its length, which message it is, its number, and how
/// many items there are.
const HEAD_BYTES: usize = LENGTH_BYTES + 1 + 2 * (1 + size_of::<u64>());
/// Room of a new draft.
const DRAFT_BYTES: usize = 256;

/// What is to be streamed, and to whom, in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    runs: Vec<Run>,
    bytes: Vec<u8>,
}

/// Items for one node that follow each other among the bytes.
#[derive(Debug)]
struct Run {
    to: NodeId,
    start: usize,
    end: usize,
    items: u64,
    /// The partitions that they complete, if there are ends of pulls among them.
    pulled: Option<PartitionSet>,
}

/// Some items as they travel.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    bytes: &'a [u8],
    items: u64,
    pulled: Option<&'a PartitionSet>,
}

impl Outgoing {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many bytes travel.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// An item for a node.
    pub fn push(&mut self, to: NodeId, item: &StreamItem) {
        let pulled = match item {
            StreamItem::PullDone { partitions, .. } => Some(partitions.clone()),
            StreamItem::Change(_)
            | StreamItem::Together(_)
            | StreamItem::Flushed { .. }
            | StreamItem::HandOver(_) => None,
        };
        let start = self.bytes.len();
        peer::encode_behind(item, &mut self.bytes);
        self.has_pushed(to, start, pulled);
    }

    /// As [`Outgoing::push`], for a change to a value that does not expire.
    pub fn push_value(&mut self, to: NodeId, key: &[u8], value: &[u8], version: Version) {
        let start = self.bytes.len();
        self.bytes.push(peer::CHANGE_ITEM);
        store::append_value_change(key, version, value, &mut self.bytes);
        self.has_pushed(to, start, None);
    }

    fn has_pushed(&mut self, to: NodeId, start: usize, pulled: Option<PartitionSet>) {
        let end = self.bytes.len();
        if let Some(last) = self.runs.last_mut()
            && last.to == to
            && last.end - last.start < RUN_BYTES_MAX
        {
            (last.end, last.items) = (end, last.items + 1);
            if let Some(pulled) = pulled {
                last.pulled.get_or_insert_default().union_with(&pulled);
            }
            return;
        }
        self.runs.push(Run { to, start, end, items: 1, pulled });
    }

    /// The nodes that get something, each once.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let is_first =
            |(number, run): &(usize, &Run)| self.runs[..*number].iter().all(|before| before.to != run.to);
        self.runs.iter().enumerate().filter(is_first).map(|(_, run)| run.to)
    }

    /// What a node gets, in order.
    pub fn items_for(&self, node: NodeId) -> impl Iterator<Item = Encoded<'_>> + Clone {
        let its = self.runs.iter().filter(move |run| run.to == node);
        its.map(|run| Encoded {
            bytes: &self.bytes[run.start..run.end],
            items: run.items,
            pulled: run.pulled.as_ref(),
        })
    }

    /// Forgets all, and keeps the room unless it is large.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            *self = Self::new();
        }
    }
}

impl Encoded<'_> {
    /// How many bytes travel.
    pub const fn byte_count(&self) -> usize {
        self.bytes.len()
    }
}

/// What waits to become frames of one node's stream.
#[derive(Debug, Default)]
pub struct Drafts {
    drafts: Vec<Draft>,
    pulled: Option<PartitionSet>,
}

/// A frame that has no number yet.
#[derive(Debug)]
pub struct Draft {
    /// Room for the head, then the items.
    bytes: Vec<u8>,
    items: u64,
}

impl Drafts {
    /// Items, behind all others.
    pub fn add(&mut self, items: Encoded<'_>) {
        let has_room = |draft: &&mut Draft| draft.bytes.len() < HEAD_BYTES + FRAME_ITEMS_BYTES_MAX;
        match self.drafts.last_mut().filter(has_room) {
            Some(draft) => draft.add(items),
            None => self.drafts.push(Draft::new(items)),
        }
        if let Some(pulled) = items.pulled {
            self.pulled.get_or_insert_default().union_with(pulled);
        }
    }

    /// The partitions that pulls end of.
    pub const fn pulled(&self) -> Option<&PartitionSet> {
        self.pulled.as_ref()
    }
}

impl IntoIterator for Drafts {
    type Item = Draft;
    type IntoIter = std::vec::IntoIter<Draft>;

    fn into_iter(self) -> Self::IntoIter {
        self.drafts.into_iter()
    }
}

impl Draft {
    fn new(items: Encoded<'_>) -> Self {
        let mut bytes = Vec::with_capacity(DRAFT_BYTES.max(HEAD_BYTES + items.byte_count()));
        bytes.resize(HEAD_BYTES, 0);
        bytes.extend_from_slice(items.bytes);
        Self { bytes, items: items.items }
    }

    fn add(&mut self, items: Encoded<'_>) {
        self.bytes.extend_from_slice(items.bytes);
        self.items += items.items;
    }

    /// How many items it has.
    pub const fn items(&self) -> usize {
        self.items as usize
    }

    /// The frame with this number.
    pub fn into_frame(mut self, number: u64) -> Bytes {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let stream = Request::Stream { number, items: Vec::new() };
        peer::encode_behind(&stream, &mut head);
        // That there are no items, in one byte.
        head.pop();
        peer::encode_behind(&self.items, &mut head);
        let start = HEAD_BYTES - LENGTH_BYTES - head.len();
        let length = u32::try_from(self.bytes.len() - start - LENGTH_BYTES).expect("below four gigabytes");
        self.bytes[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        self.bytes[start + LENGTH_BYTES..HEAD_BYTES].copy_from_slice(&head);
        Bytes::from(self.bytes).slice(start..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Generation;
    use crate::cluster::placement::PullId;
    use crate::store::Change;
    use crate::store::Content;
    use crate::store::Partition;

    impl Outgoing {
        /// What there is, to look at.
        pub fn decoded(&self) -> Vec<(NodeId, StreamItem)> {
            let mut items = Vec::new();
            for run in &self.runs {
                let mut bytes = &self.bytes[run.start..run.end];
                for _ in 0..run.items {
                    let (item, used) =
                        bincode::decode_from_slice(bytes, bincode::config::standard()).unwrap();
                    bytes = &bytes[used..];
                    items.push((run.to, item));
                }
                assert!(bytes.is_empty());
            }
            items
        }
    }

    fn node(number: u64) -> NodeId {
        NodeId::from_raw(number)
    }

    fn change(key: &'static [u8], value: &[u8]) -> StreamItem {
        let content = Content::Value { bytes: Bytes::copy_from_slice(value), expires_at: None };
        let version = Version::from_raw(1 << 40);
        StreamItem::Change(Change { key: Bytes::from_static(key), version, content })
    }

    fn frames(drafts: Drafts, mut number: u64) -> Vec<Bytes> {
        let next = |draft: Draft| {
            number += 1;
            draft.into_frame(number - 1)
        };
        drafts.into_iter().map(next).collect()
    }

    #[test]
    fn a_frame_is_what_its_message_is_encoded_as() {
        let mut out = Outgoing::new();
        for (number, count) in
            [(0, 1_u64), (1, 2), (250, 3), (251, 251), (u64::from(u32::MAX), 1), (u64::MAX, 1)]
        {
            out.clear();
            let items: Vec<StreamItem> = (0..count).map(|_| change(b"key", b"v")).collect();
            items.iter().for_each(|item| out.push(node(1), item));
            let mut drafts = Drafts::default();
            out.items_for(node(1)).for_each(|item| drafts.add(item));
            let drafts: Vec<Draft> = drafts.into_iter().collect();
            let mut sent = Vec::new();
            for draft in drafts {
                let rest = sent.len();
                sent.extend_from_slice(&items[rest..rest + draft.items()]);
                let message = Request::Stream { number, items: items[rest..rest + draft.items()].to_vec() };
                assert_eq!(draft.into_frame(number), peer::encode(&message));
            }
            assert_eq!(sent, items);
        }
    }

    #[test]
    fn a_value_that_lies_elsewhere_travels_as_any_change() {
        for value in [&b""[..], b"v", &[7; 300]] {
            let mut out = Outgoing::new();
            out.push_value(node(1), b"key", value, Version::from_raw(1 << 40));
            assert_eq!(out.decoded(), [(node(1), change(b"key", value))]);
        }
    }

    #[test]
    fn each_node_gets_its_own_items_in_order() {
        let mut out = Outgoing::new();
        for (to, key) in [(2, &b"a"[..]), (1, b"b"), (2, b"c")] {
            out.push_value(node(to), key, b"", Version::from_raw(3));
        }
        assert_eq!(out.nodes().collect::<Vec<_>>(), [node(2), node(1)]);
        let count = |to| out.items_for(node(to)).map(|items| items.items).sum::<u64>();
        assert_eq!([count(1), count(2), count(3)], [1, 2, 0]);
    }

    #[test]
    fn a_frame_is_bounded_but_for_a_single_item_and_the_ends_of_pulls_are_known() {
        let mut out = Outgoing::new();
        let id = PullId { generation: Generation::from_raw(1), number: 1 };
        let partitions: PartitionSet = Partition::new(5).into_iter().collect();
        let (half, long) = ([1; FRAME_ITEMS_BYTES_MAX / 2 + 1], [1; 2 * FRAME_ITEMS_BYTES_MAX]);
        for value in [&half[..], &half, &half, &long, &half] {
            out.push_value(node(1), b"k", value, Version::from_raw(3));
        }
        let end =
            StreamItem::PullDone { id, shards: 1, partitions: partitions.clone(), up_to: Version::ZERO };
        out.push(node(1), &end);
        let mut drafts = Drafts::default();
        out.items_for(node(1)).for_each(|item| drafts.add(item));
        assert_eq!(drafts.pulled(), Some(&partitions));
        let counts: Vec<usize> = drafts.drafts.iter().map(Draft::items).collect();
        assert_eq!(counts, [2, 2, 2]);
        assert_eq!(frames(drafts, 1).len(), 3);
    }
}
