//! The ring as a picture: a letter for each run of partitions says whose it is, so that it can be read
//! without colours; colours only help.

use cachegopher::client::NodeInfo;
use cachegopher::client::RingRange;
use cachegopher::store::PARTITION_COUNT;
use serde_json::Value;
use serde_json::json;

/// Letters in a row of the picture.
const COLUMNS: usize = 64;
/// Partitions that a letter stands for.
const PARTITIONS_PER_LETTER: usize = 8;
/// The width of the bars behind the nodes.
const BAR: usize = 24;
/// Letters, then where they end.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Foreground colours of 256 that differ and can be read on black and on white.
const COLOURS: [u8; 12] = [33, 166, 35, 162, 136, 99, 37, 160, 64, 133, 94, 31];

/// The letter of the node at this position.
pub fn letter(position: usize) -> char {
    LETTERS.get(position).map_or('#', |letter| char::from(*letter))
}

/// The colour of the node at this position, of 256.
pub fn colour(position: usize) -> u8 {
    COLOURS[position % COLOURS.len()]
}

/// Whose most of the partitions of each of so many equal parts are: positions of nodes.
pub fn parts(
    nodes: &[NodeInfo],
    ring: &[RingRange],
    count: usize,
    holder: impl Fn(&RingRange) -> Option<&String>,
) -> Vec<Option<usize>> {
    let mut owners = vec![None; usize::from(PARTITION_COUNT)];
    for range in ring {
        let owner = holder(range).and_then(|name| nodes.iter().position(|node| node.name == *name));
        owners[usize::from(range.first)..=usize::from(range.last)].fill(owner);
    }
    let edge = |part: usize| part * owners.len() / count;
    (0..count).map(|part| most_frequent(&owners[edge(part)..edge(part + 1)])).collect()
}

fn most_frequent(owners: &[Option<usize>]) -> Option<usize> {
    let count = |owner: &Option<usize>| owners.iter().filter(|other| *other == owner).count();
    // Of equals the one with the smaller position, so that the picture does not flicker.
    owners.iter().max_by_key(|owner| (count(owner), std::cmp::Reverse(**owner))).copied().flatten()
}

/// The whole picture.
pub fn draw(nodes: &[NodeInfo], ring: &[RingRange], has_colour: bool) -> String {
    let mut text = String::new();
    let copies = ring.iter().map(|range| range.replicas.len()).max().unwrap_or_default();
    grid("primaries", nodes, ring, has_colour, |range| range.primary.as_ref(), &mut text);
    for copy in 0..copies {
        let title = if copies == 1 { "replicas".to_owned() } else { format!("replicas {}", copy + 1) };
        grid(&title, nodes, ring, has_colour, |range| range.replicas.get(copy), &mut text);
    }
    legend(nodes, has_colour, &mut text);
    text
}

fn grid(
    title: &str,
    nodes: &[NodeInfo],
    ring: &[RingRange],
    has_colour: bool,
    holder: impl Fn(&RingRange) -> Option<&String>,
    text: &mut String,
) {
    text.push_str(&format!("{title}, {PARTITIONS_PER_LETTER} partitions a letter\n"));
    let count = usize::from(PARTITION_COUNT) / PARTITIONS_PER_LETTER;
    for (row, parts) in parts(nodes, ring, count, holder).chunks(COLUMNS).enumerate() {
        text.push_str(&format!("{:>5} ", row * COLUMNS * PARTITIONS_PER_LETTER));
        for part in parts {
            match part {
                Some(node) => painted(&letter(*node).to_string(), *node, has_colour, text),
                None => text.push('-'),
            }
        }
        text.push('\n');
    }
    text.push('\n');
}

fn legend(nodes: &[NodeInfo], has_colour: bool, text: &mut String) {
    let width =
        |column: fn(&NodeInfo) -> &str| nodes.iter().map(|node| column(node).len()).max().unwrap_or(0);
    let (names, states) = (width(|node| &node.name), width(|node| &node.state));
    let addresses = width(|node| &node.address);
    for (position, node) in nodes.iter().enumerate() {
        let share = node.primaries as f64 / f64::from(PARTITION_COUNT);
        let bar = "█".repeat((share * BAR as f64).round() as usize);
        painted(&letter(position).to_string(), position, has_colour, text);
        let NodeInfo { name, state, address, primaries, replicas } = node;
        text.push_str(&format!(
            " {name:names$} {state:states$} {address:addresses$} {primaries:>5} primary {:>5.1} % {replicas:>5} replica ",
            share * 100.0
        ));
        painted(&bar, position, has_colour, text);
        text.push('\n');
    }
}

fn painted(what: &str, node: usize, has_colour: bool, text: &mut String) {
    match has_colour {
        true => text.push_str(&format!("\x1b[38;5;{}m{what}\x1b[0m", colour(node))),
        false => text.push_str(what),
    }
}

/// The ring for machines.
pub fn json(nodes: &[NodeInfo], ring: &[RingRange]) -> Value {
    let node = |node: &NodeInfo| {
        json!({
            "name": node.name, "state": node.state, "address": node.address,
            "primaries": node.primaries, "replicas": node.replicas,
        })
    };
    let range = |range: &RingRange| {
        json!({
            "first": range.first, "last": range.last, "primary": range.primary, "replicas": range.replicas,
        })
    };
    json!({
        "nodes": nodes.iter().map(node).collect::<Value>(),
        "ring": ring.iter().map(range).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, primaries: usize) -> NodeInfo {
        let (state, address) = ("alive".to_owned(), "h:1".to_owned());
        NodeInfo { name: name.to_owned(), state, address, primaries, replicas: 0 }
    }

    fn range(first: u16, last: u16, primary: &str, replica: &str) -> RingRange {
        let owned = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        RingRange { first, last, primary: owned(primary), replicas: owned(replica).into_iter().collect() }
    }

    #[test]
    fn the_picture_shows_whose_each_part_is_without_colours() {
        let nodes = [node("one", 1_024), node("two", 3_072)];
        let ring =
            [range(0, 1_023, "one", "two"), range(1_024, 4_087, "two", "one"), range(4_088, 4_095, "", "")];
        let picture = draw(&nodes, &ring, false);
        let rows: Vec<&str> = picture.lines().collect();
        assert_eq!(rows[1], format!("    0 {}", "A".repeat(64)));
        assert_eq!(rows[3], format!(" 1024 {}", "B".repeat(64)));
        assert_eq!(rows[8], format!(" 3584 {}-", "B".repeat(63)));
        assert_eq!(rows[11], format!("    0 {}", "B".repeat(64)));
        assert!(
            picture.contains("A one alive h:1  1024 primary  25.0 %     0 replica ██████\n"),
            "{picture}"
        );
        assert!(!picture.contains('\x1b') && draw(&nodes, &ring, true).contains('\x1b'));
    }

    #[test]
    fn a_part_belongs_to_whom_most_of_it_belongs() {
        let nodes = [node("one", 0), node("two", 0)];
        let ring = [range(0, 2, "one", ""), range(3, 4_095, "two", "")];
        let parts = parts(&nodes, &ring, 512, |range| range.primary.as_ref());
        assert_eq!((parts[0], parts[1]), (Some(1), Some(1)));
        assert_eq!(most_frequent(&[Some(1), Some(0), Some(1)]), Some(1));
        assert_eq!(most_frequent(&[Some(1), Some(0)]), most_frequent(&[Some(0), Some(1)]));
    }
}
