//! A client: unique values, one command at a time, another node whenever one does not answer.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::time::timeout;
use turmoil::net::TcpStream;

use crate::host::Desk;
use crate::model::Model;

/// How long an answer may take. Longer than a node makes a command wait.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(4);
const CONNECT_WAIT_MAX: Duration = Duration::from_millis(500);

/// What clients and the harness share.
pub struct Shared {
    pub model: RefCell<Model>,
    pub phase: RefCell<Phase>,
    /// What was read in the end: node, key, value.
    pub read: RefCell<Vec<(usize, Bytes, Option<Bytes>)>>,
    pub operations: RefCell<usize>,
    /// Clients that wait for an answer.
    pub busy: RefCell<usize>,
    pub nodes: usize,
    /// Nodes that do not come back.
    pub gone: RefCell<BTreeSet<usize>>,
    pub desks: Vec<Rc<Desk>>,
    /// Whether writes are acknowledged by a replica too.
    pub is_replicated: bool,
    /// Whether nodes have room for fewer keys than there are.
    pub is_scarce: bool,
    pub keys: usize,
    /// Bytes that make values longer.
    pub padding: usize,
    /// How long a client rests between two commands at most.
    pub rest_ms_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clients write and read.
    Work,
    /// They rest.
    Rest,
    /// The first one reads everything at every node.
    Read,
    /// It has.
    Done,
}

impl Shared {
    /// Writes that no replica has acknowledged in time, as all nodes have counted.
    fn unreplicated(&self) -> u64 {
        self.desks
            .iter()
            .filter_map(|desk| desk.probe.borrow().as_ref().map(|probe| probe.unreplicated()))
            .sum()
    }
}

type Socket = BufReader<TcpStream>;

pub fn key(number: usize) -> Bytes {
    Bytes::from(format!("key-{number}"))
}

/// One client for each of these seeds.
pub async fn work_all(seeds: Vec<u64>, shared: Rc<Shared>) -> turmoil::Result {
    for (number, seed) in seeds.into_iter().enumerate() {
        tokio::task::spawn_local(work(number, seed, Rc::clone(&shared)));
    }
    std::future::pending().await
}

/// Works for as long as that is the phase.
async fn work(number: usize, seed: u64, shared: Rc<Shared>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut socket: Option<Socket> = None;
    let mut written = 0;
    loop {
        let phase = *shared.phase.borrow();
        match phase {
            Phase::Work => {}
            Phase::Read if number == 0 => {
                read_all(&shared).await;
                *shared.phase.borrow_mut() = Phase::Done;
                continue;
            }
            Phase::Rest | Phase::Read | Phase::Done => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        }
        if rng.random_bool(0.02) {
            socket = None;
        }
        let Some(connected) = &mut socket else {
            socket = connect(rng.random_range(0..shared.nodes)).await;
            tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await;
            continue;
        };
        written += 1;
        let operation = Operation::random(&mut rng, number, written, &shared);
        if !operation.run(connected, &shared).await {
            socket = None;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..shared.rest_ms_max))).await;
    }
}

async fn connect(node: usize) -> Option<Socket> {
    let address = (format!("n{node}"), crate::run::CLIENT_PORT + node as u16);
    let connected = timeout(CONNECT_WAIT_MAX, TcpStream::connect(address)).await;
    Some(BufReader::new(connected.ok()?.ok()?))
}

async fn ask(socket: &mut Socket, line: &str) -> Option<String> {
    let asked = async {
        socket.get_mut().write_all(line.as_bytes()).await.ok()?;
        let mut answer = String::new();
        (socket.read_line(&mut answer).await.ok()? > 0).then_some(answer)
    };
    let answer = timeout(ANSWER_WAIT_MAX, asked).await.ok().flatten()?;
    answer.strip_suffix('\n').map(str::to_owned)
}

enum Operation {
    Get(Bytes),
    Set(Bytes, Bytes),
    Delete(Bytes),
    Flush,
}

impl Operation {
    fn random(rng: &mut StdRng, client: usize, number: usize, shared: &Shared) -> Self {
        let key = key(rng.random_range(0..shared.keys));
        let padding = shared.padding;
        match rng.random_range(0..1_000) {
            0..550 => Operation::Set(key, Bytes::from(format!("value-{client}-{number}-{:x<padding$}", ""))),
            550..800 => Operation::Get(key),
            800..997 => Operation::Delete(key),
            _ => Operation::Flush,
        }
    }

    /// False: the connection is of no use any more.
    async fn run(&self, socket: &mut Socket, shared: &Shared) -> bool {
        let line = match self {
            Operation::Get(key) => format!("GET {}\n", text(key)),
            Operation::Set(key, value) => format!("SET {} {}\n", text(key), text(value)),
            Operation::Delete(key) => format!("DELETE {}\n", text(key)),
            Operation::Flush => "FLUSH\n".to_owned(),
        };
        let since = shared.model.borrow().now;
        let unreplicated = shared.unreplicated();
        *shared.busy.borrow_mut() += 1;
        let answer = ask(socket, &line).await;
        *shared.busy.borrow_mut() -= 1;
        *shared.operations.borrow_mut() += 1;
        let is_firm = shared.is_replicated && !shared.is_scarce && shared.unreplicated() == unreplicated;
        let mut model = shared.model.borrow_mut();
        model.note(&format!("{line} {answer:?}"));
        let Some(answer) = answer else { return false };
        match self {
            Operation::Set(key, value) if answer == "OK" => {
                model.promise_value(key, value, since, is_firm);
            }
            Operation::Delete(key) if answer == "OK" => model.promise_deletion(key, since, is_firm),
            Operation::Flush if answer == "OK" => model.promise_flush(since),
            Operation::Get(key) if !answer.starts_with("ERROR") => {
                let value = Bytes::from(answer);
                if !value.starts_with(b"value-") {
                    model.fail(format!("{key:?} was read as {value:?}"));
                }
            }
            Operation::Get(_) | Operation::Set(..) | Operation::Delete(_) | Operation::Flush => {}
        }
        true
    }
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

async fn read_all(shared: &Shared) {
    let lasting = (0..shared.nodes).filter(|node| !shared.gone.borrow().contains(node));
    let keys: Vec<Bytes> = (0..shared.keys).map(key).collect();
    for node in lasting {
        let answers = timeout(ANSWER_WAIT_MAX, ask_for(&keys, node)).await.ok().flatten().unwrap_or_default();
        for (place, key) in keys.iter().enumerate() {
            let answer = answers.get(place).map_or("no answer", String::as_str);
            let value = (answer != "ERROR: Key not found").then(|| Bytes::from(answer.to_owned()));
            shared.read.borrow_mut().push((node, key.clone(), value));
        }
    }
}

/// Asks a node for all keys at once.
async fn ask_for(keys: &[Bytes], node: usize) -> Option<Vec<String>> {
    let mut socket = connect(node).await?;
    let lines: String = keys.iter().map(|key| format!("GET {}\n", text(key))).collect();
    socket.get_mut().write_all(lines.as_bytes()).await.ok()?;
    let mut answers = Vec::new();
    while answers.len() < keys.len() {
        let mut answer = String::new();
        socket.read_line(&mut answer).await.ok().filter(|length| *length > 0)?;
        answers.push(answer.trim_end_matches('\n').to_owned());
    }
    Some(answers)
}
