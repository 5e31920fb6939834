//! A shard against a naive model of it, under random sequences of operations; and the merge rule
//! under random orders of arrival.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::store::Content;
use crate::store::tables::EMPTY_BYTES;

const PARTITIONS: [u16; 3] = [0, 7, 4_095];
const TOMBSTONE_AGE_MAX: Duration = Duration::from_millis(30);

/// Large enough that a few values fill the memory of the small shard.
const VALUE_BYTES_MAX: usize = 90_000;
/// Regions of the small shard.
const REGION_BYTES: usize = 256 * 1024;
const REGIONS: usize = 2;
/// Part of them that is in use when something has to go. One third of a region may be too short for a
/// value, and each of a few short entries has a page.
const MEMORY_USED_MIN: usize = REGIONS * REGION_BYTES / 3;

type Name = (Partition, Bytes);

#[derive(Clone, Debug)]
enum Operation {
    Apply(Name, Version, Content),
    Read(Name),
    Flush(Partition, Version),
    DropPartition(Partition),
    Clear(usize),
    Sweep(usize),
    Scan(usize),
    Wait(u64),
}

fn names() -> impl Strategy<Value = Name> {
    (prop::sample::select(&PARTITIONS[..]), 0..12_usize).prop_map(|(partition, number)| {
        let partition = Partition::new(partition).unwrap();
        (partition, Bytes::from(vec![number as u8; number * 3]))
    })
}

/// Few milliseconds and few counters, so that versions meet.
fn versions() -> impl Strategy<Value = Version> {
    (1..60_u64, 0..2_u64).prop_map(|(millis, counter)| {
        Version::from_raw(Version::first_of(Timestamp::from_millis(millis)).as_raw() + counter)
    })
}

fn contents(value_bytes_max: usize) -> impl Strategy<Value = Content> {
    let values = (0..=value_bytes_max, any::<u8>(), prop::option::of(0..60_u64));
    prop_oneof![
        1 => Just(Content::Deleted),
        4 => values.prop_map(|(length, byte, expires_at)| Content::Value {
            bytes: Bytes::from(vec![byte; length]),
            expires_at: expires_at.map(Timestamp::from_millis),
        }),
    ]
}

fn operations(value_bytes_max: usize) -> impl Strategy<Value = Vec<Operation>> {
    let partitions = || names().prop_map(|(partition, _)| partition);
    let operation = prop_oneof![
        20 => (names(), versions(), contents(value_bytes_max))
            .prop_map(|(name, version, content)| Operation::Apply(name, version, content)),
        10 => names().prop_map(Operation::Read),
        1 => (partitions(), versions()).prop_map(|(partition, version)| Operation::Flush(partition, version)),
        1 => partitions().prop_map(Operation::DropPartition),
        2 => (0..4_usize).prop_map(Operation::Clear),
        2 => (0..4_usize).prop_map(Operation::Sweep),
        5 => (1..6_usize).prop_map(Operation::Scan),
        3 => (0..4_u64).prop_map(Operation::Wait),
    ];
    prop::collection::vec(operation, 1..150)
}

/// The shard as one would write it without a care for memory or speed.
#[derive(Default)]
struct Model {
    entries: HashMap<Name, (Version, Content)>,
    flushed_at: HashMap<Partition, Version>,
    /// Values, the one not used for longest first.
    recency: Vec<Name>,
    /// Tombstones, the one that came first first.
    tombstones: Vec<Name>,
    evictions: u64,
    now: Timestamp,
}

impl Model {
    fn apply(&mut self, name: &Name, version: Version, content: &Content) -> bool {
        let content = self.as_of_now(content);
        let is_flushed = self.flushed_at.get(&name.0).is_some_and(|mark| version <= *mark);
        let known = self.entries.get(name).map(|(version, content)| (*version, self.as_of_now(content)));
        if is_flushed || known.is_some_and(|known| (version, content.clone()) <= known) {
            return false;
        }
        self.store(name, version, content);
        true
    }

    fn as_of_now(&self, content: &Content) -> Content {
        match content {
            Content::Value { expires_at: Some(expires_at), .. } if *expires_at <= self.now => {
                Content::Deleted
            }
            content => content.clone(),
        }
    }

    fn store(&mut self, name: &Name, version: Version, content: Content) {
        self.remove(name);
        match content {
            Content::Deleted => self.tombstones.push(name.clone()),
            Content::Value { .. } => self.recency.push(name.clone()),
        }
        self.entries.insert(name.clone(), (version, content));
    }

    fn remove(&mut self, name: &Name) {
        self.recency.retain(|other| other != name);
        self.tombstones.retain(|other| other != name);
        self.entries.remove(name);
    }

