//! After the process has stood still: was it replaced meanwhile?

use std::collections::BTreeSet;

use crate::cluster::membership::NodeId;
use crate::cluster::placement::Output;
use crate::cluster::placement::Placement;
use crate::store::PartitionSet;
use crate::time::Moment;

/// The process stood still since others may have held it dead. It serves nothing that somebody else
/// may have taken over, until each member has linked to it again: one that had given it up begins a
/// new stream then, and has newer data; one that had not simply goes on.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub since: Moment,
    pub unheard: BTreeSet<NodeId>,
}

impl Placement {
    /// This process stood still for longer than others wait: see [`Doubt`]. If all nodes of a machine
    /// stood still together, none has replaced another, and all go on.
    pub fn stalled(&mut self, now: Moment, out: &mut Vec<Output>) {
        let unheard: BTreeSet<NodeId> = self.peers.live().collect();
        self.doubt = (!unheard.is_empty()).then_some(Doubt { since: now, unheard });
        self.taking.clear();
        self.must_show_view = true;
        // The time in which nobody asked for what is not wanted here has not passed for the others.
        self.keep_surplus(now);
        self.settle(now, out);
    }

    /// A node has linked to us. With a gap it has dropped what it had to send us in between.
    pub fn linked(&mut self, node: NodeId, has_gap: bool, now: Moment, out: &mut Vec<Output>) {
        if self.stop_doubting(node) && has_gap {
            self.give_way(&[node], out);
        }
        match has_gap {
            true => self.stream_gap(node, now, out),
            false => self.settle(now, out),
        }
    }

    /// Nothing more is to be heard from a node. Whether it was waited for.
    pub(super) fn stop_doubting(&mut self, node: NodeId) -> bool {
        let was_unheard = self.doubt.as_mut().is_some_and(|doubt| doubt.unheard.remove(&node));
        self.doubt = self.doubt.take().filter(|doubt| !doubt.unheard.is_empty());
        was_unheard
    }

    /// These nodes may have served in our place: their copies count, ours have to be completed.
    fn give_way(&mut self, nodes: &[NodeId], out: &mut Vec<Output>) {
        let mut replaced = PartitionSet::new();
        nodes
            .iter()
            .filter_map(|node| self.peers.synced(*node))
            .for_each(|theirs| replaced.union_with(theirs));
        self.healing.give_way(&self.record.synced, &replaced, self.peers.live());
        self.change_record(|record| record.synced.subtract(&replaced));
        out.push(Output::HangUp);
    }

    pub(super) fn end_doubt_in_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let limit = self.settings.doubt_max;
        if self.doubt.as_ref().is_some_and(|doubt| now.since(doubt.since) >= limit) {
            self.end_doubt(out);
        }
    }

    /// Who has not come back to us may well have given us up.
    pub(super) fn end_doubt(&mut self, out: &mut Vec<Output>) {
        if let Some(doubt) = self.doubt.take() {
            self.give_way(&doubt.unheard.into_iter().collect::<Vec<NodeId>>(), out);
        }
    }
}
