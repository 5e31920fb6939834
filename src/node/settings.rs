//! A node's settings: from flags, the environment (`CACHEGOPHER_*`) and a TOML file, in this order of
//! precedence; checked once, with an error that names the setting, its value and the bound.

mod ack;
mod checks;
mod log;
mod original;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use serde::Deserialize;

use crate::cluster::membership::MembershipSettings;
use crate::cluster::placement::PlacementSettings;
use crate::cluster::ring::WEIGHT_ONE;
use crate::command::Ack;
use crate::node::anew::Anew;
use crate::protocol::text::TextLimits;
use crate::store::EvictionPolicy;

pub use ack::AckMode;
use checks::admin_port;
use checks::away_max;
pub use checks::default_admin_port;
use checks::idle_timeout;
pub use checks::memory_bytes_min;
use checks::millis;
use checks::peer_port;
use checks::redirect_port;
use checks::refuse;
use checks::seed;
use checks::short;
use checks::store;
use checks::transfer_bytes;
use checks::within;
pub use log::LogControl;

/// The client port of a node that is told nothing else.
pub const DEFAULT_PORT: u16 = 31_337;
/// How far the port for cluster-aware clients is above the client port, or below one that is too high.
pub const REDIRECT_PORT_OFFSET: u16 = 1_000;
/// How far the port for peers (TCP and UDP) is below the client port, or above one that is too low for
/// that. Either way it stays below 32768, where the ports begin that the system gives to outgoing
/// connections, any of which could hold it already.
pub const PEER_PORT_OFFSET: u16 = 10_000;
/// How far the port for administration is below the client port.
pub const ADMIN_PORT_OFFSET: u16 = 1_000;
/// How far it is above one that is too low for that.
const ADMIN_PORT_OFFSET_LOW: u16 = 20_000;
const ADMIN_PORT_FROM: u16 = ADMIN_PORT_OFFSET + PORT_UNPRIVILEGED;
/// The first port that anybody may listen on.
const PORT_UNPRIVILEGED: u16 = 1_024;

/// The most client connections that can be allowed.
pub const CONNECTIONS_MAX_BOUND: usize = 1_000_000;

