//! The slow log: what took longer than it should, with whom it was for.
//!
//! Commands that a client sends together are carried out together, and have one entry: the name and
//! the key of the first, and how many more there were.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::report::SlowCommand;
use crate::node::clients::Client;
use crate::node::context::Context;
use crate::store::Blob;

/// As in Redis: how long something takes that is slow, in microseconds.
pub const THRESHOLD_MICROS: i64 = 10_000;
/// As in Redis: entries that are kept.
pub const ENTRIES_MAX: usize = 128;
/// Bytes of a key that are kept.
pub const KEY_BYTES_MAX: usize = 128;

/// The log.
#[derive(Debug)]
pub struct SlowLog {
    threshold_micros: AtomicI64,
    entries_max: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    next_id: u64,
    /// The latest first.
    entries: VecDeque<SlowCommand>,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self {
            threshold_micros: AtomicI64::new(THRESHOLD_MICROS),
            entries_max: AtomicUsize::new(ENTRIES_MAX),
            kept: Mutex::default(),
        }
    }
}

impl SlowLog {
    /// How long something takes that is slow, in microseconds; negative: nothing is.
    pub fn threshold_micros(&self) -> i64 {
        self.threshold_micros.load(Ordering::Relaxed)
    }

    /// Changes that.
    pub fn set_threshold_micros(&self, micros: i64) {
        self.threshold_micros.store(micros, Ordering::Relaxed);
    }

    /// How many entries are kept.
    pub fn entries_max(&self) -> usize {
        self.entries_max.load(Ordering::Relaxed)
    }

    /// Changes that.
    pub fn set_entries_max(&self, count: usize) {
        self.entries_max.store(count, Ordering::Relaxed);
        self.lock().entries.truncate(count);
    }

    /// Whether this is slow.
    pub fn is_slow(&self, took: Duration) -> bool {
        u64::try_from(self.threshold_micros()).is_ok_and(|micros| took >= Duration::from_micros(micros))
    }

    /// Writes an entry down; its id is given here.
    pub fn add(&self, slow: SlowCommand) {
        let mut kept = self.lock();
        let id = kept.next_id;
        kept.next_id += 1;
        kept.entries.push_front(SlowCommand { id, ..slow });
        kept.entries.truncate(self.entries_max());
    }

    /// The latest entries, the last one first.
    pub fn latest(&self, count_max: usize) -> Vec<SlowCommand> {
        self.lock().entries.iter().take(count_max).cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.lock().entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry says of commands of which this is the first, with its key.
pub fn words(first: &'static str, key: Option<&[u8]>, count: usize) -> Vec<Blob> {
    let more = (count > 1).then(|| Bytes::from(format!("... ({} more commands)", count - 1)));
    let key = key.map(Bytes::copy_from_slice);
    std::iter::once(Bytes::from_static(first.as_bytes())).chain(key).chain(more).map(Blob).collect()
}

/// Writes down what took so long.
pub fn note(context: &Context, client: &Client, took: Duration, words: Vec<Blob>) {
    context.slow_log.add(SlowCommand {
        id: 0,
        at_secs: context.clocks.wall().as_millis() / 1_000,
        took_micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        words,
        client: client.remote.map(|remote| remote.to_string()).unwrap_or_default(),
        name: Blob(client.said().name.clone()),
    });
}

/// The command with which something under way began.
#[derive(Debug, Default)]
pub struct First {
    is_known: bool,
    length: usize,
    key: KeyStart,
}

#[derive(Debug)]
struct KeyStart([u8; KEY_BYTES_MAX]);

impl Default for KeyStart {
    fn default() -> Self {
        Self([0; KEY_BYTES_MAX])
    }
}

impl First {
    /// A command has this key. Only the first one counts.
    #[inline]
    pub fn has_key(&mut self, key: &[u8]) {
        if !self.is_known {
            self.is_known = true;
            self.length = key.len().min(KEY_BYTES_MAX);
            self.key.0[..self.length].copy_from_slice(&key[..self.length]);
        }
    }

    /// What is under way is done. Returns the key of the first command that had one.
    #[inline]
    pub fn take(&mut self) -> Option<&[u8]> {
        std::mem::take(&mut self.is_known).then(|| &self.key.0[..self.length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(took_micros: u64) -> SlowCommand {
        let (words, client, name) = (Vec::new(), String::new(), Blob::default());
        SlowCommand { id: 0, at_secs: 1, took_micros, words, client, name }
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_go() {
        let log = SlowLog::default();
        (0..ENTRIES_MAX as u64 + 2).for_each(|number| log.add(slow(number)));
        assert_eq!(log.count(), ENTRIES_MAX);
        let latest: Vec<(u64, u64)> = log.latest(2).iter().map(|slow| (slow.id, slow.took_micros)).collect();
        assert_eq!(latest, [(129, 129), (128, 128)]);
        log.set_entries_max(1);
        assert_eq!(log.count(), 1);
        log.clear();
        log.add(slow(7));
        assert_eq!(log.latest(9)[0].id, 130);
    }

    #[test]
    fn slow_is_what_takes_as_long_as_the_threshold_and_nothing_if_that_is_negative() {
        let log = SlowLog::default();
        assert!(!log.is_slow(Duration::from_micros(9_999)) && log.is_slow(Duration::from_micros(10_000)));
        log.set_threshold_micros(0);
        assert!(log.is_slow(Duration::ZERO));
        log.set_threshold_micros(-1);
        assert!(!log.is_slow(Duration::MAX));
    }

    #[test]
    fn an_entry_names_the_first_command_and_counts_the_others() {
        let said = |words: Vec<Blob>| words.iter().map(|word| word.0.clone()).collect::<Vec<_>>();
        assert_eq!(said(words("KEYS", None, 1)), ["KEYS"]);
        assert_eq!(said(words("GET", Some(b"k"), 3)), ["GET", "k", "... (2 more commands)"]);
    }

    #[test]
    fn the_first_key_of_several_is_remembered_once() {
        let mut first = First::default();
        assert_eq!(first.take(), None);
        first.has_key(b"one");
        first.has_key(b"other");
        assert_eq!(first.take(), Some(&b"one"[..]));
        assert_eq!(first.take(), None);
        first.has_key(&[b'k'; 1_000]);
        assert_eq!(first.take().map(<[u8]>::len), Some(KEY_BYTES_MAX));
    }
}
