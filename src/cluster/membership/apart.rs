//! Tests of sides that were apart for longer than they may be, and of those that were not.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cluster::membership::MembershipSettings;
use crate::cluster::membership::Output;
use crate::cluster::membership::simulation::Simulation;
use crate::cluster::membership::simulation::millis;
use crate::cluster::membership::simulation::node;

const AWAY_MAX: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(3);

/// A network of nodes that begin anew when they have to.
struct Nodes {
    simulation: Simulation,
    /// Which have.
    emptied: BTreeSet<usize>,
    lives: u64,
}

impl Nodes {
    fn new(seed: u64, count: usize) -> Self {
        let settings = MembershipSettings { away_max: AWAY_MAX, ..MembershipSettings::default() };
        let simulation = Simulation::with_settings(seed, count, settings);
        Self { simulation, emptied: BTreeSet::new(), lives: 1_000_000 }
    }

    fn joined(seed: u64, count: usize) -> Self {
        let mut nodes = Self::new(seed, count);
        nodes.simulation.join_all();
        nodes.run(Duration::from_secs(8));
        assert!(nodes.simulation.is_complete(), "seed {seed}");
        nodes
    }

    fn run(&mut self, duration: Duration) {
        let end = self.simulation.now + duration;
        while self.simulation.now < end {
            self.simulation.run(millis(5).min(end.since(self.simulation.now)));
            for index in 0..self.simulation.hosts.len() {
                let told = std::mem::take(&mut self.simulation.hosts[index].told);
                for (_, output) in told {
                    if let Output::Yield { to, .. } = output {
                        self.emptied.insert(index);
                        self.lives += 1;
                        self.simulation.start(index, "ours", self.lives);
                        self.simulation.announce(index, to);
                    }
                }
            }
        }
    }

    /// Runs until all know each other, and for a while longer.
    fn become_whole(&mut self, seed: u64) {
        for _ in 0..60 {
            self.run(Duration::from_secs(1));
            if self.simulation.is_complete() {
                self.simulation.loss = 0.0;
                self.run(Duration::from_secs(3));
                assert!(self.simulation.is_complete(), "seed {seed}: stays whole");
                return;
            }
        }
        panic!("seed {seed}: not whole, {:?} emptied", self.emptied);
    }

    /// Cuts all links between groups.
    fn split(&mut self, groups: &[Vec<usize>]) {
        for (number, left) in groups.iter().enumerate() {
            groups[number + 1..].iter().for_each(|right| self.simulation.split(left, right));
        }
    }

    /// Exactly one group has kept what it had, and it is the right one.
    fn assert_one_stays(&self, groups: &[Vec<usize>], seed: u64) {
        let kept = |group: &&Vec<usize>| group.iter().any(|index| !self.emptied.contains(index));
        let staying: Vec<&Vec<usize>> = groups.iter().filter(kept).collect();
        assert_eq!(staying.len(), 1, "seed {seed}: {groups:?}, {:?} emptied", self.emptied);
        assert!(staying[0].iter().all(|index| !self.emptied.contains(index)), "seed {seed}: in part");
    }
}

/// The nodes in some groups by chance.
fn groups(rng: &mut StdRng, count: usize) -> Vec<Vec<usize>> {
    let group_count = rng.random_range(2..=4.min(count));
    let mut groups = vec![Vec::new(); group_count];
    for index in 0..count {
        let group = if index < group_count { index } else { rng.random_range(0..group_count) };
        groups[group].push(index);
    }
    groups
}

#[test]
fn of_sides_that_were_apart_for_too_long_exactly_one_stays() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..9);
        let groups = groups(&mut rng, count);
        let mut nodes = Nodes::joined(seed, count);
        nodes.simulation.loss = [0.0, 0.05, 0.1][seed as usize % 3];
        nodes.split(&groups);
        nodes.run(LONG + millis(rng.random_range(0..3_000)));
        nodes.simulation.heal();
        nodes.become_whole(seed);
        nodes.assert_one_stays(&groups, seed);
    }
}

