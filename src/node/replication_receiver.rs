//! The replication receiver: one per link that another node has dialled to us. It applies that
//! node's stream to our shards, in order, and acknowledges it; and it answers the node's requests.

use std::sync::Arc;

use bytes::Bytes;
use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tracing::debug;
use tracing::warn;

use crate::cluster::membership::NodeId;
use crate::cluster::peer;
use crate::cluster::peer::Detour;
use crate::cluster::peer::Errand;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::peer::StreamItem;
use crate::cluster::placement::PullId;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::cluster::replication::Arrival;
use crate::command::Ack;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::node::acks::Acks;
use crate::node::cluster_wide;
use crate::node::cluster_wide::Listed;
use crate::node::cluster_wide::Size;
use crate::node::context::Context;
use crate::node::flush;
use crate::node::forwarded::Forwarded;
use crate::node::inquiry;
use crate::node::lease;
use crate::node::lease::Waited;
use crate::node::link::FrameReader;
use crate::node::link::PeerError;
use crate::node::peers::Peer;
use crate::node::placement;
use crate::node::relay;
use crate::node::shard;
use crate::node::survey;
use crate::node::survey::NodeDigest;
use crate::node::wait;
use crate::store::Blob;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Version;

/// Stream frames that may wait to be applied.
const FRAMES_WAITING_MAX: usize = 16;
/// Requests of one peer that are carried out at a time.
const REQUESTS_MAX: usize = 4_096;
/// Requests of one peer that are being passed on at a time.
const RELAYS_MAX: usize = 1_024;

/// A frame of the stream.
#[derive(Debug)]
pub struct Message {
    number: u64,
    items: Vec<StreamItem>,
    /// Given back when the frame is applied: the mailbox is bounded by its sender.
    _permit: OwnedSemaphorePermit,
}

/// The actor.
#[derive(Debug)]
pub struct ReplicationReceiver {
    /// What the parts of the node share.
    pub context: Arc<Context>,
    /// Whose stream it is.
    pub peer: Arc<Peer>,
    /// Where acknowledgements go.
    pub replies: mpsc::Sender<Bytes>,
    /// The epoch of the stream when the link came up.
    pub epoch: u64,
}

impl Actor for ReplicationReceiver {
    type Msg = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let number = message.number;
        let arrival = self.peer.source().inbound.arrived(self.epoch, number);
        match arrival {
            Arrival::Next => {
                if planted::has(Bug::AcknowledgeBeforeApplying) {
                    let _ = self.replies.send(peer::encode(&Response::Applied { number })).await;
                    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
                    if self.replies.is_closed() {
                        return Ok(());
                    }
                }
                self.apply(message.items).await?;
            }
            Arrival::Repeated => {}
            Arrival::OutOfOrder => {
                warn!(peer = %self.peer.node, number, "stream frame out of order, link closed");
                myself.stop(None);
                return Ok(());
            }
        }
        // A link that is lost meanwhile is resumed from what is applied.
        let _ = self.replies.send(peer::encode(&Response::Applied { number })).await;
        Ok(())
    }
}

impl ReplicationReceiver {
    async fn apply(&self, items: Vec<StreamItem>) -> Result<(), ActorProcessingErr> {
        let mut by_shard: Vec<Vec<StreamItem>> = vec![Vec::new(); self.context.shards.len()];
        let mut about_node = Vec::new();
        let mut versions: Vec<(Partition, Version)> = Vec::new();
        for item in items {
            let (partition, version) = match &item {
                StreamItem::Change(change) => (Partition::of(&change.key), change.version),
                StreamItem::Together(changes) => {
                    let Some(last) = changes.iter().max_by_key(|change| change.version) else { continue };
                    (Partition::of(&last.key), last.version)
                }
                StreamItem::Flushed { partition, version } => (*partition, *version),
                StreamItem::PullDone { .. } | StreamItem::HandOver(_) => {
                    about_node.push(item);
                    continue;
                }
            };
            versions.push((partition, version));
            by_shard[self.context.shard_of(partition)].push(item);
        }
        let mut waiting = Vec::new();
        for (shard, items) in self.context.shards.iter().zip(by_shard) {
            if !items.is_empty() {
                let (done, applied) = oneshot::channel();
                shard.cast(shard::Message::Apply { from: self.peer.node, items, done });
                waiting.push(applied);
            }
        }
        for applied in waiting {
            // A shard that failed lost these; its partitions are pulled again.
            let _ = applied.await;
        }
        let mut source = self.peer.source();
        versions.into_iter().for_each(|(partition, version)| source.inbound.applied(partition, version));
        drop(source);
        about_node.into_iter().for_each(|item| self.tell_placement(item));
        Ok(())
    }

