//! What a connection has said about itself, and what it is answered about itself and the node.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::command::Codec;
use crate::command::Reply;
use crate::command::Transaction;
use crate::command::describe;
use crate::command::matches;
use crate::command::server::Client;
use crate::command::server::Hello;
use crate::command::server::Server;
use crate::node::context::Context;
use crate::node::redirect::Access;
use crate::node::redirect::Scope;
use crate::time::Moment;

/// The version of Redis whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.2.4";

/// The number of the latest connection of this process.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// What a connection has said about itself.
#[derive(Clone, Debug)]
pub struct Session {
    id: u64,
    since: Moment,
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    scope: Scope,
    is_resp3: bool,
    may_read_copies: bool,
    name: Bytes,
    library: Bytes,
    library_version: Bytes,
    transaction: Transaction,
}

impl Session {
    /// A connection that has said nothing yet.
    pub fn new(scope: Scope, remote: Option<SocketAddr>, local: Option<SocketAddr>, now: Moment) -> Self {
        Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
            since: now,
            remote,
            local,
            scope,
            is_resp3: false,
            may_read_copies: false,
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            transaction: Transaction::default(),
        }
    }

    /// In which version requests of RESP are answered.
    pub const fn codec(&self) -> Codec {
        if self.is_resp3 { Codec::Resp3 } else { Codec::Resp2 }
    }

    /// Whether a plain request means here what it always means. In a transaction it is kept.
    pub fn takes_plain(&self) -> bool {
        self.transaction.len().is_none()
    }

    /// The transaction that the connection is in, if it is in one.
    pub const fn transaction(&mut self) -> &mut Transaction {
        &mut self.transaction
    }

    /// What it may be answered from.
    pub const fn access(&self) -> Access {
        Access { scope: self.scope, may_read_copies: self.may_read_copies }
    }

    /// Answers what needs nothing but the node's settings and clock.
    pub fn answer(&mut self, context: &Context, server: Server) -> Reply<'static> {
        match server {
            Server::Hello(hello) => self.hello(hello),
            Server::Reset => {
                self.is_resp3 = false;
                self.may_read_copies = false;
                self.name = Bytes::new();
                self.transaction.reset();
                Reply::Word("RESET")
            }
            Server::Client(client) => self.client(client, context.clocks.now()),
            Server::About(about) => describe(&about),
            Server::Settings { patterns } => settings(context, self.scope, &patterns),
            Server::ReadCopies(may_read_copies) => {
                self.may_read_copies = may_read_copies;
                Reply::Done
            }
            Server::Time => {
                let millis = context.clocks.wall().as_millis();
                let parts = [millis / 1_000, millis % 1_000 * 1_000];
                Reply::List(parts.iter().map(|part| text(part.to_string())).collect())
            }
            Server::Scripts { known } => {
                Reply::List(known.into_iter().map(|is_known| Reply::Integer(is_known.into())).collect())
            }
            // It takes figures from all over the node: see `info`.
            Server::Info { .. } => text(String::new()),
        }
    }

    fn hello(&mut self, hello: Hello) -> Reply<'static> {
        self.is_resp3 = hello.is_resp3.unwrap_or(self.is_resp3);
        if let Some(name) = hello.name {
            self.name = name;
        }
        let number = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let fields = [
            ("server", text("redis".to_owned())),
            ("version", text(REDIS_VERSION.to_owned())),
            ("proto", number(if self.is_resp3 { 3 } else { 2 })),
            ("id", number(self.id)),
            ("mode", text(if self.scope == Scope::Node { "cluster" } else { "standalone" }.to_owned())),
            ("role", text("master".to_owned())),
            ("modules", Reply::List(Vec::new())),
        ];
        Reply::Map(fields.into_iter().map(|(name, value)| (text(name.to_owned()), value)).collect())
    }

    fn client(&mut self, client: Client, now: Moment) -> Reply<'static> {
        let field = match client {
            Client::Id => return Reply::Integer(i64::try_from(self.id).unwrap_or(i64::MAX)),
            Client::Info => return text(self.line("client|info", now)),
            Client::List => return text(self.line("client|list", now)),
            Client::Name if self.name.is_empty() => return Reply::Absent,
            Client::Name => return Reply::Bytes(self.name.to_vec()),
            Client::SetName(name) => (&mut self.name, name),
            Client::SetLibrary(name) => (&mut self.library, name),
            Client::SetLibraryVersion(version) => (&mut self.library_version, version),
        };
        let (field, value) = field;
        *field = value;
        Reply::Done
    }

    /// What CLIENT INFO says, in the fields that clients read.
    fn line(&self, command: &str, now: Moment) -> String {
        let address = |address: Option<SocketAddr>| address.map(|a| a.to_string()).unwrap_or_default();
        format!(
            "id={} addr={} laddr={} name={} age={} idle=0 flags=N db=0 sub=0 psub=0 multi={} cmd={command} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            address(self.remote),
            address(self.local),
            String::from_utf8_lossy(&self.name),
            now.since(self.since).as_secs(),
            self.transaction.len().map_or(-1, |len| i64::try_from(len).unwrap_or(i64::MAX)),
            if self.is_resp3 { 3 } else { 2 },
            String::from_utf8_lossy(&self.library),
            String::from_utf8_lossy(&self.library_version),
        )
    }
}

fn text(text: String) -> Reply<'static> {
    Reply::Bytes(text.into())
}

/// What CONFIG GET says: what clients and tools ask for, as far as there is an answer.
fn settings(context: &Context, scope: Scope, patterns: &[Bytes]) -> Reply<'static> {
    let settings = &context.settings;
    let (is_cluster, port) = match scope {
        Scope::Cluster => ("no", settings.port),
        Scope::Node => ("yes", settings.redirect_port),
    };
    let known = [
        ("appendonly", "no".to_owned()),
        ("bind", settings.bind.to_string()),
        ("cluster-enabled", is_cluster.to_owned()),
        ("databases", "1".to_owned()),
        ("maxmemory", settings.store.memory_bytes_max.to_string()),
        ("maxmemory-policy", "allkeys-lru".to_owned()),
        ("port", port.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ];
    let is_wanted =
        |name: &str| patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name.as_bytes()));
    let wanted = known.into_iter().filter(|(name, _)| is_wanted(name));
    Reply::Map(wanted.map(|(name, value)| (text(name.to_owned()), text(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(Scope::Cluster, None, None, Moment::from_millis(1_000))
    }

    #[test]
    fn hello_chooses_the_protocol_and_keeps_it_where_it_names_none() {
        let mut session = session();
        assert_eq!(session.codec(), Codec::Resp2);
        session.hello(Hello { is_resp3: Some(true), name: Some(Bytes::from_static(b"me")) });
        assert_eq!(session.codec(), Codec::Resp3);
        session.hello(Hello { is_resp3: None, name: None });
        assert_eq!(session.codec(), Codec::Resp3);
        assert_eq!(session.client(Client::Name, Moment::default()), Reply::Bytes(b"me".to_vec()));
    }

    #[test]
    fn a_client_is_told_what_it_has_said() {
        let mut session = session();
        assert_eq!(session.client(Client::Name, Moment::default()), Reply::Absent);
        session.client(Client::SetName(Bytes::from_static(b"n")), Moment::default());
        session.client(Client::SetLibrary(Bytes::from_static(b"lib")), Moment::default());
        let Reply::Bytes(line) = session.client(Client::Info, Moment::from_millis(6_500)) else {
            panic!("a line")
        };
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.contains(" name=n age=5 ") && line.contains(" resp=2 lib-name=lib lib-ver=\n"),
            "{line}"
        );
    }
}
