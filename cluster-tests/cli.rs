//! The command line as a process: single commands, pipes, JSON, and its tools, against real nodes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use cachegopher::client::Client;
use cachegopher::client::TimeToLive;
use serde_json::Value;

use support::alone;
use support::cluster::Cluster;

/// The program with these arguments and this environment, and nothing of ours.
fn program(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachegopher-cli"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CACHEGOPHER_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the program makes of an input.
fn piped(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // As much as is given here fits the pipe.
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The program, told by the environment where the first node is.
struct Line {
    port: String,
}

impl Line {
    fn of(cluster: &Cluster) -> Self {
        Self { port: cluster.nodes[0].plan.client.port().to_string() }
    }

    fn program(&self, arguments: &[&str]) -> Command {
        program(arguments, &[("CACHEGOPHER_PORT", &self.port)])
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().unwrap()
    }

    /// What it prints when all is well.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        serde_json::from_str(&self.said(&arguments)).unwrap()
    }
}

#[test]
fn a_single_command_is_answered_plainly_and_its_exit_code_tells_how_it_went() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let line = Line::of(&cluster);
        assert_eq!(line.said(&["set", "greeting", "hello world"]), "OK\n");
        assert_eq!(line.said(&["get", "greeting"]), "hello world\n");
        assert_eq!(line.said(&["get", "nothing"]), "\n");
        assert_eq!(line.said(&["mget", "greeting", "nothing", "greeting"]), "hello world\n\nhello world\n");
        assert!(line.said(&["NODES"]).contains("n2 alive client="));
        let refused = line.output(&["incr", "greeting"]);
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""));
        assert_eq!(text(&refused.stderr), "(error) ERR value is not an integer or out of range\n");
        assert_eq!(line.output(&["--nothing"]).status.code(), Some(2));
        let stored = piped(line.program(&["-x", "set", "binary"]), b"\0\xFF\n");
        assert!(stored.status.success());
        assert_eq!(line.output(&["get", "binary"]).stdout, b"\0\xFF\n\n");
    });
}

#[test]
fn json_keeps_types_and_bytes() {
    alone(async {
        let cluster = Cluster::start(1).await;
        let line = Line::of(&cluster);
        assert_eq!(line.json(&["set", "k", "v"]), "OK");
        assert_eq!(line.json(&["get", "k"]), "v");
        assert_eq!(line.json(&["get", "nothing"]), Value::Null);
        assert_eq!(line.json(&["incr", "count"]), 1);
        assert_eq!(line.json(&["mget", "k", "nothing"]), serde_json::json!(["v", null]));
        piped(line.program(&["-x", "set", "binary"]), b"\xFF");
        assert_eq!(line.json(&["get", "binary"]), serde_json::json!({ "base64": "/w==" }));
        assert_eq!(line.json(&["command", "docs", "get"])["get"]["group"], "string");
        let refused = line.output(&["--json", "incr", "k"]);
        assert_eq!(refused.status.code(), Some(1));
        let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
        assert_eq!(refused["error"], "ERR value is not an integer or out of range");
    });
}

#[test]
fn lines_from_a_pipe_are_answered_in_order_on_one_connection() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let line = Line::of(&cluster);
        let input =
            b"set 'a key' \"two\\nlines\"\n\nget 'a key'\nmulti\nincr count\nincr count\nexec\nget count";
        let output = piped(line.program(&[]), input);
        assert_eq!(text(&output.stdout), "OK\ntwo\nlines\nOK\nQUEUED\nQUEUED\n1\n2\n2\n");
        assert!(output.status.success());
        let output = piped(line.program(&["--json"]), b"get count\nincr 'a key'\nget count\n");
        let rows: Vec<Value> =
            text(&output.stdout).lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        assert_eq!((&rows[0], &rows[2]), (&Value::from("2"), &Value::from("2")));
        assert!(rows[1]["error"].is_string());
        assert_eq!(output.status.code(), Some(1), "one line was refused");
        let output = piped(line.program(&[]), b"get 'k\n");
        assert!(text(&output.stderr).contains("line 1: a quote is not closed"));
    });
}

