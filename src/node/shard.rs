//! The shard actor: a mailbox in front of one [`Serving`].
//!
//! What a shard has is its [`Core`]. The actor does with it what other parts of the node tell it, in
//! order, and long work (pulls, purges, flushes) in bounded steps, each a message to itself. Commands
//! in between need no message: a connection that finds the core free carries its commands out by itself
//! (see [`ShardDoor`]); otherwise it sends them here, and nobody ever waits for the lock but the actor.
//!
//! The rule: whatever is done with a core, what it says to other nodes goes into their streams before
//! the core is free again. So a stream has changes, hand-overs and the ends of pulls in the order in
//! which they were made.
//!
//! Why not one message per batch always: it costs as much as all the rest of an unpipelined request
//! that is not the kernel's (two wake-ups of tasks, an allocation for the answer), measured.

mod message;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;

use crate::cluster::outgoing::Outgoing;
use crate::cluster::peer::Outcome;
use crate::cluster::peer::StreamItem;
use crate::cluster::serving::Serving;
use crate::cluster::serving::WARMED_MAX;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::command::Plain;
use crate::command::Reply;
use crate::command::Tenure;
use crate::node::acks::Acks;
use crate::node::chance;
use crate::node::context::Context;
use crate::node::lease::Waited;
use crate::node::lease::Waiters;
#[cfg(doc)]
use crate::node::shard_door::ShardDoor;
use crate::node::wait::Terms;
use crate::protocol;
use crate::store::KeyHash;
use crate::store::Partition;
use crate::store::Shard;
use crate::store::ShardLimits;
use crate::store::Spare;
use crate::time::Clock;
use crate::time::Moment;
use crate::time::Timestamp;
use crate::time::Version;

pub use message::Batch;
pub use message::Flush;
pub use message::Listed;
pub use message::Message;
pub use message::Replies;

/// How often old tombstones are dropped, and some of what has expired is cleared away.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);
/// How long a pull waits when its node can take no more.
const PULL_PAUSE: Duration = Duration::from_millis(2);
/// Partitions that are flushed in one step.
const STEP_FLUSHES_MAX: u16 = 64;

/// No number of stalls: a shard serves nothing before placement has sent it a view. One that was
/// started again is empty, and the view in its context does not know that yet.
const NO_VIEW_YET: u64 = u64::MAX;

/// The actor.
#[derive(Debug)]
pub struct ShardActor {
    /// What the parts of the node share.
    pub context: Arc<Context>,
    /// Which shard.
    pub number: u16,
}

/// What a shard has. It is locked for as long as it takes to do one thing.
pub struct Core {
    serving: Serving,
    stalls_known: u64,
    /// Since when each partition is served.
    terms: Terms,
    /// Who waits for the end of a lease.
    waiters: Waiters,
    /// The latest version that others on this node know of.
    latest: Version,
    /// What goes into the streams to other nodes; empty while the core is free.
    out: Outgoing,
}

/// The actor's state.
#[derive(Debug, Default)]
pub struct State {
    is_stepping: bool,
    pulls_counted: usize,
    /// Whether no spare piece of memory is to be asked for: one is on its way, or there are none.
    has_asked_for_spare: bool,
}

impl Core {
    /// Whether it may serve at this time: the process has not stood still, as far as the shard knows.
    pub fn may_serve(&self, context: &Context, now: Moment) -> bool {
        context.pulse.is_fresh(now, self.stalls_known)
    }

