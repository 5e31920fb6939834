//! What a shard knows of its keys only because it serves them, and nobody else does: it is not
//! replicated, and is void where it was when the partition changes hands.

use bytes::Buf;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::command::lease::Leases;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::Shard;
use crate::time::Timestamp;
use crate::time::Version;

/// A number, a version, a yes or no.
const MARK_BYTES: usize = 17;

/// What is compared of a key.
struct KeyState {
    /// Of its value, or of what is left of it.
    version: Version,
    is_there: bool,
}

impl KeyState {
    fn of(shard: &Shard, partition: Partition, key: &[u8], now: Timestamp) -> Self {
        let version = shard.version_of(partition, key).unwrap_or_default();
        Self { version, is_there: shard.contains(partition, key, now) }
    }
}

/// A shard's term of service. See the module.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// Differs between shards, and changes whenever this one comes to serve partitions.
    number: u64,
    pub(super) leases: Leases,
}

impl Tenure {
    /// The first one of a shard, by a random number.
    pub fn new(seed: u64) -> Self {
        Self { number: seed, leases: Leases::new(seed) }
    }

    /// The shard serves partitions that it did not serve before. Marks of any of its keys are void:
    /// this is rare, and for the partition in question necessary. What another primary had
    /// acknowledged may be lost, so that a key can look the same again although a client has seen it
    /// differ.
    pub fn begin(&mut self) {
        self.number = self.number.wrapping_add(1);
    }

    /// The shard serves only these partitions from now on: the leases of others have ended.
    pub fn keep(&mut self, served: &PartitionSet) {
        self.leases.keep(|partition| served.contains(partition));
    }

    /// A key has changed.
    pub fn changed(&mut self, key: &[u8]) {
        self.leases.end(key);
    }

    /// All keys of a partition are gone.
    pub fn flushed(&mut self, partition: Partition) {
        self.leases.keep(|other| other != partition);
    }

    /// Ends leases whose time is over.
    pub fn sweep(&mut self, now: Timestamp) {
        self.leases.sweep(now);
    }

    /// Whether somebody has a lease of the key.
    pub fn is_leased(&self, key: &[u8], now: Timestamp) -> bool {
        self.leases.is_held(key, now)
    }

    /// Whether a lease has ended since keys were last taken.
    pub fn has_ended(&self) -> bool {
        self.leases.has_ended()
    }

    /// Keys whose lease has ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Bytes> {
        self.leases.take_ended()
    }

    /// What a key is, so that any change of it can be told: another value, even an equal one, its
    /// deletion, expiry, eviction, and a move to another primary.
    pub fn mark(&self, shard: &Shard, partition: Partition, key: &[u8], now: Timestamp) -> Bytes {
        let state = KeyState::of(shard, partition, key, now);
        let mut mark = BytesMut::with_capacity(MARK_BYTES);
        mark.put_u64(self.number);
        mark.put_u64(state.version.as_raw());
        mark.put_u8(u8::from(state.is_there));
        mark.freeze()
    }

    /// Whether a key is as it was when [`Tenure::mark`] said this of it.
    pub fn is_as_marked(
        &self,
        shard: &Shard,
        partition: Partition,
        key: &[u8],
        mut mark: &[u8],
        now: Timestamp,
    ) -> bool {
        if mark.len() != MARK_BYTES || mark.get_u64() != self.number {
            return false;
        }
        let was = KeyState { version: Version::from_raw(mark.get_u64()), is_there: mark.get_u8() != 0 };
        let is = KeyState::of(shard, partition, key, now);
        match (was.is_there, is.is_there) {
            (true, true) => is.version == was.version,
            // What it was deleted with may be forgotten meanwhile; set and deleted again, it is greater.
            (false, false) => is.version <= was.version,
            (true, false) | (false, true) => false,
        }
    }
}
