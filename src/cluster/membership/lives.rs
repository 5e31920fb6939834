//! Who is dead and who is not after all: new lives of ours, and deaths taken back.
//!
//! Death is final in foca: a dead member returns only in a new life. Rule kept here: after a
//! split only the smaller side, or the side that was away, has to begin new lives.

use std::time::Duration;

use foca::Header;
use foca::Message;
use foca::State;
use foca::Timer;

use crate::cluster::membership::Membership;
use crate::cluster::membership::Output;
use crate::cluster::membership::identity::Generation;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::schedule::Task;
use crate::time::Moment;

/// At most once in this time does a node outbid another life of itself that others believe in.
const OUTBID_PERIOD: Duration = Duration::from_secs(1);
/// How long a death stands before the dead member's voice may undo it.
const FORGIVE_AFTER: Duration = Duration::from_secs(1);
/// How long a split takes to heal after the first voice from the other side.
const HEAL_MAX: Duration = Duration::from_secs(5);

impl Membership {
    /// Foca has given us a new life.
    pub(super) fn take_new_identity(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.identity = *self.foca.identity();
        self.life_since = now;
        self.stats.rejoins += 1;
        // Foca's timers of the former life are void.
        self.suspicions.clear();
        self.schedule.remove(|task| matches!(task, Task::Accuse(_) | Task::Press(_)));
        out.push(Output::Rejoined(self.identity));
        // Before foca's datagrams: who has our record first never sees a life that holds nothing.
        if self.own_bytes.is_some() {
            self.publish_record();
            self.send_record_to_all(out);
        }
        // Foca would stay idle until the next packet for the new life, which nobody may know of.
        let result = self.foca.apply_many(std::iter::empty(), false, &mut self.collected);
        self.note_error(result);
    }

    /// Others believe in another life of this node, not before ours: our clock went back, or a
    /// second process has our name. We go on with a later one.
    pub(super) fn outbid(&mut self, rival: Generation, now: Moment, out: &mut Vec<Output>) {
        let is_allowed = self.outbid.is_none_or(|before| now.since(before) >= OUTBID_PERIOD);
        if rival < self.identity.generation || !is_allowed || self.has_left {
            return;
        }
        self.outbid = Some(now);
        let identity = Identity { generation: rival.next(), ..self.identity };
        let result = self.foca.change_identity(identity, &mut self.collected);
        self.note_error(result);
        self.settle(now, out);
    }

    /// A node that hears a dead member, while it belongs to the smaller side of a split or did so a
    /// moment ago, was itself the one cut off: it takes that death back. Otherwise both sides would
    /// have to begin new lives, and the larger one would seem to die to a few. Returns whether it
    /// did so. Two conditions keep others from returning unnoticed:
    ///
    /// 1. The dead member holds us for dead too, or already knows the life that we began since.
    ///    Else it was not beyond a split but stopped, and must learn that it was given up.
    /// 2. Some time has passed: packets may be underway longer than the life that sent them.
    pub(super) fn forgive(&mut self, header: &Header<Identity>, now: Moment) -> bool {
        if self.is_smaller_side() {
            self.cut_off_until = now + HEAL_MAX;
        }
        // These two are all that foca says to a member that it holds for dead.
        let holds_us_dead = matches!(header.message, Message::Announce | Message::TurnUndead);
        let identity = header.src;
        let is_forgivable = self.view.node(identity.node).is_some_and(|known| {
            known.identity == identity
                && known.state == State::Down
                && (holds_us_dead || self.life_since > known.since)
                && now.since(known.since) >= FORGIVE_AFTER
        });
        let is_forgiven = now < self.cut_off_until && is_forgivable;
        if is_forgiven {
            // The shell may have dropped its record with it: take the next one, new or not.
            self.records.book().forget(identity.node);
            let result = self.foca.handle_timer(Timer::RemoveDown(identity), &mut self.collected);
            self.note_error(result);
        }
        is_forgiven
    }

    /// Whether we and our members are fewer than half of all nodes known, or just half without the
    /// node of the smallest id: of two sides exactly one is the smaller, of more all may be.
    fn is_smaller_side(&self) -> bool {
        let (ours, all) = (self.member_count + 1, self.view.node_count() + 1);
        2 * ours < all || (2 * ours == all && self.view.has_lost_smallest(self.identity.node))
    }
}