#[test]
fn the_larger_side_stays_or_that_of_the_smallest_id() {
    for (left, right) in [(vec![0, 1], vec![2, 3, 4]), (vec![0], vec![1, 2]), (vec![0, 1], vec![2, 3])] {
        let groups = [left, right];
        for seed in 0..10 {
            let mut nodes = Nodes::joined(seed, groups.concat().len());
            nodes.split(&groups);
            nodes.run(LONG);
            nodes.simulation.heal();
            nodes.become_whole(seed);
            let key = |group: &&Vec<usize>| {
                (group.len(), std::cmp::Reverse(group.iter().map(|index| node(*index)).min()))
            };
            let stays = groups.iter().max_by_key(key).unwrap();
            assert!(stays.iter().all(|index| !nodes.emptied.contains(index)), "seed {seed}");
            assert_eq!(nodes.emptied.len() + stays.len(), groups.concat().len(), "seed {seed}");
        }
    }
}

#[test]
fn a_short_split_empties_nobody() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..9);
        let groups = groups(&mut rng, count);
        let mut nodes = Nodes::joined(seed, count);
        for _ in 0..3 {
            nodes.simulation.loss = [0.0, 0.05, 0.2][seed as usize % 3];
            nodes.split(&groups);
            nodes.run(SHORT.mul_f64(rng.random_range(0.1..1.0)));
            nodes.simulation.heal();
            nodes.become_whole(seed);
        }
        assert!(nodes.emptied.is_empty(), "seed {seed}: {groups:?}, {:?}", nodes.emptied);
    }
}

#[test]
fn links_that_are_mended_one_after_the_other_make_no_second_side_stay() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(3..8);
        let groups = groups(&mut rng, count);
        let mut nodes = Nodes::joined(seed, count);
        nodes.split(&groups);
        nodes.run(LONG);
        while let Some(cut) = nodes.simulation.cuts.iter().nth(rng.random_range(0..8)).copied() {
            nodes.simulation.cuts.remove(&cut);
            nodes.run(millis(rng.random_range(0..300)));
        }
        nodes.simulation.heal();
        nodes.become_whole(seed);
        nodes.assert_one_stays(&groups, seed);
    }
}

#[test]
fn who_stood_still_for_too_long_begins_anew_whoever_it_is() {
    for seed in 0..24 {
        let sleeper = seed as usize % 4;
        let mut nodes = Nodes::joined(seed, 4);
        nodes.simulation.stop(sleeper, LONG);
        nodes.run(LONG);
        nodes.become_whole(seed);
        assert_eq!(nodes.emptied, BTreeSet::from([sleeper]), "seed {seed}");
    }
}

#[test]
fn who_stood_still_for_a_moment_keeps_what_it_has() {
    for seed in 0..24 {
        let mut nodes = Nodes::joined(seed, 4);
        nodes.simulation.stop(seed as usize % 4, SHORT);
        nodes.run(SHORT);
        nodes.become_whole(seed);
        assert!(nodes.emptied.is_empty(), "seed {seed}: {:?}", nodes.emptied);
    }
}

#[test]
fn a_cluster_that_stood_still_as_a_whole_keeps_what_it_has() {
    for seed in 0..10 {
        let mut nodes = Nodes::joined(seed, 5);
        (0..5).for_each(|index| nodes.simulation.stop(index, LONG));
        nodes.run(LONG);
        nodes.become_whole(seed);
        assert!(nodes.emptied.is_empty(), "seed {seed}: {:?}", nodes.emptied);
    }
}

#[test]
fn nobody_begins_anew_for_a_side_that_does_not_hear_it() {
    for seed in 0..20 {
        let groups = [vec![0, 1], vec![2, 3, 4]];
        let mut nodes = Nodes::joined(seed, 5);
        nodes.split(&groups);
        nodes.run(LONG);
        // The larger side is heard, and hears nothing.
        nodes.simulation.cuts.retain(|(from, _)| groups[0].contains(from));
        nodes.run(LONG);
        assert!(nodes.emptied.is_empty(), "seed {seed}: {:?}", nodes.emptied);
        nodes.simulation.heal();
        nodes.become_whole(seed);
        assert_eq!(nodes.emptied, BTreeSet::from([0, 1]), "seed {seed}");
    }
}

#[test]
fn who_was_heard_but_did_not_hear_for_long_begins_anew_too() {
    for seed in 0..20 {
        let groups = [vec![0], vec![1, 2, 3, 4]];
        let mut nodes = Nodes::joined(seed, 5);
        nodes.split(&groups);
        // All that the others say to a dead member arrives, and binds nobody.
        nodes.simulation.cuts.retain(|(from, _)| *from == 0);
        nodes.run(LONG);
        nodes.simulation.heal();
        nodes.become_whole(seed);
        assert_eq!(nodes.emptied, BTreeSet::from([0]), "seed {seed}");
    }
}

