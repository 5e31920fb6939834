//! The shard actor: a mailbox in front of one [`Serving`].
//!
//! A connection sends it one message per batch of commands that it has read; the shard encodes the
//! replies straight into the buffer that goes back. Long work (pulls, purges, flushes) is done in
//! bounded steps, each a message to itself, so that commands are served in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use tokio::sync::oneshot;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Outcome;
use crate::cluster::peer::StreamItem;
use crate::cluster::placement::HandOver;
use crate::cluster::placement::PullId;
use crate::cluster::serving::Outgoing;
use crate::cluster::serving::Serving;
use crate::cluster::view::View;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::command::Tenure;
use crate::node::context::Context;
use crate::protocol;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::store::Shard;
use crate::store::ShardLimits;
use crate::store::ShardStats;
use crate::time::Version;

/// How often old tombstones are dropped, and some of what has expired is cleared away.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);
/// How long a pull waits when its node can take no more.
const PULL_PAUSE: Duration = Duration::from_millis(2);
/// Partitions that are flushed in one step.
const STEP_FLUSHES_MAX: u16 = 64;

/// No number of stalls: a shard serves nothing before placement has sent it a view. One that was
/// started again is empty, and the view in its context does not know that yet.
const NO_VIEW_YET: u64 = u64::MAX;

/// What a shard is asked for, or told.
#[derive(Debug)]
pub enum Message {
    /// Carry out commands.
    Run(Batch),
    /// Apply items of another node's stream.
    Apply {
        /// In order.
        items: Vec<StreamItem>,
        /// Told when all are applied.
        done: oneshot::Sender<()>,
    },
    /// Serve by this view.
    View {
        /// The view.
        view: Arc<View>,
        /// How many stalls of the process it takes into account.
        stalls: u64,
    },
    /// Stop serving partitions.
    HandOver {
        /// The new primary.
        to: NodeId,
        /// Which.
        given: Arc<HandOver>,
    },
    /// A node asks for what it lacks.
    Pull {
        /// The node.
        by: NodeId,
        /// What the end of the answer names.
        id: PullId,
        /// What it wants.
        wants: Arc<Vec<(Partition, Version)>>,
    },
    /// Our stream to a node begins anew: it will ask again.
    StreamBroken(NodeId),
    /// Forget what is stored of partitions.
    Purge(Arc<PartitionSet>),
    /// Delete all keys of partitions.
    Flush(Flush),
    /// List some of the keys that the node serves.
    List {
        /// Where to go on.
        cursor: ScanCursor,
        /// So many slots are looked at.
        visits_max: usize,
        /// Gets the keys, and where to go on.
        reply: oneshot::Sender<(Vec<bytes::Bytes>, Option<ScanCursor>)>,
    },
    /// The shard's figures, and the keys of the partitions that it serves.
    Stats(oneshot::Sender<(ShardStats, usize)>),
    /// Go on with what takes long.
    Step,
    /// Drop old tombstones and some of what has expired.
    Sweep,
}

