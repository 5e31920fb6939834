//! Accepts clients: a task per connection, none of which can take down another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use tracing::debug;
use tracing::error;

use crate::node::connection::Connection;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::net::TcpListener;
use crate::node::net::TcpStream;

/// The pause after a connection that could not be accepted: file descriptors are used up, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until it is dropped. An error ends nothing: it passes.
pub async fn accept_forever(
    listener: Arc<TcpListener>,
    what: &'static str,
    mut accepted: impl FnMut(TcpStream),
) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => accepted(socket),
            Err(error) if is_about_the_client(&error) => {
                debug!(what, %error, "connection gone before it began")
            }
            Err(error) => {
                error!(what, %error, "connection not accepted");
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

/// What the listener is told.
#[derive(Debug)]
pub enum Message {
    /// Accept no more clients.
    Close,
}

/// The actor.
#[derive(Debug)]
pub struct Listener {
    /// What the parts of the node share.
    pub context: Arc<Context>,
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
        let context = Arc::clone(&self.context);
        let accept = accept_forever(listener, "client", move |socket| {
            Counters::add(&context.counters.connections_accepted, 1);
            let open = Open::count(Arc::clone(&context));
            let connection = Connection::new(Arc::clone(&context), socket);
            tokio::spawn(async move {
                if let Err(error) = connection.run().await {
                    debug!(%error, "client connection broken");
                }
                drop(open);
            });
        });
        Ok(tokio::spawn(accept))
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
