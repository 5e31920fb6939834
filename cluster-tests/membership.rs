//! Nodes come and go, work hard and idle, and have bad neighbours; clients go on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use support::LONG;
use support::alone;
use support::client::Client;
use support::cluster::Cluster;
use support::cluster::key_per_partition;
use support::cluster::unique_name;
use support::eventually;
use support::figures::millis;
use support::load::Data;
use support::load::Load;
use support::load::Seen;
use support::load::addresses;
use support::load::broken;
use support::node::Node;
use support::node::Plan;
use support::ports::Ports;

const DATA: Data = Data { keys: 10_000, value_bytes: 200 };
/// Two a millisecond for every address: enough that something is always under way.
const PAUSE: Duration = Duration::from_millis(1);

/// No client saw an error, and every node keeps every promise.
async fn assert_nothing_lost(cluster: &Cluster, seen: &Seen) {
    assert!(seen.errors.is_empty(), "{} errors: {:?}", seen.errors.len(), &seen.errors[..1]);
    for node in cluster.nodes.iter().filter(|node| node.is_running()) {
        let mut client = node.connect().await;
        DATA.assert_readable(&mut client).await;
        let broken = broken(&seen.promises, &mut client).await;
        let (count, of, name) = (broken.len(), seen.promises.len(), &node.plan.name);
        assert!(broken.is_empty(), "{count} of {of} promises broken on {name}: {:?}", &broken[..1]);
    }
}

#[test]
fn a_process_that_stood_still_for_longer_than_tombstones_are_kept_comes_back_empty() {
    alone(async {
        let cluster = Cluster::start_with(3, &["--copies", "3", "--away-max-ms", "3000"]).await;
        let keys = key_per_partition();
        let mut client = cluster.nodes[0].connect().await;
        let replies = client.ask_all(keys.iter().map(|key| format!("SET {key} before"))).await;
        assert!(replies.iter().all(|reply| reply == "OK"));
        cluster.at_rest().await;
        let start = Instant::now();
        cluster.nodes[2].freeze().await;
        for node in &cluster.nodes[..2] {
            node.comes_to("members_alive", 2).await;
        }
        let replies = client.ask_all(keys.iter().step_by(2).map(|key| format!("DELETE {key}"))).await;
        assert!(replies.iter().all(|reply| reply == "OK"));
        let load = Load::start("frozen", &addresses(&cluster.nodes[..2]), 1, PAUSE);
        while start.elapsed() < Duration::from_secs(6) {
            load.goes_on(10).await;
        }
        cluster.nodes[2].signal(Signal::SIGCONT);
        eventually(LONG, async || match cluster.nodes[2].stats().await {
            Some(stats) if stats["rejoined_empty"] == "1" => Ok(()),
            stats => Err(format!("it goes on with what it has: {stats:?}")),
        })
        .await;
        let seen = load.stop().await;
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        cluster.at_rest().await;
        for node in &cluster.nodes {
            let mut client = node.connect().await;
            let replies = client.ask_all(keys.iter().map(|key| format!("GET {key}"))).await;
            let expected = ["ERROR: Key not found", "before"];
            let is_wrong = |(number, reply): &(usize, &String)| *reply != expected[number % 2];
            let wrong: Vec<_> = replies.iter().enumerate().filter(is_wrong).collect();
            assert!(wrong.is_empty(), "{}: {} wrong: {:?}", node.plan.name, wrong.len(), wrong[0]);
            let broken = broken(&seen.promises, &mut client).await;
            assert!(broken.is_empty(), "{} promises broken: {:?}", broken.len(), broken[0]);
        }
        assert_eq!(cluster.sum("rejoined_empty").await, 1);
        cluster.nodes[0].assert_alike().await;
    });
}

#[test]
fn a_primary_that_starts_again_empty_loses_nothing() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.at_rest().await;
        for victim in 0..3 {
            cluster.nodes[victim].kill();
            cluster.nodes[victim].ended().await;
            cluster.nodes[victim].start_again();
            let asked = &cluster.nodes[victim];
            eventually(LONG, async || asked.stats().await.map(drop).ok_or_else(|| "no answer".to_owned()))
                .await;
            // From its first answer on, while it still has nothing, and from the others.
            let mut is_settled = false;
            while !is_settled {
                is_settled = asked.figure("settled").await == 1;
                for node in &cluster.nodes {
                    DATA.assert_readable(&mut node.connect().await).await;
                }
            }
            cluster.settled().await;
        }
        for node in &cluster.nodes {
            DATA.assert_readable(&mut node.connect().await).await;
        }
        assert_eq!(cluster.sum("partitions_lost").await, 0);
    });
}

