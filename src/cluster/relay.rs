//! Who passes commands on to a node that this one does not reach.
//!
//! Two nodes may have lost each other while others reach both: membership rightly holds both for alive. Then a third
//! node passes commands on, once. Who that is nobody knows beforehand: the others are asked in an order of their own
//! for each pair, whoever could do it is asked again for a while, and who could not is left alone for a moment.

use std::time::Duration;

use crate::cluster::membership::NodeId;
use crate::time::Moment;

/// How long a link is lost before others are asked: of a process that has just died no other one knows either.
const RELAY_AFTER: Duration = Duration::from_millis(50);
/// How long who has relayed is asked first.
const CHOSEN_FOR: Duration = Duration::from_secs(5);
/// How long who could not is not asked.
const REFUSED_FOR: Duration = Duration::from_millis(100);

/// Whether it is time to ask others, if the link was lost at that time.
pub fn is_due(now: Moment, lost: Option<Moment>) -> bool {
    lost.is_some_and(|lost| now.since(lost) >= RELAY_AFTER)
}

/// What is known of those who might relay to one node.
#[derive(Debug, Default)]
pub struct Relays {
    chosen: Option<(NodeId, Moment)>,
    refused: Vec<(NodeId, Moment)>,
}

impl Relays {
    /// Whom to ask now, of nodes in the order of the ring; none: nobody can do it.
    pub fn choose(&mut self, now: Moment, me: NodeId, others: &[NodeId]) -> Option<NodeId> {
        self.refused.retain(|(_, at)| now.since(*at) < REFUSED_FOR);
        let may_be_asked = |node: &NodeId| self.refused.iter().all(|(refused, _)| refused != node);
        let chosen = self.chosen.filter(|(node, at)| now.since(*at) < CHOSEN_FOR && others.contains(node));
        let chosen = chosen.map(|(node, _)| node).filter(may_be_asked);
        // Behind oneself, so that not all ask the same one.
        let (before, behind): (Vec<NodeId>, Vec<NodeId>) =
            others.iter().copied().partition(|other| *other < me);
        chosen.or_else(|| behind.into_iter().chain(before).find(may_be_asked))
    }

    /// A node has relayed.
    pub fn worked(&mut self, node: NodeId, now: Moment) {
        self.chosen = Some((node, now));
    }

    /// A node could not.
    pub fn refused(&mut self, node: NodeId, now: Moment) {
        self.chosen = self.chosen.filter(|(chosen, _)| *chosen != node);
        self.refused.push((node, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn node(number: u64) -> NodeId {
        NodeId::from_raw(number)
    }

    #[test]
    fn others_are_asked_one_after_the_other_and_who_could_do_it_again() {
        let mut relays = Relays::default();
        let others = [1, 3, 4].map(node);
        let choose = |relays: &mut Relays, millis| relays.choose(at(millis), node(2), &others);
        assert_eq!(choose(&mut relays, 0), Some(node(3)), "the next one behind");
        relays.refused(node(3), at(0));
        assert_eq!(choose(&mut relays, 1), Some(node(4)));
        relays.refused(node(4), at(1));
        assert_eq!(choose(&mut relays, 2), Some(node(1)));
        relays.worked(node(1), at(2));
        assert_eq!(choose(&mut relays, 4_000), Some(node(1)), "it could do it");
        assert_eq!(choose(&mut relays, 6_000), Some(node(3)), "that was long ago");
    }

    #[test]
    fn who_could_not_is_left_alone_for_a_moment() {
        let mut relays = Relays::default();
        let others = [node(3)];
        relays.worked(node(3), at(0));
        relays.refused(node(3), at(10));
        assert_eq!(relays.choose(at(109), node(2), &others), None);
        assert_eq!(relays.choose(at(110), node(2), &others), Some(node(3)));
        assert_eq!(relays.choose(at(110), node(2), &[]), None);
    }

    #[test]
    fn who_worked_and_is_not_there_any_more_is_not_asked() {
        let mut relays = Relays::default();
        relays.worked(node(1), at(0));
        assert_eq!(relays.choose(at(1), node(2), &[node(3)]), Some(node(3)));
    }

    #[test]
    fn nobody_is_asked_while_a_link_may_have_been_lost_with_its_node() {
        assert!(!is_due(at(1_000), None));
        assert!(!is_due(at(1_000), Some(at(951))));
        assert!(is_due(at(1_000), Some(at(950))));
    }
}
