//! What CLUSTER answers: the slot map of the present view, and figures of this node.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::cluster::membership::NodeId;
use crate::cluster::slot_map;
use crate::cluster::view::Liveness;
use crate::cluster::view::View;
use crate::command::Cluster;
use crate::command::Invalid;
use crate::command::Reply;
use crate::command::printable;
use crate::node::context::Context;
use crate::node::peers::Peer;
use crate::node::shard;
use crate::store::Partition;
use crate::store::Slot;

/// How long the slot map is held back while a primary is being replaced: longer than that takes, and
/// shorter than ioredis, the least patient of the clients, waits for it (1 s).
const DOUBT_WAIT_MAX: Duration = Duration::from_millis(800);
/// How often it is looked at meanwhile, beside every change of the view.
const LOOK_PERIOD: Duration = Duration::from_millis(5);
/// Keys of one slot that are listed at most.
const KEYS_MAX: usize = 10_000;

/// Answers a question about slots and nodes.
pub async fn answer(context: &Context, asked: Cluster) -> Reply<'static> {
    match asked {
        Cluster::Info => text(slot_map::info(&context.current_view())),
        Cluster::MyId => text(slot_map::announced_id(context.current_view().me())),
        Cluster::Nodes => {
            text(slot_map::nodes(&*steady_view(context).await, |node| is_linked(context, node)))
        }
        Cluster::Slots => slot_map::slots(&*steady_view(context).await),
        Cluster::Shards => slot_map::shards(&*steady_view(context).await),
        Cluster::Links => Reply::List(
            context.peers.all().iter().filter_map(|peer| link(peer, &context.current_view())).collect(),
        ),
        Cluster::KeySlot(key) => Reply::Integer(Slot::of(&key).number().into()),
        Cluster::CountKeys { slot } => {
            let (_, count) = slot_keys(context, slot, 0).await;
            Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
        }
        Cluster::Keys { slot, count_max } => {
            let (keys, _) = slot_keys(context, slot, count_max.min(KEYS_MAX)).await;
            Reply::List(keys.into_iter().map(|key| Reply::Bytes(key.into())).collect())
        }
        Cluster::FailureReports { node } => match slot_map::failure_reports(&context.current_view(), &node) {
            Some(reports) => Reply::Integer(reports),
            None => Reply::Refused(Invalid::Node { id: printable(&node) }.into()),
        },
    }
}

/// The view as soon as every partition has a primary that seems to live; after a while, as it is.
///
/// A client asks for the slot map because it has lost a node: one that still names that node would send
/// it there again.
async fn steady_view(context: &Context) -> std::sync::Arc<View> {
    let deadline = Instant::now() + DOUBT_WAIT_MAX;
    let mut views = context.view.subscribe();
    loop {
        let view = std::sync::Arc::clone(&views.borrow_and_update());
        let is_over = Instant::now() >= deadline;
        if is_over || !is_in_doubt(context, &view) {
            return view;
        }
        let _ = timeout_at((Instant::now() + LOOK_PERIOD).min(deadline), views.changed()).await;
    }
}

fn is_in_doubt(context: &Context, view: &View) -> bool {
    let is_steady = |node: NodeId| {
        let is_alive = view.member(node).is_some_and(|member| member.liveness == Liveness::Alive);
        node == view.me() || (is_alive && is_linked(context, node))
    };
    let mut last_steady = None;
    Partition::all().any(|partition| match view.primary(partition) {
        Some(node) if last_steady == Some(node) => false,
        Some(node) if is_steady(node) => {
            last_steady = Some(node);
            false
        }
        Some(_) | None => true,
    })
}

fn is_linked(context: &Context, node: NodeId) -> bool {
    context.peers.find(node).is_some_and(|peer| peer.link().is_some())
}

/// Our link to another node, if there is one and membership knows the node.
fn link(peer: &Peer, view: &View) -> Option<Reply<'static>> {
    let link = peer.link()?;
    view.member(peer.node)?;
    let number = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    Some(Reply::Map(vec![
        (text("direction"), text("to")),
        (text("node"), text(slot_map::announced_id(peer.node))),
        (text("create-time"), number(link.made_at().as_millis())),
        (text("events"), text("rw")),
        (text("send-buffer-allocated"), number(peer.waiting_bytes() as u64)),
        (text("send-buffer-used"), number(peer.waiting_bytes() as u64)),
    ]))
}

/// Some keys of a slot that this node has, and how many there are.
async fn slot_keys(context: &Context, slot: u16, count_max: usize) -> (Vec<bytes::Bytes>, usize) {
    let (reply, answer) = oneshot::channel();
    if let Some(partition) = Partition::of_slot(slot) {
        let shard = &context.shards[context.shard_of(partition)];
        shard.cast(shard::Message::SlotKeys { slot, count_max, reply });
    }
    // A shard that is being started again has none.
    answer.await.unwrap_or_default()
}

fn text(text: impl Into<String>) -> Reply<'static> {
    Reply::Bytes(text.into().into())
}
