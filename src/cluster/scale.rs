//! Membership and ownership alone, without sockets, in virtual time, from three nodes to a thousand.
//!
//! Deaths are silent here: nothing refuses a connection, so only SWIM finds them. Every node says as
//! much about itself as a real one does.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::membership::MembershipSettings;
use crate::cluster::membership::NodeId;
use crate::cluster::membership::Output;
use crate::cluster::membership::simulation;
use crate::cluster::membership::simulation::Simulation;
use crate::cluster::ring::Ring;
use crate::cluster::ring::WEIGHT_ONE;
use crate::store::PARTITION_COUNT;
use crate::store::Partition;

const COPIES: usize = 2;
const SIZES: [usize; 4] = [3, 10, 100, 1_000];
const LOSSES: [f64; 4] = [0.0, 0.01, 0.05, 0.20];
/// So many find each other as nodes do; more know each other from the start, or that alone would take an hour.
const JOINED_MAX: usize = 100;
/// Rings of each size.
const RINGS: usize = 40;
const DYING: [f64; 4] = [0.01, 0.10, 0.33, 0.50];
/// How long a death is waited for.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);
/// What a node says about itself: a bitmap of the partitions, and names.
const RECORD_BYTES: usize = PARTITION_COUNT as usize / 8 + 64;

/// The bounds that the tables are held against.
const PEAK_MAX: f64 = 1.08;
const MOVED_MAX: f64 = 1.15;
const SERVED_WITHIN: Duration = Duration::from_secs(2);
const GROWTH_MAX: f64 = 1.2;
const SIGMAS_MAX: f64 = 3.0;

#[test]
#[ignore = "takes minutes: scripts/simulate.sh scale"]
fn the_tables_of_scale_are_within_their_bounds() {
    let size_max = std::env::var("SCALE_NODES_MAX").map_or(1_000, |text| text.parse().unwrap());
    let sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size <= size_max).collect();
    println!("The ring: how even, and what moves of the least that has to.\n");
    println!("Of {RINGS} clusters the fullest node, and the mean of what moves (the most).\n");
    println!("| nodes | peak/mean, rank 1 | rank 2 | moved by a join | by a leave | runs of partitions |");
    println!("|---|---|---|---|---|---|");
    let mut misses: Vec<String> = sizes.iter().flat_map(|size| balance(*size)).collect();
    println!("\nA member dies silently: until the first and until all others know.");
    println!("While nothing dies: what that costs.\n");
    println!(
        "| nodes | loss | first, median | all, median | all, max | false deaths per node-hour | bytes/s per node |"
    );
    println!("|---|---|---|---|---|---|---|");
    let rates: BTreeMap<usize, f64> = sizes.iter().map(|size| (*size, detection(*size))).collect();
    if let (Some(few), Some(many)) = (rates.get(&10), rates.get(&1_000)) {
        let growth = many / few;
        println!("\nBytes of a node among 1,000 against one among 10: {growth:.2}");
        misses.extend((growth > GROWTH_MAX).then(|| format!("bytes per node grow {growth:.2} times")));
    }
    println!("\nThe first probe of a dead member, in periods, and what theory says.\n");
    println!("| nodes | deaths | measured | theory | sigmas apart |");
    println!("|---|---|---|---|---|");
    misses.extend(sizes.iter().filter(|size| **size >= 100).flat_map(|size| first_probe(*size)));
    println!("\nMany die at once, silently: until all partitions with a copy left have a primary.\n");
    println!("| nodes | dying | partitions with a copy left | served after |");
    println!("|---|---|---|---|");
    for size in &sizes {
        misses.extend(DYING.iter().flat_map(|part| mass_death(*size, *part)));
    }
    assert!(misses.is_empty(), "{}", misses.join("; "));
}

fn joined(seed: u64, size: usize) -> Simulation {
    let mut simulation = Simulation::new(seed, size);
    (0..size).for_each(|index| set_record(&mut simulation, index));
    match size <= JOINED_MAX {
        true => simulation.join_all(),
        false => simulation.acquaint_all(),
    }
    let found = simulation.run_until(Duration::from_secs(60), every(200, Simulation::is_complete));
    assert!(found.is_some(), "{size} nodes did not find each other");
    // Until the news of that are told.
    simulation.run(Duration::from_secs(10));
    forget_told(&mut simulation);
    simulation
}

fn set_record(simulation: &mut Simulation, index: usize) {
    let record = [index as u8; RECORD_BYTES];
    simulation.with(index, |membership, now, out| membership.set_record(&record, now, out).unwrap());
}

fn forget_told(simulation: &mut Simulation) {
    simulation.hosts.iter_mut().for_each(|host| host.told.clear());
}

