//! Where a shard keeps its entries: fixed slots in chunks, and lists threaded through them.
//!
//! An entry keeps its slot number for life, also when it is overwritten or deleted: tables, lists
//! and scans name entries by it. A slot has 40 bytes; key, deadline (where there is one) and value
//! lie behind it in one allocation of exactly their size. Slots come in chunks of 1024, so growing
//! never copies entries and an empty chunk goes back to the allocator. New entries take the lowest
//! chunk with room, which lets the upper ones run empty.
//!
//! The representation is private to this file. Which entry may be overwritten, evicted or dropped
//! is decided by [`super::shard`].

use crate::store::Item;
use crate::store::ItemContent;
use crate::store::Partition;
use crate::store::size_class::size_class;
use crate::time::Timestamp;
use crate::time::Version;

/// What a chunk takes, whether its slots are used or not.
pub(super) const CHUNK_BYTES: usize = CHUNK_SLOTS * SLOT_BYTES;
const SLOT_BYTES: usize = size_of::<Slot>();

const CHUNK_SLOTS: usize = 1_024;
/// One less than there are numbers for, so that a cursor behind the last slot is a number too.
const CHUNKS_MAX: usize = (u32::MAX as usize) / CHUNK_SLOTS;
const DEADLINE_BYTES: usize = size_of::<u64>();
/// No slot: the end of a list.
const NONE: u32 = u32::MAX;

const _: () = assert!(SLOT_BYTES == 40, "a slot grew: every entry of every node pays for it");
const _: () = assert!(CHUNK_BYTES == size_class(CHUNK_BYTES), "a chunk fills its size class");

/// The entries of a shard, by slot number.
pub(super) struct Slab {
    chunks: Vec<Chunk>,
    /// Numbers of chunks that went back to the allocator.
    released: Vec<u32>,
    room: Bitmap,
    live_count: usize,
    allocated_bytes: usize,
}

struct Chunk {
    /// Grows up to [`CHUNK_SLOTS`], its capacity; no capacity once released.
    slots: Vec<Slot>,
    /// The first free slot among them, chained by `newer`.
    first_free: u32,
    live_count: u32,
}

struct Slot {
    /// Key, deadline (if the state says so), value.
    bytes: Box<[u8]>,
    version: Version,
    newer: u32,
    older: u32,
    key_bytes: u32,
    partition: Partition,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Tombstone,
    Value,
    ValueWithDeadline,
}

/// The bytes allocated for an entry behind its slot, rounded up to their size class.
pub(super) fn allocation_bytes(key: &[u8], content: ItemContent<'_>) -> usize {
    size_class(key.len().saturating_add(content_bytes(content)))
}

/// The longest entry that a slot can describe.
pub(super) const ENTRY_BYTES_MAX: usize = u32::MAX as usize;

