//! The memory behind the slab: spans of any length in regions of one size.
//!
//! A span is named by a number that it keeps while it lies elsewhere. So free space that is scattered
//! over a region can be joined by moving its spans together, and a region can be emptied into the
//! others and given back. Regions come from the kernel and go back there: whatever sizes come and go,
//! what the process has resident is what is counted here. A span longer than a region gets one of its own.
//!
//! What lies in a span, and when a region may be added, is decided by others.

use crate::store::memory;
use crate::store::memory::Memory;
use crate::store::memory::Spare;

/// Spans begin and end at multiples of this.
pub(super) const GRANULE_BYTES: usize = 256;
/// What is kept about a span: its place here, its entry in its region, and the slab's page.
pub(super) const SPAN_OVERHEAD_BYTES: usize = size_of::<Place>() + size_of::<Placed>() + 16;

const REGION_BYTES_MAX: usize = memory::HUGE_PAGE_BYTES;
const REGION_BYTES_MIN: usize = 1 << 18;

/// Where a span lies, and how long a slot in it is. Eight bytes, since every access begins here.
#[derive(Clone, Copy)]
struct Place {
    region: u32,
    start: u16,
    slot_bytes: u16,
}

/// Spans in regions.
pub(super) struct Arena {
    region_bytes: usize,
    regions: Vec<Region>,
    /// By region: the granules of its longest hole. In an array of its own, for it is searched.
    longest_hole: Vec<u16>,
    /// By region: all its free granules.
    free: Vec<u16>,
    /// By span.
    places: Vec<Place>,
    unused_spans: Vec<u32>,
    unused_regions: Vec<u32>,
    /// The region that was added last: it is being filled.
    newest: Option<usize>,
    /// How many regions are to be moved into huge pages.
    to_move: usize,
    memory_bytes: usize,
}

#[derive(Default)]
struct Region {
    memory: Memory,
    /// In the order in which they lie.
    spans: Vec<Placed>,
    /// Whether it is to be moved into huge pages: it has been full.
    is_to_move: bool,
}

#[derive(Clone, Copy)]
struct Placed {
    span: u32,
    granules: u32,
    start: u16,
}

impl Placed {
    fn end(&self) -> u32 {
        u32::from(self.start) + self.granules
    }
}

/// The granules that hold so many bytes.
pub(super) fn granules(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(GRANULE_BYTES)).expect("longer entries are refused")
}

