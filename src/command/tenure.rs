//! What a shard knows of its keys only because it serves them, and nobody else does: it is not
//! replicated, and is void where it was when the partition changes hands.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::command::lease::Leases;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::Shard;
use crate::time::Timestamp;

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

    /// Keys whose lease has ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Bytes> {
        self.leases.take_ended()
    }

    /// What a key is, so that any change of it can be told: another value, even an equal one, its
    /// deletion, expiry, eviction, and a move to another primary.
    pub fn mark(&self, shard: &Shard, partition: Partition, key: &[u8], now: Timestamp) -> Bytes {
        let version = shard.version_of(partition, key).unwrap_or_default();
        let mut mark = BytesMut::with_capacity(17);
        mark.put_u64(self.number);
        mark.put_u64(version.as_raw());
        mark.put_u8(u8::from(shard.contains(partition, key, now)));
        mark.freeze()
    }
}
