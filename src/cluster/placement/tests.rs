//! Several placements in one thread, with a network between them that delivers in random order
//! between pairs and in order within one.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::net::SocketAddr;

use proptest::prelude::*;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::cluster::example::record;
use crate::cluster::membership::Generation;
use crate::cluster::removal::Removal;
use crate::time::Timestamp;

const STEP: Duration = Duration::from_millis(100);

enum Message {
    Record(Record),
    Pull(PullId, PartitionSet),
    PullDone(PullId, PartitionSet),
    TakeOver(PartitionSet),
    Offer(PartitionSet),
    HandOver(HandOver),
    Removed(Vec<Removal>),
}

fn leave(placement: &mut Placement, now: Moment, out: &mut Vec<Output>) {
    placement.leave(false, now, out);
}

struct Node {
    placement: Placement,
    /// What the node was told last: the rest of it knows no other view.
    shown: Arc<View>,
    identity: Identity,
    is_up: bool,
    events: Vec<Event>,
    has_left: bool,
    is_barred: bool,
    hang_ups: usize,
}

/// Links are indexed by (from, to).
struct Net {
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), VecDeque<Message>>,
    rng: StdRng,
    now: Moment,
}

fn identity(number: usize, generation: u64) -> Identity {
    let addr = SocketAddr::from(([127, 0, 0, 1], 1_000 + number as u16));
    Identity {
        node: NodeId::of_name(&format!("node-{number}")),
        generation: Generation::from_raw(generation),
        addr,
    }
}

