//! What a shard does, case by case. Random sequences against a model are in `model`.

use bytes::Bytes;

use super::*;
use crate::store::Content;
use crate::store::tables::EMPTY_BYTES;

/// Of a shard with as little memory as here.
const REGION_BYTES: usize = 256 * 1024;
const AMPLE_BYTES: usize = 64 << 20;
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn shard() -> Shard {
    Shard::new(ShardLimits::new(AMPLE_BYTES), 42)
}

fn partition(number: u16) -> Partition {
    Partition::new(number).unwrap()
}

/// The first version of a millisecond after the time at which most tests play.
fn version(millis: u64) -> Version {
    Version::first_of(Timestamp::from_millis(NOW.as_millis() + millis))
}

fn set(key: &str, millis: u64, value: impl AsRef<[u8]>) -> Change {
    let bytes = Bytes::copy_from_slice(value.as_ref());
    let content = Content::Value { bytes, expires_at: None };
    Change { key: Bytes::copy_from_slice(key.as_bytes()), version: version(millis), content }
}

fn set_until(key: &str, millis: u64, value: &str, expires_at: Timestamp) -> Change {
    let bytes = Bytes::copy_from_slice(value.as_bytes());
    let content = Content::Value { bytes, expires_at: Some(expires_at) };
    Change { content, ..set(key, millis, "") }
}

fn delete(key: &str, millis: u64) -> Change {
    Change { content: Content::Deleted, ..set(key, millis, "") }
}

fn later(millis: u64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis)
}

impl Shard {
    fn change(&mut self, change: &Change) -> Applied {
        self.apply(partition(1), change, NOW)
    }

