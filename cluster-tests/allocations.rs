//! A GET allocates nothing, once its connection has asked before.
//!
//! A real node in this process, asked over a real socket, with an allocator that counts: what the node
//! does besides (gossip, figures, the log) may allocate so much in the same time, and no more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use cachegopher::node::Node;
use cachegopher::node::settings::RawSettings;
use clap::Parser;
use stats_alloc::INSTRUMENTED_SYSTEM;
use stats_alloc::StatsAlloc;

#[path = "support/ports.rs"]
mod ports;

use ports::Ports;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUESTS: usize = 64 * 2_000;
/// Allocations beside so many requests.
const BESIDE_MAX: usize = REQUESTS / 100;
const VALUE_BYTES: usize = 64;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    raw: RawSettings,
}

/// A client that itself allocates nothing while it asks.
struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, input: vec![0; 64 * 1024] }
    }

    /// Sends a batch and reads so many bytes of replies.
    fn ask(&mut self, batch: &[u8], reply_bytes: usize) {
        self.socket.write_all(batch).unwrap();
        self.socket.read_exact(&mut self.input[..reply_bytes]).unwrap();
    }
}

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

#[test]
fn a_get_allocates_nothing() {
    let ports = Ports::allocate();
    let (port, peer_port) = (ports.client.to_string(), ports.peer.to_string());
    let arguments =
        ["test", "--port", &port, "--peer-port", &peer_port, "--admin-port", "0", "--max-memory", "256MB"];
    let settings = Arguments::try_parse_from(arguments).unwrap().raw.check().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let node = runtime.block_on(Node::start(settings)).unwrap();
    let mut client = Client::connect(ports.client);
    let value = "v".repeat(VALUE_BYTES);
    let one_reply = format!("${VALUE_BYTES}\r\n{value}\r\n").len();
    for number in 0..100 {
        let key = format!("key:{number:04}");
        let set = format!("*3\r\n$3\r\nSET\r\n$8\r\n{key}\r\n${VALUE_BYTES}\r\n{value}\r\n");
        client.ask(set.as_bytes(), "+OK\r\n".len());
    }
    for pipeline in [1, 16, 64] {
        let get = |number: usize| format!("*2\r\n$3\r\nGET\r\n$8\r\nkey:{:04}\r\n", number * 7 % 100);
        let batch: String = (0..pipeline).map(get).collect();
        // Buffers come into being with the first ones.
        (0..100).for_each(|_| client.ask(batch.as_bytes(), one_reply * pipeline));
        let before = allocations();
        (0..REQUESTS / pipeline).for_each(|_| client.ask(batch.as_bytes(), one_reply * pipeline));
        let count = allocations() - before;
        println!("pipeline {pipeline}: {count} allocations beside {REQUESTS} GETs");
        assert!(count < BESIDE_MAX, "pipeline {pipeline}: {count} allocations for {REQUESTS} GETs");
    }
    runtime.block_on(node.stop());
}
