//! What a node keeps in memory: plain values, driven by [`crate::time`] alone.

mod arena;
mod bucket;
mod change;
mod eviction;
mod item;
mod list;
mod memory;
mod partition;
mod record;
mod shard;
mod size_class;
mod slab;
mod table;
mod tables;
mod wire;

pub use change::Change;
pub use change::Content;
pub use eviction::EvictionPolicy;
pub use item::Item;
pub use item::ItemContent;
pub use item::ScanCursor;
pub use memory::Spare;
pub use partition::PARTITION_COUNT;
pub use partition::Partition;
pub use partition::PartitionSet;
pub use partition::SLOT_COUNT;
pub use partition::SLOTS_PER_PARTITION;
pub use partition::Slot;
pub use shard::Applied;
pub use shard::Shard;
pub use shard::ShardLimits;
pub use shard::ShardStats;
pub use table::KeyHash;
pub use wire::Blob;
pub use wire::decode_bytes;
pub use wire::encode_bytes;
