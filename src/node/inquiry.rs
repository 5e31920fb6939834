//! Asking all nodes how they are: what is drawn of a whole cluster. Nobody is waited for long: a node
//! that does not answer is shown as one that does not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::cluster::membership::Generation;
use crate::cluster::membership::Identity;
use crate::cluster::membership::NodeId;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::report::HOT_KEYS_TOLD;
use crate::cluster::report::Report;
use crate::cluster::report::SLOW_COMMANDS_TOLD;
use crate::cluster::view::Member;
use crate::cluster::view::View;
use crate::node::context::Context;
use crate::node::report;

/// How long a node may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(500);

/// Whom to ask, in which life, and the number of the last happening that is known of that life.
pub type Asked = (NodeId, Generation, u64);

/// The other members that are not dead.
pub fn others(view: &View) -> impl Iterator<Item = Identity> + '_ {
    let is_other = |member: &&Member| member.identity.node != view.me() && member.is_up();
    view.members().iter().filter(is_other).map(|member| member.identity)
}

/// How this node is, and what has happened to it since.
pub async fn report_here(context: &Context, after: u64) -> Report {
    Report {
        figures: report::stats(context).await,
        happenings: context.journal.after(after),
        hot_keys: context.hot_keys.top(HOT_KEYS_TOLD),
        slow: context.slow_log.latest(SLOW_COMMANDS_TOLD),
    }
}

/// How other nodes are: those that answer in time, all asked at once.
pub async fn reports(context: &Arc<Context>, asked: Vec<Asked>) -> Vec<(Asked, Report)> {
    let ask = |(node, generation, after): Asked| {
        let context = Arc::clone(context);
        tokio::spawn(async move {
            let report = timeout(ANSWER_WAIT_MAX, report_there(&context, (node, generation, after))).await;
            Some(((node, generation, after), report.ok()??))
        })
    };
    let asking: Vec<_> = asked.into_iter().map(ask).collect();
    let mut reports = Vec::with_capacity(asking.len());
    for answer in asking {
        reports.extend(answer.await.ok().flatten());
    }
    reports
}

/// How all other members are, as far as they answer in time, without what has happened to them.
pub async fn all_reports(context: &Arc<Context>) -> Vec<(NodeId, Report)> {
    let view = context.current_view();
    let asked = others(&view).map(|other| (other.node, other.generation, u64::MAX)).collect();
    reports(context, asked).await.into_iter().map(|((node, ..), report)| (node, report)).collect()
}

async fn report_there(context: &Context, (node, generation, after): Asked) -> Option<Report> {
    let peer = context.peers.find(node)?;
    // What is known of one life says nothing about another.
    peer.identity().filter(|identity| identity.generation == generation)?;
    match peer.link()?.ask(|id| Request::Report { id, after }).await {
        Ok(Response::Reported { report, .. }) => Some(report),
        Ok(_) | Err(_) => None,
    }
}