impl Slab {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            released: Vec::new(),
            room: Bitmap::default(),
            live_count: 0,
            allocated_bytes: 0,
        }
    }

    /// The bytes taken by chunks and the allocations behind their slots.
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunk_count() * CHUNK_BYTES + self.allocated_bytes
    }

    /// Whether an entry can be added without another chunk.
    pub(super) fn has_room(&self) -> bool {
        self.live_count < self.chunk_count() * CHUNK_SLOTS
    }

    /// Whether another chunk can be numbered.
    pub(super) fn can_grow(&self) -> bool {
        self.chunk_count() < CHUNKS_MAX
    }

    fn chunk_count(&self) -> usize {
        self.chunks.len() - self.released.len()
    }

    /// Adds an entry, which is in no list yet. Takes another chunk if there is no room.
    pub(super) fn insert(&mut self, item: Item<'_>) -> u32 {
        let number = self.room.first().unwrap_or_else(|| self.grow());
        let slot = Slot {
            bytes: joined(item.key, item.content),
            version: item.version,
            newer: NONE,
            older: NONE,
            key_bytes: u32::try_from(item.key.len()).expect("longer entries are refused"),
            partition: item.partition,
            state: State::of(item.content),
        };
        self.allocated_bytes += size_class(slot.bytes.len());
        self.live_count += 1;
        let chunk = &mut self.chunks[number as usize];
        let offset = chunk.put(slot);
        if chunk.is_full() {
            self.room.clear(number);
        }
        number * CHUNK_SLOTS as u32 + offset
    }

    fn grow(&mut self) -> u32 {
        let chunk = Chunk { slots: Vec::with_capacity(CHUNK_SLOTS), first_free: NONE, live_count: 0 };
        let number = match self.released.pop() {
            Some(number) => {
                self.chunks[number as usize] = chunk;
                number
            }
            None => {
                self.chunks.push(chunk);
                self.chunks.len() as u32 - 1
            }
        };
        self.room.set(number);
        number
    }

    /// Gives an entry another version and content, in its slot.
    pub(super) fn overwrite(&mut self, index: u32, version: Version, content: ItemContent<'_>) {
        let slot = self.slot_mut(index);
        let bytes_before = slot.bytes.len();
        slot.overwrite(version, content);
        let bytes_after = slot.bytes.len();
        self.allocated_bytes += size_class(bytes_after);
        self.allocated_bytes -= size_class(bytes_before);
    }

    /// Frees the slot of an entry, which is in no list any more.
    pub(super) fn remove(&mut self, index: u32) {
        let number = index / CHUNK_SLOTS as u32;
        let chunk = &mut self.chunks[number as usize];
        self.allocated_bytes -= size_class(chunk.take(index % CHUNK_SLOTS as u32).len());
        self.live_count -= 1;
        self.room.set(number);
        if chunk.live_count == 0 {
            chunk.slots = Vec::new();
            chunk.first_free = NONE;
            self.room.clear(number);
            self.released.push(number);
        }
    }

    pub(super) fn key(&self, index: u32) -> &[u8] {
        self.slot(index).key()
    }

    pub(super) fn version(&self, index: u32) -> Version {
        self.slot(index).version
    }

    pub(super) fn partition(&self, index: u32) -> Partition {
        self.slot(index).partition
    }

    pub(super) fn is_tombstone(&self, index: u32) -> bool {
        self.slot(index).state == State::Tombstone
    }

    pub(super) fn content(&self, index: u32) -> ItemContent<'_> {
        self.slot(index).content()
    }

    pub(super) fn item(&self, index: u32) -> Item<'_> {
        self.slot(index).item()
    }

    /// The bytes of the slot and of the allocation behind it.
    pub(super) fn entry_bytes(&self, index: u32) -> usize {
        SLOT_BYTES + size_class(self.slot(index).bytes.len())
    }

    /// Visits the entries from slot `from` on, looking at `visits_max` slots at most. Returns the
    /// slot to go on from, or none after the last. A chunk that is not there counts as one slot.
    pub(super) fn scan<'a>(
        &'a self,
        from: u32,
        visits_max: usize,
        mut visit: impl FnMut(Item<'a>),
    ) -> Option<u32> {
        let mut index = from as usize;
        for _ in 0..visits_max {
            let chunk = self.chunks.get(index / CHUNK_SLOTS)?;
            match chunk.slots.get(index % CHUNK_SLOTS) {
                Some(slot) => {
                    index += 1;
                    if slot.state != State::Free {
                        visit(slot.item());
                    }
                }
                None => index = (index / CHUNK_SLOTS + 1) * CHUNK_SLOTS,
            }
        }
        let is_done = index >= self.chunks.len() * CHUNK_SLOTS;
        (!is_done).then(|| u32::try_from(index).expect("slots are numbered with 32 bits"))
    }

    fn slot(&self, index: u32) -> &Slot {
        &self.chunks[index as usize / CHUNK_SLOTS].slots[index as usize % CHUNK_SLOTS]
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize / CHUNK_SLOTS].slots[index as usize % CHUNK_SLOTS]
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.live_count as usize == CHUNK_SLOTS
    }

    fn put(&mut self, slot: Slot) -> u32 {
        self.live_count += 1;
        let offset = self.first_free;
        if offset == NONE {
            self.slots.push(slot);
            return self.slots.len() as u32 - 1;
        }
        let free = &mut self.slots[offset as usize];
        self.first_free = free.newer;
        *free = slot;
        offset
    }

    fn take(&mut self, offset: u32) -> Box<[u8]> {
        let slot = &mut self.slots[offset as usize];
        slot.state = State::Free;
        slot.newer = self.first_free;
        self.first_free = offset;
        self.live_count -= 1;
        std::mem::take(&mut slot.bytes)
    }
}

