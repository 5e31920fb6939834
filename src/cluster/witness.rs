//! What a simulation sees of the shards: every change where it is made, and what each shard then has.
//! Only with the feature `sim`.

use std::cell::RefCell;

use crate::cluster::membership::NodeId;
use crate::store::Change;
use crate::store::Partition;
use crate::time::Version;

/// Something that has happened in a shard.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A primary has carried out a command.
    Made(Change),
    /// A key has this version now.
    Holds(bytes::Bytes, Version),
    /// All of a partition up to this version is gone, by a flush; `is_made`: here, as its primary.
    Flushed {
        /// Which.
        partition: Partition,
        /// Up to where.
        version: Version,
        /// Whether it began here.
        is_made: bool,
    },
    /// A partition is forgotten.
    Dropped(Partition),
}

type Witness = Box<dyn FnMut(NodeId, Fact)>;

thread_local! {
    static WITNESS: RefCell<Option<Witness>> = const { RefCell::new(None) };
}

/// From now on this is told everything, and which node it happened at.
pub fn call(witness: Witness) {
    WITNESS.with(|place| *place.borrow_mut() = Some(witness));
}

/// Tells the witness.
pub fn tell(node: NodeId, fact: Fact) {
    WITNESS.with(|place| {
        if let Some(witness) = place.borrow_mut().as_mut() {
            witness(node, fact);
        }
    });
}