impl Arena {
    /// An empty arena whose regions suit so much memory in all.
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        Self {
            region_bytes: region_bytes(memory_bytes_max),
            regions: Vec::new(),
            longest_hole: Vec::new(),
            free: Vec::new(),
            places: Vec::new(),
            unused_spans: Vec::new(),
            unused_regions: Vec::new(),
            newest: None,
            to_move: 0,
            memory_bytes: 0,
        }
    }

    /// All regions, and what is kept about the spans in them.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes + self.span_count() * SPAN_OVERHEAD_BYTES
    }

    fn span_count(&self) -> usize {
        self.places.len() - self.unused_spans.len()
    }

    /// The bytes of the longest span that lies in a region with others.
    pub(super) fn common_bytes_max(&self) -> usize {
        self.region_bytes
    }

    /// The numbers of spans are below this.
    pub(super) fn spans_end(&self) -> usize {
        self.places.len()
    }

    /// What a region for such a span would add to the memory.
    pub(super) fn growth_bytes(&self, granules: u32) -> usize {
        let bytes = granules as usize * GRANULE_BYTES;
        SPAN_OVERHEAD_BYTES
            + if bytes > self.region_bytes { own_region_bytes(bytes) } else { self.region_bytes }
    }

    /// A span, if there is room for it in the regions that are there. It begins with arbitrary bytes.
    pub(super) fn allocate(&mut self, granules: u32, slot_bytes: u16) -> Option<u32> {
        let needed = u16::try_from(granules).ok()?;
        let region = match self.longest_hole.iter().position(|hole| *hole >= needed) {
            Some(region) => region,
            None => {
                let region = self.free.iter().position(|free| *free >= needed)?;
                self.join_holes(region);
                region
            }
        };
        let span = self.name_span(slot_bytes);
        self.put(region, span, granules);
        Some(span)
    }

    /// A span in a region added for it.
    pub(super) fn allocate_in_new_region(&mut self, granules: u32, slot_bytes: u16) -> u32 {
        let bytes = granules as usize * GRANULE_BYTES;
        let region = match bytes > self.region_bytes {
            true => self.new_region(own_region_bytes(bytes)),
            false => self.add_region(),
        };
        let span = self.name_span(slot_bytes);
        self.put(region, span, granules);
        span
    }

    fn name_span(&mut self, slot_bytes: u16) -> u32 {
        let place = Place { region: 0, start: 0, slot_bytes };
        match self.unused_spans.pop() {
            Some(span) => {
                self.places[span as usize] = place;
                span
            }
            None => {
                self.places.push(place);
                self.places.len() as u32 - 1
            }
        }
    }

    /// Adds a region of the usual length, which is one hole: the others are full.
    pub(super) fn add_region(&mut self) -> usize {
        // It may have been given back, and its number be that of another one.
        let full = self.newest.take().filter(|region| self.is_common(*region));
        if let Some(full) = full.filter(|_| self.region_bytes == memory::HUGE_PAGE_BYTES) {
            self.regions[full].is_to_move = true;
            self.to_move += 1;
        }
        let region = self.new_region(self.region_bytes);
        self.newest = Some(region);
        self.measure(region);
        region
    }

    /// Whether a region is to be moved into huge pages.
    pub(super) fn wants_spare(&self) -> bool {
        self.to_move > 0
    }

    /// Moves a region that wants it to a spare piece, which becomes what the region was.
    pub(super) fn use_spare(&mut self, spare: &mut Spare) {
        if let Some(region) = self.regions.iter_mut().find(|region| region.is_to_move) {
            spare.take_over(&mut region.memory);
            region.is_to_move = false;
            self.to_move -= 1;
        }
    }

    /// A region without holes, until it is measured.
    fn new_region(&mut self, bytes: usize) -> usize {
        self.memory_bytes += bytes;
        let region = Region { memory: Memory::new(bytes), ..Region::default() };
        match self.unused_regions.pop() {
            Some(number) => {
                self.regions[number as usize] = region;
                number as usize
            }
            None => {
                self.regions.push(region);
                self.longest_hole.push(0);
                self.free.push(0);
                self.regions.len() - 1
            }
        }
    }

    /// Puts a span into the first hole that it fits into.
    fn put(&mut self, region: usize, span: u32, granules: u32) {
        let spans = &mut self.regions[region].spans;
        let mut start = 0;
        let mut at = spans.len();
        for (index, placed) in spans.iter().enumerate() {
            if u32::from(placed.start) - start >= granules {
                at = index;
                break;
            }
            start = placed.end();
        }
        let start = u16::try_from(start).expect("a region has fewer granules");
        spans.insert(at, Placed { span, granules, start });
        let place = &mut self.places[span as usize];
        place.region = region as u32;
        place.start = start;
        self.measure(region);
    }

    /// Frees a span. A region that is empty then is given back.
    pub(super) fn release(&mut self, span: u32) {
        self.take(span);
        self.unused_spans.push(span);
    }

    fn take(&mut self, span: u32) -> Placed {
        let Place { region, start, .. } = self.places[span as usize];
        let region = region as usize;
        let spans = &mut self.regions[region].spans;
        let at = spans.binary_search_by_key(&start, |placed| placed.start);
        let placed = spans.remove(at.expect("a span lies where its place says"));
        if spans.is_empty() {
            let Region { memory, is_to_move, .. } = std::mem::take(&mut self.regions[region]);
            self.memory_bytes -= memory.bytes().len();
            self.to_move -= usize::from(is_to_move);
            self.unused_regions.push(region as u32);
        }
        self.measure(region);
        placed
    }

    fn is_common(&self, region: usize) -> bool {
        self.regions[region].memory.bytes().len() == self.region_bytes
    }

    fn measure(&mut self, region: usize) {
        let (mut longest, mut free) = (0, 0);
        if self.is_common(region) {
            let mut end = 0;
            for placed in &self.regions[region].spans {
                let hole = u32::from(placed.start) - end;
                longest = longest.max(hole);
                free += hole;
                end = placed.end();
            }
            let hole = (self.region_bytes / GRANULE_BYTES) as u32 - end;
            longest = longest.max(hole);
            free += hole;
        }
        self.longest_hole[region] = longest as u16;
        self.free[region] = free as u16;
    }

    /// Moves the spans of a region together, so that its free space is one hole.
    fn join_holes(&mut self, region: usize) {
        let Region { memory, spans, .. } = &mut self.regions[region];
        let bytes = memory.bytes_mut();
        let mut end = 0;
        for placed in spans {
            let start = end as u16;
            if placed.start != start {
                let from = usize::from(placed.start) * GRANULE_BYTES;
                let length = placed.granules as usize * GRANULE_BYTES;
                bytes.copy_within(from..from + length, usize::from(start) * GRANULE_BYTES);
                placed.start = start;
                self.places[placed.span as usize].start = start;
            }
            end = placed.end();
        }
        self.measure(region);
    }

    /// Empties the region that has most room into the others and gives it back, if they have room
    /// for all of it.
    pub(super) fn give_back_region(&mut self) -> bool {
        let Some((region, free)) = self.free.iter().copied().enumerate().max_by_key(|(_, free)| *free) else {
            return false;
        };
        let used: u32 = self.regions[region].spans.iter().map(|placed| placed.granules).sum();
        let free_elsewhere = self.free.iter().map(|free| u32::from(*free)).sum::<u32>() - u32::from(free);
        if free == 0 || used > free_elsewhere {
            return false;
        }
        while let Some(placed) = self.regions[region].spans.last().copied() {
            self.free[region] = 0;
            self.longest_hole[region] = 0;
            if !self.move_out(placed) {
                self.measure(region);
                return false;
            }
        }
        true
    }

    fn move_out(&mut self, placed: Placed) -> bool {
        let slot_bytes = self.places[placed.span as usize].slot_bytes;
        let Some(span) = self.allocate(placed.granules, slot_bytes) else { return false };
        let length = placed.granules as usize * GRANULE_BYTES;
        let [from, to] = [placed.span, span].map(|span| self.places[span as usize]);
        let [source, target] = self
            .regions
            .get_disjoint_mut([from.region as usize, to.region as usize])
            .expect("the region that is emptied has no hole");
        let source_start = usize::from(from.start) * GRANULE_BYTES;
        let target_start = usize::from(to.start) * GRANULE_BYTES;
        target.memory.bytes_mut()[target_start..target_start + length]
            .copy_from_slice(&source.memory.bytes()[source_start..source_start + length]);
        // The copy takes the number of what it is a copy of.
        let copies = &mut self.regions[to.region as usize].spans;
        let at = copies.binary_search_by_key(&to.start, |placed| placed.start);
        copies[at.expect("a span lies where its place says")].span = placed.span;
        self.take(placed.span);
        self.places[placed.span as usize] = to;
        self.unused_spans.push(span);
        true
    }

    /// How many slots before this one a span has, in bytes, and what follows from there on.
    #[inline]
    pub(super) fn slot(&self, span: u32, slot: u32) -> &[u8] {
        let (region, start) = self.locate(span, slot);
        &self.regions[region].memory.bytes()[start..]
    }

    /// As [`Arena::slot`], to write.
    #[inline]
    pub(super) fn slot_mut(&mut self, span: u32, slot: u32) -> &mut [u8] {
        let (region, start) = self.locate(span, slot);
        &mut self.regions[region].memory.bytes_mut()[start..]
    }

    /// How long a slot of a span is, as it was said when the span was allocated.
    #[inline]
    pub(super) fn slot_bytes(&self, span: u32) -> usize {
        usize::from(self.places[span as usize].slot_bytes)
    }

    #[inline]
    fn locate(&self, span: u32, slot: u32) -> (usize, usize) {
        let place = self.places[span as usize];
        let start = usize::from(place.start) * GRANULE_BYTES + slot as usize * usize::from(place.slot_bytes);
        (place.region as usize, start)
    }

    /// Copies the bytes of a slot into another one.
    pub(super) fn copy_slot(&mut self, from: (u32, u32), to: (u32, u32), bytes: usize) {
        let (source, source_start) = self.locate(from.0, from.1);
        let (target, target_start) = self.locate(to.0, to.1);
        if source == target {
            self.regions[source]
                .memory
                .bytes_mut()
                .copy_within(source_start..source_start + bytes, target_start);
        } else if let Ok([source, target]) = self.regions.get_disjoint_mut([source, target]) {
            target.memory.bytes_mut()[target_start..target_start + bytes]
                .copy_from_slice(&source.memory.bytes()[source_start..source_start + bytes]);
        }
    }
}

