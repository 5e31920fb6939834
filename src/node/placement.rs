//! The placement actor: brings events to [`Placement`] and carries out what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use ractor::Actor;
use ractor::ActorCell;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use tokio::sync::oneshot;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::peer::Request;
use crate::cluster::placement::ForgetRefusal;
use crate::cluster::placement::HandOver;
use crate::cluster::placement::Output;
use crate::cluster::placement::Placement;
use crate::cluster::placement::PullId;
use crate::cluster::record::Departed;
use crate::cluster::record::Record;
use crate::cluster::removal::Removal;
use crate::cluster::report::Kind;
use crate::node::context::Context;
use crate::node::context::Ending;
use crate::node::gossip;
use crate::node::journal;
use crate::node::peers::Peer;
use crate::node::removal;
use crate::node::replication_sender;
use crate::node::replication_sender::ReplicationSender;
use crate::node::shard;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Moment;
use crate::time::Version;

/// What has happened.
#[derive(Debug)]
pub enum Message {
    /// All seeds were tried in vain.
    GaveUpJoining,
    /// A member lives.
    Alive(Identity),
    /// A member is suspect, or no longer.
    Suspect(Identity, bool),
    /// A member is dead.
    Down {
        /// Who, in which life.
        identity: Identity,
        /// When membership heard from it last.
        heard: Option<Moment>,
    },
    /// We live on in a new life.
    Rejoined(Identity),
    /// The process has stood still.
    Stalled,
    /// A record has arrived.
    Record(Box<Record>),
    /// A pull has ended.
    PullDone {
        /// From whom.
        source: NodeId,
        /// Which.
        id: PullId,
        /// What the source had and has sent all of.
        complete: Box<PartitionSet>,
    },
    /// A node may have what we lack of partitions.
    Offered {
        /// Who.
        by: NodeId,
        /// Which.
        partitions: Box<PartitionSet>,
    },
    /// A node wants partitions that we serve.
    TakeOverAsked {
        /// Who.
        by: NodeId,
        /// Which.
        partitions: Box<PartitionSet>,
    },
    /// A node has stopped serving partitions in our favour.
    HandedOver {
        /// Who.
        by: NodeId,
        /// Which.
        given: Box<HandOver>,
    },
    /// A node has linked to us.
    Linked {
        /// Who.
        node: NodeId,
        /// It has dropped what it had to send us in between.
        has_gap: bool,
    },
    /// Our link to a node is up.
    LinkUp(NodeId),
    /// A shard has failed.
    ShardLost(u16),
    /// Time has passed.
    Tick,
    /// Others know a member that died before we came.
    Departed(Box<Departed>),
    /// All that who joins has to know.
    Introduce(oneshot::Sender<Introduction>),
    /// Begin to leave, and say when all roles are given away; for good: and all copies.
    Leave {
        /// Whether the node does not come back.
        is_for_good: bool,
        /// Told when it can go.
        done: oneshot::Sender<()>,
    },
    /// Take a dead node out of the cluster.
    Forget {
        /// What it is called.
        name: String,
        /// Gets what is to be told to all others.
        reply: oneshot::Sender<Result<Removal, ForgetRefusal>>,
    },
    /// Nodes are no members any more, as another one says.
    Removed {
        /// Which.
        removals: Vec<Removal>,
        /// Told when they are none here either.
        done: oneshot::Sender<()>,
    },
}

/// The actor.
#[derive(Debug)]
pub struct PlacementActor {
    /// What the parts of the node share.
    pub context: Arc<Context>,
    /// The supervisor of the senders.
    pub supervisor: ActorCell,
}

/// The actor's state.
pub struct State {
    placement: Placement,
    /// Told when the node can go.
    leaving: Vec<oneshot::Sender<()>>,
}

/// What a node tells another that links to it: the members that live, itself first, and those that are
/// dead and still on the ring.
pub type Introduction = (Vec<Record>, Vec<Departed>);

/// What this node tells another that links to it.
pub async fn introduction(context: &Context) -> Introduction {
    let (reply, introduction) = oneshot::channel();
    context.placement.cast(Message::Introduce(reply));
    introduction.await.unwrap_or_default()
}

/// Takes over what another node has told.
pub fn be_introduced(context: &Context, (records, departed): Introduction) {
    // Those that live first: who is known to live is not taken for dead.
    for record in records {
        context.placement.cast(Message::Record(Box::new(record)));
    }
    for departed in departed {
        context.placement.cast(Message::Departed(Box::new(departed)));
    }
}

/// A process that stood still for long must not go on with what it was about to say when it stopped: it has
/// to make a link anew, and so to show how long it was apart.
async fn end_links(context: Arc<Context>, identity: Identity) {
    tokio::time::sleep(context.settings.membership.away_max / 2).await;
    let peer = context.peers.find(identity.node);
    if let Some(peer) = peer.filter(|peer| peer.identity().is_none()) {
        peer.end_links();
    }
}

