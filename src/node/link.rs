//! A peer link: the TCP connection that this node dials to another.
//!
//! Requests, the stream of changes and their answers share it. Several requests may be under way at
//! once; an answer names its request. When the link is lost, whoever waits on it is told at once.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bincode::Decode;
use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::cluster::peer;
use crate::cluster::peer::FrameError;
use crate::cluster::peer::Hello;
use crate::cluster::peer::LinkRefusal;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::peer::Welcome;
use crate::cluster::skew::SKEW_MAX_MS;
use crate::cluster::vigil::Finding;
use crate::cluster::vigil::Vigil;
use crate::node::net;
use crate::node::net::OwnedReadHalf;
use crate::node::net::OwnedWriteHalf;
use crate::node::net::TcpStream;
use crate::time::Moment;
use crate::time::Timestamp;

/// How long a connection and its handshake may take.
pub const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Frames that may wait to be written to a link.
pub const FRAMES_WAITING_MAX: usize = 1_024;
/// Bytes gathered into one write.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Room for one read.
const READ_BYTES: usize = 64 * 1024;
/// How long connecting alone may take where it is tried again at once: what is lost on the way is sent again
/// sooner so than by TCP.
pub const CONNECT_WAIT: Duration = Duration::from_millis(250);

/// Why a link could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The connection failed. Nothing was sent, or it is unknown what arrived.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No answer came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// What came is no frame of the protocol.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The node there does not want the link.
    #[error("{0}")]
    Refused(#[from] LinkRefusal),
    /// This node's clock is too far from the one there. Nothing was begun.
    #[error("this node's clock is {0} ms ahead of the clock there, which must be within {SKEW_MAX_MS} ms")]
    ClockOff(i64),
    /// The other side closed the connection, or this one gave it up.
    #[error("closed")]
    Closed,
    /// There was no link to send anything on. Nothing was sent.
    #[error("no link")]
    NoLink,
    /// Something else came than what the protocol says.
    #[error("unexpected message")]
    Unexpected,
}

impl PeerError {
    /// Whether it is that nothing came.
    pub fn is_silence(&self) -> bool {
        match self {
            PeerError::TimedOut(_) => true,
            PeerError::Io(error) => error.kind() == io::ErrorKind::TimedOut,
            PeerError::Frame(_)
            | PeerError::Refused(_)
            | PeerError::ClockOff(_)
            | PeerError::Closed
            | PeerError::NoLink
            | PeerError::Unexpected => false,
        }
    }

    /// Whether it proves that no process of that node listens at its address any more.
    pub fn is_evidence(&self) -> bool {
        match self {
            PeerError::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            // Somebody else has taken its address.
            PeerError::Refused(LinkRefusal::OtherCluster | LinkRefusal::OtherNode) => true,
            PeerError::Refused(
                LinkRefusal::OtherVersion { .. }
                | LinkRefusal::SameName
                | LinkRefusal::Removed
                | LinkRefusal::Apart { .. },
            ) => false,
            PeerError::TimedOut(_)
            | PeerError::Frame(_)
            | PeerError::ClockOff(_)
            | PeerError::Closed
            | PeerError::NoLink
            | PeerError::Unexpected => false,
        }
    }
}

/// Reads frames from one side of a connection.
pub struct FrameReader {
    socket: OwnedReadHalf,
    input: BytesMut,
    /// Another number whenever something has come.
    reads: Arc<AtomicU64>,
}

