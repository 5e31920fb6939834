//! This node's figures for Prometheus: those that dashboards for Redis know by the names of Redis'
//! exporter, those that are ours as `cachegopher_*`. Units are seconds and bytes; counters rise from the
//! start of the process on, whatever CONFIG RESETSTAT is told.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tokio::sync::oneshot;

use crate::cluster::membership::MembershipStats;
use crate::cluster::serving::Served;
use crate::cluster::view::Liveness;
use crate::cluster::view::View;
use crate::node::admin::exposition::Exposition;
use crate::node::admin::exposition::seconds;
use crate::node::context::Context;
use crate::node::gossip;
use crate::node::journal;
use crate::node::process::Process;
use crate::node::report;
use crate::node::usage::Calls;
use crate::store::Partition;
use crate::store::ShardStats;

/// The page that Prometheus reads.
pub async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    let (figures, served) = report::store_figures(&context).await;
    let (reply, answer) = oneshot::channel();
    context.gossip.cast(gossip::Message::Stats(reply));
    let gossip = answer.await.unwrap_or_default();
    let mut page = Exposition::default();
    node(&mut page, &context);
    commands(&mut page, &context);
    connections(&mut page, &context);
    store(&mut page, &figures, &served);
    cluster(&mut page, &context, &context.current_view());
    replication(&mut page, &context);
    changes(&mut page, &context);
    membership(&mut page, &gossip);
    ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], page.into_text())
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn load_size(gauge: &AtomicUsize) -> usize {
    gauge.load(Ordering::Relaxed)
}

fn node(page: &mut Exposition, context: &Context) {
    let (settings, process) = (&context.settings, Process::now());
    let up_micros = context.clocks.now().as_micros().saturating_sub(1_000_000);
    let started = context.clocks.wall_micros().saturating_sub(up_micros);
    let labels =
        [("version", env!("CARGO_PKG_VERSION")), ("name", &settings.name), ("cluster", &settings.cluster)];
    page.gauge("redis_up", "Whether the node answers.").is(1);
    page.gauge("redis_uptime_in_seconds", "Since the start of the node.").is(up_micros / 1_000_000);
    page.gauge("cachegopher_info", "Always 1; the labels say which node this is.").of(&labels, 1);
    let is_ready = u8::from(*context.is_ready.borrow());
    page.gauge("cachegopher_ready", "Whether the node has joined and has had all its copies.").is(is_ready);
    page.counter("cachegopher_stalls_total", "Times that the process stood still.")
        .is(load(&context.counters.stalls));
    page.counter("cachegopher_rejoined_empty_total", "Times that the node was apart for too long.")
        .is(settings.anew.map_or(0, |anew| anew.count));
    page.counter("cachegopher_shards_restarted_total", "Shards started again after a failure.")
        .is(load(&context.counters.shards_restarted));
    let cpu = process.user_time + process.system_time;
    page.counter("process_cpu_seconds_total", "Processor time used.").is(cpu.as_secs_f64());
    page.gauge("process_resident_memory_bytes", "Memory of the process.").is(process.memory_bytes);
    page.gauge("process_start_time_seconds", "When the node started, since 1970.")
        .is(started as f64 / 1_000_000.0);
}

