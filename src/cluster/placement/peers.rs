//! The other nodes as placement knows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::ownership::Standing;
use crate::cluster::placement::PlacementSettings;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::cluster::record::Departed;
use crate::cluster::record::Record;
use crate::cluster::view::Liveness;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Moment;

/// How long after its record a node is expected to be named by membership.
const NAMED_WITHIN: Duration = Duration::from_secs(3);

/// Another node: what membership and what the node itself says.
#[derive(Debug)]
pub struct Peer {
    /// Unknown while only its record has arrived.
    pub identity: Option<Identity>,
    pub record: Option<Arc<Record>>,
    pub liveness: Liveness,
    /// Since when it is dead, or only its record is known.
    pub down_since: Moment,
    /// How it counted when that was asked last.
    pub counted: Standing,
    /// Since when it is known to leave.
    pub leaving_since: Option<Moment>,
    /// A copy of it was seen synced at some time: its partitions are not new.
    pub ever_synced: PartitionSet,
}

#[derive(Debug, Default)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// Whether anything changed.
    pub fn alive(&mut self, identity: Identity, now: Moment) -> bool {
        let peer = self.entry(identity.node, now);
        let is_news = peer.liveness != Liveness::Alive || peer.identity != Some(identity);
        peer.identity = Some(identity);
        peer.liveness = Liveness::Alive;
        is_news
    }

    /// Whether anything changed.
    pub fn suspect(&mut self, identity: Identity, is_suspect: bool) -> bool {
        let liveness = if is_suspect { Liveness::Suspect } else { Liveness::Alive };
        match self.peers.get_mut(&identity.node) {
            Some(peer) if peer.identity == Some(identity) && peer.liveness != Liveness::Dead => {
                std::mem::replace(&mut peer.liveness, liveness) != liveness
            }
            Some(_) | None => false,
        }
    }

    /// Whether anything changed. An old generation's death says nothing about the present one.
    pub fn down(&mut self, identity: Identity, now: Moment) -> bool {
        match self.peers.get_mut(&identity.node) {
            Some(peer) if peer.identity == Some(identity) && peer.liveness != Liveness::Dead => {
                peer.liveness = Liveness::Dead;
                peer.down_since = now;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Keeps a record if it is newer; the partitions that it names synced if so.
    pub fn record(&mut self, record: Record, now: Moment) -> Option<PartitionSet> {
        let peer = self.entry(record.node, now);
        if peer.record.as_ref().is_some_and(|known| !record.is_newer_than(known)) {
            return None;
        }
        let synced = record.synced.clone();
        peer.ever_synced.union_with(&synced);
        peer.leaving_since = record.is_leaving.then(|| peer.leaving_since.unwrap_or(now));
        peer.record = Some(Arc::new(record));
        Some(synced)
    }

    /// The members that are dead and not forgotten.
    pub fn departed(&self, now: Moment) -> Vec<Departed> {
        let dead = self.on_ring().filter(|(peer, ..)| peer.liveness == Liveness::Dead);
        let departed = |(peer, identity, record): (&Peer, Identity, &Arc<Record>)| {
            let for_ms = u64::try_from(now.since(peer.down_since).as_millis()).unwrap_or(u64::MAX);
            Departed { identity, record: Record::clone(record), for_ms }
        };
        dead.map(departed).collect()
    }

    /// Others know a member that died before we came. Whether that is news.
    pub fn remember(&mut self, departed: Departed, now: Moment) -> bool {
        let Departed { identity, record, for_ms } = departed;
        if self.peers.get(&identity.node).is_some_and(|peer| peer.identity.is_some()) {
            return false;
        }
        self.record(record, now);
        let peer = self.entry(identity.node, now);
        peer.identity = Some(identity);
        peer.down_since = Moment::from_micros(now.as_micros().saturating_sub(for_ms.saturating_mul(1_000)));
        true
    }

    /// A node leaves, though it has not said so in a record yet.
    pub fn leaving(&mut self, node: NodeId, now: Moment) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some(record) = peer.record.as_mut() {
            Arc::make_mut(record).is_leaving = true;
            peer.leaving_since.get_or_insert(now);
        }
    }

    /// The members that are known to leave for this long, and are still there.
    pub fn late_leavers(&self, limit: Duration, now: Moment) -> impl Iterator<Item = NodeId> + '_ {
        let is_late = move |peer: &Peer| peer.leaving_since.is_some_and(|since| now.since(since) >= limit);
        self.live().filter(move |node| self.is_leaving(*node) && self.peers.get(node).is_some_and(is_late))
    }

    /// All that can be on the ring: those whose identity and record are known.
    pub fn on_ring(&self) -> impl Iterator<Item = (&Peer, Identity, &Arc<Record>)> {
        self.peers.values().filter_map(|peer| Some((peer, peer.identity?, peer.record.as_ref()?)))
    }

    /// Whether a live member has not told us yet what it has, or a node that has told us was not named
    /// by membership yet: whoever joins hears of one member first.
    pub fn has_unknown(&self, now: Moment) -> bool {
        self.peers.values().any(|peer| match peer.identity {
            Some(_) => peer.liveness != Liveness::Dead && peer.current_record().is_none(),
            None => now.since(peer.down_since) < NAMED_WITHIN,
        })
    }

    /// Forgets a node, if it is known and in no later life than this. Whether it was.
    pub fn remove(&mut self, node: NodeId, until: Generation) -> bool {
        let is_barred = |peer: &Peer| {
            let record = peer.record.as_ref().map(|record| record.generation);
            peer.identity.map(|identity| identity.generation).max(record).is_none_or(|last| last <= until)
        };
        self.peers.get(&node).is_some_and(is_barred) && self.peers.remove(&node).is_some()
    }

    /// The node of that name, and whether it lives.
    pub fn named(&self, name: &str) -> Option<(NodeId, Liveness)> {
        let has_name = |peer: &Peer| peer.record.as_ref().is_some_and(|record| record.name == name);
        self.peers.iter().find(|(_, peer)| has_name(peer)).map(|(node, peer)| (*node, peer.liveness))
    }

    /// The names of the members that are dead.
    pub fn dead_names(&self) -> Vec<String> {
        let dead = self.peers.values().filter(|peer| peer.liveness == Liveness::Dead);
        dead.filter_map(|peer| peer.record.as_ref().map(|record| record.name.clone())).collect()
    }

    /// The members that are not dead.
    pub fn live(&self) -> impl Iterator<Item = NodeId> + '_ {
        let is_live = |peer: &Peer| peer.identity.is_some() && peer.liveness != Liveness::Dead;
        self.peers.iter().filter(move |(_, peer)| is_live(peer)).map(|(node, _)| *node)
    }

    pub fn has_suspect(&self) -> bool {
        self.peers.values().any(|peer| peer.liveness == Liveness::Suspect)
    }

    pub fn is_known(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    pub fn is_live(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.liveness != Liveness::Dead)
    }

    pub fn is_dead(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.identity.is_some() && peer.liveness == Liveness::Dead)
    }

    /// Whether a node is known in another life than this one.
    pub fn is_other_life(&self, identity: Identity) -> bool {
        let known = self.peers.get(&identity.node).and_then(|peer| peer.identity);
        known.is_some_and(|known| known.generation != identity.generation)
    }

    pub fn record_of(&self, node: NodeId) -> Option<&Arc<Record>> {
        self.peers.get(&node).and_then(|peer| peer.record.as_ref())
    }

    pub fn standing(&self, node: NodeId, now: Moment, settings: &PlacementSettings) -> Standing {
        self.peers.get(&node).map_or(Standing::Dead, |peer| peer.standing(now, settings))
    }

    pub fn is_leaving(&self, node: NodeId) -> bool {
        let record = self.peers.get(&node).and_then(Peer::current_record);
        record.is_some_and(|record| record.is_leaving)
    }

    pub fn is_synced(&self, node: NodeId, partition: Partition) -> bool {
        let record = self.peers.get(&node).and_then(Peer::current_record);
        record.is_some_and(|record| record.synced.contains(partition))
    }

    pub fn synced(&self, node: NodeId) -> Option<&PartitionSet> {
        self.peers.get(&node).and_then(Peer::current_record).map(|record| &record.synced)
    }

    pub fn was_ever_synced(&self, partition: Partition) -> bool {
        self.peers.values().any(|peer| peer.ever_synced.contains(partition))
    }

    /// Whether somebody who had a copy has died within this time, or is not known to live yet: its
    /// record came through another node.
    pub fn has_lost_holder(&self, partition: Partition, within: Duration, now: Moment) -> bool {
        self.peers.values().any(|peer| {
            let is_recent = peer.liveness == Liveness::Dead && now.since(peer.down_since) < within;
            is_recent && peer.ever_synced.contains(partition)
        })
    }

    pub fn live_records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.peers
            .values()
            .filter(|peer| peer.liveness != Liveness::Dead)
            .filter_map(|peer| peer.record.as_ref())
    }

    /// Whether time has changed how a node counts.
    pub fn has_aged(&self, now: Moment, settings: &PlacementSettings) -> bool {
        let has_aged =
            |peer: &Peer| !peer.is_kept(now, settings) || peer.standing(now, settings) != peer.counted;
        self.peers.values().any(has_aged)
    }

    /// Forgets who has been dead for too long, and notes how the others count.
    pub fn age(&mut self, now: Moment, settings: &PlacementSettings) {
        self.peers.retain(|_, peer| peer.is_kept(now, settings));
        self.peers.values_mut().for_each(|peer| peer.counted = peer.standing(now, settings));
    }

    /// A node that is met now counts as dead since now: its record may come before its first sign of
    /// life, and must not be forgotten until then.
    fn entry(&mut self, node: NodeId, now: Moment) -> &mut Peer {
        self.peers.entry(node).or_insert_with(|| Peer {
            identity: None,
            record: None,
            liveness: Liveness::Dead,
            down_since: now,
            counted: Standing::Dead,
            leaving_since: None,
            ever_synced: PartitionSet::new(),
        })
    }
}

impl Peer {
    /// Its record, unless that is of a former life.
    pub fn current_record(&self) -> Option<&Arc<Record>> {
        let generation = self.identity?.generation;
        let is_any = planted::has(Bug::AcceptOldGeneration);
        self.record.as_ref().filter(|record| is_any || record.generation == generation)
    }

    fn is_kept(&self, now: Moment, settings: &PlacementSettings) -> bool {
        self.liveness != Liveness::Dead || now.since(self.down_since) < settings.forget_after
    }

    pub fn standing(&self, now: Moment, settings: &PlacementSettings) -> Standing {
        match self.liveness {
            Liveness::Alive | Liveness::Suspect => match self.current_record() {
                Some(record) => record.standing(),
                None => Standing::Live,
            },
            Liveness::Dead if now.since(self.down_since) < settings.rereplicate_after => Standing::Missing,
            Liveness::Dead => Standing::Dead,
        }
    }
}
