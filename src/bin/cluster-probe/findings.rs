//! What clients saw of a failure: pure arithmetic over the outcomes of their requests.
//!
//! All times are in microseconds. A *range's first write* is the end of its first successful write
//! that was sent after the failure, counted from the failure.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A write that may go anywhere.
    Write,
    /// A read of a loaded key.
    Read,
    /// A write to the victim's range of this number.
    RangeWrite(usize),
}

/// How a request went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it was.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// When it was sent.
    pub sent: Instant,
    /// When its reply was there.
    pub done: Instant,
    /// What was wrong with it.
    pub error: Option<String>,
}

/// Prints a line per finding.
pub fn print(
    outcomes: &[Outcome],
    lost: &[&Outcome],
    range_count: usize,
    partition_count: usize,
    failed: Option<Instant>,
) {
    let is_write = |outcome: &&Outcome| outcome.kind != Kind::Read;
    let is_read = |outcome: &&Outcome| outcome.kind == Kind::Read;
    let acknowledged = outcomes.iter().filter(is_write).filter(|outcome| outcome.error.is_none()).count();
    println!("ranges {range_count}");
    println!("partitions {partition_count}");
    println!("writes {}", outcomes.iter().filter(is_write).count());
    println!("reads {}", outcomes.iter().filter(is_read).count());
    println!("write_median_us {}", median_wait(outcomes.iter().filter(is_write)));
    println!("read_median_us {}", median_wait(outcomes.iter().filter(is_read)));
    println!("write_longest_us {}", longest_wait(outcomes.iter().filter(is_write)));
    println!("read_longest_us {}", longest_wait(outcomes.iter().filter(is_read)));
    println!("acknowledged {acknowledged}");
    println!("lost {}", lost.len());
    if let Some(failed) = failed {
        print_first_writes(&first_writes(outcomes, range_count, failed));
        let before = |outcome: &&Outcome| failed.saturating_duration_since(outcome.done).as_micros();
        if let Some(earliest) = lost.iter().map(before).max() {
            println!("lost_earliest_before_us {earliest}");
        }
    }
    let mut errors = BTreeMap::<&str, usize>::new();
    for error in outcomes.iter().filter_map(|outcome| outcome.error.as_deref()) {
        *errors.entry(error).or_default() += 1;
    }
    println!("errors {}", errors.values().sum::<usize>());
    errors.iter().for_each(|(error, count)| println!("error {count} {error}"));
}

fn print_first_writes(first: &[Option<Duration>]) {
    let mut times: Vec<Duration> = first.iter().flatten().copied().collect();
    times.sort_unstable();
    println!("ranges_writable {}", times.len());
    if !times.is_empty() {
        for (name, percent) in [("first", 0), ("p50", 50), ("p99", 99), ("last", 100)] {
            println!("range_{name}_us {}", rank(&times, percent).as_micros());
        }
    }
}

/// Of each range, how long after the failure a write succeeded.
fn first_writes(outcomes: &[Outcome], range_count: usize, failed: Instant) -> Vec<Option<Duration>> {
    let mut first: Vec<Option<Duration>> = vec![None; range_count];
    for outcome in outcomes.iter().filter(|outcome| outcome.error.is_none() && outcome.sent >= failed) {
        if let Kind::RangeWrite(number) = outcome.kind {
            let after = outcome.done - failed;
            first[number] = Some(first[number].map_or(after, |earlier| earlier.min(after)));
        }
    }
    first
}

fn longest_wait<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> u128 {
    outcomes.map(|outcome| (outcome.done - outcome.sent).as_micros()).max().unwrap_or(0)
}

fn median_wait<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> u128 {
    let mut waits: Vec<Duration> = outcomes.map(|outcome| outcome.done - outcome.sent).collect();
    waits.sort_unstable();
    if waits.is_empty() { 0 } else { rank(&waits, 50).as_micros() }
}

/// The value that so many percent of the sorted values do not exceed.
fn rank(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(number: usize, start: Instant, sent: u64, done: u64, error: Option<&str>) -> Outcome {
        Outcome {
            kind: Kind::RangeWrite(number),
            key: String::new(),
            sent: start + Duration::from_millis(sent),
            done: start + Duration::from_millis(done),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn a_range_is_writable_again_at_its_first_success_sent_after_the_failure() {
        let start = Instant::now();
        let outcomes = [
            outcome(0, start, 9, 11, None),
            outcome(0, start, 12, 15, Some("ERROR: try again")),
            outcome(0, start, 16, 40, None),
            outcome(0, start, 41, 42, None),
            outcome(1, start, 13, 14, Some("ERROR: try again")),
        ];
        let first = first_writes(&outcomes, 2, start + Duration::from_millis(10));
        assert_eq!(first, [Some(Duration::from_millis(30)), None]);
    }

    #[test]
    fn a_rank_is_a_value_that_was_measured() {
        let times: Vec<Duration> = (1..=10).map(Duration::from_millis).collect();
        assert_eq!(rank(&times, 0), Duration::from_millis(1));
        assert_eq!(rank(&times, 50), Duration::from_millis(5));
        assert_eq!(rank(&times, 99), Duration::from_millis(10));
        assert_eq!(rank(&times, 100), Duration::from_millis(10));
    }
}
