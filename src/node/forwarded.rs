//! Commands that another node has sent on, carried out here.
//!
//! Those whose shard is free are carried out at once, by the task that has read them: they cost no task
//! and no message. The rest waits for its shards, in a task of its own. Commands on one key are on one
//! shard, so they keep their order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::cluster::peer;
use crate::cluster::peer::Outcome;
use crate::cluster::peer::Response;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::node::acks::Acks;
use crate::node::context::Context;
use crate::node::router;
use crate::store::Blob;
use crate::store::Partition;
use crate::time::Version;

/// What an outcome takes in an answer, and the rest of it beyond the replies, at most.
const OUTCOME_BYTES: usize = 6;
const ANSWER_BYTES: usize = 48;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its shard was not free.
    Waits,
    /// Its partition is not served here.
    Moved,
    /// It was carried out; its reply is from here to there among the replies.
    Answered(usize, usize),
}

/// Commands and what became of them.
pub struct Forwarded {
    commands: Vec<KeyCommand>,
    fates: Vec<Fate>,
    replies: Vec<u8>,
}

impl Forwarded {
    /// Carries out those whose shard is free.
    pub fn at_once(context: &Context, codec: Codec, acks: &mut Acks, commands: Vec<KeyCommand>) -> Self {
        let shard_of = |command: &KeyCommand| context.shard_of(Partition::of(&command.key.0));
        let shards: Vec<usize> = commands.iter().map(shard_of).collect();
        let mut fates = vec![Fate::Waits; commands.len()];
        let mut replies = Vec::with_capacity(32 * commands.len());
        for (number, shard) in context.shards.iter().enumerate() {
            let mut places = (0..commands.len()).filter(|place| shards[*place] == number);
            if places.clone().next().is_none() {
                continue;
            }
            // One at a time, or two links could keep each other from going on.
            let Some(mut held) = shard.try_hold(context, context.clocks.now()) else { continue };
            let its = commands.iter().zip(&shards).filter(|(_, shard)| **shard == number);
            let mut start = replies.len();
            let became = |outcome| {
                let Some(place) = places.next() else { return };
                fates[place] = match outcome {
                    Outcome::Moved => Fate::Moved,
                    Outcome::Reply { end } => {
                        let from = std::mem::replace(&mut start, end as usize);
                        Fate::Answered(from, end as usize)
                    }
                };
            };
            let its = its.map(|(command, _)| command);
            if held.run_all(codec, its, false, (acks, &mut replies), became).is_some() {
                held.let_go(acks);
            }
        }
        Self { commands, fates, replies }
    }

    /// Whether it is known of all what became of them.
    pub fn is_done(&self) -> bool {
        self.fates.iter().all(|fate| *fate != Fate::Waits)
    }

    /// Carries out those that wait.
    pub async fn carry_out_the_rest(&mut self, context: &Arc<Context>, codec: Codec, acks: &mut Acks) {
        let waiting: Vec<usize> =
            (0..self.fates.len()).filter(|place| self.fates[*place] == Fate::Waits).collect();
        if waiting.is_empty() {
            return;
        }
        let commands = waiting.iter().map(|place| self.commands[*place].clone()).collect();
        let answers = router::run_here(context, codec, acks, commands).await;
        for (place, answer) in waiting.into_iter().zip(answers) {
            self.fates[place] = match answer {
                None => Fate::Moved,
                Some(reply) => {
                    let start = self.replies.len();
                    self.replies.extend_from_slice(&reply);
                    Fate::Answered(start, self.replies.len())
                }
            };
        }
    }

    /// The frame that answers them.
    pub fn answer(self, context: &Context, id: u64) -> Bytes {
        let Self { fates, mut replies, .. } = self;
        let mut end = 0;
        let is_next = |fate: &Fate| match *fate {
            Fate::Answered(start, its_end) => start == std::mem::replace(&mut end, its_end),
            Fate::Moved | Fate::Waits => true,
        };
        if !fates.iter().all(is_next) {
            replies = in_order(&fates, &replies);
        }
        let mut end = 0;
        let outcome = |fate| match fate {
            Fate::Answered(start, its_end) => {
                end += its_end - start;
                Outcome::Reply { end: u32::try_from(end).unwrap_or(u32::MAX) }
            }
            Fate::Moved | Fate::Waits => Outcome::Moved,
        };
        let outcomes: Vec<Outcome> = fates.into_iter().map(outcome).collect();
        let bytes = ANSWER_BYTES + OUTCOME_BYTES * outcomes.len() + replies.len();
        let latest = Version::from_raw(context.latest.load(Ordering::Acquire));
        let answer = Response::Forwarded { id, outcomes, replies: Blob(replies.into()), latest };
        peer::encode_sized(&answer, bytes)
    }
}

/// The replies in the order of the commands.
fn in_order(fates: &[Fate], replies: &[u8]) -> Vec<u8> {
    let mut ordered = Vec::with_capacity(replies.len());
    for fate in fates {
        if let Fate::Answered(start, end) = *fate {
            ordered.extend_from_slice(&replies[start..end]);
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_several_shards_come_in_the_order_of_the_commands() {
        let fates = [Fate::Answered(3, 5), Fate::Moved, Fate::Answered(0, 3), Fate::Answered(5, 5)];
        assert_eq!(in_order(&fates, b"abcde"), b"deabc");
    }
}
