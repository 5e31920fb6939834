//! What happens in the cluster, as it happens: a stream of server-sent events.
//!
//! | event | data |
//! |---|---|
//! | `happening` | an object: the `node` that has seen it, its `number` there, when (`at`, milliseconds since 1970), its `kind`, and, where they say something, `member`, `partitions` and `took_ms` |
//! | `view` | an object with the fingerprint of this node's new `view`: `/api/cluster` has changed |
//!
//! The stream begins with what the nodes still remember. This node's own happenings come at once, those
//! of others when they are asked next.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::response::sse::Event;
use axum::response::sse::Sse;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::cluster::membership::Generation;
use crate::cluster::membership::NodeId;
use crate::cluster::report::Happening;
use crate::node::admin::Failure;
use crate::node::context::Context;
use crate::node::context::HangUp;
use crate::node::inquiry;
use crate::node::inquiry::Asked;
use crate::node::inquiry::others;
use crate::node::journal;

/// Streams at a time.
const STREAMS_MAX: usize = 64;
/// How often the other nodes are asked.
const ASK_PERIOD: Duration = Duration::from_millis(250);
/// Events that wait for a slow reader.
const WAITING_MAX: usize = 64;

/// Streams what happens until the reader goes or the node stops.
pub async fn events(State(context): State<Arc<Context>>) -> Response {
    if context.journal.reader_count() >= STREAMS_MAX {
        let reason = format!("{STREAMS_MAX} streams are open already");
        return Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    }
    let (sender, events) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        // A reader that has gone ends it.
        let _ = Telling { context, sender, told: 0, known: BTreeMap::new() }.run().await;
    });
    let next =
        async |mut events: mpsc::Receiver<Event>| Some((Ok::<_, Infallible>(events.recv().await?), events));
    Sse::new(futures_util::stream::unfold(events, next)).into_response()
}

/// One stream.
struct Telling {
    context: Arc<Context>,
    sender: mpsc::Sender<Event>,
    /// The number of the last happening here that was told.
    told: u64,
    /// Of each life of other nodes.
    known: BTreeMap<NodeId, (Generation, u64)>,
}

type Told = Result<(), mpsc::error::SendError<Event>>;

impl Telling {
    async fn run(mut self) -> Told {
        let context = Arc::clone(&self.context);
        let (mut latest, mut views) = (context.journal.latest(), context.view.subscribe());
        let mut hang_up = context.hang_up.subscribe();
        let mut turns = tokio::time::interval(ASK_PERIOD);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tell_own().await?;
        self.tell_view().await?;
        loop {
            tokio::select! {
                () = stopped(&mut hang_up) => return Ok(()),
                () = self.sender.closed() => return Ok(()),
                Ok(()) = views.changed() => self.tell_view().await?,
                Ok(()) = latest.changed() => self.tell_own().await?,
                _ = turns.tick() => self.tell_others().await?,
            }
        }
    }

    async fn tell_view(&self) -> Told {
        let view = format!("{:08x}", self.context.current_view().fingerprint());
        self.sender.send(Event::default().event("view").data(json!({ "view": view }).to_string())).await
    }

    async fn tell_own(&mut self) -> Told {
        let happenings = self.context.journal.after(self.told);
        self.told = happenings.last().map_or(self.told, |last| last.number);
        let name = self.context.settings.name.clone();
        self.tell(&name, happenings).await
    }

    async fn tell_others(&mut self) -> Told {
        let view = self.context.current_view();
        let asked: Vec<Asked> = others(&view)
            .map(|identity| match self.known.get(&identity.node) {
                Some((generation, number)) if *generation == identity.generation => {
                    (identity.node, identity.generation, *number)
                }
                Some(_) | None => (identity.node, identity.generation, 0),
            })
            .collect();
        for ((node, generation, after), report) in inquiry::reports(&self.context, asked).await {
            let last = report.happenings.last().map_or(after, |last| last.number);
            self.known.insert(node, (generation, last));
            let name = journal::name_of(&self.context, node);
            self.tell(&name, report.happenings).await?;
        }
        Ok(())
    }

    async fn tell(&self, node: &str, happenings: Vec<Happening>) -> Told {
        for happening in happenings {
            let event = Event::default().event("happening").data(said(node, happening).to_string());
            self.sender.send(event).await?;
        }
        Ok(())
    }
}

/// Returns when the node stops.
async fn stopped(hang_up: &mut watch::Receiver<HangUp>) {
    // The sender lives as long as the node: without it the end is near, too.
    let _ = hang_up.wait_for(|hang_up| hang_up.is_stopping).await;
}

fn said(node: &str, happening: Happening) -> Value {
    let Happening { number, at, kind, member, partitions, took_ms } = happening;
    let mut said = json!({ "node": node, "number": number, "at": at.as_millis(), "kind": kind.name() });
    if let Some(member) = member {
        said["member"] = json!(member);
    }
    if partitions > 0 {
        said["partitions"] = json!(partitions);
    }
    if let Some(took_ms) = took_ms {
        said["took_ms"] = json!(took_ms);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::report::Kind;
    use crate::time::Timestamp;

    #[test]
    fn an_event_says_what_there_is_to_say() {
        let at = Timestamp::from_millis(5);
        let promoted = Happening {
            number: 7,
            at,
            kind: Kind::Promoted,
            member: Some("n2".to_owned()),
            partitions: 3,
            took_ms: Some(12),
        };
        assert_eq!(
            said("n1", promoted),
            json!({ "node": "n1", "number": 7, "at": 5, "kind": "promoted", "member": "n2", "partitions": 3, "took_ms": 12 })
        );
        let started =
            Happening { number: 1, at, kind: Kind::Started, member: None, partitions: 0, took_ms: None };
        assert_eq!(said("n1", started), json!({ "node": "n1", "number": 1, "at": 5, "kind": "started" }));
    }
}
