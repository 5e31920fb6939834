//! Welcomes a node that dials this one: checks who it is, then gives its link a replication receiver.
//! One that fails or misbehaves ends alone.

use std::sync::Arc;

use ractor::Actor;
use ractor::ActorCell;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use crate::cluster::membership::Meeting;
use crate::cluster::peer;
use crate::cluster::peer::Hello;
use crate::cluster::peer::LinkRefusal;
use crate::cluster::peer::PEER_VERSION;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::peer::Welcome;
use crate::node::context::Context;
use crate::node::gossip;
use crate::node::link;
use crate::node::link::FrameReader;
use crate::node::link::HANDSHAKE_WAIT_MAX;
use crate::node::link::PeerError;
use crate::node::net;
use crate::node::net::TcpStream;
use crate::node::own_identity;
use crate::node::placement;
use crate::node::replication_receiver::ReplicationReceiver;
use crate::node::replication_receiver::serve;

/// Serves a connection of another node until it ends, and says why it has.
pub async fn welcome(
    context: Arc<Context>,
    supervisor: ActorCell,
    socket: TcpStream,
) -> Result<(), PeerError> {
    net::send_promptly(&socket)?;
    let stalls = context.stalls_before().await;
    let (reader, mut writer) = socket.into_split();
    let mut reader = FrameReader::new(reader);
    let hello = match timeout(HANDSHAKE_WAIT_MAX, reader.next::<Request>()).await {
        Ok(request) => match request? {
            Request::Hello(hello) => hello,
            Request::Forward { .. }
            | Request::Stream { .. }
            | Request::Pull { .. }
            | Request::TakeOver { .. }
            | Request::Record(_)
            | Request::Scan { .. }
            | Request::Size { .. }
            | Request::AwaitLease { .. }
            | Request::Choose { .. }
            | Request::Offer { .. }
            | Request::Remove { .. }
            | Request::Digest { .. }
            | Request::Survey { .. }
            | Request::Report { .. }
            | Request::AwaitCopies { .. }
            | Request::Relay { .. }
            | Request::Ping
            | Request::Flush { .. } => return Err(PeerError::Unexpected),
        },
        Err(_) => return Err(PeerError::TimedOut(HANDSHAKE_WAIT_MAX)),
    };
    if let Err(refusal) = check(&context, &hello) {
        warn!(peer = %hello.from.name, error = %refusal, "peer link refused");
        writer.write_all(&peer::encode(&Response::Refused(refusal.clone()))).await?;
        return Err(refusal.into());
    }
    let (records, departed) = placement::introduction(&context).await;
    let identity = own_identity(&context);
    let Some((_, start)) = hello.link else {
        // Somebody looks for the cluster, or wants to know whether we live.
        let wall = context.clocks.wall();
        let welcome = Welcome { identity, resume_from: 0, link: 0, wall, records, departed };
        writer.write_all(&peer::encode(&Response::Welcome(welcome))).await?;
        return Ok(());
    };
    let peer = context.peers.meet(hello.identity.node);
    // A peer has one link to us: what an older one still has to say, the newer one repeats.
    let Some((link, mut newer_link)) = peer.linked() else { return Err(PeerError::Closed) };
    let (resume_from, has_gap) = peer.source().inbound.start(start);
    // Before the link: placement keeps nothing about nodes that it does not know.
    context.placement.cast(placement::Message::Record(Box::new(hello.from)));
    context.placement.cast(placement::Message::Linked { node: hello.identity.node, has_gap });
    // Membership learns of a node that found us first.
    context.gossip.cast(gossip::Message::Announce(hello.identity));
    let wall = context.clocks.wall();
    let welcome = Welcome { identity, resume_from, link, wall, records, departed };
    writer.write_all(&peer::encode(&Response::Welcome(welcome))).await?;

    let (replies, frames) = mpsc::channel(link::FRAMES_WAITING_MAX);
    let writing = tokio::spawn(link::write_frames(writer, frames));
    let actor = ReplicationReceiver {
        context: Arc::clone(&context),
        peer: Arc::clone(&peer),
        epoch: start.epoch,
        replies: replies.clone(),
    };
    let (receiver, ended) =
        Actor::spawn_linked(None, actor, (), supervisor).await.map_err(|_| PeerError::Closed)?;
    // A receiver that fails ends its link: the peer dials again and goes on from what is applied.
    let mut hang_up = context.hang_up.subscribe();
    let error = tokio::select! {
        biased;
        error = serve(context, peer, reader, (receiver.clone(), replies), (newer_link.clone(), stalls)) => error,
        _ = ended => PeerError::Closed,
        _ = newer_link.changed() => PeerError::Closed,
        _ = hang_up.wait_for(|hang_up| stalls < hang_up.stalls) => PeerError::Closed,
    };
    receiver.stop(None);
    writing.abort();
    Err(error)
}

fn check(context: &Context, hello: &Hello) -> Result<(), LinkRefusal> {
    let me = context.current_view().me();
    if hello.version != PEER_VERSION {
        return Err(LinkRefusal::OtherVersion { version: PEER_VERSION });
    }
    if hello.cluster != context.cluster {
        return Err(LinkRefusal::OtherCluster);
    }
    if context.removals().bars(hello.identity.node, hello.identity.generation) {
        return Err(LinkRefusal::Removed);
    }
    if hello.bond.meets(&context.bond(), context.settings.membership.away_max) != Meeting::Near {
        // Perhaps it is this node that has to begin anew.
        context.gossip.cast(gossip::Message::Met(hello.identity, hello.bond.clone()));
        let identity = own_identity(context);
        return Err(LinkRefusal::Apart { identity, bond: context.bond() });
    }
    if hello.identity.node == me || hello.from.node != hello.identity.node {
        return Err(LinkRefusal::SameName);
    }
    match hello.link {
        Some((sought, _)) if sought != me => Err(LinkRefusal::OtherNode),
        Some(_) | None => Ok(()),
    }
}
