//! What goes wrong, when, and for how long.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use cachegopher::node::sim;
use cachegopher::node::sim::Weather;
use cachegopher::store::Partition;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tracing::info;

use crate::checks;
use crate::host::Said;
use crate::host::Wish;
use crate::run::CLIENTS;
use crate::run::Cluster;

/// The latency of a link that is not slow.
const LATENCY: Duration = Duration::from_millis(1);
/// When a node is started again that was told that it has left.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Of fewer nodes none is forgotten.
const FORGET_NODES_MIN: usize = 4;

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// It hands over; whether nothing else was wrong so far.
    Stopping(bool),
    Down,
    /// It was removed, and does not come back.
    Gone,
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub standing: Standing,
    pub is_paused: bool,
    /// It has been asked to leave: for some time its clock may say that it is the one who left.
    has_left: bool,
    /// When somebody was asked to forget it, who may have done so.
    unwanted_since: Option<Duration>,
}

/// What ends.
#[derive(Clone, Debug)]
enum End {
    Start(usize),
    Resume(usize),
    Mend(Vec<(usize, usize)>),
    /// The same is cut once more, for so long, and so often again.
    Flap(Vec<(usize, usize)>, Duration, u32),
    Clear,
    Flow(usize, usize),
    Hasten(usize, usize),
    /// Connections break once more, and so often again.
    Break(usize, usize, u32),
}

/// See the module.
pub struct Faults {
    rng: StdRng,
    pub machines: Vec<Machine>,
    /// From and to, as often as it was cut.
    cuts: BTreeMap<(usize, usize), usize>,
    held: BTreeSet<(usize, usize)>,
    slow: BTreeSet<(usize, usize)>,
    /// Nodes between which nothing arrives on connections, though datagrams do.
    stuck: BTreeSet<(usize, usize)>,
    weather: Weather,
    ends: Vec<(Duration, End)>,
    next: Duration,
    /// The longest time between two faults.
    pause_ms_max: u64,
    /// When a node ended last.
    ended: Duration,
    /// When something changed last.
    pub changed: Duration,
    /// Who hands partitions over, and since when that has been so at every look.
    pub moving: BTreeMap<(usize, Partition), Duration>,
}

impl Faults {
    pub fn new(cluster: &mut Cluster, seed: u64) -> Self {
        let machine =
            Machine { standing: Standing::Up, is_paused: false, has_left: false, unwanted_since: None };
        let mut rng = StdRng::seed_from_u64(seed);
        let pause_ms_max = if rng.random_bool(0.3) { 500 } else { 2_500 };
        let mut faults = Self {
            rng,
            pause_ms_max,
            machines: vec![machine; cluster.hosts.len()],
            cuts: BTreeMap::new(),
            held: BTreeSet::new(),
            slow: BTreeSet::new(),
            stuck: BTreeSet::new(),
            weather: Weather::default(),
            ends: Vec::new(),
            next: Duration::from_millis(1_500),
            ended: Duration::ZERO,
            changed: Duration::ZERO,
            moving: BTreeMap::new(),
        };
        if faults.rng.random_bool(0.25) {
            faults.have_newcomers(cluster);
        }
        faults
    }

    /// Some nodes join later.
    fn have_newcomers(&mut self, cluster: &mut Cluster) {
        let nodes = self.machines.len();
        for node in nodes - self.rng.random_range(1..nodes - 1)..nodes {
            self.down(cluster, node, false);
            self.later(Duration::ZERO, 8_000, End::Start(node));
        }
    }

    pub fn is_gone(&self, node: usize) -> bool {
        self.machines[node].standing == Standing::Gone
    }

