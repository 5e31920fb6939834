//! What a node says about the cluster and about itself: the lines of NODES, RING and STATS.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::cluster::membership::MembershipStats;
use crate::cluster::replication::Lag;
use crate::cluster::ring::NodeIndex;
use crate::cluster::serving::Served;
use crate::cluster::view::Liveness;
use crate::cluster::view::Member;
use crate::cluster::view::View;
use crate::node::context::Context;
use crate::node::gossip;
use crate::node::shard;
use crate::store::Partition;
use crate::store::ShardStats;

/// One line per member: its name, state, addresses and roles. The words after the state are
/// `name=value`; the node that answers comes first.
pub fn nodes(view: &View) -> Vec<String> {
    let mut members: Vec<&Member> = view.members().iter().collect();
    members.sort_by_key(|member| (member.identity.node != view.me(), member.record.name.clone()));
    members.into_iter().map(|member| node(view, member)).collect()
}

/// The state of a member, for people.
pub fn state_of(member: &Member) -> &'static str {
    match member.liveness {
        Liveness::Alive if member.record.is_leaving => "leaving",
        state => state.name(),
    }
}

fn node(view: &View, member: &Member) -> String {
    let record = &member.record;
    let state = state_of(member);
    let is_up = member.liveness != Liveness::Dead;
    let primaries = view.primaries_of(member.identity.node).len();
    format!(
        "{} {state} client={} peer={} id={} generation={} primaries={primaries} replicas={} missing={} view={:08x}{}",
        record.name,
        record.client_address(),
        member.identity.addr,
        member.identity.node,
        member.identity.generation,
        if is_up { view.replica_count_of(member.identity.node) } else { 0 },
        view.missing_count_of(member.identity.node),
        view.fingerprint(),
        if member.identity.node == view.me() { " me" } else { "" },
    )
}

/// One line per run of partitions with the same holders, in ring order.
pub fn ring(view: &View) -> Vec<String> {
    let name = |index: &NodeIndex| view.members()[usize::from(*index)].record.name.clone();
    let line = |arc: crate::cluster::view::RingArc| {
        let replicas: Vec<String> = arc.replicas.iter().map(name).collect();
        let primary = arc.primary.as_ref().map_or_else(|| "-".to_owned(), name);
        let replicas = if replicas.is_empty() { "-".to_owned() } else { replicas.join(",") };
        format!("{}-{} primary={primary} replicas={replicas}", arc.first, arc.last)
    };
    view.arcs().into_iter().map(line).collect()
}

/// One figure per line: its name and its value.
pub async fn stats(context: &Context) -> Vec<String> {
    let (shards, keys) = store_figures(context).await;
    let (reply, answer) = oneshot::channel();
    context.gossip.cast(gossip::Message::Stats(reply));
    let gossip = answer.await.unwrap_or_default();
    let mut lines = own_lines(context);
    lines.extend(store_lines(&shards, &keys));
    lines.extend(gossip_lines(&gossip));
    lines
}

/// The figures of all shards together, and how many keys they serve.
pub async fn store_figures(context: &Context) -> (ShardStats, Served) {
    let mut shards = ShardStats::default();
    let mut keys = Served::default();
    for shard in &context.shards {
        let (reply, answer) = oneshot::channel();
        shard.cast(shard::Message::Stats(reply));
        // A shard that is being started again has nothing to report.
        let (stats, served) = answer.await.unwrap_or_default();
        add(&mut shards, &stats);
        keys.keys += served.keys;
        keys.expiring += served.expiring;
        keys.partitions.union_with(&served.partitions);
    }
    (shards, keys)
}

fn add(sum: &mut ShardStats, shard: &ShardStats) {
    sum.hits += shard.hits;
    sum.misses += shard.misses;
    sum.evictions += shard.evictions;
    sum.expirations += shard.expirations;
    sum.items += shard.items;
    sum.tombstones += shard.tombstones;
    sum.memory_bytes += shard.memory_bytes;
    sum.memory_bytes_max += shard.memory_bytes_max;
}

fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name} {value}")
}

