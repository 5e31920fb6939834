//! A client connection: bytes in, commands, bytes out, in order.
//!
//! The first byte of each request decides its protocol. Everything that has been read is parsed,
//! commands with keys go to the router as one batch, and all replies are written with one call. The
//! next batch is read when this one is answered, so a client that does not read its replies holds up
//! nobody but itself.

mod transaction;

use std::io;
use std::sync::Arc;
use std::time::Duration;

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
use crate::command::Gather;
use crate::command::KeyCommand;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::help_lines;
use crate::command::server::Server;
use crate::node::cluster_wide;
use crate::node::cluster_wide::Listing;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::context::HangUp;
use crate::node::gather;
use crate::node::info;
use crate::node::net::TcpStream;
use crate::node::report;
use crate::node::router;
use crate::node::session::Session;
use crate::protocol;
use crate::protocol::Request;
use crate::protocol::resp;
use crate::protocol::resp::RespDecoder;
use crate::protocol::resp::RespLimits;
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

/// What has been parsed and is to be carried out together, all in one protocol.
struct Batch {
    codec: Codec,
    items: Vec<Item>,
    commands: Vec<KeyCommand>,
    last: Last,
}

/// What is to be answered, in order.
enum Item {
    /// It is encoded already.
    Ready(Bytes),
    /// The next reply of the router.
    Routed,
    /// So many of them, gathered.
    Gathered(Gather, usize),
}

/// What ends a batch.
enum Last {
    Nothing,
    /// It is carried out alone, behind all before it, and must show what they did.
    Alone(Command),
    /// What has been read cannot be understood: this is said, and the connection closed.
    Broken(Bytes),
}

/// What comes next in the input.
enum Next {
    Command(Command),
    /// It is answered already.
    Answered(Bytes),
    Broken(Bytes),
    /// Nothing complete.
    Nothing,
}

/// One client.
pub struct Connection {
    context: Arc<Context>,
    socket: TcpStream,
    session: Session,
    text: TextDecoder,
    resp: RespDecoder,
    input: BytesMut,
    output: Vec<u8>,
}

impl Connection {
    /// A client that has just connected.
    pub fn new(context: Arc<Context>, socket: TcpStream) -> Self {
        let limits = context.settings.text;
        Self {
            session: Session::new(socket.peer_addr().ok(), socket.local_addr().ok(), context.clocks.now()),
            text: TextDecoder::new(limits),
            resp: RespDecoder::new(RespLimits::for_entries_of(limits.entry_bytes_max)),
            input: BytesMut::new(),
            output: Vec::new(),
            context,
            socket,
        }
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
        let stalls = self.context.stalls_before().await;
        loop {
            let is_served = tokio::select! {
                biased;
                () = hung_up(&mut hang_up, stalls, false) => return Ok(()),
                served = self.serve_input() => served?,
            };
            if !is_served {
                return self.socket.shutdown().await;
            }
            self.input.reserve(READ_BYTES);
            let has_input = tokio::select! {
                biased;
                () = hung_up(&mut hang_up, stalls, false) => false,
                // Before the stop: closing with something unread would take back replies under way.
                read = self.socket.read_buf(&mut self.input) => read? > 0,
                // Nothing is under way: a node that stops may close too.
                () = hung_up(&mut stopping, stalls, true) => false,
            };
            if !has_input {
                return self.socket.shutdown().await;
            }
        }
    }

    /// Answers all complete requests that have been read. False: the client wants to go, or has to.
    async fn serve_input(&mut self) -> io::Result<bool> {
        loop {
            let before = self.next_codec();
            let Some(batch) = self.next_batch() else {
                // Blank lines may stand before a request in the other protocol.
                if self.next_codec() == before {
                    return Ok(true);
                }
                continue;
            };
            let codec = batch.codec;
            self.answer(codec, batch.items, batch.commands).await;
            match batch.last {
                Last::Nothing => {}
                Last::Broken(reply) => {
                    self.output.extend_from_slice(&reply);
                    self.write().await?;
                    return Ok(false);
                }
                Last::Alone(Command::Exit) => {
                    protocol::encode(codec, &Reply::Goodbye, &mut self.output);
                    self.write().await?;
                    return Ok(false);
                }
                Last::Alone(command) => self.answer_alone(codec, command).await?,
            }
            self.write().await?;
        }
    }