    fn read(&mut self, name: &Name) -> Option<Bytes> {
        let (version, content) = self.entries.get(name)?.clone();
        match (&content, self.as_of_now(&content)) {
            (Content::Value { .. }, Content::Deleted) => {
                match self.is_old(version) {
                    true => self.remove(name),
                    false => self.store(name, version, Content::Deleted),
                }
                None
            }
            (_, Content::Value { bytes, .. }) => {
                self.store(name, version, content);
                Some(bytes)
            }
            (Content::Deleted, Content::Deleted) => None,
        }
    }

    fn is_old(&self, version: Version) -> bool {
        let age = self.now.as_millis().saturating_sub(version.time().as_millis());
        Duration::from_millis(age) >= TOMBSTONE_AGE_MAX
    }

    fn forget(&mut self, partition: Partition, up_to: Version) {
        let is_forgotten = |name: &Name, version: Version| name.0 == partition && version <= up_to;
        self.recency.retain(|name| !is_forgotten(name, self.entries[name].0));
        self.tombstones.retain(|name| !is_forgotten(name, self.entries[name].0));
        self.entries.retain(|name, (version, _)| !is_forgotten(name, *version));
    }

    fn sweep(&mut self, steps_max: usize) {
        for _ in 0..steps_max {
            match self.tombstones.first().cloned() {
                Some(oldest) if self.is_old(self.entries[&oldest].0) => self.remove(&oldest),
                _ => return,
            }
        }
    }
}

/// A scan under way: what has been there since it began, and what it has visited.
#[derive(Default)]
struct Scan {
    cursor: Option<ScanCursor>,
    stayed: HashSet<Name>,
    visited: Vec<Name>,
}

struct Bench {
    shard: Shard,
    model: Model,
    scan: Scan,
}

impl Bench {
    fn new(limits: ShardLimits) -> Self {
        Self { shard: Shard::new(limits, 42), model: Model::default(), scan: Scan::default() }
    }

    fn run(&mut self, operation: &Operation) {
        let now = self.model.now;
        match operation {
            Operation::Apply(name, version, content) => {
                let change = Change { key: name.1.clone(), version: *version, content: content.clone() };
                match self.shard.apply(name.0, &change, now) {
                    Applied::Newer => assert!(self.model.apply(name, *version, content)),
                    Applied::Stale => assert!(!self.model.apply(name, *version, content)),
                    Applied::NoRoom | Applied::TooLarge { .. } => panic!("no value here is too large"),
                }
                self.evict(Some(name));
            }
            Operation::Read(name) => {
                let is_there = self.shard.contains(name.0, &name.1, now);
                let hash = self.shard.hash(&name.1);
                // Whatever is there, warming it does nothing that shows.
                self.shard.warm_table(name.0, hash);
                if let Some(warmed) = self.shard.warm_entry(name.0, hash) {
                    self.shard.warm_neighbours(warmed);
                }
                let value = self.shard.get_hashed(name.0, &name.1, hash, now).map(Bytes::copy_from_slice);
                assert_eq!(is_there, value.is_some());
                assert_eq!(value, self.model.read(name));
                // One that is found past its deadline leaves a tombstone, which may need a page.
                self.evict(None);
            }
            Operation::Flush(partition, version) => {
                self.shard.flush(*partition, *version);
                let mark = self.model.flushed_at.entry(*partition).or_default();
                *mark = (*mark).max(*version);
                self.model.forget(*partition, *version);
            }
            Operation::DropPartition(partition) => {
                self.shard.drop_partition(*partition);
                self.model.flushed_at.remove(partition);
                self.model.forget(*partition, Version::from_raw(u64::MAX));
            }
            Operation::Clear(steps_max) => self.shard.clear_some(*steps_max),
            Operation::Sweep(steps_max) => {
                assert!(self.shard.sweep(now, *steps_max) <= *steps_max);
                self.model.sweep(*steps_max);
            }
            Operation::Scan(visits_max) => self.scan(*visits_max),
            Operation::Wait(millis) => self.model.now = Timestamp::from_millis(now.as_millis() + millis),
        }
        self.scan.stayed.retain(|name| self.model.entries.contains_key(name));
    }

    /// Takes from the model, in its order, what the shard has evicted. That nothing went without need is
    /// checked by number, and for memory by how much of it was in use.
    fn evict(&mut self, written: Option<&Name>) {
        let limits = self.shard.limits().clone();
        let items_max = limits.items_max.unwrap_or(usize::MAX);
        while self.shard.values() < self.model.recency.len() {
            let is_needed = self.model.recency.len() > items_max || self.model.bytes() > MEMORY_USED_MIN;
            assert!(is_needed, "evicted though there was room");
            let oldest = self.model.recency[0].clone();
            assert_ne!(Some(&oldest), written, "evicted what was just written");
            self.model.remove(&oldest);
            self.model.evictions += 1;
        }
        assert!(self.shard.memory_bytes() <= limits.memory_bytes_max);
        assert!(self.shard.len() <= items_max);
    }

