//! The administrative port: HTTP, on loopback unless a setting says otherwise.
//!
//! | request | does | answers |
//! |---|---|---|
//! | `GET /` | nothing | the page that draws the cluster, live |
//! | `GET /healthz` | nothing: the process answers | `ok` |
//! | `GET /readyz` | nothing | `ready`, or 503 and why not |
//! | `GET /metrics` | nothing | this node's figures for Prometheus |
//! | `GET /api/cluster` | asks all nodes how they are | nodes and ring as this node sees them |
//! | `GET /api/events` | asks the others again and again | what happens, as it happens: server-sent events |
//! | `POST /leave` | takes the node out for good: all roles and copies move away, then it ends | when it can go |
//! | `POST /forget?name=<name>` | takes a dead node out of the cluster for good | when another node knows it too: how many do |
//! | `POST /verify?wait_ms=<n>` | compares all copies of all partitions until they are alike, or so long | what differs |
//!
//! Answers are JSON; what was not done has a status from 400 on and says why in `error`. A page in a
//! browser must not be able to ask: what changes something needs the header [`ASKING_HEADER`], which
//! no page may send elsewhere, and the host must be named as only somebody who means this node would.

mod cluster;
mod events;
mod exposition;
mod member;
mod metrics;
mod ready;
mod verify;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::header::HOST;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Html;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::debug;

use crate::node::context::Context;
use crate::node::net::TcpListener;
use crate::node::net::TcpStream;

/// The header of every request that changes something, with any value.
pub const ASKING_HEADER: &str = "x-cachegopher";

/// How long those who still wait for an answer hold up the end of the node.
const STOP_WAIT_MAX: Duration = Duration::from_secs(1);
/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The administrative port while it is served.
#[derive(Debug)]
pub struct Admin {
    serving: JoinHandle<()>,
    stopping: oneshot::Sender<()>,
}

impl Admin {
    /// Serves requests from now on.
    pub fn start(context: Arc<Context>, listener: Arc<TcpListener>) -> Self {
        let (stopping, stopped) = oneshot::channel();
        let serving = async move {
            let stop = async {
                // A sender that is gone means the same.
                let _ = stopped.await;
            };
            let served = axum::serve(Port(listener), routes(context)).with_graceful_shutdown(stop).await;
            debug!(?served, "administrative port closed");
        };
        Self { serving: tokio::spawn(serving), stopping }
    }

    /// Answers what was asked, and stops.
    pub async fn stop(self) {
        drop(self.stopping);
        // Somebody who does not read his answer is left without one.
        let _ = timeout(STOP_WAIT_MAX, self.serving).await;
    }
}

fn routes(context: Arc<Context>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/cluster", get(cluster::cluster))
        .route("/api/events", get(events::events))
        .route("/leave", post(member::leave))
        .route("/forget", post(member::forget))
        .route("/verify", post(verify::verify))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is nothing of that name"))
        .layer(middleware::from_fn_with_state(Arc::clone(&context), check))
        .with_state(context)
}

/// The page that draws the cluster. It needs nothing from elsewhere, and the browser is told so.
async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                  connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html")))
}

/// Lets only those through who mean this node: see the module.
async fn check(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_ours(host, &context.settings.announce_host) {
        return Failure::new(StatusCode::FORBIDDEN, "this host is not this node").into_response();
    }
    if request.method() != Method::GET && !request.headers().contains_key(ASKING_HEADER) {
        let reason = format!("the header {ASKING_HEADER} is missing");
        return Failure::new(StatusCode::FORBIDDEN, reason).into_response();
    }
    next.run(request).await
}

/// Names that somebody else could make lead here are refused.
fn is_ours(host: &str, announced: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok() || name == "localhost" || name == announced
}

/// Something that was not done.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    reason: String,
}

impl Failure {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.reason }))).into_response()
    }
}

/// The listener as the library wants it.
struct Port(Arc<TcpListener>);

impl axum::serve::Listener for Port {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                // It passes, as with clients.
                Err(error) => {
                    debug!(%error, "administrative connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_that_nobody_else_can_make_lead_here_is_ours() {
        let ours =
            ["127.0.0.1:30337", "[::1]:30337", "localhost:1", "localhost", "10.0.0.1", "cache-1:30337"];
        assert!(ours.iter().all(|host| is_ours(host, "cache-1")), "{ours:?}");
        let others = ["evil.example:30337", "evil.example", "", "localhost.evil.example:30337"];
        assert!(others.iter().all(|host| !is_ours(host, "cache-1")), "{others:?}");
    }
}
