//! The connections to one node, and whether it is worth using them.
//!
//! A connection is checked when it is taken: one that has expired, or that the node has closed, is
//! dropped without a word and replaced. So connections need no upkeep while nobody uses them. A call
//! that is given up drops its connection with the answer that it was owed.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout;
use tracing::debug;
use tracing::warn;

use crate::client::LOG_TARGET;
use crate::client::ReadFrom;
use crate::client::Settings;
use crate::client::connection::Connection;
use crate::protocol::resp::Answer;

/// The connections to one node.
#[derive(Debug)]
pub(super) struct Pool {
    address: String,
    settings: Arc<Settings>,
    idle: Mutex<Vec<Idle>>,
    permits: Arc<Semaphore>,
    health: Mutex<Health>,
    /// Tells those who wait for the node that it does not answer.
    silent: Notify,
    /// One looks whether it answers, the others wait for what it finds.
    look: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    opened: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// It failed, and is left out until then.
    Unwell(Instant),
}

/// A connection that is in use. Whoever has its answer puts it back.
#[derive(Debug)]
pub(super) struct Lent {
    pub connection: Connection,
    /// It has been used before, so that the node may have closed it since.
    pub is_reused: bool,
    opened: Instant,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    pub fn new(address: String, settings: &Arc<Settings>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(settings.connections_max));
        Arc::new(Self {
            address,
            settings: Arc::clone(settings),
            idle: Mutex::default(),
            permits,
            health: Mutex::new(Health::Well),
            silent: Notify::new(),
            look: tokio::sync::Mutex::default(),
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection, once there is one.
    pub async fn lend(&self) -> io::Result<Lent> {
        let was_well = self.is_well();
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = tokio::select! {
            permit = permit => permit.map_err(io::Error::other)?,
            () = self.silent.notified(), if was_well => return Err(silent()),
        };
        if was_well && !self.is_well() {
            return Err(io::Error::other("it has failed while this call waited for a connection"));
        }
        if let Some(Idle { connection, opened }) = self.usable() {
            return Ok(Lent { connection, is_reused: true, opened, permit });
        }
        let connection = self.open().await?;
        Ok(Lent { connection, is_reused: false, opened: Instant::now(), permit })
    }

    /// Puts a connection back that owes no answer.
    pub fn put_back(&self, lent: Lent) {
        let Lent { connection, opened, permit, .. } = lent;
        lock(&self.idle).push(Idle { connection, opened });
        drop(permit);
        let was = std::mem::replace(&mut *lock(&self.health), Health::Well);
        if was != Health::Well {
            debug!(target: LOG_TARGET, node = self.address, "node answers again");
        }
    }

    /// Closes connections that nobody uses: they are of a node that has gone.
    pub fn forget_idle(&self) {
        lock(&self.idle).clear();
    }

    /// Closes those that have expired.
    pub fn sweep(&self) {
        lock(&self.idle).retain(|idle| self.is_young(idle));
    }

    /// Leaves the node out for a while.
    pub fn fail(&self, reason: &io::Error) {
        let until = Instant::now() + self.settings.unhealthy_interval;
        let was = std::mem::replace(&mut *lock(&self.health), Health::Unwell(until));
        self.forget_idle();
        if was == Health::Well {
            warn!(target: LOG_TARGET, node = self.address, %reason, "node failed, it is left out for a while");
        }
    }

    /// Whether nothing is known against the node.
    pub fn is_well(&self) -> bool {
        *lock(&self.health) == Health::Well
    }

    /// Whether it was left out for long enough, so that it should be asked whether it is back.
    pub fn is_due(&self) -> bool {
        matches!(*lock(&self.health), Health::Unwell(until) if until <= Instant::now())
    }

    /// Asks it whether it answers, and lets it be used again if so.
    pub async fn look_after(&self) {
        match self.answers().await {
            Ok(()) => {
                *lock(&self.health) = Health::Well;
                debug!(target: LOG_TARGET, node = self.address, "node answers again");
            }
            Err(reason) => self.fail(&reason),
        }
    }

    /// Returns when somebody has found that the node does not answer.
    pub async fn falls_silent(&self) {
        self.silent.notified().await;
    }

    /// Asks the node, which owes an answer, on a new connection whether it lives; whoever else waits for
    /// it hears of it if not.
    pub async fn is_alive(&self) -> bool {
        let mut look = self.look.lock().await;
        if let Some((at, is_alive)) = *look
            && at.elapsed() < self.settings.silence_max
        {
            return is_alive;
        }
        let is_alive = self.answers().await.is_ok();
        *look = Some((Instant::now(), is_alive));
        if !is_alive {
            self.fail(&silent());
            self.silent.notify_waiters();
        }
        is_alive
    }

    async fn answers(&self) -> io::Result<()> {
        let ask = async { self.open().await?.ask(&["PING"]).await };
        match timeout(self.settings.silence_max, ask).await {
            // That it refuses is an answer, but not of a node that can be used.
            Ok(Ok(Answer::Error(text))) => Err(io::Error::other(text)),
            Ok(answer) => answer.map(drop),
            Err(_) => Err(silent()),
        }
    }

    async fn open(&self) -> io::Result<Connection> {
        let opening = async {
            let mut connection = Connection::open(&self.address).await?;
            if let Some(period) = self.settings.keep_alive {
                connection.keep_alive(period)?;
            }
            if self.settings.read_from == ReadFrom::Any {
                // A replica answers only on connections that say that its answers are good enough.
                connection.ask(&["READONLY"]).await?;
            }
            Ok(connection)
        };
        timeout(self.settings.connect_wait_max, opening).await.unwrap_or_else(|_| Err(silent()))
    }

    /// The connection that was used last of those that can be used; the others on the way are dropped.
    fn usable(&self) -> Option<Idle> {
        let mut all = lock(&self.idle);
        while let Some(idle) = all.pop() {
            if self.is_young(&idle) && idle.connection.is_usable() {
                return Some(idle);
            }
        }
        None
    }

    fn is_young(&self, idle: &Idle) -> bool {
        idle.opened.elapsed() < self.settings.connection_timeout
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}

/// A panic while it was locked leaves nothing half done behind.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pauses between rounds over all nodes.
pub(super) fn pauses(settings: &Settings) -> impl Iterator<Item = Duration> + use<> {
    use backon::BackoffBuilder;

    backon::ExponentialBuilder::default()
        .with_min_delay(settings.backoff_min)
        .with_max_delay(settings.backoff_max)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}
