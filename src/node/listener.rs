//! Accepts connections on one of the node's ports: a task per connection, none of which can take down
//! another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorCell;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use tracing::debug;
use tracing::error;

use crate::node::connection::Connection;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::net::TcpListener;
use crate::node::net::TcpStream;
use crate::node::redirect::Scope;
use crate::node::welcome::welcome;

/// The pause after a connection that could not be accepted: file descriptors are used up, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// For clients.
    Client,
    /// For cluster-aware clients.
    Redirect,
    /// For other nodes.
    Peer,
}

impl Port {
    /// What it is called in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Port::Client => "client",
            Port::Redirect => "redirect",
            Port::Peer => "peer",
        }
    }
}

/// What a listener is told.
#[derive(Debug)]
pub enum Message {
    /// Accept no more connections.
    Close,
}

/// The actor.
#[derive(Debug)]
pub struct Listener {
    /// What the parts of the node share.
    pub context: Arc<Context>,
    /// Who connects here.
    pub port: Port,
    /// The supervisor of what links from other nodes need.
    pub supervisor: ActorCell,
}

impl Actor for Listener {
    type Msg = Message;
    type State = tokio::task::JoinHandle<()>;
    type Arguments = Arc<TcpListener>;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        listener: Arc<TcpListener>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let (context, port, supervisor) = (Arc::clone(&self.context), self.port, self.supervisor.clone());
        Ok(tokio::spawn(accept_forever(listener, context, port, supervisor)))
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        accept: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Close => accept.abort(),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        accept: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        accept.abort();
        Ok(())
    }
}

/// Accepts connections until it is dropped. An error ends nothing: it passes.
async fn accept_forever(
    listener: Arc<TcpListener>,
    context: Arc<Context>,
    port: Port,
    supervisor: ActorCell,
) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => accepted(Arc::clone(&context), port, &supervisor, socket),
            Err(error) if is_about_the_client(&error) => {
                debug!(port = port.name(), %error, "connection gone before it began");
            }
            Err(error) => {
                error!(port = port.name(), %error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Gives a connection a task.
fn accepted(context: Arc<Context>, port: Port, supervisor: &ActorCell, socket: TcpStream) {
    match port {
        Port::Client => drop(tokio::spawn(serve(context, Scope::Cluster, socket))),
        Port::Redirect => drop(tokio::spawn(serve(context, Scope::Node, socket))),
        Port::Peer => {
            let supervisor = supervisor.clone();
            tokio::spawn(async move {
                if let Err(error) = welcome(context, supervisor, socket).await {
                    debug!(%error, "peer link from elsewhere ended");
                }
            });
        }
    }
}

async fn serve(context: Arc<Context>, scope: Scope, socket: TcpStream) {
    Counters::add(&context.counters.connections_accepted, 1);
    let _open = Open::count(Arc::clone(&context));
    if let Err(error) = Connection::new(context, socket, scope).run().await {
        debug!(%error, "client connection broken");
    }
}

/// Counts a connection while it lives, however it ends.
struct Open(Arc<Context>);

impl Open {
    fn count(context: Arc<Context>) -> Self {
        context.counters.connections_open.fetch_add(1, Ordering::AcqRel);
        Self(context)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connections_open.fetch_sub(1, Ordering::AcqRel);
    }
}
