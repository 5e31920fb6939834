//! A network of membership drivers in virtual time, for tests: one seed, one trace.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use foca::Member;
use foca::State;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use xxhash_rust::xxh3::Xxh3;

use crate::cluster::membership::ClusterId;
use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::Membership;
use crate::cluster::membership::MembershipSettings;
use crate::cluster::membership::NodeId;
use crate::cluster::membership::Output;
use crate::cluster::membership::record::RecordHeader;
use crate::time::Moment;

/// One host: a process, perhaps stopped or dead, and what its shell has been told.
pub struct Host {
    pub addr: SocketAddr,
    pub membership: Option<Membership>,
    pub told: Vec<(Moment, Output)>,
    stopped_until: Option<Moment>,
    socket: VecDeque<Vec<u8>>,
    /// When it is to be woken.
    due: Option<Moment>,
}

/// The network and its hosts. Public fields are the weather; change them at any time.
pub struct Simulation {
    pub now: Moment,
    pub hosts: Vec<Host>,
    /// Probability that a datagram is lost.
    pub loss: f64,
    /// Probability that a datagram has some bits flipped.
    pub corruption: f64,
    /// One-way delay in microseconds.
    pub delay: Range<u64>,
    /// Links that carry nothing, from and to.
    pub cuts: BTreeSet<(usize, usize)>,
    /// Whether the process of a checked member answers by TCP, if it runs.
    pub tcp_answers: bool,
    /// Datagrams that a stopped process' socket holds.
    pub socket_queue_max: usize,
    settings: MembershipSettings,
    rng: StdRng,
    /// Datagrams underway.
    pub wire: BTreeMap<(Moment, u64), (SocketAddr, Vec<u8>)>,
    sent: u64,
    trace: Xxh3,
    by_addr: BTreeMap<SocketAddr, usize>,
    /// When which host is to be woken.
    due: BTreeSet<(Moment, usize)>,
}

pub fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250) as u8 + 1], 31_338))
}

