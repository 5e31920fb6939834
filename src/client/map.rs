//! Who is where: what NODES and RING say, as plain values.
//!
//! A map may be out of date at any time. Any node serves any key, so that a wrong entry costs a detour
//! and never an error.

use std::collections::HashMap;

use crate::store::PARTITION_COUNT;
use crate::store::Partition;

/// A node, as the node that was asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// `alive`, `suspect`, `leaving` or `dead`.
    pub state: String,
    /// Where clients reach it.
    pub address: String,
    /// The partitions that it is primary for.
    pub primaries: usize,
    /// The partitions that it holds as a replica.
    pub replicas: usize,
}

impl NodeInfo {
    /// Whether requests may be sent to it.
    pub fn is_up(&self) -> bool {
        self.state != "dead"
    }
}

/// Neighbouring partitions with the same holders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingRange {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// The name of their primary; none: nobody is.
    pub primary: Option<String>,
    /// The names of their replicas.
    pub replicas: Vec<String>,
}

impl RingRange {
    /// How many partitions it has.
    pub fn len(&self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Whether it has none, which is never so.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The holders of a partition, as positions in [`Map::nodes`], its primary first.
type Holders = Vec<usize>;

/// The nodes and what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// Names the view of the ring that it was made from.
    pub view: String,
    pub nodes: Vec<NodeInfo>,
    pub ring: Vec<RingRange>,
    /// By range.
    holders: Vec<Holders>,
    /// By partition: its range.
    ranges: Vec<u16>,
}

impl Map {
    /// A map of what NODES and RING answered; the reason, where that is something else.
    pub fn new(nodes: &str, ring: &str) -> Result<Self, String> {
        let (nodes, view) = parse_nodes(nodes)?;
        let ring: Vec<RingRange> = ring.lines().map(parse_range).collect::<Result<_, _>>()?;
        let positions: HashMap<&str, usize> =
            nodes.iter().enumerate().map(|(position, node)| (node.name.as_str(), position)).collect();
        let mut ranges = vec![u16::MAX; usize::from(PARTITION_COUNT)];
        let mut holders = Vec::with_capacity(ring.len());
        for (number, range) in (0..).zip(&ring) {
            let partitions = ranges.get_mut(usize::from(range.first)..=usize::from(range.last));
            partitions.ok_or_else(|| format!("there are no partitions {range:?}"))?.fill(number);
            let names = range.primary.iter().chain(&range.replicas);
            holders.push(names.filter_map(|name| positions.get(name.as_str()).copied()).collect());
        }
        Ok(Self { view, nodes, ring, holders, ranges })
    }

    /// As this one, with what NODES says since then of the same view.
    pub fn with_nodes(&self, nodes: &str) -> Option<Self> {
        let (nodes, view) = parse_nodes(nodes).ok()?;
        let is_same = view == self.view
            && nodes.len() == self.nodes.len()
            && nodes.iter().zip(&self.nodes).all(|(new, old)| new.name == old.name);
        is_same.then(|| Self { nodes, ..self.clone() })
    }

    /// The positions of the nodes that hold a partition, its primary first.
    pub fn holders(&self, partition: Partition) -> &[usize] {
        let range = self.ranges.get(partition.index()).map(|range| usize::from(*range));
        range.and_then(|range| self.holders.get(range)).map_or(&[], Vec::as_slice)
    }
}

fn parse_nodes(lines: &str) -> Result<(Vec<NodeInfo>, String), String> {
    let mut nodes = Vec::new();
    let mut view = String::new();
    for line in lines.lines() {
        let no_node = || format!("NODES says {line:?}");
        let mut words = line.split(' ');
        let (name, state) = words.next().zip(words.next()).ok_or_else(no_node)?;
        let figures: HashMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
        let number = |name| figures.get(name).and_then(|text| text.parse().ok()).ok_or_else(no_node);
        nodes.push(NodeInfo {
            name: name.to_owned(),
            state: state.to_owned(),
            address: (*figures.get("client").ok_or_else(no_node)?).to_owned(),
            primaries: number("primaries")?,
            replicas: number("replicas")?,
        });
        view = (*figures.get("view").ok_or_else(no_node)?).to_owned();
    }
    // The node that answers comes first; here the order must not depend on who was asked.
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    if nodes.is_empty() { Err("NODES says nothing".to_owned()) } else { Ok((nodes, view)) }
}

/// From a line of RING: `0-56 primary=n1 replicas=n2,n3`, with `-` for nobody.
fn parse_range(line: &str) -> Result<RingRange, String> {
    let parse = || {
        let mut words = line.split(' ');
        let (first, last) = words.next()?.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        let primary = words.next()?.strip_prefix("primary=")?;
        let replicas = words.next()?.strip_prefix("replicas=")?;
        let name = |name: &str| (name != "-").then(|| name.to_owned());
        let replicas = replicas.split(',').filter_map(name).collect();
        (first <= last).then(|| RingRange { first, last, primary: name(primary), replicas })
    };
    parse().ok_or_else(|| format!("RING says {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "b alive client=h:2 peer=h:4 id=1 generation=1 primaries=2048 replicas=2048 view=7 me\n\
                         a dead client=h:1 peer=h:3 id=0 generation=1 primaries=0 replicas=0 view=7";
    const RING: &str = "0-2047 primary=a replicas=b\n2048-4095 primary=b replicas=-";

    fn holders(map: &Map, partition: u16) -> Vec<&str> {
        let holders = map.holders(Partition::new(partition).unwrap());
        holders.iter().map(|position| map.nodes[*position].name.as_str()).collect()
    }

    #[test]
    fn a_map_says_who_holds_what_primary_first() {
        let map = Map::new(NODES, RING).unwrap();
        assert_eq!((holders(&map, 0), holders(&map, 2_047)), (vec!["a", "b"], vec!["a", "b"]));
        assert_eq!((holders(&map, 2_048), holders(&map, 4_095)), (vec!["b"], vec!["b"]));
        assert_eq!((map.view.as_str(), map.nodes[1].address.as_str()), ("7", "h:2"));
        assert!(map.nodes[1].is_up() && !map.nodes[0].is_up());
        assert_eq!(map.ring[0].len(), 2_048);
    }

    #[test]
    fn the_state_of_nodes_is_renewed_without_the_ring_as_long_as_the_view_is_the_same() {
        let map = Map::new(NODES, RING).unwrap();
        let back = map.with_nodes(&NODES.replace("a dead", "a alive")).unwrap();
        assert!(back.nodes[0].is_up());
        assert_eq!(holders(&back, 0), ["a", "b"]);
        assert_eq!(map.with_nodes(&NODES.replace("view=7", "view=8")), None);
        assert_eq!(map.with_nodes(NODES.lines().next().unwrap()), None);
    }

    #[test]
    fn holders_that_nobody_knows_are_left_out_and_nonsense_is_refused() {
        let map = Map::new(NODES, "0-4095 primary=- replicas=c,b").unwrap();
        assert_eq!(holders(&map, 5), ["b"]);
        assert_eq!(Map::default().holders(Partition::new(5).unwrap()), &[] as &[usize]);
        for ring in
            ["0-9", "x-9 primary=a replicas=b", "9-0 primary=a replicas=b", "0-4096 primary=a replicas=-"]
        {
            assert!(Map::new(NODES, ring).is_err(), "{ring}");
        }
        assert!(Map::new("", RING).is_err() && Map::new("a alive", RING).is_err());
    }
}
