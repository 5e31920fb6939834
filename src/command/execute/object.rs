//! What a key is like, and reads that leave no trace.

use bytes::Bytes;

use crate::command::Aside;
use crate::command::Invalid;
use crate::command::Reply;
use crate::command::execute::Answer;
use crate::command::execute::Former;
use crate::command::execute::Run;
use crate::command::execute::number;
use crate::store::EvictionPolicy;

impl Run<'_> {
    pub(super) fn encoding(&self, key: &[u8]) -> Reply<'static> {
        let encoding = |former: Former| Reply::Bytes(number::encoding(&former.value).into());
        self.former(key).map_or(Reply::Absent, encoding)
    }

    pub(super) fn memory_usage(&self, key: &Bytes) -> Reply<'static> {
        /// What a record's header and its share of a table take.
        const OVERHEAD_BYTES: usize = 27;
        self.former(key).map_or(Reply::Absent, |former| {
            Reply::Integer((key.len() + former.value.len() + OVERHEAD_BYTES) as i64)
        })
    }

    pub(super) fn frequency(&self, key: &[u8]) -> Answer {
        if self.exists(key) == 0 {
            return Ok(Reply::Absent);
        }
        match self.shard.limits().eviction {
            // None for a moment, while a change of the policy is under way.
            EvictionPolicy::Lfu => {
                let frequency = self.shard.frequency(self.partition, key, self.now).unwrap_or(0);
                Ok(Reply::Integer(i64::try_from(frequency).unwrap_or(i64::MAX)))
            }
            EvictionPolicy::Lru | EvictionPolicy::Ttl | EvictionPolicy::None => {
                Err(Invalid::NoFrequency.into())
            }
        }
    }

    /// Since when it was not written: when it was read is not kept.
    pub(super) fn idle_time(&self, key: &[u8]) -> Answer {
        let Some(item) = self.shard.peek(self.partition, key, self.now) else { return Ok(Reply::Absent) };
        if self.shard.limits().eviction == EvictionPolicy::Lfu {
            return Err(Invalid::NoIdleTime.into());
        }
        // The clock of the node that wrote it may be ahead.
        let millis = self.now.as_millis().saturating_sub(item.version.time().as_millis());
        Ok(Reply::Integer(i64::try_from(millis / 1_000).unwrap_or(i64::MAX)))
    }

    pub(super) fn aside(&mut self, key: &[u8], aside: Aside) -> Reply<'static> {
        let value = self.shard.get_aside(self.partition, key, self.now);
        match aside {
            Aside::Get => value.map_or(Reply::Absent, |value| Reply::Bytes(value.to_vec())),
            Aside::Length => Reply::Integer(value.map_or(0, |value| value.len() as i64)),
            Aside::Range { start, end } => {
                Reply::Bytes(part_of(value.unwrap_or_default(), start, end).to_vec())
            }
        }
    }
}

/// A part of a value; negative positions count from its end.
pub(super) fn part_of(value: &[u8], start: i64, end: i64) -> &[u8] {
    let length = value.len() as i64;
    // Positions before the first byte mean the first byte, unless they are the wrong way round.
    let is_reversed = start < 0 && end < 0 && start > end;
    let from_start = |position: i64| {
        let position = if position < 0 { position.saturating_add(length) } else { position };
        usize::try_from(position).unwrap_or_default()
    };
    let (start, end) = (from_start(start), from_start(end).saturating_add(1).min(value.len()));
    if start < end && !is_reversed { &value[start..end] } else { &[] }
}
