//! What nodes agree on: membership, ring, ownership, placement and the messages between them.

pub mod membership;
