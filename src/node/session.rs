//! What a connection has agreed on with its client, and what it is answered about itself and the node.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::command::Codec;
use crate::command::Invalid;
use crate::command::Plain;
use crate::command::Reply;
use crate::command::Transaction;
use crate::command::Verb;
use crate::command::client::Client;
use crate::command::client::ClientFilter;
use crate::command::client::Replies;
use crate::command::describe;
use crate::command::server::Config;
use crate::command::server::Hello;
use crate::command::server::Server;
use crate::node::chance;
use crate::node::clients;
use crate::node::clients::Open;
use crate::node::config;
use crate::node::context::Context;
use crate::node::hot::Sampler;
use crate::node::redirect::Access;
use crate::node::redirect::Scope;
use crate::node::slow;
use crate::node::slow::First;
use crate::time::Moment;

/// The version of Redis whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.2.4";

/// What a connection has agreed on with its client.
#[derive(Debug)]
pub struct Session {
    context: Arc<Context>,
    open: Open,
    scope: Scope,
    is_resp3: bool,
    may_read_copies: bool,
    keeps_places: bool,
    transaction: Transaction,
    replies: Replies,
    /// What is carried out just now, since when.
    calls: Vec<&'static Verb>,
    plain: (usize, usize),
    began: Moment,
    first: First,
    sampler: Sampler,
}

impl Session {
    /// A connection that has said nothing yet.
    pub fn new(
        context: Arc<Context>,
        scope: Scope,
        remote: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) -> Self {
        Self {
            open: Open::new(Arc::clone(&context), remote, local),
            scope,
            is_resp3: false,
            may_read_copies: false,
            keeps_places: false,
            transaction: Transaction::default(),
            replies: Replies::All,
            calls: Vec::new(),
            plain: (0, 0),
            began: context.clocks.now(),
            first: First::default(),
            sampler: Sampler::new(chance::number()),
            context,
        }
    }

    /// The connection, as others see it.
    pub fn client(&self) -> &Arc<clients::Client> {
        &self.open.client
    }

    /// In which version requests of RESP are answered.
    pub const fn codec(&self) -> Codec {
        if self.is_resp3 { Codec::Resp3 } else { Codec::Resp2 }
    }

    /// Whether a plain request means here what it always means. In a transaction it is kept, and it may
    /// be that no reply is wanted, or that what is read is not to count as used.
    pub fn takes_plain(&self) -> bool {
        self.transaction.len().is_none() && self.replies == Replies::All && !self.keeps_places
    }

    /// The transaction that the connection is in, if it is in one.
    pub const fn transaction(&mut self) -> &mut Transaction {
        &mut self.transaction
    }

    /// What it may be answered from.
    pub const fn access(&self) -> Access {
        let Self { scope, may_read_copies, keeps_places, .. } = *self;
        Access { scope, may_read_copies, keeps_places }
    }

    /// Whether there is a next command whose reply is not wanted: it must be alone in its batch.
    pub fn skips_next(&self) -> bool {
        self.replies == Replies::NotTheNext
    }

    /// It begins to carry out commands; so much of what it has read is theirs or follows them.
    pub fn begins(&mut self, query_bytes: usize) -> Moment {
        self.began = self.context.clocks.now();
        self.client().usage.begins(self.began, query_bytes);
        self.began
    }

    /// A command is one of those that are carried out now.
    pub fn calls(&mut self, verb: &'static Verb) {
        self.calls.push(verb);
    }

    /// A key is asked for by what is carried out now.
    #[inline]
    pub fn asks_for(&mut self, key: &[u8]) {
        self.first.has_key(key);
        if self.sampler.takes() {
            self.context.hot_keys.add(key);
        }
    }

    /// A command was refused before it was carried out, with this reply.
    pub fn rejects(&self, verb: Option<&'static Verb>, codec: Codec, reply: &[u8]) {
        if let Some(verb) = verb {
            self.client().usage.rejected(verb);
        }
        self.notes_error(codec, reply);
    }

    /// A command was carried out, with this reply.
    pub fn answers(&self, verb: &'static Verb, codec: Codec, reply: &[u8]) {
        if reply.first() == Some(&b'-') && codec != Codec::Text {
            self.client().usage.failed(verb);
            self.notes_error(codec, reply);
        }
    }

    /// A plain request is one of those that are carried out now; this is its reply if it has one already.
    pub fn answers_plain(&mut self, codec: Codec, request: &Plain<'_>, reply: Option<&[u8]>) {
        self.asks_for(request.key());
        match request {
            // It cannot fail.
            Plain::Get { .. } => self.plain.0 += 1,
            Plain::Set { .. } => {
                self.plain.1 += 1;
                if let Some(reply) = reply.filter(|reply| reply.first() == Some(&b'-')) {
                    self.answers(request.verb(), codec, reply);
                }
            }
        }
    }

    /// Errors of the text protocol have no first word that tells them apart.
    fn notes_error(&self, codec: Codec, reply: &[u8]) {
        if codec != Codec::Text {
            self.context.clients.answered_error(reply);
        }
    }

