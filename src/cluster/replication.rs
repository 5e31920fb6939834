//! Bookkeeping of the stream of changes from one node to another.
//!
//! A stream is a sequence of numbered frames within an *epoch*. The sender keeps every frame until
//! it is acknowledged, so a link that breaks and comes back loses nothing: both sides say how far
//! they are and the sender goes on from there. Only when the sender has dropped its queue (it was
//! full, or the receiver was dead) does a new epoch begin; the receiver sees that as a gap and pulls.

use std::collections::VecDeque;

use bincode::Decode;
use bincode::Encode;
use bytes::Bytes;

use crate::cluster::placement::PullId;
use crate::cluster::planted;
use crate::cluster::planted::Bug;
use crate::store::PARTITION_COUNT;
use crate::store::Partition;
use crate::store::PartitionSet;
use crate::time::Moment;
use crate::time::Timestamp;
use crate::time::Version;

/// The epoch of a stream that begins. No version that the sender's process has given is before this
/// time, and `chance` tells the stream from others of the same process.
pub const fn first_epoch(process_since: Timestamp, chance: u64) -> u64 {
    Version::first_of(process_since).as_raw() | (chance & 0xffff)
}

/// Where a stream begins or goes on: said by the sender when a link comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StreamStart {
    /// Which stream: a new one whenever the sender has dropped frames.
    pub epoch: u64,
    /// The oldest frame that the sender still has, or the next one that it will make.
    pub first: u64,
}

/// A frame that is not acknowledged yet.
#[derive(Debug)]
struct Kept {
    frame: Bytes,
    items: usize,
    since: Moment,
}

/// How far the receiver of a stream is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Bytes that it has not acknowledged.
    pub bytes: usize,
    /// Items that it has not acknowledged.
    pub items: usize,
    /// Since when the oldest of them waits; none: there are none.
    pub since: Option<Moment>,
}

/// The sender's side of a stream.
#[derive(Debug)]
pub struct Outbound {
    epoch: u64,
    /// Frames not yet acknowledged, oldest first.
    kept: VecDeque<Kept>,
    /// The number of the oldest kept frame.
    first: u64,
    /// How many of the kept frames are on their way.
    sent: usize,
    kept_bytes: usize,
    kept_items: usize,
    sent_bytes: usize,
    kept_bytes_max: usize,
    sent_bytes_max: usize,
}

impl Outbound {
    /// An empty stream. It keeps at most `kept_bytes_max` bytes and has at most `sent_bytes_max` of
    /// them on their way (or one frame).
    pub fn new(epoch: u64, kept_bytes_max: usize, sent_bytes_max: usize) -> Self {
        Self {
            epoch,
            kept: VecDeque::new(),
            first: 1,
            sent: 0,
            kept_bytes: 0,
            kept_items: 0,
            sent_bytes: 0,
            kept_bytes_max,
            sent_bytes_max,
        }
    }