/// What can be said on the command line, in the environment and in a file; the same names everywhere.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawSettings {
    /// TOML file with any of these settings, or the cacheGopherConfig.json of the original project
    #[arg(long, env = "CACHEGOPHER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Which of the servers of cacheGopherConfig.json this node is
    #[arg(long, env = "CACHEGOPHER_SERVER_ID", value_name = "ID")]
    #[serde(skip)]
    pub server_id: Option<String>,
    /// Name of this node, kept over restarts, unique in the cluster [default: <announce-host>:<port>]
    #[arg(long, env = "CACHEGOPHER_NAME")]
    pub name: Option<String>,
    /// Name of the cluster: nodes of other clusters are ignored [default: cachegopher]
    #[arg(long, env = "CACHEGOPHER_CLUSTER")]
    pub cluster: Option<String>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, env = "CACHEGOPHER_BIND", value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// Port for clients [default: 31337]
    #[arg(long, env = "CACHEGOPHER_PORT")]
    pub port: Option<u16>,
    /// Port for cluster-aware clients, which are told there who serves a key [default: port + 1000]
    #[arg(long, env = "CACHEGOPHER_REDIRECT_PORT")]
    pub redirect_port: Option<u16>,
    /// Port for other nodes, TCP and UDP [default: port - 10000, or + 10000 below 11024]
    #[arg(long, env = "CACHEGOPHER_PEER_PORT")]
    pub peer_port: Option<u16>,
    /// Port for administration by HTTP, 0: none [default: port - 1000, or + 20000 below 2024]
    #[arg(long, env = "CACHEGOPHER_ADMIN_PORT")]
    pub admin_port: Option<u16>,
    /// Address for administration: whoever reaches it can take the node out [default: 127.0.0.1]
    #[arg(long, env = "CACHEGOPHER_ADMIN_BIND", value_name = "IP")]
    pub admin_bind: Option<IpAddr>,
    /// Host name or address that others reach this node by [default: the bind address]
    #[arg(long, env = "CACHEGOPHER_ANNOUNCE_HOST", value_name = "HOST")]
    pub announce_host: Option<String>,
    /// Port that clients are told, where it is another one outside [default: port]
    #[arg(long, env = "CACHEGOPHER_ANNOUNCE_PORT", value_name = "PORT")]
    pub announce_port: Option<u16>,
    /// Port that cluster-aware clients are told [default: redirect-port]
    #[arg(long, env = "CACHEGOPHER_ANNOUNCE_REDIRECT_PORT", value_name = "PORT")]
    pub announce_redirect_port: Option<u16>,
    /// Port that other nodes are told [default: peer-port]
    #[arg(long, env = "CACHEGOPHER_ANNOUNCE_PEER_PORT", value_name = "PORT")]
    pub announce_peer_port: Option<u16>,
    /// Peer addresses of nodes to join through; names are resolved anew at each attempt
    #[arg(long, env = "CACHEGOPHER_JOIN", value_delimiter = ',', value_name = "HOST:PORT")]
    pub join: Option<Vec<String>>,
    /// How long to try to join before starting alone, in ms [default: 3000]
    #[arg(long, env = "CACHEGOPHER_JOIN_WAIT_MAX_MS", value_name = "MS")]
    pub join_wait_max_ms: Option<u64>,
    /// Copies of every partition, 1 to 5 [default: 2]
    #[arg(long, env = "CACHEGOPHER_COPIES")]
    pub copies: Option<usize>,
    /// When a write is acknowledged: by its primary alone, or by a replica too [default: async]
    #[arg(long, env = "CACHEGOPHER_ACK", value_enum)]
    pub ack: Option<AckMode>,
    /// Share of the partitions, in percent of an ordinary node, 1 to 1000 [default: 100]
    #[arg(long, env = "CACHEGOPHER_WEIGHT")]
    pub weight: Option<u16>,
    /// Memory for entries, such as 256MB or 4GB [default: 256MB]
    #[arg(long, env = "CACHEGOPHER_MAX_MEMORY", value_name = "BYTES")]
    pub max_memory: Option<String>,
    /// Number of entries, if it is to be bounded too
    #[arg(long, env = "CACHEGOPHER_MAX_ITEMS", value_name = "COUNT")]
    pub max_items: Option<usize>,
    /// What goes when memory is full [default: lru]
    #[arg(long, env = "CACHEGOPHER_EVICTION", value_enum)]
    pub eviction: Option<Eviction>,
    /// Bytes of a key and its value together [default: 65536]
    #[arg(long, env = "CACHEGOPHER_MAX_ENTRY_BYTES", value_name = "BYTES")]
    pub max_entry_bytes: Option<usize>,
    /// Shards, 1 to 64 [default: one per core, at least 2]
    #[arg(long, env = "CACHEGOPHER_SHARDS")]
    pub shards: Option<usize>,
    /// How quickly membership reacts [default: normal]
    #[arg(long, env = "CACHEGOPHER_DETECTION", value_enum)]
    pub detection: Option<Detection>,
    /// Megabytes a second that transfers of copies may take from this node [default: unlimited]
    #[arg(long, env = "CACHEGOPHER_TRANSFER_MB_PER_S", value_name = "MB")]
    pub transfer_mb_per_s: Option<u64>,
    /// How long a member is dead before its copies are rebuilt elsewhere, in ms [default: 10000]
    #[arg(long, env = "CACHEGOPHER_REREPLICATE_AFTER_MS", value_name = "MS")]
    pub rereplicate_after_ms: Option<u64>,
    /// How long a member is dead before it is forgotten, in ms [default: 600000]
    #[arg(long, env = "CACHEGOPHER_FORGET_AFTER_MS", value_name = "MS")]
    pub forget_after_ms: Option<u64>,
    /// Who is apart from the others for longer comes back without what it had, in ms [default: 600000]
    #[arg(long, env = "CACHEGOPHER_AWAY_MAX_MS", value_name = "MS")]
    pub away_max_ms: Option<u64>,
    /// How long a command waits for a primary to be replaced, in ms [default: 2000]
    #[arg(long, env = "CACHEGOPHER_FAILOVER_WAIT_MAX_MS", value_name = "MS")]
    pub failover_wait_max_ms: Option<u64>,
    /// Commands that may wait for a primary to be replaced [default: 100000]
    #[arg(long, env = "CACHEGOPHER_WAITING_MAX", value_name = "COUNT")]
    pub waiting_max: Option<usize>,
    /// Client connections [default: 10000]
    #[arg(long, env = "CACHEGOPHER_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<usize>,
    /// Bytes of replies that may wait for a client that does not read, 0: any number [default: 536870912]
    #[arg(long, env = "CACHEGOPHER_MAX_OUTPUT_BYTES", value_name = "BYTES")]
    pub max_output_bytes: Option<usize>,
    /// How long a client may be silent before its connection is closed, in s; 0: for ever [default: 0]
    #[arg(long, env = "CACHEGOPHER_IDLE_TIMEOUT", value_name = "SECONDS")]
    pub idle_timeout: Option<u64>,
    /// What to log, per module, such as info or cachegopher::node=debug [default: info]
    #[arg(long, env = "CACHEGOPHER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log [default: text]
    #[arg(long, env = "CACHEGOPHER_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// What goes when memory is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Eviction {
    /// What has not been used for longest.
    #[default]
    Lru,
    /// What is used least often.
    Lfu,
    /// What expires next; what does not expire stays.
    Ttl,
    /// Nothing: writes are refused.
    None,
}

