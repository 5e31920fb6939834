//! Commands about when a key expires.

use bytes::Bytes;

use crate::command::ExpireCondition;
use crate::command::Expiry;
use crate::command::Reply;
use crate::command::TimeFormat;
use crate::command::execute::Answer;
use crate::command::execute::Run;
use crate::store::Content;
use crate::time::Timestamp;

/// What TTL answers for a key that is not there.
const NO_KEY: i64 = -2;
/// What TTL answers for a key that does not expire.
const NO_EXPIRY: i64 = -1;

impl Run<'_> {
    pub(super) fn expire(&mut self, key: &Bytes, at: Timestamp, condition: ExpireCondition) -> Answer {
        let Some(former) = self.former(key) else { return Ok(Reply::Integer(0)) };
        let is_due = match condition {
            ExpireCondition::Always => true,
            ExpireCondition::IfNone => former.expires_at.is_none(),
            ExpireCondition::IfSome => former.expires_at.is_some(),
            // A key that does not expire counts as expiring after everything.
            ExpireCondition::IfGreater => former.expires_at.is_some_and(|before| at > before),
            ExpireCondition::IfLess => former.expires_at.is_none_or(|before| at < before),
            ExpireCondition::IfSomeAndLess => former.expires_at.is_some_and(|before| at < before),
        };
        match is_due {
            true if at <= self.now => self.apply(key, Content::Deleted)?,
            true => self.write(key, former.value, Some(at))?,
            false => {}
        }
        Ok(Reply::Integer(i64::from(is_due)))
    }

    pub(super) fn persist(&mut self, key: &Bytes) -> Answer {
        match self.former(key) {
            Some(former) if former.expires_at.is_some() => {
                self.write(key, former.value, None)?;
                Ok(Reply::Integer(1))
            }
            Some(_) | None => Ok(Reply::Integer(0)),
        }
    }

    pub(super) fn get_expire(&mut self, key: &Bytes, expiry: Expiry) -> Answer {
        let Some(former) = self.former(key) else { return Ok(Reply::Absent) };
        match expiry {
            Expiry::Keep => {}
            Expiry::Never if former.expires_at.is_none() => {}
            Expiry::Never => self.write(key, former.value.clone(), None)?,
            Expiry::At(at) if at <= self.now => self.apply(key, Content::Deleted)?,
            Expiry::At(at) => self.write(key, former.value.clone(), Some(at))?,
        }
        Ok(Reply::Bytes(former.value.into()))
    }

    pub(super) fn time_to_live(&self, key: &Bytes, format: TimeFormat) -> i64 {
        let Some(former) = self.former(key) else { return NO_KEY };
        let Some(at) = former.expires_at else { return NO_EXPIRY };
        let left = at.as_millis().saturating_sub(self.now.as_millis());
        let millis = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
        match format {
            TimeFormat::Seconds => millis(left.saturating_add(500) / 1_000),
            TimeFormat::Millis => millis(left),
            TimeFormat::EpochSeconds => millis(at.as_millis().saturating_add(500) / 1_000),
            TimeFormat::EpochMillis => millis(at.as_millis()),
        }
    }
}
