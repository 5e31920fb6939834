//! A cluster of real processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cachegopher::store::PARTITION_COUNT;
use cachegopher::store::Partition;

use super::LONG;
use super::eventually;
use super::node::Node;
use super::node::Plan;
use super::ports::Ports;

/// Nodes that know of each other.
#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    pub nodes: Vec<Node>,
    ports: Vec<Ports>,
    more: Vec<String>,
}

/// A name that no other test uses, on this machine.
pub fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Cluster {
    /// Starts nodes on loopback with the default settings and waits until they are settled.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// With settings that differ.
    pub async fn start_with(count: usize, more: &[&str]) -> Self {
        let name = unique_name();
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        let ports: Vec<Ports> = (0..count).map(|_| Ports::allocate()).collect();
        let mut plans: Vec<Plan> = (1..)
            .zip(&ports)
            .map(|(number, ports)| Plan::on_loopback(&format!("n{number}"), &name, ports, Vec::new()))
            .collect();
        let peers: Vec<SocketAddr> = plans.iter().map(|plan| plan.peer).collect();
        for plan in &mut plans {
            plan.join = peers.iter().copied().filter(|peer| *peer != plan.peer).collect();
            plan.more.clone_from(&more);
        }
        let cluster = Self { name, nodes: plans.into_iter().map(Node::start).collect(), ports, more };
        cluster.settled().await;
        cluster
    }

    /// A cluster of nodes that others have planned.
    pub async fn of(name: String, plans: Vec<Plan>) -> Self {
        let nodes = plans.into_iter().map(Node::start).collect();
        let cluster = Self { name, nodes, ports: Vec::new(), more: Vec::new() };
        cluster.settled().await;
        cluster
    }

    /// Starts one more node, without waiting for anything. Returns its index.
    pub fn add(&mut self) -> usize {
        self.add_with(&[])
    }

    /// With settings that differ from those of the others.
    pub fn add_with(&mut self, more: &[&str]) -> usize {
        let ports = Ports::allocate();
        let join = self.nodes.iter().map(|node| node.plan.peer).collect();
        let mut plan = Plan::on_loopback(&format!("n{}", self.nodes.len() + 1), &self.name, &ports, join);
        plan.more.clone_from(&self.more);
        plan.more.extend(more.iter().map(|word| (*word).to_owned()));
        self.ports.push(ports);
        self.nodes.push(Node::start(plan));
        self.nodes.len() - 1
    }

    /// Waits until all nodes that run agree on all roles, and every copy is in its place. While clients
    /// write, some of the last changes are always on their way to the copies.
    pub async fn settled(&self) -> Duration {
        eventually(LONG, async || {
            let mut view = None;
            let running = self.nodes.iter().filter(|node| node.is_running()).count().to_string();
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                let name = &node.plan.name;
                let stats = node.stats().await.ok_or_else(|| format!("{name} does not answer"))?;
                for (figure, value) in [("settled", "1"), ("members_alive", &*running)] {
                    if stats[figure] != value {
                        return Err(format!("{name}: {figure} is {}, not {value}", stats[figure]));
                    }
                }
                let first = view.get_or_insert_with(|| stats["view"].clone());
                if *first != stats["view"] {
                    return Err(format!("{name} has the view {}, another {first}", stats["view"]));
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits, while nobody writes, until all copies are in their places and equal.
    pub async fn at_rest(&self) {
        self.settled().await;
        self.replicated().await;
    }

    /// Waits until every change has reached the replicas.
    pub async fn replicated(&self) {
        eventually(LONG, async || match self.sum("replication_waiting_bytes").await {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes wait")),
        })
        .await;
    }

    /// A figure, summed over all nodes that run.
    pub async fn sum(&self, figure: &str) -> u64 {
        let mut sum = 0;
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            sum += node.figure(figure).await;
        }
        sum
    }

    /// The nodes that run, one excepted.
    pub fn others(&self, index: usize) -> impl Iterator<Item = &Node> {
        let is_other = move |(other, node): &(usize, &Node)| *other != index && node.is_running();
        self.nodes.iter().enumerate().filter(is_other).map(|(_, node)| node)
    }

    /// Who is primary of each partition, as one node says; empty where nobody is.
    pub async fn primaries(&self, asked: usize) -> Vec<String> {
        let mut primaries = vec![String::new(); usize::from(PARTITION_COUNT)];
        for line in self.nodes[asked].connect().await.list("RING").await {
            let mut words = line.split(' ');
            let (first, last) = words.next().unwrap().split_once('-').unwrap();
            let primary = words.next().unwrap().strip_prefix("primary=").unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            primaries[first..=last].fill(primary.to_owned());
        }
        primaries
    }

    /// One key for every partition that a node is primary of.
    pub async fn keys_of(&self, index: usize) -> Vec<String> {
        let primaries = self.primaries(index).await;
        let is_its = |(_, primary): &(String, &String)| **primary == self.nodes[index].plan.name;
        key_per_partition().into_iter().zip(&primaries).filter(is_its).map(|(key, _)| key).collect()
    }
}

/// One key for every partition, in their order.
pub fn key_per_partition() -> Vec<String> {
    let mut keys: BTreeMap<usize, String> = BTreeMap::new();
    let mut number = 0;
    while keys.len() < usize::from(PARTITION_COUNT) {
        let key = format!("partition-{number}");
        keys.entry(usize::from(Partition::of(key.as_bytes()).number())).or_insert(key);
        number += 1;
    }
    keys.into_values().collect()
}