impl Slot {
    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    fn content(&self) -> ItemContent<'_> {
        let rest = &self.bytes[self.key_bytes as usize..];
        match self.state {
            State::Free | State::Tombstone => ItemContent::Deleted,
            State::Value => ItemContent::Value { bytes: rest, expires_at: None },
            State::ValueWithDeadline => {
                let (deadline, bytes) =
                    rest.split_first_chunk::<DEADLINE_BYTES>().expect("the state says there is a deadline");
                let expires_at = Some(Timestamp::from_millis(u64::from_ne_bytes(*deadline)));
                ItemContent::Value { bytes, expires_at }
            }
        }
    }

    fn item(&self) -> Item<'_> {
        Item { partition: self.partition, key: self.key(), version: self.version, content: self.content() }
    }

    fn overwrite(&mut self, version: Version, content: ItemContent<'_>) {
        let key_bytes = self.key_bytes as usize;
        if self.bytes.len() == key_bytes + content_bytes(content) {
            fill(&mut self.bytes[key_bytes..], content);
        } else {
            self.bytes = joined(self.key(), content);
        }
        self.version = version;
        self.state = State::of(content);
    }
}

impl State {
    fn of(content: ItemContent<'_>) -> Self {
        match content {
            ItemContent::Deleted => Self::Tombstone,
            ItemContent::Value { expires_at: None, .. } => Self::Value,
            ItemContent::Value { expires_at: Some(_), .. } => Self::ValueWithDeadline,
        }
    }
}

/// The bytes of a content as they lie behind the key.
fn content_bytes(content: ItemContent<'_>) -> usize {
    match content {
        ItemContent::Deleted => 0,
        ItemContent::Value { bytes, expires_at: None } => bytes.len(),
        ItemContent::Value { bytes, expires_at: Some(_) } => bytes.len() + DEADLINE_BYTES,
    }
}

/// Key and content in an allocation of exactly their size.
fn joined(key: &[u8], content: ItemContent<'_>) -> Box<[u8]> {
    let mut joined = Vec::with_capacity(key.len() + content_bytes(content));
    joined.extend_from_slice(key);
    match content {
        ItemContent::Deleted => {}
        ItemContent::Value { bytes, expires_at } => {
            if let Some(expires_at) = expires_at {
                joined.extend_from_slice(&expires_at.as_millis().to_ne_bytes());
            }
            joined.extend_from_slice(bytes);
        }
    }
    joined.into_boxed_slice()
}

/// Writes a content over another of the same length.
fn fill(target: &mut [u8], content: ItemContent<'_>) {
    match content {
        ItemContent::Deleted => {}
        ItemContent::Value { bytes, expires_at: None } => target.copy_from_slice(bytes),
        ItemContent::Value { bytes, expires_at: Some(expires_at) } => {
            target[..DEADLINE_BYTES].copy_from_slice(&expires_at.as_millis().to_ne_bytes());
            target[DEADLINE_BYTES..].copy_from_slice(bytes);
        }
    }
}

/// An order of entries, threaded through their slots. An entry is in one list at most.
pub(super) struct List {
    newest: u32,
    oldest: u32,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { newest: NONE, oldest: NONE }
    }

    /// The entry that was added before all others.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Adds an entry that is in no list.
    pub(super) fn push(&mut self, slab: &mut Slab, index: u32) {
        let slot = slab.slot_mut(index);
        slot.newer = NONE;
        slot.older = self.newest;
        match self.newest {
            NONE => self.oldest = index,
            newest => slab.slot_mut(newest).newer = index,
        }
        self.newest = index;
    }

    /// Takes out an entry of this list.
    pub(super) fn unlink(&mut self, slab: &mut Slab, index: u32) {
        let slot = slab.slot(index);
        let (newer, older) = (slot.newer, slot.older);
        match newer {
            NONE => self.newest = older,
            newer => slab.slot_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => slab.slot_mut(older).newer = newer,
        }
    }

    /// Makes an entry of this list the newest.
    pub(super) fn renew(&mut self, slab: &mut Slab, index: u32) {
        if self.newest != index {
            self.unlink(slab, index);
            self.push(slab, index);
        }
    }
}

/// A set of chunk numbers that knows its lowest.
#[derive(Default)]
struct Bitmap {
    words: Vec<u64>,
    /// No word below this one has a bit.
    first_word: usize,
}

impl Bitmap {
    fn set(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
        self.first_word = self.first_word.min(word);
    }

    fn clear(&mut self, number: u32) {
        self.words[number as usize / 64] &= !(1 << (number % 64));
    }