pub fn node(index: usize) -> NodeId {
    NodeId::of_name(&format!("node-{index}"))
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Membership {
    /// Knows these members and the first record of each, and has nothing to tell about them.
    fn acquaint(&mut self, all: &[Identity], now: Moment) {
        let others = || all.iter().filter(|other| other.node != self.identity.node);
        for Identity { node, generation, .. } in others() {
            let header = RecordHeader { node: *node, generation: *generation, revision: 1 };
            self.records.book().take(header);
        }
        let alive = |other: &Identity| Member::new(*other, 0, State::Alive);
        let alive: Vec<Member<Identity>> = others().map(alive).collect();
        let result = self.foca.apply_many(alive.into_iter(), false, &mut self.collected);
        self.note_error(result);
        // What is to be sent because of that they know too.
        self.settle(now, &mut Vec::new());
    }
}

impl Simulation {
    /// `count` nodes of one cluster, none of which knows another.
    pub fn new(seed: u64, count: usize) -> Self {
        Self::with_settings(seed, count, MembershipSettings::default())
    }

    pub fn with_settings(seed: u64, count: usize, settings: MembershipSettings) -> Self {
        let host = |index| Host {
            addr: addr(index),
            membership: None,
            told: Vec::new(),
            stopped_until: None,
            socket: VecDeque::new(),
            due: None,
        };
        let mut simulation = Self {
            now: Moment::from_millis(1_000),
            hosts: (0..count).map(host).collect(),
            loss: 0.0,
            corruption: 0.0,
            delay: 100..600,
            cuts: BTreeSet::new(),
            tcp_answers: false,
            socket_queue_max: 256,
            settings,
            rng: StdRng::seed_from_u64(seed),
            wire: BTreeMap::new(),
            sent: 0,
            trace: Xxh3::new(),
            by_addr: (0..count).map(|index| (addr(index), index)).collect(),
            due: BTreeSet::new(),
        };
        (0..count).for_each(|index| simulation.start(index, "ours", 1_000 + index as u64));
        simulation
    }

    /// `count` nodes that know each other already.
    pub fn joined(seed: u64, count: usize) -> Self {
        let mut simulation = Self::new(seed, count);
        simulation.join_all();
        simulation.run(millis(2_000));
        assert!(simulation.is_complete(), "seed {seed}: {count} nodes did not find each other");
        simulation.hosts.iter_mut().for_each(|host| host.told.clear());
        simulation
    }

    /// Starts a process on a host, in place of whatever ran there.
    pub fn start(&mut self, index: usize, cluster: &str, generation: u64) {
        let identity =
            Identity { node: node(index), generation: Generation::from_raw(generation), addr: addr(index) };
        let rng = StdRng::seed_from_u64(self.rng.random());
        let cluster = ClusterId::of_name(cluster);
        let settings = self.settings.clone();
        let membership = Membership::new(identity, cluster, settings, rng, self.now);
        self.put(index, Some(membership));
        self.hosts[index].socket.clear();
    }

    /// Puts a process on a host in place of whatever ran there, or none.
    pub fn put(&mut self, index: usize, membership: Option<Membership>) {
        self.hosts[index].membership = membership;
        self.set_due(index);
    }

    fn set_due(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let due = host.membership.as_ref().and_then(|running| host.stopped_until.or(running.deadline()));
        let before = std::mem::replace(&mut host.due, due);
        if before != due {
            if let Some(at) = before {
                self.due.remove(&(at, index));
            }
            self.due.extend(due.map(|at| (at, index)));
        }
    }

    /// All know each other and the first record of each, as if that had long been told: to find each other
    /// takes so many too long.
    pub fn acquaint_all(&mut self) {
        let all: Vec<Identity> = (0..self.hosts.len()).map(|index| self.identity(index)).collect();
        let count = all.len() as u32;
        for index in 0..all.len() {
            // Not all in step.
            let now = self.now + self.settings.probe_period * index as u32 / count;
            let membership = self.hosts[index].membership.as_mut().expect("the process runs");
            membership.acquaint(&all, now);
            self.set_due(index);
        }
    }

    /// Everybody announces to the first node.
    pub fn join_all(&mut self) {
        let seed = self.identity(0);
        (1..self.hosts.len()).for_each(|index| self.announce(index, seed));
    }

    pub fn announce(&mut self, index: usize, to: Identity) {
        self.with(index, |membership, now, out| membership.announce(to, now, out));
    }

    pub fn kill(&mut self, index: usize) {
        self.put(index, None);
    }

    pub fn stop(&mut self, index: usize, duration: Duration) {
        self.hosts[index].stopped_until = Some(self.now + duration);
        self.set_due(index);
    }

    /// No datagram passes between the two groups.
    pub fn split(&mut self, left: &[usize], right: &[usize]) {
        for (l, r) in left.iter().flat_map(|l| right.iter().map(move |r| (*l, *r))) {
            self.cuts.extend([(l, r), (r, l)]);
        }
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    pub fn identity(&self, index: usize) -> Identity {
        self.membership(index).identity()
    }

    pub fn membership(&self, index: usize) -> &Membership {
        self.hosts[index].membership.as_ref().expect("the process runs")
    }

    /// Feeds an input and carries out what comes of it.
    pub fn with<R>(
        &mut self,
        index: usize,
        input: impl FnOnce(&mut Membership, Moment, &mut Vec<Output>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let membership = self.hosts[index].membership.as_mut().expect("the process runs");
        let result = input(membership, self.now, &mut out);
        self.set_due(index);
        self.carry_out(index, out);
        result
    }

    fn carry_out(&mut self, index: usize, outputs: Vec<Output>) {
        for output in outputs {
            self.trace.update(&self.now.as_micros().to_le_bytes());
            match output {
                Output::Send { to, bytes } => self.transmit(index, to, bytes),
                Output::Check(identity) => {
                    let target = self.hosts.iter().position(|host| {
                        host.membership.as_ref().is_some_and(|m| m.identity() == identity)
                            && host.stopped_until.is_none()
                    });
                    if self.tcp_answers && target.is_some() {
                        self.with(index, |membership, _, _| membership.peer_answered(identity));
                    }
                    self.hosts[index].told.push((self.now, Output::Check(identity)));
                }
                told => {
                    self.trace.update(format!("{told:?}").as_bytes());
                    self.hosts[index].told.push((self.now, told));
                }
            }
        }
    }

    fn transmit(&mut self, from: usize, to: SocketAddr, mut bytes: Vec<u8>) {
        assert!(bytes.len() <= crate::cluster::membership::DATAGRAM_BYTES_MAX);
        self.trace.update(&bytes);
        let target = self.by_addr.get(&to).copied();
        let is_cut = target.is_none_or(|to| self.cuts.contains(&(from, to)));
        if is_cut || self.rng.random_bool(self.loss) {
            return;
        }
        if self.rng.random_bool(self.corruption) {
            for _ in 0..self.rng.random_range(1..4) {
                let bit = self.rng.random_range(0..bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        let delay = Duration::from_micros(self.rng.random_range(self.delay.clone()));
        self.sent += 1;
        self.wire.insert((self.now + delay, self.sent), (to, bytes));
    }

    /// Runs for a while.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `is_done` or for `limit`; how long it took, if it came to be.
    pub fn run_until(&mut self, limit: Duration, mut is_done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !is_done(self) {
            if !self.step(start + limit) {
                self.now = start + limit;
                return None;
            }
        }
        Some(self.now.since(start))
    }

    /// Handles the next event, if it comes before `end`.
    fn step(&mut self, end: Moment) -> bool {
        let wire = self.wire.first_key_value().map(|((at, _), _)| *at);
        let host = self.due.first().copied();
        let at = match (wire, host) {
            (None, None) => return false,
            (wire, host) => wire
                .unwrap_or(Moment::from_micros(u64::MAX))
                .min(host.map_or(Moment::from_micros(u64::MAX), |h| h.0)),
        };
        if at > end {
            return false;
        }
        self.now = self.now.max(at);
        match (wire, host) {
            (Some(arrival), _) if arrival == at => self.arrive(),
            (_, Some((_, index))) => self.wake(index),
            (_, None) => return false,
        }
        true
    }

    fn arrive(&mut self) {
        let Some((_, (to, bytes))) = self.wire.pop_first() else { return };
        let Some(index) = self.by_addr.get(&to).copied() else { return };
        let host = &mut self.hosts[index];
        match (host.stopped_until.is_some(), host.membership.is_some()) {
            (true, _) if host.socket.len() < self.socket_queue_max => host.socket.push_back(bytes),
            (false, true) => self.with(index, |membership, now, out| {
                let _ = membership.handle_packet(&bytes, now, out);
            }),
            (true, _) | (false, false) => {}
        }
    }

    /// A deadline has come, or a stopped process goes on: timers first, the worse order.
    fn wake(&mut self, index: usize) {
        let was_stopped = self.hosts[index].stopped_until.take().is_some();
        self.set_due(index);
        if self.hosts[index].membership.is_none() {
            return;
        }
        self.with(index, |membership, now, out| membership.handle_time(now, out));
        if was_stopped {
            for bytes in std::mem::take(&mut self.hosts[index].socket) {
                self.with(index, |membership, now, out| {
                    let _ = membership.handle_packet(&bytes, now, out);
                });
            }
        }
    }

    /// The running processes.
    pub fn running(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|index| self.hosts[*index].membership.is_some()).collect()
    }

    /// Whether every running process knows exactly the present lives of all others.
    pub fn is_complete(&self) -> bool {
        self.is_complete_among(&self.running())
    }

    /// The same within a group.
    pub fn is_complete_among(&self, group: &[usize]) -> bool {
        let all: BTreeSet<Identity> = group.iter().map(|index| self.identity(*index)).collect();
        group.iter().all(|index| {
            let membership = self.membership(*index);
            let mut members =
                membership.members().map(|member| member.identity).chain([membership.identity()]);
            membership.members().count() + 1 == all.len() && members.all(|identity| all.contains(&identity))
        })
    }

    /// What all shells were told that `wanted` picks, with when and where.
    pub fn told(&self, wanted: impl Fn(&Output) -> bool) -> Vec<(Moment, usize, Output)> {
        let all = self.hosts.iter().enumerate();
        all.flat_map(|(index, host)| host.told.iter().map(move |(at, output)| (*at, index, output.clone())))
            .filter(|(_, _, output)| wanted(output))
            .collect()
    }

    /// All deaths reported.
    pub fn deaths(&self) -> Vec<(Moment, usize, Output)> {
        self.told(|output| matches!(output, Output::Down(_)))
    }

    /// A digest of everything that happened.
    pub fn trace(&self) -> u64 {
        self.trace.digest()
    }
}
