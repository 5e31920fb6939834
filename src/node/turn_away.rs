//! Clients that find no room are told so and sent away.
//!
//! What they are told has the form of the protocol that they seem to speak, so it is waited a moment
//! for their first byte. That costs a socket each, so only so many are waited for at a time; others are
//! told at once, as clients of Redis expect it.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::command::Codec;
use crate::command::Refusal;
use crate::node::net::TcpStream;
use crate::protocol;

/// How many are waited for at a time.
const WAITING_MAX: usize = 64;
/// How long the first byte of one is waited for.
const FIRST_BYTE_WAIT_MAX: Duration = Duration::from_millis(200);
/// How long one may take to close its side, once it was told.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

static WAITING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(WAITING_MAX)));

/// Tells a client that there is no room, and closes.
pub fn turn_away(socket: TcpStream) {
    match Arc::clone(&WAITING).try_acquire_owned() {
        Ok(permit) => drop(tokio::spawn(async move {
            wait_and_tell(socket).await;
            drop(permit);
        })),
        Err(_) => tell_at_once(&socket),
    }
}

/// Tells a client without waiting for anything, and closes. It may have gone, or not read it.
pub fn tell_at_once(socket: &TcpStream) {
    let _ = socket.try_write(&told(Codec::Resp2));
}

fn told(codec: Codec) -> Vec<u8> {
    let mut text = Vec::new();
    protocol::encode_refusal(codec, &Refusal::TooManyConnections, &mut text);
    text
}

async fn wait_and_tell(mut socket: TcpStream) {
    let mut first = [0];
    let codec = match timeout(FIRST_BYTE_WAIT_MAX, socket.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] != b'*' => Codec::Text,
        // Whoever connects and says nothing is a pool of a Redis client, or reads it all the same.
        _ => Codec::Resp2,
    };
    let tell = async {
        socket.write_all(&told(codec)).await?;
        socket.shutdown().await?;
        // Closing with something unread would take the words back.
        let mut unread = [0; 1_024];
        while socket.read(&mut unread).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // It is gone either way.
    let _ = timeout(CLOSE_WAIT_MAX, tell).await;
}
