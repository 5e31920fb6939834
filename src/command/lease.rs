//! Leases: of many clients that miss a key at once, one is to fetch its value, the others wait for it.
//! (Nishtala et al., "Scaling Memcache at Facebook", 2013.)
//!
//! A lease is a token that the primary gives to one caller. Any change of the key ends it, so that its
//! holder cannot overwrite what is newer than what it fetched; so does its time. It is not replicated:
//! with the primary it is gone, and the next caller gets another one.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::store::Partition;
use crate::time::Timestamp;

/// How long its holder may take to fetch the value.
pub const LEASE_LIFE: Duration = Duration::from_secs(10);
/// Leases of a shard; the oldest ends early for one more.
const LEASES_MAX: usize = 100_000;
/// An odd number: multiples of it are different until all numbers have been.
const TOKEN_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The leases that a shard has given.
#[derive(Clone, Debug)]
pub struct Leases {
    held: BTreeMap<Bytes, Lease>,
    /// All that were given, the oldest first; some have ended early.
    given: VecDeque<(Bytes, Lease)>,
    /// Keys whose lease has ended since somebody asked.
    ended: Vec<Bytes>,
    last_token: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    token: u64,
    ends_at: Timestamp,
}

impl Leases {
    /// None yet. The seed is random, so that no token of another shard is valid here.
    pub fn new(seed: u64) -> Self {
        Self { held: BTreeMap::new(), given: VecDeque::new(), ended: Vec::new(), last_token: seed }
    }

    /// Gives a lease of a key, and returns its token; none: somebody has one.
    pub fn give(&mut self, key: &Bytes, now: Timestamp) -> Option<u64> {
        if self.is_held(key, now) {
            return None;
        }
        self.end(key);
        self.make_room();
        self.last_token = self.last_token.wrapping_add(TOKEN_STEP);
        let life = u64::try_from(LEASE_LIFE.as_millis()).unwrap_or(u64::MAX);
        let ends_at = Timestamp::from_millis(now.as_millis().saturating_add(life));
        let lease = Lease { token: self.last_token, ends_at };
        self.held.insert(key.clone(), lease);
        self.given.push_back((key.clone(), lease));
        Some(lease.token)
    }

    /// Whether somebody has a lease of the key.
    pub fn is_held(&self, key: &[u8], now: Timestamp) -> bool {
        self.held.get(key).is_some_and(|lease| lease.ends_at > now)
    }

    /// Whether this is the token of the key's lease.
    pub fn is_valid(&self, key: &[u8], token: u64, now: Timestamp) -> bool {
        self.held.get(key).is_some_and(|lease| lease.token == token && lease.ends_at > now)
    }

    /// The key has changed.
    pub fn end(&mut self, key: &[u8]) {
        if let Some((key, _)) = self.held.remove_entry(key) {
            self.ended.push(key);
        }
    }

    /// Ends those of all partitions but these.
    pub fn keep(&mut self, is_kept: impl Fn(Partition) -> bool) {
        let ended: Vec<Bytes> =
            self.held.keys().filter(|key| !is_kept(Partition::of(key))).cloned().collect();
        ended.iter().for_each(|key| self.end(key));
    }

    /// Ends those whose time is over.
    pub fn sweep(&mut self, now: Timestamp) {
        while self.given.front().is_some_and(|(key, lease)| {
            lease.ends_at <= now || self.held.get(key).is_none_or(|held| held.token != lease.token)
        }) {
            self.end_oldest();
        }
    }

    /// Whether there is one to [`Leases::take_ended`].
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Keys whose lease has ended since the last call: whoever waits for one may look again.
    pub fn take_ended(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.ended)
    }

    fn make_room(&mut self) {
        while self.held.len() >= LEASES_MAX {
            self.end_oldest();
        }
        if self.given.len() >= 2 * LEASES_MAX {
            self.given.retain(|(key, lease)| self.held.get(key) == Some(lease));
        }
    }

    fn end_oldest(&mut self) {
        if let Some((key, lease)) = self.given.pop_front()
            && self.held.get(&key) == Some(&lease)
        {
            self.end(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const LATER: Timestamp = Timestamp::from_millis(11_000);

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn one_caller_gets_a_lease_until_the_key_changes_or_its_time_is_over() {
        let mut leases = Leases::new(7);
        let token = leases.give(&key("k"), NOW).unwrap();
        assert_eq!(leases.give(&key("k"), NOW), None);
        assert!(leases.is_valid(b"k", token, Timestamp::from_millis(10_999)));
        assert!(!leases.is_valid(b"k", token, LATER) && !leases.is_valid(b"k", token + 1, NOW));
        leases.end(b"k");
        assert!(!leases.is_valid(b"k", token, NOW));
        let second = leases.give(&key("k"), NOW).unwrap();
        assert_ne!(second, token);
        let third = leases.give(&key("k"), LATER).unwrap();
        assert!(leases.is_valid(b"k", third, LATER) && !leases.is_valid(b"k", second, LATER));
    }

    #[test]
    fn whoever_waits_hears_of_every_end() {
        let mut leases = Leases::new(7);
        leases.give(&key("a"), NOW);
        leases.give(&key("b"), NOW);
        leases.end(b"nothing");
        assert!(leases.take_ended().is_empty());
        leases.end(b"a");
        assert_eq!(leases.take_ended(), [key("a")]);
        leases.sweep(NOW);
        assert!(leases.take_ended().is_empty());
        leases.sweep(LATER);
        assert_eq!(leases.take_ended(), [key("b")]);
        leases.give(&key("a"), LATER);
        leases.keep(|partition| partition != Partition::of(b"a"));
        assert_eq!(leases.take_ended(), [key("a")]);
    }

    #[test]
    fn the_oldest_lease_makes_room_and_what_has_ended_takes_none() {
        let mut leases = Leases::new(7);
        let name = |number: usize| Bytes::from(number.to_string());
        let first = leases.give(&name(0), NOW).unwrap();
        (1..LEASES_MAX)
            .for_each(|number| drop(leases.give(&name(number), NOW).map(|token| token.to_string())));
        assert!(leases.is_valid(b"0", first, NOW));
        leases.give(&name(LEASES_MAX), NOW);
        assert!(!leases.is_held(b"0", NOW) && leases.is_held(b"1", NOW));
        for _ in 0..3 * LEASES_MAX {
            leases.end(b"1");
            leases.give(&name(1), NOW);
        }
        assert!(leases.given.len() <= 2 * LEASES_MAX);
    }
}
