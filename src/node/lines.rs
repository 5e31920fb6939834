//! Looks after the lines to the other nodes: a link that is stuck is given up, so that commands go another way
//! and what comes of it is not waited for. See [`crate::cluster::vigil`].

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::cluster::vigil::LOOK_PERIOD;
use crate::node::context::Context;

/// How long an ordinary link may be silent while something is awaited on it: longer than the process there may
/// stand still, and the looks at both ends of the time.
pub fn patience(context: &Context) -> Duration {
    context.pulse.stall_max() + 2 * LOOK_PERIOD
}

/// Looks at all links, again and again.
pub async fn watch(context: Arc<Context>) {
    loop {
        tokio::time::sleep(LOOK_PERIOD).await;
        let (now, patience) = (context.clocks.now(), patience(&context));
        for peer in context.peers.all() {
            if let Some(since) = peer.look(now, patience) {
                let peer = context.current_view().name_of(peer.node);
                warn!(peer, silent_ms = now.since(since).as_millis(), "peer link stuck, given up");
            }
        }
    }
}
