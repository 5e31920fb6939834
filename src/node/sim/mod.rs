//! The world of the simulation: its weather, its clocks, its chance, and what it may look at.
//!
//! A simulation runs on one thread, so its world is a thread's own. Nodes are known by their peer
//! port, which is another one for each. Only with the feature `sim`.

pub mod net;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cluster::membership::NodeId;
use crate::cluster::view::View;
use crate::node::context::Context;

/// When every simulation begins, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What the network does to datagrams, apart from cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// The probability that one is lost.
    pub loss: f64,
    /// The probability that one arrives twice.
    pub repetition: f64,
    /// The probability that one is late, and overtaken by others.
    pub lateness: f64,
    /// How late it may be.
    pub late_max: Duration,
    /// The probability that one arrives once more, long after.
    pub replay: f64,
    /// The probability that one arrives with another byte.
    pub corruption: f64,
}

/// How long after it was sent a datagram may be replayed.
const REPLAY_MS_MAX: u64 = 5_000;

/// One arrival of a datagram.
pub(in crate::node) struct Arrival {
    /// This much later than others.
    pub delay: Duration,
    /// This of its bytes, modulo its length, has changed.
    pub corrupted: Option<usize>,
}

/// What is wrong with the clocks of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    wall_offset_ms: i64,
    /// Since when its process stands still.
    stands_since: Option<Duration>,
}

struct World {
    rng: StdRng,
    weather: Weather,
    /// From and to.
    cuts: BTreeSet<(u16, u16)>,
    /// Nodes that do not run; whether their machine says so to who connects.
    down: BTreeMap<u16, bool>,
    clocks: BTreeMap<u16, Clock>,
    ports: BTreeMap<IpAddr, u16>,
    /// Connections whose first end has thrown away what it sent into a cut, or while they were stuck.
    discarded: BTreeSet<(SocketAddr, SocketAddr)>,
    /// How often the connections of two nodes were broken, the smaller port first.
    breaks: BTreeMap<(u16, u16), u64>,
    /// Nodes on whose connections nothing arrives, the smaller port first.
    stuck: BTreeSet<(u16, u16)>,
    /// Who waits for something to arrive on a connection of two nodes.
    readers: BTreeMap<(SocketAddr, SocketAddr), Waker>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new(0));
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            weather: Weather::default(),
            cuts: BTreeSet::new(),
            down: BTreeMap::new(),
            clocks: BTreeMap::new(),
            ports: BTreeMap::new(),
            discarded: BTreeSet::new(),
            breaks: BTreeMap::new(),
            stuck: BTreeSet::new(),
            readers: BTreeMap::new(),
        }
    }

    fn is_cut(&self, from: u16, to: u16) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// The nodes of a connection, if both ends are nodes.
    fn pair(&self, ends: (SocketAddr, SocketAddr)) -> Option<(u16, u16)> {
        let (a, b) = (*self.ports.get(&ends.0.ip())?, *self.ports.get(&ends.1.ip())?);
        Some((a.min(b), a.max(b)))
    }

    fn breaks_of(&self, ends: (SocketAddr, SocketAddr)) -> u64 {
        self.pair(ends).and_then(|pair| self.breaks.get(&pair).copied()).unwrap_or_default()
    }

    /// Who waits for something to arrive on the connections of two nodes.
    fn take_readers(&mut self, of: (u16, u16)) -> Vec<Waker> {
        let ends: Vec<_> = self.readers.keys().copied().filter(|ends| self.pair(*ends) == Some(of)).collect();
        ends.iter().filter_map(|ends| self.readers.remove(ends)).collect()
    }
}

fn with<R>(with: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| with(&mut world.borrow_mut()))
}

/// Begins a new world.
pub fn begin(seed: u64) {
    with(|world| *world = World::new(seed));
}

/// The node with this peer port has this address.
pub fn place(port: u16, address: IpAddr) {
    with(|world| world.ports.insert(address, port));
}

/// Changes the weather.
pub fn set_weather(weather: Weather) {
    with(|world| world.weather = weather);
}

/// Datagrams from one node to another are lost, or no longer. Connections are the harness' affair.
pub fn set_cut(from: u16, to: u16, is_cut: bool) {
    with(|world| match is_cut {
        true => world.cuts.insert((from, to)),
        false => world.cuts.remove(&(from, to)),
    });
}

/// A node does not run any more. Its machine refuses connections, or is dead too.
pub fn set_down(port: u16, refuses: bool) {
    with(|world| world.down.insert(port, refuses));
}

/// A node runs again.
pub fn set_up(port: u16) {
    with(|world| world.down.remove(&port));
}

/// The wall clock of a node jumps.
pub fn jump(port: u16, by_ms: i64) {
    with(|world| world.clocks.entry(port).or_default().wall_offset_ms += by_ms);
}

/// The process of a node stands still, or goes on. Its clocks show that only when it goes on.
pub fn stand_still(port: u16, now: Option<Duration>) {
    with(|world| world.clocks.entry(port).or_default().stands_since = now);
}

/// Breaks all connections between two nodes: both ends see an error, and what is under way is lost.
pub fn break_connections(a: u16, b: u16) {
    let broken = with(|world| {
        let pair = (a.min(b), a.max(b));
        *world.breaks.entry(pair).or_default() += 1;
        world.take_readers(pair)
    });
    broken.into_iter().for_each(Waker::wake);
}

