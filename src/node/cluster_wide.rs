//! Commands about all keys: listing and deleting them on every node, a piece at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::peer::ScanPosition;
use crate::command::Refusal;
use crate::node::context::Context;
use crate::node::shard;
use crate::node::shard::Flush;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;

/// Bytes of keys that one piece of a listing has, a single shard's step apart.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Steps of shards in one piece: a node that serves few of the keys that it stores must answer in time.
const PIECE_STEPS_MAX: usize = 64;
/// How long a piece of a listing or a flush may take.
const STEP_WAIT_MAX: Duration = Duration::from_secs(2);
/// The pause before a flush is tried again where a partition has no primary.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// Lists some of the keys that this node serves. Returns where to go on.
pub async fn list_here(context: &Context, from: ScanPosition) -> (Vec<Bytes>, Option<ScanPosition>) {
    let mut keys = Vec::new();
    let (mut bytes, mut steps) = (0, 0);
    let mut position = from;
    while let Some(shard) = context.shards.get(usize::from(position.shard)) {
        let (reply, answer) = oneshot::channel();
        shard.cast(shard::Message::List { cursor: position.cursor, reply });
        // A shard that fails meanwhile is empty afterwards.
        let (more, next) = answer.await.unwrap_or_default();
        bytes += more.iter().map(Bytes::len).sum::<usize>();
        keys.extend(more);
        position = match next {
            Some(cursor) => ScanPosition { cursor, ..position },
            None => ScanPosition { shard: position.shard + 1, cursor: ScanCursor::START },
        };
        steps += 1;
        if bytes >= PIECE_BYTES_MAX || steps >= PIECE_STEPS_MAX {
            return (keys, Some(position));
        }
    }
    (keys, None)
}

/// A listing of all keys of the cluster, node by node. Never holds more than a piece.
///
/// While nobody moves, every key that is there all the time is listed exactly once. A partition that
/// changes hands meanwhile may be listed twice, or not at all: then the listing says so at its end.
pub struct Listing {
    context: Arc<Context>,
    nodes: Vec<NodeId>,
    position: ScanPosition,
    fingerprint: u32,
    is_complete: bool,
}

impl Listing {
    /// A listing that has not begun.
    pub fn new(context: Arc<Context>) -> Self {
        let view = context.current_view();
        let primaries: BTreeSet<NodeId> = Partition::all().filter_map(|p| view.primary(p)).collect();
        let is_complete = Partition::all().all(|partition| view.primary(partition).is_some());
        Self {
            nodes: primaries.into_iter().collect(),
            position: ScanPosition::START,
            fingerprint: view.fingerprint(),
            is_complete,
            context,
        }
    }

    /// The next keys; none: that was all.
    pub async fn next(&mut self) -> Option<Vec<Bytes>> {
        let node = *self.nodes.last()?;
        let piece = match node == self.context.current_view().me() {
            true => Some(list_here(&self.context, self.position).await),
            false => self.list_there(node).await,
        };
        self.is_complete &= piece.is_some();
        let (keys, next) = piece.unwrap_or_default();
        match next {
            Some(position) => self.position = position,
            None => {
                self.nodes.pop();
                self.position = ScanPosition::START;
            }
        }
        Some(keys)
    }

    /// Whether everything was listed, as far as this node can know.
    pub fn is_complete(&self) -> bool {
        self.is_complete && self.context.current_view().fingerprint() == self.fingerprint
    }

    async fn list_there(&self, node: NodeId) -> Option<(Vec<Bytes>, Option<ScanPosition>)> {
        let link = self.context.peers.find(node)?.link()?;
        let position = self.position;
        let answer = link.ask(|id| Request::Scan { id, position });
        match timeout_at(Instant::now() + STEP_WAIT_MAX, answer).await {
            Ok(Ok(Response::Scanned { keys, next, .. })) => {
                Some((keys.into_iter().map(|key| key.0).collect(), next))
            }
            Ok(Ok(_) | Err(_)) | Err(_) => None,
        }
    }
}

/// Deletes all keys of those partitions that this node serves, and returns which these are.
pub async fn flush_here(context: &Context, partitions: PartitionSet) -> PartitionSet {
    let partitions = Arc::new(partitions);
    let mut waiting = Vec::new();
    for shard in &context.shards {
        let (reply, flushed) = oneshot::channel();
        let flush =
            Flush { partitions: Arc::clone(&partitions), next: 0, flushed: PartitionSet::new(), reply };
        shard.cast(shard::Message::Flush(flush));
        waiting.push(flushed);
    }
    let mut flushed = PartitionSet::new();
    for answer in waiting {
        // A shard that fails meanwhile is empty afterwards, but its replicas are not.
        flushed.union_with(&answer.await.unwrap_or_default());
    }
    flushed
}

/// Deletes all keys of the cluster.
///
/// # Errors
///
/// [`Refusal::NoPrimary`]: a partition had no primary for too long. The others are flushed.
pub async fn flush(context: &Arc<Context>) -> Result<(), Refusal> {
    let deadline = Instant::now() + context.settings.failover_wait_max;
    let mut rest = PartitionSet::full();
    loop {
        let view = context.current_view();
        let primaries: BTreeSet<NodeId> = rest.iter().filter_map(|p| view.primary(p)).collect();
        for node in primaries {
            let flushed = match node == view.me() {
                true => flush_here(context, rest.clone()).await,
                false => flush_there(context, node, deadline).await.unwrap_or_default(),
            };
            rest.subtract(&flushed);
        }
        let Some(partition) = rest.iter().next() else { return Ok(()) };
        if Instant::now() >= deadline {
            let waited_ms = u64::try_from(context.settings.failover_wait_max.as_millis()).unwrap_or(u64::MAX);
            return Err(Refusal::NoPrimary { partition: partition.number(), waited_ms });
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn flush_there(context: &Context, node: NodeId, deadline: Instant) -> Option<PartitionSet> {
    let link = context.peers.find(node)?.link()?;
    match timeout_at(deadline, link.ask(|id| Request::Flush { id })).await {
        Ok(Ok(Response::Flushed { partitions, .. })) => Some(partitions),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}
