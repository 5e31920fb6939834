//! What this node and others hold, for whoever compares copies.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::peer::ScanPosition;
use crate::cluster::survey::Digests;
use crate::cluster::survey::PartitionDigest;
use crate::cluster::survey::SurveyedKey;
use crate::node::context::Context;
use crate::node::report;
use crate::node::shard;
use crate::store::PartitionSet;
use crate::store::ScanCursor;
use crate::time::Timestamp;

/// How long another node may take for all its digests.
const DIGEST_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long it may take for some keys.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of keys, and of what goes with each, in one piece of an answer; a step of a shard may come on top.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Bytes that go with a key.
const KEY_BYTES: usize = 24;

/// The digests of a node's partitions, and how many values it has evicted since its start.
#[derive(Clone, Debug, Default)]
pub struct NodeDigest {
    /// Partitions without a value are left out.
    pub digests: Vec<PartitionDigest>,
    /// Values dropped to make room.
    pub evictions: u64,
}

/// The digests of all that is stored here.
pub async fn digest_here(context: &Context, at: Timestamp) -> NodeDigest {
    let mut digests = Digests::default();
    for shard in &context.shards {
        let mut next = Some(ScanCursor::START);
        while let Some(cursor) = next {
            let (reply, answer) = oneshot::channel();
            shard.cast(shard::Message::Digest { cursor, at, reply });
            // A shard that fails meanwhile is empty afterwards.
            let found;
            (found, next) = answer.await.unwrap_or_default();
            digests.join(found);
        }
    }
    let evictions = report::store_figures(context).await.0.evictions;
    NodeDigest { digests: digests.into_list(), evictions }
}

/// The digests of all that another node stores; none: it does not answer.
pub async fn digest_there(context: &Context, node: NodeId, at: Timestamp) -> Option<NodeDigest> {
    let link = context.peers.find(node)?.link()?;
    match timeout(DIGEST_WAIT_MAX, link.ask(|id| Request::Digest { id, at })).await {
        Ok(Ok(Response::Digested { digests, evictions, .. })) => Some(NodeDigest { digests, evictions }),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}

/// Some of the keys that are stored here of partitions, and where to go on.
pub async fn keys_here(
    context: &Context,
    from: ScanPosition,
    partitions: &Arc<PartitionSet>,
    at: Timestamp,
) -> (Vec<SurveyedKey>, Option<ScanPosition>) {
    let (mut keys, mut bytes, mut position) = (Vec::new(), 0, from);
    while let Some(shard) = context.shards.get(usize::from(position.shard)) {
        let (cursor, partitions) = (position.cursor, Arc::clone(partitions));
        let (reply, answer) = oneshot::channel();
        shard.cast(shard::Message::Survey { cursor, partitions, at, reply });
        // As above.
        let (found, next) = answer.await.unwrap_or_default();
        bytes += found.iter().map(|found| found.key.0.len() + KEY_BYTES).sum::<usize>();
        keys.extend(found);
        position = match next {
            Some(cursor) => ScanPosition { cursor, ..position },
            None => ScanPosition { shard: position.shard + 1, cursor: ScanCursor::START },
        };
        if bytes >= PIECE_BYTES_MAX {
            return (keys, Some(position));
        }
    }
    (keys, None)
}

/// All keys that a node stores of partitions; none: it does not answer.
pub async fn all_keys(
    context: &Context,
    node: NodeId,
    partitions: &Arc<PartitionSet>,
    at: Timestamp,
) -> Option<Vec<SurveyedKey>> {
    let is_me = node == context.current_view().me();
    let (mut keys, mut next) = (Vec::new(), Some(ScanPosition::START));
    while let Some(position) = next {
        let found;
        (found, next) = match is_me {
            true => keys_here(context, position, partitions, at).await,
            false => keys_there(context, node, position, partitions, at).await?,
        };
        keys.extend(found);
    }
    Some(keys)
}

async fn keys_there(
    context: &Context,
    node: NodeId,
    position: ScanPosition,
    partitions: &PartitionSet,
    at: Timestamp,
) -> Option<(Vec<SurveyedKey>, Option<ScanPosition>)> {
    let link = context.peers.find(node)?.link()?;
    let partitions = partitions.clone();
    let answer = link.ask(|id| Request::Survey { id, position, partitions, at });
    match timeout(PIECE_WAIT_MAX, answer).await {
        Ok(Ok(Response::Surveyed { keys, next, .. })) => Some((keys, next)),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}
