//! Known scripts, each as its text says. A key is read, as by GET, wherever its script does.

use bytes::Bytes;

use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Script;
use crate::command::ScriptCall;
use crate::command::TimeFormat;
use crate::command::execute::Answer;
use crate::command::execute::Run;
use crate::command::parse_integer;
use crate::time::Timestamp;

/// What is longer than any expiry.
const MILLIS_MAX: i64 = 1 << 52;

/// The arguments of a call.
struct Arguments<'a>(&'a ScriptCall);

impl Arguments<'_> {
    fn bytes(&self, index: usize) -> Bytes {
        self.0.arguments.get(index).map(|argument| argument.0.clone()).unwrap_or_default()
    }

    fn integer(&self, index: usize) -> Result<i64, Refusal> {
        parse_integer(&self.bytes(index)).ok_or(Refusal::Invalid(Invalid::NotInteger))
    }

    /// Milliseconds, of any sign; what is beyond all times is refused.
    fn millis(&self, index: usize, command: &str) -> Result<i64, Refusal> {
        let millis = self.integer(index)?;
        if millis < MILLIS_MAX { Ok(millis) } else { Err(expire_time(command)) }
    }

    fn seconds_as_millis(&self, index: usize, command: &str) -> Result<i64, Refusal> {
        let millis = self.integer(index)?.saturating_mul(1_000);
        if millis < MILLIS_MAX { Ok(millis) } else { Err(expire_time(command)) }
    }
}

fn expire_time(command: &str) -> Refusal {
    Invalid::ExpireTime { command: command.to_owned() }.into()
}

