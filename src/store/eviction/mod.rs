//! Which value goes when there is no room: one file for each policy.
//!
//! A policy is told of every value that comes, is used, moves in memory and goes, and names the one that
//! goes next, or none: then the write that needs room is refused. It sees no tombstones. What it keeps
//! beside the links in the records is part of the shard's memory.
//!
//! How many reads are answered, of 100,000 keys drawn by Zipf's law, by how many of them there is room for; in the
//! scan, half of the reads go to as many keys as are kept, the others to all in turn. Printed by
//! `cargo bench --bench store_figures -- hits`.
//!
//! | exponent | room | lru | lfu |
//! |---|---|---|---|
//! | 0.8 | 1 % | 0.204 | 0.332 |
//! | 0.8 | 10 % | 0.469 | 0.570 |
//! | 0.99 | 1 % | 0.489 | 0.598 |
//! | 0.99 | 10 % | 0.725 | 0.782 |
//! | 1.2 | 1 % | 0.795 | 0.848 |
//! | 1.2 | 10 % | 0.918 | 0.935 |
//! | scan | 1 % | 0.216 | 0.494 |

mod lfu;
mod lru;
mod never;
mod soonest;

use crate::store::eviction::lfu::Lfu;
use crate::store::eviction::lru::Lru;
use crate::store::eviction::never::Never;
use crate::store::eviction::soonest::Soonest;
use crate::store::record;
use crate::store::record::UNLISTED;
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

/// The values of a shard in the order of one policy.
pub(super) enum Policy {
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

impl Policy {
    fn new(policy: EvictionPolicy, memory_bytes_max: usize) -> Self {
        match policy {
            EvictionPolicy::Lru => Self::Lru(Lru::default()),
            EvictionPolicy::Lfu => Self::Lfu(Box::new(Lfu::new(memory_bytes_max))),
            EvictionPolicy::Ttl => Self::Ttl(Soonest::default()),
            EvictionPolicy::None => Self::None(Never),
        }
    }

    fn kind(&self) -> EvictionPolicy {
        match self {
            Self::Lru(_) => EvictionPolicy::Lru,
            Self::Lfu(_) => EvictionPolicy::Lfu,
            Self::Ttl(_) => EvictionPolicy::Ttl,
            Self::None(_) => EvictionPolicy::None,
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Lru(_) | Self::None(_) => 0,
            Self::Lfu(lfu) => lfu.memory_bytes(),
            Self::Ttl(soonest) => soonest.memory_bytes(),
        }
    }

    /// Whether it keeps all values in lists, threaded through their records.
    fn is_listed(&self) -> bool {
        matches!(self, Self::Lru(_) | Self::Lfu(_))
    }

    /// Some value that it keeps in a list, an old one.
    fn some_listed(&self) -> Option<u32> {
        match self {
            Self::Lru(lru) => lru.list.oldest(),
            Self::Lfu(lfu) => lfu.some_listed(),
            Self::Ttl(_) | Self::None(_) => None,
        }
    }

    /// Whether it keeps the value in a slot; the policy knows the value by the number `known`.
    fn holds(&self, slab: &Slab, index: u32, known: u32) -> bool {
        match self {
            Self::Lru(lru) => lru.holds(slab, index, known),
            Self::Lfu(_) => slab.record(index).list() != UNLISTED,
            Self::Ttl(soonest) => soonest.holds(slab, index, known),
            Self::None(_) => false,
        }
    }

    fn add(&mut self, slab: &mut Slab, index: u32) {
        each!(self, policy => policy.add(slab, index));
    }

    #[inline]
    fn renew(&mut self, slab: &mut Slab, index: u32) {
        each!(self, policy => policy.renew(slab, index));
    }

    fn remove(&mut self, slab: &mut Slab, index: u32) {
        each!(self, policy => policy.remove(slab, index));
    }

    fn follow(&mut self, slab: &mut Slab, from: u32, to: u32) {
        each!(self, policy => policy.follow(slab, from, to));
    }

    fn next_to_go(&mut self, slab: &mut Slab) -> Option<u32> {
        each!(self, policy => policy.next_to_go(slab))
    }
}

/// The values of a shard in the order in which they are to go.
///
/// A policy can be replaced by another one: then its values pass to the new one by and by, and until all
/// have, each value is asked who keeps it. What is used meanwhile passes at once.
pub(super) struct Order {
    current: Policy,
    former: Option<Policy>,
    /// The policy that was wished for while another change was under way.
    wanted: Option<EvictionPolicy>,
}

impl Order {
    /// No values yet, in so much memory.
    pub(super) fn new(policy: EvictionPolicy, memory_bytes_max: usize) -> Self {
        Self { current: Policy::new(policy, memory_bytes_max), former: None, wanted: None }
    }

