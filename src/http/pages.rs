//! Health, the contract, the browser client, and the demo of dev mode, all served from the binary.

use axum::{
    Json, Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{
    App,
    assets::{self, Asset},
    problem::ProblemResponse,
    qr,
};
use crate::{admission, node::State as Node, store::StoreError};

/// A module of the browser client, where `client.js` looks for it.
macro_rules! client_module {
    ($name:literal) => {
        Asset::shared(
            concat!("/client/", $name),
            include_str!(concat!("../../clients/js/client/", $name)),
        )
    };
}

/// A file of the demo's own.
macro_rules! demo_file {
    ($name:literal) => {
        Asset::own(
            concat!("/demo/", $name),
            include_str!(concat!("demo/", $name)),
        )
    };
}

/// What the demo is made of.
const DEMO: &[Asset] = &[
    Asset::own("/", include_str!("demo/index.html")),
    Asset::own("/join/{invite}", include_str!("demo/room.html")),
    demo_file!("cursors.js"),
    demo_file!("demo.css"),
    demo_file!("favicon.svg"),
    demo_file!("home.js"),
    demo_file!("invite.js"),
    demo_file!("refusals.js"),
    demo_file!("room.js"),
    demo_file!("roster.js"),
    demo_file!("words.js"),
];

/// The browser client as the npm package has it, for pages that import it from here.
const CLIENT: &[Asset] = &[
    Asset::shared("/client.js", include_str!("../../clients/js/client.js")),
    client_module!("activity.js"),
    client_module!("connection.js"),
    client_module!("credential.js"),
    client_module!("options.js"),
    client_module!("outbox.js"),
    client_module!("queue.js"),
    client_module!("refusal.js"),
    client_module!("room.js"),
    client_module!("roster.js"),
];

/// A file of the dashboard's.
macro_rules! dashboard_file {
    ($name:literal) => {
        Asset::own(
            concat!("/admin/", $name),
            include_str!(concat!("dashboard/", $name)),
        )
    };
}

/// The operator's pages. They hold nothing: what they show they ask the management API for, with the operator's key.
const DASHBOARD: &[Asset] = &[
    Asset::own("/admin", include_str!("dashboard/index.html")),
    Asset::own("/admin/", include_str!("dashboard/index.html")),
    dashboard_file!("api.js"),
    dashboard_file!("chart.js"),
    dashboard_file!("dashboard.css"),
    dashboard_file!("dashboard.js"),
    dashboard_file!("dialog.js"),
    dashboard_file!("overview.js"),
    dashboard_file!("parts.js"),
    dashboard_file!("room.js"),
    dashboard_file!("rooms.js"),
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
        true => assets::routes(DEMO).route("/demo/qr.svg", get(qr::svg)),
        false => Router::new(),
    }
}

/// The browser client.
pub(super) fn client() -> Router<App> {
    assets::routes(CLIENT)
}

/// The dashboard.
pub(super) fn dashboard() -> Router<App> {
    assets::routes(DASHBOARD)
}
