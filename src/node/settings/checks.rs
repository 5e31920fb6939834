//! The bounds of settings, each checked on its own.

use std::fmt::Display;
use std::time::Duration;

use crate::cluster::membership::AWAY_MAX_MIN;
use crate::cluster::record::NAME_BYTES_MAX;
use crate::node::settings::ADMIN_PORT_FROM;
use crate::node::settings::ADMIN_PORT_OFFSET;
use crate::node::settings::ADMIN_PORT_OFFSET_LOW;
use crate::node::settings::PEER_PORT_OFFSET;
use crate::node::settings::PORT_UNPRIVILEGED;
use crate::node::settings::REDIRECT_PORT_OFFSET;
use crate::node::settings::SettingsError;
use crate::node::settings::StoreSettings;
use crate::store::EvictionPolicy;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

pub(super) fn refuse(setting: &'static str, value: impl Display, bound: String) -> SettingsError {
    SettingsError::OutOfBound { setting, value: value.to_string(), bound }
}

pub(super) fn within<T: PartialOrd + Display>(
    setting: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<T, SettingsError> {
    match value >= min && value <= max {
        true => Ok(value),
        false => Err(refuse(setting, value, format!("{min} to {max}"))),
    }
}

pub(super) fn millis(
    setting: &'static str,
    value: Option<u64>,
    default: u64,
) -> Result<Duration, SettingsError> {
    within(setting, value.unwrap_or(default), 1, DAY_MS).map(Duration::from_millis)
}

pub(super) fn away_max(value: Option<u64>) -> Result<Duration, SettingsError> {
    let min = u64::try_from(AWAY_MAX_MIN.as_millis()).unwrap_or(u64::MAX);
    within("away-max-ms", value.unwrap_or(600_000), min, DAY_MS).map(Duration::from_millis)
}

pub(super) fn idle_timeout(secs: Option<u64>) -> Result<Option<Duration>, SettingsError> {
    let secs = within("idle-timeout", secs.unwrap_or(0), 0, i32::MAX as u64)?;
    Ok((secs > 0).then_some(Duration::from_secs(secs)))
}

/// Names go into every record, and records into datagrams.
pub(super) fn short(setting: &'static str, value: String) -> Result<String, SettingsError> {
    let is_fine = !value.is_empty()
        && value.len() <= NAME_BYTES_MAX
        && !value.contains(|c: char| c.is_whitespace() || c.is_control());
    match is_fine {
        true => Ok(value),
        false => Err(refuse(
            setting,
            format_args!("{value:?}"),
            format!("1 to {NAME_BYTES_MAX} bytes without white space"),
        )),
    }
}

pub(super) fn redirect_port(value: Option<u16>, port: u16) -> Result<u16, SettingsError> {
    let default = port.checked_add(REDIRECT_PORT_OFFSET).unwrap_or(port - REDIRECT_PORT_OFFSET);
    let redirect_port = value.unwrap_or(default);
    match redirect_port == 0 || redirect_port == port {
        true => {
            let bound = format!("1 to {} and not the client port", u16::MAX);
            Err(refuse("redirect-port", redirect_port, bound))
        }
        false => Ok(redirect_port),
    }
}

pub(super) fn peer_port(value: Option<u16>, port: u16, redirect_port: u16) -> Result<u16, SettingsError> {
    let peer_port = value.unwrap_or_else(|| default_peer_port(port));
    match peer_port == 0 || peer_port == port || peer_port == redirect_port {
        true => {
            let bound = format!("1 to {} and neither the client port nor the redirect port", u16::MAX);
            Err(refuse("peer-port", peer_port, bound))
        }
        false => Ok(peer_port),
    }
}

pub(super) fn default_peer_port(port: u16) -> u16 {
    let is_privileged = port < PEER_PORT_OFFSET + PORT_UNPRIVILEGED;
    if is_privileged { port + PEER_PORT_OFFSET } else { port - PEER_PORT_OFFSET }
}

/// Zero stands for none.
pub(super) fn admin_port(value: Option<u16>, port: u16) -> Option<u16> {
    Some(value.unwrap_or_else(|| default_admin_port(port))).filter(|port| *port != 0)
}

/// Where a node with that client port is administered, if it is not told otherwise.
pub fn default_admin_port(port: u16) -> u16 {
    match port {
        0..ADMIN_PORT_FROM => port + ADMIN_PORT_OFFSET_LOW,
        // Below it is the redirect port.
        64_536.. => port - 2 * ADMIN_PORT_OFFSET,
        ADMIN_PORT_FROM.. => port - ADMIN_PORT_OFFSET,
    }
}

pub(super) fn seed(seed: String) -> Result<String, SettingsError> {
    let is_address =
        seed.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match is_address {
        true => Ok(seed),
        false => Err(refuse(
            "join",
            format_args!("{seed:?}"),
            "host:port, with the peer port of a node".to_owned(),
        )),
    }
}

pub(super) fn store(
    max_memory: Option<&str>,
    items_max: Option<usize>,
    shards: Option<usize>,
    entry_bytes_max: usize,
) -> Result<StoreSettings, SettingsError> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let shard_count = within("shards", shards.unwrap_or(cores.clamp(2, 64)), 1, 64)?;
    let text = max_memory.unwrap_or("256MB");
    let memory_bytes_max = parse_bytes(text).ok_or_else(|| {
        refuse("max-memory", format_args!("{text:?}"), "a number of bytes, KB, MB or GB".to_owned())
    })?;
    let min = memory_bytes_min(shard_count, entry_bytes_max);
    if memory_bytes_max < min {
        return Err(refuse("max-memory", text, format!("at least {min} bytes for {shard_count} shards")));
    }
    let items_max = items_max.map(|items| within("max-items", items, shard_count, usize::MAX)).transpose()?;
    Ok(StoreSettings { memory_bytes_max, items_max, eviction: EvictionPolicy::Lru, shard_count })
}

/// A shard must have room for its tables and several of the largest entries.
pub fn memory_bytes_min(shard_count: usize, entry_bytes_max: usize) -> usize {
    shard_count * (1024 * 1024 + 8 * entry_bytes_max)
}

/// `512`, `64KB`, `256MB`, `4GB`, in any case; units are powers of 1024.
pub(super) fn parse_bytes(text: &str) -> Option<usize> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match upper[digits.len()..].trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.trim().parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// Bytes a second.
pub(super) fn transfer_bytes(megabytes: Option<u64>) -> Result<Option<u64>, SettingsError> {
    let bytes = |megabytes| within("transfer-mb-per-s", megabytes, 1, 1_000_000).map(|valid| valid << 20);
    megabytes.map(bytes).transpose()
}