    /// What it takes beside the records.
    pub(super) fn memory_bytes(&self) -> usize {
        self.current.memory_bytes() + self.former.as_ref().map_or(0, Policy::memory_bytes)
    }

    /// About how often a value was used lately, from 0 to 15, if its policy wants to know that.
    pub(super) fn frequency(&self, slab: &Slab, index: u32) -> Option<u64> {
        match &self.current {
            Policy::Lfu(lfu) => Some(lfu.frequency(slab, index)),
            Policy::Lru(_) | Policy::Ttl(_) | Policy::None(_) => None,
        }
    }

    /// Values go by another policy from now on.
    pub(super) fn change(&mut self, policy: EvictionPolicy, memory_bytes_max: usize) {
        if self.former.is_some() {
            self.wanted = Some(policy);
            return;
        }
        self.former = Some(std::mem::replace(&mut self.current, Policy::new(policy, memory_bytes_max)));
    }

    /// There is more or less memory from now on.
    pub(super) fn resize(&mut self, memory_bytes_max: usize) {
        if let Policy::Lfu(lfu) = &mut self.current {
            lfu.resize(memory_bytes_max);
        }
    }

    /// Whether values are still to pass to a new policy.
    pub(super) fn is_changing(&self) -> bool {
        self.former.is_some()
    }

    /// Whether [`Order::adopt_listed`] is the way to pass values on. Otherwise each has to be passed on by
    /// [`Order::adopt`].
    pub(super) fn has_listed_former(&self) -> bool {
        self.former.as_ref().is_some_and(Policy::is_listed)
    }

    /// Passes some values on to the new policy, and says whether these were all.
    pub(super) fn adopt_listed(&mut self, slab: &mut Slab, values_max: usize) -> bool {
        for _ in 0..values_max {
            match self.former.as_ref().and_then(Policy::some_listed) {
                Some(index) => self.adopt(slab, index),
                None => return true,
            }
        }
        false
    }

    /// Passes a value on to the new policy, if it keeps it not yet.
    pub(super) fn adopt(&mut self, slab: &mut Slab, index: u32) {
        if self.current.holds(slab, index, index) {
            return;
        }
        if let Some(former) = self.former.as_mut().filter(|former| former.holds(slab, index, index)) {
            former.remove(slab, index);
        }
        record::set_unlisted(slab.bytes_mut(index));
        self.current.add(slab, index);
    }

    /// All values have passed to the new policy.
    pub(super) fn has_changed(&mut self, memory_bytes_max: usize) {
        self.former = None;
        // Two of one kind could not tell whose a value is.
        if let Some(policy) = self.wanted.take().filter(|policy| *policy != self.current.kind()) {
            self.change(policy, memory_bytes_max);
        }
    }

    /// Who keeps a value, which is known by another number there if it has just moved; none: nobody.
    fn keeper(&mut self, slab: &Slab, index: u32, known: u32) -> Option<&mut Policy> {
        match &mut self.former {
            Some(former) if former.holds(slab, index, known) => Some(former),
            Some(_) if !self.current.holds(slab, index, known) => None,
            Some(_) | None => Some(&mut self.current),
        }
    }

    /// A value has been written to a slot.
    pub(super) fn add(&mut self, slab: &mut Slab, index: u32) {
        self.current.add(slab, index);
    }

    /// A value has been read.
    #[inline]
    pub(super) fn renew(&mut self, slab: &mut Slab, index: u32) {
        if self.former.is_some() {
            self.adopt(slab, index);
        }
        self.current.renew(slab, index);
    }

    /// A value goes, or is to be written over.
    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) {
        if let Some(keeper) = self.keeper(slab, index, index) {
            keeper.remove(slab, index);
        }
    }

    /// A value has moved to another slot.
    pub(super) fn follow(&mut self, slab: &mut Slab, from: u32, to: u32) {
        if let Some(keeper) = self.keeper(slab, to, from) {
            keeper.follow(slab, from, to);
        }
    }

    /// The value that goes next. It is still there.
    pub(super) fn next_to_go(&mut self, slab: &mut Slab) -> Option<u32> {
        let next = self.current.next_to_go(slab);
        // A policy that lets only some values go, or none, has the last word.
        let former = self.former.as_mut().filter(|_| self.current.is_listed());
        next.or_else(|| former?.next_to_go(slab))
    }
}

#[cfg(test)]
mod tests;
