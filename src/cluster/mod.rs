//! What nodes agree on: membership, ring, ownership, placement and the messages between them.

pub mod identity;
pub mod ownership;
pub mod placement;
pub mod record;
pub mod replication;
pub mod ring;
pub mod view;
