//! Writers and readers that run through the surviving nodes while another one fails.
//!
//! Each survivor gets a writer and a reader that know nothing of the ring. In addition each *range* of
//! the victim, a run of partitions that it is primary for, gets a writer that tries it every few
//! milliseconds, so that the range's outage is measured and not how seldom it was tried. A write
//! always takes a new key: an acknowledged one that is lost cannot be hidden by a later one.
//!
//! On standard output it says `running` when all of them have been answered. On standard input it
//! takes `failed <seconds since 1970>` when the victim has failed, and ends on `done` or at its end.
//! Then it reads back all acknowledged writes, deletes them, and prints its [`findings`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use cachegopher::client::text::TextConnection;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::findings;
use crate::findings::Kind;
use crate::findings::Outcome;
use crate::keys;
use crate::nodes;
use crate::nodes::NodeAddress;
use crate::ranges;

/// What a writer or reader rests between two requests.
const REST: Duration = Duration::from_millis(1);
/// What a range's writer rests while nothing has happened.
const RANGE_REST: Duration = Duration::from_millis(20);
/// What a range's writer rests after the failure.
const RANGE_REST_AFTER: Duration = Duration::from_millis(2);
/// How long a request may take before it is an error.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(10);
/// What a worker rests before it connects again.
const CONNECT_REST: Duration = Duration::from_millis(20);
/// How long the workers may take to be answered for the first time.
const START_WAIT_MAX: Duration = Duration::from_secs(10);

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Failed(Instant),
    Done(Option<Instant>),
}

/// What one worker does.
#[derive(Clone, Debug)]
struct Worker {
    /// What it sends.
    kind: Kind,
    /// Its number, so that no two write the same key.
    number: usize,
    /// The hash tag of its keys.
    tag: String,
    /// Through which node.
    client: String,
    /// How many keys were loaded.
    key_count: usize,
    /// Counts the workers that have been answered.
    started: Arc<AtomicUsize>,
}

/// Runs the workers until standard input says that it is done, and prints what they found.
pub async fn run(nodes: &[NodeAddress], key_count: usize, victim: &str) -> Result<(), String> {
    let ranges = ranges::all(nodes).await?;
    let ranges: Vec<_> = ranges.into_iter().filter(|range| range.primary == victim).collect();
    if ranges.is_empty() {
        return Err(format!("{victim} is primary for nothing"));
    }
    let started = Arc::new(AtomicUsize::new(0));
    let workers = workers(nodes, &ranges, key_count, &started);
    let (phase, phases) = watch::channel(Phase::Before);
    let count = workers.len();
    let tasks: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.run(phases.clone()))).collect();
    wait_for_start(&started, count).await?;
    println!("running");
    follow_input(&phase).await;
    let failed = match *phase.borrow() {
        Phase::Done(failed) => failed,
        Phase::Before | Phase::Failed(_) => None,
    };
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.extend(task.await.map_err(|error| error.to_string())?);
    }
    let lost = lost(nodes, &outcomes).await?;
    let partitions = ranges.iter().map(|range| range.partitions.len()).sum::<usize>();
    findings::print(&outcomes, &lost, ranges.len(), partitions, failed);
    Ok(())
}

fn workers(
    nodes: &[NodeAddress],
    ranges: &[ranges::Range],
    key_count: usize,
    started: &Arc<AtomicUsize>,
) -> Vec<Worker> {
    let worker = |kind, number, tag: String, node: &NodeAddress| {
        let client = node.client.clone();
        Worker { kind, number, tag, client, key_count, started: Arc::clone(started) }
    };
    let mut workers = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        workers.push(worker(Kind::Write, number, String::new(), node));
        workers.push(worker(Kind::Read, number, String::new(), node));
    }
    for ((number, range), node) in ranges.iter().enumerate().zip(nodes.iter().cycle()) {
        workers.push(worker(Kind::RangeWrite(number), number, range.tag(), node));
    }
    workers
}

async fn wait_for_start(started: &AtomicUsize, count: usize) -> Result<(), String> {
    let all_started = async {
        while started.load(Ordering::Acquire) < count {
            sleep(REST).await;
        }
    };
    let late = |_| format!("only {} of {count} clients were answered", started.load(Ordering::Acquire));
    timeout(START_WAIT_MAX, all_started).await.map_err(late)
}

/// Takes lines from standard input until the end.
async fn follow_input(phase: &watch::Sender<Phase>) {
    let (lines, mut input) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let mut failed = None;
    while let Some(line) = input.recv().await {
        match line.split_once(' ') {
            Some(("failed", at)) => {
                failed = Some(at.parse().ok().and_then(moment_of).unwrap_or_else(Instant::now));
                phase.send_replace(Phase::Failed(failed.unwrap_or_else(Instant::now)));
            }
            Some(_) | None => break,
        }
    }
    phase.send_replace(Phase::Done(failed));
}

