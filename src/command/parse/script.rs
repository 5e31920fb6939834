//! Commands about scripts. See [`Script`] for which there are.

use bytes::Bytes;

use crate::command::Command;
use crate::command::Invalid;
use crate::command::KeyCommand;
use crate::command::Op;
use crate::command::Refusal;
use crate::command::Script;
use crate::command::ScriptCall;
use crate::command::parse::Words;
use crate::command::parse::check_one_slot;
use crate::command::script::sha1_of;
use crate::command::server::Server;
use crate::store::Blob;

type Parsed = Result<Command, Refusal>;

/// Bytes of the keys and arguments of a script: they travel in one message.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

pub fn eval(words: &mut Words<'_>) -> Parsed {
    let (text, count) = (words.word()?, key_count(words)?);
    call(words, by_text(&text)?, count)
}

pub fn evalsha(words: &mut Words<'_>) -> Parsed {
    let (sha1, count) = (words.word()?, key_count(words)?);
    call(words, by_name(&sha1)?, count)
}

pub fn eval_ro(words: &mut Words<'_>) -> Parsed {
    let (text, count) = (words.word()?, key_count(words)?);
    call(words, read_only(by_text(&text)?)?, count)
}

pub fn evalsha_ro(words: &mut Words<'_>) -> Parsed {
    let (sha1, count) = (words.word()?, key_count(words)?);
    call(words, read_only(by_name(&sha1)?)?, count)
}

fn by_text(text: &[u8]) -> Result<Script, Refusal> {
    let sha1 = sha1_of(text);
    Script::find(sha1.as_bytes()).ok_or(Refusal::Invalid(Invalid::UnknownScript { sha1 }))
}

fn by_name(sha1: &[u8]) -> Result<Script, Refusal> {
    Script::find(sha1).ok_or(Refusal::Invalid(Invalid::NoScript))
}

fn read_only(script: Script) -> Result<Script, Refusal> {
    if script.is_read_only() { Ok(script) } else { Err(Invalid::ScriptWrites.into()) }
}

/// How many keys follow. As in Redis, that is looked at before the script is.
fn key_count(words: &mut Words<'_>) -> Result<usize, Refusal> {
    let count = words.integer()?;
    let count = usize::try_from(count).map_err(|_| Refusal::Invalid(Invalid::NegativeKeyCount))?;
    if count > words.len() {
        return Err(Invalid::TooManyKeys.into());
    }
    Ok(count)
}

/// The keys, then the arguments.
fn call(words: &mut Words<'_>, script: Script, count: usize) -> Parsed {
    let keys = (0..count).map(|_| words.key()).collect::<Result<Vec<Bytes>, Refusal>>()?;
    script.check(keys.len(), words.len())?;
    check_one_slot(keys.iter())?;
    let arguments: Vec<Blob> = words.rest.iter().cloned().map(Blob).collect();
    let bytes = keys.iter().chain(words.rest).map(Bytes::len).sum();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(Refusal::EntryTooLarge { bytes, bytes_max: SCRIPT_BYTES_MAX });
    }
    let mut keys = keys.into_iter();
    let Some(key) = keys.next() else { return Err(words.verb.word_count()) };
    let call = ScriptCall { script, keys: keys.map(Blob).collect(), arguments };
    Ok(Command::Key(KeyCommand::new(key, Op::Script(call))))
}

pub fn script(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    match (name.as_str(), count) {
        ("LOAD", 1) => {
            let text = words.word()?;
            by_text(&text)?;
            Ok(Command::Echo { message: sha1_of(&text).into() })
        }
        ("EXISTS", 1..) => {
            let known = words.rest.iter().map(|sha1| Script::find(sha1).is_some()).collect();
            Ok(Command::Server(Server::Scripts { known }))
        }
        ("FLUSH", 0..=1) => super::server::flushall(words).map(|_| Command::Nothing),
        ("LOAD" | "EXISTS" | "FLUSH", _) => Err(words.subcommand_word_count(&name)),
        _ => Err(words.no_subcommand()),
    }
}
