//! The sockets of the shell, behind one name, so that a simulation can put its own in their place.

pub use tokio::net::TcpListener;
pub use tokio::net::TcpStream;
pub use tokio::net::UdpSocket;
pub use tokio::net::lookup_host;
pub use tokio::net::tcp::OwnedReadHalf;
pub use tokio::net::tcp::OwnedWriteHalf;
