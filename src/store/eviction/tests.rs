//! What every policy has to do, and what each is there for.

use bytes::Bytes;

use crate::store::Applied;
use crate::store::Change;
use crate::store::Content;
use crate::store::EvictionPolicy;
use crate::store::Partition;
use crate::store::Shard;
use crate::store::ShardLimits;
use crate::time::Timestamp;
use crate::time::Version;

const ALL: [EvictionPolicy; 4] =
    [EvictionPolicy::Lru, EvictionPolicy::Lfu, EvictionPolicy::Ttl, EvictionPolicy::None];
const MEMORY_BYTES: usize = 3 << 20;
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

struct Bench {
    shard: Shard,
    version: u64,
}

impl Bench {
    fn new(eviction: EvictionPolicy, items_max: Option<usize>) -> Self {
        let limits = ShardLimits { eviction, items_max, ..ShardLimits::new(MEMORY_BYTES) };
        Self { shard: Shard::new(limits, 42), version: Version::first_of(NOW).as_raw() }
    }

    fn apply(&mut self, key: u64, content: Content) -> Applied {
        self.version += 1;
        let key = Bytes::from(key.to_string());
        let change = Change { version: Version::from_raw(self.version), content, key };
        self.shard.apply(Partition::of(&change.key), &change, NOW)
    }

    fn set(&mut self, key: u64, length: usize, millis: u64) -> Applied {
        let expires_at = Some(Timestamp::from_millis(NOW.as_millis() + millis)).filter(|_| millis > 0);
        self.apply(key, Content::Value { bytes: Bytes::from(vec![7; length]), expires_at })
    }

    fn get(&mut self, key: u64) -> Option<usize> {
        let key = key.to_string();
        self.shard.get(Partition::of(key.as_bytes()), key.as_bytes(), NOW).map(<[u8]>::len)
    }

    fn has(&self, key: u64) -> bool {
        let key = key.to_string();
        self.shard.contains(Partition::of(key.as_bytes()), key.as_bytes(), NOW)
    }
}

#[test]
fn under_every_policy_memory_is_kept_and_what_was_written_is_there() {
    for eviction in ALL {
        let mut bench = Bench::new(eviction, None);
        let (mut written, mut refused) = (0, 0);
        for number in 0..40_000_u64 {
            let (key, length) = (number * 7 % 5_000, (number * 31 % 1_000) as usize);
            match bench.set(key, length, 1 + number * 13 % 10_000) {
                Applied::Newer => {
                    written += 1;
                    assert_eq!(bench.get(key), Some(length), "{eviction:?}");
                }
                Applied::NoRoom => refused += 1,
                applied => panic!("{applied:?}"),
            }
            bench.get(number * 11 % 5_000);
            if number % 7 == 0 {
                assert!(matches!(bench.apply(key, Content::Deleted), Applied::Newer), "{eviction:?}");
                assert!(!bench.has(key));
            }
            assert!(bench.shard.memory_bytes() <= MEMORY_BYTES, "{eviction:?}");
        }
        assert!(written > 5_000);
        assert_eq!(refused > 0, eviction == EvictionPolicy::None, "{eviction:?}: {refused} refused");
        assert_eq!(bench.shard.stats().evictions > 0, eviction != EvictionPolicy::None, "{eviction:?}");
    }
}

#[test]
fn under_every_policy_that_evicts_the_number_of_values_is_kept() {
    for eviction in [EvictionPolicy::Lru, EvictionPolicy::Lfu, EvictionPolicy::Ttl] {
        for items_max in [1, 2, 100] {
            let mut bench = Bench::new(eviction, Some(items_max));
            for key in 0..1_000 {
                assert_eq!(bench.set(key, 10, 1 + key), Applied::Newer);
                assert!(bench.has(key) && bench.shard.len() <= items_max);
            }
            assert_eq!(bench.shard.len(), items_max);
        }
    }
}

#[test]
fn without_eviction_what_is_there_stays_and_can_be_written_over_and_deleted() {
    let mut bench = Bench::new(EvictionPolicy::None, Some(3));
    (0..3).for_each(|key| assert_eq!(bench.set(key, 10, 0), Applied::Newer));
    assert_eq!(bench.set(3, 10, 0), Applied::NoRoom);
    assert_eq!(bench.set(1, 20, 0), Applied::Newer);
    assert_eq!(bench.apply(2, Content::Deleted), Applied::Newer);
    assert_eq!(bench.set(3, 10, 0), Applied::Newer);
    assert_eq!([0, 1, 2, 3].map(|key| bench.get(key)), [Some(10), Some(20), None, Some(10)]);
}

#[test]
fn the_value_with_the_nearest_deadline_goes_first_and_one_without_never() {
    let mut bench = Bench::new(EvictionPolicy::Ttl, Some(3));
    for (key, millis) in [(0, 0), (1, 500), (2, 100)] {
        assert_eq!(bench.set(key, 10, millis), Applied::Newer);
    }
    assert_eq!(bench.set(3, 10, 300), Applied::Newer);
    assert_eq!([0, 1, 2, 3].map(|key| bench.has(key)), [true, true, false, true]);
    assert_eq!(bench.set(3, 10, 900), Applied::Newer);
    assert_eq!(bench.set(4, 10, 0), Applied::Newer);
    assert_eq!(bench.set(5, 10, 0), Applied::Newer);
    assert_eq!(bench.set(6, 10, 0), Applied::NoRoom);
    assert_eq!([0, 1, 3, 4, 5].map(|key| bench.has(key)), [true, false, false, true, true]);
}

#[test]
fn what_is_used_often_outlives_a_scan_under_lfu_and_not_under_lru() {
    for (eviction, outlives) in [(EvictionPolicy::Lfu, true), (EvictionPolicy::Lru, false)] {
        let mut bench = Bench::new(eviction, Some(1_000));
        for round in 0..20 {
            (0..500).for_each(|key| match bench.get(key) {
                Some(_) => {}
                None => assert_eq!(bench.set(key, 10, 0), Applied::Newer, "{round}"),
            });
        }
        (10_000..15_000).for_each(|key| assert_eq!(bench.set(key, 10, 0), Applied::Newer));
        let left = (0..500).filter(|key| bench.has(*key)).count();
        assert_eq!(left > 450, outlives, "{eviction:?}: {left} of 500");
    }
}
