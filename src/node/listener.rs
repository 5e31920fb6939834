//! Accepts connections on one of the node's ports: a task per connection, none of which can take down
//! another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorCell;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use tokio::time::timeout;
use tracing::debug;
use tracing::error;
use tracing::info;

use crate::node::connection::Connection;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::files;
use crate::node::net::TcpListener;
use crate::node::net::TcpStream;
use crate::node::redirect::Scope;
use crate::node::turn_away;
use crate::node::welcome::welcome;

/// The pause after a connection that could not be accepted: file descriptors are used up, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection that is to be closed at once is waited for: it has been there already.
const CLOSE_PAUSE: Duration = Duration::from_millis(5);

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
///
/// Where there is no file left for a connection, one that was kept is given up for it, so that it can
/// be turned away: else clients would hang until others go. Said once, and once when it has passed.
async fn accept_forever(
    listener: Arc<TcpListener>,
    context: Arc<Context>,
    port: Port,
    supervisor: ActorCell,
) {
    let mut kept = Kept::new();
    let mut is_refusing = false;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                if std::mem::take(&mut is_refusing) {
                    info!(port = port.name(), "connections accepted again");
                }
                accepted(Arc::clone(&context), port, &supervisor, socket);
            }
            Err(error) if is_about_the_client(&error) => {
                debug!(port = port.name(), %error, "connection gone before it began");
            }
            Err(error) => {
                if !std::mem::replace(&mut is_refusing, true) {
                    error!(port = port.name(), %error, "connection not accepted");
                }
                if files::is_exhausted(&error) && kept.give_up() {
                    if let Ok(Ok((socket, _))) = timeout(CLOSE_PAUSE, listener.accept()).await {
                        no_room(&context, port, &socket);
                    }
                    kept = Kept::new();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A file that is open for no other reason than that it can be closed.
struct Kept(Option<std::fs::File>);

impl Kept {
    fn new() -> Self {
        Self(std::fs::File::open("/dev/null").ok())
    }

    /// Closes it; whether it was open.
    fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// A connection that there is no file for is closed. Another node tries again; a client is told.
fn no_room(context: &Context, port: Port, socket: &TcpStream) {
    match port {
        Port::Client | Port::Redirect => {
            Counters::add(&context.counters.connections_refused, 1);
            turn_away::tell_at_once(socket);
        }
        Port::Peer => {}
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
        Port::Client => serve(context, Scope::Cluster, socket),
        Port::Redirect => serve(context, Scope::Node, socket),
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

fn serve(context: Arc<Context>, scope: Scope, socket: TcpStream) {
    Counters::add(&context.counters.connections_accepted, 1);
    if context.clients.count() >= context.tuning.connections_max() {
        Counters::add(&context.counters.connections_refused, 1);
        debug!(connections = context.clients.count(), "client turned away, there are too many");
        turn_away::turn_away(socket);
        return;
    }
    let connection = Connection::new(context, socket, scope);
    let client = Arc::clone(connection.client());
    debug!(client = client.id, remote = ?client.remote, "client connected");
    let task = tokio::spawn(async move {
        if let Err(error) = connection.run().await {
            debug!(%error, "client connection broken");
        }
    });
    client.is_served_by(task.abort_handle());
}
