//! Whether a node is to be given clients.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::cluster::view::View;
use crate::node::context::Context;

/// Ready from when the node has joined and has had all its copies once, until it leaves. Not beyond:
/// a node that rebuilds copies that others have lost is the more needed.
pub async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    match reason_against(&context) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn reason_against(context: &Context) -> Option<String> {
    let view = context.current_view();
    let is_leaving = view.member(view.me()).is_some_and(|me| me.record.is_leaving);
    if is_leaving || context.hang_up.borrow().is_stopping || context.ending.borrow().is_some() {
        return Some("the node leaves".to_owned());
    }
    (!*context.is_ready.borrow()).then(|| not_yet(&view))
}

fn not_yet(view: &View) -> String {
    let wanted = view.wanted_here();
    match wanted.iter().filter(|partition| view.has_copy(*partition)).count() {
        0 => "the node has not joined yet".to_owned(),
        here => format!("{here} of {} partitions are here", wanted.len()),
    }
}
