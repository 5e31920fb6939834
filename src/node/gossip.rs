//! The gossip failure detector: an actor around [`Membership`], on a thread and runtime of its own, so
//! that a busy data path cannot make the node look dead.
//!
//! It also beats the pulse of the process, and notices when the process has stood still.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorCell;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::debug;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::cluster::membership::Bond;
use crate::cluster::membership::DATAGRAM_BYTES_MAX;
use crate::cluster::membership::Identity;
use crate::cluster::membership::Membership;
use crate::cluster::membership::MembershipStats;
use crate::cluster::membership::Output;
use crate::cluster::record::Record;
use crate::node::anew::Anew;
use crate::node::chance;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::context::Ending;
use crate::node::link;
use crate::node::net;
use crate::node::net::UdpSocket;
use crate::node::placement;
use crate::node::removal;
use crate::node::replication_sender::hello;
use crate::time::Moment;
use crate::time::Version;

/// The longest time between two beats of the pulse.
const BEAT_MAX: Duration = Duration::from_millis(50);

/// What the detector is told.
#[derive(Debug)]
pub enum Message {
    /// A datagram has arrived.
    Packet(Vec<u8>),
    /// Something is due.
    Time,
    /// A node was found by its address: join through it.
    Announce(Identity),
    /// The process of this life of a node is proven gone.
    PeerGone(Identity),
    /// A suspect has answered by TCP.
    PeerAnswered(Identity),
    /// A node that we have spoken with by TCP has this bond, and we were apart for long.
    Met(Identity, Bond),
    /// What we say about ourselves has changed.
    Record(Box<Record>),
    /// Leave, and say when it is said.
    Leave(oneshot::Sender<()>),
    /// Figures.
    Stats(oneshot::Sender<MembershipStats>),
}

/// The actor.
#[derive(Debug)]
pub struct Gossip {
    /// What the parts of the node share.
    pub context: Arc<Context>,
}

/// What it starts with.
pub struct Arguments {
    /// Who we are.
    pub identity: Identity,
    /// The gossip socket.
    pub socket: Arc<UdpSocket>,
}

/// The actor's state.
pub struct State {
    membership: Membership,
    socket: Arc<UdpSocket>,
    /// As far as membership knows.
    forgotten: u64,
    deadline: watch::Sender<Moment>,
    driver: JoinHandle<()>,
}

