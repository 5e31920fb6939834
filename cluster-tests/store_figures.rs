//! Figures of the store that are no matter of passing or failing: memory per item, the longest steps
//! while tables grow and while much is flushed, memory under a churn of lengths, and how many reads each
//! eviction policy answers.
//!
//! ```text
//! cargo bench --bench store_figures -- memory | growth [items] | flush [items] | churn [seconds] | hits
//! ```
//!
//! Resident memory is what the kernel counts. Everything runs in shards as a node has them, two of them
//! where it is about memory.

#![allow(clippy::unwrap_used, reason = "nobody is there to handle it")]

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use cachegopher::store::Change;
use cachegopher::store::Content;
use cachegopher::store::EvictionPolicy;
use cachegopher::store::Partition;
use cachegopher::store::Shard;
use cachegopher::store::ShardLimits;
use cachegopher::store::Spare;
use cachegopher::time::Timestamp;
use cachegopher::time::Version;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SHARDS: usize = 2;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let what = arguments.next().unwrap_or_default();
    let number = arguments.next().and_then(|number| number.parse::<u64>().ok());
    match what.as_str() {
        "memory" => memory(),
        "growth" => growth(number.unwrap_or(20_000_000)),
        "flush" => flush(number.unwrap_or(1_000_000)),
        "churn" => churn(Duration::from_secs(number.unwrap_or(30))),
        "hits" => hits(),
        // `cargo test --benches` and `cargo bench` call it without.
        _ => println!("memory | growth [items] | flush [items] | churn [seconds] | hits"),
    }
}

/// Shards as a node has them, and their partitions dealt out to them.
struct Store {
    shards: Vec<Shard>,
    version: u64,
}

impl Store {
    fn new(memory_bytes_max: usize) -> Self {
        let limits = ShardLimits::new(memory_bytes_max / SHARDS);
        let shards = (0..SHARDS).map(|number| Shard::new(limits.clone(), number as u64)).collect();
        Self { shards, version: Version::first_of(NOW).as_raw() }
    }

    fn set(&mut self, key: Bytes, value: Bytes, expires_at: Option<Timestamp>) {
        let partition = Partition::of(&key);
        self.version += 1;
        let content = Content::Value { bytes: value, expires_at };
        let change = Change { key, version: Version::from_raw(self.version), content };
        let number = partition.index() % self.shards.len();
        let _ = self.shards[number].apply(partition, &change, NOW);
    }

    /// Moves what is full into huge pages, as the node does beside the commands.
    fn settle(&mut self, moves: &mut Steps) {
        for shard in self.shards.iter_mut().filter(|shard| shard.wants_spare()) {
            let Some(mut spare) = Spare::in_huge_pages() else { return };
            moves.time(|| shard.use_spare(&mut spare));
        }
    }

    fn memory_bytes(&self) -> usize {
        self.shards.iter().map(Shard::memory_bytes).sum()
    }

    fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }
}

fn key(number: u64) -> Bytes {
    format!("key:{number:012}").into()
}

/// Of this thread. On a machine that does other work too, time itself would show that.
fn processor_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Memory of this process, as the kernel counts it.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4_096
}

fn memory() {
    println!("items of 16 + 64 bytes | deadline | bytes beyond key and value: resident | counted");
    for expires_at in [None, Some(Timestamp::from_millis(NOW.as_millis() + 3_600_000))] {
        let value = Bytes::from(vec![7; 64]);
        let mut store = Store::new(8 << 30);
        let before = resident_bytes();
        for number in 1..=3_000_000 {
            store.set(key(number), value.clone(), expires_at);
            store.settle(&mut Steps::default());
            if [250_000, 500_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000].contains(&number) {
                let per_item = |bytes: usize| bytes as f64 / number as f64 - 80.0;
                let resident = per_item(resident_bytes().saturating_sub(before));
                let counted = per_item(store.memory_bytes());
                println!("{number} | {} | {resident:.1} | {counted:.1}", expires_at.is_some());
            }
        }
    }
}

/// The longest and the usual duration of steps.
#[derive(Default)]
struct Steps {
    longest: Duration,
    count: u32,
    sum: Duration,
    /// How many steps there were before the long ones.
    long: Vec<u32>,
}

impl Steps {
    const LONG: Duration = Duration::from_millis(2);

    fn time(&mut self, step: impl FnOnce()) {
        let start = processor_time();
        step();
        let took = processor_time() - start;
        self.longest = self.longest.max(took);
        if took > Self::LONG {
            self.long.push(self.count);
        }
        self.count += 1;
        self.sum += took;
    }

    fn print(&self, what: &str) {
        let Self { longest, count, sum, long } = self;
        let mean = *sum / (*count).max(1);
        let over = long.len();
        println!("{what}: longest {longest:?}, {over} of {count} over {:?}, mean {mean:?}", Self::LONG);
        if over > 0 {
            println!("    the long ones after {:?} others", &long[..over.min(20)]);
        }
    }
}

fn growth(items: u64) {
    for (what, prefix) in [("many partitions", ""), ("one partition", "{tag}")] {
        let mut store = Store::new(16 << 30);
        let value = Bytes::from(vec![7; 16]);
        let (mut steps, mut moves) = (Steps::default(), Steps::default());
        for number in 0..items {
            let key = Bytes::from(format!("{prefix}{number}"));
            let value = value.clone();
            steps.time(|| store.set(key, value, None));
            store.settle(&mut moves);
        }
        steps.print(&format!("{} items in {what}, one SET", store.len()));
        moves.print("a region moved into a huge page");
    }
}

