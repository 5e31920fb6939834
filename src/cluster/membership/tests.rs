//! What a cluster of membership drivers agrees on, in virtual time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use foca::Member;
use foca::Message;
use foca::State;
use proptest::prelude::*;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cluster::membership::Bond;
use crate::cluster::membership::ClusterId;
use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::MemberState;
use crate::cluster::membership::Membership;
use crate::cluster::membership::MembershipSettings;
use crate::cluster::membership::Output;
use crate::cluster::membership::PacketError;
use crate::cluster::membership::RECORD_BYTES_MAX;
use crate::cluster::membership::simulation::Simulation;
use crate::cluster::membership::simulation::addr;
use crate::cluster::membership::simulation::millis;
use crate::cluster::membership::simulation::node;
use crate::time::Moment;

/// Median, 95th percentile and maximum.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 95 / 100], times[times.len() - 1])
}

fn everybody_else_knows_the_death_of(victim: Identity) -> impl Fn(&Simulation) -> bool {
    move |simulation| {
        simulation.running().iter().all(|index| {
            *index == victim_index(simulation, victim)
                || simulation.membership(*index).members().all(|member| member.identity != victim)
        })
    }
}

fn victim_index(simulation: &Simulation, victim: Identity) -> usize {
    simulation.hosts.iter().position(|host| host.addr == victim.addr).unwrap()
}

#[test]
fn everyone_finds_everyone_within_a_second() {
    for count in [3, 5, 10, 30] {
        for seed in 0..5 {
            let mut simulation = Simulation::new(seed, count);
            simulation.join_all();
            let took = simulation.run_until(millis(1_000), Simulation::is_complete);
            assert!(took.is_some(), "seed {seed}, {count} nodes");
            if seed == 0 {
                println!("{count} nodes found each other in {took:?}");
            }
        }
    }
}

#[test]
fn a_lost_announcement_is_repeated() {
    let mut simulation = Simulation::new(1, 2);
    simulation.split(&[0], &[1]);
    simulation.join_all();
    simulation.run(millis(700));
    simulation.heal();
    assert!(simulation.run_until(millis(600), Simulation::is_complete).is_some());
}

#[test]
fn a_silent_death_is_known_to_all_in_time() {
    for (count, seeds) in [(3, 50), (5, 20), (10, 10), (30, 3)] {
        let mut times = Vec::new();
        for seed in 0..seeds {
            let mut simulation = Simulation::joined(seed, count);
            let victim = simulation.identity(1);
            simulation.run(millis(7 * seed));
            simulation.kill(1);
            let known = everybody_else_knows_the_death_of(victim);
            let took = simulation.run_until(millis(1_500), known);
            times.push(took.unwrap_or_else(|| panic!("seed {seed}, {count} nodes: not known in time")));
            assert!(simulation.deaths().iter().all(|(_, _, output)| *output == Output::Down(victim)));
        }
        println!("silent death, {count} nodes, (median, p95, max): {:?}", spread(times));
    }
}

#[test]
fn the_presets_find_a_silent_death_in_their_time() {
    let presets =
        [("fast", MembershipSettings::fast(), 700), ("cautious", MembershipSettings::cautious(), 4_000)];
    for (name, settings, limit) in presets {
        let mut times = Vec::new();
        for seed in 0..20 {
            let mut simulation = Simulation::with_settings(seed, 3, settings.clone());
            simulation.join_all();
            simulation.run(millis(3_000 + 7 * seed));
            let victim = simulation.identity(1);
            simulation.kill(1);
            let known = everybody_else_knows_the_death_of(victim);
            times.push(simulation.run_until(millis(limit), known).expect("known in time"));
        }
        println!("silent death, {name}, 3 nodes, (median, p95, max): {:?}", spread(times));
    }
}

