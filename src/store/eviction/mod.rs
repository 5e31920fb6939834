//! Which value goes when there is no room: one file for each policy.
//!
//! A policy is told of every value that comes, is used, moves in memory and goes, and names the one that
//! goes next, or none: then the write that needs room is refused. It sees no tombstones. What it keeps
//! beside the links in the records is part of the shard's memory.

mod lfu;
mod lru;
mod never;
mod soonest;

use crate::store::eviction::lfu::Lfu;
use crate::store::eviction::lru::Lru;
use crate::store::eviction::never::Never;
use crate::store::eviction::soonest::Soonest;
use crate::store::slab::Slab;

/// What is to go when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// The value that has not been used for longest, exactly.
    #[default]
    Lru,
    /// The value that is used least, by a sketch of how often keys are used (W-TinyLFU).
    Lfu,
    /// The value with the nearest deadline; those without stay.
    Ttl,
    /// None: writes that need room are refused.
    None,
}

/// The values of a shard in the order of a policy.
pub(super) enum Order {
    Lru(Lru),
    Lfu(Box<Lfu>),
    Ttl(Soonest),
    None(Never),
}

/// The same for every policy.
macro_rules! each {
    ($order:expr, $policy:ident => $call:expr) => {
        match $order {
            Self::Lru($policy) => $call,
            Self::Lfu($policy) => $call,
            Self::Ttl($policy) => $call,
            Self::None($policy) => $call,
        }
    };
}

impl Order {
    /// No values yet, in so much memory.
    pub(super) fn new(policy: EvictionPolicy, memory_bytes_max: usize) -> Self {
        match policy {
            EvictionPolicy::Lru => Self::Lru(Lru::default()),
            EvictionPolicy::Lfu => Self::Lfu(Box::new(Lfu::new(memory_bytes_max))),
            EvictionPolicy::Ttl => Self::Ttl(Soonest::default()),
            EvictionPolicy::None => Self::None(Never),
        }
    }

    /// What it takes beside the records.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Lru(_) | Self::None(_) => 0,
            Self::Lfu(lfu) => lfu.memory_bytes(),
            Self::Ttl(soonest) => soonest.memory_bytes(),
        }
    }

    /// A value has been written to a slot.
    pub(super) fn add(&mut self, slab: &mut Slab, index: u32) {
        each!(self, policy => policy.add(slab, index));
    }

    /// A value has been read.
    #[inline]
    pub(super) fn renew(&mut self, slab: &mut Slab, index: u32) {
        each!(self, policy => policy.renew(slab, index));
    }

    /// A value goes, or is to be written over.
    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) {
        each!(self, policy => policy.remove(slab, index));
    }

    /// A value has moved to another slot.
    pub(super) fn follow(&mut self, slab: &mut Slab, from: u32, to: u32) {
        each!(self, policy => policy.follow(slab, from, to));
    }

    /// The value that goes next. It is still there.
    pub(super) fn next_to_go(&mut self, slab: &mut Slab) -> Option<u32> {
        each!(self, policy => policy.next_to_go(slab))
    }
}

#[cfg(test)]
mod tests;
