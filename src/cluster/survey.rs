//! Comparing the copies of partitions: a digest of each first, then key by key.
//!
//! Only values count: a tombstone is no difference to anybody who reads. A value that a copy lacks is
//! no difference either if the copy's node has evicted at least as many as it lacks; those are counted
//! apart. What is being written just now differs for a moment, so whoever compares looks twice, and
//! only what has not moved is a difference.

use std::collections::BTreeMap;

use bincode::Decode;
use bincode::Encode;
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

use crate::cluster::membership::NodeId;
use crate::store::Blob;
use crate::store::Item;
use crate::store::ItemContent;
use crate::store::Partition;
use crate::time::Timestamp;
use crate::time::Version;

/// What a copy of a partition holds, in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PartitionDigest {
    /// The partition.
    pub partition: Partition,
    /// How many values.
    pub keys: u64,
    /// The sum of their digests: the same whatever their order.
    pub sum: u64,
}

/// What a copy holds of one key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SurveyedKey {
    /// The key.
    pub key: Blob,
    /// When it was written.
    pub version: Version,
    /// Of the key, its version, value and expiry.
    pub digest: u64,
}

impl SurveyedKey {
    /// What there is of a key.
    pub fn of(item: &Item<'_>, digest: u64) -> Self {
        Self { key: Blob(Bytes::copy_from_slice(item.key)), version: item.version, digest }
    }
}

/// The digest of an item that is a value at a time.
pub fn digest_of(item: &Item<'_>, at: Timestamp) -> Option<u64> {
    let ItemContent::Value { bytes, expires_at } = item.content.at(at) else { return None };
    let mut hash = Xxh3Default::new();
    hash.update(&(item.key.len() as u64).to_le_bytes());
    hash.update(item.key);
    hash.update(&item.version.as_raw().to_le_bytes());
    hash.update(&expires_at.map_or(u64::MAX, Timestamp::as_millis).to_le_bytes());
    hash.update(bytes);
    Some(hash.digest())
}

/// The digests of partitions, as they are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<Partition, (u64, u64)>);

impl Digests {
    /// Adds one value.
    pub fn add(&mut self, partition: Partition, digest: u64) {
        let (keys, sum) = self.0.entry(partition).or_default();
        *keys += 1;
        *sum = sum.wrapping_add(digest);
    }

    /// Adds what was found elsewhere on the node.
    pub fn join(&mut self, others: Self) {
        for (partition, (more, digest)) in others.0 {
            let (keys, sum) = self.0.entry(partition).or_default();
            *keys += more;
            *sum = sum.wrapping_add(digest);
        }
    }

    /// All of them; partitions without a value are left out.
    pub fn into_list(self) -> Vec<PartitionDigest> {
        self.0.into_iter().map(|(partition, (keys, sum))| PartitionDigest { partition, keys, sum }).collect()
    }
}

/// A key that not all copies of its partition have alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Where the key belongs.
    pub partition: Partition,
    /// The key.
    pub key: Bytes,
    /// What each copy has; none: it lacks the key.
    pub copies: BTreeMap<NodeId, Option<(Version, u64)>>,
}

impl Difference {
    /// The nodes that lack the key, if all others agree on it.
    fn lacking(&self) -> Option<Vec<NodeId>> {
        let mut present = self.copies.values().flatten();
        let first = present.next()?;
        let all_agree = present.all(|other| other == first);
        let lacking = self.copies.iter().filter(|(_, copy)| copy.is_none()).map(|(node, _)| *node);
        all_agree.then(|| lacking.collect())
    }
}

/// What copies of one partition have, by node.
pub type Copies = BTreeMap<NodeId, Vec<SurveyedKey>>;

/// The keys of a partition that differ.
pub fn compare(partition: Partition, copies: &Copies) -> Vec<Difference> {
    let none: BTreeMap<NodeId, Option<(Version, u64)>> = copies.keys().map(|node| (*node, None)).collect();
    let mut by_key: BTreeMap<Bytes, BTreeMap<NodeId, Option<(Version, u64)>>> = BTreeMap::new();
    for (node, keys) in copies {
        for found in keys {
            let all = by_key.entry(found.key.0.clone()).or_insert_with(|| none.clone());
            all.insert(*node, Some((found.version, found.digest)));
        }
    }
    let differ = |all: &BTreeMap<NodeId, Option<(Version, u64)>>| {
        let mut values = all.values();
        let first = values.next();
        !values.all(|other| Some(other) == first)
    };
    let differing = by_key.into_iter().filter(|(_, all)| differ(all));
    differing.map(|(key, copies)| Difference { partition, key, copies }).collect()
}

