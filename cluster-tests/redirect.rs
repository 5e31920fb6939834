//! The redirect port, spoken to with the `redis` crate: as a plain client, which sees where it is sent,
//! and as a cluster-aware one, which follows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use redis::AsyncConnectionConfig;
use redis::RedisError;
use redis::Value;
use redis::aio::ConnectionLike;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;

use cachegopher::store::Slot;
use nix::sys::signal::Signal;
use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::cluster::key_per_partition;
use support::eventually;
use support::node::Node;

async fn connect(address: SocketAddr) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &str,
) -> Result<T, RedisError> {
    let mut words = words.split(' ');
    let mut request = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        request.arg(word);
    });
    request.query_async(connection).await
}

/// The redirect port of the primary of every slot, as one node says.
async fn primaries(node: &Node) -> BTreeMap<u16, u16> {
    let mut connection = connect(node.redirect()).await;
    let entries: Vec<Vec<Value>> = ask(&mut connection, "CLUSTER SLOTS").await.unwrap();
    let mut primaries = BTreeMap::new();
    for entry in entries {
        let slot = |value: &Value| redis::from_redis_value_ref::<u16>(value).unwrap();
        let Value::Array(primary) = &entry[2] else { panic!("{entry:?}") };
        for number in slot(&entry[0])..=slot(&entry[1]) {
            assert_eq!(primaries.insert(number, slot(&primary[1])), None, "slot {number} is listed twice");
        }
    }
    primaries
}

#[test]
fn a_key_of_another_node_is_told_where_it_is_and_commands_about_all_keys_are_about_this_node() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let keys: Vec<String> = key_per_partition().into_iter().step_by(16).collect();
        let by_slot = primaries(&cluster.nodes[0]).await;
        assert_eq!(by_slot.len(), 16_384);
        let mut moved = 0;
        for node in &cluster.nodes {
            assert_eq!(primaries(node).await, by_slot);
            let mut connection = connect(node.redirect()).await;
            for key in &keys {
                let slot = Slot::of(key.as_bytes()).number();
                let port = by_slot[&slot];
                match ask::<()>(&mut connection, &format!("SET {key} value")).await {
                    Ok(()) => assert_eq!(port, node.redirect().port(), "{key}"),
                    Err(error) => {
                        assert_eq!(error.code(), Some("MOVED"), "{error}");
                        let address = format!("127.0.0.1:{port}");
                        assert_eq!(error.redirect_node(), Some((address.as_str(), slot)));
                        moved += 1;
                    }
                }
            }
            let error = ask::<()>(&mut connection, "MGET a b").await.unwrap_err();
            assert_eq!(error.code(), Some("CROSSSLOT"), "{error}");
            let values: Result<Vec<Option<String>>, RedisError> =
                ask(&mut connection, "MGET {t}1 {t}2").await;
            let is_its = by_slot[&Slot::of(b"t").number()] == node.redirect().port();
            assert_eq!(values.is_ok(), is_its, "{values:?}");
        }
        assert_eq!(moved, 2 * keys.len());

        let (mut sum, mut scanned) = (0, BTreeSet::new());
        for node in &cluster.nodes {
            let mut connection = connect(node.redirect()).await;
            let size: usize = ask(&mut connection, "DBSIZE").await.unwrap();
            let listed: BTreeSet<String> = ask(&mut connection, "KEYS *").await.unwrap();
            let mut own = BTreeSet::new();
            let mut cursor = 0_u64;
            loop {
                let request = format!("SCAN {cursor} COUNT 10");
                let (next, some): (u64, Vec<String>) = ask(&mut connection, &request).await.unwrap();
                own.extend(some);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!((own.len(), &listed), (size, &own));
            let info: String = ask(&mut connection, "INFO").await.unwrap();
            assert!(info.contains("redis_mode:cluster\r\n") && info.contains("cluster_enabled:1\r\n"));
            assert!(info.contains(&format!("keys={size},")), "{info}");
            sum += size;
            scanned.extend(own);
        }
        assert_eq!((sum, scanned.len()), (keys.len(), keys.len()));

        let mut connection = connect(cluster.nodes[0].redirect()).await;
        let own: usize = ask(&mut connection, "DBSIZE").await.unwrap();
        ask::<()>(&mut connection, "FLUSHALL").await.unwrap();
        assert_eq!(ask::<usize>(&mut connection, "DBSIZE").await.unwrap(), 0);
        let mut whole = connect(cluster.nodes[0].plan.client).await;
        assert_eq!(ask::<usize>(&mut whole, "DBSIZE").await.unwrap(), keys.len() - own);
    });
}

