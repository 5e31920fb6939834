//! The shell: actors, tasks, sockets, the clock and the log.
//!
//! # Supervision
//!
//! ```text
//! supervisor ─┬─ listener …               one per port; a task per connection
//!             ├─ shard 0 … n              partitions of this node          restarted, empty
//!             ├─ replication receiver …   one per link from a peer         ends with its link
//!             ├─ replication sender …     one per peer, owns our link      restarted, new stream
//!             ├─ placement                who holds what                   ends the node
//!             └─ gossip                   membership, on its own thread    ends the node
//! ```
//!
//! An actor ends with an error only because of a bug. A shard or a sender is started again: what a
//! shard had is pulled from the other copies, and a sender's peer sees a gap in its stream and pulls.
//! Without placement or membership a node would be a danger to the others, so it ends, and the others
//! replace it. The listeners only hold a task that accepts; they too are started again.

mod acks;
mod admin;
mod anew;
mod at_once;
mod attention;
mod buffers;
mod chance;
mod clients;
mod clock;
mod cluster_query;
mod cluster_wide;
mod config;
mod connection;
mod context;
mod files;
mod flush;
mod forwarded;
mod gather;
mod gossip;
mod hot;
mod info;
mod inquiry;
mod join;
mod journal;
mod latency;
mod lease;
mod lines;
mod link;
mod listener;
mod net;
mod output_limits;
mod pace;
mod peers;
mod placement;
mod process;
mod redirect;
mod relay;
mod removal;
mod replication_receiver;
mod replication_sender;
mod report;
mod router;
mod session;
pub mod settings;
mod shard;
mod shard_door;
#[cfg(feature = "sim")]
pub mod sim;
mod slow;
mod supervisor;
mod survey;
mod turn_away;
mod usage;
mod wait;
mod welcome;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::Actor;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;
use tracing::warn;

use crate::cluster::membership::ClusterId;
use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::placement::Placement;
use crate::cluster::record::Record;
use crate::cluster::removal::Removal;
use crate::cluster::report::Kind;
use crate::node::admin::Admin;
pub use crate::node::anew::Anew;
use crate::node::clock::Clocks;
use crate::node::clock::Pulse;
use crate::node::config::Tuning;
use crate::node::context::Context;
use crate::node::context::Door;
pub use crate::node::context::Ending;
use crate::node::context::HangUp;
use crate::node::listener::Port;
use crate::node::pace::Pace;
use crate::node::peers::Peers;
use crate::node::settings::Settings;
use crate::node::shard_door::ShardDoor;
use crate::node::supervisor::Supervisor;
use crate::store::PartitionSet;
use crate::time::Version;

/// How long a node that stops may take to give its roles away.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long it then waits until its last changes are acknowledged and its clients are answered.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long cluster-aware clients are told where everything is now: until none has had to be told for the
/// shorter time, but not beyond the longer one.
const REDIRECT_QUIET: Duration = Duration::from_millis(500);
const REDIRECT_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often it looks whether that is so.
const REDIRECT_PERIOD: Duration = Duration::from_millis(20);
/// How often it looks whether its last changes are acknowledged and its clients are answered.
const DRAIN_PERIOD: Duration = Duration::from_millis(2);

pub use files::raise_limit as raise_file_limit;

/// Where a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// By clients.
    pub client: SocketAddr,
    /// By cluster-aware clients.
    pub redirect: SocketAddr,
    /// By other nodes.
    pub peer: SocketAddr,
}

