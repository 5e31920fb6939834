//! What an application can ask for about one key, and about the cluster. [`many`](super::many) has the rest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::client::Answer;
use crate::client::Error;
use crate::client::NodeInfo;
use crate::client::RingRange;
use crate::client::Settings;
use crate::client::call;
use crate::client::connection;
use crate::client::nodes::Known;
use crate::client::nodes::Nodes;
use crate::client::pool::pauses;
use crate::client::request::Effect;
use crate::client::request::Request;

/// A client of a cluster. It belongs to the tokio runtime on which it was connected.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared {
    nodes: Arc<Nodes>,
    /// The task that keeps the nodes current.
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// On what condition a key is set, and when it expires. Without any: always, and never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    expiry: Expiry,
    condition: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expiry {
    #[default]
    Never,
    In(Duration),
    Keep,
}

impl SetOptions {
    /// Always, and without an expiry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key expires after this time, which is cut to whole milliseconds, at least one.
    pub fn expire_in(self, time: Duration) -> Self {
        Self { expiry: Expiry::In(time), ..self }
    }

    /// The key expires when it would have done anyway.
    pub fn keep_expiry(self) -> Self {
        Self { expiry: Expiry::Keep, ..self }
    }

    /// Only if the key is not there.
    pub fn if_absent(self) -> Self {
        Self { condition: Some("NX"), ..self }
    }

    /// Only if the key is there.
    pub fn if_present(self) -> Self {
        Self { condition: Some("XX"), ..self }
    }
}

/// How long a key has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeToLive {
    /// There is no such key.
    Absent,
    /// It does not expire.
    Forever,
    /// It expires after this.
    Left(Duration),
}

impl Client {
    /// Connects by any of these addresses (`host:port`, client ports) and learns all nodes from it.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] without an address; [`Error::Unavailable`] if none of them answered in time.
    pub async fn connect(addresses: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, Error> {
        Self::connect_with(addresses, Settings::default()).await
    }

    /// The same with settings that differ.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`]; [`Error::Settings`] also names a setting that cannot be used.
    pub async fn connect_with(
        addresses: impl IntoIterator<Item = impl Into<String>>,
        settings: Settings,
    ) -> Result<Self, Error> {
        settings.check()?;
        let addresses: Vec<String> = addresses.into_iter().map(Into::into).collect();
        if addresses.is_empty() {
            return Err(Error::Settings { reason: "no address was given".to_owned() });
        }
        let deadline = settings.deadline;
        let nodes = Nodes::new(settings, addresses);
        let mut reason = "no answer".to_owned();
        let learn = async {
            let mut pauses = pauses(&nodes.settings);
            while let Err(error) = nodes.learn().await {
                reason = error.to_string();
                sleep(pauses.next().unwrap_or(nodes.settings.backoff_max)).await;
            }
        };
        let learned = timeout_at(Instant::now() + deadline, learn).await;
        learned.map_err(|_| Error::Unavailable { reason })?;
        let task = tokio::spawn(Nodes::keep_current(Arc::clone(&nodes))).abort_handle();
        Ok(Self { shared: Arc::new(Shared { nodes, task }), deadline })
    }

    /// The same client with another deadline for each call.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline }
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        value(self.run(&Request::new(Effect::Read, Some(key), &[b"GET", key])).await?)
    }