    fn tell_placement(&self, item: StreamItem) {
        let node = self.peer.node;
        match item {
            StreamItem::PullDone { id, shards, partitions, up_to } => {
                let complete = self.peer.source().inbound.pulled(id, shards, &partitions, up_to);
                if let Some(complete) = complete.map(Box::new) {
                    self.context.placement.cast(placement::Message::PullDone { source: node, id, complete });
                }
            }
            StreamItem::HandOver(given) => {
                self.context
                    .placement
                    .cast(placement::Message::HandedOver { by: node, given: Box::new(given) });
            }
            StreamItem::Change(_) | StreamItem::Together(_) | StreamItem::Flushed { .. } => {}
        }
    }
}

/// Reads a link until it is lost: passes the stream on, answers the requests. The link began after so many stalls
/// of this process, and is over when `link` changes.
pub async fn serve(
    context: Arc<Context>,
    peer: Arc<Peer>,
    mut reader: FrameReader,
    (receiver, replies): (ActorRef<Message>, mpsc::Sender<Bytes>),
    (link, stalls): (watch::Receiver<u64>, u64),
) -> PeerError {
    let frames = Arc::new(Semaphore::new(FRAMES_WAITING_MAX));
    let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
    let relays = Arc::new(Semaphore::new(RELAYS_MAX));
    let here = context.current_view().me();
    loop {
        let mut request = match reader.next::<Request>().await {
            Ok(request) => request,
            Err(error) => return error,
        };
        // What has arrived before may have been sent another way since.
        if link.has_changed().unwrap_or(true) || context.pulse.stalls() > stalls {
            return PeerError::Closed;
        }
        peer.hear(context.clocks.now());
        if let Request::Relay { detour, errand } = request {
            if detour.to != here {
                let permit = Arc::clone(&relays).try_acquire_owned().ok();
                if !pass_on(&context, &peer, &replies, permit, (detour, errand), stalls).await {
                    return PeerError::Closed;
                }
                continue;
            }
            if let Some(from) = context.peers.find(detour.from) {
                from.end_link(detour.given_up);
            }
            request = errand.into_request();
        }
        match request {
            Request::Stream { number, items } => {
                let Ok(permit) = Arc::clone(&frames).acquire_owned().await else { return PeerError::Closed };
                if receiver.cast(Message { number, items, _permit: permit }).is_err() {
                    return PeerError::Closed;
                }
            }
            Request::Forward { id, codec, ack, commands } => {
                if carry_out(&context, &requests, &replies, id, (codec, ack), commands).await.is_none() {
                    return PeerError::Closed;
                }
            }
            // One for this node has given way to what it brings.
            Request::Relay { .. } => return PeerError::Unexpected,
            Request::Ping => {
                if replies.send(peer::encode(&Response::Pong)).await.is_err() {
                    return PeerError::Closed;
                }
            }
            Request::Scan { id, position, visits, expected } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let expected = expected.map(Arc::new);
                    let Listed { keys, next, is_as_expected } =
                        cluster_wide::list_here(&context, position, visits, expected.as_ref()).await;
                    let keys = keys.into_iter().map(Blob).collect();
                    let scanned = Response::Scanned { id, keys, next, is_as_expected };
                    let _ = replies.send(peer::encode(&scanned)).await;
                });
            }
            Request::Size { id } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let (Size { keys, expiring }, partitions) = cluster_wide::size_here(&context).await;
                    let sized = Response::Sized { id, keys, expiring, partitions };
                    let _ = replies.send(peer::encode(&sized)).await;
                });
            }
            Request::Choose { id } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let key = cluster_wide::any_key_here(&context).await.map(Blob);
                    let _ = replies.send(peer::encode(&Response::Chosen { id, key })).await;
                });
            }
            Request::AwaitLease { id, key } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let is_full = lease::ended_here(&context, key.0).await == Waited::Full;
                    let _ = replies.send(peer::encode(&Response::LeaseOver { id, is_full })).await;
                });
            }
            Request::Digest { id, at } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let NodeDigest { digests, evictions } = survey::digest_here(&context, at).await;
                    let _ = replies.send(peer::encode(&Response::Digested { id, digests, evictions })).await;
                });
            }
            Request::Survey { id, position, partitions, at } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let (keys, next) = survey::keys_here(&context, position, &Arc::new(partitions), at).await;
                    let _ = replies.send(peer::encode(&Response::Surveyed { id, keys, next })).await;
                });
            }
            Request::Remove { id, removals } => {
                let (done, removed) = oneshot::channel();
                context.placement.cast(placement::Message::Removed { removals, done });
                let replies = replies.clone();
                tokio::spawn(async move {
                    // Not before: whoever hears this relies on it.
                    if removed.await.is_ok() {
                        let _ = replies.send(peer::encode(&Response::Removed { id })).await;
                    }
                });
            }
            Request::Report { id, after } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let report = inquiry::report_here(&context, after).await;
                    let _ = replies.send(peer::encode(&Response::Reported { id, report })).await;
                });
            }
            Request::AwaitCopies { id, partitions, age_ms, wanted, wait_ms } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let relied = wait::copies_for(&context, partitions, age_ms, wanted, wait_ms).await;
                    let count = u32::try_from(relied.copies.count).unwrap_or(u32::MAX);
                    let holds = relied.since.map(|since| since.elapsed());
                    let holds_us =
                        holds.and_then(|holds| u64::try_from(holds.as_micros()).ok()).unwrap_or(u64::MAX);
                    let copied = Response::Copied { id, count, spread: relied.copies.spread, holds_us };
                    let _ = replies.send(peer::encode(&copied)).await;
                });
            }
            Request::Flush { id } => {
                let (context, replies) = (Arc::clone(&context), replies.clone());
                tokio::spawn(async move {
                    let partitions = flush::flush_here(&context, PartitionSet::full()).await;
                    let _ = replies.send(peer::encode(&Response::Flushed { id, partitions })).await;
                });
            }
            Request::Pull { id, wants } => pull(&context, peer.node, id, wants),
            Request::TakeOver { partitions } => {
                let by = peer.node;
                context
                    .placement
                    .cast(placement::Message::TakeOverAsked { by, partitions: Box::new(partitions) });
            }
            Request::Offer { partitions } => {
                let by = peer.node;
                context.placement.cast(placement::Message::Offered { by, partitions: Box::new(partitions) });
            }
            Request::Record(record) => context.placement.cast(placement::Message::Record(record)),
            Request::Hello(_) => return PeerError::Unexpected,
        }
    }
}

