//! A primary is lost: killed, frozen, or told to go. What clients of the other nodes see of it.
//!
//! `FAILOVER_ROUNDS` says how often each is done (default 2); `scripts/failover.sh` does it 20 times.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use support::LONG;
use support::alone;
use support::client::Client;
use support::cluster::Cluster;
use support::cluster::key_per_partition;
use support::eventually;
use support::figures::Durations;
use support::figures::Failovers;
use support::figures::millis;
use support::load::Data;
use support::load::Load;
use support::load::broken;
use support::load::may_be_lost;
use support::node::Node;
use support::resp::RespClient;

/// 64 MB.
const DATA: Data = Data { keys: 65_536, value_bytes: 1_000 };
fn rounds() -> usize {
    std::env::var("FAILOVER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

/// How a primary goes, and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Killed,
    Frozen,
    Told,
}

impl Loss {
    fn name(self) -> &'static str {
        match self {
            Loss::Killed => "SIGKILL",
            Loss::Frozen => "SIGSTOP",
            Loss::Told => "SIGTERM",
        }
    }

    fn strike(self, node: &Node) {
        node.signal(match self {
            Loss::Killed => Signal::SIGKILL,
            Loss::Frozen => Signal::SIGSTOP,
            Loss::Told => Signal::SIGTERM,
        });
    }

    async fn undo(self, node: &mut Node) {
        match self {
            Loss::Frozen => node.signal(Signal::SIGCONT),
            Loss::Killed | Loss::Told => node.start_again(),
        }
    }
}

/// Writes to every partition at once, each over a connection of its own, and says when each was done.
async fn first_writes(probes: Vec<(Client, String)>, since: Instant) -> (Vec<Duration>, Vec<String>) {
    let write = |(mut client, key): (Client, String)| async move {
        let reply = client.try_ask(format!("SET {key} probed")).await;
        match reply {
            Ok(reply) if reply == "OK" => Ok(since.elapsed()),
            Ok(reply) => Err(format!("{key}: {reply}")),
            Err(error) => Err(format!("{key}: {error}")),
        }
    };
    let writes: Vec<_> = probes.into_iter().map(|probe| tokio::spawn(write(probe))).collect();
    let (mut times, mut errors) = (Vec::new(), Vec::new());
    for written in writes {
        match written.await.unwrap() {
            Ok(time) => times.push(time),
            Err(error) => errors.push(error),
        }
    }
    (times, errors)
}

async fn round(cluster: &mut Cluster, victim: usize, loss: Loss, seen: &mut Failovers) {
    let survivors: Vec<SocketAddr> = cluster.others(victim).map(|node| node.plan.client).collect();
    let promotions_before = promotions(cluster, victim).await;
    let mut probes = Vec::new();
    for (key, address) in cluster.keys_of(victim).await.into_iter().zip(survivors.iter().cycle()) {
        let mut client = Client::connect(*address).await;
        assert_eq!(client.ask("PING").await, "PONG");
        probes.push((client, key));
    }
    let affected = probes.len() as u64;
    let prefix = format!("{}-{}", loss.name(), seen.rounds);
    let load = Load::start(&prefix, &survivors, 4, Duration::from_millis(1));
    load.goes_on(500).await;

    let struck = Instant::now();
    loss.strike(&cluster.nodes[victim]);
    let (times, errors) = first_writes(probes, struck).await;
    if loss != Loss::Frozen {
        cluster.nodes[victim].ended().await;
    }
    let mut asked = Client::connect(survivors[0]).await;
    DATA.assert_readable(&mut asked).await;
    let promoted = promotions(cluster, victim).await - promotions_before;

    let back = Instant::now();
    loss.undo(&mut cluster.nodes[victim]).await;
    cluster.settled().await;
    let settled = back.elapsed();
    let load = load.stop().await;
    for index in 0..cluster.nodes.len() {
        DATA.assert_readable(&mut cluster.nodes[index].connect().await).await;
    }

    let lost = broken(&load.promises, &mut asked).await;
    for (promise, reply) in &lost {
        let (key, before) = (&promise.key, struck.saturating_duration_since(promise.at));
        let after = promise.at.saturating_duration_since(struck);
        assert!(
            may_be_lost(promise.at, struck),
            "{key} ({before:?} before, {after:?} after the loss) is lost: {reply}"
        );
        seen.lost_before_max = seen.lost_before_max.max(before);
    }
    seen.rounds += 1;
    seen.writes.add(times);
    seen.settled.add([settled]);
    seen.errors.extend(errors.into_iter().chain(load.errors));
    seen.partitions += affected;
    seen.promotions += promoted;
    seen.acknowledged += load.promises.len();
    seen.lost += lost.len();
}

