//! Connections as a real node keeps them: who is there, what each may ask about the others and about
//! the node, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::cluster::unique_name;
use support::eventually;
use support::node::Node;
use support::node::Plan;
use support::ports::Ports;
use support::resp::RespClient;

/// A cluster of one, and the only connection to it.
async fn lone_node(more: &[&str]) -> (Cluster, RespClient) {
    let cluster = Cluster::start_with(1, more).await;
    let mut client = RespClient::connect(cluster.nodes[0].plan.client).await;
    // Those by which the start was watched may not be closed yet.
    eventually(LONG, async || match client.ask("CLIENT LIST").await.lines().count() {
        1 => Ok(()),
        count => Err(format!("{count} connections")),
    })
    .await;
    assert_eq!(client.ask("CONFIG RESETSTAT").await, "OK");
    (cluster, client)
}

async fn another(cluster: &Cluster) -> RespClient {
    RespClient::connect(cluster.nodes[0].plan.client).await
}

/// The fields of INFO.
async fn info(client: &mut RespClient, sections: &str) -> BTreeMap<String, String> {
    let text = client.ask(&format!("INFO {sections}")).await;
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The fields of a line of CLIENT LIST.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split(' ').filter_map(|field| field.split_once('=')).collect()
}

#[test]
fn connections_are_listed_with_what_they_are_and_do() {
    alone(async {
        let (cluster, mut client) = lone_node(&[]).await;
        let mut other = another(&cluster).await;
        assert_eq!(other.ask("CLIENT SETNAME other").await, "OK");
        assert_eq!(other.ask("CLIENT SETINFO LIB-NAME lib").await, "OK");
        assert_eq!(other.ask("GET k").await, "nil");
        let own = client.ask("CLIENT INFO").await;
        let own = fields(own.trim());
        assert_eq!(own["addr"], client.local().to_string());
        assert_eq!((own["cmd"], own["qbuf"], own["idle"]), ("client|info", "26", "0"));
        let id = other.ask("CLIENT ID").await;
        let listed = client.ask(&format!("CLIENT LIST ID {}", &id[1..])).await;
        let listed = fields(listed.trim());
        assert_eq!((listed["name"], listed["lib-name"], listed["cmd"]), ("other", "lib", "client"));
        assert_eq!(client.ask("CLIENT LIST TYPE pubsub").await, "");
        assert_eq!(client.ask("CLIENT LIST TYPE normal").await.lines().count(), 2);
        assert_eq!(info(&mut client, "clients").await["connected_clients"], "2");
    });
}

#[test]
fn an_idle_connection_shows_for_how_long_and_is_closed_when_that_is_set() {
    alone(async {
        let (cluster, mut client) = lone_node(&["--idle-timeout", "1"]).await;
        let mut other = another(&cluster).await;
        assert_eq!(other.ask("PING").await, "PONG");
        let mut has_shown_idle = false;
        eventually(LONG, async || {
            let list = client.ask("CLIENT LIST").await;
            has_shown_idle |= list.lines().any(|line| fields(line)["idle"] == "1");
            match list.lines().count() {
                1 => Ok(()),
                count => Err(format!("{count} connections")),
            }
        })
        .await;
        assert!(other.is_closed().await);
        assert!(cluster.nodes[0].log().contains("idle client closed"));
        // The one that asks all the time stays, and the setting can be taken back.
        assert_eq!(client.ask("CONFIG GET timeout").await, "[timeout 1]");
        assert_eq!(client.ask("CONFIG SET timeout 0").await, "OK");
        assert_eq!(client.ask("CONFIG GET timeout").await, "[timeout 0]");
    });
}

#[test]
fn connections_are_killed_by_address_by_number_and_all_others() {
    alone(async {
        let (cluster, mut client) = lone_node(&[]).await;
        let mut others = Vec::new();
        for _ in 0..4 {
            let mut other = another(&cluster).await;
            assert_eq!(other.ask("PING").await, "PONG");
            others.push(other);
        }
        assert_eq!(client.ask(&format!("CLIENT KILL {}", others[0].local())).await, "OK");
        assert_eq!(client.ask(&format!("CLIENT KILL {}", others[0].local())).await, "-ERR No such client");
        assert!(others[0].is_closed().await);
        let id = others[1].ask("CLIENT ID").await;
        assert_eq!(client.ask(&format!("CLIENT KILL ID {}", &id[1..])).await, ":1");
        assert!(others[1].is_closed().await);
        assert_eq!(client.ask("CLIENT KILL TYPE normal").await, ":2");
        assert!(others[2].is_closed().await && others[3].is_closed().await);
        // Itself: it is answered, then it ends.
        assert_eq!(client.ask("CLIENT KILL SKIPME no").await, ":1");
        assert!(client.is_closed().await);
    });
}