    /// The number that the next frame will have.
    pub fn next_number(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// The last frame before which all are acknowledged, itself included.
    pub fn acknowledged_up_to(&self) -> u64 {
        self.first - 1
    }

    /// Adds a frame of so many items. False: the stream was over its bound, everything is dropped and a new epoch has
    /// begun; the link must be made again so that the receiver learns of it.
    #[must_use]
    pub fn push(&mut self, frame: Bytes, items: usize, now: Moment) -> bool {
        if self.kept_bytes + frame.len() > self.kept_bytes_max {
            self.reset();
            return false;
        }
        self.kept_bytes += frame.len();
        self.kept_items += items;
        self.kept.push_back(Kept { frame, items, since: now });
        true
    }

    /// Whether [`Outbound::next_to_send`] has a frame now.
    pub fn has_more_to_send(&self) -> bool {
        let is_within =
            |kept: &Kept| self.sent == 0 || self.sent_bytes + kept.frame.len() <= self.sent_bytes_max;
        self.kept.get(self.sent).is_some_and(is_within)
    }

    /// The next frame to send, if the bound of what is on its way allows one.
    pub fn next_to_send(&mut self) -> Option<Bytes> {
        if !self.has_more_to_send() {
            return None;
        }
        let frame = self.kept.get(self.sent)?.frame.clone();
        self.sent += 1;
        self.sent_bytes += frame.len();
        Some(frame)
    }

    /// The receiver has applied all frames up to this one. A number that was never sent is ignored.
    pub fn acknowledged(&mut self, number: u64) {
        while self.first <= number && self.sent > 0 {
            let Kept { frame, items, .. } =
                self.kept.pop_front().expect("sent frames are kept until they are acknowledged");
            self.first += 1;
            self.sent -= 1;
            self.kept_bytes -= frame.len();
            self.kept_items -= items;
            self.sent_bytes -= frame.len();
        }
    }

    /// A link is being made: where the stream stands.
    pub fn start(&self) -> StreamStart {
        StreamStart { epoch: self.epoch, first: self.first }
    }

    /// The link is up and the receiver wants the stream from this frame on.
    pub fn resume(&mut self, from: u64) {
        self.sent = self.kept.len();
        self.sent_bytes = self.kept_bytes;
        self.acknowledged(from.saturating_sub(1).min(self.next_number() - 1));
        self.sent = 0;
        self.sent_bytes = 0;
    }

    /// Drops everything and begins a new epoch.
    pub fn reset(&mut self) {
        self.first = self.next_number();
        self.epoch += 1;
        self.kept.clear();
        (self.sent, self.kept_bytes, self.kept_items, self.sent_bytes) = (0, 0, 0, 0);
    }

    /// What is kept for the receiver.
    pub fn lag(&self) -> Lag {
        let since = self.kept.front().map(|kept| kept.since);
        Lag { bytes: self.kept_bytes, items: self.kept_items, since }
    }

    /// Whether the receiver has acknowledged everything.
    pub fn is_drained(&self) -> bool {
        self.kept.is_empty()
    }
}

/// What became of a frame at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the next one: apply it.
    Next,
    /// It was applied before: acknowledge it again.
    Repeated,
    /// Frames before it are missing: the link is broken.
    OutOfOrder,
}

/// The receiver's side of the stream of one source, and how far its copies follow that source.
#[derive(Debug)]
pub struct Inbound {
    epoch: Option<u64>,
    applied: u64,
    /// Partitions for which the stream continues a finished pull.
    following: PartitionSet,
    /// Per partition: everything of the source up to this version is here.
    watermarks: Vec<Version>,
    /// The pull from the source that is under way. The end of any other says nothing: it may have
    /// begun in a stream that broke, or before what it brought was forgotten.
    pull: Option<Pull>,
}

/// A pull that is under way, at the node that asked for it.
#[derive(Debug)]
struct Pull {
    id: PullId,
    /// What was asked for and has not been forgotten since.
    partitions: PartitionSet,
    /// What the source has completed.
    complete: PartitionSet,
    /// How many of the source's shards have ended their part.
    parts: u16,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            epoch: None,
            applied: 0,
            following: PartitionSet::new(),
            watermarks: vec![Version::ZERO; usize::from(PARTITION_COUNT)],
            pull: None,
        }
    }
}

impl Inbound {
    /// A link from the source is up. Says from which frame on the stream is wanted, and whether
    /// something is missing before that.
    pub fn start(&mut self, start: StreamStart) -> (u64, bool) {
        let is_continued = self.epoch == Some(start.epoch) && start.first <= self.applied + 1;
        if !is_continued {
            let process_since = |epoch| Version::first_of(Version::from_raw(epoch).time());
            let before = self.epoch.replace(start.epoch).map(process_since);
            if before.is_some_and(|before| before != process_since(start.epoch)) {
                // Its clock may be behind what its former life has given, which has followed others.
                let first = process_since(start.epoch).as_raw();
                let known = Version::from_raw(first.saturating_sub(1));
                self.watermarks.iter_mut().for_each(|watermark| *watermark = known.min(*watermark));
            }
            self.applied = start.first.saturating_sub(1);
            self.following = PartitionSet::new();
            self.pull = None;
        }
        (self.applied + 1, !is_continued)
    }

