//! Commands about the connection, the node and the cluster.

use std::time::Duration;

use crate::command::Ack;
use crate::command::Command;
use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::parse::Words;
use crate::command::parse::client::name_of;
use crate::command::parse::is;
use crate::command::parse::parse_integer;
use crate::command::parse::printable;
use crate::command::server::About;
use crate::command::server::Config;
use crate::command::server::Hello;
use crate::command::server::NameFilter;
use crate::command::server::Server;
use crate::command::server::SlowLog;
use crate::command::server::Wait;

type Parsed = Result<Command, Refusal>;

pub fn dbsize(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Size)
}

/// Whether it happens at once or in the background makes no difference here.
pub fn flushall(words: &mut Words<'_>) -> Parsed {
    match words.next() {
        Some(option) if is(option, "ASYNC") || is(option, "SYNC") => words.end()?,
        Some(_) => return Err(Invalid::Syntax.into()),
        None => {}
    }
    Ok(Command::Flush)
}

pub fn ping(words: &mut Words<'_>) -> Parsed {
    match words.len() {
        0 => Ok(Command::Ping { message: None }),
        1 => Ok(Command::Ping { message: Some(words.word()?) }),
        _ => Err(words.verb.word_count()),
    }
}

pub fn echo(words: &mut Words<'_>) -> Parsed {
    Ok(Command::Echo { message: words.word()? })
}

pub fn exit(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Exit)
}

pub fn help(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Help)
}

pub fn nodes(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Nodes)
}

pub fn ring(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Ring)
}

pub fn stats(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Stats)
}

pub fn nothing(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Nothing)
}

pub fn multi(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Multi)
}

pub fn exec(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Exec)
}

pub fn discard(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Discard)
}

pub fn watch(words: &mut Words<'_>) -> Parsed {
    Ok(Command::Watch { keys: words.keys()? })
}

pub fn unwatch(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Unwatch)
}

pub fn time(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Server(Server::Time))
}

pub fn wait(words: &mut Words<'_>) -> Parsed {
    // A number below zero is enough at once, as in Redis.
    let replicas = usize::try_from(words.integer()?).unwrap_or_default();
    let timeout_ms = parse_integer(&words.word()?).ok_or(Refusal::Invalid(Invalid::TimeoutNotInteger))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| Refusal::from(Invalid::TimeoutNegative))?;
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    Ok(Command::Server(Server::Wait(Wait { replicas, timeout, is_at_once: false })))
}

/// Entries and keys that are told where no number is said.
const TOLD: usize = 10;

pub fn slowlog(words: &mut Words<'_>) -> Parsed {
    if words.len() == 0 {
        return Ok(Command::Server(Server::SlowLog(SlowLog::Latest { count: Some(TOLD) })));
    }
    let (name, count) = words.subcommand()?;
    let asked = match (name.as_str(), count) {
        ("GET", 0) => SlowLog::Latest { count: Some(TOLD) },
        ("GET", 1) => match parse_integer(&words.word()?) {
            Some(-1) => SlowLog::Latest { count: None },
            count => {
                let count = count.and_then(|count| usize::try_from(count).ok());
                SlowLog::Latest { count: Some(count.ok_or(Refusal::Invalid(Invalid::SlowLogCount))?) }
            }
        },
        ("LEN", 0) => SlowLog::Count,
        ("RESET", 0) => SlowLog::Clear,
        ("HELP", 0) => return Ok(Command::Server(Server::About(About::Parts(words.verb.name())))),
        ("GET" | "LEN" | "RESET" | "HELP", _) => return Err(words.subcommand_word_count(&name)),
        _ => return Err(words.no_subcommand()),
    };
    Ok(Command::Server(Server::SlowLog(asked)))
}

pub fn hotkeys(words: &mut Words<'_>) -> Parsed {
    let count = match words.len() {
        0 => TOLD,
        1 => usize::try_from(words.integer()?).map_err(|_| Refusal::from(Invalid::NotPositive))?,
        _ => return Err(words.verb.word_count()),
    };
    Ok(Command::Server(Server::HotKeys { count }))
}

pub fn ack(words: &mut Words<'_>) -> Parsed {
    let mode = words.word()?;
    Ack::of_name(&mode).map(|ack| Command::Server(Server::Ack(ack))).ok_or_else(|| Invalid::Syntax.into())
}

pub fn reset(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Server(Server::Reset))
}

pub fn auth(words: &mut Words<'_>) -> Parsed {
    match words.len() {
        1..=2 => Err(Invalid::NoPassword.into()),
        _ => Err(Invalid::Syntax.into()),
    }
}

pub fn select(words: &mut Words<'_>) -> Parsed {
    match words.integer()? {
        0 => Ok(Command::Nothing),
        _ => Err(Invalid::Database.into()),
    }
}

