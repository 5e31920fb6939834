//! Commands about keys, whatever their values.

use bytes::Bytes;

use crate::command::Command;
use crate::command::ExpireCondition;
use crate::command::Invalid;
use crate::command::KeyCommand;
use crate::command::Many;
use crate::command::Op;
use crate::command::Refusal;
use crate::command::TimeFormat;
use crate::command::parse::Words;
use crate::command::parse::check_one_slot;
use crate::command::parse::expiry::Unit;
use crate::command::parse::is;
use crate::command::parse::parse_integer;
use crate::command::parse::printable;
use crate::command::server::About;
use crate::command::server::Server;
use crate::store::Blob;

type Parsed = Result<Command, Refusal>;

/// How many keys SCAN looks at where it is not told.
const SCAN_COUNT: usize = 10;
/// A pattern is tried on every key.
const PATTERN_BYTES_MAX: usize = 1_024;

fn one(words: &mut Words<'_>, op: Op) -> Parsed {
    Ok(Command::Key(KeyCommand::new(words.key()?, op)))
}

/// A single key needs nothing to be gathered.
fn several(words: &mut Words<'_>, op: Op, many: fn(Vec<Bytes>) -> Many) -> Parsed {
    match words.len() {
        1 => one(words, op),
        _ => Ok(Command::Many(many(words.keys()?))),
    }
}

pub fn del(words: &mut Words<'_>) -> Parsed {
    several(words, Op::Delete, Many::Delete)
}

pub fn exists(words: &mut Words<'_>) -> Parsed {
    several(words, Op::Exists, Many::Exists)
}

pub fn touch(words: &mut Words<'_>) -> Parsed {
    several(words, Op::Touch, Many::Touch)
}

pub fn kind(words: &mut Words<'_>) -> Parsed {
    one(words, Op::Type)
}

pub fn expire(words: &mut Words<'_>) -> Parsed {
    expire_in(words, Unit::Seconds)
}

pub fn pexpire(words: &mut Words<'_>) -> Parsed {
    expire_in(words, Unit::Millis)
}

pub fn expireat(words: &mut Words<'_>) -> Parsed {
    expire_in(words, Unit::EpochSeconds)
}

pub fn pexpireat(words: &mut Words<'_>) -> Parsed {
    expire_in(words, Unit::EpochMillis)
}

fn expire_in(words: &mut Words<'_>, unit: Unit) -> Parsed {
    let key = words.key()?;
    let at = words.time(unit)?;
    let condition = expire_condition(words)?;
    Ok(Command::Key(KeyCommand::new(key, Op::Expire { at, condition })))
}

fn expire_condition(words: &mut Words<'_>) -> Result<ExpireCondition, Refusal> {
    let (mut if_none, mut if_some, mut if_greater, mut if_less) = (false, false, false, false);
    while let Some(option) = words.next() {
        let found =
            [("NX", &mut if_none), ("XX", &mut if_some), ("GT", &mut if_greater), ("LT", &mut if_less)];
        match found.into_iter().find(|(name, _)| is(option, name)) {
            Some((_, is_wanted)) => *is_wanted = true,
            None => return Err(Invalid::Option { option: printable(option) }.into()),
        }
    }
    Ok(match (if_none, if_some, if_greater, if_less) {
        (true, false, false, false) => ExpireCondition::IfNone,
        (true, ..) => return Err(Invalid::ExpireIfNoneAndOther.into()),
        (false, _, true, true) => return Err(Invalid::ExpireIfGreaterAndLess.into()),
        // Greater than no expiry is nothing, so that this one asks for an expiry anyway.
        (false, _, true, false) => ExpireCondition::IfGreater,
        (false, true, false, true) => ExpireCondition::IfSomeAndLess,
        (false, false, false, true) => ExpireCondition::IfLess,
        (false, true, false, false) => ExpireCondition::IfSome,
        (false, false, false, false) => ExpireCondition::Always,
    })
}

pub fn ttl(words: &mut Words<'_>) -> Parsed {
    one(words, Op::TimeToLive(TimeFormat::Seconds))
}

pub fn pttl(words: &mut Words<'_>) -> Parsed {
    one(words, Op::TimeToLive(TimeFormat::Millis))
}

pub fn expiretime(words: &mut Words<'_>) -> Parsed {
    one(words, Op::TimeToLive(TimeFormat::EpochSeconds))
}

