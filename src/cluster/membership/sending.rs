//! What goes out besides foca's own gossip: deaths, records and knocks.
//!
//! Rule kept here: nothing that others need at once waits for a random choice. Deaths and own
//! records go straight to those concerned; gossip repeats them against loss and in large clusters.

use std::time::Duration;

use foca::Codec;
use foca::Header;
use foca::Member;
use foca::Message;
use foca::PostcardCodec;
use foca::State;

use crate::cluster::membership::Membership;
use crate::cluster::membership::Output;
use crate::cluster::membership::driver::RECORD_ROUND_MIN;
use crate::cluster::membership::driver::TEND_PERIOD;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::packet::Kind;
use crate::cluster::membership::packet::seal;
use crate::cluster::membership::record::RecordHeader;
use crate::cluster::membership::schedule::Task;
use crate::time::Moment;

/// The most nodes that a lonely node knocks at in one period.
const KNOCKS_MAX: usize = 16;
/// The most members that hear of a death directly; gossip reaches the others.
const TOLD_MAX: usize = 64;
/// What each member adds to that time: from ten members on a node sends as much, however many there are.
const RECORD_ROUND_PER_MEMBER: Duration = Duration::from_millis(200);

impl Membership {
    /// Knocks at others while alone; clears up suspicions that nobody follows: those that ended
    /// with a former life of ours, and others' whose refutation was lost on its way to us.
    pub(super) fn tend(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.schedule.add(now + TEND_PERIOD, Task::Tend);
        match self.member_count {
            0 => self.knock(now, out),
            _ => {
                let stray = |m: &&Member<Identity>| {
                    m.state() == State::Suspect && !self.suspicions.contains_key(&m.id().node)
                };
                let strays: Vec<Member<Identity>> =
                    self.foca.iter_members().filter(stray).take(KNOCKS_MAX).cloned().collect();
                strays.iter().for_each(|member| self.press(*member.id(), member.incarnation(), out));
            }
        }
    }

    pub(super) fn forward_sends(&mut self, out: &mut Vec<Output>) {
        for (to, payload) in std::mem::take(&mut self.collected.sends) {
            // Foca lists our former lives as down and would announce us to ourselves.
            if to.node == self.identity.node {
                continue;
            }
            // Foca is about to tell a life that we hold for a former one that it is down. It must
            // hear first which life we know, or it could never choose a later one.
            let later = self.view.node(to.node).filter(|known| known.identity.generation > to.generation);
            if let Some(update) = later.map(|known| known.as_member()) {
                self.write_to(to, Message::Gossip, update, out);
            }
            self.send(to, Kind::Gossip, &payload, out);
        }
    }

    pub(super) fn send(&mut self, to: Identity, kind: Kind, payload: &[u8], out: &mut Vec<Output>) {
        let bytes = seal(self.cluster, kind, self.horizon.last(), payload);
        self.stats.packets_out += 1;
        self.stats.bytes_out += bytes.len() as u64;
        out.push(Output::Send { to: to.addr, bytes });
    }

    /// Sends a message of our own making that carries one update. Our incarnation, which foca does
    /// not reveal, is given as 0: the receiver keeps the greater one.
    pub(super) fn write_to(
        &mut self,
        to: Identity,
        message: Message<Identity>,
        update: Member<Identity>,
        out: &mut Vec<Output>,
    ) {
        let header = Header { src: self.identity, src_incarnation: 0, dst: to, message };
        let mut payload = Vec::with_capacity(128);
        let result = PostcardCodec.encode_header(&header, &mut payload).and_then(|()| {
            payload.extend_from_slice(&1u16.to_be_bytes());
            PostcardCodec.encode_member(&update, &mut payload)
        });
        match result {
            Ok(()) => self.send(to, Kind::Gossip, &payload, out),
            Err(_) => *self.stats.errors.entry("encode").or_default() += 1,
        }
    }

    /// Tells every member, up to a bound, what is too urgent for gossip.
    pub(super) fn tell_all(&mut self, update: Member<Identity>, out: &mut Vec<Output>) {
        let members: Vec<Identity> = self.view.active().map(|m| m.identity).take(TOLD_MAX).collect();
        for to in members {
            self.write_to(to, Message::Gossip, update.clone(), out);
        }
    }

    /// Announces us to nodes that are no members: those we were told of and those we knew.
    pub(super) fn knock(&mut self, now: Moment, out: &mut Vec<Output>) {
        let mut doors = self.seeds.clone();
        doors.extend(self.view.identities().map(|identity| (identity.node, identity)));
        doors.retain(|node, _| !self.view.is_active(*node));
        let start = self.knock_cursor.checked_rem(doors.len()).unwrap_or(0);
        for identity in doors.values().cycle().skip(start).take(KNOCKS_MAX.min(doors.len())) {
            let result = self.foca.announce(*identity, &mut self.collected);
            self.note_error(result);
        }
        self.knock_cursor = start + KNOCKS_MAX;
        self.settle(now, out);
    }

    /// Sends our record to one member after the other, a round in `max(2 s, N/5 s)`: repairs what
    /// gossip has lost.
    pub(super) fn send_record_round(&mut self, now: Moment, out: &mut Vec<Output>) {
        let count = u32::try_from(self.member_count.max(1)).unwrap_or(u32::MAX);
        let round = RECORD_ROUND_MIN.max(RECORD_ROUND_PER_MEMBER.saturating_mul(count));
        self.schedule.add(now + round / count, Task::SendRecord);
        if let Some(to) = self.view.next_active(self.record_cursor) {
            self.record_cursor = Some(to.node);
            self.send_record(to, out);
        }
    }

    pub(super) fn send_record(&mut self, to: Identity, out: &mut Vec<Output>) {
        if let Some(record) = self.own_record.clone() {
            self.send(to, Kind::Record, &record, out);
        }
    }

    /// Sends our record to every member, up to a bound; the others get it through gossip.
    pub(super) fn send_record_to_all(&mut self, out: &mut Vec<Output>) {
        let members: Vec<Identity> = self.view.active().map(|m| m.identity).take(TOLD_MAX).collect();
        members.into_iter().for_each(|to| self.send_record(to, out));
    }

    /// Makes our record anew, later than all before, and gives it to gossip.
    pub(super) fn publish_record(&mut self) {
        let Some(bytes) = &self.own_bytes else { return };
        self.revision += 1;
        let Identity { node, generation, .. } = self.identity;
        let record = RecordHeader { node, generation, revision: self.revision }.seal(bytes);
        let result = self.foca.add_broadcast(&record).map(drop);
        self.own_record = Some(record);
        self.note_error(result);
    }
}
