//! What a shard knows of its keys only because it serves them, and nobody else does: it is not
//! replicated, and is void where it was when the partition changes hands.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::store::Partition;
use crate::store::Shard;
use crate::time::Timestamp;

/// A shard's term of service. See the module.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// Differs between shards, and changes whenever this one comes to serve partitions.
    number: u64,
}

impl Tenure {
    /// The first one of a shard, by a random number.
    pub fn new(seed: u64) -> Self {
        Self { number: seed }
    }

    /// The shard serves partitions that it did not serve before. Marks of any of its keys are void:
    /// this is rare, and for the partition in question necessary. What another primary had
    /// acknowledged may be lost, so that a key can look the same again although a client has seen it
    /// differ.
    pub fn begin(&mut self) {
        self.number = self.number.wrapping_add(1);
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