#[test]
fn nobody_dies_of_five_percent_loss_in_ten_minutes() {
    let mut simulation = Simulation::joined(5, 5);
    simulation.loss = 0.05;
    simulation.run(Duration::from_secs(600));
    assert_eq!(simulation.deaths(), []);
    assert!(simulation.is_complete());
    let suspicions = simulation.told(|output| matches!(output, Output::Suspect(_))).len();
    let stats = simulation.membership(0).stats();
    println!("5 % loss, 10 min: {suspicions} suspicions; {:?}", stats);
    assert!(stats.errors.is_empty());
}

#[test]
fn an_idle_cluster_says_little() {
    let mut simulation = Simulation::joined(5, 3);
    let before = simulation.membership(0).stats().clone();
    simulation.run(Duration::from_secs(10));
    let after = simulation.membership(0).stats();
    let packets = (after.packets_out - before.packets_out) / 10;
    println!("idle: {packets} packets/s, {} bytes/s", (after.bytes_out - before.bytes_out) / 10);
    assert!(packets <= 20, "{packets} packets per second");
}

#[test]
fn a_short_stall_kills_nobody() {
    for seed in 0..20 {
        let mut simulation = Simulation::joined(seed, 3);
        simulation.stop(1, millis(300));
        simulation.run(millis(3_000));
        assert_eq!(simulation.deaths(), [], "seed {seed}");
        let stalls = simulation.told(|output| matches!(output, Output::Stalled { .. }));
        assert!(stalls.iter().all(|(_, index, _)| *index == 1) && stalls.len() == 1, "seed {seed}");
    }
}

#[test]
fn a_woken_node_accuses_nobody_and_rejoins_within_a_second() {
    let mut times = Vec::new();
    for (seed, count) in (0..100).flat_map(|seed| [(seed, 2), (seed, 3), (seed, 5)]) {
        let mut simulation = Simulation::joined(seed, count);
        // Either of two, since the rules for the two halves of a split differ.
        let woken = seed as usize % 2;
        simulation.socket_queue_max = if seed % 4 < 2 { 256 } else { 0 };
        let before = simulation.identity(woken);
        simulation.stop(woken, millis(5_000));
        simulation.run(millis(4_999));
        assert_eq!(simulation.deaths().len(), count - 1, "seed {seed}: all others know it");
        let took = simulation.run_until(millis(1_000), |simulation| {
            simulation.is_complete() && simulation.identity(woken).generation > before.generation
        });
        times.push(took.unwrap_or_else(|| panic!("seed {seed}: did not come back")));
        simulation.run(millis(3_000));
        let deaths = simulation.deaths();
        assert!(
            deaths.iter().all(|(_, _, output)| *output == Output::Down(before)),
            "seed {seed}: {deaths:?}"
        );
        let rejoins = simulation.told(|output| matches!(output, Output::Rejoined(_)));
        assert_eq!(rejoins.len(), 1, "seed {seed}");
        assert_eq!(rejoins[0].2, Output::Rejoined(simulation.identity(woken)));
    }
    println!("rejoin after a stall of 5 s, (median, p95, max): {:?}", spread(times));
}

#[test]
fn a_node_that_stalled_while_it_probed_suspects_nobody() {
    for seed in 0..50 {
        let mut simulation = Simulation::joined(seed, 3);
        // Slow enough for answers to be underway, or in the socket, when the process stops.
        simulation.delay = 9_000..15_000;
        simulation.run(millis(200 + 3 * seed));
        simulation.stop(1, millis(170));
        simulation.run(millis(1_000));
        assert_eq!(simulation.membership(1).stats().suspicions, 0, "seed {seed}");
    }
}

#[test]
fn a_rejoined_node_that_hears_nothing_more_goes_on_probing() {
    let mut simulation = Simulation::joined(1, 2);
    simulation.socket_queue_max = 0;
    simulation.stop(1, millis(2_000));
    let has_rejoined = |s: &Simulation| s.membership(1).stats().rejoins == 1;
    assert!(simulation.run_until(millis(2_100), has_rejoined).is_some());
    simulation.split(&[0], &[1]);
    simulation.wire.clear();
    simulation.run(millis(1_500));
    assert_eq!(simulation.membership(1).members().count(), 0, "found out that it is alone");
}

