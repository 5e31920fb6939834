//! Where a shard keeps its entries: slots of equal length in pages, a record in each.
//!
//! A record goes to the smallest class of slots that it fits into; one that is longer than all classes
//! has a span of its own. A slot is named by its page and its number there, in 32 bits. A page whose
//! records have moved to others of its class is free for any other use: see [`Slab::emptiest_page`].
//! Whoever moves a record also tells the table and the list that it is in.

use crate::store::Item;
use crate::store::arena::Arena;
use crate::store::arena::GRANULE_BYTES;
use crate::store::arena::granules;
use crate::store::record;
use crate::store::record::NONE;
use crate::store::record::Record;

/// Bits of a slot's number within its page. The others number the page.
const SLOT_BITS: u32 = 10;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
/// One less than there are numbers for, so that [`NONE`] names no slot.
const SPANS_MAX: usize = (1 << (32 - SLOT_BITS)) - 1;

/// What is left of a region of the usual length finds use for tables.
const PAGE_BYTES: usize = 15 * 1024;
const PAGE_GRANULES: u32 = (PAGE_BYTES / GRANULE_BYTES) as u32;
/// Longer records have a span of their own.
const SLOT_BYTES_MAX: usize = 2_048;

/// Steps of 4 bytes up to 256, then 16 for each doubling.
const CLASS_COUNT: usize = 64 + 3 * 16 + 1;
/// The class of a page that is one record.
const LARGE: u8 = u8::MAX;
/// Pages of a class are kept apart by how full they are, in so many steps.
const FILLS: usize = 8;
/// The fill of a page that has no room, and of one that is in no list.
const FULL: u8 = FILLS as u8;
const NO_SLOT: u16 = u16::MAX;

/// The entries of a shard, by slot number.
pub(super) struct Slab {
    arena: Arena,
    /// By span.
    pages: Vec<Page>,
    classes: Box<[Class]>,
}

#[derive(Clone, Copy)]
struct Page {
    class: u8,
    fill: u8,
    live_count: u16,
    /// Slots from here on were never used.
    used_end: u16,
    first_free: u16,
    next: u32,
    previous: u32,
}

struct Class {
    slot_bytes: u16,
    slots: u16,
    free_slots: usize,
    /// The first page of each fill that has room.
    fills: [u32; FILLS],
}

fn class_of(record_bytes: usize) -> u8 {
    let class = match record_bytes {
        0..=256 => record_bytes.div_ceil(4),
        257..=512 => 64 + (record_bytes - 256).div_ceil(16),
        513..=1_024 => 80 + (record_bytes - 512).div_ceil(32),
        1_025..=SLOT_BYTES_MAX => 96 + (record_bytes - 1_024).div_ceil(64),
        _ => return LARGE,
    };
    class as u8
}

fn slot_bytes(class: usize) -> usize {
    match class {
        0..=64 => class * 4,
        65..=80 => 256 + (class - 64) * 16,
        81..=96 => 512 + (class - 80) * 32,
        _ => 1_024 + (class - 96) * 64,
    }
}

fn span_of(index: u32) -> u32 {
    index >> SLOT_BITS
}

