//! Which keys are asked for most: a sketch of few counters, fed with a sample of what clients ask.
//!
//! Space-saving: a key that has no counter takes over the smallest one, and what that had counted. So a
//! key that makes up more than one part in [`COUNTERS`] of all has one for certain, and its count is never
//! too small by more than what the sample may be. Counts decay, so that they follow what is asked now.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;

use crate::cluster::report::HotKey;
use crate::store::Blob;

/// Keys that are counted at a time.
const COUNTERS: usize = 128;
/// A command is looked at with a probability of one in so many.
pub const SAMPLED_ONE_IN: u32 = 64;
/// What is left of a count after a second: half of it after ten.
const DECAY: f64 = 0.933;
/// Counts below this are forgotten.
const COUNT_MIN: f64 = 0.05;
/// The longest key that is counted.
const KEY_BYTES_MAX: usize = 1_024;

/// The counters.
#[derive(Debug, Default)]
pub struct HotKeys(Mutex<HashMap<Bytes, f64>>);

impl HotKeys {
    /// A key was in the sample.
    pub fn add(&self, key: &[u8]) {
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(key) {
            *count += 1.0;
            return;
        }
        let mut inherited = 0.0;
        if counts.len() >= COUNTERS {
            let least = counts.iter().min_by(|one, other| one.1.total_cmp(other.1));
            if let Some(key) = least.map(|(key, _)| key.clone()) {
                inherited = counts.remove(&key).unwrap_or_default();
            }
        }
        counts.insert(Bytes::copy_from_slice(key), inherited + 1.0);
    }

    /// A second has passed.
    pub fn decay(&self) {
        self.lock().retain(|_, count| {
            *count *= DECAY;
            *count >= COUNT_MIN
        });
    }

    /// The keys that are asked for most, and about how often in a second, the most frequent first.
    pub fn top(&self, count_max: usize) -> Vec<HotKey> {
        // What comes in a second, times the sum of all that is left of the seconds before, is there.
        let per_second = |count: f64| (count * (1.0 - DECAY) * f64::from(SAMPLED_ONE_IN)).round() as u64;
        let hot =
            |(key, count): (&Bytes, &f64)| HotKey { key: Blob(key.clone()), per_second: per_second(*count) };
        first(self.lock().iter().map(hot).collect(), count_max)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first(mut keys: Vec<HotKey>, count_max: usize) -> Vec<HotKey> {
    keys.sort_by(|one, other| other.per_second.cmp(&one.per_second).then_with(|| one.key.cmp(&other.key)));
    keys.truncate(count_max);
    keys
}

/// The hot keys of several nodes together.
pub fn merge(lists: impl IntoIterator<Item = Vec<HotKey>>, count_max: usize) -> Vec<HotKey> {
    let mut sums: HashMap<Blob, u64> = HashMap::new();
    for hot in lists.into_iter().flatten() {
        *sums.entry(hot.key).or_default() += hot.per_second;
    }
    first(sums.into_iter().map(|(key, per_second)| HotKey { key, per_second }).collect(), count_max)
}

/// Says which commands of one connection are in the sample.
#[derive(Debug)]
pub struct Sampler {
    until_next: u32,
    random: u64,
}

impl Sampler {
    /// One for a connection.
    pub fn new(random: u64) -> Self {
        let mut sampler = Self { until_next: 0, random: random | 1 };
        sampler.until_next = sampler.gap();
        sampler
    }

    /// Whether the next command is in it.
    #[inline]
    pub fn takes(&mut self) -> bool {
        self.until_next -= 1;
        if self.until_next > 0 {
            return false;
        }
        self.until_next = self.gap();
        true
    }

    /// From 1 to twice the mean less 1, each as likely as another: a fixed one might always meet the same
    /// of several keys that come in turn.
    fn gap(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + ((self.random >> 32) as u32) % (2 * SAMPLED_ONE_IN - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_takes_one_command_in_so_many() {
        let mut sampler = Sampler::new(7);
        let taken = (0..640_000).filter(|_| sampler.takes()).count();
        assert!((9_500..10_500).contains(&taken), "{taken}");
    }

    #[test]
    fn a_key_that_is_asked_for_often_is_found_among_very_many_that_are_not() {
        let keys = HotKeys::default();
        for number in 0..20_000 {
            keys.add(format!("cold-{number}").as_bytes());
            if number % 10 == 0 {
                keys.add(b"hot");
            }
        }
        assert_eq!(keys.top(1)[0].key.0, "hot");
        assert!(keys.lock().len() <= COUNTERS);
        keys.add(&[b'k'; KEY_BYTES_MAX + 1]);
        assert!(keys.top(COUNTERS).iter().all(|hot| hot.key.0.len() <= KEY_BYTES_MAX));
    }

    #[test]
    fn counts_tell_how_often_in_a_second_and_are_forgotten_when_nobody_asks_any_more() {
        let keys = HotKeys::default();
        for _ in 0..200 {
            (0..10).for_each(|_| keys.add(b"key"));
            keys.decay();
        }
        let per_second = keys.top(9)[0].per_second;
        assert!((560..680).contains(&per_second), "{per_second}");
        (0..200).for_each(|_| keys.decay());
        assert!(keys.top(9).is_empty());
    }

    #[test]
    fn the_keys_of_several_nodes_are_added_up() {
        let hot = |key: &'static [u8], per_second| HotKey { key: Blob(Bytes::from_static(key)), per_second };
        let (one, other) = (vec![hot(b"a", 5), hot(b"b", 3)], vec![hot(b"b", 4), hot(b"c", 1)]);
        assert_eq!(merge([one, other], 2), [hot(b"b", 7), hot(b"a", 5)]);
    }
}
