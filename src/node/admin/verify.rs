//! Comparing all copies of all partitions.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use serde::Deserialize;
use serde::Serialize;
use tokio::time::Instant;

use crate::cluster::membership::NodeId;
use crate::cluster::survey::Copies;
use crate::cluster::survey::Difference;
use crate::cluster::survey::PartitionDigest;
use crate::cluster::survey::compare;
use crate::cluster::survey::part_evicted;
use crate::cluster::view::Liveness;
use crate::cluster::view::View;
use crate::node::context::Context;
use crate::node::survey;
use crate::node::survey::NodeDigest;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Timestamp;

/// What expires within this time is left out: it may be gone on one side and not on the other.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// The pause between the two looks at what differs, and between two tries.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Partitions that are compared key by key at a time.
const PARTITIONS_MAX: usize = 64;
/// Differences that are named; all are counted.
const NAMED_MAX: usize = 100;
const WAIT_MS_DEFAULT: u64 = 5_000;

#[derive(Debug, Deserialize)]
pub struct Patience {
    wait_ms: Option<u64>,
}

/// What the comparison has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Nothing differs, and every copy that there should be was compared.
    is_clean: bool,
    /// Partitions with a primary.
    partitions: usize,
    /// Copies that were compared.
    copies: usize,
    /// Copies that there should be and that are not complete yet.
    copies_missing: usize,
    /// Partitions without a primary.
    partitions_without_primary: usize,
    /// Members that did not answer.
    unreachable: Vec<String>,
    /// Values in all copies together.
    values: u64,
    /// Keys that a copy lacks because its node had no memory for them.
    evicted: usize,
    /// Keys that differ.
    different: usize,
    /// Some of these.
    differences: Vec<Named>,
    /// How long it took until it was clean, or was given up.
    took_ms: u64,
}

/// A difference for people.
#[derive(Clone, Debug, Serialize)]
struct Named {
    partition: u16,
    key: String,
    /// By node: the version, or nothing.
    copies: BTreeMap<String, Option<u64>>,
}

/// Compares, again and again until nothing differs or the time is up.
pub async fn verify(
    State(context): State<Arc<Context>>,
    Query(Patience { wait_ms }): Query<Patience>,
) -> Json<Verified> {
    let start = Instant::now();
    let wait = Duration::from_millis(wait_ms.unwrap_or(WAIT_MS_DEFAULT));
    loop {
        let mut verified = look(&context).await;
        if verified.is_clean || start.elapsed() >= wait {
            verified.took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            return Json(verified);
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

async fn look(context: &Arc<Context>) -> Verified {
    let view = context.current_view();
    let at = context.clocks.wall().after(EXPIRY_MARGIN);
    let mut verified = Verified::default();
    let mut digests: BTreeMap<NodeId, NodeDigest> = BTreeMap::new();
    for member in view.members().iter().filter(|member| member.liveness != Liveness::Dead) {
        let node = member.identity.node;
        let digest = match node == view.me() {
            true => Some(survey::digest_here(context, at).await),
            false => survey::digest_there(context, node, at).await,
        };
        match digest {
            Some(digest) => drop(digests.insert(node, digest)),
            None => verified.unreachable.push(member.record.name.clone()),
        }
    }
    let differing = differing(&view, &digests, &mut verified);
    let mut first = BTreeSet::new();
    for piece in differing.chunks(PARTITIONS_MAX) {
        first.extend(compare_keys(context, &view, piece, at).await);
    }
    let again: BTreeSet<Partition> = first.iter().map(|difference| difference.partition).collect();
    let again: Vec<Partition> = again.into_iter().collect();
    if !again.is_empty() {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    let mut differences = Vec::new();
    for piece in again.chunks(PARTITIONS_MAX) {
        let second = compare_keys(context, &view, piece, at).await;
        differences.extend(second.into_iter().filter(|difference| first.contains(difference)));
    }
    let evictions = digests.iter().map(|(node, digest)| (*node, digest.evictions)).collect();
    let (real, evicted) = part_evicted(differences, &evictions);
    verified.evicted = evicted.len();
    verified.different = real.len();
    verified.differences = real.iter().take(NAMED_MAX).map(|difference| named(&view, difference)).collect();
    verified.is_clean = verified.different == 0
        && verified.copies_missing == 0
        && verified.partitions_without_primary == 0
        && verified.unreachable.is_empty();
    verified
}

/// The members that should have all of a partition, and do by their own word.
fn complete_copies(view: &View, partition: Partition) -> BTreeSet<NodeId> {
    view.complete_copies(partition).collect()
}

/// Counts copies, and returns the partitions of which they have not all the same.
fn differing(view: &View, digests: &BTreeMap<NodeId, NodeDigest>, verified: &mut Verified) -> Vec<Partition> {
    let by_partition: BTreeMap<NodeId, BTreeMap<Partition, PartitionDigest>> = digests
        .iter()
        .map(|(node, digest)| (*node, digest.digests.iter().map(|d| (d.partition, *d)).collect()))
        .collect();
    let mut differing = Vec::new();
    for partition in Partition::all() {
        match view.primary(partition) {
            Some(_) => verified.partitions += 1,
            None => verified.partitions_without_primary += 1,
        }
        let complete = complete_copies(view, partition);
        verified.copies_missing += view.wanted(partition).filter(|node| !complete.contains(node)).count();
        let mut copies = complete.iter().filter_map(|node| by_partition.get(node));
        verified.copies += copies.clone().count();
        verified.values +=
            copies.clone().filter_map(|copy| copy.get(&partition)).map(|d| d.keys).sum::<u64>();
        let Some(first) = copies.next() else { continue };
        if copies.any(|other| other.get(&partition) != first.get(&partition)) {
            differing.push(partition);
        }
    }
    differing
}

async fn compare_keys(
    context: &Arc<Context>,
    view: &View,
    partitions: &[Partition],
    at: Timestamp,
) -> BTreeSet<Difference> {
    let mut held: BTreeMap<NodeId, PartitionSet> = BTreeMap::new();
    let mut copies: BTreeMap<Partition, Copies> = BTreeMap::new();
    for partition in partitions {
        for node in complete_copies(view, *partition) {
            held.entry(node).or_default().insert(*partition);
        }
    }
    for (node, partitions) in held {
        // One that does not answer any more is missed by the next look.
        let Some(keys) = survey::all_keys(context, node, &Arc::new(partitions.clone()), at).await else {
            continue;
        };
        for partition in partitions.iter() {
            copies.entry(partition).or_default().entry(node).or_default();
        }
        for key in keys {
            let copy = copies.entry(Partition::of(&key.key.0)).or_default();
            copy.entry(node).or_default().push(key);
        }
    }
    copies.iter().flat_map(|(partition, copies)| compare(*partition, copies)).collect()
}

fn named(view: &View, difference: &Difference) -> Named {
    Named {
        partition: difference.partition.number(),
        key: difference.key.escape_ascii().to_string(),
        copies: difference
            .copies
            .iter()
            .map(|(node, copy)| (view.name_of(*node), copy.map(|(version, _)| version.as_raw())))
            .collect(),
    }
}
