//! `lfu`: W-TinyLFU (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy",
//! 2017): new values pass through a small window; when something has to go, the oldest of the window
//! stays only if a sketch says that its key is used more often than the one that would go instead.
//! What stays is on probation until it is used again; then it is protected, as four fifths are at most.

use xxhash_rust::xxh3::xxh3_64;

use crate::store::list::List;
use crate::store::record;
use crate::store::size_class::size_class;
use crate::store::slab::Slab;

/// The lists, as a record says which one it is in. None of them is the number of a record in no list, or in
/// one of another policy.
const WINDOW: u8 = 1;
const PROBATION: u8 = 2;
const PROTECTED: u8 = 3;

/// One value in so many is in the window.
const WINDOW_PART: usize = 100;

pub(in crate::store) struct Lfu {
    /// By number; the first is not used.
    lists: [List; 4],
    lengths: [usize; 4],
    sketch: Sketch,
}

impl Lfu {
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        Self { lists: Default::default(), lengths: [0; 4], sketch: Sketch::new(memory_bytes_max) }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.sketch.memory_bytes()
    }

    /// The memory is another one now: the sketch begins anew if it suits it no more.
    pub(super) fn resize(&mut self, memory_bytes_max: usize) {
        if Sketch::word_count(memory_bytes_max) != self.sketch.words.len() {
            self.sketch = Sketch::new(memory_bytes_max);
        }
    }

    /// About how often a value was used lately.
    pub(super) fn frequency(&self, slab: &Slab, index: u32) -> u64 {
        self.sketch.estimate(xxh3_64(slab.record(index).key()))
    }

    /// Some value, an old one.
    pub(super) fn some_listed(&self) -> Option<u32> {
        self.lists.iter().find_map(List::oldest)
    }

    fn len(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn count(&mut self, slab: &Slab, index: u32) {
        let hash = xxh3_64(slab.record(index).key());
        let period = self.len().saturating_mul(10);
        self.sketch.count(hash, period);
    }

    fn push(&mut self, slab: &mut Slab, index: u32, list: u8) {
        record::set_list(slab.bytes_mut(index), list);
        self.lists[usize::from(list)].push(slab, index);
        self.lengths[usize::from(list)] += 1;
    }

    pub(super) fn add(&mut self, slab: &mut Slab, index: u32) {
        self.push(slab, index, WINDOW);
        self.count(slab, index);
        // One more: when something has to go it competes with what is there.
        while self.lengths[usize::from(WINDOW)] > self.len() / WINDOW_PART + 2 {
            let Some(oldest) = self.lists[usize::from(WINDOW)].oldest() else { break };
            self.shift(slab, oldest, PROBATION);
        }
    }

    fn shift(&mut self, slab: &mut Slab, index: u32, list: u8) {
        self.remove(slab, index);
        self.push(slab, index, list);
    }

    pub(super) fn renew(&mut self, slab: &mut Slab, index: u32) {
        self.count(slab, index);
        match slab.record(index).list() {
            PROBATION => {
                self.shift(slab, index, PROTECTED);
                let main = self.lengths[usize::from(PROBATION)] + self.lengths[usize::from(PROTECTED)];
                if self.lengths[usize::from(PROTECTED)] * 5 > main * 4
                    && let Some(oldest) = self.lists[usize::from(PROTECTED)].oldest()
                {
                    self.shift(slab, oldest, PROBATION);
                }
            }
            list => self.lists[usize::from(list)].renew(slab, index),
        }
    }

    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) {
        let list = usize::from(slab.record(index).list());
        self.lists[list].unlink(slab, index);
        self.lengths[list] -= 1;
    }

    pub(super) fn follow(&mut self, slab: &mut Slab, _from: u32, to: u32) {
        let list = usize::from(slab.record(to).list());
        self.lists[list].follow(slab, to);
    }

    pub(super) fn next_to_go(&mut self, slab: &mut Slab) -> Option<u32> {
        let [window, probation, protected] =
            [WINDOW, PROBATION, PROTECTED].map(|list| self.lists[usize::from(list)].oldest());
        let Some(settled) = probation.or(protected) else { return window };
        let is_window_full = self.lengths[usize::from(WINDOW)] > self.len() / WINDOW_PART;
        let Some(candidate) = window.filter(|_| is_window_full) else { return Some(settled) };
        let often = |index: u32| self.sketch.estimate(xxh3_64(slab.record(index).key()));
        if often(candidate) > often(settled) {
            self.shift(slab, candidate, PROBATION);
            return Some(settled);
        }
        Some(candidate)
    }
}

/// About how often keys were used lately: counters of four bits, four for each key, the least of which
/// counts. They are halved one word after the other, all of them in the time in which ten times as many
/// keys are used as there are values.
struct Sketch {
    words: Box<[u64]>,
    next_halved: usize,
    due: usize,
}

const COUNTER_MAX: u64 = 15;
const HALVES: u64 = 0x7777_7777_7777_7777;

impl Sketch {
    /// A 64th of the memory or a little less.
    fn new(memory_bytes_max: usize) -> Self {
        Self { words: vec![0; Self::word_count(memory_bytes_max)].into_boxed_slice(), next_halved: 0, due: 0 }
    }

    fn word_count(memory_bytes_max: usize) -> usize {
        1 << (memory_bytes_max / 64 / size_of::<u64>()).max(1).ilog2()
    }

    fn memory_bytes(&self) -> usize {
        size_class(size_of_val(&*self.words))
    }

    /// Word and shift of the four counters of a key.
    fn counters(&self, hash: u64) -> [(usize, u32); 4] {
        let mask = self.words.len() - 1;
        [0, 1, 2, 3].map(|row: u32| {
            let mixed = hash.rotate_left(16 * row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (((mixed >> 32) as usize) & mask, (mixed >> 28 & 3) as u32 * 4 + row * 16)
        })
    }

    fn estimate(&self, hash: u64) -> u64 {
        let count = |(word, shift): (usize, u32)| self.words[word] >> shift & COUNTER_MAX;
        self.counters(hash).map(count).into_iter().min().unwrap_or(0)
    }

    fn count(&mut self, hash: u64, period: usize) {
        for (word, shift) in self.counters(hash) {
            if self.words[word] >> shift & COUNTER_MAX < COUNTER_MAX {
                self.words[word] += 1 << shift;
            }
        }
        // A few at a time at most.
        self.due += self.words.len();
        let period = period.max(self.words.len() / 8);
        while self.due >= period {
            self.due -= period;
            let word = &mut self.words[self.next_halved];
            *word = *word >> 1 & HALVES;
            self.next_halved = (self.next_halved + 1) & (self.words.len() - 1);
        }
    }
}
