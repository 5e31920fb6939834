//! The pace of transfers: how many bytes a second all pulls together may take from this node.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::time::Moment;

/// What may be sent at once after a pause, in parts of a second.
const BURST_PARTS: u64 = 20;

/// A budget that fills with time. Steps may overdraw it by what one of them sends.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    /// What may be sent, and as of when.
    budget: Mutex<(i64, Moment)>,
    sent: AtomicU64,
}

impl Pace {
    /// So many bytes a second; none: as many as there is room for.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, budget: Mutex::default(), sent: AtomicU64::new(0) }
    }

    /// Whether something may be sent now.
    pub fn has_room(&self, now: Moment) -> bool {
        let Some(rate) = self.bytes_per_second else { return true };
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, since) = *budget;
        let micros = u64::try_from(now.since(since).as_micros()).unwrap_or(u64::MAX);
        let earned = i64::try_from(u128::from(micros) * u128::from(rate) / 1_000_000).unwrap_or(i64::MAX);
        if earned > 0 {
            let most = i64::try_from(rate / BURST_PARTS).unwrap_or(i64::MAX).max(1);
            *budget = (bytes.saturating_add(earned).min(most), now);
        }
        budget.0 > 0
    }

    /// So much was sent.
    pub fn spend(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.bytes_per_second.is_some() {
            let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.0 = budget.0.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// All that was ever sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_is_sent_whatever_the_steps() {
        let pace = Pace::new(Some(1_000_000));
        let (mut sent, step) = (0, 64 * 1024);
        // Ten seconds, looked at every two milliseconds.
        for tick in 1..=5_000_u64 {
            while pace.has_room(Moment::from_millis(2 * tick)) {
                pace.spend(step);
                sent += step;
            }
        }
        assert!((9_800_000..=10_200_000).contains(&sent), "{sent} bytes in ten seconds");
        assert_eq!(pace.sent(), sent as u64);
    }

    #[test]
    fn a_pause_is_not_made_up_for_and_without_a_rate_there_is_always_room() {
        let pace = Pace::new(Some(1_000_000));
        assert!(pace.has_room(Moment::from_millis(60_000)));
        pace.spend(50_000);
        assert!(
            !pace.has_room(Moment::from_millis(60_000)),
            "a twentieth of a second is all that is saved up"
        );
        let pace = Pace::new(None);
        pace.spend(usize::MAX);
        assert!(pace.has_room(Moment::default()));
    }
}
