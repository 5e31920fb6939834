//! What every policy has to do, and what each is there for.

use bytes::Bytes;

use crate::store::Applied;
use crate::store::Change;
use crate::store::Content;
use crate::store::EvictionPolicy;
use crate::store::Partition;
use crate::store::Shard;
use crate::store::ShardLimits;
use crate::store::eviction::Order;
use crate::store::eviction::Policy;
use crate::store::list::List;
use crate::time::Timestamp;
use crate::time::Version;

const ALL: [EvictionPolicy; 4] =
    [EvictionPolicy::Lru, EvictionPolicy::Lfu, EvictionPolicy::Ttl, EvictionPolicy::None];
const MEMORY_BYTES: usize = 3 << 20;
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

// What the model of a shard looks at.
impl Order {
    pub(in crate::store) fn recency(&self) -> &List {
        match &self.current {
            Policy::Lru(lru) => &lru.list,
            Policy::Lfu(_) | Policy::Ttl(_) | Policy::None(_) => panic!("the model is one of lru"),
        }
    }
}

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

impl Bench {
    /// Gets to the limits that were set, and says how many values went in the step in which most did.
    fn settle(&mut self) -> u64 {
        let (mut most, mut steps) = (0, 0);
        while self.shard.is_unsettled() {
            steps += 1;
            assert!(steps < 100_000, "it does not get there");
            let before = self.shard.stats().evictions;
            self.shard.settle_some(100);
            most = most.max(self.shard.stats().evictions - before);
        }
        most
    }

    fn keys(&self, keys: std::ops::Range<u64>) -> usize {
        keys.filter(|key| self.has(*key)).count()
    }
}

#[test]
fn less_memory_is_reached_in_small_steps_and_writes_go_on_meanwhile() {
    for eviction in [EvictionPolicy::Lru, EvictionPolicy::Lfu] {
        let mut usual = Bench::new(eviction, None);
        (0..40_000).for_each(|key| assert_eq!(usual.set(key, 200, 0), Applied::Newer));
        let mut bench = Bench::new(eviction, None);
        bench.shard.limit(12 << 20, eviction);
        for key in 0..40_000 {
            assert_eq!(bench.set(key, 200, 0), Applied::Newer);
        }
        let full = bench.shard.memory_bytes();
        assert!(full > 8 << 20 && bench.shard.stats().evictions == 0, "{full}");
        bench.shard.limit(MEMORY_BYTES, eviction);
        assert_eq!(bench.shard.len(), 40_000, "nothing goes at once");
        for key in 40_000..41_000 {
            let before = bench.shard.stats().evictions;
            assert_eq!(bench.set(key, 200, 0), Applied::Newer);
            let gone = bench.shard.stats().evictions - before;
            assert!(gone < 200, "a write makes room for itself, not for all: {gone}");
        }
        assert!(bench.shard.memory_bytes() > MEMORY_BYTES);
        let most = bench.settle();
        assert!((1..=100).contains(&most), "{most}");
        assert!(bench.shard.memory_bytes() <= MEMORY_BYTES);
        if eviction == EvictionPolicy::Lru {
            let left = bench.shard.len();
            assert!(left > usual.shard.len() * 3 / 4, "{left} instead of {}", usual.shard.len());
            assert_eq!(bench.keys(41_000 - left as u64..41_000), left, "the oldest went");
        }
    }
}

#[test]
fn where_nothing_may_go_less_memory_refuses_writes_until_something_is_deleted() {
    let mut bench = Bench::new(EvictionPolicy::None, None);
    bench.shard.limit(6 << 20, EvictionPolicy::None);
    for key in 0..15_000 {
        assert_eq!(bench.set(key, 200, 0), Applied::Newer);
    }
    bench.shard.limit(MEMORY_BYTES, EvictionPolicy::None);
    assert_eq!(bench.settle(), 0);
    assert_eq!((bench.set(20_000, 200, 0), bench.keys(0..15_000)), (Applied::NoRoom, 15_000));
    for key in 0..10_000 {
        assert_eq!(bench.apply(key, Content::Deleted), Applied::Newer);
    }
    assert_eq!(bench.set(20_000, 200, 0), Applied::Newer);
    assert!(bench.shard.memory_bytes() <= MEMORY_BYTES);
}

#[test]
fn any_policy_takes_over_from_any_other_while_values_come_and_go() {
    for former in ALL {
        for eviction in ALL {
            let mut bench = Bench::new(former, None);
            let deadline = |key: u64| if key.is_multiple_of(2) { 1_000 + key } else { 0 };
            for key in 0..5_000 {
                assert_eq!(bench.set(key, 100, deadline(key)), Applied::Newer);
            }
            bench.shard.limit(MEMORY_BYTES, eviction);
            // By another way in between, which has to wait.
            bench.shard.limit(MEMORY_BYTES, EvictionPolicy::Lfu);
            bench.shard.limit(MEMORY_BYTES, eviction);
            for round in 0..500 {
                bench.shard.settle_some(7);
                let _ = bench.get(round * 9);
                assert_ne!(bench.apply(round * 7, Content::Deleted), Applied::NoRoom);
                assert_ne!(bench.set(round * 11, 100 + round as usize, deadline(round)), Applied::NoRoom);
                if round == 250 {
                    let partition = Partition::of(b"77");
                    bench.version += 1;
                    bench.shard.flush(partition, Version::from_raw(bench.version));
                }
            }
            bench.settle();
            assert_eq!(bench.shard.limits().eviction, eviction);
            let mut refused = 0;
            for key in 10_000..40_000 {
                refused += usize::from(bench.set(key, 100, deadline(key)) == Applied::NoRoom);
            }
            assert!(bench.shard.memory_bytes() <= MEMORY_BYTES);
            let evictions = bench.shard.stats().evictions;
            match eviction {
                EvictionPolicy::Lru | EvictionPolicy::Lfu => assert_eq!(refused, 0),
                EvictionPolicy::Ttl => {
                    assert_eq!(bench.keys(10_001..10_002), 1, "what does not expire stays")
                }
                EvictionPolicy::None => assert!(refused > 5_000 && evictions == 0),
            }
            if eviction == EvictionPolicy::Lru {
                assert_eq!(bench.keys(0..10_000), 0, "the oldest went");
            }
        }
    }
}

#[test]
fn a_read_aside_does_not_save_a_value_as_a_read_does() {
    for (is_aside, is_saved) in [(false, true), (true, false)] {
        let mut bench = Bench::new(EvictionPolicy::Lru, Some(10));
        for key in 0..10 {
            assert_eq!(bench.set(key, 10, 0), Applied::Newer);
        }
        match is_aside {
            true => assert!(bench.shard.get_aside(Partition::of(b"0"), b"0", NOW).is_some()),
            false => assert_eq!(bench.get(0), Some(10)),
        }
        assert_eq!(bench.shard.stats().hits, 1);
        assert_eq!(bench.set(10, 10, 0), Applied::Newer);
        assert_eq!(bench.has(0), is_saved);
    }
}

#[test]
fn how_often_a_value_is_used_is_known_where_it_counts() {
    let frequency = |eviction| {
        let mut bench = Bench::new(eviction, None);
        assert_eq!(bench.set(1, 10, 0), Applied::Newer);
        (0..5).for_each(|_| assert_eq!(bench.get(1), Some(10)));
        bench.shard.frequency(Partition::of(b"1"), b"1", NOW)
    };
    assert_eq!(frequency(EvictionPolicy::Lfu), Some(6));
    assert_eq!(frequency(EvictionPolicy::Lru), None);
}