/// Passes a request of a peer on to a node that it does not reach. False: the link is lost.
async fn pass_on(
    context: &Arc<Context>,
    from: &Peer,
    replies: &mpsc::Sender<Bytes>,
    permit: Option<OwnedSemaphorePermit>,
    (detour, errand): (Detour, Errand),
    stalls: u64,
) -> bool {
    let Some(permit) = permit.filter(|_| detour.from == from.node) else {
        let refusal = Response::Unreached { id: errand.id(), may_have_run: false };
        return replies.send(peer::encode(&refusal)).await.is_ok();
    };
    let (context, replies) = (Arc::clone(context), replies.clone());
    tokio::spawn(async move {
        let response = relay::pass_on(&context, detour, errand, stalls).await;
        // Whoever asked sees its link lost if this one is.
        let _ = replies.send(peer::encode(&response)).await;
        drop(permit);
    });
    true
}

/// Carries out commands, at once if that needs no waiting. None: the link is lost.
async fn carry_out(
    context: &Arc<Context>,
    requests: &Arc<Semaphore>,
    replies: &mpsc::Sender<Bytes>,
    id: u64,
    (codec, ack): (Codec, Ack),
    commands: Arc<Vec<KeyCommand>>,
) -> Option<()> {
    let mut acks = Acks::new(ack);
    let mut forwarded = Forwarded::at_once(context, codec, &mut acks, Arc::unwrap_or_clone(commands));
    if forwarded.is_done() && acks.is_empty() {
        // A peer that reads no answers is not read from either.
        return replies.send(forwarded.answer(context, id)).await.ok();
    }
    let permit = Arc::clone(requests).acquire_owned().await.ok()?;
    let (context, replies) = (Arc::clone(context), replies.clone());
    tokio::spawn(async move {
        forwarded.carry_out_the_rest(&context, codec, &mut acks).await;
        acks.reached(&context).await;
        // Whoever asked sees its link lost if this one is.
        let _ = replies.send(forwarded.answer(&context, id)).await;
        drop(permit);
    });
    Some(())
}

fn pull(context: &Context, by: NodeId, id: PullId, wants: Vec<(Partition, Version)>) {
    debug!(peer = %by, partitions = wants.len(), "pull begins");
    let wants = Arc::new(wants);
    context.to_all_shards(|| shard::Message::Pull { by, id, wants: Arc::clone(&wants) });
}
