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
use tracing::info;
use tracing::warn;

use crate::command::Invalid;
use crate::command::Reply;
use crate::command::matches;
use crate::node::context::Context;
use crate::node::files;
use crate::node::redirect::Scope;
use crate::node::settings::CONNECTIONS_MAX_BOUND;
use crate::node::settings::Settings;
use crate::protocol::resp::RespLimits;
use crate::store::EvictionPolicy;

/// What can be changed while a node runs.
#[derive(Debug)]
pub struct Tuning {
    idle_timeout_secs: AtomicU64,
    connections_max: AtomicUsize,
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

    fn log_level(&self) -> &'static str {
        *self.log_level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes room for new entries, as Redis calls it.
pub fn memory_policy(context: &Context) -> &'static str {
    match context.settings.store.eviction {
        EvictionPolicy::Lru => "allkeys-lru",
        EvictionPolicy::Lfu => "allkeys-lfu",
        EvictionPolicy::Ttl => "volatile-ttl",
        EvictionPolicy::None => "noeviction",
    }
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
    LogLevel(&'static str, &'static str),
    /// It has that value already.
    Nothing,
}

type Checked = Result<Change, String>;

/// A setting.
struct Setting {
    name: &'static str,
    value: fn(&Context, Scope) -> String,
    /// What a new value changes; none: nothing can.
    check: Option<fn(&str) -> Checked>,
}

const fn fixed(name: &'static str, value: fn(&Context, Scope) -> String) -> Setting {
    Setting { name, value, check: None }
}

const fn tunable(
    name: &'static str,
    value: fn(&Context, Scope) -> String,
    check: fn(&str) -> Checked,
) -> Setting {
    Setting { name, value, check: Some(check) }
}

/// In the order of their names.
static SETTINGS: &[Setting] = &[
    fixed("appendonly", |_, _| "no".to_owned()),
    fixed("bind", |context, _| context.settings.bind.to_string()),
    fixed("cluster-enabled", |_, scope| if scope == Scope::Node { "yes" } else { "no" }.to_owned()),
    fixed("databases", |_, _| "1".to_owned()),
    tunable("loglevel", |context, _| context.tuning.log_level().to_owned(), check_log_level),
    tunable("maxclients", |context, _| context.tuning.connections_max().to_string(), check_connections_max),
    fixed("maxmemory", |context, _| context.settings.store.memory_bytes_max.to_string()),
    fixed("maxmemory-policy", |context, _| memory_policy(context).to_owned()),
    fixed("notify-keyspace-events", |_, _| String::new()),
    fixed("port", |context, scope| match scope {
        Scope::Cluster => context.settings.port.to_string(),
        Scope::Node => context.settings.redirect_port.to_string(),
    }),
    fixed("proto-max-bulk-len", |context, _| {
        RespLimits::for_entries_of(context.settings.text.entry_bytes_max).bulk_bytes_max.to_string()
    }),
    fixed("requirepass", |_, _| String::new()),
    fixed("save", |_, _| String::new()),
    tunable(
        "timeout",
        |context, _| context.tuning.idle_timeout().map_or(0, |time| time.as_secs()).to_string(),
        check_idle_timeout,
    ),
];

fn number(value: &str, min: u64, max: u64) -> Result<u64, String> {
    let number: u64 = value.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
    match (min..=max).contains(&number) {
        true => Ok(number),
        false => Err(format!("argument must be between {min} and {max} inclusive")),
    }
}

fn check_idle_timeout(value: &str) -> Checked {
    number(value, 0, i32::MAX as u64).map(Change::IdleTimeout)
}

fn check_connections_max(value: &str) -> Checked {
    let count = number(value, 1, CONNECTIONS_MAX_BOUND as u64)? as usize;
    match files::connections_max() {
        room if count > room => Err(format!("the process may open files for {room} clients only")),
        _ => Ok(Change::ConnectionsMax(count)),
    }
}

fn check_log_level(value: &str) -> Checked {
    let found = LOG_LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.map(|(name, filter)| Change::LogLevel(name, filter)).ok_or_else(|| {
        let names = LOG_LEVELS.map(|(name, _)| name).join(", ");
        format!("argument(s) must be one of the following: {names}")
    })
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
pub fn set(context: &Context, scope: Scope, pairs: &[(String, Bytes)]) -> Result<(), Invalid> {
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
            Some(check) => check(value).map_err(|reason| refuse(name, &reason))?,
            // Tools say again what holds anyway.
            None if value == (setting.value)(context, scope) => Change::Nothing,
            None => return Err(refuse(name, "can't set immutable config")),
        });
    }
    for ((name, value), change) in pairs.iter().zip(changes) {
        if !matches!(change, Change::Nothing) {
            make(context, change).map_err(|reason| refuse(name, &reason))?;
            info!(setting = name, value = %value.escape_ascii(), "setting changed by a client");
        }
    }
    Ok(())
}

fn make(context: &Context, change: Change) -> Result<(), String> {
    let tuning = &context.tuning;
    match change {
        Change::IdleTimeout(secs) => tuning.idle_timeout_secs.store(secs, Ordering::Relaxed),
        Change::ConnectionsMax(count) => tuning.connections_max.store(count, Ordering::Relaxed),
        Change::LogLevel(name, filter) => {
            context.settings.log_control.set(filter)?;
            *tuning.log_level.lock().unwrap_or_else(PoisonError::into_inner) = name;
        }
        Change::Nothing => {}
    }
    Ok(())
}