fn commands(page: &mut Exposition, context: &Context) {
    let total = context.clients.total();
    let calls: Vec<(String, &Calls)> =
        total.by_command().map(|(verb, calls)| (verb.name().to_ascii_lowercase(), calls)).collect();
    page.counter("redis_commands_processed_total", "Commands of clients that were carried out.")
        .is(total.commands());
    let mut by_command = |name, help, figure: fn(&Calls) -> f64| {
        calls
            .iter()
            .fold(page.counter(name, help), |family, (cmd, calls)| family.of(&[("cmd", cmd)], figure(calls)));
    };
    by_command("redis_commands_total", "Commands carried out, by name.", |calls| calls.count as f64);
    by_command("redis_commands_duration_seconds_total", "Time that commands took, by name.", |calls| {
        seconds(calls.nanos)
    });
    by_command(
        "redis_commands_rejected_calls_total",
        "Commands refused before they ran, by name.",
        |calls| calls.rejected as f64,
    );
    by_command("redis_commands_failed_calls_total", "Commands that ran and failed, by name.", |calls| {
        calls.failed as f64
    });
    let latencies = context.latencies.by_command();
    let family = page.histogram(
        "cachegopher_command_duration_seconds",
        "Time from reading a command to its reply, by name; commands sent together share theirs evenly.",
    );
    latencies.iter().fold(family, |family, (verb, histogram)| {
        family.times(&[("cmd", &verb.name().to_ascii_lowercase())], histogram)
    });
    let counters = &context.counters;
    page.counter("cachegopher_commands_forwarded_total", "Commands sent on to the node that serves the key.")
        .is(load(&counters.forwarded));
    page.counter(
        "cachegopher_commands_relayed_total",
        "Commands sent on through a third node, for want of a link.",
    )
    .is(load(&counters.relayed));
    page.counter("cachegopher_commands_redirected_total", "Times that a cluster-aware client was sent on.")
        .is(load(&counters.redirected));
    page.gauge("cachegopher_commands_waiting", "Commands that wait for a primary to be replaced.")
        .is(load_size(&counters.waiting));
    page.counter("cachegopher_commands_unserved_total", "Commands that waited for that in vain.")
        .is(load(&counters.unserved));
    page.counter("redis_net_input_bytes_total", "Bytes read from clients.").is(total.input_bytes);
    page.counter("redis_net_output_bytes_total", "Bytes written to clients.").is(total.output_bytes);
}

fn connections(page: &mut Exposition, context: &Context) {
    let counters = &context.counters;
    page.gauge("redis_connected_clients", "Open client connections.").is(context.clients.count());
    page.gauge("redis_config_maxclients", "Client connections that are allowed.")
        .is(context.tuning.connections_max());
    page.counter("redis_connections_received_total", "Client connections accepted.")
        .is(load(&counters.connections_accepted));
    page.counter("redis_rejected_connections_total", "Client connections refused: there were too many.")
        .is(load(&counters.connections_refused));
}

fn store(page: &mut Exposition, figures: &ShardStats, served: &Served) {
    let database = [("db", "db0")];
    page.gauge("redis_memory_used_bytes", "Memory of entries, copies included.").is(figures.memory_bytes);
    page.gauge("redis_memory_max_bytes", "Memory that entries may take.").is(figures.memory_bytes_max);
    page.counter("redis_keyspace_hits_total", "Reads of keys that were there.").is(figures.hits);
    page.counter("redis_keyspace_misses_total", "Reads of keys that were not there.").is(figures.misses);
    page.counter("redis_evicted_keys_total", "Entries evicted for want of memory.").is(figures.evictions);
    page.counter("redis_expired_keys_total", "Entries that have expired.").is(figures.expirations);
    page.gauge("redis_db_keys", "Keys that this node is primary of.").of(&database, served.keys);
    page.gauge("redis_db_keys_expiring", "Those of them that expire.").of(&database, served.expiring);
    page.gauge("cachegopher_items", "Entries held, copies included.").is(figures.items);
    page.gauge("cachegopher_tombstones", "Marks that deleted keys have left.").is(figures.tombstones);
}

fn cluster(page: &mut Exposition, context: &Context, view: &View) {
    let in_state = |state: Liveness| {
        let is_it = |member: &&crate::cluster::view::Member| member.liveness == state;
        view.members().iter().filter(is_it).count()
    };
    let states = [Liveness::Alive, Liveness::Suspect, Liveness::Dead];
    states.into_iter().fold(
        page.gauge("cachegopher_members", "Nodes of the cluster, this one included, by state."),
        |family, state| family.of(&[("state", state.name())], in_state(state)),
    );
    page.gauge("cachegopher_partitions", "Partitions held by this node, by role.")
        .of(&[("role", "primary")], view.primaries_of(view.me()).len())
        .of(&[("role", "replica")], view.replica_count_of(view.me()));
    let orphans = Partition::all().filter(|partition| view.primary(*partition).is_none()).count();
    page.gauge("cachegopher_partitions_without_primary", "Partitions of the cluster that nobody serves.")
        .is(orphans);
    page.gauge("cachegopher_settled", "Whether every copy is where it should be.")
        .is(u8::from(view.is_settled()));
    page.gauge("cachegopher_pulls_answering", "Pulls of other nodes that shards are answering.")
        .is(load_size(&context.counters.pulls_answering));
}