impl Slab {
    /// An empty slab that suits so much memory.
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        let class = |class| {
            let slot_bytes = slot_bytes(class).max(record::RECORD_BYTES_MIN);
            let slots = (PAGE_BYTES / slot_bytes) as u16;
            Class { slot_bytes: slot_bytes as u16, slots, free_slots: 0, fills: [NONE; FILLS] }
        };
        Self {
            arena: Arena::new(memory_bytes_max),
            pages: Vec::new(),
            classes: (0..CLASS_COUNT).map(class).collect(),
        }
    }

    /// Where all of it lies, and the tables.
    #[inline]
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// As [`Slab::arena`], to put tables there.
    pub(super) fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// All memory taken.
    pub(super) fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes()
    }

    /// What more would be taken for a record that there is no room for.
    pub(super) fn growth_bytes(&self, record_bytes: usize) -> usize {
        self.arena.growth_bytes(granules(record_bytes).max(PAGE_GRANULES))
    }

    /// Whether another page can be numbered.
    pub(super) fn can_grow(&self) -> bool {
        self.arena.spans_end() < SPANS_MAX
    }

    /// Writes an entry, which is in no list yet, where there is room for it.
    pub(super) fn insert(&mut self, item: Item<'_>, record_bytes: usize) -> Option<u32> {
        let class = class_of(record_bytes);
        let span = if class == LARGE {
            let span = self.arena.allocate(granules(record_bytes), 0)?;
            self.add_page(span, LARGE);
            span
        } else {
            match self.page_with_room(class) {
                Some(page) => page,
                None => {
                    let slot_bytes = self.classes[usize::from(class)].slot_bytes;
                    let span = self.arena.allocate(PAGE_GRANULES, slot_bytes)?;
                    self.add_page(span, class);
                    span
                }
            }
        };
        Some(self.fill_slot(span, item))
    }

    /// Writes an entry, which is in no list yet, into memory added for it.
    pub(super) fn insert_in_new_memory(&mut self, item: Item<'_>, record_bytes: usize) -> u32 {
        let class = class_of(record_bytes);
        let span = match class {
            LARGE => self.arena.allocate_in_new_region(granules(record_bytes), 0),
            _ => {
                let slot_bytes = self.classes[usize::from(class)].slot_bytes;
                self.arena.allocate_in_new_region(PAGE_GRANULES, slot_bytes)
            }
        };
        self.add_page(span, class);
        self.fill_slot(span, item)
    }

    fn fill_slot(&mut self, span: u32, item: Item<'_>) -> u32 {
        let slot = self.take_slot(span);
        record::write(self.arena.slot_mut(span, slot), item);
        span << SLOT_BITS | slot
    }

    /// The fullest page that has room.
    fn page_with_room(&self, class: u8) -> Option<u32> {
        self.classes[usize::from(class)].fills.iter().rev().copied().find(|page| *page != NONE)
    }

    fn add_page(&mut self, span: u32, class: u8) {
        let page = Page {
            class,
            fill: FULL,
            live_count: 0,
            used_end: 0,
            first_free: NO_SLOT,
            next: NONE,
            previous: NONE,
        };
        if span as usize >= self.pages.len() {
            // Other spans than pages are numbered too.
            self.pages.resize(span as usize + 1, page);
        }
        self.pages[span as usize] = page;
        if class != LARGE {
            let class = &mut self.classes[usize::from(class)];
            class.free_slots += usize::from(class.slots);
            self.file_page(span);
        }
    }

    fn take_slot(&mut self, span: u32) -> u32 {
        let page = &mut self.pages[span as usize];
        page.live_count += 1;
        if page.class == LARGE {
            return 0;
        }
        let slot = match page.first_free {
            NO_SLOT => {
                page.used_end += 1;
                u32::from(page.used_end - 1)
            }
            free => {
                page.first_free = record::free_number(self.arena.slot(span, u32::from(free)));
                u32::from(free)
            }
        };
        self.classes[usize::from(page.class)].free_slots -= 1;
        self.file_page(span);
        slot
    }

    /// Frees the slot of an entry, which is in no list and no table any more.
    pub(super) fn remove(&mut self, index: u32) {
        let span = span_of(index);
        let page = &mut self.pages[span as usize];
        page.live_count -= 1;
        if page.class != LARGE {
            let slot = index & SLOT_MASK;
            record::set_free(self.arena.slot_mut(span, slot), page.first_free);
            page.first_free = slot as u16;
            self.classes[usize::from(page.class)].free_slots += 1;
        }
        if self.pages[span as usize].live_count == 0 {
            self.drop_page(span);
        } else {
            self.file_page(span);
        }
    }

    fn drop_page(&mut self, span: u32) {
        let class = self.pages[span as usize].class;
        if class != LARGE {
            self.unfile_page(span);
            let class = &mut self.classes[usize::from(class)];
            class.free_slots -= usize::from(class.slots);
        }
        self.arena.release(span);
    }

    /// Puts a page among those that are as full as it is.
    fn file_page(&mut self, span: u32) {
        let page = self.pages[span as usize];
        if page.class == LARGE {
            return;
        }
        let slots = self.classes[usize::from(page.class)].slots;
        let fill = (usize::from(page.live_count) * FILLS / usize::from(slots)) as u8;
        if fill == page.fill {
            return;
        }
        self.unfile_page(span);
        self.pages[span as usize].fill = fill;
        if fill != FULL {
            let first = &mut self.classes[usize::from(page.class)].fills[usize::from(fill)];
            let next = std::mem::replace(first, span);
            self.pages[span as usize].next = next;
            self.pages[span as usize].previous = NONE;
            if next != NONE {
                self.pages[next as usize].previous = span;
            }
        }
    }

    fn unfile_page(&mut self, span: u32) {
        let Page { class, fill, next, previous, .. } = self.pages[span as usize];
        if fill == FULL {
            return;
        }
        match previous {
            NONE => self.classes[usize::from(class)].fills[usize::from(fill)] = next,
            previous => self.pages[previous as usize].next = next,
        }
        if next != NONE {
            self.pages[next as usize].previous = previous;
        }
        self.pages[span as usize].fill = FULL;
    }

    /// The slots in use of a page whose records all fit into other pages of its class; of such pages, an
    /// emptiest one in the class with most memory unused. New records do not go there any more: move
    /// each with [`Slab::move_record`].
    pub(super) fn emptiest_page(&mut self) -> Option<Vec<u32>> {
        let has_page_to_spare = |class: &&Class| class.free_slots >= usize::from(class.slots);
        let unused_bytes = |class: &&Class| class.free_slots * usize::from(class.slot_bytes);
        let class = self.classes.iter().filter(has_page_to_spare).max_by_key(unused_bytes)?;
        let span = class.fills.iter().copied().find(|page| *page != NONE)?;
        self.unfile_page(span);
        let used_end = u32::from(self.pages[span as usize].used_end);
        let is_used = |slot: &u32| Record(self.arena.slot(span, *slot)).is_used();
        Some((0..used_end).filter(is_used).map(|slot| span << SLOT_BITS | slot).collect())
    }

    /// Copies a record of an [`Slab::emptiest_page`] to another page, and frees its slot; the page goes
    /// with the last one. Returns where it is now.
    pub(super) fn move_record(&mut self, index: u32) -> u32 {
        let (from, from_slot) = (span_of(index), index & SLOT_MASK);
        let class = self.pages[from as usize].class;
        let to = self.page_with_room(class).expect("the other pages have room for all of them");
        let to_slot = self.take_slot(to);
        let bytes = usize::from(self.classes[usize::from(class)].slot_bytes);
        self.arena.copy_slot((from, from_slot), (to, to_slot), bytes);
        // Not filed again: nothing is to go there.
        let page = &mut self.pages[from as usize];
        page.live_count -= 1;
        self.classes[usize::from(class)].free_slots += 1;
        if page.live_count == 0 {
            self.drop_page(from);
        }
        to << SLOT_BITS | to_slot
    }

    /// See [`Arena::give_back_region`].
    pub(super) fn give_back_region(&mut self) -> bool {
        self.arena.give_back_region()
    }

    /// Whether the slot of an entry is what a record of that length would get.
    pub(super) fn fits(&self, index: u32, record_bytes: usize) -> bool {
        // The arena's word for it is at hand: whoever read the record has just asked for it.
        match (self.slot_bytes(index), class_of(record_bytes)) {
            (0, LARGE) => self.entry_bytes(index) == granules(record_bytes) as usize * GRANULE_BYTES,
            (0, _) | (_, LARGE) => false,
            (slot_bytes, class) => slot_bytes == usize::from(self.classes[usize::from(class)].slot_bytes),
        }
    }

    /// Gives an entry, which is in no list, another version and content in its slot.
    pub(super) fn overwrite(&mut self, index: u32, item: Item<'_>) {
        record::write(self.bytes_mut(index), item);
    }

    /// The record in a slot.
    #[inline]
    pub(super) fn record(&self, index: u32) -> Record<'_> {
        record_in(&self.arena, index)
    }

    /// How long a slot is; zero, where it is longer than all classes.
    #[inline]
    pub(super) fn slot_bytes(&self, index: u32) -> usize {
        self.arena.slot_bytes(span_of(index))
    }

    /// The bytes of a slot, and what follows.
    #[inline]
    pub(super) fn bytes_mut(&mut self, index: u32) -> &mut [u8] {
        self.arena.slot_mut(span_of(index), index & SLOT_MASK)
    }

    /// The bytes that the slot of an entry takes.
    pub(super) fn entry_bytes(&self, index: u32) -> usize {
        match self.pages[span_of(index) as usize].class {
            LARGE => {
                let bytes = record::record_bytes(&self.record(index).item());
                granules(bytes) as usize * GRANULE_BYTES
            }
            class => usize::from(self.classes[usize::from(class)].slot_bytes),
        }
    }
}

