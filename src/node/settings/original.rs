//! The configuration file of the original project, `cacheGopherConfig.json`: its servers become the names,
//! addresses and seeds of nodes. Who is primary of what is decided by the ring, so the roles that the file
//! gives are only reported.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use clap::ValueEnum;
use serde::Deserialize;

use crate::node::settings::Eviction;
use crate::node::settings::RawSettings;
use crate::node::settings::SettingsError;
use crate::node::settings::checks::default_peer_port;
use crate::node::settings::refuse;

/// The file names them in any case.
const EVICTION_NAMES: &str = "one of LRU, LFU, TTL, NONE";

/// The file. What else is in it is for other programs.
#[derive(Debug, Deserialize)]
struct Original {
    #[serde(default)]
    common: Common,
    #[serde(default)]
    servers: Vec<Server>,
    #[serde(default)]
    logging: Logging,
}

#[derive(Debug, Default, Deserialize)]
struct Common {
    max_size: Option<usize>,
    eviction_policy: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Server {
    id: String,
    address: String,
    role: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Logging {
    level: Option<String>,
    file: Option<String>,
}

/// The settings that the file gives the server with this id, and what is to be said about the rest.
///
/// # Errors
///
/// The file is none of this kind, or says something that cannot be done.
pub fn read(
    text: &str,
    server_id: Option<&str>,
    file: &str,
) -> Result<(RawSettings, Vec<String>), SettingsError> {
    let original: Original = serde_json::from_str(text)
        .map_err(|error| SettingsError::File { file: file.to_owned(), reason: error.to_string() })?;
    let ids: Vec<&str> = original.servers.iter().map(|server| server.id.as_str()).collect();
    let ids = ids.join(", ");
    let own = match (server_id, &original.servers[..]) {
        (_, []) => {
            return Err(refuse("servers", "empty", "a list with an id and an address each".to_owned()));
        }
        (Some(id), servers) => servers.iter().find(|server| server.id == id),
        (None, [only]) => Some(only),
        (None, _) => return Err(refuse("server-id", "not set", format!("one of {ids}"))),
    };
    let shown = format!("{:?}", server_id.unwrap_or_default());
    let own = own.ok_or_else(|| refuse("server-id", shown, format!("one of {ids}")))?;
    let eviction = original.common.eviction_policy.map(|policy| {
        let refusal = || refuse("eviction_policy", format_args!("{policy:?}"), EVICTION_NAMES.to_owned());
        Eviction::from_str(&policy, true).map_err(|_| refusal())
    });
    let (host, port) = address(own)?;
    let is_other = |server: &&Server| server.id != own.id;
    let join = original.servers.iter().filter(is_other).map(|server| {
        let (host, port) = address(server)?;
        Ok(format!("{host}:{}", default_peer_port(port)))
    });
    let raw = RawSettings {
        name: Some(own.id.clone()),
        bind: Some(bind(host)),
        port: Some(port),
        announce_host: Some(host.to_owned()),
        join: Some(join.collect::<Result<_, SettingsError>>()?),
        max_items: original.common.max_size,
        eviction: eviction.transpose()?,
        log: original.logging.level.map(|level| level.to_lowercase()),
        ..RawSettings::default()
    };
    let role = |server: &Server| server.role.as_ref().map(|role| format!("{} {role}", server.id));
    let roles: Vec<String> = original.servers.iter().filter_map(role).collect();
    let mut notes = Vec::new();
    if !roles.is_empty() {
        let roles = roles.join(", ");
        notes.push(format!("roles ({roles}) are superseded by the ring: every node is primary of some keys"));
    }
    if let Some(log) = original.logging.file {
        notes.push(format!("logging.file ({log}) is not written: the log goes to standard error"));
    }
    Ok((raw, notes))
}

fn address(server: &Server) -> Result<(&str, u16), SettingsError> {
    let parts = server.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let address = parts.and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port > 0)?)));
    address.ok_or_else(|| {
        refuse(
            "address",
            format_args!("{:?} for server {}", server.address, server.id),
            "host:port".to_owned(),
        )
    })
}

/// A name may lead to any address of this machine.
fn bind(host: &str) -> IpAddr {
    match host.parse() {
        Ok(ip) => ip,
        Err(_) if host == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "clientConf": { "connectionTimeout": 300 },
        "common": { "production": false, "max_size": 10000, "eviction_policy": "LRU" },
        "servers": [
            { "id": "s1", "address": "localhost:31337", "role": "primary", "secondaries": ["s2"] },
            { "id": "s2", "address": "cache-2.example:31338", "role": "secondary", "primary": "s1" }
        ],
        "logging": { "level": "DEBUG", "file": "cacheGopherServer.log" }
    }"#;

    #[test]
    fn a_server_of_the_file_becomes_a_node_and_the_others_its_seeds() {
        let (raw, notes) = read(FILE, Some("s1"), "f").unwrap();
        assert_eq!((raw.name.as_deref(), raw.port), (Some("s1"), Some(31_337)));
        assert_eq!(raw.announce_host.as_deref(), Some("localhost"));
        assert_eq!(raw.bind, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(raw.join, Some(vec!["cache-2.example:21338".to_owned()]));
        assert_eq!((raw.max_items, raw.log.as_deref()), (Some(10_000), Some("debug")));
        assert!(notes[0].starts_with("roles (s1 primary, s2 secondary) are superseded by the ring"));
        assert!(notes[1].contains("cacheGopherServer.log"));
        let (raw, _) = read(FILE, Some("s2"), "f").unwrap();
        assert_eq!(raw.bind, Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    }

    #[test]
    fn every_eviction_policy_that_there_is_can_be_named_in_any_case() {
        let policy = |name: &str| read(&FILE.replace("LRU", name), Some("s1"), "f").unwrap().0.eviction;
        assert_eq!(policy("LRU"), Some(Eviction::Lru));
        assert_eq!(policy("lfu"), Some(Eviction::Lfu));
        assert_eq!(policy("Ttl"), Some(Eviction::Ttl));
        assert_eq!(policy("NONE"), Some(Eviction::None));
        let silent = FILE.replace(r#", "eviction_policy": "LRU""#, "");
        assert_eq!(read(&silent, Some("s1"), "f").unwrap().0.eviction, None);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_value() {
        let refused = |text: &str, id| read(text, id, "f").unwrap_err().to_string();
        assert_eq!(refused(FILE, None), "server-id is not set, but must be one of s1, s2");
        assert_eq!(refused(FILE, Some("s3")), "server-id is \"s3\", but must be one of s1, s2");
        let other = FILE.replace("LRU", "FIFO");
        let wording = "eviction_policy is \"FIFO\", but must be one of LRU, LFU, TTL, NONE";
        assert_eq!(refused(&other, Some("s1")), wording);
        let other = FILE.replace("localhost:31337", "localhost");
        let wording = "address is \"localhost\" for server s1, but must be host:port";
        assert_eq!(refused(&other, Some("s1")), wording);
        assert!(refused("{}", None).starts_with("servers is empty, but must be a list"));
        assert!(refused("{", None).starts_with("config f: EOF while parsing"));
    }
}
