//! A bucket of a [`table`](super::table), as it lies in memory: one line of the processor's cache.

pub(super) const BUCKET_SLOTS: usize = 12;
pub(super) const BUCKET_BYTES: usize = 64;
/// Where the parts of a bucket begin: a byte of the hash for each slot, zero if it is empty; how many
/// entries went past it because it was full; the slots.
const PASSED: usize = BUCKET_SLOTS;
const SLOTS: usize = BUCKET_BYTES - BUCKET_SLOTS * size_of::<u32>();

const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
/// Moves the first bit of each byte into the upper byte, in order.
const GATHER: u64 = 0x0102_0408_1020_4080;

/// A bit for each byte that is zero.
fn zero_bytes(word: u64) -> u32 {
    let marks = !((word & LOW_BITS).wrapping_add(LOW_BITS) | word | LOW_BITS) >> 7;
    (marks.wrapping_mul(GATHER) >> 56) as u32
}

pub(super) type Bucket = [u8; BUCKET_BYTES];

#[inline]
pub(super) fn bucket(buckets: &[u8], at: usize) -> &Bucket {
    buckets[at * BUCKET_BYTES..].first_chunk().expect("a table has whole buckets")
}

#[inline]
pub(super) fn bucket_mut(buckets: &mut [u8], at: usize) -> &mut Bucket {
    buckets[at * BUCKET_BYTES..].first_chunk_mut().expect("a table has whole buckets")
}

/// A bit for each slot with that tag.
#[inline]
pub(super) fn slots_with(bucket: &Bucket, tag: u8) -> u32 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *bucket;
    let pattern = EACH_BYTE * u64::from(tag);
    let low = zero_bytes(u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ pattern);
    let high = zero_bytes(u64::from(u32::from_le_bytes([i, j, k, l])) ^ pattern) & 0xf;
    low | high << 8
}

#[inline]
fn read(bucket: &Bucket, at: usize) -> u32 {
    let bytes = bucket[at..at + 4].first_chunk().expect("four bytes");
    u32::from_le_bytes(*bytes)
}

fn write(bucket: &mut Bucket, at: usize, number: u32) {
    bucket[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

#[inline]
pub(super) fn index_in(bucket: &Bucket, slot: usize) -> u32 {
    read(bucket, SLOTS + 4 * slot)
}

pub(super) fn set(bucket: &mut Bucket, slot: usize, tag: u8, index: u32) {
    bucket[slot] = tag;
    write(bucket, SLOTS + 4 * slot, index);
}

pub(super) fn indexes(bucket: &Bucket) -> impl Iterator<Item = u32> + '_ {
    (0..BUCKET_SLOTS).filter(|slot| bucket[*slot] != 0).map(|slot| index_in(bucket, slot))
}

/// How many entries went past a bucket.
#[inline]
pub(super) fn passed(bucket: &Bucket) -> u32 {
    read(bucket, PASSED)
}

pub(super) fn set_passed(bucket: &mut Bucket, passed: u32) {
    write(bucket, PASSED, passed);
}

/// Takes all entries out. Who went past can still be found.
pub(super) fn clear(bucket: &mut Bucket) {
    bucket[..BUCKET_SLOTS].fill(0);
}
