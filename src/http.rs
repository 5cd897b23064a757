//! Everything over HTTP: entering a room, the management API, problems, pages.

pub mod api;
mod connect;
mod guard;
mod pages;
mod problem;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    admission::Admission,
    clock::Clock,
    config::Config,
    connection::Deps,
    flusher::Flusher,
    hub::Hub,
    metrics::Metrics,
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
    /// Handshakes by address.
    pub handshakes: Option<DefaultKeyedRateLimiter<std::net::IpAddr>>,
}

/// Management bodies are small: metadata is 4 KiB, a broadcast's payload 16 KiB by default.
const MAX_BODY: usize = 64 * 1024;

/// The handshake limiter for these options.
pub fn handshake_limiter(config: &Config) -> Option<DefaultKeyedRateLimiter<std::net::IpAddr>> {
    let rate = std::num::NonZeroU32::new(config.limits.handshakes_per_second?)?;
    Some(RateLimiter::keyed(
        Quota::per_second(rate).allow_burst(rate.saturating_mul(HANDSHAKE_BURST)),
    ))
}

/// Two seconds' worth: a room's browsers all come back at once after a restart, often from one address.
const HANDSHAKE_BURST: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(1);

/// The whole HTTP surface of a node that listens on `listen`, and hands connections to a runtime.
pub fn router(node: &Node, listen: SocketAddr, connection_runtime: Handle) -> Router {
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
        handshakes: handshake_limiter(&node.config),
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
        .merge(pages::demo(&app));
    open.merge(api)
        .merge(api::presence::router(&app))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), guard::host))
        .with_state(app)
}
