//! What a client connection has done: counts that only the connection itself writes.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::command::Verb;
use crate::time::Moment;

/// Commands whose counters are kept together. Most connections use few commands, so the counters of most
/// are never made.
const GROUP_VERBS: usize = 8;
const GROUPS: usize = 16;

/// No command yet.
const NO_VERB: u64 = u64::MAX;

/// What a connection has done. Only its own task writes here, so that a plain load and store do; others
/// may read at any time.
#[derive(Debug)]
pub struct Usage {
    calls: [OnceLock<Box<[CallCounters; GROUP_VERBS]>>; GROUPS],
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    active_at: AtomicU64,
    is_busy: AtomicBool,
    last_verb: AtomicU64,
    query_bytes: AtomicU64,
    output_bytes_waiting: AtomicU64,
    /// Commands that its transaction has kept, and one; zero: it is in none.
    kept: AtomicU64,
}

#[derive(Debug, Default)]
struct CallCounters {
    count: AtomicU64,
    nanos: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
}

/// Adds to a counter that nobody else writes.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Usage {
    /// A connection that has done nothing yet.
    pub fn new(now: Moment) -> Self {
        Self {
            calls: Default::default(),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            active_at: AtomicU64::new(now.as_micros()),
            is_busy: AtomicBool::new(false),
            last_verb: AtomicU64::new(NO_VERB),
            query_bytes: AtomicU64::new(0),
            output_bytes_waiting: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    /// What the counters take that it has needed so far.
    pub fn calls_bytes(&self) -> usize {
        let groups = self.calls.iter().filter(|group| group.get().is_some()).count();
        groups * size_of::<[CallCounters; GROUP_VERBS]>()
    }

    fn calls_of(&self, verb: &'static Verb) -> &CallCounters {
        let index = verb.index();
        &self.calls[index / GROUP_VERBS].get_or_init(Box::default)[index % GROUP_VERBS]
    }

    /// It has read so much.
    pub fn has_read(&self, bytes: usize) {
        add(&self.reads, 1);
        add(&self.input_bytes, bytes as u64);
    }

    /// It writes so much.
    pub fn has_written(&self, bytes: usize) {
        add(&self.writes, 1);
        add(&self.output_bytes, bytes as u64);
    }

    /// So much of it waits until the client reads.
    pub fn waits_for_reader(&self, bytes: usize) {
        self.output_bytes_waiting.store(bytes as u64, Ordering::Relaxed);
    }

    /// It begins to carry out commands of so many bytes, what is unread behind them included.
    pub fn begins(&self, now: Moment, query_bytes: usize) {
        self.active_at.store(now.as_micros(), Ordering::Relaxed);
        self.query_bytes.store(query_bytes as u64, Ordering::Relaxed);
        self.is_busy.store(true, Ordering::Relaxed);
    }

    /// It has answered all that it has read, and keeps so many commands for a transaction, if it is in one.
    pub fn rests(&self, now: Moment, query_bytes: usize, kept: Option<usize>) {
        self.kept.store(kept.map_or(0, |kept| kept as u64 + 1), Ordering::Relaxed);
        self.active_at.store(now.as_micros(), Ordering::Relaxed);
        self.query_bytes.store(query_bytes as u64, Ordering::Relaxed);
        self.is_busy.store(false, Ordering::Relaxed);
    }

    /// A command was called so many times, and took so long each time.
    pub fn called(&self, verb: &'static Verb, count: usize, nanos: u64) {
        let counters = self.calls_of(verb);
        add(&counters.count, count as u64);
        add(&counters.nanos, count as u64 * nanos);
    }

    /// The latest command.
    pub fn is_at(&self, verb: &'static Verb) {
        self.last_verb.store(verb.index() as u64, Ordering::Relaxed);
    }

    /// A command was refused before it was carried out.
    pub fn rejected(&self, verb: &'static Verb) {
        add(&self.calls_of(verb).rejected, 1);
    }

    /// A command was carried out and failed.
    pub fn failed(&self, verb: &'static Verb) {
        add(&self.calls_of(verb).failed, 1);
    }

    /// For how long it has asked for nothing.
    pub fn idle(&self, now: Moment) -> Duration {
        match self.is_busy.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => now.since(Moment::from_micros(self.active_at.load(Ordering::Relaxed))),
        }
    }

    /// The name of the latest command.
    pub fn last_command(&self) -> String {
        let index = self.last_verb.load(Ordering::Relaxed);
        let verb = usize::try_from(index).ok().and_then(|index| Verb::all().nth(index));
        verb.map_or_else(|| "NULL".to_owned(), |verb| verb.name().to_ascii_lowercase())
    }

    /// How many commands it keeps for a transaction; none: it is in none.
    pub fn kept(&self) -> Option<u64> {
        self.kept.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Bytes of what it has asked for and is not answered.
    pub fn query_bytes(&self) -> usize {
        self.query_bytes.load(Ordering::Relaxed) as usize
    }

    /// Bytes of answers that it has not taken.
    pub fn output_bytes_waiting(&self) -> usize {
        self.output_bytes_waiting.load(Ordering::Relaxed) as usize
    }
}

/// Calls of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// How long they took together. Commands that were sent together share their time evenly.
    pub nanos: u64,
    /// How many were refused before they were carried out.
    pub rejected: u64,
    /// How many were carried out and failed.
    pub failed: u64,
}