    fn scan(&mut self, visits_max: usize) {
        let cursor = self.scan.cursor.unwrap_or_else(|| {
            self.scan = Scan { stayed: self.model.entries.keys().cloned().collect(), ..Scan::default() };
            ScanCursor::START
        });
        let mut visits = 0;
        self.scan.cursor = self.shard.scan(cursor, visits_max, |item| {
            visits += 1;
            let name = (item.partition, Bytes::copy_from_slice(item.key));
            let change = item.to_change();
            assert_eq!(self.model.entries.get(&name), Some(&(change.version, change.content)));
            self.scan.visited.push(name);
        });
        // All that share a bucket are visited together, here nearly all of a partition.
        assert!(visits < visits_max + 12);
        if self.scan.cursor.is_none() {
            for name in &self.scan.stayed {
                let visits = self.scan.visited.iter().filter(|visited| *visited == name).count();
                assert_eq!(visits, 1, "{name:?} was there all the time");
            }
        }
    }

    fn check(&self) {
        let (shard, model) = (&self.shard, &self.model);
        assert_eq!(shard.names(shard.recency()), model.recency);
        assert_eq!(shard.names(&shard.tombstones), model.tombstones);
        assert_eq!(shard.stats().evictions, model.evictions);
        for partition in PARTITIONS.map(|number| Partition::new(number).unwrap()) {
            let values = model.recency.iter().filter(|name| name.0 == partition).count();
            let kept: Vec<_> = shard.values_of(partition).map(|item| item.content).collect();
            assert_eq!(kept.len(), values);
            let has_deadline = |content: &&ItemContent<'_>| {
                matches!(content, ItemContent::Value { expires_at: Some(_), .. })
            };
            let expiring = kept.iter().filter(has_deadline).count();
            match shard.has_remains() {
                true => {
                    assert!(shard.len_of(partition) >= values);
                    assert!(shard.expiring_len_of(partition) >= expiring);
                }
                false => {
                    assert_eq!(shard.len_of(partition), values);
                    assert_eq!(shard.expiring_len_of(partition), expiring);
                }
            }
            let mark = model.flushed_at.get(&partition).copied().unwrap_or_default();
            assert_eq!(shard.flushed_at(partition), mark);
        }
        if !shard.has_remains() {
            assert_eq!(shard.len(), model.recency.len());
            assert_eq!(shard.tombstone_count(), model.tombstones.len());
        }
        for (name, (version, content)) in &model.entries {
            assert_eq!(shard.version_of(name.0, &name.1), Some(*version));
            let index = shard.find(name.0, &name.1).unwrap();
            assert_eq!(shard.slab.record(index).content(), ItemContent::from(content));
        }
        let recounted_bytes = shard.tables.recounted_memory_bytes() + shard.slab.recounted_memory_bytes();
        assert_eq!(shard.memory_bytes(), recounted_bytes);
        let tombstones = shard.tombstones.oldest_first(&shard.slab);
        let recounted_bytes: usize = tombstones.iter().map(|index| shard.slab.entry_bytes(*index)).sum();
        assert_eq!(shard.tombstone_bytes, recounted_bytes);
    }
}

impl Model {
    /// Keys and values.
    fn bytes(&self) -> usize {
        let bytes = |((_, key), (_, content)): (&Name, &(Version, Content))| match content {
            Content::Deleted => key.len(),
            Content::Value { bytes, .. } => key.len() + bytes.len(),
        };
        self.entries.iter().map(bytes).sum()
    }
}

