//! The `fred` client, plain and cluster-aware, through what users do with it, a stop and a kill.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use fred::prelude::Builder;
use fred::prelude::Client;
use fred::prelude::ClientLike;
use fred::prelude::Config;
use fred::prelude::Error;
use fred::prelude::Expiration;
use fred::prelude::KeysInterface;
use fred::prelude::ReconnectPolicy;
use fred::prelude::ServerConfig;
use fred::prelude::SetOptions;
use fred::types::RespVersion;
use nix::sys::signal::Signal;
use support::LONG;
use support::alone;
use support::cluster::Cluster;

/// Rounds of writing and reading that show that a client works.
const ROUNDS: usize = 300;

async fn connect(server: ServerConfig, version: RespVersion) -> Client {
    let config = Config { server, version, ..Config::default() };
    // Without a policy it would not connect again, to Redis neither.
    let policy = ReconnectPolicy::new_constant(0, 20);
    let client = Builder::from_config(config).set_policy(policy).build().unwrap();
    client.init().await.unwrap();
    client
}

fn plain(cluster: &Cluster) -> ServerConfig {
    let SocketAddr::V4(address) = cluster.nodes[0].plan.client else { panic!("a node of IPv4") };
    ServerConfig::new_centralized(address.ip().to_string(), address.port())
}

fn clustered(cluster: &Cluster) -> ServerConfig {
    let redirects = cluster.nodes.iter().map(|node| node.redirect());
    ServerConfig::new_clustered(redirects.map(|at| (at.ip().to_string(), at.port())).collect())
}

/// Sets, gets, lists and deletes, keys and values of any bytes up to the limit among them.
async fn check(client: &Client, tag: &str) {
    let key = |name: &str| format!("{tag}-{name}");
    client.set::<(), _, _>(key("a"), "1", None, None, false).await.unwrap();
    assert_eq!(client.get::<Option<String>, _>(key("a")).await.unwrap().unwrap(), "1");
    assert_eq!(client.get::<Option<String>, _>(key("none")).await.unwrap(), None);
    let taken: Option<String> = client.set(key("a"), "2", None, Some(SetOptions::NX), false).await.unwrap();
    assert_eq!(taken, None);
    client.set::<(), _, _>(key("b"), "2", Some(Expiration::EX(100)), None, false).await.unwrap();
    assert!((1..=100).contains(&client.ttl::<i64, _>(key("b")).await.unwrap()));
    assert_eq!(client.expire::<i64, _>(key("a"), 100, None).await.unwrap(), 1);
    assert_eq!(client.incr::<i64, _>(key("a")).await.unwrap(), 2);

    let binary: Vec<u8> = (0..=255).collect();
    let binary_key = [tag.as_bytes(), &binary[..]].concat();
    let largest = Bytes::from(vec![0xff; 65_536 - binary_key.len()]);
    client.set::<(), _, _>(&binary_key[..], largest.clone(), None, None, false).await.unwrap();
    assert!(client.get::<Bytes, _>(&binary_key[..]).await.unwrap() == largest);
    let refused =
        client.set::<(), _, _>(&binary_key[..], vec![0; 65_536].as_slice(), None, None, false).await;
    assert!(refused.unwrap_err().details().contains("the limit is 65536"));

    // Of one slot, so that a cluster-aware client takes them too.
    let together = ["x", "y", "z"].map(|name| format!("{{{tag}}}{name}"));
    let pairs: Vec<(String, i64)> = together.iter().cloned().zip([1, 2, 3]).collect();
    client.mset(pairs).await.unwrap();
    assert_eq!(client.mget::<Vec<i64>, _>(together.to_vec()).await.unwrap(), [1, 2, 3]);
    let pipeline = client.pipeline();
    pipeline.incr::<(), _>(&together[0]).await.unwrap();
    pipeline.get::<(), _>(&together[1]).await.unwrap();
    assert_eq!(pipeline.all::<Vec<i64>>().await.unwrap(), [2, 2]);
    assert_eq!(client.del::<i64, _>(together.to_vec()).await.unwrap(), 3);
}

