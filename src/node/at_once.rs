//! Plain requests carried out by the connection that has read them.

use crate::command::Codec;
use crate::command::Plain;
use crate::node::context::Context;
use crate::node::shard_door::Held;
use crate::protocol;
use crate::store::Partition;
use crate::time::Moment;
use crate::time::Timestamp;

/// Carries out plain requests one after the other, all as of one time, which is that of its making: it
/// is made when the requests are there, and does not live longer than they take. It holds the shard of
/// the latest request, since the next one often is for the same.
pub struct AtOnce<'a> {
    context: &'a Context,
    now: Moment,
    wall: Timestamp,
    held: Option<(usize, Held<'a>)>,
}

impl<'a> AtOnce<'a> {
    /// For requests of now.
    pub fn new(context: &'a Context, now: Moment) -> Self {
        Self { context, now, wall: context.clocks.wall(), held: None }
    }

    /// Carries out a request and appends the reply. False: it is too large, its shard is not here or not
    /// free; nothing was done.
    pub fn run(&mut self, codec: Codec, request: &Plain<'_>, output: &mut Vec<u8>) -> bool {
        if request.bytes() > self.context.settings.text.entry_bytes_max {
            return false;
        }
        let partition = Partition::of(request.key());
        let number = self.context.shard_of(partition);
        if self.held.as_ref().is_none_or(|(held, _)| *held != number) {
            // One at a time, or two connections could wait for each other.
            self.held = None;
            let held = self.context.shards[number].try_hold(self.context, self.now);
            self.held = held.map(|held| (number, held));
        }
        let Some((_, shard)) = &mut self.held else { return false };
        shard.run_plain(partition, request, self.wall, |reply| protocol::encode(codec, reply, output))
    }
}