#[test]
fn a_suspicion_that_nobody_follows_is_cleared_up() {
    let mut simulation = Simulation::joined(1, 3);
    let (suspect, listener) = (simulation.identity(1), simulation.identity(2));
    let update = Member::new(suspect, 0, State::Suspect);
    simulation.with(0, |m, _, out| m.write_to(listener, Message::Gossip, update, out));
    simulation.run(millis(1));
    // Its gossip is spent in vain, so the suspect does not hear of it by chance.
    simulation.split(&[2], &[0, 1]);
    simulation.run(millis(200));
    simulation.heal();
    let is_cleared = |s: &Simulation| s.membership(2).members().all(|m| m.state == MemberState::Alive);
    assert!(!is_cleared(&simulation));
    assert!(simulation.run_until(millis(1_000), is_cleared).is_some());
    assert_eq!(simulation.deaths(), []);
}

#[test]
fn a_node_that_stalled_while_it_suspected_does_not_accuse() {
    for seed in 0..20 {
        let mut simulation = Simulation::joined(seed, 3);
        // Node 1 can reach nobody for long enough to suspect, then stops, and all is well again.
        simulation.split(&[1], &[0, 2]);
        let suspects = |s: &Simulation| s.membership(1).stats().suspicions > 0;
        assert!(simulation.run_until(millis(1_000), suspects).is_some());
        simulation.heal();
        simulation.stop(1, millis(350));
        simulation.run(millis(3_000));
        assert_eq!(simulation.membership(1).stats().accusations, 0, "seed {seed}");
        let by_one: Vec<_> = simulation.deaths().into_iter().filter(|(_, index, _)| *index == 1).collect();
        assert_eq!(by_one, [], "seed {seed}");
        assert!(simulation.is_complete(), "seed {seed}");
    }
}

#[test]
fn crash_evidence_is_known_to_all_at_once() {
    for count in [3, 5, 10, 30] {
        let mut times = Vec::new();
        for seed in 0..10 {
            let mut simulation = Simulation::joined(seed, count);
            let victim = simulation.identity(1);
            simulation.kill(1);
            simulation.with(0, |membership, now, out| membership.peer_gone(victim, now, out));
            let known = everybody_else_knows_the_death_of(victim);
            times.push(simulation.run_until(millis(100), known).expect("known in time"));
        }
        println!("crash evidence, {count} nodes, (median, p95, max): {:?}", spread(times));
    }
}

#[test]
fn crash_evidence_reaches_all_despite_loss() {
    let mut times = Vec::new();
    for seed in 0..100 {
        let mut simulation = Simulation::joined(seed, 5);
        simulation.loss = 0.2;
        let victim = simulation.identity(1);
        simulation.kill(1);
        simulation.with(0, |membership, now, out| membership.peer_gone(victim, now, out));
        let known = everybody_else_knows_the_death_of(victim);
        times.push(simulation.run_until(millis(300), known).unwrap_or_else(|| panic!("seed {seed}")));
    }
    println!("crash evidence, 5 nodes, 20 % loss, (median, p95, max): {:?}", spread(times));
}

#[test]
fn evidence_against_a_former_life_is_ignored() {
    let mut simulation = Simulation::joined(1, 3);
    let former = simulation.identity(1);
    simulation.start(1, "ours", 5_000);
    let seed = simulation.identity(0);
    simulation.announce(1, seed);
    simulation.run(millis(500));
    simulation.hosts[0].told.clear();
    simulation.with(0, |membership, now, out| membership.peer_gone(former, now, out));
    simulation.run(millis(1_000));
    assert_eq!(simulation.hosts[0].told, []);
    assert!(simulation.is_complete());
}

#[test]
fn a_restarted_node_is_reported_down_in_its_former_life_and_alive_in_the_new_one() {
    let mut simulation = Simulation::joined(1, 3);
    let former = simulation.identity(1);
    simulation.start(1, "ours", 5_000);
    let seed = simulation.identity(0);
    simulation.announce(1, seed);
    simulation.run(millis(500));
    let expected = [Output::Down(former), Output::Alive(simulation.identity(1))];
    for index in [0, 2] {
        let told: Vec<Output> = simulation.hosts[index].told.iter().map(|(_, o)| o.clone()).collect();
        assert_eq!(told, expected, "node {index}");
    }
}