pub fn hello(words: &mut Words<'_>) -> Parsed {
    let version = match words.next() {
        Some(word) => match parse_integer(word) {
            Some(version @ 2..=3) => Some(version),
            Some(_) => return Err(Invalid::Version.into()),
            None => return Err(Invalid::VersionNotInteger.into()),
        },
        None => None,
    };
    let mut name = None;
    while let Some(option) = words.next() {
        match words.len() {
            2.. if is(option, "AUTH") => return Err(Invalid::NoPassword.into()),
            1.. if is(option, "SETNAME") => name = Some(name_of(words, "Client names")?),
            _ => return Err(Invalid::HelloOption { option: printable(option) }.into()),
        }
    }
    Ok(Command::Server(Server::Hello(Hello { is_resp3: version.map(|version| version == 3), name })))
}

pub fn command(words: &mut Words<'_>) -> Parsed {
    let names = |words: &mut Words<'_>| words.rest.iter().map(|word| printable(word)).collect();
    if words.len() == 0 {
        return Ok(Command::Server(Server::About(About::All)));
    }
    let (name, count) = words.subcommand()?;
    let about = match (name.as_str(), count) {
        ("COUNT", 0) => About::Count,
        ("LIST", _) => About::Names(filter(words)?),
        ("INFO", 0) => About::All,
        ("INFO", _) => About::Some(names(words)),
        ("DOCS", _) => About::Documentation(names(words)),
        ("GETKEYS", 1..) => About::Keys(words.rest.to_vec()),
        ("GETKEYSANDFLAGS", 1..) => About::KeysAndFlags(words.rest.to_vec()),
        ("HELP", 0) => About::Parts(words.verb.name()),
        ("COUNT" | "GETKEYS" | "GETKEYSANDFLAGS" | "HELP", _) => {
            return Err(words.subcommand_word_count(&name));
        }
        _ => return Err(words.no_subcommand()),
    };
    Ok(Command::Server(Server::About(about)))
}

/// What COMMAND LIST is limited to.
fn filter(words: &mut Words<'_>) -> Result<NameFilter, Refusal> {
    let Some(option) = words.next() else { return Ok(NameFilter::All) };
    match words.rest {
        [by, what] if is(option, "FILTERBY") && is(by, "MODULE") && !what.is_empty() => {
            Ok(NameFilter::Module)
        }
        [by, category] if is(option, "FILTERBY") && is(by, "ACLCAT") => {
            Ok(NameFilter::Category(printable(category).to_ascii_lowercase()))
        }
        [by, pattern] if is(option, "FILTERBY") && is(by, "PATTERN") => {
            Ok(NameFilter::Pattern(pattern.to_ascii_lowercase().into()))
        }
        _ => Err(Invalid::Syntax.into()),
    }
}

pub fn info(words: &mut Words<'_>) -> Parsed {
    let sections = words.rest.iter().map(|word| printable(word).to_ascii_lowercase()).collect();
    Ok(Command::Server(Server::Info { sections }))
}

pub fn config(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    let config = match (name.as_str(), count) {
        ("GET", 1..) => Config::Get(words.rest.to_vec()),
        ("SET", 2..) if count.is_multiple_of(2) => {
            let pairs = words.rest.chunks_exact(2);
            Config::Set(
                pairs.map(|pair| (printable(&pair[0]).to_ascii_lowercase(), pair[1].clone())).collect(),
            )
        }
        ("RESETSTAT", 0) => Config::ResetStatistics,
        ("REWRITE", 0) => return Err(Invalid::NoConfigFile.into()),
        ("HELP", 0) => return Ok(Command::Server(Server::About(About::Parts(words.verb.name())))),
        ("GET" | "SET" | "RESETSTAT" | "REWRITE" | "HELP", _) => {
            return Err(words.subcommand_word_count(&name));
        }
        _ => return Err(words.no_subcommand()),
    };
    Ok(Command::Server(Server::Config(config)))
}

/// A node has nothing to save, and hands over in any case: the options make no difference.
pub fn shutdown(words: &mut Words<'_>) -> Parsed {
    while let Some(option) = words.next() {
        match option {
            option if is(option, "ABORT") && words.len() == 0 => return Err(Invalid::NoShutdown.into()),
            option if ["NOSAVE", "SAVE", "NOW", "FORCE"].iter().any(|known| is(option, known)) => {}
            _ => return Err(Invalid::Syntax.into()),
        }
    }
    Ok(Command::Server(Server::Shutdown))
}

/// Refused whatever its part, as in a Redis that was told nothing else.
pub fn debug(_: &mut Words<'_>) -> Parsed {
    Err(Invalid::NoDebug.into())
}

/// There is nothing to be flushed.
pub fn function(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    match (name.as_str(), count) {
        ("FLUSH", 0..=1) => flushall(words).map(|_| Command::Nothing),
        ("FLUSH", _) => Err(words.subcommand_word_count(&name)),
        _ => Err(words.no_subcommand()),
    }
}
