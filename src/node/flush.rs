//! Deleting all keys, on every node or on this one alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::peer::Spread;
use crate::command::Ack;
use crate::command::Refusal;
use crate::node::acks;
use crate::node::context::Context;
use crate::node::redirect::Scope;
use crate::node::relay;
use crate::node::shard;
use crate::node::shard::Flush;
use crate::node::wait;
use crate::node::wait::Writes;
use crate::store::PartitionSet;

/// After that long it is looked anew who is to have what was flushed.
const SPREAD_STEP: Duration = Duration::from_millis(500);
/// The pause before a flush is tried again where a partition has no primary.
const RETRY_AFTER: Duration = Duration::from_millis(10);

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

/// Deletes all keys, and waits until they are deleted on the replicas, too, if it is acknowledged so.
///
/// # Errors
///
/// [`Refusal::NoPrimary`]: a partition had no primary for too long. The others are flushed.
pub async fn flush(context: &Arc<Context>, scope: Scope, ack: Ack) -> Result<(), Refusal> {
    let deadline = Instant::now() + acks::wait_max(context);
    loop {
        let since = Instant::now();
        let writes = Writes { partitions: flush_primaries(context, scope).await?, since };
        let spread = match ack {
            Ack::Async => return Ok(()),
            Ack::Replicated => spread(context, &writes, deadline).await,
        };
        match spread {
            // Who serves a partition only since then may not have heard of it.
            Spread::Unknown if Instant::now() < deadline => continue,
            Spread::Everywhere => acks::count(context, 1, 0),
            Spread::Partly | Spread::Unknown => acks::count(context, 0, 1),
        }
        return Ok(());
    }
}

/// Waits until all replicas that there are have what was written. Not only the first in line, as with other
/// writes: the lines of all partitions are many.
async fn spread(context: &Arc<Context>, writes: &Writes, deadline: Instant) -> Spread {
    loop {
        // Where there is no replica, all that can be waited for is the others.
        let may_be_everywhere = wait::replica_count(&context.current_view(), Scope::Cluster) > 0;
        let until = if may_be_everywhere { deadline.min(Instant::now() + SPREAD_STEP) } else { deadline };
        match wait::spread(context, writes, until).await {
            Spread::Partly if may_be_everywhere && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            known => return known,
        }
    }
}

/// Deletes all keys of all partitions, or of those that this node serves, and returns which these are.
async fn flush_primaries(context: &Arc<Context>, scope: Scope) -> Result<PartitionSet, Refusal> {
    if scope == Scope::Node {
        return Ok(flush_here(context, PartitionSet::full()).await);
    }
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
        let Some(partition) = rest.iter().next() else { return Ok(PartitionSet::full()) };
        if Instant::now() >= deadline {
            let waited_ms = u64::try_from(context.settings.failover_wait_max.as_millis()).unwrap_or(u64::MAX);
            return Err(Refusal::NoPrimary { partition: partition.number(), waited_ms });
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn flush_there(context: &Context, node: NodeId, deadline: Instant) -> Option<PartitionSet> {
    let answer = relay::ask_any_way(context, node, |id| Request::Flush { id });
    match timeout_at(deadline, answer).await {
        Ok(Ok(Response::Flushed { partitions, .. })) => Some(partitions),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}
