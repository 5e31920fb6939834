//! Carries out a command on the shard that has its key. Semantics and error texts as Redis documents
//! them for strings.

mod expiry;
mod lease;
mod number;
mod object;
mod script;
#[cfg(test)]
mod tests;
mod together;

use bytes::Bytes;

pub(in crate::command) use number::parse_float;
use object::part_of;

use crate::command::Expiry;
use crate::command::Invalid;
use crate::command::KeyCommand;
use crate::command::Op;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Set;
use crate::command::SetAnswer;
use crate::command::SetCondition;
use crate::command::Tenure;
use crate::store::Applied;
use crate::store::Blob;
use crate::store::Change;
use crate::store::Content;
use crate::store::Item;
use crate::store::ItemContent;
use crate::store::KeyHash;
use crate::store::Partition;
use crate::store::Shard;
use crate::time::Clock;
use crate::time::Timestamp;
use crate::time::Version;

/// What came of a command.
#[derive(Debug)]
pub struct Executed<'a> {
    /// The answer.
    pub reply: Reply<'a>,
    /// What has changed, for the other copies, in order.
    pub changes: Vec<Change>,
}

impl<'a> Executed<'a> {
    fn read(reply: Reply<'a>) -> Self {
        Self { reply, changes: Vec::new() }
    }
}

/// Carries out a command on its partition. What it writes must not be larger than the shard's
/// `entry_bytes_max`.
pub fn execute<'a>(
    command: &KeyCommand,
    partition: Partition,
    shard: &'a mut Shard,
    clock: &mut Clock,
    tenure: &mut Tenure,
    now: Timestamp,
) -> Executed<'a> {
    let key = &command.key.0;
    // The one that is worth a path of its own: its reply is borrowed from the shard.
    if let Op::Get = command.op {
        return Executed::read(shard.get(partition, key, now).map_or(Reply::Absent, Reply::Value));
    }
    let entry_bytes_max = shard.limits().entry_bytes_max;
    let began = clock.last();
    let (repeats, changes) = (None, Vec::new());
    let mut run = Run { partition, shard, clock, tenure, now, entry_bytes_max, began, repeats, changes };
    let reply = run.run(key, &command.op).unwrap_or_else(Reply::Refused);
    Executed { reply, changes: run.changes }
}

/// Gives a key of the partition a value, not larger than the shard's `entry_bytes_max` together with the
/// key, without conditions and for good. The hash is the shard's of the key. Returns the version of the change, if the other copies need it.
///
/// # Errors
///
/// The value does not fit the shard.
pub fn set_plainly(
    key: &[u8],
    value: &[u8],
    (partition, hash): (Partition, KeyHash),
    shard: &mut Shard,
    clock: &mut Clock,
    now: Timestamp,
) -> Result<Option<Version>, Refusal> {
    let version = clock.next(now);
    let content = ItemContent::Value { bytes: value, expires_at: None };
    match shard.apply_hashed(Item { partition, key, version, content }, hash, now) {
        Applied::Newer => Ok(Some(version)),
        Applied::Stale => Ok(None),
        Applied::NoRoom => Err(Refusal::OutOfMemory),
        Applied::TooLarge { bytes, bytes_max } => Err(Refusal::NoMemory { bytes, bytes_max }),
    }
}

/// A command under way.
struct Run<'a> {
    partition: Partition,
    shard: &'a mut Shard,
    clock: &'a mut Clock,
    tenure: &'a mut Tenure,
    now: Timestamp,
    entry_bytes_max: usize,
    /// Before its own changes.
    began: Version,
    /// See [`Together::repeats`].
    repeats: Option<Version>,
    changes: Vec<Change>,
}

/// What a key is before the command.
struct Former {
    value: Bytes,
    expires_at: Option<Timestamp>,
}

type Answer = Result<Reply<'static>, Refusal>;

