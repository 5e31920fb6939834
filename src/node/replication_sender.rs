//! The replication sender: one per peer. It owns our link to the peer and our stream of changes to it.
//!
//! A lost link is dialled again at once. A second refusal in a row proves that the process is gone:
//! membership is told, which is far quicker than waiting for its probes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use ractor::ActorStatus;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::outgoing::Drafts;
use crate::cluster::peer::Hello;
use crate::cluster::peer::PEER_VERSION;
use crate::cluster::peer::Welcome;
use crate::cluster::replication::Outbound;
use crate::cluster::replication::StreamStart;
use crate::cluster::replication::first_epoch;
use crate::cluster::skew;
use crate::node::chance;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::gossip;
use crate::node::lines;
use crate::node::link;
use crate::node::link::CONNECT_WAIT;
use crate::node::link::HANDSHAKE_WAIT_MAX;
use crate::node::link::LinkHandle;
use crate::node::link::PeerError;
use crate::node::peers::Mark;
use crate::node::peers::Peer;
use crate::node::peers::QUEUE_BYTES_MAX;
use crate::node::peers::Queue;
use crate::node::placement;
use crate::node::removal;
use crate::node::shard;
use crate::store::PartitionSet;
use crate::time::Timestamp;

/// Bytes of the stream that are under way without having been acknowledged.
const SENT_BYTES_MAX: usize = if cfg!(feature = "sim") { 2 * 1024 } else { 2 * 1024 * 1024 };
/// How long after a refused connection the next one is tried, at first and at most.
const REDIAL_AFTER_MIN: Duration = Duration::from_millis(5);
const REDIAL_AFTER_MAX: Duration = Duration::from_millis(500);
/// Refusals in a row that prove that the process is gone.
const REFUSALS_PROVE_DEATH: u32 = 2;
/// Every so many attempts a peer that is far away gets its time.
const PATIENT_TRY: u32 = 8;
/// How long a stream pauses when its link has no room.
const ROOM_PAUSE: Duration = Duration::from_millis(2);

/// What a sender is told.
#[derive(Debug)]
pub enum Message {
    /// Something waits to be streamed.
    Waiting,
    /// More came than may wait: the stream breaks here.
    Overflowed,
    /// Begin a new stream: what the old one promised will not come.
    Renew,
    /// The peer lives, in this life, at this address.
    Alive(Identity),
    /// The peer is dead.
    Down,
    /// A connection is made by this dialler: where does the stream start?
    Dialling(u64, tokio::sync::oneshot::Sender<StreamStart>),
    /// This dialler's link is up.
    LinkUp(u64, Arc<LinkHandle>, Box<Welcome>),
    /// This dialler's link is lost.
    LinkDown(u64),
    /// The link may have room again.
    SendOn,
    /// The peer has applied the stream up to this frame.
    Applied(u64),
}

/// The actor.
#[derive(Debug)]
pub struct ReplicationSender {
    /// What the parts of the node share.
    pub context: Arc<Context>,
    /// The peer.
    pub peer: Arc<Peer>,
}

/// The actor's state.
pub struct State {
    outbound: Outbound,
    link: Option<Arc<LinkHandle>>,
    dialler: Option<JoinHandle<()>>,
    /// Counts the diallers: one that was stopped may still have something in the mailbox.
    dialler_number: u64,
    is_waiting_for_room: bool,
    /// Who waits until a frame is applied, in the order of the frames.
    marks: VecDeque<(u64, Mark)>,
    /// Since when the stream has lost nothing.
    whole_since: Instant,
    /// Of these the peer has pulled what was lost before.
    pulled: PartitionSet,
}

impl State {
    /// Since when the stream, with what was pulled, has lost nothing of what the mark is behind.
    fn whole_since(&self, mark: &Mark) -> Instant {
        let Some(writes) = &mark.behind else { return self.whole_since };
        let mut lost = writes.partitions.clone();
        lost.subtract(&self.pulled);
        if lost.is_empty() { self.whole_since.min(writes.since) } else { self.whole_since }
    }

    /// Whether all that the mark is behind is in the stream, or was pulled.
    fn has_all(&self, mark: &Mark) -> bool {
        mark.behind.as_ref().is_none_or(|writes| self.whole_since(mark) <= writes.since)
    }
}

