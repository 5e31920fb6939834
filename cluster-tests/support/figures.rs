//! Figures: printed by every run, so that a change for the worse is seen before a limit is reached.

use std::time::Duration;

/// How long something took, again and again.
#[derive(Clone, Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    pub fn add(&mut self, more: impl IntoIterator<Item = Duration>) {
        self.0.extend(more);
        self.0.sort_unstable();
    }

    /// The time within which so many of a hundred were done.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub fn max(&self) -> Duration {
        self.percentile(100)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// In milliseconds.
pub fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

/// What a series of failovers showed.
#[derive(Debug, Default)]
pub struct Failovers {
    pub rounds: usize,
    /// From the event to the first write, for every affected partition.
    pub writes: Durations,
    /// From the start of the node, or its awakening, until everything was as before.
    pub settled: Durations,
    pub errors: Vec<String>,
    pub partitions: u64,
    pub promotions: u64,
    pub acknowledged: usize,
    pub lost: usize,
    /// How long before the event the oldest lost write was acknowledged.
    pub lost_before_max: Duration,
}

impl Failovers {
    pub const HEAD: &str = "| event | rounds | partitions | p50 | p99 | max | errors | promotions per partition \
                            | writes lost of acknowledged | oldest lost before the event | settled again p50 |\n\
                            |---|---|---|---|---|---|---|---|---|---|---|";

    /// A row of the table under [`Failovers::HEAD`].
    pub fn row(&self, event: &str) -> String {
        let cells = [
            event.to_owned(),
            self.rounds.to_string(),
            self.partitions.to_string(),
            millis(self.writes.percentile(50)),
            millis(self.writes.percentile(99)),
            millis(self.writes.max()),
            self.errors.len().to_string(),
            format!("{}/{}", self.promotions, self.partitions),
            format!("{} of {}", self.lost, self.acknowledged),
            millis(self.lost_before_max),
            millis(self.settled.percentile(50)),
        ];
        format!("| {} |", cells.join(" | "))
    }

    /// Prints the table of one event.
    pub fn print(&self, event: &str) {
        println!("{}\n{}", Self::HEAD, self.row(event));
    }
}
