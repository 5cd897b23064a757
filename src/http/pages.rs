//! Health, the contract, and the demo of dev mode, all served from the binary.

use axum::{
    Json, Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    App,
    assets::{self, Asset},
    problem::ProblemResponse,
};
use crate::{admission, node::State as Node, store::StoreError};

/// What the demo is made of.
const DEMO: &[Asset] = &[
    Asset::own("/", include_str!("demo/index.html")),
    Asset::own("/join/{invite}", include_str!("demo/room.html")),
    Asset::own("/demo/home.js", include_str!("demo/home.js")),
    Asset::own("/demo/room.js", include_str!("demo/room.js")),
    Asset::own("/demo/rollcall.js", include_str!("demo/rollcall.js")),
    Asset::own("/demo/cursors.js", include_str!("demo/cursors.js")),
    Asset::own("/demo/demo.css", include_str!("demo/demo.css")),
    Asset::own("/demo/favicon.svg", include_str!("demo/favicon.svg")),
];

/// The process is alive.
pub(super) async fn healthz() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Joins can be decided: this node serves the database, the database answers, and flushes succeed.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let problem = match app.readiness.get() {
        Node::Standby => Some(admission::standby()),
        Node::Draining => Some(admission::draining()),
        Node::Ready if app.flusher.is_behind() => Some(admission::store_unavailable()),
        Node::Ready => app
            .store
            .ping()
            .await
            .err()
            .map(|error: StoreError| admission::store_problem(&error)),
    };
    match problem {
        Some(problem) => ProblemResponse(problem).into_response(),
        None => Json(json!({"status": "ready"})).into_response(),
    }
}

/// A JSON text made at start.
pub(super) async fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The demo, in dev mode only: it makes rooms without an API key.
pub(super) fn demo(app: &App) -> Router<App> {
    match app.config.dev_mode() {
        true => assets::routes(DEMO),
        false => Router::new(),
    }
}