impl Actor for ReplicationSender {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        // Another epoch: a sender that was started again must not seem to go on.
        let epoch = first_epoch(self.context.since, chance::number());
        let outbound = Outbound::new(epoch, QUEUE_BYTES_MAX, SENT_BYTES_MAX);
        self.peer.sender.lead_to(myself.clone());
        self.peer.sender_begins();
        let node = self.peer.node;
        self.context.to_all_shards(|| shard::Message::StreamBroken(node));
        let mut state = State {
            outbound,
            link: None,
            dialler: None,
            dialler_number: 0,
            is_waiting_for_room: false,
            marks: VecDeque::new(),
            whole_since: Instant::now(),
            pulled: PartitionSet::new(),
        };
        if let Some(identity) = self.peer.identity() {
            self.dial(&myself, identity, &mut state);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Waiting => {
                // Whoever else is due on this thread first: what they have to stream goes into the same
                // frame.
                tokio::task::yield_now().await;
                let Queue { drafts, marks, bytes } = self.peer.take_waiting();
                if self.push(drafts, state) {
                    let (last, marks) = (state.outbound.next_number() - 1, marks.into_iter());
                    let marks: Vec<Mark> = marks.filter(|mark| state.has_all(mark)).collect();
                    state.marks.extend(marks.into_iter().map(|mark| (last, mark)));
                    reach_marks(state);
                }
                self.peer.counted(bytes, state.outbound.lag());
            }
            Message::Overflowed => self.break_stream(state),
            Message::Renew => self.renew_stream(state),
            Message::Alive(identity) => {
                // What waits for a former life would only confuse the new one.
                self.reset(state);
                self.dial(&myself, identity, state);
            }
            Message::Down => self.reset(state),
            Message::Dialling(dialler, reply) if dialler == state.dialler_number => {
                let _ = reply.send(state.outbound.start());
            }
            Message::LinkUp(dialler, link, welcome) if dialler == state.dialler_number => {
                self.link_up(link, *welcome, state);
            }
            Message::LinkDown(dialler) if dialler == state.dialler_number => self.close_link(state),
            // Of a dialler that was stopped: its link is closed, its stream is over.
            Message::Dialling(..) | Message::LinkDown(_) => {}
            Message::LinkUp(_, link, _) => link.close(),
            Message::SendOn => state.is_waiting_for_room = false,
            Message::Applied(number) => {
                state.outbound.acknowledged(number);
                reach_marks(state);
            }
        }
        self.send_on(&myself, state);
        self.peer.counted(0, state.outbound.lag());
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        self.close_link(state);
        self.stop_dialling(state);
        Ok(())
    }
}

impl ReplicationSender {
    /// A dead peer gets nothing: it pulls when it is back. Whether they are in the stream.
    fn push(&self, drafts: Drafts, state: &mut State) -> bool {
        if state.dialler.is_none() {
            return false;
        }
        if let Some(pulled) = drafts.pulled() {
            state.pulled.union_with(pulled);
        }
        for draft in drafts {
            let (number, items, now) =
                (state.outbound.next_number(), draft.items(), self.context.clocks.now());
            if !state.outbound.push(draft.into_frame(number), items, now) {
                self.break_stream(state);
                return false;
            }
        }
        true
    }

    fn break_stream(&self, state: &mut State) {
        Counters::add(&self.context.counters.streams_dropped, 1);
        warn!(peer = %self.peer.node, bytes_max = QUEUE_BYTES_MAX, "stream dropped, peer is too slow");
        self.renew_stream(state);
    }

    fn renew_stream(&self, state: &mut State) {
        // The peer learns of the gap when the link is made again.
        self.reset(state);
        if let (Some(identity), Some(myself)) = (self.peer.identity(), self.peer.sender.actor()) {
            self.dial(&myself, identity, state);
        }
    }

    /// Drops the stream and the link. What the peer has asked of the shards went into that stream: it
    /// sees the gap and asks again. (A link that is only lost ends nothing: its stream is resumed.)
    fn reset(&self, state: &mut State) {
        state.outbound.reset();
        self.peer.drop_waiting();
        state.whole_since = Instant::now();
        state.pulled = PartitionSet::new();
        // Nobody will ever say that what they wait for is applied.
        state.marks.clear();
        self.close_link(state);
        self.stop_dialling(state);
        let node = self.peer.node;
        self.context.to_all_shards(|| shard::Message::StreamBroken(node));
    }

    fn link_up(&self, link: Arc<LinkHandle>, welcome: Welcome, state: &mut State) {
        state.outbound.resume(welcome.resume_from);
        reach_marks(state);
        self.peer.set_link(Some(Arc::clone(&link)));
        self.peer.is_found(self.context.clocks.now(), lines::patience(&self.context));
        removal::tell_one(&self.context, Arc::clone(&link));
        state.link = Some(link);
        placement::be_introduced(&self.context, (welcome.records, welcome.departed));
        self.context.placement.cast(placement::Message::LinkUp(self.peer.node));
    }

    fn close_link(&self, state: &mut State) {
        if let Some(link) = state.link.take() {
            link.close();
            self.peer.set_link(None);
        }
    }

    fn stop_dialling(&self, state: &mut State) {
        if let Some(dialler) = state.dialler.take() {
            dialler.abort();
        }
    }

    /// Sends what there is room for, and never waits for room: a peer that stands still must not keep
    /// us from hearing that it is dead.
    fn send_on(&self, myself: &ActorRef<Message>, state: &mut State) {
        let Some(link) = &state.link else { return };
        while state.outbound.has_more_to_send() {
            let Some(room) = link.room() else {
                if !std::mem::replace(&mut state.is_waiting_for_room, true) {
                    drop(myself.send_after(ROOM_PAUSE, || Message::SendOn));
                }
                return;
            };
            match state.outbound.next_to_send() {
                Some(frame) => room.send(frame),
                None => return,
            }
        }
    }

