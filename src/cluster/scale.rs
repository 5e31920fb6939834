//! Membership and ownership alone, without sockets, in virtual time, from three nodes to a thousand.
//!
//! Deaths are silent here: nothing refuses a connection, so only SWIM finds them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::membership::NodeId;
use crate::cluster::membership::Output;
use crate::cluster::membership::simulation;
use crate::cluster::membership::simulation::Simulation;
use crate::cluster::ring::Ring;
use crate::cluster::ring::WEIGHT_ONE;
use crate::store::Partition;

const COPIES: usize = 2;
const SIZES: [usize; 4] = [3, 10, 100, 1_000];
const LOSSES: [f64; 4] = [0.0, 0.01, 0.05, 0.20];
const DYING: [f64; 4] = [0.01, 0.10, 0.33, 0.50];
/// How long a death is waited for.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

#[test]
#[ignore = "takes minutes: scripts/simulate.sh scale"]
fn the_tables_of_scale_are_within_their_bounds() {
    let size_max = std::env::var("SCALE_NODES_MAX").map_or(1_000, |text| text.parse().unwrap());
    let sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size <= size_max).collect();
    println!(
        "A member dies silently: until the first and until all others know; while nothing dies: what it costs.\n"
    );
    println!(
        "| nodes | loss | first knows, median | all know, median | all know, max | false deaths per node-hour | bytes/s per node |"
    );
    println!("|---|---|---|---|---|---|---|");
    for size in &sizes {
        LOSSES.iter().for_each(|loss| detection(*size, *loss));
    }
    println!("\nThe ring: how even, and what moves.\n");
    println!(
        "| nodes | peak/mean, rank 1 | peak/mean, rank 2 | copies moved by a join, of the ideal | by a leave |"
    );
    println!("|---|---|---|---|---|");
    let are_even = sizes.iter().map(|size| balance(*size)).fold(true, |all, is| all & is);
    println!("\nMany die at once, silently: until all partitions with a surviving copy have a primary.\n");
    println!("| nodes | dying | partitions with a copy left | served after |");
    println!("|---|---|---|---|");
    let mut are_served = true;
    for size in &sizes {
        for part in DYING {
            are_served &= mass_death(*size, part);
        }
    }
    assert!(are_even && are_served);
}

fn joined(seed: u64, size: usize) -> Simulation {
    let mut simulation = Simulation::new(seed, size);
    simulation.join_all();
    let found = simulation.run_until(Duration::from_secs(60), Simulation::is_complete);
    assert!(found.is_some(), "{size} nodes did not find each other");
    // Until the news of that are told.
    simulation.run(Duration::from_secs(3));
    simulation.hosts.iter_mut().for_each(|host| host.told.clear());
    simulation
}

fn detection(size: usize, loss: f64) {
    let (deaths, quiet) = match size {
        3 | 10 => (20, Duration::from_secs(600)),
        100 => (10, Duration::from_secs(60)),
        _ => (3, Duration::from_secs(10)),
    };
    let mut simulation = joined(size as u64, size);
    simulation.loss = loss;
    let bytes = |simulation: &Simulation| -> u64 {
        simulation.running().iter().map(|index| simulation.membership(*index).stats().bytes_out).sum()
    };
    let before = bytes(&simulation);
    simulation.run(quiet);
    let rate = (bytes(&simulation) - before) as f64 / size as f64 / quiet.as_secs_f64();
    let wrong: BTreeSet<_> = simulation
        .deaths()
        .into_iter()
        .map(|(_, _, output)| match output {
            Output::Down(identity) => identity,
            output => unreachable!("{output:?} is no death"),
        })
        .collect();
    let node_hours = size as f64 * quiet.as_secs_f64() / 3_600.0;
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for trial in 0..deaths {
        let mut simulation = joined(1_000 + trial, size);
        simulation.loss = loss;
        simulation.run(Duration::from_millis(trial * 37));
        simulation.hosts.iter_mut().for_each(|host| host.told.clear());
        let victim = (trial as usize * 7 + 1) % size;
        let identity = simulation.identity(victim);
        simulation.kill(victim);
        let start = simulation.now;
        let knows = |simulation: &Simulation, index: usize| {
            !simulation.membership(index).members().any(|member| member.identity == identity)
        };
        simulation.run_until(KNOWN_WITHIN, |s| s.running().iter().all(|index| knows(s, *index)));
        let deaths = simulation.deaths();
        let of_it = deaths.iter().filter(|(_, _, output)| *output == Output::Down(identity));
        let times: Vec<Duration> = of_it.map(|(at, ..)| at.since(start)).collect();
        first.extend(times.iter().min());
        all.extend(times.iter().max());
    }
    first.sort();
    all.sort();
    let at = |times: &[Duration], place: usize| times.get(place).map_or(0, Duration::as_millis);
    println!(
        "| {size} | {:.0} % | {} ms | {} ms | {} ms | {:.2} | {rate:.0} |",
        loss * 100.0,
        at(&first, first.len() / 2),
        at(&all, all.len() / 2),
        at(&all, all.len().saturating_sub(1)),
        wrong.len() as f64 / node_hours,
    );
}

