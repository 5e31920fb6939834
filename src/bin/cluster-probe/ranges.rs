//! Who is primary for what, as RING tells it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use cachegopher::client::text::TextConnection;
use cachegopher::store::Partition;

use crate::keys;
use crate::nodes;
use crate::nodes::NodeAddress;

/// A run of partitions with the same owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Their numbers.
    pub partitions: RangeInclusive<u16>,
    /// The name of their primary, `-` where there is none.
    pub primary: String,
}

impl Range {
    /// From a line of RING: `0-56 primary=n1 replicas=n2`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (first, last) = words.next()?.split_once('-')?;
        let primary = words.next()?.strip_prefix("primary=")?;
        Some(Self { partitions: first.parse().ok()?..=last.parse().ok()?, primary: primary.to_owned() })
    }

    /// A word that puts each key that has it in braces into this range.
    pub fn tag(&self) -> String {
        let is_here = |tag: &String| self.partitions.contains(&Partition::of(tag.as_bytes()).number());
        // One in 4096 words falls into even the shortest range, so that the search ends soon.
        (0_u64..).map(|number| number.to_string()).find(is_here).unwrap_or_default()
    }
}

/// All ranges, as the first node that answers sees them.
pub async fn all(nodes: &[NodeAddress]) -> Result<Vec<Range>, String> {
    let mut reason = "no node was given".to_owned();
    for node in nodes {
        let lines = async {
            let mut connection = TextConnection::connect(&node.client).await?;
            let lines = connection.list("RING").await?;
            nodes::close(connection).await;
            Ok::<_, std::io::Error>(lines)
        };
        match lines.await {
            Ok(lines) => {
                let range = |line: &String| Range::parse(line).ok_or(format!("RING says {line:?}"));
                return lines.iter().map(range).collect();
            }
            Err(error) => reason = format!("{}: {error}", node.name),
        }
    }
    Err(reason)
}

/// Prints the nodes by the number of the demo's keys that each is primary for.
pub async fn owners(nodes: &[NodeAddress], count: usize) -> Result<(), String> {
    let ranges = all(nodes).await?;
    let mut counts = BTreeMap::<&str, usize>::new();
    for number in 0..count {
        let partition = Partition::of(keys::key(number).as_bytes()).number();
        let range = ranges.iter().find(|range| range.partitions.contains(&partition));
        *counts.entry(range.map_or("-", |range| &range.primary)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    counts.iter().for_each(|(name, count)| println!("{name} {count}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ring_names_partitions_and_their_primary() {
        let range = Range::parse("57-149 primary=n2 replicas=n1").unwrap();
        assert_eq!(range, Range { partitions: 57..=149, primary: "n2".to_owned() });
        assert_eq!(Range::parse("57 primary=n2"), None);
        assert_eq!(Range::parse("57-x primary=n2"), None);
    }

    #[test]
    fn a_tag_puts_keys_into_its_range() {
        for number in [0, 1_234, 4_095] {
            let range = Range { partitions: number..=number, primary: String::new() };
            let key = format!("a:{{{}}}:b", range.tag());
            assert_eq!(Partition::of(key.as_bytes()).number(), number);
        }
    }
}
