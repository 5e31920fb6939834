//! A whole cluster from one seed: real nodes under `turmoil`, with every fault that comes to mind.
//!
//! A seed decides everything: how many nodes, copies, clients and keys there are, what goes wrong and
//! when (`faults`), and the order of whatever happens at the same time. While it runs, and in the
//! quiet after it, `checks` holds the cluster against what it promises; `model` knows what that is,
//! since a witness in every shard tells it each change that is made and each that arrives.
//!
//! ```text
//! simulation                       that a seed gives the same trace twice, and the fixed seeds
//! simulation check SECONDS         the same, and then fresh seeds for so long
//! simulation for SECONDS           fresh seeds for so long
//! simulation seeds FIRST COUNT     these
//! simulation seed SEED [log]       one, with its log
//! simulation bugs [COUNT]          how many seeds it takes to find each planted bug, COUNT at most
//! ```
//!
//! The first seed that finds each planted bug (`bugs`); those in brackets were found before all connections
//! sometimes broke at the very end, and have not been looked for since:
//!
//! | bug | seed |
//! |---|---|
//! | `DropTombstones` | 1 |
//! | `SkipHandOver` | 1 |
//! | `AcceptOldGeneration` | 2 |
//! | `ApplyOlderVersion` | 1 |
//! | `IgnoreGap` | 2 |
//! | `AcknowledgeBeforeApplying` | 1 |
//! | `KeepFlushHere` | 4 |
//! | `ForgetWatermark` | (407) |
//! | `ForgetBereaved` | (55) |
//! | `CountUnsynced` | (443) |
//!
//! Every seed runs in a process of its own: tokio ends the tasks of a node that crashes in an order
//! that follows from how many tasks the process has ever had, those of other simulations included.
//!
//! Run it through `scripts/simulate.sh`, which builds it as it has to be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod checks;
mod client;
mod faults;
mod host;
mod model;
mod run;

use std::ops::Range;
use std::process::Command;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use cachegopher::cluster::planted::Bug;
use run::Outcome;

/// As in the node.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that always run.
const FIXED: Range<u64> = 1..41;
/// Seeds that run twice.
const TWICE: Range<u64> = 1..9;
/// A planted bug has to be found within so many seeds.
const BUG_SEEDS_MAX: u64 = 1_000;

