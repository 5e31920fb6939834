//! What figures were when they were last counted from zero, and the most memory that entries took.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::node::context::Context;
use crate::node::report;
use crate::node::usage::Tally;
use crate::store::ShardStats;

/// From what INFO counts.
#[derive(Debug, Default)]
pub struct Baseline {
    figures: Mutex<Figures>,
    memory_bytes_peak: AtomicU64,
}

/// Figures that only grow.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Of the store: what has happened, not what there is.
    pub store: ShardStats,
    /// Of the clients.
    pub clients: Tally,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections refused.
    pub connections_refused: u64,
}

impl Baseline {
    /// The figures that are taken off.
    pub fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Entries take so much memory now. Returns the most that they ever took when somebody looked.
    pub fn sees_memory(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        self.memory_bytes_peak.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }
}

/// Counts from zero from now on.
pub async fn reset(context: &Context) {
    let (store, _) = report::store_figures(context).await;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let figures = Figures {
        store,
        clients: context.clients.total(),
        connections_accepted: load(&context.counters.connections_accepted),
        connections_refused: load(&context.counters.connections_refused),
    };
    context.clients.forget_errors();
    *context.baseline.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
}
