//! Waiting until writes are on a replica: what the acknowledgement mode `replicated` adds to them.
//!
//! The replica that counts is the one that takes over if this node dies now: the first in line that is
//! alive and has everything. Only if that one is lost meanwhile the next one counts. The steps:
//!
//! 1. While a shard is held, commands run, and what they change goes into the streams; a mark follows it
//!    in the stream to each replica, in the same message, so that nothing comes between.
//! 2. The shard is free again. Whatever else the client has sent is carried out too.
//! 3. Before any of the replies is written, the marks are waited for, once for all of them. A mark is
//!    dropped where the stream has lost what is before it: the replica pulls it, but nobody knows when.
//!
//! A write that no replica has acknowledged in time is answered all the same, counted and logged: a
//! cache that waits for a node which is gone would be no use to anybody. In the mode `async` all this is
//! a value that stays empty.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tracing::warn;

use crate::cluster::membership::NodeId;
use crate::cluster::outgoing::Outgoing;
use crate::cluster::peer::Outcome;
use crate::cluster::serving::Serving;
use crate::command::Ack;
use crate::command::KeyCommand;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::peers;
use crate::node::wait::Written;
use crate::store::Partition;
use crate::time::Moment;

/// How often it is logged at most that there was none.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// What writes wait for before they are answered.
#[derive(Debug, Default)]
pub struct Acks {
    mode: Ack,
    /// Written on the shard that is held, once for each write.
    written: Vec<Partition>,
    parts: Vec<Part>,
    /// What WAIT is about.
    pub for_wait: Written,
}

/// What was written while one shard was held.
#[derive(Debug, Default)]
pub struct Part {
    marks: Vec<(NodeId, Mark)>,
    lines: Vec<Line>,
}

/// Writes that the same nodes would serve next.
#[derive(Debug)]
struct Line {
    /// The first one first.
    nodes: Vec<NodeId>,
    writes: usize,
}

/// A mark in a stream.
#[derive(Debug)]
enum Mark {
    Sent(oneshot::Receiver<Instant>),
    Known(bool),
}

impl Acks {
    /// For writes that are acknowledged so.
    pub fn new(mode: Ack) -> Self {
        Self { mode, ..Self::default() }
    }

    /// When the writes are acknowledged.
    pub const fn mode(&self) -> Ack {
        self.mode
    }

    /// Those from now on are acknowledged so.
    pub fn set_mode(&mut self, mode: Ack) {
        self.mode = mode;
    }

    /// Whether nothing is to be waited for.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether anything was written on the shard that is held that waits for a replica.
    pub fn has_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// A write was carried out on the shard that is held.
    pub fn wrote(&mut self, partition: Partition) {
        self.for_wait.add(partition);
        if self.mode == Ack::Replicated {
            self.written.push(partition);
        }
    }

    /// This became of a command on the shard that is held.
    pub fn ran(&mut self, command: &KeyCommand, outcome: Outcome) {
        let has_run = matches!(outcome, Outcome::Reply { .. });
        if self.mode == Ack::Replicated && has_run && !command.is_read() {
            self.written.push(Partition::of(&command.key.0));
        }
    }

    /// The shard is let go: what it says to other nodes goes into their streams, marked if need be.
    pub fn stream(&mut self, context: &Context, serving: &Serving, out: &Outgoing) {
        if self.written.is_empty() {
            context.peers.stream(out);
            return;
        }
        let mut part = Part::default();
        for partition in self.written.drain(..) {
            part.add(serving.successors(partition));
        }
        let marks = part.lines.iter().flat_map(|line| &line.nodes);
        let mut sent = Vec::new();
        for node in marks {
            if part.marks.iter().all(|(marked, _)| marked != node) {
                let (reached, mark) = oneshot::channel();
                part.marks.push((*node, Mark::Sent(mark)));
                sent.push((*node, peers::Mark { reached, behind: None }));
            }
        }
        context.peers.stream_marked(out, sent);
        self.parts.push(part);
    }

    /// What is to be waited for here, for somebody who waits for it elsewhere.
    pub fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    /// That has to be waited for too.
    pub fn add(&mut self, parts: Vec<Part>) {
        self.parts.extend(parts);
    }

