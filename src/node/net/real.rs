//! The sockets of the operating system.

use std::io;
use std::net::SocketAddr;

pub use tokio::net::TcpListener;
pub use tokio::net::TcpStream;
pub use tokio::net::UdpSocket;
pub use tokio::net::lookup_host;
pub use tokio::net::tcp::OwnedReadHalf;
pub use tokio::net::tcp::OwnedWriteHalf;

/// A socket of the failure detector that no runtime serves yet.
pub type GossipSocket = std::net::UdpSocket;

/// What is written is sent at once, and what is lost is sent again soon. By itself the kernel doubles its pauses
/// (RFC 6298), and a line that loses a fifth of its packets stands still for ten seconds.
pub fn send_promptly(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(socket).set_tcp_thin_linear_timeouts(true)?;
    Ok(())
}

/// What is unsent when the socket is closed is not sent later either. The kernel would go on trying:
/// (1) a command is forwarded over a cable that is cut, (2) it is repeated elsewhere, (3) a later
/// one overwrites it, (4) the cable is back, and the first one would arrive as if it were new.
pub fn discard_on_close(socket: &mut TcpStream) -> io::Result<()> {
    socket.set_zero_linger()
}

/// Opens the socket of the failure detector.
pub async fn open_gossip(address: SocketAddr) -> io::Result<GossipSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The runtime that this is called in serves the socket from now on.
pub fn serve_gossip(socket: GossipSocket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket)
}

/// Runs something on a thread and a runtime of its own, so that nothing else can hold it up.
pub fn run_apart<F>(name: &str, run: F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.into()).spawn(move || runtime.block_on(run))?;
    Ok(())
}
