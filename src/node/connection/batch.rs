//! Requests that are carried out together.

use bytes::Bytes;

use crate::command::Codec;
use crate::command::Command;
use crate::command::Gather;
use crate::command::KeyCommand;
use crate::command::Plain;
use crate::command::Reply;
use crate::command::Verb;
use crate::command::help_lines;
use crate::node::gather;
use crate::protocol;

/// What has been parsed and is to be carried out together, all in one protocol.
pub(super) struct Batch {
    pub(super) codec: Codec,
    pub(super) items: Vec<Item>,
    pub(super) commands: Vec<KeyCommand>,
    pub(super) last: Last,
}

/// What is to be answered, in order.
pub(super) enum Item {
    /// It is encoded already.
    Ready(Bytes),
    /// The next reply of the router.
    Routed(&'static Verb),
    /// So many of them, gathered.
    Gathered(&'static Verb, Gather, usize),
}

/// What ends a batch.
pub(super) enum Last {
    Nothing,
    /// It is carried out alone, behind all before it, and must show what they did.
    Alone(&'static Verb, Command),
    /// What has been read cannot be understood: this is said, and the connection closed.
    Broken(Bytes),
}

impl Batch {
    /// One in this protocol that is empty.
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, items: Vec::new(), commands: Vec::new(), last: Last::Nothing }
    }

    /// Adds a plain request that was not carried out at once, or what it was answered.
    pub(super) fn add_plain(&mut self, request: &Plain<'_>, reply: Option<&[u8]>) {
        match reply {
            Some(reply) => self.items.push(Item::Ready(Bytes::copy_from_slice(reply))),
            None => {
                self.items.push(Item::Routed(request.verb()));
                self.commands.push(request.to_command());
            }
        }
    }

    /// Whether there is nothing to do and nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && matches!(self.last, Last::Nothing)
    }

    /// Adds a command; false: it has to be the last one.
    pub(super) fn add(&mut self, verb: &'static Verb, command: Command) -> bool {
        match command {
            Command::Key(command) => {
                self.commands.push(command);
                self.items.push(Item::Routed(verb));
            }
            Command::Many(many) if gather::is_small(&many) => {
                self.items.push(Item::Gathered(verb, many.gather(), many.len()));
                self.commands.extend(many.parts());
            }
            Command::Nothing => self.ready(&Reply::Done),
            Command::Ping { message: None } => self.ready(&Reply::Pong),
            Command::Ping { message: Some(message) } | Command::Echo { message } => {
                self.ready(&Reply::Value(&message));
            }
            Command::Help => self.ready(&Reply::Lines(help_lines())),
            Command::Many(_)
            | Command::AwaitLease { .. }
            | Command::Multi
            | Command::Exec
            | Command::Discard
            | Command::Watch { .. }
            | Command::Unwatch
            | Command::Keys { .. }
            | Command::Scan { .. }
            | Command::Size
            | Command::RandomKey
            | Command::Flush
            | Command::Cluster(_)
            | Command::Server(_)
            | Command::Exit
            | Command::Nodes
            | Command::Ring
            | Command::Stats => {
                self.last = Last::Alone(verb, command);
                return false;
            }
        }
        true
    }

    fn ready(&mut self, reply: &Reply<'_>) {
        let mut bytes = Vec::new();
        protocol::encode(self.codec, reply, &mut bytes);
        self.items.push(Item::Ready(bytes.into()));
    }
}
