//! What the nodes say, made into rates and events by comparing it with what they said before.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use cachegopher::client::NodeInfo;
use cachegopher::client::RingRange;

/// Events that are kept.
const EVENTS_MAX: usize = 200;
/// Rates that are kept for the curve.
const RATES_MAX: usize = 240;

/// What a node said: the lines of STATS.
pub type Stats = BTreeMap<String, String>;

/// One look at all nodes.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// As the cluster sees them.
    pub nodes: Vec<NodeInfo>,
    pub ring: Vec<RingRange>,
    /// By address, of those that answered.
    pub stats: HashMap<String, Stats>,
    /// The keys that are asked for most, each behind how often in a second.
    pub hot: Vec<String>,
    /// The latest slow commands of all nodes that answered, each behind the name of its node.
    pub slow: Vec<String>,
    /// Since the first look.
    pub at: Duration,
    /// Hours, minutes and seconds of the day, in UTC.
    pub clock: String,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub node: NodeInfo,
    /// None: it did not answer.
    pub figures: Option<Figures>,
}

/// A node's figures; those per second since the look before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub requests_per_second: f64,
    /// Of what was read in that time; none: nothing was.
    pub hit_ratio: Option<f64>,
    pub evictions_per_second: f64,
    pub keys: u64,
    pub memory_bytes: u64,
    pub memory_bytes_max: u64,
    pub connections: u64,
    /// Bytes that wait for other nodes.
    pub lag_bytes: u64,
}

/// What is shown.
#[derive(Debug, Default)]
pub struct Board {
    look: Look,
    pub rows: Vec<Row>,
    /// The time of day, and what happened; the latest last.
    pub events: Vec<(String, String)>,
    /// Requests of all nodes per second; the latest last.
    pub rates: Vec<u64>,
}

impl Board {
    /// Takes a look in.
    pub fn take(&mut self, look: Look) {
        let seconds = look.at.saturating_sub(self.look.at).as_secs_f64();
        let is_first = self.look.nodes.is_empty();
        self.rows = look.nodes.iter().map(|node| self.row(node, &look, seconds)).collect();
        if !is_first {
            for text in happened(&self.look, &look) {
                self.events.push((look.clock.clone(), text));
            }
            let rate = self.rows.iter().filter_map(|row| row.figures.as_ref());
            self.rates.push(rate.map(|figures| figures.requests_per_second).sum::<f64>().round() as u64);
        }
        self.events.drain(..self.events.len().saturating_sub(EVENTS_MAX));
        self.rates.drain(..self.rates.len().saturating_sub(RATES_MAX));
        self.look = look;
    }

    /// The look that was taken in last.
    pub fn look(&self) -> &Look {
        &self.look
    }

