//! The slot map: what cluster-aware clients read of a view, in the forms of Redis Cluster.
//!
//! A node here is primary of some slots and replica of others; in Redis it is either. So every node is
//! announced as a primary, and replicas only where the form names them per range of slots. What is
//! announced is the redirect port of each node.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cluster::membership::NodeId;
use crate::cluster::ring::NodeIndex;
use crate::cluster::view::Liveness;
use crate::cluster::view::Member;
use crate::cluster::view::RingArc;
use crate::cluster::view::View;
use crate::command::Reply;
use crate::store::Partition;
use crate::store::SLOT_COUNT;
use crate::store::SLOTS_PER_PARTITION;

/// A run of slots with the same nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SlotRange {
    first: u16,
    last: u16,
    primary: NodeIndex,
    /// Those that have all of it, so that they can answer.
    replicas: Vec<NodeIndex>,
}

/// The id by which clients know a node: as long as in Redis, the same in all its lives.
pub fn announced_id(node: NodeId) -> String {
    format!("{node}{:024}", 0)
}

/// What CLUSTER SLOTS answers.
///
/// The first range of every node names no replica, and these ranges come before all others: redis-py
/// and node-redis take a node for what it is named as first, and one that they take for a replica is
/// not asked where all primaries are, by SCAN or DBSIZE, say.
pub fn slots(view: &View) -> Reply<'static> {
    let (mut firsts, mut rest) = (Vec::new(), Vec::new());
    let mut named = BTreeSet::new();
    for mut range in ranges(view) {
        if !named.insert(range.primary) {
            rest.push(range);
            continue;
        }
        let head_last = match range.replicas.is_empty() {
            true => range.last,
            false => range.first + SLOTS_PER_PARTITION - 1,
        };
        let head = SlotRange { last: head_last, replicas: Vec::new(), ..range };
        if head_last < range.last {
            range.first = head_last + 1;
            rest.push(range);
        }
        firsts.push(head);
    }
    let entry = |range: SlotRange| {
        let mut entry = vec![Reply::Integer(range.first.into()), Reply::Integer(range.last.into())];
        let nodes = std::iter::once(range.primary).chain(range.replicas);
        entry.extend(nodes.map(|index| endpoint(member(view, index))));
        Reply::List(entry)
    };
    Reply::List(firsts.into_iter().chain(rest).map(entry).collect())
}

/// Host, port, id, and what else is known of where the node is.
fn endpoint(member: &Member) -> Reply<'static> {
    let (ip, name) = hosts(member);
    let more = match name {
        Some(_) => vec![(text("ip"), text(ip.to_string()))],
        None => Vec::new(),
    };
    Reply::List(vec![
        text(&*member.record.host),
        Reply::Integer(member.record.redirect_port.into()),
        text(announced_id(member.identity.node)),
        Reply::Map(more),
    ])
}

/// What CLUSTER SHARDS answers: the slots that have the same nodes, and these.
pub fn shards(view: &View) -> Reply<'static> {
    type Nodes = (NodeIndex, Vec<NodeIndex>);
    let mut shards: BTreeMap<Nodes, Vec<Reply<'static>>> = BTreeMap::new();
    for range in ranges(view) {
        let slots = shards.entry((range.primary, range.replicas)).or_default();
        slots.extend([range.first, range.last].map(|slot| Reply::Integer(slot.into())));
    }
    let shard = |((primary, replicas), slots): (Nodes, Vec<Reply<'static>>)| {
        let replicas = replicas.into_iter().map(|index| shard_node(member(view, index), "replica"));
        let nodes = std::iter::once(shard_node(member(view, primary), "master")).chain(replicas);
        Reply::Map(vec![(text("slots"), Reply::List(slots)), (text("nodes"), Reply::List(nodes.collect()))])
    };
    Reply::List(shards.into_iter().map(shard).collect())
}

