//! How an entry lies in memory: a header of 18 bytes, two lengths, then deadline, key and value.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | version |
//! | 4 + 4 | the newer and the older neighbour in its list |
//! | 2 | partition (12 bits), state (2), list (2) |
//! | 1–5 + 1–5 | lengths of key and value, seven bits a byte |
//! | 0–10 | deadline, where there is one: milliseconds from the version's time, as the lengths |
//!
//! So a usual entry costs 20 bytes, and 4 more with a deadline within the next three days. Nothing here
//! knows where an entry lies.

use crate::store::Item;
use crate::store::ItemContent;
use crate::store::Partition;
use crate::time::Timestamp;
use crate::time::Version;

/// The parts of fixed length.
const FIXED_BYTES: usize = 18;
/// The shortest record.
pub(super) const RECORD_BYTES_MIN: usize = FIXED_BYTES + 2;
/// The longest record: lengths have 32 bits.
pub(super) const RECORD_BYTES_MAX: usize = u32::MAX as usize;

const PARTITION_MASK: u16 = 0x0fff;
const STATE_SHIFT: u32 = 12;
const LIST_SHIFT: u32 = 14;
const FREE: u16 = 0;
const TOMBSTONE: u16 = 1;
const VALUE: u16 = 2;
const VALUE_WITH_DEADLINE: u16 = 3;

/// The list of a record that is in none, or in the only one of its policy.
pub(super) const UNLISTED: u8 = 0;

/// No record: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// The bytes that an entry takes.
pub(super) fn record_bytes(item: &Item<'_>) -> usize {
    let (value_bytes, deadline_bytes) = match item.content {
        ItemContent::Deleted => (0, 0),
        ItemContent::Value { bytes, expires_at: None } => (bytes.len(), 0),
        ItemContent::Value { bytes, expires_at: Some(expires_at) } => {
            (bytes.len(), number_bytes(distance(item.version, expires_at)))
        }
    };
    let lengths = number_bytes(item.key.len() as u64) + number_bytes(value_bytes as u64);
    (FIXED_BYTES + lengths + deadline_bytes).saturating_add(item.key.len()).saturating_add(value_bytes)
}

const fn number_bytes(number: u64) -> usize {
    if number < 0x80 { 1 } else { (number.ilog2() as usize) / 7 + 1 }
}

/// How far a deadline is from a version: later ones are even, earlier ones odd, near ones small.
const fn distance(version: Version, expires_at: Timestamp) -> u64 {
    let millis = expires_at.as_millis().wrapping_sub(version.time().as_millis()) as i64;
    (millis << 1 ^ millis >> 63) as u64
}

const fn deadline(version: Version, distance: u64) -> Timestamp {
    let millis = (distance >> 1) ^ (distance & 1).wrapping_neg();
    Timestamp::from_millis(version.time().as_millis().wrapping_add(millis))
}

/// A record, and whatever follows it.
#[derive(Clone, Copy)]
pub(super) struct Record<'a>(pub(super) &'a [u8]);