impl Actor for PlacementActor {
    type Msg = Message;
    type State = State;
    type Arguments = Placement;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        placement: Placement,
    ) -> Result<State, ActorProcessingErr> {
        self.context.placement.lead_to(myself.clone());
        drop(myself.send_interval(Placement::TICK, || Message::Tick));
        Ok(State { placement, leaving: Vec::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.context.clocks.now();
        let mut out = Vec::new();
        let placement = &mut state.placement;
        match message {
            Message::GaveUpJoining => placement.joined(now, &mut out),
            Message::Alive(identity) => {
                // One that is removed is told so when it dials us.
                if !placement.is_removed(identity) {
                    self.connect(identity).await;
                    placement.member_alive(identity, now, &mut out);
                }
            }
            Message::Suspect(identity, is_suspect) => {
                let member = placement.name_of(identity.node);
                let kind = match is_suspect {
                    true => {
                        info!(%member, node = %identity, "member suspected");
                        Kind::Suspected
                    }
                    false => {
                        info!(%member, node = %identity, "member refuted suspicion");
                        Kind::Refuted
                    }
                };
                journal::note(&self.context, kind, Some(member));
                placement.member_suspect(identity, is_suspect, now, &mut out);
            }
            Message::Down { identity, heard } => {
                heard.into_iter().for_each(|heard| self.context.peers.meet(identity.node).hear(heard));
                let member = placement.name_of(identity.node);
                let kind = match placement.is_leaving(identity.node) {
                    true => {
                        info!(%member, node = %identity, "member left");
                        Kind::Left
                    }
                    false => {
                        warn!(%member, node = %identity, "member dead");
                        Kind::Dead
                    }
                };
                journal::note(&self.context, kind, Some(member));
                self.disconnect(identity);
                tokio::spawn(end_links(Arc::clone(&self.context), identity));
                placement.member_down(identity, now, &mut out);
            }
            Message::Rejoined(identity) => {
                warn!(node = %identity, "declared dead by others, rejoined");
                journal::note(&self.context, Kind::Rejoined, None);
                placement.rejoined(identity, now, &mut out);
            }
            Message::Stalled => {
                journal::note(&self.context, Kind::Stalled, None);
                placement.stalled(now, &mut out);
                // Even if nothing has changed, the shards wait for a view that knows of the stall.
                out.push(Output::View(Arc::clone(placement.view())));
            }
            Message::Record(record) => placement.record_arrived(*record, now, &mut out),
            Message::PullDone { source, id, complete } => {
                placement.pull_done(source, id, &complete, now, &mut out);
            }
            Message::Offered { by, partitions } => placement.offered(by, &partitions, now, &mut out),
            Message::TakeOverAsked { by, partitions } => {
                placement.take_over_asked(by, &partitions, now, &mut out);
            }
            Message::HandedOver { by, given } => placement.handed_over(by, &given, now, &mut out),
            Message::Linked { node, has_gap } => placement.linked(node, has_gap, now, &mut out),
            Message::LinkUp(node) => placement.link_up(node, now, &mut out),
            Message::ShardLost(number) => self.shard_lost(number, placement, &mut out),
            Message::Tick => {
                if self.context.counters.pulls_answering.load(Ordering::Acquire) > 0 {
                    placement.keep_surplus(now);
                }
                placement.handle_time(now, &mut out);
            }
            Message::Leave { is_for_good, done } => {
                state.leaving.push(done);
                placement.leave(is_for_good, now, &mut out);
            }
            Message::Departed(departed) => placement.remember(*departed, now, &mut out),
            Message::Introduce(reply) => drop(reply.send((placement.records(), placement.departed(now)))),
            Message::Forget { name, reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(placement.forget(&name, self.context.clocks.wall(), now, &mut out));
            }
            Message::Removed { removals, done } => {
                placement.remove(&removals, now, &mut out);
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
        // Before the view is: whoever sees that all is in its place must not miss that it is not complete.
        self.context.counters.healing.store(placement.is_healing(), Ordering::Release);
        // Told when they are done, and with the view that they led to.
        let (events, out): (Vec<Output>, Vec<Output>) =
            out.into_iter().partition(|output| matches!(output, Output::Event(_)));
        for output in out.into_iter().chain(events) {
            self.perform(output, state);
        }
        Ok(())
    }
}

impl PlacementActor {
    fn perform(&self, output: Output, state: &mut State) {
        let context = &self.context;
        match output {
            Output::View(view) => {
                let stalls = context.pulse.stalls();
                context.to_all_shards(|| shard::Message::View { view: Arc::clone(&view), stalls });
                // For good: who rebuilds a copy that others have lost serves all the same.
                context.is_ready.send_if_modified(|is_ready| {
                    let becomes_ready = !*is_ready && view.has_what_it_should();
                    *is_ready |= becomes_ready;
                    becomes_ready
                });
                context.view.send_replace(view);
            }
            Output::Record(record) => {
                context.gossip.cast(gossip::Message::Record(Box::new(record.as_ref().clone())));
                let frame = crate::cluster::peer::encode(&Request::Record(Box::new(record.as_ref().clone())));
                for link in context.peers.all().iter().filter_map(|peer| peer.link()) {
                    // Gossip brings it too, only later.
                    link.try_send_frame(frame.clone());
                }
            }
            Output::Pull { source, id, partitions, former } => self.pull(source, id, &partitions, former),
            Output::Offer { to, partitions } => self.ask(to, &Request::Offer { partitions }),
            Output::TakeOver { primary, partitions } => {
                self.ask(primary, &Request::TakeOver { partitions });
            }
            Output::HandOver { to, given } => {
                let given = Arc::new(given);
                context.to_all_shards(|| shard::Message::HandOver { to, given: Arc::clone(&given) });
            }
            Output::Purge(partitions) => {
                context.peers.forget(&partitions);
                let partitions = Arc::new(partitions);
                context.to_all_shards(|| shard::Message::Purge(Arc::clone(&partitions)));
            }
            Output::HangUp => {
                let stalls = context.pulse.stalls();
                warn!("replaced while the process stood still, closing client connections");
                context.hang_up(|hang_up| hang_up.replaced = stalls);
            }
            Output::Event(event) => journal::report(context, event),
            Output::Left => {
                for done in state.leaving.drain(..) {
                    // Whoever waits may have given up.
                    let _ = done.send(());
                }
            }
            Output::Removed(removals) => self.removed(removals),
            Output::Barred => {
                if context.end(Ending::Removed) {
                    error!("this node was removed from the cluster and must not come back under its name");
                }
            }
        }
    }

    fn pull(&self, source: NodeId, id: PullId, partitions: &PartitionSet, former: Option<NodeId>) {
        // One after the other: two nodes' locks are never held at once.
        let known: BTreeMap<Partition, Version> = former.map_or_else(BTreeMap::new, |former| {
            let peer = self.context.peers.meet(former);
            let inbound = &peer.source().inbound;
            partitions.iter().map(|partition| (partition, inbound.watermark(partition))).collect()
        });
        let wants = {
            let peer = self.context.peers.meet(source);
            let mut source = peer.source();
            source
                .inbound
                .start_pull(id, partitions, |partition| known.get(&partition).copied().unwrap_or_default())
        };
        self.ask(source, &Request::Pull { id, wants });
    }

    /// Sends a request, if there is a link; otherwise it is repeated when there is one.
    fn ask(&self, node: NodeId, request: &Request) {
        if let Some(link) = self.context.peers.find(node).and_then(|peer| peer.link()) {
            let frame = crate::cluster::peer::encode(request);
            // Not here: a peer that stands still must not keep us from hearing that it is dead.
            tokio::spawn(async move {
                let _ = link.send_frame(frame).await;
            });
        }
    }

    /// Gives the peer a sender, or tells the one that it has of the peer's new life.
    async fn connect(&self, identity: Identity) {
        let peer = self.context.peers.meet(identity.node);
        peer.set_identity(Some(identity));
        peer.hear(self.context.clocks.now());
        if peer.sender.actor().is_some() {
            peer.sender.cast(replication_sender::Message::Alive(identity));
            return;
        }
        let sender = ReplicationSender { context: Arc::clone(&self.context), peer };
        if let Err(error) = Actor::spawn_linked(None, sender, (), self.supervisor.clone()).await {
            warn!(peer = %identity, %error, "replication sender not started");
        }
    }

    fn disconnect(&self, identity: Identity) {
        let peer = self.context.peers.find(identity.node);
        if let Some(peer) = peer.filter(|peer| peer.identity() == Some(identity)) {
            peer.set_identity(None);
            peer.set_link(None);
            peer.sender.cast(replication_sender::Message::Down);
        }
    }

    /// Has no links with these nodes any more, and tells all others.
    fn removed(&self, removals: Vec<Removal>) {
        let context = &self.context;
        for removal in &removals {
            warn!(node = %removal.node, until = %removal.until, "node removed from the cluster");
            journal::note(context, Kind::Removed, Some(journal::name_of(context, removal.node)));
            context.removals.write().unwrap_or_else(PoisonError::into_inner).add(*removal);
            // One that has left and is back in a later life is another matter.
            let is_meant =
                |peer: &Arc<Peer>| peer.identity().is_none_or(|known| known.generation <= removal.until);
            if let Some(peer) = context.peers.find(removal.node).filter(is_meant) {
                peer.end_links();
                peer.identity().into_iter().for_each(|identity| self.disconnect(identity));
            }
        }
        let context = Arc::clone(context);
        tokio::spawn(async move { removal::tell(&context, &removals).await });
    }

    fn shard_lost(&self, number: u16, placement: &mut Placement, out: &mut Vec<Output>) {
        let number = usize::from(number);
        let lost = Partition::all().filter(|p| self.context.shard_of(*p) == number).collect();
        self.context.peers.forget(&lost);
        // What others were pulling from the shard never comes: they see a gap, and ask again.
        for peer in self.context.peers.all() {
            peer.sender.cast(replication_sender::Message::Renew);
        }
        placement.shard_lost(&lost, self.context.clocks.now(), out);
        // The new shard has seen no view yet.
        out.push(Output::View(Arc::clone(placement.view())));
    }
}
