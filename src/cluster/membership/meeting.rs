//! Two sides meet that were apart: who is let in, and who is told to begin anew.
//!
//! A datagram of a side that was away for too long is dropped, and its sender is told how things are:
//!
//! ```text
//! away: gossip ──────► stays: told (first)        stays: gossip ────► away: told (first)
//! away: yields ◄──────┘                           stays: told (last) ◄───────┘
//!                                                 └──────────────────────────► away: yields
//! ```
//!
//! Rule kept here: a node yields only to who has shown that it hears this node, or the other side could
//! be one that it can never join. With it, it takes those that it can tell, so that it does not find
//! what they have when it comes back.

use std::time::Duration;

use bincode::Decode;
use bincode::Encode;
use foca::Header;
use foca::Message;

use crate::cluster::membership::Bond;
use crate::cluster::membership::Meeting;
use crate::cluster::membership::Membership;
use crate::cluster::membership::Output;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::packet::Kind;
use crate::cluster::membership::packet::PacketError;
use crate::cluster::membership::schedule::Task;
use crate::time::Moment;

/// The most members of its own side that a node takes with it; the others meet the other side, too.
const TAKEN_ALONG_MAX: usize = 64;

/// What is said in a datagram of its own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Told {
    /// Whether who is told has said the same: then there is nothing more to say.
    is_last: bool,
    /// A node of one side.
    from: Identity,
    /// What it has.
    bond: Bond,
}

impl Membership {
    /// What binds this node to the others, to be told where a link is made.
    pub fn bond(&mut self, now: Moment) -> Bond {
        self.horizon.bond(now).clone()
    }

    /// A node that this one has spoken with by TCP, and that has answered, has this bond.
    pub fn meet(&mut self, identity: Identity, bond: &Bond, now: Moment, out: &mut Vec<Output>) {
        if self.has_left || identity.node == self.identity.node {
            return;
        }
        if let Meeting::Yields(away) = self.horizon.judge(bond, now) {
            self.give_way(&Told { is_last: true, from: identity, bond: bond.clone() }, away, out);
        }
    }

    /// Tombstones of deletes so long ago were dropped for want of memory.
    pub fn forgot(&mut self, age: Duration, now: Moment) {
        self.horizon.forget(age, now);
    }

    /// Stamps if that is ours to do.
    pub(super) fn stamp(&mut self, now: Moment) {
        self.schedule.add(now + self.horizon.period(), Task::Stamp);
        let first = self.view.active().next().map(|member| member.identity.node);
        self.horizon.stamp(self.member_count, first, now);
    }

    /// Whether who says this is heard. If not, it is told why.
    pub(super) fn lets_in(
        &mut self,
        from: Identity,
        bond: &Bond,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> bool {
        match self.horizon.judge(bond, now) {
            Meeting::Near => return true,
            Meeting::Stays(away) => {
                let known = self.kept_out.insert(from.node, from.generation);
                if known != Some(from.generation) {
                    out.push(Output::KeptOut { away, identity: from });
                }
            }
            Meeting::Yields(_) => {}
        }
        if from.node != self.identity.node {
            self.tell(from, false, now, out);
        }
        false
    }

    /// Takes over what a member says to a member.
    pub(super) fn listen(&mut self, header: &Header<Identity>, bond: &Bond, now: Moment) {
        // These two are all that foca says to a member that it holds for dead.
        let holds_us_dead = matches!(header.message, Message::Announce | Message::TurnUndead);
        let is_member = self.view.node(header.src.node).is_some_and(|known| known.identity == header.src)
            && self.view.is_active(header.src.node);
        if is_member && !holds_us_dead {
            self.horizon.take(bond, now);
        }
    }

    /// Somebody has heard us, and says how things are.
    pub(super) fn take_bond(
        &mut self,
        payload: &[u8],
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), PacketError> {
        let (told, _) = bincode::decode_from_slice::<Told, _>(payload, bincode::config::standard())
            .map_err(|_| PacketError::Malformed)?;
        match self.horizon.judge(&told.bond, now) {
            Meeting::Near => {}
            Meeting::Yields(away) => self.give_way(&told, away, out),
            Meeting::Stays(_) if told.is_last => {}
            Meeting::Stays(_) => self.tell(told.from, true, now, out),
        }
        Ok(())
    }

    fn tell(&mut self, to: Identity, is_last: bool, now: Moment, out: &mut Vec<Output>) {
        let told = Told { is_last, from: self.identity, bond: self.horizon.bond(now).clone() };
        self.say(to, &told, out);
    }

    fn say(&mut self, to: Identity, told: &Told, out: &mut Vec<Output>) {
        match bincode::encode_to_vec(told, bincode::config::standard()) {
            Ok(payload) => self.send(to, Kind::Bond, &payload, out),
            Err(_) => *self.stats.errors.entry("encode").or_default() += 1,
        }
    }

    /// This side begins anew.
    fn give_way(&mut self, told: &Told, away: Duration, out: &mut Vec<Output>) {
        let told = Told { is_last: true, ..told.clone() };
        let own: Vec<Identity> = self.view.active().map(|m| m.identity).take(TAKEN_ALONG_MAX).collect();
        own.into_iter().for_each(|to| self.say(to, &told, out));
        self.has_left = true;
        self.schedule.clear();
        out.push(Output::Yield { away, to: told.from });
    }
}
