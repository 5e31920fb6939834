//! Leases: of all who miss a key at once, through any node, one is to fetch it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;
use std::time::Instant;

use tokio::task::JoinSet;

use support::LONG;
use support::alone;
use support::client::Client;
use support::cluster::Cluster;
use support::eventually;
use support::node::Node;

const CLIENTS: usize = 100;

/// Everybody asks at once, evenly over these nodes; the replies come as they come.
async fn ask_all(nodes: &[&Node], key: &str) -> JoinSet<(String, Client)> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(nodes[number % nodes.len()].connect().await);
    }
    let mut asking = JoinSet::new();
    for mut client in clients {
        let line = format!("GETLEASE {key} 20000 0");
        asking.spawn(async move { (client.ask(line).await, client) });
    }
    asking
}

async fn next(asking: &mut JoinSet<(String, Client)>) -> (String, Client) {
    asking.join_next().await.unwrap().unwrap()
}

fn token(reply: &str) -> String {
    reply.strip_prefix("LEASE ").unwrap_or_else(|| panic!("no lease: {reply}")).to_owned()
}

/// Until all have asked but one: then nobody else has got a lease.
async fn all_wait(cluster: &Cluster) {
    eventually(LONG, async || match cluster.sum("lease_waiters").await {
        waiters if waiters == CLIENTS as u64 - 1 => Ok(()),
        waiters => Err(format!("{waiters} wait")),
    })
    .await;
}

#[test]
fn of_a_hundred_who_miss_at_once_one_gets_a_lease_and_all_others_its_value() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let nodes: Vec<&Node> = cluster.nodes.iter().collect();
        for round in 0..3 {
            let key = format!("herd-{round}");
            let mut asking = ask_all(&nodes, &key).await;
            let (first, mut holder) = next(&mut asking).await;
            let token = token(&first);
            all_wait(&cluster).await;
            // A shard with waiters serves others, and so does every node.
            let start = Instant::now();
            for node in &nodes {
                let mut client = node.connect().await;
                assert_eq!(client.ask("SET other 1").await, "OK");
                assert_eq!(client.ask(format!("GET {key}")).await, "ERROR: Key not found");
            }
            println!("six requests beside {} who wait: {:?}", CLIENTS - 1, start.elapsed());
            let start = Instant::now();
            assert_eq!(holder.ask(format!("SETLEASE {key} {token} 60 value of {round}")).await, "1");
            while !asking.is_empty() {
                assert_eq!(next(&mut asking).await.0, format!("HIT value of {round}"));
            }
            println!("{} woken within {:?}", CLIENTS - 1, start.elapsed());
        }
    });
}

#[test]
fn a_deleted_key_gives_its_lease_to_one_of_those_who_wait() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let nodes: Vec<&Node> = cluster.nodes.iter().collect();
        let mut asking = ask_all(&nodes, "k").await;
        let (first, mut former) = next(&mut asking).await;
        all_wait(&cluster).await;
        assert_eq!(nodes[0].connect().await.ask("DELETE k").await, "ERROR: Key not found");
        let (second, mut holder) = next(&mut asking).await;
        assert_ne!(token(&second), token(&first));
        let late = format!("SETLEASE k {} 0 old", token(&first));
        assert_eq!(former.ask(late).await, "0");
        assert_eq!(holder.ask(format!("SETLEASE k {} 0 new", token(&second))).await, "1");
        while !asking.is_empty() {
            assert_eq!(next(&mut asking).await.0, "HIT new");
        }
    });
}

#[test]
fn when_the_primary_dies_one_of_those_who_wait_gets_a_new_lease() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let key = cluster.keys_of(0).await.remove(0);
        let survivors: Vec<&Node> = cluster.nodes[1..].iter().collect();
        let mut asking = ask_all(&survivors, &key).await;
        let (first, mut former) = next(&mut asking).await;
        all_wait(&cluster).await;
        cluster.nodes[0].kill();
        let killed = Instant::now();
        let (second, mut holder) = next(&mut asking).await;
        println!("a new lease after {:?}", killed.elapsed());
        assert!(killed.elapsed() < Duration::from_secs(5), "longer than a failover takes");
        assert_ne!(token(&second), token(&first));
        assert_eq!(former.ask(format!("SETLEASE {key} {} 0 old", token(&first))).await, "0");
        assert_eq!(holder.ask(format!("SETLEASE {key} {} 0 new", token(&second))).await, "1");
        while !asking.is_empty() {
            assert_eq!(next(&mut asking).await.0, "HIT new");
        }
    });
}
