//! Who owns what: a pure function of the members known, their standing and what they have synced.
//!
//! Every node computes it alone; nothing is elected and no table is voted on. Members that are down
//! stay on the ring, so a crash moves nothing but the roles.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use crate::cluster::membership::NodeId;
use crate::cluster::ring::NodeIndex;
use crate::cluster::ring::Ring;
use crate::store::Partition;
use crate::store::PartitionSet;

/// How a member counts when roles are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It answers.
    Live,
    /// It answers and gives its roles away, and may be back soon.
    Leaving,
    /// It answers and gives its roles and copies away: it does not come back.
    Retiring,
    /// It is dead, but so recently that its copies are not yet rebuilt elsewhere.
    Missing,
    /// It is dead; its copies are rebuilt elsewhere.
    Dead,
}

impl Standing {
    /// Whether it can serve.
    pub fn is_up(self) -> bool {
        match self {
            Standing::Live | Standing::Leaving | Standing::Retiring => true,
            Standing::Missing | Standing::Dead => false,
        }
    }
}

/// A member as ownership sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub node: NodeId,
    /// How it counts.
    pub standing: Standing,
    /// Of which partitions it has everything.
    pub synced: PartitionSet,
}

/// The roles of one partition. Nodes are indices into [`Ring::nodes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Who serves it; none: no live member has it synced.
    pub primary: Option<NodeIndex>,
    /// Who takes it when nobody has it: the first live member that does not leave.
    pub heir: Option<NodeIndex>,
    /// The live members that should have a copy.
    pub wanted: Vec<NodeIndex>,
    /// The live members that hold a copy, the primary included: those that should have one, and those
    /// whose copy is needed until they do.
    pub holders: Vec<NodeIndex>,
    /// Live members with a full copy that is not needed (any more). They get all changes until they
    /// have dropped it.
    pub surplus: Vec<NodeIndex>,
}

/// The roles of all partitions. Two are equal if the roles are, whatever was claimed.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    roles: Vec<Arc<Roles>>,
    claims: Vec<Claim>,
}

impl PartialEq for Ownership {
    fn eq(&self, other: &Self) -> bool {
        self.roles == other.roles
    }
}

impl Eq for Ownership {}

impl Ownership {
    /// The roles that follow from the claims. `claims[i]` belongs to `ring.nodes()[i]`.
    pub fn new(ring: &Ring, claims: &[Claim], copies: usize) -> Self {
        debug_assert!(claims.iter().map(|claim| claim.node).eq(ring.nodes().iter().copied()));
        let mut list = Vec::new();
        let roles = |partition| Arc::new(roles(ring, claims, copies, partition, &mut list));
        Self { roles: Partition::all().map(roles).collect(), claims: claims.to_vec() }
    }

    /// The same from other claims on the same ring: most of what a node learns is about a few partitions.
    pub fn renewed(&self, ring: &Ring, claims: &[Claim], copies: usize) -> Self {
        let who = |claim: &Claim| (claim.node, claim.standing);
        if !self.claims.iter().map(who).eq(claims.iter().map(who)) {
            return Self::new(ring, claims, copies);
        }
        let mut changed = PartitionSet::new();
        for (before, after) in self.claims.iter().zip(claims).filter(|(before, after)| before != after) {
            changed.union_with(&difference(&before.synced, &after.synced));
        }
        let mut list = Vec::new();
        let mut renewed = Self { roles: self.roles.clone(), claims: claims.to_vec() };
        for partition in changed.iter() {
            renewed.roles[partition.index()] = Arc::new(roles(ring, claims, copies, partition, &mut list));
        }
        renewed
    }

    /// The roles of a partition.
    pub fn roles(&self, partition: Partition) -> &Roles {
        &self.roles[partition.index()]
    }

    /// A fingerprint of all primaries and holders: equal where two nodes agree.
    pub fn fingerprint(&self, ring: &Ring) -> u32 {
        let mut hash = Xxh3Default::new();
        let mut add =
            |node: &NodeIndex| hash.update(&ring.nodes()[usize::from(*node)].as_raw().to_le_bytes());
        for roles in &self.roles {
            roles.primary.iter().for_each(&mut add);
            roles.holders.iter().for_each(&mut add);
            add(&0);
        }
        (hash.digest() >> 32) as u32
    }
}

/// What is in one of them only.
fn difference(a: &PartitionSet, b: &PartitionSet) -> PartitionSet {
    let (mut only_a, mut only_b) = (a.clone(), b.clone());
    only_a.subtract(b);
    only_b.subtract(a);
    only_a.union_with(&only_b);
    only_a
}

