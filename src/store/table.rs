//! A hash table of slot numbers that grows in small steps, whatever its size.
//!
//! Buckets are one line of the processor's cache: twelve numbers, and eight bits of the hash of each, so
//! that a key that is not there is hardly ever compared with one that is. An entry whose bucket is full
//! goes to the next one with room; a count of those who went by says when a search ends. Buckets lie in
//! the arena, so tables that grow leave nothing behind that the allocator keeps.
//!
//! Entries lie in the order of their hashes, so a scan goes by hash and does not notice that a table
//! grows. A table of more than a few thousand entries is divided by hash into several, each growing
//! and dividing by itself: no step takes long.
//!
//! Keys are compared and hashed by whoever calls.

use crate::store::arena::Arena;
use crate::store::arena::GRANULE_BYTES;
use crate::store::bucket::BUCKET_BYTES;
use crate::store::bucket::bucket;
use crate::store::bucket::bucket_mut;
use crate::store::bucket::clear;
use crate::store::bucket::index_in;
use crate::store::bucket::indexes;
use crate::store::bucket::passed;
use crate::store::bucket::set;
use crate::store::bucket::set_passed;
use crate::store::bucket::slots_with;
use crate::store::size_class::size_class;

/// The smallest part of the arena.
const GRANULE_BUCKETS: usize = GRANULE_BYTES / BUCKET_BYTES;
/// Slots used of a bucket on average before a table grows.
const BUCKET_LOAD: usize = 11;
/// Fewer than this on average make a table sparse.
const BUCKET_LOAD_MIN: usize = 2;
/// A table that would take more is divided.
const GRANULES_MAX: usize = 96;
/// Bits of a hash by which tables are divided: as many as a position in a scan has.
const DEPTH_MAX: u32 = POSITION_BITS;

/// Bits of a position in a scan.
pub(super) const POSITION_BITS: u32 = 20;

/// The hash of a key, as one shard hashes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyHash(pub(super) u64);

impl KeyHash {
    /// Where in the order of all hashes.
    fn order(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The part of it that decides where a scan meets it.
    pub(super) fn position(self) -> u32 {
        self.order() >> (32 - POSITION_BITS)
    }

    /// Never zero: that is an empty slot.
    fn tag(self) -> u8 {
        (self.0 as u8).max(1)
    }
}

/// An entry's place in a [`Flat`].
#[derive(Clone, Copy)]
struct At {
    home: usize,
    bucket: usize,
    slot: usize,
    index: u32,
}

/// One undivided table, of the entries whose hashes begin with the same `depth` bits.
#[derive(Clone, Copy, Default)]
struct Flat {
    /// Where the buckets are, if there are any.
    span: u32,
    granules: u16,
    depth: u16,
    len: u32,
}

impl Flat {
    /// An empty table, if there is memory for it.
    fn allocate(arena: &mut Arena, granules: usize, depth: u16) -> Option<Self> {
        let span = arena.allocate(granules as u32, 0)?;
        let flat = Self { span, granules: granules as u16, depth, len: 0 };
        flat.buckets_mut(arena).fill(0);
        Some(flat)
    }

    fn release(&mut self, arena: &mut Arena) {
        if self.granules > 0 {
            arena.release(self.span);
        }
        (self.granules, self.len) = (0, 0);
    }

    fn bucket_count(&self) -> usize {
        usize::from(self.granules) * GRANULE_BUCKETS
    }

