//! One run: a cluster, its clients, a while of faults, then quiet, in which all has to come right.

use std::cell::RefCell;
use std::panic;
use std::rc::Rc;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use cachegopher::cluster::membership::NodeId;
use cachegopher::cluster::planted;
use cachegopher::cluster::planted::Bug;
use cachegopher::cluster::witness;
use cachegopher::node::settings::AckMode;
use cachegopher::node::settings::RawSettings;
use cachegopher::node::settings::Settings;
use cachegopher::node::sim;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::checks;
use crate::client;
use crate::client::Phase;
use crate::client::Shared;
use crate::faults::Faults;
use crate::host;
use crate::host::Desk;
use crate::model::Model;

/// The client port of the first node; the others follow.
pub const CLIENT_PORT: u16 = 31_000;
/// The peer port of the first node; the others follow.
pub const PEER_PORT: u16 = 21_000;

/// The machine on which all clients run: they differ in nothing that a network knows.
pub const CLIENTS: &str = "clients";

/// How long a step is, and what is sent under way at least: for one half of the seeds the network is as slow
/// again.
const TICKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(2)];
/// How often it is looked whether what must always hold does.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// How long after the last fault everything may take to come right.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long a command may be under way after its client has given it up.
const COMMAND_WAIT_MAX: Duration = Duration::from_millis(2_500);
/// How long the last reader may take.
const READ_WAIT_MAX: Duration = Duration::from_secs(30);

/// What came of a run.
pub struct Outcome {
    /// What went wrong first.
    pub fault: Option<String>,
    /// A hash of everything that happened, in order.
    pub trace: u64,
    /// How large the cluster was.
    pub shape: String,
    /// What clients asked for.
    pub operations: usize,
    /// How long after the last fault all copies were equal and in place.
    pub settled_after: Duration,
}

/// A host on which a node runs, or not.
pub struct Host {
    pub id: NodeId,
    pub name: String,
    pub port: u16,
    pub desk: Rc<Desk>,
}

/// The cluster that is simulated.
pub struct Cluster<'a> {
    pub sim: turmoil::Sim<'a>,
    pub hosts: Vec<Host>,
    pub shared: Rc<Shared>,
}

impl Cluster<'_> {
    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn step(&mut self) -> Result<(), String> {
        self.shared.model.borrow_mut().now = self.sim.elapsed();
        self.sim.step().map_err(|error| error.to_string())?;
        if let Some(panic) = panicked() {
            return Err(panic);
        }
        match self.shared.model.borrow().faults.first() {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }
}

/// Runs one seed.
pub fn run(seed: u64, bug: Option<Bug>, with_log: bool) -> Outcome {
    planted::plant(bug);
    let mut rng = StdRng::seed_from_u64(seed);
    sim::begin(rng.random());
    let nodes = rng.random_range(3..=7);
    let shared = Rc::new(Shared {
        model: RefCell::new(Model::default()),
        phase: RefCell::new(Phase::Work),
        read: RefCell::default(),
        operations: RefCell::new(0),
        busy: RefCell::new(0),
        nodes,
        gone: RefCell::default(),
        desks: (0..nodes).map(|_| Rc::default()).collect(),
        is_replicated: rng.random_bool(0.3),
        is_scarce: rng.random_bool(0.1),
        keys: if rng.random_bool(0.2) { rng.random_range(80..240) } else { rng.random_range(10..80) },
        padding: if rng.random_bool(0.5) { 0 } else { rng.random_range(0..300) },
        rest_ms_max: rng.random_range(2..12),
    });
    let watched = Rc::clone(&shared);
    witness::call(Box::new(move |node, fact| watched.model.borrow_mut().learn(node, fact)));
    notice_panics();
    let copies = rng.random_range(2..=3);
    let clients = rng.random_range(2..=4);
    let shape = format!(
        "{nodes} nodes, {copies} copies, {clients} clients, {} keys{}{}",
        shared.keys,
        if shared.is_replicated { ", replicated" } else { "" },
        if shared.is_scarce { ", scarce" } else { "" }
    );
    let mut cluster = build(&mut rng, Rc::clone(&shared), copies, clients);
    shared.model.borrow_mut().is_loud = with_log;
    let logged = with_log.then(start_log);
    // With a panic in a task the runtime ends, and its next step panics too.
    let played = panic::catch_unwind(panic::AssertUnwindSafe(|| play(&mut cluster, &mut rng)));
    let result = played.unwrap_or_else(|_| Err(panicked().unwrap_or_default()));
    drop(logged);
    let trace = shared.model.borrow().trace();
    let operations = *shared.operations.borrow();
    let (fault, settled_after) = match result {
        Ok(after) => (None, after),
        Err(fault) => (Some(fault), Duration::ZERO),
    };
    drop(cluster);
    witness::call(Box::new(|_, _| {}));
    Outcome { fault, trace, shape, operations, settled_after }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic ends only the task that it happens in: it must not go unnoticed.
fn notice_panics() {
    PANIC.with(|panic| *panic.borrow_mut() = None);
    panic::set_hook(Box::new(|info| {
        PANIC.with(|panic| {
            panic.borrow_mut().get_or_insert_with(|| info.to_string());
        });
    }));
}

fn panicked() -> Option<String> {
    PANIC.with(|panic| panic.borrow().clone())
}

fn build<'a>(rng: &mut StdRng, shared: Rc<Shared>, copies: usize, clients: usize) -> Cluster<'a> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(rng.random())
        .epoch(UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        .simulation_duration(Duration::from_secs(100_000))
        .tick_duration(TICKS[rng.random_range(0..TICKS.len())])
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::from_millis(3))
        .udp_capacity(256)
        .enable_random_order()
        .build();
    let mut hosts = Vec::new();
    for index in 0..shared.nodes {
        let host = Host {
            id: NodeId::of_name(&format!("n{index}")),
            name: format!("n{index}"),
            port: PEER_PORT + index as u16,
            desk: Rc::clone(&shared.desks[index]),
        };
        let (settings, desk) = (settings(index, &shared, copies), Rc::clone(&host.desk));
        sim.host(host.name.as_str(), move || host::run(settings.clone(), Rc::clone(&desk)));
        hosts.push(host);
    }
    for host in &hosts {
        sim::place(host.port, sim.lookup(host.name.as_str()));
    }
    let seeds: Vec<u64> = (0..clients).map(|_| rng.random()).collect();
    sim.client(CLIENTS, client::work_all(seeds, Rc::clone(&shared)));
    Cluster { sim, hosts, shared }
}