    fn read(&mut self, key: &str) -> Option<String> {
        self.get(partition(1), key.as_bytes(), NOW).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    fn has(&self, key: &str) -> bool {
        self.contains(partition(1), key.as_bytes(), NOW)
    }
}

#[test]
fn a_value_is_read_back_from_the_partition_it_was_written_to() {
    let mut shard = shard();
    assert_eq!(shard.change(&set("k", 1, "v")), Applied::Newer);
    assert_eq!(shard.read("k").as_deref(), Some("v"));
    assert_eq!(shard.get(partition(2), b"k", NOW), None);
    assert_eq!((shard.len(), shard.len_of(partition(1)), shard.len_of(partition(2))), (1, 1, 0));
}

#[test]
fn an_empty_key_and_an_empty_value_are_a_key_and_a_value() {
    let mut shard = shard();
    assert_eq!(shard.change(&set("", 1, "")), Applied::Newer);
    assert_eq!(shard.read("").as_deref(), Some(""));
}

#[test]
fn reads_count_as_hits_and_misses_and_looking_does_not() {
    let mut shard = shard();
    let _ = shard.change(&set("k", 1, "v"));
    shard.read("k");
    shard.read("k");
    shard.read("absent");
    assert!(shard.has("k") && !shard.has("absent"));
    assert_eq!((shard.stats().hits, shard.stats().misses), (2, 1));
}

#[test]
fn the_greater_version_wins_and_the_lesser_is_stale() {
    let mut shard = shard();
    let _ = shard.change(&set("k", 5, "five"));
    assert_eq!(shard.change(&set("k", 4, "four")), Applied::Stale);
    assert_eq!(shard.change(&delete("k", 4)), Applied::Stale);
    assert_eq!(shard.read("k").as_deref(), Some("five"));
    assert_eq!(shard.change(&set("k", 6, "six")), Applied::Newer);
    assert_eq!(shard.version_of(partition(1), b"k"), Some(version(6)));
}

#[test]
fn of_equal_versions_the_greater_content_wins_and_the_same_is_stale() {
    let mut shard = shard();
    assert_eq!(shard.change(&delete("k", 5)), Applied::Newer);
    assert_eq!(shard.change(&set("k", 5, "a")), Applied::Newer);
    assert_eq!(shard.change(&set("k", 5, "b")), Applied::Newer);
    assert_eq!(shard.change(&set("k", 5, "b")), Applied::Stale);
    assert_eq!(shard.change(&set_until("k", 5, "b", later(9))), Applied::Newer);
    assert_eq!(shard.change(&set("k", 5, "a")), Applied::Stale);
    assert_eq!(shard.change(&delete("k", 5)), Applied::Stale);
    assert_eq!(shard.read("k").as_deref(), Some("b"));
}

#[test]
fn a_delete_leaves_a_tombstone_that_keeps_older_values_out() {
    let mut shard = shard();
    assert_eq!(shard.change(&delete("never written", 3)), Applied::Newer);
    let _ = shard.change(&set("k", 1, "v"));
    assert_eq!(shard.change(&delete("k", 3)), Applied::Newer);
    assert_eq!(shard.read("k"), None);
    assert_eq!(shard.version_of(partition(1), b"k"), Some(version(3)));
    assert_eq!(shard.change(&set("k", 2, "late")), Applied::Stale);
    assert_eq!((shard.len(), shard.len_of(partition(1)), shard.tombstone_count()), (0, 0, 2));
    assert_eq!(shard.change(&set("k", 4, "again")), Applied::Newer);
    assert_eq!((shard.len(), shard.len_of(partition(1)), shard.tombstone_count()), (1, 1, 1));
}

#[test]
fn a_value_is_gone_at_its_deadline_and_not_before() {
    let mut shard = shard();
    let _ = shard.change(&set_until("k", 1, "v", later(10)));
    assert_eq!(shard.get(partition(1), b"k", later(9)), Some(&b"v"[..]));
    assert!(!shard.contains(partition(1), b"k", later(10)));
    assert_eq!(shard.len(), 1, "nobody has noticed");
    assert_eq!(shard.get(partition(1), b"k", later(10)), None);
    assert_eq!((shard.len(), shard.stats().expirations, shard.stats().evictions), (0, 1, 0));
}

#[test]
fn an_older_value_does_not_come_back_when_a_newer_one_expires() {
    let mut noticed = shard();
    let _ = noticed.change(&set_until("k", 2, "v", later(10)));
    assert_eq!(noticed.get(partition(1), b"k", later(20)), None);
    let mut arrived_late = shard();
    let late = set_until("k", 2, "v", later(10));
    assert_eq!(arrived_late.apply(partition(1), &late, later(20)), Applied::Newer);
    for mut shard in [noticed, arrived_late] {
        assert_eq!(shard.apply(partition(1), &set("k", 1, "old"), later(20)), Applied::Stale);
        assert_eq!((shard.len(), shard.tombstone_count()), (0, 1));
        assert_eq!(shard.version_of(partition(1), b"k"), Some(version(2)));
    }
}

#[test]
fn an_expired_value_yields_to_one_of_its_own_version_noticed_or_not() {
    let expiring = set_until("k", 5, "z", later(10));
    for is_noticed in [false, true] {
        let mut shard = shard();
        let _ = shard.change(&expiring);
        if is_noticed {
            shard.get(partition(1), b"k", later(20));
        }
        assert_eq!(shard.apply(partition(1), &set("k", 5, "a"), later(20)), Applied::Newer);
        assert_eq!(shard.apply(partition(1), &expiring, later(20)), Applied::Stale);
        assert_eq!(shard.get(partition(1), b"k", later(20)), Some(&b"a"[..]));
    }
}

#[test]
fn a_value_that_outlived_the_age_of_tombstones_expires_without_a_trace() {
    let mut shard = shard();
    let _ = shard.change(&set_until("k", 0, "v", later(600_000)));
    assert_eq!(shard.get(partition(1), b"k", later(600_000)), None);
    assert_eq!(shard.version_of(partition(1), b"k"), None);
    assert_eq!(shard.memory_bytes(), EMPTY_BYTES);
}

#[test]
fn peeking_shows_the_deadline_and_leaves_the_recency_order_alone() {
    let mut shard = Shard::new(ShardLimits { items_max: Some(2), ..ShardLimits::new(AMPLE_BYTES) }, 42);
    let _ = shard.change(&set_until("old", 1, "v", later(10)));
    let _ = shard.change(&set("new", 2, "v"));
    let item = shard.peek(partition(1), b"old", NOW).unwrap();
    assert_eq!(item.to_change(), set_until("old", 1, "v", later(10)));
    let _ = shard.change(&set("newest", 3, "v"));
    assert_eq!(["old", "new", "newest"].map(|key| shard.has(key)), [false, true, true]);
}

#[test]
fn the_value_not_used_for_longest_is_evicted_whatever_its_partition() {
    let mut shard = Shard::new(ShardLimits { items_max: Some(3), ..ShardLimits::new(AMPLE_BYTES) }, 42);
    for (number, key) in ["a", "b", "c"].iter().enumerate() {
        let _ = shard.apply(partition(number as u16), &set(key, 1, "v"), NOW);
    }
    shard.get(partition(0), b"a", NOW);
    let _ = shard.apply(partition(3), &set("d", 1, "v"), NOW);
    assert!(!shard.contains(partition(1), b"b", NOW));
    let _ = shard.apply(partition(4), &set("e", 1, "v"), NOW);
    assert!(!shard.contains(partition(2), b"c", NOW));
    assert!(shard.contains(partition(0), b"a", NOW));
    assert_eq!((shard.len(), shard.tombstone_count(), shard.stats().evictions), (3, 0, 2));
}

#[test]
fn the_value_just_written_stays_even_where_no_item_is_allowed() {
    let mut shard = Shard::new(ShardLimits { items_max: Some(0), ..ShardLimits::new(AMPLE_BYTES) }, 42);
    let _ = shard.change(&set("a", 1, "v"));
    let _ = shard.change(&set("b", 2, "v"));
    assert!(!shard.has("a") && shard.has("b"));
}

/// Room for so many regions and the tables that go with them.
fn memory_for(regions: usize) -> usize {
    EMPTY_BYTES + regions * (REGION_BYTES + 64 * 1024)
}

#[test]
fn memory_stays_within_its_limit_and_nearly_all_of_it_is_used() {
    let memory_bytes_max = memory_for(4);
    let mut shard = Shard::new(ShardLimits::new(memory_bytes_max), 42);
    for number in 0..100_000_u64 {
        assert_eq!(shard.change(&set(&format!("key-{number:06}"), number, "v")), Applied::Newer);
        assert!(shard.memory_bytes() <= memory_bytes_max);
    }
    let used_bytes = shard.memory_bytes();
    assert!(used_bytes > memory_bytes_max - REGION_BYTES, "{used_bytes} of {memory_bytes_max}");
    // Ten bytes of key, one of value, twenty of header, rounded up to 32, and seven of table.
    let (len, evictions) = (shard.len(), shard.stats().evictions);
    assert!(len > 4 * REGION_BYTES / 40 && evictions == 100_000 - len as u64, "{len} values");
}

#[test]
fn memory_is_used_for_whatever_lengths_come_next() {
    let memory_bytes_max = memory_for(8);
    let mut shard = Shard::new(ShardLimits::new(memory_bytes_max), 42);
    let mut number = 0;
    for value_bytes in [10, 3_000, 200, 60_000, 1, 700, 20_000, 10] {
        let count = 4 * memory_bytes_max / (value_bytes + 60);
        for _ in 0..count {
            number += 1;
            let change = set(&number.to_string(), number, vec![7; value_bytes]);
            assert_eq!(shard.change(&change), Applied::Newer);
            assert!(shard.memory_bytes() <= memory_bytes_max);
            // Some are used again, so that old and new lie side by side.
            shard.read(&(number - number % 50).to_string());
        }
        // Twenty bytes of header, six of key, seven of table.
        let bytes = shard.len() * (value_bytes + 33);
        assert!(bytes * 10 > memory_bytes_max * 6, "{} values of {value_bytes} bytes", shard.len());
    }
}

#[test]
fn a_large_value_takes_the_memory_of_as_many_small_ones_as_it_has_to() {
    let memory_bytes_max = memory_for(10);
    let mut shard = Shard::new(ShardLimits::new(memory_bytes_max), 42);
    for round in 0..3 {
        for number in 0..100_000_u64 {
            let _ = shard.change(&set(&number.to_string(), round * 200_000 + number, "v"));
        }
        let before = shard.len();
        let large = set("large", round * 200_000 + 100_000, vec![7; 60_000]);
        assert_eq!(shard.change(&large), Applied::Newer);
        assert!(shard.has("large") && shard.memory_bytes() <= memory_bytes_max);
        let evicted = before - shard.len();
        assert!(evicted <= 2 * 70_000 / 28, "{evicted} values went for one");
        assert_eq!(shard.change(&delete("large", round * 200_000 + 100_001)), Applied::Newer);
    }
}

#[test]
fn a_value_that_could_never_fit_is_refused_and_changes_nothing() {
    let memory_bytes_max = memory_for(2);
    let mut shard = Shard::new(ShardLimits::new(memory_bytes_max), 42);
    let _ = shard.change(&set("k", 1, "v"));
    let _ = shard.change(&set("other", 1, "v"));
    let stats = shard.stats();
    let refused = shard.change(&set("k", 2, vec![7; memory_bytes_max - EMPTY_BYTES]));
    assert!(matches!(refused, Applied::TooLarge { bytes, bytes_max } if bytes > bytes_max));
    assert_eq!(shard.stats(), stats);
    assert_eq!(shard.read("k").as_deref(), Some("v"));
}

#[test]
fn the_largest_value_that_is_not_refused_fits_beside_whatever_was_there() {
    let memory_bytes_max = memory_for(5);
    let mut shard = Shard::new(ShardLimits::new(memory_bytes_max), 42);
    let Applied::TooLarge { bytes_max, .. } = shard.change(&set("k", 1, vec![7; memory_bytes_max])) else {
        panic!("more than all memory is too much");
    };
    for number in 0..1_500 {
        let _ = shard.change(&set(&number.to_string(), 1, "v"));
        let _ = shard.change(&delete(&format!("tombstone-{number}"), 1));
    }
    assert_eq!(shard.change(&set("k", 2, vec![7; bytes_max - 24])), Applied::Newer);
    assert!(shard.has("k") && shard.memory_bytes() <= memory_bytes_max);
}

#[test]
fn a_shard_with_less_memory_than_an_empty_one_takes_refuses_everything() {
    let mut shard = Shard::new(ShardLimits::new(1_000), 42);
    assert_eq!(shard.change(&set("", 1, "")), Applied::TooLarge { bytes: 20, bytes_max: 0 });
    assert_eq!(shard.change(&delete("k", 1)), Applied::TooLarge { bytes: 21, bytes_max: 0 });
}

#[test]
fn the_shard_keeps_no_part_of_the_buffer_that_a_change_came_in() {
    let mut shard = shard();
    let buffer = Bytes::from(vec![b'x'; 1 << 20]);
    let content = Content::Value { bytes: buffer.slice(5..10), expires_at: None };
    let change = Change { key: buffer.slice(0..5), version: version(1), content };
    let _ = shard.change(&change);
    drop(change);
    assert!(buffer.is_unique());
    assert_eq!(shard.read("xxxxx").as_deref(), Some("xxxxx"));
}

#[test]
fn a_flush_removes_what_is_at_or_below_it_in_its_partition_now_and_later() {
    let mut shard = shard();
    let _ = shard.change(&set("below", 1, "v"));
    let _ = shard.change(&delete("deleted", 1));
    let _ = shard.change(&set("at", 5, "v"));
    let _ = shard.change(&set("above", 6, "v"));
    let _ = shard.apply(partition(2), &set("elsewhere", 1, "v"), NOW);
    shard.flush(partition(1), version(5));
    assert_eq!(["below", "at", "above"].map(|key| shard.has(key)), [false, false, true]);
    shard.clear_some(10);
    assert_eq!((shard.len(), shard.tombstone_count(), shard.stats().evictions), (2, 0, 0));
    assert_eq!(shard.change(&set("new", 5, "v")), Applied::Stale);
    assert_eq!(shard.change(&delete("above", 5)), Applied::Stale);
    assert_eq!(shard.flushed_at(partition(1)), version(5));
    assert_eq!(shard.flushed_at(partition(2)), Version::ZERO);
}

#[test]
fn a_flush_and_a_drop_hide_everything_at_once_and_give_memory_back_by_and_by() {
    let mut shard = shard();
    let fill = |shard: &mut Shard, millis: u64| {
        for number in 0..30_000 {
            let _ = shard.change(&set(&number.to_string(), millis, "v"));
            let _ = shard.change(&delete(&format!("deleted-{number}"), millis));
        }
    };
    for is_drop in [false, true] {
        fill(&mut shard, 1);
        let full_bytes = shard.memory_bytes();
        match is_drop {
            true => shard.drop_partition(partition(1)),
            false => shard.flush(partition(1), version(1)),
        }
        assert_eq!((shard.len(), shard.len_of(partition(1)), shard.tombstone_count()), (0, 0, 0));
        assert!(!shard.has("7") && shard.has_remains());
        assert_eq!(shard.scan(ScanCursor::START, usize::MAX, |_| panic!("nothing is there")), None);
        assert_eq!(shard.change(&set("7", 2, "new")), Applied::Newer);
        shard.clear_some(100);
        assert!(shard.has_remains() && shard.memory_bytes() <= full_bytes + 1_000);
        let mut steps = 0;
        while shard.has_remains() {
            shard.clear_some(1);
            steps += 1;
        }
        assert!(steps > 1_000, "{steps} steps of a bucket each");
        assert_eq!((shard.len(), shard.stats().evictions), (1, 0));
        assert_eq!(shard.read("7").as_deref(), Some("new"));
        shard.drop_partition(partition(1));
        shard.clear_some(10);
        assert_eq!(shard.memory_bytes(), EMPTY_BYTES);
    }
}

#[test]
fn a_flush_among_newer_entries_hides_the_older_ones_at_once() {
    let mut shard = shard();
    for number in 0..5_000 {
        let _ = shard.change(&set(&number.to_string(), number, "v"));
    }
    shard.flush(partition(1), version(2_000));
    assert!(!shard.has("2000") && shard.has("2001") && shard.has_remains());
    let mut seen = 0;
    assert_eq!(shard.scan(ScanCursor::START, usize::MAX, |_| seen += 1), None);
    assert_eq!(seen, 2_999);
    assert_eq!(shard.change(&set("7", 2_001, "again")), Applied::Newer);
    shard.clear_some(10_000);
    assert!(!shard.has_remains());
    assert_eq!((shard.len(), shard.len_of(partition(1))), (3_000, 3_000));
    assert_eq!(shard.read("7").as_deref(), Some("again"));
}

#[test]
fn what_a_flush_has_left_goes_before_anything_is_evicted() {
    let memory_bytes_max = memory_for(4);
    let mut shard = Shard::new(ShardLimits::new(memory_bytes_max), 42);
    let _ = shard.apply(partition(2), &set("oldest", 1, "v"), NOW);
    for number in 0..20_000_u64 {
        let _ = shard.change(&set(&format!("key-{number:06}"), number, "v"));
    }
    assert_eq!(shard.stats().evictions, 0);
    shard.flush(partition(1), version(20_000));
    for number in 0..20_000_u64 {
        let _ = shard.change(&set(&format!("new-{number:06}"), 40_000 + number, "v"));
    }
    assert!(shard.contains(partition(2), b"oldest", NOW));
    assert_eq!((shard.len(), shard.stats().evictions), (20_001, 0));
}

#[test]
fn a_flush_older_than_the_last_one_does_nothing() {
    let mut shard = shard();
    shard.flush(partition(1), version(5));
    shard.flush(partition(1), version(3));
    assert_eq!(shard.flushed_at(partition(1)), version(5));
    assert_eq!(shard.change(&set("k", 4, "v")), Applied::Stale);
}

#[test]
fn a_dropped_partition_is_as_if_it_had_never_been() {
    let mut shard = shard();
    shard.flush(partition(1), version(5));
    let _ = shard.change(&set("k", 6, "v"));
    let _ = shard.change(&delete("deleted", 6));
    let _ = shard.apply(partition(2), &set("elsewhere", 1, "v"), NOW);
    shard.drop_partition(partition(1));
    assert_eq!(shard.flushed_at(partition(1)), Version::ZERO);
    assert_eq!((shard.len(), shard.tombstone_count(), shard.stats().evictions), (1, 0, 0));
    assert_eq!(shard.change(&set("k", 1, "old")), Applied::Newer);
}

#[test]
fn an_emptied_shard_takes_what_an_empty_one_takes() {
    let mut shard = shard();
    for number in 0..5_000 {
        let _ = shard.apply(partition(number % 3), &set(&number.to_string(), 1, "v"), NOW);
    }
    (0..3).for_each(|number| shard.flush(partition(number), version(1)));
    shard.clear_some(10_000);
    assert_eq!(shard.memory_bytes(), EMPTY_BYTES);
    assert!(shard.is_empty());
}

#[test]
fn tombstones_go_when_they_are_old_enough_oldest_first_in_bounded_steps() {
    let mut shard = shard();
    for number in 0..10 {
        let _ = shard.change(&delete(&number.to_string(), number));
    }
    assert_eq!(shard.sweep(later(599_999), 100), 0);
    assert_eq!(shard.sweep(later(600_004), 3), 3);
    assert_eq!(shard.version_of(partition(1), b"2"), None);
    assert_eq!(shard.version_of(partition(1), b"3"), Some(version(3)));
    assert_eq!(shard.sweep(later(600_004), 100), 2);
    assert_eq!((shard.tombstone_count(), shard.stats().evictions), (5, 0));
}

#[test]
fn tombstones_over_their_part_of_the_memory_push_out_the_oldest_and_no_value() {
    let limits = ShardLimits { tombstone_bytes_max: 10 * 24, ..ShardLimits::new(AMPLE_BYTES) };
    let mut shard = Shard::new(limits, 42);
    let _ = shard.change(&set("k", 1, "v"));
    for number in 0..25 {
        let _ = shard.change(&delete(&format!("{number:02}"), number));
    }
    assert_eq!((shard.len(), shard.tombstone_count(), shard.stats().evictions), (1, 10, 0));
    assert_eq!(shard.version_of(partition(1), b"14"), None);
    assert_eq!(shard.version_of(partition(1), b"15"), Some(version(15)));
}

#[test]
fn a_scan_visits_everything_once_in_bounded_steps_though_the_shard_changes() {
    let mut shard = shard();
    for number in 0..3_000 {
        let _ = shard.apply(partition(number % 5), &set(&format!("stays-{number}"), 1, "v"), NOW);
        let _ = shard.apply(partition(number % 5), &set(&format!("goes-{number}"), 1, "v"), NOW);
    }
    let mut seen = Vec::new();
    let mut next = Some(ScanCursor::START);
    let mut step = 0;
    while let Some(cursor) = next {
        let mut visits = 0;
        next = shard.scan(cursor, 100, |item| {
            visits += 1;
            seen.push(item.key.to_vec());
        });
        assert!(visits < 100 + 40, "{visits} visits");
        for number in step * 50..(step + 1) * 50 {
            let other = (number * 7) % 3_000;
            let at = partition(other % 5);
            let _ = shard.apply(at, &set(&format!("stays-{other}"), 2, vec![7; other as usize]), NOW);
            let deleted = 2_999 - other;
            let _ = shard.apply(partition(deleted % 5), &delete(&format!("stays-{deleted}"), 3), NOW);
            let _ = shard.apply(at, &set(&format!("comes-{number}"), 1, "v"), NOW);
            shard.get(at, format!("goes-{other}").as_bytes(), NOW);
        }
        shard.drop_entry_of_test(&format!("goes-{step}"), partition(step % 5));
        step += 1;
    }
    let stays = seen.iter().filter(|key| key.starts_with(b"stays"));
    assert_eq!(stays.clone().count(), 3_000);
    assert_eq!(stays.collect::<std::collections::BTreeSet<_>>().len(), 3_000);
}

impl Shard {
    fn drop_entry_of_test(&mut self, key: &str, partition: Partition) {
        if let Some(index) = self.find(partition, key.as_bytes()) {
            self.remove(index);
        }
    }
}

#[test]
fn a_scan_ends_at_once_with_a_cursor_beyond_the_end_and_in_an_empty_shard() {
    let mut shard = shard();
    assert_eq!(shard.scan(ScanCursor::START, 10, |_| panic!("nothing is there")), None);
    let _ = shard.change(&set("k", 1, "v"));
    let (partition, position) = (4_095, (1 << POSITION_BITS) - 1);
    assert_eq!(
        shard.scan(ScanCursor(partition << POSITION_BITS | position), 10, |_| panic!("nothing is there")),
        None
    );
}

#[test]
fn a_scan_shows_values_deadlines_and_tombstones_as_the_changes_they_came_from() {
    let mut shard = shard();
    let changes = [set("a", 1, "v"), set_until("b", 2, "w", later(10)), delete("c", 3)];
    changes.iter().for_each(|change| assert_eq!(shard.change(change), Applied::Newer));
    let mut seen = Vec::new();
    let next = shard.scan(ScanCursor::START, 3, |item| {
        assert_eq!(item.partition, partition(1));
        seen.push(item.to_change());
    });
    seen.sort_by_key(|change| change.version);
    assert_eq!(seen, changes);
    assert_eq!(next.and_then(|cursor| shard.scan(cursor, 1, |_| panic!("there were three"))), None);
}

#[test]
fn values_that_nobody_reads_are_cleared_away_after_their_deadline_some_at_a_time() {
    let mut shard = shard();
    let deadline = Timestamp::from_millis(NOW.as_millis() + 100);
    for number in 0..10 {
        let change = set_until(&format!("expires-{number}"), number, "v", deadline);
        assert_eq!(shard.apply(partition(0), &change, NOW), Applied::Newer);
    }
    assert_eq!(shard.apply(partition(0), &set("stays", 50, "v"), NOW), Applied::Newer);
    shard.expire_some(Timestamp::from_millis(deadline.as_millis() - 1), 1_000);
    assert_eq!(shard.len(), 11);
    // Those of a bucket together.
    shard.expire_some(deadline, 1);
    assert!((1..11).contains(&shard.len()), "{} left", shard.len());
    // Round again, as often as it takes.
    (0..3).for_each(|_| shard.expire_some(deadline, 5));
    assert_eq!((shard.len(), shard.tombstone_count(), shard.stats().expirations), (1, 10, 10));
}
