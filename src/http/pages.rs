//! Health, the contract, and the demo of dev mode, all served from the binary.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rollcall_protocol::{Problem, ProblemCode};
use serde_json::json;

use super::{App, headers::PAGE_POLICY, problem::ProblemResponse};
use crate::{admission, node::State as Node, store::StoreError};

/// Name, content type and text of what the demo is made of.
const ASSETS: &[(&str, &str, &str)] = &[
    (
        "home.js",
        "text/javascript; charset=utf-8",
        include_str!("demo/home.js"),
    ),
    (
        "room.js",
        "text/javascript; charset=utf-8",
        include_str!("demo/room.js"),
    ),
    (
        "rollcall.js",
        "text/javascript; charset=utf-8",
        include_str!("demo/rollcall.js"),
    ),
    (
        "cursors.js",
        "text/javascript; charset=utf-8",
        include_str!("demo/cursors.js"),
    ),
    (
        "demo.css",
        "text/css; charset=utf-8",
        include_str!("demo/demo.css"),
    ),
    (
        "favicon.svg",
        "image/svg+xml",
        include_str!("demo/favicon.svg"),
    ),
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
    if !app.config.dev_mode() {
        return Router::new();
    }
    Router::new()
        .route("/", get(|| async { page(include_str!("demo/index.html")) }))
        .route(
            "/join/{invite}",
            get(|| async { page(include_str!("demo/room.html")) }),
        )
        .route("/demo/{file}", get(asset))
}

fn page(html: &'static str) -> Response {
    dressed("text/html; charset=utf-8", html)
}

async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(file, ..)| *file == name) {
        Some((_, content_type, text)) => dressed(content_type, text),
        None => ProblemResponse(Problem::new(
            ProblemCode::NotFound,
            "There is no such file.",
        ))
        .into_response(),
    }
}

fn dressed(content_type: &'static str, text: &'static str) -> Response {
    let mut response = (StatusCode::OK, text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(PAGE_POLICY),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
