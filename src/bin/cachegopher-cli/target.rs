//! Which nodes are asked. The environment and the file are those of the node, so that the command line
//! of a machine finds the node of that machine.

use std::net::IpAddr;
use std::path::PathBuf;

use cachegopher::node::settings::DEFAULT_PORT;
use cachegopher::node::settings::RawSettings;
use cachegopher::node::settings::default_admin_port;
use clap::Args;

const LOOPBACK: &str = "127.0.0.1";

/// Where the node is.
#[derive(Args, Clone, Debug, Default)]
pub struct Target {
    /// Nodes to ask, the first that answers [default: the one of host and port]
    #[arg(long, short, env = "CACHEGOPHER_NODES", value_delimiter = ',', value_name = "HOST:PORT")]
    pub nodes: Vec<String>,
    /// Host of the node [default: its bind address, or 127.0.0.1]
    #[arg(long, short = 'H', env = "CACHEGOPHER_ANNOUNCE_HOST")]
    pub host: Option<String>,
    /// Client port of the node [default: 31337]
    #[arg(long, short, env = "CACHEGOPHER_PORT")]
    pub port: Option<u16>,
    /// Administrative port of the node, for leave, forget and verify [default: the node's client port - 1000]
    #[arg(long, env = "CACHEGOPHER_ADMIN", value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Address that the node listens on, where no host is given
    #[arg(long, env = "CACHEGOPHER_BIND", value_name = "IP", hide = true)]
    pub bind: Option<IpAddr>,
    /// TOML file of the node, for what is not said otherwise
    #[arg(long, env = "CACHEGOPHER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Target {
    /// The addresses, at least one.
    pub fn addresses(&self) -> Result<Vec<String>, String> {
        if !self.nodes.is_empty() {
            return Ok(self.nodes.clone());
        }
        let file = self.file()?;
        let bind = self.bind.or(file.bind).filter(|bind| !bind.is_unspecified());
        let host = self.host.clone().or(file.announce_host).or_else(|| bind.map(|bind| bind.to_string()));
        let port = self.port.or(file.port).unwrap_or(DEFAULT_PORT);
        Ok(vec![joined(&host.unwrap_or_else(|| LOOPBACK.to_owned()), port)])
    }

    /// Where the node is administered: on loopback, unless a host is named or the node's file says
    /// otherwise.
    pub fn admin_address(&self) -> Result<String, String> {
        if let Some(admin) = &self.admin {
            return Ok(admin.clone());
        }
        let file = self.file()?;
        let first = self.nodes.first().and_then(|node| node.rsplit_once(':'));
        let (host, port) = match first {
            Some((host, port)) => (Some(host.trim_matches(['[', ']']).to_owned()), port.parse().ok()),
            None => (self.host.clone(), self.port),
        };
        let bind = file.admin_bind.filter(|bind| !bind.is_unspecified()).map(|bind| bind.to_string());
        let host = host.or(bind).unwrap_or_else(|| LOOPBACK.to_owned());
        let port = port.or(file.port).unwrap_or(DEFAULT_PORT);
        Ok(joined(&host, file.admin_port.unwrap_or_else(|| default_admin_port(port))))
    }

    fn file(&self) -> Result<RawSettings, String> {
        let Some(path) = &self.config else { return Ok(RawSettings::default()) };
        let fail = |reason: String| format!("config {}: {reason}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        toml::from_str(&text).map_err(|error| fail(error.to_string()))
    }
}

fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(target: Target) -> Vec<String> {
        target.addresses().unwrap()
    }

    #[test]
    fn the_node_is_found_where_its_settings_say() {
        assert_eq!(addresses(Target::default()), ["127.0.0.1:31337"]);
        let everywhere = Target { bind: Some([0, 0, 0, 0].into()), port: Some(9), ..Target::default() };
        assert_eq!(addresses(everywhere), ["127.0.0.1:9"]);
        let one = Target { bind: Some([10, 0, 0, 1].into()), ..Target::default() };
        assert_eq!(addresses(one.clone()), ["10.0.0.1:31337"]);
        assert_eq!(addresses(Target { host: Some("::1".to_owned()), ..one.clone() }), ["[::1]:31337"]);
        assert_eq!(
            addresses(Target { nodes: vec!["a:1".to_owned(), "b:2".to_owned()], ..one }),
            ["a:1", "b:2"]
        );
        let missing = Target { config: Some("/nothing.toml".into()), ..Target::default() };
        assert!(missing.addresses().unwrap_err().contains("/nothing.toml"));
    }
    #[test]
    fn it_is_administered_on_loopback_unless_somebody_says_otherwise() {
        let of = |target: Target| target.admin_address().unwrap();
        assert_eq!(of(Target::default()), "127.0.0.1:30337");
        assert_eq!(of(Target { port: Some(40_000), ..Target::default() }), "127.0.0.1:39000");
        assert_eq!(of(Target { nodes: vec!["[::1]:40000".to_owned()], ..Target::default() }), "[::1]:39000");
        assert_eq!(of(Target { host: Some("h".to_owned()), ..Target::default() }), "h:30337");
        let admin = Some("a:1".to_owned());
        assert_eq!(of(Target { admin, port: Some(9), ..Target::default() }), "a:1");
    }
}
