//! Time as plain values: the lowest floor.
//!
//! Nothing here reads a clock. The shell reads it and passes [`Moment`] (monotonic) or
//! [`Timestamp`] (wall clock) down; versions are made from the wall clock by [`Clock`], a hybrid
//! logical clock (Kulkarni et al., "Logical Physical Clocks", 2014), so that they never go back
//! even when the wall clock does.

use std::ops::Add;
use std::time::Duration;

use bincode::Decode;
use bincode::Encode;

/// A point on this process' monotonic clock, in microseconds since some fixed start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is before.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(micros))
    }
}

/// Wall-clock time in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time so much later.
    pub fn after(self, duration: Duration) -> Self {
        Self::from_millis(
            self.as_millis().saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// The time `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// A hybrid logical clock reading: 48 bits of milliseconds, 16 bits of counter.
///
/// Zero is before every version that a clock hands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Version(u64);

const COUNTER_BITS: u32 = 16;

impl Version {
    /// Before everything.
    pub const ZERO: Version = Version(0);

    /// The version with this raw representation.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw representation: milliseconds in the upper 48 bits, the counter below.
    pub const fn as_raw(self) -> u64 {
        self.0
    }

    /// The first version of a millisecond.
    pub const fn first_of(time: Timestamp) -> Self {
        Self(time.0 << COUNTER_BITS)
    }

    /// The last version of a millisecond.
    pub const fn last_of(time: Timestamp) -> Self {
        Self((time.0 << COUNTER_BITS) | ((1 << COUNTER_BITS) - 1))
    }

    /// The wall-clock part.
    pub const fn time(self) -> Timestamp {
        Timestamp(self.0 >> COUNTER_BITS)
    }
}

/// Hands out versions, each greater than all it has handed out or seen.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Version,
}

impl Clock {
    /// The next version at wall-clock time `now`.
    pub fn next(&mut self, now: Timestamp) -> Version {
        self.last = Version::first_of(now).max(Version(self.last.0 + 1));
        self.last
    }

    /// Takes note of a version made elsewhere, so that the next one here is greater.
    pub fn observe(&mut self, version: Version) {
        self.last = self.last.max(version);
    }

    /// The greatest version handed out or seen.
    pub fn last(&self) -> Version {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_within_a_millisecond_and_when_the_wall_clock_jumps_back() {
        let mut clock = Clock::default();
        let first = clock.next(Timestamp(1_000));
        let second = clock.next(Timestamp(1_000));
        let third = clock.next(Timestamp(10));
        assert_eq!(first, Version::first_of(Timestamp(1_000)));
        assert!(first < second && second < third);
        assert_eq!(clock.next(Timestamp(2_000)).time(), Timestamp(2_000));
    }

    #[test]
    fn a_version_seen_from_elsewhere_is_before_the_next_one_here() {
        let mut clock = Clock::default();
        let remote = Version::first_of(Timestamp(5_000));
        clock.observe(remote);
        assert!(clock.next(Timestamp(1_000)) > remote);
    }

    #[test]
    fn moments_subtract_to_zero_at_least() {
        let later = Moment::from_millis(5) + Duration::from_micros(7);
        assert_eq!(later.since(Moment::from_millis(5)), Duration::from_micros(7));
        assert_eq!(Moment::from_millis(5).since(later), Duration::ZERO);
    }
}