async fn promotions(cluster: &Cluster, victim: usize) -> u64 {
    let mut sum = 0;
    for node in cluster.others(victim) {
        sum += node.figure("promotions").await;
    }
    sum
}

async fn lose_primaries(loss: Loss) -> Failovers {
    let mut cluster = Cluster::start(3).await;
    DATA.write(&mut cluster.nodes[0].connect().await).await;
    cluster.at_rest().await;
    let mut seen = Failovers::default();
    for number in 0..rounds() {
        round(&mut cluster, number % 3, loss, &mut seen).await;
    }
    seen.print(loss.name());
    assert!(seen.errors.is_empty(), "{} errors: {:?}", seen.errors.len(), &seen.errors[..1]);
    seen
}

#[test]
fn a_killed_primary_is_replaced_at_once_and_no_client_of_another_node_sees_an_error() {
    alone(async {
        let seen = lose_primaries(Loss::Killed).await;
        assert_eq!(seen.promotions, seen.partitions, "promotions of affected partitions");
    });
}

#[test]
fn a_frozen_primary_is_replaced_and_no_client_of_another_node_sees_an_error() {
    alone(async {
        let seen = lose_primaries(Loss::Frozen).await;
        assert_eq!(seen.promotions, seen.partitions, "promotions of affected partitions");
    });
}

#[test]
fn a_primary_that_is_told_to_go_loses_nothing() {
    alone(async {
        let seen = lose_primaries(Loss::Told).await;
        assert_eq!(seen.lost, 0, "acknowledged writes lost");
        assert_eq!(seen.promotions, 0, "roles were handed over, so nobody had to promote itself");
    });
}

#[test]
fn a_node_that_was_frozen_closes_its_clients_and_never_answers_from_the_past() {
    alone(async {
        for number in 0..rounds() {
            let cluster = Cluster::start(3).await;
            let frozen = &cluster.nodes[number % 3];
            let mut other = cluster.nodes[(number + 1) % 3].connect().await;
            let keys = cluster.keys_of(number % 3).await;
            other.ask_all(keys.iter().map(|key| format!("SET {key} old"))).await;
            cluster.replicated().await;
            let mut clients = Vec::new();
            for key in &keys[..200] {
                let mut client = frozen.connect().await;
                assert_eq!(client.ask(format!("GET {key}")).await, "old");
                clients.push((client, key.clone()));
            }

            frozen.freeze().await;
            // Half of them have asked when it wakes up.
            for (client, key) in clients.iter_mut().step_by(2) {
                client.send(format!("GET {key}")).await.unwrap();
            }
            let replies = other.ask_all(keys.iter().map(|key| format!("SET {key} new"))).await;
            assert!(replies.iter().all(|reply| reply == "OK"));
            frozen.signal(Signal::SIGCONT);

            let mut new_clients = Durations::default();
            let mut answered = 0;
            for (index, (mut client, key)) in clients.into_iter().enumerate() {
                let start = Instant::now();
                // A connection that it accepts from now on.
                assert_eq!(frozen.connect().await.ask(format!("GET {key}")).await, "new");
                new_clients.add([start.elapsed()]);
                if index % 2 == 1 {
                    let _ = client.send(format!("GET {key}")).await;
                }
                // The new primary may answer through it first, but then it is closed.
                let mut last = client.receive().await;
                if let Ok(reply) = &last {
                    assert_eq!(reply, "new", "{key} on a connection from before");
                    answered += 1;
                    last = client.receive().await;
                }
                let error = last.expect_err("a connection from before the stall is closed");
                assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "the connection hangs");
            }
            let slowest = millis(new_clients.max());
            println!(
                "frozen: all connections closed, {answered} answered before; new clients wait {slowest}"
            );
            // While it takes its partitions back too.
            while !is_settled(&cluster).await {
                for key in keys.iter().step_by(37) {
                    assert_eq!(frozen.connect().await.ask(format!("GET {key}")).await, "new");
                }
            }
            eventually(LONG, async || match frozen.figure("stalls").await {
                0 => Err("no stall was noticed".to_owned()),
                _ => Ok(()),
            })
            .await;
        }
    });
}

