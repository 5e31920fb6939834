//! Clients that count: whatever is done twice, or not at all though it was acknowledged, shows in the sum.

use std::net::SocketAddr;
use std::ops::Range;
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
use super::figures::Durations;
use super::figures::millis;
use super::node::Node;

/// Enough for each node to be primary of many.
const KEYS: usize = 200;
/// The pace of a client, not a condition.
const PAUSE: Duration = Duration::from_millis(1);

/// What one command showed.
#[derive(Debug)]
struct Count {
    key: usize,
    began: Instant,
    took: Duration,
    reply: String,
}

/// One client at each address; each counts for itself, key after key.
pub struct Counters {
    clients: Vec<JoinHandle<Vec<Count>>>,
    is_over: Arc<AtomicBool>,
    counts: Arc<AtomicUsize>,
    run: usize,
}

/// What they have seen.
pub struct Counted {
    by_client: Vec<Vec<Count>>,
    run: usize,
}

fn key(run: usize, client: usize, number: usize) -> String {
    format!("count-{run}-{client}-{number}")
}

impl Counters {
    pub fn start(addresses: &[SocketAddr]) -> Self {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let is_over = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(AtomicUsize::new(0));
        let start_one = |(client, address): (usize, &SocketAddr)| {
            tokio::spawn(count(run, client, *address, Arc::clone(&is_over), Arc::clone(&counts)))
        };
        let clients = addresses.iter().enumerate().map(start_one).collect();
        Self { clients, is_over, counts, run }
    }

    /// Waits for so many more answers.
    pub async fn go_on(&self, more: usize) {
        let enough = self.counts.load(Ordering::Relaxed) + more;
        eventually(LONG, async || match self.counts.load(Ordering::Relaxed) {
            counted if counted >= enough => Ok(()),
            counted => Err(format!("{counted} counted, not {enough}")),
        })
        .await;
    }

    pub async fn stop(self) -> Counted {
        self.is_over.store(true, Ordering::Relaxed);
        let mut by_client = Vec::new();
        for client in self.clients {
            by_client.push(client.await.unwrap());
        }
        Counted { by_client, run: self.run }
    }
}

async fn count(
    run: usize,
    client: usize,
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    counts: Arc<AtomicUsize>,
) -> Vec<Count> {
    let mut connection = Client::connect(address).await;
    let mut seen = Vec::new();
    for number in (0..KEYS).cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let reply = connection.ask(format!("INCR {}", key(run, client, number))).await;
        seen.push(Count { key: number, began, took: began.elapsed(), reply });
        counts.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    seen
}

impl Counted {
    /// How long commands took that were sent in this time, and those before it.
    pub fn print(&self, from: Instant, until: Instant) {
        let all = || self.by_client.iter().flatten();
        let mut settled = Durations::default();
        settled.add(all().filter(|count| (from..until).contains(&count.began)).map(|count| count.took));
        let before = all().filter(|count| count.began < from).map(|count| count.took).max();
        println!(
            "  counting: {} errors, slowest until it was known {}; then {} commands: p50 {}, p99 {}, slowest {}",
            all().filter(|count| count.reply.starts_with("ERROR")).count(),
            millis(before.unwrap_or_default()),
            settled.count(),
            millis(settled.percentile(50)),
            millis(settled.percentile(99)),
            millis(settled.max()),
        );
    }

    /// Every answer counts on from the one before. Only where it was not known what became of a command may it be
    /// in the sum or not, and only commands that were sent in that time may be so.
    pub async fn assert_right(&self, nodes: &[Node], unknown: Range<Instant>) {
        for (client, counts) in self.by_client.iter().enumerate() {
            let mut sums = vec![0..=0_u64; KEYS];
            for count in counts {
                let sum = &mut sums[count.key];
                match count.reply.parse::<u64>() {
                    Ok(counted) => {
                        let may_be = sum.start() + 1..=sum.end() + 1;
                        assert!(
                            may_be.contains(&counted),
                            "{counted}, not {may_be:?}: {count:?} of {client}"
                        );
                        *sum = counted..=counted;
                    }
                    Err(_) => {
                        assert!(unknown.contains(&count.began), "client {client}: {count:?}");
                        *sum = *sum.start()..=sum.end() + 1;
                    }
                }
            }
            for node in nodes {
                let asked = (0..KEYS).map(|number| format!("GET {}", key(self.run, client, number)));
                let replies = node.connect().await.ask_all(asked).await;
                for (number, (reply, sum)) in replies.iter().zip(&sums).enumerate() {
                    let is_right = reply.parse().map_or(*sum.start() == 0, |counted| sum.contains(&counted));
                    let name = &node.plan.name;
                    assert!(is_right, "{name}: {} is {reply}, not {sum:?}", key(self.run, client, number));
                }
            }
        }
    }
}
