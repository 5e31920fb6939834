//! What commands promise over time and while nodes die: transactions, WATCH, expiry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use cachegopher::store::Slot;
use redis::AsyncCommands;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;

use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::eventually;
use support::resp::RespClient;

/// Partitions of the primary that dies, each with a client of its own.
const TAGS: usize = 40;
/// Transactions that each client makes at least before, and after.
const BEFORE_AND_AFTER: u64 = 50;

async fn connect(address: SocketAddr) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// What a client has seen of its transactions.
#[derive(Debug, Default)]
struct Seen {
    tag: String,
    done: u64,
    unknown: u64,
    errors: Vec<String>,
}

/// Adds one to two numbers of one partition, again and again, until so many more are done after `stop`.
async fn count(address: SocketAddr, tag: String, counted: Arc<AtomicBool>, stop: Arc<AtomicBool>) -> Seen {
    let mut connection = connect(address).await;
    let mut seen = Seen { tag, ..Seen::default() };
    let mut pipe = redis::pipe();
    pipe.atomic().incr(format!("{{{}}}a", seen.tag), 1).incr(format!("{{{}}}b", seen.tag), 1);
    let mut left = BEFORE_AND_AFTER;
    while left > 0 {
        let reply: Result<(u64, u64), RedisError> = pipe.query_async(&mut connection).await;
        match reply {
            Ok((a, b)) => {
                assert_eq!(a, b, "{}: half of a transaction was there before", seen.tag);
                seen.done += 1;
                counted.fetch_or(seen.done >= BEFORE_AND_AFTER, Ordering::Relaxed);
                left -= u64::from(stop.load(Ordering::Relaxed));
            }
            Err(error) if error.to_string().contains("it may or may not have run") => seen.unknown += 1,
            Err(error) => {
                seen.errors.push(error.to_string());
                return seen;
            }
        }
    }
    seen
}

#[test]
fn a_transaction_has_run_as_a_whole_or_not_at_all_when_its_primary_dies() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let (counted, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for (number, tag) in cluster.keys_of(0).await.into_iter().take(TAGS).enumerate() {
            let address = cluster.nodes[1 + number % 2].plan.client;
            clients.spawn(count(address, tag, Arc::clone(&counted), Arc::clone(&stop)));
        }
        eventually(LONG, async || match counted.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("nobody has got anywhere".to_owned()),
        })
        .await;
        cluster.nodes[0].kill();
        stop.store(true, Ordering::Relaxed);
        let (mut done, mut unknown, mut lost) = (0, 0, 0);
        let mut connection = connect(cluster.nodes[1].plan.client).await;
        while let Some(seen) = clients.join_next().await {
            let seen = seen.unwrap();
            assert!(seen.errors.is_empty(), "{}: {:?}", seen.tag, seen.errors);
            let keys = [format!("{{{}}}a", seen.tag), format!("{{{}}}b", seen.tag)];
            let [a, b]: [u64; 2] = connection.mget(&keys).await.unwrap();
            assert_eq!(a, b, "{}: half of a transaction", seen.tag);
            assert!(a <= seen.done + seen.unknown, "{}: {a} are counted, {seen:?}: one ran twice", seen.tag);
            done += seen.done;
            unknown += seen.unknown;
            lost += seen.done.saturating_sub(a);
        }
        println!("{done} transactions done, {unknown} of which nobody knows, {lost} lost with the primary");
    });
}

#[test]
fn a_transaction_of_plain_writes_is_repeated_and_no_client_sees_an_error() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let keys: Vec<String> = cluster.keys_of(0).await.into_iter().take(TAGS).collect();
        let killed = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for (number, tag) in keys.into_iter().enumerate() {
            let (address, killed) = (cluster.nodes[1 + number % 2].plan.client, Arc::clone(&killed));
            clients.spawn(async move {
                let mut connection = connect(address).await;
                let (mut number, mut left) = (0_u64, BEFORE_AND_AFTER);
                while left > 0 {
                    number += 1;
                    left -= u64::from(killed.load(Ordering::Relaxed));
                    // Keys of one partition, and one of another.
                    let keys = [format!("{{{tag}}}a"), format!("{{{tag}}}b"), format!("other-{tag}")];
                    let mut pipe = redis::pipe();
                    pipe.atomic();
                    keys.iter().for_each(|key| {
                        pipe.set(key, number).ignore();
                    });
                    keys.iter().for_each(|key| {
                        pipe.get(key);
                    });
                    let read: Vec<u64> = pipe.query_async(&mut connection).await.unwrap();
                    assert_eq!(read, [number; 3]);
                }
                number
            });
        }
        eventually(LONG, async || match cluster.nodes[1].figure("commands_forwarded").await {
            0..2_000 => Err("hardly anything was forwarded".to_owned()),
            _ => Ok(()),
        })
        .await;
        cluster.nodes[0].kill();
        killed.store(true, Ordering::Relaxed);
        let mut count = 0;
        while let Some(number) = clients.join_next().await {
            count += number.unwrap();
        }
        println!("{count} transactions, none with an error");
    });
}