impl Net {
    fn new(seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            links: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            now: Moment::from_millis(1),
        }
    }

    fn with_nodes(seed: u64, count: usize) -> Self {
        let mut net = Self::new(seed);
        (0..count).for_each(|_| net.add());
        net.run_until_quiet();
        net
    }

    fn of_four_with_three_copies(seed: u64) -> Self {
        let mut net = Self::new(seed);
        for number in 0..4 {
            let settings = PlacementSettings { copies: 3, ..PlacementSettings::default() };
            net.nodes.push(net.spawn_with(settings, number, 1));
            net.introduce(number);
        }
        net.run_until_quiet();
        net
    }

    fn spawn(&self, number: usize, generation: u64) -> Node {
        self.spawn_with(PlacementSettings::default(), number, generation)
    }

    fn spawn_with(&self, settings: PlacementSettings, number: usize, generation: u64) -> Node {
        let identity = identity(number, generation);
        let record = record(identity, &format!("node-{number}"));
        let placement = Placement::new(settings, identity, record, self.now);
        Node {
            shown: Arc::clone(placement.view()),
            placement,
            identity,
            is_up: true,
            events: Vec::new(),
            has_left: false,
            is_barred: false,
            hang_ups: 0,
        }
    }

    fn add(&mut self) {
        self.nodes.push(self.spawn(self.nodes.len(), 1));
        self.introduce(self.nodes.len() - 1);
    }

    fn restart(&mut self, number: usize) {
        self.links.retain(|(from, to), _| *from != number && *to != number);
        let generation = self.nodes[number].identity.generation.as_raw() + 1;
        self.nodes[number] = self.spawn(number, generation);
        self.introduce(number);
    }

    /// As membership and the exchange of records over a new link do it.
    fn introduce(&mut self, number: usize) {
        for other in self.others(number) {
            for (at, of) in [(number, other), (other, number)] {
                let identity = self.nodes[of].identity;
                let record = Record::clone(self.nodes[of].placement.record());
                self.act(at, |placement, now, out| placement.member_alive(identity, now, out));
                for departed in self.nodes[of].placement.departed(self.now) {
                    self.act(at, |placement, now, out| placement.remember(departed, now, out));
                }
                self.links.entry((of, at)).or_default().push_back(Message::Record(record));
            }
        }
        self.act(number, Placement::joined);
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number].is_up = false;
        self.links.retain(|(from, to), _| *from != number && *to != number);
        let identity = self.nodes[number].identity;
        for other in self.others(number) {
            self.act(other, |placement, now, out| placement.member_down(identity, now, out));
        }
    }

    fn others(&self, number: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|other| *other != number && self.nodes[*other].is_up).collect()
    }

    fn number_of(&self, node: NodeId) -> usize {
        self.nodes.iter().position(|other| other.identity.node == node).unwrap()
    }

    fn act(&mut self, at: usize, step: impl FnOnce(&mut Placement, Moment, &mut Vec<Output>)) {
        let mut out = Vec::new();
        step(&mut self.nodes[at].placement, self.now, &mut out);
        for output in out {
            match output {
                Output::View(view) => self.nodes[at].shown = view,
                Output::Purge(_) => {}
                Output::Record(record) => {
                    for other in self.others(at) {
                        self.links
                            .entry((at, other))
                            .or_default()
                            .push_back(Message::Record(Record::clone(&record)));
                    }
                }
                Output::Pull { source, id, partitions, .. } => {
                    self.send(at, source, Message::Pull(id, partitions));
                }
                Output::Offer { to, partitions } => self.send(at, to, Message::Offer(partitions)),
                Output::TakeOver { primary, partitions } => {
                    self.send(at, primary, Message::TakeOver(partitions));
                }
                Output::HandOver { to, given } => self.send(at, to, Message::HandOver(given)),
                Output::Event(event) => self.nodes[at].events.push(event),
                Output::Left => self.nodes[at].has_left = true,
                Output::Removed(removals) => {
                    for other in self.others(at) {
                        let message = Message::Removed(removals.clone());
                        self.links.entry((at, other)).or_default().push_back(message);
                    }
                }
                Output::Barred => self.nodes[at].is_barred = true,
                Output::HangUp => self.nodes[at].hang_ups += 1,
            }
        }
    }

    fn send(&mut self, at: usize, to: NodeId, message: Message) {
        let to = self.number_of(to);
        self.links.entry((at, to)).or_default().push_back(message);
    }

    /// Delivers one message of a random link. False: there is none.
    fn deliver_one(&mut self) -> bool {
        self.links.retain(|_, queue| !queue.is_empty());
        if self.links.is_empty() {
            return false;
        }
        let chosen = self.rng.random_range(0..self.links.len());
        let (&(from, to), queue) = self.links.iter_mut().nth(chosen).unwrap();
        let message = queue.pop_front().unwrap();
        if !self.nodes[to].is_up {
            return true;
        }
        let sender = self.nodes[from].identity.node;
        match message {
            Message::Record(record) => self.act(to, |p, now, out| p.record_arrived(record, now, out)),
            Message::Pull(id, wants) => {
                // As a shard answers: with what it serves, or both have.
                let source = &self.nodes[to].placement;
                let is_synced_there = |p: Partition| {
                    source
                        .view()
                        .member(sender)
                        .is_some_and(|m| m.is_current() && m.record.synced.contains(p))
                };
                let is_complete = |p: &Partition| {
                    source.record().synced.contains(*p)
                        && (source.view().is_primary(*p) || is_synced_there(*p))
                };
                let complete = wants.iter().filter(is_complete).collect();
                self.links.entry((to, from)).or_default().push_back(Message::PullDone(id, complete));
            }
            Message::PullDone(id, complete) => {
                self.act(to, |p, now, out| p.pull_done(sender, id, &complete, now, out));
            }
            Message::Offer(partitions) => {
                self.act(to, |p, now, out| p.offered(sender, &partitions, now, out))
            }
            Message::TakeOver(asked) => {
                self.act(to, |p, now, out| p.take_over_asked(sender, &asked, now, out))
            }
            Message::Removed(removals) => self.act(to, |p, now, out| p.remove(&removals, now, out)),
            Message::HandOver(given) => self.act(to, |p, now, out| p.handed_over(sender, &given, now, out)),
        }
        true
    }

    fn tick(&mut self) {
        self.now = self.now + STEP;
        for number in (0..self.nodes.len()).filter(|n| self.nodes[*n].is_up).collect::<Vec<_>>() {
            self.act(number, Placement::handle_time);
        }
    }

    /// Delivers all, with time passing, for longer than anything is waited for.
    fn run_until_quiet(&mut self) {
        for _ in 0..50 {
            while self.deliver_one() {}
            self.tick();
        }
    }

    fn live(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_up)
    }

    fn assert_agreed(&self) {
        self.live().for_each(|node| assert!(node.shown.is_same(node.placement.view()), "not shown"));
        let views: BTreeSet<u32> = self.live().map(|node| node.placement.view().fingerprint()).collect();
        assert_eq!(views.len(), 1, "views differ: {}", self.difference());
        for partition in Partition::all() {
            let is_primary = |node: &&Node| node.placement.view().is_primary(partition);
            assert_eq!(self.live().filter(is_primary).count(), 1, "primaries of {partition}");
        }
    }

    fn difference(&self) -> String {
        let [first, rest @ ..] = &self.live().collect::<Vec<_>>()[..] else { return String::new() };
        let all = |other: &&Node| {
            let (ours, theirs) = (first.placement.view(), other.placement.view());
            let partition = Partition::all().find(|p| ours.roles(*p) != theirs.roles(*p));
            partition.map(|p| {
                format!(
                    "{p}: {:?} {:?} {:?}",
                    ours.roles(p),
                    theirs.roles(p),
                    ours.members()
                        .iter()
                        .zip(theirs.members())
                        .map(|(a, b)| (
                            a.liveness,
                            b.liveness,
                            a.record.revision,
                            b.record.revision,
                            a.record.synced == b.record.synced
                        ))
                        .collect::<Vec<_>>()
                )
            })
        };
        rest.iter().filter_map(all).collect::<Vec<_>>().join("; ")
    }

    fn assert_settled(&self) {
        self.assert_agreed();
        for node in self.live() {
            assert!(node.placement.view().is_settled(), "not settled");
            assert!(!node.placement.is_healing(), "something is still to be pulled");
        }
    }

    fn events(&self, number: usize) -> &[Event] {
        &self.nodes[number].events
    }

    fn lost(&self) -> usize {
        self.nodes
            .iter()
            .flat_map(|node| &node.events)
            .filter(|event| matches!(event, Event::Lost { .. }))
            .count()
    }
}

#[test]
fn a_node_without_seeds_claims_all_partitions_once_it_has_given_up_joining() {
    let mut net = Net::new(1);
    let node = net.spawn(0, 1);
    net.nodes.push(node);
    net.tick();
    assert!(net.nodes[0].placement.record().synced.is_empty());
    net.act(0, Placement::joined);
    assert_eq!(net.nodes[0].placement.record().synced, PartitionSet::full());
    assert_eq!(net.events(0), [Event::Claimed { partitions: PartitionSet::full() }]);
}

