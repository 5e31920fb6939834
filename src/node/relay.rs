//! Requests take a detour: whom they are for lives and cannot be reached, so a third node passes them on.
//!
//! They are passed on once. What keeps a command from running twice, or after a later one:
//!
//! 1. It takes the detour only when it was sent nowhere, or was sent and may be repeated; then it says so itself.
//! 2. What was sent on a link before that was given up may still lie there unread. The detour names that link, and
//!    whom it leads to ends it before it carries anything out.
//! 3. A third node that has stood still passes nothing on: meanwhile it may have taken another way.

use tokio::time::timeout;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Detour;
use crate::cluster::peer::Errand;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::relay;
use crate::cluster::view::Member;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::link::PeerError;
use crate::node::peers::Peer;

/// Nodes that are asked before the view is looked at again.
const ASKED_MAX: usize = 3;

/// Sends a request, made with the number given, on the link to its node, or on a detour. The request has to be one
/// that is passed on.
///
/// # Errors
///
/// [`PeerError::NoLink`]: nobody reaches that node, nothing was carried out. Anything else: that is not known.
pub async fn ask_any_way(
    context: &Context,
    node: NodeId,
    request: impl Fn(u64) -> Request,
) -> Result<Response, PeerError> {
    let peer = context.peers.find(node).ok_or(PeerError::NoLink)?;
    match peer.link() {
        Some(link) => link.ask(request).await,
        None => ask(context, &peer, 1, request).await,
    }
}

/// Sends a request about so many commands to a node that there is no link to through one that reaches it.
///
/// # Errors
///
/// As [`ask_any_way`].
pub async fn ask(
    context: &Context,
    to: &Peer,
    commands: usize,
    request: impl Fn(u64) -> Request,
) -> Result<Response, PeerError> {
    let errand = Errand::new(request(0)).ok_or(PeerError::Unexpected)?;
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
        Counters::add(&context.counters.relayed, commands);
        let detour = Detour { from: me, to: to.node, given_up: to.link_number() };
        let errand = errand.clone();
        let answer = tokio::select! {
            answer = link.ask(|id| Request::Relay { detour, errand: errand.numbered(id) }) => answer,
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
            Ok(Response::Unreached { may_have_run: true, .. }) | Err(_) => {
                to.relays().refused(via, now);
                return answer;
            }
            Ok(_) => {
                to.relays().worked(via, now);
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

/// Passes a request on for a node that does not reach whom it is for, and says what is to be answered. The link on
/// which it came began after so many stalls of this process.
pub async fn pass_on(context: &Context, detour: Detour, errand: Errand, stalls: u64) -> Response {
    let id = errand.id();
    let link = context.peers.find(detour.to).and_then(|peer| peer.link());
    let Some(link) = link.filter(|_| context.pulse.is_fresh(context.clocks.now(), stalls)) else {
        return Response::Unreached { id, may_have_run: false };
    };
    let asked = link.ask(|id| Request::Relay { detour, errand: errand.numbered(id) });
    match timeout(context.settings.failover_wait_max, asked).await {
        Ok(Ok(response)) => {
            if let Response::Forwarded { latest, .. } = response {
                context.observe(latest);
            }
            response.numbered(id)
        }
        Ok(Err(PeerError::NoLink)) => Response::Unreached { id, may_have_run: false },
        Ok(Err(_)) | Err(_) => Response::Unreached { id, may_have_run: true },
    }
}
