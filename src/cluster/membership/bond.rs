//! How long two groups of nodes were apart, and which of them begins anew: a plain value.
//!
//! Deleted keys leave tombstones, which are kept for a while only. Who was apart from the others for
//! longer must not come back with what it has, or deleted keys would be back with it. Alone it cannot
//! know: to each side of a split the other one is away. So both compare what they know.
//!
//! In each group of members that are alive to each other the one with the smallest id *stamps*, about
//! once a second, the time and how many they are. Every datagram carries the sender's [`Bond`]: of each
//! node that has stamped, the newest stamp that has come to the sender. The newest stamp that two bonds
//! share is the last time at which both were in one group. Rules kept here:
//!
//! 1. [`Bond::meets`] depends on the two bonds alone and is its own mirror image: if one side is to begin
//!    anew, the other is to stay. Which one is the same for all members of a group, since it depends on
//!    the stamps: the side that stood still loses, then the smaller one, then the one without the
//!    smaller smallest id.
//! 2. Who has just started has nothing that could be old: it was never apart for longer than it is old.
//! 3. Only what comes from a member, to a member, is taken over: see [`super::horizon`].

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::time::Duration;

use crate::cluster::membership::identity::NodeId;

/// The most stamps that a bond keeps. Without the older ones, two sides seem to be apart for longer.
pub const STAMPS_MAX: usize = 8;
/// How long two sides must be apart at least for tombstones that went early to matter.
pub const EARLY_MIN: Duration = Duration::from_secs(10);
/// For how long a group weighs what it did.
const WEIGHED_MAX: Duration = Duration::from_secs(2);
const HEAD_BYTES: usize = 17;
const STAMP_BYTES: usize = 18;
/// The most bytes that a bond takes in a datagram.
pub const BOND_BYTES_MAX: usize = HEAD_BYTES + STAMPS_MAX * STAMP_BYTES;

/// What the first node of a group said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Stamp {
    /// Who: the smallest id in the group.
    pub leader: NodeId,
    /// When, in milliseconds of the clock that the groups' stamps drive: it does not jump.
    pub at: u64,
    /// How many they were, then or a stamp before: a number on its way is never too large for the next.
    pub size: u16,
}

/// What binds a node to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Bond {
    /// For how long the group has had anything, in milliseconds.
    pub age: u64,
    /// Tombstones of deletes before this time went early, for want of memory; zero: none did.
    pub forgotten: u64,
    /// The newest stamp of each that has stamped, the newest first.
    stamps: Vec<Stamp>,
}

/// What comes of two bonds that meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// They belong together, or were not apart for too long.
    Near,
    /// The other side was away for so long, and must not come in with what it has.
    Stays(Duration),
    /// This side was away for so long, and has to begin anew.
    Yields(Duration),
}

impl Bond {
    /// The newest stamp's time.
    pub fn newest(&self) -> u64 {
        self.stamps.first().map_or(0, |stamp| stamp.at)
    }

    /// Adds a stamp, unless it is old.
    pub fn add(&mut self, stamp: Stamp) {
        if let Some(known) = self.stamps.iter_mut().find(|known| known.leader == stamp.leader) {
            // Of one time the larger group, so that it does not matter which one was heard first.
            if (known.at, known.size) >= (stamp.at, stamp.size) {
                return;
            }
            *known = stamp;
        } else {
            self.stamps.push(stamp);
        }
        self.stamps.sort_by_key(|stamp| (Reverse(stamp.at), stamp.leader));
        self.stamps.truncate(STAMPS_MAX);
    }

    /// Forgets stamps that say no more than that it is long ago.
    pub fn forget_before(&mut self, at: u64) {
        self.stamps.retain(|stamp| stamp.at >= at);
    }

    /// Takes over what another one knows.
    pub fn join(&mut self, other: &Bond) {
        self.age = self.age.max(other.age);
        self.forgotten = self.forgotten.max(other.forgotten);
        other.stamps.iter().for_each(|stamp| self.add(*stamp));
    }

    /// What it means that these two meet, where `away_max` is as long as they may be apart.
    pub fn meets(&self, other: &Bond, away_max: Duration) -> Meeting {
        let apart = self.apart(other);
        let last_together = self.newest().max(other.newest()).saturating_sub(millis(apart));
        let is_forgotten = last_together < self.forgotten.max(other.forgotten) && apart > EARLY_MIN;
        if apart <= away_max && !is_forgotten {
            return Meeting::Near;
        }
        let of_late = millis(WEIGHED_MAX.min(away_max / 4));
        let weigh = |one: &Bond, two: &Bond| (!one.has_slept(two), one.weight(of_late));
        match weigh(self, other).cmp(&weigh(other, self)) {
            Ordering::Greater => Meeting::Stays(apart),
            Ordering::Less => Meeting::Yields(apart),
            // Both say the same of one group. Better both than neither.
            Ordering::Equal => Meeting::Near,
        }
    }