#[test]
fn a_node_claims_nothing_while_it_lacks_the_record_of_a_live_member() {
    let mut net = Net::new(1);
    for number in 0..2 {
        let node = net.spawn(number, 1);
        net.nodes.push(node);
    }
    let other = net.nodes[1].identity;
    net.act(0, |placement, now, out| placement.member_alive(other, now, out));
    net.act(0, Placement::joined);
    assert!(net.nodes[0].placement.record().synced.is_empty());
    let full = Record { synced: PartitionSet::full(), ..record(other, "node-1") };
    net.act(0, |placement, now, out| placement.record_arrived(full, now, out));
    assert!(net.nodes[0].placement.record().synced.is_empty());
    assert!(net.nodes[0].placement.view().primary(Partition::new(0).unwrap()) == Some(other.node));
}

#[test]
fn a_record_that_comes_before_the_first_sign_of_life_is_kept_however_old_this_node_is() {
    let mut net = Net::new(1);
    net.now = Moment::from_millis(3_600_000);
    let node = net.spawn(0, 1);
    net.nodes.push(node);
    let other = identity(1, 1);
    let record = record(other, "node-1");
    net.act(0, |placement, now, out| placement.record_arrived(record, now, out));
    net.tick();
    net.act(0, |placement, now, out| placement.member_alive(other, now, out));
    assert!(net.nodes[0].placement.view().member(other.node).is_some());
}

#[test]
fn a_node_that_joins_does_not_take_empty_what_a_member_holds_that_it_only_heard_of() {
    let mut net = Net::new(1);
    net.now = Moment::from_millis(10_000);
    for number in 0..3 {
        let node = net.spawn(number, 1);
        net.nodes.push(node);
    }
    let (seed, holder) = (net.nodes[1].identity, net.nodes[2].identity);
    let full = Record { synced: PartitionSet::full(), ..record(holder, "node-2") };
    net.act(0, |placement, now, out| {
        placement.record_arrived(record(seed, "node-1"), now, out);
        placement.record_arrived(full, now, out);
        placement.member_alive(seed, now, out);
        placement.joined(now, out);
    });
    assert!(net.nodes[0].placement.record().synced.is_empty());
    net.act(0, |placement, now, out| placement.member_alive(holder, now, out));
    assert!(net.nodes[0].placement.view().primary(Partition::new(0).unwrap()) == Some(holder.node));
}

#[test]
fn a_node_that_was_found_by_one_member_claims_nothing_before_that_has_told_of_the_others() {
    let mut net = Net::new(1);
    for number in 0..3 {
        let node = net.spawn(number, 1);
        net.nodes.push(node);
    }
    let (finder, holder) = (net.nodes[1].identity, net.nodes[2].identity);
    let full = Record { synced: PartitionSet::full(), ..record(holder, "node-2") };
    net.act(0, |placement, now, out| {
        placement.record_arrived(record(finder, "node-1"), now, out);
        placement.member_alive(finder, now, out);
    });
    assert!(net.nodes[0].placement.record().synced.is_empty());
    net.act(0, |placement, now, out| {
        placement.record_arrived(full, now, out);
        placement.link_up(finder.node, now, out);
    });
    assert!(net.nodes[0].placement.record().synced.is_empty());
}

#[test]
fn nodes_that_join_take_their_share_by_planned_moves() {
    let net = Net::with_nodes(7, 4);
    net.assert_settled();
    assert_eq!(net.lost(), 0);
    let is_promotion = |event: &Event| matches!(event, Event::Promoted { .. });
    assert!(!net.nodes.iter().flat_map(|node| &node.events).any(is_promotion));
    for node in &net.nodes {
        let share = node.placement.view().primaries_of(node.identity.node).len();
        assert!((781..=1_105).contains(&share), "{share}, more or less than bounds of 8 % allow");
    }
}

#[test]
fn the_replicas_of_a_killed_primary_promote_themselves_at_once_and_each_partition_once() {
    let mut net = Net::with_nodes(3, 3);
    let dead = net.nodes[1].identity.node;
    let had = net.nodes[0].placement.view().primaries_of(dead);
    net.kill(1);
    net.assert_agreed();
    let mut promoted = PartitionSet::new();
    for event in net.nodes.iter().flat_map(|node| &node.events) {
        if let Event::Promoted { partitions, former } = event {
            assert_eq!(*former, dead);
            partitions
                .iter()
                .for_each(|partition| assert!(promoted.insert(partition), "{partition} promoted twice"));
        }
    }
    assert_eq!(promoted, had);
    assert_eq!(net.lost(), 0);
}

#[test]
fn an_empty_restart_of_a_primary_loses_nothing() {
    let mut net = Net::with_nodes(3, 2);
    net.restart(0);
    let empty = net.nodes[0].placement.view().primaries_of(net.nodes[0].identity.node);
    assert!(empty.is_empty());
    net.run_until_quiet();
    net.assert_settled();
    assert_eq!(net.lost(), 0);
}

#[test]
fn a_copy_that_is_missing_for_long_is_rebuilt_on_the_next_member() {
    let mut net = Net::with_nodes(5, 4);
    net.kill(2);
    net.run_until_quiet();
    let view = net.nodes[0].placement.view();
    assert!(!view.is_settled() || net.now.since(Moment::default()) > Duration::from_secs(10));
    (0..3).for_each(|_| net.run_until_quiet());
    for partition in Partition::all() {
        let roles = net.nodes[0].placement.view().roles(partition);
        assert_eq!(roles.holders.len(), 2, "{partition}: {roles:?}");
    }
    net.restart(2);
    net.run_until_quiet();
    net.assert_settled();
    assert_eq!(net.lost(), 0);
}

