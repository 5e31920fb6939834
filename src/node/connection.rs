//! A client connection: bytes in, commands, bytes out, in order.
//!
//! The first byte of each request decides its protocol. Plain requests whose shard is here and free are
//! carried out where they lie, without a copy and without a message. From the first other one on,
//! everything that has been read is parsed, and commands with keys go to the router as one batch. All
//! replies are written with one call. The next input is read when this one is answered, so a client
//! that does not read its replies holds up nobody but itself.

mod alone;
mod batch;
mod plain;
mod transaction;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context as TaskContext;
use std::task::Poll;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::command;
use crate::command::Admitted;
use crate::command::Codec;
use crate::command::Command;
use crate::command::KeyCommand;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Verb;
use crate::command::client;
use crate::command::server::Server;
use crate::node::acks::Acks;
use crate::node::buffers;
use crate::node::clients::Client;
use crate::node::connection::batch::Batch;
use crate::node::connection::batch::Item;
use crate::node::connection::batch::Last;
use crate::node::connection::plain::PLAIN_REPLIES_BYTES_MAX;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::context::HangUp;
use crate::node::gather;
use crate::node::net::TcpStream;
use crate::node::redirect;
use crate::node::redirect::Scope;
use crate::node::session::Session;
use crate::protocol;
use crate::protocol::Request;
use crate::protocol::resp;
use crate::protocol::resp::RespDecoder;
use crate::protocol::resp::RespLimits;
use crate::protocol::text::TextDecoder;

/// Commands that are carried out together.
const BATCH_MAX: usize = 1_024;
/// Bytes of keys and values that are carried out together, a single command apart.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Room for one read behind a request that has arrived in part.
const READ_BYTES_MIN: usize = 16 * 1024;

/// No change of the hang-up has this number.
const NOTHING_SEEN: u64 = u64::MAX;

