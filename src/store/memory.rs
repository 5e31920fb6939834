//! Memory straight from the kernel: as much as was asked for, and given back at once.
//!
//! An allocator rounds long pieces up and keeps those that were freed, so that a process has more resident
//! than it uses. A piece from the kernel has resident what was written to, no more.
//!
//! A piece that is full can be kept in huge pages: then the processor finds any part of it without a walk
//! through its tables of pages, which costs as much as the memory itself where a look-up goes anywhere in
//! much of it. Before it is full it is not, or all of it would be resident.
//!
//! The kernel may take milliseconds to find a huge page and to clear it. So that nobody waits for this
//! who holds a shard, the page is made ready elsewhere ([`Spare`]); what is left is a copy.

use std::alloc::Layout;
use std::alloc::handle_alloc_error;

use memmap2::MmapMut;

/// Lengths are multiples of this.
pub(super) const PAGE_BYTES: usize = 4 * 1024;
/// A huge page, as most processors have them.
pub(super) const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A piece of memory, or none.
#[derive(Debug, Default)]
pub(super) struct Memory(Option<MmapMut>);

impl Memory {
    /// So many bytes, all zero: whole pages.
    ///
    /// If there are not as many the process ends, as it does when the allocator has none.
    pub(super) fn new(bytes: usize) -> Self {
        match MmapMut::map_anon(bytes) {
            Ok(map) => Self(Some(map)),
            Err(_) => handle_alloc_error(Layout::array::<u8>(bytes).unwrap_or(Layout::new::<u8>())),
        }
    }

    /// All of it.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// As [`Memory::bytes`], to write.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

/// A piece as long as a huge page that holds nothing that is needed.
#[derive(Debug)]
pub struct Spare(Memory);

impl Spare {
    /// One that is resident, in a huge page if the kernel has one left; none: this system has no such
    /// pages. It may take milliseconds.
    #[must_use]
    pub fn in_huge_pages() -> Option<Self> {
        let mut map = MmapMut::map_anon(HUGE_PAGE_BYTES).ok()?;
        if !takes_huge_pages(&map) {
            return None;
        }
        map.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
        Some(Self(Memory(Some(map))))
    }

    /// Puts what is in a piece of the same length into this one, and lets them change places.
    pub(super) fn take_over(&mut self, memory: &mut Memory) {
        self.0.bytes_mut().copy_from_slice(memory.bytes());
        std::mem::swap(&mut self.0, memory);
    }
}

/// Whether the kernel takes huge pages for it from now on.
#[cfg(target_os = "linux")]
fn takes_huge_pages(map: &MmapMut) -> bool {
    map.advise(memmap2::Advice::HugePage).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn takes_huge_pages(_: &MmapMut) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_piece_holds_what_it_took_over_and_is_what_the_other_was() {
        let Some(mut spare) = Spare::in_huge_pages() else { return };
        let mut memory = Memory::new(HUGE_PAGE_BYTES);
        memory.bytes_mut().iter_mut().zip((0..251).cycle()).for_each(|(byte, number)| *byte = number);
        let (before, place) = (memory.bytes().to_vec(), memory.bytes().as_ptr());
        spare.take_over(&mut memory);
        assert!(memory.bytes() == before);
        assert!(spare.0.bytes().as_ptr() == place);
    }

    #[test]
    fn a_piece_is_zero_and_has_the_length_that_was_asked_for() {
        let mut memory = Memory::new(3 * PAGE_BYTES);
        assert_eq!(memory.bytes(), vec![0; 3 * PAGE_BYTES]);
        memory.bytes_mut()[3 * PAGE_BYTES - 1] = 7;
        assert_eq!(memory.bytes().last(), Some(&7));
        assert!(Memory::default().bytes().is_empty() && Memory::default().bytes_mut().is_empty());
    }
}
