//! Keeps this node's [`Bond`]: stamps, listens to stamps, and judges whoever speaks to it.
//!
//! Rules kept here:
//!
//! 1. A stamp is taken over only from a member that holds us for a member, so that who hears without
//!    being heard is as far away as it is.
//! 2. Who stood still for long does not stamp before it has had time to find out who is there: what it
//!    holds of the others is as old as its stamps.
//! 3. Time is that of the stamps, carried on by the monotonic clock: whose wall clock jumps was not away.
//!
//! What this cannot see: two members that reach each other by gossip but not by TCP for longer than
//! `away_max`, and copies that take longer than half of it to be pulled after a shorter absence.

use std::time::Duration;

use crate::cluster::membership::bond::Bond;
use crate::cluster::membership::bond::EARLY_MIN;
use crate::cluster::membership::bond::Meeting;
use crate::cluster::membership::bond::Stamp;
use crate::cluster::membership::bond::millis;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::identity::NodeId;
use crate::time::Moment;

/// How often a group stamps.
const STAMP_PERIOD: Duration = Duration::from_secs(1);
/// How many stamps fit at least into the time for which two sides may be apart.
const STAMPS_PER_HORIZON: u32 = 8;
/// Who has started a moment ago and has heard no stamp waits for one.
const YOUNG: Duration = Duration::from_secs(5);

/// This node's bond, and what it takes to keep it.
#[derive(Debug)]
pub(super) struct Horizon {
    own: NodeId,
    away_max: Duration,
    bond: Bond,
    /// When the bond's age was as it says.
    aged: Moment,
    /// When the stamps' clock showed what.
    clock: (Moment, u64),
    /// How many we were at our last stamp.
    size: u16,
    /// Until when this node does not stamp.
    mute_until: Moment,
}

impl Horizon {
    /// Of a node that starts, empty.
    pub(super) fn new(identity: Identity, away_max: Duration, now: Moment) -> Self {
        // A generation is the wall clock's time at the start. It is only a beginning.
        let clock = (now, identity.generation.as_raw());
        let own = identity.node;
        Self { own, away_max, bond: Bond::default(), aged: now, clock, size: 0, mute_until: now }
    }

    /// How often to stamp.
    pub(super) fn period(&self) -> Duration {
        STAMP_PERIOD.min(self.away_max / STAMPS_PER_HORIZON)
    }

    /// What others are told, as old as the last stamp that was made or heard.
    pub(super) fn last(&self) -> &Bond {
        &self.bond
    }

    /// What others are told, as of now.
    pub(super) fn bond(&mut self, now: Moment) -> &Bond {
        self.bond.age += millis(now.since(self.aged));
        // Not more than was added: parts of milliseconds add up.
        self.aged = self.aged + Duration::from_millis(millis(now.since(self.aged)));
        &self.bond
    }

    /// Stamps, if we are the first of our group.
    pub(super) fn stamp(&mut self, members: usize, first: Option<NodeId>, now: Moment) {
        let age = self.bond(now).age;
        // It stamps by the clock of the group that it finds, if there is one.
        let is_young = self.bond.newest() == 0 && age < millis(YOUNG.min(self.away_max / 2));
        if first.is_some_and(|first| first < self.own) || now < self.mute_until || is_young {
            self.size = 0;
            return;
        }
        let size = u16::try_from(members + 1).unwrap_or(u16::MAX);
        let greater = size.max(std::mem::replace(&mut self.size, size));
        let at = self.time(now);
        self.bond.add(Stamp { leader: self.own, at, size: greater });
        self.bond.forget_before(at.saturating_sub(2 * millis(self.away_max)));
    }

    /// A member has said this, to a member.
    pub(super) fn take(&mut self, other: &Bond, now: Moment) {
        let before = self.bond(now).newest();
        self.bond.join(other);
        let newest = self.bond.newest();
        if newest > before {
            self.clock = (now, newest);
        }
        self.bond.forget_before(newest.saturating_sub(2 * millis(self.away_max)));
    }

    /// Whether who says this may come in.
    pub(super) fn judge(&mut self, other: &Bond, now: Moment) -> Meeting {
        let away_max = self.away_max;
        self.bond(now).meets(other, away_max)
    }

    /// Tombstones of deletes so long ago went before their time.
    pub(super) fn forget(&mut self, age: Duration, now: Moment) {
        let at = self.time(now).saturating_sub(millis(age));
        self.bond.forgotten = self.bond.forgotten.max(at);
    }

