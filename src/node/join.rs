//! Joining: finds the cluster through the seeds, and keeps looking while the node is alone. And finds
//! members that have moved: one that announces a name is looked up again while it seems dead.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::cluster::skew;
use crate::cluster::view::Liveness;
use crate::node::context::Context;
use crate::node::context::Ending;
use crate::node::gossip;
use crate::node::link;
use crate::node::link::PeerError;
use crate::node::net;
use crate::node::placement;
use crate::node::removal;
use crate::node::replication_sender::hello;

/// How often the seeds are asked while the node is alone.
const ASK_PERIOD: Duration = Duration::from_millis(200);
const ASK_PERIOD_LATER: Duration = Duration::from_millis(500);
/// How often the names of dead members are looked up.
const LOOK_UP_PERIOD: Duration = Duration::from_secs(2);

/// Asks the seeds until one has let us join; if none has in time, the node begins alone, and goes on
/// asking whenever it is alone.
pub async fn run(context: Arc<Context>) {
    let settings = &context.settings;
    let deadline = Instant::now() + settings.join_wait_max;
    let mut has_given_up = settings.join.is_empty();
    if has_given_up {
        context.placement.cast(placement::Message::GaveUpJoining);
    }
    let mut is_clock_off = false;
    let mut looked_up_at = Instant::now();
    loop {
        if is_alone(&context) {
            is_clock_off |= ask_all(&context).await;
        }
        if looked_up_at.elapsed() >= LOOK_UP_PERIOD {
            look_up_dead(&context).await;
            looked_up_at = Instant::now();
        }
        if !has_given_up && Instant::now() >= deadline {
            has_given_up = true;
            if is_alone(&context) && is_clock_off {
                error!("no seed has a clock near this node's");
                context.end(Ending::ClockOff);
                return;
            }
            if is_alone(&context) {
                warn!(waited_ms = settings.join_wait_max.as_millis(), "no seed answers, starting alone");
            }
            context.placement.cast(placement::Message::GaveUpJoining);
        }
        tokio::time::sleep(if has_given_up { ASK_PERIOD_LATER } else { ASK_PERIOD }).await;
    }
}

fn is_alone(context: &Context) -> bool {
    let view = context.current_view();
    !view.members().iter().any(|m| m.identity.node != view.me() && m.liveness != Liveness::Dead)
}

/// Whether a seed has a clock that is too far from ours.
async fn ask_all(context: &Arc<Context>) -> bool {
    let mut is_clock_off = false;
    for seed in &context.settings.join {
        // Each time anew: a name may lead elsewhere by now, and to several nodes.
        let addresses: Vec<SocketAddr> = match net::lookup_host(seed).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                debug!(seed, %error, "seed has no address");
                continue;
            }
        };
        for address in addresses {
            if let Err(error) = ask(context, address).await {
                removal::heed(context, &error);
                match error {
                    PeerError::Refused(refusal) => warn!(seed, %address, %refusal, "seed refused"),
                    PeerError::ClockOff(_) => {
                        warn!(seed, %address, %error, "seed not joined");
                        is_clock_off = true;
                    }
                    error => debug!(seed, %address, %error, "seed does not answer"),
                }
            }
        }
    }
    is_clock_off
}

/// Asks dead members at the addresses that their names lead to now, if these are other ones.
async fn look_up_dead(context: &Arc<Context>) {
    let view = context.current_view();
    for member in view.members().iter().filter(|member| member.liveness == Liveness::Dead) {
        let known = member.identity.addr;
        if member.record.host.parse::<IpAddr>().is_ok() {
            continue;
        }
        let Ok(addresses) = net::lookup_host((member.record.host.as_str(), known.port())).await else {
            continue;
        };
        for address in addresses.filter(|address| *address != known) {
            if let Err(error) = ask(context, address).await {
                debug!(member = member.record.name, %address, %error, "not there either");
            }
        }
    }
}

async fn ask(context: &Arc<Context>, address: SocketAddr) -> Result<(), PeerError> {
    if context.addresses.get().is_some_and(|own| own.peer == address) {
        return Ok(());
    }
    let sent = context.clocks.wall();
    let linked = link::dial(address, hello(context, None)).await?;
    let ahead_ms = skew::certain_skew(sent, context.clocks.wall(), linked.welcome.wall);
    if skew::is_too_far(ahead_ms) {
        return Err(PeerError::ClockOff(-ahead_ms));
    }
    info!(seed = %linked.welcome.identity, "joining through seed");
    placement::be_introduced(context, (linked.welcome.records, linked.welcome.departed));
    context.gossip.cast(gossip::Message::Announce(linked.welcome.identity));
    Ok(())
}