/// Looks only so often, since the look at all nodes is dear.
fn every(ms: u64, is_done: impl Fn(&Simulation) -> bool) -> impl FnMut(&Simulation) -> bool {
    let mut next = None;
    move |simulation| {
        if next.is_some_and(|next| simulation.now < next) {
            return false;
        }
        next = Some(simulation.now + Duration::from_millis(ms));
        is_done(simulation)
    }
}

/// Prints what deaths cost, and returns the bytes per second of a node without loss.
fn detection(size: usize) -> f64 {
    let (deaths, quiet) = match size {
        3 | 10 => (40, Duration::from_secs(600)),
        100 => (20, Duration::from_secs(60)),
        _ => (5, Duration::from_secs(10)),
    };
    let mut simulation = joined(size as u64, size);
    let mut generation = 1_000_000;
    let mut first_rate = None;
    for loss in LOSSES {
        simulation.loss = loss;
        let bytes = |simulation: &Simulation| -> u64 {
            simulation.running().iter().map(|index| simulation.membership(*index).stats().bytes_out).sum()
        };
        let before = bytes(&simulation);
        simulation.run(quiet);
        let rate = (bytes(&simulation) - before) as f64 / size as f64 / quiet.as_secs_f64();
        first_rate.get_or_insert(rate);
        let wrong: BTreeSet<String> =
            simulation.deaths().into_iter().map(|(_, _, output)| format!("{output:?}")).collect();
        let node_hours = size as f64 * quiet.as_secs_f64() / 3_600.0;
        let (mut first, mut all) = (Vec::new(), Vec::new());
        for trial in 0..deaths {
            let (one, last) = death(&mut simulation, (trial * 7 + 1) % size, generation);
            generation += 1;
            first.push(one);
            all.push(last);
        }
        first.sort();
        all.sort();
        println!(
            "| {size} | {:.0} % | {} ms | {} ms | {} ms | {:.2} | {rate:.0} |",
            loss * 100.0,
            first[first.len() / 2].as_millis(),
            all[all.len() / 2].as_millis(),
            all[all.len() - 1].as_millis(),
            wrong.len() as f64 / node_hours,
        );
    }
    first_rate.unwrap_or_default()
}

/// A node dies, and comes back in another life once that is known: when the first knew, and when all did.
fn death(simulation: &mut Simulation, victim: usize, generation: u64) -> (Duration, Duration) {
    simulation.run(Duration::from_millis(generation * 37 % 1_000));
    forget_told(simulation);
    let identity = simulation.identity(victim);
    simulation.kill(victim);
    let start = simulation.now;
    let others = simulation.running();
    let has_told = |simulation: &Simulation, index: &usize| {
        simulation.hosts[*index].told.iter().any(|(_, output)| *output == Output::Down(identity))
    };
    simulation.run_until(KNOWN_WITHIN, every(20, |s| others.iter().all(|index| has_told(s, index))));
    let deaths = simulation.deaths();
    let of_it = deaths.iter().filter(|(_, _, output)| *output == Output::Down(identity));
    let times: Vec<Duration> = of_it.map(|(at, ..)| at.since(start)).collect();
    let first = times.iter().min().copied().unwrap_or(KNOWN_WITHIN);
    let last = match times.len() >= others.len() {
        true => times.iter().max().copied().unwrap_or(KNOWN_WITHIN),
        false => KNOWN_WITHIN,
    };
    simulation.start(victim, "ours", generation);
    set_record(simulation, victim);
    let seed = simulation.identity(others[0]);
    simulation.announce(victim, seed);
    simulation.run_until(KNOWN_WITHIN, every(200, Simulation::is_complete));
    simulation.run(Duration::from_secs(1));
    forget_told(simulation);
    (first, last)
}

