//! Waiting for the holder of a lease. A caller that finds a key leased asks the shard to tell it when
//! the lease has ended, here or through the link to the primary, and then asks for the key again: so a
//! wait is only a hint, and survives a move of the key. It holds up nothing but its own connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::command::Reply;
use crate::node::acks::Acks;
use crate::node::context::Context;
use crate::node::router;
use crate::node::shard;
use crate::protocol;
use crate::store::Blob;
use crate::store::Partition;

/// The longest wait; a client that asks for more waits so long.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Callers that wait at one shard; one more is told that the key is busy.
const WAITERS_MAX: usize = 10_000;
/// Between two attempts, so that nodes that do not agree on the primary are not asked in a loop.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// What becomes of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The lease has ended: it is worth to ask again.
    Over,
    /// Too many wait already.
    Full,
}

/// The callers that wait at a shard.
#[derive(Debug, Default)]
pub struct Waiters {
    by_key: HashMap<Bytes, Vec<oneshot::Sender<Waited>>>,
    count: usize,
}

impl Waiters {
    /// Lets somebody wait for the end of a key's lease.
    pub fn add(&mut self, key: Bytes, waiter: oneshot::Sender<Waited>) {
        if self.count >= WAITERS_MAX {
            self.forget_gone();
        }
        if self.count >= WAITERS_MAX {
            // It may have gone, too.
            let _ = waiter.send(Waited::Full);
            return;
        }
        self.by_key.entry(key).or_default().push(waiter);
        self.count += 1;
    }

    /// The leases of these keys have ended.
    pub fn wake(&mut self, keys: Vec<Bytes>) {
        for waiter in keys.iter().filter_map(|key| self.by_key.remove(key)).flatten() {
            self.count -= 1;
            let _ = waiter.send(Waited::Over);
        }
    }

    fn forget_gone(&mut self) {
        self.by_key.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.count = self.by_key.values().map(Vec::len).sum();
    }
}

/// A wait, counted while it lasts.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Asks for a key until it is not busy or the wait is over, and returns the encoded reply.
pub async fn get(
    context: &Arc<Context>,
    codec: Codec,
    acks: &mut Acks,
    command: KeyCommand,
    wait: Duration,
) -> Bytes {
    let deadline = Instant::now() + wait.min(WAIT_MAX);
    let mut busy = Vec::new();
    protocol::encode(codec, &Reply::Line(vec![Reply::Word("BUSY")]), &mut busy);
    let mut news = context.hang_up.subscribe();
    let mut waiting = None;
    loop {
        let asked_at = Instant::now();
        let reply = router::run(context, codec, acks, vec![command.clone()]).await.pop().unwrap_or_default();
        if reply != busy || Instant::now() >= deadline {
            return reply;
        }
        waiting.get_or_insert_with(|| Waiting::begin(&context.counters.lease_waiters));
        let gives_up = tokio::select! {
            // A wait that is cut off by the deadline ends with one last look.
            waited = timeout_at(deadline, ended(context, &command.key.0)) => waited == Ok(Waited::Full),
            // A node that stops answers what it can.
            _ = news.wait_for(|news| news.is_stopping) => true,
        };
        if gives_up {
            return reply;
        }
        if asked_at.elapsed() < PAUSE_MIN {
            sleep(PAUSE_MIN).await;
        }
    }
}

/// Waits until the lease of a key has ended at its primary.
async fn ended(context: &Arc<Context>, key: &Bytes) -> Waited {
    let view = context.current_view();
    match view.primary(Partition::of(key)) {
        Some(node) if node == view.me() => ended_here(context, key.clone()).await,
        Some(node) => {
            let Some(link) = context.peers.find(node).and_then(|peer| peer.link()) else {
                return Waited::Over;
            };
            let asked = link.ask(|id| Request::AwaitLease { id, key: Blob(key.clone()) });
            match asked.await {
                Ok(Response::LeaseOver { is_full: true, .. }) => Waited::Full,
                // Or the primary is lost: the next one has given no lease yet.
                Ok(_) | Err(_) => Waited::Over,
            }
        }
        None => Waited::Over,
    }
}

/// Waits until the lease of a key has ended at this node.
pub async fn ended_here(context: &Context, key: Bytes) -> Waited {
    let (waiter, waited) = oneshot::channel();
    let shard = &context.shards[context.shard_of(Partition::of(&key))];
    shard.cast(shard::Message::AwaitLease { key, waiter });
    // A shard that fails forgets its leases.
    waited.await.unwrap_or(Waited::Over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_wait_for_a_key_are_woken_and_nobody_else() {
        let mut waiters = Waiters::default();
        let mut wait = |key: &'static str| {
            let (waiter, waited) = oneshot::channel();
            waiters.add(Bytes::from_static(key.as_bytes()), waiter);
            waited
        };
        let (mut first, mut second, mut other) = (wait("a"), wait("a"), wait("b"));
        waiters.wake(vec![Bytes::from_static(b"a"), Bytes::from_static(b"c")]);
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(Waited::Over), Ok(Waited::Over)));
        assert!(other.try_recv().is_err());
        assert_eq!(waiters.count, 1);
    }

    #[test]
    fn so_many_may_wait_and_those_who_have_gone_do_not_count() {
        let mut waiters = Waiters::default();
        let key = Bytes::from_static(b"k");
        let mut waiting: Vec<_> = (0..WAITERS_MAX)
            .map(|_| {
                let (waiter, waited) = oneshot::channel();
                waiters.add(key.clone(), waiter);
                waited
            })
            .collect();
        let (waiter, mut refused) = oneshot::channel();
        waiters.add(key.clone(), waiter);
        assert_eq!(refused.try_recv(), Ok(Waited::Full));
        waiting.pop();
        let (waiter, mut waited) = oneshot::channel();
        waiters.add(key, waiter);
        assert!(waited.try_recv().is_err());
    }
}