    /// What was carried out is answered; so much is left that was read.
    pub fn ends(&mut self, query_bytes: usize) {
        let now = self.context.clocks.now();
        let usage = &self.open.client.usage;
        let (gets, sets) = std::mem::take(&mut self.plain);
        let count = gets + sets + self.calls.len();
        let key = self.first.take();
        if count > 0 {
            let took = now.since(self.began);
            if self.context.slow_log.is_slow(took) {
                let first =
                    self.calls.first().map_or(if gets > 0 { "GET" } else { "SET" }, |verb| verb.name());
                let words = slow::words(first, key, count);
                // Who waits for a lease or for replicas wants to wait.
                if !self.calls.iter().any(|verb| ["GETLEASE", "WAIT"].contains(&verb.name())) {
                    slow::note(&self.context, &self.open.client, took, words);
                }
            }
            let nanos = took.as_nanos() as u64 / count as u64;
            let called = |verb, count| {
                usage.called(verb, count, nanos);
                self.context.latencies.add(verb, count, nanos);
                usage.is_at(verb);
            };
            if gets > 0 {
                called(Verb::plain_get(), gets);
            }
            if sets > 0 {
                called(Verb::plain_set(), sets);
            }
            self.calls.drain(..).for_each(|verb| called(verb, 1));
        }
        usage.rests(now, query_bytes, self.transaction.len());
    }

    /// Whether all replies are wanted from now on.
    pub fn wants_all(&self) -> bool {
        self.replies == Replies::All
    }

    /// Whether the replies of what is carried out next are wanted. (Asked once for each batch.)
    pub fn wants_replies(&mut self) -> bool {
        match self.replies {
            Replies::All => true,
            Replies::None => false,
            Replies::NotTheNext => {
                self.replies = Replies::All;
                false
            }
        }
    }

    /// Answers what needs nothing but the node's settings, connections and clock.
    pub fn answer(&mut self, server: Server) -> Reply<'static> {
        match server {
            Server::Hello(hello) => self.hello(hello),
            Server::Reset => {
                self.speaks(false);
                self.client().said().name = Bytes::new();
                self.replies = Replies::All;
                self.may_read_copies = false;
                self.keeps_places = false;
                self.transaction.reset();
                Reply::Word("RESET")
            }
            Server::Client(client) => self.about_clients(client),
            Server::About(about) => describe(&about),
            Server::Config(Config::Get(patterns)) => config::get(&self.context, self.scope, &patterns),
            Server::ReadCopies(may_read_copies) => {
                self.may_read_copies = may_read_copies;
                Reply::Done
            }
            Server::Time => {
                let micros = self.context.clocks.wall_micros();
                let parts = [micros / 1_000_000, micros % 1_000_000];
                Reply::List(parts.iter().map(|part| text(part.to_string())).collect())
            }
            Server::Scripts { known } => {
                Reply::List(known.into_iter().map(|is_known| Reply::Integer(is_known.into())).collect())
            }
            // Carried out where there is more at hand: see `connection`.
            Server::Ack(_)
            | Server::Wait(_)
            | Server::Info { .. }
            | Server::Config(Config::Set(_) | Config::ResetStatistics)
            | Server::SlowLog(_)
            | Server::HotKeys { .. }
            | Server::Shutdown => Reply::Done,
        }
    }

    fn speaks(&mut self, is_resp3: bool) {
        self.is_resp3 = is_resp3;
        self.client().said().is_resp3 = is_resp3;
    }

    fn hello(&mut self, hello: Hello) -> Reply<'static> {
        self.speaks(hello.is_resp3.unwrap_or(self.is_resp3));
        if let Some(name) = hello.name {
            self.client().said().name = name;
        }
        let number = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let fields = [
            ("server", text("redis".to_owned())),
            ("version", text(REDIS_VERSION.to_owned())),
            ("proto", number(if self.is_resp3 { 3 } else { 2 })),
            ("id", number(self.client().id)),
            ("mode", text(if self.scope == Scope::Node { "cluster" } else { "standalone" }.to_owned())),
            ("role", text("master".to_owned())),
            ("modules", Reply::List(Vec::new())),
        ];
        Reply::Map(fields.into_iter().map(|(name, value)| (text(name.to_owned()), value)).collect())
    }

    fn about_clients(&mut self, client: Client) -> Reply<'static> {
        let (clients, now) = (&self.context.clients, self.context.clocks.now());
        let id = self.client().id;
        match client {
            Client::Id => Reply::Integer(i64::try_from(id).unwrap_or(i64::MAX)),
            Client::Info => {
                let this = ClientFilter { ids: vec![id], ..ClientFilter::default() };
                text(clients.lines(&this, (id, "client|info"), now))
            }
            Client::List(filter) => text(clients.lines(&filter, (id, "client|list"), now)),
            Client::Name => match &self.client().said().name {
                name if name.is_empty() => Reply::Absent,
                name => Reply::Bytes(name.to_vec()),
            },
            Client::SetName(name) => self.says(|said| said.name = name),
            Client::SetLibrary(library) => self.says(|said| said.library = library),
            Client::SetLibraryVersion(version) => self.says(|said| said.library_version = version),
            Client::Kill(filter) => {
                let count = clients.end(&filter, id, now);
                Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
            }
            Client::KillAddress(address) => match clients.end_at(&address, id) {
                true => Reply::Done,
                false => Reply::Refused(Invalid::NoClient.into()),
            },
            Client::Reply(replies) => {
                self.replies = replies;
                Reply::Done
            }
            Client::NoTouch(keeps_places) => {
                self.keeps_places = keeps_places;
                Reply::Done
            }
        }
    }

    fn says(&self, say: impl FnOnce(&mut clients::Said)) -> Reply<'static> {
        say(&mut self.client().said());
        Reply::Done
    }
}

fn text(text: String) -> Reply<'static> {
    Reply::Bytes(text.into())
}