    fn buckets_mut<'a>(&self, arena: &'a mut Arena) -> &'a mut [u8] {
        &mut arena.slot_mut(self.span, 0)[..usize::from(self.granules) * GRANULE_BYTES]
    }

    /// Its buckets, and whatever follows.
    #[inline]
    fn buckets<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        arena.slot(self.span, 0)
    }

    #[inline]
    fn home(&self, order: u32) -> usize {
        let order = u64::from(order << self.depth);
        ((order * self.bucket_count() as u64) >> 32) as usize
    }

    /// The bucket after another one.
    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.bucket_count() { 0 } else { bucket + 1 }
    }

    #[inline]
    fn find(&self, arena: &Arena, hash: KeyHash, mut is_it: impl FnMut(u32) -> bool) -> Option<At> {
        if self.granules == 0 {
            return None;
        }
        let buckets = self.buckets(arena);
        let home = self.home(hash.order());
        let mut at = home;
        loop {
            let bucket = bucket(buckets, at);
            let mut slots = slots_with(bucket, hash.tag());
            while slots != 0 {
                let slot = slots.trailing_zeros() as usize;
                let index = index_in(bucket, slot);
                if is_it(index) {
                    return Some(At { home, bucket: at, slot, index });
                }
                slots &= slots - 1;
            }
            if passed(bucket) == 0 {
                return None;
            }
            at = self.next(at);
            if at == home {
                return None;
            }
        }
    }

    #[inline]
    fn has_room(&self) -> bool {
        (self.len as usize) < self.bucket_count() * BUCKET_LOAD
    }

    /// Adds an entry. There is room.
    fn insert(&mut self, arena: &mut Arena, hash: KeyHash, index: u32) {
        let mut at = self.home(hash.order());
        let buckets = self.buckets_mut(arena);
        loop {
            let bucket = bucket_mut(buckets, at);
            let empty = slots_with(bucket, 0);
            if empty != 0 {
                set(bucket, empty.trailing_zeros() as usize, hash.tag(), index);
                break;
            }
            set_passed(bucket, passed(bucket) + 1);
            at = self.next(at);
        }
        self.len += 1;
    }

    fn remove(&mut self, arena: &mut Arena, at: At) {
        let buckets = self.buckets_mut(arena);
        set(bucket_mut(buckets, at.bucket), at.slot, 0, 0);
        let mut went_past = at.home;
        while went_past != at.bucket {
            let bucket = bucket_mut(buckets, went_past);
            set_passed(bucket, passed(bucket) - 1);
            went_past = self.next(went_past);
        }
        self.len -= 1;
    }

    /// All entries with their hashes.
    fn entries(&self, arena: &Arena, hash_of: impl Fn(&Arena, u32) -> KeyHash) -> Vec<(KeyHash, u32)> {
        let buckets = self.buckets(arena);
        let all = (0..self.bucket_count()).flat_map(|at| indexes(bucket(buckets, at)));
        all.map(|index| (hash_of(arena, index), index)).collect()
    }

    /// The same entries in so much memory, if there is that much.
    fn rebuild(
        &mut self,
        arena: &mut Arena,
        granules: usize,
        hash_of: impl Fn(&Arena, u32) -> KeyHash,
    ) -> bool {
        let Some(mut rebuilt) = Self::allocate(arena, granules, self.depth) else { return false };
        if self.granules > 0 {
            for (hash, index) in self.entries(arena, hash_of) {
                rebuilt.insert(arena, hash, index);
            }
        }
        self.release(arena);
        *self = rebuilt;
        true
    }

    /// The same entries in two tables, by the bit behind those that all have in common.
    fn divide(&mut self, arena: &mut Arena, hash_of: impl Fn(&Arena, u32) -> KeyHash) -> Option<Self> {
        let depth = self.depth + 1;
        let entries = self.entries(arena, hash_of);
        let is_upper = |hash: KeyHash| hash.order() >> (32 - depth) & 1 == 1;
        let upper_count = entries.iter().filter(|(hash, _)| is_upper(*hash)).count();
        let mut lower = Self::allocate(arena, granules_for(entries.len() - upper_count), depth)?;
        let Some(mut upper) = Self::allocate(arena, granules_for(upper_count), depth) else {
            lower.release(arena);
            return None;
        };
        for (hash, index) in entries {
            match is_upper(hash) {
                true => upper.insert(arena, hash, index),
                false => lower.insert(arena, hash, index),
            }
        }
        self.release(arena);
        *self = lower;
        Some(upper)
    }
}

/// The next larger part of the arena: a quarter more or less.
fn grown(granules: usize) -> usize {
    if granules < 8 { granules + 1 } else { granules + (1 << (granules.ilog2() - 2)) }
}

