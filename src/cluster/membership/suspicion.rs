//! From the first unanswered probe to a refutation or a death.
//!
//! Foca starts a timer when a member did not answer its probe. This file takes that timer out of
//! foca's hands: meanwhile the suspect is told directly, so that it refutes, and the shell checks
//! by TCP. Rule kept here: a suspicion ends after its time, put off a bounded number of times: by
//! answers over TCP ([`ANSWERS_MAX`]), by packets from the suspect ([`VOICES_MAX`]), and because we
//! hear nobody at all ([`DEAF_WAITS_MAX`]). Who is deaf waits longest, so the others, which find it
//! dead meanwhile, no longer believe its accusations.

use foca::Incarnation;
use foca::Member;
use foca::Message;
use foca::State;

use crate::cluster::membership::Membership;
use crate::cluster::membership::Output;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::identity::NodeId;
use crate::cluster::membership::schedule::Task;
use crate::time::Moment;

/// How often an answer by TCP puts a death off. A member that lives but never refutes cannot be
/// reached by gossip for good: it must fall, or it would stay a member that learns nothing.
const ANSWERS_MAX: u8 = 4;
/// How often the suspect's own packets put a death off: it is heard, but may not hear.
const VOICES_MAX: u8 = 2;
/// How often hearing nobody at all puts a death off.
const DEAF_WAITS_MAX: u8 = 4;
/// The fewest other members of which it is unlikely that all fell silent at once.
const DEAF_MEMBERS_MIN: usize = 3;
/// How often a suspect is told within one suspicion.
const PRESSES_PER_SUSPICION: u32 = 4;

/// A suspicion that this node raised and must end.
#[derive(Debug)]
pub(super) struct Suspicion {
    identity: Identity,
    incarnation: Incarnation,
    due: Moment,
    is_answered: bool,
    is_heard: bool,
    answers: u8,
    voices: u8,
    deaf_waits: u8,
}

impl Suspicion {
    /// Ends it at another time.
    pub(super) fn put_off(&mut self, due: Moment) {
        self.due = due;
    }

    /// Whether there is a reason to wait once more, which is then used up.
    fn has_excuse(&mut self, is_deaf: bool) -> bool {
        let excuses = [
            (self.is_answered, &mut self.answers, ANSWERS_MAX),
            (self.is_heard, &mut self.voices, VOICES_MAX),
            (is_deaf, &mut self.deaf_waits, DEAF_WAITS_MAX),
        ];
        for (applies, used, max) in excuses {
            if applies && *used < max {
                *used += 1;
                return true;
            }
        }
        false
    }

    /// Whether the suspect is still suspect: the same life, not refuted, not down.
    pub(super) fn is_open(&self, view: &super::view::View) -> bool {
        view.is_suspect(&self.identity, self.incarnation)
    }
}

impl Membership {
    /// The shell's check by TCP succeeded: this life of the member is alive. Without effect unless
    /// it comes while this node suspects exactly that life.
    pub fn peer_answered(&mut self, identity: Identity) {
        if let Some(suspicion) = self.suspicions.get_mut(&identity.node)
            && suspicion.identity == identity
        {
            suspicion.is_answered = true;
        }
    }

    /// A packet came from this life of a member.
    pub(super) fn note_voice(&mut self, identity: &Identity) {
        if let Some(suspicion) = self.suspicions.get_mut(&identity.node)
            && suspicion.identity == *identity
        {
            suspicion.is_heard = true;
        }
    }