    /// Parses what has been read, up to a batch; none: there is nothing complete.
    fn next_batch(&mut self) -> Option<Batch> {
        let mut batch =
            Batch { codec: self.next_codec()?, items: Vec::new(), commands: Vec::new(), last: Last::Nothing };
        let mut bytes = 0;
        while batch.items.len() < BATCH_MAX && batch.commands.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            let before = self.input.len();
            let next = self.next_in(batch.codec);
            bytes += before - self.input.len();
            match next {
                Next::Nothing => break,
                Next::Command(command) => {
                    Counters::add(&self.context.counters.commands, 1);
                    if !batch.add(command) {
                        break;
                    }
                }
                Next::Answered(reply) => {
                    Counters::add(&self.context.counters.commands, 1);
                    batch.items.push(Item::Ready(reply));
                }
                Next::Broken(reply) => {
                    batch.last = Last::Broken(reply);
                    break;
                }
            }
        }
        (!batch.items.is_empty() || !matches!(batch.last, Last::Nothing)).then_some(batch)
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
        let parsed = match self.text.decode(&mut self.input) {
            Some(Request::Asked { verb, arguments }) => {
                verb.parse(&arguments, self.context.clocks.wall(), self.context.settings.text.entry_bytes_max)
            }
            Some(Request::Refused(refusal)) => Err(refusal),
            None => return Next::Nothing,
        };
        parsed.map_or_else(|refusal| Next::Answered(refused(Codec::Text, &refusal)), Next::Command)
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
        let parsed = command::parse(&words, self.context.clocks.wall(), entry_bytes_max);
        match self.session.transaction().admit(&words, parsed) {
            Admitted::Run(command) => Next::Command(command),
            Admitted::Kept => Next::Answered(Bytes::from_static(b"+QUEUED\r\n")),
            Admitted::Done => Next::Answered(Bytes::from_static(b"+OK\r\n")),
            Admitted::Refused(Refusal::UnknownCommand { .. }) => {
                Next::Answered(resp::unknown_command(&words).into())
            }
            Admitted::Refused(refusal) => Next::Answered(refused(codec, &refusal)),
        }
    }

    /// Carries out commands with keys, and appends the replies of a batch.
    async fn answer(&mut self, codec: Codec, items: Vec<Item>, commands: Vec<KeyCommand>) {
        let routed = match commands.is_empty() {
            true => Vec::new(),
            false => router::run(&self.context, codec, commands).await,
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
                Item::Routed => take(1).iter().for_each(|reply| self.output.extend_from_slice(reply)),
                Item::Gathered(how, count) => gather::gather(codec, how, take(count), &mut self.output),
            }
        }
    }

    /// Carries out what ends a batch.
    async fn answer_alone(&mut self, codec: Codec, command: Command) -> io::Result<()> {
        let context = Arc::clone(&self.context);
        let reply = match command {
            Command::Many(many) => {
                gather::run(&context, codec, many, &mut self.output).await;
                return Ok(());
            }
            Command::Exec => return Box::pin(self.exec(codec)).await,
            Command::Watch { keys } => {
                self.watch(codec, keys).await;
                return Ok(());
            }
            Command::Keys { .. } if codec == Codec::Text => return self.list().await,
            Command::Keys { pattern } => {
                let listed = cluster_wide::keys(&context, pattern.as_deref()).await;
                listed.map(|keys| Reply::List(keys.into_iter().map(bulk).collect()))
            }
            Command::Scan { cursor, pattern, count, is_none_of } => {
                let scanned = cluster_wide::scan(&context, cursor, count).await;
                scanned.map(|(next, keys)| {
                    let is_wanted = |key: &Bytes| {
                        !is_none_of && pattern.as_ref().is_none_or(|pattern| command::matches(pattern, key))
                    };
                    let keys = keys.into_iter().filter(is_wanted).map(bulk).collect();
                    Reply::List(vec![Reply::Bytes(next.to_string().into()), Reply::List(keys)])
                })
            }
            Command::Size => {
                let size = cluster_wide::size(&context).await;
                size.map(|keys| Reply::Integer(i64::try_from(keys).unwrap_or(i64::MAX)))
            }
            Command::Flush => cluster_wide::flush(&context).await.map(|()| Reply::Done),
            Command::Nodes => Ok(Reply::Lines(report::nodes(&context.current_view()))),
            Command::Ring => Ok(Reply::Lines(report::ring(&context.current_view()))),
            Command::Stats => Ok(Reply::Lines(report::stats(&context).await)),
            Command::Server(Server::Info { sections }) => {
                Ok(Reply::Bytes(info::info(&context, &sections).await.into()))
            }
            Command::Server(server) => {
                let reply = self.session.answer(&context, server);
                // HELLO is answered in the protocol that it has chosen.
                protocol::encode(self.session.codec(), &reply, &mut self.output);
                return Ok(());
            }
            // Answered when it was read, within the batch, or by who called this.
            Command::Multi
            | Command::Discard
            | Command::Unwatch
            | Command::Key(_)
            | Command::Nothing
            | Command::Ping { .. }
            | Command::Echo { .. }
            | Command::Help
            | Command::Exit => return Ok(()),
        };
        protocol::encode(codec, &reply.unwrap_or_else(Reply::Refused), &mut self.output);
        Ok(())
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

impl Batch {
    /// Adds a command; false: it has to be the last one.
    fn add(&mut self, command: Command) -> bool {
        match command {
            Command::Key(command) => {
                self.commands.push(command);
                self.items.push(Item::Routed);
            }
            Command::Many(many) if gather::is_small(&many) => {
                self.items.push(Item::Gathered(many.gather(), many.len()));
                self.commands.extend(many.parts());
            }
            Command::Nothing => self.ready(&Reply::Done),
            Command::Ping { message: None } => self.ready(&Reply::Pong),
            Command::Ping { message: Some(message) } | Command::Echo { message } => {
                self.ready(&Reply::Value(&message));
            }
            Command::Help => self.ready(&Reply::Lines(help_lines())),
            Command::Many(_)
            | Command::Multi
            | Command::Exec
            | Command::Discard
            | Command::Watch { .. }
            | Command::Unwatch
            | Command::Keys { .. }
            | Command::Scan { .. }
            | Command::Size
            | Command::Flush
            | Command::Server(_)
            | Command::Exit
            | Command::Nodes
            | Command::Ring
            | Command::Stats => {
                self.last = Last::Alone(command);
                return false;
            }
        }
        true
    }

    fn ready(&mut self, reply: &Reply<'_>) {
        let mut bytes = Vec::new();
        protocol::encode(self.codec, reply, &mut bytes);
        self.items.push(Item::Ready(bytes.into()));
    }
}

fn refused(codec: Codec, refusal: &Refusal) -> Bytes {
    let mut reply = Vec::new();
    protocol::encode_refusal(codec, refusal, &mut reply);
    reply.into()
}

fn bulk(key: Bytes) -> Reply<'static> {
    Reply::Bytes(key.into())
}

/// Returns when the node hangs up on connections that began after so many stalls, or, for one that is
/// idle, stops.
async fn hung_up(hang_up: &mut watch::Receiver<HangUp>, stalls: u64, is_idle: bool) {
    // The sender lives as long as the node: an error ends the connection too.
    let _ = hang_up.wait_for(|now| stalls < now.replaced || (is_idle && now.is_stopping)).await;
}