fn shard_node(member: &Member, role: &'static str) -> Reply<'static> {
    let (ip, name) = hosts(member);
    let mut fields = vec![
        (text("id"), text(announced_id(member.identity.node))),
        (text("port"), Reply::Integer(member.record.redirect_port.into())),
        (text("ip"), text(ip.to_string())),
        (text("endpoint"), text(&*member.record.host)),
    ];
    fields.extend(name.map(|name| (text("hostname"), text(name))));
    let health = if member.liveness == Liveness::Dead { "fail" } else { "online" };
    fields.extend([
        (text("role"), text(role)),
        (text("replication-offset"), Reply::Integer(0)),
        (text("health"), text(health)),
    ]);
    Reply::Map(fields)
}

/// What CLUSTER NODES answers: a line for each node, all of them primaries.
pub fn nodes(view: &View, is_linked: impl Fn(NodeId) -> bool) -> String {
    let mut slots: BTreeMap<NodeIndex, Vec<(u16, u16)>> = BTreeMap::new();
    for range in ranges(view) {
        let own = slots.entry(range.primary).or_default();
        match own.last_mut().filter(|(_, last)| last + 1 == range.first) {
            Some((_, last)) => *last = range.last,
            None => own.push((range.first, range.last)),
        }
    }
    let indices = (0..).zip(view.members());
    let line = |(index, member): (NodeIndex, &Member)| {
        let own = slots.get(&index).map(Vec::as_slice).unwrap_or_default();
        node_line(view, member, own, &is_linked)
    };
    indices.map(line).collect()
}

fn node_line(
    view: &View,
    member: &Member,
    slots: &[(u16, u16)],
    is_linked: impl Fn(NodeId) -> bool,
) -> String {
    let node = member.identity.node;
    let is_me = node == view.me();
    let (ip, name) = hosts(member);
    let name = name.map(|name| format!(",{name}")).unwrap_or_default();
    let flags = match member.liveness {
        Liveness::Alive if is_me => "myself,master",
        Liveness::Alive => "master",
        Liveness::Suspect => "master,fail?",
        Liveness::Dead => "master,fail",
    };
    let link = if is_me || is_linked(node) { "connected" } else { "disconnected" };
    let slots: String = slots
        .iter()
        .map(|(first, last)| if first == last { format!(" {first}") } else { format!(" {first}-{last}") })
        .collect();
    format!(
        "{} {ip}:{}@{}{name} {flags} - 0 0 {} {link}{slots}\n",
        announced_id(node),
        member.record.redirect_port,
        member.identity.addr.port(),
        member.identity.generation,
    )
}

/// What CLUSTER INFO answers, in the fields that clients read.
pub fn info(view: &View) -> String {
    let ranges = ranges(view);
    let count = |is_counted: &dyn Fn(&SlotRange) -> bool| -> u16 {
        ranges.iter().filter(|range| is_counted(range)).map(|range| range.last - range.first + 1).sum()
    };
    let served = count(&|_| true);
    let doubtful = count(&|range| member(view, range.primary).liveness != Liveness::Alive);
    let primaries: BTreeSet<NodeIndex> = ranges.iter().map(|range| range.primary).collect();
    let generations = view.members().iter().map(|member| member.identity.generation.as_raw());
    let own = view.member(view.me()).map_or(0, |me| me.identity.generation.as_raw());
    let fields = [
        ("cluster_state", if served == SLOT_COUNT { "ok" } else { "fail" }.to_owned()),
        ("cluster_slots_assigned", served.to_string()),
        ("cluster_slots_ok", (served - doubtful).to_string()),
        ("cluster_slots_pfail", doubtful.to_string()),
        ("cluster_slots_fail", (SLOT_COUNT - served).to_string()),
        ("cluster_known_nodes", view.members().len().to_string()),
        ("cluster_size", primaries.len().to_string()),
        ("cluster_current_epoch", generations.max().unwrap_or_default().to_string()),
        ("cluster_my_epoch", own.to_string()),
    ];
    fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
}

/// How many nodes are known to suspect the one with this id; none: there is no such node.
pub fn failure_reports(view: &View, id: &[u8]) -> Option<i64> {
    let is_it = |member: &&Member| announced_id(member.identity.node).as_bytes().eq_ignore_ascii_case(id);
    let member = view.members().iter().find(is_it)?;
    Some(i64::from(member.liveness == Liveness::Suspect))
}

/// The slots that are served, in order.
fn ranges(view: &View) -> Vec<SlotRange> {
    let mut ranges: Vec<SlotRange> = Vec::new();
    for RingArc { first, last, primary, replicas } in view.arcs() {
        let Some(primary) = primary else { continue };
        let has_all = |index: &NodeIndex| {
            let member = member(view, *index);
            let partitions = first.number()..=last.number();
            member.liveness != Liveness::Dead
                && partitions.filter_map(Partition::new).all(|p| member.record.synced.contains(p))
        };
        let replicas: Vec<NodeIndex> = replicas.into_iter().filter(has_all).collect();
        let (first, last) = (first.first_slot(), last.first_slot() + SLOTS_PER_PARTITION - 1);
        match ranges.last_mut() {
            Some(range)
                if range.last + 1 == first && range.primary == primary && range.replicas == replicas =>
            {
                range.last = last;
            }
            Some(_) | None => ranges.push(SlotRange { first, last, primary, replicas }),
        }
    }
    ranges
}

fn member(view: &View, index: NodeIndex) -> &Member {
    &view.members()[usize::from(index)]
}

/// The address of a node, and its name if that is what it announces.
fn hosts(member: &Member) -> (IpAddr, Option<&str>) {
    match member.record.host.parse() {
        Ok(ip) => (ip, None),
        Err(_) => (member.identity.addr.ip(), Some(&member.record.host)),
    }
}

fn text(text: impl Into<String>) -> Reply<'static> {
    Reply::Bytes(text.into().into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::example;

    /// The view of the first of these nodes: name, host, how alive.
    fn view(nodes: &[(&str, &str, Liveness)]) -> View {
        let member = |(name, host, liveness): &(&str, &str, Liveness)| {
            let mut member = Member { liveness: *liveness, ..example::member(name) };
            Arc::make_mut(&mut member.record).host = (*host).to_owned();
            member
        };
        example::view(nodes.iter().map(member).collect())
    }

    fn three() -> View {
        view(&["a", "b", "c"].map(|name| (name, "10.0.0.1", Liveness::Alive)))
    }

    fn list(reply: Reply<'static>) -> Vec<Reply<'static>> {
        let Reply::List(list) = reply else { panic!("{reply:?} is no list") };
        list
    }

    /// First slot, last slot, ids of the nodes.
    fn entries(view: &View) -> Vec<(i64, i64, Vec<Reply<'static>>)> {
        let entry = |entry: Reply<'static>| {
            let entry = list(entry);
            let [Reply::Integer(first), Reply::Integer(last)] = entry[..2] else { panic!("{entry:?}") };
            (first, last, entry[2..].iter().map(|node| list(node.clone())[2].clone()).collect())
        };
        list(slots(view)).into_iter().map(entry).collect()
    }

    #[test]
    fn every_slot_is_listed_once_with_its_primary_first() {
        let view = three();
        let mut owners = vec![None; usize::from(SLOT_COUNT)];
        for (first, last, nodes) in entries(&view) {
            for slot in first..=last {
                let before = owners[usize::try_from(slot).unwrap()].replace(nodes.clone());
                assert_eq!(before, None, "slot {slot} is listed twice");
            }
        }
        for (slot, nodes) in (0..SLOT_COUNT).zip(owners) {
            let partition = Partition::new(slot / SLOTS_PER_PARTITION).unwrap();
            let primary = view.primary(partition).map(|node| text(announced_id(node)));
            assert_eq!(nodes.unwrap().first().cloned(), primary, "slot {slot}");
        }
    }

    #[test]
    fn every_node_is_named_as_a_primary_before_it_is_named_as_a_replica() {
        let entries = entries(&three());
        let firsts: BTreeSet<String> =
            entries[..3].iter().map(|(_, _, nodes)| format!("{nodes:?}")).collect();
        assert_eq!(firsts.len(), 3);
        assert!(entries[..3].iter().all(|(_, _, nodes)| nodes.len() == 1));
        assert!(entries[3..].iter().all(|(_, _, nodes)| nodes.len() == 2));
    }

    #[test]
    fn a_node_that_announces_a_name_is_listed_by_it_and_its_address_is_told_too() {
        let view = view(&[("a", "cache-0.example", Liveness::Alive)]);
        let entry = list(list(slots(&view)).remove(0));
        let id = text(announced_id(NodeId::of_name("a")));
        let more = Reply::Map(vec![(text("ip"), text("10.0.0.9"))]);
        let node = vec![text("cache-0.example"), Reply::Integer(32_337), id, more];
        assert_eq!(entry, [Reply::Integer(0), Reply::Integer(16_383), Reply::List(node)]);
        let line = nodes(&view, |_| false);
        let id = announced_id(NodeId::of_name("a"));
        assert_eq!(id.len(), 40);
        let expected =
            format!("{id} 10.0.0.9:32337@21337,cache-0.example myself,master - 0 0 7 connected 0-16383\n");
        assert_eq!(line, expected);
    }

    #[test]
    fn who_is_dead_has_no_slots_and_is_said_to_have_failed() {
        let view = view(&[
            ("a", "10.0.0.1", Liveness::Alive),
            ("b", "10.0.0.2", Liveness::Dead),
            ("c", "10.0.0.3", Liveness::Suspect),
        ]);
        let lines = nodes(&view, |_| false);
        let line = |host: &str| lines.lines().find(|line| line.contains(host)).unwrap().to_owned();
        assert!(line("10.0.0.2:").ends_with(" master,fail - 0 0 7 disconnected"));
        assert!(line("10.0.0.3:").contains(" master,fail? - 0 0 7 disconnected "));
        assert!(info(&view).starts_with("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"));
        assert!(info(&view).contains("cluster_known_nodes:3\r\ncluster_size:2\r\n"));
        let reports = |name| failure_reports(&view, announced_id(NodeId::of_name(name)).as_bytes());
        assert_eq!((reports("a"), reports("c"), reports("d")), (Some(0), Some(1), None));
    }

    #[test]
    fn slots_that_nobody_serves_are_not_listed() {
        let view = view(&[("a", "10.0.0.1", Liveness::Dead)]);
        assert!(entries(&view).is_empty() && list(shards(&view)).is_empty());
        assert!(info(&view).starts_with("cluster_state:fail\r\ncluster_slots_assigned:0\r\n"));
    }

    #[test]
    fn a_shard_has_all_slots_with_the_same_nodes() {
        let mut slots = 0;
        let shards = list(shards(&three()));
        assert_eq!(shards.len(), 6, "each of three nodes with each of the others");
        for shard in shards {
            let Reply::Map(fields) = shard else { panic!("a map") };
            let ends = list(fields[0].1.clone());
            for pair in ends.chunks(2) {
                let [Reply::Integer(first), Reply::Integer(last)] = pair else { panic!("{pair:?}") };
                slots += last - first + 1;
            }
            assert_eq!(list(fields[1].1.clone()).len(), 2);
        }
        assert_eq!(slots, 16_384);
    }
}
