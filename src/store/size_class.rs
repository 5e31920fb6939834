//! What an allocation really takes: the size class that the allocator rounds it up to.
//!
//! This follows mimalloc's bins (`mi_bin` in its `page-queue.c`): 16-byte steps up to 64 bytes,
//! then four steps per power of two, and above 512 KiB slices of 64 KiB with a header. Another allocator
//! rounds a little differently; the memory bound of a shard is then off by that little.

const SMALL_STEP: usize = 16;
const SMALL_BYTES_MAX: usize = 64;
const MEDIUM_BYTES_MAX: usize = 512 * 1024;
/// Larger allocations take whole ones,
const SLICE: usize = 64 * 1024;
/// with so much in front of them.
const HEADER: usize = 4 * 1024;

/// The bytes that an allocation of `bytes` takes. Nothing is allocated for no bytes.
pub(super) const fn size_class(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=SMALL_BYTES_MAX => bytes.next_multiple_of(SMALL_STEP),
        _ if bytes <= MEDIUM_BYTES_MAX => bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2)),
        // Saturates rather than wraps: such a size is refused by its caller.
        _ => match bytes.saturating_add(HEADER).checked_next_multiple_of(SLICE) {
            Some(slices) => slices,
            None => usize::MAX,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_the_bins_of_mimalloc() {
        let classes = [
            (0, 0),
            (1, 8),
            (9, 16),
            (33, 48),
            (64, 64),
            (65, 80),
            (80, 80),
            (81, 96),
            (113, 128),
            (129, 160),
            (1_000, 1_024),
            (1_025, 1_280),
            (40_960, 40_960),
            (131_072, 131_072),
            (524_289, 589_824),
            (1_044_480, 1_048_576),
            (usize::MAX, usize::MAX),
        ];
        for (bytes, class) in classes {
            assert_eq!(size_class(bytes), class, "{bytes} bytes");
        }
    }

    #[test]
    fn a_class_is_never_smaller_than_what_was_asked_and_wastes_a_fifth_at_most() {
        for bytes in 65..2_000_000 {
            let class = size_class(bytes);
            assert!(class >= bytes && class - bytes < class / 5 + 1, "{bytes} bytes");
            assert!(
                class <= MEDIUM_BYTES_MAX || size_class(class - HEADER) == class,
                "a class is its own class"
            );
        }
    }
}
