//! What INFO says: figures of this node in the sections and fields that Redis clients, redis-cli and
//! exporters read. On the client port the number of keys is the cluster's, as DBSIZE says it, and the
//! node looks like one that stands alone; on the redirect port it looks like a node of a cluster.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::node::cluster_wide;
use crate::node::context::Context;
use crate::node::redirect::Scope;
use crate::node::report;
use crate::node::session::REDIS_VERSION;
use crate::store::ShardStats;

type Section = (&'static str, Vec<(&'static str, String)>);

/// The sections asked for; none named: all of them.
pub async fn info(context: &Arc<Context>, scope: Scope, names: &[String]) -> String {
    let is_all = names.is_empty()
        || names.iter().any(|name| matches!(name.as_str(), "all" | "default" | "everything"));
    let is_wanted = |title: &str| is_all || names.iter().any(|name| name.eq_ignore_ascii_case(title));
    let (figures, _) = report::store_figures(context).await;
    let mut sections = vec![
        server(context, scope),
        clients(context),
        memory(&figures),
        stats(context, &figures),
        ("Replication", vec![field("role", "master"), field("connected_slaves", 0)]),
        ("Cluster", vec![field("cluster_enabled", u8::from(scope == Scope::Node))]),
    ];
    if is_wanted("Keyspace") {
        sections.push(keyspace(context, scope).await);
    }
    let mut text = String::new();
    for (title, fields) in sections.into_iter().filter(|(title, _)| is_wanted(title)) {
        text.push_str(if text.is_empty() { "" } else { "\r\n" });
        text.push_str(&format!("# {title}\r\n"));
        fields.iter().for_each(|(name, value)| text.push_str(&format!("{name}:{value}\r\n")));
    }
    text
}

fn field(name: &'static str, value: impl Display) -> (&'static str, String) {
    (name, value.to_string())
}

fn server(context: &Context, scope: Scope) -> Section {
    let (mode, port) = match scope {
        Scope::Cluster => ("standalone", context.settings.port),
        Scope::Node => ("cluster", context.settings.redirect_port),
    };
    let view = context.current_view();
    let run_id = view.member(view.me()).map_or(0, |member| member.identity.generation.as_raw());
    let uptime = context.clocks.now().as_micros().saturating_sub(1_000_000) / 1_000_000;
    let fields = vec![
        field("redis_version", REDIS_VERSION),
        field("redis_mode", mode),
        field("cachegopher_version", env!("CARGO_PKG_VERSION")),
        field("os", std::env::consts::OS),
        field("arch_bits", usize::BITS),
        field("process_id", std::process::id()),
        field("run_id", format_args!("{:016x}{run_id:024x}", view.me().as_raw())),
        field("tcp_port", port),
        field("uptime_in_seconds", uptime),
        field("uptime_in_days", uptime / 86_400),
        field("loading", 0),
    ];
    ("Server", fields)
}

fn clients(context: &Context) -> Section {
    let open = context.counters.connections_open.load(Ordering::Relaxed);
    ("Clients", vec![field("connected_clients", open), field("blocked_clients", 0)])
}

fn memory(figures: &ShardStats) -> Section {
    let fields = vec![
        field("used_memory", figures.memory_bytes),
        field("used_memory_human", format_args!("{:.2}M", figures.memory_bytes as f64 / 1_048_576.0)),
        field("maxmemory", figures.memory_bytes_max),
        field("maxmemory_human", format_args!("{:.2}M", figures.memory_bytes_max as f64 / 1_048_576.0)),
        field("maxmemory_policy", "allkeys-lru"),
        field("mem_fragmentation_ratio", "1.00"),
    ];
    ("Memory", fields)
}

fn stats(context: &Context, figures: &ShardStats) -> Section {
    let counters = &context.counters;
    let fields = vec![
        field("total_connections_received", counters.connections_accepted.load(Ordering::Relaxed)),
        field("total_commands_processed", counters.commands.load(Ordering::Relaxed)),
        field("expired_keys", figures.expirations),
        field("evicted_keys", figures.evictions),
        field("keyspace_hits", figures.hits),
        field("keyspace_misses", figures.misses),
    ];
    ("Stats", fields)
}

async fn keyspace(context: &Arc<Context>, scope: Scope) -> Section {
    // A count that cannot be completed is left out, as Redis leaves out an empty database.
    let keys = cluster_wide::size(context, scope).await.unwrap_or_default();
    let fields = match keys {
        0 => Vec::new(),
        keys => vec![field("db0", format_args!("keys={keys},expires=0,avg_ttl=0"))],
    };
    ("Keyspace", fields)
}
