//! What INFO says: figures of this node in the sections and fields that Redis clients, redis-cli,
//! exporters and dashboards read. On the client port the number of keys is the cluster's, as DBSIZE says
//! it, and the node looks like one that stands alone; on the redirect port it looks like a node of a
//! cluster. What does not exist here (saving, scripts, threads) has the value of a Redis that does none
//! of it.

mod baseline;
mod text;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

pub use baseline::Baseline;
pub use baseline::reset;

use crate::command::Verb;
use crate::node::cluster_wide;
use crate::node::config;
use crate::node::context::Context;
use crate::node::info::baseline::Figures;
use crate::node::info::text::decimal;
use crate::node::info::text::human;
use crate::node::info::text::percent;
use crate::node::process::Process;
use crate::node::redirect::Scope;
use crate::node::report;
use crate::node::session::REDIS_VERSION;
use crate::node::usage::Calls;
use crate::node::usage::Tally;
use crate::store::ShardStats;

/// A title and fields, each a name and a value.
type Section = (&'static str, Vec<(String, String)>);

/// Sections that are said only when they are asked for.
const ON_DEMAND: [&str; 1] = ["Commandstats"];

/// The sections asked for; none named: the usual ones.
pub async fn info(context: &Arc<Context>, scope: Scope, names: &[String]) -> String {
    let has = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.as_str()));
    let is_usual = names.is_empty() || has(&["default"]);
    let is_all = has(&["all", "everything"]);
    let is_wanted = |title: &str| {
        is_all
            || (is_usual && !ON_DEMAND.contains(&title))
            || names.iter().any(|name| name.eq_ignore_ascii_case(title))
    };
    let (figures, _) = report::store_figures(context).await;
    let before = context.baseline.figures();
    let total = context.clients.total().since(&before.clients);
    let process = Process::now();
    let mut sections = vec![
        server(context, scope),
        clients(context),
        memory(context, &figures, &process),
        persistence(),
        stats(context, &figures, &total, &before),
        replication(context),
        cpu(&process),
        ("Modules", Vec::new()),
        ("Commandstats", command_stats(&total)),
        ("Errorstats", error_stats(context)),
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

fn field(name: impl Into<String>, value: impl Display) -> (String, String) {
    (name.into(), value.to_string())
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The life of this node, in the form of Redis' ids of a run.
fn run_id(context: &Context) -> String {
    let view = context.current_view();
    let generation = view.member(view.me()).map_or(0, |member| member.identity.generation.as_raw());
    format!("{:016x}{generation:024x}", view.me().as_raw())
}

fn server(context: &Context, scope: Scope) -> Section {
    let (mode, port) = match scope {
        Scope::Cluster => ("standalone", context.settings.port),
        Scope::Node => ("cluster", context.settings.redirect_port),
    };
    let uptime = context.clocks.now().as_micros().saturating_sub(1_000_000) / 1_000_000;
    let executable = std::env::current_exe().unwrap_or_default();
    let fields = vec![
        field("redis_version", REDIS_VERSION),
        field("redis_git_sha1", "00000000"),
        field("redis_git_dirty", 0),
        field("redis_build_id", "0"),
        field("redis_mode", mode),
        field("cachegopher_version", env!("CARGO_PKG_VERSION")),
        field("cachegopher_name", &context.settings.name),
        field("os", std::env::consts::OS),
        field("arch_bits", usize::BITS),
        field("multiplexing_api", "epoll"),
        field("process_id", std::process::id()),
        field("process_supervised", "no"),
        field("run_id", run_id(context)),
        field("tcp_port", port),
        field("server_time_usec", context.clocks.wall_micros()),
        field("uptime_in_seconds", uptime),
        field("uptime_in_days", uptime / 86_400),
        field("hz", 10),
        field("configured_hz", 10),
        field("executable", executable.display()),
        field("config_file", ""),
        field("io_threads_active", 0),
    ];
    ("Server", fields)
}

fn clients(context: &Context) -> Section {
    let fields = vec![
        field("connected_clients", context.clients.count()),
        field("cluster_connections", context.peers.all().iter().filter(|peer| peer.link().is_some()).count()),
        field("maxclients", context.tuning.connections_max()),
        field("client_recent_max_input_buffer", 0),
        field("client_recent_max_output_buffer", 0),
        field("blocked_clients", 0),
        field("tracking_clients", 0),
        field("clients_in_timeout_table", 0),
    ];
    ("Clients", fields)
}

fn memory(context: &Context, figures: &ShardStats, process: &Process) -> Section {
    let (used, max) = (figures.memory_bytes as u64, figures.memory_bytes_max as u64);
    let clients: usize = context.clients.all().iter().map(|client| client.memory_bytes()).sum();
    let peak = context.baseline.sees_memory(figures.memory_bytes);
    let ratio = decimal(process.memory_bytes as f64 / used.max(1) as f64);
    let fields = vec![
        field("used_memory", used),
        field("used_memory_human", human(used)),
        field("used_memory_rss", process.memory_bytes),
        field("used_memory_rss_human", human(process.memory_bytes)),
        field("used_memory_peak", peak),
        field("used_memory_peak_human", human(peak)),
        field("used_memory_peak_perc", percent(used, peak)),
        field("used_memory_overhead", clients),
        field("used_memory_startup", 0),
        field("used_memory_dataset", used),
        field("used_memory_dataset_perc", "100.00%"),
        field("allocator_allocated", used),
        field("allocator_active", process.memory_bytes),
        field("allocator_resident", process.memory_bytes),
        field("total_system_memory", process.machine_memory_bytes),
        field("total_system_memory_human", human(process.machine_memory_bytes)),
        field("used_memory_lua", 0),
        field("used_memory_scripts", 0),
        field("maxmemory", max),
        field("maxmemory_human", human(max)),
        field("maxmemory_policy", config::memory_policy(context)),
        field("allocator_frag_ratio", &ratio),
        field("allocator_rss_ratio", "1.00"),
        field("rss_overhead_ratio", "1.00"),
        field("mem_fragmentation_ratio", &ratio),
        field("mem_fragmentation_bytes", process.memory_bytes.saturating_sub(used)),
        field("mem_not_counted_for_evict", 0),
        field("mem_replication_backlog", waiting_bytes(context)),
        field("mem_clients_slaves", 0),
        field("mem_clients_normal", clients),
        field("mem_aof_buffer", 0),
        field("mem_allocator", "mimalloc"),
        field("active_defrag_running", 0),
        field("lazyfree_pending_objects", 0),
        field("lazyfreed_objects", 0),
    ];
    ("Memory", fields)
}

/// Bytes that wait for other nodes.
fn waiting_bytes(context: &Context) -> usize {
    context.peers.all().iter().map(|peer| peer.waiting_bytes()).sum()
}

fn persistence() -> Section {
    let fields = vec![
        field("loading", 0),
        field("async_loading", 0),
        field("rdb_changes_since_last_save", 0),
        field("rdb_bgsave_in_progress", 0),
        field("rdb_last_save_time", 0),
        field("rdb_last_bgsave_status", "ok"),
        field("rdb_last_bgsave_time_sec", -1),
        field("rdb_current_bgsave_time_sec", -1),
        field("aof_enabled", 0),
        field("aof_rewrite_in_progress", 0),
        field("aof_rewrite_scheduled", 0),
        field("aof_last_rewrite_time_sec", -1),
        field("aof_current_rewrite_time_sec", -1),
        field("aof_last_bgrewrite_status", "ok"),
        field("aof_last_write_status", "ok"),
    ];
    ("Persistence", fields)
}

fn stats(context: &Context, figures: &ShardStats, total: &Tally, before: &Figures) -> Section {
    let counters = &context.counters;
    let rates = context.clients.rates();
    let kilobytes = |bytes: u64| decimal(bytes as f64 / 1_024.0);
    let since = |now: u64, before: u64| now.saturating_sub(before);
    let errors: u64 = context.clients.errors().values().sum();
    let fields = vec![
        field(
            "total_connections_received",
            since(load(&counters.connections_accepted), before.connections_accepted),
        ),
        field("total_commands_processed", total.commands()),
        field("instantaneous_ops_per_sec", rates.commands),
        field("total_net_input_bytes", total.input_bytes),
        field("total_net_output_bytes", total.output_bytes),
        field("instantaneous_input_kbps", kilobytes(rates.input_bytes)),
        field("instantaneous_output_kbps", kilobytes(rates.output_bytes)),
        field("rejected_connections", since(load(&counters.connections_refused), before.connections_refused)),
        field("sync_full", 0),
        field("sync_partial_ok", 0),
        field("sync_partial_err", 0),
        field("expired_keys", since(figures.expirations, before.store.expirations)),
        field("expired_stale_perc", "0.00"),
        field("expired_time_cap_reached_count", 0),
        field("evicted_keys", since(figures.evictions, before.store.evictions)),
        field("evicted_clients", 0),
        field("keyspace_hits", since(figures.hits, before.store.hits)),
        field("keyspace_misses", since(figures.misses, before.store.misses)),
        field("pubsub_channels", 0),
        field("pubsub_patterns", 0),
        field("pubsubshard_channels", 0),
        field("latest_fork_usec", 0),
        field("total_forks", 0),
        field("migrate_cached_sockets", 0),
        field("slave_expires_tracked_keys", 0),
        field("active_defrag_hits", 0),
        field("active_defrag_misses", 0),
        field("tracking_total_keys", 0),
        field("unexpected_error_replies", 0),
        field("total_error_replies", errors),
        field("dump_payload_sanitizations", 0),
        field("total_reads_processed", total.reads),
        field("total_writes_processed", total.writes),
        field("io_threaded_reads_processed", 0),
        field("io_threaded_writes_processed", 0),
        field("forwarded_commands", load(&counters.forwarded)),
        field("relayed_commands", load(&counters.relayed)),
        field("rejoined_empty", context.settings.anew.map_or(0, |anew| anew.count)),
    ];
    ("Stats", fields)
}

/// A client of the client port need not know who copies what: to it there is one master.
fn replication(context: &Context) -> Section {
    let fields = vec![
        field("role", "master"),
        field("connected_slaves", 0),
        field("master_failover_state", "no-failover"),
        field("master_replid", run_id(context)),
        field("master_replid2", "0".repeat(40)),
        field("master_repl_offset", 0),
        field("second_repl_offset", -1),
        field("repl_backlog_active", 0),
        field("repl_backlog_size", 0),
        field("repl_backlog_first_byte_offset", 0),
        field("repl_backlog_histlen", 0),
        field("ack", context.settings.ack.name()),
        field("writes_replicated", context.counters.replicated.load(Ordering::Relaxed)),
        field("writes_unreplicated", context.counters.unreplicated.load(Ordering::Relaxed)),
    ];
    ("Replication", fields)
}

fn cpu(process: &Process) -> Section {
    let seconds = |time: std::time::Duration| format!("{:.6}", time.as_secs_f64());
    let fields = vec![
        field("used_cpu_sys", seconds(process.system_time)),
        field("used_cpu_user", seconds(process.user_time)),
        field("used_cpu_sys_children", "0.000000"),
        field("used_cpu_user_children", "0.000000"),
    ];
    ("CPU", fields)
}

fn command_stats(total: &Tally) -> Vec<(String, String)> {
    let line = |(verb, calls): (&Verb, &Calls)| {
        let micros = calls.nanos / 1_000;
        let per_call = decimal(calls.nanos as f64 / 1_000.0 / calls.count.max(1) as f64);
        field(
            format!("cmdstat_{}", verb.name().to_ascii_lowercase()),
            format_args!(
                "calls={},usec={micros},usec_per_call={per_call},rejected_calls={},failed_calls={}",
                calls.count, calls.rejected, calls.failed
            ),
        )
    };
    total.by_command().map(line).collect()
}

fn error_stats(context: &Context) -> Vec<(String, String)> {
    let errors = context.clients.errors().into_iter();
    errors.map(|(code, count)| field(format!("errorstat_{code}"), format_args!("count={count}"))).collect()
}

async fn keyspace(context: &Arc<Context>, scope: Scope) -> Section {
    // A count that cannot be completed is left out, as Redis leaves out an empty database.
    let size = cluster_wide::size(context, scope).await.unwrap_or_default();
    let fields = match size.keys {
        0 => Vec::new(),
        keys => vec![field("db0", format_args!("keys={keys},expires={},avg_ttl=0", size.expiring))],
    };
    ("Keyspace", fields)
}
