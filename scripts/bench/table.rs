//! Medians of measurements, as a table.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::io::BufRead;

use serde::Serialize;

use crate::load::Measured;

#[derive(clap::Args)]
pub struct Settings {
    /// Print JSON instead of Markdown
    #[arg(long)]
    json: bool,
    /// The server that the others are compared with; where it is not measured, the first one is
    #[arg(long, default_value = "redis")]
    base: String,
}

/// Medians of one case and server.
#[derive(Serialize)]
struct Row {
    case: String,
    server: String,
    rounds: usize,
    cpu_us: f64,
    cpu_us_min: f64,
    cpu_us_max: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    bytes_per_connection: f64,
    /// Of the processor time, the median over the rounds of the ratio in each: what the machine does
    /// besides changes slower than a round takes.
    to_base: Option<f64>,
}

pub fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    // In the order in which they come.
    let mut order: Vec<(String, String)> = Vec::new();
    let mut measured: BTreeMap<(String, String), Vec<Measured>> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let one: Measured = serde_json::from_str(&line?)?;
        let name = (one.case.clone(), one.server.clone());
        if !order.contains(&name) {
            order.push(name.clone());
        }
        measured.entry(name).or_default().push(one);
    }
    // All servers of a case together.
    let cases: Vec<String> = order.iter().map(|(case, _)| case.clone()).collect();
    order.sort_by_key(|(case, _)| cases.iter().position(|other| other == case));
    let row = |(case, server): &(String, String)| {
        let rounds = &measured[&(case.clone(), server.clone())];
        let base = measured.get(&(case.clone(), settings.base.clone())).or_else(|| {
            let first = order.iter().find(|(other, _)| other == case)?;
            measured.get(first)
        });
        row(case, server, rounds, base.map_or(&[], Vec::as_slice))
    };
    let rows: Vec<Row> = order.iter().map(row).collect();
    if settings.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print(&rows);
    }
    Ok(())
}

fn row(case: &str, server: &str, rounds: &[Measured], base: &[Measured]) -> Row {
    let all = |field: fn(&Measured) -> f64| rounds.iter().map(field).collect::<Vec<f64>>();
    let cpu = all(|one| one.cpu_us);
    let ratios = rounds.iter().zip(base).filter(|(_, base)| base.cpu_us > 0.0);
    let ratios: Vec<f64> = ratios.map(|(one, base)| one.cpu_us / base.cpu_us).collect();
    Row {
        case: case.to_owned(),
        server: server.to_owned(),
        rounds: rounds.len(),
        cpu_us_min: cpu.iter().copied().fold(f64::INFINITY, f64::min),
        cpu_us_max: cpu.iter().copied().fold(0.0, f64::max),
        cpu_us: median(cpu),
        per_second: median(all(|one| one.per_second)),
        p50_us: median(all(|one| one.p50_us)),
        p99_us: median(all(|one| one.p99_us)),
        bytes_per_connection: median(all(|one| one.bytes_per_connection)),
        to_base: (!ratios.is_empty()).then(|| median(ratios)),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

fn print(rows: &[Row]) {
    println!("| case | server | cpu µs/request | ratio | range | requests/s | p50 µs | p99 µs |");
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        if row.bytes_per_connection > 0.0 {
            println!(
                "| {} | {} | {:.0} bytes each | | | | | |",
                row.case, row.server, row.bytes_per_connection
            );
            continue;
        }
        let ratio = row.to_base.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        println!(
            "| {} | {} | {:.2} | {ratio} | {:.2}–{:.2} | {:.0} | {:.0} | {:.0} |",
            row.case,
            row.server,
            row.cpu_us,
            row.cpu_us_min,
            row.cpu_us_max,
            row.per_second,
            row.p50_us,
            row.p99_us
        );
    }
}
