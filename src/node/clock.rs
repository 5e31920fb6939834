//! Where time is read, and the pulse by which a shard knows that the process has not stood still.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::time::Moment;
use crate::time::Timestamp;

/// Reads the clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    start: Instant,
    source: Source,
}

impl Clocks {
    /// Clocks of the node with this peer port that start now.
    pub fn start(peer_port: u16) -> Self {
        // Not at zero, so that "long ago" can be expressed.
        Self { start: Instant::now() - Duration::from_secs(1), source: Source::of(peer_port) }
    }

    /// The monotonic clock.
    pub fn now(&self) -> Moment {
        let micros = (self.start.elapsed() - self.source.behind()).as_micros();
        Moment::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// When the runtime's clock shows this moment.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + Duration::from_micros(moment.as_micros()) + self.source.behind()
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_micros() / 1_000)
    }

    /// The wall clock, in microseconds since the Unix epoch.
    pub fn wall_micros(&self) -> u64 {
        self.source.wall_micros()
    }
}

/// Where time comes from: the machine.
#[cfg(not(feature = "sim"))]
#[derive(Clone, Copy, Debug)]
struct Source;

#[cfg(not(feature = "sim"))]
impl Source {
    const fn of(_: u16) -> Self {
        Self
    }

    /// How far the clocks are behind the runtime's.
    const fn behind(self) -> Duration {
        Duration::ZERO
    }

    fn wall_micros(self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// Where time comes from: the simulation, in which every node has its own clocks.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, Debug)]
struct Source(u16);

#[cfg(feature = "sim")]
impl Source {
    const fn of(peer_port: u16) -> Self {
        Self(peer_port)
    }

    fn behind(self) -> Duration {
        crate::node::sim::standing(self.0)
    }

    fn wall_micros(self) -> u64 {
        crate::node::sim::wall_ms(self.0) * 1_000
    }
}

/// The beat of the gossip thread. A primary serves only while it is fresh: a process that stood
/// still for longer than the others wait has been replaced, and must not answer from what it has
/// before it has found that out.
#[derive(Debug)]
pub struct Pulse {
    last: AtomicU64,
    stalls: AtomicU64,
    stall_max: Duration,
}

impl Pulse {
    /// A pulse that has just beaten. A pause over `stall_max` counts as a stall.
    pub fn new(now: Moment, stall_max: Duration) -> Self {
        Self { last: AtomicU64::new(now.as_micros()), stalls: AtomicU64::new(0), stall_max }
    }

    /// Beats. If the last beat was too long ago, says for how long, and no shard serves before it
    /// has been told of the stall (see [`Pulse::is_fresh`]).
    pub fn beat(&self, now: Moment) -> Option<Duration> {
        let pause = now.since(Moment::from_micros(self.last.load(Ordering::Acquire)));
        let stalled = pause > self.stall_max;
        if stalled {
            // Before the beat, or a shard could see a fresh pulse without the stall.
            self.stalls.fetch_add(1, Ordering::AcqRel);
        }
        self.last.store(now.as_micros(), Ordering::Release);
        stalled.then_some(pause)
    }

    /// How long the process may stand still without having been replaced.
    pub const fn stall_max(&self) -> Duration {
        self.stall_max
    }

    /// How many stalls there were.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Acquire)
    }

    /// Whether the process has stood still and the next beat will say so.
    pub fn is_overdue(&self, now: Moment) -> bool {
        now.since(Moment::from_micros(self.last.load(Ordering::Acquire))) > self.stall_max
    }

    /// Whether somebody who knows of `stalls_known` stalls may serve.
    pub fn is_fresh(&self, now: Moment, stalls_known: u64) -> bool {
        !self.is_overdue(now) && self.stalls() == stalls_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_serves_during_a_stall_nor_after_it_before_having_been_told() {
        let (at, limit) = (Moment::from_millis, Duration::from_millis(450));
        let pulse = Pulse::new(at(0), limit);
        assert_eq!(pulse.beat(at(400)), None);
        assert!(pulse.is_fresh(at(850), 0));
        assert!(!pulse.is_fresh(at(851), 0));
        assert_eq!(pulse.beat(at(1_400)), Some(Duration::from_secs(1)));
        assert!(!pulse.is_fresh(at(1_401), 0));
        assert!(pulse.is_fresh(at(1_401), pulse.stalls()));
    }
}
