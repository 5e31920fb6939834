//! Cables that lose some of what is sent, in network namespaces of our own. Skipped, with the reason printed,
//! where that cannot be made.

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

const DATA: Data = Data { keys: 2_000, value_bytes: 100 };
const PAUSE: Duration = Duration::from_millis(5);
/// The time over which it is measured, not a condition.
const LOSSY: Duration = Duration::from_secs(8);

/// Three nodes under load, each of whose cables loses so many of a hundred packets each way: a packet from one
/// node to another passes two of them. Returns how many deaths were declared meanwhile.
async fn deaths_while_lossy(percent: u8) -> u64 {
    let Some(network) = Network::enter(3) else { return 0 };
    let (name, plans) = network.plans();
    let cluster = Cluster::of(name, plans).await;
    DATA.write(&mut cluster.nodes[0].connect().await).await;
    cluster.at_rest().await;
    let load = Load::start("lossy", &addresses(&cluster.nodes), 1, PAUSE);
    load.goes_on(100).await;
    for number in 1..=3 {
        if let Err(reason) = network.lose_some(number, percent) {
            println!("skipped: packets cannot be lost here: {reason}");
            return 0;
        }
    }
    tokio::time::sleep(LOSSY).await;
    for node in &cluster.nodes {
        DATA.assert_readable(&mut node.connect().await).await;
    }
    let deaths = cluster.sum("accusations").await;
    (1..=3).for_each(|number| network.lose_none(number));
    let healed = Instant::now();
    load.goes_on(100).await;
    let seen = load.stop().await;
    cluster.settled().await;
    cluster.nodes[0].assert_alike().await;
    println!(
        "lossy: {percent} % each way: {} writes, slowest answer {}, {deaths} deaths, alike {} afterwards",
        seen.promises.len(),
        millis(seen.slowest),
        millis(healed.elapsed()),
    );
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert_kept(&cluster.nodes, &seen.promises).await;
    deaths
}

#[test]
fn nobody_is_declared_dead_where_few_packets_are_lost() {
    alone(async { assert_eq!(deaths_while_lossy(3).await, 0) });
}

#[test]
fn every_key_is_served_where_a_fifth_of_all_packets_is_lost() {
    alone(async {
        deaths_while_lossy(11).await;
    });
}