    /// Those that are members in the end.
    pub fn lasting(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|node| !self.is_gone(*node)).collect()
    }

    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains_key(&(a, b)) || self.cuts.contains_key(&(b, a))
    }

    /// Whether what is not cut works well enough for membership.
    pub fn is_fair(&self) -> bool {
        self.slow.is_empty() && self.stuck.is_empty() && self.weather.loss <= 0.05
    }

    fn is_calm(&self) -> bool {
        let is_well = |machine: &Machine| {
            (machine.standing == Standing::Up && !machine.is_paused) || machine.standing == Standing::Gone
        };
        self.is_fair() && self.cuts.is_empty() && self.machines.iter().filter(|m| !is_well(m)).count() <= 1
    }

    /// Does what is due.
    pub fn advance(&mut self, cluster: &mut Cluster) {
        let now = cluster.now();
        let (due, later) = std::mem::take(&mut self.ends).into_iter().partition(|(at, _)| *at <= now);
        self.ends = later;
        for (_, end) in due {
            self.end(cluster, end);
        }
        for node in 0..self.machines.len() {
            if let Standing::Stopping(was_calm) = self.machines[node].standing {
                self.machines[node].standing = Standing::Stopping(was_calm && self.is_calm());
            }
            let said = std::mem::take(&mut *cluster.hosts[node].desk.said.borrow_mut());
            said.into_iter().for_each(|said| self.heed(cluster, node, said));
        }
        self.have_back(cluster);
        if !self.is_calm() {
            cluster.shared.model.borrow_mut().disturbed = now;
        }
        if now >= self.next {
            self.next = now + Duration::from_millis(self.rng.random_range(50..self.pause_ms_max));
            self.begin(cluster);
        }
    }

    /// Ends everything, and nothing begins any more.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        self.next = Duration::MAX;
        let ends: Vec<End> = std::mem::take(&mut self.ends).into_iter().map(|(_, end)| end).collect();
        for end in ends.into_iter().filter(|end| !matches!(end, End::Break(..) | End::Flap(..))) {
            self.end(cluster, end);
        }
    }

    /// A removal ends with the last node that knows of it: who has ended because of it is started again.
    fn have_back(&mut self, cluster: &mut Cluster) {
        let is_lost =
            |node: &usize| self.is_gone(*node) && checks::who_have_removed(cluster, *node).is_empty();
        let lost: Vec<usize> = (0..self.machines.len()).filter(is_lost).collect();
        for node in lost {
            info!(node, "FAULT removal lost");
            self.machines[node].standing = Standing::Down;
            cluster.shared.gone.borrow_mut().remove(&node);
            self.ends.push((cluster.now() + AGAIN_AFTER, End::Start(node)));
        }
    }

    /// What a node, or its operator, has to say.
    fn heed(&mut self, cluster: &mut Cluster, node: usize, said: Said) {
        info!(node, ?said, "FAULT");
        let now = cluster.now();
        let machine = &mut self.machines[node];
        match said {
            Said::Stopped => {
                let is_calm = matches!(machine.standing, Standing::Stopping(true));
                self.down(cluster, node, is_calm);
                self.later(now, 6_000, End::Start(node));
            }
            Said::Stays => {
                machine.standing = Standing::Up;
                self.changed = now;
            }
            Said::Removed if machine.unwanted_since.is_some() => {
                self.down(cluster, node, false);
                self.machines[node].standing = Standing::Gone;
                cluster.shared.gone.borrow_mut().insert(node);
            }
            Said::Removed => {
                if !machine.has_left {
                    let fault = format!("n{node} was removed, and nobody has asked for that");
                    cluster.shared.model.borrow_mut().fail(fault);
                }
                self.down(cluster, node, false);
                self.ends.push((now + AGAIN_AFTER, End::Start(node)));
            }
            Said::Forgotten(other, is_confirmed) => {
                self.changed = now;
                // The end of any one node may not undo it.
                let have_ended = self.machines[other].unwanted_since.is_none_or(|since| self.ended >= since);
                if is_confirmed && !have_ended && checks::who_have_removed(cluster, other).len() < 2 {
                    let fault = format!("n{node} said that another node knows that n{other} is forgotten");
                    cluster.shared.model.borrow_mut().fail(fault);
                }
            }
        }
    }

    fn later(&mut self, now: Duration, ms_max: u64, end: End) {
        let at = match self.next {
            Duration::MAX => now,
            _ => now + Duration::from_millis(self.rng.random_range(30..ms_max)),
        };
        self.ends.push((at, end));
    }

    /// The connections of two nodes will break, and again, and again.
    fn break_later(&mut self, now: Duration, node: usize, other: usize, again: u32) {
        if self.next != Duration::MAX {
            let at = now + Duration::from_millis(self.rng.random_range(1..250));
            self.ends.push((at, End::Break(node, other, again)));
        }
    }

    fn begin(&mut self, cluster: &mut Cluster) {
        let now = cluster.now();
        let nodes = self.machines.len();
        let node = self.rng.random_range(0..nodes);
        let other = (node + self.rng.random_range(1..nodes)) % nodes;
        let is_free = self.machines[node].standing == Standing::Up && !self.machines[node].is_paused;
        // Whatever else happens, what nodes tell each other just now is torn in two.
        if self.rng.random_bool(0.3) {
            self.break_later(now, node, other, 1);
        }
        match self.rng.random_range(0..120) {
            0..25 if is_free => {
                info!(node, "FAULT crash");
                self.down(cluster, node, false);
                self.later(now, 6_000, End::Start(node));
            }
            25..35 if is_free => {
                info!(node, "FAULT stop");
                self.machines[node].standing = Standing::Stopping(self.is_calm());
                cluster.hosts[node].desk.ask(Wish::Stop);
                self.changed = now;
            }
            100..105 if is_free => {
                info!(node, "FAULT leave");
                let machine = &mut self.machines[node];
                machine.has_left = true;
                self.machines[node].standing = Standing::Stopping(self.is_calm());
                cluster.hosts[node].desk.ask(Wish::Leave);
                self.changed = now;
            }
            105..110 => self.forget(cluster, node),
            110..115 => {
                let period = Duration::from_millis(self.rng.random_range(50..1_000));
                let pairs = match self.rng.random_bool(0.7) {
                    true => vec![(node, other), (other, node)],
                    false => vec![(node, other)],
                };
                let times = self.rng.random_range(2..12);
                self.flap(cluster, pairs, period, times);
            }
            115..120 => {
                info!(node, other, "FAULT stuck");
                self.stuck.insert((node.min(other), node.max(other)));
                sim::set_stuck(cluster.hosts[node].port, cluster.hosts[other].port, true);
                self.later(now, 6_000, End::Flow(node.min(other), node.max(other)));
                self.change(cluster);
            }
            35..45 => self.cut(cluster, vec![(node, other), (other, node)]),
            45..52 => self.cut(cluster, vec![(node, other)]),
            52..60 => {
                let alone = (0..nodes).filter(|other| *other != node);
                self.cut(cluster, alone.flat_map(|other| [(node, other), (other, node)]).collect());
            }
            60..70 => {
                let left: Vec<bool> = (0..nodes).map(|_| self.rng.random_bool(0.5)).collect();
                let pairs = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
                self.cut(cluster, pairs.filter(|(a, b)| left[*a] != left[*b]).collect());
            }
            70..80 if is_free => {
                info!(node, "FAULT pause");
                self.machines[node].is_paused = true;
                sim::stand_still(cluster.hosts[node].port, Some(now));
                self.later(now, 6_000, End::Resume(node));
                self.change(cluster);
            }
            80..88 => {
                let rate = self.rng.random_range(0.0..0.2);
                self.weather = Weather {
                    loss: if self.rng.random_bool(0.5) { rate } else { rate / 10.0 },
                    repetition: self.rng.random_range(0.0..0.2),
                    lateness: self.rng.random_range(0.0..0.2),
                    late_max: Duration::from_millis(self.rng.random_range(1..100)),
                    replay: if self.rng.random_bool(0.5) { 0.05 } else { 0.0 },
                    corruption: if self.rng.random_bool(0.5) { 0.02 } else { 0.0 },
                };
                info!(weather = ?self.weather, "FAULT weather");
                sim::set_weather(self.weather);
                self.later(now, 4_000, End::Clear);
                self.change(cluster);
            }
            88..94 => {
                let ms = self.rng.random_range(-2_000..2_000);
                info!(node, ms, "FAULT clock jumps");
                sim::jump(cluster.hosts[node].port, ms);
                cluster.shared.model.borrow_mut().have_clocks_jumped = true;
            }
            94..97 => {
                let again = self.rng.random_range(0..8);
                self.break_later(now, node, other, again);
            }
            97..100 => {
                let latency = Duration::from_millis(self.rng.random_range(20..600));
                info!(node, other, ?latency, "FAULT slow");
                self.slow.insert((node.min(other), node.max(other)));
                let names = (cluster.hosts[node].name.as_str(), cluster.hosts[other].name.as_str());
                cluster.sim.set_link_latency(names.0, names.1, latency);
                self.later(now, 4_000, End::Hasten(node.min(other), node.max(other)));
                self.change(cluster);
            }
            _ => {}
        }
        cluster.shared.model.borrow_mut().note(&format!("{:?}", self.machines));
    }

    fn end(&mut self, cluster: &mut Cluster, end: End) {
        info!(?end, "FAULT ends");
        match end {
            // Forgotten meanwhile, or started otherwise.
            End::Start(node) if self.machines[node].standing != Standing::Down => {}
            End::Start(node) => {
                self.machines[node].standing = Standing::Up;
                sim::set_up(cluster.hosts[node].port);
                cluster.sim.bounce(cluster.hosts[node].name.as_str());
                // While it pulls what it has to have.
                for other in (0..self.machines.len()).filter(|other| *other != node) {
                    if self.rng.random_bool(0.3) {
                        self.break_later(cluster.now(), node, other, 2);
                    }
                }
            }
            End::Resume(node) => {
                self.machines[node].is_paused = false;
                sim::stand_still(cluster.hosts[node].port, None);
            }
            End::Mend(pairs) => {
                for pair in pairs {
                    let count = self.cuts.entry(pair).or_default();
                    *count -= 1;
                    if *count == 0 {
                        self.cuts.remove(&pair);
                        sim::set_cut(cluster.hosts[pair.0].port, cluster.hosts[pair.1].port, false);
                    }
                }
            }
            End::Flap(pairs, period, again) => {
                self.flap(cluster, pairs, period, again);
                return;
            }
            End::Flow(a, b) => {
                self.stuck.remove(&(a, b));
                sim::set_stuck(cluster.hosts[a].port, cluster.hosts[b].port, false);
            }
            End::Clear => {
                self.weather = Weather::default();
                sim::set_weather(self.weather);
            }
            End::Hasten(a, b) => {
                self.slow.remove(&(a, b));
                let names = (cluster.hosts[a].name.as_str(), cluster.hosts[b].name.as_str());
                cluster.sim.set_link_latency(names.0, names.1, LATENCY);
            }
            End::Break(a, b, again) => {
                sim::break_connections(cluster.hosts[a].port, cluster.hosts[b].port);
                if again > 0 {
                    self.break_later(cluster.now(), a, b, again - 1);
                }
                return;
            }
        }
        self.change(cluster);
    }

    fn cut(&mut self, cluster: &mut Cluster, pairs: Vec<(usize, usize)>) {
        self.sever(cluster, &pairs);
        self.later(cluster.now(), 6_000, End::Mend(pairs));
    }

    /// Cuts and mends by turns.
    fn flap(&mut self, cluster: &mut Cluster, pairs: Vec<(usize, usize)>, period: Duration, again: u32) {
        let now = cluster.now();
        self.sever(cluster, &pairs);
        self.ends.push((now + period, End::Mend(pairs.clone())));
        if again > 0 {
            self.ends.push((now + 2 * period, End::Flap(pairs, period, again - 1)));
        }
    }

    fn sever(&mut self, cluster: &mut Cluster, pairs: &[(usize, usize)]) {
        info!(?pairs, "FAULT cut");
        for pair in pairs {
            *self.cuts.entry(*pair).or_default() += 1;
            sim::set_cut(cluster.hosts[pair.0].port, cluster.hosts[pair.1].port, true);
        }
        self.change(cluster);
    }

    /// An operator takes a dead node out for good, once in a while.
    fn forget(&mut self, cluster: &mut Cluster, asked: usize) {
        let is_asked = self.machines[asked].standing == Standing::Up && !self.machines[asked].is_paused;
        let is_dead = |node: &usize| self.machines[*node].standing == Standing::Down;
        let dead = (0..self.machines.len()).find(is_dead);
        let has_been = self.machines.iter().any(|machine| machine.unwanted_since.is_some());
        if let Some(node) = dead.filter(|_| is_asked && !has_been && self.machines.len() >= FORGET_NODES_MIN)
        {
            info!(node, asked, "FAULT forget");
            self.machines[node].unwanted_since = Some(cluster.now());
            cluster.hosts[asked].desk.ask(Wish::Forget(node));
            self.changed = cluster.now();
        }
    }

    fn down(&mut self, cluster: &mut Cluster, node: usize, has_handed_over: bool) {
        self.machines[node].standing = Standing::Down;
        self.ended = cluster.now();
        cluster.sim.crash(cluster.hosts[node].name.as_str());
        // Of what is cut off nobody hears anything, whether its machine lives or not.
        let is_reached = (0..self.machines.len()).all(|other| !self.is_cut(node, other));
        sim::set_down(cluster.hosts[node].port, is_reached && self.rng.random_bool(0.7));
        cluster.hosts[node].desk.clear();
        let synced: BTreeMap<_, _> = cluster
            .hosts
            .iter()
            .filter_map(|host| {
                let view = host.desk.probe.borrow().as_ref()?.view();
                Some((host.id, view.member(host.id)?.record.synced.clone()))
            })
            .collect();
        let counts = |id, partition| synced.get(&id).is_some_and(|synced| synced.contains(partition));
        let mut model = cluster.shared.model.borrow_mut();
        match has_handed_over {
            // It has promised that others have everything.
            true => model.hand_over(cluster.hosts[node].id),
            false => model.end(cluster.hosts[node].id, counts),
        }
        drop(model);
        self.change(cluster);
    }

    /// Holds the connections of all pairs that cannot speak now, and lets the others go.
    fn change(&mut self, cluster: &mut Cluster) {
        self.changed = cluster.now();
        let nodes = self.machines.len();
        let is_paused = |host: usize| host < nodes && self.machines[host].is_paused;
        let is_held = |(a, b): &(usize, usize)| is_paused(*a) || is_paused(*b) || self.is_cut(*a, *b);
        // The clients come behind the nodes.
        let pairs = (0..nodes).flat_map(|a| (a + 1..=nodes).map(move |b| (a, b)));
        let held: BTreeSet<(usize, usize)> = pairs.filter(is_held).collect();
        let name = |host: usize| match host < nodes {
            true => cluster.hosts[host].name.as_str(),
            false => CLIENTS,
        };
        for (a, b) in held.difference(&self.held) {
            cluster.sim.hold(name(*a), name(*b));
        }
        for (a, b) in self.held.difference(&held) {
            cluster.sim.release(name(*a), name(*b));
        }
        self.held = held;
    }
}