impl From<Eviction> for EvictionPolicy {
    fn from(eviction: Eviction) -> Self {
        match eviction {
            Eviction::Lru => Self::Lru,
            Eviction::Lfu => Self::Lfu,
            Eviction::Ttl => Self::Ttl,
            Eviction::None => Self::None,
        }
    }
}

/// How quickly membership reacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Detection {
    /// For a quiet local network.
    Fast,
    /// A silent death is known after about six tenths of a second.
    #[default]
    Normal,
    /// For networks that lose or delay many packets.
    Cautious,
}

/// How to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: an object per line.
    Json,
}

/// A setting that cannot be used. The node does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A value is out of its bound.
    #[error("{setting} is {value}, but must be {bound}")]
    OutOfBound {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        bound: String,
    },
    /// The file cannot be read or is no TOML with these settings.
    #[error("config {file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// How much the store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Memory for entries in all shards.
    pub memory_bytes_max: usize,
    /// Number of entries in all shards.
    pub items_max: Option<usize>,
    /// What goes when memory is full.
    pub eviction: EvictionPolicy,
    /// Shards.
    pub shard_count: usize,
}

/// The ports that others are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncePorts {
    /// For clients.
    pub client: u16,
    /// For cluster-aware clients.
    pub redirect: u16,
    /// For other nodes.
    pub peer: u16,
}

