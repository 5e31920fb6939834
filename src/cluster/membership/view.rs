//! What the shell has been told about the others.
//!
//! Rule kept here: the shell hears the difference between two states of foca's member list, never
//! foca's own notifications, which say nothing of suspicions and little of renamed members. So
//! what it was told always adds up to what is, and the end of a life precedes the next life.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

use foca::Incarnation;
use foca::Member;
use foca::State;

use crate::cluster::membership::MemberState;
use crate::cluster::membership::MemberView;
use crate::cluster::membership::Output;
use crate::cluster::membership::identity::Generation;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::identity::NodeId;
use crate::time::Moment;

/// What is known of one node: its latest life, alive or not.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) identity: Identity,
    pub(super) incarnation: Incarnation,
    pub(super) state: State,
    /// Since when it is in this state.
    pub(super) since: Moment,
    heard: Option<Moment>,
}

impl Known {
    const fn is_active(&self) -> bool {
        match self.state {
            State::Alive | State::Suspect => true,
            State::Down => false,
        }
    }

    /// The update that says what we hold of it.
    pub(super) fn as_member(&self) -> Member<Identity> {
        Member::new(self.identity, self.incarnation, self.state)
    }
}

/// All nodes ever met, ourselves excepted.
#[derive(Debug, Default)]
pub(super) struct View {
    known: BTreeMap<NodeId, Known>,
    /// A digest of the list that was compared last, and the latest life of our own in it.
    compared: Option<(u64, Option<Generation>)>,
}

impl View {
    /// Takes over foca's member list, telling each difference. Returns the latest life that the
    /// list has of `own`: another than ours, since foca does not list itself.
    pub(super) fn compare<'a, I: Iterator<Item = &'a Member<Identity>>>(
        &mut self,
        members: impl Fn() -> I,
        own: NodeId,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Option<Generation> {
        // Most packets bring no news, and to look a thousand members up takes a while.
        let digest = digest(members());
        if let Some((compared, rival)) = self.compared
            && compared == digest
        {
            return rival;
        }
        let mut rival = None;
        for member in members() {
            match member.id().node == own {
                true => rival = Some(member.id().generation),
                false => self.compare_one(member, now, out),
            }
        }
        self.compared = Some((digest, rival));
        rival
    }

    fn compare_one(&mut self, member: &Member<Identity>, now: Moment, out: &mut Vec<Output>) {
        let identity = *member.id();
        // A node not known yet is as one whose life before has ended.
        let known = self.known.entry(identity.node).or_insert(Known {
            identity,
            incarnation: member.incarnation(),
            state: State::Down,
            since: now,
            heard: None,
        });
        if known.identity != identity {
            if known.is_active() {
                out.push(Output::Down(known.identity));
            }
            known.state = State::Down;
            known.identity = identity;
        }
        match (known.state, member.state()) {
            (State::Alive, State::Suspect) => out.push(Output::Suspect(identity)),
            (State::Suspect, State::Alive) => out.push(Output::Refuted(identity)),
            (State::Alive | State::Suspect, State::Down) => out.push(Output::Down(identity)),
            (State::Down, State::Alive) => out.push(Output::Alive(identity)),
            (State::Down, State::Suspect) => {
                out.extend([Output::Alive(identity), Output::Suspect(identity)]);
            }
            (State::Alive, State::Alive) | (State::Suspect, State::Suspect) | (State::Down, State::Down) => {}
        }
        if known.state != member.state() {
            known.since = now;
        }
        known.state = member.state();
        known.incarnation = member.incarnation();
    }

    /// How many nodes were ever met and not forgotten.
    pub(super) fn node_count(&self) -> usize {
        self.known.len()
    }

    /// Whether the smallest id of all, `own` included, belongs to a node that is down.
    pub(super) fn has_lost_smallest(&self, own: NodeId) -> bool {
        self.known.first_key_value().is_some_and(|(node, known)| *node < own && !known.is_active())
    }

    /// Whether a node is a member, alive or suspect.
    pub(super) fn is_active(&self, node: NodeId) -> bool {
        self.known.get(&node).is_some_and(Known::is_active)
    }

    /// What is known of a node.
    pub(super) fn node(&self, node: NodeId) -> Option<&Known> {
        self.known.get(&node)
    }

    /// Whether exactly this life is suspected in exactly this incarnation.
    pub(super) fn is_suspect(&self, identity: &Identity, incarnation: Incarnation) -> bool {
        self.known.get(&identity.node).is_some_and(|known| {
            known.identity == *identity && known.incarnation == incarnation && known.state == State::Suspect
        })
    }

    /// Takes note that a packet came from this node.
    pub(super) fn hear(&mut self, node: NodeId, now: Moment) {
        if let Some(known) = self.known.get_mut(&node) {
            known.heard = Some(now);
        }
    }

    /// When the last packet came from this node.
    pub(super) fn heard(&self, node: NodeId) -> Option<Moment> {
        self.known.get(&node)?.heard
    }

    /// Forgets this life if it is the latest and over; whether it was.
    pub(super) fn forget(&mut self, identity: &Identity) -> bool {
        let is_over =
            self.known.get(&identity.node).is_some_and(|k| k.identity == *identity && !k.is_active());
        if is_over {
            self.known.remove(&identity.node);
            self.compared = None;
        }
        is_over
    }

    /// The latest life of every node met.
    pub(super) fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        self.known.values().map(|known| known.identity)
    }

