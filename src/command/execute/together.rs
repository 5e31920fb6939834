//! Several commands at once.

use std::collections::HashMap;

use bytes::Bytes;

use crate::command::KeyCommand;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Together;
use crate::command::execute::Answer;
use crate::command::execute::Run;
use crate::store::Change;
use crate::store::ItemContent;

/// Bytes of values in the replies to commands that are carried out together: all replies travel in
/// one frame.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Run<'_> {
    /// A list of their replies; absent: a key is not as it was, nothing was done. A command that is
    /// refused does not stop those after it, as in Redis.
    pub(super) fn together(&mut self, together: &Together) -> Answer {
        let is_same = |key: &[u8], mark: &[u8]| {
            self.tenure.is_as_marked(self.shard, self.partition, key, mark, self.now)
        };
        if !together.unchanged.iter().all(|(key, mark)| is_same(&key.0, &mark.0)) {
            return Ok(Reply::Absent);
        }
        self.repeats = together.repeats;
        let mut replies = Vec::with_capacity(together.commands.len());
        let mut changes: HashMap<Bytes, Change> = HashMap::new();
        let mut bytes = 0;
        for command in &together.commands {
            let more = self.answer_bytes(command);
            if bytes + more > REPLY_BYTES_MAX {
                replies.push(Reply::Refused(Refusal::ReplyTooLong { bytes_max: REPLY_BYTES_MAX }));
                continue;
            }
            bytes += more;
            replies.push(self.run(&command.key.0, &command.op).unwrap_or_else(Reply::Refused));
            // Only the last state of each key goes to the other copies.
            changes.extend(self.changes.drain(..).map(|change| (change.key.clone(), change)));
        }
        self.changes.extend(changes.into_values());
        self.changes.sort_unstable_by_key(|change| change.version);
        match together.is_single {
            true => Ok(replies.pop().unwrap_or(Reply::Absent)),
            false => Ok(Reply::List(replies)),
        }
    }

    fn answer_bytes(&self, command: &KeyCommand) -> usize {
        match command.answers_value() {
            true => self.shard.peek(self.partition, &command.key.0, self.now).map_or(0, |item| {
                match item.content {
                    ItemContent::Value { bytes, .. } => bytes.len(),
                    ItemContent::Deleted => 0,
                }
            }),
            false => 0,
        }
    }
}
