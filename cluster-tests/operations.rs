//! What an operator does: takes nodes out for good, forgets dead ones, compares copies, asks for writes that
//! a replica acknowledges, and has a clock that is wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use cachegopher::cluster::membership::Identity;
use cachegopher::cluster::membership::NodeId;
use cachegopher::cluster::peer;
use cachegopher::cluster::peer::Request;
use cachegopher::cluster::peer::Response;
use cachegopher::cluster::peer::Welcome;
use cachegopher::time::Timestamp;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::cluster::unique_name;
use support::eventually;
use support::figures::millis;
use support::load::Data;
use support::load::Load;
use support::load::addresses;
use support::load::assert_kept;
use support::load::broken;
use support::node::Node;
use support::node::Plan;
use support::ports::Ports;
use support::resp::RespClient;

const DATA: Data = Data { keys: 10_000, value_bytes: 200 };
const PAUSE: Duration = Duration::from_millis(2);

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
            node.comes_to("members", 3).await;
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
fn a_node_is_forgotten_when_another_one_knows_it_and_who_asks_again_is_told_so() {
    alone(async {
        // Whoever stands still counts as alive for a while.
        let cluster = Cluster::start_with(3, &["--detection", "cautious"]).await;
        cluster.at_rest().await;
        let [asked, other, dead] = &cluster.nodes[..] else { panic!("three nodes") };
        dead.kill();
        for node in [asked, other] {
            node.comes_to("members_alive", 2).await;
        }
        other.freeze().await;
        let refused = asked.admin("/forget?name=n3").await.unwrap_err();
        assert!(refused.contains("none of the 1 other nodes has confirmed that it knows"), "{refused}");
        other.signal(Signal::SIGCONT);
        eventually(LONG, async || match asked.admin("/forget?name=n3").await {
            Ok(answer) if answer["told"] == 1 => Ok(()),
            Ok(answer) => Err(answer.to_string()),
            Err(reason) => Err(reason),
        })
        .await;
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
            node.comes_to("members", 2).await;
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
            cluster.nodes[index].comes_to("members", 3).await;
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

#[test]
fn all_copies_are_compared_and_what_was_evicted_is_counted_apart() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.at_rest().await;
        for node in &cluster.nodes {
            let found = node.admin("/verify?wait_ms=60000").await.unwrap();
            assert_eq!(found["is_clean"], true, "{found}");
            assert_eq!((&found["copies"], &found["values"]), (&(2 * 4_096).into(), &(2 * DATA.keys).into()));
            assert_eq!(found["evicted"], 0, "{found}");
        }
        // What is stored while it is compared differs only for a moment.
        let load = Load::start("verify", &addresses(&cluster.nodes), 2, PAUSE);
        load.goes_on(100).await;
        cluster.nodes[1].assert_alike().await;
        assert!(load.stop().await.errors.is_empty());
        // One with room for few values joins, and evicts.
        cluster.add_with(&["--max-items", "500"]);
        cluster.settled().await;
        let found = cluster.nodes[0].admin("/verify?wait_ms=60000").await.unwrap();
        assert_eq!((&found["is_clean"], &found["different"]), (&true.into(), &0.into()), "{found}");
        assert!(found["evicted"].as_u64().unwrap() > 500, "{found}");
    });
}

/// Kills every node in turn under load. Returns how many writes were acknowledged.
async fn kill_each(copies: &str) -> usize {
    let mut cluster = Cluster::start_with(4, &["--copies", copies, "--ack", "replicated"]).await;
    let (mut acknowledged, mut slowest) = (0, Duration::ZERO);
    for victim in 0..4 {
        let survivors = addresses(cluster.others(victim));
        let load = Load::start(&format!("round-{victim}"), &survivors, 4, Duration::ZERO);
        load.goes_on(500).await;
        cluster.nodes[victim].kill();
        load.goes_on(500).await;
        let seen = load.stop().await;
        cluster.nodes[victim].ended().await;
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        assert_kept(cluster.others(victim), &seen.promises).await;
        acknowledged += seen.promises.len();
        slowest = slowest.max(seen.slowest);
        cluster.nodes[victim].start_again();
        cluster.settled().await;
    }
    cluster.nodes[0].assert_alike().await;
    println!(
        "replicated, {copies} copies: 0 of {acknowledged} writes lost by 4 kills, slowest {}",
        millis(slowest)
    );
    acknowledged
}

