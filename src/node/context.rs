//! What the parts of a node share: settings, clocks, the view, the way to each actor, the counters.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use ractor::ActorRef;
use tokio::sync::watch;

use crate::cluster::membership::Bond;
use crate::cluster::membership::ClusterId;
use crate::cluster::removal::Removals;
use crate::cluster::view::View;
use crate::node::anew::Anew;
use crate::node::clients::Clients;
use crate::node::clock::Clocks;
use crate::node::clock::Pulse;
use crate::node::config::Tuning;
use crate::node::gossip;
use crate::node::hot::HotKeys;
use crate::node::info::Baseline;
use crate::node::journal::Journal;
use crate::node::latency::Counting;
use crate::node::latency::Latencies;
use crate::node::pace::Pace;
use crate::node::peers::Peers;
use crate::node::placement;
use crate::node::settings::Settings;
use crate::node::shard;
use crate::node::shard_door::ShardDoor;
use crate::node::slow::SlowLog;
use crate::store::Partition;
use crate::time::Timestamp;
use crate::time::Version;

/// The way to an actor, which its supervisor may replace.
#[derive(Debug)]
pub struct Door<M: ractor::Message>(RwLock<Option<ActorRef<M>>>);

impl<M: ractor::Message> Default for Door<M> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<M: ractor::Message> Door<M> {
    /// From now on messages go to this actor.
    pub fn lead_to(&self, actor: ActorRef<M>) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(actor);
    }

    /// Sends a message. It is dropped while there is no actor: whoever replaces it starts from the
    /// current state, and whoever waits for an answer sees its channel closed.
    pub fn cast(&self, message: M) {
        let _ = self.try_cast(message);
    }

    /// Sends a message. False: it was dropped, since there is no actor.
    pub fn try_cast(&self, message: M) -> bool {
        let actor = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        actor.as_ref().is_some_and(|actor| actor.cast(message).is_ok())
    }

    /// The actor, if there is one.
    pub fn actor(&self) -> Option<ActorRef<M>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// What is counted, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections_accepted: AtomicU64,
    /// Connections refused because there were too many.
    pub connections_refused: AtomicU64,
    /// Times that a cluster-aware client was told to ask another node.
    pub redirected: AtomicU64,
    /// Commands that clients sent to this node.
    pub commands: AtomicU64,
    /// Commands sent on to another node.
    pub forwarded: AtomicU64,
    /// Of these, commands that a third node passes on, since there is no link to who serves them.
    pub relayed: AtomicU64,
    /// Commands that wait for a primary to be replaced.
    pub waiting: AtomicUsize,
    /// Callers that wait for the holder of a lease.
    pub lease_waiters: AtomicUsize,
    /// Commands that waited in vain.
    pub unserved: AtomicU64,
    /// Partitions that this node promoted itself for.
    pub promotions: AtomicU64,
    /// Partitions that were taken because all their copies were gone.
    pub partitions_lost: AtomicU64,
    /// Partitions of which a full copy was made here.
    pub partitions_synced: AtomicU64,
    /// Partitions that others handed over to this node.
    pub partitions_moved_here: AtomicU64,
    /// Partitions that this node handed over to others.
    pub partitions_moved_away: AtomicU64,
    /// Times that the process stood still.
    pub stalls: AtomicU64,
    /// Streams dropped because their queue was full.
    pub streams_dropped: AtomicU64,
    /// Pulls that the shards answer just now, each counted by each shard.
    pub pulls_answering: AtomicUsize,
    /// Whether this node lacks something that others have, as far as it knows.
    pub healing: AtomicBool,
    /// Writes that a replica had before they were acknowledged.
    pub replicated: AtomicU64,
    /// Writes that it should have had, and had not.
    pub unreplicated: AtomicU64,
    /// When that was logged last, in microseconds of the node's clock.
    pub unreplicated_logged: AtomicU64,
    /// The latest version of a delete whose tombstone went before its time.
    pub forgotten: AtomicU64,
    /// Shards started again after a failure.
    pub shards_restarted: AtomicU64,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A shard has dropped tombstones of deletes up to this version before their time.
    pub fn forget(&self, version: Version) {
        self.forgotten.fetch_max(version.as_raw(), Ordering::Relaxed);
    }
}