fn replication(page: &mut Exposition, context: &Context) {
    let now = context.clocks.now();
    let peers: Vec<_> = context
        .peers
        .all()
        .into_iter()
        .filter(|peer| peer.identity().is_some())
        .map(|peer| (journal::name_of(context, peer.node), peer))
        .collect();
    let of = |label: &'static str| move |name: &str| [(label, name.to_owned())];
    let labels = of("peer");
    let mut by_peer = |name, help, figure: &dyn Fn(&crate::node::peers::Peer) -> f64| {
        peers.iter().fold(page.gauge(name, help), |family, (peer_name, peer)| {
            let [(label, value)] = labels(peer_name);
            family.of(&[(label, &value)], figure(peer))
        });
    };
    by_peer("cachegopher_replication_lag_bytes", "Bytes of changes that a peer has not applied.", &|peer| {
        peer.waiting_bytes() as f64
    });
    by_peer(
        "cachegopher_replication_lag_entries",
        "Changes sent or queued that a peer has not applied.",
        &|peer| peer.lag().items as f64,
    );
    by_peer("cachegopher_replication_lag_seconds", "For how long the oldest of them has waited.", &|peer| {
        peer.lag().since.map_or(0.0, |since| now.since(since).as_secs_f64())
    });
    page.counter("cachegopher_streams_dropped_total", "Streams of changes dropped: the peer was too slow.")
        .is(load(&context.counters.streams_dropped));
}

fn changes(page: &mut Exposition, context: &Context) {
    let counters = &context.counters;
    page.counter("cachegopher_promotions_total", "Partitions that this node took over from a lost primary.")
        .is(load(&counters.promotions));
    page.counter("cachegopher_partitions_lost_total", "Partitions taken empty: no copy was left.")
        .is(load(&counters.partitions_lost));
    page.counter("cachegopher_transfers_total", "Partitions whose copy or role moved, by how.")
        .of(&[("kind", "synced")], load(&counters.partitions_synced))
        .of(&[("kind", "moved_here")], load(&counters.partitions_moved_here))
        .of(&[("kind", "moved_away")], load(&counters.partitions_moved_away));
    page.histogram(
        "cachegopher_failover_seconds",
        "Time from the loss of a primary, or its last sign of life, to its replacement by this node.",
    )
    .times(&[], &context.failovers.histogram());
}

fn membership(page: &mut Exposition, gossip: &MembershipStats) {
    let (inward, outward) = ([("direction", "in")], [("direction", "out")]);
    page.counter("cachegopher_gossip_packets_total", "Datagrams of membership.")
        .of(&inward, gossip.packets_in)
        .of(&outward, gossip.packets_out);
    page.counter("cachegopher_gossip_bytes_total", "Bytes of those datagrams.")
        .of(&inward, gossip.bytes_in)
        .of(&outward, gossip.bytes_out);
    page.counter("cachegopher_gossip_packets_dropped_total", "Datagrams that were not understood.")
        .is(gossip.dropped.values().sum::<u64>());
    page.counter("cachegopher_suspicions_total", "Suspicions raised by this node.").is(gossip.suspicions);
    page.counter("cachegopher_accusations_total", "Members declared dead by this node.")
        .is(gossip.accusations);
    page.counter("cachegopher_rejoins_total", "Times that this node was held for dead and came back.")
        .is(gossip.rejoins);
}
