//! Commands about leases. The text protocol has no options: there their values stand alone.

use std::time::Duration;

use bytes::Bytes;

use crate::command::Command;
use crate::command::Expiry;
use crate::command::Invalid;
use crate::command::KeyCommand;
use crate::command::Op;
use crate::command::Refusal;
use crate::command::SetLease;
use crate::command::parse::Words;
use crate::command::parse::expiry::Unit;
use crate::command::parse::is;
use crate::store::Blob;

type Parsed = Result<Command, Refusal>;

const MILLIS_PER_SECOND: u64 = 1_000;
/// Hexadecimal digits of a token.
const TOKEN_DIGITS: usize = 16;

pub fn getlease(words: &mut Words<'_>) -> Parsed {
    let key = words.key()?;
    let (mut wait, mut stale) = (None, None);
    if let [first, _] = words.rest
        && !is(first, "WAIT")
        && !is(first, "STALE")
    {
        (wait, stale) = (Some(words.natural()?), Some(words.natural()?));
    }
    while let Some(option) = words.next() {
        if is(option, "WAIT") && wait.is_none() && words.len() > 0 {
            wait = Some(words.natural()?);
        } else if is(option, "STALE") && stale.is_none() && words.len() > 0 {
            stale = Some(words.natural()?);
        } else {
            return Err(Invalid::Syntax.into());
        }
    }
    let stale_millis = stale.unwrap_or_default().saturating_mul(MILLIS_PER_SECOND);
    let command = KeyCommand::new(key, Op::GetLease { stale_millis });
    Ok(match wait.unwrap_or_default() {
        0 => Command::Key(command),
        millis => Command::AwaitLease { command, wait: Duration::from_millis(millis) },
    })
}

pub fn setlease(words: &mut Words<'_>) -> Parsed {
    let key = words.word()?;
    let token = token(&words.word()?)?;
    // Key and token are taken; of four words the third is the seconds.
    let (value, expiry) = match words.len() {
        2 => {
            let expiry = match words.rest.first() {
                Some(seconds) if &seconds[..] == b"0" => {
                    words.word()?;
                    Expiry::Never
                }
                Some(_) | None => words.later_time(Unit::Seconds)?,
            };
            (words.word()?, expiry)
        }
        _ => (words.word()?, expiry(words)?),
    };
    words.check(key.len() + value.len())?;
    Ok(Command::Key(KeyCommand::new(key, Op::SetLease(SetLease { token, value: Blob(value), expiry }))))
}

fn expiry(words: &mut Words<'_>) -> Result<Expiry, Refusal> {
    let unit = match words.next() {
        Some(option) => Unit::of_option(option).filter(|_| words.len() == 1).ok_or(Invalid::Syntax)?,
        None => return Ok(Expiry::Never),
    };
    words.later_time(unit)
}

fn token(word: &Bytes) -> Result<u64, Refusal> {
    let digits = std::str::from_utf8(word).ok().filter(|digits| digits.len() == TOKEN_DIGITS);
    let token = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    token.ok_or(Refusal::Invalid(Invalid::LeaseToken))
}

impl Words<'_> {
    /// A whole number that is not below zero.
    fn natural(&mut self) -> Result<u64, Refusal> {
        u64::try_from(self.integer()?).map_err(|_| Refusal::Invalid(Invalid::NotPositive))
    }
}
