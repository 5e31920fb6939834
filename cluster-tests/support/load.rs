//! Clients that write and read all the time, and remember what they were promised.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::task::JoinHandle;

use super::LONG;
use super::client::Client;
use super::eventually;
use super::node::Node;

/// How long before the loss of a node a write may have been acknowledged that is lost with it, in the mode
/// `async`. It takes a primary a millisecond to send a change on; this is for a machine that does much else.
const LOST_BEFORE_MAX: Duration = Duration::from_secs(5);
/// Answers that the node had sent arrive a little after its end.
const LOST_AFTER_MAX: Duration = Duration::from_secs(2);

/// Whether the mode `async` allows that what was acknowledged then is lost with a node.
pub fn may_be_lost(acknowledged: Instant, struck: Instant) -> bool {
    acknowledged + LOST_BEFORE_MAX > struck && acknowledged < struck + LOST_AFTER_MAX
}

/// Where clients reach nodes.
pub fn addresses<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<SocketAddr> {
    nodes.into_iter().map(|node| node.plan.client).collect()
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
pub struct Promise {
    pub key: String,
    pub value: String,
    pub at: Instant,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub promises: Vec<Promise>,
    pub errors: Vec<String>,
    /// The slowest answer.
    pub slowest: Duration,
}

/// Clients under way.
pub struct Load {
    clients: Vec<JoinHandle<Seen>>,
    is_over: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
}

impl Load {
    /// Starts so many clients at each address. Each writes a new key, reads it, and pauses.
    pub fn start(prefix: &str, addresses: &[SocketAddr], clients: usize, pause: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let writes = Arc::new(AtomicUsize::new(0));
        let start_one = |number: usize| {
            let address = addresses[number % addresses.len()];
            let (is_over, writes) = (Arc::clone(&is_over), Arc::clone(&writes));
            tokio::spawn(write_and_read(format!("{prefix}-{number}"), address, pause, is_over, writes))
        };
        let clients = (0..clients * addresses.len()).map(start_one).collect();
        Self { clients, is_over, writes }
    }

    /// Waits for so many more writes.
    pub async fn goes_on(&self, writes: usize) {
        let enough = self.writes.load(Ordering::Relaxed) + writes;
        eventually(LONG, async || match self.writes.load(Ordering::Relaxed) {
            written if written >= enough => Ok(()),
            written => Err(format!("{written} writes, not {enough}")),
        })
        .await;
    }

    /// Ends the clients once they have their answers.
    pub async fn stop(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.await.unwrap();
            all.promises.extend(seen.promises);
            all.errors.extend(seen.errors);
            all.slowest = all.slowest.max(seen.slowest);
        }
        all
    }
}

async fn write_and_read(
    prefix: String,
    address: SocketAddr,
    pause: Duration,
    is_over: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
) -> Seen {
    let mut seen = Seen::default();
    let mut client = match Client::try_connect(address).await {
        Ok(client) => client,
        Err(error) => {
            seen.errors.push(format!("{prefix}: connect: {error}"));
            return seen;
        }
    };
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let (key, value) = (format!("{prefix}-{number}"), format!("value {number}"));
        for request in [format!("SET {key} {value}"), format!("GET {key}")] {
            let start = Instant::now();
            let reply = client.try_ask(&request).await;
            seen.slowest = seen.slowest.max(start.elapsed());
            match reply {
                Ok(reply) if reply == "OK" => {
                    seen.promises.push(Promise {
                        key: key.clone(),
                        value: value.clone(),
                        at: Instant::now(),
                    });
                    writes.fetch_add(1, Ordering::Relaxed);
                }
                Ok(reply) if reply == value => {}
                // Lost with its node before it was replicated: the promises tell.
                Ok(reply) if reply == "ERROR: Key not found" => {}
                Ok(reply) => seen.errors.push(format!("{request}: {reply}")),
                Err(error) => {
                    seen.errors.push(format!("{request}: {error}"));
                    return seen;
                }
            }
        }
        if !pause.is_zero() {
            // The pace of the load, not a condition.
            tokio::time::sleep(pause).await;
        }
    }
    seen
}

/// Those promises that a node does not keep.
pub async fn broken(promises: &[Promise], asked: &mut Client) -> Vec<(Promise, String)> {
    let replies = asked.ask_all(promises.iter().map(|promise| format!("GET {}", promise.key))).await;
    let is_broken = |(promise, reply): &(&Promise, String)| promise.value != *reply;
    promises.iter().zip(replies).filter(is_broken).map(|(promise, reply)| (promise.clone(), reply)).collect()
}

/// All promises are kept, as each of these nodes says.
pub async fn assert_kept(nodes: impl IntoIterator<Item = &Node>, promises: &[Promise]) {
    for node in nodes {
        let broken = broken(promises, &mut node.connect().await).await;
        let (count, of, name) = (broken.len(), promises.len(), &node.plan.name);
        assert!(broken.is_empty(), "{count} of {of} promises broken on {name}: {:?}", broken[0]);
    }
}

/// A body of data that is there from the start.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub keys: usize,
    pub value_bytes: usize,
}

impl Data {
    pub async fn write(self, client: &mut Client) {
        let replies =
            client.ask_all((0..self.keys).map(|n| format!("SET {} {}", key(n), self.value(n)))).await;
        let failed: Vec<&String> = replies.iter().filter(|reply| *reply != "OK").collect();
        assert!(failed.is_empty(), "{} writes failed: {failed:?}", failed.len());
    }

    /// All of it is there, as it was written.
    pub async fn assert_readable(self, client: &mut Client) {
        let wrong = self.unreadable(client).await;
        let (count, some) = (wrong.len(), &wrong[..wrong.len().min(5)]);
        assert!(wrong.is_empty(), "{count} of {} keys are not as written: {some:?}", self.keys);
    }

    /// The keys that are not as they were written, with what is answered instead.
    pub async fn unreadable(self, client: &mut Client) -> Vec<String> {
        let replies = client.ask_all((0..self.keys).map(|n| format!("GET {}", key(n)))).await;
        (0..self.keys)
            .zip(&replies)
            .filter(|(n, reply)| **reply != self.value(*n))
            .map(|(n, reply)| format!("{}: {}", key(n), reply.chars().take(40).collect::<String>()))
            .collect()
    }

    fn value(self, number: usize) -> String {
        format!("{number:0>width$}", width = self.value_bytes)
    }
}

fn key(number: usize) -> String {
    format!("data-{number}")
}