impl<'a> Record<'a> {
    #[inline]
    fn fixed(self) -> &'a [u8; RECORD_BYTES_MIN] {
        self.0.first_chunk().expect("no slot is shorter")
    }

    #[inline]
    pub(super) fn version(self) -> Version {
        let [a, b, c, d, e, f, g, h, ..] = *self.fixed();
        Version::from_raw(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    #[inline]
    pub(super) fn newer(self) -> u32 {
        let fixed = self.fixed();
        u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])
    }

    #[inline]
    pub(super) fn older(self) -> u32 {
        let fixed = self.fixed();
        u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]])
    }

    #[inline]
    fn flags(self) -> u16 {
        let fixed = self.fixed();
        u16::from_le_bytes([fixed[16], fixed[17]])
    }

    #[inline]
    fn state(self) -> u16 {
        self.flags() >> STATE_SHIFT & 3
    }

    pub(super) fn partition(self) -> Partition {
        Partition::new(self.flags() & PARTITION_MASK).expect("twelve bits are a partition")
    }

    /// Which of the lists of its policy it is in.
    pub(super) fn list(self) -> u8 {
        (self.flags() >> LIST_SHIFT) as u8
    }

    /// When it expires, if it is a value that does.
    pub(super) fn expires_at(self) -> Option<Timestamp> {
        match self.content() {
            ItemContent::Deleted => None,
            ItemContent::Value { expires_at, .. } => expires_at,
        }
    }

    /// Whether there is a record in its slot.
    pub(super) fn is_used(self) -> bool {
        self.state() != FREE
    }

    pub(super) fn is_tombstone(self) -> bool {
        self.state() == TOMBSTONE
    }

    #[inline]
    pub(super) fn key(self) -> &'a [u8] {
        self.parts().key
    }

    /// Whether this is the record of a key.
    #[inline]
    pub(super) fn is_of(self, partition: Partition, key: &[u8]) -> bool {
        self.flags() & PARTITION_MASK == partition.number() && self.key() == key
    }

    #[inline]
    pub(super) fn content(self) -> ItemContent<'a> {
        if !self.is_value() {
            return ItemContent::Deleted;
        }
        let parts = self.parts();
        let expires_at = parts.distance.map(|distance| deadline(self.version(), distance));
        ItemContent::Value { bytes: parts.value, expires_at }
    }

    pub(super) fn item(self) -> Item<'a> {
        Item {
            partition: self.partition(),
            key: self.key(),
            version: self.version(),
            content: self.content(),
        }
    }

    #[inline]
    fn is_value(self) -> bool {
        self.state() >= VALUE
    }

    #[inline]
    fn parts(self) -> Parts<'a> {
        let fixed = self.fixed();
        let (key, value) = (fixed[FIXED_BYTES], fixed[FIXED_BYTES + 1]);
        let (key_bytes, value_bytes, mut at) = if (key | value) & 0x80 == 0 {
            (usize::from(key), usize::from(value), RECORD_BYTES_MIN)
        } else {
            let (key_bytes, at) = read_number(self.0, FIXED_BYTES);
            let (value_bytes, at) = read_number(self.0, at);
            (key_bytes as usize, value_bytes as usize, at)
        };
        let mut distance = None;
        if self.state() == VALUE_WITH_DEADLINE {
            let (number, end) = read_number(self.0, at);
            distance = Some(number);
            at = end;
        }
        let (key, rest) = self.0[at..].split_at(key_bytes);
        Parts { key, value: &rest[..value_bytes], distance }
    }
}

struct Parts<'a> {
    key: &'a [u8],
    value: &'a [u8],
    distance: Option<u64>,
}

fn read_number(bytes: &[u8], at: usize) -> (u64, usize) {
    let (mut number, mut at, mut shift) = (0, at, 0);
    loop {
        let byte = bytes[at];
        at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (number, at);
        }
        shift += 7;
    }
}

fn write_number(bytes: &mut [u8], at: usize, number: u64) -> usize {
    let (mut number, mut at) = (number, at);
    while number >= 0x80 {
        bytes[at] = number as u8 | 0x80;
        at += 1;
        number >>= 7;
    }
    bytes[at] = number as u8;
    at + 1
}

/// Writes a record that is in no list yet.
pub(super) fn write(bytes: &mut [u8], item: Item<'_>) {
    let (state, value, expires_at): (u16, &[u8], _) = match item.content {
        ItemContent::Deleted => (TOMBSTONE, &[], None),
        ItemContent::Value { bytes, expires_at: None } => (VALUE, bytes, None),
        ItemContent::Value { bytes, expires_at } => (VALUE_WITH_DEADLINE, bytes, expires_at),
    };
    bytes[..8].copy_from_slice(&item.version.as_raw().to_le_bytes());
    bytes[8..16].fill(0xff);
    let flags = item.partition.number() | state << STATE_SHIFT;
    bytes[16..18].copy_from_slice(&flags.to_le_bytes());
    let at = write_number(bytes, FIXED_BYTES, item.key.len() as u64);
    let mut at = write_number(bytes, at, value.len() as u64);
    if let Some(expires_at) = expires_at {
        at = write_number(bytes, at, distance(item.version, expires_at));
    }
    bytes[at..at + item.key.len()].copy_from_slice(item.key);
    bytes[at + item.key.len()..at + item.key.len() + value.len()].copy_from_slice(value);
}

