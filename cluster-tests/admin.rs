//! What the administrative port says of a running node and its cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::cluster::unique_name;
use support::eventually;
use support::node::Node;
use support::node::Plan;
use support::ports::Ports;

/// The status and the body of what a node answers.
async fn get(node: &Node, path: &str) -> Result<(u16, String), String> {
    let url = format!("http://{}{path}", node.admin_address());
    let ask = move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok((answer.status().as_u16(), text))
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// A family of figures: its type and its samples, each a name, labels and a value.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once("=\"") {
        let end = value.find('"').unwrap_or_else(|| panic!("no end of a label in {text}"));
        assert!(labels.insert(name.to_owned(), value[..end].to_owned()).is_none(), "{name} twice: {text}");
        rest = value[end + 1..].strip_prefix(',').unwrap_or(&value[end + 1..]);
    }
    assert!(rest.is_empty(), "{rest:?} in labels {text}");
    labels
}

/// Reads a page as strictly as Prometheus and its `promtool check metrics` do.
fn families(page: &str) -> BTreeMap<String, Family> {
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut name, mut helped) = (String::new(), BTreeSet::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (of, help) = help.split_once(' ').unwrap();
            assert!(help.len() > 5 && help.ends_with('.'), "{line}");
            assert!(helped.insert(of.to_owned()), "{line}: a second time");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (of, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains(of) && is_name(of), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", of.ends_with("_total"), "{line}");
            for unit in ["_ms", "_millis", "_kb", "_mb", "_percent"] {
                assert!(!of.contains(unit), "{line}: no base unit");
            }
            name = of.to_owned();
            let family = Family { kind: kind.to_owned(), samples: Vec::new() };
            assert!(families.insert(name.clone(), family).is_none(), "{line}: a second time");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let (of, labels) = match series.split_once('{') {
                Some((of, rest)) => (of, labels(rest.strip_suffix('}').unwrap())),
                None => (series, BTreeMap::new()),
            };
            let family = families.get_mut(&name).unwrap();
            let suffix = of.strip_prefix(name.as_str()).unwrap_or_else(|| panic!("{line} under {name}"));
            match family.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            assert!(value >= 0.0, "{line}");
            let is_same =
                |(known, its, _): &(String, BTreeMap<String, String>, f64)| known == of && *its == labels;
            assert!(!family.samples.iter().any(is_same), "{line}: a second time");
            family.samples.push((of.to_owned(), labels, value));
        }
    }
    families.iter().filter(|(_, family)| family.kind == "histogram").for_each(check_histogram);
    families
}

fn check_histogram((name, family): (&String, &Family)) {
    let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for (of, labels, value) in family.samples.iter().filter(|(of, ..)| of.ends_with("_bucket")) {
        let mut labels = labels.clone();
        let bound = labels.remove("le").unwrap_or_else(|| panic!("{of} has a bucket without a bound"));
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        buckets.entry(labels).or_default().push((bound, *value));
    }
    for (labels, buckets) in buckets {
        assert!(buckets.is_sorted(), "{name} {labels:?}: {buckets:?}");
        let (bound, all) = *buckets.last().unwrap();
        let count = format!("{name}_count");
        let is_count =
            |(of, its, _): &&(String, BTreeMap<String, String>, f64)| *of == count && *its == labels;
        assert_eq!((bound, all), (f64::INFINITY, family.samples.iter().find(is_count).unwrap().2));
    }
}

fn value(families: &BTreeMap<String, Family>, name: &str, label: Option<(&str, &str)>) -> f64 {
    let series = name.strip_suffix("_count").unwrap_or(name);
    let family = families.get(series).unwrap_or_else(|| panic!("no {series}"));
    let is_it = |(of, labels, _): &&(String, BTreeMap<String, String>, f64)| {
        of == name && label.is_none_or(|(label, value)| labels.get(label).is_some_and(|its| its == value))
    };
    family.samples.iter().find(is_it).unwrap_or_else(|| panic!("no {name} {label:?}")).2
}