#[test]
fn copies_that_are_wanted_again_before_they_are_dropped_leave_all_nodes_settled() {
    let mut net = Net::with_nodes(3, 2);
    net.add();
    while net.deliver_one() {}
    net.act(2, leave);
    while net.deliver_one() {}
    assert!(net.nodes[2].has_left);
    let dropped = |net: &Net| {
        net.nodes.iter().flat_map(|node| &node.events).any(|e| matches!(e, Event::Dropped { .. }))
    };
    assert!(!dropped(&net), "the others have all of their copies still");
    let left = net.now;
    net.kill(2);
    while net.now.since(left) < PlacementSettings::default().rereplicate_after {
        net.run_until_quiet();
    }
    assert!(!dropped(&net));
    net.assert_settled();
}

#[test]
fn partitions_whose_copies_are_all_dead_are_taken_empty_and_reported() {
    let mut net = Net::with_nodes(9, 3);
    net.kill(0);
    net.kill(1);
    net.run_until_quiet();
    net.assert_agreed();
    assert!(net.lost() > 0);
}

#[test]
fn a_leaving_node_gives_every_role_away_before_it_says_that_it_has_left() {
    for seed in 0..5 {
        let mut net = Net::with_nodes(seed, 3);
        net.act(0, leave);
        assert!(net.nodes[0].has_left, "every partition has a synced replica");
        net.run_until_quiet();
        let leaver = net.nodes[0].identity.node;
        assert!(net.nodes[1].placement.view().primaries_of(leaver).is_empty());
        net.kill(0);
        net.assert_agreed();
        let promoted = |event: &Event| matches!(event, Event::Promoted { .. } | Event::Lost { .. });
        assert!(!net.nodes.iter().flat_map(|node| &node.events).any(promoted));
    }
}

#[test]
fn who_leaves_for_good_stays_until_its_copies_are_rebuilt_and_is_then_forgotten_by_all() {
    for seed in 0..5 {
        let mut net = Net::with_nodes(seed, 4);
        net.act(0, |placement, now, out| placement.leave(true, now, out));
        assert!(!net.nodes[0].has_left, "some partitions have a single copy without it");
        while net.deliver_one() {
            if !net.nodes[0].has_left {
                continue;
            }
            let view = net.nodes[0].placement.view();
            for partition in Partition::all() {
                let copies =
                    net.nodes[1..].iter().filter(|n| n.placement.record().synced.contains(partition));
                assert!(copies.count() >= 2, "{partition}: {:?}", view.roles(partition));
            }
        }
        net.run_until_quiet();
        assert!(net.nodes[0].has_left);
        let Identity { node, generation, .. } = net.nodes[0].identity;
        let removal = Removal { node, until: generation, at: Timestamp::from_millis(1) };
        net.act(1, |placement, now, out| placement.remove(&[removal], now, out));
        net.kill(0);
        net.run_until_quiet();
        net.assert_settled();
        assert!(net.live().all(|other| other.placement.view().member(node).is_none()));
        let harmed = |event: &Event| matches!(event, Event::Promoted { .. } | Event::Lost { .. });
        assert!(!net.nodes.iter().flat_map(|node| &node.events).any(harmed));
        // Started again, it is a newcomer.
        net.restart(0);
        net.run_until_quiet();
        net.assert_settled();
        assert_eq!(net.nodes[1].placement.view().members().len(), 4);
    }
}

#[test]
fn a_single_node_can_leave_for_good_and_one_that_only_stops_waits_for_no_copy() {
    let mut net = Net::with_nodes(1, 1);
    net.act(0, |placement, now, out| placement.leave(true, now, out));
    assert!(net.nodes[0].has_left);
    let mut net = Net::with_nodes(1, 3);
    net.act(0, |placement, now, out| placement.leave(true, now, out));
    assert!(!net.nodes[0].has_left);
    net.act(0, leave);
    assert!(net.nodes[0].has_left);
    net.nodes[0].has_left = false;
    net.act(0, leave);
    assert!(net.nodes[0].has_left, "who asks later is told too");
}

#[test]
fn a_forgotten_node_is_off_the_ring_at_once_and_stays_so_in_every_later_life() {
    let mut net = Net::with_nodes(3, 4);
    let forget = |net: &mut Net, name: &str| {
        let mut result = None;
        let at = Timestamp::from_millis(1);
        net.act(1, |placement, now, out| result = Some(placement.forget(name, at, now, out)));
        result.unwrap()
    };
    let lives = |name: &str| ForgetRefusal::Lives { name: name.to_owned() };
    assert_eq!(forget(&mut net, "node-0"), Err(lives("node-0")));
    assert_eq!(forget(&mut net, "node-1"), Err(lives("node-1")));
    net.kill(0);
    let unknown = ForgetRefusal::Unknown { name: "node-9".to_owned(), dead: vec!["node-0".to_owned()] };
    assert_eq!(forget(&mut net, "node-9"), Err(unknown));
    let forgotten = net.nodes[0].identity.node;
    let removal = forget(&mut net, "node-0").unwrap();
    assert_eq!(removal.node, forgotten);
    assert_eq!(forget(&mut net, "node-0"), Ok(removal), "who asks again is told the same");
    assert!(net.nodes[1].placement.view().member(forgotten).is_none());
    // Its copies are rebuilt without waiting for it to come back.
    while net.deliver_one() {}
    net.assert_settled();
    assert_eq!(net.lost(), 0);
    net.restart(0);
    net.run_until_quiet();
    assert!(net.nodes[1..].iter().all(|node| node.placement.view().member(forgotten).is_none()));
    // Whoever links to it tells it.
    let removals = net.nodes[1].placement.removals();
    net.act(0, |placement, now, out| placement.remove(&removals, now, out));
    assert!(net.nodes[0].is_barred && !net.nodes[1].is_barred);
}

