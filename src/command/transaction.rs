//! Transactions: what a connection keeps between MULTI and EXEC, and how that is carried out.
//!
//! Requests are kept as they were sent and parsed again at EXEC, so that relative times count from
//! there. EXEC cuts them into [`Together`]s, one per partition: each is carried out at once or not at
//! all. All of them together are not atomic, since they may lie on different nodes; where everything
//! lies in one partition, there is but one.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::command::Command;
use crate::command::Gather;
use crate::command::Invalid;
use crate::command::KeyCommand;
use crate::command::Op;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Together;
use crate::command::client::Client;
use crate::command::help_lines;
use crate::command::server::Server;
use crate::store::Blob;
use crate::store::Partition;

/// Bytes that are kept for a transaction: as many as a single request may have.
const TRANSACTION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the commands of one partition: they travel in one frame.
const PART_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Keys that a connection may watch.
const WATCHED_MAX: usize = 1_024;
/// What a word takes beyond its bytes.
const WORD_BYTES: usize = 32;

/// A key, and what it was when it was first watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The key.
    pub key: Bytes,
    /// What [`Op::Mark`] answered.
    pub was: Bytes,
}

/// The transaction of a connection, if it is in one.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    kept: Option<Kept>,
    watched: Vec<Mark>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    requests: Vec<Vec<Bytes>>,
    bytes: usize,
    is_broken: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is carried out.
    Run(Command),
    /// It is kept for EXEC.
    Kept,
    /// It was about the transaction, and is done.
    Done,
    /// It is refused.
    Refused(Refusal),
}

impl Transaction {
    /// Takes the next request of the connection: its words, and what they are.
    pub fn admit(&mut self, words: &[Bytes], parsed: Result<Command, Refusal>) -> Admitted {
        match parsed {
            Ok(Command::Multi) if self.kept.is_some() => Admitted::Refused(Invalid::NestedMulti.into()),
            Ok(Command::Multi) => {
                self.kept = Some(Kept::default());
                Admitted::Done
            }
            Ok(Command::Watch { .. }) if self.kept.is_some() => {
                Admitted::Refused(Invalid::WatchInMulti.into())
            }
            Ok(Command::Exec) => match &self.kept {
                None => Admitted::Refused(Invalid::NoMulti { command: "EXEC" }.into()),
                Some(kept) if kept.is_broken => {
                    self.reset();
                    Admitted::Refused(Invalid::Discarded.into())
                }
                Some(_) => Admitted::Run(Command::Exec),
            },
            Ok(Command::Discard) if self.kept.is_none() => {
                Admitted::Refused(Invalid::NoMulti { command: "DISCARD" }.into())
            }
            Ok(Command::Discard) => {
                self.reset();
                Admitted::Done
            }
            Ok(Command::Unwatch) if self.kept.is_none() => {
                self.watched.clear();
                Admitted::Done
            }
            parsed => match &mut self.kept {
                Some(kept) => kept.keep(words, parsed),
                None => parsed.map_or_else(Admitted::Refused, Admitted::Run),
            },
        }
    }

    /// Those of the keys that are not watched already: what a key was when it was first watched counts.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooManyWatched`]: all of them together would be too many.
    pub fn unwatched(&self, keys: Vec<Bytes>) -> Result<BTreeSet<Bytes>, Refusal> {
        let mut keys: BTreeSet<Bytes> = keys.into_iter().collect();
        keys.retain(|key| self.watched.iter().all(|mark| mark.key != *key));
        match self.watched.len() + keys.len() > WATCHED_MAX {
            true => Err(Refusal::TooManyWatched { keys_max: WATCHED_MAX }),
            false => Ok(keys),
        }
    }

    /// Watches keys from now on.
    pub fn watch(&mut self, marks: impl IntoIterator<Item = Mark>) {
        self.watched.extend(marks);
    }

