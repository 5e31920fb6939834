//! The way to a shard: its mailbox, and its core for whoever finds it free.

use std::fmt;
use std::hint;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::TryLockError;

use ractor::ActorRef;

use crate::cluster::peer::Outcome;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::command::Plain;
use crate::command::Reply;
use crate::node::acks::Acks;
use crate::node::context::Context;
use crate::node::context::Door;
use crate::node::shard::Core;
use crate::node::shard::Message;
use crate::store::KeyHash;
use crate::store::Partition;
use crate::store::Shard;
use crate::time::Moment;
use crate::time::Timestamp;

/// How often a core that is taken is looked at again: about as long as another connection needs for a
/// command. The actor may have it for much longer; that is not waited for.
const LOOKS_MAX: usize = 50;

/// The way to a shard.
#[derive(Default)]
pub struct ShardDoor {
    mailbox: Door<Message>,
    /// None before the actor has started for the first time.
    core: Mutex<Option<Core>>,
}

impl ShardDoor {
    /// A shard begins, with this core and that actor.
    pub fn open(&self, core: Core, actor: ActorRef<Message>) {
        // What a predecessor has left is thrown away, in whatever state it is.
        let mut place = self.core.lock().unwrap_or_else(|failed| failed.into_inner());
        *place = Some(core);
        self.core.clear_poison();
        drop(place);
        self.mailbox.lead_to(actor);
    }

    /// Sends the actor a message, see [`Door::cast`].
    pub fn cast(&self, message: Message) {
        self.mailbox.cast(message);
    }

    /// The core, once it is free: for the actor. None: somebody has failed while he had it.
    pub fn lock(&self) -> Option<MutexGuard<'_, Option<Core>>> {
        self.core.lock().ok()
    }

    /// The shard, if its core is free now: for everybody else. One who holds a shard takes no second one
    /// and does not wait for anything.
    pub fn try_hold<'a>(&'a self, context: &'a Context, now: Moment) -> Option<Held<'a>> {
        for _ in 0..LOOKS_MAX {
            match self.core.try_lock() {
                Ok(core) => {
                    let may_serve = core.as_ref().is_some_and(|core| core.may_serve(context, now));
                    return Some(Held { core, context, may_serve, is_let_go: false });
                }
                Err(TryLockError::WouldBlock) => hint::spin_loop(),
                // The actor finds out by the next message, and is replaced.
                Err(TryLockError::Poisoned(_)) => return None,
            }
        }
        None
    }
}

impl fmt::Debug for ShardDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardDoor").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}

/// A shard in the hands of somebody who is not its actor.
pub struct Held<'a> {
    core: MutexGuard<'a, Option<Core>>,
    context: &'a Context,
    may_serve: bool,
    is_let_go: bool,
}

impl Held<'_> {
    /// What is stored, if anything can be asked for here.
    pub fn store(&self) -> Option<&Shard> {
        self.core.as_ref().filter(|_| self.may_serve).map(Core::store)
    }

    /// Carries out a plain request for a key of that partition, with that hash; false: it is not served
    /// here.
    pub fn run_plain(
        &mut self,
        place: (Partition, KeyHash),
        request: &Plain<'_>,
        now: Timestamp,
        acks: &mut Acks,
        reply: impl FnOnce(&Reply<'_>),
    ) -> bool {
        let core = self.core.as_mut().filter(|_| self.may_serve);
        let has_run = core.is_some_and(|core| core.run_plain(place, request, now, reply));
        if has_run && request.is_write() {
            acks.wrote(place.0);
        }
        has_run
    }

    /// Lets the shard go. What was written while it was held waits for replicas, if it has to.
    pub fn let_go(mut self, acks: &mut Acks) {
        self.settle(acks);
        self.is_let_go = true;
    }

    fn settle(&mut self, acks: &mut Acks) {
        if let Some(core) = self.core.as_mut() {
            core.settle(self.context, acks);
        }
    }

    /// Carries out commands in order, appends the replies, and says what became of each command; none: there
    /// is no shard yet.
    pub fn run_all<'c>(
        &mut self,
        codec: Codec,
        commands: impl Iterator<Item = &'c KeyCommand> + Clone,
        may_read_copies: bool,
        (acks, replies): (&mut Acks, &mut Vec<u8>),
        mut became: impl FnMut(Outcome),
    ) -> Option<()> {
        let core = self.core.as_mut()?;
        core.run_all(self.context, codec, commands, may_read_copies, replies, |command, outcome| {
            acks.ran(command, outcome);
            became(outcome);
        });
        Some(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.is_let_go {
            self.settle(&mut Acks::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_core_in_which_a_command_has_failed() {
        let door = ShardDoor::default();
        assert!(door.lock().is_some());
        let failed = std::thread::scope(|scope| {
            let command = || {
                let _core = door.lock();
                panic!("a bug");
            };
            scope.spawn(command).join()
        });
        assert!(failed.is_err());
        assert!(door.lock().is_none());
    }
}
