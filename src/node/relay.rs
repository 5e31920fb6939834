//! Commands take a detour: who serves them lives and cannot be reached, so a third node passes them on.
//!
//! They are passed on once. What keeps a command from running twice, or after a later one:
//!
//! 1. It takes the detour only when it was sent nowhere, or was sent and may be repeated; then it says so itself.
//! 2. What was sent on a link before that was given up may still lie there unread. The detour names that link, and who
//!    serves the commands ends it before it carries them out.
//! 3. A third node that has stood still passes nothing on: meanwhile they may have taken another way.

use std::sync::Arc;

use tokio::time::timeout;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Detour;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::relay;
use crate::cluster::view::Member;
use crate::command::Ack;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::link::PeerError;
use crate::node::peers::Peer;

/// Nodes that are asked before the view is looked at again.
const ASKED_MAX: usize = 3;

/// Sends commands to a node that there is no link to through one that reaches it.
///
/// # Errors
///
/// [`PeerError::NoLink`]: nobody reaches it, nothing was carried out. Anything else: that is not known.
pub async fn ask(
    context: &Context,
    to: &Peer,
    (codec, ack): (Codec, Ack),
    commands: &Arc<Vec<KeyCommand>>,
) -> Result<Response, PeerError> {
    if !relay::is_due(context.clocks.now(), to.lost_at()) {
        return Err(PeerError::NoLink);
    }
    let mut views = context.view.subscribe();
    for _ in 0..ASKED_MAX {
        let (me, others) = (context.current_view().me(), linked(context, to.node));
        let chosen = to.relays().choose(context.clocks.now(), me, &others);
        let Some((via, link)) = chosen.and_then(|via| Some((via, context.peers.find(via)?.link()?))) else {
            break;
        };
        Counters::add(&context.counters.relayed, commands.len());
        let detour = Detour { from: me, to: to.node, given_up: to.link_number() };
        let commands = Arc::clone(commands);
        let answer = tokio::select! {
            answer = link.ask(|id| Request::Relay { id, detour, codec, ack, commands }) => answer,
            // Its successor is not to be waited for because of who stands between.
            _ = views.wait_for(|view| !view.member(to.node).is_some_and(Member::is_up)) => {
                return Err(PeerError::Closed);
            }
        };
        let now = context.clocks.now();
        match answer {
            Ok(Response::Unreached { may_have_run: false, .. }) | Err(PeerError::NoLink) => {
                to.relays().refused(via, now);
            }
            Ok(Response::Forwarded { .. }) => {
                to.relays().worked(via, now);
                return answer;
            }
            Ok(_) | Err(_) => {
                to.relays().refused(via, now);
                return answer;
            }
        }
    }
    Err(PeerError::NoLink)
}

/// The nodes that there is a link to, in the order of the ring.
fn linked(context: &Context, except: NodeId) -> Vec<NodeId> {
    let view = context.current_view();
    let others = view.members().iter().filter(|member| member.is_up()).map(|member| member.identity.node);
    let is_linked = |node: &NodeId| context.peers.find(*node).is_some_and(|peer| peer.link().is_some());
    others.filter(|node| *node != except && *node != view.me()).filter(is_linked).collect()
}

/// Passes commands on for a node that does not reach who serves them, and says what is to be answered. The link on
/// which they came began after so many stalls of this process.
pub async fn pass_on(
    context: &Context,
    id: u64,
    detour: Detour,
    (codec, ack): (Codec, Ack),
    commands: Arc<Vec<KeyCommand>>,
    stalls: u64,
) -> Response {
    let link = context.peers.find(detour.to).and_then(|peer| peer.link());
    let Some(link) = link.filter(|_| context.pulse.is_fresh(context.clocks.now(), stalls)) else {
        return Response::Unreached { id, may_have_run: false };
    };
    let asked = link.ask(|id| Request::Relay { id, detour, codec, ack, commands });
    match timeout(context.settings.failover_wait_max, asked).await {
        Ok(Ok(Response::Forwarded { outcomes, replies, latest, .. })) => {
            context.observe(latest);
            Response::Forwarded { id, outcomes, replies, latest }
        }
        Ok(Ok(Response::Unreached { may_have_run, .. })) => Response::Unreached { id, may_have_run },
        Ok(Err(PeerError::NoLink)) => Response::Unreached { id, may_have_run: false },
        Ok(Ok(_) | Err(_)) | Err(_) => Response::Unreached { id, may_have_run: true },
    }
}
