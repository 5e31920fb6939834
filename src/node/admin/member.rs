//! Taking nodes out of the cluster.

use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::sync::oneshot;
use tracing::info;

use crate::cluster::view::Liveness;
use crate::cluster::view::View;
use crate::node::admin::Failure;
use crate::node::context::Context;
use crate::node::context::Ending;
use crate::node::placement;
use crate::node::removal;

#[derive(Debug, Deserialize)]
pub struct Named {
    name: String,
}

/// Takes this node out for good. It answers when all that the node had is elsewhere; the node says
/// good-bye and ends thereafter.
pub async fn leave(State(context): State<Arc<Context>>) -> Result<Json<Value>, Failure> {
    if others_alive(&context.current_view()) == 0 {
        let reason =
            "there is no other node that could take over: stop the node instead, and all keys are gone";
        return Err(Failure::new(StatusCode::CONFLICT, reason));
    }
    info!("node leaves the cluster for good");
    let (done, left) = oneshot::channel();
    context.placement.cast(placement::Message::Leave { is_for_good: true, done });
    if left.await.is_err() {
        return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the node ends otherwise"));
    }
    context.end(Ending::Left);
    Ok(Json(json!({ "left": context.settings.name })))
}

/// Takes a dead node out for good. That is done when another node knows it too: the end of this one would undo
/// it otherwise.
pub async fn forget(
    State(context): State<Arc<Context>>,
    Query(Named { name }): Query<Named>,
) -> Result<Json<Value>, Failure> {
    let (reply, forgotten) = oneshot::channel();
    context.placement.cast(placement::Message::Forget { name: name.clone(), reply });
    let forgotten =
        forgotten.await.map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the node ends"))?;
    let removal = forgotten.map_err(|refusal| Failure::new(StatusCode::CONFLICT, refusal.to_string()))?;
    let others = others_alive(&context.current_view());
    let told = removal::tell(&context, &[removal]).await;
    if told == 0 && others > 0 {
        let reason = format!(
            "{name} is forgotten here, but none of the {others} other nodes has confirmed that it knows: ask again"
        );
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason));
    }
    Ok(Json(json!({ "forgotten": name, "told": told, "others": others })))
}

fn others_alive(view: &View) -> usize {
    let is_other = |member: &&crate::cluster::view::Member| {
        member.identity.node != view.me() && member.liveness != Liveness::Dead
    };
    view.members().iter().filter(is_other).count()
}