impl Shard {
    /// The names of a list, without those that are gone but not cleared away.
    fn names(&self, list: &List) -> Vec<Name> {
        let indexes = list.oldest_first(&self.slab).into_iter();
        let items = indexes.map(|index| (index, self.slab.record(index).item()));
        let is_there = |(index, item): &(u32, Item<'_>)| self.find(item.partition, item.key) == Some(*index);
        let name = |(_, item): (u32, Item<'_>)| (item.partition, Bytes::copy_from_slice(item.key));
        items.filter(is_there).map(name).collect()
    }

    fn recency(&self) -> &List {
        self.order.recency()
    }

    fn values(&self) -> usize {
        self.names(self.recency()).len()
    }

    fn state(&self) -> BTreeMap<Name, (Version, Content)> {
        let mut state = BTreeMap::new();
        let next = self.scan(ScanCursor::START, usize::MAX, |item| {
            let change = item.to_change();
            state.insert((item.partition, change.key), (change.version, change.content));
        });
        assert_eq!(next, None);
        state
    }

    fn merge(&mut self, operation: &Operation, now: Timestamp) {
        match operation {
            Operation::Apply((partition, key), version, content) => {
                let change = Change { key: key.clone(), version: *version, content: content.clone() };
                let applied = self.apply(*partition, &change, now);
                assert!(matches!(applied, Applied::Newer | Applied::Stale));
            }
            Operation::Flush(partition, version) => self.flush(*partition, *version),
            operation => panic!("{operation:?} does not travel"),
        }
    }
}

/// Changes and flushes of few keys at few versions, so that they meet.
fn arrivals() -> impl Strategy<Value = Vec<Operation>> {
    let names = || {
        (0..2_u16, 0..3_u8)
            .prop_map(|(partition, key)| (Partition::new(partition).unwrap(), Bytes::from(vec![key])))
    };
    let versions = || (1..6_u64).prop_map(Version::from_raw);
    let arrival = prop_oneof![
        9 => (names(), versions(), contents(2)).prop_map(|(name, version, content)| {
            Operation::Apply(name, version, content)
        }),
        1 => (names(), versions()).prop_map(|(name, version)| Operation::Flush(name.0, version)),
    ];
    prop::collection::vec(arrival, 1..40)
}

/// The same arrivals, some of them twice, in two orders.
fn arrivals_in_two_orders() -> impl Strategy<Value = (Vec<Operation>, Vec<Operation>)> {
    arrivals().prop_flat_map(|arrivals| {
        let repeated: Vec<Operation> = arrivals.iter().chain(arrivals.iter().step_by(3)).cloned().collect();
        (Just(arrivals), Just(repeated).prop_shuffle())
    })
}

proptest! {
    // No file of seeds: it would be a folder at top level. A failure prints its smallest case.
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_of_few_items_does_what_its_model_does(operations in operations(40)) {
        let limits = ShardLimits {
            items_max: Some(8),
            tombstone_age_max: TOMBSTONE_AGE_MAX,
            ..ShardLimits::new(64 << 20)
        };
        let mut bench = Bench::new(limits);
        for operation in &operations {
            bench.run(operation);
            bench.check();
        }
    }

    #[test]
    fn a_shard_of_little_memory_does_what_its_model_does(operations in operations(VALUE_BYTES_MAX)) {
        let memory_bytes_max = EMPTY_BYTES + REGIONS * REGION_BYTES + 16 * 1024;
        let limits = ShardLimits {
            tombstone_age_max: TOMBSTONE_AGE_MAX,
            ..ShardLimits::new(memory_bytes_max)
        };
        let mut bench = Bench::new(limits);
        for operation in &operations {
            bench.run(operation);
            bench.check();
        }
    }

    #[test]
    fn changes_and_flushes_give_one_result_in_any_order_and_number(
        (first, second) in arrivals_in_two_orders(),
    ) {
        let now = Timestamp::from_millis(30);
        let mut shards = [&first, &second].map(|arrivals| {
            let mut shard = Shard::new(ShardLimits::new(64 << 20), arrivals.len() as u64);
            arrivals.iter().for_each(|arrival| shard.merge(arrival, now));
            shard
        });
        prop_assert_eq!(shards[0].state(), shards[1].state());
        for partition in [0, 1].map(|number| Partition::new(number).unwrap()) {
            prop_assert_eq!(shards[0].flushed_at(partition), shards[1].flushed_at(partition));
        }
        let merged = shards[0].state();
        for ((partition, key), (version, content)) in merged.clone() {
            let change = Change { key, version, content };
            prop_assert_eq!(shards[1].apply(partition, &change, now), Applied::Stale);
        }
    }

    #[test]
    fn two_copies_that_pull_from_each_other_become_equal(
        (left, right) in (arrivals(), arrivals()),
    ) {
        let now = Timestamp::from_millis(30);
        let mut shards = [&left, &right].map(|arrivals| {
            let mut shard = Shard::new(ShardLimits::new(64 << 20), 42);
            arrivals.iter().for_each(|arrival| shard.merge(arrival, now));
            shard
        });
        for (target, source) in [(0, 1), (1, 0)] {
            for partition in [0, 1].map(|number| Partition::new(number).unwrap()) {
                let mark = shards[source].flushed_at(partition);
                shards[target].flush(partition, mark);
            }
            for ((partition, key), (version, content)) in shards[source].state() {
                shards[target].merge(&Operation::Apply((partition, key), version, content), now);
            }
        }
        prop_assert_eq!(shards[0].state(), shards[1].state());
    }
}
