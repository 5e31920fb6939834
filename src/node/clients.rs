//! The client connections of a node: who is there, what each has done, and how one is ended.
//!
//! A connection counts for itself, in a [`Usage`] that nobody else writes to: a count costs a store and
//! no more. Whoever asks (INFO, CLIENT LIST) adds up those of all connections, and what those that
//! have gone have left behind. A connection is ended by ending its task, so that it need not watch
//! for that while it works.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::AbortHandle;
use tracing::info;

use crate::command::client::ClientFilter;
use crate::command::client::ClientTraits;
use crate::command::client::is_text_of;
use crate::node::context::Context;
use crate::node::report;
use crate::node::usage::Tally;
use crate::node::usage::Usage;
use crate::time::Moment;

/// How often figures per second are taken, and idle connections looked for.
const TICK_PERIOD: Duration = Duration::from_secs(1);

/// Kinds of errors that are counted.
const ERROR_CODES_MAX: usize = 128;

/// A client connection, as others see it.
#[derive(Debug)]
pub struct Client {
    /// Its number, never given twice by one process.
    pub id: u64,
    /// Where it comes from.
    pub remote: Option<SocketAddr>,
    /// Where it came to.
    pub local: Option<SocketAddr>,
    /// What it has done.
    pub usage: Usage,
    since: Moment,
    said: Mutex<Said>,
    task: OnceLock<AbortHandle>,
    is_ended: AtomicBool,
}

/// What a connection has said about itself.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Whether it speaks the newer version of RESP.
    pub is_resp3: bool,
    /// What it is called.
    pub name: Bytes,
    /// The library that uses it.
    pub library: Bytes,
    /// The version of that library.
    pub library_version: Bytes,
}

impl Client {
    /// What it has said about itself.
    pub fn said(&self) -> MutexGuard<'_, Said> {
        lock(&self.said)
    }

    /// Whether it is to end with what it is doing.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }

    /// Ends it: at once, or, if it is `asking`, when it has been answered. False: it ends already.
    fn end(&self, asking: u64) -> bool {
        let was_ended = self.is_ended.swap(true, Ordering::AcqRel);
        if self.id != asking
            && let Some(task) = self.task.get()
        {
            task.abort();
        }
        !was_ended
    }

    /// The memory that it takes, replies that it has not read included.
    pub fn memory_bytes(&self) -> usize {
        let usage = &self.usage;
        size_of::<Self>() + usage.calls_bytes() + usage.query_bytes() + usage.output_bytes_waiting()
    }

    fn traits(&self, now: Moment, asking: u64) -> ClientTraits {
        ClientTraits {
            id: self.id,
            remote: self.remote,
            local: self.local,
            age: now.since(self.since),
            is_asking: self.id == asking,
        }
    }

    /// What CLIENT LIST says of it, in the fields of Redis 7.
    fn line(&self, now: Moment, command: &str) -> String {
        let address = |address: Option<SocketAddr>| address.map(|a| a.to_string()).unwrap_or_default();
        let said = self.said().clone();
        let usage = &self.usage;
        let (query_bytes, output_bytes) = (usage.query_bytes(), usage.output_bytes_waiting());
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags=N db=0 sub=0 psub=0 ssub=0 multi={} \
             qbuf={query_bytes} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll={} omem={output_bytes} \
             tot-mem={} events=r cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            address(self.remote),
            address(self.local),
            String::from_utf8_lossy(&said.name),
            now.since(self.since).as_secs(),
            usage.idle(now).as_secs(),
            usage.kept().map_or_else(|| "-1".to_owned(), |kept| kept.to_string()),
            u8::from(output_bytes > 0),
            self.memory_bytes(),
            command,
            if said.is_resp3 { 3 } else { 2 },
            String::from_utf8_lossy(&said.library),
            String::from_utf8_lossy(&said.library_version),
        )
    }
}

/// All client connections of a node.
#[derive(Debug, Default)]
pub struct Clients {
    open: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Not in the map's lock: it is read for every connection that comes.
    count: AtomicUsize,
    last_id: AtomicU64,
    gone: Mutex<Tally>,
    rates: Mutex<Rates>,
    /// Errors that were answered, by their first word.
    errors: Mutex<BTreeMap<String, u64>>,
}

/// What happened in the last second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Commands.
    pub commands: u64,
    /// Bytes read from clients.
    pub input_bytes: u64,
    /// Bytes written to clients.
    pub output_bytes: u64,
}