#[test]
fn what_a_replica_has_acknowledged_survives_the_kill_of_any_node() {
    alone(async {
        for copies in ["2", "3"] {
            assert!(kill_each(copies).await >= 4_000);
        }
    });
}

#[test]
fn what_was_flushed_stays_so_when_a_primary_is_killed_as_soon_as_that_is_acknowledged() {
    alone(async {
        let mut cluster = Cluster::start_with(3, &["--ack", "replicated"]).await;
        for round in 0..6 {
            let victim = round % 3;
            DATA.write(&mut cluster.nodes[0].connect().await).await;
            cluster.settled().await;
            // Through another node, then through the primary itself.
            let asked = (victim + usize::from(round < 3)) % 3;
            let before = cluster.nodes[asked].figure("writes_replicated").await;
            let mut client = cluster.nodes[asked].connect().await;
            let start = Instant::now();
            assert_eq!(client.ask("FLUSH").await, "OK");
            let answered = start.elapsed();
            if asked == victim {
                let stats = cluster.nodes[victim].stats().await.unwrap();
                assert_eq!(stats["writes_replicated"], (before + 1).to_string());
            }
            cluster.nodes[victim].kill();
            println!("replicated: a flush took {}", millis(answered));
            for node in cluster.others(victim) {
                node.comes_to("members_alive", 2).await;
                let keys = node.connect().await.list("KEYS").await;
                assert!(keys.is_empty(), "{} keys are back, {:?}", keys.len(), keys[0]);
                assert_eq!(node.figure("writes_unreplicated").await, 0);
            }
            cluster.nodes[victim].ended().await;
            cluster.nodes[victim].start_again();
            cluster.settled().await;
            assert!(cluster.nodes[victim].connect().await.list("KEYS").await.is_empty());
        }
        cluster.nodes[0].assert_alike().await;
    });
}

#[test]
fn writes_are_answered_and_counted_where_no_replica_can_be_reached() {
    alone(async {
        let cluster = Cluster::start(2).await;
        let mut client = cluster.nodes[0].connect().await;
        let keys = cluster.keys_of(0).await;
        let figures = async || {
            let stats = cluster.nodes[0].stats().await.unwrap();
            [&stats["writes_replicated"], &stats["writes_unreplicated"]]
                .map(|figure| figure.parse::<u64>().unwrap())
        };
        assert_eq!(client.ask("ACK replicated").await, "OK");
        for key in &keys[..100] {
            assert_eq!(client.ask(format!("SET {key} v")).await, "OK");
        }
        assert_eq!(figures().await, [100, 0]);
        cluster.nodes[1].freeze().await;
        let start = Instant::now();
        assert_eq!(client.ask(format!("SET {} frozen", keys[0])).await, "OK");
        println!("replicated: answered {} after the only replica had frozen", millis(start.elapsed()));
        assert_eq!(figures().await, [100, 1]);
        cluster.nodes[0].comes_to("members_alive", 1).await;
        let start = Instant::now();
        assert_eq!(client.ask(format!("SET {} alone", keys[0])).await, "OK");
        println!("replicated: answered {} after it was known to be dead", millis(start.elapsed()));
        assert_eq!(figures().await, [100, 2]);
        // Reads, and writes that need no replica, are not counted.
        assert_eq!(client.ask(format!("GET {}", keys[0])).await, "alone");
        assert_eq!(client.ask("ACK async").await, "OK");
        assert_eq!(client.ask(format!("SET {} async", keys[0])).await, "OK");
        assert_eq!(figures().await, [100, 2]);
        cluster.nodes[1].signal(Signal::SIGCONT);
        cluster.settled().await;
        assert_eq!(client.ask("ACK replicated").await, "OK");
        assert_eq!(client.ask(format!("SET {} again", keys[0])).await, "OK");
        assert_eq!(figures().await, [101, 2]);
    });
}

