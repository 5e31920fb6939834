//! The redirect port: where cluster-aware clients, which know who serves which slot, talk to this node
//! about what it serves itself.
//!
//! A key that another node serves gets MOVED, as in Redis Cluster, but only where that node serves it
//! beyond doubt. While a primary is being replaced or a partition changes hands, commands are routed as
//! on the client port: they wait and reach whoever serves the key then, so that the client gets its
//! answer instead of being sent back and forth. Its next command is told where to go.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::view::View;
use crate::command::Codec;
use crate::command::Command;
use crate::command::Invalid;
use crate::command::KeyCommand;
use crate::command::Refusal;
use crate::command::Verb;
use crate::node::acks::Acks;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::router;
use crate::protocol;
use crate::store::Partition;
use crate::store::Slot;

/// What commands about all keys mean, and what happens to those about keys that live elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The client port: all keys of the cluster; any node serves any key.
    Cluster,
    /// The redirect port: the keys of this node; who asks for others is told where they are.
    Node,
}

/// What a connection may be answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// By its port.
    pub scope: Scope,
    /// It has said READONLY: this node's copies may answer what changes nothing.
    pub may_read_copies: bool,
    /// It has said CLIENT NO-TOUCH: what it reads does not count as used.
    pub keeps_places: bool,
}

/// A command that the port takes. One that is kept for a transaction, WATCH, and one that waits for a
/// lease must be about keys that are here: EXEC is too late to send a client elsewhere.
///
/// # Errors
///
/// On the redirect port: its keys are not of one slot, or not here.
pub fn check(
    context: &Context,
    scope: Scope,
    is_kept: bool,
    words: &[Bytes],
    command: Command,
) -> Result<Command, Refusal> {
    let must_be_here = is_kept || matches!(command, Command::Watch { .. } | Command::AwaitLease { .. });
    if scope == Scope::Cluster || !(must_be_here || matches!(command, Command::Many(_))) {
        return Ok(command);
    }
    let Some(slot) = one_slot(std::slice::from_ref(&words))? else { return Ok(command) };
    let moved = must_be_here.then(|| elsewhere(context, &context.current_view(), slot)).flatten();
    moved.map_or(Ok(command), Err)
}

/// The slot of the keys of requests, if they have any.
///
/// # Errors
///
/// They are not of one slot.
pub fn one_slot(requests: &[impl AsRef<[Bytes]>]) -> Result<Option<Slot>, Refusal> {
    let keys = requests.iter().flat_map(|words| {
        let words = words.as_ref();
        let verb = words.first().and_then(|name| Verb::find(name));
        verb.into_iter().flat_map(|verb| verb.keys_in(words))
    });
    let mut slots = keys.map(|key| Slot::of(key));
    let first = slots.next();
    match slots.all(|slot| Some(slot) == first) {
        true => Ok(first),
        false => Err(Invalid::CrossSlot.into()),
    }
}

/// Carries out commands, or says where they are to be sent, and returns the encoded replies in order.
pub async fn run(
    context: &Arc<Context>,
    access: Access,
    (codec, acks): (Codec, &mut Acks),
    commands: Vec<KeyCommand>,
) -> Vec<Bytes> {
    let commands = match access.keeps_places {
        true => commands.into_iter().map(KeyCommand::aside).collect(),
        false => commands,
    };
    let view = context.current_view();
    let is_served_here = |command: &KeyCommand| view.is_primary(Partition::of(&command.key.0));
    let is_plain = access.scope == Scope::Cluster && !access.may_read_copies;
    if is_plain || commands.iter().all(is_served_here) {
        return router::run(context, codec, acks, commands).await;
    }
    let mut replies = vec![Bytes::new(); commands.len()];
    let mut pending: Vec<(usize, KeyCommand)> = commands.into_iter().enumerate().collect();
    if access.may_read_copies {
        pending = read_copies(context, codec, &view, pending, &mut replies).await;
    }
    if access.scope == Scope::Node {
        pending.retain(|(place, command)| match elsewhere(context, &view, Slot::of(&command.key.0)) {
            Some(moved) => {
                replies[*place] = refused(codec, &moved);
                false
            }
            None => true,
        });
    }
    let (places, commands): (Vec<usize>, Vec<KeyCommand>) = pending.into_iter().unzip();
    if !commands.is_empty() {
        let routed = router::run(context, codec, acks, commands).await;
        places.into_iter().zip(routed).for_each(|(place, reply)| replies[place] = reply);
    }
    replies
}

/// Answers from the copies of this node what can be. Returns the rest.
async fn read_copies(
    context: &Arc<Context>,
    codec: Codec,
    view: &View,
    pending: Vec<(usize, KeyCommand)>,
    replies: &mut [Bytes],
) -> Vec<(usize, KeyCommand)> {
    let is_copied = |command: &KeyCommand| {
        let partition = Partition::of(&command.key.0);
        command.is_read() && view.has_copy(partition) && !view.is_primary(partition)
    };
    let (reads, mut rest): (Vec<_>, Vec<_>) =
        pending.into_iter().partition(|(_, command)| is_copied(command));
    let commands = reads.iter().map(|(_, command)| command.clone()).collect();
    let answers = router::run_on_copies(context, codec, commands).await;
    for ((place, command), answer) in reads.into_iter().zip(answers) {
        match answer {
            Some(reply) => replies[place] = reply,
            // The copy has gone meanwhile.
            None => rest.push((place, command)),
        }
    }
    rest.sort_unstable_by_key(|(place, _)| *place);
    rest
}

/// Where a slot is to be asked for, if that is another node beyond doubt.
fn elsewhere(context: &Context, view: &View, slot: Slot) -> Option<Refusal> {
    let primary = view.steady_primary(slot.partition())?;
    let node = primary.identity.node;
    // A link that is lost is the first sign of a death.
    let is_linked = context.peers.find(node).is_some_and(|peer| peer.link().is_some());
    if node == view.me() || !is_linked {
        return None;
    }
    Counters::add(&context.counters.redirected, 1);
    Some(Refusal::Moved { slot: slot.number(), address: primary.record.redirect_address() })
}

fn refused(codec: Codec, refusal: &Refusal) -> Bytes {
    let mut reply = Vec::new();
    protocol::encode_refusal(codec, refusal, &mut reply);
    reply.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot_of(requests: &[&str]) -> Result<Option<Slot>, Refusal> {
        let words = |line: &&str| -> Vec<Bytes> {
            line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
        };
        one_slot(&requests.iter().map(words).collect::<Vec<_>>())
    }

    #[test]
    fn keys_of_several_requests_are_of_one_slot_or_refused() {
        assert_eq!(slot_of(&["MSET {a}1 {b}1 {a}2 {c}1"]), Ok(Some(Slot::of(b"a"))));
        assert_eq!(slot_of(&["GET {a}1", "PING b", "DEL {a}2 a"]), Ok(Some(Slot::of(b"a"))));
        assert_eq!(slot_of(&["GET a", "GET b"]), Err(Invalid::CrossSlot.into()));
        assert_eq!(slot_of(&["MGET a b"]), Err(Invalid::CrossSlot.into()));
        assert_eq!(slot_of(&["PING", "NOTHING a b"]), Ok(None));
    }
}
