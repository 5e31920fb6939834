//! The sockets of the shell, behind one name, so that a simulation can put its own in their place.

pub use tokio::net::TcpListener;
pub use tokio::net::TcpStream;
pub use tokio::net::UdpSocket;
pub use tokio::net::lookup_host;
pub use tokio::net::tcp::OwnedReadHalf;
pub use tokio::net::tcp::OwnedWriteHalf;

/// What is unsent when the socket is closed is not sent later either. The kernel would go on trying:
/// (1) a command is forwarded over a cable that is cut, (2) it is repeated elsewhere, (3) a later
/// one overwrites it, (4) the cable is back, and the first one would arrive as if it were new.
pub fn discard_on_close(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_zero_linger()
}