/// From now on nothing arrives on the connections of two nodes, or what was under way does. Who writes
/// may do so for as long as there is room.
pub fn set_stuck(a: u16, b: u16, is_stuck: bool) {
    let waiting = with(|world| {
        let pair = (a.min(b), a.max(b));
        match is_stuck {
            true => {
                world.stuck.insert(pair);
                Vec::new()
            }
            false => {
                world.stuck.remove(&pair);
                world.take_readers(pair)
            }
        }
    });
    waiting.into_iter().for_each(Waker::wake);
}

/// Whether nothing arrives at these ends.
fn is_stuck(ends: (SocketAddr, SocketAddr)) -> bool {
    with(|world| !world.stuck.is_empty() && world.pair(ends).is_some_and(|pair| world.stuck.contains(&pair)))
}

/// How often the connections between the nodes of these ends were broken.
fn breaks(ends: (SocketAddr, SocketAddr)) -> u64 {
    with(|world| world.breaks_of(ends))
}

/// Somebody waits for what arrives at the first of these ends.
fn awaits(ends: (SocketAddr, SocketAddr), waker: &Waker) {
    let before = with(|world| {
        let is_between_nodes = world.pair(ends).is_some();
        is_between_nodes.then(|| world.readers.insert(ends, waker.clone()))
    });
    // Not while the world is borrowed.
    drop(before);
}

/// The first of these ends is closed.
fn closed(ends: (SocketAddr, SocketAddr)) {
    drop(with(|world| world.readers.remove(&ends)));
}

/// A number that depends on the seed.
pub(in crate::node) fn random() -> u64 {
    with(|world| world.rng.random())
}

/// How long the process of a node stands still already.
pub(in crate::node) fn standing(port: u16) -> Duration {
    let since = with(|world| world.clocks.get(&port).and_then(|clock| clock.stands_since));
    since.map_or(Duration::ZERO, |since| turmoil::sim_elapsed().unwrap_or(since).saturating_sub(since))
}

/// The wall clock of a node, in milliseconds.
pub(in crate::node) fn wall_ms(port: u16) -> u64 {
    let offset = with(|world| world.clocks.get(&port).map_or(0, |clock| clock.wall_offset_ms));
    let elapsed = turmoil::sim_elapsed().unwrap_or_default().saturating_sub(standing(port));
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    EPOCH_MS.saturating_add(elapsed_ms).saturating_add_signed(offset)
}

/// What becomes of a datagram: how often it arrives, and how.
fn fate(from: u16, to: u16) -> Vec<Arrival> {
    with(|world| {
        let weather = world.weather;
        if world.is_cut(from, to) || world.down.contains_key(&to) || world.rng.random_bool(weather.loss) {
            return Vec::new();
        }
        let copies = if world.rng.random_bool(weather.repetition) { 2 } else { 1 };
        let late_ms = u64::try_from(weather.late_max.as_millis()).unwrap_or(u64::MAX);
        let mut delays_ms: Vec<u64> = Vec::new();
        for _ in 0..copies {
            let is_late = world.rng.random_bool(weather.lateness);
            delays_ms.push(if is_late { world.rng.random_range(0..=late_ms) } else { 0 });
        }
        if world.rng.random_bool(weather.replay) {
            delays_ms.push(world.rng.random_range(late_ms..=late_ms + REPLAY_MS_MAX));
        }
        let arrival = |delay_ms| Arrival {
            delay: Duration::from_millis(delay_ms),
            corrupted: world
                .rng
                .random_bool(weather.corruption)
                .then(|| world.rng.random_range(0..usize::MAX)),
        };
        delays_ms.into_iter().map(arrival).collect()
    })
}

/// Whether a machine says that nobody listens there.
fn refuses(to: u16) -> bool {
    with(|world| world.down.get(&to).copied().unwrap_or_default())
}

fn discard(ends: (SocketAddr, SocketAddr)) {
    with(|world| {
        let port = |end: SocketAddr| world.ports.get(&end.ip()).copied().unwrap_or_default();
        let (from, to) = (port(ends.0), port(ends.1));
        let is_stuck = world.stuck.contains(&(from.min(to), from.max(to)));
        if is_stuck || world.is_cut(from, to) || world.is_cut(to, from) {
            world.discarded.insert(ends);
        }
    });
}

fn is_discarded(ends: (SocketAddr, SocketAddr)) -> bool {
    with(|world| !world.discarded.is_empty() && world.discarded.contains(&ends))
}

/// What a simulation may look at in a node.
#[derive(Clone)]
pub struct Probe(Arc<Context>);

impl Probe {
    pub(in crate::node) fn new(context: &Arc<Context>) -> Self {
        Self(Arc::clone(context))
    }

    /// Its view.
    pub fn view(&self) -> Arc<View> {
        self.0.current_view()
    }

    /// The most bytes that wait for one peer.
    pub fn waiting_bytes_max(&self) -> usize {
        self.0.peers.all().iter().map(|peer| peer.waiting_bytes()).max().unwrap_or(0)
    }

    /// Commands that wait for a primary.
    pub fn waiting_commands(&self) -> usize {
        self.0.counters.waiting.load(Ordering::Acquire)
    }

    /// Writes that were acknowledged without the replica that their mode wants.
    pub fn unreplicated(&self) -> u64 {
        self.0.counters.unreplicated.load(Ordering::Acquire)
    }

    /// Whether it knows that a node is removed with all its lives.
    pub fn has_removed(&self, node: NodeId) -> bool {
        self.0.removals().for_ever(node).is_some()
    }

    /// The most bytes that may wait for one peer.
    pub const WAITING_BYTES_MAX: usize = 2 * crate::node::peers::QUEUE_BYTES_MAX;
}