    /// Gives a key a value, whether or not it had one; it does not expire.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`].
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.set_with(key, value, SetOptions::new()).await.map(drop)
    }

    /// Gives a key a value on a condition or for a time, and says whether the condition held.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`]. With a condition it is not repeated.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<bool, Error> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let mut words: Vec<&[u8]> = vec![b"SET", key, value];
        words.extend(options.condition.map(str::as_bytes));
        let millis;
        match options.expiry {
            Expiry::Never => {}
            Expiry::Keep => words.push(b"KEEPTTL"),
            Expiry::In(time) => {
                millis = time.as_millis().max(1).to_string();
                words.extend([b"PX", millis.as_bytes()]);
            }
        }
        let effect = if options.condition.is_some() { Effect::Once } else { Effect::Repeatable };
        match self.run(&Request::new(effect, Some(key), &words)).await? {
            Answer::Word(_) => Ok(true),
            Answer::Absent => Ok(false),
            other => Err(unexpected(other)),
        }
    }

    /// Deletes a key, and says whether it was there. Where the call had to be repeated because a node
    /// was lost, it may have been there even so.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = key.as_ref();
        flag(self.run(&Request::new(Effect::Repeatable, Some(key), &[b"DEL", key])).await?)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = key.as_ref();
        flag(self.run(&Request::new(Effect::Read, Some(key), &[b"EXISTS", key])).await?)
    }

    /// Adds to the whole number that a key is, and returns the sum. A key that is not there counts as 0.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`]. It is not repeated. [`Error::Refused`] also if the value
    /// is no number, or the sum would be too large.
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, Error> {
        let (key, by) = (key.as_ref(), by.to_string());
        integer(self.run(&Request::new(Effect::Once, Some(key), &[b"INCRBY", key, by.as_bytes()])).await?)
    }

    /// Lets a key expire after this time, and says whether it is there.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`].
    pub async fn expire(&self, key: impl AsRef<[u8]>, after: Duration) -> Result<bool, Error> {
        let (key, millis) = (key.as_ref(), after.as_millis().to_string());
        let words = [b"PEXPIRE", key, millis.as_bytes()];
        flag(self.run(&Request::new(Effect::Repeatable, Some(key), &words)).await?)
    }

    /// Lets a key expire no more, and says whether it would have.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`].
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = key.as_ref();
        flag(self.run(&Request::new(Effect::Repeatable, Some(key), &[b"PERSIST", key])).await?)
    }

    /// How long a key has left.
    ///
    /// # Errors
    ///
    /// As any call about one key: see [`Error`].
    pub async fn time_to_live(&self, key: impl AsRef<[u8]>) -> Result<TimeToLive, Error> {
        let key = key.as_ref();
        let answer = self.run(&Request::new(Effect::Read, Some(key), &[b"PTTL", key])).await?;
        Ok(match integer(answer)? {
            -2 => TimeToLive::Absent,
            -1 => TimeToLive::Forever,
            millis => TimeToLive::Left(Duration::from_millis(millis.unsigned_abs())),
        })
    }

    /// How many keys the cluster has.
    ///
    /// # Errors
    ///
    /// [`Error`], of which a call without a key has the same variants.
    pub async fn size(&self) -> Result<u64, Error> {
        integer(self.run(&Request::new(Effect::Read, None, &[b"DBSIZE"])).await?).map(i64::unsigned_abs)
    }

    /// Deletes all keys of the cluster.
    ///
    /// # Errors
    ///
    /// [`Error`], of which a call without a key has the same variants.
    pub async fn flush(&self) -> Result<(), Error> {
        self.run(&Request::new(Effect::Repeatable, None, &[b"FLUSHALL"])).await.map(drop)
    }

    /// Whether any node answers.
    ///
    /// # Errors
    ///
    /// [`Error`], of which a call without a key has the same variants.
    pub async fn ping(&self) -> Result<(), Error> {
        self.run(&Request::new(Effect::Read, None, &[b"PING"])).await.map(drop)
    }

    /// Any other request, such as `["GETRANGE", "greeting", "0", "3"]`. It is repeated only if the command
    /// table of this version says that it may be.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] also for what is about one connection: use [`Connection`](super::Connection).
    pub async fn ask(&self, words: &[impl AsRef<[u8]>]) -> Result<Answer, Error> {
        let words: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word.as_ref())).collect();
        self.run(&Request::of_words(&words)?).await
    }

    /// The lines that a request is answered with, such as those of `STATS`.
    ///
    /// # Errors
    ///
    /// As [`Client::ask`]; [`Error::Protocol`] where it is answered with something else.
    pub async fn lines(&self, words: &[impl AsRef<[u8]>]) -> Result<Vec<String>, Error> {
        let text = connection::text(self.ask(words).await?);
        let text = text.ok_or_else(|| Error::protocol("no lines"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The nodes, as last heard, by name.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.shared.nodes.known().map.nodes.clone()
    }

    /// Who holds what, as last heard, in the order of the ring.
    pub fn ring(&self) -> Vec<RingRange> {
        self.shared.nodes.known().map.ring.clone()
    }

    pub(super) fn known(&self) -> Arc<Known> {
        self.shared.nodes.known()
    }

    pub(super) async fn run(&self, request: &Request) -> Result<Answer, Error> {
        call::run(&self.shared.nodes, request, self.deadline).await
    }
}

pub(super) fn unexpected(answer: Answer) -> Error {
    Error::protocol(format!("unexpected answer {answer:?}"))
}

pub(super) fn value(answer: Answer) -> Result<Option<Bytes>, Error> {
    match answer {
        Answer::Value(value) => Ok(Some(value)),
        Answer::Absent => Ok(None),
        other => Err(unexpected(other)),
    }
}

pub(super) fn integer(answer: Answer) -> Result<i64, Error> {
    match answer {
        Answer::Integer(number) => Ok(number),
        other => Err(unexpected(other)),
    }
}

fn flag(answer: Answer) -> Result<bool, Error> {
    integer(answer).map(|number| number != 0)
}