/// The record in a slot of the slab that lies in an arena.
#[inline]
pub(super) fn record_in(arena: &Arena, index: u32) -> Record<'_> {
    Record(arena.slot(span_of(index), index & SLOT_MASK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ItemContent;
    use crate::store::Partition;
    use crate::time::Version;

    // What the tests of a shard compare its bookkeeping with.
    impl Slab {
        pub(in crate::store) fn recounted_memory_bytes(&self) -> usize {
            self.arena.recounted_memory_bytes()
        }
    }

    fn item<'a>(key: &'a [u8], value: &'a [u8]) -> Item<'a> {
        let content = ItemContent::Value { bytes: value, expires_at: None };
        Item { partition: Partition::new(7).unwrap(), key, version: Version::from_raw(1), content }
    }

    fn add(slab: &mut Slab, key: &[u8], value: &[u8]) -> u32 {
        let item = item(key, value);
        let bytes = record::record_bytes(&item);
        slab.insert(item, bytes).unwrap_or_else(|| slab.insert_in_new_memory(item, bytes))
    }

    #[test]
    fn classes_hold_what_goes_to_them_and_waste_little() {
        for bytes in record::RECORD_BYTES_MIN..=SLOT_BYTES_MAX {
            let class = usize::from(class_of(bytes));
            let slot = slot_bytes(class);
            assert!(
                class < CLASS_COUNT && slot >= bytes && (slot - bytes < 4 || (slot - bytes) * 16 <= bytes),
                "{bytes}"
            );
            assert!(PAGE_BYTES / slot <= 1 << SLOT_BITS);
        }
        assert_eq!(class_of(SLOT_BYTES_MAX + 1), LARGE);
    }

    #[test]
    fn entries_of_all_lengths_read_back_and_leave_nothing_behind() {
        let mut slab = Slab::new(0);
        let values: Vec<Vec<u8>> = (0..700_usize).map(|number| vec![number as u8; number * 13]).collect();
        let slots: Vec<u32> = values.iter().map(|value| add(&mut slab, b"key", value)).collect();
        for (index, value) in slots.iter().zip(&values) {
            assert_eq!(slab.record(*index).item(), item(b"key", value));
        }
        for (index, value) in slots.iter().zip(&values) {
            assert!(slab.entry_bytes(*index) >= value.len() + 20);
            slab.remove(*index);
        }
        assert_eq!(slab.memory_bytes(), 0);
    }

    #[test]
    fn a_freed_slot_is_taken_again_before_another_page() {
        let mut slab = Slab::new(0);
        let slots: Vec<u32> =
            (0..500_u32).map(|number| add(&mut slab, &number.to_be_bytes(), b"v")).collect();
        slab.remove(slots[40]);
        slab.remove(slots[7]);
        assert_eq!(add(&mut slab, b"same", b"v"), slots[7]);
        assert_eq!(add(&mut slab, b"same", b"v"), slots[40]);
    }

    #[test]
    fn an_entry_is_overwritten_where_it_is_only_by_one_of_its_class() {
        let mut slab = Slab::new(0);
        for (before, after, fits) in
            [(10, 10, true), (10, 13, false), (300, 303, true), (5_000, 5_010, true), (5_000, 5_300, false)]
        {
            let (before, after) = (vec![1; before], vec![2; after]);
            let index = add(&mut slab, b"12", &before);
            let bytes = record::record_bytes(&item(b"12", &after));
            assert_eq!(slab.fits(index, bytes), fits);
            if fits {
                slab.overwrite(index, item(b"12", &after));
            }
            let now = if fits { &after } else { &before };
            assert_eq!(slab.record(index).item(), item(b"12", now));
            slab.remove(index);
        }
    }

    #[test]
    fn the_records_of_an_emptiest_page_fit_into_the_others_and_free_it() {
        let mut slab = Slab::new(0);
        let slots: Vec<u32> =
            (0..3_000_u32).map(|number| add(&mut slab, &number.to_be_bytes(), &[1; 60])).collect();
        assert_eq!(slab.emptiest_page(), None, "all pages but the last are full");
        let mut left: Vec<(u32, u32)> = (0..).zip(slots.iter().copied()).collect();
        left.retain(|(number, index)| {
            let stays = number % 3 != 0;
            if !stays {
                slab.remove(*index);
            }
            stays
        });
        let before = slab.memory_bytes();
        while let Some(page) = slab.emptiest_page() {
            for index in page {
                let moved = slab.move_record(index);
                left.iter_mut().filter(|(_, at)| *at == index).for_each(|(_, at)| *at = moved);
            }
        }
        assert!(slab.memory_bytes() <= before);
        for (number, index) in &left {
            assert_eq!(slab.record(*index).item(), item(&number.to_be_bytes(), &[1; 60]));
        }
        left.iter().for_each(|(_, index)| slab.remove(*index));
        assert_eq!(slab.memory_bytes(), 0);
    }
}
