//! What has happened to this node: the latest happenings, kept for whoever wants to see them, and the
//! log lines and counts that go with them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;
use tracing::info;
use tracing::warn;

use crate::cluster::membership::NodeId;
use crate::cluster::placement::Event;
use crate::cluster::report::HAPPENINGS_MAX;
use crate::cluster::report::Happening;
use crate::cluster::report::Kind;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::store::PartitionSet;

/// The latest happenings.
#[derive(Debug)]
pub struct Journal {
    kept: Mutex<VecDeque<Happening>>,
    /// The number of the latest.
    latest: watch::Sender<u64>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { kept: Mutex::default(), latest: watch::Sender::new(0) }
    }
}

impl Journal {
    /// Those behind a number, the latest last.
    pub fn after(&self, number: u64) -> Vec<Happening> {
        self.lock().iter().filter(|happening| happening.number > number).cloned().collect()
    }

    /// Changes with every happening.
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// How many wait for happenings.
    pub fn reader_count(&self) -> usize {
        self.latest.receiver_count()
    }

    /// Writes something down; its number is given here.
    fn add(&self, happening: Happening) {
        let mut kept = self.lock();
        let number = *self.latest.borrow() + 1;
        if kept.len() == HAPPENINGS_MAX {
            kept.pop_front();
        }
        kept.push_back(Happening { number, ..happening });
        // Still locked: whoever is woken finds it, and numbers rise.
        self.latest.send_replace(number);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Happening>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something has happened to a member, or to this node itself.
pub fn note(context: &Context, kind: Kind, member: Option<String>) {
    context.journal.add(happening(context, kind, member, 0));
}

fn happening(context: &Context, kind: Kind, member: Option<String>, partitions: usize) -> Happening {
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    Happening { number: 0, at: context.clocks.wall(), kind, member, partitions, took_ms: None }
}

/// Something has happened to partitions or members that placement knows of.
pub fn report(context: &Context, event: Event) {
    let view = format!("{:08x}", context.view.borrow().fingerprint());
    let counters = &context.counters;
    let noted = |kind, member: Option<NodeId>, partitions: &PartitionSet| {
        let member = member.map(|node| name_of(context, node));
        context.journal.add(happening(context, kind, member, partitions.len()));
    };
    match event {
        Event::Joined(identity) => {
            info!(member = %name_of(context, identity.node), node = %identity, "member joined");
            note(context, Kind::Joined, Some(name_of(context, identity.node)));
        }
        Event::Promoted { partitions, former } => {
            Counters::add(&counters.promotions, partitions.len());
            let (now, peer) = (context.clocks.now(), context.peers.meet(former));
            let silent_ms = now.since(peer.heard()).as_millis();
            let took = now.since(peer.lost_at().unwrap_or_else(|| peer.heard()));
            let former = name_of(context, former);
            info!(count = partitions.len(), %former, silent_ms, %view, %partitions, "promoted");
            context.failovers.add(took);
            let took_ms = u64::try_from(took.as_millis()).ok();
            let about = happening(context, Kind::Promoted, Some(former), partitions.len());
            context.journal.add(Happening { took_ms, ..about });
        }
        Event::Claimed { partitions } => {
            info!(count = partitions.len(), %view, "new partitions claimed");
            noted(Kind::Claimed, None, &partitions);
        }
        Event::Lost { partitions } => {
            Counters::add(&counters.partitions_lost, partitions.len());
            warn!(count = partitions.len(), %view, %partitions, "partitions lost, no copy is left");
            noted(Kind::Lost, None, &partitions);
        }
        Event::Synced { partitions, source } => {
            Counters::add(&counters.partitions_synced, partitions.len());
            info!(count = partitions.len(), source = %name_of(context, source), "synced");
            noted(Kind::Synced, Some(source), &partitions);
        }
        Event::TookOver { partitions, from } => {
            Counters::add(&counters.partitions_moved_here, partitions.len());
            info!(count = partitions.len(), from = %name_of(context, from), "moved here");
            noted(Kind::MovedHere, Some(from), &partitions);
        }
        Event::HandedOver { partitions, to } => {
            Counters::add(&counters.partitions_moved_away, partitions.len());
            info!(count = partitions.len(), to = %name_of(context, to), "moved away");
            noted(Kind::MovedAway, Some(to), &partitions);
        }
        Event::GrantLapsed { partitions, to } => {
            warn!(count = partitions.len(), to = %name_of(context, to), "hand-over not confirmed, taken back");
            noted(Kind::TakenBack, Some(to), &partitions);
        }
        Event::Dropped { partitions } => {
            info!(count = partitions.len(), "surplus copies dropped");
            noted(Kind::Dropped, None, &partitions);
        }
    }
}

/// What a node is called, if it is known.
pub fn name_of(context: &Context, node: NodeId) -> String {
    context.view.borrow().name_of(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn the_latest_happenings_are_kept_with_rising_numbers_and_told_from_any_number_on() {
        let journal = Journal::default();
        let latest = journal.latest();
        for millis in 0..HAPPENINGS_MAX as u64 + 10 {
            let at = Timestamp::from_millis(millis);
            let kind = Kind::Joined;
            journal.add(Happening { number: 0, at, kind, member: None, partitions: 0, took_ms: None });
        }
        let last = HAPPENINGS_MAX as u64 + 10;
        assert_eq!(*latest.borrow(), last);
        let kept = journal.after(0);
        assert_eq!((kept.len(), kept[0].number), (HAPPENINGS_MAX, 11));
        assert_eq!(kept[0].at, Timestamp::from_millis(10));
        let news: Vec<u64> = journal.after(last - 2).iter().map(|happening| happening.number).collect();
        assert_eq!(news, [last - 1, last]);
        assert!(journal.after(last).is_empty());
    }
}
