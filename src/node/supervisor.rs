//! The root of the supervision tree that the module [`crate::node`] draws.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::Actor;
use ractor::ActorCell;
use ractor::ActorId;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use ractor::SupervisionEvent;
use tokio::sync::oneshot;
use tracing::error;

use crate::cluster::placement::Placement;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::listener;
use crate::node::listener::Listener;
use crate::node::listener::Port;
use crate::node::net::TcpListener;
use crate::node::placement;
use crate::node::placement::PlacementActor;
use crate::node::replication_sender::ReplicationSender;
use crate::node::shard::ShardActor;

/// What the supervisor is told.
#[derive(Debug)]
pub enum Message {
    /// The node stops: accept no more clients.
    CloseToClients,
}

/// What it starts with.
pub struct Arguments {
    /// The state of placement.
    pub placement: Placement,
    /// The open ports.
    pub sockets: BTreeMap<Port, Arc<TcpListener>>,
    /// Told when the node cannot go on.
    pub failing: oneshot::Sender<&'static str>,
}

/// The actor.
#[derive(Debug)]
pub struct Supervisor {
    /// What the parts of the node share.
    pub context: Arc<Context>,
}

/// The actor's state.
pub struct State {
    children: BTreeMap<ActorId, Child>,
    sockets: BTreeMap<Port, Arc<TcpListener>>,
    listeners: BTreeMap<Port, ActorRef<listener::Message>>,
    failing: Option<oneshot::Sender<&'static str>>,
}

/// Which part of the node an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Shard(u16),
    Placement,
    Listener(Port),
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let cell = myself.get_cell();
        let Arguments { placement, sockets, failing } = arguments;
        let mut children = BTreeMap::new();
        for (number, _) in (0..).zip(&self.context.shards) {
            children.insert(self.start_shard(number, cell.clone()).await?, Child::Shard(number));
        }
        let actor = PlacementActor { context: Arc::clone(&self.context), supervisor: cell.clone() };
        let (started, _) = Actor::spawn_linked(None, actor, placement, cell.clone()).await?;
        children.insert(started.get_id(), Child::Placement);
        let mut listeners = BTreeMap::new();
        for (port, socket) in &sockets {
            let listener = self.start_listener(*port, Arc::clone(socket), cell.clone()).await?;
            children.insert(listener.get_id(), Child::Listener(*port));
            listeners.insert(*port, listener);
        }
        Ok(State { children, sockets, listeners, failing: Some(failing) })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::CloseToClients => {
                for listener in [Port::Client, Port::Redirect].iter().filter_map(|p| state.listeners.get(p)) {
                    // One that has just failed accepts nobody either.
                    let _ = listener.cast(listener::Message::Close);
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, reason) => {
                self.replace(&myself, &cell, reason.to_string(), state).await?;
            }
            // Killed, or stopped: only a link's receiver does that by itself.
            SupervisionEvent::ActorTerminated(cell, _, reason)
                if state.children.contains_key(&cell.get_id()) =>
            {
                let reason = reason.unwrap_or_else(|| "ended".to_owned());
                self.replace(&myself, &cell, reason, state).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// All parts end with it, the first that was started first. The library would end them too, but in the
    /// order of a hash, and what a node says while it ends would depend on chance.
    async fn post_stop(&self, myself: ActorRef<Message>, _: &mut State) -> Result<(), ActorProcessingErr> {
        let mut parts = myself.get_children();
        parts.sort_by_key(ActorCell::get_id);
        parts.iter().for_each(ActorCell::kill);
        Ok(())
    }
}

impl Supervisor {
    async fn start_shard(&self, number: u16, cell: ActorCell) -> Result<ActorId, ActorProcessingErr> {
        let actor = ShardActor { context: Arc::clone(&self.context), number };
        let (started, _) = Actor::spawn_linked(None, actor, (), cell).await?;
        Ok(started.get_id())
    }

    async fn start_listener(
        &self,
        port: Port,
        socket: Arc<TcpListener>,
        supervisor: ActorCell,
    ) -> Result<ActorRef<listener::Message>, ActorProcessingErr> {
        let actor = Listener { context: Arc::clone(&self.context), port, supervisor: supervisor.clone() };
        Ok(Actor::spawn_linked(None, actor, socket, supervisor).await?.0)
    }

    /// Starts an actor that has failed again, or gives the node up.
    async fn replace(
        &self,
        myself: &ActorRef<Message>,
        cell: &ActorCell,
        reason: String,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let own = myself.get_cell();
        match state.children.remove(&cell.get_id()) {
            Some(Child::Shard(number)) => {
                error!(shard = number, reason, "shard failed, started again empty");
                Counters::add(&self.context.counters.shards_restarted, 1);
                let started = self.start_shard(number, own).await?;
                state.children.insert(started, Child::Shard(number));
                self.context.placement.cast(placement::Message::ShardLost(number));
            }
            Some(Child::Listener(port)) => {
                error!(port = port.name(), reason, "listener failed, started again");
                if let Some(socket) = state.sockets.get(&port) {
                    let listener = self.start_listener(port, Arc::clone(socket), own).await?;
                    state.children.insert(listener.get_id(), Child::Listener(port));
                    state.listeners.insert(port, listener);
                }
            }
            Some(Child::Placement) => self.give_up("placement", &reason, state),
            None => self.replace_unlisted(cell, &reason, state, own).await?,
        }
        Ok(())
    }

    /// Senders, receivers and the failure detector, which others have started.
    async fn replace_unlisted(
        &self,
        cell: &ActorCell,
        reason: &str,
        state: &mut State,
        own: ActorCell,
    ) -> Result<(), ActorProcessingErr> {
        let id = cell.get_id();
        if self.context.gossip.actor().is_some_and(|gossip| gossip.get_id() == id) {
            self.give_up("gossip", reason, state);
            return Ok(());
        }
        let is_its = |sender: ActorRef<_>| sender.get_id() == id;
        if let Some(peer) =
            self.context.peers.all().into_iter().find(|p| p.sender.actor().is_some_and(is_its))
        {
            error!(peer = %peer.node, reason, "replication sender failed, started again");
            peer.set_link(None);
            let sender = ReplicationSender { context: Arc::clone(&self.context), peer };
            Actor::spawn_linked(None, sender, (), own).await?;
        } else {
            error!(reason, "replication receiver failed, its link is closed");
        }
        Ok(())
    }

    fn give_up(&self, what: &'static str, reason: &str, state: &mut State) {
        error!(what, reason, "node cannot go on");
        if let Some(failing) = state.failing.take() {
            // Whoever waits may be stopping the node already.
            let _ = failing.send(what);
        }
    }
}