/// A node's settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where to listen.
    pub bind: IpAddr,
    /// For clients.
    pub port: u16,
    /// For cluster-aware clients.
    pub redirect_port: u16,
    /// For other nodes.
    pub peer_port: u16,
    /// For administration, if that is wanted.
    pub admin_port: Option<u16>,
    /// Where to listen for it.
    pub admin_bind: IpAddr,
    /// How others reach this node.
    pub announce_host: String,
    /// The ports that others are told: for clients, for cluster-aware clients, for other nodes.
    pub announce_ports: AnnouncePorts,
    /// What is to be said about a file of the original project.
    pub notes: Vec<String>,
    /// Why the node starts empty, if it had to begin anew.
    pub anew: Option<Anew>,
    /// Peer addresses to join through.
    pub join: Vec<String>,
    /// How long to try to join.
    pub join_wait_max: Duration,
    /// When a write is acknowledged on connections that say nothing else.
    pub ack: Ack,
    /// Share of the partitions, in hundredths.
    pub weight: u16,
    /// Bytes a second that all transfers together may take from this node.
    pub transfer_bytes_per_second: Option<u64>,
    /// How long a command waits for a primary.
    pub failover_wait_max: Duration,
    /// How many commands may wait for a primary.
    pub waiting_max: usize,
    /// How many client connections there may be.
    pub connections_max: usize,
    /// How many bytes of replies may wait for a client that does not read; 0: any number.
    pub output_bytes_max: usize,
    /// How long a client may ask for nothing before its connection is closed.
    pub idle_timeout: Option<Duration>,
    /// What to log.
    pub log: String,
    /// How to log something else later.
    pub log_control: LogControl,
    /// How to log.
    pub log_format: LogFormat,
    /// How much the store keeps.
    pub store: StoreSettings,
    /// What a line may hold.
    pub text: TextLimits,
    /// How membership reacts.
    pub membership: MembershipSettings,
    /// Where copies are put.
    pub placement: PlacementSettings,
}

impl RawSettings {
    /// Adds what the file says and is not said otherwise, fills in the defaults and checks all.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] names the first setting that cannot be used.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let Some(file) = &self.config else { return self.fill() };
        let name = file.display().to_string();
        let fail = |reason: String| SettingsError::File { file: name.clone(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| fail(error.to_string()))?;
        if file.extension().is_some_and(|extension| extension == "json") {
            let (below, notes) = original::read(&text, self.server_id.as_deref(), &name)?;
            return Ok(Settings { notes, ..self.over(below).fill()? });
        }
        let below: RawSettings = toml::from_str(&text).map_err(|error| fail(error.to_string()))?;
        self.over(below).fill()
    }

    /// These settings, and those of `below` where nothing is said here.
    fn over(self, below: Self) -> Self {
        Self {
            config: self.config,
            server_id: self.server_id,
            name: self.name.or(below.name),
            cluster: self.cluster.or(below.cluster),
            bind: self.bind.or(below.bind),
            port: self.port.or(below.port),
            redirect_port: self.redirect_port.or(below.redirect_port),
            peer_port: self.peer_port.or(below.peer_port),
            admin_port: self.admin_port.or(below.admin_port),
            admin_bind: self.admin_bind.or(below.admin_bind),
            announce_host: self.announce_host.or(below.announce_host),
            announce_port: self.announce_port.or(below.announce_port),
            announce_redirect_port: self.announce_redirect_port.or(below.announce_redirect_port),
            announce_peer_port: self.announce_peer_port.or(below.announce_peer_port),
            join: self.join.or(below.join),
            join_wait_max_ms: self.join_wait_max_ms.or(below.join_wait_max_ms),
            copies: self.copies.or(below.copies),
            ack: self.ack.or(below.ack),
            weight: self.weight.or(below.weight),
            max_memory: self.max_memory.or(below.max_memory),
            max_items: self.max_items.or(below.max_items),
            eviction: self.eviction.or(below.eviction),
            max_entry_bytes: self.max_entry_bytes.or(below.max_entry_bytes),
            shards: self.shards.or(below.shards),
            detection: self.detection.or(below.detection),
            transfer_mb_per_s: self.transfer_mb_per_s.or(below.transfer_mb_per_s),
            rereplicate_after_ms: self.rereplicate_after_ms.or(below.rereplicate_after_ms),
            forget_after_ms: self.forget_after_ms.or(below.forget_after_ms),
            away_max_ms: self.away_max_ms.or(below.away_max_ms),
            failover_wait_max_ms: self.failover_wait_max_ms.or(below.failover_wait_max_ms),
            waiting_max: self.waiting_max.or(below.waiting_max),
            max_connections: self.max_connections.or(below.max_connections),
            max_output_bytes: self.max_output_bytes.or(below.max_output_bytes),
            idle_timeout: self.idle_timeout.or(below.idle_timeout),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
        }
    }

