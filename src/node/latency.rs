//! How long things take, in buckets that each hold times up to twice those of the one before.
//!
//! Each thread counts commands in a table of its own, so that no two of them write to the same memory:
//! whoever asks adds the tables up. A batch of commands costs one look at the clock, which the connection
//! takes anyway, and two additions for each command's name in it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::command::Verb;

/// Times that are bounded; the last bucket has those beyond.
const BOUNDS: usize = 22;
/// The bound of the first bucket is so many nanoseconds, as a power of two.
const FIRST_BITS: u32 = 10;
/// Tables. Threads beyond that many share them.
const TABLES: usize = 64;

/// How often something took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How often it took at most [`bound`] of the index, and longer than that of the one before.
    pub counts: [u64; BOUNDS + 1],
    /// All of it together, in nanoseconds.
    pub nanos: u64,
}

impl Histogram {
    /// How often it happened.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The longest time that a bucket holds; none: it has no bound.
pub fn bound(bucket: usize) -> Option<Duration> {
    (bucket < BOUNDS).then(|| Duration::from_nanos(1 << (FIRST_BITS + bucket as u32)))
}

fn bucket_of(nanos: u64) -> usize {
    let bits = u64::BITS - nanos.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BITS) as usize).min(BOUNDS)
}

/// A histogram that is counted into.
#[derive(Debug, Default)]
pub struct Counting {
    counts: [AtomicU64; BOUNDS + 1],
    nanos: AtomicU64,
}

impl Counting {
    /// It took so long.
    pub fn add(&self, took: Duration) {
        self.add_many(1, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add_many(&self, count: u64, nanos: u64) {
        self.counts[bucket_of(nanos)].fetch_add(count, Ordering::Relaxed);
        self.nanos.fetch_add(count.saturating_mul(nanos), Ordering::Relaxed);
    }

    fn add_to(&self, sum: &mut Histogram) {
        let counts = sum.counts.iter_mut().zip(&self.counts);
        counts.for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
        sum.nanos += self.nanos.load(Ordering::Relaxed);
    }

    /// What was counted.
    pub fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        self.add_to(&mut histogram);
        histogram
    }
}

/// How long commands take, by name.
#[derive(Debug)]
pub struct Latencies([OnceLock<Box<[Counting]>>; TABLES]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { OnceLock::new() }; TABLES])
    }
}

impl Latencies {
    /// A command was carried out so many times, and took so long each time.
    pub fn add(&self, verb: &'static Verb, count: usize, nanos: u64) {
        let table = self.0[own_table()].get_or_init(|| Verb::all().map(|_| Counting::default()).collect());
        table[verb.index()].add_many(count as u64, nanos);
    }

    /// Commands that were carried out, and how long they took.
    pub fn by_command(&self) -> Vec<(&'static Verb, Histogram)> {
        let sum = |verb: &'static Verb| {
            let mut sum = Histogram::default();
            let tables = self.0.iter().filter_map(OnceLock::get);
            tables.for_each(|table| table[verb.index()].add_to(&mut sum));
            (verb, sum)
        };
        Verb::all().map(sum).filter(|(_, histogram)| histogram.count() > 0).collect()
    }
}

fn own_table() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| match own.get() {
        Some(table) => table,
        None => {
            let table = THREADS.fetch_add(1, Ordering::Relaxed) % TABLES;
            own.set(Some(table));
            table
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for nanos in [0, 1, 1_023, 1_024, 1_025, 2_048, 2_049, 5_000_000, 1 << 31, (1 << 31) + 1, u64::MAX] {
            let bucket = bucket_of(nanos);
            let time = Duration::from_nanos(nanos);
            assert!(bound(bucket).is_none_or(|bound| time <= bound), "{nanos} in {bucket}");
            let before = bucket.checked_sub(1).and_then(bound);
            assert!(before.is_none_or(|before| time > before), "{nanos} in {bucket}");
        }
        assert_eq!(bound(BOUNDS), None);
    }

    #[test]
    fn what_many_threads_have_counted_is_added_up_by_command() {
        let latencies = Latencies::default();
        let (get, set) = (Verb::find(b"GET").unwrap(), Verb::find(b"SET").unwrap());
        std::thread::scope(|scope| {
            for _ in 0..TABLES + 8 {
                scope.spawn(|| {
                    latencies.add(get, 3, 2_000);
                    latencies.add(set, 1, 1 << 40);
                });
            }
        });
        let threads = TABLES as u64 + 8;
        let counted = latencies.by_command();
        let names: Vec<(&str, u64)> = counted.iter().map(|(verb, h)| (verb.name(), h.count())).collect();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&("GET", 3 * threads)) && names.contains(&("SET", threads)), "{names:?}");
        let of = |name| &counted.iter().find(|(verb, _)| verb.name() == name).unwrap().1;
        assert_eq!((of("GET").counts[1], of("GET").nanos), (3 * threads, 6_000 * threads));
        assert_eq!(of("SET").counts[BOUNDS], threads);
    }
}