#[test]
fn a_fourth_node_joins_under_load_and_takes_its_share() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        let load = Load::start("join", &addresses(&cluster.nodes), 2, PAUSE);
        load.goes_on(300).await;
        let start = Instant::now();
        let fourth = cluster.add();
        let known = eventually(LONG, async || {
            for node in &cluster.nodes {
                let stats =
                    node.stats().await.ok_or_else(|| format!("{} does not answer", node.plan.name))?;
                if stats["members_alive"] != "4" {
                    return Err(format!("{} sees {} members", node.plan.name, stats["members_alive"]));
                }
            }
            Ok(())
        })
        .await;
        cluster.settled().await;
        println!("join: known to all after {}, settled after {}", millis(known), millis(start.elapsed()));
        load.goes_on(300).await;
        let seen = load.stop().await;
        println!("join: {} writes, slowest answer {}", seen.promises.len(), millis(seen.slowest));
        assert_nothing_lost(&cluster, &seen).await;
        let primaries = cluster.nodes[fourth].figure("partitions_primary").await;
        // The others have at most 1.05 times the mean each, and so does it.
        assert!((781..=1_105).contains(&primaries), "the fourth node has {primaries} of 4096 partitions");
        assert_eq!(cluster.sum("promotions").await, 0, "a join is a planned move");
    });
}

#[test]
fn a_node_leaves_under_load_and_nothing_is_lost() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.at_rest().await;
        let load = Load::start("leave", &addresses(&cluster.nodes[..2]), 2, PAUSE);
        load.goes_on(300).await;
        let start = Instant::now();
        cluster.nodes[2].signal(Signal::SIGTERM);
        assert!(cluster.nodes[2].ended().await.success());
        println!("leave: ended after {}", millis(start.elapsed()));
        load.goes_on(300).await;
        let seen = load.stop().await;
        println!("leave: {} writes, slowest answer {}", seen.promises.len(), millis(seen.slowest));
        assert_nothing_lost(&cluster, &seen).await;
        assert_eq!(cluster.sum("promotions").await, 0, "roles were handed over");
        assert_eq!(cluster.sum("partitions_lost").await, 0);
    });
}

#[test]
fn all_nodes_are_started_again_one_after_the_other_under_load() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.at_rest().await;
        let start = Instant::now();
        for number in 0..3 {
            let staying = addresses(cluster.others(number));
            let load = Load::start(&format!("rolling-{number}"), &staying, 2, PAUSE);
            load.goes_on(200).await;
            cluster.nodes[number].signal(Signal::SIGTERM);
            assert!(cluster.nodes[number].ended().await.success());
            cluster.nodes[number].start_again();
            cluster.settled().await;
            load.goes_on(200).await;
            assert_nothing_lost(&cluster, &load.stop().await).await;
        }
        println!("rolling restart: {}", millis(start.elapsed()));
        assert_eq!(cluster.sum("partitions_lost").await, 0);
    });
}

#[test]
fn two_nodes_are_enough_to_lose_one() {
    alone(async {
        let mut cluster = Cluster::start(2).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.at_rest().await;
        let load = Load::start("two", &addresses(&cluster.nodes[1..]), 2, PAUSE);
        load.goes_on(200).await;
        cluster.nodes[0].kill();
        cluster.nodes[0].ended().await;
        load.goes_on(200).await;
        let seen = load.stop().await;
        println!("two nodes: slowest answer {}", millis(seen.slowest));
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        DATA.assert_readable(&mut cluster.nodes[1].connect().await).await;
        assert_eq!(cluster.nodes[1].figure("partitions_primary").await, 4_096);
        cluster.nodes[0].start_again();
        cluster.settled().await;
        DATA.assert_readable(&mut cluster.nodes[0].connect().await).await;
    });
}

/// Busy threads end with their test, however it ends.
struct EndBusy<'a>(&'a AtomicBool);

impl Drop for EndBusy<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn on_a_busy_machine_nobody_is_declared_dead() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let load = Load::start("busy", &addresses(&cluster.nodes), 1, Duration::from_millis(5));
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..8 {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let _end = EndBusy(&is_over);
        // The time over which it is measured, not a condition.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let seen = load.stop().await;
        println!("busy: {} writes, slowest answer {}", seen.promises.len(), millis(seen.slowest));
        for figure in ["suspicions", "accusations", "rejoins", "stalls", "promotions"] {
            println!("busy: {figure} {}", cluster.sum(figure).await);
        }
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        for figure in ["accusations", "rejoins", "promotions"] {
            assert_eq!(cluster.sum(figure).await, 0, "{figure}");
        }
    });
}

