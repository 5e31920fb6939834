//! Plays the transcripts of `proto-spec/transcripts/` against real nodes: as written, byte by byte,
//! and pipelined.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/transcript.rs"]
mod transcript;

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use support::alone;
use support::cluster::Cluster;
use transcript::Mode;
use transcript::Port;

/// Longer than any answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection whose requests are written by a thread of its own: the node reads no further while its
/// replies are not read.
struct SocketPort {
    socket: TcpStream,
    requests: Option<std::sync::mpsc::Sender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

impl SocketPort {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        let (requests, waiting) = std::sync::mpsc::channel::<Vec<u8>>();
        let mut half = socket.try_clone()?;
        let writer = std::thread::spawn(move || {
            for request in waiting {
                // A node may close before it has read everything, as it does after EXIT.
                if half.write_all(&request).is_err() {
                    return;
                }
            }
            let _ = half.shutdown(Shutdown::Write);
        });
        Ok(Self { socket, requests: Some(requests), writer: Some(writer) })
    }
}

impl Port for SocketPort {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What is sent behind EXIT finds the writer gone; the transcript says what is to come.
        let _ = self.requests.as_ref().map(|requests| requests.send(bytes.to_vec()));
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                Ok(count)
            }
            // Closed with requests unread: the kernel says so less politely.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.requests = None;
        self.writer
            .take()
            .map_or(Ok(()), |writer| writer.join().map_err(|_| io::Error::other("writer failed")))
    }
}

fn play_all(addresses: &[SocketAddr]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-spec/transcripts");
    let transcripts = transcript::read_all(&folder).unwrap();
    assert!(!transcripts.is_empty(), "no transcript was found");
    let mut failures = Vec::new();
    for (turn, transcript) in transcripts.iter().enumerate() {
        // Another node for every mode, and for every transcript.
        for (mode, address) in Mode::ALL.into_iter().zip(addresses.iter().cycle().skip(turn)) {
            flush(addresses[0]);
            let mut port = SocketPort::connect(*address).unwrap();
            if let Err(failure) = transcript.play(mode, &mut port) {
                failures.push(format!("{failure}\n  (shows: {})", transcript.shows));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn flush(address: SocketAddr) {
    let mut port = SocketPort::connect(address).unwrap();
    port.send(b"FLUSH\n").unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\n") {
        assert_ne!(port.receive(&mut reply).unwrap(), 0, "closed instead of flushed");
    }
    assert_eq!(reply, b"OK\n");
}

#[test]
fn every_transcript_holds_on_a_node_of_its_own() {
    alone(async {
        let cluster = Cluster::start(1).await;
        let address = cluster.nodes[0].plan.client;
        play_all(&[address]);
    });
}

#[test]
fn every_transcript_holds_on_any_node_of_three() {
    alone(async {
        let cluster = Cluster::start(3).await;
        let addresses: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.plan.client).collect();
        play_all(&addresses);
    });
}