/// The instant that was so many seconds after the beginning of 1970.
fn moment_of(seconds: f64) -> Option<Instant> {
    let at = UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?;
    Instant::now().checked_sub(SystemTime::now().duration_since(at).ok()?)
}

impl Worker {
    async fn run(self, mut phases: watch::Receiver<Phase>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut connection = None;
        for turn in 0.. {
            let phase = *phases.borrow_and_update();
            if matches!(phase, Phase::Done(_)) {
                break;
            }
            let (key, line) = self.request(turn);
            let sent = Instant::now();
            let reply = self.ask(&mut connection, &line).await;
            let done = Instant::now();
            let error = self.error(turn, reply);
            let is_connected = connection.is_some();
            outcomes.push(Outcome { kind: self.kind, key, sent, done, error });
            if turn == 0 {
                self.started.fetch_add(1, Ordering::Release);
            }
            let rest = if is_connected { self.rest(phase) } else { CONNECT_REST };
            // A failure interrupts the rest: what matters is measured from the first moment on.
            let _ = timeout(rest, phases.changed()).await;
        }
        if let Some(connection) = connection {
            nodes::close(connection).await;
        }
        outcomes
    }

    fn rest(&self, phase: Phase) -> Duration {
        match (self.kind, phase) {
            (Kind::Write | Kind::Read, _) => REST,
            (Kind::RangeWrite(_), Phase::Before) => RANGE_REST,
            (Kind::RangeWrite(_), Phase::Failed(_) | Phase::Done(_)) => RANGE_REST_AFTER,
        }
    }

    /// The key and the line of a request.
    fn request(&self, turn: usize) -> (String, String) {
        let number = self.number;
        let write = |key: String| {
            let line = format!("SET {key} {}", written_value(&key));
            (key, line)
        };
        match self.kind {
            Kind::Write => write(format!("demo:writer{number}:{turn}")),
            Kind::RangeWrite(_) => write(format!("demo:range{number}:{{{}}}:{turn}", self.tag)),
            Kind::Read => {
                let key = keys::key(self.loaded(turn));
                let line = format!("GET {key}");
                (key, line)
            }
        }
    }

    /// The number of the loaded key that is read at a turn: all in turn, far from each other.
    fn loaded(&self, turn: usize) -> usize {
        const STRIDE: usize = 7_919;
        (self.number * 101 + turn * STRIDE) % self.key_count.max(1)
    }

    async fn ask(&self, connection: &mut Option<TextConnection>, line: &str) -> Result<String, String> {
        let ask = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => TextConnection::connect(&self.client).await?,
            };
            let reply = open.ask(line).await?;
            *connection = Some(open);
            Ok(reply)
        };
        match timeout(REPLY_WAIT_MAX, ask).await {
            Ok(reply) => reply.map_err(|error: std::io::Error| format!("connection lost: {error}")),
            Err(_) => Err(format!("no reply within {} s", REPLY_WAIT_MAX.as_secs())),
        }
    }

    /// What is wrong with a reply.
    fn error(&self, turn: usize, reply: Result<String, String>) -> Option<String> {
        match (self.kind, reply) {
            (_, Err(reason)) => Some(reason),
            (Kind::Write | Kind::RangeWrite(_), Ok(reply)) => (reply != "OK").then_some(reply),
            (Kind::Read, Ok(reply)) if reply == keys::value(self.loaded(turn)) => None,
            (Kind::Read, Ok(reply)) if reply.starts_with("ERROR: ") => Some(reply),
            (Kind::Read, Ok(_)) => Some("a key has a value that nobody gave it".to_owned()),
        }
    }
}

fn written_value(key: &str) -> String {
    format!("written as {key}")
}

/// The acknowledged writes that cannot be read any more. All written keys are then deleted.
async fn lost<'a>(nodes: &[NodeAddress], outcomes: &'a [Outcome]) -> Result<Vec<&'a Outcome>, String> {
    let written: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.kind != Kind::Read).collect();
    let acknowledged: BTreeMap<&str, &Outcome> = written
        .iter()
        .filter(|outcome| outcome.error.is_none())
        .map(|outcome| (outcome.key.as_str(), *outcome))
        .collect();
    let lines: Vec<String> = acknowledged.keys().map(|key| format!("GET {key}")).collect();
    let replies = keys::ask_all(nodes, &lines).await?;
    let lines: Vec<String> = written.iter().map(|outcome| format!("DELETE {}", outcome.key)).collect();
    keys::ask_all(nodes, &lines).await?;
    let is_lost = |((key, _), reply): &((&&str, _), String)| *reply != written_value(key);
    Ok(acknowledged.iter().zip(replies).filter(is_lost).map(|((_, outcome), _)| *outcome).collect())
}