    fn first(&mut self) -> Option<u32> {
        let rest = &self.words[self.first_word..];
        match rest.iter().position(|word| *word != 0) {
            Some(skipped) => {
                self.first_word += skipped;
                Some(self.first_word as u32 * 64 + self.words[self.first_word].trailing_zeros())
            }
            None => {
                self.first_word = self.words.len();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What the tests of a shard compare its bookkeeping with.
    impl Slab {
        pub(in crate::store) fn recounted_memory_bytes(&self) -> usize {
            let slots = self.chunks.iter().flat_map(|chunk| &chunk.slots);
            let allocated: usize = slots.map(|slot| size_class(slot.bytes.len())).sum();
            let chunks = self.chunks.iter().filter(|chunk| chunk.slots.capacity() > 0);
            allocated + chunks.map(|chunk| chunk.slots.capacity() * SLOT_BYTES).sum::<usize>()
        }
    }

    impl List {
        pub(in crate::store) fn oldest_first(&self, slab: &Slab) -> Vec<u32> {
            let at = |index: u32| (index != NONE).then_some(index);
            let order: Vec<u32> =
                std::iter::successors(at(self.oldest), |index| at(slab.slot(*index).newer)).collect();
            let back: Vec<u32> =
                std::iter::successors(at(self.newest), |index| at(slab.slot(*index).older)).collect();
            assert!(order.iter().eq(back.iter().rev()), "both directions agree");
            order
        }
    }

    fn item(key: &[u8]) -> Item<'_> {
        let partition = Partition::new(7).unwrap();
        Item { partition, key, version: Version::from_raw(1), content: ItemContent::Deleted }
    }

    fn fill_chunks(slab: &mut Slab, count: usize) -> Vec<u32> {
        (0..count * CHUNK_SLOTS).map(|number| slab.insert(item(&number.to_be_bytes()))).collect()
    }

    #[test]
    fn freed_slots_are_taken_again_from_the_lowest_chunk_before_the_slab_grows() {
        let mut slab = Slab::new();
        let slots = fill_chunks(&mut slab, 3);
        assert!(!slab.has_room());
        slab.remove(slots[2_500]);
        slab.remove(slots[5]);
        slab.remove(slots[9]);
        assert!(slab.has_room());
        assert_eq!([9, 5, 2_500].map(|_| slab.insert(item(b"k"))), [9, 5, 2_500]);
        assert!(!slab.has_room());
        assert_eq!(slab.insert(item(b"k")), 3 * CHUNK_SLOTS as u32);
    }

    #[test]
    fn an_empty_chunk_is_released_and_its_number_used_again() {
        let mut slab = Slab::new();
        fill_chunks(&mut slab, 3);
        let chunk = CHUNK_SLOTS as u32;
        (chunk..2 * chunk).for_each(|index| slab.remove(index));
        assert_eq!(slab.memory_bytes(), 2 * CHUNK_BYTES + 2 * CHUNK_SLOTS * 8);
        let mut seen = 0;
        assert_eq!(slab.scan(0, 2 * CHUNK_SLOTS + 1, |_| seen += 1), None, "a gap costs one visit");
        assert_eq!(seen, 2 * CHUNK_SLOTS);
        assert_eq!(slab.insert(item(b"k")), chunk);
    }

    #[test]
    fn an_entry_of_any_shape_reads_back_after_any_other() {
        let expires_at = Some(Timestamp::from_millis(77));
        let shapes = [
            ItemContent::Deleted,
            ItemContent::Value { bytes: b"", expires_at: None },
            ItemContent::Value { bytes: b"", expires_at },
            ItemContent::Value { bytes: b"12345678", expires_at: None },
            ItemContent::Value { bytes: b"87654321", expires_at: None },
            ItemContent::Value { bytes: b"12345678", expires_at },
            ItemContent::Value { bytes: &[9; 500], expires_at: None },
        ];
        for (first, second) in shapes.iter().flat_map(|a| shapes.iter().map(move |b| (*a, *b))) {
            let mut slab = Slab::new();
            let index = slab.insert(Item { content: first, ..item(b"key") });
            slab.overwrite(index, Version::from_raw(2), second);
            assert_eq!(slab.key(index), b"key");
            assert_eq!(slab.content(index), second);
            assert_eq!(slab.memory_bytes(), CHUNK_BYTES + allocation_bytes(b"key", second));
            slab.remove(index);
            assert_eq!(slab.memory_bytes(), 0);
        }
    }

    #[test]
    fn a_list_keeps_its_order_through_renewals_and_removals() {
        let mut slab = Slab::new();
        let mut list = List::new();
        for index in fill_chunks(&mut slab, 1).into_iter().take(4) {
            list.push(&mut slab, index);
        }
        list.renew(&mut slab, 0);
        list.renew(&mut slab, 0);
        list.unlink(&mut slab, 2);
        let mut order = Vec::new();
        while let Some(index) = list.oldest() {
            order.push(index);
            list.unlink(&mut slab, index);
        }
        assert_eq!(order, [1, 3, 0]);
    }
}