#[test]
fn replies_that_are_not_wanted_are_not_sent() {
    alone(async {
        let (_cluster, mut client) = lone_node(&[]).await;
        for request in ["CLIENT REPLY OFF", "PING a", "SET k v", "CLIENT REPLY ON", "PING b"] {
            client.send(request).await;
        }
        assert_eq!(
            (client.receive().await.unwrap(), client.receive().await.unwrap().as_str()),
            ("OK".to_owned(), "b")
        );
        for request in ["CLIENT REPLY SKIP", "PING a", "PING b", "CLIENT REPLY SKIP", "GET k", "GET k"] {
            client.send(request).await;
        }
        assert_eq!(
            (client.receive().await.unwrap(), client.receive().await.unwrap().as_str()),
            ("b".to_owned(), "v")
        );
        client.send("CLIENT REPLY SKIP").await;
        assert_eq!(client.ask("CLIENT REPLY ON").await, "OK");
        assert_eq!(client.ask("PING c").await, "c");
    });
}

#[test]
fn figures_count_what_clients_did_and_begin_anew_when_asked() {
    alone(async {
        let (_cluster, mut client) = lone_node(&[]).await;
        for request in ["SET k 1", "SET l 1 EX 100", "GET k", "GET nothing", "GET k"] {
            client.ask(request).await;
        }
        assert!(client.ask("APPEND").await.starts_with("-ERR wrong number"));
        assert!(
            client.ask("SET word x").await == "OK" && client.ask("INCR word").await.starts_with("-ERR value")
        );
        assert!(client.ask("LPUSH k v").await.starts_with("-ERR unknown command"));
        let all = info(&mut client, "everything").await;
        assert_eq!((all["keyspace_hits"].as_str(), all["keyspace_misses"].as_str()), ("2", "1"));
        assert_eq!(all["db0"], "keys=3,expires=1,avg_ttl=0");
        assert!(all["cmdstat_get"].starts_with("calls=3,usec="), "{}", all["cmdstat_get"]);
        assert!(all["cmdstat_append"].ends_with("rejected_calls=1,failed_calls=0"));
        assert!(all["cmdstat_incr"].ends_with("rejected_calls=0,failed_calls=1"));
        assert_eq!((all["errorstat_ERR"].as_str(), all["total_error_replies"].as_str()), ("count=3", "3"));
        assert!(all["used_memory_rss"].parse::<u64>().unwrap() > 1_000_000);
        assert_eq!((all["role"].as_str(), all["loading"].as_str()), ("master", "0"));
        assert_eq!(client.ask("CONFIG RESETSTAT").await, "OK");
        let all = info(&mut client, "all").await;
        assert_eq!((all["keyspace_hits"].as_str(), all.get("cmdstat_get")), ("0", None));
        assert_eq!(all["total_error_replies"], "0");
        // What there is does not begin anew.
        assert_eq!(all["db0"], "keys=3,expires=1,avg_ttl=0");
        assert!(!info(&mut client, "").await.contains_key("cmdstat_config"));
        let figures = info(&mut client, "stats clients").await;
        assert!(figures.contains_key("total_commands_processed") && !figures.contains_key("used_memory"));
    });
}