#[test]
fn a_restart_after_the_clock_went_back_still_joins() {
    let mut simulation = Simulation::joined(1, 3);
    simulation.start(1, "ours", 7);
    let seed = simulation.identity(0);
    simulation.announce(1, seed);
    assert!(simulation.run_until(millis(1_000), Simulation::is_complete).is_some());
    assert!(simulation.identity(1).generation > Generation::from_raw(1_001));
    simulation.run(millis(3_000));
    assert!(simulation.is_complete());
}

#[test]
fn a_split_heals_on_both_sides() {
    let shapes: [(&[usize], &[usize]); 4] = [
        (&[0, 1], &[2, 3, 4]),
        (&[0], &[1, 2, 3, 4]),
        (&[0], &[1]),
        (
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
            &[15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29],
        ),
    ];
    for (left, right) in shapes {
        let count = left.len() + right.len();
        let mut times = Vec::new();
        let mut rejoins = vec![0; count];
        for seed in 0..if count < 10 { 20 } else { 3 } {
            let mut simulation = Simulation::joined(seed, count);
            simulation.split(left, right);
            simulation.run(Duration::from_secs(15) + millis(53 * seed));
            assert!(simulation.is_complete_among(left), "seed {seed}");
            assert!(simulation.is_complete_among(right), "seed {seed}");
            simulation.heal();
            let took = simulation.run_until(millis(1_500), Simulation::is_complete);
            times.push(took.unwrap_or_else(|| panic!("seed {seed}, {left:?} | {right:?}")));
            simulation.run(millis(5_000));
            assert!(simulation.is_complete(), "seed {seed}: stays whole");
            (0..count).for_each(|i| rejoins[i] += simulation.membership(i).stats().rejoins);
        }
        println!("heal of {}|{}, (median, p95, max): {:?}", left.len(), right.len(), spread(times));
        println!("    rejoins by node over all seeds: {rejoins:?}");
        // The larger side keeps its lives.
        if left.len() < right.len() {
            assert!(right.iter().all(|index| rejoins[*index] == 0), "{rejoins:?}");
        }
    }
}

#[test]
fn whatever_happened_a_quiet_network_makes_the_cluster_whole() {
    let mut times = Vec::new();
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..8);
        let mut simulation = Simulation::joined(seed, count);
        for index in 0..count {
            simulation.with(index, |m, now, out| m.set_record(&[1; 100], now, out)).unwrap();
        }
        for round in 0..12 {
            simulation.loss = rng.random_range(0.0..0.3);
            let (one, other) = (rng.random_range(0..count), rng.random_range(0..count));
            match rng.random_range(0..6) {
                0 => simulation.heal(),
                1 => simulation.split(&[one], &(0..count).filter(|i| *i != one).collect::<Vec<_>>()),
                2 => drop((0..count).filter(|i| *i != one).map(|i| simulation.cuts.insert((i, one))).count()),
                3 => simulation.stop(one, millis(rng.random_range(50..4_000))),
                4 => {
                    simulation.start(one, "ours", 100_000 * (round + 1));
                    simulation.hosts[one].told.clear();
                    simulation.with(one, |m, now, out| m.set_record(&[1; 100], now, out)).unwrap();
                    let identity = simulation.identity(if one == other { (one + 1) % count } else { other });
                    simulation.announce(one, identity);
                }
                _ => drop(simulation.cuts.insert((one, other))),
            }
            simulation.run(millis(rng.random_range(10..4_000)));
        }
        (simulation.loss, _) = (0.0, simulation.heal());
        let took = simulation.run_until(millis(6_000), Simulation::is_complete);
        times.push(took.unwrap_or_else(|| panic!("seed {seed}, {count} nodes: not whole")));
        simulation.run(millis(5_000));
        assert!(simulation.is_complete(), "seed {seed}: stays whole");
        assert!(records_are_complete(&simulation, 100), "seed {seed}: records");
        for index in 0..count {
            let stats = simulation.membership(index).stats();
            assert_eq!(stats.errors, BTreeMap::new(), "seed {seed}, node {index}");
            assert_eq!(stats.dropped, BTreeMap::new(), "seed {seed}, node {index}");
        }
    }
    println!("whole again after chaos, (median, p95, max): {:?}", spread(times));
}