fn settings(index: usize, shared: &Shared, copies: usize) -> Settings {
    let others = (0..shared.nodes).filter(|other| *other != index);
    let raw = RawSettings {
        name: Some(format!("n{index}")),
        bind: Some("0.0.0.0".parse().unwrap()),
        announce_host: Some(format!("n{index}")),
        port: Some(CLIENT_PORT + index as u16),
        peer_port: Some(PEER_PORT + index as u16),
        join: Some(others.map(|other| format!("n{other}:{}", PEER_PORT + other as u16)).collect()),
        copies: Some(copies),
        ack: shared.is_replicated.then_some(AckMode::Replicated),
        max_memory: Some("16MB".to_owned()),
        max_items: shared.is_scarce.then_some((shared.keys / 3).max(2)),
        shards: Some(2),
        rereplicate_after_ms: Some(2_000),
        ..RawSettings::default()
    };
    raw.check().unwrap()
}

/// The log of all nodes, with the time of the simulation.
fn start_log() -> tracing::subscriber::DefaultGuard {
    struct Time;
    impl tracing_subscriber::fmt::time::FormatTime for Time {
        fn format_time(&self, out: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
            write!(out, "{:>6}", turmoil::sim_elapsed().unwrap_or_default().as_millis())
        }
    }
    let filter = std::env::var("CACHEGOPHER_LOG")
        .unwrap_or_else(|_| "cachegopher=debug,simulation=debug,turmoil[node]=warn".to_owned());
    let log = tracing_subscriber::fmt().with_timer(Time).with_ansi(false).with_target(false);
    let log = log.with_env_filter(tracing_subscriber::EnvFilter::new(filter)).finish();
    tracing::subscriber::set_default(log)
}

fn play(cluster: &mut Cluster, rng: &mut StdRng) -> Result<Duration, String> {
    let mut faults = Faults::new(cluster, rng.random());
    let end = Duration::from_millis(rng.random_range(4_000..20_000));
    let mut look_at = Duration::ZERO;
    while cluster.now() < end {
        faults.advance(cluster);
        cluster.step()?;
        if cluster.now() >= look_at {
            look_at = cluster.now() + LOOK_PERIOD;
            checks::always(cluster, &mut faults)?;
        }
    }
    if rng.random_bool(0.5) {
        break_all_connections(cluster);
    }
    faults.heal(cluster);
    *cluster.shared.phase.borrow_mut() = Phase::Rest;
    let healed = cluster.now();
    let settled_at = settle(cluster, &mut faults, healed)?;
    // What clients had under way may still change something.
    while *cluster.shared.busy.borrow() > 0 || cluster.now() < healed + COMMAND_WAIT_MAX {
        cluster.step()?;
    }
    settle(cluster, &mut faults, healed)?;
    checks::promises(cluster)?;
    *cluster.shared.phase.borrow_mut() = Phase::Read;
    let deadline = cluster.now() + READ_WAIT_MAX;
    while *cluster.shared.phase.borrow() != Phase::Done {
        cluster.step()?;
        if cluster.now() > deadline {
            return Err("the last reader is not answered".to_owned());
        }
    }
    checks::read(cluster)?;
    Ok(settled_at - healed)
}

/// While clients still write: what is lost with this, nothing that comes later hides.
fn break_all_connections(cluster: &Cluster) {
    for (place, host) in cluster.hosts.iter().enumerate() {
        cluster.hosts[place + 1..].iter().for_each(|other| sim::break_connections(host.port, other.port));
    }
}

/// Runs until all is in its place and equal; when that was.
fn settle(cluster: &mut Cluster, faults: &mut Faults, healed: Duration) -> Result<Duration, String> {
    let mut look_at = cluster.now();
    loop {
        faults.advance(cluster);
        cluster.step()?;
        if cluster.now() < look_at {
            continue;
        }
        look_at = cluster.now() + LOOK_PERIOD;
        checks::always(cluster, faults)?;
        match checks::settled(cluster, faults) {
            Ok(()) => return Ok(cluster.now()),
            Err(fault) if cluster.now() > healed + SETTLE_WAIT_MAX => {
                return Err(format!("{} s after the last fault: {fault}", SETTLE_WAIT_MAX.as_secs()));
            }
            Err(_) => {}
        }
    }
}