/// A connection while it is open.
#[derive(Debug)]
pub struct Open {
    /// What others see of it.
    pub client: Arc<Client>,
    context: Arc<Context>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let clients = &self.context.clients;
        lock(&clients.open).remove(&self.client.id);
        lock(&clients.gone).add(&self.client.usage);
        clients.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Open {
    /// A connection has come.
    pub fn new(context: Arc<Context>, remote: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        let clients = &context.clients;
        let now = context.clocks.now();
        let client = Arc::new(Client {
            id: clients.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            remote,
            local,
            usage: Usage::new(now),
            since: now,
            said: Mutex::default(),
            task: OnceLock::new(),
            is_ended: AtomicBool::new(false),
        });
        clients.count.fetch_add(1, Ordering::AcqRel);
        lock(&clients.open).insert(client.id, Arc::clone(&client));
        Self { client, context }
    }
}

impl Client {
    /// It is served by this task.
    pub fn is_served_by(&self, task: AbortHandle) {
        // Ended before it was known how: it looks for that itself when it has answered.
        if self.is_ended() {
            task.abort();
        }
        let _ = self.task.set(task);
    }
}

impl Clients {
    /// How many have come to this port.
    pub fn count_at(&self, port: u16) -> usize {
        let is_there = |client: &&Arc<Client>| client.local.is_some_and(|local| local.port() == port);
        lock(&self.open).values().filter(is_there).count()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.open).values().cloned().collect()
    }

    /// What CLIENT LIST says of those that are meant, to the one that asks by this command.
    pub fn lines(&self, filter: &ClientFilter, (asking, by): (u64, &str), now: Moment) -> String {
        let is_meant =
            |client: &Arc<Client>| !client.is_ended() && filter.matches(&client.traits(now, asking));
        let meant = self.all().into_iter().filter(is_meant);
        let line = |client: Arc<Client>| match client.id == asking {
            true => client.line(now, by),
            false => client.line(now, &client.usage.last_command()),
        };
        meant.map(line).collect()
    }

    /// Ends those that are meant, and says how many that are.
    pub fn end(&self, filter: &ClientFilter, asking: u64, now: Moment) -> usize {
        let is_meant = |client: &Arc<Client>| filter.matches(&client.traits(now, asking));
        self.all().into_iter().filter(is_meant).filter(|client| client.end(asking)).count()
    }

    /// Ends the one from this address; whether there is one.
    pub fn end_at(&self, address: &[u8], asking: u64) -> bool {
        let is_there = |client: &Arc<Client>| client.remote.is_some_and(|remote| is_text_of(address, remote));
        self.all().into_iter().find(is_there).is_some_and(|client| client.end(asking))
    }

    /// What all of them have done, and those that have gone, since the start.
    pub fn total(&self) -> Tally {
        // In this order: one that goes meanwhile is counted twice rather than not.
        let open = self.all();
        let mut total = lock(&self.gone).clone();
        open.iter().for_each(|client| total.add(&client.usage));
        total
    }

    /// Errors are counted from zero.
    pub fn forget_errors(&self) {
        lock(&self.errors).clear();
    }

    /// An error was answered: this is its line.
    pub fn answered_error(&self, line: &[u8]) {
        let code = line.strip_prefix(b"-").unwrap_or(line).split(|byte| !byte.is_ascii_alphanumeric()).next();
        let code = String::from_utf8_lossy(code.unwrap_or_default());
        let mut errors = lock(&self.errors);
        if let Some(count) = errors.get_mut(&*code) {
            *count += 1;
        } else if errors.len() < ERROR_CODES_MAX {
            errors.insert(code.into_owned(), 1);
        }
    }

    /// Errors that were answered, by their first word.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }

    /// What happened in the last second.
    pub fn rates(&self) -> Rates {
        *lock(&self.rates)
    }

    fn end_idle(&self, idle_max: Duration, now: Moment) {
        for client in self.all() {
            let idle = client.usage.idle(now);
            // No connection has the number 0.
            if idle >= idle_max && client.end(0) {
                info!(client = client.id, remote = ?client.remote, idle_s = idle.as_secs(), "idle client closed");
            }
        }
    }
}

/// Takes the figures per second, and ends connections that have been idle for too long.
pub async fn tick_forever(context: Arc<Context>) {
    let mut before = context.clients.total();
    loop {
        tokio::time::sleep(TICK_PERIOD).await;
        let total = context.clients.total();
        let last = total.since(&before);
        *lock(&context.clients.rates) = Rates {
            commands: last.commands(),
            input_bytes: last.input_bytes,
            output_bytes: last.output_bytes,
        };
        before = total;
        context.hot_keys.decay();
        context.baseline.sees_memory(report::store_figures(&context).await.0.memory_bytes);
        if let Some(idle_max) = context.tuning.idle_timeout() {
            context.clients.end_idle(idle_max, context.clocks.now());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_errors_are_counted_up_to_a_bound_and_known_ones_beyond_it() {
        let clients = Clients::default();
        for number in 0..ERROR_CODES_MAX + 10 {
            clients.answered_error(format!("-CODE{number} text").as_bytes());
        }
        clients.answered_error(b"-CODE0 other text");
        let errors = clients.errors();
        assert_eq!((errors.len(), errors["CODE0"], errors["CODE1"]), (ERROR_CODES_MAX, 2, 1));
    }
}
