//! CLIENT and its parts.

use std::time::Duration;

use bytes::Bytes;

use crate::command::Command;
use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::client::Client;
use crate::command::client::ClientFilter;
use crate::command::client::ClientKind;
use crate::command::client::Replies;
use crate::command::parse::Words;
use crate::command::parse::is;
use crate::command::parse::parse_integer;
use crate::command::parse::printable;
use crate::command::server::About;
use crate::command::server::Server;

type Parsed = Result<Command, Refusal>;

/// Bytes of the name of a connection, or of its library.
const NAME_BYTES_MAX: usize = 256;

pub fn client(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    let client = match (name.as_str(), count) {
        ("ID", 0) => Client::Id,
        ("INFO", 0) => Client::Info,
        ("GETNAME", 0) => Client::Name,
        ("LIST", _) => Client::List(listed(words)?),
        ("KILL", 1) => Client::KillAddress(words.word()?),
        ("KILL", 2..) => Client::Kill(killed(words)?),
        ("SETNAME", 1) => Client::SetName(name_of(words, "Client names")?),
        ("SETINFO", 2) => set_info(words)?,
        ("REPLY", 1) => Client::Reply(replies(&words.word()?)?),
        // Connections are never closed to make room.
        ("NO-EVICT", 1) => return on_or_off(&words.word()?).map(|_| Command::Nothing),
        ("NO-TOUCH", 1) => Client::NoTouch(on_or_off(&words.word()?)?),
        ("HELP", 0) => return Ok(Command::Server(Server::About(About::Parts(words.verb.name())))),
        (
            "ID" | "INFO" | "GETNAME" | "KILL" | "SETNAME" | "SETINFO" | "REPLY" | "NO-EVICT" | "NO-TOUCH"
            | "HELP",
            _,
        ) => return Err(words.subcommand_word_count(&name)),
        _ => return Err(words.no_subcommand()),
    };
    Ok(Command::Server(Server::Client(client)))
}

/// A name without blanks and control characters, and not endless.
pub(super) fn name_of(words: &mut Words<'_>, what: &'static str) -> Result<Bytes, Refusal> {
    let name = words.word()?;
    let is_fine = name.len() <= NAME_BYTES_MAX && name.iter().all(|byte| matches!(byte, b'!'..=b'~'));
    // A copy: it is kept, and the word holds all that was read with it.
    if is_fine { Ok(Bytes::copy_from_slice(&name)) } else { Err(Invalid::ClientName { what }.into()) }
}

fn set_info(words: &mut Words<'_>) -> Result<Client, Refusal> {
    let attribute = words.word()?;
    match (is(&attribute, "LIB-NAME"), is(&attribute, "LIB-VER")) {
        (true, _) => Ok(Client::SetLibrary(name_of(words, "lib-name")?)),
        (_, true) => Ok(Client::SetLibraryVersion(name_of(words, "lib-ver")?)),
        (false, false) => Err(Invalid::UnrecognizedOption { option: printable(&attribute) }.into()),
    }
}

fn replies(mode: &[u8]) -> Result<Replies, Refusal> {
    match mode {
        mode if is(mode, "ON") => Ok(Replies::All),
        mode if is(mode, "OFF") => Ok(Replies::None),
        mode if is(mode, "SKIP") => Ok(Replies::NotTheNext),
        _ => Err(Invalid::Syntax.into()),
    }
}

fn on_or_off(mode: &[u8]) -> Result<bool, Refusal> {
    match (is(mode, "ON"), is(mode, "OFF")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        (false, false) => Err(Invalid::Syntax.into()),
    }
}

fn kind(words: &mut Words<'_>) -> Result<ClientKind, Refusal> {
    let kind = words.word()?;
    match &kind {
        kind if is(kind, "NORMAL") => Ok(ClientKind::Normal),
        kind if ["MASTER", "SLAVE", "REPLICA", "PUBSUB"].iter().any(|other| is(kind, other)) => {
            Ok(ClientKind::Other)
        }
        kind => Err(Invalid::ClientType { kind: printable(kind) }.into()),
    }
}

fn positive(word: &[u8], else_say: Invalid) -> Result<u64, Refusal> {
    let number = parse_integer(word).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or(Refusal::Invalid(else_say))
}

/// LIST takes one option.
fn listed(words: &mut Words<'_>) -> Result<ClientFilter, Refusal> {
    let mut filter = ClientFilter::default();
    match words.next() {
        Some(option) if is(option, "TYPE") && words.len() == 1 => filter.kind = Some(kind(words)?),
        Some(option) if is(option, "ID") && words.len() > 0 => {
            let ids = words.rest.iter().map(|id| positive(id, Invalid::ClientId));
            filter.ids = ids.collect::<Result<_, _>>()?;
        }
        Some(_) => return Err(Invalid::Syntax.into()),
        None => {}
    }
    Ok(filter)
}

/// The newer form of KILL takes any number of options, each with a word behind it.
fn killed(words: &mut Words<'_>) -> Result<ClientFilter, Refusal> {
    let mut filter = ClientFilter { skips_asking: true, ..ClientFilter::default() };
    while let Some(option) = words.next() {
        if words.len() == 0 {
            return Err(Invalid::Syntax.into());
        }
        if is(option, "ID") {
            filter.ids = vec![positive(&words.word()?, Invalid::ClientIdNotPositive)?];
        } else if is(option, "TYPE") {
            filter.kind = Some(kind(words)?);
        } else if is(option, "ADDR") {
            filter.remote = Some(words.word()?);
        } else if is(option, "LADDR") {
            filter.local = Some(words.word()?);
        } else if is(option, "MAXAGE") {
            let seconds = positive(&words.word()?, Invalid::NotInteger)?;
            filter.age_min = Some(Duration::from_secs(seconds));
        } else if is(option, "USER") {
            let user = words.word()?;
            if &user[..] != b"default" {
                return Err(Invalid::NoUser { name: printable(&user) }.into());
            }
        } else if is(option, "SKIPME") {
            filter.skips_asking = yes_or_no(&words.word()?)?;
        } else {
            return Err(Invalid::Syntax.into());
        }
    }
    Ok(filter)
}

fn yes_or_no(word: &[u8]) -> Result<bool, Refusal> {
    match (is(word, "YES"), is(word, "NO")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        (false, false) => Err(Invalid::Syntax.into()),
    }
}