#[test]
fn a_cluster_in_which_everyone_lost_everyone_finds_itself_again() {
    for seed in 0..10 {
        let mut simulation = Simulation::joined(seed, 5);
        (0..5).for_each(|index| simulation.split(&[index], &[0, 1, 2, 3, 4]));
        simulation.run(Duration::from_secs(5));
        assert_eq!(simulation.told(|output| matches!(output, Output::Alone)).len(), 5, "seed {seed}");
        simulation.heal();
        assert!(simulation.run_until(millis(3_000), Simulation::is_complete).is_some(), "seed {seed}");
    }
}

#[test]
fn a_link_cut_in_one_direction_kills_nobody() {
    for seed in 0..5 {
        let mut simulation = Simulation::joined(seed, 5);
        simulation.cuts.insert((0, 1));
        simulation.run(Duration::from_secs(30));
        assert_eq!(simulation.deaths(), [], "seed {seed}");
    }
}

#[test]
fn a_deaf_node_does_not_take_the_others_down() {
    for seed in 0..20 {
        let mut simulation = Simulation::joined(seed, 5);
        (1..5).for_each(|index| assert!(simulation.cuts.insert((index, 0))));
        let deaf = simulation.identity(0);
        simulation.run(Duration::from_secs(5));
        let deaths = simulation.deaths();
        let wrong: Vec<_> =
            deaths.iter().filter(|(_, i, output)| *i != 0 && *output != Output::Down(deaf)).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        simulation.heal();
        assert!(simulation.run_until(millis(3_000), Simulation::is_complete).is_some(), "seed {seed}");
    }
}

/// Delivers nothing that node 1 says until the others suspect it; the suspect still hears.
fn mute_until_suspected(seed: u64) -> Simulation {
    let mut simulation = Simulation::joined(seed, 3);
    simulation.cuts.extend([(1, 0), (1, 2)]);
    let suspects =
        |s: &Simulation| s.membership(0).stats().suspicions + s.membership(2).stats().suspicions > 0;
    assert!(simulation.run_until(millis(1_000), suspects).is_some());
    simulation
}

#[test]
fn a_suspect_that_refutes_is_not_told_later_that_it_is_down() {
    for seed in 0..20 {
        let mut simulation = mute_until_suspected(seed);
        simulation.heal();
        simulation.run(millis(3_000));
        assert_eq!(simulation.deaths(), [], "seed {seed}");
        let told = simulation.told(|output| matches!(output, Output::Rejoined(_)));
        assert_eq!(told, [], "seed {seed}: accused after it had refuted");
        let refuted = simulation.told(|output| matches!(output, Output::Refuted(_)));
        assert!(!refuted.is_empty(), "seed {seed}");
    }
}

#[test]
fn an_answer_by_tcp_puts_a_death_off_a_bounded_number_of_times() {
    let mut simulation = mute_until_suspected(1);
    let start = simulation.now;
    simulation.tcp_answers = true;
    let victim = simulation.identity(1);
    // The first check was asked for before the answers began.
    simulation.with(0, |membership, _, _| membership.peer_answered(victim));
    simulation.with(2, |membership, _, _| membership.peer_answered(victim));
    let known = everybody_else_knows_the_death_of(victim);
    let took = simulation.run_until(millis(5_000), known).expect("it falls in the end");
    println!("mute but answering by TCP: down after {took:?}");
    assert!(took >= millis(1_200) && took <= millis(2_000), "{took:?} from {start:?}");
    assert!(simulation.told(|output| *output == Output::Check(victim)).len() >= 5);
}