#[test]
fn what_is_exported_can_be_imported_with_its_bytes_and_expiries() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let line = Line::of(&cluster);
        let client = Client::connect([cluster.nodes[1].plan.client.to_string()]).await.unwrap();
        let pairs: Vec<(String, String)> =
            (0..3_000).map(|number| (format!("key-{number}"), format!("value \"{number}\"\n"))).collect();
        client.set_many(&pairs).await.unwrap();
        client.set(b"\xFF\0", b"\x80").await.unwrap();
        client.expire("key-7", std::time::Duration::from_secs(600)).await.unwrap();

        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.jsonl", cluster.name));
        let path = file.to_str().unwrap();
        let exported = line.output(&["export", "--file", path]);
        assert_eq!((exported.status.code(), text(&exported.stderr)), (Some(0), "3001 keys exported\n"));
        client.flush().await.unwrap();
        let imported = line.output(&["import", "--file", path]);
        assert_eq!((imported.status.code(), text(&imported.stderr)), (Some(0), "3001 keys imported\n"));
        let keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
        for ((key, value), got) in pairs.iter().zip(client.get_many(&keys).await.unwrap()) {
            assert_eq!(got.as_deref(), Some(value.as_bytes()), "{key}");
        }
        assert_eq!(client.get(b"\xFF\0").await.unwrap().as_deref(), Some(&b"\x80"[..]));
        let left = client.time_to_live("key-7").await.unwrap();
        assert!(matches!(left, TimeToLive::Left(left) if left.as_secs() > 500), "{left:?}");
        assert_eq!(client.time_to_live("key-8").await.unwrap(), TimeToLive::Forever);

        // Through pipes, and only some.
        let some = line.said(&["export", "--pattern", "key-299?"]);
        assert_eq!(some.lines().count(), 10);
        client.flush().await.unwrap();
        let input = format!("{some}no entry\n");
        let stopped = piped(line.program(&["import"]), input.as_bytes());
        assert_eq!(stopped.status.code(), Some(1));
        assert!(text(&stopped.stderr).contains("line 11 is no entry"), "{}", text(&stopped.stderr));
        let skipped = piped(line.program(&["import", "--skip-invalid"]), input.as_bytes());
        assert_eq!(text(&skipped.stderr), "10 keys imported, 1 lines skipped\n");
        assert_eq!(client.size().await.unwrap(), 10);
        std::fs::remove_file(file).unwrap();
    });
}

#[test]
fn the_ring_is_drawn_and_a_small_load_leaves_nothing_behind() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let line = Line::of(&cluster);
        let picture = line.said(&["ring"]);
        for node in &cluster.nodes {
            assert!(picture.contains(&node.plan.client.to_string()), "{picture}");
        }
        assert!(!picture.contains('\x1b'), "no colours in a pipe");
        let ring = line.json(&["ring"]);
        assert_eq!(ring["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(ring["ring"].as_array().unwrap().last().unwrap()["last"], 4_095);

        let load = line.said(&["bench", "--requests", "3000", "--clients", "10", "--keys", "100"]);
        assert!(load.starts_with("3000 calls in ") && load.contains("writes: p50"), "{load}");
        assert_eq!(line.json(&["dbsize"]), 0);
        let load = line.json(&["bench", "--requests", "1000", "--writes", "50", "--keep"]);
        assert_eq!((&load["errors"], &load["writes"]["calls"]), (&Value::from(0), &Value::from(500)));
    });
}

#[test]
fn settings_come_from_flags_the_environment_and_the_file_of_the_node() {
    alone(async {
        let cluster = Cluster::start(1).await;
        let address = cluster.nodes[0].plan.client;
        let port = address.port().to_string();
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.toml", cluster.name));
        std::fs::write(&file, format!("port = {port}\nbind = \"127.0.0.1\"\ncopies = 1\n")).unwrap();
        let path = file.to_str().unwrap();
        let answers = |arguments: &[&str], environment: &[(&str, &str)]| {
            let output = program(arguments, environment).output().unwrap();
            text(&output.stdout) == "PONG\n"
        };
        assert!(answers(&["--port", &port, "ping"], &[("CACHEGOPHER_PORT", "1")]));
        assert!(answers(&["ping"], &[("CACHEGOPHER_CONFIG", path)]));
        assert!(answers(&["--config", path, "ping"], &[]));
        let nodes = format!("127.0.0.1:1,{address}");
        assert!(answers(&["ping"], &[("CACHEGOPHER_NODES", &nodes)]), "the first that answers");
        let nobody = program(&["--port", "1", "ping"], &[]).output().unwrap();
        assert_eq!(nobody.status.code(), Some(1));
        assert!(text(&nobody.stderr).contains("no node can be reached: 127.0.0.1:1"), "{nobody:?}");
        std::fs::remove_file(file).unwrap();
    });
}