    /// Foca starts its timer against `identity`.
    pub(super) fn raise_suspicion(
        &mut self,
        identity: Identity,
        incarnation: Incarnation,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        // Foca starts it even when the member has refuted while it was being probed, and again
        // when a suspect fails a second probe. Neither may shorten or double anything.
        let is_known = self
            .suspicions
            .get(&identity.node)
            .is_some_and(|known| known.identity == identity && known.incarnation == incarnation);
        if is_known || !self.view.is_suspect(&identity, incarnation) {
            return;
        }
        let due = now + self.settings.suspicion;
        let suspicion = Suspicion {
            identity,
            incarnation,
            due,
            is_answered: false,
            is_heard: false,
            answers: 0,
            voices: 0,
            deaf_waits: 0,
        };
        let node = identity.node;
        self.suspicions.insert(node, suspicion);
        self.stats.suspicions += 1;
        self.schedule.remove(|task| matches!(task, Task::Accuse(n) | Task::Press(n) if *n == node));
        self.schedule.add(due, Task::Accuse(node));
        out.push(Output::Check(identity));
        self.press_on(node, now, out);
    }

    /// Tells a suspect that it is suspected, and does so again later.
    pub(super) fn press_on(&mut self, node: NodeId, now: Moment, out: &mut Vec<Output>) {
        let Some(suspicion) = self.suspicions.get(&node) else { return };
        let (identity, incarnation) = (suspicion.identity, suspicion.incarnation);
        self.press(identity, incarnation, out);
        self.schedule.add(now + self.settings.suspicion / PRESSES_PER_SUSPICION, Task::Press(node));
    }

    /// Tells a suspect that it is suspected. A ping, because the answer carries the refutation
    /// straight back, whereas foca's own goes to three members by chance.
    pub(super) fn press(&mut self, identity: Identity, incarnation: Incarnation, out: &mut Vec<Output>) {
        let update = Member::new(identity, incarnation, State::Suspect);
        self.write_to(identity, Message::Ping(0), update, out);
    }

    /// A suspicion's time is over.
    pub(super) fn conclude(&mut self, node: NodeId, now: Moment, out: &mut Vec<Output>) {
        let is_deaf =
            now.since(self.heard) >= self.settings.suspicion && self.foca.num_members() >= DEAF_MEMBERS_MIN;
        let Some(suspicion) = self.suspicions.get_mut(&node) else { return };
        if now < suspicion.due {
            return;
        }
        let identity = suspicion.identity;
        if !suspicion.is_open(&self.view) {
            self.suspicions.remove(&node);
            return;
        }
        let is_put_off = suspicion.has_excuse(is_deaf);
        match is_put_off {
            true => self.grant_time(node, now, out),
            false => self.accuse(identity, now, out),
        }
    }

    fn grant_time(&mut self, node: NodeId, now: Moment, out: &mut Vec<Output>) {
        let Some(suspicion) = self.suspicions.get_mut(&node) else { return };
        suspicion.is_answered = false;
        suspicion.is_heard = false;
        suspicion.due = now + self.settings.suspicion;
        self.schedule.add(suspicion.due, Task::Accuse(node));
        self.stats.reprieves += 1;
        out.push(Output::Check(suspicion.identity));
    }

    /// Declares a suspect down. Not by foca's timer, for two reasons. (1) The timer would send
    /// `TurnUndead`, also to who has refuted, and the accused believes it even from a node that it
    /// holds for dead. A mere update is believed from living members only. (2) The timer would
    /// queue the death for gossip even when we hear nobody: the queue would keep it until the
    /// network is back, and then make members that live begin new lives.
    fn accuse(&mut self, identity: Identity, now: Moment, out: &mut Vec<Output>) {
        let Some(suspicion) = self.suspicions.remove(&identity.node) else { return };
        self.stats.accusations += 1;
        let update = Member::new(identity, suspicion.incarnation, State::Down);
        let is_deaf = self.is_deaf(now);
        let result = self.foca.apply_many(std::iter::once(update.clone()), !is_deaf, &mut self.collected);
        self.note_error(result);
        self.settle(now, out);
        self.write_to(identity, Message::Gossip, update.clone(), out);
        self.tell_all(update, out);
    }

    /// Whether nobody was heard for the time of a suspicion.
    fn is_deaf(&self, now: Moment) -> bool {
        now.since(self.heard) >= self.settings.suspicion
    }
}
