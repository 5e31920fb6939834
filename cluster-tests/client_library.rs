//! The client library against real nodes: what an application sees while nodes are killed, frozen,
//! added and stopped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use cachegopher::client::Answer;
use cachegopher::client::Client;
use cachegopher::client::Error;
use cachegopher::client::ReadFrom;
use cachegopher::client::SetOptions;
use cachegopher::client::Settings;
use cachegopher::client::TimeToLive;
use futures_util::TryStreamExt;
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::eventually;
use support::figures::millis;

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.nodes.iter().map(|node| node.plan.client.to_string()).collect()
}

async fn connect(cluster: &Cluster) -> Client {
    Client::connect(addresses(cluster)).await.unwrap()
}

/// What the application saw.
#[derive(Debug, Default)]
struct Seen {
    calls: usize,
    errors: Vec<String>,
    /// Increments without an answer: they may have been done or not.
    unknown: usize,
    /// The slowest call, and what it was.
    longest: (Duration, &'static str),
}

impl Seen {
    fn note<T>(&mut self, what: &'static str, start: Instant, result: Result<T, Error>) -> Option<T> {
        self.calls += 1;
        self.longest = self.longest.max((start.elapsed(), what));
        match result {
            Ok(value) => Some(value),
            Err(Error::Unknown { .. }) if what == "increment" => {
                self.unknown += 1;
                None
            }
            Err(error) => {
                self.errors.push(format!("{what} after {:?}: {error}", start.elapsed()));
                None
            }
        }
    }
}

/// An application under way: tasks that share a client.
struct Application {
    tasks: Vec<JoinHandle<Seen>>,
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
}

impl Application {
    fn start(clients: &[Client], tasks: usize) -> Self {
        let (is_over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..tasks)
            .map(|number| {
                let client = clients[number % clients.len()].clone();
                tokio::spawn(work(number, client, Arc::clone(&is_over), Arc::clone(&rounds)))
            })
            .collect();
        Self { tasks, is_over, rounds }
    }

    /// Waits until every task has gone round so many times more.
    async fn goes_on(&self, rounds: usize) {
        let enough = self.rounds.load(Ordering::Relaxed) + rounds * self.tasks.len();
        eventually(LONG, async || match self.rounds.load(Ordering::Relaxed) {
            done if done >= enough => Ok(()),
            done => Err(format!("{done} rounds, not {enough}")),
        })
        .await;
    }

    async fn stop(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for task in self.tasks {
            let seen = task.await.unwrap();
            all.calls += seen.calls;
            all.errors.extend(seen.errors);
            all.unknown += seen.unknown;
            all.longest = all.longest.max(seen.longest);
        }
        all
    }
}

/// Every kind of call, over and over, on keys of all nodes.
async fn work(number: usize, client: Client, is_over: Arc<AtomicBool>, rounds: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        round += 1;
        let key = format!("app-{number}-{round}");
        let start = Instant::now();
        seen.note("set", start, client.set(&key, "value").await);
        let start = Instant::now();
        seen.note("get", start, client.get(&key).await);
        let start = Instant::now();
        seen.note("expire", start, client.expire(&key, Duration::from_secs(60)).await);
        let start = Instant::now();
        seen.note("increment", start, client.increment(format!("count-{number}-{}", round % 50), 1).await);
        let start = Instant::now();
        let pairs: Vec<(String, &str)> = (0..20).map(|n| (format!("many-{number}-{n}"), "v")).collect();
        seen.note("set_many", start, client.set_many(&pairs).await);
        let start = Instant::now();
        let keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
        seen.note("get_many", start, client.get_many(&keys).await);
        let start = Instant::now();
        seen.note("delete", start, client.delete(&key).await);
        rounds.fetch_add(1, Ordering::Relaxed);
        // The pace of the load, not a condition.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    seen
}

/// What happens to a node while the application runs.
#[derive(Clone, Copy, Debug)]
enum Event {
    Killed,
    Frozen,
    Joins,
    Leaves,
}

impl Event {
    async fn happen(self, cluster: &mut Cluster, app: &Application, victim: usize) {
        match self {
            Event::Killed => {
                cluster.nodes[victim].kill();
                cluster.nodes[victim].ended().await;
                app.goes_on(50).await;
                cluster.nodes[victim].start_again();
            }
            Event::Frozen => {
                cluster.nodes[victim].freeze().await;
                app.goes_on(50).await;
                cluster.nodes[victim].signal(Signal::SIGCONT);
            }
            Event::Joins => {
                cluster.add();
            }
            Event::Leaves => {
                cluster.nodes[victim].signal(Signal::SIGTERM);
                app.goes_on(50).await;
                cluster.nodes[victim].ended().await;
                cluster.nodes[victim].start_again();
            }
        }
        cluster.settled().await;
        app.goes_on(50).await;
    }
}

#[test]
fn an_application_sees_no_error_while_nodes_are_killed_frozen_added_and_stopped() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        // One address must do: the client learns the others. It is also that of the first victim.
        let only = [cluster.nodes[0].plan.client.to_string()];
        let primary = Client::connect(only.clone()).await.unwrap();
        let any = Settings { read_from: ReadFrom::Any, ..Settings::default() };
        let any = Client::connect_with(only, any).await.unwrap();
        let events =
            [Event::Killed, Event::Frozen, Event::Leaves, Event::Joins, Event::Killed, Event::Frozen];
        for (victim, event) in events.into_iter().enumerate() {
            let app = Application::start(&[primary.clone(), any.clone()], 8);
            app.goes_on(50).await;
            event.happen(&mut cluster, &app, victim % 3).await;
            let seen = app.stop().await;
            let (longest, what) = seen.longest;
            println!(
                "{event:?}: {} calls, {} errors, {} increments unknown, longest wait {} ({what})",
                seen.calls,
                seen.errors.len(),
                seen.unknown,
                millis(longest)
            );
            assert!(seen.errors.is_empty(), "{} errors: {:?}", seen.errors.len(), &seen.errors[..1]);
        }
        eventually(LONG, async || match primary.nodes().iter().filter(|node| node.is_up()).count() {
            4 => Ok(()),
            count => Err(format!("the client knows {count} nodes")),
        })
        .await;
    });
}

