//! One connection to a node in RESP: words out, an answer in.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::ToSocketAddrs;

use crate::protocol::resp;
use crate::protocol::resp::Answer;
use crate::protocol::resp::AnswerDecoder;

/// How much is read from the socket at once, at least.
const READ_BYTES: usize = 16 * 1024;

/// A connection to one node, for what is about the connection itself, such as `HELLO 3`, and for tools.
/// It repeats nothing and looks for no other node: [`Client`](crate::client::Client) does.
///
/// ```
/// # mod a_node { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster-tests/support/example.rs")); }
/// # a_node::example(async |address| {
/// use cachegopher::client::Answer;
/// use cachegopher::client::Connection;
///
/// let mut connection = Connection::open(address).await?;
/// assert_eq!(connection.ask(&["PING"]).await?, Answer::Word("PONG".to_owned()));
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    decoder: AnswerDecoder,
    input: BytesMut,
}

impl Connection {
    /// Connects to a node's client port.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub async fn open(address: impl ToSocketAddrs) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, decoder: AnswerDecoder::default(), input: BytesMut::new() })
    }

    /// Lets the system ask so often whether the other end still exists.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub fn keep_alive(&self, period: Duration) -> io::Result<()> {
        let keep_alive = socket2::TcpKeepalive::new().with_time(period).with_interval(period);
        socket2::SockRef::from(&self.socket).set_tcp_keepalive(&keep_alive)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// The socket's; [`io::ErrorKind::UnexpectedEof`] where the node closed the connection, so that it
    /// is unknown whether the request was carried out; [`io::ErrorKind::InvalidData`] where what came
    /// is no answer. The connection cannot be used any more.
    pub async fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Answer> {
        let mut wire = Vec::new();
        resp::array_header(words.len(), &mut wire);
        words.iter().for_each(|word| resp::bulk(word.as_ref(), &mut wire));
        self.send(&wire).await?;
        self.receive().await
    }

    /// Sends an encoded request, for which an answer is to be received.
    pub(super) async fn send(&mut self, wire: &[u8]) -> io::Result<()> {
        self.socket.write_all(wire).await
    }

    /// Receives the next answer. Nothing is lost if it is given up and called again.
    pub(super) async fn receive(&mut self) -> io::Result<Answer> {
        loop {
            let answer = self.decoder.decode(&mut self.input);
            if let Some(answer) = answer.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                return Ok(answer);
            }
            self.input.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether the node can be asked: it has neither closed the connection nor said anything unasked.
    pub fn is_usable(&self) -> bool {
        let mut byte = [0];
        let read = self.socket.try_read(&mut byte);
        self.input.is_empty() && read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The text that an answer is: the lines of NODES and the like.
pub(super) fn text(answer: Answer) -> Option<String> {
    match answer {
        Answer::Value(bytes) | Answer::Text(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        Answer::Word(_)
        | Answer::Error(_)
        | Answer::Integer(_)
        | Answer::Absent
        | Answer::List(_)
        | Answer::Map(_) => None,
    }
}