    /// A frame has arrived over a link that began in this epoch.
    pub fn arrived(&mut self, epoch: u64, number: u64) -> Arrival {
        match number {
            // What is left of a former stream must not be taken for a frame of the present one.
            _ if self.epoch != Some(epoch) => Arrival::OutOfOrder,
            _ if number == self.applied + 1 => {
                self.applied = number;
                Arrival::Next
            }
            _ if number <= self.applied => Arrival::Repeated,
            _ => Arrival::OutOfOrder,
        }
    }

    /// A change of the stream has been applied.
    pub fn applied(&mut self, partition: Partition, version: Version) {
        if self.following.contains(partition) || planted::has(Bug::ForgetWatermark) {
            let watermark = &mut self.watermarks[partition.index()];
            *watermark = version.max(*watermark);
        }
    }

    /// A pull is asked for. Returns what is wanted: all that is newer than these versions. `known` says up
    /// to which version the source has nothing of a partition that is not here anyway.
    pub fn start_pull(
        &mut self,
        id: PullId,
        partitions: &PartitionSet,
        known: impl Fn(Partition) -> Version,
    ) -> Vec<(Partition, Version)> {
        let complete = PartitionSet::new();
        self.pull = Some(Pull { id, partitions: partitions.clone(), complete, parts: 0 });
        let since = |partition| (partition, self.watermark(partition).max(known(partition)));
        partitions.iter().map(since).collect()
    }

    /// One of `shards` shards of the source has ended its part of a pull: everything of these
    /// partitions up to this version is here, the rest follows. Returns all complete partitions when
    /// that was the last part of the pull that is awaited.
    pub fn pulled(
        &mut self,
        id: PullId,
        shards: u16,
        partitions: &PartitionSet,
        up_to: Version,
    ) -> Option<PartitionSet> {
        let pull = self.pull.as_mut().filter(|pull| pull.id == id)?;
        let complete: PartitionSet = partitions.iter().filter(|p| pull.partitions.contains(*p)).collect();
        pull.complete.union_with(&complete);
        pull.parts += 1;
        let is_done = pull.parts >= shards;
        self.following.union_with(&complete);
        complete.iter().for_each(|partition| self.applied(partition, up_to));
        match is_done {
            true => self.pull.take().map(|pull| pull.complete),
            false => None,
        }
    }

    /// The version of a partition up to which everything of the source is here.
    pub fn watermark(&self, partition: Partition) -> Version {
        self.watermarks[partition.index()]
    }

