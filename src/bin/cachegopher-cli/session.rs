//! One conversation with whichever node answers. Any node takes any request, so that a conversation goes
//! on at another one when its node is gone; what was under way then is not repeated.

use std::time::Duration;

use cachegopher::client::Answer;
use cachegopher::client::Connection;
use tokio::time::timeout;

/// How long connecting to one node may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);

/// A conversation.
pub struct Session {
    nodes: Vec<String>,
    deadline: Duration,
    connection: Option<Connection>,
}

impl Session {
    pub fn new(nodes: Vec<String>, deadline: Duration) -> Self {
        Self { nodes, deadline, connection: None }
    }

    /// The answer to a request; the reason, where there is none.
    pub async fn ask(&mut self, words: &[Vec<u8>]) -> Result<Answer, String> {
        let mut connection = match self.connection.take().filter(Connection::is_usable) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let lost = |reason: String| format!("{reason}; the command may or may not have run");
        match timeout(self.deadline, connection.ask(words)).await {
            Ok(Ok(answer)) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            Ok(Err(error)) => Err(lost(format!("the connection was lost: {error}"))),
            Err(_) => Err(lost(format!("no answer within {} ms", self.deadline.as_millis()))),
        }
    }

    /// Lets the conversation go on at any other node of the cluster.
    pub async fn learn_nodes(&mut self) -> Result<(), String> {
        let (Answer::Text(lines) | Answer::Value(lines)) = self.ask(&[b"NODES".to_vec()]).await? else {
            return Err("NODES is not answered by lines".to_owned());
        };
        let lines = String::from_utf8_lossy(&lines);
        let addresses = lines.split_whitespace().filter_map(|word| word.strip_prefix("client="));
        for address in addresses {
            if !self.nodes.iter().any(|node| node == address) {
                self.nodes.push(address.to_owned());
            }
        }
        Ok(())
    }

    /// The node that is asked first.
    pub fn node(&self) -> &str {
        self.nodes.first().map_or("", String::as_str)
    }

    async fn connect(&mut self) -> Result<Connection, String> {
        let mut reasons = Vec::new();
        for position in 0..self.nodes.len() {
            let node = &self.nodes[position];
            match timeout(CONNECT_WAIT_MAX, greet(node)).await {
                Ok(Ok(connection)) => {
                    self.nodes[..=position].rotate_right(1);
                    return Ok(connection);
                }
                Ok(Err(error)) => reasons.push(format!("{node}: {error}")),
                Err(_) => reasons.push(format!("{node}: it does not answer")),
            }
        }
        Err(format!("no node can be reached: {}", reasons.join(", ")))
    }
}

async fn greet(node: &str) -> std::io::Result<Connection> {
    let mut connection = Connection::open(node).await?;
    // Names in answers, instead of lists in which every second element is one.
    match connection.ask(&["HELLO", "3"]).await? {
        Answer::Map(_) => Ok(connection),
        other => Err(std::io::Error::other(format!("it answers HELLO with {other:?}"))),
    }
}