/// The smallest part of the arena for so many entries and some more.
fn granules_for(entries: usize) -> usize {
    let mut granules = 1;
    while granules * GRANULE_BUCKETS * BUCKET_LOAD <= entries + entries / 8 {
        granules = grown(granules);
    }
    granules
}

/// The slot numbers of some entries, by hash.
#[derive(Default)]
pub(super) struct Table(Shape);

enum Shape {
    One(Flat),
    Divided(Box<Directory>),
}

impl Default for Shape {
    fn default() -> Self {
        Self::One(Flat::default())
    }
}

struct Directory {
    flats: Vec<Flat>,
    /// For the first `depth` bits of a hash: which of them.
    numbers: Vec<u32>,
    depth: u16,
    len: usize,
}

impl Directory {
    fn number_of(&self, order: u32) -> usize {
        self.numbers[(u64::from(order) >> (32 - self.depth)) as usize] as usize
    }

    fn allocated_bytes(&self) -> usize {
        size_class(size_of::<Self>())
            + size_class(self.flats.capacity() * size_of::<Flat>())
            + size_class(self.numbers.capacity() * size_of::<u32>())
    }

    fn divide(&mut self, arena: &mut Arena, number: usize, hash_of: impl Fn(&Arena, u32) -> KeyHash) -> bool {
        let Some(upper) = self.flats[number].divide(arena, hash_of) else { return false };
        if upper.depth > self.depth {
            self.numbers = self.numbers.iter().flat_map(|number| [*number, *number]).collect();
            self.depth += 1;
        }
        let count = 1 << (self.depth - upper.depth);
        let lower_start = self.numbers.iter().position(|other| *other as usize == number);
        let start = lower_start.expect("every flat table has a number") + count;
        self.numbers[start..start + count].fill(self.flats.len() as u32);
        self.flats.push(upper);
        true
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Shape::One(flat) => flat.len as usize,
            Shape::Divided(directory) => directory.len,
        }
    }

    #[inline]
    fn flat(&self, hash: KeyHash) -> &Flat {
        match &self.0 {
            Shape::One(flat) => flat,
            Shape::Divided(directory) => &directory.flats[directory.number_of(hash.order())],
        }
    }

    fn flat_mut(&mut self, hash: KeyHash) -> &mut Flat {
        match &mut self.0 {
            Shape::One(flat) => flat,
            Shape::Divided(directory) => {
                let number = directory.number_of(hash.order());
                &mut directory.flats[number]
            }
        }
    }

    /// What the allocator has given for it. The rest is in the arena.
    pub(super) fn allocated_bytes(&self) -> usize {
        match &self.0 {
            Shape::One(_) => 0,
            Shape::Divided(directory) => directory.allocated_bytes(),
        }
    }

    /// The slot number of the entry with that hash which `is_it`.
    #[inline]
    pub(super) fn find(&self, arena: &Arena, hash: KeyHash, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.flat(hash).find(arena, hash, is_it).map(|at| at.index)
    }

    /// The bucket in which an entry with that hash begins to be looked for.
    #[inline]
    pub(super) fn first_bytes<'a>(&self, arena: &'a Arena, hash: KeyHash) -> Option<&'a [u8]> {
        let flat = self.flat(hash);
        (flat.granules > 0).then(|| &bucket(flat.buckets(arena), flat.home(hash.order()))[..])
    }

    /// Makes sure that an entry with that hash can be added; false: there is no memory for it.
    pub(super) fn reserve(
        &mut self,
        arena: &mut Arena,
        hash: KeyHash,
        hash_of: impl Fn(&Arena, u32) -> KeyHash,
    ) -> bool {
        let flat = self.flat_mut(hash);
        if flat.has_room() {
            return true;
        }
        let granules = grown(usize::from(flat.granules));
        if granules <= GRANULES_MAX || u32::from(flat.depth) == DEPTH_MAX {
            return flat.rebuild(arena, granules, hash_of);
        }
        if let Shape::One(flat) = self.0 {
            let len = flat.len as usize;
            let directory = Directory { flats: vec![flat], numbers: vec![0], depth: 0, len };
            self.0 = Shape::Divided(Box::new(directory));
        }
        let Shape::Divided(directory) = &mut self.0 else { return false };
        let number = directory.number_of(hash.order());
        // Should all entries have gone to one side, that one is full no longer.
        directory.divide(arena, number, hash_of)
    }

    /// Adds an entry that is not there. Room was reserved.
    pub(super) fn insert(&mut self, arena: &mut Arena, hash: KeyHash, index: u32) {
        self.flat_mut(hash).insert(arena, hash, index);
        if let Shape::Divided(directory) = &mut self.0 {
            directory.len += 1;
        }
    }

    /// Takes an entry out; whether it was there.
    pub(super) fn remove(&mut self, arena: &mut Arena, hash: KeyHash, index: u32) -> bool {
        let flat = self.flat_mut(hash);
        let Some(at) = flat.find(arena, hash, |other| other == index) else { return false };
        flat.remove(arena, at);
        if let Shape::Divided(directory) = &mut self.0 {
            directory.len -= 1;
        }
        true
    }

    /// Gives memory back that an entry with that hash, which was taken out, leaves unused: all of it with
    /// the last one.
    pub(super) fn shrink(
        &mut self,
        arena: &mut Arena,
        hash: KeyHash,
        hash_of: impl Fn(&Arena, u32) -> KeyHash,
    ) {
        if self.len() == 0 {
            match &mut self.0 {
                Shape::One(flat) => flat.release(arena),
                Shape::Divided(directory) => directory.flats.iter_mut().for_each(|flat| flat.release(arena)),
            }
            *self = Self::default();
            return;
        }
        let flat = self.flat_mut(hash);
        let entries = flat.len as usize;
        if flat.granules > 1 && entries < flat.bucket_count() * BUCKET_LOAD_MIN {
            // Where there is no memory for less, it stays as it is.
            flat.rebuild(arena, granules_for(entries), hash_of);
        }
    }

    /// Names an entry by another slot number; whether it was there.
    pub(super) fn rename(&mut self, arena: &mut Arena, hash: KeyHash, from: u32, to: u32) -> bool {
        let flat = *self.flat(hash);
        let Some(at) = flat.find(arena, hash, |other| other == from) else { return false };
        set(bucket_mut(flat.buckets_mut(arena), at.bucket), at.slot, hash.tag(), to);
        true
    }

    /// Visits the entries from a position on, about as many as a bucket has, all those of one position
    /// together. Returns the position to go on from, none behind the last.
    pub(super) fn visit(
        &self,
        arena: &Arena,
        from: u32,
        hash_of: impl Fn(&Arena, u32) -> KeyHash,
        mut visit: impl FnMut(u32),
    ) -> Option<u32> {
        const POSITIONS: u64 = 1 << POSITION_BITS;
        const ORDERS: u64 = 1 << (32 - POSITION_BITS);
        let order = from << (32 - POSITION_BITS);
        let flat = match &self.0 {
            Shape::One(flat) => flat,
            Shape::Divided(directory) => &directory.flats[directory.number_of(order)],
        };
        if flat.granules == 0 {
            return None;
        }
        let first_order = u64::from(order) >> (32 - flat.depth) << (32 - flat.depth);
        let orders = 1_u64 << (32 - flat.depth);
        // To the end of a bucket, then to the end of a position, which may lie in a later one.
        let home_end =
            first_order + ((flat.home(order) as u64 + 1) * orders).div_ceil(flat.bucket_count() as u64);
        let to = home_end.div_ceil(ORDERS).max(u64::from(from) + 1).min((first_order + orders) / ORDERS);
        let last_home = flat.home((to * ORDERS - 1) as u32);
        let buckets = flat.buckets(arena);
        for home in flat.home(order)..=last_home {
            let mut at = home;
            loop {
                for index in indexes(bucket(buckets, at)) {
                    let hash = hash_of(arena, index);
                    let position = u64::from(hash.position());
                    if flat.home(hash.order()) == home && (u64::from(from)..to).contains(&position) {
                        visit(index);
                    }
                }
                if passed(bucket(buckets, at)) == 0 {
                    break;
                }
                at = flat.next(at);
                if at == home {
                    break;
                }
            }
        }
        (to < POSITIONS).then_some(to as u32)
    }

    /// Takes entries out in no order, a bucket of them at most; none: that was all. It goes on at bucket
    /// `next` of the last part. Nothing but [`Table::remove`] and [`Table::rename`] can be done with a
    /// table that ends so.
    pub(super) fn drain_some(&mut self, arena: &mut Arena, next: &mut usize) -> Option<Vec<u32>> {
        let flat = match &mut self.0 {
            Shape::One(flat) => flat,
            Shape::Divided(directory) => {
                if let Some(mut flat) = directory.flats.pop_if(|flat| flat.bucket_count() == *next) {
                    flat.release(arena);
                    *next = 0;
                }
                directory.flats.last_mut()?
            }
        };
        if *next == flat.bucket_count() {
            flat.release(arena);
            return None;
        }
        let bucket = bucket_mut(flat.buckets_mut(arena), *next);
        *next += 1;
        let drained = indexes(bucket).collect();
        clear(bucket);
        Some(drained)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Entry `n` has a hash of its own.
    fn hash_of(_: &Arena, index: u32) -> KeyHash {
        hash(index, 0)
    }

    fn hash(index: u32, seed: u64) -> KeyHash {
        KeyHash(xxhash_rust::xxh3::xxh3_64_with_seed(&index.to_le_bytes(), seed))
    }

    struct Bench<F> {
        arena: Arena,
        table: Table,
        hash_of: F,
    }

    impl<F: Fn(&Arena, u32) -> KeyHash> Bench<F> {
        fn new(hash_of: F) -> Self {
            Self { arena: Arena::new(1 << 30), table: Table::default(), hash_of }
        }

        fn hash(&self, index: u32) -> KeyHash {
            (self.hash_of)(&self.arena, index)
        }

        fn add(&mut self, index: u32) {
            let hash = self.hash(index);
            while !self.table.reserve(&mut self.arena, hash, &self.hash_of) {
                self.arena.add_region();
            }
            self.table.insert(&mut self.arena, hash, index);
        }

        fn remove(&mut self, index: u32) -> bool {
            let hash = self.hash(index);
            self.table.remove(&mut self.arena, hash, index)
        }

        fn find(&self, index: u32) -> Option<u32> {
            self.table.find(&self.arena, self.hash(index), |other| other == index)
        }

        fn all(&self) -> Vec<u32> {
            let mut seen = Vec::new();
            let mut next = Some(0);
            while let Some(from) = next {
                next = self.table.visit(&self.arena, from, &self.hash_of, |index| seen.push(index));
                assert!(next.is_none_or(|next| next > from));
            }
            seen.sort_unstable();
            seen
        }

        /// What its parts take of the arena.
        fn bytes(&self) -> usize {
            let flats = match &self.table.0 {
                Shape::One(flat) => std::slice::from_ref(flat),
                Shape::Divided(directory) => &directory.flats[..],
            };
            flats.iter().map(|flat| usize::from(flat.granules) * GRANULE_BYTES).sum()
        }
    }

    #[test]
    fn a_table_finds_and_visits_what_was_added_at_every_size_and_gives_everything_back() {
        let mut bench = Bench::new(hash_of);
        for index in 0..50_000 {
            bench.add(index);
            if index % 997 == 0 || index < 300 {
                assert!(bench.all().into_iter().eq(0..=index));
            }
        }
        for index in 0..50_000 {
            assert_eq!(bench.find(index), Some(index));
            assert_eq!(bench.find(index + 50_000), None);
        }
        for index in 0..50_000 {
            assert!(bench.remove(index) && !bench.remove(index));
            let hash = bench.hash(index);
            bench.table.shrink(&mut bench.arena, hash, hash_of);
            if index % 997 == 0 || index > 49_700 {
                assert!(bench.all().into_iter().eq(index + 1..50_000));
            }
        }
        assert_eq!((bench.arena.memory_bytes(), bench.table.allocated_bytes()), (0, 0));
    }

    #[test]
    fn a_table_takes_between_six_and_nine_bytes_an_entry() {
        let mut bench = Bench::new(hash_of);
        for index in 0..200_000 {
            bench.add(index);
            let bytes = bench.bytes();
            assert!(index < 200 || bytes <= (index as usize + 1) * 9, "{bytes} bytes for {index} entries");
        }
    }

    #[test]
    fn no_step_of_growing_or_dividing_looks_at_more_than_some_thousand_entries() {
        let looked_at = std::cell::Cell::new(0);
        let mut bench = Bench::new(|arena: &Arena, index| {
            looked_at.set(looked_at.get() + 1);
            hash_of(arena, index)
        });
        for index in 0..300_000 {
            looked_at.set(0);
            bench.add(index);
            assert!(looked_at.get() <= GRANULES_MAX * GRANULE_BUCKETS * BUCKET_LOAD + 1);
        }
    }

    #[test]
    fn entries_with_one_hash_are_kept_apart_by_who_looks_for_them() {
        let mut bench = Bench::new(|_: &Arena, _| KeyHash(0x1234_5678_9abc_def0));
        (0..100).for_each(|index| bench.add(index));
        assert!((0..100).all(|index| bench.find(index) == Some(index)));
        let hash = bench.hash(0);
        assert!(bench.table.rename(&mut bench.arena, hash, 50, 500));
        assert!(!bench.table.rename(&mut bench.arena, hash, 50, 500));
        assert!((0..100).filter(|index| *index != 50).all(|index| bench.remove(index)));
        assert_eq!(bench.all(), [500]);
    }

    #[test]
    fn draining_yields_everything_once_and_finds_what_is_left() {
        for count in [1, 11, 5_000, 20_000] {
            let mut bench = Bench::new(hash_of);
            (0..count).for_each(|index| bench.add(index));
            let (mut next, mut left) = (0, (0..count).collect::<BTreeSet<u32>>());
            while let Some(indexes) = bench.table.drain_some(&mut bench.arena, &mut next) {
                indexes.iter().for_each(|index| assert!(left.remove(index)));
                if let Some(taken) = left.pop_last() {
                    assert!(bench.remove(taken));
                }
            }
            assert!(left.is_empty());
            assert_eq!(bench.arena.memory_bytes(), 0);
        }
    }

    #[test]
    fn a_table_that_finds_no_memory_stays_as_it_is() {
        let mut bench = Bench::new(hash_of);
        bench.add(0);
        while bench.arena.allocate(1, 0).is_some() {}
        let mut count = 1;
        while bench.table.reserve(&mut bench.arena, hash(count, 0), hash_of) {
            bench.table.insert(&mut bench.arena, hash(count, 0), count);
            count += 1;
        }
        assert_eq!(count as usize, GRANULE_BUCKETS * BUCKET_LOAD);
        assert!(bench.all().into_iter().eq(0..count));
        // One that is full and would be divided.
        let mut bench = Bench::new(hash_of);
        let entries = (GRANULES_MAX * GRANULE_BUCKETS * BUCKET_LOAD) as u32;
        (0..entries).for_each(|index| bench.add(index));
        while bench.arena.allocate(1, 0).is_some() {}
        assert!(!bench.table.reserve(&mut bench.arena, hash(entries, 0), hash_of));
        assert!(bench.all().into_iter().eq(0..entries));
        bench.add(entries);
        assert!(bench.all().into_iter().eq(0..=entries));
    }

    proptest! {
        #[test]
        fn a_scan_meets_everything_that_stays_once_though_the_table_changes(
            (stay, come, seed) in (0..3_000_u32, 0..6_000_u32, any::<u64>()),
        ) {
            let mut bench = Bench::new(|_: &Arena, index| hash(index, seed));
            (0..stay).for_each(|index| bench.add(index));
            let (mut coming, mut next, mut seen) = (stay..stay + come, Some(0), Vec::new());
            while let Some(from) = next {
                next = bench.table.visit(&bench.arena, from, bench.hash_of, |index| seen.push(index));
                coming.by_ref().take(100).for_each(|index| bench.add(index));
            }
            seen.retain(|index| *index < stay);
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..stay));
        }
    }
}