    /// The members that are alive or suspect, by node.
    pub(super) fn active(&self) -> impl Iterator<Item = MemberView> + '_ {
        self.known.values().filter_map(|known| {
            let state = match known.state {
                State::Alive => MemberState::Alive,
                State::Suspect => MemberState::Suspect,
                State::Down => return None,
            };
            Some(MemberView { identity: known.identity, state, heard: known.heard })
        })
    }

    /// The first active member after the node `after`, around the circle.
    pub(super) fn next_active(&self, after: Option<NodeId>) -> Option<Identity> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.known.range((start, Bound::Unbounded));
        behind.chain(&self.known).find(|(_, known)| known.is_active()).map(|(_, known)| known.identity)
    }
}

/// A digest of foca's member list, whatever its order.
fn digest<'a>(members: impl Iterator<Item = &'a Member<Identity>>) -> u64 {
    let one = |member: &Member<Identity>| {
        let Identity { node, generation, addr } = member.id();
        let state = match member.state() {
            State::Alive => 1,
            State::Suspect => 2,
            State::Down => 3,
        };
        let host = match addr.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ ip.to_bits() as u64,
        };
        let words = [
            generation.as_raw(),
            host,
            u64::from(addr.port()) << 32 | u64::from(member.incarnation()) << 8 | state,
        ];
        // Odd numbers with well spread bits (those of xxh3), so that no two words cancel each other.
        words.into_iter().fold(node.as_raw(), |digest, word| {
            let mixed = (digest ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
            mixed ^ mixed >> 32
        })
    };
    members.map(one).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::SocketAddr;

    fn identity(generation: u64) -> Identity {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        Identity { node: NodeId::from_raw(2), generation: Generation::from_raw(generation), addr }
    }

    fn told(view: &mut View, generation: u64, incarnation: u16, state: State) -> Vec<Output> {
        let mut out = Vec::new();
        let member = Member::new(identity(generation), incarnation, state);
        view.compare(|| std::iter::once(&member), NodeId::from_raw(1), Moment::default(), &mut out);
        out
    }

    #[test]
    fn a_restarted_node_is_down_in_its_old_life_before_it_is_alive_in_the_new_one() {
        let mut view = View::default();
        assert_eq!(told(&mut view, 1, 0, State::Alive), [Output::Alive(identity(1))]);
        let expected = [Output::Down(identity(1)), Output::Alive(identity(2))];
        assert_eq!(told(&mut view, 2, 0, State::Alive), expected);
    }

    #[test]
    fn every_change_is_told_once() {
        let mut view = View::default();
        assert_eq!(told(&mut view, 1, 0, State::Down), [], "who was never seen alive cannot go down");
        let expected = [Output::Alive(identity(2)), Output::Suspect(identity(2))];
        assert_eq!(told(&mut view, 2, 0, State::Suspect), expected);
        assert_eq!(told(&mut view, 2, 0, State::Suspect), []);
        assert_eq!(told(&mut view, 2, 1, State::Alive), [Output::Refuted(identity(2))]);
        assert_eq!(told(&mut view, 2, 1, State::Suspect), [Output::Suspect(identity(2))]);
        assert!(view.is_suspect(&identity(2), 1) && !view.is_suspect(&identity(2), 0));
        assert_eq!(told(&mut view, 2, 1, State::Down), [Output::Down(identity(2))]);
        assert!(!view.forget(&identity(1)) && view.forget(&identity(2)));
    }

    #[test]
    fn the_circle_of_active_members_closes() {
        let mut view = View::default();
        assert_eq!(view.next_active(None), None);
        told(&mut view, 1, 0, State::Alive);
        assert_eq!(view.next_active(Some(NodeId::from_raw(2))), Some(identity(1)));
    }
}