#[test]
fn a_watched_key_counts_as_changed_when_its_primary_is_another_one() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let key = cluster.keys_of(0).await.remove(0);
        let exec = async |connection: &mut MultiplexedConnection, value: &str| {
            let mut pipe = redis::pipe();
            pipe.atomic().set(&key, value).ignore().get(&key);
            pipe.query_async::<Option<Vec<String>>>(connection).await.unwrap()
        };
        let watch = async |connection: &mut MultiplexedConnection| {
            redis::cmd("WATCH").arg(&key).query_async::<()>(connection).await.unwrap();
        };
        let mut first = connect(cluster.nodes[1].plan.client).await;
        let mut second = connect(cluster.nodes[2].plan.client).await;
        watch(&mut first).await;
        assert_eq!(exec(&mut first, "1").await, Some(vec!["1".to_owned()]));
        // Somebody else writes, through another node.
        watch(&mut first).await;
        second.set::<_, _, ()>(&key, "2").await.unwrap();
        assert_eq!(exec(&mut first, "3").await, None);
        assert_eq!(second.get::<_, String>(&key).await.unwrap(), "2");
        // The primary dies.
        cluster.replicated().await;
        watch(&mut first).await;
        cluster.nodes[0].kill();
        // What is under way when it dies may or may not have run: let the next one have taken over.
        assert_eq!(first.get::<_, String>(&key).await.unwrap(), "2");
        assert_eq!(exec(&mut first, "4").await, None);
        assert_eq!(second.get::<_, String>(&key).await.unwrap(), "2");
        watch(&mut first).await;
        assert_eq!(exec(&mut first, "5").await, Some(vec!["5".to_owned()]));
    });
}

/// How long a value lives.
const LIFE: Duration = Duration::from_millis(400);
/// A clock of milliseconds, and the time that a reply takes.
const CLOCK_SLACK: Duration = Duration::from_millis(2);

#[test]
fn a_value_is_gone_at_its_deadline_and_not_before_through_every_node_and_from_every_copy() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let mut readers = Vec::new();
        for node in &cluster.nodes {
            readers.push(connect(node.plan.client).await);
            // Its copy answers, where it has one.
            let mut copy = connect(node.redirect()).await;
            redis::cmd("READONLY").query_async::<()>(&mut copy).await.unwrap();
            readers.push(copy);
        }
        let mut from_copies = 0;
        for key in cluster.keys_of(0).await.into_iter().take(5) {
            let before = Instant::now();
            let options =
                redis::SetOptions::default().with_expiration(redis::SetExpiry::PX(LIFE.as_millis() as u64));
            readers[2].set_options::<_, _, ()>(&key, "v", options).await.unwrap();
            let after = Instant::now();
            cluster.replicated().await;
            let mut missed = vec![None; readers.len()];
            while missed.iter().any(Option::is_none) {
                for (reader, missed) in readers.iter_mut().zip(&mut missed).filter(|(_, m)| m.is_none()) {
                    let asked = Instant::now();
                    match reader.get::<_, Option<String>>(&key).await {
                        Ok(Some(value)) => {
                            assert_eq!(value, "v");
                            assert!(asked <= after + LIFE + CLOCK_SLACK, "{key} is there after its deadline");
                        }
                        Ok(None) => {
                            assert!(Instant::now() + CLOCK_SLACK >= before + LIFE, "{key} is gone early");
                            *missed = Some(true);
                        }
                        // It has no copy of it.
                        Err(error) if error.code() == Some("MOVED") => *missed = Some(false),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            from_copies +=
                missed.into_iter().flatten().filter(|has_copy| *has_copy).count() - cluster.nodes.len();
        }
        // Its primary and its replica, each through its redirect port. The third node says where the key
        // is or, while the ring has only just settled, asks there.
        assert!(from_copies >= 10, "{from_copies} answers from copies");
    });
}

#[test]
fn keys_of_a_slot_and_replies_of_a_transaction_are_bounded() {
    alone(async {
        let cluster = Cluster::start(1).await;
        let mut client = RespClient::connect(cluster.nodes[0].plan.client).await;
        for piece in 0..11 {
            let pairs: Vec<String> = (0..1_000).map(|number| format!("{{t}}{piece}-{number} v")).collect();
            assert_eq!(client.ask(&format!("MSET {}", pairs.join(" "))).await, "OK");
        }
        let slot = Slot::of(b"t").number();
        assert_eq!(client.ask(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).await, ":11000");
        let listed = client.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 20000")).await;
        assert_eq!(listed.split(' ').count(), 10_000);

        let value = "x".repeat(60_000);
        assert_eq!(client.ask(&format!("SET {{t}}large {value}")).await, "OK");
        assert_eq!(client.ask("MULTI").await, "OK");
        for _ in 0..150 {
            assert_eq!(client.ask("GET {t}large").await, "QUEUED");
        }
        assert_eq!(client.ask("INCR {t}number").await, "QUEUED");
        let replies = client.ask("EXEC").await;
        let values_max = 8 * 1024 * 1024 / value.len();
        assert_eq!(replies.matches(&value).count(), values_max);
        let refused = replies.matches("-ERR the reply is longer than the limit of 8388608 bytes").count();
        assert_eq!(refused, 150 - values_max);
        assert!(replies.ends_with(":1]"), "what has no value is carried out");
    });
}
