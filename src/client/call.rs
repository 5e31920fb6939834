//! One call: sent to a node, and to others where that is safe, within a deadline.
//!
//! The rule: what has not been sent, or was answered "not done", may go to another node. What was sent
//! and not answered may do so only if it changes nothing or may be repeated. Everything else ends with
//! [`Error::Unknown`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tracing::debug;

use crate::client::Error;
use crate::client::LOG_TARGET;
use crate::client::error::Meaning;
use crate::client::error::meaning;
use crate::client::nodes::Nodes;
use crate::client::pool::Lent;
use crate::client::pool::Pool;
use crate::client::pool::pauses;
use crate::client::request::Effect;
use crate::client::request::Request;
use crate::protocol::resp::Answer;

/// A call under way.
struct Call<'a> {
    nodes: &'a Nodes,
    request: &'a Request,
    /// Nodes that it has been sent to in vain, since the last pause.
    tried: Vec<Arc<Pool>>,
    /// It was sent and not answered at least once.
    is_sent: bool,
    /// What happened last.
    reason: String,
}

/// What came of one attempt.
enum Outcome {
    Answered(Answer),
    /// Another attempt may be made.
    Again,
    Over(Error),
}

/// Carries out a request.
pub(super) async fn run(nodes: &Nodes, request: &Request, deadline: Duration) -> Result<Answer, Error> {
    let end = Instant::now() + deadline;
    let reason = format!("no answer within {} ms", deadline.as_millis());
    let mut call = Call { nodes, request, tried: Vec::new(), is_sent: false, reason };
    match timeout_at(end, call.attempts()).await {
        Ok(result) => result,
        Err(_) => Err(call.without_answer()),
    }
}

impl Call<'_> {
    async fn attempts(&mut self) -> Result<Answer, Error> {
        let mut pauses = pauses(&self.nodes.settings);
        loop {
            let Some(pool) = self.nodes.pick(self.request, &self.tried) else {
                self.tried.clear();
                // The iterator has no end.
                sleep(pauses.next().unwrap_or(self.nodes.settings.backoff_max)).await;
                continue;
            };
            match self.attempt(&pool).await {
                Outcome::Answered(answer) => return Ok(answer),
                Outcome::Over(error) => return Err(error),
                Outcome::Again => {}
            }
        }
    }

    async fn attempt(&mut self, pool: &Arc<Pool>) -> Outcome {
        let mut lent = match pool.lend().await {
            Ok(lent) => lent,
            Err(error) => {
                self.note(pool, &error);
                pool.fail(&error);
                self.tried.push(Arc::clone(pool));
                return Outcome::Again;
            }
        };
        let was_sent = std::mem::replace(&mut self.is_sent, true);
        match self.exchange(pool, &mut lent).await {
            Ok(answer) => {
                // Some attempt before this one may still have run, which does no harm.
                self.is_sent = was_sent;
                pool.put_back(lent);
                self.judge(pool, answer)
            }
            Err(error) => {
                self.note(pool, &error);
                self.after_loss(pool, lent.is_reused, &error)
            }
        }
    }

    async fn exchange(&self, pool: &Pool, lent: &mut Lent) -> io::Result<Answer> {
        let connection = &mut lent.connection;
        connection.send(&self.request.wire).await?;
        if self.request.effect == Effect::Once {
            // There is no other way to learn whether it has run.
            return connection.receive().await;
        }
        loop {
            let wait = timeout(self.nodes.settings.silence_max, connection.receive());
            let answer = tokio::select! {
                answer = wait => answer,
                () = pool.falls_silent() => return Err(silent()),
            };
            match answer {
                Ok(answer) => return answer,
                // It may wait for another node.
                Err(_) if pool.is_alive().await => {}
                Err(_) => return Err(silent()),
            }
        }
    }

    fn judge(&mut self, pool: &Arc<Pool>, answer: Answer) -> Outcome {
        let Answer::Error(text) = answer else {
            return Outcome::Answered(answer);
        };
        match meaning(&text) {
            Meaning::Later => {
                self.note(pool, &text);
                self.tried.push(Arc::clone(pool));
                Outcome::Again
            }
            Meaning::Lost if self.request.effect == Effect::Once => {
                self.is_sent = true;
                self.note(pool, &text);
                Outcome::Over(self.without_answer())
            }
            Meaning::Lost => {
                self.note(pool, &text);
                Outcome::Again
            }
            Meaning::Never => {
                let code = text.split(' ').next().unwrap_or_default().to_owned();
                Outcome::Over(Error::Refused { code, text })
            }
        }
    }

    /// The connection ended, or the node is silent, while it owed an answer.
    fn after_loss(&mut self, pool: &Arc<Pool>, was_reused: bool, error: &io::Error) -> Outcome {
        let is_framing = error.kind() == io::ErrorKind::InvalidData;
        let is_silent = error.kind() == io::ErrorKind::TimedOut;
        match was_reused && !is_framing && !is_silent {
            // Closed since it was used last, and so are the others most likely: nothing is wrong with
            // the node yet. The next connection is a new one.
            true => pool.forget_idle(),
            false => {
                pool.fail(error);
                self.tried.push(Arc::clone(pool));
            }
        }
        if is_framing {
            return Outcome::Over(Error::protocol(&self.reason));
        }
        match self.request.effect {
            Effect::Once => Outcome::Over(self.without_answer()),
            Effect::Read | Effect::Repeatable => Outcome::Again,
        }
    }

    /// Remembers what went wrong, and lets the map be looked at.
    fn note(&mut self, pool: &Pool, reason: &dyn std::fmt::Display) {
        self.reason = format!("{}: {reason}", pool.address());
        debug!(target: LOG_TARGET, node = pool.address(), %reason, "attempt failed");
        self.nodes.doubt();
    }

    fn without_answer(&self) -> Error {
        let reason = self.reason.clone();
        match self.is_sent && self.request.effect != Effect::Read {
            true => Error::Unknown { reason },
            false => Error::Unavailable { reason },
        }
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}