    /// What was stored of these partitions is gone.
    pub fn forget(&mut self, partitions: &PartitionSet) {
        self.following.subtract(partitions);
        if let Some(pull) = &mut self.pull {
            pull.partitions.subtract(partitions);
            pull.complete.subtract(partitions);
        }
        partitions.iter().for_each(|partition| self.watermarks[partition.index()] = Version::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Generation;

    const FRAME_BYTES: usize = 10;

    fn frame(number: u64) -> Bytes {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(FRAME_BYTES, 0);
        bytes.into()
    }

    fn push(outbound: &mut Outbound) -> bool {
        let number = outbound.next_number();
        outbound.push(frame(number), 1, Moment::from_millis(number))
    }

    fn sent(outbound: &mut Outbound) -> Vec<u64> {
        let number = |bytes: Bytes| u64::from_be_bytes(bytes[..8].try_into().unwrap());
        std::iter::from_fn(|| outbound.next_to_send().map(number)).collect()
    }

    #[test]
    fn what_was_known_of_a_former_life_counts_up_to_the_beginning_of_the_present_one() {
        let mut inbound = Inbound::default();
        let partitions: PartitionSet = Partition::all().take(2).collect();
        let partition = partitions.iter().next().unwrap();
        let version = |ms| Version::first_of(Timestamp::from_millis(ms));
        let start =
            |ms, number| StreamStart { epoch: first_epoch(Timestamp::from_millis(ms), number), first: 1 };
        let id = PullId { generation: Generation::from_raw(1), number: 1 };
        inbound.start(start(1_000, 7));
        inbound.start_pull(id, &partitions, |_| Version::ZERO);
        // Its clock followed one that is ahead.
        assert!(inbound.pulled(id, 1, &partitions, version(9_000)).is_some());
        inbound.start(start(1_000, 8));
        assert_eq!(inbound.watermark(partition), version(9_000), "another stream of the same process");
        inbound.start(start(5_000, 9));
        assert!(inbound.watermark(partition) < version(5_000), "its first version may be this one");
        assert!(inbound.watermark(partition) > version(4_999));
        inbound.start(start(6_000, 9));
        assert!(inbound.watermark(partition) < version(5_000), "nothing came since");
    }

    #[test]
    fn no_more_than_the_bound_is_on_its_way_and_acknowledgements_let_the_rest_follow() {
        let mut outbound = Outbound::new(1, 1_000, 2 * FRAME_BYTES);
        (0..5).for_each(|_| assert!(push(&mut outbound)));
        assert_eq!(sent(&mut outbound), [1, 2]);
        outbound.acknowledged(1);
        assert_eq!(sent(&mut outbound), [3]);
        outbound.acknowledged(3);
        let since = Some(Moment::from_millis(4));
        assert_eq!(outbound.lag(), Lag { bytes: 2 * FRAME_BYTES, items: 2, since });
        assert_eq!(sent(&mut outbound), [4, 5]);
        outbound.acknowledged(99);
        assert!(outbound.is_drained());
        assert_eq!(outbound.lag(), Lag::default());
    }

    #[test]
    fn a_link_that_comes_back_continues_where_the_receiver_is() {
        let mut outbound = Outbound::new(1, 1_000, 1_000);
        let mut inbound = Inbound::default();
        assert_eq!(inbound.start(outbound.start()), (1, true));
        (0..4).for_each(|_| assert!(push(&mut outbound)));
        assert_eq!(sent(&mut outbound), [1, 2, 3, 4]);
        (1..=3).for_each(|number| assert_eq!(inbound.arrived(1, number), Arrival::Next));
        outbound.acknowledged(1);

        let (from, has_gap) = inbound.start(outbound.start());
        assert_eq!((from, has_gap), (4, false));
        outbound.resume(from);
        assert_eq!(sent(&mut outbound), [4]);
        assert_eq!(inbound.arrived(1, 3), Arrival::Repeated);
        assert_eq!(inbound.arrived(1, 5), Arrival::OutOfOrder);
        assert_eq!(inbound.arrived(1, 4), Arrival::Next);
    }

    #[test]
    fn a_queue_over_its_bound_is_dropped_and_the_receiver_sees_a_gap() {
        let mut outbound = Outbound::new(1, 3 * FRAME_BYTES, 1_000);
        let mut inbound = Inbound::default();
        inbound.start(outbound.start());
        assert!((0..3).all(|_| push(&mut outbound)));
        assert!(!push(&mut outbound));
        assert!(outbound.is_drained());
        assert_eq!(outbound.lag(), Lag::default());
        let (from, has_gap) = inbound.start(outbound.start());
        assert!(has_gap);
        outbound.resume(from);
        assert!(push(&mut outbound));
        let number = sent(&mut outbound)[0];
        assert_eq!(inbound.arrived(outbound.start().epoch, number), Arrival::Next);
    }

    #[test]
    fn what_is_left_of_a_former_stream_is_not_taken_for_the_present_one() {
        let mut inbound = Inbound::default();
        inbound.start(StreamStart { epoch: 7, first: 1 });
        inbound.start(StreamStart { epoch: 90, first: 1 });
        assert_eq!(inbound.arrived(7, 1), Arrival::OutOfOrder);
        assert_eq!(inbound.arrived(90, 1), Arrival::Next);
    }

    #[test]
    fn a_receiver_that_lost_its_state_sees_a_gap_and_goes_on() {
        let mut outbound = Outbound::new(1, 1_000, 1_000);
        (0..2).for_each(|_| assert!(push(&mut outbound)));
        sent(&mut outbound);
        outbound.acknowledged(1);
        let mut fresh = Inbound::default();
        let (from, has_gap) = fresh.start(outbound.start());
        assert_eq!((from, has_gap), (2, true));
        outbound.resume(from);
        assert_eq!(sent(&mut outbound), [2]);
    }

    #[test]
    fn a_watermark_rises_only_while_the_stream_follows_a_finished_pull() {
        let [one, two, three] = [1, 2, 3].map(Version::from_raw);
        let partition = Partition::new(9).unwrap();
        let set: PartitionSet = [partition].into_iter().collect();
        let mut inbound = Inbound::default();
        inbound.start(StreamStart { epoch: 1, first: 1 });
        inbound.applied(partition, three);
        assert_eq!(inbound.watermark(partition), Version::ZERO);
        assert_eq!(inbound.start_pull(pull_id(1), &set, |_| Version::ZERO), [(partition, Version::ZERO)]);
        assert_eq!(inbound.pulled(pull_id(1), 1, &set, one), Some(set.clone()));
        inbound.applied(partition, two);
        assert_eq!(inbound.watermark(partition), two);
        inbound.start(StreamStart { epoch: 2, first: 1 });
        inbound.applied(partition, three);
        assert_eq!(inbound.watermark(partition), two, "a gap lies before it");
        inbound.forget(&set);
        assert_eq!(inbound.watermark(partition), Version::ZERO);
    }

    fn pull_id(number: u64) -> PullId {
        PullId { generation: Generation::from_raw(1), number }
    }

    fn set(partitions: &[u16]) -> PartitionSet {
        partitions.iter().filter_map(|number| Partition::new(*number)).collect()
    }

    #[test]
    fn a_pull_is_done_when_every_shard_of_the_source_has_ended_its_part() {
        let version = Version::from_raw(5);
        let mut inbound = Inbound::default();
        inbound.start_pull(pull_id(1), &set(&[1, 2, 3]), |_| Version::ZERO);
        assert_eq!(inbound.pulled(pull_id(1), 2, &set(&[1]), version), None);
        // Partition 3 was asked for, but the source does not have it all; 9 was not asked for.
        assert_eq!(inbound.pulled(pull_id(1), 2, &set(&[2, 9]), version), Some(set(&[1, 2])));
        assert_eq!(inbound.watermark(Partition::new(9).unwrap()), Version::ZERO);
        assert_eq!(inbound.pulled(pull_id(1), 2, &set(&[3]), version), None, "it is over");
    }

    #[test]
    fn the_end_of_a_pull_says_nothing_of_what_was_forgotten_since_or_began_before_a_gap() {
        let (version, partition) = (Version::from_raw(5), Partition::new(2).unwrap());
        let mut inbound = Inbound::default();
        inbound.start(StreamStart { epoch: 1, first: 1 });
        inbound.start_pull(pull_id(1), &set(&[1, 2]), |_| Version::ZERO);
        inbound.forget(&set(&[2]));
        assert_eq!(inbound.pulled(pull_id(1), 1, &set(&[1, 2]), version), Some(set(&[1])));
        assert_eq!(inbound.watermark(partition), Version::ZERO);

        inbound.start_pull(pull_id(2), &set(&[2]), |_| Version::ZERO);
        inbound.start(StreamStart { epoch: 2, first: 1 });
        assert_eq!(inbound.pulled(pull_id(2), 1, &set(&[2]), version), None);
        inbound.start_pull(pull_id(3), &set(&[2]), |_| Version::ZERO);
        assert_eq!(inbound.pulled(pull_id(2), 1, &set(&[2]), version), None);
        assert_eq!(inbound.watermark(partition), Version::ZERO);
        assert_eq!(inbound.pulled(pull_id(3), 1, &set(&[2]), version), Some(set(&[2])));
        assert_eq!(inbound.watermark(partition), version);
    }
}