#[test]
fn a_transaction_is_about_one_slot_of_this_node_or_is_refused() {
    alone(async {
        let cluster = Cluster::start(2).await;
        let [own, other] = [0, 1].map(|index| cluster.keys_of(index));
        let ([own, own_too], other) =
            (own.await[..2].to_vec().try_into().unwrap(), other.await.swap_remove(0));
        let mut connection = connect(cluster.nodes[0].redirect()).await;
        let mut code = async |words: String| match ask::<Value>(&mut connection, &words).await {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.code().unwrap_or("ERR").to_owned(),
        };
        let mut codes = async |requests: &[String]| {
            let mut all = Vec::new();
            for words in requests {
                all.push(code(words.clone()).await);
            }
            all.join(" ")
        };
        let set = |key: &str| format!("SET {key} 1");
        let [multi, exec] = ["MULTI", "EXEC"].map(str::to_owned);
        assert_eq!(codes(&[multi.clone(), set(&own), set(&own), exec.clone()]).await, "fine fine fine fine");
        assert_eq!(
            codes(&[multi.clone(), set(&other), set(&own), exec.clone()]).await,
            "fine MOVED fine EXECABORT"
        );
        assert_eq!(codes(&[multi, set(&own), set(&own_too), exec]).await, "fine fine fine CROSSSLOT");
        assert_eq!(codes(&[format!("WATCH {other}"), format!("WATCH {own}")]).await, "MOVED fine");
    });
}

#[test]
fn a_connection_that_says_readonly_is_answered_by_the_copy_and_still_sent_away_with_writes() {
    alone(async {
        let cluster = Cluster::start(2).await;
        let key = cluster.keys_of(0).await.swap_remove(0);
        let mut primary = connect(cluster.nodes[0].redirect()).await;
        let mut replica = connect(cluster.nodes[1].redirect()).await;
        ask::<()>(&mut primary, &format!("SET {key} value")).await.unwrap();
        cluster.replicated().await;
        let get = format!("GET {key}");
        assert_eq!(ask::<()>(&mut replica, &get).await.unwrap_err().code(), Some("MOVED"));
        ask::<()>(&mut replica, "READONLY").await.unwrap();
        assert_eq!(ask::<String>(&mut replica, &get).await.unwrap(), "value");
        let error = ask::<()>(&mut replica, &format!("APPEND {key} more")).await.unwrap_err();
        assert_eq!(error.code(), Some("MOVED"));
        // Also on the client port, where it is not forwarded then.
        let mut other = connect(cluster.nodes[1].plan.client).await;
        ask::<()>(&mut other, "READONLY").await.unwrap();
        let before = cluster.nodes[1].figure("commands_forwarded").await;
        assert_eq!(ask::<String>(&mut other, &get).await.unwrap(), "value");
        assert_eq!(cluster.nodes[1].figure("commands_forwarded").await, before);
        ask::<()>(&mut replica, "READWRITE").await.unwrap();
        assert_eq!(ask::<()>(&mut replica, &get).await.unwrap_err().code(), Some("MOVED"));

        // What it has is counted on both, by slot.
        let slot = Slot::of(key.as_bytes()).number();
        for connection in [&mut primary, &mut replica] {
            let count: usize = ask(connection, &format!("CLUSTER COUNTKEYSINSLOT {slot}")).await.unwrap();
            let keys: Vec<String> =
                ask(connection, &format!("CLUSTER GETKEYSINSLOT {slot} 10")).await.unwrap();
            assert_eq!((count, keys), (1, vec![key.clone()]));
        }
    });
}

/// What a client sees while it writes and reads without a pause.
struct Watched {
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    writers: Vec<tokio::task::JoinHandle<Seen>>,
}

#[derive(Default)]
struct Seen {
    done: usize,
    errors: BTreeMap<String, usize>,
    /// Acknowledged writes that were not there right afterwards.
    lost: usize,
    longest: Duration,
}

const WRITERS: usize = 8;

async fn watch(cluster: &Cluster) -> Watched {
    let nodes: Vec<String> =
        cluster.nodes.iter().map(|node| format!("redis://{}", node.redirect())).collect();
    // Not to be taken for an error: a busy machine that lets a request wait for longer than half a second.
    let client = ClusterClient::builder(nodes).response_timeout(LONG).build().unwrap();
    watch_by(client.get_async_connection().await.unwrap())
}

fn watch_by(connection: impl ConnectionLike + Clone + Send + 'static) -> Watched {
    let is_over = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicUsize::new(0));
    let writer = |number| {
        tokio::spawn(write_and_read(connection.clone(), number, Arc::clone(&is_over), Arc::clone(&rounds)))
    };
    let writers = (0..WRITERS).map(writer).collect();
    Watched { is_over, rounds, writers }
}