    /// Carries out a command; false: its partition is not served here, nothing was done.
    pub fn run(&mut self, command: &KeyCommand, now: Timestamp, reply: impl FnOnce(&Reply<'_>)) -> bool {
        self.serving.run(command, now, &mut self.out, reply)
    }

    /// As [`Core::run`], for a plain request for a key of that partition, with that hash.
    pub fn run_plain(
        &mut self,
        place: (Partition, KeyHash),
        request: &Plain<'_>,
        now: Timestamp,
        reply: impl FnOnce(&Reply<'_>),
    ) -> bool {
        self.serving.run_plain(place, request, now, &mut self.out, reply)
    }

    /// What is stored.
    pub const fn store(&self) -> &Shard {
        self.serving.store()
    }

    /// Carries out commands in order, what changes nothing also on copies if it may. Appends the replies, one
    /// after the other, and says what became of each command.
    pub fn run_all<'c>(
        &mut self,
        context: &Context,
        codec: Codec,
        commands: impl Iterator<Item = &'c KeyCommand> + Clone,
        may_read_copies: bool,
        bytes: &mut Vec<u8>,
        mut became: impl FnMut(&KeyCommand, Outcome),
    ) {
        let now = context.clocks.wall();
        let may_serve = self.may_serve(context, context.clocks.now());
        for (number, command) in commands.clone().enumerate() {
            if number % WARMED_MAX == 0 {
                let next = commands.clone().skip(number).take(WARMED_MAX);
                self.serving.warm(next.map(|command| &command.key.0[..]));
            }
            let mut encode = |reply: &Reply<'_>| protocol::encode(codec, reply, bytes);
            let has_run = may_serve
                && (self.run(command, now, &mut encode)
                    || may_read_copies && self.serving.run_on_copy(command, now, &mut encode));
            let outcome = match has_run {
                true => Outcome::Reply { end: u32::try_from(bytes.len()).unwrap_or(u32::MAX) },
                false => Outcome::Moved,
            };
            became(command, outcome);
        }
    }

    /// Tells all who have to hear of it what was done: other nodes by their streams, who waits for a
    /// lease, and the rest of this node. Before the core is free again.
    pub fn settle(&mut self, context: &Context, acks: &mut Acks) {
        if !self.out.is_empty() || acks.has_written() {
            acks.stream(context, &self.serving, &self.out);
            self.out.clear();
        }
        if self.serving.has_ended_leases() {
            self.waiters.wake(self.serving.ended_leases());
        }
        let latest = self.serving.latest();
        if latest > self.latest {
            self.latest = latest;
            context.observe(latest);
        }
    }
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
            eviction: context.tuning.eviction(),
            tombstone_age_max: context.settings.membership.tombstone_age_max(),
            ..ShardLimits::new(context.tuning.memory_bytes_max() / context.shards.len())
        };
        let store = Shard::new(limits, chance::number());
        let count = u16::try_from(context.shards.len())?;
        let tenure = Tenure::new(chance::number());
        // No version that others may rely on is given a second time: by a shard before this one, or a process.
        let mut clock = Clock::default();
        clock.observe(Version::from_raw(context.latest.load(Ordering::Acquire)));
        let serving = Serving::new(store, clock, tenure, self.number, count, context.current_view());
        let core = Core {
            serving,
            stalls_known: NO_VIEW_YET,
            terms: Terms::default(),
            waiters: Waiters::default(),
            latest: Version::ZERO,
            out: Outgoing::new(),
        };
        context.shards[usize::from(self.number)].open(core, myself.clone());
        drop(myself.send_interval(SWEEP_PERIOD, || Message::Sweep));
        Ok(State::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // What is not needed any more is given back to the kernel when the core is free again.
        let mut unneeded = None;
        // A command that failed inside the core leaves it in no known state: the shard fails too.
        let mut guard = self.context.shards[usize::from(self.number)].lock().ok_or("a command failed")?;
        let core = guard.as_mut().ok_or("the shard has no core")?;
        let now = self.context.clocks.wall();
        let Core { serving, stalls_known, terms, waiters, out, .. } = core;
        match message {
            Message::Run(batch) => self.run(batch, core),
            Message::Apply { from, items, done } => {
                for next in items.chunks(WARMED_MAX) {
                    serving.warm(next.iter().filter_map(StreamItem::key));
                    next.iter().for_each(|item| serving.apply(item, from, now, out));
                }
                // The receiver may have ended with its link; the items are applied all the same.
                let _ = done.send(());
            }
            Message::View { view, stalls } => {
                serving.see(view);
                *stalls_known = stalls;
                terms.keep(serving.serves());
            }
            Message::HandOver { to, given } => {
                serving.hand_over(to, &given, out);
                terms.keep(serving.serves());
            }
            Message::Pull { by, id, wants } => serving.start_pull(by, id, &wants),
            Message::StreamBroken(to) => serving.stream_broken(to),
            Message::Purge(partitions) => serving.purge(&partitions),
            Message::Flush(flush) => self.flush(&myself, flush, serving, out),
            Message::List { cursor, visits_max, expected, reply } => {
                let mut keys = Vec::new();
                let next = serving
                    .list(cursor, visits_max, now, |key| keys.push(bytes::Bytes::copy_from_slice(key)));
                let is_as_expected = expected.is_none_or(|expected| serving.serves_exactly(&expected));
                // Whoever listed may have gone.
                let _ = reply.send(Listed { keys, next, is_as_expected });
            }
            Message::SlotKeys { slot, count_max, reply } => {
                let keys = serving.keys_of(slot, now).take(count_max).map(bytes::Bytes::copy_from_slice);
                // Whoever asked may have gone.
                let _ = reply.send((keys.collect(), serving.keys_of(slot, now).count()));
            }
            Message::AwaitLease { key, waiter } if serving.is_leased(&key, now) => {
                waiters.add(key, waiter);
            }
            Message::AwaitLease { waiter, .. } => {
                let _ = waiter.send(Waited::Over);
            }
            Message::Digest { cursor, at, reply } => {
                // Whoever compares may have given up.
                let _ = reply.send(serving.digest(cursor, at));
            }
            Message::Survey { cursor, partitions, at, reply } => {
                let _ = reply.send(serving.survey(cursor, &partitions, at));
            }
            Message::Lines(writes, reply) => {
                // Whoever waits may have given up.
                let is_its = |partition| self.context.shard_of(partition) == usize::from(self.number);
                let _ = reply.send(terms.lines(&writes, serving, is_its));
            }
            Message::Stats(reply) => {
                let _ = reply.send((serving.stats(), serving.served()));
            }
            Message::Limit(done) => {
                let memory_bytes_max = self.context.tuning.memory_bytes_max() / self.context.shards.len();
                serving.limit(memory_bytes_max, self.context.tuning.eviction());
                // Who asked may have gone.
                let _ = done.send(());
            }
            Message::Choose { random, reply } => {
                let weight = serving.served().keys as u64;
                let key = serving.any_key(random, now).map(bytes::Bytes::copy_from_slice);
                let _ = reply.send(key.map(|key| (key, weight)));
            }
            Message::Step => {
                state.is_stepping = false;
                let context = &self.context;
                let has_room = context.pace.has_room(context.clocks.now());
                serving.step(now, |node| has_room && context.peers.can_take_more(node), out);
                context.pace.spend(out.bytes());
            }
            Message::Sweep => self.context.counters.forget(serving.sweep(now)),
            Message::Spare(spare) => {
                state.has_asked_for_spare = spare.is_none();
                unneeded = spare.map(|mut spare| {
                    serving.use_spare(&mut spare);
                    spare
                });
            }
        }
        if core.serving.store().wants_spare() && !std::mem::replace(&mut state.has_asked_for_spare, true) {
            self.ask_for_spare(&myself);
        }
        self.count_pulls(core, state);
        self.go_on(&myself, core, state);
        core.settle(&self.context, &mut Acks::default());
        drop(guard);
        drop(unneeded);
        Ok(())
    }
}