#[test]
fn prometheus_can_read_all_figures_and_they_say_what_has_been_done() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        let mut client = cluster.nodes[0].connect().await;
        for number in 0..300 {
            client.ask(&format!("SET key-{number} value")).await;
        }
        for number in 0..300 {
            client.ask(&format!("GET key-{number}")).await;
        }
        client.ask("GET nothing").await;
        cluster.replicated().await;
        let (status, page) = get(&cluster.nodes[0], "/metrics").await.unwrap();
        assert_eq!(status, 200);
        let of = families(&page);
        let cmd = |name| Some(("cmd", name));
        for (name, label, expected) in [
            ("redis_up", None, 1.0),
            ("redis_commands_total", cmd("get"), 301.0),
            ("redis_commands_total", cmd("set"), 300.0),
            ("cachegopher_command_duration_seconds_count", cmd("get"), 301.0),
            ("cachegopher_replication_lag_bytes", Some(("peer", "n2")), 0.0),
            ("cachegopher_replication_lag_entries", Some(("peer", "n3")), 0.0),
            ("cachegopher_replication_lag_seconds", Some(("peer", "n3")), 0.0),
            ("cachegopher_ready", None, 1.0),
            ("redis_evicted_keys_total", None, 0.0),
            ("redis_expired_keys_total", None, 0.0),
        ] {
            assert_eq!(value(&of, name, label), expected, "{name} {label:?}");
        }
        assert!(value(&of, "redis_commands_processed_total", None) >= 601.0);
        assert!(value(&of, "redis_memory_used_bytes", None) > 0.0);
        assert!(value(&of, "redis_memory_max_bytes", None) > 1e6);
        assert!(value(&of, "redis_connected_clients", None) >= 1.0);
        let members = ["alive", "suspect", "dead"]
            .map(|state| value(&of, "cachegopher_members", Some(("state", state))));
        assert_eq!(members.iter().sum::<f64>(), 3.0);
        assert!(value(&of, "cachegopher_failover_seconds_count", None) >= 0.0);
        assert!(value(&of, "cachegopher_commands_forwarded_total", None) > 0.0);
        assert!(value(&of, "cachegopher_gossip_packets_total", Some(("direction", "in"))) > 0.0);
        assert!(value(&of, "cachegopher_transfers_total", Some(("kind", "synced"))) >= 0.0);
        let mut keys_and_hits = (0.0, 0.0);
        for node in &cluster.nodes {
            let of = families(&get(node, "/metrics").await.unwrap().1);
            keys_and_hits.0 += value(&of, "redis_db_keys", None);
            keys_and_hits.1 += value(&of, "redis_keyspace_hits_total", None);
        }
        // One that was sent twice counts twice.
        assert!(keys_and_hits.0 == 300.0 && keys_and_hits.1 >= 300.0, "{keys_and_hits:?}");

        cluster.nodes[1].kill();
        cluster.nodes[1].ended().await;
        eventually(LONG, async || {
            let of = families(&get(&cluster.nodes[0], "/metrics").await?.1);
            let promoted = value(&of, "cachegopher_promotions_total", None);
            let failovers = value(&of, "cachegopher_failover_seconds_count", None);
            let dead = value(&of, "cachegopher_members", Some(("state", "dead")));
            match promoted > 100.0 && failovers >= 1.0 && dead == 1.0 {
                true => Ok(()),
                false => Err(format!("{promoted} promotions, {failovers} failovers, {dead} dead")),
            }
        })
        .await;
    });
}

#[test]
fn a_node_is_ready_when_it_has_joined_and_has_its_copies_and_not_while_it_looks_for_others() {
    alone(async {
        let (own, nobody) = (Ports::allocate(), Ports::allocate());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], nobody.peer));
        let mut plan = Plan::on_loopback("n1", &unique_name(), &own, vec![nowhere]);
        plan.more = vec!["--join-wait-max-ms".to_owned(), "600000".to_owned()];
        let node = Node::start(plan);
        eventually(LONG, async || get(&node, "/healthz").await.map(drop)).await;
        let (status, reason) = get(&node, "/readyz").await.unwrap();
        assert_eq!((status, reason.as_str()), (503, "the node has not joined yet\n"));
        drop(node);

        let mut cluster = Cluster::start(2).await;
        for node in &cluster.nodes {
            assert_eq!(get(node, "/readyz").await.unwrap(), (200, "ready\n".to_owned()));
        }
        cluster.nodes[1].kill();
        cluster.nodes[1].ended().await;
        cluster.nodes[0].comes_to("members_alive", 1).await;
        // It lacks the other's copies, and is all that there is.
        assert_eq!(get(&cluster.nodes[0], "/readyz").await.unwrap().0, 200);
        cluster.nodes[1].start_again();
        eventually(LONG, async || match get(&cluster.nodes[1], "/readyz").await? {
            (200, _) => Ok(()),
            (_, reason) => Err(reason),
        })
        .await;
    });
}