/// Whoever probes a dead member first suspects it one period later. In every period each of the others
/// probes one of all members, so that the number of periods is distributed geometrically.
fn first_probe(size: usize) -> Option<String> {
    // Few of all at a time, so that it stays nearly so.
    let (rounds, at_a_time) = (if size < 1_000 { 20 } else { 2 }, size / 20);
    let period = MembershipSettings::default().probe_period;
    let mut counts: Vec<f64> = Vec::new();
    for round in 0..rounds {
        let mut simulation = joined(500 + round, size);
        simulation.run(Duration::from_millis(round * 41 % 150));
        let victims: Vec<usize> = (0..at_a_time).map(|number| number * 20 + 7).collect();
        let identities: Vec<_> = victims.iter().map(|victim| simulation.identity(*victim)).collect();
        victims.iter().for_each(|victim| simulation.kill(*victim));
        let start = simulation.now;
        simulation.run(period * 14);
        for identity in identities {
            let suspected = simulation.told(|output| *output == Output::Suspect(identity));
            let at = suspected.iter().map(|(at, ..)| at.since(start)).min().expect("somebody has probed it");
            let probed = at.saturating_sub(period).as_secs_f64() / period.as_secs_f64();
            counts.push(probed.ceil().max(1.0));
        }
    }
    let others = size as f64 - 1.0;
    let chance = 1.0 - (1.0 - 1.0 / others).powf(others);
    let (theory, deviation) = (1.0 / chance, (1.0 - chance).sqrt() / chance);
    let measured = counts.iter().sum::<f64>() / counts.len() as f64;
    let sigmas = (measured - theory).abs() / (deviation / (counts.len() as f64).sqrt());
    println!("| {size} | {} | {measured:.3} | {theory:.3} | {sigmas:.1} |", counts.len());
    (sigmas > SIGMAS_MAX).then(|| format!("the first probe among {size} comes after {measured:.3} periods"))
}

fn ring(nodes: impl Iterator<Item = usize>) -> Ring {
    Ring::new(nodes.map(|index| (simulation::node(index), WEIGHT_ONE)), COPIES)
}

fn holders(ring: &Ring, partition: Partition) -> Vec<NodeId> {
    ring.preference(partition).take(COPIES).map(|index| ring.nodes()[usize::from(index)]).collect()
}

/// What changes hands, in parts of the least that has to: of the copies that come to or from one of so
/// many nodes.
fn moved(from: &Ring, to: &Ring, nodes: usize) -> f64 {
    let new = |partition| {
        let before = holders(from, partition);
        holders(to, partition).into_iter().filter(|node| !before.contains(node)).count()
    };
    let ideal = Partition::all().len() as f64 * COPIES as f64 / nodes as f64;
    Partition::all().map(new).sum::<usize>() as f64 / ideal
}

/// How many partitions the fullest node has at a rank, in parts of the mean.
fn peak(ring: &Ring, rank: usize) -> f64 {
    let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node in Partition::all().filter_map(|partition| holders(ring, partition).get(rank).copied()) {
        *counts.entry(node).or_default() += 1;
    }
    let most = counts.values().max().copied().unwrap_or_default();
    most as f64 * ring.nodes().len() as f64 / Partition::all().len() as f64
}

/// Of several clusters of a size the fullest node, and what moves on average: of so few partitions as a
/// node of a large cluster has, chance adds or takes some.
fn balance(size: usize) -> Vec<String> {
    let (mut peaks, mut joins, mut leaves, mut arcs) = ([0.0_f64; COPIES], Vec::new(), Vec::new(), 0);
    for cluster in 0..RINGS {
        let nodes = cluster * 10_000..cluster * 10_000 + size;
        let before = ring(nodes.clone());
        peaks.iter_mut().zip(0..).for_each(|(most, rank)| *most = most.max(peak(&before, rank)));
        joins.push(moved(&before, &ring(nodes.start..nodes.end + 1), size + 1));
        leaves.push(moved(&before, &ring(nodes.start + 1..nodes.end), size));
        let lists: Vec<Vec<NodeId>> = Partition::all().map(|partition| holders(&before, partition)).collect();
        arcs += 1 + lists.windows(2).filter(|pair| pair[0] != pair[1]).count();
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let (joined, left) = (mean(&joins), mean(&leaves));
    println!(
        "| {size} | {:.3} | {:.3} | {joined:.2} ({:.2}) | {left:.2} ({:.2}) | {} |",
        peaks[0],
        peaks[1],
        most(&joins),
        most(&leaves),
        arcs / RINGS,
    );
    let mut misses = Vec::new();
    if size <= 100 && peaks.iter().any(|peak| *peak > PEAK_MAX) {
        misses.push(format!("the fullest of {size} nodes has {peaks:.3?} of the mean"));
    }
    if joined > MOVED_MAX || left > MOVED_MAX {
        misses.push(format!("among {size} nodes {joined:.2} and {left:.2} of the ideal move"));
    }
    misses
}

fn mass_death(size: usize, part: f64) -> Option<String> {
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
    let took = simulation.run_until(KNOWN_WITHIN, every(10, |s| needed.iter().all(|need| knows(s, need))));
    let shown = took
        .map_or_else(|| format!("not within {KNOWN_WITHIN:?}"), |took| format!("{} ms", took.as_millis()));
    println!("| {size} | {count} | {left} of {} | {shown} |", Partition::all().len());
    let is_late = took.is_none_or(|took| took > SERVED_WITHIN);
    is_late.then(|| format!("{count} of {size} die, and partitions are served after {shown}"))
}
