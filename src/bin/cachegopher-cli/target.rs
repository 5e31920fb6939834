//! Which nodes are asked. The environment and the file are those of the node, so that the command line
//! of a machine finds the node of that machine.

use std::net::IpAddr;
use std::path::PathBuf;

use cachegopher::node::settings::DEFAULT_PORT;
use cachegopher::node::settings::RawSettings;
use clap::Args;

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
        let file: RawSettings = match &self.config {
            Some(path) => {
                let fail = |reason: String| format!("config {}: {reason}", path.display());
                let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
                toml::from_str(&text).map_err(|error| fail(error.to_string()))?
            }
            None => RawSettings::default(),
        };
        let bind = self.bind.or(file.bind).filter(|bind| !bind.is_unspecified());
        let host = self.host.clone().or(file.announce_host).or_else(|| bind.map(|bind| bind.to_string()));
        let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = self.port.or(file.port).unwrap_or(DEFAULT_PORT);
        Ok(vec![if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }])
    }
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
}