impl FrameReader {
    /// A reader of that socket.
    pub fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, input: BytesMut::new(), reads: Arc::default() }
    }

    /// The next message.
    pub async fn next<M: Decode<()>>(&mut self) -> Result<M, PeerError> {
        loop {
            if let Some(message) = peer::decode(&mut self.input)? {
                return Ok(message);
            }
            self.input.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Err(PeerError::Closed);
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes frames until the channel or the connection ends, several in one write.
pub async fn write_frames(mut socket: OwnedWriteHalf, mut frames: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut output = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        output.extend_from_slice(&frame);
        // Whoever else is due on this thread first: what they have to send goes into the same write.
        tokio::task::yield_now().await;
        while output.len() < WRITE_BYTES_MAX {
            match frames.try_recv() {
                Ok(frame) => output.extend_from_slice(&frame),
                Err(_) => break,
            }
        }
        socket.write_all(&output).await?;
        output.clear();
        if output.capacity() > WRITE_BYTES_MAX {
            output = BytesMut::new();
        }
    }
    Ok(())
}

/// A connection whose handshake is done.
pub struct Linked {
    /// Who is there.
    pub welcome: Welcome,
    reader: FrameReader,
    writer: OwnedWriteHalf,
}

/// Dials a node and says who we are.
///
/// # Errors
///
/// [`PeerError`]: there is no link; nothing was agreed on.
pub async fn dial(addr: SocketAddr, hello: Hello) -> Result<Linked, PeerError> {
    shake_hands(TcpStream::connect(addr), hello).await
}

/// As [`dial`], where connecting alone may take no longer than that, nor than until `hurry` says that it is better
/// begun again.
///
/// # Errors
///
/// As there.
pub async fn dial_within(
    addr: SocketAddr,
    hello: Hello,
    connect_wait: Duration,
    hurry: impl Future<Output = ()>,
) -> Result<Linked, PeerError> {
    let connected = async {
        tokio::select! {
            connected = timeout(connect_wait, TcpStream::connect(addr)) => connected?,
            () = hurry => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    shake_hands(connected, hello).await
}

async fn shake_hands(
    connecting: impl Future<Output = io::Result<TcpStream>>,
    hello: Hello,
) -> Result<Linked, PeerError> {
    let handshake = async {
        let mut socket = connecting.await?;
        net::send_promptly(&socket)?;
        net::discard_on_close(&mut socket)?;
        let (reader, mut writer) = socket.into_split();
        writer.write_all(&peer::encode(&Request::Hello(hello))).await?;
        let mut reader = FrameReader::new(reader);
        match reader.next::<Response>().await? {
            Response::Welcome(welcome) => Ok(Linked { welcome, reader, writer }),
            Response::Refused(refusal) => Err(refusal.into()),
            Response::Forwarded { .. }
            | Response::Applied { .. }
            | Response::Scanned { .. }
            | Response::Sized { .. }
            | Response::LeaseOver { .. }
            | Response::Chosen { .. }
            | Response::Removed { .. }
            | Response::Digested { .. }
            | Response::Surveyed { .. }
            | Response::Reported { .. }
            | Response::Copied { .. }
            | Response::Unreached { .. }
            | Response::Pong
            | Response::Flushed { .. } => Err(PeerError::Unexpected),
        }
    };
    timeout(HANDSHAKE_WAIT_MAX, handshake).await.unwrap_or(Err(PeerError::TimedOut(HANDSHAKE_WAIT_MAX)))
}

/// A link in use. Requests fail when it is lost or closed.
#[derive(Debug)]
pub struct LinkHandle {
    frames: mpsc::Sender<Bytes>,
    waiting: Mutex<Waiting>,
    next_id: AtomicU64,
    made_at: Timestamp,
    writer: AbortHandle,
    /// The reader ends when it is dropped.
    open: Mutex<Option<oneshot::Sender<()>>>,
    number: u64,
    reads: Arc<AtomicU64>,
    vigil: Mutex<Vigil>,
}

/// Requests by their number, which is the order in which they fail; none once the link is lost.
type Waiting = Option<BTreeMap<u64, oneshot::Sender<Response>>>;

impl LinkHandle {
    /// Makes a link of a connection: a task writes, and `run` reads until the link is lost. What
    /// arrives without having been asked for goes to `unasked`.
    pub fn start(linked: Linked, now: Timestamp) -> (Arc<Self>, LinkReader) {
        let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
        let waiting = Mutex::new(Some(BTreeMap::new()));
        let writer = tokio::spawn(write_frames(linked.writer, receiver));
        let (open, closed) = oneshot::channel();
        let handle = Arc::new(Self {
            frames,
            waiting,
            next_id: AtomicU64::new(1),
            made_at: now,
            writer: writer.abort_handle(),
            open: Mutex::new(Some(open)),
            number: linked.welcome.link,
            reads: Arc::clone(&linked.reader.reads),
            vigil: Mutex::default(),
        });
        (Arc::clone(&handle), LinkReader { reader: linked.reader, handle, closed })
    }

    /// When the connection was made.
    pub fn made_at(&self) -> Timestamp {
        self.made_at
    }

    /// The number that the peer has given it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Ends the link for all who use it: whoever waits for an answer, or for room to send, hears at
    /// once that it is lost. A peer that stands still would not let them go otherwise.
    pub fn close(&self) {
        // The writer has the other end of the channel: it closes with it.
        self.writer.abort();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Looks whether it is stuck, and asks for a sign of life if need be. `is_awaited`: something is, beside
    /// answers to requests.
    pub fn look(&self, now: Moment, is_awaited: bool, patience: Duration) -> Finding {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_awaited = is_awaited || waiting.as_ref().is_some_and(|waiting| !waiting.is_empty());
        drop(waiting);
        let reads = self.reads.load(Ordering::Relaxed);
        let mut vigil = self.vigil.lock().unwrap_or_else(PoisonError::into_inner);
        let finding = vigil.look(now, reads, is_awaited, patience);
        if finding == Finding::Silent {
            // Where there is no room for it, what is sent already will be answered.
            self.try_send_frame(peer::encode(&Request::Ping));
        }
        finding
    }

    /// Sends an encoded request.
    ///
    /// # Errors
    ///
    /// [`PeerError::Closed`]: the link is lost.
    pub async fn send_frame(&self, frame: Bytes) -> Result<(), PeerError> {
        self.frames.send(frame).await.map_err(|_| PeerError::Closed)
    }

    /// Sends an encoded request if there is room for it now.
    pub fn try_send_frame(&self, frame: Bytes) -> bool {
        self.frames.try_send(frame).is_ok()
    }

    /// Room for one frame. None: the peer is slow, or the link is lost.
    pub fn room(&self) -> Option<mpsc::Permit<'_, Bytes>> {
        self.frames.try_reserve().ok()
    }

    /// Sends a request, made with the number given, and waits for its answer, for as long as the link
    /// holds.
    ///
    /// # Errors
    ///
    /// [`PeerError::Closed`]: the link was lost; it is unknown whether the request was carried out.
    /// [`PeerError::NoLink`]: it was lost before; the request was not sent.
    pub async fn ask(&self, request: impl FnOnce(u64) -> Request) -> Result<Response, PeerError> {
        self.ask_sized(request, 0).await
    }

    /// As [`LinkHandle::ask`], for a request of about so many bytes.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn ask_sized(
        &self,
        request: impl FnOnce(u64) -> Request,
        bytes: usize,
    ) -> Result<Response, PeerError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, reply),
            None => return Err(PeerError::NoLink),
        };
        let _forget = Forget { waiting: &self.waiting, id };
        let frame = peer::encode_sized(&request(id), bytes);
        self.send_frame(frame).await.map_err(|_| PeerError::NoLink)?;
        answer.await.map_err(|_| PeerError::Closed)
    }
}