#[test]
fn nodes_that_leave_all_at_once_do_not_wait_for_each_other() {
    let mut net = Net::with_nodes(6, 3);
    (0..3).for_each(|number| net.act(number, leave));
    while net.deliver_one() {}
    assert!(net.nodes.iter().all(|node| node.has_left));
}

#[test]
fn a_member_is_said_to_have_joined_once_in_each_of_its_lives_and_when_its_name_is_known() {
    let mut net = Net::with_nodes(4, 2);
    let joins = |net: &Net, who: NodeId| {
        let is_join = |event: &&Event| matches!(event, Event::Joined(identity) if identity.node == who);
        net.nodes[0].events.iter().filter(is_join).count()
    };
    let other = net.nodes[1].identity;
    assert_eq!(joins(&net, other.node), 1);
    net.act(0, |placement, now, out| placement.member_suspect(other, true, now, out));
    net.act(0, |placement, now, out| placement.member_suspect(other, false, now, out));
    assert_eq!(joins(&net, other.node), 1);
    net.act(0, |placement, now, out| placement.member_down(other, now, out));
    let again = Identity { generation: Generation::from_raw(other.generation.as_raw() + 1), ..other };
    net.act(0, |placement, now, out| placement.member_alive(again, now, out));
    assert_eq!(joins(&net, other.node), 2);
    let new = identity(7, 1);
    net.act(0, |placement, now, out| placement.member_alive(new, now, out));
    assert_eq!(joins(&net, new.node), 0);
    net.act(0, |placement, now, out| placement.record_arrived(record(new, "node-7"), now, out));
    assert_eq!(joins(&net, new.node), 1);
}

#[test]
fn a_node_that_leaves_and_cannot_hand_over_is_waited_for_no_longer_than_that_takes() {
    let mut net = Net::with_nodes(14, 2);
    let leaver = net.nodes[0].identity.node;
    let mut out = Vec::new();
    net.nodes[0].placement.leave(false, net.now, &mut out);
    // Its record arrives through others, its hand-over does not.
    let record = Record::clone(net.nodes[0].placement.record());
    net.act(1, |placement, now, out| placement.record_arrived(record, now, out));
    let served = |net: &Net| net.nodes[1].placement.view().primaries_of(net.nodes[1].identity.node).len();
    let before = served(&net);
    assert!(
        before < Partition::all().len() && !net.nodes[1].placement.view().primaries_of(leaver).is_empty()
    );
    net.now = net.now + 2 * PlacementSettings::default().hand_over_wait_max;
    net.act(1, Placement::handle_time);
    assert_eq!(served(&net), Partition::all().len());
}

#[test]
fn a_copy_that_nobody_wants_is_kept_while_a_member_is_suspected() {
    let mut net = Net::with_nodes(15, 3);
    net.add();
    while net.deliver_one() {}
    let suspect = net.nodes[3].identity;
    let stored = |net: &Net| (0..3).map(|n| net.nodes[n].placement.record().synced.len()).sum::<usize>();
    (0..3).for_each(|n| net.act(n, |p, now, out| p.member_suspect(suspect, true, now, out)));
    let before = stored(&net);
    net.run_until_quiet();
    assert_eq!(stored(&net), before);
    (0..3).for_each(|n| net.act(n, |p, now, out| p.member_suspect(suspect, false, now, out)));
    net.run_until_quiet();
    assert!(stored(&net) < before);
}

#[test]
fn who_joins_while_a_member_is_dead_computes_the_same_ring_as_the_others() {
    let mut net = Net::with_nodes(11, 4);
    net.kill(3);
    net.run_until_quiet();
    net.restart(1);
    net.add();
    net.run_until_quiet();
    net.assert_agreed();
    // The dead one is forgotten at one time by all, however late they heard of it.
    net.now = net.now + PlacementSettings::default().forget_after;
    net.run_until_quiet();
    net.assert_settled();
    assert!(net.live().all(|node| node.placement.view().members().len() == 4));
}

#[test]
fn what_a_node_has_when_it_gives_way_is_offered_to_the_others_and_pulled() {
    let mut net = Net::with_nodes(12, 3);
    let [stopped, other] = [0, 1].map(|number| net.nodes[number].identity.node);
    net.act(0, |placement, now, out| placement.stalled(now, out));
    net.act(0, |placement, now, out| placement.linked(other, true, now, out));
    let is_offer = |message: &Message| matches!(message, Message::Offer(_));
    assert!(net.links[&(0, 1)].iter().any(is_offer));
    let mut out = Vec::new();
    let served = net.nodes[1].placement.view().primaries_of(stopped);
    let offered: PartitionSet =
        served.iter().filter(|p| net.nodes[1].placement.record().synced.contains(*p)).collect();
    net.nodes[1].placement.offered(stopped, &offered, net.now, &mut out);
    let is_pull = |output: &Output| {
        matches!(output, Output::Pull { source, partitions, former: None, .. }
            if *source == stopped && *partitions == offered)
    };
    assert!(out.iter().any(is_pull), "{out:?}");
}

/// How many pulls there are of what a node that has gone may have sent to others last.
fn pulls_after(gone: Identity, out: &[Output]) -> usize {
    let is_one = |output: &&Output| matches!(output, Output::Pull { former: Some(former), .. } if *former == gone.node);
    out.iter().filter(is_one).count()
}

