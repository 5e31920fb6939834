//! When a key expires, as commands say it.

use bytes::Bytes;

use crate::command::Expiry;
use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::parse::Words;
use crate::command::parse::is;
use crate::time::Timestamp;

const MILLIS_PER_SECOND: i64 = 1_000;

/// In what a time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    EpochSeconds,
    EpochMillis,
}

impl Unit {
    /// What EX, PX, EXAT and PXAT mean.
    pub(super) fn of_option(word: &[u8]) -> Option<Self> {
        let names = [
            ("EX", Unit::Seconds),
            ("PX", Unit::Millis),
            ("EXAT", Unit::EpochSeconds),
            ("PXAT", Unit::EpochMillis),
        ];
        names.into_iter().find(|(name, _)| is(word, name)).map(|(_, unit)| unit)
    }

    /// The time in milliseconds since the epoch; none: it is beyond all numbers.
    fn epoch_millis(self, number: i64, now: Timestamp) -> Option<i64> {
        let now = i64::try_from(now.as_millis()).ok()?;
        match self {
            Unit::Seconds => number.checked_mul(MILLIS_PER_SECOND)?.checked_add(now),
            Unit::Millis => number.checked_add(now),
            Unit::EpochSeconds => number.checked_mul(MILLIS_PER_SECOND),
            Unit::EpochMillis => Some(number),
        }
    }
}

impl Words<'_> {
    /// The time that the next word says. A time that is over is as good as any.
    pub(super) fn time(&mut self, unit: Unit) -> Result<Timestamp, Refusal> {
        let number = self.integer()?;
        let millis = unit.epoch_millis(number, self.now).ok_or_else(|| self.expire_time())?;
        Ok(Timestamp::from_millis(u64::try_from(millis).unwrap_or_default()))
    }

    /// As [`Words::time`], but no number below one.
    pub(super) fn later_time(&mut self, unit: Unit) -> Result<Expiry, Refusal> {
        let is_positive = self.rest.first().and_then(|word| super::parse_integer(word)).is_none_or(|n| n > 0);
        let at = if is_positive { self.time(unit)? } else { return Err(self.expire_time()) };
        Ok(Expiry::At(at))
    }

    /// Of options that exclude each other, the expiry: EX, PX, EXAT or PXAT and a number, or the word
    /// that says that it `stays` or is cleared. None: the option is another one.
    pub(super) fn expiry_option(
        &mut self,
        option: &Bytes,
        (name, meaning): (&str, Expiry),
        found: &mut Option<Expiry>,
    ) -> Result<bool, Refusal> {
        let expiry = match Unit::of_option(option) {
            // An option without its number is a syntax error, as is a second one.
            Some(_) if self.rest.is_empty() || found.is_some() => return Err(Invalid::Syntax.into()),
            Some(unit) => self.later_time(unit)?,
            None if is(option, name) && found.is_none() => meaning,
            None if is(option, name) => return Err(Invalid::Syntax.into()),
            None => return Ok(false),
        };
        *found = Some(expiry);
        Ok(true)
    }

    fn expire_time(&self) -> Refusal {
        Invalid::ExpireTime { command: self.verb.name().to_ascii_lowercase() }.into()
    }
}