/// The roles of a partition. `list` is room that is used again.
fn roles(
    ring: &Ring,
    claims: &[Claim],
    copies: usize,
    partition: Partition,
    list: &mut Vec<NodeIndex>,
) -> Roles {
    let claim = |node: &NodeIndex| &claims[usize::from(*node)];
    let standing = |node: &NodeIndex| claim(node).standing;
    let is_synced = |node: &NodeIndex| claim(node).synced.contains(partition);
    list.clear();
    list.extend(ring.preference(partition));

    let staying = list.iter().find(|node| standing(node) == Standing::Live && is_synced(node)).copied();
    let is_going = |node: &NodeIndex| matches!(standing(node), Standing::Leaving | Standing::Retiring);
    let leaving = list.iter().find(|node| is_going(node) && is_synced(node)).copied();

    // A copy that is missing or about to leave counts as one for a while, unless nothing else is left.
    let counts = |node: &NodeIndex| match standing(node) {
        Standing::Live => true,
        Standing::Leaving | Standing::Missing => staying.is_some(),
        Standing::Retiring | Standing::Dead => false,
    };
    let is_live = |node: &NodeIndex| standing(node) == Standing::Live;
    let wanted: Vec<NodeIndex> =
        list.iter().filter(|node| counts(node)).take(copies).filter(|node| is_live(node)).copied().collect();

    let mut synced_live = 0;
    let mut is_needed = |node: &NodeIndex| match standing(node) {
        Standing::Live if is_synced(node) => {
            synced_live += 1;
            synced_live <= copies || wanted.contains(node)
        }
        Standing::Live => wanted.contains(node),
        Standing::Leaving | Standing::Retiring => is_synced(node),
        Standing::Missing | Standing::Dead => false,
    };
    let holders: Vec<NodeIndex> = list.iter().filter(|node| is_needed(node)).copied().collect();
    let is_surplus = |node: &NodeIndex| is_live(node) && is_synced(node) && !holders.contains(node);
    let surplus = list.iter().filter(|node| is_surplus(node)).copied().collect();

    Roles {
        primary: staying.or(leaving),
        heir: list.iter().find(|node| is_live(node)).copied(),
        wanted,
        holders,
        surplus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ring::WEIGHT_ONE;
    use crate::store::PARTITION_COUNT;
    use proptest::prelude::*;

    const COPIES: usize = 2;

    fn ring(count: u32) -> Ring {
        Ring::new((0..count).map(|n| (NodeId::of_name(&format!("node-{n}")), WEIGHT_ONE)), COPIES)
    }

    fn claims(ring: &Ring, of: impl Fn(NodeIndex) -> (Standing, PartitionSet)) -> Vec<Claim> {
        let claim = |(node, index)| {
            let (standing, synced) = of(index);
            Claim { node, standing, synced }
        };
        ring.nodes().iter().copied().zip(0..).map(claim).collect()
    }

    fn preference(ring: &Ring, partition: Partition) -> Vec<NodeIndex> {
        ring.preference(partition).collect()
    }

    #[test]
    fn the_first_live_synced_member_is_primary_and_the_next_is_replica() {
        let ring = ring(4);
        let all = claims(&ring, |_| (Standing::Live, PartitionSet::full()));
        let ownership = Ownership::new(&ring, &all, COPIES);
        for partition in Partition::all() {
            let list = preference(&ring, partition);
            let roles = ownership.roles(partition);
            assert_eq!(roles.primary, Some(list[0]));
            assert_eq!(roles.holders, list[..2]);
            assert_eq!(roles.wanted, list[..2]);
        }
    }

    #[test]
    fn a_replica_is_primary_when_those_before_it_are_dead_or_unsynced_and_no_copy_moves() {
        let ring = ring(3);
        for standing in [Standing::Missing, Standing::Live] {
            let partition = Partition::new(7).unwrap();
            let list = preference(&ring, partition);
            let after = claims(&ring, |node| match node == list[0] {
                true => (standing, PartitionSet::new()),
                false => (Standing::Live, PartitionSet::full()),
            });
            let ownership = Ownership::new(&ring, &after, COPIES);
            assert_eq!(ownership.roles(partition).primary, Some(list[1]));
            assert!(!ownership.roles(partition).wanted.contains(&list[2]), "{standing:?}");
        }
    }

    #[test]
    fn the_copy_of_a_long_dead_member_is_wanted_on_the_next() {
        let ring = ring(3);
        let partition = Partition::new(7).unwrap();
        let list = preference(&ring, partition);
        let claims = claims(&ring, |node| match node == list[0] {
            true => (Standing::Dead, PartitionSet::full()),
            false => (Standing::Live, PartitionSet::full()),
        });
        assert_eq!(Ownership::new(&ring, &claims, COPIES).roles(partition).wanted, list[1..3]);
    }

    #[test]
    fn the_old_replica_keeps_its_copy_until_the_newcomer_has_one() {
        let ring = ring(3);
        let partition = Partition::new(99).unwrap();
        let list = preference(&ring, partition);
        let with_newcomer = |synced: PartitionSet| {
            claims(&ring, |node| match node == list[0] {
                true => (Standing::Live, synced.clone()),
                false => (Standing::Live, PartitionSet::full()),
            })
        };
        let joining = Ownership::new(&ring, &with_newcomer(PartitionSet::new()), COPIES);
        assert_eq!(joining.roles(partition).primary, Some(list[1]));
        assert_eq!(joining.roles(partition).holders, list);
        let joined = Ownership::new(&ring, &with_newcomer(PartitionSet::full()), COPIES);
        assert_eq!(joined.roles(partition).primary, Some(list[0]));
        assert_eq!(joined.roles(partition).holders, list[..2]);
        assert_eq!(joined.roles(partition).surplus, list[2..]);
    }

    #[test]
    fn a_leaving_member_serves_only_while_nobody_else_can() {
        let ring = ring(3);
        let partition = Partition::new(5).unwrap();
        let list = preference(&ring, partition);
        let of = |others: PartitionSet| {
            claims(&ring, |node| match node == list[0] {
                true => (Standing::Leaving, PartitionSet::full()),
                false => (Standing::Live, others.clone()),
            })
        };
        let alone = Ownership::new(&ring, &of(PartitionSet::new()), COPIES);
        assert_eq!(alone.roles(partition).primary, Some(list[0]));
        assert_eq!(alone.roles(partition).wanted, list[1..3]);
        let replaced = Ownership::new(&ring, &of(PartitionSet::full()), COPIES);
        assert_eq!(replaced.roles(partition).primary, Some(list[1]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn renewed_roles_are_those_that_the_claims_alone_would_give(
            steps in prop::collection::vec((0..5_u16, 0..6_u8, 0..PARTITION_COUNT, 1..200_u16), 1..12),
            copies in 1..4_usize,
        ) {
            let ring = ring(5);
            let mut claims = claims(&ring, |_| (Standing::Live, PartitionSet::new()));
            let mut ownership = Ownership::new(&ring, &claims, copies);
            for (node, kind, first, count) in steps {
                let claim = &mut claims[usize::from(node)];
                let some: PartitionSet =
                    Partition::all().skip(usize::from(first)).take(usize::from(count)).collect();
                match kind {
                    0 => claim.standing = Standing::Missing,
                    1 => claim.standing = Standing::Live,
                    2 => claim.synced.subtract(&some),
                    _ => claim.synced.union_with(&some),
                }
                ownership = ownership.renewed(&ring, &claims, copies);
                prop_assert_eq!(&ownership, &Ownership::new(&ring, &claims, copies));
            }
        }

        #[test]
        fn roles_are_only_held_by_members_that_can_hold_them(states in prop::collection::vec((0..4_u8, any::<bool>()), 1..12), copies in 1..4_usize) {
            let ring = ring(states.len() as u32);
            let standings = [Standing::Live, Standing::Leaving, Standing::Missing, Standing::Dead];
            let claims = claims(&ring, |node| {
                let (standing, is_synced) = states[usize::from(node)];
                let synced = if is_synced { PartitionSet::full() } else { PartitionSet::new() };
                (standings[usize::from(standing)], synced)
            });
            let ownership = Ownership::new(&ring, &claims, copies);
            let can_serve = |claim: &Claim| claim.standing.is_up() && !claim.synced.is_empty();
            for partition in Partition::all().step_by(64) {
                let roles = ownership.roles(partition);
                prop_assert_eq!(roles.primary.is_some(), claims.iter().any(can_serve));
                if let Some(primary) = roles.primary {
                    prop_assert!(can_serve(&claims[usize::from(primary)]));
                    prop_assert!(roles.holders.contains(&primary));
                }
                prop_assert!(roles.wanted.iter().all(|node| roles.holders.contains(node)));
                prop_assert!(roles.wanted.len() <= copies);
                prop_assert!(roles.holders.iter().all(|node| claims[usize::from(*node)].standing.is_up()));
            }
        }
    }
}
