//! One connection to a node in the text protocol: see `proto-spec/text.md`.

use std::io;

use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::net::ToSocketAddrs;

/// A connection. An error of the socket ends its use; a reply that begins with `ERROR: ` does not.
#[derive(Debug)]
pub struct TextConnection {
    socket: BufReader<TcpStream>,
}

impl TextConnection {
    /// Connects to a node's client port.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket: BufReader::new(socket) })
    }

    /// Sends a line and reads one line of reply, without its line end.
    ///
    /// # Errors
    ///
    /// The socket's; [`io::ErrorKind::UnexpectedEof`] where the node closed the connection: it is
    /// unknown whether the request was carried out.
    pub async fn ask(&mut self, line: impl AsRef<[u8]>) -> io::Result<String> {
        self.send(line).await?;
        self.receive().await
    }

    /// Sends a line and reads a listing up to its `END`, which is left out.
    ///
    /// # Errors
    ///
    /// As [`TextConnection::ask`]; [`io::ErrorKind::Other`] with the node's words where it answers
    /// with an error.
    pub async fn list(&mut self, line: impl AsRef<[u8]>) -> io::Result<Vec<String>> {
        self.send(line).await?;
        let mut lines = Vec::new();
        loop {
            let line = self.receive().await?;
            if line.starts_with("END ") {
                return Ok(lines);
            }
            if line.starts_with("ERROR: ") {
                return Err(io::Error::other(line));
            }
            lines.push(line);
        }
    }

    /// Sends a line, for which a reply is to be received.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub async fn send(&mut self, line: impl AsRef<[u8]>) -> io::Result<()> {
        let mut bytes = line.as_ref().to_vec();
        bytes.push(b'\n');
        self.socket.get_mut().write_all(&bytes).await
    }

    /// Receives one line of reply, without its line end.
    ///
    /// # Errors
    ///
    /// As [`TextConnection::ask`].
    pub async fn receive(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.socket.read_until(b'\n', &mut line).await?;
        match line.pop() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&line).into_owned()),
            Some(_) | None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