#[inline]
pub(super) fn set_newer(bytes: &mut [u8], index: u32) {
    bytes[8..12].copy_from_slice(&index.to_le_bytes());
}

#[inline]
pub(super) fn set_older(bytes: &mut [u8], index: u32) {
    bytes[12..16].copy_from_slice(&index.to_le_bytes());
}

pub(super) fn set_list(bytes: &mut [u8], list: u8) {
    let flags = Record(bytes).flags() & !(3 << LIST_SHIFT) | u16::from(list) << LIST_SHIFT;
    bytes[16..18].copy_from_slice(&flags.to_le_bytes());
}

/// Makes it a record that is in no list.
pub(super) fn set_unlisted(bytes: &mut [u8]) {
    bytes[8..16].fill(0xff);
    set_list(bytes, UNLISTED);
}

/// Marks a slot as free and remembers a number in it.
pub(super) fn set_free(bytes: &mut [u8], number: u16) {
    bytes[..2].copy_from_slice(&number.to_le_bytes());
    bytes[16..18].copy_from_slice(&[0, 0]);
}

/// What [`set_free`] remembered.
pub(super) fn free_number(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_reads_back(key: &[u8], content: ItemContent<'_>) {
        let partition = Partition::new(4_095).unwrap();
        let version = Version::first_of(Timestamp::from_millis(1_800_000_000_000));
        let item = Item { partition, key, version, content };
        let length = record_bytes(&item);
        let mut bytes = vec![0xA5; length.max(RECORD_BYTES_MIN) + 3];
        write(&mut bytes, item);
        set_newer(&mut bytes, 7);
        set_older(&mut bytes, 9);
        set_list(&mut bytes, 3);
        let record = Record(&bytes);
        assert_eq!(record.item(), item);
        assert_eq!((record.newer(), record.older(), record.list()), (7, 9, 3));
        assert!(record.is_used() && record.is_of(partition, key));
        assert_eq!(record.is_tombstone(), content == ItemContent::Deleted);
        assert_eq!(bytes[length..], [0xA5; 3], "nothing is written beyond the end");
    }

    #[test]
    fn lengths_around_every_step_read_back() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 65_536, 2_097_151, 2_097_152] {
            let bytes = vec![3; length];
            for (key, value) in [(&bytes[..], &b"v"[..]), (b"k", &bytes)] {
                for millis in [None, Some(0), Some(1_800_000_000_100), Some(u64::MAX)] {
                    let expires_at = millis.map(Timestamp::from_millis);
                    assert_reads_back(key, ItemContent::Value { bytes: value, expires_at });
                }
                assert_reads_back(key, ItemContent::Deleted);
            }
        }
    }

    #[test]
    fn a_usual_entry_costs_twenty_bytes_and_four_more_with_a_deadline() {
        let version = Version::first_of(Timestamp::from_millis(1_800_000_000_000));
        for (expires_at, more) in [(None, 0), (Some(Timestamp::from_millis(1_800_003_600_000)), 4)] {
            let content = ItemContent::Value { bytes: &[1; 64], expires_at };
            let item = Item { partition: Partition::new(1).unwrap(), key: &[2; 16], version, content };
            assert_eq!(record_bytes(&item), 20 + 16 + 64 + more);
        }
    }

    #[test]
    fn a_free_slot_is_not_used() {
        let mut bytes = [0xff; RECORD_BYTES_MIN];
        set_free(&mut bytes, 700);
        assert!(!Record(&bytes).is_used());
        assert_eq!(free_number(&bytes), 700);
    }

    proptest! {
        #[test]
        fn any_entry_reads_back(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            value in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            assert_reads_back(&key, ItemContent::Value { bytes: &value, expires_at: None });
        }
    }
}