#[test]
fn each_key_is_sent_to_its_primary() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let client = connect(&cluster).await;
        let keys: Vec<String> = (0..500).map(|number| format!("key-{number}")).collect();
        for key in &keys {
            client.set(key, "value").await.unwrap();
            assert_eq!(client.get(key).await.unwrap().as_deref(), Some(&b"value"[..]));
        }
        client.get_many(&keys).await.unwrap();
        assert_eq!(cluster.sum("commands_forwarded").await, 0, "commands took a detour");
        let primaries = cluster.primaries(0).await;
        for range in client.ring() {
            let of_node = &primaries[usize::from(range.first)..=usize::from(range.last)];
            assert!(of_node.iter().all(|name| Some(name) == range.primary.as_ref()), "{range:?}");
        }
    });
}

#[test]
fn every_call_does_what_it_says() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let client = connect(&cluster).await;
        assert_eq!(client.get("nothing").await.unwrap(), None);
        let binary: Vec<u8> = (0..=255).collect();
        client.set(&binary, &binary).await.unwrap();
        assert_eq!(client.get(&binary).await.unwrap().as_deref(), Some(&binary[..]));
        assert!(client.exists(&binary).await.unwrap());
        assert!(client.delete(&binary).await.unwrap());
        assert!(!client.delete(&binary).await.unwrap());

        assert!(!client.set_with("k", "1", SetOptions::new().if_present()).await.unwrap());
        assert!(client.set_with("k", "1", SetOptions::new().if_absent()).await.unwrap());
        assert!(!client.set_with("k", "2", SetOptions::new().if_absent()).await.unwrap());
        let minute = Duration::from_secs(60);
        let is_within = |left: TimeToLive| matches!(left, TimeToLive::Left(left) if left <= minute);
        assert!(client.set_with("k", "2", SetOptions::new().expire_in(minute)).await.unwrap());
        assert!(client.set_with("k", "3", SetOptions::new().keep_expiry()).await.unwrap());
        assert!(is_within(client.time_to_live("k").await.unwrap()));
        assert!(client.persist("k").await.unwrap());
        assert_eq!(client.time_to_live("k").await.unwrap(), TimeToLive::Forever);
        assert!(client.expire("k", minute).await.unwrap());
        assert!(is_within(client.time_to_live("k").await.unwrap()));
        assert_eq!(client.time_to_live("nothing").await.unwrap(), TimeToLive::Absent);
        assert_eq!(client.increment("k", -5).await.unwrap(), -2);

        client.set("word", "apple").await.unwrap();
        let refused = client.increment("word", 1).await.unwrap_err();
        assert!(matches!(&refused, Error::Refused { code, .. } if code == "ERR"), "{refused}");
        assert!(!refused.may_have_run() && !refused.is_temporary());
        let large = client.set("large", vec![0; 70_000]).await.unwrap_err();
        assert!(matches!(large, Error::Refused { .. }), "{large}");

        let part = client.ask(&["GETRANGE", "word", "1", "2"]).await.unwrap();
        assert_eq!(part, Answer::Value("pp".into()));
        assert!(client.lines(&["STATS"]).await.unwrap().iter().any(|line| line.starts_with("keys ")));
        client.flush().await.unwrap();
        assert_eq!(client.size().await.unwrap(), 0);
        client.ping().await.unwrap();
    });
}