/// What the parts of a node share.
#[derive(Debug)]
pub struct Context {
    /// As checked at the start.
    pub settings: Settings,
    /// The cluster that the node belongs to.
    pub cluster: ClusterId,
    /// Where time is read.
    pub clocks: Clocks,
    /// When the process began: it gives no version before that, even if the clock jumps back.
    pub since: Timestamp,
    /// Whether the process has stood still.
    pub pulse: Pulse,
    /// The present view.
    pub view: watch::Sender<Arc<View>>,
    /// The way to each shard.
    pub shards: Vec<ShardDoor>,
    /// The other nodes.
    pub peers: Peers,
    /// The way to the placement actor.
    pub placement: Door<placement::Message>,
    /// The way to the gossip actor.
    pub gossip: Door<gossip::Message>,
    /// What is counted.
    pub counters: Counters,
    /// The client connections.
    pub clients: Clients,
    /// How long commands take.
    pub latencies: Latencies,
    /// How long it took to replace lost primaries.
    pub failovers: Counting,
    /// What has happened.
    pub journal: Journal,
    /// What took long.
    pub slow_log: SlowLog,
    /// The keys that are asked for most.
    pub hot_keys: HotKeys,
    /// The node has joined, and has had everything once that it is to have.
    pub is_ready: watch::Sender<bool>,
    /// From what INFO counts.
    pub baseline: Baseline,
    /// What a client may change while the node runs.
    pub tuning: Tuning,
    /// True when a client has asked for the end of the node.
    pub shutdown: watch::Sender<bool>,
    /// Says which connections have to end, see [`Context::hang_up`].
    pub hang_up: watch::Sender<HangUp>,
    /// The latest version that this node knows of anybody to have given.
    pub latest: AtomicU64,
    /// The pace of transfers from this node.
    pub pace: Pace,
    /// What binds this node to the others.
    pub bond: RwLock<Bond>,
    /// Nodes that are no members any more.
    pub removals: RwLock<Removals>,
    /// Why the node is to end, once it is.
    pub ending: watch::Sender<Option<Ending>>,
    /// Where the node is reached once it listens.
    pub addresses: OnceLock<crate::node::Addresses>,
}

/// Why a node ends that has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has left the cluster for good: it only has to say good-bye.
    Left,
    /// All nodes that it could join through have clocks that are too far from its own.
    ClockOff,
    /// The others have removed it: it has nobody to hand anything to.
    Removed,
    /// It was apart from the others for too long: it has to start again, without what it has.
    Away(Anew),
}

/// Why connections have to end. They know how many stalls of the process there were when they began:
/// see [`Context::stalls_before`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HangUp {
    /// So often has this changed: who has seen the last change knows it by its number.
    pub changes: u64,
    /// So many times has the process stood still. Links that peers made before the last one end at
    /// once: each peer links again, and so says whether it has given us up.
    pub stalls: u64,
    /// Clients that were connected before this stall end at once: others have served in our place since.
    pub replaced: u64,
    /// Client connections end once what they have sent is answered.
    pub is_stopping: bool,
}

impl Context {
    /// What binds this node to the others.
    pub fn bond(&self) -> Bond {
        self.bond.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nodes that are no members any more.
    pub fn removals(&self) -> RwLockReadGuard<'_, Removals> {
        self.removals.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node is to end. The first reason counts.
    pub fn end(&self, ending: Ending) -> bool {
        self.ending.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(ending);
            is_first
        })
    }

    /// The present view.
    pub fn current_view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// How many stalls of the process there were before a connection that begins now. During one that
    /// nobody has noticed yet it waits: what begins when a process wakes up is not from before.
    pub async fn stalls_before(&self) -> u64 {
        let mut hang_up = self.hang_up.subscribe();
        while self.pulse.is_overdue(self.clocks.now()) {
            // The sender lives as long as this does.
            let _ = hang_up.changed().await;
        }
        self.pulse.stalls()
    }

    /// Somebody has given this version.
    pub fn observe(&self, version: Version) {
        self.latest.fetch_max(version.as_raw(), Ordering::AcqRel);
    }

    /// At or after all that this node knows to have been written until now.
    pub fn version_now(&self) -> Version {
        let latest = Version::from_raw(self.latest.load(Ordering::Acquire));
        latest.max(Version::last_of(self.clocks.wall()))
    }

    /// The number of the shard that has a partition.
    pub fn shard_of(&self, partition: Partition) -> usize {
        usize::from(partition.number()) % self.shards.len()
    }

    /// Says which connections have to end.
    pub fn hang_up(&self, change: impl FnOnce(&mut HangUp)) {
        self.hang_up.send_modify(|hang_up| {
            hang_up.changes += 1;
            change(hang_up);
        });
    }

    /// Sends a message to every shard.
    pub fn to_all_shards(&self, message: impl Fn() -> shard::Message) {
        self.shards.iter().for_each(|shard| shard.cast(message()));
    }
}