#[test]
fn wait_says_how_many_replicas_have_what_the_connection_has_written() {
    alone(async {
        let cluster = Cluster::start(2).await;
        let (here, there) = (cluster.keys_of(0).await, cluster.keys_of(1).await);
        let address = cluster.nodes[0].plan.client;
        let mut silent = RespClient::connect(address).await;
        assert_eq!(silent.ask("WAIT 1 0").await, ":1", "nothing was written");
        let mut client = RespClient::connect(address).await;
        for key in here.iter().chain(&there).step_by(40) {
            assert_eq!(client.ask(&format!("SET {key} plain")).await, "OK");
            assert_eq!(client.ask(&format!("INCR {key}-number")).await, ":1");
        }
        assert_eq!(client.ask("WAIT 1 0").await, ":1", "through the node that serves them or another one");
        assert_eq!(client.ask("WAIT 1 0").await, ":1", "nothing was written since");

        cluster.nodes[1].freeze().await;
        assert_eq!(client.ask(&format!("SET {} frozen", here[0])).await, "OK");
        let start = Instant::now();
        assert_eq!(client.ask("WAIT 1 300").await, ":0");
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        assert_eq!(client.ask("WAIT 1 1").await, ":0", "it is still nowhere else");
        cluster.nodes[0].comes_to("members_alive", 1).await;
        assert_eq!(client.ask(&format!("SET {} alone", here[0])).await, "OK");
        assert_eq!(client.ask("WAIT 1 1").await, ":0");
        cluster.nodes[1].signal(Signal::SIGCONT);
        // The stream that these writes were in is gone: the replica fetches them.
        assert_eq!(client.ask("WAIT 1 0").await, ":1");
        cluster.settled().await;
        cluster.nodes[1].assert_alike().await;
    });
}

#[test]
fn what_wait_has_found_on_a_replica_survives_the_kill_of_its_primary() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        for victim in 0..3 {
            let keys: Vec<String> = cluster.keys_of(victim).await.into_iter().step_by(3).collect();
            let asked = (victim + 1) % 3;
            let mut client = RespClient::connect(cluster.nodes[asked].plan.client).await;
            for piece in keys.chunks(50) {
                for key in piece {
                    client.send(&format!("SET {key} {victim}")).await;
                }
                for _ in piece {
                    assert_eq!(client.receive().await.unwrap(), "OK");
                }
            }
            assert_eq!(client.ask("WAIT 1 0").await, ":1");
            cluster.nodes[victim].kill();
            for key in &keys {
                assert_eq!(client.ask(&format!("GET {key}")).await, victim.to_string(), "{key}");
            }
            cluster.nodes[victim].ended().await;
            cluster.nodes[victim].start_again();
            cluster.settled().await;
        }
    });
}

/// Stands in for a seed whose clock is so far ahead, until it has been asked once.
async fn seed_with_clock(listener: tokio::net::TcpListener, ahead_ms: u64) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut input = bytes::BytesMut::new();
    let hello = loop {
        if let Some(Request::Hello(hello)) = peer::decode(&mut input).unwrap() {
            break hello;
        }
        assert_ne!(socket.read_buf(&mut input).await.unwrap(), 0, "a whole Hello");
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let wall = Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap() + ahead_ms);
    let identity = Identity { node: NodeId::from_raw(1), ..hello.identity };
    let welcome =
        Welcome { identity, resume_from: 0, link: 0, wall, records: Vec::new(), departed: Vec::new() };
    socket.write_all(&peer::encode(&Response::Welcome(welcome))).await.unwrap();
    // Until the node has read it.
    let _ = socket.read_buf(&mut input).await;
}

#[test]
fn a_node_whose_clock_is_minutes_off_does_not_join_and_says_why() {
    alone(async {
        let seed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = Ports::allocate();
        let mut plan = Plan::on_loopback("late", &unique_name(), &ports, vec![seed.local_addr().unwrap()]);
        plan.more = vec!["--join-wait-max-ms".to_owned(), "10000".to_owned()];
        let mut node = Node::start(plan);
        seed_with_clock(seed, 120_000).await;
        assert!(!node.ended().await.success());
        let log = node.log();
        assert!(log.contains("ahead of the clock there, which must be within 60000 ms"), "{log}");
        assert!(log.contains("the clock of this node is more than a minute away"), "{log}");
    });
}
