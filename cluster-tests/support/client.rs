//! Clients: one request at a time, or many sent together.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cachegopher::client::text::TextConnection;
use tokio::time::timeout;

/// Longer than any answer may take: the node itself gives up after two seconds.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Requests that are sent together. Their replies, or they themselves, fit the socket's buffers.
const PIPELINE: usize = 200;

/// A connection that does not wait for ever.
pub struct Client {
    connection: TextConnection,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { connection: in_time(TextConnection::connect(address)).await? })
    }

    /// The reply to a request of one line.
    pub async fn ask(&mut self, line: impl AsRef<[u8]>) -> String {
        self.try_ask(line).await.unwrap()
    }

    pub async fn try_ask(&mut self, line: impl AsRef<[u8]>) -> io::Result<String> {
        in_time(self.connection.ask(line)).await
    }

    pub async fn send(&mut self, line: impl AsRef<[u8]>) -> io::Result<()> {
        in_time(self.connection.send(line)).await
    }

    pub async fn receive(&mut self) -> io::Result<String> {
        in_time(self.connection.receive()).await
    }

    /// The lines of a listing.
    pub async fn list(&mut self, line: &str) -> Vec<String> {
        self.try_list(line).await.unwrap()
    }

    pub async fn try_list(&mut self, line: &str) -> io::Result<Vec<String>> {
        in_time(self.connection.list(line)).await
    }

    /// The replies to many requests, of a line each.
    pub async fn ask_all(&mut self, lines: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut replies = Vec::new();
        let mut lines = lines.into_iter().peekable();
        while lines.peek().is_some() {
            let piece: Vec<String> = lines.by_ref().take(PIPELINE).collect();
            self.send(piece.join("\n")).await.unwrap();
            for _ in piece {
                replies.push(self.receive().await.unwrap());
            }
        }
        replies
    }
}

async fn in_time<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER_WAIT_MAX, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
