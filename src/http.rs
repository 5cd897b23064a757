//! Everything over HTTP: entering a room, the management API, problems, pages.

pub mod api;
mod assets;
mod connect;
mod guard;
mod headers;
mod origin;
mod pages;
mod problem;
mod qr;
pub(crate) mod upgrade;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use rollcall_protocol::{Problem, ProblemCode};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    admission::Admission,
    clock::Clock,
    config::Config,
    connection::Deps,
    doors::{Doors, Turned},
    flusher::Flusher,
    history::History,
    hub::Hub,
    metrics::{Limit, Metrics},
    node::{Node, Readiness},
    reaper::Reaper,
    store::Store,
};

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    inner: Arc<Parts>,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.inner
    }
}

/// The parts of a running node that requests are answered from.
pub struct Parts {
    /// The options.
    pub config: Arc<Config>,
    /// The live rooms.
    pub hub: Hub,
    /// The database.
    pub store: Arc<dyn Store>,
    /// Decides joins.
    pub admission: Admission,
    /// For `readyz` and `stats`.
    pub flusher: Flusher,
    /// For sweeps on demand.
    pub reaper: Reaper,
    /// Wall time, for access tokens.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Every connection is a task of it.
    pub tracker: TaskTracker,
    /// The runtime that connections run on.
    pub connection_runtime: Handle,
    /// What connections need.
    pub deps: Arc<Deps>,
    /// Where the server really listens.
    pub listen: SocketAddr,
    /// Whether joins are decided at the moment.
    pub readiness: Arc<Readiness>,
    /// How many may come, how often, and from where.
    pub doors: Doors,
    /// The last hour.
    pub history: History,
}

/// Management bodies are small: metadata is 4 KiB, a broadcast's payload 16 KiB by default.
const MAX_BODY: usize = 64 * 1024;

/// The refusal of somebody whom the doors turned away.
fn turned_away(turned: Turned) -> Problem {
    let (code, detail) = match turned.limit {
        Limit::Connections | Limit::TotalHandshakes => (
            ProblemCode::Overloaded,
            "The server is busy. Please try again in a moment.",
        ),
        Limit::ConnectionsPerAddress => (
            ProblemCode::RateLimited,
            "There are too many connections from your network. Please try again in a moment.",
        ),
        _ => (
            ProblemCode::RateLimited,
            "Too many attempts. Please try again in a moment.",
        ),
    };
    Problem::new(code, detail).retry_after(turned.retry_after)
}

/// The whole HTTP surface of a node that listens on `listen`, and hands connections to a runtime.
pub fn router(node: &Node, doors: Doors, listen: SocketAddr, connection_runtime: Handle) -> Router {
    let parts = Parts {
        config: Arc::clone(&node.config),
        hub: node.hub.clone(),
        store: Arc::clone(&node.store),
        admission: node.admission.clone(),
        flusher: node.flusher.clone(),
        reaper: node.reaper.clone(),
        metrics: Arc::clone(&node.metrics),
        clock: node.clock.clone(),
        tracker: node.connections.clone(),
        connection_runtime,
        deps: Arc::clone(&node.deps),
        listen,
        readiness: Arc::clone(&node.readiness),
        doors,
        history: node.history.clone(),
    };
    let app = App {
        inner: Arc::new(parts),
    };
    let (api, openapi) = OpenApiRouter::with_openapi(api::document())
        .merge(api::router())
        .split_for_parts();
    let openapi = serde_json::to_string_pretty(&openapi).unwrap_or_default();
    let api = api.layer(middleware::from_fn_with_state(app.clone(), guard::api_key));
    let open = Router::new()
        .route(
            "/v1/connect",
            get(connect::connect).options(connect::preflight),
        )
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz))
        .route(
            "/openapi.json",
            get(move || pages::json_text(openapi.clone())),
        )
        .merge(pages::client())
        .merge(pages::dashboard())
        .merge(pages::demo(&app));
    open.merge(api)
        .merge(api::presence::router(&app))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), guard::request))
        .layer(middleware::from_fn_with_state(app.clone(), headers::secure))
        .with_state(app)
}