impl ShardActor {
    /// On a thread where it may take long.
    fn ask_for_spare(&self, myself: &ActorRef<Message>) {
        let myself = myself.clone();
        tokio::task::spawn_blocking(move || {
            // The node may have stopped meanwhile.
            let _ = myself.cast(Message::Spare(Spare::in_huge_pages()));
        });
    }

    fn run(&self, batch: Batch, core: &mut Core) {
        let Batch { codec, commands, may_read_copies, ack, reply } = batch;
        let mut acks = Acks::new(ack);
        let (mut outcomes, mut bytes) = (Vec::with_capacity(commands.len()), Vec::new());
        core.run_all(
            &self.context,
            codec,
            commands.iter(),
            may_read_copies,
            &mut bytes,
            |command, outcome| {
                acks.ran(command, outcome);
                outcomes.push(outcome);
            },
        );
        // Before the reply: who has it may not be told that the writes were never made.
        core.settle(&self.context, &mut acks);
        // The client may have gone.
        let _ = reply.send(Replies { commands, outcomes, bytes: bytes.into(), acks: acks.take() });
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
    fn count_pulls(&self, core: &Core, state: &mut State) {
        let (before, after) = (state.pulls_counted, core.serving.pull_count());
        if before != after {
            let count = &self.context.counters.pulls_answering;
            count.fetch_add(after, Ordering::AcqRel);
            count.fetch_sub(before, Ordering::AcqRel);
            state.pulls_counted = after;
        }
    }

    /// Keeps one step message under way while there is work.
    fn go_on(&self, myself: &ActorRef<Message>, core: &Core, state: &mut State) {
        if state.is_stepping || !core.serving.has_work() {
            return;
        }
        state.is_stepping = true;
        match core.out.is_empty() {
            true => drop(myself.send_after(PULL_PAUSE, || Message::Step)),
            false => drop(myself.cast(Message::Step)),
        }
    }
}
