//! Nodes that leave, and those that are taken out of the cluster for good.

use std::collections::BTreeMap;

use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::ownership::Standing;
use crate::cluster::placement::Output;
use crate::cluster::placement::Placement;
use crate::cluster::removal::Removal;
use crate::cluster::view::Liveness;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Moment;
use crate::time::Timestamp;

/// Why a node is not forgotten. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgetRefusal {
    /// It lives: it has to leave by itself.
    #[error("{name} lives: only a dead node can be forgotten, a living one has to leave")]
    Lives {
        /// The node's name.
        name: String,
    },
    /// Nobody of that name is known.
    #[error("no dead node is called {name}; dead are: {}", list(dead))]
    Unknown {
        /// The name.
        name: String,
        /// Who is dead.
        dead: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl Placement {
    /// Begins to leave: gives every role away, then says [`Output::Left`]. Who leaves for good stays
    /// until there are as many copies without it as there should be.
    pub fn leave(&mut self, is_for_good: bool, now: Moment, out: &mut Vec<Output>) {
        if self.has_left {
            out.push(Output::Left);
            return;
        }
        self.change_record(|record| (record.is_leaving, record.is_retiring) = (true, is_for_good));
        let mut grants: BTreeMap<NodeId, PartitionSet> = BTreeMap::new();
        for partition in Partition::all().filter(|partition| self.view.is_primary(*partition)) {
            let can_serve = |node: &NodeId| {
                self.peers.standing(*node, now, &self.settings) == Standing::Live
                    && self.peers.is_synced(*node, partition)
            };
            if let Some(successor) = self.view.other_holders(partition).find(can_serve) {
                grants.entry(successor).or_default().insert(partition);
            }
        }
        for (successor, partitions) in grants {
            self.grant(successor, partitions, now, out);
        }
        self.settle(now, out);
    }

    /// Whether a node is no member any more in this life.
    pub fn is_removed(&self, identity: Identity) -> bool {
        self.removals.bars(identity.node, identity.generation)
    }

    /// All removals that this node knows of.
    pub fn removals(&self) -> Vec<Removal> {
        self.removals.all()
    }

    /// Takes a dead node out of the cluster, with all lives to come. One that has been taken out before is
    /// named again, so that others can be told who were not.
    ///
    /// # Errors
    ///
    /// [`ForgetRefusal`]: nothing has changed.
    pub fn forget(
        &mut self,
        name: &str,
        at: Timestamp,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<Removal, ForgetRefusal> {
        let name = name.to_owned();
        match self.peers.named(&name) {
            _ if self.record.name == name => Err(ForgetRefusal::Lives { name }),
            Some((_, Liveness::Alive | Liveness::Suspect)) => Err(ForgetRefusal::Lives { name }),
            Some((node, Liveness::Dead)) => {
                let removal = Removal::for_ever(node, at);
                self.remove(&[removal], now, out);
                Ok(removal)
            }
            None => match self.removals.for_ever(NodeId::of_name(&name)) {
                Some(removal) => Ok(removal),
                None => Err(ForgetRefusal::Unknown { name, dead: self.peers.dead_names() }),
            },
        }
    }

    /// Nodes are no members any more. What is news is passed on, since others may not know it.
    pub fn remove(&mut self, removals: &[Removal], now: Moment, out: &mut Vec<Output>) {
        let news: Vec<Removal> =
            removals.iter().copied().filter(|removal| self.removals.add(*removal)).collect();
        if news.is_empty() {
            return;
        }
        for removal in &news {
            if !self.peers.remove(removal.node, removal.until) {
                continue;
            }
            self.forget_requests(removal.node);
            self.repairs.remove(&removal.node);
            self.stop_doubting(removal.node);
        }
        if self.is_removed(self.identity) {
            out.push(Output::Barred);
        }
        out.push(Output::Removed(news));
        self.settle(now, out);
    }
}