impl Run<'_> {
    pub(super) fn script(&mut self, key: &Bytes, call: &ScriptCall) -> Answer {
        let arguments = Arguments(call);
        let keys = || std::iter::once(key).chain(call.keys.iter().map(|key| &key.0));
        match call.script {
            Script::DeleteIfEqual => {
                let is_due = self.is(key, &arguments.bytes(0)) && self.delete(key)?;
                Ok(Reply::Integer(i64::from(is_due)))
            }
            Script::ExpireIfEqual => {
                let millis = arguments.millis(1, "pexpire")?;
                let is_due = self.is(key, &arguments.bytes(0)) && self.expire_in(key, millis)?;
                Ok(Reply::Integer(i64::from(is_due)))
            }
            Script::Extend => self.extend_lock(key, &arguments),
            Script::TtlIfEqual => {
                let is_due = self.is(key, &arguments.bytes(0));
                Ok(Reply::Integer(if is_due { self.millis_left(key).max(0) } else { 0 }))
            }
            Script::SetIfEqual => self.set_if_equal(key, &arguments),
            Script::SetIfAbsent if self.exists(key) == 1 => Ok(Reply::Absent),
            Script::SetIfAbsent => {
                let millis = arguments.seconds_as_millis(1, "setex")?;
                self.set_for(key, arguments.bytes(0), millis, "setex")?;
                Ok(Reply::Done)
            }
            Script::AddIfPresent if self.exists(key) == 0 => Ok(Reply::Absent),
            Script::AddIfPresent | Script::Add => self.add(key, arguments.integer(0)?),
            Script::CountSeconds => {
                let (millis, by) = (arguments.seconds_as_millis(0, "expire")?, arguments.integer(1)?);
                self.count(key, by, by, millis)
            }
            Script::CountMillis => self.count(key, arguments.integer(0)?, 1, arguments.millis(1, "pexpire")?),
            Script::CountLimited => self.count_limited(key, &arguments),
            Script::CountReset => self.count_reset(key, &arguments),
            Script::CountWindow => self.count_window(key, arguments.millis(0, "set")?),
            Script::ReadWindow => Ok(Reply::List(self.window(key))),
            Script::SlidingWindow | Script::AcquireSlidingWindow => {
                let present = call.keys.first().map(|key| key.0.clone()).unwrap_or_default();
                self.sliding(call.script, key, &present, &arguments)
            }
            Script::Lock if keys().any(|key| self.exists(key) == 1) => Ok(Reply::Integer(0)),
            Script::Relock if !keys().all(|key| self.is(key, &arguments.bytes(0))) => Ok(Reply::Integer(0)),
            Script::Lock | Script::Relock => {
                let (value, millis) = (arguments.bytes(0), arguments.millis(1, "set")?);
                keys().try_for_each(|key| self.set_for(key, value.clone(), millis, "set"))?;
                Ok(Reply::Integer(keys().count() as i64))
            }
            Script::Unlock => {
                let mut count = 0;
                for key in keys() {
                    count += i64::from(self.is(key, &arguments.bytes(0)) && self.delete(key)?);
                }
                Ok(Reply::Integer(count))
            }
        }
    }

    fn is(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.read(key).is_some_and(|present| present == value)
    }

    fn millis_left(&self, key: &Bytes) -> i64 {
        self.time_to_live(key, TimeFormat::Millis)
    }

    /// Whether the key was there. Nothing or less deletes it.
    fn expire_in(&mut self, key: &Bytes, millis: i64) -> Result<bool, Refusal> {
        let at = self.now.as_millis().saturating_add_signed(millis);
        let set = self.expire(key, Timestamp::from_millis(at), crate::command::ExpireCondition::Always)?;
        Ok(set == Reply::Integer(1))
    }

    fn set_for(&mut self, key: &Bytes, value: Bytes, millis: i64, command: &str) -> Result<(), Refusal> {
        let millis = u64::try_from(millis).ok().filter(|millis| *millis > 0);
        let millis = millis.ok_or_else(|| expire_time(command))?;
        self.write(key, value, Some(Timestamp::from_millis(self.now.as_millis() + millis)))
    }

    fn extend_lock(&mut self, key: &Bytes, arguments: &Arguments<'_>) -> Answer {
        let millis = arguments.millis(1, "pexpire")?;
        let left = self.millis_left(key);
        if !self.is(key, &arguments.bytes(0)) || left < 0 {
            return Ok(Reply::Integer(0));
        }
        let is_added = arguments.bytes(2) == "0";
        self.expire_in(key, if is_added { millis.saturating_add(left) } else { millis })?;
        Ok(Reply::Integer(1))
    }

    fn set_if_equal(&mut self, key: &Bytes, arguments: &Arguments<'_>) -> Answer {
        if !self.is(key, &arguments.bytes(1)) {
            return Ok(Reply::Integer(0));
        }
        let value = arguments.bytes(0);
        match (arguments.0.arguments.len(), arguments.bytes(2).to_ascii_uppercase().as_slice()) {
            (4, b"EX") => self.set_for(key, value, arguments.seconds_as_millis(3, "set")?, "set")?,
            (4, b"PX") => self.set_for(key, value, arguments.millis(3, "set")?, "set")?,
            (4, _) => return Err(Invalid::Syntax.into()),
            _ => self.write(key, value, None)?,
        }
        Ok(Reply::Done)
    }

    /// Adds; where that makes it `first`, the number is new and expires.
    fn count(&mut self, key: &Bytes, by: i64, first: i64, millis: i64) -> Answer {
        let count = self.add(key, by)?;
        if count == Reply::Integer(first) {
            self.expire_in(key, millis)?;
        }
        Ok(count)
    }

    fn count_limited(&mut self, key: &Bytes, arguments: &Arguments<'_>) -> Answer {
        let (by, millis) = (arguments.integer(0)?, arguments.seconds_as_millis(1, "set")?);
        if self.exists(key) == 0 {
            self.set_for(key, Bytes::from_static(b"0"), millis, "set")?;
        }
        let count = self.add(key, by)?;
        let mut left = self.millis_left(key);
        if left == -1 {
            self.expire_in(key, millis)?;
            left = millis;
        }
        Ok(Reply::List(vec![count, Reply::Integer(left)]))
    }

    fn count_reset(&mut self, key: &Bytes, arguments: &Arguments<'_>) -> Answer {
        let millis = arguments.millis(1, "pexpire")?;
        let count = self.add(key, 1)?;
        let mut left = self.millis_left(key);
        if left <= 0 || arguments.bytes(0) == "1" {
            self.expire_in(key, millis)?;
            left = millis;
        }
        Ok(Reply::List(vec![count, Reply::Integer(left)]))
    }

    fn count_window(&mut self, key: &Bytes, millis: i64) -> Answer {
        let left = self.millis_left(key);
        if left <= 0 {
            self.set_for(key, Bytes::from_static(b"1"), millis, "set")?;
            return Ok(Reply::List(vec![Reply::Integer(1), Reply::Integer(millis)]));
        }
        Ok(Reply::List(vec![self.add(key, 1)?, Reply::Integer(left)]))
    }

    fn window(&mut self, key: &Bytes) -> Vec<Reply<'static>> {
        let value = self.read(key).map_or(Reply::Absent, |value| Reply::Bytes(value.to_vec()));
        vec![value, Reply::Integer(self.millis_left(key))]
    }

    fn sliding(
        &mut self,
        script: Script,
        former: &Bytes,
        present: &Bytes,
        arguments: &Arguments<'_>,
    ) -> Answer {
        if script == Script::SlidingWindow {
            self.slide(former, present, arguments.seconds_as_millis(0, "set")?)?;
            let windows = [self.window(former), self.window(present)];
            return Ok(Reply::List(windows.concat()));
        }
        let (limit, length, amount) =
            (arguments.integer(0)?, arguments.seconds_as_millis(1, "set")?, arguments.integer(2)?);
        if amount > limit {
            return Ok(Reply::Absent);
        }
        self.slide(former, present, length)?;
        let count = |value: Option<&[u8]>| i128::from(value.and_then(parse_integer).unwrap_or_default());
        let (before, now) = (count(self.read(former)), count(self.read(present)));
        let left = i128::from(self.millis_left(former).max(0));
        let weighted = (before * left).checked_div_euclid(i128::from(length)).unwrap_or_default() + now;
        if weighted + i128::from(amount) > i128::from(limit) {
            return Ok(Reply::Absent);
        }
        match self.exists(present) {
            1 => drop(self.add(present, amount)?),
            _ => self.set_for(present, amount.to_string().into(), length.saturating_mul(2), "set")?,
        }
        Ok(Reply::Integer(1))
    }

    /// The present window becomes the one before when its time is over: a count is kept twice as long.
    fn slide(&mut self, former: &Bytes, present: &Bytes, length: i64) -> Result<(), Refusal> {
        let left = self.millis_left(present);
        if left > 0 && left < length {
            self.rename(present, former, false)?;
            self.set_for(present, Bytes::from_static(b"0"), left + length, "set")?;
        }
        Ok(())
    }
}
