//! Settings as CONFIG names them: what a client may read, and change while the node runs.
//!
//! Names and values are those of Redis, so that tools find what they look for. What is changed holds
//! until the node ends: it is not written anywhere.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::info;
use tracing::warn;

use crate::command::Invalid;
use crate::command::Reply;
use crate::command::matches;
use crate::node::context::Context;
use crate::node::files;
use crate::node::output_limits::OutputLimits;
use crate::node::redirect::Scope;
use crate::node::settings::CONNECTIONS_MAX_BOUND;
use crate::node::settings::Settings;
use crate::node::settings::memory_bytes_min;
use crate::node::shard;
use crate::protocol::resp::RespLimits;
use crate::store::EvictionPolicy;

/// Entries that the slow log can be told to keep.
const SLOW_LOG_ENTRIES_MAX: u64 = 100_000;

/// What can be changed while a node runs.
#[derive(Debug)]
pub struct Tuning {
    idle_timeout_secs: AtomicU64,
    connections_max: AtomicUsize,
    memory_bytes_max: AtomicUsize,
    eviction: Mutex<EvictionPolicy>,
    output_limits: Mutex<OutputLimits>,
    log_level: Mutex<&'static str>,
}

impl Tuning {
    /// As the node was told at its start.
    pub fn new(settings: &Settings) -> Self {
        let (wanted, room) = (settings.connections_max, files::connections_max());
        if wanted > room {
            warn!(wanted, room, "fewer client connections allowed, since the process may open so few files");
        }
        Self {
            idle_timeout_secs: AtomicU64::new(settings.idle_timeout.map_or(0, |time| time.as_secs())),
            connections_max: AtomicUsize::new(wanted.min(room)),
            memory_bytes_max: AtomicUsize::new(settings.store.memory_bytes_max),
            eviction: Mutex::new(settings.store.eviction),
            output_limits: Mutex::new(OutputLimits {
                hard_bytes: settings.output_bytes_max,
                soft_bytes: 0,
                soft_wait: Duration::ZERO,
            }),
            log_level: Mutex::new(level_of(&settings.log)),
        }
    }

    /// How long a client may ask for nothing before its connection is closed; none: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        let secs = self.idle_timeout_secs.load(Ordering::Relaxed);
        (secs > 0).then_some(Duration::from_secs(secs))
    }

    /// How many client connections there may be.
    pub fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// How much memory all shards may take together.
    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max.load(Ordering::Acquire)
    }

    /// What goes when there is no room.
    pub fn eviction(&self) -> EvictionPolicy {
        *self.eviction.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may wait for a client that does not read.
    pub fn output_limits(&self) -> OutputLimits {
        *self.output_limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_level(&self) -> &'static str {
        *self.log_level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Policies, as Redis calls them.
const POLICIES: [(&str, EvictionPolicy); 4] = [
    ("volatile-ttl", EvictionPolicy::Ttl),
    ("allkeys-lru", EvictionPolicy::Lru),
    ("allkeys-lfu", EvictionPolicy::Lfu),
    ("noeviction", EvictionPolicy::None),
];

/// What makes room for new entries, as Redis calls it.
pub fn memory_policy(context: &Context) -> &'static str {
    let policy = context.tuning.eviction();
    POLICIES.iter().find(|(_, known)| *known == policy).map_or("", |(name, _)| name)
}

/// Redis' levels of the log, and what they are here.
const LOG_LEVELS: [(&str, &str); 5] =
    [("debug", "debug"), ("verbose", "info"), ("notice", "info"), ("warning", "warn"), ("nothing", "off")];

/// The level that is nearest to a filter of the log.
fn level_of(filter: &str) -> &'static str {
    match filter {
        "trace" | "debug" => "debug",
        "warn" | "error" => "warning",
        "off" => "nothing",
        _ => "notice",
    }
}

/// A new value, checked.
enum Change {
    IdleTimeout(u64),
    ConnectionsMax(usize),
    MemoryBytesMax(usize),
    Eviction(EvictionPolicy),
    OutputLimits(OutputLimits),
    LogLevel(&'static str, &'static str),
    SlowLogThreshold(i64),
    SlowLogEntries(usize),
    /// It has that value already.
    Nothing,
}

type Checked = Result<Change, String>;
type Check = fn(&Context, &str) -> Checked;