/// Why a node does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A socket cannot be opened. Nothing was started.
    #[error("{what} {address} cannot be opened: {error}")]
    Socket {
        /// Which.
        what: &'static str,
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// A part of the node cannot be started.
    #[error("{what} cannot be started: {reason}")]
    Start {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A part that the node cannot do without has failed.
    #[error("{0} has failed")]
    Failed(&'static str),
}

/// A running node.
pub struct Node {
    context: Arc<Context>,
    supervisor: ractor::ActorRef<supervisor::Message>,
    failed: oneshot::Receiver<&'static str>,
    joining: tokio::task::JoinHandle<()>,
    ticking: tokio::task::JoinHandle<()>,
    watching: tokio::task::JoinHandle<()>,
    admin: Option<Admin>,
}

impl Node {
    /// Starts a node: opens its sockets, then joins.
    ///
    /// # Errors
    ///
    /// [`NodeError`]: nothing is left running.
    pub async fn start(settings: Settings) -> Result<Self, NodeError> {
        let at = |port| SocketAddr::new(settings.bind, port);
        let (client, redirect) = (at(settings.port), at(settings.redirect_port));
        let sockets = BTreeMap::from([
            (Port::Client, listen("client port", client).await?),
            (Port::Redirect, listen("redirect port", redirect).await?),
            (Port::Peer, listen("peer port", at(settings.peer_port)).await?),
        ]);
        let gossip_socket = open_gossip(at(settings.peer_port)).await?;
        let admin_listener = match settings.admin_port {
            Some(port) => Some(listen("admin port", SocketAddr::new(settings.admin_bind, port)).await?),
            None => None,
        };
        let peer_addr = announced(&settings).await?;
        let clocks = Clocks::start(settings.peer_port);
        let since = clocks.wall();
        let identity = Identity {
            node: NodeId::of_name(&settings.name),
            generation: Generation::from_raw(since.as_millis()),
            addr: peer_addr,
        };
        let placement = Placement::new(
            settings.placement.clone(),
            identity,
            first_record(&settings, identity),
            clocks.now(),
        );
        let stall_max = settings.membership.probe_period + settings.membership.suspicion;
        let context = Arc::new(Context {
            cluster: ClusterId::of_name(&settings.cluster),
            clocks,
            since,
            pulse: Pulse::new(clocks.now(), stall_max),
            view: watch::Sender::new(Arc::clone(placement.view())),
            shards: (0..settings.store.shard_count).map(|_| ShardDoor::default()).collect(),
            peers: Peers::default(),
            placement: Door::default(),
            gossip: Door::default(),
            counters: Default::default(),
            clients: Default::default(),
            latencies: Default::default(),
            failovers: Default::default(),
            journal: Default::default(),
            slow_log: Default::default(),
            hot_keys: Default::default(),
            is_ready: Default::default(),
            baseline: Default::default(),
            tuning: Tuning::new(&settings),
            shutdown: Default::default(),
            hang_up: watch::Sender::new(HangUp::default()),
            latest: AtomicU64::new(Version::first_of(since).as_raw()),
            pace: Pace::new(settings.transfer_bytes_per_second),
            bond: Default::default(),
            removals: Default::default(),
            ending: Default::default(),
            addresses: OnceLock::from(Addresses { client, redirect, peer: peer_addr }),
            settings,
        });
        info!(
            name = context.settings.name,
            cluster = context.settings.cluster,
            node = %identity,
            client = %client,
            redirect = %redirect,
            "node starts"
        );
        journal::note(&context, Kind::Started, None);
        if let Some(Anew { away_ms, to, .. }) = context.settings.anew {
            warn!(away_ms, %to, "was apart from the others for longer than tombstones are kept, starts empty");
            journal::note(&context, Kind::Emptied, None);
        }
        context.settings.notes.iter().for_each(|note| info!(note, "configuration"));
        let (failing, failed) = oneshot::channel();
        let arguments = supervisor::Arguments { placement, sockets, failing };
        let actor = Supervisor { context: Arc::clone(&context) };
        let started = Actor::spawn(None, actor, arguments).await;
        let start_error = |reason: String| NodeError::Start { what: "node", reason };
        let (supervisor, _) = started.map_err(|error| start_error(error.to_string()))?;
        gossip::start(Arc::clone(&context), identity, gossip_socket, supervisor.get_cell())
            .await
            .map_err(|error| start_error(error.to_string()))?;
        let record = context.current_view().member(identity.node).map(|me| Record::clone(&me.record));
        if let Some(record) = record {
            context.gossip.cast(gossip::Message::Record(Box::new(record)));
        }
        let joining = tokio::spawn(join::run(Arc::clone(&context)));
        let ticking = tokio::spawn(clients::tick_forever(Arc::clone(&context)));
        let watching = tokio::spawn(lines::watch(Arc::clone(&context)));
        let admin = admin_listener.map(|listener| Admin::start(Arc::clone(&context), listener));
        Ok(Self { context, supervisor, failed, joining, ticking, watching, admin })
    }

    /// Where the node is reached.
    pub fn addresses(&self) -> Addresses {
        *self.context.addresses.get().expect("set at the start")
    }

    /// Returns when the node has joined, and has had everything once that it is to have.
    pub fn ready(&self) -> impl Future<Output = ()> + use<> {
        let mut ready = self.context.is_ready.subscribe();
        async move {
            if ready.wait_for(|is_ready| *is_ready).await.is_err() {
                // The node has gone before.
                std::future::pending().await
            }
        }
    }

    /// Returns when a client has asked for the end of the node.
    pub fn shutdown_asked(&self) -> impl Future<Output = ()> + use<> {
        let mut asked = self.context.shutdown.subscribe();
        async move {
            // The sender lives as long as the node: without it the end is near, too.
            let _ = asked.wait_for(|asked| *asked).await;
        }
    }

    /// What a simulation may look at.
    #[cfg(feature = "sim")]
    pub fn probe(&self) -> sim::Probe {
        sim::Probe::new(&self.context)
    }

    /// Returns when the node is to end though nothing has failed.
    pub fn ending(&self) -> impl Future<Output = Ending> + use<> {
        let mut ending = self.context.ending.subscribe();
        async move {
            match ending.wait_for(Option::is_some).await.map(|ending| *ending) {
                Ok(Some(ending)) => ending,
                // The node has gone, and with it whoever could have said something.
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }

    /// Returns when a part has failed without which the node cannot go on.
    pub async fn failure(&mut self) -> NodeError {
        NodeError::Failed((&mut self.failed).await.unwrap_or("supervisor"))
    }

    /// Gives all roles away, answers what is under way, says good-bye, and stops.
    pub async fn stop(self) {
        info!("node stops, handing over");
        let (done, left) = oneshot::channel();
        self.context.placement.cast(placement::Message::Leave { is_for_good: false, done });
        if tokio::time::timeout(LEAVE_WAIT_MAX, left).await.is_err() {
            warn!(waited_ms = LEAVE_WAIT_MAX.as_millis(), "not all roles could be handed over");
        }
        self.pass_shards().await;
        self.drain(|context| {
            context.peers.all().iter().all(|peer| peer.link().is_none() || peer.waiting_bytes() == 0)
        })
        .await;
        self.redirect_clients().await;
        self.supervisor.cast(supervisor::Message::CloseToClients).ok();
        self.context.hang_up(|hang_up| hang_up.is_stopping = true);
        self.drain(|context| context.clients.count() == 0).await;
        if *self.context.ending.borrow() == Some(Ending::Left) {
            let me = own_identity(&self.context);
            let at = self.context.clocks.wall();
            removal::tell(&self.context, &[Removal { node: me.node, until: me.generation, at }]).await;
        }
        let (done, said) = oneshot::channel();
        self.context.gossip.cast(gossip::Message::Leave(done));
        let _ = tokio::time::timeout(DRAIN_WAIT_MAX, said).await;
        self.joining.abort();
        self.ticking.abort();
        self.watching.abort();
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
        self.supervisor.stop(None);
        info!("node stopped");
    }

    /// Returns when every shard has done what was asked of it before: what it has to say to other nodes
    /// waits for them now, and can be seen to.
    async fn pass_shards(&self) {
        for shard in &self.context.shards {
            let (reply, answer) = oneshot::channel();
            shard.cast(shard::Message::Stats(reply));
            let _ = tokio::time::timeout(DRAIN_WAIT_MAX, answer).await;
        }
    }

    /// Returns when cluster-aware clients know that nothing is here any more. One that finds this node gone
    /// before it was told so has to find out by itself, and some of them take seconds for that.
    async fn redirect_clients(&self) {
        let context = &self.context;
        let redirected = || context.counters.redirected.load(Ordering::Acquire);
        let end = Instant::now() + REDIRECT_WAIT_MAX;
        let (mut last, mut since) = (redirected(), Instant::now());
        while context.clients.count_at(context.settings.redirect_port) > 0
            && since.elapsed() < REDIRECT_QUIET
            && Instant::now() < end
        {
            tokio::time::sleep(REDIRECT_PERIOD).await;
            if redirected() != last {
                (last, since) = (redirected(), Instant::now());
            }
        }
    }

    async fn drain(&self, is_drained: impl Fn(&Context) -> bool) {
        let wait = async {
            while !is_drained(&self.context) {
                tokio::time::sleep(DRAIN_PERIOD).await;
            }
        };
        // What is not through by then is lost with the node, as in a crash.
        let _ = tokio::time::timeout(DRAIN_WAIT_MAX, wait).await;
    }
}

/// Who this node is now.
fn own_identity(context: &Context) -> Identity {
    let view = context.current_view();
    view.member(view.me()).expect("a node is a member of its own view").identity
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<Arc<net::TcpListener>, NodeError> {
    let listener = net::TcpListener::bind(address).await;
    listener.map(Arc::new).map_err(|error| NodeError::Socket { what, address: address.to_string(), error })
}

async fn open_gossip(address: SocketAddr) -> Result<net::GossipSocket, NodeError> {
    let socket = net::open_gossip(address).await;
    socket.map_err(|error| NodeError::Socket { what: "gossip port", address: address.to_string(), error })
}

/// The address that other nodes are told.
async fn announced(settings: &Settings) -> Result<SocketAddr, NodeError> {
    let host = (settings.announce_host.as_str(), settings.announce_ports.peer);
    let fail =
        |error| NodeError::Socket { what: "announced host", address: settings.announce_host.clone(), error };
    let mut addresses = net::lookup_host(host).await.map_err(fail)?;
    let is_same_family = |address: &SocketAddr| address.is_ipv4() == settings.bind.is_ipv4();
    addresses.find(is_same_family).ok_or_else(|| fail(io::ErrorKind::AddrNotAvailable.into()))
}

fn first_record(settings: &Settings, identity: Identity) -> Record {
    Record {
        node: identity.node,
        generation: identity.generation,
        revision: 1,
        name: settings.name.clone(),
        host: settings.announce_host.clone(),
        client_port: settings.announce_ports.client,
        redirect_port: settings.announce_ports.redirect,
        weight: settings.weight,
        is_leaving: false,
        is_retiring: false,
        synced: PartitionSet::new(),
    }
}