#[test]
fn systemd_is_told_when_the_node_is_ready_and_when_it_stops() {
    alone(async {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.notify", unique_name()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let next = || {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
        };
        let mut plan = Plan::on_loopback("n1", &unique_name(), &Ports::allocate(), Vec::new());
        plan.notify_socket = Some(path.clone());
        let mut node = Node::start(plan);
        assert_eq!(next(), "READY=1");
        assert_eq!(get(&node, "/readyz").await.unwrap().0, 200);
        node.signal(Signal::SIGTERM);
        assert_eq!(next(), "STOPPING=1");
        node.ended().await;
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn every_node_says_what_the_whole_cluster_is_like() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        cluster.nodes[2].connect().await.ask("SET key value").await;
        let seen = async |from: &Node| -> Result<Value, String> {
            let (status, text) = get(from, "/api/cluster").await?;
            assert_eq!(status, 200, "{text}");
            serde_json::from_str(&text).map_err(|error| error.to_string())
        };
        for node in &cluster.nodes {
            let seen = seen(node).await.unwrap();
            assert_eq!(seen["asked"], node.plan.name);
            assert_eq!(seen["settled"], true);
            let nodes = seen["nodes"].as_array().unwrap();
            let names: Vec<&str> = nodes.iter().map(|node| node["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["n1", "n2", "n3"]);
            let primaries: u64 = nodes.iter().map(|node| node["primaries"].as_u64().unwrap()).sum();
            let keys: u64 = nodes.iter().map(|node| node["figures"]["keys"].as_u64().unwrap()).sum();
            assert_eq!((primaries, keys), (4_096, 1));
            let mut next = 0;
            for arc in seen["arcs"].as_array().unwrap() {
                assert_eq!(arc[0], next);
                next = arc[1].as_u64().unwrap() + 1;
                let (primary, replicas) = (arc[2].as_u64().unwrap(), arc[3].as_array().unwrap());
                assert!(primary < 3 && replicas.len() == 1 && replicas[0] != primary, "{arc}");
            }
            assert_eq!(next, 4_096);
        }
        cluster.nodes[1].kill();
        cluster.nodes[1].ended().await;
        eventually(LONG, async || {
            let seen = seen(&cluster.nodes[0]).await?;
            let second = &seen["nodes"][1];
            let is_gone =
                second["state"] == "dead" && second["primaries"] == 0 && second["figures"].is_null();
            if is_gone { Ok(()) } else { Err(second.to_string()) }
        })
        .await;
    });
}

/// Reads events until one is as wanted; the socket's own limit ends a wait in vain.
fn event(stream: &mut BufReader<TcpStream>, is_wanted: impl Fn(&str, &Value) -> bool) -> Value {
    let (mut kind, mut seen) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line);
        assert!(matches!(read, Ok(1..)), "{read:?}; seen: {seen:#?}");
        if let Some(name) = line.strip_prefix("event: ") {
            kind = name.trim_end().to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            if is_wanted(&kind, &data) {
                return data;
            }
            seen.push((kind.clone(), data));
        }
    }
}

#[test]
fn one_node_streams_what_all_of_them_see_happen() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        let mut stream = TcpStream::connect(cluster.nodes[0].admin_address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        event(&mut stream, |kind, data| kind == "view" && data["view"].as_str().is_some());
        // What happened before is remembered, on other nodes too.
        event(&mut stream, |_, data| data["kind"] == "started" && data["node"] == "n2");
        cluster.nodes[2].kill();
        cluster.nodes[2].ended().await;
        for node in ["n1", "n2"] {
            let promoted = event(&mut stream, |kind, data| {
                kind == "happening" && data["kind"] == "promoted" && data["node"] == node
            });
            assert_eq!(promoted["member"], "n3");
            assert!(promoted["partitions"].as_u64().unwrap() > 100, "{promoted}");
            assert!(promoted["took_ms"].is_u64(), "{promoted}");
        }
        cluster.nodes[2].start_again();
        event(&mut stream, |_, data| data["kind"] == "joined" && data["member"] == "n3");
        event(&mut stream, |_, data| data["kind"] == "synced" && data["node"] == "n3");
        // A reader does not hold up a node that stops, and is let go.
        cluster.nodes[0].signal(nix::sys::signal::Signal::SIGTERM);
        assert!(cluster.nodes[0].ended().await.success());
        let mut rest = String::new();
        while stream.read_line(&mut rest).unwrap() > 0 {}
    });
}

#[test]
fn what_is_slow_and_what_is_asked_for_most_is_told_by_every_node() {
    alone(async {
        let cluster = Cluster::start(2).await;
        let mut admin = redis::Client::open(format!("redis://{}/", cluster.nodes[0].plan.client))
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .unwrap();
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("slowlog-log-slower-than").arg(0);
        let _: () = set.query_async(&mut admin).await.unwrap();
        let mut client = cluster.nodes[0].connect().await;
        client.ask("GET greeting").await;
        let slow = client.list("SLOWLOG").await;
        assert!(slow.iter().any(|line| line.ends_with(" GET greeting")), "{slow:?}");
        // Through one node, told by the other.
        let mut other = cluster.nodes[1].connect().await;
        eventually(LONG, async || {
            client
                .ask_all(
                    (0..500).map(|number| format!("GET {}", if number % 5 == 0 { "cold" } else { "hot" })),
                )
                .await;
            match other.list("HOTKEYS").await {
                keys if keys.first().is_some_and(|line| line.ends_with(" hot")) => Ok(()),
                keys => Err(format!("{keys:?}")),
            }
        })
        .await;
        let (_, seen) = get(&cluster.nodes[1], "/api/cluster").await.unwrap();
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["hot"][0]["key"], "hot");
        assert!(!seen["slow"].as_array().unwrap().is_empty());
    });
}
