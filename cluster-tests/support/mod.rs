//! What cluster tests share: nodes as real processes, clients, conditions to wait for, figures.
//!
//! A test waits for conditions with [`eventually`], never for time to pass. Everything that it starts
//! ends with it, also when it fails: a node is killed by its process id when it is dropped, and what
//! it logged is printed if the test panics.

#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod client;
pub mod cluster;
pub mod counting;
pub mod figures;
pub mod load;
pub mod network;
pub mod node;
pub mod ports;
pub mod resp;
pub mod rough_line;

use std::time::Duration;
use std::time::Instant;

/// Long enough for any condition on a machine that does much else.
pub const LONG: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// Waits until a condition holds and says for how long; fails with the condition's own words when it
/// does not within the limit.
pub async fn eventually(limit: Duration, mut condition: impl AsyncFnMut() -> Result<(), String>) -> Duration {
    let start = Instant::now();
    loop {
        match condition().await {
            Ok(()) => return start.elapsed(),
            Err(reason) if start.elapsed() > limit => panic!("not within {limit:?}: {reason}"),
            Err(_) => tokio::time::sleep(LOOK_PERIOD).await,
        }
    }
}

/// Runs a test alone among those of its binary: each loads the whole machine.
pub fn alone(test: impl Future<Output = ()>) {
    static MACHINE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _machine = MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    allow_many_sockets();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

/// Nodes inherit it.
fn allow_many_sockets() {
    let kind = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(kind).unwrap();
    nix::sys::resource::setrlimit(kind, hard, hard).unwrap();
}
