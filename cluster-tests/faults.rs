//! Faults of the network that hit some nodes and not others, or come and go: one way only, between two of
//! three, again and again, or a line that is too slow.
//!
//! Whatever it is, no acknowledged write is lost, nothing is done twice, and when it has passed all copies are alike.
//! While two nodes do not reach each other, a third one relays what clients of one ask of the other. (Packets that
//! are lost, late, doubled or changed: see `rough_lines`.)

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::time::Duration;
use std::time::Instant;

use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::counting::Counters;
use support::figures::millis;
use support::load::Load;
use support::load::addresses;
use support::load::assert_kept;
use support::network::Network;

/// How long a fault lasts is what is tried, not a condition.
const FAULT: Duration = Duration::from_secs(3);
/// How long after a cut a command may be on its way to who does not get it any more.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(1);
/// What may wait for a peer: in the mailbox of its sender, and in its stream.
const WAITING_BYTES_MAX: u64 = 2 * 64 * 1024 * 1024;

/// How often a line goes down and up: `FAULTS_FLAPS=60` is what a long run takes.
fn flaps() -> usize {
    std::env::var("FAULTS_FLAPS").ok().and_then(|count| count.parse().ok()).unwrap_or(6)
}

/// Clients write at all nodes while something happens; in the end everything is as was promised.
async fn nothing_is_lost(cluster: &Cluster, tag: &str, fault: impl AsyncFnOnce()) {
    let load = Load::start(tag, &addresses(&cluster.nodes), 2, Duration::from_millis(2));
    load.goes_on(200).await;
    fault().await;
    let healed = Instant::now();
    load.goes_on(200).await;
    let seen = load.stop().await;
    cluster.settled().await;
    cluster.nodes[0].assert_alike().await;
    println!(
        "{tag}: {} writes, {} errors, slowest answer {}, alike {} after it had passed",
        seen.promises.len(),
        seen.errors.len(),
        millis(seen.slowest),
        millis(healed.elapsed()),
    );
    assert_kept(&cluster.nodes, &seen.promises).await;
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
}

#[test]
fn two_nodes_that_do_not_hear_each_other_while_a_third_one_hears_both_lose_nothing() {
    alone(async {
        let Some(network) = Network::enter(3) else { return };
        let (name, plans) = network.plans();
        let cluster = Cluster::of(name, plans).await;
        nothing_is_lost(&cluster, "one-way", async || {
            answered_all_the_while(&network, &cluster, &[(2, 1)]).await
        })
        .await;
        let both = [(2, 1), (1, 2)];
        nothing_is_lost(&cluster, "both-ways", async || {
            answered_all_the_while(&network, &cluster, &both).await
        })
        .await;
        both.iter().for_each(|(deaf, sender)| network.deafen(*deaf, *sender));
        let start = Instant::now();
        assert_eq!(cluster.nodes[0].connect().await.ask("FLUSH").await, "OK");
        println!("both-ways: FLUSH took {}", millis(start.elapsed()));
        for node in &cluster.nodes {
            assert_eq!(node.connect().await.list("KEYS").await.len(), 0, "as {} says", node.plan.name);
        }
        both.iter().for_each(|(deaf, sender)| network.undeafen(*deaf, *sender));
        cluster.at_rest().await;
        cluster.nodes[0].assert_alike().await;
        assert_eq!(cluster.sum("promotions").await, 0, "nobody was held for dead");
    });
}