#[test]
fn members_that_come_one_after_the_other_empty_nobody() {
    for seed in 0..10 {
        let mut nodes = Nodes::new(seed, 5);
        nodes.simulation.split(&[0], &[1, 2, 3, 4]);
        (1..5).for_each(|index| nodes.simulation.kill(index));
        nodes.run(LONG * 3);
        nodes.simulation.heal();
        for index in 1..5 {
            nodes.lives += 1;
            nodes.simulation.start(index, "ours", nodes.lives);
            let seed = nodes.simulation.identity(0);
            nodes.simulation.announce(index, seed);
            nodes.run(LONG);
            // Anybody may be killed and come back, the first one too.
            nodes.lives += 1;
            nodes.simulation.start(index - 1, "ours", nodes.lives);
            let seed = nodes.simulation.identity(index);
            nodes.simulation.announce(index - 1, seed);
            nodes.run(Duration::from_secs(3));
        }
        nodes.become_whole(seed);
        assert!(nodes.emptied.is_empty(), "seed {seed}: {:?}", nodes.emptied);
    }
}

#[test]
fn of_two_clusters_that_were_never_together_one_stays_once_they_are_old() {
    for seed in 0..10 {
        let groups = [vec![0, 1, 2], vec![3, 4]];
        let mut nodes = Nodes::new(seed, 5);
        nodes.split(&groups);
        for (one, two) in [(0, 1), (0, 2), (3, 4)] {
            let identity = nodes.simulation.identity(one);
            nodes.simulation.announce(two, identity);
        }
        nodes.run(LONG);
        nodes.simulation.heal();
        let identity = nodes.simulation.identity(0);
        nodes.simulation.announce(4, identity);
        nodes.become_whole(seed);
        assert_eq!(nodes.emptied, BTreeSet::from([3, 4]), "seed {seed}");
    }
}

#[test]
fn tombstones_that_went_early_keep_out_who_was_away_meanwhile() {
    for seed in 0..10 {
        let groups = [vec![0, 1], vec![2, 3, 4]];
        let settings = MembershipSettings::default();
        let simulation = Simulation::with_settings(seed, 5, settings);
        let mut nodes = Nodes { simulation, emptied: BTreeSet::new(), lives: 1_000_000 };
        nodes.simulation.join_all();
        nodes.run(LONG);
        nodes.split(&groups);
        nodes.run(LONG + LONG);
        // Long before the split at first: nobody of them can have what was deleted.
        nodes.simulation.with(3, |membership, now, _| membership.forgot(LONG * 3, now));
        if seed % 2 == 0 {
            nodes.simulation.with(3, |membership, now, _| membership.forgot(SHORT, now));
        }
        nodes.run(SHORT);
        nodes.simulation.heal();
        nodes.become_whole(seed);
        let expected = if seed % 2 == 0 { BTreeSet::from([0, 1]) } else { BTreeSet::new() };
        assert_eq!(nodes.emptied, expected, "seed {seed}");
    }
}

#[test]
fn the_first_stamps_part_nobody_however_short_the_time_is() {
    for seed in 0..30 {
        let away_max = [Duration::from_secs(2), Duration::from_secs(3), AWAY_MAX][seed as usize % 3];
        let settings = MembershipSettings { away_max, ..MembershipSettings::default() };
        let simulation = Simulation::with_settings(seed, 5, settings);
        let mut nodes = Nodes { simulation, emptied: BTreeSet::new(), lives: 1_000_000 };
        nodes.simulation.loss = 0.05;
        nodes.simulation.join_all();
        nodes.run(LONG + LONG);
        assert!(nodes.emptied.is_empty(), "seed {seed}: {:?}", nodes.emptied);
    }
}

#[test]
fn who_stood_still_before_it_heard_the_first_stamp_begins_anew_too() {
    for seed in 0..24 {
        let sleeper = seed as usize % 4;
        let mut nodes = Nodes::new(seed, 4);
        nodes.simulation.join_all();
        nodes.run(Duration::from_secs(1));
        nodes.simulation.stop(sleeper, LONG);
        nodes.run(LONG);
        nodes.become_whole(seed);
        assert_eq!(nodes.emptied, BTreeSet::from([sleeper]), "seed {seed}");
    }
}