#[test]
fn keys_lists_every_key_of_the_cluster_once() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let mut client = cluster.nodes[0].connect().await;
        let mut expected: BTreeSet<String> = key_per_partition().into_iter().collect();
        expected.extend((0..20_000).map(|number| format!("key-{number}")));
        client.ask_all(expected.iter().map(|key| format!("SET {key} x"))).await;
        let deleted: BTreeSet<String> =
            (0..20_000).step_by(3).map(|number| format!("key-{number}")).collect();
        client.ask_all(deleted.iter().map(|key| format!("DELETE {key}"))).await;
        expected.retain(|key| !deleted.contains(key));
        for node in &cluster.nodes {
            let keys = node.connect().await.list("KEYS").await;
            assert_eq!(keys.len(), expected.len());
            assert!(keys.into_iter().collect::<BTreeSet<String>>() == expected);
        }
        assert_eq!(cluster.sum("keys").await, expected.len() as u64);
    });
}

#[test]
fn what_was_flushed_does_not_come_back_with_a_replica() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        let mut client = cluster.nodes[1].connect().await;
        DATA.write(&mut client).await;
        assert_eq!(client.ask("FLUSH").await, "OK");
        assert_eq!(client.ask("SET after flush").await, "OK");
        cluster.replicated().await;
        for victim in [0, 2] {
            cluster.nodes[victim].kill();
            cluster.nodes[victim].ended().await;
            for node in [1, 2 - victim] {
                cluster.nodes[node].comes_to("members_alive", 2).await;
                cluster.nodes[node].comes_to("partitions_without_primary", 0).await;
            }
            assert_eq!(client.list("KEYS").await, ["after"]);
            cluster.nodes[victim].start_again();
            cluster.settled().await;
            for node in &cluster.nodes {
                assert_eq!(node.connect().await.list("KEYS").await, ["after"]);
            }
        }
    });
}

#[test]
fn a_node_stays_within_its_memory() {
    alone(async {
        let cluster = Cluster::start_with(1, &["--max-memory", "16MB"]).await;
        let node = &cluster.nodes[0];
        let mut client = node.connect().await;
        // Four times as much, in sizes from a few bytes to the largest.
        for round in 0..64 {
            let value = "x".repeat(1 << (round % 16));
            let count = (1 << 20) / (value.len() + 100);
            let replies = client.ask_all((0..count).map(|n| format!("SET key-{round}-{n} {value}"))).await;
            assert!(replies.iter().all(|reply| reply == "OK"));
            let (bytes, max) = (node.figure("memory_bytes").await, node.figure("memory_bytes_max").await);
            assert!(bytes <= max && max == 16 << 20, "{bytes} bytes of {max}");
        }
        let stats = node.stats().await.unwrap();
        println!(
            "memory: {} keys, {} evictions, {} bytes",
            stats["keys"], stats["evictions"], stats["memory_bytes"]
        );
        assert!(node.figure("evictions").await > 0);
        assert_eq!(client.ask("SET last one").await, "OK");
        assert_eq!(client.ask("GET last").await, "one");
    });
}

#[test]
fn an_idle_cluster_uses_next_to_no_processor_time() {
    alone(async {
        let cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        cluster.at_rest().await;
        let before: Vec<f64> = cluster.nodes.iter().map(Node::processor_time).collect();
        let start = Instant::now();
        // The time over which it is measured, not a condition.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let seconds = start.elapsed().as_secs_f64();
        for (node, before) in cluster.nodes.iter().zip(before) {
            let percent = (node.processor_time() - before) / seconds * 100.0;
            println!("idle: {} uses {percent:.2} % of a core", node.plan.name);
            assert!(percent <= 3.0, "{} uses {percent:.2} % of a core", node.plan.name);
        }
    });
}

