//! What an operator does with nodes: takes them out for good, forgets dead ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::eventually;
use support::figures::millis;
use support::load::Data;
use support::load::Load;
use support::load::broken;
use support::node::Node;
use support::resp::RespClient;

const DATA: Data = Data { keys: 10_000, value_bytes: 200 };
const PAUSE: Duration = Duration::from_millis(2);

fn addresses<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<SocketAddr> {
    nodes.into_iter().map(|node| node.plan.client).collect()
}

async fn knows_members(node: &Node, count: u64) {
    eventually(LONG, async || match node.figure("members").await {
        known if known == count => Ok(()),
        known => Err(format!("{} knows {known} members, not {count}", node.plan.name)),
    })
    .await;
}

#[test]
fn a_node_leaves_for_good_under_load_and_every_copy_is_rebuilt_before_it_goes() {
    alone(async {
        let mut cluster = Cluster::start(4).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        let load = Load::start("leave", &addresses(&cluster.nodes[..3]), 2, PAUSE);
        load.goes_on(100).await;
        let start = Instant::now();
        assert_eq!(cluster.nodes[3].admin("/leave").await.unwrap()["left"], "n4");
        println!("leave for good: ready to go after {}", millis(start.elapsed()));
        assert!(cluster.nodes[3].ended().await.success());
        for node in &cluster.nodes[..3] {
            knows_members(node, 3).await;
        }
        load.goes_on(100).await;
        let seen = load.stop().await;
        println!("leave for good: {} writes, slowest answer {}", seen.promises.len(), millis(seen.slowest));
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        cluster.at_rest().await;
        assert_eq!(cluster.sum("promotions").await + cluster.sum("partitions_lost").await, 0);
        // One more node dies: there were two copies of everything without the one that has left.
        cluster.nodes[2].kill();
        cluster.nodes[2].ended().await;
        let mut client = cluster.nodes[0].connect().await;
        DATA.assert_readable(&mut client).await;
        assert!(broken(&seen.promises, &mut client).await.is_empty());

        // Started again, it is a newcomer.
        cluster.nodes[3].start_again();
        cluster.nodes[2].start_again();
        cluster.settled().await;
        DATA.assert_readable(&mut cluster.nodes[3].connect().await).await;
    });
}

#[test]
fn a_single_node_does_not_leave_and_a_living_one_is_not_forgotten() {
    alone(async {
        let cluster = Cluster::start(1).await;
        let refused = cluster.nodes[0].admin("/leave").await.unwrap_err();
        assert!(refused.contains("no other node"), "{refused}");
        let refused = cluster.nodes[0].admin("/forget?name=n1").await.unwrap_err();
        assert!(refused.contains("n1 lives"), "{refused}");
        let refused = cluster.nodes[0].admin("/forget?name=n9").await.unwrap_err();
        assert!(refused.contains("no dead node is called n9"), "{refused}");
    });
}

#[test]
fn a_node_that_stood_still_while_it_was_forgotten_is_told_so_and_ends() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.at_rest().await;
        cluster.nodes[2].freeze().await;
        let asked = &cluster.nodes[0];
        eventually(LONG, async || match asked.admin("/forget?name=n3").await {
            Ok(answer) if answer["told"] == 1 => Ok(()),
            Ok(answer) => panic!("{answer}"),
            Err(reason) => Err(reason),
        })
        .await;
        for node in &cluster.nodes[..2] {
            knows_members(node, 2).await;
        }
        cluster.nodes[2].signal(Signal::SIGCONT);
        assert!(!cluster.nodes[2].ended().await.success());
        let log = cluster.nodes[2].log();
        assert!(log.contains("this node was removed from the cluster"), "{log}");
        cluster.settled().await;

        // Nor in a later life, and a node that came later knows it too.
        let fourth = cluster.add();
        cluster.settled().await;
        cluster.nodes[2].plan.join = vec![cluster.nodes[fourth].plan.peer];
        cluster.nodes[2].start_again();
        assert!(!cluster.nodes[2].ended().await.success());
        for index in [0, 1, fourth] {
            knows_members(&cluster.nodes[index], 3).await;
        }
        DATA.assert_readable(&mut cluster.nodes[fourth].connect().await).await;
    });
}

#[test]
fn members_that_announce_a_host_name_are_reached_and_told_by_it() {
    alone(async {
        let cluster = Cluster::start_with(3, &["--announce-host", "localhost"]).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        for node in &cluster.nodes {
            DATA.assert_readable(&mut node.connect().await).await;
            let told: Vec<String> = node.connect().await.list("NODES").await;
            assert!(told.iter().all(|line| line.contains("localhost:")), "{told:?}");
        }
        let key = cluster.keys_of(1).await.swap_remove(0);
        let mut other = RespClient::connect(cluster.nodes[0].redirect()).await;
        let moved = other.ask(&format!("GET {key}")).await;
        let port = cluster.nodes[1].redirect().port();
        assert!(moved.starts_with("-MOVED ") && moved.ends_with(&format!(" localhost:{port}")), "{moved}");
    });
}

#[test]
fn a_member_that_moved_to_another_address_is_learned_again() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.replicated().await;
        let moved = |address: SocketAddr| SocketAddr::new([127, 0, 0, 2].into(), address.port());
        cluster.nodes[2].kill();
        cluster.nodes[2].ended().await;
        let plan = &mut cluster.nodes[2].plan;
        (plan.client, plan.peer) = (moved(plan.client), moved(plan.peer));
        let client = plan.client.to_string();
        cluster.nodes[2].start_again();
        cluster.settled().await;
        for node in &cluster.nodes {
            DATA.assert_readable(&mut node.connect().await).await;
            let told: Vec<String> = node.connect().await.list("NODES").await;
            assert!(told.len() == 3 && told.iter().any(|line| line.contains(&client)), "{told:?}");
        }
        // It holds copies there: one more death costs nothing.
        cluster.nodes[1].kill();
        cluster.nodes[1].ended().await;
        DATA.assert_readable(&mut cluster.nodes[0].connect().await).await;
    });
}