/// Parts what nodes may have evicted from real differences: a node that lacks no more keys than it has
/// evicted has evicted them.
pub fn part_evicted(
    differences: Vec<Difference>,
    evictions: &BTreeMap<NodeId, u64>,
) -> (Vec<Difference>, Vec<Difference>) {
    let mut lacked: BTreeMap<NodeId, u64> = BTreeMap::new();
    for node in differences.iter().filter_map(Difference::lacking).flatten() {
        *lacked.entry(node).or_default() += 1;
    }
    let has_evicted =
        |node: &NodeId| lacked.get(node).copied().unwrap_or(0) <= evictions.get(node).copied().unwrap_or(0);
    let is_real =
        |difference: &Difference| difference.lacking().is_none_or(|nodes| !nodes.iter().all(has_evicted));
    differences.into_iter().partition(is_real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::from_raw(number)
    }

    fn found(key: &'static str, version: u64) -> SurveyedKey {
        let key = Blob(Bytes::from_static(key.as_bytes()));
        SurveyedKey { key, version: Version::from_raw(version), digest: version }
    }

    fn partition() -> Partition {
        Partition::new(3).unwrap()
    }

    fn item<'a>(key: &'a [u8], value: &'a [u8], expires_at: Option<u64>) -> Item<'a> {
        let content = ItemContent::Value { bytes: value, expires_at: expires_at.map(Timestamp::from_millis) };
        Item { partition: partition(), key, version: Version::from_raw(7), content }
    }

    #[test]
    fn a_digest_tells_key_from_value_and_knows_the_expiry_and_passes_over_what_is_gone() {
        let at = Timestamp::from_millis(100);
        let digest = |key: &[u8], value: &[u8], expires_at| digest_of(&item(key, value, expires_at), at);
        assert_eq!(digest(b"k", b"v", None), digest(b"k", b"v", None));
        assert_ne!(digest(b"kv", b"", None), digest(b"k", b"v", None));
        assert_ne!(digest(b"k", b"v", Some(200)), digest(b"k", b"v", None));
        assert_eq!(digest(b"k", b"v", Some(100)), None);
        let deleted = Item { content: ItemContent::Deleted, ..item(b"k", b"", None) };
        assert_eq!(digest_of(&deleted, at), None);
    }

    #[test]
    fn digests_are_the_same_in_any_order_and_count_the_values() {
        let (mut forwards, mut backwards) = (Digests::default(), Digests::default());
        let values = [5, u64::MAX, 9];
        values.iter().for_each(|digest| forwards.add(partition(), *digest));
        values.iter().rev().for_each(|digest| backwards.add(partition(), *digest));
        let list = forwards.into_list();
        assert_eq!(list, backwards.into_list());
        assert_eq!((list.len(), list[0].keys), (1, 3));
    }

    #[test]
    fn keys_that_are_lacking_or_other_are_found_with_what_each_copy_has() {
        let copies = BTreeMap::from([
            (node(1), vec![found("alike", 1), found("lacking", 2), found("other", 3)]),
            (node(2), vec![found("alike", 1), found("other", 4)]),
        ]);
        let differences = compare(partition(), &copies);
        let keys: Vec<&[u8]> = differences.iter().map(|difference| &difference.key[..]).collect();
        assert_eq!(keys, [&b"lacking"[..], b"other"]);
        assert_eq!(differences[0].copies[&node(2)], None);
        assert_eq!(differences[1].copies[&node(2)], Some((Version::from_raw(4), 4)));
        assert!(compare(partition(), &BTreeMap::from([(node(1), vec![found("alone", 1)])])).is_empty());
    }

    #[test]
    fn a_node_that_lacks_no_more_than_it_has_evicted_makes_no_difference() {
        let copies = BTreeMap::from([
            (node(1), vec![found("a", 1), found("b", 2), found("other", 3)]),
            (node(2), vec![found("other", 4)]),
        ]);
        let parted = |evicted| {
            let evictions = BTreeMap::from([(node(2), evicted)]);
            let (real, evicted) = part_evicted(compare(partition(), &copies), &evictions);
            (real.len(), evicted.len())
        };
        assert_eq!(parted(2), (1, 2));
        assert_eq!(parted(1), (3, 0));
        assert_eq!(parted(0), (3, 0));
    }
}
