//! Looks at a running cluster from the outside, as a client does: the eyes of `scripts/cluster.sh`.
//!
//! It speaks the text protocol and nothing else, starts and ends no process, and prints lines that a
//! script can read: words separated by one blank, `-` where a value is unknown. What it finds out is
//! on its standard output, why it could not is on its standard error, with exit code 1.

mod drive;
mod findings;
mod keys;
mod nodes;
mod ranges;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;

use crate::nodes::NodeAddress;

/// Looks at a running cluster from the outside, for scripts
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// A line per node: name, whether it answers, how the others see it, primaries, replicas, keys,
    /// bytes, view, settled, members alive, partitions that it still has to get
    Status(Nodes),
    /// Wait until the nodes agree, or say why they do not
    Wait {
        #[command(flatten)]
        nodes: Nodes,
        /// Members that must be alive in every view [default: as many as nodes are given]
        #[arg(long)]
        alive: Option<usize>,
        /// Every partition must also have its primary and all copies where the ring wants them
        #[arg(long)]
        settled: bool,
        /// How long to wait
        #[arg(long, default_value_t = 10_000)]
        timeout_ms: u64,
    },
    /// Print the ports of 127.0.0.1 that are in use, and fail if there is one
    Ports {
        /// Ports, tried with TCP and with UDP
        #[arg(required = true)]
        ports: Vec<u16>,
    },
    /// Set the demo's keys
    Load(Keys),
    /// Count the demo's keys that can be read and have the right value
    Readable(Keys),
    /// Delete the demo's keys
    Delete(Keys),
    /// A line per node: its name and of how many of the demo's keys it is the primary, most first
    Owners(Keys),
    /// Write and read through the nodes while another one fails; see the module for what it prints
    Drive {
        #[command(flatten)]
        keys: Keys,
        /// The name of the node that is going to fail
        #[arg(long)]
        victim: String,
    },
}

#[derive(Args)]
struct Nodes {
    /// Nodes to ask, as name=host:port or host:port
    #[arg(long, value_delimiter = ',', required = true, value_name = "NODE")]
    nodes: Vec<NodeAddress>,
}

#[derive(Args)]
struct Keys {
    #[command(flatten)]
    nodes: Nodes,
    /// How many keys
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments.action)),
        Err(error) => Err(format!("runtime cannot be started: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

async fn run(action: Action) -> Result<(), String> {
    match action {
        Action::Status(Nodes { nodes }) => {
            nodes::status(&nodes).await.iter().for_each(|line| println!("{line}"));
            Ok(())
        }
        Action::Wait { nodes: Nodes { nodes }, alive, settled, timeout_ms } => {
            let alive = alive.unwrap_or(nodes.len());
            nodes::wait(&nodes, alive, settled, Duration::from_millis(timeout_ms)).await
        }
        Action::Ports { ports } => nodes::free_ports(&ports).await,
        Action::Load(Keys { nodes, keys }) => keys::load(&nodes.nodes, keys).await,
        Action::Readable(Keys { nodes, keys }) => keys::readable(&nodes.nodes, keys).await,
        Action::Delete(Keys { nodes, keys }) => keys::delete(&nodes.nodes, keys).await,
        Action::Owners(Keys { nodes, keys }) => ranges::owners(&nodes.nodes, keys).await,
        Action::Drive { keys, victim } => drive::run(&keys.nodes.nodes, keys.keys, &victim).await,
    }
}