    /// For how long the two were apart, at most.
    fn apart(&self, other: &Bond) -> Duration {
        let since_common = match self.common(other) {
            // Who has heard no stamp has not been long with anybody, nor long alone.
            _ if self.stamps.is_empty() || other.stamps.is_empty() => 0,
            0 => u64::MAX,
            common => self.newest().max(other.newest()) - common,
        };
        Duration::from_millis(since_common.min(self.age).min(other.age))
    }

    /// Whether it stood still for most of the time: it says how it was before that. Of two sides that
    /// both lived, the newest stamps are near each other.
    fn has_slept(&self, other: &Bond) -> bool {
        let common = self.common(other);
        common > 0 && self.newest().saturating_sub(common) < other.newest().saturating_sub(common) / 2
    }

    /// The newest time at which both were in one group; zero: none is known.
    fn common(&self, other: &Bond) -> u64 {
        let of_one = |stamp: &Stamp| {
            let theirs = other.stamps.iter().find(|theirs| theirs.leader == stamp.leader)?;
            Some(stamp.at.min(theirs.at))
        };
        self.stamps.iter().filter_map(of_one).max().unwrap_or(0)
    }

    /// The group's weight: its greatest of late, so that no two sides yield to what the other one was
    /// a moment ago. No two groups have the same.
    fn weight(&self, of_late: u64) -> (u16, Reverse<NodeId>) {
        let since = self.newest().saturating_sub(of_late);
        let of_late = self.stamps.iter().filter(|stamp| stamp.at >= since);
        let weights = of_late.map(|stamp| (stamp.size, Reverse(stamp.leader)));
        weights.max().unwrap_or((0, Reverse(NodeId::from_raw(u64::MAX))))
    }

    /// Writes it for a datagram: numbers with their most significant byte first.
    pub fn write(&self, datagram: &mut Vec<u8>) {
        datagram.push(self.stamps.len() as u8);
        datagram.extend_from_slice(&self.age.to_be_bytes());
        datagram.extend_from_slice(&self.forgotten.to_be_bytes());
        for stamp in &self.stamps {
            datagram.extend_from_slice(&stamp.leader.as_raw().to_be_bytes());
            datagram.extend_from_slice(&stamp.at.to_be_bytes());
            datagram.extend_from_slice(&stamp.size.to_be_bytes());
        }
    }