/// Starts the detector on a thread of its own, and returns once it runs.
///
/// # Errors
///
/// The thread, its runtime, the socket or the actor could not be started.
pub async fn start(
    context: Arc<Context>,
    identity: Identity,
    socket: net::GossipSocket,
    supervisor: ActorCell,
) -> std::io::Result<()> {
    let (started, result) = oneshot::channel();
    net::run_apart("gossip", async move {
        let spawned = async {
            let arguments = Arguments { identity, socket: Arc::new(net::serve_gossip(socket)?) };
            Actor::spawn_linked(None, Gossip { context }, arguments, supervisor)
                .await
                .map_err(std::io::Error::other)
        };
        match spawned.await {
            Ok((_, ended)) => {
                let _ = started.send(Ok(()));
                // Its supervisor hears of its end too.
                let _ = ended.await;
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    result.await.unwrap_or_else(|_| Err(std::io::Error::other("gossip thread ended")))
}

impl Actor for Gossip {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        Arguments { identity, socket }: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let context = &self.context;
        let settings = context.settings.membership.clone();
        let rng = StdRng::seed_from_u64(chance::number());
        let now = context.clocks.now();
        let membership = Membership::new(identity, context.cluster, settings, rng, now);
        let (deadline, due) = watch::channel(now);
        let driver = tokio::spawn(drive(Arc::clone(context), Arc::clone(&socket), due, myself.clone()));
        context.gossip.lead_to(myself);
        Ok(State { membership, socket, forgotten: 0, deadline, driver })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.context.clocks.now();
        self.beat(now);
        let mut out = Vec::new();
        let membership = &mut state.membership;
        match message {
            Message::Packet(bytes) => {
                if let Err(error) = membership.handle_packet(&bytes, now, &mut out) {
                    debug!(%error, "gossip packet dropped");
                }
            }
            Message::Time => {
                self.tell_forgotten(state, now);
                state.membership.handle_time(now, &mut out);
                *self.context.bond.write().unwrap_or_else(PoisonError::into_inner) =
                    state.membership.bond(now);
            }
            Message::Met(identity, bond) => membership.meet(identity, &bond, now, &mut out),
            Message::Announce(identity) => membership.announce(identity, now, &mut out),
            Message::PeerGone(identity) => membership.peer_gone(identity, now, &mut out),
            Message::PeerAnswered(identity) => membership.peer_answered(identity),
            Message::Record(record) => self.set_record(&record, now, state, &mut out),
            Message::Leave(done) => {
                membership.leave(now, &mut out);
                self.perform(out, state).await;
                let _ = done.send(());
                return Ok(());
            }
            Message::Stats(reply) => drop(reply.send(membership.stats().clone())),
        }
        self.perform(out, state).await;
        let next = state.membership.deadline().unwrap_or(now + BEAT_MAX).min(now + BEAT_MAX);
        state.deadline.send_replace(next);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.driver.abort();
        Ok(())
    }
}

impl Gossip {
    fn beat(&self, now: Moment) {
        if let Some(pause) = self.context.pulse.beat(now) {
            Counters::add(&self.context.counters.stalls, 1);
            warn!(pause_ms = pause.as_millis(), "process stood still");
            let stalls = self.context.pulse.stalls();
            self.context.hang_up(|hang_up| hang_up.stalls = stalls);
            self.context.placement.cast(placement::Message::Stalled);
        }
    }

    /// Membership hears of tombstones that went before their time.
    fn tell_forgotten(&self, state: &mut State, now: Moment) {
        let forgotten = self.context.counters.forgotten.load(Ordering::Relaxed);
        if forgotten > state.forgotten {
            state.forgotten = forgotten;
            let at = Version::from_raw(forgotten).time().as_millis();
            let age_ms = self.context.clocks.wall().as_millis().saturating_sub(at);
            state.membership.forgot(Duration::from_millis(age_ms), now);
        }
    }

    /// This node was apart from the others for too long.
    fn begin_anew(&self, away: Duration, to: Identity) {
        let context = &self.context;
        let count = context.settings.anew.map_or(0, |anew| anew.count) + 1;
        let away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
        if context.end(Ending::Away(Anew { count, away_ms, to: to.addr })) {
            warn!(away_ms, %to, "apart from the others for longer than tombstones are kept, begins anew");
        }
    }

    fn set_record(&self, record: &Record, now: Moment, state: &mut State, out: &mut Vec<Output>) {
        let bytes = bincode::encode_to_vec(record, bincode::config::standard());
        let bytes = bytes.expect("encoding into memory cannot fail");
        if let Err(error) = state.membership.set_record(&bytes, now, out) {
            error!(%error, "record not sent, its names are too long");
        }
    }

    async fn perform(&self, out: Vec<Output>, state: &State) {
        for output in out {
            match output {
                Output::Send { to, bytes } => {
                    // A datagram may be lost anyway; an unreachable peer is found out by its silence.
                    if let Err(error) = state.socket.send_to(&bytes, to).await {
                        debug!(%to, %error, "gossip packet not sent");
                    }
                }
                Output::Check(identity) => drop(tokio::spawn(check(Arc::clone(&self.context), identity))),
                Output::Record { bytes, .. } => self.record_arrived(&bytes),
                Output::Alive(identity) => self.tell(placement::Message::Alive(identity)),
                Output::Suspect(identity) => self.tell(placement::Message::Suspect(identity, true)),
                Output::Refuted(identity) => self.tell(placement::Message::Suspect(identity, false)),
                Output::Down(identity) => {
                    let heard = state.membership.heard_from(identity.node);
                    self.tell(placement::Message::Down { identity, heard });
                }
                Output::Yield { away, to } => self.begin_anew(away, to),
                Output::KeptOut { away, identity } => warn!(
                    member = %identity,
                    away_ms = away.as_millis(),
                    "member was apart for longer than tombstones are kept, has to begin anew"
                ),
                Output::Rejoined(identity) => self.tell(placement::Message::Rejoined(identity)),
                Output::Stalled { for_ } => debug!(late_ms = for_.as_millis(), "gossip timers were late"),
                Output::Alone => info!("no other member is left"),
                // Placement waits for a link: whoever is behind it tells all that it knows.
                Output::Joined => debug!("another member is known"),
            }
        }
    }

    fn tell(&self, message: placement::Message) {
        self.context.placement.cast(message);
    }

    fn record_arrived(&self, bytes: &[u8]) {
        let config = bincode::config::standard().with_limit::<DATAGRAM_BYTES_MAX>();
        match bincode::decode_from_slice::<Record, _>(bytes, config) {
            Ok((record, _)) => self.tell(placement::Message::Record(Box::new(record))),
            Err(error) => debug!(%error, "record cannot be decoded"),
        }
    }
}

/// Asks a suspect by TCP whether it lives. Only an answer of its process counts.
async fn check(context: Arc<Context>, identity: Identity) {
    match link::dial(identity.addr, hello(&context, None)).await {
        Ok(linked) if linked.welcome.identity == identity => {
            context.gossip.cast(Message::PeerAnswered(identity));
        }
        Ok(_) => {}
        Err(error) => {
            debug!(peer = %identity, %error, "suspect does not answer");
            removal::heed(&context, &error);
        }
    }
}

/// Brings datagrams and time to the actor.
async fn drive(
    context: Arc<Context>,
    socket: Arc<UdpSocket>,
    mut due: watch::Receiver<Moment>,
    actor: ActorRef<Message>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    loop {
        let deadline = context.clocks.instant(*due.borrow_and_update());
        let message = tokio::select! {
            // Packets first: an answer that has arrived in time must not come too late.
            biased;
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, _)) => Message::Packet(buffer[..length].to_vec()),
                // An earlier datagram was refused; that says nothing that probes do not say better.
                Err(_) => continue,
            },
            () = tokio::time::sleep_until(deadline) => Message::Time,
            changed = due.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let is_time = matches!(message, Message::Time);
        if actor.cast(message).is_err() {
            return;
        }
        if is_time && due.changed().await.is_err() {
            return;
        }
    }
}
