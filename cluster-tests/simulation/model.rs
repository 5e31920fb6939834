//! What must be there: every change that was made, who has it, and what clients were promised.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use cachegopher::cluster::membership::NodeId;
use cachegopher::cluster::witness::Fact;
use cachegopher::store::Change;
use cachegopher::store::Content;
use cachegopher::store::Partition;
use cachegopher::time::Version;
use xxhash_rust::xxh3::Xxh3;

/// How long after that a write which a replica has acknowledged survives the end of a node: one that was
/// thought dead has to be complete again.
const FIRM_AFTER: Duration = Duration::from_secs(1);

/// What a shard has, as far as the witness has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    pub keys: BTreeMap<Bytes, Version>,
    pub flushed: Version,
}

impl Copy {
    /// The version up to which the copy knows about a key.
    pub fn knows(&self, key: &Bytes) -> Version {
        self.keys.get(key).copied().unwrap_or_default().max(self.flushed)
    }
}

/// A change that a primary has made.
#[derive(Clone, Debug)]
pub struct Made {
    pub at: Duration,
    pub change: Change,
    /// All that had it ended, perhaps before its client was told.
    is_lost: bool,
}

/// See the module.
#[derive(Default)]
pub struct Model {
    pub now: Duration,
    pub copies: BTreeMap<NodeId, BTreeMap<Partition, Copy>>,
    pub made: BTreeMap<Bytes, Vec<Made>>,
    pub flushes: BTreeMap<Partition, Vec<(Duration, Version)>>,
    /// All versions that clients were promised, by key.
    pub promised: BTreeMap<Bytes, Vec<Version>>,
    /// Flushes that all who knew of them took with them, perhaps before their clients were told.
    flushes_lost: BTreeSet<(Partition, Version)>,
    /// All flushes that clients were promised.
    pub flushes_promised: BTreeMap<Partition, Vec<Version>>,
    /// Promises that the end of one node must not break, and when they were given.
    firm: BTreeMap<Bytes, Vec<(Version, Duration)>>,
    /// Until when nodes ended, or more was wrong than that one of them was down.
    pub disturbed: Duration,
    trace: Xxh3,
    pub have_clocks_jumped: bool,
    /// Whether all that is noted is printed.
    pub is_loud: bool,
    pub faults: Vec<String>,
}

impl Model {
    /// Adds something to the trace.
    pub fn note(&mut self, what: &str) {
        self.trace.update(&self.now.as_micros().to_le_bytes());
        self.trace.update(what.as_bytes());
        if self.is_loud {
            println!("{:>6} {what}", self.now.as_millis());
        }
    }

    pub fn trace(&self) -> u64 {
        self.trace.digest()
    }

    pub fn fail(&mut self, what: String) {
        self.faults.push(format!("at {} ms: {what}", self.now.as_millis()));
    }

    /// A shard has told something.
    pub fn learn(&mut self, node: NodeId, fact: Fact) {
        self.note(&format!("{node} {fact:?}"));
        match fact {
            Fact::Made(change) => {
                let made = Made { at: self.now, change, is_lost: false };
                self.made.entry(made.change.key.clone()).or_default().push(made);
            }
            Fact::Holds(key, version) => {
                let copy = self.copy(node, Partition::of(&key));
                copy.keys.insert(key, version);
            }
            Fact::Flushed { partition, version, is_made } => {
                if is_made {
                    self.flushes.entry(partition).or_default().push((self.now, version));
                }
                let copy = self.copy(node, partition);
                copy.flushed = copy.flushed.max(version);
                copy.keys.retain(|_, held| *held > version);
            }
            Fact::Dropped(partition) => {
                self.copies.entry(node).or_default().remove(&partition);
            }
        }
    }

    fn copy(&mut self, node: NodeId, partition: Partition) -> &mut Copy {
        self.copies.entry(node).or_default().entry(partition).or_default()
    }

    /// A client was told that its write is done.
    pub fn promise_value(&mut self, key: &Bytes, value: &Bytes, since: Duration, is_firm: bool) {
        let is_it =
            |made: &&Made| matches!(&made.change.content, Content::Value { bytes, .. } if bytes == value);
        self.promise(key, since, is_firm, is_it, &format!("the value {value:?}"));
    }

    /// A client was told that its delete is done.
    pub fn promise_deletion(&mut self, key: &Bytes, since: Duration, is_firm: bool) {
        let is_it = |made: &&Made| made.at >= since && made.change.content == Content::Deleted;
        self.promise(key, since, is_firm, is_it, "the deletion");
    }