#[test]
fn the_copies_that_a_dead_primary_leaves_behind_pull_from_each_other_what_is_newer() {
    let mut net = Net::of_four_with_three_copies(13);
    let dead = net.nodes[3].identity;
    let mut out = Vec::new();
    net.nodes[0].placement.member_down(dead, net.now, &mut out);
    assert_eq!(pulls_after(dead, &out), 2, "from each of the two others: {out:?}");
}

#[test]
fn the_copies_of_a_primary_that_lived_on_where_it_was_not_seen_complete_each_other_when_it_is_back() {
    let mut net = Net::of_four_with_three_copies(13);
    let (unseen, now) = (net.nodes[3].identity, net.now);
    let mut record = Record::clone(net.nodes[3].placement.record());
    let node = &mut net.nodes[0].placement;
    let mut out = Vec::new();
    node.member_down(unseen, now, &mut out);
    assert_eq!(pulls_after(unseen, &out), 2, "it seems to be dead");
    let done: Vec<(NodeId, PullId)> = out
        .iter()
        .filter_map(|output| match output {
            Output::Pull { source, id, .. } => Some((*source, *id)),
            _ => None,
        })
        .collect();
    for (source, id) in done {
        node.pull_done(source, id, &PartitionSet::full(), now, &mut out);
    }
    record.revision += 1;
    node.record_arrived(record, now, &mut out);
    out.clear();
    node.member_alive(identity(3, 2), now, &mut out);
    assert_eq!(pulls_after(unseen, &out), 2, "it was not: {out:?}");
}

#[test]
fn what_had_come_from_a_source_that_died_in_the_middle_is_offered_to_the_others() {
    let mut net = Net::with_nodes(13, 3);
    let (source, now) = (net.nodes[1].identity, net.now);
    net.nodes[0] = net.spawn(0, 2);
    let mut out = Vec::new();
    let node = &mut net.nodes[0].placement;
    for (number, other) in [(1, source), (2, identity(2, 1))] {
        let mut record = record(other, &format!("node-{number}"));
        record.synced = PartitionSet::full();
        node.member_alive(other, now, &mut out);
        node.record_arrived(record, now, &mut out);
        node.link_up(other.node, now, &mut out);
    }
    let asked = out.iter().find_map(|output| match output {
        Output::Pull { source: from, partitions, .. } if *from == source.node => Some(partitions.clone()),
        _ => None,
    });
    out.clear();
    node.member_down(source, now, &mut out);
    let offered = out.iter().find_map(|output| match output {
        Output::Offer { to, partitions } if *to != source.node => Some(partitions.clone()),
        _ => None,
    });
    assert!(asked.is_some());
    assert_eq!(offered, asked);
}

#[test]
fn the_copies_that_a_primary_leaves_behind_which_handed_over_pull_from_each_other_too() {
    let mut net = Net::of_four_with_three_copies(13);
    let gone = net.nodes[3].identity;
    net.act(3, leave);
    net.run_until_quiet();
    assert!(net.nodes[0].placement.view().primaries_of(gone.node).is_empty(), "it has handed over");
    let mut out = Vec::new();
    net.nodes[0].placement.member_down(gone, net.now, &mut out);
    assert_eq!(pulls_after(gone, &out), 2, "from each of the two others: {out:?}");
}

#[test]
fn what_a_node_that_died_before_it_could_be_pulled_from_had_is_asked_of_whoever_pulled_from_it() {
    let mut net = Net::of_four_with_three_copies(13);
    let (gone, now) = (net.nodes[3].identity, net.now);
    let node = &mut net.nodes[0].placement;
    let mut out = Vec::new();
    // It was beyond a split with a part of what we have, and is seen again: our link to it does not come up.
    node.stream_gap(gone.node, now, &mut out);
    assert!(node.pulls.contains_key(&gone.node), "what it had is asked for: {out:?}");
    out.clear();
    node.member_down(gone, now, &mut out);
    let asked = out.iter().filter_map(|output| match output {
        Output::Pull { partitions, former: Some(former), .. } if *former == gone.node => Some(partitions),
        _ => None,
    });
    let mut all = PartitionSet::new();
    asked.for_each(|partitions| all.union_with(partitions));
    let both = |partition: &Partition| {
        node.view().has_copy(*partition) && node.peers.is_synced(gone.node, *partition)
    };
    assert_eq!(all, Partition::all().filter(both).collect());
}

#[test]
fn a_node_that_stood_still_gives_way_to_whoever_has_another_copy() {
    let mut net = Net::with_nodes(4, 3);
    let view = Arc::clone(net.nodes[0].placement.view());
    let before = view.primaries_of(net.nodes[0].identity.node);
    net.act(0, Placement::stalled);
    let view = net.nodes[0].placement.view();
    assert!(view.primaries_of(net.nodes[0].identity.node).is_empty());
    assert!(Partition::all().all(|partition| view.route(partition).is_none()), "clients wait meanwhile");
    net.run_until_quiet();
    net.assert_settled();
    assert_eq!(net.nodes[0].placement.view().primaries_of(net.nodes[0].identity.node), before);
    assert_eq!(net.lost(), 0);
    assert_eq!(net.nodes[0].hang_ups, 1);
}

