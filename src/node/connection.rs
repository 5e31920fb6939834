//! A client connection: bytes in, commands, bytes out, in order.
//!
//! Everything that has been read is parsed, commands with a key go to the router as one batch, and
//! all replies are written with one call. The next batch is read when this one is answered, so a
//! client that does not read its replies holds up nobody but itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::command::Codec;
use crate::command::Command;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::help_lines;
use crate::node::cluster_wide;
use crate::node::cluster_wide::Listing;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::context::HangUp;
use crate::node::net::TcpStream;
use crate::node::report;
use crate::node::router;
use crate::protocol;
use crate::protocol::Request;
use crate::protocol::text;
use crate::protocol::text::TextDecoder;

/// Room for one read.
const READ_BYTES: usize = 16 * 1024;
/// Commands that are carried out together.
const BATCH_MAX: usize = 1_024;
/// Bytes of keys and values that are carried out together, a single command apart.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How long a client may take to read a reply before it is given up.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);

/// What is to be answered, in order.
enum Item {
    /// It is encoded already.
    Ready(Bytes),
    /// The next reply of the router.
    Routed,
}

/// What ends a batch: it is carried out alone, behind all before it.
enum Last {
    Keys,
    Flush,
    Exit,
    /// One of the reports: it must show what the commands before it did.
    Report(Command),
    Nothing,
}

/// One client.
pub struct Connection {
    context: Arc<Context>,
    socket: TcpStream,
    decoder: TextDecoder,
    input: BytesMut,
    output: Vec<u8>,
}

impl Connection {
    /// A client that has just connected.
    pub fn new(context: Arc<Context>, socket: TcpStream) -> Self {
        let decoder = TextDecoder::new(context.settings.text);
        Self { context, socket, decoder, input: BytesMut::new(), output: Vec::new() }
    }

    /// Serves the client until it goes, misbehaves, or the node hangs up.
    ///
    /// # Errors
    ///
    /// The socket's, when the client has gone without a word.
    pub async fn run(mut self) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        let mut hang_up = self.context.hang_up.subscribe();
        let mut stopping = hang_up.clone();
        let epoch = hang_up.borrow().epoch;
        loop {
            let is_served = tokio::select! {
                biased;
                () = hung_up(&mut hang_up, epoch, false) => return Ok(()),
                served = self.serve_input() => served?,
            };
            if !is_served {
                return self.socket.shutdown().await;
            }
            self.input.reserve(READ_BYTES);
            let has_input = tokio::select! {
                biased;
                () = hung_up(&mut hang_up, epoch, false) => false,
                // Before the stop: closing with something unread would take back replies under way.
                read = self.socket.read_buf(&mut self.input) => read? > 0,
                // Nothing is under way: a node that stops may close too.
                () = hung_up(&mut stopping, epoch, true) => false,
            };
            if !has_input {
                return self.socket.shutdown().await;
            }
        }
    }

    /// Answers all complete requests that have been read. False: the client wants to go.
    async fn serve_input(&mut self) -> io::Result<bool> {
        loop {
            let (items, commands, last) = self.next_batch();
            if items.is_empty() && matches!(last, Last::Nothing) {
                return Ok(true);
            }
            let mut routed = match commands.is_empty() {
                true => Vec::new(),
                false => router::run(&self.context, Codec::Text, commands).await,
            }
            .into_iter();
            for item in items {
                match item {
                    Item::Ready(reply) => self.output.extend_from_slice(&reply),
                    Item::Routed => self.output.extend_from_slice(&routed.next().unwrap_or_default()),
                }
            }
            match last {
                Last::Nothing => {}
                Last::Keys => self.list().await?,
                Last::Flush => {
                    let reply = cluster_wide::flush(&self.context).await;
                    let reply = reply.map_or_else(Reply::Refused, |()| Reply::Done);
                    protocol::encode(Codec::Text, Command::Flush.verb(), &reply, &mut self.output);
                }
                Last::Report(command) => {
                    let reply = Reply::Lines(self.report(&command).await);
                    protocol::encode(Codec::Text, command.verb(), &reply, &mut self.output);
                }
                Last::Exit => {
                    protocol::encode(Codec::Text, Command::Exit.verb(), &Reply::Goodbye, &mut self.output);
                    self.write().await?;
                    return Ok(false);
                }
            }
            self.write().await?;
        }
    }

    /// Parses what has been read, up to a batch.
    fn next_batch(&mut self) -> (Vec<Item>, Vec<Command>, Last) {
        let (mut items, mut commands) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while items.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            let before = self.input.len();
            let Some(request) = self.decoder.decode(&mut self.input) else { break };
            bytes += before - self.input.len();
            Counters::add(&self.context.counters.commands, 1);
            let command = match request {
                Request::Command(command) => command,
                Request::Refused(refusal) => {
                    let mut reply = Vec::new();
                    protocol::encode_refusal(Codec::Text, &refusal, &mut reply);
                    items.push(Item::Ready(reply.into()));
                    continue;
                }
            };
            let answer = match &command {
                Command::Get { .. } | Command::Set { .. } | Command::Delete { .. } => {
                    commands.push(command);
                    items.push(Item::Routed);
                    continue;
                }
                Command::Keys => return (items, commands, Last::Keys),
                Command::Flush => return (items, commands, Last::Flush),
                Command::Exit => return (items, commands, Last::Exit),
                Command::Ping => Reply::Pong,
                Command::Help => Reply::Lines(help_lines()),
                Command::Nodes | Command::Ring | Command::Stats => {
                    return (items, commands, Last::Report(command));
                }
            };
            let mut reply = Vec::new();
            protocol::encode(Codec::Text, command.verb(), &answer, &mut reply);
            items.push(Item::Ready(reply.into()));
        }
        (items, commands, Last::Nothing)
    }

    async fn report(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Nodes => report::nodes(&self.context.current_view()),
            Command::Ring => report::ring(&self.context.current_view()),
            Command::Stats => report::stats(&self.context).await,
            Command::Get { .. }
            | Command::Set { .. }
            | Command::Delete { .. }
            | Command::Keys
            | Command::Flush
            | Command::Ping
            | Command::Exit
            | Command::Help => Vec::new(),
        }
    }

    /// Writes all keys of the cluster as they come.
    async fn list(&mut self) -> io::Result<()> {
        let mut listing = Listing::new(Arc::clone(&self.context));
        let mut count = 0;
        while let Some(keys) = listing.next().await {
            for key in keys {
                text::encode_key_line(&key, &mut self.output);
                count += 1;
            }
            self.write().await?;
        }
        match listing.is_complete() {
            true => text::encode_end(count, &mut self.output),
            false => protocol::encode_refusal(Codec::Text, &Refusal::Incomplete { count }, &mut self.output),
        }
        Ok(())
    }

    async fn write(&mut self) -> io::Result<()> {
        let written = timeout(WRITE_WAIT_MAX, self.socket.write_all(&self.output)).await;
        self.output.clear();
        if self.output.capacity() > BATCH_BYTES_MAX {
            self.output = Vec::new();
        }
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Returns when the node hangs up on connections of this epoch, or, for one that is idle, stops.
async fn hung_up(hang_up: &mut watch::Receiver<HangUp>, epoch: u64, is_idle: bool) {
    // The sender lives as long as the node: an error ends the connection too.
    let _ = hang_up.wait_for(|now| now.epoch != epoch || (is_idle && now.is_stopping)).await;
}
