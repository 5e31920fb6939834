//! `bench`: a small load, to see whether a cluster is well. For measurements there is `redis-benchmark`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use cachegopher::client::Client;
use clap::Args;
use futures_util::StreamExt;
use futures_util::TryStreamExt;
use hdrhistogram::Histogram;
use serde_json::json;

use crate::transfer;

/// The keys that it uses begin with this.
const PREFIX: &str = "cachegopher-bench:";
/// How long one call may have taken at most, in microseconds, to be told from longer ones.
const MICROS_MAX: u64 = 60_000_000;
/// The width of the histogram's longest bar.
const BAR: u64 = 40;
/// Keys that are deleted together afterwards.
const BATCH: usize = 512;

/// How much load.
#[derive(Args, Debug)]
pub struct Bench {
    /// Calls in all
    #[arg(long, short = 'r', default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Calls under way at a time
    #[arg(long, short, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    clients: u64,
    /// Bytes of a value
    #[arg(long, short, default_value_t = 64)]
    size: usize,
    /// Different keys
    #[arg(long, short, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How many of a hundred calls are writes
    #[arg(long, short, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=100))]
    writes: u64,
    /// Leave the keys where they are
    #[arg(long)]
    keep: bool,
}

impl Bench {
    /// How many connections to one node it may need.
    pub fn connections(&self) -> usize {
        usize::try_from(self.clients).unwrap_or(usize::MAX)
    }
}

/// What it showed.
pub struct Findings {
    seconds: f64,
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

/// Runs the load and deletes its keys.
pub async fn run(client: &Client, bench: &Bench) -> Result<Findings, String> {
    let bar = transfer::bar(bench.requests, "{pos} of {len} calls");
    let next = Arc::new(AtomicU64::new(0));
    let value: Arc<[u8]> = vec![b'v'; bench.size].into();
    let start = Instant::now();
    let workers: Vec<_> = (0..bench.clients)
        .map(|_| {
            let (client, next, bar) = (client.clone(), Arc::clone(&next), bar.clone());
            let (value, load) = (Arc::clone(&value), (bench.requests, bench.keys, bench.writes));
            tokio::spawn(async move {
                let mut findings = Findings::new()?;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= load.0 {
                        return Ok::<_, String>(findings);
                    }
                    findings.call(&client, number, load, &value).await;
                    bar.inc(1);
                }
            })
        })
        .collect();
    let mut all = Findings::new()?;
    for worker in workers {
        all.add(worker.await.map_err(|error| error.to_string())??)?;
    }
    all.seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    if !bench.keep {
        let found = client.keys_like(&format!("{PREFIX}*")).try_chunks(BATCH);
        let mut found = std::pin::pin!(found);
        while let Some(keys) = found.next().await {
            let keys = keys.map_err(|error| error.1.to_string())?;
            client.delete_many(&keys).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(all)
}

impl Findings {
    fn new() -> Result<Self, String> {
        let histogram = || Histogram::new_with_bounds(1, MICROS_MAX, 3).map_err(|error| error.to_string());
        Ok(Self { seconds: 0.0, reads: histogram()?, writes: histogram()?, errors: 0, first_error: None })
    }

    async fn call(&mut self, client: &Client, number: u64, load: (u64, u64, u64), value: &[u8]) {
        let (_, keys, writes) = load;
        // Neighbouring calls go to keys that are far apart, and writes are spread among reads.
        let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let key = format!("{PREFIX}{}", scattered % keys);
        let is_write = number * 37 % 100 < writes;
        let start = Instant::now();
        let result = match is_write {
            true => client.set(&key, value).await,
            false => client.get(&key).await.map(drop),
        };
        let histogram = if is_write { &mut self.writes } else { &mut self.reads };
        histogram.saturating_record(micros(start.elapsed()));
        if let Err(error) = result {
            self.errors += 1;
            self.first_error.get_or_insert(error.to_string());
        }
    }

    fn add(&mut self, other: Self) -> Result<(), String> {
        self.reads.add(&other.reads).map_err(|error| error.to_string())?;
        self.writes.add(&other.writes).map_err(|error| error.to_string())?;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        Ok(())
    }

    /// For people: a line and a histogram each for reads and writes.
    pub fn text(&self) -> String {
        let count = self.reads.len() + self.writes.len();
        let mut text =
            format!("{count} calls in {:.2} s: {:.0} a second\n", self.seconds, count as f64 / self.seconds);
        for (name, histogram) in [("reads", &self.reads), ("writes", &self.writes)] {
            if !histogram.is_empty() {
                text.push_str(&section(name, histogram));
            }
        }
        if let Some(error) = &self.first_error {
            text.push_str(&format!("\n{} errors, the first: {error}\n", self.errors));
        }
        text
    }

    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        let figures = |histogram: &Histogram<u64>| {
            json!({
                "calls": histogram.len(),
                "p50_ms": millis(histogram.value_at_quantile(0.5)),
                "p99_ms": millis(histogram.value_at_quantile(0.99)),
                "p999_ms": millis(histogram.value_at_quantile(0.999)),
                "max_ms": millis(histogram.max()),
            })
        };
        let per_second = (self.reads.len() + self.writes.len()) as f64 / self.seconds;
        json!({
            "seconds": self.seconds, "calls_per_second": per_second, "errors": self.errors,
            "reads": figures(&self.reads), "writes": figures(&self.writes),
        })
    }

    /// Whether every call was answered.
    pub fn is_fine(&self) -> bool {
        self.errors == 0
    }
}

fn section(name: &str, histogram: &Histogram<u64>) -> String {
    let at = |quantile| millis(histogram.value_at_quantile(quantile));
    let mut text = format!(
        "\n{} {name}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms\n",
        histogram.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        millis(histogram.max())
    );
    let steps: Vec<(u64, u64)> = histogram
        .iter_log(50, 2.0)
        .map(|step| (step.value_iterated_to() + 1, step.count_since_last_iteration()))
        .collect();
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
    for (to, count) in steps.into_iter().skip_while(|(_, count)| *count == 0) {
        // Whatever there is at all can be seen.
        let bar = "█".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or_default());
        let share = count as f64 * 100.0 / histogram.len() as f64;
        text.push_str(&format!("  < {:>8.2} ms {share:>6.2} % {bar}\n", millis(to)));
    }
    text
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_added_up_and_shown() {
        let mut all = Findings::new().unwrap();
        for micros in [100, 100, 900] {
            let mut one = Findings::new().unwrap();
            one.reads.saturating_record(micros);
            all.add(one).unwrap();
        }
        let failed = Findings { errors: 2, first_error: Some("no".to_owned()), ..Findings::new().unwrap() };
        all.add(failed).unwrap();
        all.seconds = 1.5;
        let text = all.text();
        assert!(text.starts_with("3 calls in 1.50 s: 2 a second\n"), "{text}");
        assert!(text.contains("3 reads: p50 0.10 ms") && !text.contains("writes"), "{text}");
        assert!(text.contains("2 errors, the first: no") && !all.is_fine());
        assert!(text.contains(&"█".repeat(40)), "{text}");
        assert_eq!(all.json()["reads"]["calls"], 3);
    }
}
