//! CLUSTER, READONLY and what belongs to them.

use crate::command::Cluster;
use crate::command::Command;
use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::parse::Words;
use crate::command::server::Server;
use crate::store::SLOT_COUNT;

type Parsed = Result<Command, Refusal>;

pub fn readonly(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Server(Server::ReadCopies(true)))
}

pub fn readwrite(_: &mut Words<'_>) -> Parsed {
    Ok(Command::Server(Server::ReadCopies(false)))
}

pub fn cluster(words: &mut Words<'_>) -> Parsed {
    let (name, count) = words.subcommand()?;
    let cluster = match (name.as_str(), count) {
        ("INFO", 0) => Cluster::Info,
        ("MYID", 0) => Cluster::MyId,
        ("NODES", 0) => Cluster::Nodes,
        ("SLOTS", 0) => Cluster::Slots,
        ("SHARDS", 0) => Cluster::Shards,
        ("LINKS", 0) => Cluster::Links,
        ("KEYSLOT", 1) => Cluster::KeySlot(words.word()?),
        ("COUNTKEYSINSLOT", 1) => Cluster::CountKeys { slot: slot(words)? },
        ("GETKEYSINSLOT", 2) => Cluster::Keys { slot: slot(words)?, count_max: count_max(words)? },
        ("COUNT-FAILURE-REPORTS", 1) => Cluster::FailureReports { node: words.word()? },
        (
            "INFO"
            | "MYID"
            | "NODES"
            | "SLOTS"
            | "SHARDS"
            | "LINKS"
            | "KEYSLOT"
            | "COUNTKEYSINSLOT"
            | "GETKEYSINSLOT"
            | "COUNT-FAILURE-REPORTS",
            _,
        ) => return Err(words.subcommand_word_count(&name)),
        _ => return Err(words.no_subcommand()),
    };
    Ok(Command::Cluster(cluster))
}

fn slot(words: &mut Words<'_>) -> Result<u16, Refusal> {
    let slot = u16::try_from(words.integer()?).ok().filter(|slot| *slot < SLOT_COUNT);
    slot.ok_or(Refusal::Invalid(Invalid::Slot))
}

fn count_max(words: &mut Words<'_>) -> Result<usize, Refusal> {
    usize::try_from(words.integer()?).map_err(|_| Invalid::KeyCount.into())
}