    /// Reads one, and what is behind it.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [count, head @ ..] = head;
        let (age, forgotten) = head.split_first_chunk::<8>()?;
        let count = usize::from(*count);
        if count > STAMPS_MAX {
            return None;
        }
        let (stamps, rest) = rest.split_at_checked(count * STAMP_BYTES)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let mut bond = Self { age: number(age), forgotten: number(forgotten), stamps: Vec::new() };
        for stamp in stamps.chunks_exact(STAMP_BYTES) {
            let size = u16::try_from(number(&stamp[16..])).unwrap_or(u16::MAX);
            let leader = NodeId::from_raw(number(&stamp[..8]));
            bond.add(Stamp { leader, at: number(&stamp[8..16]), size });
        }
        Some((bond, rest))
    }
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const MAX: Duration = Duration::from_secs(600);

    fn bond(age: u64, stamps: &[(u64, u64, u16)]) -> Bond {
        let mut bond = Bond { age: age * 1_000, ..Bond::default() };
        for (leader, at, size) in stamps {
            bond.add(Stamp { leader: NodeId::from_raw(*leader), at: at * 1_000, size: *size });
        }
        bond
    }

    #[test]
    fn who_was_together_lately_is_near_and_who_was_not_is_apart() {
        let ours = bond(5_000, &[(1, 2_000, 3)]);
        assert_eq!(ours.meets(&bond(5_000, &[(1, 1_400, 5), (4, 2_000, 2)]), MAX), Meeting::Near);
        let theirs = bond(5_000, &[(1, 1_399, 5), (4, 2_000, 2)]);
        let apart = Duration::from_secs(601);
        assert_eq!(ours.meets(&theirs, MAX), Meeting::Stays(apart));
        assert_eq!(theirs.meets(&ours, MAX), Meeting::Yields(apart));
    }

    #[test]
    fn of_two_equal_sides_the_one_with_the_smallest_id_stays() {
        let (ours, theirs) = (bond(5_000, &[(1, 2_000, 2)]), bond(5_000, &[(1, 1_000, 4), (3, 2_000, 2)]));
        assert_eq!(ours.meets(&theirs, MAX), Meeting::Stays(Duration::from_secs(1_000)));
        assert_eq!(theirs.meets(&ours, MAX), Meeting::Yields(Duration::from_secs(1_000)));
    }

    #[test]
    fn who_has_just_started_is_near_to_everybody() {
        let (new, old) = (bond(0, &[]), bond(50_000, &[(1, 9_000, 3)]));
        assert_eq!((new.meets(&old, MAX), old.meets(&new, MAX)), (Meeting::Near, Meeting::Near));
        // Its group's age comes with its stamps, or it is about to hear the first one.
        assert_eq!(bond(50_000, &[]).meets(&old, MAX), Meeting::Near);
        // Also if it was alone for a while.
        assert_eq!(bond(599, &[(9, 5, 1)]).meets(&old, MAX), Meeting::Near);
        let apart = Duration::from_secs(601);
        assert_eq!(bond(601, &[(9, 5, 1)]).meets(&old, MAX), Meeting::Yields(apart));
    }

    #[test]
    fn who_stood_still_yields_however_many_it_says_they_are() {
        let (awake, asleep) = (bond(5_000, &[(1, 1_000, 5), (2, 1_700, 4)]), bond(4_900, &[(1, 1_000, 5)]));
        assert_eq!(asleep.meets(&awake, MAX), Meeting::Yields(Duration::from_secs(700)));
        assert_eq!(awake.meets(&asleep, MAX), Meeting::Stays(Duration::from_secs(700)));
    }

    #[test]
    fn tombstones_that_went_early_part_sooner_but_never_who_was_away_for_a_moment() {
        let mut ours = bond(5_000, &[(1, 2_000, 3)]);
        let theirs = |together| bond(5_000, &[(1, together, 5), (4, 2_000, 2)]);
        ours.forgotten = 1_980_000;
        assert_eq!(ours.meets(&theirs(1_970), MAX), Meeting::Stays(Duration::from_secs(30)));
        assert_eq!(theirs(1_970).meets(&ours, MAX), Meeting::Yields(Duration::from_secs(30)));
        assert_eq!(ours.meets(&theirs(1_980), MAX), Meeting::Near);
        ours.forgotten = 1_999_000;
        assert_eq!(ours.meets(&theirs(1_990), MAX), Meeting::Near);
    }

    #[test]
    fn a_group_that_has_just_lost_members_weighs_what_it_did() {
        let ours = bond(5_000, &[(1, 1_999, 3), (2, 2_000, 1)]);
        let theirs = bond(5_000, &[(1, 1_000, 5), (4, 2_000, 2)]);
        assert_eq!(ours.meets(&theirs, MAX), Meeting::Stays(Duration::from_secs(1_000)));
    }

    #[test]
    fn what_is_cut_short_or_claims_too_much_is_no_bond() {
        let mut bytes = Vec::new();
        bond(7, &[(1, 2, 3), (4, 5, 6)]).write(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(Bond::read(&bytes[..length]), None, "{length} bytes");
        }
        bytes[0] = STAMPS_MAX as u8 + 1;
        assert_eq!(Bond::read(&[bytes, vec![0; 1_000]].concat()), None);
    }

    fn any_bond() -> impl Strategy<Value = Bond> {
        let stamps = proptest::collection::vec((1..12u64, 1..2_000u64, 1..9u16), 0..12);
        let times = (0..4_000u64, 0..2_000_000u64);
        (times, stamps).prop_map(|((age, forgotten), stamps)| Bond { forgotten, ..bond(age, &stamps) })
    }

    proptest! {
        #[test]
        fn exactly_one_side_yields(one in any_bond(), two in any_bond()) {
            match (one.meets(&two, MAX), two.meets(&one, MAX)) {
                (Meeting::Near, Meeting::Near) => {}
                (Meeting::Stays(a), Meeting::Yields(b)) | (Meeting::Yields(a), Meeting::Stays(b)) => {
                    prop_assert_eq!(a, b);
                }
                (a, b) => prop_assert!(false, "{:?} and {:?}", a, b),
            }
        }

        #[test]
        fn after_joining_both_ways_two_are_near(one in any_bond(), two in any_bond()) {
            let mut joined = one.clone();
            joined.join(&two);
            prop_assert!(matches!(joined.meets(&joined, MAX), Meeting::Near));
            let mut other = two.clone();
            other.join(&one);
            prop_assert_eq!(joined, other);
        }

        #[test]
        fn a_bond_is_read_as_it_was_written(bond in any_bond()) {
            let mut bytes = Vec::new();
            bond.write(&mut bytes);
            prop_assert!(bytes.len() <= BOND_BYTES_MAX);
            bytes.extend_from_slice(b"rest");
            prop_assert_eq!(Bond::read(&bytes), Some((bond, &b"rest"[..])));
        }
    }
}
