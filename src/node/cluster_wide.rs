//! Commands about all keys: listing and counting them on every node, a piece at a time, or on this one
//! alone where that is the scope.

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
use crate::cluster::view::View;
use crate::command::Refusal;
use crate::command::matches;
use crate::node::chance;
use crate::node::context::Context;
use crate::node::redirect::Scope;
use crate::node::relay;
use crate::node::report;
use crate::node::shard;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::store::ScanCursor;

/// Bytes of keys that one piece of a listing has, a single shard's step apart.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Steps of shards in one piece: a node that serves few of the keys that it stores must answer in time.
const PIECE_STEPS_MAX: usize = 64;
/// How long a piece of a listing may take.
const STEP_WAIT_MAX: Duration = Duration::from_secs(2);
/// The pause before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// Some of the keys that a node serves.
pub type Listed = shard::Listed<ScanPosition>;

/// Lists some of the keys that this node serves.
///
/// Looks at about as many slots as said, otherwise at as many as fit a piece.
pub async fn list_here(
    context: &Context,
    from: ScanPosition,
    visits: Option<u32>,
    expected: Option<&Arc<PartitionSet>>,
) -> Listed {
    let (mut keys, mut is_as_expected) = (Vec::new(), true);
    let (mut bytes, mut steps) = (0, 0);
    let mut position = from;
    let mut visits_left = visits.map_or(usize::MAX, |visits| visits as usize);
    while let Some(shard) = context.shards.get(usize::from(position.shard)) {
        let (reply, answer) = oneshot::channel();
        let (cursor, visits_max, expected) = (position.cursor, visits_left, expected.cloned());
        shard.cast(shard::Message::List { cursor, visits_max, expected, reply });
        // A shard that fails meanwhile is empty afterwards.
        let shard::Listed { keys: more, next, is_as_expected: is_step } = answer.await.unwrap_or_default();
        is_as_expected &= is_step;
        bytes += more.iter().map(Bytes::len).sum::<usize>();
        // A shard that is at its end may have had less to look at, or have rounded a few more up.
        visits_left = match next {
            _ if visits.is_none() => visits_left,
            Some(_) => 0,
            None => visits_left.saturating_sub(more.len()),
        };
        keys.extend(more);
        position = match next {
            Some(cursor) => ScanPosition { cursor, ..position },
            None => ScanPosition { shard: position.shard + 1, cursor: ScanCursor::START },
        };
        steps += 1;
        if bytes >= PIECE_BYTES_MAX || steps >= PIECE_STEPS_MAX || visits_left == 0 {
            return Listed { keys, next: Some(position), is_as_expected };
        }
    }
    Listed { keys, next: None, is_as_expected }
}

/// The nodes that have what is asked for.
fn nodes_in(scope: Scope, view: &View) -> BTreeSet<NodeId> {
    match scope {
        Scope::Cluster => Partition::all().filter_map(|partition| view.primary(partition)).collect(),
        Scope::Node => BTreeSet::from([view.me()]),
    }
}

/// A listing of all keys, node by node. Never holds more than a piece.
///
/// While nobody moves, every key that is there all the time is listed exactly once. A partition that
/// changes hands meanwhile may be listed twice, or not at all: then the listing says so at its end.
pub struct Listing {
    context: Arc<Context>,
    /// Each with what it serves, as this node sees it, where all has to be listed.
    nodes: Vec<(NodeId, Option<Arc<PartitionSet>>)>,
    position: ScanPosition,
    fingerprint: u32,
    is_complete: bool,
}

impl Listing {
    /// A listing that has not begun.
    pub fn new(context: Arc<Context>, scope: Scope) -> Self {
        let view = context.current_view();
        let is_complete =
            scope == Scope::Node || Partition::all().all(|partition| view.primary(partition).is_some());
        let expected = |node| (scope == Scope::Cluster).then(|| Arc::new(view.primaries_of(node)));
        Self {
            nodes: nodes_in(scope, &view).into_iter().map(|node| (node, expected(node))).collect(),
            position: ScanPosition::START,
            fingerprint: view.fingerprint(),
            is_complete,
            context,
        }
    }

