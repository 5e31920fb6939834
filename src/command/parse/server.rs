//! Commands about the connection, the node and the cluster.

use bytes::Bytes;

use crate::command::Command;
use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::parse::Words;
use crate::command::parse::is;
use crate::command::parse::parse_integer;
use crate::command::parse::printable;
use crate::command::server::About;
use crate::command::server::Client;
use crate::command::server::Hello;
use crate::command::server::Server;

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

pub fn reset(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Server(Server::Reset))
}

pub fn auth(_: &mut Words<'_>) -> Parsed {
    Err(Invalid::NoPassword.into())
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
            1.. if is(option, "SETNAME") => name = Some(client_name(words)?),
            _ => return Err(Invalid::HelloOption { option: printable(option) }.into()),
        }
    }
    Ok(Command::Server(Server::Hello(Hello { is_resp3: version.map(|version| version == 3), name })))
}

/// A name without blanks and control characters, and not endless.
fn client_name(words: &mut Words<'_>) -> Result<Bytes, Refusal> {
    const NAME_BYTES_MAX: usize = 256;
    let name = words.word()?;
    let is_fine = name.len() <= NAME_BYTES_MAX && name.iter().all(|byte| matches!(byte, b'!'..=b'~'));
    // A copy: it is kept, and the word holds all that was read with it.
    if is_fine { Ok(Bytes::copy_from_slice(&name)) } else { Err(Invalid::ClientName.into()) }
}

pub fn client(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    let client = match (name.as_str(), count) {
        ("ID", 0) => Client::Id,
        ("INFO", 0) => Client::Info,
        ("GETNAME", 0) => Client::Name,
        ("LIST", _) => Client::List,
        ("SETNAME", 1) => Client::SetName(client_name(words)?),
        ("SETINFO", 2) => {
            let attribute = words.word()?;
            match (is(&attribute, "LIB-NAME"), is(&attribute, "LIB-VER")) {
                (true, _) => Client::SetLibrary(client_name(words)?),
                (_, true) => Client::SetLibraryVersion(client_name(words)?),
                (false, false) => {
                    return Err(Invalid::Option { option: printable(&attribute) }.into());
                }
            }
        }
        ("NO-EVICT" | "NO-TOUCH", 1) => {
            let mode = words.word()?;
            return if is(&mode, "ON") || is(&mode, "OFF") {
                Ok(Command::Nothing)
            } else {
                Err(Invalid::Syntax.into())
            };
        }
        ("ID" | "INFO" | "GETNAME" | "SETNAME" | "SETINFO" | "NO-EVICT" | "NO-TOUCH", _) => {
            return Err(words.subcommand_word_count(&name));
        }
        _ => return Err(words.no_subcommand(&name)),
    };
    Ok(Command::Server(Server::Client(client)))
}

pub fn command(words: &mut Words<'_>) -> Parsed {
    let names = |words: &mut Words<'_>| words.rest.iter().map(|word| printable(word)).collect();
    if words.len() == 0 {
        return Ok(Command::Server(Server::About(About::All)));
    }
    let (name, count) = words.subcommand()?;
    let about = match (name.as_str(), count) {
        ("COUNT", 0) => About::Count,
        ("LIST", 0) => About::Names,
        ("INFO", 0) => About::All,
        ("INFO", _) => About::Some(names(words)),
        ("DOCS", _) => About::Documentation(names(words)),
        ("GETKEYS", 1..) => About::Keys(words.rest.to_vec()),
        ("COUNT" | "LIST" | "GETKEYS", _) => return Err(words.subcommand_word_count(&name)),
        _ => return Err(words.no_subcommand(&name)),
    };
    Ok(Command::Server(Server::About(about)))
}

pub fn info(words: &mut Words<'_>) -> Parsed {
    let sections = words.rest.iter().map(|word| printable(word).to_ascii_lowercase()).collect();
    Ok(Command::Server(Server::Info { sections }))
}

pub fn config(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    match (name.as_str(), count) {
        ("GET", 1..) => Ok(Command::Server(Server::Settings { patterns: words.rest.to_vec() })),
        ("SET", 2..) => Err(Invalid::Immutable { name: printable(&words.word()?) }.into()),
        ("GET" | "SET", _) => Err(words.subcommand_word_count(&name)),
        _ => Err(words.no_subcommand(&name)),
    }
}

/// There is nothing to be flushed.
pub fn function(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    match (name.as_str(), count) {
        ("FLUSH", 0..=1) => flushall(words).map(|_| Command::Nothing),
        ("FLUSH", _) => Err(words.subcommand_word_count(&name)),
        _ => Err(words.no_subcommand(&name)),
    }
}