fn ring(nodes: impl Iterator<Item = usize>) -> Ring {
    Ring::new(nodes.map(|index| (simulation::node(index), WEIGHT_ONE)))
}

fn holders(ring: &Ring, partition: Partition) -> Vec<NodeId> {
    ring.preference(partition).take(COPIES).map(|index| ring.nodes()[usize::from(index)]).collect()
}

/// What changes hands, in parts of the least that has to.
fn moved(from: &Ring, to: &Ring, ideal: f64) -> f64 {
    let new = |partition| {
        let before = holders(from, partition);
        holders(to, partition).into_iter().filter(|node| !before.contains(node)).count()
    };
    Partition::all().map(new).sum::<usize>() as f64 / ideal
}

fn balance(size: usize) -> bool {
    let partitions = Partition::all().len() as f64;
    let before = ring(0..size);
    let peak = |rank: usize| {
        let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
        for node in Partition::all().filter_map(|partition| holders(&before, partition).get(rank).copied()) {
            *counts.entry(node).or_default() += 1;
        }
        counts.values().max().copied().unwrap_or_default() as f64 * size as f64 / partitions
    };
    let joined = moved(&before, &ring(0..=size), partitions * COPIES as f64 / (size + 1) as f64);
    let left = match size > COPIES {
        true => moved(&before, &ring(1..size), partitions * COPIES as f64 / size as f64),
        false => 0.0,
    };
    println!("| {size} | {:.3} | {:.3} | {joined:.2} | {left:.2} |", peak(0), peak(1));
    size > 100 || (peak(0) <= 1.08 && peak(1) <= 1.08)
}

fn mass_death(size: usize, part: f64) -> bool {
    let count = ((size as f64 * part).round() as usize).max(1);
    let mut simulation = joined(7, size);
    let ring = ring(0..size);
    let index_of: BTreeMap<NodeId, usize> = (0..size).map(|index| (simulation::node(index), index)).collect();
    // Spread over all numbers.
    let dying: BTreeSet<usize> = (0..count).map(|number| number * size / count).collect();
    dying.iter().for_each(|index| simulation.kill(*index));
    // Who has to know of whose deaths, so that every partition has its primary.
    let mut needed: BTreeMap<usize, BTreeSet<NodeId>> = BTreeMap::new();
    let mut left = 0;
    for partition in Partition::all() {
        let list = holders(&ring, partition);
        if let Some(place) = list.iter().position(|node| !dying.contains(&index_of[node])) {
            left += 1;
            needed.entry(index_of[&list[place]]).or_default().extend(&list[..place]);
        }
    }
    let knows = |simulation: &Simulation, (index, dead): (&usize, &BTreeSet<NodeId>)| {
        !simulation.membership(*index).members().any(|member| dead.contains(&member.identity.node))
    };
    let took = simulation.run_until(KNOWN_WITHIN, |s| needed.iter().all(|need| knows(s, need)));
    let shown = took
        .map_or_else(|| format!("not within {KNOWN_WITHIN:?}"), |took| format!("{} ms", took.as_millis()));
    println!("| {size} | {count} | {left} of {} | {shown} |", Partition::all().len());
    took.is_some()
}
