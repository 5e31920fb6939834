//! What a node keeps in memory: plain values, driven by [`crate::time`] alone.

mod change;
mod partition;
pub mod wire;

pub use change::Change;
pub use change::Content;
pub use partition::PARTITION_COUNT;
pub use partition::Partition;
pub use partition::PartitionSet;
pub use partition::SLOT_COUNT;
pub use partition::SLOTS_PER_PARTITION;
pub use partition::Slot;
