//! Merging whole histories: three copies that each saw a part of what happened, at times of their own,
//! and lost some of it to eviction.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::store::Content;

/// Something that happens to a copy.
#[derive(Clone, Debug)]
enum Happening {
    Set(u8, u64, u8, Option<u64>),
    Delete(u8, u64),
    Flush(u64),
    /// Time passes; what is past its deadline is noticed when it is read.
    Wait(u64),
    Read(u8),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        5 => (0..6_u8, 1..9_u64, any::<u8>(), prop::option::of(1..40_u64))
            .prop_map(|(key, version, value, expires_at)| Happening::Set(key, version, value, expires_at)),
        2 => (0..6_u8, 1..9_u64).prop_map(|(key, version)| Happening::Delete(key, version)),
        1 => (1..9_u64).prop_map(Happening::Flush),
        1 => (0..5_u64).prop_map(Happening::Wait),
        2 => (0..6_u8).prop_map(Happening::Read),
    ];
    prop::collection::vec(happening, 0..30)
}

const END: Timestamp = Timestamp::from_millis(60);

fn partition() -> Partition {
    Partition::new(1).unwrap()
}

/// A copy to which this has happened.
fn copy(history: &[Happening], limits: ShardLimits) -> Shard {
    let mut shard = Shard::new(limits, history.len() as u64);
    let mut now = 0;
    for happening in history {
        let at = Timestamp::from_millis(now);
        let apply = |shard: &mut Shard, key: u8, version: u64, content: Content| {
            let change =
                Change { key: Bytes::copy_from_slice(&[key]), version: Version::from_raw(version), content };
            assert!(matches!(shard.apply(partition(), &change, at), Applied::Newer | Applied::Stale));
        };
        match happening {
            Happening::Set(key, version, value, expires_at) => {
                let bytes = Bytes::copy_from_slice(&[*value]);
                let expires_at = expires_at.map(Timestamp::from_millis);
                apply(&mut shard, *key, *version, Content::Value { bytes, expires_at });
            }
            Happening::Delete(key, version) => apply(&mut shard, *key, *version, Content::Deleted),
            Happening::Flush(version) => shard.flush(partition(), Version::from_raw(*version)),
            Happening::Wait(millis) => now += millis,
            Happening::Read(key) => drop(shard.get(partition(), &[*key], at)),
        }
    }
    shard
}

/// What a pull brings from one copy to another.
fn merge(into: &mut Shard, from: &Shard) {
    into.flush(partition(), from.flushed_at(partition()));
    let next = from.scan(ScanCursor::START, usize::MAX, |item| {
        let _ = into.apply(partition(), &item.to_change(), END);
    });
    assert_eq!(next, None);
}

/// What can be read at the end.
fn readable(shard: &Shard) -> Vec<(Vec<u8>, Version, Vec<u8>)> {
    let mut all = Vec::new();
    shard.scan(ScanCursor::START, usize::MAX, |item| {
        if let ItemContent::Value { bytes, .. } = item.content.at(END) {
            all.push((item.key.to_vec(), item.version, bytes.to_vec()));
        }
    });
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_commutative_associative_and_idempotent_over_any_histories(
        histories in prop::array::uniform3(happenings()),
    ) {
        let limits = || ShardLimits::new(64 << 20);
        let new = |number: usize| copy(&histories[number], limits());
        let merged = |into: usize, from: &[usize]| {
            let mut shard = new(into);
            from.iter().for_each(|other| merge(&mut shard, &new(*other)));
            shard
        };
        let expected = readable(&merged(0, &[1, 2]));
        for (into, from) in [(0, [2, 1]), (1, [0, 2]), (2, [1, 0])] {
            prop_assert_eq!(readable(&merged(into, &from)), expected.clone());
        }
        // Grouped otherwise, and again.
        let mut grouped = new(0);
        let rest = merged(1, &[2]);
        merge(&mut grouped, &rest);
        prop_assert_eq!(readable(&grouped), expected.clone());
        merge(&mut grouped, &rest);
        merge(&mut grouped, &new(0));
        prop_assert_eq!(readable(&grouped), expected);
    }

    #[test]
    fn what_a_copy_evicts_never_lets_anything_older_in_where_another_copy_kept_it(
        (full, small) in (happenings(), happenings()),
    ) {
        let kept = copy(&full, ShardLimits::new(64 << 20));
        let mut evicting = copy(&small, ShardLimits { items_max: Some(2), ..ShardLimits::new(64 << 20) });
        let mut both = copy(&full, ShardLimits::new(64 << 20));
        merge(&mut both, &evicting);
        // It pulls what it lacks: whatever it then has is what the complete copy has.
        merge(&mut evicting, &both);
        let complete = readable(&both);
        prop_assert!(readable(&evicting).iter().all(|item| complete.contains(item)));
        // And nothing that the complete copy knew got older.
        for (key, version, _) in readable(&kept) {
            let now = both.version_of(partition(), &key);
            prop_assert!(now.is_none_or(|now| now >= version));
        }
    }
}