#[test]
fn a_suspect_that_answers_by_tcp_and_is_heard_again_lives() {
    for seed in 0..20 {
        let mut simulation = mute_until_suspected(seed);
        simulation.tcp_answers = true;
        let victim = simulation.identity(1);
        simulation.with(0, |membership, _, _| membership.peer_answered(victim));
        simulation.with(2, |membership, _, _| membership.peer_answered(victim));
        simulation.run(millis(700));
        simulation.heal();
        simulation.run(millis(2_000));
        assert_eq!(simulation.deaths(), [], "seed {seed}");
    }
}

#[test]
fn records_reach_all_despite_loss() {
    for count in [3, 30] {
        let mut simulation = Simulation::joined(9, count);
        simulation.loss = 0.05;
        for index in 0..count {
            let bytes = vec![index as u8; RECORD_BYTES_MAX];
            simulation.with(index, |membership, now, out| membership.set_record(&bytes, now, out)).unwrap();
        }
        let took =
            simulation.run_until(Duration::from_secs(8), |s| records_are_complete(s, RECORD_BYTES_MAX));
        println!("all records at {count} nodes, 5 % loss: {took:?}");
        assert!(took.is_some(), "{count} nodes");
    }
}

fn records_are_complete(simulation: &Simulation, length: usize) -> bool {
    let running = simulation.running();
    running.iter().all(|index| {
        let mut latest = BTreeMap::new();
        for (_, output) in &simulation.hosts[*index].told {
            if let Output::Record { node, generation, bytes, .. } = output {
                latest.insert(*node, (*generation, bytes.len()));
            }
        }
        running.iter().filter(|other| *other != index).all(|other| {
            let identity = simulation.identity(*other);
            latest.get(&identity.node) == Some(&(identity.generation, length))
        })
    })
}

#[test]
fn a_newcomer_gets_all_records_at_once() {
    let mut simulation = Simulation::joined(4, 10);
    for index in 0..10 {
        simulation.with(index, |membership, now, out| membership.set_record(&[7; 600], now, out)).unwrap();
    }
    simulation.run(Duration::from_secs(5));
    assert!(records_are_complete(&simulation, 600));
    simulation.start(3, "ours", 9_000);
    simulation.hosts[3].told.clear();
    simulation.with(3, |membership, now, out| membership.set_record(&[8; 600], now, out)).unwrap();
    let seed = simulation.identity(0);
    simulation.announce(3, seed);
    let took = simulation.run_until(millis(300), |s| records_are_complete(s, 600));
    println!("a newcomer among 10 has all records, and all have its, in {took:?}");
    assert!(took.is_some());
}

#[test]
fn the_record_of_a_rejoined_node_is_there_before_its_new_life() {
    for seed in 0..10 {
        let mut simulation = Simulation::joined(seed, 3);
        simulation.delay = 200..201;
        simulation.with(1, |membership, now, out| membership.set_record(b"one", now, out)).unwrap();
        simulation.run(millis(500));
        simulation.stop(1, millis(3_000));
        simulation.run(millis(4_000));
        let identity = simulation.identity(1);
        for index in [0, 2] {
            let told = &simulation.hosts[index].told;
            let alive = told.iter().position(|(_, o)| *o == Output::Alive(identity)).expect("it is back");
            let record = told.iter().position(
                |(_, o)| matches!(o, Output::Record { generation, .. } if *generation == identity.generation),
            );
            assert!(record.is_some_and(|record| record < alive), "seed {seed}, node {index}");
        }
    }
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    let mut simulation = Simulation::new(1, 1);
    let long = [0; RECORD_BYTES_MAX + 1];
    let error = simulation.with(0, |m, now, out| m.set_record(&long, now, out)).unwrap_err();
    assert_eq!(error.bytes, RECORD_BYTES_MAX + 1);
}

