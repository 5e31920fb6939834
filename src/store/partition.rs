//! Where a key belongs: slots, partitions and sets of partitions.
//!
//! A slot is defined exactly as in the Redis Cluster specification ("Key distribution model" and
//! "Hash tags"), so that cluster-aware Redis clients agree with us.

use std::fmt;

use bincode::Decode;
use bincode::Encode;
use crc::CRC_16_XMODEM;
use crc::Crc;
use crc::Table;

/// Slots on the ring, as in Redis Cluster.
pub const SLOT_COUNT: u16 = 16_384;
/// Partitions, fixed for a cluster's life. A simulation has fewer, and therefore more seeds per second.
pub const PARTITION_COUNT: u16 = if cfg!(feature = "sim") { 256 } else { 4_096 };
/// Neighbouring slots that make a partition.
pub const SLOTS_PER_PARTITION: u16 = SLOT_COUNT / PARTITION_COUNT;

const CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// A slot number, below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a key: CRC16 of its hash tag, or of the whole key where it has none.
    pub fn of(key: &[u8]) -> Self {
        Self(CRC.checksum(hash_tag(key).unwrap_or(key)) % SLOT_COUNT)
    }

    /// The slot's number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The partition that the slot lies in.
    pub const fn partition(self) -> Partition {
        Partition(self.0 / SLOTS_PER_PARTITION)
    }
}

/// What stands between the first `{` and the first `}` after it, unless that is empty.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)?;
    let rest = &key[open + 1..];
    let close = memchr::memchr(b'}', rest)?;
    (close > 0).then(|| &rest[..close])
}

/// A partition number, below [`PARTITION_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Partition(u16);

impl Partition {
    /// The partition with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < PARTITION_COUNT { Some(Self(number)) } else { None }
    }

    /// The partition of a key.
    pub fn of(key: &[u8]) -> Self {
        Slot::of(key).partition()
    }

    /// The partition that a slot lies in, if there is such a slot.
    pub const fn of_slot(slot: u16) -> Option<Self> {
        Self::new(slot / SLOTS_PER_PARTITION)
    }

    /// All partitions in ring order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..PARTITION_COUNT).map(Self)
    }

    /// The partition's number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The partition's number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The first of its slots.
    pub const fn first_slot(self) -> u16 {
        self.0 * SLOTS_PER_PARTITION
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// By hand: a number from a peer is checked before it becomes an index.
impl<Context> Decode<Context> for Partition {
    fn decode<D: bincode::de::Decoder<Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        let number = u16::decode(decoder)?;
        Self::new(number).ok_or(bincode::error::DecodeError::Other("partition number out of range"))
    }
}

bincode::impl_borrow_decode!(Partition);

const WORDS: usize = PARTITION_COUNT as usize / 64;

/// A set of partitions: a bitmap of 512 bytes.
#[derive(Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PartitionSet {
    words: Box<[u64; WORDS]>,
}

impl PartitionSet {
    /// The set of no partition.
    pub fn new() -> Self {
        Self { words: Box::new([0; WORDS]) }
    }

    /// The set of all partitions.
    pub fn full() -> Self {
        Self { words: Box::new([u64::MAX; WORDS]) }
    }

    /// Whether it has the partition.
    pub fn contains(&self, partition: Partition) -> bool {
        self.words[partition.index() / 64] >> (partition.index() % 64) & 1 == 1
    }

    /// Adds a partition; whether it was new.
    pub fn insert(&mut self, partition: Partition) -> bool {
        let is_new = !self.contains(partition);
        self.words[partition.index() / 64] |= 1 << (partition.index() % 64);
        is_new
    }

    /// Takes a partition out; whether it was there.
    pub fn remove(&mut self, partition: Partition) -> bool {
        let was_there = self.contains(partition);
        self.words[partition.index() / 64] &= !(1 << (partition.index() % 64));
        was_there
    }

    /// How many partitions it has.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Its partitions in ring order.
    pub fn iter(&self) -> impl Iterator<Item = Partition> + '_ {
        Partition::all().filter(|partition| self.contains(*partition))
    }

    /// Adds all partitions of `other`.
    pub fn union_with(&mut self, other: &Self) {
        self.words.iter_mut().zip(other.words.iter()).for_each(|(word, more)| *word |= more);
    }

    /// Takes out all partitions of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.words.iter_mut().zip(other.words.iter()).for_each(|(word, less)| *word &= !less);
    }
}

impl Default for PartitionSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Partition> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        let mut set = Self::new();
        partitions.into_iter().for_each(|partition| {
            set.insert(partition);
        });
        set
    }
}

/// Ranges, such as `{0-16 40 4000-4095}`: what a log line or a test failure can be read from.
impl fmt::Display for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut partitions = self.iter().map(Partition::number).peekable();
        let mut separator = "";
        f.write_str("{")?;
        while let Some(first) = partitions.next() {
            let mut last = first;
            while let Some(next) = partitions.next_if_eq(&(last + 1)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = " ";
        }
        f.write_str("}")
    }
}

impl fmt::Debug for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_agree_with_the_redis_cluster_specification() {
        assert_eq!(CRC.checksum(b"123456789"), 0x31C3);
        assert_eq!(Slot::of(b"foo").number(), 12_182);
        assert_eq!(Slot::of(b"bar").number(), 5_061);
        assert_eq!(Slot::of(b"").number(), 0);
    }

    #[test]
    fn keys_with_the_same_tag_share_a_slot_and_an_empty_tag_is_none() {
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"user1000"));
        assert_eq!(Slot::of(b"foo{bar}{zap}"), Slot::of(b"bar"));
        assert_eq!(Slot::of(b"foo{{bar}}zap"), Slot::of(b"{bar"));
        assert_eq!(Slot::of(b"foo{}{bar}").number(), CRC.checksum(b"foo{}{bar}") % SLOT_COUNT);
        assert_eq!(Slot::of(b"foo{bar").number(), CRC.checksum(b"foo{bar") % SLOT_COUNT);
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_prints_as_ranges() {
        let numbers = [0, 1, 2, 63, 64, 4_095];
        let mut set: PartitionSet = numbers.iter().filter_map(|n| Partition::new(*n)).collect();
        assert_eq!(set.len(), 6);
        assert_eq!(set.to_string(), "{0-2 63-64 4095}");
        assert!(set.remove(Partition(1)) && !set.remove(Partition(1)));
        assert_eq!(set.to_string(), "{0 2 63-64 4095}");
        set.subtract(&PartitionSet::full());
        assert!(set.is_empty());
        assert_eq!(PartitionSet::full().len(), usize::from(PARTITION_COUNT));
    }

    #[test]
    fn a_partition_number_out_of_range_is_refused_when_decoded() {
        let config = bincode::config::standard();
        let bytes = bincode::encode_to_vec(PARTITION_COUNT, config).unwrap();
        assert!(bincode::decode_from_slice::<Partition, _>(&bytes, config).is_err());
    }
}