    /// The next keys; none: that was all.
    pub async fn next(&mut self) -> Option<Vec<Bytes>> {
        let (node, expected) = self.nodes.last()?;
        let piece = match *node == self.context.current_view().me() {
            true => Some(list_here(&self.context, self.position, None, expected.as_ref()).await),
            false => list_there(&self.context, *node, self.position, None, expected.as_ref()).await,
        };
        let Listed { keys, next, is_as_expected } = piece.unwrap_or_default();
        // Another node may not have seen yet that it serves what somebody else did.
        self.is_complete &= is_as_expected;
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
}

async fn list_there(
    context: &Context,
    node: NodeId,
    position: ScanPosition,
    visits: Option<u32>,
    expected: Option<&Arc<PartitionSet>>,
) -> Option<Listed> {
    let expected = expected.map(|expected| PartitionSet::clone(expected));
    let request = |id| Request::Scan { id, position, visits, expected: expected.clone() };
    let answer = relay::ask_any_way(context, node, request);
    match timeout_at(Instant::now() + STEP_WAIT_MAX, answer).await {
        Ok(Ok(Response::Scanned { keys, next, is_as_expected, .. })) => {
            let keys = keys.into_iter().map(|key| key.0).collect();
            Some(Listed { keys, next, is_as_expected })
        }
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}

/// All keys that match a pattern. While the ring changes it is tried again.
///
/// # Errors
///
/// [`Refusal::Incomplete`]: the ring kept changing for too long.
pub async fn keys(
    context: &Arc<Context>,
    scope: Scope,
    pattern: Option<&[u8]>,
) -> Result<Vec<Bytes>, Refusal> {
    let deadline = Instant::now() + context.settings.failover_wait_max;
    loop {
        let mut listing = Listing::new(Arc::clone(context), scope);
        let mut found = Vec::new();
        let mut count = 0;
        while let Some(keys) = listing.next().await {
            count += keys.len() as u64;
            found.extend(keys.into_iter().filter(|key| pattern.is_none_or(|pattern| matches(pattern, key))));
        }
        if listing.is_complete() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Refusal::Incomplete { count });
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Some keys, after looking at about `count`, and where to go on; zero: that was all.
///
/// While nobody moves, every key that is there all the time is listed once. A node that has gone since
/// is passed over: its keys have moved to others.
///
/// # Errors
///
/// [`Refusal::Incomplete`]: the node that comes next could not be reached for too long.
pub async fn scan(
    context: &Arc<Context>,
    scope: Scope,
    cursor: u64,
    count: usize,
) -> Result<(u64, Vec<Bytes>), Refusal> {
    let deadline = Instant::now() + context.settings.failover_wait_max;
    let mut at = ClusterCursor::from_raw(cursor);
    let mut found = Vec::new();
    loop {
        let view = context.current_view();
        let Some((tag, node)) = tags(nodes_in(scope, &view)).into_iter().find(|(tag, _)| *tag >= at.tag)
        else {
            return Ok((0, found));
        };
        if tag > at.tag {
            at = ClusterCursor { tag, position: ScanPosition::START };
        }
        let visits = Some(u32::try_from(count.saturating_sub(found.len())).unwrap_or(u32::MAX));
        let piece = match node == view.me() {
            true => Some(list_here(context, at.position, visits, None).await),
            false => list_there(context, node, at.position, visits, None).await,
        };
        match piece {
            Some(Listed { keys, next, .. }) => {
                found.extend(keys);
                at = match next {
                    Some(position) => ClusterCursor { position, ..at },
                    None => ClusterCursor { tag: tag + 1, position: ScanPosition::START },
                };
                if next.is_some() || found.len() >= count {
                    return Ok((at.as_raw(), found));
                }
            }
            None if Instant::now() >= deadline => {
                return Err(Refusal::Incomplete { count: found.len() as u64 });
            }
            None => tokio::time::sleep(RETRY_AFTER).await,
        }
    }
}

/// How far a scan of the cluster has come: on which node, and where there. As a number: 24 bits of the
/// node, 7 of the shard, 32 of the slot, so that signed numbers of 64 bits hold it too. It comes from a
/// client: any number is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClusterCursor {
    tag: u32,
    position: ScanPosition,
}

/// Bits of a node's name that its tag is made of; one bit more leaves room to tell equal ones apart.
const NAME_BITS: u32 = 23;
const SHARD_BITS: u32 = 7;
const SLOT_BITS: u32 = 32;

impl ClusterCursor {
    fn from_raw(raw: u64) -> Self {
        let bits = |from: u32, count: u32| (raw >> from) & ((1 << count) - 1);
        Self {
            tag: bits(SLOT_BITS + SHARD_BITS, NAME_BITS + 2) as u32,
            position: ScanPosition {
                shard: bits(SLOT_BITS, SHARD_BITS) as u16,
                cursor: ScanCursor::from_raw(bits(0, SLOT_BITS) as u32),
            },
        }
    }

    fn as_raw(self) -> u64 {
        let shard = u64::from(self.position.shard) << SLOT_BITS;
        u64::from(self.tag) << (SLOT_BITS + SHARD_BITS) | shard | u64::from(self.position.cursor.as_raw())
    }
}

/// A number of its own for each node, in rising order and above zero, which hardly depends on which
/// other nodes there are.
fn tags(nodes: impl IntoIterator<Item = NodeId>) -> Vec<(u32, NodeId)> {
    let mut tags: Vec<(u32, NodeId)> =
        nodes.into_iter().map(|node| ((node.as_raw() >> (64 - NAME_BITS)) as u32 + 1, node)).collect();
    tags.sort_unstable();
    let mut last = 0;
    for (tag, _) in &mut tags {
        *tag = (*tag).max(last + 1);
        last = *tag;
    }
    tags
}

/// Keys that are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many.
    pub keys: u64,
    /// How many of them expire.
    pub expiring: u64,
}

/// How many keys this node serves, and of which partitions.
pub async fn size_here(context: &Context) -> (Size, PartitionSet) {
    let served = report::store_figures(context).await.1;
    (Size { keys: served.keys as u64, expiring: served.expiring as u64 }, served.partitions)
}

/// How many keys there are. While a node cannot be reached, or does not serve what it should, it is tried
/// again.
///
/// # Errors
///
/// [`Refusal::Incomplete`]: a node could not be reached for too long.
pub async fn size(context: &Arc<Context>, scope: Scope) -> Result<Size, Refusal> {
    let sizes = sizes(context, scope).await?;
    Ok(sizes.iter().fold(Size::default(), |sum, (_, size)| Size {
        keys: sum.keys + size.keys,
        expiring: sum.expiring + size.expiring,
    }))
}

/// As above, by node.
async fn sizes(context: &Arc<Context>, scope: Scope) -> Result<Vec<(NodeId, Size)>, Refusal> {
    let deadline = Instant::now() + context.settings.failover_wait_max;
    loop {
        let view = context.current_view();
        let (mut sizes, mut is_complete) = (Vec::new(), true);
        for node in nodes_in(scope, &view) {
            let size = match node == view.me() {
                true => Some(size_here(context).await),
                false => size_there(context, node).await,
            };
            let Some((size, partitions)) = size else {
                is_complete = false;
                continue;
            };
            sizes.push((node, size));
            is_complete &= scope == Scope::Node || partitions == view.primaries_of(node);
        }
        if is_complete {
            return Ok(sizes);
        }
        if Instant::now() >= deadline {
            return Err(Refusal::Incomplete { count: sizes.iter().map(|(_, size)| size.keys).sum() });
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn size_there(context: &Context, node: NodeId) -> Option<(Size, PartitionSet)> {
    let answer = relay::ask_any_way(context, node, |id| Request::Size { id });
    match timeout_at(Instant::now() + STEP_WAIT_MAX, answer).await {
        Ok(Ok(Response::Sized { keys, expiring, partitions, .. })) => {
            Some((Size { keys, expiring }, partitions))
        }
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}

/// One of the keys that this node serves; none: there are none, or hardly any that have not expired.
pub async fn any_key_here(context: &Context) -> Option<Bytes> {
    let mut found = Vec::new();
    for shard in &context.shards {
        let (reply, answer) = oneshot::channel();
        shard.cast(shard::Message::Choose { random: chance::number(), reply });
        // A shard that fails meanwhile is empty afterwards.
        found.extend(answer.await.ok().flatten());
    }
    chosen(found)
}

/// One of several, each with its weight.
fn chosen<T>(weighted: Vec<(T, u64)>) -> Option<T> {
    let sum = weighted.iter().map(|(_, weight)| weight).sum();
    let mut skipped = chance::number().checked_rem(sum)?;
    let is_it = |(_, weight): &(T, u64)| match skipped.checked_sub(*weight) {
        Some(rest) => {
            skipped = rest;
            false
        }
        None => true,
    };
    weighted.into_iter().find(is_it).map(|(item, _)| item)
}

/// Any key, each as likely as another; none: there is none, or hardly any that has not
/// expired.
///
/// # Errors
///
/// [`Refusal::Incomplete`]: a node could not be reached for too long.
pub async fn any_key(context: &Arc<Context>, scope: Scope) -> Result<Option<Bytes>, Refusal> {
    let mut sizes = sizes(context, scope).await?;
    // Another node where what one has is all expired.
    loop {
        let weighted = sizes.iter().map(|(node, size)| (*node, size.keys)).collect();
        let Some(node) = chosen(weighted) else { return Ok(None) };
        let key = match node == context.current_view().me() {
            true => any_key_here(context).await,
            false => any_key_there(context, node).await,
        };
        match key {
            Some(key) => return Ok(Some(key)),
            None => sizes.retain(|(tried, _)| *tried != node),
        }
    }
}

async fn any_key_there(context: &Context, node: NodeId) -> Option<Bytes> {
    let answer = relay::ask_any_way(context, node, |id| Request::Choose { id });
    match timeout_at(Instant::now() + STEP_WAIT_MAX, answer).await {
        Ok(Ok(Response::Chosen { key, .. })) => key.map(|key| key.0),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_said_and_any_other_number_is_safe() {
        let position = ScanPosition { shard: 63, cursor: ScanCursor::from_raw(u32::MAX) };
        let cursor = ClusterCursor { tag: 1 << NAME_BITS, position };
        assert_eq!(ClusterCursor::from_raw(cursor.as_raw()), cursor);
        assert!(i64::try_from(cursor.as_raw()).is_ok());
        assert_eq!(ClusterCursor::from_raw(0), ClusterCursor { tag: 0, position: ScanPosition::START });
        // Beyond all nodes.
        assert!(ClusterCursor::from_raw(u64::MAX).tag > 1 << NAME_BITS);
    }

    #[test]
    fn what_weighs_nothing_is_never_chosen_and_all_else_is() {
        assert_eq!(chosen::<u8>(Vec::new()), None);
        assert_eq!(chosen(vec![('a', 0)]), None);
        let chosen: BTreeSet<char> =
            (0..200).filter_map(|_| chosen(vec![('a', 1), ('b', 0), ('c', 2)])).collect();
        assert_eq!(chosen, BTreeSet::from(['a', 'c']));
    }

    #[test]
    fn nodes_have_tags_of_their_own_even_if_their_names_begin_alike() {
        let nodes = [7, 5, u64::MAX, u64::MAX - 1].map(NodeId::from_raw);
        let tagged = tags(nodes);
        assert_eq!(tagged.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [1, 2, 1 << 23, (1 << 23) + 1]);
        assert_eq!(tags([nodes[0]]), [(1, nodes[0])]);
    }
}
