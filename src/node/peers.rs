//! The way to the other nodes: a sender per peer, its link while there is one, and what of its own
//! stream has been applied here.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::outgoing::Drafts;
use crate::cluster::outgoing::Encoded;
use crate::cluster::outgoing::Outgoing;
use crate::cluster::relay::Relays;
use crate::cluster::replication::Inbound;
use crate::cluster::replication::Lag;
use crate::cluster::vigil::Finding;
use crate::cluster::vigil::Patience;
use crate::node::chance;
use crate::node::context::Door;
use crate::node::link::LinkHandle;
use crate::node::replication_sender;
use crate::node::wait::Writes;
use crate::store::PartitionSet;
use crate::time::Moment;

/// Bytes that may wait for one peer, for its sender and in its stream each. (In a simulation
/// all these bounds are small, so that they are met.)
pub const QUEUE_BYTES_MAX: usize = if cfg!(feature = "sim") { 16 * 1024 } else { 64 * 1024 * 1024 };
/// Bytes that may wait for a peer before a pull by it pauses.
const PULL_BYTES_MAX: usize = if cfg!(feature = "sim") { 1024 } else { 4 * 1024 * 1024 };

/// What waits for a sender.
#[derive(Debug, Default)]
pub struct Queue {
    /// In order.
    pub drafts: Drafts,
    /// Behind them.
    pub marks: Vec<Mark>,
    /// What the drafts weigh.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: Queue,
    /// Whether the sender has been told that there is something.
    is_told: bool,
    /// Whether more came than may wait: nothing does before the sender begins a new stream.
    is_overflowing: bool,
}

/// A place in a stream.
#[derive(Debug)]
pub struct Mark {
    /// Answered when what was streamed before it is applied; dropped if that may never be known. Says since
    /// when the stream has lost nothing, or nothing that counts.
    pub reached: oneshot::Sender<Instant>,
    /// Dropped also if the stream may lack any of these.
    pub behind: Option<Arc<Writes>>,
}

/// Another node.
#[derive(Debug)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// The way to the sender of our stream to it.
    pub sender: Door<replication_sender::Message>,
    /// Our link to it, while there is one.
    link: RwLock<Option<Arc<LinkHandle>>>,
    /// The life in which we know it, and where it listens.
    identity: RwLock<Option<Identity>>,
    /// What of its stream has been applied here.
    source: Mutex<Source>,
    waiting: Mutex<Waiting>,
    /// What waits, and what the sender has taken of it and not counted yet.
    waiting_bytes: AtomicUsize,
    kept_bytes: AtomicUsize,
    kept: Mutex<Lag>,
    heard: AtomicU64,
    /// When our link to it was lost, if there was none since.
    lost: Mutex<Option<Moment>>,
    /// The number of our last link to it.
    link_number: AtomicU64,
    /// How long our link to it may be silent.
    patience: Mutex<Patience>,
    /// Who passes commands on to it while there is no link.
    relays: Mutex<Relays>,
    /// How far its clock was ahead of ours when we linked to it last, in milliseconds.
    clock_ahead_ms: AtomicI64,
    /// The number of the last link that it has made to us.
    links_made: watch::Sender<u64>,
}

/// What of a node's stream has been applied here.
#[derive(Debug, Default)]
pub struct Source {
    /// How far.
    pub inbound: Inbound,
}