/// What comes next in the input.
enum Next {
    Command(&'static Verb, Command),
    /// It is answered already.
    Answered(Bytes),
    Refused(Option<&'static Verb>, Bytes),
    Broken(Bytes),
    /// Nothing complete.
    Nothing,
}

/// One client.
pub struct Connection {
    context: Arc<Context>,
    // Before the socket: a connection that its client sees closed is not there any more.
    session: Session,
    socket: TcpStream,
    text: TextDecoder,
    resp: RespDecoder,
    input: BytesMut,
    output: Vec<u8>,
    /// What the writes among the replies in the output wait for.
    acks: Acks,
}

impl Connection {
    /// A client that has just connected.
    pub fn new(context: Arc<Context>, socket: TcpStream, scope: Scope) -> Self {
        let limits = context.settings.text;
        let (remote, local) = (socket.peer_addr().ok(), socket.local_addr().ok());
        Self {
            session: Session::new(Arc::clone(&context), scope, remote, local),
            text: TextDecoder::new(limits),
            resp: RespDecoder::new(RespLimits::for_entries_of(limits.entry_bytes_max)),
            input: BytesMut::new(),
            output: Vec::new(),
            acks: Acks::new(context.settings.ack),
            context,
            socket,
        }
    }

    /// The connection, as others see it.
    pub fn client(&self) -> &Arc<Client> {
        self.session.client()
    }

    /// Serves the client until it goes, misbehaves, or the node hangs up.
    ///
    /// # Errors
    ///
    /// The socket's, when the client has gone without a word.
    pub async fn run(mut self) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        let mut hang_up = self.context.hang_up.subscribe();
        let mut news = hang_up.clone();
        // It may be stopping already.
        news.mark_changed();
        let stalls = self.context.stalls_before().await;
        let (mut signs, seen) = (hang_up.clone(), AtomicU64::new(NOTHING_SEEN));
        // Whatever else this task has done: a hang-up must not be missed for want of its turn.
        let mut hung_up = pin!(tokio::task::unconstrained(hung_up(&mut hang_up, stalls, &seen)));
        let mut serving = pin!(self.serve(&mut news));
        let mut has_seen_all = false;
        poll_fn(|task| {
            // It wakes this task when there is news, and need not be asked again each time that the client
            // has sent something. There may be news already of which it is told only in a moment: then it
            // still sees what was before, and has to be asked until it has seen the news too.
            if !has_seen_all || signs.has_changed().unwrap_or(true) {
                if hung_up.as_mut().poll(task).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                has_seen_all = seen.load(Ordering::Relaxed) == signs.borrow_and_update().changes;
            }
            serving.as_mut().poll(task)
        })
        .await
    }

    async fn serve(&mut self, news: &mut watch::Receiver<HangUp>) -> io::Result<()> {
        loop {
            // Whatever the node's hang-up has to say wakes this task, so that it is looked at here.
            let read = poll_fn(|task| self.poll_input(task, news)).await?;
            if read == 0 || !self.serve_input().await? {
                return self.socket.shutdown().await;
            }
        }
    }

    /// Reads what is there into a buffer that is held only while there is something in it. Zero bytes:
    /// the client has gone, or the node stops.
    fn poll_input(
        &mut self,
        task: &mut TaskContext<'_>,
        news: &mut watch::Receiver<HangUp>,
    ) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            self.input = buffers::take_input();
        }
        // An empty buffer is begun from its start.
        self.input.reserve(if self.input.is_empty() { buffers::INPUT_BYTES } else { READ_BYTES_MIN });
        // Before the stop: closing with something unread would take back replies under way.
        let read = pin!(self.socket.read_buf(&mut self.input)).poll(task);
        if read.is_pending() {
            self.rest();
            // Nothing is under way: a node that stops may close.
            let is_stopping = news.has_changed().unwrap_or(true) && news.borrow_and_update().is_stopping;
            return if is_stopping { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        if let Poll::Ready(Ok(bytes)) = &read {
            self.client().usage.has_read(*bytes);
        }
        read
    }

    /// Lends the buffers to other connections. A request that has arrived in part is moved to memory of
    /// its own if that is much less.
    fn rest(&mut self) {
        buffers::give_output(std::mem::take(&mut self.output));
        let mut input = std::mem::take(&mut self.input);
        if input.len() < input.capacity() / 4 {
            self.input = BytesMut::from(&input[..]);
            input.clear();
            buffers::give_input(input);
        } else {
            self.input = input;
        }
    }

    /// Answers all complete requests that have been read. False: the client wants to go, or has to.
    async fn serve_input(&mut self) -> io::Result<bool> {
        if self.output.capacity() == 0 {
            self.output = buffers::take_output();
        }
        loop {
            let now = self.session.begins(self.input.len());
            let batch = self.run_plain(now);
            if batch.is_none() && self.output.len() >= PLAIN_REPLIES_BYTES_MAX {
                self.session.ends(self.input.len());
                self.write().await?;
                continue;
            }
            let before = self.next_codec();
            let Some(batch) = self.next_batch(batch) else {
                self.session.ends(self.input.len());
                // Blank lines may stand before a request in the other protocol.
                if self.next_codec() != before {
                    continue;
                }
                self.write().await?;
                return Ok(true);
            };
            // On the heap for as long as it lasts: most connections wait most of the time, and a task is as
            // large as all that it may ever do.
            let goes_on = Box::pin(self.answer(batch)).await?;
            self.session.ends(self.input.len());
            self.write().await?;
            if !goes_on || self.client().is_ended() {
                return Ok(false);
            }
        }
    }

    /// Carries a batch out. False: it is the last one.
    async fn answer(&mut self, batch: Batch) -> io::Result<bool> {
        let Batch { codec, items, commands, last } = batch;
        let is_wanted = self.session.wants_replies();
        let start = self.output.len();
        self.answer_items(codec, items, commands).await;
        if !is_wanted {
            self.output.truncate(start);
        }
        let start = self.output.len();
        match last {
            Last::Nothing => Ok(true),
            Last::Broken(reply) => {
                self.session.rejects(None, codec, &reply);
                self.output.extend_from_slice(&reply);
                Ok(false)
            }
            Last::Alone(_, Command::Exit) => {
                protocol::encode(codec, &Reply::Goodbye, &mut self.output);
                Ok(false)
            }
            Last::Alone(_, Command::Server(Server::Shutdown)) => {
                self.shut_down().await;
                Ok(false)
            }
            Last::Alone(verb, command) => {
                let is_about_replies =
                    matches!(command, Command::Server(Server::Client(client::Client::Reply(_))));
                self.answer_alone(codec, command).await?;
                // Nothing, where it was written as it came.
                self.session.answers(verb, codec, self.output.get(start..).unwrap_or_default());
                let is_wanted = if is_about_replies { self.session.wants_all() } else { is_wanted };
                if !is_wanted {
                    self.output.truncate(start);
                }
                Ok(true)
            }
        }
    }

    /// Parses what has been read, up to a batch, or what is still missing in one; none: there is nothing
    /// complete.
    fn next_batch(&mut self, begun: Option<Batch>) -> Option<Batch> {
        let mut batch = match begun {
            Some(batch) => batch,
            None => Batch::new(self.next_codec()?),
        };
        let mut bytes = 0;
        let items_max = if self.session.skips_next() { 1 } else { BATCH_MAX };
        while batch.items.len() < items_max && batch.commands.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            let before = self.input.len();
            let next = self.next_in(batch.codec);
            bytes += before - self.input.len();
            match next {
                Next::Nothing => break,
                Next::Command(verb, command) => {
                    Counters::add(&self.context.counters.commands, 1);
                    self.session.calls(verb);
                    command.each_key(|key| self.session.asks_for(key));
                    if !batch.add(verb, command) {
                        break;
                    }
                }
                Next::Answered(reply) => {
                    Counters::add(&self.context.counters.commands, 1);
                    batch.items.push(Item::Ready(reply));
                }
                Next::Refused(verb, reply) => {
                    Counters::add(&self.context.counters.commands, 1);
                    self.session.rejects(verb, batch.codec, &reply);
                    batch.items.push(Item::Ready(reply));
                }
                Next::Broken(reply) => {
                    batch.last = Last::Broken(reply);
                    break;
                }
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// In which protocol the next request is, or goes on; none: nothing has been read.
    fn next_codec(&self) -> Option<Codec> {
        if !self.text.is_between_lines() {
            return Some(Codec::Text);
        }
        if !self.resp.is_between_requests() {
            return Some(self.session.codec());
        }
        self.input.first().map(|first| if *first == b'*' { self.session.codec() } else { Codec::Text })
    }

    /// Takes the next request, if it is in this protocol.
    fn next_in(&mut self, codec: Codec) -> Next {
        if self.next_codec() != Some(codec) {
            return Next::Nothing;
        }
        match codec {
            Codec::Text => self.next_line(),
            Codec::Resp2 | Codec::Resp3 => self.next_words(codec),
        }
    }

    fn next_line(&mut self) -> Next {
        let entry_bytes_max = self.context.settings.text.entry_bytes_max;
        let (verb, refusal) = match self.text.decode(&mut self.input) {
            Some(Request::Asked { verb, arguments }) => {
                match verb.parse(&arguments, self.context.clocks.wall(), entry_bytes_max) {
                    Ok(command) => return Next::Command(verb, command),
                    Err(refusal) => (Some(verb), refusal),
                }
            }
            Some(Request::Refused(refusal)) => (None, refusal),
            None => return Next::Nothing,
        };
        Next::Refused(verb, refused(Codec::Text, &refusal))
    }

    fn next_words(&mut self, codec: Codec) -> Next {
        let words = match self.resp.decode(&mut self.input) {
            Ok(Some(words)) => words,
            Ok(None) => return Next::Nothing,
            Err(error) => {
                let mut reply = Vec::new();
                resp::encode_protocol_error(error, &mut reply);
                return Next::Broken(reply.into());
            }
        };
        let entry_bytes_max = self.context.settings.text.entry_bytes_max;
        let verb = command::verb_of(&words);
        let now = self.context.clocks.wall();
        let parsed = verb.clone().and_then(|verb| verb.parse_words(&words, now, entry_bytes_max));
        let (scope, is_kept) = (self.session.access().scope, self.session.transaction().len().is_some());
        let parsed =
            parsed.and_then(|command| redirect::check(&self.context, scope, is_kept, &words, command));
        match (self.session.transaction().admit(&words, parsed), verb) {
            (Admitted::Run(command), Ok(verb)) => Next::Command(verb, command),
            (Admitted::Kept, _) => Next::Answered(Bytes::from_static(b"+QUEUED\r\n")),
            (Admitted::Done, verb) => {
                verb.iter().for_each(|verb| self.session.calls(verb));
                Next::Answered(Bytes::from_static(b"+OK\r\n"))
            }
            (Admitted::Refused(refusal), Ok(verb)) => Next::Refused(Some(verb), refused(codec, &refusal)),
            (Admitted::Run(_) | Admitted::Refused(_), Err(_)) => {
                Next::Refused(None, resp::unknown_command(&words).into())
            }
        }
    }

    /// Carries out commands with keys, and appends the replies of a batch.
    async fn answer_items(&mut self, codec: Codec, items: Vec<Item>, commands: Vec<KeyCommand>) {
        let routed = match commands.is_empty() {
            true => Vec::new(),
            false => {
                let acks = (codec, &mut self.acks);
                redirect::run(&self.context, self.session.access(), acks, commands).await
            }
        };
        let mut routed = &routed[..];
        let mut take = |count: usize| {
            let (taken, rest) = routed.split_at(count.min(routed.len()));
            routed = rest;
            taken
        };
        for item in items {
            match item {
                Item::Ready(reply) => self.output.extend_from_slice(&reply),
                Item::Routed(verb) => {
                    for reply in take(1) {
                        self.session.answers(verb, codec, reply);
                        self.output.extend_from_slice(reply);
                    }
                }
                Item::Gathered(verb, how, count) => {
                    let start = self.output.len();
                    gather::gather(codec, how, take(count), &mut self.output);
                    self.session.answers(verb, codec, &self.output[start..]);
                }
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        if !self.acks.is_empty() {
            // On the heap, as above.
            Box::pin(self.acks.reached(&self.context)).await;
        }
        if self.output.is_empty() {
            return Ok(());
        }
        let (client, bytes) = (Arc::clone(self.session.client()), self.output.len());
        client.usage.has_written(bytes);
        let mut writing = pin!(self.socket.write_all(&self.output));
        // Mostly the socket takes all at once: then no timer is needed.
        let written = match poll_fn(|task| Poll::Ready(writing.as_mut().poll(task))).await {
            Poll::Ready(written) => written,
            Poll::Pending => {
                client.usage.waits_for_reader(bytes);
                let written = match self.context.tuning.output_limits().wait_max(bytes) {
                    Some(wait_max) => timeout(wait_max, writing).await.ok(),
                    None => None,
                };
                client.usage.waits_for_reader(0);
                written.unwrap_or_else(|| {
                    tracing::info!(client = client.id, remote = ?client.remote, bytes, "client closed, it does not read its replies");
                    Err(io::ErrorKind::TimedOut.into())
                })
            }
        };
        self.output.clear();
        if self.output.capacity() > buffers::OUTPUT_BYTES_MAX {
            self.output = Vec::new();
        }
        written
    }
}

fn refused(codec: Codec, refusal: &Refusal) -> Bytes {
    let mut reply = Vec::new();
    protocol::encode_refusal(codec, refusal, &mut reply);
    reply.into()
}

/// Returns when the node hangs up on connections that began after so many stalls. Says which change of it
/// was the last that was seen.
async fn hung_up(hang_up: &mut watch::Receiver<HangUp>, stalls: u64, seen: &AtomicU64) {
    let is_over = |now: &HangUp| {
        seen.store(now.changes, Ordering::Relaxed);
        stalls < now.replaced
    };
    // The sender lives as long as the node: an error ends the connection too.
    let _ = hang_up.wait_for(is_over).await;
}