impl Run<'_> {
    fn run(&mut self, key: &Bytes, op: &Op) -> Answer {
        match op {
            Op::Get => Ok(self.read(key).map_or(Reply::Absent, |value| Reply::Bytes(value.to_vec()))),
            Op::Set(set) => self.set(key, set),
            Op::Delete => self.delete(key).map(|was_there| Reply::Deleted(u64::from(was_there))),
            Op::Exists => Ok(Reply::Integer(self.exists(key))),
            Op::Touch => Ok(Reply::Integer(i64::from(self.read(key).is_some()))),
            Op::Type => Ok(Reply::Word(if self.exists(key) == 1 { "string" } else { "none" })),
            Op::Expire { at, condition } => self.expire(key, *at, *condition),
            Op::TimeToLive(format) => Ok(Reply::Integer(self.time_to_live(key, *format))),
            Op::Persist => self.persist(key),
            Op::Add(by) => self.add(key, *by),
            Op::AddFloat(by) => self.add_float(key, &by.0),
            Op::Append(bytes) => self.append(key, bytes),
            Op::Length => Ok(Reply::Integer(self.read(key).map_or(0, |value| value.len() as i64))),
            Op::Range { start, end } => {
                Ok(Reply::Bytes(part_of(self.read(key).unwrap_or_default(), *start, *end).to_vec()))
            }
            Op::SetRange { offset, bytes } => self.set_range(key, *offset as usize, bytes),
            Op::Take => self.take(key),
            Op::GetExpire(expiry) => self.get_expire(key, *expiry),
            Op::Rename { to, if_absent } => self.rename(key, &to.0, *if_absent),
            Op::SetAllIfAbsent { value, others } => self.set_all_if_absent(key, value, others),
            Op::MemoryUsage => Ok(self.memory_usage(key)),
            Op::Encoding => Ok(self.encoding(key)),
            Op::Mark => Ok(Reply::Bytes(self.tenure.mark(self.shard, self.partition, key, self.now).into())),
            Op::Together(together) => self.together(together),
            Op::Script(call) => self.script(key, call),
            Op::GetLease { stale_millis } => self.get_lease(key, *stale_millis),
            Op::SetLease(set) => self.set_lease(key, set),
            Op::Frequency => self.frequency(key),
            Op::IdleTime => self.idle_time(key),
            Op::Aside(aside) => Ok(self.aside(key, *aside)),
        }
    }

    /// The value of a key, which counts as used.
    fn read(&mut self, key: &[u8]) -> Option<&[u8]> {
        self.shard.get(self.partition, key, self.now)
    }

    fn exists(&self, key: &[u8]) -> i64 {
        i64::from(self.shard.contains(self.partition, key, self.now))
    }

    /// A copy of what a key is, for what is computed from it.
    fn former(&self, key: &[u8]) -> Option<Former> {
        match self.shard.peek(self.partition, key, self.now)?.content {
            ItemContent::Value { bytes, expires_at } => {
                Some(Former { value: Bytes::copy_from_slice(bytes), expires_at })
            }
            ItemContent::Deleted => None,
        }
    }

    fn write(&mut self, key: &Bytes, value: Bytes, expires_at: Option<Timestamp>) -> Result<(), Refusal> {
        let bytes = key.len() + value.len();
        if bytes > self.entry_bytes_max {
            return Err(Refusal::EntryTooLarge { bytes, bytes_max: self.entry_bytes_max });
        }
        self.apply(key, Content::Value { bytes: value, expires_at })
    }

    fn apply(&mut self, key: &Bytes, content: Content) -> Result<(), Refusal> {
        if self.repeats.is_some_and(|sent_at| self.is_overtaken(key, sent_at)) {
            return Ok(());
        }
        let change = Change { key: key.clone(), version: self.clock.next(self.now), content };
        match self.shard.apply(self.partition, &change, self.now) {
            Applied::Newer => {
                self.tenure.changed(key);
                self.changes.push(change);
            }
            // Only a version from a clock far ahead can be greater; then that one is the later write.
            Applied::Stale => {}
            Applied::NoRoom => return Err(Refusal::OutOfMemory),
            Applied::TooLarge { bytes, bytes_max } => return Err(Refusal::NoMemory { bytes, bytes_max }),
        }
        Ok(())
    }

    /// Whether a key was written after that, and before this run.
    fn is_overtaken(&self, key: &[u8], sent_at: Version) -> bool {
        let is_later = |version: Version| version > sent_at && version <= self.began;
        let written = self.shard.version_of(self.partition, key);
        written.is_some_and(is_later) || is_later(self.shard.flushed_at(self.partition))
    }

    fn set(&mut self, key: &Bytes, set: &Set) -> Answer {
        let needs_former = set.expiry == Expiry::Keep
            || set.condition != SetCondition::Always
            || set.answer == SetAnswer::Former;
        let former = if needs_former { self.former(key) } else { None };
        let is_due = match set.condition {
            SetCondition::Always => true,
            SetCondition::IfAbsent => former.is_none(),
            SetCondition::IfPresent => former.is_some(),
        };
        if is_due {
            let kept = former.as_ref().and_then(|former| former.expires_at);
            let expires_at = match set.expiry {
                Expiry::Keep => kept,
                Expiry::Never => None,
                Expiry::At(at) => Some(at),
            };
            self.write(key, set.value.0.clone(), expires_at)?;
        }
        Ok(match set.answer {
            SetAnswer::Done if is_due => Reply::Done,
            SetAnswer::Done => Reply::Absent,
            SetAnswer::Former => former.map_or(Reply::Absent, |former| Reply::Bytes(former.value.into())),
            SetAnswer::Number => Reply::Integer(i64::from(is_due)),
        })
    }

    fn delete(&mut self, key: &Bytes) -> Result<bool, Refusal> {
        // Also if there is nothing to delete: who fetches its value has fetched an old one.
        self.tenure.changed(key);
        let was_there = self.shard.contains(self.partition, key, self.now);
        if was_there {
            self.apply(key, Content::Deleted)?;
        }
        Ok(was_there)
    }

    fn append(&mut self, key: &Bytes, bytes: &Blob) -> Answer {
        let former = self.former(key);
        let expires_at = former.as_ref().and_then(|former| former.expires_at);
        let mut value = former.map_or_else(Vec::new, |former| former.value.into());
        value.extend_from_slice(&bytes.0);
        let length = value.len() as i64;
        self.write(key, value.into(), expires_at)?;
        Ok(Reply::Integer(length))
    }

    fn set_range(&mut self, key: &Bytes, offset: usize, bytes: &Blob) -> Answer {
        let former = self.former(key);
        let expires_at = former.as_ref().and_then(|former| former.expires_at);
        let mut value: Vec<u8> = former.map_or_else(Vec::new, |former| former.value.into());
        if bytes.0.is_empty() {
            return Ok(Reply::Integer(value.len() as i64));
        }
        let end = offset.saturating_add(bytes.0.len());
        if key.len().saturating_add(end) > self.entry_bytes_max {
            // Before the memory for it is asked for.
            let bytes = key.len().saturating_add(end);
            return Err(Refusal::EntryTooLarge { bytes, bytes_max: self.entry_bytes_max });
        }
        value.resize(value.len().max(end), 0);
        value[offset..end].copy_from_slice(&bytes.0);
        let length = value.len() as i64;
        self.write(key, value.into(), expires_at)?;
        Ok(Reply::Integer(length))
    }

    fn take(&mut self, key: &Bytes) -> Answer {
        self.tenure.changed(key);
        let Some(former) = self.former(key) else { return Ok(Reply::Absent) };
        self.apply(key, Content::Deleted)?;
        Ok(Reply::Bytes(former.value.into()))
    }

    fn rename(&mut self, key: &Bytes, to: &Bytes, if_absent: bool) -> Answer {
        let former = self.former(key).ok_or(Refusal::Invalid(Invalid::NoSuchKey))?;
        if if_absent && self.exists(to) == 1 {
            return Ok(Reply::Integer(0));
        }
        if key != to {
            self.write(to, former.value, former.expires_at)?;
            self.apply(key, Content::Deleted)?;
        }
        Ok(if if_absent { Reply::Integer(1) } else { Reply::Done })
    }

    fn set_all_if_absent(&mut self, key: &Bytes, value: &Blob, others: &[(Blob, Blob)]) -> Answer {
        let is_there = |key: &Bytes| self.exists(key) == 1;
        if is_there(key) || others.iter().any(|(other, _)| is_there(&other.0)) {
            return Ok(Reply::Integer(0));
        }
        self.write(key, value.0.clone(), None)?;
        for (other, value) in others {
            self.write(&other.0, value.0.clone(), None)?;
        }
        Ok(Reply::Integer(1))
    }
}