    /// What EXEC is to carry out. The connection is in no transaction, and watches nothing, after it.
    pub fn take(&mut self) -> (Vec<Vec<Bytes>>, Vec<Mark>) {
        let kept = self.kept.take().unwrap_or_default();
        (kept.requests, std::mem::take(&mut self.watched))
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// How many requests are kept; none: the connection is in no transaction.
    pub fn len(&self) -> Option<usize> {
        self.kept.as_ref().map(|kept| kept.requests.len())
    }

    /// Whether there is neither a transaction nor a watched key.
    pub fn is_empty(&self) -> bool {
        self.kept.is_none() && self.watched.is_empty()
    }
}

impl Kept {
    fn keep(&mut self, words: &[Bytes], parsed: Result<Command, Refusal>) -> Admitted {
        let refusal = match parsed {
            Ok(command) if is_at_once(&command) => return Admitted::Run(command),
            Ok(command) if !is_part(&command) => Some(Invalid::NotInMulti.into()),
            Ok(_) => None,
            Err(refusal) => Some(refusal).filter(breaks),
        };
        self.bytes += words.iter().map(|word| word.len() + WORD_BYTES).sum::<usize>();
        let is_too_large = self.bytes > TRANSACTION_BYTES_MAX;
        let refusal = refusal.or_else(|| {
            let (scope, bytes_max) = ("all", TRANSACTION_BYTES_MAX);
            is_too_large.then_some(Refusal::TransactionTooLarge { scope, bytes: self.bytes, bytes_max })
        });
        match refusal {
            Some(refusal) => {
                // It will not be carried out: nothing more has to be kept.
                *self = Self { is_broken: true, ..Self::default() };
                Admitted::Refused(refusal)
            }
            None if self.is_broken => Admitted::Kept,
            None => {
                self.requests.push(words.to_vec());
                Admitted::Kept
            }
        }
    }
}

/// What ends a transaction instead of being kept.
fn is_at_once(command: &Command) -> bool {
    matches!(command, Command::Exit | Command::Server(Server::Reset))
}

/// Whether EXEC can carry it out.
fn is_part(command: &Command) -> bool {
    match command {
        Command::Key(_)
        | Command::AwaitLease { .. }
        | Command::Many(_)
        | Command::Keys { .. }
        | Command::Scan { .. }
        | Command::Size
        | Command::RandomKey
        | Command::Flush
        | Command::Cluster(_)
        | Command::Unwatch
        | Command::Nothing
        | Command::Ping { .. }
        | Command::Echo { .. }
        | Command::Help
        | Command::Nodes
        | Command::Ring
        | Command::Stats => true,
        Command::Server(server) => match server {
            // It would take a part of the reply away.
            Server::Client(client) => !matches!(client, Client::Reply(_)),
            Server::About(_)
            | Server::Info { .. }
            | Server::Config(_)
            | Server::Scripts { .. }
            | Server::ReadCopies(_)
            | Server::SlowLog(_)
            | Server::HotKeys { .. }
            | Server::Ack(_)
            | Server::Wait(_)
            | Server::Time => true,
            // They would change the protocol within a reply, or give none.
            Server::Hello(_) | Server::Reset | Server::Shutdown => false,
        },
        Command::Multi | Command::Exec | Command::Discard | Command::Watch { .. } | Command::Exit => false,
    }
}

/// Whether a refused request makes EXEC refuse all others too. As in Redis: what is no command, has
/// too few or too many words, or belongs elsewhere. Other mistakes are answered in their place by EXEC.
fn breaks(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::UnknownCommand { .. } | Refusal::EntryTooLarge { .. } | Refusal::Moved { .. } => true,
        Refusal::Invalid(invalid) => {
            matches!(invalid, Invalid::WordCount { .. } | Invalid::Subcommand { .. } | Invalid::CrossSlot)
        }
        _ => false,
    }
}

/// How a transaction is carried out: some checks, then steps in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Answered with a list if all watched keys are as they were. Where everything lies in one
    /// partition there are none: its one part checks for itself.
    pub checks: Vec<KeyCommand>,
    /// In order.
    pub steps: Vec<Step>,
    /// How many replies there will be.
    pub len: usize,
}

/// Parts that are carried out side by side, and what comes behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// One for each partition.
    pub parts: Vec<KeyCommand>,
    /// What to answer, in order.
    pub items: Vec<Planned>,
    /// A command about more than keys, which is answered behind these.
    pub last: Option<Command>,
}

/// How a command of a transaction is answered. A place is the number of a part and of the command in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// By this.
    Ready(Reply<'static>),
    /// By one of a part's commands.
    One((usize, usize)),
    /// By several of them.
    Gathered(Gather, Vec<(usize, usize)>),
}

impl Plan {
    /// The plan for these commands.
    ///
    /// # Errors
    ///
    /// [`Refusal::TransactionTooLarge`]: the commands of one partition are.
    pub fn new(commands: Vec<Result<Command, Refusal>>, watched: Vec<Mark>) -> Result<Self, Refusal> {
        let mut plan = Self { len: commands.len(), ..Self::default() };
        let mut step = Planning::default();
        for command in commands {
            if let Some(command) = step.add(command) {
                step.step.last = Some(command);
                plan.steps.push(std::mem::take(&mut step).finish()?);
            }
        }
        plan.steps.push(step.finish()?);
        plan.watch(watched);
        Ok(plan)
    }