    fn row(&self, node: &NodeInfo, look: &Look, seconds: f64) -> Row {
        let figures = look.stats.get(&node.address).map(|now| {
            // One that was started anew counts from zero again.
            let before = self.look.stats.get(&node.address).filter(|before| is_same_life(before, now));
            let grown =
                |name| before.map_or(0, |before| figure(now, name).saturating_sub(figure(before, name)));
            let per_second = |name| if seconds > 0.0 { grown(name) as f64 / seconds } else { 0.0 };
            let (hits, misses) = (grown("hits"), grown("misses"));
            Figures {
                requests_per_second: per_second("commands"),
                hit_ratio: (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
                evictions_per_second: per_second("evictions"),
                keys: figure(now, "keys"),
                memory_bytes: figure(now, "memory_bytes"),
                memory_bytes_max: figure(now, "memory_bytes_max"),
                connections: figure(now, "connections"),
                lag_bytes: figure(now, "replication_waiting_bytes"),
            }
        });
        Row { node: node.clone(), figures }
    }
}

fn figure(stats: &Stats, name: &str) -> u64 {
    stats.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn is_same_life(before: &Stats, now: &Stats) -> bool {
    before.get("generation") == now.get("generation")
}

/// What has happened between two looks, in words.
fn happened(before: &Look, now: &Look) -> Vec<String> {
    let mut events = Vec::new();
    for node in &now.nodes {
        let name = &node.name;
        let former = before.nodes.iter().find(|former| former.name == *name);
        match former {
            None => events.push(format!("{name} has joined")),
            Some(former) if former.state != node.state => {
                events.push(format!("{name} is {}, it was {}", node.state, former.state));
            }
            Some(_) => {}
        }
        let (was, is) = (before.stats.get(&node.address), now.stats.get(&node.address));
        match (was, is) {
            (Some(_), None) => events.push(format!("{name} does not answer")),
            (None, Some(_)) if former.is_some() => events.push(format!("{name} answers again")),
            (Some(was), Some(is)) if !is_same_life(was, is) => {
                events.push(format!("{name} was started anew"))
            }
            (Some(was), Some(is)) => {
                let grown = |figure_: &str| figure(is, figure_).saturating_sub(figure(was, figure_));
                for (figure, what) in [
                    ("promotions", "partitions promoted: it is their primary now"),
                    ("partitions_lost", "partitions taken over empty: no copy was left"),
                    ("stalls", "stalls noticed"),
                    ("shards_restarted", "shards restarted"),
                ] {
                    match grown(figure) {
                        0 => {}
                        count => events.push(format!("{name}: {count} {what}")),
                    }
                }
            }
            (None, Some(_) | None) => {}
        }
    }
    for gone in before.nodes.iter().filter(|node| !now.nodes.iter().any(|other| other.name == node.name)) {
        events.push(format!("{} has left", gone.name));
    }
    events
}

/// A line of SLOWLOG, such as `7 at=1 took_us=12000 client=c KEYS`, with what matters most first.
pub fn slow(node: &str, line: &str) -> Option<String> {
    let mut parts = line.splitn(5, ' ');
    let micros = parts.find_map(|part| part.strip_prefix("took_us="))?.parse::<u64>().ok()?;
    let words = parts.nth(1)?;
    Some(format!("{node} {:.1} ms {words}", micros as f64 / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, state: &str) -> NodeInfo {
        let address = format!("{name}:1");
        NodeInfo { name: name.to_owned(), state: state.to_owned(), address, primaries: 1, replicas: 1 }
    }

    fn stats(figures: &[(&str, u64)]) -> Stats {
        figures.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect()
    }

    fn look(seconds: u64, nodes: Vec<(NodeInfo, Option<Stats>)>) -> Look {
        let answered = nodes.iter().filter_map(|(node, stats)| Some((node.address.clone(), stats.clone()?)));
        Look {
            stats: answered.collect(),
            nodes: nodes.into_iter().map(|(node, _)| node).collect(),
            at: Duration::from_secs(seconds),
            clock: format!("00:00:{seconds:02}"),
            ..Look::default()
        }
    }

    fn texts(board: &Board) -> Vec<&str> {
        board.events.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn a_slow_command_is_told_with_its_node_its_time_and_its_words_first() {
        let line = "7 at=1795535897 took_us=37896 client=127.0.0.1:5 GET k ... (2 more commands)";
        assert_eq!(slow("n1", line).unwrap(), "n1 37.9 ms GET k ... (2 more commands)");
        assert_eq!(slow("n1", "7 at=1"), None);
    }

    #[test]
    fn counters_become_rates_by_the_time_between_two_looks() {
        let mut board = Board::default();
        let first =
            stats(&[("commands", 1_000), ("hits", 10), ("misses", 10), ("keys", 5), ("generation", 1)]);
        board.take(look(0, vec![(node("a", "alive"), Some(first))]));
        assert_eq!(board.rows[0].figures.as_ref().unwrap().requests_per_second, 0.0);
        assert!(board.rates.is_empty() && board.events.is_empty());
        let second =
            stats(&[("commands", 1_500), ("hits", 40), ("misses", 20), ("keys", 6), ("generation", 1)]);
        board.take(look(2, vec![(node("a", "alive"), Some(second))]));
        let figures = board.rows[0].figures.as_ref().unwrap();
        assert_eq!((figures.requests_per_second, figures.hit_ratio, figures.keys), (250.0, Some(0.75), 6));
        assert_eq!(board.rates, [250]);
        let anew = stats(&[("commands", 3), ("generation", 2)]);
        board.take(look(4, vec![(node("a", "alive"), Some(anew))]));
        assert_eq!(board.rows[0].figures.as_ref().unwrap().requests_per_second, 0.0);
        assert_eq!(texts(&board), ["a was started anew"]);
    }

    #[test]
    fn what_happens_to_nodes_is_told_once() {
        let mut board = Board::default();
        let figures = |promotions| Some(stats(&[("promotions", promotions)]));
        board.take(look(0, vec![(node("a", "alive"), figures(0)), (node("b", "alive"), figures(0))]));
        let dead = || vec![(node("a", "alive"), figures(7)), (node("b", "dead"), None)];
        board.take(look(1, dead()));
        board.take(look(2, dead()));
        board.take(look(3, vec![(node("a", "alive"), figures(7)), (node("c", "alive"), figures(0))]));
        assert_eq!(
            texts(&board),
            [
                "a: 7 partitions promoted: it is their primary now",
                "b is dead, it was alive",
                "b does not answer",
                "c has joined",
                "b has left"
            ]
        );
        assert_eq!(board.events[3].0, "00:00:03");
    }
}
