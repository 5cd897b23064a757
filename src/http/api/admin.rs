//! Sweeps on demand, figures, metrics.

use axum::{
    Json,
    extract::State,
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use rollcall_protocol::RoomId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Body, List, bad};
use crate::{
    history::{self, Sample},
    http::App,
    metrics::FlushFigures,
    reaper::Sweep,
};

/// A sweep to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct SweepWish {
    /// Only say what would go.
    #[serde(default)]
    dry_run: bool,
}

/// What a sweep took.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Swept {
    #[schema(value_type = Vec<String>)]
    rooms: Vec<RoomId>,
    participants: u64,
    dry_run: bool,
}

/// Sweep now.
#[utoipa::path(post, path = "/v1/admin/reap", request_body = SweepWish, responses((status = 200, body = Swept), (status = 503, description = "reaper_not_ready")))]
pub(super) async fn reap(
    State(app): State<App>,
    Body(wish): Body<SweepWish>,
) -> Answer<Json<Swept>> {
    let Sweep {
        rooms,
        participants,
        dry_run,
        ..
    } = app.reaper.sweep(wish.dry_run).await?;
    Ok(Json(Swept {
        rooms,
        participants,
        dry_run,
    }))
}

/// The last sweeps, newest first.
#[utoipa::path(get, path = "/v1/admin/reaps", responses((status = 200, body = List<Sweep>)))]
pub(super) async fn reaps(State(app): State<App>) -> Answer<List<Sweep>> {
    Ok(List {
        items: app.reaper.past(),
        next_cursor: None,
    })
}

/// Figures of this node and its database.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    connections: i64,
    observers: i64,
    rooms: Rooms,
    participants: Participants,
    invites: u64,
    flush: FlushFigures,
    reaper: Option<Sweep>,
}

/// Rooms with seats, and in the database.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rooms {
    live: usize,
    stored: u64,
}

/// Participants in memory and in the database.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Participants {
    online: usize,
    stored: u64,
}

/// Connections, rooms, flush and reaper figures.
#[utoipa::path(get, path = "/v1/admin/stats", responses((status = 200, body = Stats)))]
pub(super) async fn stats(State(app): State<App>) -> Answer<Json<Stats>> {
    let counts = app.store.counts().await?;
    Ok(Json(Stats {
        connections: app.metrics.connections.get(),
        observers: app.metrics.observers.get(),
        rooms: Rooms {
            live: app.hub.live(),
            stored: counts.rooms,
        },
        participants: Participants {
            online: app.hub.seats(),
            stored: counts.participants,
        },
        invites: counts.invites,
        flush: app.metrics.flush_figures(),
        reaper: app.reaper.past().into_iter().find(|sweep| !sweep.dry_run),
    }))
}

/// The last hour of this node, in samples.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    /// How much time a sample stands for.
    interval_seconds: u64,
    /// Oldest first.
    samples: Vec<Sample>,
}

/// What the last hour was like on this node; nothing before its start. `after` asks only for what is newer than a sample's `at`.
#[utoipa::path(get, path = "/v1/admin/history", params(("after" = Option<String>, Query)), responses((status = 200, body = History)))]
pub(super) async fn history(State(app): State<App>, uri: Uri) -> Answer<Json<History>> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let after = form_urlencoded::parse(query)
        .find_map(|(key, value)| (key == "after").then(|| value.parse()))
        .transpose()
        .map_err(|_| bad("\"after\" must be a time such as 2026-01-31T12:00:00.000Z."))?;
    Ok(Json(History {
        interval_seconds: history::EVERY.as_secs(),
        samples: app.history.samples(after),
    }))
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "OpenMetrics text")))]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let text = app.metrics.render(app.hub.rooms(), app.hub.seats());
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response()
}
