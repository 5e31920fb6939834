//! Cables whose packets are lost, come late, out of order, twice, once more seconds later, or changed, in network
//! namespaces of our own. Skipped, with the reason printed, where that cannot be made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;
use std::time::Instant;

use support::alone;
use support::cluster::Cluster;
use support::figures::millis;
use support::load::Data;
use support::load::Load;
use support::load::addresses;
use support::load::assert_kept;
use support::network::Network;
use support::rough_line::Faults;
use support::rough_line::RoughLine;

const DATA: Data = Data { keys: 2_000, value_bytes: 100 };
const PAUSE: Duration = Duration::from_millis(5);
/// The time over which it is measured, not a condition.
const ROUGH: Duration = Duration::from_secs(8);

/// Three nodes under load, each of whose cables is like that: a packet from one node to another passes two of them.
/// No write is lost, every key is served meanwhile, and afterwards all copies are alike. Returns how many deaths were
/// declared meanwhile.
async fn deaths_while_rough(tag: &str, faults: Faults) -> u64 {
    let Some(network) = Network::enter(3) else { return 0 };
    let lines: Result<Vec<RoughLine>, String> = (1..=3).map(|number| network.rough_line(number)).collect();
    let lines = match lines {
        Ok(lines) => lines,
        Err(reason) => {
            println!("skipped: no cable can be made here: {reason}");
            return 0;
        }
    };
    let (name, plans) = network.plans();
    let cluster = Cluster::of(name, plans).await;
    DATA.write(&mut cluster.nodes[0].connect().await).await;
    cluster.at_rest().await;
    let load = Load::start(tag, &addresses(&cluster.nodes), 1, PAUSE);
    load.goes_on(100).await;
    lines.iter().for_each(|line| line.set(faults));
    tokio::time::sleep(ROUGH).await;
    for node in &cluster.nodes {
        DATA.assert_readable(&mut node.connect().await).await;
    }
    let deaths = cluster.sum("accusations").await;
    let dropped = cluster.sum("gossip_packets_dropped").await;
    lines.iter().for_each(|line| line.set(Faults::default()));
    let healed = Instant::now();
    load.goes_on(100).await;
    let seen = load.stop().await;
    cluster.settled().await;
    cluster.nodes[0].assert_alike().await;
    println!(
        "{tag}: {} writes, slowest answer {}, {deaths} deaths, {dropped} packets dropped, alike {} afterwards",
        seen.promises.len(),
        millis(seen.slowest),
        millis(healed.elapsed()),
    );
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert_kept(&cluster.nodes, &seen.promises).await;
    assert_eq!(dropped > 0, faults.corrupted > 0, "{dropped} packets dropped");
    deaths
}

#[test]
fn nobody_is_declared_dead_where_few_packets_are_lost() {
    alone(async {
        assert_eq!(deaths_while_rough("lost-3", Faults { lost: 3, ..Faults::default() }).await, 0)
    });
}

#[test]
fn every_key_is_served_where_a_fifth_of_all_packets_is_lost() {
    alone(async {
        deaths_while_rough("lost-11", Faults { lost: 11, ..Faults::default() }).await;
    });
}

#[test]
fn nobody_is_declared_dead_where_packets_are_late_and_overtake_each_other() {
    alone(async {
        assert_eq!(
            deaths_while_rough("late", Faults { late_max: Duration::from_millis(15), ..Faults::default() })
                .await,
            0
        )
    });
}

#[test]
fn nobody_is_declared_dead_where_packets_come_twice_and_again_seconds_later() {
    alone(async {
        assert_eq!(
            deaths_while_rough("again", Faults { doubled: 20, replayed: 20, ..Faults::default() }).await,
            0
        )
    });
}

#[test]
fn nobody_is_declared_dead_where_packets_are_changed_under_way() {
    alone(async {
        assert_eq!(deaths_while_rough("changed", Faults { corrupted: 3, ..Faults::default() }).await, 0)
    });
}

#[test]
fn every_key_is_served_where_all_of_that_happens() {
    let late_max = Duration::from_millis(10);
    alone(async {
        deaths_while_rough("all", Faults { lost: 1, late_max, doubled: 10, replayed: 10, corrupted: 2 })
            .await;
    });
}