async fn write_and_read(
    mut connection: impl ConnectionLike,
    writer: usize,
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
) -> Seen {
    let mut seen = Seen::default();
    while !is_over.load(Ordering::Acquire) {
        let key = format!("key-{writer}-{}", seen.done % 1_000);
        let begun = Instant::now();
        let set = redis::cmd("SET").arg(&key).arg(seen.done).query_async::<()>(&mut connection).await;
        let got = match set {
            Ok(()) => redis::cmd("GET").arg(&key).query_async::<Option<usize>>(&mut connection).await,
            Err(error) => Err(error),
        };
        match got {
            Ok(value) => seen.lost += usize::from(value != Some(seen.done)),
            Err(error) => *seen.errors.entry(error.to_string()).or_default() += 1,
        }
        seen.longest = seen.longest.max(begun.elapsed());
        seen.done += 1;
        rounds.fetch_add(1, Ordering::AcqRel);
    }
    seen
}

impl Watched {
    /// Returns when it has gone on for a while.
    async fn goes_on(&self) {
        let target = self.rounds.load(Ordering::Acquire) + 2_000;
        eventually(LONG, async || match self.rounds.load(Ordering::Acquire) {
            done if done >= target => Ok(()),
            done => Err(format!("{done} rounds of {target}")),
        })
        .await;
    }

    async fn end(self, what: &str) -> Seen {
        self.is_over.store(true, Ordering::Release);
        let mut all = Seen::default();
        for writer in self.writers {
            let seen = writer.await.unwrap();
            all.done += seen.done;
            all.lost += seen.lost;
            all.longest = all.longest.max(seen.longest);
            seen.errors.into_iter().for_each(|(error, count)| *all.errors.entry(error).or_default() += count);
        }
        let Seen { done, errors, lost, longest } = &all;
        let longest_ms = longest.as_millis();
        println!("{what}: {done} rounds, the longest {longest_ms} ms, {lost} lost, errors: {errors:?}");
        all
    }
}

#[test]
fn a_cluster_aware_client_sees_nothing_of_a_planned_stop_and_start() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        for index in [1, 2] {
            let watched = watch(&cluster).await;
            watched.goes_on().await;
            cluster.nodes[index].signal(Signal::SIGTERM);
            assert!(cluster.nodes[index].ended().await.success());
            cluster.settled().await;
            cluster.nodes[index].start_again();
            cluster.settled().await;
            watched.goes_on().await;
            let seen = watched.end("cluster-aware, stop and start").await;
            assert!(seen.errors.is_empty(), "{:?}", seen.errors);
            assert_eq!(seen.lost, 0, "a planned stop loses nothing");
        }
    });
}

#[test]
fn a_cluster_aware_client_goes_on_after_a_crash() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        let watched = watch(&cluster).await;
        watched.goes_on().await;
        cluster.nodes[1].kill();
        let killed = Instant::now();
        cluster.nodes[1].ended().await;
        // Every slot is served by one of the others, and they say so.
        let dead = cluster.nodes[1].redirect().port();
        eventually(LONG, async || {
            let by_slot = primaries(&cluster.nodes[0]).await;
            let is_whole = by_slot.len() == 16_384 && by_slot.values().all(|port| *port != dead);
            is_whole.then_some(()).ok_or_else(|| format!("{} slots are served", by_slot.len()))
        })
        .await;
        println!("slot map without the dead node after {} ms", killed.elapsed().as_millis());
        watched.goes_on().await;
        // What the primary had acknowledged and not yet sent on died with it: one write of each at most.
        let seen = watched.end("cluster-aware, kill").await;
        assert!(seen.lost <= WRITERS, "{} writes lost", seen.lost);

        // One that comes now, and knows only the dead node and another, finds its way.
        let nodes = [1, 2].map(|index| format!("redis://{}", cluster.nodes[index].redirect()));
        let mut late = ClusterClient::new(nodes).unwrap().get_async_connection().await.unwrap();
        for key in key_per_partition().iter().step_by(64) {
            redis::cmd("SET").arg(key).arg(1).query_async::<()>(&mut late).await.unwrap();
        }
    });
}

#[test]
fn a_plain_client_of_a_surviving_node_sees_no_error_of_a_stop_or_a_crash() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        let client = redis::Client::open(format!("redis://{}", cluster.nodes[0].plan.client)).unwrap();
        // As for the cluster-aware one.
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(LONG));
        for (signal, lost_max) in [(Signal::SIGTERM, 0), (Signal::SIGKILL, WRITERS)] {
            let connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
            let watched = watch_by(connection);
            watched.goes_on().await;
            cluster.nodes[1].signal(signal);
            cluster.nodes[1].ended().await;
            watched.goes_on().await;
            let seen = watched.end(&format!("plain, {signal}")).await;
            assert!(seen.errors.is_empty(), "{:?}", seen.errors);
            assert!(seen.lost <= lost_max, "{} writes lost", seen.lost);
            cluster.nodes[1].start_again();
            cluster.settled().await;
        }
    });
}