fn main() -> ExitCode {
    if !cfg!(tokio_unstable) {
        println!("without --cfg tokio_unstable a seed would not decide everything: use scripts/simulate.sh");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("{word:?} is no number"));
    let is_fine = match words[..] {
        [] => is_the_same_twice() & run_all(FIXED),
        ["check", seconds] => {
            is_the_same_twice() & run_all(FIXED) & run_for(Duration::from_secs(number(seconds)))
        }
        ["for", seconds] => run_for(Duration::from_secs(number(seconds))),
        ["seeds", first, count] => run_all(number(first)..number(first) + number(count)),
        ["seed", seed] => run_one(number(seed), false),
        ["seed", seed, "log"] => run_one(number(seed), true),
        ["tell", seed] => tell(number(seed), None),
        ["tell", seed, bug] => tell(number(seed), Bug::ALL.into_iter().find(|other| name(*other) == bug)),
        ["bugs"] => find_bugs(BUG_SEEDS_MAX),
        ["bugs", count] => find_bugs(number(count)),
        _ => panic!("what is {words:?}?"),
    };
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_one(seed: u64, with_log: bool) -> bool {
    let outcome = run::run(seed, None, with_log);
    report(seed, &outcome);
    outcome.fault.is_none()
}

fn report(seed: u64, Outcome { fault, trace, shape, operations, settled_after }: &Outcome) {
    match fault {
        None => println!(
            "seed {seed}: {shape}, {operations} operations, copies equal {} ms after the last fault, trace {trace:016x}",
            settled_after.as_millis()
        ),
        Some(fault) => {
            println!("seed {seed} FAILED: {shape}: {fault}");
            println!("    again, with its log: scripts/simulate.sh seed {seed} log");
        }
    }
}

fn run_all(seeds: Range<u64>) -> bool {
    run_many(seeds, |_| true)
}

fn run_for(duration: Duration) -> bool {
    let start = Instant::now();
    // Seeds that nobody has run before, most likely; each is printed if it fails.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = since.as_secs() << 20;
    run_many(first..u64::MAX, |_| start.elapsed() < duration)
}

/// As many at a time as there are processors.
fn run_many(seeds: Range<u64>, go_on: impl Fn(u64) -> bool + Sync) -> bool {
    let start = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let sums = Mutex::new(Sums::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) || !go_on(seed) {
                return;
            }
            let outcome = run_apart(seed, None);
            if outcome.fault.is_some() {
                report(seed, &outcome);
            }
            sums.lock().unwrap().add(&outcome);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let sums = sums.into_inner().unwrap();
    if sums.passed + sums.failed > 0 {
        println!("seeds {} to {}", seeds.start, seeds.start + (sums.passed + sums.failed) as u64 - 1);
        sums.print(start.elapsed());
    }
    sums.failed == 0
}

#[derive(Default)]
struct Sums {
    passed: usize,
    failed: usize,
    operations: usize,
    settled_after: Vec<Duration>,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.operations += outcome.operations;
        match outcome.fault {
            None => {
                self.passed += 1;
                self.settled_after.push(outcome.settled_after);
            }
            Some(_) => self.failed += 1,
        }
    }

    fn print(&self, took: Duration) {
        let mut settled_after = self.settled_after.clone();
        settled_after.sort();
        let at = |part: f64| {
            let place = (settled_after.len() as f64 * part) as usize;
            settled_after.get(place.min(settled_after.len().saturating_sub(1))).map_or(0, Duration::as_millis)
        };
        let rate = (self.passed + self.failed) as f64 / took.as_secs_f64();
        println!("{} operations of clients, {rate:.2} seeds per second", self.operations);
        println!(
            "copies equal after the last fault: p50 {} ms, p99 {} ms, max {} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        );
        println!("simulation: {} passed, {} failed", self.passed, self.failed);
    }
}

fn name(bug: Bug) -> String {
    format!("{bug:?}")
}

/// Runs a seed, and tells the process that has asked for it what came of it.
fn tell(seed: u64, bug: Option<Bug>) -> bool {
    let Outcome { fault, trace, shape, operations, settled_after } = run::run(seed, bug, false);
    let fault = fault.unwrap_or_default().replace(['\n', '\t'], " ");
    println!("{trace}\t{operations}\t{}\t{shape}\t{fault}", settled_after.as_millis());
    true
}

/// Runs a seed in another process.
fn run_apart(seed: u64, bug: Option<Bug>) -> Outcome {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("tell").arg(seed.to_string()).args(bug.map(name));
    let told = command.output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    let fields: Vec<&str> = text.trim_end_matches('\n').split('\t').collect();
    let number = |field: &str| field.parse::<u64>().unwrap();
    match fields[..] {
        [trace, operations, settled_after, shape, fault] => Outcome {
            fault: (!fault.is_empty()).then(|| fault.to_owned()),
            trace: number(trace),
            shape: shape.to_owned(),
            operations: number(operations) as usize,
            settled_after: Duration::from_millis(number(settled_after)),
        },
        _ => Outcome {
            fault: Some(format!(
                "its process ended: {} {}",
                told.status,
                String::from_utf8_lossy(&told.stderr)
            )),
            trace: 0,
            shape: String::new(),
            operations: 0,
            settled_after: Duration::ZERO,
        },
    }
}

fn is_the_same_twice() -> bool {
    let mut are_same = true;
    for seed in TWICE {
        let (first, second) = (run_apart(seed, None).trace, run_apart(seed, None).trace);
        if first != second {
            println!("seed {seed} is not the same twice: traces {first:016x} and {second:016x}");
            are_same = false;
        }
    }
    println!("the same seed, the same trace: {}", if are_same { "yes" } else { "NO" });
    are_same
}

/// Looks for each planted bug until a seed finds it.
fn find_bugs(seeds_max: u64) -> bool {
    let mut are_found = true;
    for bug in Bug::ALL {
        let next = AtomicU64::new(1);
        let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
        let work = || {
            while found.lock().unwrap().is_none() {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed > seeds_max {
                    return;
                }
                if let Some(fault) = run_apart(seed, Some(bug)).fault {
                    let mut found = found.lock().unwrap();
                    if found.as_ref().is_none_or(|(other, _)| seed < *other) {
                        *found = Some((seed, fault));
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        match found.into_inner().unwrap() {
            Some((seed, fault)) => println!("{bug:?}: seed {seed}: {fault}"),
            None => {
                are_found = false;
                println!("{bug:?}: NOT FOUND within {seeds_max} seeds");
            }
        }
    }
    are_found
}
