//! Plain requests carried out by the connection that has read them.

use crate::command::Codec;
use crate::command::Plain;
use crate::node::acks::Acks;
use crate::node::buffers;
use crate::node::context::Context;
use crate::protocol;
use crate::store::Partition;
use crate::time::Moment;

/// Requests that are carried out together: enough for the memory to be asked for many of them at once.
const REQUESTS_MAX: usize = 32;

/// Carries out a request and appends the reply; false: its shard is not here or not free, and nothing was
/// done.
pub fn run_one(
    context: &Context,
    now: Moment,
    codec: Codec,
    request: &Plain<'_>,
    acks: &mut Acks,
    output: &mut Vec<u8>,
) -> bool {
    let partition = Partition::of(request.key());
    let shard = &context.shards[context.shard_of(partition)];
    let Some(mut shard) = shard.try_hold(context, now) else { return false };
    let Some(hash) = shard.store().map(|store| store.hash(request.key())) else { return false };
    let wall = context.clocks.wall();
    let has_run = shard.run_plain((partition, hash), request, wall, acks, |reply| {
        protocol::encode(codec, reply, output);
    });
    shard.let_go(acks);
    has_run
}

/// Plain requests of one protocol that follow each other in the input.
///
/// Each shard is held once for all its requests. What they need of the memory is asked for before the
/// first of them is carried out: one look-up waits several times in a row, but several wait together.
pub struct AtOnce<'a> {
    codec: Codec,
    requests: [(Partition, Plain<'a>); REQUESTS_MAX],
    len: usize,
}

/// What became of plain requests.
pub struct Done<'r> {
    requests: &'r [(Partition, Plain<'r>)],
    /// Where the reply to each is among the replies. None: its shard is not here or not free, and nothing
    /// was done.
    places: [Option<(usize, usize)>; REQUESTS_MAX],
    replies: Vec<u8>,
    /// Whether the replies are in the order of the requests.
    are_in_order: bool,
}

impl Done<'_> {
    /// Each request in turn, with its reply if it was carried out.
    pub fn iter(&self) -> impl Iterator<Item = (&Plain<'_>, Option<&[u8]>)> {
        let replies = self.places.iter().map(|place| place.map(|(start, end)| &self.replies[start..end]));
        self.requests.iter().map(|(_, request)| request).zip(replies)
    }

    /// Whether all were carried out.
    pub fn are_all(&self) -> bool {
        self.places[..self.requests.len()].iter().all(Option::is_some)
    }

    /// Appends the replies that there are, in the order of the requests.
    pub fn write(&self, output: &mut Vec<u8>) {
        match self.are_in_order {
            true => output.extend_from_slice(&self.replies),
            false => {
                self.iter().filter_map(|(_, reply)| reply).for_each(|reply| output.extend_from_slice(reply));
            }
        }
    }
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.replies.clear();
        buffers::give_output(std::mem::take(&mut self.replies));
    }
}

impl<'a> AtOnce<'a> {
    /// One request.
    pub fn new(codec: Codec, first: Plain<'a>) -> Self {
        let first = (Partition::of(first.key()), first);
        Self { codec, requests: [first; REQUESTS_MAX], len: 1 }
    }

    /// Adds a request; there must be room.
    pub fn push(&mut self, request: Plain<'a>) {
        self.requests[self.len] = (Partition::of(request.key()), request);
        self.len += 1;
    }

    /// Whether there is no room for another one.
    pub fn is_full(&self) -> bool {
        self.len == REQUESTS_MAX
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Carries the requests out, as of one time.
    ///
    /// Requests for one partition are all carried out or all not, so that those that are not keep their
    /// order.
    pub fn run<'r>(&'r self, context: &Context, now: Moment, acks: &mut Acks) -> Done<'r> {
        let requests = &self.requests[..self.len];
        let wall = context.clocks.wall();
        let mut replies = buffers::take_output();
        let mut shards = [usize::MAX; REQUESTS_MAX];
        for (shard, (partition, _)) in shards.iter_mut().zip(requests) {
            *shard = context.shard_of(*partition);
        }
        let mut places = [None; REQUESTS_MAX];
        let are_in_order = shards[..self.len].iter().all(|shard| *shard == shards[0]);
        for first in 0..self.len {
            let number = shards[first];
            if number == usize::MAX {
                continue;
            }
            let mut its = [0; REQUESTS_MAX];
            let mut its_len = 0;
            for (place, shard) in shards.iter_mut().enumerate().take(self.len).skip(first) {
                if *shard == number {
                    *shard = usize::MAX;
                    its[its_len] = place;
                    its_len += 1;
                }
            }
            let its = &its[..its_len];
            // One at a time, or two connections could keep each other from going on.
            let Some(mut shard) = context.shards[number].try_hold(context, now) else { continue };
            let keys = its.iter().map(|place| (requests[*place].0, requests[*place].1.key()));
            let Some(hashes) = shard.store().map(|store| store.warm::<REQUESTS_MAX>(keys)) else { continue };
            for (place, hash) in its.iter().zip(hashes) {
                let (partition, request) = &requests[*place];
                let start = replies.len();
                let has_run = shard.run_plain((*partition, hash), request, wall, acks, |reply| {
                    protocol::encode(self.codec, reply, &mut replies);
                });
                places[*place] = has_run.then_some((start, replies.len()));
            }
            shard.let_go(acks);
        }
        Done { requests, places, replies, are_in_order }
    }
}