    /// Whether everything that is to be carried out is one part.
    pub fn is_one_part(&self) -> bool {
        self.checks.is_empty() && matches!(&self.steps[..], [step] if step.parts.len() == 1)
    }

    fn watch(&mut self, watched: Vec<Mark>) {
        let mut marks: Vec<(Partition, Vec<(Blob, Blob)>)> = Vec::new();
        for Mark { key, was } in watched {
            let partition = Partition::of(&key);
            let mark = (Blob(key), Blob(was));
            match marks.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, marks)) => marks.push(mark),
                None => marks.push((partition, vec![mark])),
            }
        }
        let is_elsewhere = |partition: &Partition| {
            self.steps.len() > 1
                || self.steps.iter().flat_map(|step| &step.parts).any(|part| partition_of(part) != *partition)
        };
        let has_parts = self.steps.iter().any(|step| !step.parts.is_empty());
        if marks.len() > 1 || !has_parts || marks.iter().any(|(partition, _)| is_elsewhere(partition)) {
            let check = |(_, unchanged): &(Partition, Vec<(Blob, Blob)>)| {
                let key = unchanged.first()?.0.clone();
                let together = Together { unchanged: unchanged.clone(), ..Together::new(Vec::new()) };
                Some(KeyCommand { key, op: Op::Together(together) })
            };
            self.checks = marks.iter().filter_map(check).collect();
        }
        // Later steps see what the transaction itself has changed.
        let Some(first) = self.steps.first_mut() else { return };
        for part in &mut first.parts {
            let partition = partition_of(part);
            if let (Op::Together(together), Some((_, unchanged))) =
                (&mut part.op, marks.iter_mut().find(|(known, _)| *known == partition))
            {
                together.unchanged = std::mem::take(unchanged);
            }
        }
    }
}

fn partition_of(command: &KeyCommand) -> Partition {
    Partition::of(&command.key.0)
}

/// A step in the making.
#[derive(Default)]
struct Planning {
    step: Step,
    parts: Vec<(Partition, Vec<KeyCommand>)>,
}

impl Planning {
    /// Adds a command; one that cannot be part of a step is given back.
    fn add(&mut self, command: Result<Command, Refusal>) -> Option<Command> {
        let planned = match command {
            Err(refusal) => Planned::Ready(Reply::Refused(refusal)),
            // Nobody waits in a transaction.
            Ok(Command::Key(command) | Command::AwaitLease { command, .. }) => {
                Planned::One(self.place(command))
            }
            Ok(Command::Many(many)) => {
                let how = many.gather();
                Planned::Gathered(how, many.parts().into_iter().map(|part| self.place(part)).collect())
            }
            Ok(Command::Nothing | Command::Unwatch) => Planned::Ready(Reply::Done),
            Ok(Command::Ping { message: None }) => Planned::Ready(Reply::Pong),
            Ok(Command::Ping { message: Some(message) } | Command::Echo { message }) => {
                Planned::Ready(Reply::Bytes(message.into()))
            }
            Ok(Command::Help) => Planned::Ready(Reply::Lines(help_lines())),
            Ok(other) => return Some(other),
        };
        self.step.items.push(planned);
        None
    }

    fn place(&mut self, command: KeyCommand) -> (usize, usize) {
        let partition = partition_of(&command);
        let part = self.parts.iter().position(|(known, _)| *known == partition).unwrap_or_else(|| {
            self.parts.push((partition, Vec::new()));
            self.parts.len() - 1
        });
        let commands = &mut self.parts[part].1;
        commands.push(command);
        (part, commands.len() - 1)
    }

    fn finish(mut self) -> Result<Step, Refusal> {
        for (_, commands) in self.parts {
            let Some(key) = commands.first().map(|command| command.key.clone()) else { continue };
            let together = Together::new(commands);
            let (scope, bytes, bytes_max) = ("one partition", together.bytes(), PART_BYTES_MAX);
            if bytes > bytes_max {
                return Err(Refusal::TransactionTooLarge { scope, bytes, bytes_max });
            }
            self.step.parts.push(KeyCommand { key, op: Op::Together(together) });
        }
        Ok(self.step)
    }
}

#[cfg(test)]
mod tests;