#[test]
fn many_keys_are_read_written_listed_and_deleted_at_once() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let client = connect(&cluster).await;
        let keys: Vec<String> = (0..5_000).map(|number| format!("key-{number}")).collect();
        // Ten of these values are more than a piece may hold.
        let value = |key: &String| key.repeat(if key.ends_with("00") { 6_000 } else { 1 });
        let pairs: Vec<(&String, String)> = keys.iter().map(|key| (key, value(key))).collect();
        client.set_many(&pairs).await.unwrap();
        let mut asked = keys.clone();
        asked.insert(17, "nothing".to_owned());
        let values = client.get_many(&asked).await.unwrap();
        for (key, got) in asked.iter().zip(&values) {
            let expected = (key != "nothing").then(|| value(key));
            assert_eq!(got.as_deref(), expected.as_deref().map(str::as_bytes), "{key}");
        }
        let listed: Vec<_> = client.keys().try_collect().await.unwrap();
        assert_eq!(listed.len(), keys.len());
        let listed: BTreeSet<&[u8]> = listed.iter().map(|key| &key[..]).collect();
        assert!(keys.iter().all(|key| listed.contains(key.as_bytes())));
        let some: Vec<_> = client.keys_like("key-49??").try_collect().await.unwrap();
        assert_eq!(some.len(), 100);
        assert_eq!(client.delete_many(&asked).await.unwrap(), 5_000);
        assert_eq!(client.size().await.unwrap(), 0);
        client.set_many(&[("twice", "first"), ("twice", "last")]).await.unwrap();
        assert_eq!(client.get("twice").await.unwrap().as_deref(), Some(&b"last"[..]));
    });
}

#[test]
fn what_may_have_run_and_must_not_run_twice_is_unknown_and_what_cannot_have_run_is_unavailable() {
    alone(async {
        let mut cluster = Cluster::start(1).await;
        let client = connect(&cluster).await.with_deadline(Duration::from_millis(700));
        client.increment("count", 1).await.unwrap();
        cluster.nodes[0].freeze().await;
        let (read, repeatable, once) =
            tokio::join!(client.get("count"), client.set("other", "v"), client.increment("count", 1));
        assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
        assert!(matches!(repeatable, Err(Error::Unknown { .. })), "{repeatable:?}");
        assert!(matches!(once, Err(Error::Unknown { .. })), "{once:?}");
        cluster.nodes[0].signal(Signal::SIGCONT);
        let count = client.with_deadline(LONG).increment("count", 1).await.unwrap();
        assert!(count == 2 || count == 3, "{count}");

        cluster.nodes[0].kill();
        cluster.nodes[0].ended().await;
        let start = Instant::now();
        // Nobody is there to be sent anything.
        let refused = client.increment("count", 1).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
        assert!(refused.is_temporary() && !refused.may_have_run());
        assert!(start.elapsed() >= Duration::from_millis(700), "gave up after {:?}", start.elapsed());
        let nobody = Client::connect_with(
            addresses(&cluster),
            Settings { deadline: Duration::from_millis(100), ..Settings::default() },
        );
        assert!(matches!(nobody.await, Err(Error::Unavailable { .. })));
    });
}

#[test]
fn a_connection_that_broke_while_nobody_used_it_is_replaced_without_an_error() {
    alone(async {
        let mut cluster = Cluster::start(1).await;
        let client = connect(&cluster).await.with_deadline(LONG);
        for round in 1..=3 {
            let calls = (0..10).map(|number| client.increment(format!("count-{number}"), 1));
            for answer in futures_util::future::join_all(calls).await {
                assert_eq!(answer, Ok(1), "round {round}");
            }
            cluster.nodes[0].kill();
            cluster.nodes[0].ended().await;
            cluster.nodes[0].start_again();
            cluster.settled().await;
        }
    });
}

#[test]
fn connections_to_a_node_are_bounded_and_shared() {
    alone(async {
        let cluster = Cluster::start(1).await;
        let node = &cluster.nodes[0];
        // However slow the machine is, the node is not asked on further connections whether it lives.
        let settings =
            Settings { connections_max: 3, silence_max: LONG, deadline: LONG, ..Settings::default() };
        let client = Client::connect_with(addresses(&cluster), settings).await.unwrap();
        let before = node.figure("connections_accepted").await;
        let calls = (0..200).map(|number| client.set(format!("key-{number}"), "value"));
        futures_util::future::try_join_all(calls).await.unwrap();
        // One is that of this question, one may be the one that follows the ring.
        let opened = node.figure("connections_accepted").await - before;
        assert!((2..=5).contains(&opened), "{opened} connections for 200 calls");
    });
}

#[test]
fn a_connection_that_has_expired_is_closed() {
    alone(async {
        let cluster = Cluster::start(1).await;
        let node = &cluster.nodes[0];
        let settings = Settings { connection_timeout: Duration::from_millis(100), ..Settings::default() };
        let client = Client::connect_with(addresses(&cluster), settings).await.unwrap();
        let calls = (0..200).map(|number| client.set(format!("key-{number}"), "value"));
        futures_util::future::try_join_all(calls).await.unwrap();
        // What is left is that of this question, and the one that follows the ring.
        eventually(LONG, async || match node.figure("connections").await {
            ..=2 => Ok(()),
            count => Err(format!("{count} connections are open")),
        })
        .await;
        client.set("again", "value").await.unwrap();
    });
}