impl Peer {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            sender: Door::default(),
            link: RwLock::default(),
            identity: RwLock::default(),
            source: Mutex::default(),
            waiting: Mutex::default(),
            waiting_bytes: AtomicUsize::new(0),
            kept_bytes: AtomicUsize::new(0),
            kept: Mutex::default(),
            heard: AtomicU64::new(0),
            lost: Mutex::default(),
            link_number: AtomicU64::new(0),
            patience: Mutex::default(),
            relays: Mutex::default(),
            clock_ahead_ms: AtomicI64::new(0),
            // So that no number is given in two lives of this process.
            links_made: watch::Sender::new(chance::number() >> 1),
        }
    }

    /// Our link to it, while there is one.
    pub fn link(&self) -> Option<Arc<LinkHandle>> {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The link is up, or lost. All requests on the one before fail at once.
    pub fn set_link(&self, link: Option<Arc<LinkHandle>>) {
        if let Some(link) = &link {
            self.link_number.store(link.number(), Ordering::Release);
        }
        let before = std::mem::replace(&mut *self.link.write().unwrap_or_else(PoisonError::into_inner), link);
        if let Some(before) = before {
            before.close();
        }
    }

    /// Looks at our link to it, and gives it up if it is stuck. Says since when it was silent then.
    pub fn look(&self, now: Moment, ordinary_patience: Duration) -> Option<Moment> {
        let link = self.link()?;
        let patience = lock(&self.patience).limit(now, ordinary_patience);
        let Finding::Stuck { since } = link.look(now, self.lag().items > 0, patience) else { return None };
        let mut current = self.link.write().unwrap_or_else(PoisonError::into_inner);
        // Or it has been replaced meanwhile.
        current.take_if(|current| Arc::ptr_eq(current, &link))?;
        drop(current);
        lock(&self.patience).gave_up(now);
        self.lose(since);
        link.close();
        Some(since)
    }

    /// The number of our last link to it.
    pub fn link_number(&self) -> u64 {
        self.link_number.load(Ordering::Acquire)
    }

    /// Who passes commands on to it while there is no link.
    pub fn relays(&self) -> MutexGuard<'_, Relays> {
        lock(&self.relays)
    }

    /// It has made a link to us: the link's number, and a receiver that changes when the link is to end. None: it
    /// has made another one since.
    pub fn linked(&self) -> Option<(u64, watch::Receiver<u64>)> {
        let mut number = 0;
        self.links_made.send_modify(|last| {
            *last += 1;
            number = *last;
        });
        let link = self.links_made.subscribe();
        let is_last = *link.borrow() == number;
        is_last.then_some((number, link))
    }

    /// No link of it goes on.
    pub fn end_links(&self) {
        self.links_made.send_modify(|number| *number += 1);
    }

    /// Returns when it makes a link to us.
    pub fn links(&self) -> impl Future<Output = ()> + use<> {
        let mut links = self.links_made.subscribe();
        async move {
            if links.changed().await.is_err() {
                // Nobody knows it any more.
                std::future::pending().await
            }
        }
    }

    /// The link with this number does not go on.
    pub fn end_link(&self, number: u64) {
        self.links_made.send_if_modified(|last| {
            let is_last = *last == number;
            *last += u64::from(is_last);
            is_last
        });
    }

    /// The life in which we know it.
    pub fn identity(&self) -> Option<Identity> {
        *self.identity.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is in this life from now on.
    pub fn set_identity(&self, identity: Option<Identity>) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// What of its stream has been applied here.
    pub fn source(&self) -> MutexGuard<'_, Source> {
        lock(&self.source)
    }

    /// Adds items to our stream to it, unless too much waits already: then the stream breaks. The mark is
    /// answered when all of them are applied there, and dropped if that may never be known.
    pub fn stream<'a>(&self, items: impl Iterator<Item = Encoded<'a>> + Clone, mark: Option<Mark>) {
        // Nobody to send it to yet: a stream that begins later is a gap for the peer, which pulls.
        let Some(sender) = self.sender.actor() else { return };
        let bytes = items.clone().map(|some| some.byte_count()).sum();
        let mut waiting = self.waiting();
        if waiting.is_overflowing {
            return;
        }
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes > QUEUE_BYTES_MAX {
            self.count_out(bytes + std::mem::take(&mut waiting.queue).bytes);
            waiting.is_overflowing = true;
            drop(waiting);
            self.tell_sender(&sender, || replication_sender::Message::Overflowed);
            return;
        }
        waiting.queue.bytes += bytes;
        items.for_each(|item| waiting.queue.drafts.add(item));
        waiting.queue.marks.extend(mark);
        if !std::mem::replace(&mut waiting.is_told, true) {
            drop(waiting);
            self.tell_sender(&sender, || replication_sender::Message::Waiting);
        }
    }

    /// One that has failed has a successor that may not have been told, or gets one, which begins with nothing.
    fn tell_sender(
        &self,
        sender: &ActorRef<replication_sender::Message>,
        message: impl Fn() -> replication_sender::Message,
    ) {
        if sender.cast(message()).is_err() {
            self.sender.cast(message());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }

    /// The sender takes what waits, and says when it has [counted](Peer::counted) that. It is told when
    /// there is something again.
    pub fn take_waiting(&self) -> Queue {
        let mut waiting = self.waiting();
        waiting.is_told = false;
        std::mem::take(&mut waiting.queue)
    }

    /// The sender begins a new stream: what waits was for the one before.
    pub fn drop_waiting(&self) {
        let mut waiting = self.waiting();
        waiting.is_overflowing = false;
        self.count_out(std::mem::take(&mut waiting.queue).bytes);
    }

    /// What the sender has taken is counted here, and so much is kept for the peer.
    pub fn counted(&self, bytes: usize, kept: Lag) {
        // In this order: what is taken must not seem to be gone meanwhile.
        self.kept_bytes.store(kept.bytes, Ordering::Release);
        *lock(&self.kept) = kept;
        self.count_out(bytes);
    }

    /// A sender begins, to which the way leads already: what its predecessor had is gone.
    pub fn sender_begins(&self) {
        let mut waiting = self.waiting();
        *waiting = Waiting::default();
        self.waiting_bytes.store(0, Ordering::Release);
        drop(waiting);
        self.counted(0, Lag::default());
    }

    /// Never below zero: a sender that begins meanwhile counts from there.
    fn count_out(&self, bytes: usize) {
        let less = |waiting: usize| Some(waiting.saturating_sub(bytes));
        let _ = self.waiting_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Bytes that wait for it.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Acquire) + self.kept_bytes.load(Ordering::Acquire)
    }

    /// How far it is behind, what waits for its sender not counted.
    pub fn lag(&self) -> Lag {
        *lock(&self.kept)
    }

    /// Our link to it is lost, or could not be made.
    pub fn lose(&self, now: Moment) {
        lock(&self.lost).get_or_insert(now);
    }

    /// Our link to it is up.
    pub fn is_found(&self, now: Moment, ordinary_patience: Duration) {
        lock(&self.patience).linked(now, ordinary_patience);
        *lock(&self.lost) = None;
    }

    /// When our link to it was lost, if there was none since.
    pub fn lost_at(&self) -> Option<Moment> {
        *lock(&self.lost)
    }

    /// How far its clock is ahead of ours, now that we have linked to it.
    pub fn clock_is_ahead(&self, millis: i64) {
        self.clock_ahead_ms.store(millis, Ordering::Relaxed);
    }

    /// How far its clock was ahead of ours when we linked to it last, in milliseconds.
    pub fn clock_ahead_ms(&self) -> i64 {
        self.clock_ahead_ms.load(Ordering::Relaxed)
    }

    /// Something came from it.
    pub fn hear(&self, now: Moment) {
        self.heard.fetch_max(now.as_micros(), Ordering::AcqRel);
    }

    /// When something came from it last.
    pub fn heard(&self) -> Moment {
        Moment::from_micros(self.heard.load(Ordering::Acquire))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All other nodes that were ever met.
#[derive(Debug, Default)]
pub struct Peers {
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
}

impl Peers {
    /// A node, met now if not before.
    pub fn meet(&self, node: NodeId) -> Arc<Peer> {
        if let Some(peer) = self.find(node) {
            return peer;
        }
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(peers.entry(node).or_insert_with(|| Arc::new(Peer::new(node))))
    }

    /// A node, if it was ever met.
    pub fn find(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// All that were ever met.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adds items to our streams to other nodes.
    pub fn stream(&self, out: &Outgoing) {
        out.nodes().for_each(|node| self.meet(node).stream(out.items_for(node), None));
    }

    /// As [`Peers::stream`], with a mark behind them for some nodes.
    pub fn stream_marked(&self, out: &Outgoing, mut marks: Vec<(NodeId, Mark)>) {
        for node in out.nodes() {
            let mark = marks.iter().position(|(marked, _)| *marked == node);
            self.meet(node).stream(out.items_for(node), mark.map(|place| marks.swap_remove(place).1));
        }
        // Behind what they have got already.
        marks.into_iter().for_each(|(node, mark)| self.meet(node).stream(iter::empty(), Some(mark)));
    }

    /// Whether a node that pulls can take more.
    pub fn can_take_more(&self, node: NodeId) -> bool {
        self.find(node).is_some_and(|peer| peer.waiting_bytes() < PULL_BYTES_MAX)
    }

    /// What was stored of partitions is gone.
    pub fn forget(&self, partitions: &PartitionSet) {
        self.all().iter().for_each(|peer| peer.source().inbound.forget(partitions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Version;

    #[test]
    fn nothing_waits_for_a_peer_that_has_no_sender_yet() {
        let (peers, node) = (Peers::default(), NodeId::from_raw(1));
        let mut out = Outgoing::new();
        out.push_value(node, b"key", b"value", Version::ZERO);
        peers.stream(&out);
        assert_eq!(peers.meet(node).waiting_bytes(), 0);
    }
}