#[test]
fn nodes_that_stood_still_together_go_on_as_before_once_they_have_linked_again() {
    let mut net = Net::with_nodes(4, 3);
    let before = net.nodes[0].placement.view().fingerprint();
    let nodes: Vec<NodeId> = net.nodes.iter().map(|node| node.identity.node).collect();
    (0..3).for_each(|number| net.act(number, Placement::stalled));
    assert!(net.nodes.iter().all(|n| n.placement.view().primaries_of(n.identity.node).is_empty()));
    for (at, node) in (0..3).flat_map(|at| nodes.iter().map(move |node| (at, *node))) {
        if nodes[at] != node {
            net.act(at, |placement, now, out| placement.linked(node, false, now, out));
        }
    }
    net.run_until_quiet();
    net.assert_settled();
    assert_eq!(net.nodes[0].placement.view().fingerprint(), before);
    assert_eq!(net.lost(), 0);
    let pulls: u64 = net.nodes.iter().map(|node| node.placement.pulls_started).sum();
    net.run_until_quiet();
    assert_eq!(net.nodes.iter().map(|node| node.placement.pulls_started).sum::<u64>(), pulls);
    assert!(net.nodes.iter().all(|node| node.hang_ups == 0), "nobody was replaced, so no client has to go");
}

#[test]
fn a_node_that_stood_still_gives_way_to_a_member_that_had_given_it_up() {
    let mut net = Net::with_nodes(4, 2);
    let other = net.nodes[1].identity.node;
    net.act(0, Placement::stalled);
    net.act(0, |placement, now, out| placement.linked(other, true, now, out));
    assert!(net.nodes[0].placement.record().synced.is_empty());
    assert_eq!(net.nodes[0].hang_ups, 1);
}

#[test]
fn the_successor_of_a_leaving_node_serves_on_its_hand_over_and_not_before() {
    let mut net = Net::with_nodes(4, 2);
    let leaver = net.nodes[0].identity.node;
    let had = net.nodes[0].placement.view().primaries_of(leaver);
    // As every stream does when it begins.
    net.act(1, |placement, now, out| placement.linked(leaver, true, now, out));
    net.run_until_quiet();
    net.act(0, leave);
    let record = Record::clone(net.nodes[0].placement.record());
    // The record overtakes the stream.
    net.act(1, |placement, now, out| placement.record_arrived(record, now, out));
    let served = |net: &Net| net.nodes[1].placement.view().primaries_of(net.nodes[1].identity.node);
    assert!(had.iter().all(|partition| !served(&net).contains(partition)));
    net.run_until_quiet();
    assert_eq!(served(&net), PartitionSet::full());
}

#[test]
fn a_hand_over_that_is_never_confirmed_is_taken_back() {
    let mut net = Net::with_nodes(4, 2);
    let partition =
        net.nodes[0].placement.view().primaries_of(net.nodes[0].identity.node).iter().next().unwrap();
    let by = net.nodes[1].identity.node;
    let asked: PartitionSet = [partition].into_iter().collect();
    // Node 1 is synced, so only a view in which node 0 no longer is primary can show the grant.
    let mut out = Vec::new();
    let now = net.now;
    net.nodes[0].placement.take_over_asked(by, &asked, now, &mut out);
    assert!(out.iter().any(|output| matches!(output, Output::HandOver { .. })));
    (0..25).for_each(|_| net.tick());
    assert!(net.nodes[0].placement.view().is_primary(partition));
    assert!(net.events(0).iter().any(|event| matches!(event, Event::GrantLapsed { .. })));
}

#[test]
fn a_view_follows_every_hand_over_and_every_lapse_even_if_it_is_the_same() {
    let mut net = Net::with_nodes(4, 2);
    let partition =
        net.nodes[0].placement.view().primaries_of(net.nodes[0].identity.node).iter().next().unwrap();
    let by = net.nodes[1].identity.node;
    let (now, mut out) = (net.now, Vec::new());
    // Node 1 does not precede: in our view we stay primary, but the shard has stopped serving.
    net.nodes[0].placement.take_over_asked(by, &[partition].into_iter().collect(), now, &mut out);
    let hand_over = out.iter().position(|output| matches!(output, Output::HandOver { .. })).unwrap();
    let is_view = |output: &Output| matches!(output, Output::View(view) if view.is_primary(partition));
    assert!(out[hand_over..].iter().any(is_view));
    out.clear();
    net.nodes[0].placement.handle_time(now + Duration::from_secs(2), &mut out);
    assert!(out.iter().any(is_view));
}

#[test]
fn what_the_source_of_a_pull_does_not_have_is_not_synced_and_asked_for_again() {
    let mut net = Net::with_nodes(4, 2);
    net.restart(0);
    let source = net.nodes[1].identity.node;
    while !net.nodes[0].placement.pulls.contains_key(&source) {
        assert!(net.deliver_one());
    }
    let pulling = net.nodes[0].placement.pulls[&source].clone();
    let missing = pulling.partitions.iter().next().unwrap();
    let mut complete = pulling.partitions.clone();
    complete.remove(missing);
    let (now, mut out) = (net.now, Vec::new());
    net.nodes[0].placement.pull_done(source, pulling.id, &complete, now, &mut out);
    assert!(!net.nodes[0].placement.record().synced.contains(missing));
    assert!(!out.iter().any(|output| matches!(output, Output::Pull { .. })), "not at once");
    net.nodes[0].placement.handle_time(now + Placement::TICK, &mut out);
    let is_asked =
        |output: &Output| matches!(output, Output::Pull { partitions, .. } if partitions.contains(missing));
    assert!(out.iter().any(is_asked));
}

