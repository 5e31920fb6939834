//! The sockets of the simulation: those of `turmoil`, with the faults that it does not know.
//!
//! A cut is a `hold` of turmoil for TCP, which goes on when the cut ends, as retransmission does: its
//! own `partition` would lose segments for good and refuse connections, which proves a death to us.
//! Datagrams are lost, repeated, delayed, replayed and corrupted here. What a socket that discards on close has sent
//! into a cut does not arrive. And connections may break, or be stuck, while both nodes live.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use turmoil::net;

pub use turmoil::net::lookup_host;

use crate::node::sim;

/// How long a refusal takes.
const ROUND_TRIP: Duration = Duration::from_millis(2);

/// A socket of the failure detector that no task serves yet.
pub type GossipSocket = UdpSocket;

/// Opens the socket of the failure detector.
pub async fn open_gossip(address: SocketAddr) -> io::Result<GossipSocket> {
    let socket = net::UdpSocket::bind(address).await?;
    Ok(UdpSocket { socket: Arc::new(socket), port: address.port() })
}

/// The runtime that this is called in serves the socket from now on.
pub fn serve_gossip(socket: GossipSocket) -> io::Result<UdpSocket> {
    Ok(socket)
}

/// Runs something beside everything else.
pub fn run_apart<F>(_: &str, run: F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(run);
    Ok(())
}

/// Here nothing is lost that would be sent again.
pub fn send_promptly(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)
}

/// What was sent into a cut before the socket is closed does not arrive.
pub fn discard_on_close(socket: &mut TcpStream) -> io::Result<()> {
    socket.discards = true;
    Ok(())
}

/// A socket for datagrams.
pub struct UdpSocket {
    socket: Arc<net::UdpSocket>,
    port: u16,
}

impl UdpSocket {
    /// Sends a datagram; what becomes of it, the weather decides.
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        for arrival in sim::fate(self.port, to.port()) {
            let mut bytes = bytes.to_vec();
            if let Some(place) = arrival.corrupted.and_then(|place| place.checked_rem(bytes.len())) {
                bytes[place] ^= 1 << (place % 8);
            }
            if arrival.delay.is_zero() {
                self.socket.send_to(&bytes, to).await?;
                continue;
            }
            let socket = Arc::clone(&self.socket);
            tokio::spawn(async move {
                tokio::time::sleep(arrival.delay).await;
                // A datagram may be lost anyway.
                let _ = socket.send_to(&bytes, to).await;
            });
        }
        Ok(bytes.len())
    }

    /// Receives a datagram.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }
}

/// Accepts connections.
pub struct TcpListener(net::TcpListener);

impl TcpListener {
    /// Listens.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        net::TcpListener::bind(address).await.map(Self)
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, from) = self.0.accept().await?;
        Ok((TcpStream::new(socket)?, from))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The two ends of a connection, the end that asks first.
type Ends = (SocketAddr, SocketAddr);

/// One end of a connection: this end and the other one, and how often the nodes' connections had
/// broken when it was made.
#[derive(Clone, Copy)]
struct End {
    ends: Ends,
    breaks: u64,
}

impl End {
    fn new(ends: Ends) -> Self {
        Self { ends, breaks: sim::breaks(ends) }
    }

    /// Fails once the connection is broken, or the other end has discarded what it had sent into a cut.
    fn check(self) -> io::Result<()> {
        match sim::is_discarded((self.ends.1, self.ends.0)) || sim::breaks(self.ends) > self.breaks {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

/// A connection.
pub struct TcpStream {
    socket: net::TcpStream,
    end: End,
    discards: bool,
}

impl TcpStream {
    fn new(socket: net::TcpStream) -> io::Result<Self> {
        let end = End::new((socket.local_addr()?, socket.peer_addr()?));
        Ok(Self { socket, end, discards: false })
    }

    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        // Turmoil would say nothing to who connects to a host that does not run.
        if sim::refuses(address.port()) {
            tokio::time::sleep(ROUND_TRIP).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Self::new(net::TcpStream::connect(address).await?)
    }

    /// Every write is sent at once anyway.
    pub fn set_nodelay(&self, is_on: bool) -> io::Result<()> {
        self.socket.set_nodelay(is_on)
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.end.ends.0)
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.end.ends.1)
    }

    /// Writes what there is room for.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    /// Waits for what arrives, and leaves it there.
    pub async fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.peek(buffer).await
    }

    /// Its two directions.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let (reader, writer) = self.socket.into_split();
        let reader = OwnedReadHalf { half: reader, end: self.end };
        (reader, OwnedWriteHalf { half: writer, end: self.end, discards: self.discards })
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.end.check()?;
        if sim::is_stuck(self.end.ends) {
            sim::awaits(self.end.ends, context.waker());
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.end.check()?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// What arrives on a connection.
pub struct OwnedReadHalf {
    half: net::tcp::OwnedReadHalf,
    end: End,
}

impl Drop for OwnedReadHalf {
    fn drop(&mut self) {
        sim::closed(self.end.ends);
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.end.check()?;
        let read = match sim::is_stuck(self.end.ends) {
            true => Poll::Pending,
            false => Pin::new(&mut self.half).poll_read(context, buffer),
        };
        if read.is_pending() {
            sim::awaits(self.end.ends, context.waker());
        }
        read
    }
}

/// What is sent on a connection.
pub struct OwnedWriteHalf {
    half: net::tcp::OwnedWriteHalf,
    end: End,
    discards: bool,
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.discards {
            sim::discard(self.end.ends);
        }
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.end.check()?;
        Pin::new(&mut self.half).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(context)
    }
}