/// Commands for one shard.
#[derive(Debug)]
pub struct Batch {
    /// How to encode the replies.
    pub codec: Codec,
    /// In order.
    pub commands: Vec<KeyCommand>,
    /// Gets the replies.
    pub reply: oneshot::Sender<Replies>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Replies {
    /// The batch's commands, so that what was not carried out can be tried elsewhere.
    pub commands: Vec<KeyCommand>,
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// The replies, encoded one after the other.
    pub bytes: bytes::Bytes,
}

/// A flush in progress.
#[derive(Debug)]
pub struct Flush {
    /// Which partitions.
    pub partitions: Arc<PartitionSet>,
    /// Where to go on.
    pub next: u16,
    /// What was flushed so far.
    pub flushed: PartitionSet,
    /// Gets all that was flushed.
    pub reply: oneshot::Sender<PartitionSet>,
}

/// The actor.
#[derive(Debug)]
pub struct ShardActor {
    /// What the parts of the node share.
    pub context: Arc<Context>,
    /// Which shard.
    pub number: u16,
}

/// The actor's state.
pub struct State {
    serving: Serving,
    stalls_known: u64,
    is_stepping: bool,
    pulls_counted: usize,
}

impl Actor for ShardActor {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        let context = &self.context;
        let limits = ShardLimits {
            entry_bytes_max: context.settings.text.entry_bytes_max,
            items_max: context.settings.store.items_max.map(|items| items.div_ceil(context.shards.len())),
            ..ShardLimits::new(context.settings.store.memory_bytes_max / context.shards.len())
        };
        let store = Shard::new(limits, rand::random());
        let count = u16::try_from(context.shards.len())?;
        let serving =
            Serving::new(store, Tenure::new(rand::random()), self.number, count, context.current_view());
        context.shards[usize::from(self.number)].lead_to(myself.clone());
        drop(myself.send_interval(SWEEP_PERIOD, || Message::Sweep));
        Ok(State { serving, stalls_known: NO_VIEW_YET, is_stepping: false, pulls_counted: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.context.clocks.wall();
        let mut out = Outgoing::new();
        let serving = &mut state.serving;
        match message {
            Message::Run(batch) => self.run(batch, state, &mut out),
            Message::Apply { items, done } => {
                items.iter().for_each(|item| serving.apply(item, now));
                // The receiver may have ended with its link; the items are applied all the same.
                let _ = done.send(());
            }
            Message::View { view, stalls } => {
                serving.see(view);
                state.stalls_known = stalls;
            }
            Message::HandOver { to, given } => serving.hand_over(to, &given, &mut out),
            Message::Pull { by, id, wants } => serving.start_pull(by, id, &wants),
            Message::StreamBroken(to) => serving.stream_broken(to),
            Message::Purge(partitions) => serving.purge(&partitions),
            Message::Flush(flush) => self.flush(&myself, flush, serving, &mut out),
            Message::List { cursor, visits_max, reply } => {
                let mut keys = Vec::new();
                let next = serving
                    .list(cursor, visits_max, now, |key| keys.push(bytes::Bytes::copy_from_slice(key)));
                // Whoever listed may have gone.
                let _ = reply.send((keys, next));
            }
            Message::Stats(reply) => {
                let _ = reply.send((serving.stats(), serving.keys_served()));
            }
            Message::Step => {
                state.is_stepping = false;
                serving.step(now, |node| self.context.peers.can_take_more(node), &mut out);
            }
            Message::Sweep => serving.sweep(now),
        }
        self.count_pulls(state);
        self.go_on(&myself, state, out.is_empty());
        self.context.peers.stream(out);
        Ok(())
    }
}

impl ShardActor {
    fn run(&self, batch: Batch, state: &mut State, out: &mut Outgoing) {
        let Batch { codec, commands, reply } = batch;
        let now = self.context.clocks.wall();
        let may_serve = self.context.pulse.is_fresh(self.context.clocks.now(), state.stalls_known);
        let mut bytes = Vec::with_capacity(32 * commands.len());
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in &commands {
            let has_run = may_serve
                && state.serving.run(command, now, out, |reply| {
                    protocol::encode(codec, reply, &mut bytes);
                });
            outcomes.push(match has_run {
                true => Outcome::Reply { end: u32::try_from(bytes.len()).unwrap_or(u32::MAX) },
                false => Outcome::Moved,
            });
        }
        // The client may have gone.
        let _ = reply.send(Replies { commands, outcomes, bytes: bytes.into() });
    }

    /// Some partitions at a time, the rest in a message to itself.
    fn flush(&self, myself: &ActorRef<Message>, mut flush: Flush, serving: &mut Serving, out: &mut Outgoing) {
        let end = flush.next.saturating_add(STEP_FLUSHES_MAX);
        let now = self.context.clocks.wall();
        let step = (flush.next..end)
            .filter_map(Partition::new)
            .filter(|partition| flush.partitions.contains(*partition))
            .collect();
        flush.flushed.union_with(&serving.flush(&step, now, out));
        flush.next = end;
        match Partition::new(end) {
            Some(_) => {
                let _ = myself.cast(Message::Flush(flush));
            }
            None => {
                let _ = flush.reply.send(flush.flushed);
            }
        }
    }

    /// What others pull from us just now is not to be dropped.
    fn count_pulls(&self, state: &mut State) {
        let (before, after) = (state.pulls_counted, state.serving.pull_count());
        if before != after {
            let count = &self.context.counters.pulls_answering;
            count.fetch_add(after, Ordering::AcqRel);
            count.fetch_sub(before, Ordering::AcqRel);
            state.pulls_counted = after;
        }
    }

    /// Keeps one step message under way while there is work.
    fn go_on(&self, myself: &ActorRef<Message>, state: &mut State, was_idle: bool) {
        if state.is_stepping || !state.serving.has_work() {
            return;
        }
        state.is_stepping = true;
        match was_idle {
            true => drop(myself.send_after(PULL_PAUSE, || Message::Step)),
            false => drop(myself.cast(Message::Step)),
        }
    }
}