#[test]
fn settings_are_changed_all_or_none() {
    alone(async {
        let (cluster, mut client) = lone_node(&[]).await;
        assert_eq!(client.ask("CONFIG SET timeout 5 maxclients 200").await, "OK");
        assert_eq!(client.ask("CONFIG GET timeout maxcl*").await, "[maxclients 200 timeout 5]");
        for (request, error) in [
            ("timeout 6 nothing 1", "ERR Unknown option or number of arguments for CONFIG SET - 'nothing'"),
            ("timeout 6 port 1", "argument 'port') - can't set immutable config"),
            ("timeout 6 timeout 7", "argument 'timeout') - duplicate parameter"),
            ("maxclients 6 timeout x", "argument 'timeout') - argument couldn't be parsed into an integer"),
            ("timeout 6 maxclients 0", "argument 'maxclients') - argument must be between 1 and"),
            ("timeout 6 loglevel loud", "argument 'loglevel') - argument(s) must be one of the following"),
        ] {
            let reply = client.ask(&format!("CONFIG SET {request}")).await;
            assert!(reply.contains(error), "{request}: {reply}");
        }
        assert_eq!(client.ask("CONFIG GET timeout maxclients").await, "[maxclients 200 timeout 5]");
        // Said again, as tools do.
        assert_eq!(client.ask("CONFIG SET appendonly no databases 1").await, "OK");
        assert!(!cluster.nodes[0].log().contains("DEBUG"));
        assert_eq!(client.ask("CONFIG SET loglevel debug").await, "OK");
        assert_eq!(client.ask("CONFIG GET loglevel").await, "[loglevel debug]");
        drop(another(&cluster).await);
        eventually(LONG, async || match cluster.nodes[0].log().contains("DEBUG") {
            true => Ok(()),
            false => Err("nothing is logged at the level debug".to_owned()),
        })
        .await;
    });
}

#[test]
fn a_client_too_many_is_told_so_in_its_protocol_and_sent_away() {
    alone(async {
        let (cluster, mut client) = lone_node(&["--max-connections", "2"]).await;
        let mut other = another(&cluster).await;
        assert_eq!(
            (client.ask("PING").await, other.ask("PING").await),
            ("PONG".to_owned(), "PONG".to_owned())
        );
        let mut third = another(&cluster).await;
        third.send("GET k").await;
        assert_eq!(third.receive().await.unwrap(), "-ERR max number of clients reached");
        assert!(third.is_closed().await);
        let mut text = cluster.nodes[0].connect().await;
        assert_eq!(text.ask("PING").await, "ERROR: max number of clients reached");
        // One that says nothing is told as a client of Redis.
        let mut silent = another(&cluster).await;
        assert_eq!(silent.receive().await.unwrap(), "-ERR max number of clients reached");
        assert_eq!(info(&mut client, "stats").await["rejected_connections"], "3");
        // There is room again when one has gone, or when more are allowed.
        drop(other);
        eventually(LONG, async || match another(&cluster).await.ask("PING").await.as_str() {
            "PONG" => Ok(()),
            reply => Err(reply.to_owned()),
        })
        .await;
        assert_eq!(client.ask("CONFIG SET maxclients 4").await, "OK");
        let mut more = [another(&cluster).await, another(&cluster).await, another(&cluster).await];
        for client in &mut more {
            assert_eq!(client.ask("PING").await, "PONG");
        }
    });
}

#[test]
fn a_node_that_runs_out_of_files_goes_on_and_has_room_again_when_clients_go() {
    alone(async {
        let name = unique_name();
        let ports = Ports::allocate();
        let plan = Plan::on_loopback("n1", &name, &ports, Vec::new());
        let files_max = Some(64);
        let cluster = Cluster::of(name, vec![Plan { files_max, ..plan }]).await;
        let mut client = another(&cluster).await;
        // So few files that there is less room for clients than was asked for: nobody is left hanging.
        let room: usize = info(&mut client, "clients").await["maxclients"].parse().unwrap();
        assert_eq!(room, 16);
        let mut crowd = Vec::new();
        for _ in 0..200 {
            crowd.push(another(&cluster).await);
        }
        let (mut served, mut refused) = (0, 0);
        for client in &mut crowd {
            // Some are closed before they can ask.
            let _ = client.send_bytes(b"*1\r\n$4\r\nPING\r\n").await;
            match client.receive().await {
                Ok(reply) if reply == "PONG" => served += 1,
                Ok(reply) => {
                    assert_eq!(reply, "-ERR max number of clients reached");
                    refused += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                    refused += 1;
                }
            }
        }
        assert_eq!((served, refused), (room - 1, 200 - (room - 1)));
        assert_eq!(client.ask("SET k v").await, "OK");
        drop(crowd);
        eventually(LONG, async || match another(&cluster).await.ask("GET k").await.as_str() {
            "v" => Ok(()),
            reply => Err(reply.to_owned()),
        })
        .await;
        // Said when it begins and when it ends, not for every client.
        let lines = cluster.nodes[0].log().lines().filter(|line| line.contains("not accepted")).count();
        assert!(lines < 20, "{lines} lines");
    });
}