/// A setting.
struct Setting {
    name: &'static str,
    value: fn(&Context, Scope) -> String,
    /// What a new value changes; none: nothing can.
    check: Option<Check>,
}

const fn fixed(name: &'static str, value: fn(&Context, Scope) -> String) -> Setting {
    Setting { name, value, check: None }
}

const fn tunable(name: &'static str, value: fn(&Context, Scope) -> String, check: Check) -> Setting {
    Setting { name, value, check: Some(check) }
}

/// In the order of their names.
static SETTINGS: &[Setting] = &[
    fixed("appendonly", |_, _| "no".to_owned()),
    fixed("bind", |context, _| context.settings.bind.to_string()),
    tunable("client-output-buffer-limit", |context, _| context.tuning.output_limits().text(), check_output),
    fixed("cluster-enabled", |_, scope| if scope == Scope::Node { "yes" } else { "no" }.to_owned()),
    fixed("daemonize", |_, _| "no".to_owned()),
    fixed("databases", |_, _| "1".to_owned()),
    tunable("loglevel", |context, _| context.tuning.log_level().to_owned(), check_log_level),
    tunable("maxclients", |context, _| context.tuning.connections_max().to_string(), check_connections_max),
    tunable("maxmemory", |context, _| context.tuning.memory_bytes_max().to_string(), check_memory),
    tunable("maxmemory-policy", |context, _| memory_policy(context).to_owned(), check_policy),
    fixed("notify-keyspace-events", |_, _| String::new()),
    fixed("port", |context, scope| match scope {
        Scope::Cluster => context.settings.port.to_string(),
        Scope::Node => context.settings.redirect_port.to_string(),
    }),
    fixed("proto-max-bulk-len", |context, _| {
        RespLimits::for_entries_of(context.settings.text.entry_bytes_max).bulk_bytes_max.to_string()
    }),
    fixed("replicaof", |_, _| String::new()),
    fixed("requirepass", |_, _| String::new()),
    fixed("save", |_, _| String::new()),
    fixed("slaveof", |_, _| String::new()),
    tunable(
        "slowlog-log-slower-than",
        |context, _| context.slow_log.threshold_micros().to_string(),
        check_slow_log_threshold,
    ),
    tunable(
        "slowlog-max-len",
        |context, _| context.slow_log.entries_max().to_string(),
        |_, value| number(value, 0, SLOW_LOG_ENTRIES_MAX).map(|count| Change::SlowLogEntries(count as usize)),
    ),
    tunable(
        "timeout",
        |context, _| context.tuning.idle_timeout().map_or(0, |time| time.as_secs()).to_string(),
        check_idle_timeout,
    ),
];

fn number(value: &str, min: u64, max: u64) -> Result<u64, String> {
    let number: i128 = value.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
    match u64::try_from(number) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("argument must be between {min} and {max} inclusive")),
    }
}

/// Microseconds; -1: nothing is slow.
fn check_slow_log_threshold(_: &Context, value: &str) -> Checked {
    match value {
        "-1" => Ok(Change::SlowLogThreshold(-1)),
        value => number(value, 0, i64::MAX as u64).map(|micros| Change::SlowLogThreshold(micros as i64)),
    }
}

fn check_idle_timeout(_: &Context, value: &str) -> Checked {
    number(value, 0, i32::MAX as u64).map(Change::IdleTimeout)
}

fn check_connections_max(_: &Context, value: &str) -> Checked {
    let count = number(value, 1, CONNECTIONS_MAX_BOUND as u64)? as usize;
    match files::connections_max() {
        room if count > room => Err(format!("the process may open files for {room} clients only")),
        _ => Ok(Change::ConnectionsMax(count)),
    }
}

fn check_log_level(_: &Context, value: &str) -> Checked {
    one_of(&LOG_LEVELS, value).map(|(name, filter)| Change::LogLevel(name, filter))
}

fn check_output(context: &Context, value: &str) -> Checked {
    let changed = context.tuning.output_limits().changed_by(value, memory_bytes);
    changed.map(Change::OutputLimits).map_err(str::to_owned)
}

fn check_policy(_: &Context, value: &str) -> Checked {
    one_of(&POLICIES, value).map(|(_, policy)| Change::Eviction(policy))
}

fn one_of<T: Copy>(known: &[(&'static str, T)], value: &str) -> Result<(&'static str, T), String> {
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("argument(s) must be one of the following: {}", names.join(", "))
    })
}