    fn dial(&self, myself: &ActorRef<Message>, identity: Identity, state: &mut State) {
        state.dialler_number += 1;
        let dialler = Dialler {
            context: Arc::clone(&self.context),
            peer: Arc::clone(&self.peer),
            identity,
            number: state.dialler_number,
        };
        state.dialler = Some(tokio::spawn(dialler.run(myself.clone())));
    }
}

/// Answers the marks behind what is applied.
fn reach_marks(state: &mut State) {
    let applied = state.outbound.acknowledged_up_to();
    while state.marks.front().is_some_and(|(number, _)| *number <= applied) {
        let Some((_, mark)) = state.marks.pop_front() else { return };
        let whole_since = state.whole_since(&mark);
        // Whoever waited may have given up.
        let _ = mark.reached.send(whole_since);
    }
}

/// Keeps a link to one life of a peer.
struct Dialler {
    context: Arc<Context>,
    peer: Arc<Peer>,
    identity: Identity,
    number: u64,
}

impl Dialler {
    async fn run(self, sender: ActorRef<Message>) {
        let (mut refusals, mut pause, mut tries) = (0, REDIAL_AFTER_MIN, 0);
        loop {
            tries += 1;
            let connect_wait = if tries % PATIENT_TRY == 0 { HANDSHAKE_WAIT_MAX } else { CONNECT_WAIT };
            match self.link_once(&sender, connect_wait).await {
                Ok(error) => {
                    self.peer.lose(self.context.clocks.now());
                    debug!(peer = %self.identity, %error, "peer link lost");
                    // At once: a process that has just died refuses, one that lives answers.
                    (refusals, pause) = (0, REDIAL_AFTER_MIN);
                    continue;
                }
                Err(error) => {
                    self.peer.lose(self.context.clocks.now());
                    debug!(peer = %self.identity, %error, "peer link not made");
                    removal::heed(&self.context, &error);
                    refusals = if error.is_evidence() { refusals + 1 } else { 0 };
                    if error.is_silence() {
                        // That was pause enough: when the line is whole again, the link is to be there.
                        pause = REDIAL_AFTER_MIN;
                    }
                }
            }
            if refusals == REFUSALS_PROVE_DEATH {
                self.context.gossip.cast(gossip::Message::PeerGone(self.identity));
            }
            if sender.get_status() > ActorStatus::Running {
                // It has failed; its successor has a dialler of its own.
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REDIAL_AFTER_MAX);
        }
    }

    fn compare_clocks(&self, sent: Timestamp, theirs: Timestamp) {
        let ahead_ms = skew::certain_skew(sent, self.context.clocks.wall(), theirs);
        self.peer.clock_is_ahead(ahead_ms);
        if skew::is_worth_a_warning(ahead_ms) {
            warn!(peer = %self.identity, ahead_ms, "clocks differ: later writes may lose against earlier ones");
        }
    }

    /// One link from dialling to its loss. An error: there was none.
    async fn link_once(
        &self,
        sender: &ActorRef<Message>,
        connect_wait: Duration,
    ) -> Result<PeerError, PeerError> {
        let (reply, start) = tokio::sync::oneshot::channel();
        sender.cast(Message::Dialling(self.number, reply)).map_err(|_| PeerError::Closed)?;
        let start = start.await.map_err(|_| PeerError::Closed)?;
        let hello = hello(&self.context, Some((self.peer.node, start)));
        let sent = self.context.clocks.wall();
        let linked = link::dial_within(self.identity.addr, hello, connect_wait, self.peer.links()).await?;
        self.compare_clocks(sent, linked.welcome.wall);
        let identity = linked.welcome.identity;
        if identity.generation > self.identity.generation {
            // The process that we knew has been replaced.
            self.context.gossip.cast(gossip::Message::PeerGone(self.identity));
            self.context.gossip.cast(gossip::Message::Announce(identity));
        }
        debug!(peer = %identity, "peer link up");
        let welcome = Box::new(linked.welcome.clone());
        let (handle, reader) = link::LinkHandle::start(linked, self.context.clocks.wall());
        sender.cast(Message::LinkUp(self.number, handle, welcome)).map_err(|_| PeerError::Closed)?;
        let error = reader
            .run(
                || self.peer.hear(self.context.clocks.now()),
                |number| drop(sender.cast(Message::Applied(number))),
            )
            .await;
        let _ = sender.cast(Message::LinkDown(self.number));
        Ok(error)
    }
}

/// What this node says first on a connection.
pub fn hello(context: &Context, link: Option<(NodeId, StreamStart)>) -> Hello {
    let view = context.current_view();
    let me = view.member(view.me()).expect("a node is a member of its own view");
    Hello {
        version: PEER_VERSION,
        cluster: context.cluster,
        from: me.record.as_ref().clone(),
        identity: me.identity,
        bond: context.bond(),
        link,
    }
}
