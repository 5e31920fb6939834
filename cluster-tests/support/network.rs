//! A network of our own: every node in a network namespace, its cable in a switch that we can reach.
//!
//! ```text
//!    hub namespace, where the test runs
//!    bridge left   bridge right          nodes' cables: 10.77.0.<n>, in one bridge or the other
//!      │ │ │
//!     n1 n2 n3                           and to each node a line for clients: 10.78.<n>.1
//! ```
//!
//! So a node can be cut off from the others while clients still reach it.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use nix::sched::CloneFlags;
use nix::sched::setns;
use tun_rs::DeviceBuilder;
use tun_rs::Layer;
use tun_rs::SyncDevice;

use super::cluster::unique_name;
use super::node::Plan;
use super::rough_line::RoughLine;

const CLIENT_PORT: u16 = 31_337;
const PEER_PORT: u16 = 41_337;

/// The namespaces; removed when this is dropped, and the test's thread goes back to where it was.
pub struct Network {
    tag: String,
    count: u8,
    origin: std::fs::File,
}

/// Where a node's cable is plugged in.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Left,
    Right,
}

impl Network {
    /// Builds a network and moves this thread into its hub. None, with a printed reason: this machine
    /// does not let us.
    pub fn enter(count: u8) -> Option<Self> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let tag = format!("cg{}x{}", std::process::id(), BUILT.fetch_add(1, Ordering::Relaxed));
        let origin = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let network = Self { tag, count, origin };
        if let Err(reason) = network.build() {
            println!("skipped: no network namespaces here: {reason}");
            return None;
        }
        let hub = std::fs::File::open(format!("/run/netns/{}", network.hub())).unwrap();
        setns(hub, CloneFlags::CLONE_NEWNET).unwrap();
        Some(network)
    }

    /// How the nodes of one cluster are started, one for each place in the network.
    pub fn plans(&self) -> (String, Vec<Plan>) {
        let cluster = unique_name();
        let plans =
            (1..=self.count).map(|number| self.plan(number, &format!("n{number}"), &cluster)).collect();
        (cluster, plans)
    }

    /// How a node at one place of the network is started.
    pub fn plan(&self, number: u8, name: &str, cluster: &str) -> Plan {
        let peer = |number| SocketAddr::from((Ipv4Addr::new(10, 77, 0, number), PEER_PORT));
        Plan {
            name: name.to_owned(),
            cluster: cluster.to_owned(),
            client: SocketAddr::from((Ipv4Addr::new(10, 78, number, 1), CLIENT_PORT)),
            peer: peer(number),
            join: (1..=self.count).filter(|other| *other != number).map(peer).collect(),
            namespace: Some(self.place(number)),
            files_max: None,
            notify_socket: None,
            more: Vec::new(),
        }
    }

    /// Replaces a node's cable by one that can be rough. Before the node starts; says why if this machine cannot do
    /// that.
    pub fn rough_line(&self, number: u8) -> Result<RoughLine, String> {
        let (hub, place) = (&self.hub(), &self.place(number));
        ip(&format!("-n {place} link del peers"))?;
        let port = format!("p{number}");
        let line = RoughLine::between(tap(place, "peers")?, tap(hub, &port)?);
        ip(&format!("-n {place} addr add 10.77.0.{number}/24 dev peers"))?;
        ip(&format!("-n {place} link set peers up"))?;
        ip(&format!("-n {hub} link set {port} master left up"))?;
        Ok(line)
    }

    /// Takes a node's link to the others down.
    pub fn cut(&self, number: u8) {
        self.must(&format!("-n {} link set p{number} down", self.hub()));
    }

    /// Takes it up again.
    pub fn mend(&self, number: u8) {
        self.must(&format!("-n {} link set p{number} up", self.hub()));
    }

    /// Plugs a node's cable into one of the two bridges, which are not connected.
    pub fn plug(&self, number: u8, side: Side) {
        let bridge = match side {
            Side::Left => "left",
            Side::Right => "right",
        };
        self.must(&format!("-n {} link set p{number} master {bridge}", self.hub()));
    }

    /// From now on nothing that one node sends reaches another one: it goes to where nobody is.
    pub fn deafen(&self, deaf: u8, sender: u8) {
        let nobody = "lladdr 02:00:00:00:00:01 dev peers nud permanent";
        self.must(&format!("-n {} neigh replace 10.77.0.{deaf} {nobody}", self.place(sender)));
    }

    /// What it sends reaches the other one again.
    pub fn undeafen(&self, deaf: u8, sender: u8) {
        self.must(&format!("-n {} neigh del 10.77.0.{deaf} dev peers", self.place(sender)));
    }

    /// What the others send to a node comes at this rate. Says why if this machine cannot do that.
    pub fn slow(&self, number: u8, rate: &str) -> Result<(), String> {
        let port = format!("p{number}");
        let shape = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"];
        tc(&self.hub(), &[&["qdisc", "replace", "dev", &port], &shape[..]].concat())
    }

    /// As fast as before.
    pub fn hurry(&self, number: u8) {
        tc(&self.hub(), &["qdisc", "del", "dev", &format!("p{number}"), "root"]).unwrap();
    }

    fn build(&self) -> Result<(), String> {
        let hub = &self.hub();
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link set lo up"))?;
        for bridge in ["left", "right"] {
            ip(&format!("-n {hub} link add {bridge} type bridge"))?;
            ip(&format!("-n {hub} link set {bridge} up"))?;
        }
        for number in 1..=self.count {
            let place = &self.place(number);
            ip(&format!("netns add {place}"))?;
            ip(&format!("-n {place} link set lo up"))?;
            ip(&format!("-n {hub} link add p{number} type veth peer name peers netns {place}"))?;
            ip(&format!("-n {hub} link add c{number} type veth peer name clients netns {place}"))?;
            ip(&format!("-n {hub} link set p{number} master left up"))?;
            ip(&format!("-n {hub} addr add 10.78.{number}.2/24 dev c{number}"))?;
            ip(&format!("-n {hub} link set c{number} up"))?;
            ip(&format!("-n {place} addr add 10.77.0.{number}/24 dev peers"))?;
            ip(&format!("-n {place} link set peers up"))?;
            ip(&format!("-n {place} addr add 10.78.{number}.1/24 dev clients"))?;
            ip(&format!("-n {place} link set clients up"))?;
        }
        Ok(())
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.tag)
    }

    fn place(&self, number: u8) -> String {
        format!("{}-{number}", self.tag)
    }

    fn must(&self, words: &str) {
        ip(words).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        setns(&self.origin, CloneFlags::CLONE_NEWNET).expect("back to where we came from");
        let places = (1..=self.count).map(|number| self.place(number));
        for namespace in places.chain([self.hub()]) {
            // One that could not be added cannot be deleted.
            let _ = ip(&format!("netns delete {namespace}"));
        }
    }
}

/// A device of a namespace whose cable ends in our hands.
fn tap(namespace: &str, name: &str) -> Result<SyncDevice, String> {
    let failed = |error: &dyn std::fmt::Display| format!("tap device {name}: {error}");
    let namespace = std::fs::File::open(format!("/run/netns/{namespace}")).map_err(|error| failed(&error))?;
    let name = name.to_owned();
    // A thread of its own: it stays in that namespace.
    let made = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        DeviceBuilder::new().name(name).layer(Layer::L2).build_sync()
    });
    made.join().unwrap().map_err(|error| failed(&error))
}

fn ip(words: &str) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("ip {words}: {error}");
    let output = Command::new("ip").args(words.split(' ')).output().map_err(|error| failed(&error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn tc(namespace: &str, words: &[&str]) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("tc {}: {error}", words.join(" "));
    let output = Command::new("tc").args(["-n", namespace]).args(words).output();
    let output = output.map_err(|error| failed(&error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr).trim())),
    }
}