/// Zero, which in Redis is as much as there is, is too little here.
fn check_memory(context: &Context, value: &str) -> Checked {
    let bytes = memory_bytes(value).ok_or_else(|| "argument must be a memory value".to_owned())?;
    let (min, max) =
        (memory_bytes_min(context.shards.len(), context.settings.text.entry_bytes_max), i64::MAX as usize);
    match (min..=max).contains(&bytes) {
        true => Ok(Change::MemoryBytesMax(bytes)),
        false => Err(format!("argument must be between {min} and {max} inclusive")),
    }
}

/// A number of bytes as Redis writes it: `k` is 1,000 and `kb` 1,024, and so on.
fn memory_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// What CONFIG GET says.
pub fn get(context: &Context, scope: Scope, patterns: &[Bytes]) -> Reply<'static> {
    let patterns: Vec<Vec<u8>> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let is_wanted =
        |setting: &&Setting| patterns.iter().any(|pattern| matches(pattern, setting.name.as_bytes()));
    let text = |text: String| Reply::Bytes(text.into());
    let pair = |setting: &Setting| (text(setting.name.to_owned()), text((setting.value)(context, scope)));
    Reply::Map(SETTINGS.iter().filter(is_wanted).map(pair).collect())
}

/// What CONFIG SET does: all of it or nothing.
///
/// # Errors
///
/// A setting is named twice or does not exist, cannot be changed, or not to that value.
pub async fn set(context: &Context, scope: Scope, pairs: &[(String, Bytes)]) -> Result<(), Invalid> {
    let refuse =
        |name: &String, reason: &str| Invalid::Setting { name: name.clone(), reason: reason.to_owned() };
    let mut changes = Vec::with_capacity(pairs.len());
    for (index, (name, value)) in pairs.iter().enumerate() {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let setting = setting.ok_or_else(|| Invalid::UnknownSetting { name: name.clone() })?;
        if pairs[..index].iter().any(|(before, _)| before == name) {
            return Err(refuse(name, "duplicate parameter"));
        }
        let value = std::str::from_utf8(value).map_err(|_| refuse(name, "argument is no text"))?;
        changes.push(match setting.check {
            Some(check) => check(context, value).map_err(|reason| refuse(name, &reason))?,
            // Tools say again what holds anyway.
            None if value == (setting.value)(context, scope) => Change::Nothing,
            None => return Err(refuse(name, "can't set immutable config")),
        });
    }
    let is_about_memory = |change: &Change| matches!(change, Change::MemoryBytesMax(_) | Change::Eviction(_));
    let limits_shards = changes.iter().any(is_about_memory);
    for ((name, value), change) in pairs.iter().zip(changes) {
        if !matches!(change, Change::Nothing) {
            make(context, change).map_err(|reason| refuse(name, &reason))?;
            info!(setting = name, value = %value.escape_ascii(), "setting changed by a client");
        }
    }
    if limits_shards {
        limit_shards(context).await;
    }
    Ok(())
}

/// What the client asks next is asked of shards that know the new limits, though they may have more than
/// that for a while.
async fn limit_shards(context: &Context) {
    for shard in &context.shards {
        let (done, known) = oneshot::channel();
        shard.cast(shard::Message::Limit(done));
        // One that is being started again begins with them.
        let _ = known.await;
    }
}

fn make(context: &Context, change: Change) -> Result<(), String> {
    let tuning = &context.tuning;
    match change {
        Change::IdleTimeout(secs) => tuning.idle_timeout_secs.store(secs, Ordering::Relaxed),
        Change::ConnectionsMax(count) => tuning.connections_max.store(count, Ordering::Relaxed),
        Change::MemoryBytesMax(bytes) => tuning.memory_bytes_max.store(bytes, Ordering::Release),
        Change::Eviction(policy) => {
            *tuning.eviction.lock().unwrap_or_else(PoisonError::into_inner) = policy;
        }
        Change::SlowLogThreshold(micros) => context.slow_log.set_threshold_micros(micros),
        Change::SlowLogEntries(count) => context.slow_log.set_entries_max(count),
        Change::OutputLimits(limits) => {
            *tuning.output_limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        }
        Change::LogLevel(name, filter) => {
            context.settings.log_control.set(filter)?;
            *tuning.log_level.lock().unwrap_or_else(PoisonError::into_inner) = name;
        }
        Change::Nothing => {}
    }
    Ok(())
}
