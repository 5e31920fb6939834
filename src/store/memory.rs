//! Memory straight from the kernel: as much as was asked for, and given back at once.
//!
//! An allocator rounds long pieces up and keeps those that were freed, so that a process has more resident
//! than it uses. A piece from the kernel has resident what was written to, no more.
//!
//! A piece that is full can be kept in huge pages: then the processor finds any part of it without a walk
//! through its tables of pages, which costs as much as the memory itself where a look-up goes anywhere in
//! much of it. Before it is full it is not, or all of it would be resident.

use std::alloc::Layout;
use std::alloc::handle_alloc_error;

use memmap2::MmapMut;

/// Lengths are multiples of this.
pub(super) const PAGE_BYTES: usize = 4 * 1024;
/// A huge page, as most processors have them.
pub(super) const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A piece of memory, or none.
#[derive(Default)]
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

    /// Moves what is there into huge pages, if it is as long as one. Where the kernel has none it is left
    /// as it is, or moved in vain.
    pub(super) fn move_to_huge_pages(&mut self) {
        let bytes = self.bytes().len();
        if bytes == 0 || !bytes.is_multiple_of(HUGE_PAGE_BYTES) {
            return;
        }
        let Ok(mut map) = MmapMut::map_anon(bytes) else { return };
        if is_in_huge_pages(&map) {
            map.copy_from_slice(self.bytes());
            self.0 = Some(map);
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

/// Whether the kernel takes huge pages for it from now on.
#[cfg(target_os = "linux")]
fn is_in_huge_pages(map: &MmapMut) -> bool {
    map.advise(memmap2::Advice::HugePage).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn is_in_huge_pages(_: &MmapMut) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_to_huge_pages_is_what_it_was() {
        for bytes in [0, PAGE_BYTES, HUGE_PAGE_BYTES] {
            let mut memory = if bytes > 0 { Memory::new(bytes) } else { Memory::default() };
            memory.bytes_mut().iter_mut().zip((0..251).cycle()).for_each(|(byte, number)| *byte = number);
            let before = memory.bytes().to_vec();
            memory.move_to_huge_pages();
            assert!(memory.bytes() == before, "{bytes} bytes");
        }
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