    fn fill(self) -> Result<Settings, SettingsError> {
        let bind = self.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port = within("port", self.port.unwrap_or(DEFAULT_PORT), 1, u16::MAX)?;
        let redirect_port = redirect_port(self.redirect_port, port)?;
        let peer_port = peer_port(self.peer_port, port, redirect_port)?;
        let announce_host = match self.announce_host {
            Some(host) => short("announce-host", host)?,
            None if bind.is_unspecified() => {
                return Err(refuse("announce-host", "not set", format!("set, since bind is {bind}")));
            }
            None => bind.to_string(),
        };
        let told = |setting, value: Option<u16>, own| within(setting, value.unwrap_or(own), 1, u16::MAX);
        let announce_ports = AnnouncePorts {
            client: told("announce-port", self.announce_port, port)?,
            redirect: told("announce-redirect-port", self.announce_redirect_port, redirect_port)?,
            peer: told("announce-peer-port", self.announce_peer_port, peer_port)?,
        };
        let name = short("name", self.name.unwrap_or_else(|| format!("{announce_host}:{port}")))?;
        let placement = PlacementSettings {
            copies: within("copies", self.copies.unwrap_or(2), 1, 5)?,
            rereplicate_after: millis("rereplicate-after-ms", self.rereplicate_after_ms, 10_000)?,
            forget_after: millis("forget-after-ms", self.forget_after_ms, 600_000)?,
            ..PlacementSettings::default()
        };
        if placement.forget_after < placement.rereplicate_after {
            let bound = format!("at least rereplicate-after-ms, {}", placement.rereplicate_after.as_millis());
            return Err(refuse("forget-after-ms", placement.forget_after.as_millis(), bound));
        }
        let membership = match self.detection.unwrap_or_default() {
            Detection::Fast => MembershipSettings::fast(),
            Detection::Normal => MembershipSettings::default(),
            Detection::Cautious => MembershipSettings::cautious(),
        };
        let membership = MembershipSettings { away_max: away_max(self.away_max_ms)?, ..membership };
        let entry_bytes_max = within("max-entry-bytes", self.max_entry_bytes.unwrap_or(65_536), 16, 1 << 20)?;
        Ok(Settings {
            name,
            cluster: short("cluster", self.cluster.unwrap_or_else(|| "cachegopher".to_owned()))?,
            bind,
            port,
            redirect_port,
            peer_port,
            admin_port: admin_port(self.admin_port, port),
            admin_bind: self.admin_bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            announce_host,
            announce_ports,
            notes: Vec::new(),
            anew: None,
            join: self.join.unwrap_or_default().into_iter().map(seed).collect::<Result<_, _>>()?,
            join_wait_max: millis("join-wait-max-ms", self.join_wait_max_ms, 3_000)?,
            ack: self.ack.unwrap_or_default().into(),
            weight: within("weight", self.weight.unwrap_or(WEIGHT_ONE), 1, 1_000)?,
            transfer_bytes_per_second: transfer_bytes(self.transfer_mb_per_s)?,
            failover_wait_max: millis("failover-wait-max-ms", self.failover_wait_max_ms, 2_000)?,
            waiting_max: within("waiting-max", self.waiting_max.unwrap_or(100_000), 1, 10_000_000)?,
            connections_max: within(
                "max-connections",
                self.max_connections.unwrap_or(10_000),
                1,
                CONNECTIONS_MAX_BOUND,
            )?,
            output_bytes_max: self.max_output_bytes.unwrap_or(512 << 20),
            idle_timeout: idle_timeout(self.idle_timeout)?,
            log: self.log.unwrap_or_else(|| "info".to_owned()),
            log_control: LogControl::default(),
            log_format: self.log_format.unwrap_or_default(),
            store: StoreSettings {
                eviction: self.eviction.unwrap_or_default().into(),
                ..store(self.max_memory.as_deref(), self.max_items, self.shards, entry_bytes_max)?
            },
            text: TextLimits { entry_bytes_max },
            membership,
            placement,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::checks::parse_bytes;
    use super::*;

    #[test]
    fn a_node_that_is_told_nothing_uses_the_defaults() {
        let settings = RawSettings::default().check().unwrap();
        assert_eq!((settings.port, settings.redirect_port, settings.peer_port), (31_337, 32_337, 21_337));
        assert_eq!(settings.name, "127.0.0.1:31337");
        assert_eq!(settings.store.memory_bytes_max, 256 << 20);
        assert_eq!(settings.placement.copies, 2);
    }

    #[test]
    fn the_port_for_peers_follows_the_client_port_and_keeps_clear_of_outgoing_connections() {
        let chosen = [31_337, 6_379, 11_023, 11_024, 42_000]
            .map(|port| peer_port(None, port, redirect_port(None, port).unwrap()).unwrap());
        assert_eq!(chosen, [21_337, 16_379, 21_023, 1_024, 32_000]);
    }

    #[test]
    fn a_setting_out_of_its_bound_is_named_with_its_value_and_the_bound() {
        let refused = |raw: RawSettings| raw.check().unwrap_err().to_string();
        let raw = RawSettings { copies: Some(9), ..RawSettings::default() };
        assert_eq!(refused(raw), "copies is 9, but must be 1 to 5");
        let raw = RawSettings { max_memory: Some("lots".into()), ..RawSettings::default() };
        assert_eq!(refused(raw), "max-memory is \"lots\", but must be a number of bytes, KB, MB or GB");
        let raw = RawSettings { max_memory: Some("1MB".into()), shards: Some(2), ..RawSettings::default() };
        assert!(refused(raw).starts_with("max-memory is 1MB, but must be at least "));
        let raw = RawSettings { join: Some(vec!["nowhere".into()]), ..RawSettings::default() };
        assert!(refused(raw).starts_with("join is \"nowhere\", but must be host:port"));
        let raw = RawSettings { bind: Some("0.0.0.0".parse().unwrap()), ..RawSettings::default() };
        assert!(refused(raw).starts_with("announce-host is not set, but must be set"));
        let raw = RawSettings { peer_port: Some(31_337), ..RawSettings::default() };
        assert!(refused(raw).starts_with("peer-port is 31337, but must be 1 to 65535 and neither"));
        let raw = RawSettings { redirect_port: Some(31_337), ..RawSettings::default() };
        assert!(refused(raw).starts_with("redirect-port is 31337, but must be 1 to 65535 and not"));
        let raw = RawSettings { announce_port: Some(0), ..RawSettings::default() };
        assert_eq!(refused(raw), "announce-port is 0, but must be 1 to 65535");
        let raw = RawSettings { name: Some("a b".into()), ..RawSettings::default() };
        assert!(refused(raw).starts_with("name is \"a b\", but must be 1 to 128 bytes"));
    }

    #[test]
    fn what_is_said_on_the_command_line_counts_more_than_the_file() {
        let below: RawSettings =
            toml::from_str("port = 4000\ncopies = 3\njoin = [\"a:1\", \"b:2\"]").unwrap();
        let raw = RawSettings { port: Some(5_000), ..RawSettings::default() };
        let settings = raw.over(below).fill().unwrap();
        assert_eq!((settings.port, settings.placement.copies, settings.join.len()), (5_000, 3, 2));
    }

    #[test]
    fn a_file_with_an_unknown_setting_is_refused() {
        let error = toml::from_str::<RawSettings>("prot = 4000").unwrap_err();
        assert!(error.to_string().contains("unknown field `prot`"));
    }

    #[test]
    fn amounts_of_memory_are_read_with_their_unit() {
        let read = ["512", "64kb", "256MB", "4GiB", " 1 G "].map(parse_bytes);
        assert_eq!(read, [Some(512), Some(64 << 10), Some(256 << 20), Some(4 << 30), Some(1 << 30)]);
        assert_eq!(["", "MB", "-1", "1TB", "1.5GB"].map(parse_bytes), [None; 5]);
    }
}
