//! What nodes say about themselves and each other.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;
use std::time::Instant;

use cachegopher::client::text::TextConnection;
use tokio::net::TcpListener;
use tokio::net::UdpSocket;
use tokio::time::sleep;
use tokio::time::timeout;

/// How long a node may take to answer before it counts as silent.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(500);
/// How often nodes are asked whether they agree by now.
const AGREE_PERIOD: Duration = Duration::from_millis(50);

/// A node and where its clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its name, or its address where none was given.
    pub name: String,
    /// Its client port, as `host:port`.
    pub client: String,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, client) = text.split_once('=').unwrap_or((text, text));
        match !name.is_empty() && client.contains(':') {
            true => Ok(Self { name: name.to_owned(), client: client.to_owned() }),
            false => Err(format!("{text:?} is no node, it must be name=host:port or host:port")),
        }
    }
}

/// What a node answered.
struct Answer {
    /// The lines of STATS.
    stats: BTreeMap<String, String>,
    /// The lines of NODES: each member's name and state.
    members: BTreeMap<String, String>,
}

impl Answer {
    fn figure(&self, name: &str) -> &str {
        self.stats.get(name).map_or("-", String::as_str)
    }
}

/// A line per node: see the command's help.
pub async fn status(nodes: &[NodeAddress]) -> Vec<String> {
    let answers = ask_all(nodes).await;
    let line = |(node, answer): (&NodeAddress, &Option<Answer>)| {
        let seen = seen(&node.name, nodes, &answers);
        let figures = match answer {
            Some(answer) => [
                "partitions_primary",
                "partitions_replica",
                "keys",
                "memory_bytes",
                "view",
                "settled",
                "members_alive",
                "partitions_missing",
            ]
            .map(|name| answer.figure(name))
            .join(" "),
            None => "- - - - - - - -".to_owned(),
        };
        format!("{} {} {seen} {figures}", node.name, u8::from(answer.is_some()))
    };
    nodes.iter().zip(&answers).map(line).collect()
}

/// How the other nodes see one, or it sees itself where no other answers: its state, or the states
/// joined by `/` where they differ.
fn seen(name: &str, nodes: &[NodeAddress], answers: &[Option<Answer>]) -> String {
    let by = |is_by: &dyn Fn(&NodeAddress) -> bool| -> BTreeSet<&str> {
        let answers = nodes.iter().zip(answers).filter(|(node, _)| is_by(node));
        let answers = answers.filter_map(|(_, answer)| answer.as_ref());
        answers.map(|answer| answer.members.get(name).map_or("unknown", String::as_str)).collect()
    };
    let mut states = by(&|node| node.name != name);
    if states.is_empty() {
        states = by(&|node| node.name == name);
    }
    match states.is_empty() {
        true => "-".to_owned(),
        false => states.into_iter().collect::<Vec<_>>().join("/"),
    }
}

async fn ask_all(nodes: &[NodeAddress]) -> Vec<Option<Answer>> {
    let ask = |node: &NodeAddress| tokio::spawn(timeout(ANSWER_WAIT_MAX, ask(node.client.clone())));
    let tasks: Vec<_> = nodes.iter().map(ask).collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.ok().and_then(Result::ok).flatten());
    }
    answers
}

async fn ask(client: String) -> Option<Answer> {
    let mut connection = TextConnection::connect(client).await.ok()?;
    let stats = connection.list("STATS").await.ok()?;
    let members = connection.list("NODES").await.ok()?;
    close(connection).await;
    let stats = stats.iter().filter_map(|line| line.split_once(' '));
    let members = members.iter().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?))
    });
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Some(Answer { stats: stats.map(owned).collect(), members: members.map(owned).collect() })
}

/// Lets the node close the connection. The side that closes first keeps its port busy for a minute,
/// and on this side that is a port which a node may need.
pub async fn close(mut connection: TextConnection) {
    // Whether it has heard us or is gone: there is nothing more to be had from it.
    let _ = timeout(ANSWER_WAIT_MAX, async {
        connection.ask("EXIT").await?;
        connection.receive().await
    })
    .await;
}

/// Returns when all nodes have the same view with so many members alive and a primary for every
/// partition; an error says what was missing last.
pub async fn wait(
    nodes: &[NodeAddress],
    alive: usize,
    is_settled: bool,
    wait_max: Duration,
) -> Result<(), String> {
    let end = Instant::now() + wait_max;
    loop {
        let answers = ask_all(nodes).await;
        match disagreement(nodes, &answers, alive, is_settled) {
            None => return Ok(()),
            Some(reason) if Instant::now() >= end => return Err(reason),
            Some(_) => sleep(AGREE_PERIOD).await,
        }
    }
}

/// The first thing that keeps the nodes from agreeing.
fn disagreement(
    nodes: &[NodeAddress],
    answers: &[Option<Answer>],
    alive: usize,
    is_settled: bool,
) -> Option<String> {
    let mut views = BTreeSet::new();
    for (NodeAddress { name, .. }, answer) in nodes.iter().zip(answers) {
        let Some(answer) = answer else {
            return Some(format!("{name} does not answer"));
        };
        let figure = |name| answer.figure(name);
        if figure("members_alive") != alive.to_string() {
            return Some(format!("{name} sees {} nodes alive instead of {alive}", figure("members_alive")));
        }
        if figure("partitions_without_primary") != "0" {
            return Some(format!(
                "{name} sees {} partitions without a primary",
                figure("partitions_without_primary")
            ));
        }
        if is_settled && figure("settled") != "1" {
            return Some(format!("{name} still sees partitions move or copies missing"));
        }
        views.insert(figure("view"));
    }
    (views.len() > 1).then(|| format!("the nodes have different views of the ring: {views:?}"))
}

/// Prints the ports that somebody listens on, and fails if there is one.
pub async fn free_ports(ports: &[u16]) -> Result<(), String> {
    let mut taken = 0;
    for port in ports {
        let address = (Ipv4Addr::LOCALHOST, *port);
        if TcpListener::bind(address).await.is_err() || UdpSocket::bind(address).await.is_err() {
            println!("{port}");
            taken += 1;
        }
    }
    match taken {
        0 => Ok(()),
        _ => Err(format!("{taken} of {} ports are in use", ports.len())),
    }
}