#[test]
fn corrupted_packets_make_no_members_and_no_deaths() {
    let mut simulation = Simulation::joined(3, 5);
    simulation.corruption = 0.1;
    for index in 0..5 {
        simulation.with(index, |m, now, out| m.set_record(&[5; 100], now, out)).unwrap();
    }
    let real: BTreeSet<Identity> = (0..5).map(|index| simulation.identity(index)).collect();
    simulation.run(Duration::from_secs(120));
    let told = simulation.told(|output| matches!(output, Output::Alive(_) | Output::Down(_)));
    assert_eq!(told, []);
    assert!((0..5).all(|i| simulation.membership(i).members().all(|m| real.contains(&m.identity))));
    let records = simulation.told(|output| matches!(output, Output::Record { .. }));
    assert!(records.iter().all(|(_, _, o)| matches!(o, Output::Record { bytes, .. } if *bytes == [5; 100])));
    let dropped = &simulation.membership(0).stats().dropped;
    println!("dropped under corruption: {dropped:?}");
    assert!(dropped[&PacketError::BadChecksum] > 0);
}

#[test]
fn any_bytes_are_refused_without_harm() {
    let mut simulation = Simulation::joined(3, 2);
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
        assert!(simulation.with(0, |m, now, out| m.handle_packet(&bytes, now, out)).is_err());
    }
    // A right envelope around nonsense.
    for kind in [super::packet::Kind::Gossip, super::packet::Kind::Record, super::packet::Kind::Bond] {
        let bytes = super::packet::seal(ClusterId::of_name("ours"), kind, &Bond::default(), &[0xff; 40]);
        let result = simulation.with(0, |m, now, out| m.handle_packet(&bytes, now, out));
        assert_eq!(result, Err(PacketError::Malformed));
    }
    simulation.run(millis(2_000));
    assert!(simulation.is_complete() && simulation.deaths().is_empty());
}

#[test]
fn clusters_at_reused_addresses_never_merge() {
    let mut simulation = Simulation::joined(3, 5);
    // Nodes 3 and 4 die; their addresses, and even their names, go to another cluster.
    simulation.start(3, "theirs", 9_000);
    simulation.start(4, "theirs", 9_000);
    let (seed, foreign) = (simulation.identity(0), simulation.identity(4));
    simulation.announce(3, foreign);
    simulation.announce(3, seed);
    simulation.run(Duration::from_secs(20));
    assert!(simulation.is_complete_among(&[0, 1, 2]));
    assert!(simulation.is_complete_among(&[3, 4]));
    assert!(simulation.membership(3).stats().dropped[&PacketError::ForeignCluster] > 0);
}

#[test]
fn who_leaves_is_down_at_once_and_does_not_come_back() {
    let mut simulation = Simulation::joined(3, 5);
    let leaver = simulation.identity(1);
    simulation.with(1, |membership, now, out| membership.leave(now, out));
    let known = everybody_else_knows_the_death_of(leaver);
    assert!(simulation.run_until(millis(50), known).is_some());
    simulation.run(Duration::from_secs(10));
    assert_eq!(simulation.told(|output| matches!(output, Output::Rejoined(_))), []);
    assert!(simulation.is_complete_among(&[0, 2, 3, 4]));
    assert_eq!(simulation.membership(1).deadline(), None);
}

#[test]
fn two_processes_with_one_name_disturb_but_do_not_flood() {
    let mut simulation = Simulation::joined(3, 4);
    let identity = Identity { node: node(1), generation: Generation::from_raw(9_000), addr: addr(3) };
    let (settings, rng) = (MembershipSettings::default(), StdRng::seed_from_u64(1));
    let impostor = Membership::new(identity, ClusterId::of_name("ours"), settings, rng, simulation.now);
    simulation.put(3, Some(impostor));
    let seed = simulation.identity(0);
    simulation.announce(3, seed);
    let before = simulation.membership(0).stats().clone();
    simulation.run(Duration::from_secs(10));
    let after = simulation.membership(0).stats();
    let packets = (after.packets_out - before.packets_out + after.packets_in - before.packets_in) / 10;
    println!("two processes with one name: {packets} packets/s at a third");
    assert!(packets < 500, "{packets}");
    assert!(simulation.membership(0).members().any(|member| member.identity == simulation.identity(2)));
}

#[test]
fn the_driver_may_move_between_threads() {
    const fn is_send<T: Send>() {}
    is_send::<Membership>();
}

