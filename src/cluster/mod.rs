//! What nodes agree on: membership, ring, ownership, placement and the messages between them.

#[cfg(test)]
pub mod example;
pub mod membership;
pub mod outgoing;
pub mod ownership;
pub mod peer;
pub mod placement;
pub mod planted;
pub mod record;
pub mod relay;
pub mod removal;
pub mod replication;
pub mod report;
pub mod ring;
#[cfg(test)]
mod scale;
pub mod serving;
pub mod skew;
pub mod slot_map;
pub mod survey;
pub mod view;
pub mod vigil;
#[cfg(feature = "sim")]
pub mod witness;