pub fn pexpiretime(words: &mut Words<'_>) -> Parsed {
    one(words, Op::TimeToLive(TimeFormat::EpochMillis))
}

pub fn persist(words: &mut Words<'_>) -> Parsed {
    one(words, Op::Persist)
}

pub fn rename(words: &mut Words<'_>) -> Parsed {
    rename_if(words, false)
}

pub fn renamenx(words: &mut Words<'_>) -> Parsed {
    rename_if(words, true)
}

fn rename_if(words: &mut Words<'_>, if_absent: bool) -> Parsed {
    let (key, to) = (words.key()?, words.key()?);
    check_one_slot([&key, &to].into_iter())?;
    Ok(Command::Key(KeyCommand::new(key, Op::Rename { to: Blob(to), if_absent })))
}

pub fn object(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    match (name.as_str(), count) {
        ("ENCODING", 1) => one(words, Op::Encoding),
        ("FREQ", 1) => one(words, Op::Frequency),
        ("IDLETIME", 1) => one(words, Op::IdleTime),
        ("HELP", 0) => Ok(Command::Server(Server::About(About::Parts(words.verb.name())))),
        ("ENCODING" | "FREQ" | "IDLETIME" | "HELP", _) => Err(words.subcommand_word_count(&name)),
        _ => Err(words.no_subcommand()),
    }
}

pub fn memory(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    match (name.as_str(), count) {
        ("USAGE", 1..) => {}
        ("HELP", 0) => return Ok(Command::Server(Server::About(About::Parts(words.verb.name())))),
        // What is freed goes back to the system by itself.
        ("PURGE", 0) => return Ok(Command::Nothing),
        ("USAGE" | "HELP" | "PURGE", _) => return Err(words.subcommand_word_count(&name)),
        _ => return Err(words.no_subcommand()),
    }
    let command = one(words, Op::MemoryUsage)?;
    // There is nothing to be sampled in a string.
    match words.next() {
        Some(option) if is(option, "SAMPLES") => {
            let Some(count) = words.next() else { return Err(Invalid::Syntax.into()) };
            let count = parse_integer(count).ok_or(Refusal::Invalid(Invalid::NotInteger))?;
            if count < 0 {
                return Err(Invalid::Syntax.into());
            }
            words.end()?;
        }
        Some(_) => return Err(Invalid::Syntax.into()),
        None => {}
    }
    Ok(command)
}

/// A pattern; none: everything matches.
fn pattern(words: &mut Words<'_>) -> Result<Option<Bytes>, Refusal> {
    let pattern = words.word()?;
    match pattern.len() {
        bytes if bytes > PATTERN_BYTES_MAX => {
            Err(Refusal::EntryTooLarge { bytes, bytes_max: PATTERN_BYTES_MAX })
        }
        _ => Ok(Some(pattern).filter(|pattern| &pattern[..] != b"*")),
    }
}

pub fn keys(words: &mut Words<'_>) -> Parsed {
    let pattern = if words.len() == 0 { None } else { pattern(words)? };
    Ok(Command::Keys { pattern })
}

pub fn randomkey(_: &mut Words<'_>) -> Parsed {
    Ok(Command::RandomKey)
}

pub fn scan(words: &mut Words<'_>) -> Parsed {
    let cursor = std::str::from_utf8(&words.word()?).ok().and_then(|text| text.parse().ok());
    let cursor = cursor.ok_or(Refusal::Invalid(Invalid::Cursor))?;
    let (mut count, mut wanted, mut is_none_of) = (SCAN_COUNT, None, false);
    while let Some(option) = words.next() {
        if words.len() == 0 {
            return Err(Invalid::Syntax.into());
        }
        if is(option, "MATCH") {
            wanted = pattern(words)?;
        } else if is(option, "COUNT") {
            let number = parse_integer(&words.word()?).ok_or(Refusal::Invalid(Invalid::NotInteger))?;
            count =
                usize::try_from(number).ok().filter(|n| *n > 0).ok_or(Refusal::Invalid(Invalid::Syntax))?;
        } else if is(option, "TYPE") {
            is_none_of = !is(&words.word()?, "string");
        } else {
            return Err(Invalid::Syntax.into());
        }
    }
    Ok(Command::Scan { cursor, pattern: wanted, count, is_none_of })
}