/// What a span that is longer than a region takes.
pub(super) const fn own_region_bytes(bytes: usize) -> usize {
    bytes.next_multiple_of(memory::PAGE_BYTES)
}

/// So that a shard has many regions, and the longest usual entry leaves little of one unused.
const fn region_bytes(memory_bytes_max: usize) -> usize {
    let part = memory_bytes_max / 64;
    if part >= REGION_BYTES_MAX {
        REGION_BYTES_MAX
    } else if part <= REGION_BYTES_MIN {
        REGION_BYTES_MIN
    } else {
        1 << part.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What the tests of a shard compare its bookkeeping with.
    impl Arena {
        pub(in crate::store) fn recounted_memory_bytes(&self) -> usize {
            let regions: usize = self.regions.iter().map(|region| region.memory.bytes().len()).sum();
            let spans: usize = self.regions.iter().map(|region| region.spans.len()).sum();
            regions + spans * SPAN_OVERHEAD_BYTES
        }
    }

    /// Spans filled with bytes of their own.
    struct Filled {
        arena: Arena,
        spans: Vec<(u32, u32, u8)>,
        marks: u8,
    }

    impl Filled {
        fn new() -> Self {
            Self { arena: Arena::new(0), spans: Vec::new(), marks: 0 }
        }

        fn add(&mut self, granules: u32) -> bool {
            let Some(span) = self.arena.allocate(granules, 0) else { return false };
            self.mark(span, granules);
            true
        }

        fn add_region(&mut self, granules: u32) {
            let span = self.arena.allocate_in_new_region(granules, 0);
            self.mark(span, granules);
        }

        fn mark(&mut self, span: u32, granules: u32) {
            self.marks = self.marks.wrapping_add(1);
            self.arena.slot_mut(span, 0)[..granules as usize * GRANULE_BYTES].fill(self.marks);
            self.spans.push((span, granules, self.marks));
        }

        fn remove(&mut self, at: usize) {
            let (span, ..) = self.spans.remove(at);
            self.arena.release(span);
        }

        fn check(&self) {
            for (span, granules, mark) in &self.spans {
                let bytes = &self.arena.slot(*span, 0)[..*granules as usize * GRANULE_BYTES];
                assert!(bytes.iter().all(|byte| byte == mark), "span {span} holds what it held");
            }
            assert_eq!(self.arena.memory_bytes(), self.arena.recounted_memory_bytes());
        }
    }

    #[test]
    fn holes_are_joined_when_none_is_long_enough() {
        let mut filled = Filled::new();
        filled.add_region(100);
        (0..9).for_each(|_| assert!(filled.add(100)));
        assert!(!filled.add(100), "a region has 1024 granules");
        filled.remove(2);
        filled.remove(4);
        assert!(filled.add(200), "two holes of 100");
        filled.check();
        filled.add_region(100);
        filled.check();
    }

    #[test]
    fn a_region_is_emptied_into_the_others_and_given_back() {
        let mut filled = Filled::new();
        for _ in 0..3 {
            filled.add_region(256);
            (0..3).for_each(|_| assert!(filled.add(256)));
        }
        assert!(!filled.arena.give_back_region(), "all is full");
        [1, 3, 5].into_iter().for_each(|at| filled.remove(at));
        let before = filled.arena.memory_bytes();
        assert!(!filled.arena.give_back_region(), "three quarters of one do not fit into two");
        filled.remove(5);
        assert!(filled.arena.give_back_region());
        assert_eq!(filled.arena.memory_bytes(), before - SPAN_OVERHEAD_BYTES - REGION_BYTES_MIN);
        filled.check();
    }

    #[test]
    fn full_regions_are_moved_to_spare_pieces_unless_they_are_given_back_before() {
        let Some(mut spare) = Spare::in_huge_pages() else { return };
        let mut filled = Filled { arena: Arena::new(REGION_BYTES_MAX * 64), ..Filled::new() };
        (0..4).for_each(|_| filled.add_region(8_000));
        filled.remove(1);
        assert!(filled.arena.wants_spare());
        filled.arena.use_spare(&mut spare);
        filled.check();
        assert!(filled.arena.wants_spare(), "of three full ones one is not there any more");
        filled.arena.use_spare(&mut spare);
        assert!(!filled.arena.wants_spare(), "the last one is being filled");
        filled.check();
    }

    #[test]
    fn a_long_span_has_a_region_of_its_own_which_goes_with_it() {
        let mut filled = Filled::new();
        assert!(!filled.add(5_000));
        filled.add_region(5_000);
        assert!(!filled.add(1), "nothing else goes there");
        filled.check();
        filled.remove(0);
        assert_eq!(filled.arena.memory_bytes(), 0);
    }
}