/// The keys that SCAN lists, page by page, as the client is told to go on.
async fn scanned(client: &Client, pattern: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let (next, keys): (String, Vec<String>) =
            client.scan_page(cursor, pattern.to_owned(), Some(50), None).await.unwrap();
        found.extend(keys);
        if next == "0" {
            return found;
        }
        cursor = next;
    }
}

/// What was seen while it wrote and read.
struct Seen {
    errors: BTreeMap<String, usize>,
    wrong: usize,
    longest: Duration,
}

/// Writes and reads until so many rounds in a row have gone well.
async fn go_on(client: &Client, tag: &str) -> Seen {
    let mut seen = Seen { errors: BTreeMap::new(), wrong: 0, longest: Duration::ZERO };
    let (start, mut last, mut well, mut number) = (Instant::now(), Instant::now(), 0, 0);
    while well < ROUNDS {
        assert!(start.elapsed() < 2 * LONG, "it does not work again: {:?}", seen.errors);
        number += 1;
        let key = format!("{tag}-{}", number % 100);
        let result: Result<Option<usize>, Error> = async {
            client.set::<(), _, _>(&key, number, None, None, false).await?;
            client.get(&key).await
        }
        .await;
        match result {
            Ok(value) => {
                seen.wrong += usize::from(value != Some(number));
                well += 1;
                seen.longest = seen.longest.max(last.elapsed());
                last = Instant::now();
            }
            Err(error) => {
                well = 0;
                *seen.errors.entry(error.to_string()).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    seen
}

/// What a client sees of this signal to the second node, until that is gone and for a while after.
async fn struck(cluster: &mut Cluster, client: &Client, what: &str, signal: Signal) -> Seen {
    cluster.nodes[1].signal(signal);
    let mut seen = go_on(client, what).await;
    cluster.nodes[1].ended().await;
    let after = go_on(client, what).await;
    seen.wrong += after.wrong;
    seen.longest = seen.longest.max(after.longest);
    after.errors.into_iter().for_each(|(error, count)| *seen.errors.entry(error).or_default() += count);
    let Seen { errors, wrong, longest } = &seen;
    println!("fred, {what}, {signal}: longest pause {} ms, {wrong} lost, {errors:?}", longest.as_millis());
    // What a killed primary had acknowledged a moment before.
    assert!(*wrong <= usize::from(signal == Signal::SIGKILL), "{wrong} writes lost");
    cluster.nodes[1].start_again();
    cluster.settled().await;
    seen
}

#[test]
fn a_plain_client_works_and_sees_no_error_of_a_stop_or_a_crash_elsewhere() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        for version in [RespVersion::RESP2, RespVersion::RESP3] {
            let client = connect(plain(&cluster), version.clone()).await;
            check(&client, "plain").await;
            let keys: BTreeSet<String> = (0..200).map(|number| format!("scan-{number}")).collect();
            for key in &keys {
                client.set::<(), _, _>(key, 1, None, None, false).await.unwrap();
            }
            assert_eq!(scanned(&client, "scan-*").await, keys);
            client.quit().await.unwrap();
        }
        let client = connect(plain(&cluster), RespVersion::RESP3).await;
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let seen = struck(&mut cluster, &client, "plain", signal).await;
            assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        }
        client.quit().await.unwrap();
    });
}

#[test]
fn a_cluster_aware_client_works_and_goes_on_after_a_stop_and_a_crash() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        let client = connect(clustered(&cluster), RespVersion::RESP3).await;
        check(&client, "clustered").await;
        let seen = struck(&mut cluster, &client, "clustered", Signal::SIGTERM).await;
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        struck(&mut cluster, &client, "clustered", Signal::SIGKILL).await;
        client.quit().await.unwrap();
    });
}
