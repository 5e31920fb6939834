//! Memory straight from the kernel: as much as was asked for, and given back at once.
//!
//! An allocator rounds long pieces up and keeps those that were freed, so that a process has more resident
//! than it uses. A piece from the kernel has resident what was written to, no more.

use std::alloc::Layout;
use std::alloc::handle_alloc_error;

use memmap2::MmapMut;

/// Lengths are multiples of this.
pub(super) const PAGE_BYTES: usize = 4 * 1024;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_zero_and_has_the_length_that_was_asked_for() {
        let mut memory = Memory::new(3 * PAGE_BYTES);
        assert_eq!(memory.bytes(), vec![0; 3 * PAGE_BYTES]);
        memory.bytes_mut()[3 * PAGE_BYTES - 1] = 7;
        assert_eq!(memory.bytes().last(), Some(&7));
        assert!(Memory::default().bytes().is_empty() && Memory::default().bytes_mut().is_empty());
    }
}