    /// The last one that fits is the one that was answered: whoever sends a command waits for the
    /// answer to one attempt before it makes the next.
    fn promise(
        &mut self,
        key: &Bytes,
        since: Duration,
        is_firm: bool,
        is_it: impl FnMut(&&Made) -> bool,
        what: &str,
    ) {
        let all = self.made.get(key).map(Vec::as_slice).unwrap_or_default();
        let flushes = self.flushes.get(&Partition::of(key)).map(Vec::as_slice).unwrap_or_default();
        let is_overtaken =
            all.iter().any(|made| made.at >= since) || flushes.iter().any(|(at, _)| *at >= since);
        let found = all.iter().rev().find(is_it).map(|made| (made.change.version, made.is_lost));
        match found {
            Some((_, true)) => {}
            Some((version, false)) => {
                self.promised.entry(key.clone()).or_default().push(version);
                if is_firm && since > self.disturbed + FIRM_AFTER {
                    self.firm.entry(key.clone()).or_default().push((version, self.now));
                }
            }
            // A command that was repeated does not overwrite what came after its first attempt, by the
            // clocks of the nodes.
            None if self.have_clocks_jumped || is_overtaken => {}
            None => self.fail(format!("{what} of {key:?} was acknowledged and never made")),
        }
    }

    /// A client was told that everything is deleted.
    pub fn promise_flush(&mut self, since: Duration) {
        for (partition, all) in &self.flushes {
            let last = all.iter().rev().find(|(at, _)| *at >= since);
            if let Some((_, version)) =
                last.filter(|(_, version)| !self.flushes_lost.contains(&(*partition, *version)))
            {
                self.flushes_promised.entry(*partition).or_default().push(*version);
            }
        }
    }

    /// A node has ended that has promised that others have everything.
    pub fn hand_over(&mut self, node: NodeId) {
        self.copies.remove(&node);
        self.disturbed = self.now;
    }

    /// A node has ended, and with it what nobody else had: `survives` says whose copies of which
    /// partitions count.
    pub fn end(&mut self, node: NodeId, survives: impl Fn(NodeId, Partition) -> bool) {
        self.copies.remove(&node);
        let disturbed = std::mem::replace(&mut self.disturbed, self.now);
        let copies = &self.copies;
        let counting = |partition: Partition| {
            let of = |(node, all): (&NodeId, &'_ BTreeMap<Partition, Copy>)| {
                survives(*node, partition).then(|| all.get(&partition).cloned()).flatten()
            };
            copies.iter().filter_map(of).collect::<Vec<Copy>>()
        };
        let mut broken = None;
        for (key, all) in &mut self.made {
            let best =
                counting(Partition::of(key)).iter().map(|copy| copy.knows(key)).max().unwrap_or_default();
            all.iter_mut().filter(|made| made.change.version > best).for_each(|made| made.is_lost = true);
            if let Some(promised) = self.promised.get_mut(key) {
                promised.retain(|version| *version <= best);
            }
            let firm = self.firm.remove(key).unwrap_or_default();
            if let Some((version, at)) = firm.iter().find(|(version, at)| *version > best && *at > disturbed)
            {
                broken.get_or_insert_with(|| {
                    format!(
                        "{version:?} of {key:?} was acknowledged at {} ms as being on a replica, and ended with {node}",
                        at.as_millis()
                    )
                });
            }
            let kept = firm.into_iter().filter(|(version, _)| *version <= best).collect();
            self.firm.insert(key.clone(), kept);
        }
        for (partition, all) in &self.flushes {
            // A flush is there as far as any copy knows of it.
            let best = counting(*partition).iter().map(|copy| copy.flushed).max().unwrap_or_default();
            let lost = all.iter().filter(|(_, version)| *version > best);
            self.flushes_lost.extend(lost.map(|(_, version)| (*partition, *version)));
            if let Some(promised) = self.flushes_promised.get_mut(partition) {
                promised.retain(|version| *version <= best);
            }
        }
        if let Some(broken) = broken {
            self.fail(broken);
        }
    }

    /// Whether a value may be there where memory is scarce: what came after it may have been evicted, but
    /// deletions stay.
    pub fn may_be_read(&self, key: &Bytes, value: &Bytes) -> bool {
        let all = self.made.get(key).map(Vec::as_slice).unwrap_or_default();
        let is_it =
            |made: &&Made| matches!(&made.change.content, Content::Value { bytes, .. } if bytes == value);
        let is_of = all.iter().any(|made| is_it(&made));
        let last = all.iter().max_by_key(|made| made.change.version);
        let due = self.due(key);
        let is_deleted = last.is_none_or(|last| match last.change.content {
            Content::Deleted => last.change.version <= due,
            Content::Value { .. } => last.change.version < due,
        });
        is_of && !is_deleted
    }

    /// The version that a key must have at least.
    pub fn due(&self, key: &Bytes) -> Version {
        let value = self.promised.get(key).and_then(|all| all.iter().max());
        let flush = self.flushes_promised.get(&Partition::of(key)).and_then(|all| all.iter().max());
        value.max(flush).copied().unwrap_or_default()
    }

    /// Whether this is the value that belongs to a version of a key; none: it is deleted, or was flushed. Both
    /// sides of a split may have given the same version, and which of the contents a copy has is not told.
    pub fn is_value_at(&self, key: &Bytes, version: Option<Version>, value: Option<&Bytes>) -> bool {
        let made = self.made.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut of_version = made.iter().filter(|made| Some(made.change.version) == version).peekable();
        let is_flushed = of_version.peek().is_none();
        is_flushed && value.is_none()
            || of_version.any(|made| match &made.change.content {
                Content::Value { bytes, .. } => value == Some(bytes),
                Content::Deleted => value.is_none(),
            })
    }
}