/// What several connections have done together.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By command, in the order of the table; empty: none.
    pub calls: Vec<Calls>,
    /// Bytes read.
    pub input_bytes: u64,
    /// Bytes written.
    pub output_bytes: u64,
    /// Times that something was read.
    pub reads: u64,
    /// Times that something was written.
    pub writes: u64,
}

impl Tally {
    /// Adds what a connection has done.
    pub fn add(&mut self, usage: &Usage) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.calls.resize(GROUPS * GROUP_VERBS, Calls::default());
        for (sums, group) in self.calls.chunks_mut(GROUP_VERBS).zip(&usage.calls) {
            let group = group.get().map(|group| group.iter()).unwrap_or_default();
            for (sum, of) in sums.iter_mut().zip(group) {
                sum.count += load(&of.count);
                sum.nanos += load(&of.nanos);
                sum.rejected += load(&of.rejected);
                sum.failed += load(&of.failed);
            }
        }
        self.input_bytes += load(&usage.input_bytes);
        self.output_bytes += load(&usage.output_bytes);
        self.reads += load(&usage.reads);
        self.writes += load(&usage.writes);
    }

    /// What was done since an earlier tally.
    pub fn since(&self, earlier: &Tally) -> Tally {
        let calls = self.calls.iter().enumerate().map(|(index, calls)| {
            let before = earlier.calls.get(index).copied().unwrap_or_default();
            Calls {
                count: calls.count.saturating_sub(before.count),
                nanos: calls.nanos.saturating_sub(before.nanos),
                rejected: calls.rejected.saturating_sub(before.rejected),
                failed: calls.failed.saturating_sub(before.failed),
            }
        });
        Tally {
            calls: calls.collect(),
            input_bytes: self.input_bytes.saturating_sub(earlier.input_bytes),
            output_bytes: self.output_bytes.saturating_sub(earlier.output_bytes),
            reads: self.reads.saturating_sub(earlier.reads),
            writes: self.writes.saturating_sub(earlier.writes),
        }
    }

    /// How many commands.
    pub fn commands(&self) -> u64 {
        self.calls.iter().map(|calls| calls.count).sum()
    }

    /// Commands that were called or refused, and their figures.
    pub fn by_command(&self) -> impl Iterator<Item = (&'static Verb, &Calls)> {
        let is_known = |calls: &Calls| calls.count + calls.rejected > 0;
        Verb::all().zip(&self.calls).filter(move |(_, calls)| is_known(calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(name: &str) -> &'static Verb {
        Verb::find(name.as_bytes()).unwrap()
    }

    #[test]
    fn a_connection_is_idle_only_while_nothing_of_it_is_under_way() {
        let at = Moment::from_millis;
        let usage = Usage::new(at(1_000));
        assert_eq!(usage.idle(at(4_000)), Duration::from_secs(3));
        usage.begins(at(5_000), 14);
        assert_eq!((usage.idle(at(9_000)), usage.query_bytes()), (Duration::ZERO, 14));
        usage.rests(at(9_000), 0, Some(2));
        assert_eq!(usage.kept(), Some(2));
        assert_eq!((usage.idle(at(9_500)), usage.query_bytes()), (Duration::from_millis(500), 0));
    }

    #[test]
    fn what_connections_have_done_is_added_up_by_command_and_counted_from_any_time_on() {
        let (one, other) = (Usage::new(Moment::default()), Usage::new(Moment::default()));
        one.called(verb("GET"), 2, 600);
        one.rejected(verb("SET"));
        one.has_read(40);
        let mut before = Tally::default();
        before.add(&one);
        assert_eq!((before.commands(), before.input_bytes, before.reads), (2, 40, 1));
        other.called(verb("GET"), 1, 300);
        other.failed(verb("GET"));
        other.has_written(9);
        let mut after = Tally::default();
        [&one, &other].into_iter().for_each(|usage| after.add(usage));
        let by_command: Vec<(&str, Calls)> = after.by_command().map(|(v, c)| (v.name(), *c)).collect();
        let get = Calls { count: 3, nanos: 1_500, rejected: 0, failed: 1 };
        assert_eq!(by_command, [("GET", get), ("SET", Calls { rejected: 1, ..Calls::default() })]);
        let between = after.since(&before);
        assert_eq!((between.commands(), between.output_bytes, between.writes, between.reads), (1, 9, 1, 0));
    }

    #[test]
    fn the_latest_command_is_told_by_its_name() {
        let usage = Usage::new(Moment::default());
        assert_eq!(usage.last_command(), "NULL");
        usage.is_at(verb("MGET"));
        assert_eq!(usage.last_command(), "mget");
    }

    #[test]
    fn there_are_counters_for_every_command_and_only_those_that_are_needed_are_made() {
        let usage = Usage::new(Moment::default());
        assert_eq!(usage.calls_bytes(), 0);
        usage.called(verb("GET"), 1, 1);
        assert_eq!(usage.calls_bytes(), GROUP_VERBS * size_of::<CallCounters>());
        Verb::all().for_each(|verb| usage.called(verb, 1, 1));
        let mut tally = Tally::default();
        tally.add(&usage);
        assert_eq!(tally.commands(), Verb::all().len() as u64 + 1);
    }
}