    /// Waits until all writes are on a replica each. Counts those that are not.
    pub async fn reached(&mut self, context: &Context) {
        let deadline = Instant::now() + wait_max(context);
        let (mut replicated, mut unreplicated) = (0, 0);
        for mut part in self.take() {
            for line in std::mem::take(&mut part.lines) {
                match part.is_on_one(&line.nodes, deadline).await {
                    true => replicated += line.writes,
                    false => unreplicated += line.writes,
                }
            }
        }
        count(context, replicated, unreplicated);
    }
}

/// How long writes wait for a replica: longer than a silent death takes to be found out, and less than who
/// forwards to this node waits.
pub fn wait_max(context: &Context) -> Duration {
    context.settings.failover_wait_max * 3 / 4
}

/// Counts writes that a replica has, and those that none has, which are logged.
pub fn count(context: &Context, replicated: usize, unreplicated: usize) {
    Counters::add(&context.counters.replicated, replicated);
    if unreplicated > 0 {
        report(context, unreplicated);
    }
}

impl Part {
    fn add(&mut self, line: impl Iterator<Item = NodeId> + Clone) {
        match self.lines.iter_mut().find(|known| known.nodes.iter().copied().eq(line.clone())) {
            Some(known) => known.writes += 1,
            None => self.lines.push(Line { nodes: line.collect(), writes: 1 }),
        }
    }

    async fn is_on_one(&mut self, line: &[NodeId], deadline: Instant) -> bool {
        for node in line {
            let Some((_, mark)) = self.marks.iter_mut().find(|(marked, _)| marked == node) else { continue };
            if let Mark::Sent(reached) = mark {
                *mark = Mark::Known(matches!(timeout_at(deadline, reached).await, Ok(Ok(_))));
            }
            if matches!(mark, Mark::Known(true)) {
                return true;
            }
        }
        false
    }
}

fn report(context: &Context, writes: usize) {
    let counters = &context.counters;
    Counters::add(&counters.unreplicated, writes);
    let now = context.clocks.now();
    let last = Moment::from_micros(counters.unreplicated_logged.load(Ordering::Relaxed));
    if last == Moment::default() || now.since(last) >= LOG_PERIOD {
        counters.unreplicated_logged.store(now.as_micros(), Ordering::Relaxed);
        let all = counters.unreplicated.load(Ordering::Relaxed);
        warn!(writes, all, "writes acknowledged without a replica, none could be reached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(line: &[u64]) -> (Part, Vec<oneshot::Sender<Instant>>) {
        let mut part = Part::default();
        let nodes: Vec<NodeId> = line.iter().copied().map(NodeId::from_raw).collect();
        part.add(nodes.iter().copied());
        let mark = |node: &NodeId| {
            let (reached, mark) = oneshot::channel();
            part.marks.push((*node, Mark::Sent(mark)));
            reached
        };
        let sent = nodes.iter().map(mark).collect();
        (part, sent)
    }

    /// What is there now counts.
    async fn is_replicated(part: &mut Part) -> bool {
        let line = part.lines.remove(0);
        part.is_on_one(&line.nodes, Instant::now()).await
    }

    #[tokio::test]
    async fn the_first_in_line_counts_and_the_next_one_if_it_is_lost() {
        let (mut both, mut sent) = part(&[1, 2]);
        sent.remove(0).send(Instant::now()).unwrap();
        assert!(is_replicated(&mut both).await, "the first one has it, whatever the second one has");
        let (mut both, mut sent) = part(&[1, 2]);
        sent.remove(1).send(Instant::now()).unwrap();
        drop(sent);
        assert!(is_replicated(&mut both).await, "the first one is lost, the second one has it");
        let (mut both, sent) = part(&[1, 2]);
        assert!(!is_replicated(&mut both).await, "neither has it in time");
        drop(sent);
        let (mut both, sent) = part(&[1, 2]);
        drop(sent);
        assert!(!is_replicated(&mut both).await, "both are lost");
        let (mut nobody, _) = part(&[]);
        assert!(!is_replicated(&mut nobody).await);
    }

    #[test]
    fn writes_are_counted_by_the_nodes_that_would_serve_them() {
        let (mut part, _sent) = part(&[1]);
        let node = NodeId::from_raw(1);
        part.add([node].into_iter());
        part.add([NodeId::from_raw(2), node].into_iter());
        assert_eq!(part.lines.iter().map(|line| line.writes).collect::<Vec<_>>(), [2, 1]);
    }
}