/// Much longer than a silent node is waited for.
const LONG_STALL: Duration = Duration::from_secs(2);

/// As when the machine under them stands still.
#[test]
fn nodes_that_stand_still_together_go_on_with_their_clients() {
    alone(async {
        for _ in 0..rounds() {
            let cluster = Cluster::start(3).await;
            let keys = cluster.keys_of(0).await;
            let mut clients = Vec::new();
            for node in &cluster.nodes {
                let mut client = node.connect().await;
                client.ask_all(keys.iter().map(|key| format!("SET {key} old"))).await;
                clients.push(client);
            }
            cluster.replicated().await;
            let promoted: u64 = promotions(&cluster, 0).await;

            cluster.nodes.iter().for_each(|node| node.signal(Signal::SIGSTOP));
            tokio::time::sleep(LONG_STALL).await;
            cluster.nodes.iter().for_each(|node| node.signal(Signal::SIGCONT));

            for client in &mut clients {
                let replies = client.ask_all(keys.iter().map(|key| format!("GET {key}"))).await;
                assert!(replies.iter().all(|reply| reply == "old"));
            }
            for node in &cluster.nodes {
                assert!(node.figure("stalls").await > 0, "the stall was not noticed");
            }
            assert_eq!(promotions(&cluster, 0).await, promoted, "nobody was there to replace anybody");
        }
    });
}

async fn is_settled(cluster: &Cluster) -> bool {
    for node in &cluster.nodes {
        if node.figure("settled").await != 1 {
            return false;
        }
    }
    true
}

#[test]
fn while_a_node_dies_all_keys_are_listed_and_counted_or_it_is_said_that_they_are_not() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let keys = key_per_partition();
        let mut client = cluster.nodes[1].connect().await;
        client.ask_all(keys.iter().map(|key| format!("SET {key} x"))).await;
        cluster.replicated().await;
        cluster.nodes[0].kill();
        let since = Instant::now();
        let (mut listed, mut refused) = (0, 0);
        let mut counter = RespClient::connect(cluster.nodes[2].plan.client).await;
        let is_over = || async { cluster.nodes[2].figure("members_alive").await == 2 };
        let mut after = 0;
        // Some more rounds when the death is known.
        while after < 50 {
            after += usize::from(is_over().await);
            for node in &cluster.nodes[1..] {
                match node.connect().await.try_list("KEYS").await {
                    Ok(found) => {
                        assert_eq!(found.len(), keys.len(), "{} after the kill", millis(since.elapsed()));
                        listed += 1;
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("ring changed"), "{error}");
                        refused += 1;
                    }
                }
            }
            let count = counter.ask("DBSIZE").await;
            assert!(count == format!(":{}", keys.len()) || count.contains("ring changed"), "{count}");
        }
        println!("listings around a death: {listed} whole, {refused} refused");
    });
}