fn own_lines(context: &Context) -> Vec<String> {
    let view = context.current_view();
    let me = view.member(view.me()).expect("a node is a member of its own view");
    let counters = &context.counters;
    let alive = view.members().iter().filter(|member| member.liveness != Liveness::Dead).count();
    let peers = context.peers.all();
    let waiting: usize = peers.iter().map(|peer| peer.waiting_bytes()).sum();
    let lags: Vec<Lag> = peers.iter().map(|peer| peer.lag()).collect();
    let oldest = lags.iter().filter_map(|lag| lag.since).min();
    let waiting_ms = oldest.map_or(0, |since| context.clocks.now().since(since).as_millis());
    let skew = peers.iter().map(|peer| peer.clock_ahead_ms().unsigned_abs()).max().unwrap_or(0);
    let orphans = Partition::all().filter(|partition| view.primary(*partition).is_none()).count();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    vec![
        line("version", env!("CARGO_PKG_VERSION")),
        line("name", &me.record.name),
        line("id", me.identity.node),
        line("generation", me.identity.generation),
        line("process_id", std::process::id()),
        line("uptime_ms", context.clocks.now().as_micros().saturating_sub(1_000_000) / 1_000),
        line("view", format_args!("{:08x}", view.fingerprint())),
        line("settled", u8::from(view.is_settled() && !counters.healing.load(Ordering::Acquire))),
        line("members", view.members().len()),
        line("members_alive", alive),
        line("partitions_primary", view.primaries_of(view.me()).len()),
        line("partitions_replica", view.replica_count_of(view.me())),
        line("partitions_missing", view.missing_count_of(view.me())),
        line("partitions_without_primary", orphans),
        line("pulls_answering", counters.pulls_answering.load(Ordering::Relaxed)),
        line("transferred_bytes", context.pace.sent()),
        line("promotions", load(&counters.promotions)),
        line("partitions_lost", load(&counters.partitions_lost)),
        line("partitions_synced", load(&counters.partitions_synced)),
        line("partitions_moved_here", load(&counters.partitions_moved_here)),
        line("partitions_moved_away", load(&counters.partitions_moved_away)),
        line("connections", context.clients.count()),
        line("connections_accepted", load(&counters.connections_accepted)),
        line("connections_refused", load(&counters.connections_refused)),
        line("commands", load(&counters.commands)),
        line("commands_forwarded", load(&counters.forwarded)),
        line("commands_relayed", load(&counters.relayed)),
        line("commands_redirected", load(&counters.redirected)),
        line("commands_waiting", counters.waiting.load(Ordering::Relaxed)),
        line("lease_waiters", counters.lease_waiters.load(Ordering::Relaxed)),
        line("commands_unserved", load(&counters.unserved)),
        line("replication_waiting_bytes", waiting),
        line("replication_waiting_entries", lags.iter().map(|lag| lag.items).sum::<usize>()),
        line("replication_waiting_ms", waiting_ms),
        line("streams_dropped", load(&counters.streams_dropped)),
        line("ack", context.settings.ack.name()),
        line("writes_replicated", load(&counters.replicated)),
        line("writes_unreplicated", load(&counters.unreplicated)),
        line("clock_skew_ms_max", skew),
        line("shards", context.shards.len()),
        line("shards_restarted", load(&counters.shards_restarted)),
        line("stalls", load(&counters.stalls)),
        line("rejoined_empty", context.settings.anew.map_or(0, |anew| anew.count)),
    ]
}

fn store_lines(shards: &ShardStats, keys: &Served) -> Vec<String> {
    vec![
        line("keys", keys.keys),
        line("keys_expiring", keys.expiring),
        line("items", shards.items),
        line("tombstones", shards.tombstones),
        line("memory_bytes", shards.memory_bytes),
        line("memory_bytes_max", shards.memory_bytes_max),
        line("hits", shards.hits),
        line("misses", shards.misses),
        line("evictions", shards.evictions),
        line("expirations", shards.expirations),
    ]
}

fn gossip_lines(gossip: &MembershipStats) -> Vec<String> {
    vec![
        line("gossip_packets_in", gossip.packets_in),
        line("gossip_bytes_in", gossip.bytes_in),
        line("gossip_packets_out", gossip.packets_out),
        line("gossip_bytes_out", gossip.bytes_out),
        line("gossip_packets_dropped", gossip.dropped.values().sum::<u64>()),
        line("suspicions", gossip.suspicions),
        line("accusations", gossip.accusations),
        line("rejoins", gossip.rejoins),
    ]
}