#[test]
fn a_node_whose_record_came_before_its_membership_is_waited_for_with_claims() {
    let mut net = Net::new(1);
    for number in 0..3 {
        let node = net.spawn(number, 1);
        net.nodes.push(node);
    }
    // Node 0 joins through node 1 and learns there that node 2 exists, which has everything.
    let (seed, owner) = (net.nodes[1].identity, net.nodes[2].identity);
    let empty = record(seed, "node-1");
    let full = Record { synced: PartitionSet::full(), ..record(owner, "node-2") };
    net.act(0, |placement, now, out| placement.record_arrived(empty, now, out));
    net.act(0, |placement, now, out| placement.record_arrived(full, now, out));
    net.act(0, |placement, now, out| placement.member_alive(seed, now, out));
    net.act(0, Placement::joined);
    assert!(net.nodes[0].placement.record().synced.is_empty());
    net.act(0, |placement, now, out| placement.member_alive(owner, now, out));
    let view = net.nodes[0].placement.view();
    assert!(Partition::all().all(|partition| view.primary(partition) == Some(owner.node)));
    // But not for ever: it may have been gone long ago.
    let mut net = Net::with_nodes(1, 1);
    let gone = record(owner, "node-2");
    net.act(0, |placement, now, out| placement.record_arrived(gone, now, out));
    net.now = net.now + Duration::from_secs(4);
    assert!(!net.nodes[0].placement.peers.has_unknown(net.now));
}

#[test]
fn a_repair_goes_on_when_its_source_was_taken_for_dead_meanwhile() {
    let mut net = Net::with_nodes(4, 2);
    let source = net.nodes[1].identity;
    let (now, mut out) = (net.now, Vec::new());
    let placement = &mut net.nodes[0].placement;
    placement.linked(source.node, true, now, &mut out);
    placement.member_down(source, now, &mut out);
    out.clear();
    placement.handle_time(now, &mut out);
    let is_pull = |output: &Output| matches!(output, Output::Pull { .. });
    assert!(!out.iter().any(is_pull), "nobody asks the dead");
    placement.member_alive(source, now, &mut out);
    assert!(out.iter().any(is_pull));
}

#[test]
fn a_gap_in_a_stream_is_repaired_by_a_pull_of_what_both_hold() {
    let mut net = Net::with_nodes(4, 2);
    let source = net.nodes[1].identity.node;
    let mut out = Vec::new();
    let now = net.now;
    net.nodes[0].placement.linked(source, true, now, &mut out);
    let pulls: Vec<usize> = out
        .iter()
        .filter_map(|output| match output {
            Output::Pull { partitions, .. } => Some(partitions.len()),
            _ => None,
        })
        .collect();
    assert_eq!(pulls, [usize::from(crate::store::PARTITION_COUNT)]);
    assert_eq!(net.nodes[0].placement.record().synced, PartitionSet::full());
    assert!(net.nodes[0].placement.is_healing(), "it may lack something until the pull is done");
}

#[test]
fn a_node_that_came_back_empty_is_not_pulled_from_for_what_it_got_from_us() {
    let mut net = Net::with_nodes(4, 2);
    net.kill(1);
    net.restart(1);
    let source = net.nodes[1].identity.node;
    // The link is up before the newcomer has pulled anything.
    net.act(0, |placement, now, out| placement.linked(source, true, now, out));
    let pulls_before = net.nodes[0].placement.pulls_started;
    net.run_until_quiet();
    net.assert_settled();
    assert_eq!(net.nodes[0].placement.pulls_started, pulls_before);
}

#[test]
fn a_new_life_of_a_node_that_kept_its_data_is_pulled_from_though_its_link_came_first() {
    let mut net = Net::with_nodes(4, 2);
    let (former, now) = (net.nodes[1].identity, net.now);
    let mut record = Record::clone(net.nodes[1].placement.record());
    assert_eq!(record.synced, PartitionSet::full());
    let identity = identity(1, former.generation.as_raw() + 1);
    record.generation = identity.generation;
    let mut out = Vec::new();
    let placement = &mut net.nodes[0].placement;
    placement.member_down(former, now, &mut out);
    placement.linked(former.node, true, now, &mut out);
    // What is asked of it now would be asked of a life that is over.
    out.clear();
    placement.member_alive(identity, now, &mut out);
    placement.record_arrived(record, now, &mut out);
    let pulled = out.iter().find_map(|output| match output {
        Output::Pull { partitions, .. } => Some(partitions.clone()),
        _ => None,
    });
    assert_eq!(pulled, Some(PartitionSet::full()), "what it wrote on the other side of a split");
}

#[test]
fn a_partition_is_not_taken_empty_while_its_holder_begins_a_new_life() {
    let mut net = Net::with_nodes(4, 2);
    let (former, now) = (net.nodes[1].identity, net.now);
    let mut out = Vec::new();
    let placement = &mut net.nodes[0].placement;
    placement.change_record(|record| record.synced = PartitionSet::new());
    placement.member_down(former, now, &mut out);
    assert!(placement.record().synced.is_empty());
    placement.handle_time(now + placement.settings.claim_lost_after, &mut out);
    assert_eq!(placement.record().synced, PartitionSet::full());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_history_of_single_failures_ends_settled_with_nothing_lost(seed: u64, steps in prop::collection::vec((0..4_u8, 0..5_usize, 0..400_usize), 1..5)) {
        let mut net = Net::with_nodes(seed, 3);
        for (kind, which, deliveries) in steps {
            let which = which % net.nodes.len();
            match kind {
                0 => net.restart(which),
                1 => { net.kill(which); net.run_until_quiet(); net.restart(which) }
                2 if net.nodes.len() < 5 => net.add(),
                _ => net.act(which, Placement::stalled),
            }
            // The next failure may hit at any step of a move, but not the second copy of a partition.
            for _ in 0..deliveries { net.deliver_one(); }
            prop_assert_eq!(net.lost(), 0);
            net.run_until_quiet();
            net.assert_settled();
        }
        prop_assert_eq!(net.lost(), 0);
    }
}