#[test]
fn a_node_goes_on_whatever_its_neighbours_send() {
    alone(async {
        let cluster = Cluster::start(3).await;
        DATA.write(&mut cluster.nodes[0].connect().await).await;
        let (plan, load) =
            (cluster.nodes[0].plan.clone(), Load::start("bad", &addresses(&cluster.nodes), 1, PAUSE));
        let garbage = garbage();
        let gossip = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (turn, piece) in garbage.iter().enumerate() {
            gossip.send_to(&piece[..piece.len().min(1_400)], plan.peer).unwrap();
            for address in [plan.peer, plan.client] {
                let mut socket = TcpStream::connect(address).unwrap();
                // It may hang up on us at any time.
                let _ = socket.write_all(piece);
                if turn % 2 == 0 {
                    // Closed half-way; otherwise both ways at once.
                    let _ = socket.shutdown(std::net::Shutdown::Write);
                }
            }
        }
        let mut idle = Vec::new();
        for _ in 0..1_000 {
            idle.push(Client::connect(plan.client).await);
        }
        eventually(LONG, async || match cluster.nodes[0].figure("connections").await {
            1_000.. => Ok(()),
            count => Err(format!("{count} connections")),
        })
        .await;
        load.goes_on(300).await;
        for client in idle.iter_mut().step_by(50) {
            assert_eq!(client.ask("PING").await, "PONG");
        }
        drop(idle);
        eventually(LONG, async || match cluster.nodes[0].figure("connections").await {
            ..10 => Ok(()),
            count => Err(format!("{count} connections")),
        })
        .await;
        assert_nothing_lost(&cluster, &load.stop().await).await;
        cluster.settled().await;
        for figure in ["promotions", "accusations", "shards_restarted"] {
            assert_eq!(cluster.sum(figure).await, 0, "{figure}");
        }
    });
}

/// Bytes that no protocol of ours allows, some of which begin like one.
fn garbage() -> Vec<Vec<u8>> {
    let mut seed = 1_u32;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..length).map(|_| byte()).collect()
    };
    let mut pieces: Vec<Vec<u8>> = (0..200).map(|number| noise(number * 7)).collect();
    pieces.push(Vec::new());
    pieces.push(vec![0; 100_000]);
    pieces.push(vec![0xff; 100_000]);
    pieces.push(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec());
    pieces.push(b"*3\r\n$1000000000\r\n".to_vec());
    pieces.push(b"SET half".to_vec());
    pieces.push(noise(1 << 20));
    // A frame that announces four gigabytes.
    pieces.push([&u32::MAX.to_le_bytes()[..], &noise(100)].concat());
    pieces.push([&u32::MAX.to_be_bytes()[..], &noise(100)].concat());
    pieces
}

#[test]
fn clusters_do_not_merge_when_an_address_is_used_again() {
    alone(async {
        let (ports, name) = ((0..3).map(|_| Ports::allocate()).collect::<Vec<_>>(), unique_name());
        let plan = |number: usize, join: &[usize]| {
            let peer = |ports: &Ports| SocketAddr::from(([127, 0, 0, 1], ports.peer));
            let join = join.iter().map(|other| peer(&ports[*other])).collect();
            Plan::on_loopback(&format!("n{number}"), &name, &ports[number], join)
        };
        let plans = vec![plan(0, &[1, 2]), plan(1, &[0, 2]), plan(2, &[0, 1])];
        let mut ours = Cluster::of(name.clone(), plans.clone()).await;
        DATA.write(&mut ours.nodes[0].connect().await).await;
        ours.settled().await;
        ours.nodes[2].kill();
        ours.nodes[2].ended().await;
        // The same address, the same name, and it looks for ours; only the cluster is another one.
        let theirs = Node::start(Plan { cluster: unique_name(), ..plans[2].clone() });
        eventually(LONG, async || match theirs.stats().await {
            Some(stats) if stats["partitions_primary"] == "4096" => Ok(()),
            stats => Err(format!("the other cluster does not serve: {stats:?}")),
        })
        .await;
        let mut client = theirs.connect().await;
        assert_eq!(client.ask("SET theirs alone").await, "OK");
        ours.nodes[0].comes_to("members_alive", 2).await;
        let load = Load::start("reuse", &addresses(&ours.nodes[..2]), 1, PAUSE);
        load.goes_on(2_000).await;
        let seen = load.stop().await;
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        assert_eq!(client.list("KEYS").await, ["theirs"]);
        assert_eq!(client.list("NODES").await.len(), 1);
        assert_eq!(theirs.figure("members_alive").await, 1);
        for node in &ours.nodes[..2] {
            assert_eq!(node.figure("members_alive").await, 2);
            let mut client = node.connect().await;
            DATA.assert_readable(&mut client).await;
            assert_eq!(client.ask("GET theirs").await, "ERROR: Key not found");
        }
    });
}