#[test]
fn a_forgotten_node_is_not_called_any_more() {
    let mut simulation = Simulation::joined(3, 2);
    simulation.kill(1);
    simulation.run(millis(2_000));
    simulation.with(0, |membership, _, _| membership.forget(node(1)));
    let before = simulation.membership(0).stats().packets_out;
    simulation.run(Duration::from_secs(5));
    assert_eq!(simulation.membership(0).stats().packets_out, before);
}

#[test]
fn the_same_seed_makes_the_same_trace() {
    let trace = |seed| {
        let mut simulation = Simulation::joined(seed, 5);
        simulation.loss = 0.1;
        simulation.kill(2);
        simulation.stop(3, millis(1_000));
        simulation.run(Duration::from_secs(5));
        simulation.trace()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[test]
fn a_probe_cycle_goes_on_after_late_timers() {
    let settings = MembershipSettings::default();
    let identity =
        |index| Identity { node: node(index), generation: Generation::from_raw(1), addr: addr(index) };
    let new = |index, now| {
        let rng = StdRng::seed_from_u64(index as u64);
        Membership::new(identity(index), ClusterId::of_name("ours"), settings.clone(), rng, now)
    };
    let mut now = Moment::from_millis(0);
    let (mut one, mut two) = (new(1, now), new(2, now));
    let mut out = Vec::new();
    one.announce(identity(2), now, &mut out);
    // Each round comes later than the one before, from punctual to seconds late.
    let mut sent_late = 0;
    for round in 0..200u64 {
        for _ in 0..10 {
            let to_two = std::mem::take(&mut out);
            deliver(&to_two, &mut two, now, &mut out);
            let to_one = std::mem::take(&mut out);
            deliver(&to_one, &mut one, now, &mut out);
        }
        now = now + millis(round * 10);
        two.handle_time(now, &mut Vec::new());
        let before = one.stats().packets_out;
        one.handle_time(now, &mut out);
        sent_late += u64::from(one.stats().packets_out > before && round > 100);
    }
    assert!(sent_late > 50, "still speaks: {sent_late}");
    assert_eq!(one.stats().errors, BTreeMap::new());
    assert_eq!(one.stats().accusations, 0);
}

fn deliver(outputs: &[Output], to: &mut Membership, now: Moment, out: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Send { bytes, .. } = output {
            let _ = to.handle_packet(bytes, now, out);
        }
    }
}

proptest! {
    /// A datagram that is sealed as ours are, with arbitrary bytes in it, or a correct one of which some are
    /// changed. The checksum is right: nothing before the payload refuses it.
    #[test]
    fn a_sealed_packet_never_panics_whatever_is_in_it(
        is_record: bool,
        arbitrary in prop::collection::vec(any::<u8>(), 0..400),
        is_correct: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..4),
    ) {
        let (cluster, start) = (ClusterId::of_name("ours"), Moment::from_millis(1_000));
        let identity =
            |index| Identity { node: node(index), generation: Generation::from_raw(1), addr: addr(index) };
        let new = |index: usize| {
            let rng = StdRng::seed_from_u64(index as u64);
            Membership::new(identity(index), cluster, MembershipSettings::default(), rng, start)
        };
        let (mut one, mut two) = (new(1), new(2));
        let mut sent = Vec::new();
        two.announce(identity(1), start, &mut sent);
        let mut payload = arbitrary;
        if let (true, Some(Output::Send { bytes, .. })) = (is_correct, sent.last()) {
            payload = super::packet::open(cluster, bytes).unwrap().2.to_vec();
            for (at, change) in changes {
                let at = at.index(payload.len());
                payload[at] ^= change;
            }
        }
        let kind = if is_record { super::packet::Kind::Record } else { super::packet::Kind::Gossip };
        let mut out = Vec::new();
        // Only the absence of a panic is of interest, now and in the time that follows.
        let _ = one.handle_packet(&super::packet::seal(cluster, kind, &Bond::default(), &payload), start, &mut out);
        one.handle_time(start + millis(1_000), &mut out);
    }
}
