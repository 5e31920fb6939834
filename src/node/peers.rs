//! The way to the other nodes: a sender per peer, its link while there is one, and what of its own
//! stream has been applied here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::peer::StreamItem;
use crate::cluster::relay::Relays;
use crate::cluster::replication::Inbound;
use crate::cluster::replication::Lag;
use crate::cluster::serving::Outgoing;
use crate::cluster::vigil::Finding;
use crate::cluster::vigil::Patience;
use crate::node::chance;
use crate::node::context::Door;
use crate::node::link::LinkHandle;
use crate::node::replication_sender;
use crate::node::wait::Writes;
use crate::store::PartitionSet;
use crate::time::Moment;

/// Bytes that may wait for one peer, in the sender's mailbox and in its stream each. (In a simulation
/// all these bounds are small, so that they are met.)
pub const QUEUE_BYTES_MAX: usize = if cfg!(feature = "sim") { 16 * 1024 } else { 64 * 1024 * 1024 };
/// Bytes that may wait for a peer before a pull by it pauses.
const PULL_BYTES_MAX: usize = if cfg!(feature = "sim") { 1024 } else { 4 * 1024 * 1024 };
/// What an item weighs beyond its key and value.
const ITEM_BYTES: usize = 64;

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
    mailbox_bytes: AtomicUsize,
    kept_bytes: AtomicUsize,
    kept: Mutex<Lag>,
    is_overflowing: AtomicBool,
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
            mailbox_bytes: AtomicUsize::new(0),
            kept_bytes: AtomicUsize::new(0),
            kept: Mutex::default(),
            is_overflowing: AtomicBool::new(false),
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
    pub fn stream(&self, items: Vec<StreamItem>, mark: Option<Mark>) {
        // Nobody to send it to yet: a stream that begins later is a gap for the peer, which pulls.
        let Some(sender) = self.sender.actor() else { return };
        let bytes = items.iter().map(item_bytes).sum();
        let before = self.mailbox_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes <= QUEUE_BYTES_MAX {
            if sender.cast(replication_sender::Message::Items { items, bytes, mark }).is_err() {
                self.leave_mailbox(bytes);
            }
            return;
        }
        self.leave_mailbox(bytes);
        if !self.is_overflowing.swap(true, Ordering::AcqRel) {
            // If it has failed, its successor begins a new stream anyway.
            let _ = sender.cast(replication_sender::Message::Overflowed);
        }
    }

    /// The sender has taken items out of its mailbox, and keeps that much for the peer.
    pub fn taken(&self, bytes: usize, kept: Lag) {
        // In this order: what is taken out must not seem to be gone meanwhile.
        self.kept_bytes.store(kept.bytes, Ordering::Release);
        *lock(&self.kept) = kept;
        self.leave_mailbox(bytes);
    }

    /// A sender begins, with an empty mailbox: what its predecessor had is gone.
    pub fn sender_begins(&self) {
        self.mailbox_bytes.store(0, Ordering::Release);
        self.taken(0, Lag::default());
        self.overflow_handled();
    }

    /// Never below zero: a sender that begins meanwhile counts from there.
    fn leave_mailbox(&self, bytes: usize) {
        let less = |waiting: usize| Some(waiting.saturating_sub(bytes));
        let _ = self.mailbox_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// The sender has made a new stream after an overflow.
    pub fn overflow_handled(&self) {
        self.is_overflowing.store(false, Ordering::Release);
    }

    /// Bytes that wait for it.
    pub fn waiting_bytes(&self) -> usize {
        self.mailbox_bytes.load(Ordering::Acquire) + self.kept_bytes.load(Ordering::Acquire)
    }

    /// How far it is behind, what waits in the mailbox of its sender not counted.
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

fn item_bytes(item: &StreamItem) -> usize {
    ITEM_BYTES
        + match item {
            StreamItem::Change(_) | StreamItem::Together(_) | StreamItem::Flushed { .. } => item.bytes(),
            StreamItem::PullDone { .. } | StreamItem::HandOver(_) => size_of::<[u64; 64]>(),
        }
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
    pub fn stream(&self, out: Outgoing) {
        self.stream_marked(out, Vec::new());
    }

    /// As [`Peers::stream`], with a mark behind them for some nodes.
    pub fn stream_marked(&self, out: Outgoing, marks: Vec<(NodeId, Mark)>) {
        let mut by_node: Vec<(NodeId, Vec<StreamItem>)> = Vec::new();
        for (node, item) in out {
            match by_node.iter_mut().find(|(known, _)| *known == node) {
                Some((_, items)) => items.push(item),
                None => by_node.push((node, vec![item])),
            }
        }
        let mut marks = marks;
        for (node, items) in by_node {
            let mark = marks.iter().position(|(marked, _)| *marked == node);
            self.meet(node).stream(items, mark.map(|place| marks.swap_remove(place).1));
        }
        // Behind what they have got already.
        marks.into_iter().for_each(|(node, mark)| self.meet(node).stream(Vec::new(), Some(mark)));
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
    use crate::store::Partition;
    use crate::time::Version;

    #[test]
    fn nothing_waits_for_a_peer_that_has_no_sender_yet() {
        let peers = Peers::default();
        let peer = peers.meet(NodeId::from_raw(1));
        let partition = Partition::new(0).unwrap();
        peer.stream(vec![StreamItem::Flushed { partition, version: Version::ZERO }], None);
        assert_eq!(peer.waiting_bytes(), 0);
    }
}
