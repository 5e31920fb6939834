//! A client that speaks RESP2, and reads replies by the oracle of the codec.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection that does not wait for ever.
pub struct RespClient {
    socket: TcpStream,
    input: BytesMut,
}

impl RespClient {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap(), input: BytesMut::new() }
    }

    /// Where it comes from.
    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// The reply to a request whose words blanks part: see [`shown`].
    pub async fn ask(&mut self, request: &str) -> String {
        self.send(request).await;
        self.receive().await.unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    pub async fn send(&mut self, request: &str) {
        let words: Vec<&str> = request.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.send_bytes(bytes.as_bytes()).await.unwrap();
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(ANSWER_WAIT_MAX, self.socket.write_all(bytes)).await.unwrap()
    }

    /// The next reply; an error of the kind `UnexpectedEof`: the connection was closed.
    pub async fn receive(&mut self) -> io::Result<String> {
        loop {
            if let Some((frame, length)) = decode(&self.input).map_err(io::Error::other)? {
                let _ = self.input.split_to(length);
                return Ok(shown(&frame));
            }
            let read = timeout(ANSWER_WAIT_MAX, self.socket.read_buf(&mut self.input)).await;
            match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // Closed with something unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }

    /// Whether the node has closed the connection, as far as is known when nothing more comes.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.receive().await, Err(error) if error.kind() == io::ErrorKind::UnexpectedEof)
    }
}

/// A reply in a line: texts as they are, `-` before an error, `:` before a number, `nil`, and lists in
/// brackets.
fn shown(frame: &OwnedFrame) -> String {
    match frame {
        OwnedFrame::SimpleString(text) | OwnedFrame::BulkString(text) => {
            String::from_utf8_lossy(text).into_owned()
        }
        OwnedFrame::Error(text) => format!("-{text}"),
        OwnedFrame::Integer(number) => format!(":{number}"),
        OwnedFrame::Null => "nil".to_owned(),
        OwnedFrame::Array(frames) => {
            format!("[{}]", frames.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
    }
}