#[test]
fn every_key_of_the_cluster_may_be_the_random_one() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let mut client = another(&cluster).await;
        assert_eq!(client.ask("RANDOMKEY").await, "nil");
        let keys: BTreeSet<String> = (0..20).map(|number| format!("key-{number}")).collect();
        for key in &keys {
            client.ask(&format!("SET {key} v")).await;
        }
        let mut found = BTreeSet::new();
        for _ in 0..1_000 {
            found.insert(client.ask("RANDOMKEY").await);
        }
        assert_eq!(found, keys);
        assert_eq!(info(&mut client, "keyspace").await["db0"], "keys=20,expires=0,avg_ttl=0");
    });
}

#[test]
fn a_scan_that_looks_at_few_keys_at_a_time_finds_all_under_writes() {
    alone(async {
        let (_cluster, mut client) = lone_node(&[]).await;
        for number in 0..100 {
            client.ask(&format!("SET key-{number} v")).await;
        }
        let (mut found, mut cursor, mut written) = (BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let reply = client.ask(&format!("SCAN {cursor} COUNT 10")).await;
            let (next, keys) = reply[1..reply.len() - 1].split_once(' ').unwrap();
            let keys = keys.trim_matches(['[', ']']).split(' ').filter(|key| key.starts_with("key-"));
            found.extend(keys.map(str::to_owned));
            if next == "0" {
                break;
            }
            cursor = next.to_owned();
            for _ in 0..10 {
                written += 1;
                client.ask(&format!("SET added-{} v", written % 70)).await;
            }
        }
        assert_eq!(found.len(), 100);
    });
}

#[test]
fn a_node_that_is_asked_to_shut_down_hands_over_and_ends() {
    alone(async {
        let mut cluster = Cluster::start(3).await;
        let mut keys = Vec::new();
        let mut client = RespClient::connect(cluster.nodes[1].plan.client).await;
        for number in 0..300 {
            keys.push(format!("key-{number}"));
            assert_eq!(client.ask(&format!("SET key-{number} {number}")).await, "OK");
        }
        let mut stopping = RespClient::connect(cluster.nodes[0].plan.client).await;
        stopping.send("SHUTDOWN NOSAVE").await;
        assert!(stopping.is_closed().await, "there is no reply");
        let status = Node::ended(&mut cluster.nodes[0]).await;
        assert!(status.success(), "{status}");
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(client.ask(&format!("GET {key}")).await, number.to_string());
        }
        assert_eq!(
            cluster.nodes[1].figure("promotions").await + cluster.nodes[2].figure("promotions").await,
            0
        );
    });
}

#[test]
fn memory_and_what_goes_when_it_is_full_are_changed_while_the_node_runs() {
    alone(async {
        let (_cluster, mut client) = lone_node(&["--shards", "2", "--max-memory", "64MB"]).await;
        assert_eq!(client.ask("CONFIG GET maxmemory").await, "[maxmemory 67108864]");
        let failed = |name: &str, reason: &str| {
            format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
        };
        let wrong = "argument must be a memory value";
        assert_eq!(client.ask("CONFIG SET maxmemory much").await, failed("maxmemory", wrong));
        let wrong = format!("argument must be between {} and {} inclusive", 3 << 20, i64::MAX);
        assert_eq!(client.ask("CONFIG SET maxmemory 1mb").await, failed("maxmemory", &wrong));
        let wrong =
            "argument(s) must be one of the following: volatile-ttl, allkeys-lru, allkeys-lfu, noeviction";
        assert_eq!(client.ask("CONFIG SET maxmemory-policy random").await, failed("maxmemory-policy", wrong));

        let value = "v".repeat(1_000);
        let set_some = async |client: &mut RespClient, range: std::ops::Range<u32>| {
            let mut fine = 0;
            for number in range {
                fine += u32::from(client.ask(&format!("SET key-{number} {value}")).await == "OK");
            }
            fine
        };
        assert_eq!(set_some(&mut client, 0..10_000).await, 10_000);
        let used = async |client: &mut RespClient| -> u64 {
            info(client, "memory").await["used_memory"].parse().unwrap()
        };
        assert!(used(&mut client).await > 10_000_000);
        assert_eq!(client.ask("CONFIG SET maxmemory 8mb").await, "OK");
        assert_eq!(info(&mut client, "memory").await["maxmemory"], (8 << 20).to_string());
        eventually(LONG, async || match used(&mut client).await {
            used if used <= 8 << 20 => Ok(()),
            used => Err(format!("{used} bytes used")),
        })
        .await;
        assert_eq!(client.ask("GET key-0").await, "nil");
        assert_eq!(client.ask("GET key-9999").await, value);
        assert_eq!(set_some(&mut client, 0..1_000).await, 1_000);

        assert_eq!(client.ask("CONFIG SET maxmemory-policy noeviction").await, "OK");
        let fine = set_some(&mut client, 20_000..30_000).await;
        assert!(fine < 10_000, "all were written");
        let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(client.ask(&format!("SET another {value}")).await, oom);

        assert_eq!(client.ask("CONFIG SET maxmemory-policy allkeys-lfu maxmemory 16mb").await, "OK");
        assert_eq!(client.ask("SET often 1").await, "OK");
        for _ in 0..5 {
            assert_eq!(client.ask("GET often").await, "1");
        }
        let frequency: u32 = client.ask("OBJECT FREQ often").await[1..].parse().unwrap();
        // Less than six where the sketch has aged meanwhile.
        assert!((2..=15).contains(&frequency), "{frequency}");
        assert!(
            client.ask("OBJECT IDLETIME often").await.starts_with("-ERR An LFU maxmemory policy is selected")
        );
        assert_eq!(info(&mut client, "memory").await["maxmemory_policy"], "allkeys-lfu");
    });
}

