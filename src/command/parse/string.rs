//! Commands about values.

use bytes::Bytes;

use crate::command::Command;
use crate::command::Expiry;
use crate::command::Invalid;
use crate::command::KeyCommand;
use crate::command::Many;
use crate::command::Op;
use crate::command::Refusal;
use crate::command::Set;
use crate::command::SetAnswer;
use crate::command::SetCondition;
use crate::command::execute::parse_float;
use crate::command::parse::Words;
use crate::command::parse::check_one_slot;
use crate::command::parse::expiry::Unit;
use crate::command::parse::is;
use crate::store::Blob;

type Parsed = Result<Command, Refusal>;

/// Keys and values that are set at once travel in one message: together they must fit one.
const ATOMIC_BYTES_MAX: usize = 1 << 20;

fn one(key: Bytes, op: Op) -> Parsed {
    Ok(Command::Key(KeyCommand::new(key, op)))
}

pub fn get(words: &mut Words<'_>) -> Parsed {
    one(words.key()?, Op::Get)
}

pub fn set(words: &mut Words<'_>) -> Parsed {
    let (key, value) = words.entry()?;
    let (mut expiry, mut condition, mut answer) = (None, SetCondition::Always, SetAnswer::Done);
    while let Some(option) = words.next() {
        if words.expiry_option(option, ("KEEPTTL", Expiry::Keep), &mut expiry)? {
            continue;
        }
        match condition {
            SetCondition::Always | SetCondition::IfAbsent if is(option, "NX") => {
                condition = SetCondition::IfAbsent;
            }
            SetCondition::Always | SetCondition::IfPresent if is(option, "XX") => {
                condition = SetCondition::IfPresent;
            }
            SetCondition::Always | SetCondition::IfAbsent | SetCondition::IfPresent if is(option, "GET") => {
                answer = SetAnswer::Former;
            }
            SetCondition::Always | SetCondition::IfAbsent | SetCondition::IfPresent => {
                return Err(Invalid::Syntax.into());
            }
        }
    }
    let expiry = expiry.unwrap_or(Expiry::Never);
    one(key, Op::Set(Set { value: Blob(value), expiry, condition, answer }))
}

pub fn setnx(words: &mut Words<'_>) -> Parsed {
    let (key, value) = words.entry()?;
    let (expiry, condition, answer) = (Expiry::Never, SetCondition::IfAbsent, SetAnswer::Number);
    one(key, Op::Set(Set { value: Blob(value), expiry, condition, answer }))
}

pub fn getset(words: &mut Words<'_>) -> Parsed {
    let (key, value) = words.entry()?;
    let (expiry, condition, answer) = (Expiry::Never, SetCondition::Always, SetAnswer::Former);
    one(key, Op::Set(Set { value: Blob(value), expiry, condition, answer }))
}

pub fn setex(words: &mut Words<'_>) -> Parsed {
    set_for(words, Unit::Seconds)
}

pub fn psetex(words: &mut Words<'_>) -> Parsed {
    set_for(words, Unit::Millis)
}

fn set_for(words: &mut Words<'_>, unit: Unit) -> Parsed {
    let key = words.word()?;
    let expiry = words.later_time(unit)?;
    let value = words.word()?;
    words.check(key.len() + value.len())?;
    let (condition, answer) = (SetCondition::Always, SetAnswer::Done);
    one(key, Op::Set(Set { value: Blob(value), expiry, condition, answer }))
}

pub fn getdel(words: &mut Words<'_>) -> Parsed {
    one(words.key()?, Op::Take)
}

pub fn getex(words: &mut Words<'_>) -> Parsed {
    let key = words.key()?;
    let mut expiry = None;
    while let Some(option) = words.next() {
        if !words.expiry_option(option, ("PERSIST", Expiry::Never), &mut expiry)? {
            return Err(Invalid::Syntax.into());
        }
    }
    one(key, Op::GetExpire(expiry.unwrap_or(Expiry::Keep)))
}

pub fn mget(words: &mut Words<'_>) -> Parsed {
    Ok(Command::Many(Many::Get(words.keys()?)))
}

pub fn mset(words: &mut Words<'_>) -> Parsed {
    Ok(Command::Many(Many::Set(words.entries()?)))
}

pub fn msetnx(words: &mut Words<'_>) -> Parsed {
    let entries = words.entries()?;
    check_one_slot(entries.iter().map(|(key, _)| key))?;
    let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ATOMIC_BYTES_MAX {
        return Err(Refusal::EntryTooLarge { bytes, bytes_max: ATOMIC_BYTES_MAX });
    }
    let mut entries = entries.into_iter().map(|(key, value)| (Blob(key), Blob(value)));
    let Some((key, value)) = entries.next() else { return Err(words.verb.word_count()) };
    one(key.0, Op::SetAllIfAbsent { value, others: entries.collect() })
}

pub fn incr(words: &mut Words<'_>) -> Parsed {
    one(words.key()?, Op::Add(1))
}

pub fn decr(words: &mut Words<'_>) -> Parsed {
    one(words.key()?, Op::Add(-1))
}

pub fn incrby(words: &mut Words<'_>) -> Parsed {
    one(words.key()?, Op::Add(words.integer()?))
}

pub fn decrby(words: &mut Words<'_>) -> Parsed {
    let (key, by) = (words.key()?, words.integer()?);
    let by = by.checked_neg().ok_or(Refusal::Invalid(Invalid::DecrementOverflow))?;
    one(key, Op::Add(by))
}

pub fn incrbyfloat(words: &mut Words<'_>) -> Parsed {
    let (key, by) = (words.key()?, words.word()?);
    words.check(key.len() + by.len())?;
    match parse_float(&by) {
        Some(_) => one(key, Op::AddFloat(Blob(by))),
        // What it is added to makes no difference.
        None if is_infinite(&by) => Err(Invalid::NotFinite.into()),
        None => Err(Invalid::NotFloat.into()),
    }
}

fn is_infinite(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"+").or(text.strip_prefix(b"-")).unwrap_or(text);
    [&b"inf"[..], b"infinity"].iter().any(|name| digits.eq_ignore_ascii_case(name))
}

pub fn append(words: &mut Words<'_>) -> Parsed {
    let (key, bytes) = words.entry()?;
    one(key, Op::Append(Blob(bytes)))
}

pub fn strlen(words: &mut Words<'_>) -> Parsed {
    one(words.key()?, Op::Length)
}

pub fn getrange(words: &mut Words<'_>) -> Parsed {
    let (key, start, end) = (words.key()?, words.integer()?, words.integer()?);
    one(key, Op::Range { start, end })
}

pub fn setrange(words: &mut Words<'_>) -> Parsed {
    let (key, offset, bytes) = (words.key()?, words.integer()?, words.word()?);
    if offset < 0 {
        return Err(Invalid::Offset.into());
    }
    words.check(key.len() + bytes.len())?;
    // What is beyond is beyond every limit of an entry, too.
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    one(key, Op::SetRange { offset, bytes: Blob(bytes) })
}