/// Takes a request off the list when nobody waits for it any more.
struct Forget<'a> {
    waiting: &'a Mutex<Waiting>,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            waiting.remove(&self.id);
        }
    }
}

/// The reading side of a link.
pub struct LinkReader {
    reader: FrameReader,
    handle: Arc<LinkHandle>,
    closed: oneshot::Receiver<()>,
}

impl LinkReader {
    /// Reads until the link is lost or closed, and says why.
    pub async fn run(mut self, on_frame: impl FnMut(), on_applied: impl FnMut(u64)) -> PeerError {
        let (_, nobody) = oneshot::channel();
        let closed = std::mem::replace(&mut self.closed, nobody);
        tokio::select! {
            biased;
            error = self.read(on_frame, on_applied) => error,
            _ = closed => PeerError::Closed,
        }
    }

    async fn read(&mut self, mut on_frame: impl FnMut(), mut on_applied: impl FnMut(u64)) -> PeerError {
        loop {
            let response = match self.reader.next::<Response>().await {
                Ok(response) => response,
                Err(error) => return error,
            };
            on_frame();
            match response {
                Response::Applied { number } => {
                    on_applied(number);
                    continue;
                }
                Response::Pong => continue,
                Response::Welcome(_)
                | Response::Refused(_)
                | Response::Forwarded { .. }
                | Response::Scanned { .. }
                | Response::Sized { .. }
                | Response::LeaseOver { .. }
                | Response::Chosen { .. }
                | Response::Removed { .. }
                | Response::Digested { .. }
                | Response::Surveyed { .. }
                | Response::Reported { .. }
                | Response::Copied { .. }
                | Response::Unreached { .. }
                | Response::Flushed { .. } => {}
            }
            let Some(id) = response.id() else { return PeerError::Unexpected };
            let mut waiting = self.handle.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(reply) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
                // Whoever asked may have given up.
                let _ = reply.send(response);
            }
        }
    }
}

impl Drop for LinkReader {
    fn drop(&mut self) {
        self.handle.close();
    }
}