fn flush(items: u64) {
    for is_drop in [false, true] {
        let mut store = Store::new(16 << 30);
        let value = Bytes::from(vec![7; 64]);
        (0..items).for_each(|number| store.set(Bytes::from(format!("{{tag}}{number}")), value.clone(), None));
        let partition = Partition::of(b"tag");
        let version = Version::from_raw(store.version);
        let shard = &mut store.shards[partition.index() % SHARDS];
        let (mut at_once, mut clearing) = (Steps::default(), Steps::default());
        at_once.time(|| match is_drop {
            true => shard.drop_partition(partition),
            false => shard.flush(partition, version),
        });
        assert_eq!(shard.len(), 0);
        while shard.has_remains() {
            clearing.time(|| shard.clear_some(128));
        }
        let what = if is_drop { "drop" } else { "flush" };
        at_once.print(&format!("{what} of {items} items in one partition"));
        clearing.print("clearing away, one step of a shard");
    }
}

fn churn(duration: Duration) {
    let memory_bytes_max = 256 << 20;
    let before = resident_bytes();
    let mut store = Store::new(memory_bytes_max);
    let mut random = StdRng::seed_from_u64(7);
    let zeros = Bytes::from(vec![0; 65_536]);
    let mut peak = 0;
    let (mut steps, mut moves) = (Steps::default(), Steps::default());
    let start = Instant::now();
    let mut next_print = Duration::ZERO;
    while start.elapsed() < duration {
        // The lengths that are usual change four times a minute.
        let phase = start.elapsed().as_secs() / 15 % 4;
        for _ in 0..1_000 {
            let (shortest, longest): (f64, f64) =
                [(10.0, 65_000.0), (10.0, 200.0), (10_000.0, 65_000.0), (100.0, 3_000.0)][phase as usize];
            let length = (shortest.ln() + random.random::<f64>() * (longest / shortest).ln()).exp() as usize;
            let key = key(random.random_range(0..2_000_000));
            let value = zeros.slice(..length);
            steps.time(|| store.set(key, value, None));
            store.settle(&mut moves);
        }
        peak = peak.max(resident_bytes() - before);
        if start.elapsed() >= next_print {
            next_print += Duration::from_secs(5);
            let part = |bytes: usize| bytes as f64 / memory_bytes_max as f64;
            println!(
                "{:4} s: {} items, counted {:.3}, resident {:.3}, at most {:.3} of max-memory",
                start.elapsed().as_secs(),
                store.len(),
                part(store.memory_bytes()),
                part(resident_bytes() - before),
                part(peak)
            );
        }
    }
    steps.print("one SET");
    moves.print("a region moved into a huge page");
}

/// Reads of keys by Zipf's law; what is not there is written. The second half counts.
fn hits() {
    const KEYS: usize = 100_000;
    const READS: usize = 4_000_000;
    println!("Zipf | part kept | lru | lfu");
    for exponent in [0.8, 0.99, 1.2] {
        let mut sums = Vec::with_capacity(KEYS);
        let mut sum = 0.0;
        for rank in 1..=KEYS {
            sum += (rank as f64).powf(-exponent);
            sums.push(sum);
        }
        for part in [100, 10] {
            let ratios = [EvictionPolicy::Lru, EvictionPolicy::Lfu].map(|eviction| {
                let mut random = StdRng::seed_from_u64(11);
                let draws = (0..READS).map(|_| {
                    let drawn = random.random::<f64>() * sum;
                    sums.partition_point(|s| *s < drawn)
                });
                hit_ratio(eviction, KEYS / part, READS / 2, draws)
            });
            println!("{exponent} | {} % | {:.4} | {:.4}", 100 / part, ratios[0], ratios[1]);
        }
    }
    let ratios = [EvictionPolicy::Lru, EvictionPolicy::Lfu].map(|eviction| {
        // Half of the reads go to as many keys as are kept, the others to all in turn.
        let mut random = StdRng::seed_from_u64(11);
        let draws = (0..READS / 2)
            .flat_map(move |next| [random.random_range(0..KEYS / 100), KEYS / 100 + next % KEYS]);
        hit_ratio(eviction, KEYS / 100, READS / 2, draws)
    });
    println!("scan | 1 % | {:.4} | {:.4}", ratios[0], ratios[1]);
}

/// Of all reads after the first ones.
fn hit_ratio(
    eviction: EvictionPolicy,
    items_max: usize,
    first: usize,
    draws: impl Iterator<Item = usize>,
) -> f64 {
    let limits = ShardLimits { eviction, items_max: Some(items_max), ..ShardLimits::new(256 << 20) };
    let mut store = Store { shards: vec![Shard::new(limits, 1)], version: Version::first_of(NOW).as_raw() };
    let (mut hits, mut reads) = (0_u32, 0_u32);
    for (number, draw) in draws.enumerate() {
        let key = Bytes::from(draw.to_string());
        let partition = Partition::of(&key);
        let is_hit = store.shards[0].get(partition, &key, NOW).is_some();
        if number >= first {
            reads += 1;
            hits += u32::from(is_hit);
        }
        if !is_hit {
            store.set(key, Bytes::from_static(b"v"), None);
        }
    }
    f64::from(hits) / f64::from(reads)
}