#[test]
fn what_a_connection_reads_without_a_touch_is_not_used() {
    alone(async {
        let (_cluster, mut client) = lone_node(&["--shards", "1", "--max-items", "10"]).await;
        let mut oldest_after = async |touch: &str| {
            for number in 0..10 {
                assert_eq!(client.ask(&format!("SET key-{number} value")).await, "OK");
            }
            assert_eq!(client.ask(&format!("CLIENT NO-TOUCH {touch}")).await, "OK");
            assert_eq!(client.ask("GET key-0").await, "value");
            assert_eq!(client.ask("MGET key-0 key-0").await, "[value value]");
            assert_eq!(client.ask("STRLEN key-0").await, ":5");
            assert_eq!(client.ask("GETRANGE key-0 1 -2").await, "alu");
            assert_eq!(client.ask("MULTI").await, "OK");
            assert_eq!(client.ask("GET key-0").await, "QUEUED");
            assert_eq!(client.ask("EXEC").await, "[value]");
            assert_eq!(client.ask("SET one-more value").await, "OK");
            assert_eq!(client.ask("DEL one-more").await, ":1");
            client.ask("EXISTS key-0").await
        };
        assert_eq!(oldest_after("ON").await, ":0");
        assert_eq!(oldest_after("OFF").await, ":1");
    });
}

#[test]
fn a_client_that_does_not_read_is_closed_by_each_of_its_limits_and_others_go_on() {
    alone(async {
        let (cluster, mut client) = lone_node(&["--max-output-bytes", "1000000"]).await;
        assert_eq!(client.ask(&format!("SET large {}", "v".repeat(60_000))).await, "OK");
        let get = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(1_000);
        let limit = "client-output-buffer-limit";
        // The hard limit, as set at the start; then a soft one of a second.
        for (shown, next) in [("1000000 0 0", "normal 0 100000 1"), ("0 100000 1", "normal 0 0 0")] {
            let told = client.ask(&format!("CONFIG GET {limit}")).await;
            assert_eq!(told, format!("[{limit} normal {shown} slave 0 0 0 pubsub 0 0 0]"));
            let before =
                cluster.nodes[0].log().matches("client closed, it does not read its replies").count();
            let mut silent = another(&cluster).await;
            // It may be closed before all is sent.
            let _ = silent.send_bytes(&get).await;
            eventually(LONG, async || {
                let log = cluster.nodes[0].log();
                match log.matches("client closed, it does not read its replies").count() {
                    count if count > before => Ok(()),
                    _ => Err("it is not closed".to_owned()),
                }
            })
            .await;
            assert_eq!(client.ask("GET large").await.len(), 60_000);
            let set = format!(
                "*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n${}\r\n{limit}\r\n${}\r\n{next}\r\n",
                limit.len(),
                next.len()
            );
            client.send_bytes(set.as_bytes()).await.unwrap();
            assert_eq!(client.receive().await.unwrap(), "OK");
        }
        let refused = client.ask(&format!("CONFIG SET {limit} normal")).await;
        assert!(refused.ends_with("Wrong number of arguments in buffer limit configuration."), "{refused}");
    });
}