    /// This node stood still for so long. It takes `recovery` to find out who is there.
    pub(super) fn stand_still(&mut self, lateness: Duration, recovery: Duration, now: Moment) {
        if lateness > EARLY_MIN.min(self.away_max) / 2 {
            self.mute_until = now + recovery.min(self.away_max / 2);
            self.size = 0;
            // Who has never heard a stamp would be taken for one that has just started.
            if self.bond.newest() == 0 {
                self.bond.add(Stamp { leader: self.own, at: self.clock.1, size: 0 });
            }
            // Nor does its clock count that time: if all stood still, nobody was away.
            self.clock = (now, self.bond.newest().max(self.clock.1));
        }
    }

    /// The stamps' clock.
    fn time(&self, now: Moment) -> u64 {
        let (then, showed) = self.clock;
        showed.saturating_add(millis(now.since(then)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::cluster::membership::Generation;

    const AWAY_MAX: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1_000)
    }

    fn horizon(node: u64, generation: u64) -> Horizon {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let (node, generation) = (NodeId::from_raw(node), Generation::from_raw(generation));
        Horizon::new(Identity { node, generation, addr }, AWAY_MAX, at(0))
    }

    /// Both have been together until `end`.
    fn together(end: u64) -> (Horizon, Horizon) {
        let (mut one, mut two) = (horizon(1, 0), horizon(2, 60_000));
        one.stamp(1, Some(NodeId::from_raw(2)), at(end));
        two.stamp(1, Some(NodeId::from_raw(1)), at(end));
        let told = one.bond(at(end)).clone();
        two.take(&told, at(end));
        (one, two)
    }

    #[test]
    fn a_side_that_is_alone_too_long_is_told_apart_and_not_before() {
        let (mut one, mut two) = together(700);
        for seconds in 701..=1_300 {
            one.stamp(0, None, at(seconds));
            two.stamp(0, None, at(seconds));
        }
        assert_eq!(one.judge(&two.bond.clone(), at(1_300)), Meeting::Near);
        one.stamp(0, None, at(1_301));
        two.stamp(0, None, at(1_301));
        let apart = Duration::from_secs(601);
        assert_eq!(one.judge(&two.bond.clone(), at(1_301)), Meeting::Stays(apart));
        assert_eq!(two.judge(&one.bond.clone(), at(1_301)), Meeting::Yields(apart));
    }

    #[test]
    fn who_stood_still_does_not_stamp_what_it_believes() {
        let (mut one, mut two) = together(700);
        (701..=1_400).for_each(|seconds| two.stamp(0, None, at(seconds)));
        one.stand_still(Duration::from_secs(700), Duration::from_secs(2), at(1_400));
        one.stamp(1, Some(NodeId::from_raw(2)), at(1_401));
        assert_eq!(one.judge(&two.bond.clone(), at(1_401)), Meeting::Yields(Duration::from_secs(700)));
        one.stamp(0, None, at(1_402));
        assert_eq!(one.bond.newest(), 702_000, "when it knows who is there, it goes on");
        assert_eq!(one.judge(&two.bond.clone(), at(1_402)), Meeting::Yields(Duration::from_secs(700)));
    }

    #[test]
    fn who_starts_waits_for_a_stamp_of_its_group_and_goes_by_its_clock() {
        let (mut alone, mut joins) = (horizon(1, 0), horizon(0, 999_000));
        alone.stamp(0, None, at(4));
        assert_eq!(alone.bond.newest(), 0);
        alone.stamp(0, None, at(5));
        assert_eq!(alone.bond.newest(), 5_000);
        joins.stamp(1, Some(NodeId::from_raw(1)), at(4));
        assert_eq!(joins.bond.newest(), 0);
        joins.take(&alone.bond, at(5));
        joins.stamp(1, Some(NodeId::from_raw(1)), at(6));
        assert_eq!(joins.bond.newest(), 6_000);
    }

    #[test]
    fn what_was_forgotten_early_is_known_by_its_time() {
        let (mut one, two) = together(700);
        one.forget(Duration::from_secs(30), at(800));
        one.forget(Duration::from_secs(90), at(800));
        assert_eq!(one.bond.forgotten, 770_000);
        one.stamp(0, None, at(800));
        assert_eq!(one.judge(&two.bond, at(800)), Meeting::Stays(Duration::from_secs(100)));
    }

    #[test]
    fn an_age_grows_with_time_and_not_with_being_asked() {
        let mut one = horizon(1, 0);
        for micros in (0..10_000_000).step_by(700) {
            one.bond(Moment::from_micros(micros));
        }
        assert_eq!(one.bond(at(10)).age, 10_000);
    }
}