/// Some nodes do not hear some others for a while, and clients of all get answers, at all nodes for all keys.
async fn answered_all_the_while(network: &Network, cluster: &Cluster, deaf: &[(u8, u8)]) {
    let marks: Vec<String> = (0..50).map(|number| format!("mark-{number}")).collect();
    cluster.nodes[0].connect().await.ask_all(marks.iter().map(|key| format!("SET {key} here"))).await;
    let counters = Counters::start(&addresses(&cluster.nodes));
    let relayed = cluster.sum("commands_relayed").await;
    let cut = Instant::now();
    deaf.iter().for_each(|(deaf, sender)| network.deafen(*deaf, *sender));
    tokio::time::sleep(FAULT).await;
    for node in &cluster.nodes {
        let keys: HashSet<String> = node.connect().await.list("KEYS").await.into_iter().collect();
        let missing = marks.iter().find(|key| !keys.contains(*key));
        assert_eq!(missing, None, "{} lists no such key", node.plan.name);
    }
    let end = Instant::now();
    deaf.iter().for_each(|(deaf, sender)| network.undeafen(*deaf, *sender));
    // Now that nothing is relayed any more, the direct way is taken again.
    let direct = support::eventually(LONG, async || {
        let before = cluster.sum("commands_relayed").await;
        counters.go_on(50).await;
        match cluster.sum("commands_relayed").await - before {
            0 => Ok(()),
            count => Err(format!("{count} commands were relayed")),
        }
    })
    .await;
    println!(
        "  {} commands relayed, the direct way taken again after {}",
        cluster.sum("commands_relayed").await - relayed,
        millis(direct),
    );
    let counted = counters.stop().await;
    assert!(cluster.sum("commands_relayed").await > relayed, "nothing was relayed");
    counted.print(cut + FOUND_OUT_WITHIN, end);
    counted.assert_right(&cluster.nodes, cut..cut + FOUND_OUT_WITHIN).await;
}

#[test]
fn a_line_that_goes_down_and_up_again_and_again_loses_nothing() {
    alone(async {
        let Some(network) = Network::enter(3) else { return };
        let (name, plans) = network.plans();
        let cluster = Cluster::of(name, plans).await;
        nothing_is_lost(&cluster, "flapping", async || {
            for _ in 0..flaps() {
                network.cut(3);
                tokio::time::sleep(Duration::from_secs(1)).await;
                network.mend(3);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
    });
}

#[test]
fn a_replica_behind_a_slow_line_holds_nobody_up_and_takes_no_more_memory_than_is_allowed() {
    alone(async {
        let Some(network) = Network::enter(2) else { return };
        let (name, plans) = network.plans();
        let cluster = Cluster::of(name, plans).await;
        if let Err(reason) = network.slow(2, "1mbit") {
            println!("skipped: a line cannot be slowed down here: {reason}");
            return;
        }
        let primaries = cluster.primaries(0).await;
        let is_first = |key: &String| {
            let partition = cachegopher::store::Partition::of(key.as_bytes());
            primaries[usize::from(partition.number())] == "n1"
        };
        let keys: Vec<String> = (0..6_000).map(|n| format!("slow-{n}")).filter(is_first).collect();
        let value = "v".repeat(60_000);
        let mut client = cluster.nodes[0].connect().await;
        let mut most = 0;
        let start = Instant::now();
        for some in keys.chunks(100) {
            let replies = client.ask_all(some.iter().map(|key| format!("SET {key} {value}"))).await;
            assert!(replies.iter().all(|reply| reply == "OK"), "{replies:?}");
            most = most.max(cluster.nodes[0].figure("replication_waiting_bytes").await);
        }
        let took = start.elapsed();
        println!(
            "slow: {} MB written in {}, at most {} MB waited",
            keys.len() * value.len() / 1_000_000,
            millis(took),
            most / 1_000_000,
        );
        assert!(most <= WAITING_BYTES_MAX, "{most} bytes waited");
        assert!(keys.len() * value.len() > WAITING_BYTES_MAX as usize, "or nothing is tried");
        network.hurry(2);
        cluster.settled().await;
        cluster.nodes[0].assert_alike().await;
        println!("slow: {} streams dropped", cluster.sum("streams_dropped").await);
        support::eventually(LONG, async || match cluster.sum("replication_waiting_bytes").await {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes wait")),
        })
        .await;
    });
}
