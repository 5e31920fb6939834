//! Tells other nodes of removals, and heeds being told of one, or of having been apart for too long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;
use tracing::error;

use crate::cluster::peer::LinkRefusal;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::removal::Removal;
use crate::node::context::Context;
use crate::node::context::Ending;
use crate::node::gossip;
use crate::node::link::LinkHandle;
use crate::node::link::PeerError;

/// How long a node may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// Tells all nodes that there is a link to. Returns how many have answered. One that has not is told
/// again when the link to it is made again, by whoever makes one.
pub async fn tell(context: &Context, removals: &[Removal]) -> usize {
    let links: Vec<Arc<LinkHandle>> = context.peers.all().iter().filter_map(|peer| peer.link()).collect();
    let tellings: Vec<_> = links.into_iter().map(|link| tokio::spawn(say(link, removals.to_vec()))).collect();
    let mut told = 0;
    for telling in tellings {
        told += usize::from(telling.await.unwrap_or(false));
    }
    told
}

/// A link has come up: the node there may not know of removals.
pub fn tell_one(context: &Context, link: Arc<LinkHandle>) {
    let removals = context.removals().all();
    if !removals.is_empty() {
        tokio::spawn(say(link, removals));
    }
}

async fn say(link: Arc<LinkHandle>, removals: Vec<Removal>) -> bool {
    match timeout(ANSWER_WAIT_MAX, link.ask(|id| Request::Remove { id, removals })).await {
        Ok(Ok(Response::Removed { .. })) => true,
        Ok(Ok(_)) | Err(_) => false,
        Ok(Err(error)) => {
            debug!(%error, "node not told of removals");
            false
        }
    }
}

/// Ends this node if a link was refused because it is no member any more. Membership hears of it if it was
/// refused because the two were apart for too long.
pub fn heed(context: &Context, error: &PeerError) {
    if let PeerError::Refused(LinkRefusal::Apart { identity, bond }) = error {
        context.gossip.cast(gossip::Message::Met(*identity, bond.clone()));
    }
    if matches!(error, PeerError::Refused(LinkRefusal::Removed)) && context.end(Ending::Removed) {
        error!("this node was removed from the cluster and must not come back under its name");
    }
}
