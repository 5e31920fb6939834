//! Members and views as tests need them.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::ownership::Claim;
use crate::cluster::ownership::Ownership;
use crate::cluster::ownership::Standing;
use crate::cluster::record::Record;
use crate::cluster::ring::Ring;
use crate::cluster::ring::WEIGHT_ONE;
use crate::cluster::view::Liveness;
use crate::cluster::view::Member;
use crate::cluster::view::View;
use crate::store::PartitionSet;

/// The first record of a node, which has nothing yet.
pub fn record(identity: Identity, name: &str) -> Record {
    Record {
        node: identity.node,
        generation: identity.generation,
        revision: 1,
        name: name.to_owned(),
        host: "10.0.0.1".to_owned(),
        client_port: 31_337,
        redirect_port: 32_337,
        weight: WEIGHT_ONE,
        is_leaving: false,
        is_retiring: false,
        synced: PartitionSet::new(),
    }
}

/// A member that lives and has everything.
pub fn member(name: &str) -> Member {
    let addr = SocketAddr::from(([10, 0, 0, 9], 21_337));
    let identity = Identity { node: NodeId::of_name(name), generation: Generation::from_raw(7), addr };
    let record = Record { synced: PartitionSet::full(), ..record(identity, name) };
    Member { identity, liveness: Liveness::Alive, record: Arc::new(record) }
}

/// The view of the first of these members, with two copies of everything. Who is dead died just now.
pub fn view(mut members: Vec<Member>) -> View {
    let me = members[0].identity.node;
    members.sort_by_key(|member| member.identity.node);
    let ring = Arc::new(Ring::new(members.iter().map(|m| (m.identity.node, m.record.weight)), 2));
    let claim = |member: &Member| Claim {
        node: member.identity.node,
        standing: match member.liveness {
            Liveness::Alive | Liveness::Suspect => member.record.standing(),
            Liveness::Dead => Standing::Missing,
        },
        synced: member.record.synced.clone(),
    };
    let ownership = Ownership::new(&ring, &members.iter().map(claim).collect::<Vec<Claim>>(), 2);
    View::new(me, ring, members, ownership)
}
