//! A load: connections that each send a batch of requests, wait for all replies, and send the next.

use std::error::Error;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpStream;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Deserialize;
use serde::Serialize;

use crate::processor;
use crate::wire::Protocol;
use crate::wire::Reply;

#[derive(clap::Args)]
pub struct Settings {
    /// What the line of JSON calls the server
    #[arg(long, default_value = "")]
    server: String,
    /// What the line of JSON calls this measurement
    #[arg(long, default_value = "")]
    case: String,
    /// The server, or several in turn
    #[arg(long, value_delimiter = ',', required = true)]
    address: Vec<SocketAddr>,
    /// The processes whose processor time counts
    #[arg(long, value_delimiter = ',')]
    process: Vec<u32>,
    #[arg(long, value_enum, default_value_t = Protocol::Resp)]
    protocol: Protocol,
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Requests in one batch
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
    /// Keys of 16 bytes, taken at random
    #[arg(long, default_value_t = 100_000)]
    keys: u32,
    /// So many of eleven requests are writes
    #[arg(long, default_value_t = 1)]
    sets: u32,
    /// How long is measured, behind a quarter of it that is not
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Write all keys once, and measure nothing
    #[arg(long)]
    fill: bool,
    /// Only connect so often, and print what memory that took
    #[arg(long)]
    idle: bool,
}

/// One measurement.
#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub server: String,
    pub case: String,
    pub requests: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub cpu_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub absent: u64,
    /// Of an idle connection.
    pub bytes_per_connection: f64,
}

/// How long anything may take that does not come.
const WAIT_MAX: Duration = Duration::from_secs(20);

struct Connection {
    socket: TcpStream,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    waiting: usize,
    since: Instant,
}

struct Load<'a> {
    settings: &'a Settings,
    poll: Poll,
    connections: Vec<Connection>,
    random: SmallRng,
    value: Vec<u8>,
    next_fill: u32,
    requests: u64,
    absent: u64,
    latencies: Vec<u32>,
}

pub fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let before = processor::resident_bytes(&settings.process)?;
    let mut load = Load::connect(settings)?;
    if settings.idle {
        // One request each, so that every connection has been served once.
        load.run_until(Instant::now() + Duration::from_millis(1))?;
        std::thread::sleep(Duration::from_secs(2));
        let after = processor::resident_bytes(&settings.process)?;
        let bytes = after.saturating_sub(before) as f64 / settings.connections as f64;
        let mut measured = load.measured(1.0, Duration::ZERO);
        measured.bytes_per_connection = bytes;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    if settings.fill {
        while load.next_fill < settings.keys {
            load.run_until(Instant::now() + Duration::from_millis(10))?;
        }
        return Ok(());
    }
    load.run_until(Instant::now() + Duration::from_secs_f64(settings.seconds / 4.0))?;
    (load.requests, load.absent) = (0, 0);
    load.latencies.clear();
    let (start, cpu) = (Instant::now(), processor::time_of(&settings.process)?);
    load.run_until(start + Duration::from_secs_f64(settings.seconds))?;
    let cpu = processor::time_of(&settings.process)? - cpu;
    println!("{}", serde_json::to_string(&load.measured(start.elapsed().as_secs_f64(), cpu))?);
    Ok(())
}

impl<'a> Load<'a> {
    fn connect(settings: &'a Settings) -> Result<Self, Box<dyn Error>> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for number in 0..settings.connections {
            let address = settings.address[number % settings.address.len()];
            // Connected before it is registered: a refusal is an error, and none is lost in a full queue.
            let socket = std::net::TcpStream::connect_timeout(&address, WAIT_MAX)?;
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(&mut socket, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(Connection {
                socket,
                output: Vec::new(),
                written: 0,
                input: Vec::new(),
                waiting: 0,
                since: Instant::now(),
            });
        }
        Ok(Self {
            settings,
            poll,
            connections,
            random: SmallRng::seed_from_u64(7),
            value: vec![b'v'; settings.value_bytes],
            next_fill: 0,
            requests: 0,
            absent: 0,
            latencies: Vec::new(),
        })
    }

    /// Keeps all connections busy until then, and waits for the replies under way.
    fn run_until(&mut self, end: Instant) -> Result<(), Box<dyn Error>> {
        let mut is_over = false;
        for number in 0..self.connections.len() {
            self.send(number)?;
        }
        let mut events = Events::with_capacity(1024);
        while self.connections.iter().any(|connection| connection.waiting > 0) {
            self.poll.poll(&mut events, Some(WAIT_MAX))?;
            if events.is_empty() {
                return Err("no reply came".into());
            }
            is_over |= Instant::now() >= end;
            for event in &events {
                let Token(number) = event.token();
                self.connections[number].flush()?;
                if event.is_readable() && self.receive(number)? && !is_over {
                    self.send(number)?;
                }
            }
        }
        Ok(())
    }

    /// Sends the next batch.
    fn send(&mut self, number: usize) -> io::Result<()> {
        let settings = self.settings;
        let connection = &mut self.connections[number];
        connection.output.clear();
        connection.written = 0;
        for _ in 0..settings.pipeline {
            let is_set = settings.fill || self.random.random_range(0..11) < settings.sets;
            let key = match settings.fill {
                true => self.next_fill % settings.keys,
                false => self.random.random_range(0..settings.keys),
            };
            self.next_fill = self.next_fill.saturating_add(1);
            let key = key_of(key);
            match is_set {
                true => settings.protocol.set(&key, &self.value, &mut connection.output),
                false => settings.protocol.get(&key, &mut connection.output),
            }
        }
        connection.waiting = settings.pipeline;
        connection.since = Instant::now();
        connection.flush()
    }

    /// Reads what is there; whether the batch is answered.
    fn receive(&mut self, number: usize) -> Result<bool, Box<dyn Error>> {
        let connection = &mut self.connections[number];
        let mut room = [0; 64 * 1024];
        loop {
            match connection.socket.read(&mut room) {
                Ok(0) => return Err("the server has closed a connection".into()),
                Ok(read) => {
                    connection.input.extend_from_slice(&room[..read]);
                    // Less than there was room for: nothing is left.
                    if read < room.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut used = 0;
        while connection.waiting > 0 {
            let Some((reply, bytes)) = self.settings.protocol.reply(&connection.input[used..]) else { break };
            match reply {
                Reply::Error => {
                    return Err(format!("error: {}", connection.input[used..].escape_ascii()).into());
                }
                Reply::Value(bytes) if bytes != self.value.len() => {
                    return Err(format!("a value of {bytes} bytes").into());
                }
                Reply::Absent => self.absent += 1,
                Reply::Value(_) | Reply::Done => {}
            }
            used += bytes;
            connection.waiting -= 1;
            self.requests += 1;
        }
        connection.input.drain(..used);
        if connection.waiting == 0 && used > 0 {
            let micros = connection.since.elapsed().as_nanos() / 100;
            self.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
        Ok(connection.waiting == 0 && used > 0)
    }

    fn measured(&mut self, seconds: f64, cpu: Duration) -> Measured {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let place = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(place).map_or(0.0, |tenths| f64::from(*tenths) / 10.0)
        };
        Measured {
            server: self.settings.server.clone(),
            case: self.settings.case.clone(),
            requests: self.requests,
            seconds,
            per_second: self.requests as f64 / seconds,
            cpu_us: cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64,
            p50_us: at(0.50),
            p99_us: at(0.99),
            absent: self.absent,
            bytes_per_connection: 0.0,
        }
    }
}

impl Connection {
    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// `key:` and twelve digits.
fn key_of(number: u32) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}
