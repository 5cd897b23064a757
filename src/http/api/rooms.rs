//! Rooms: made, read, changed, touched, closed; and what is said into them.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rollcall_protocol::{
    DisplayName, OnIdle, ParticipantId, Problem, ProblemCode, RoomId, RoomView, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use utoipa::ToSchema;

use super::extract::{Answer, Body, Id, List, Page, bad, no_room, present};
use crate::{
    admission::words,
    chance,
    http::App,
    hub::Ending,
    store::{Created, RoomKey, RoomPatch, RoomRow, RoomSettings},
};

/// A room to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct NewRoom {
    /// The application's own id; generated when absent.
    #[schema(value_type = Option<String>)]
    id: Option<RoomId>,
    /// Seconds without anybody after which the room is idle; null: never; absent: the server's default.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    idle_timeout_seconds: Option<Option<u64>>,
    /// What happens to the idle room.
    #[schema(value_type = Option<String>)]
    on_idle: Option<OnIdle>,
    /// The most seats.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    max_participants: Option<Option<u32>>,
    /// Seconds after which the room ends, whoever is there.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    max_age_seconds: Option<Option<u64>>,
    /// The application's own data, shown to members.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A room with who is there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomDetails {
    #[schema(value_type = String)]
    id: RoomId,
    #[schema(value_type = String)]
    created_at: Timestamp,
    idle_timeout_seconds: Option<u64>,
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Object)]
    metadata: std::sync::Arc<Map<String, Value>>,
    #[schema(value_type = String)]
    on_idle: OnIdle,
    max_participants: Option<u32>,
    max_age_seconds: Option<u64>,
    /// Seats, grace included.
    online: usize,
    /// Connections that watch without a seat.
    observers: usize,
}

impl RoomDetails {
    fn new(app: &App, row: &RoomRow) -> Self {
        let RoomView {
            id,
            created_at,
            idle_timeout_seconds,
            expires_at,
            metadata,
        } = row.view();
        Self {
            id,
            created_at,
            idle_timeout_seconds,
            expires_at,
            metadata,
            on_idle: row.settings.on_idle,
            max_participants: row.settings.max_participants,
            max_age_seconds: row
                .settings
                .max_age
                .map(|age| age.as_millis().div_ceil(1000) as u64),
            online: app.hub.online(row.key).0,
            observers: app.hub.observers(row.key),
        }
    }
}

impl NewRoom {
    fn settings(&self, app: &App) -> Answer<RoomSettings> {
        let defaults = app.config.room_defaults();
        let patch = self.patch(app)?;
        Ok(RoomSettings {
            idle_timeout: patch.idle_timeout.unwrap_or(defaults.idle_timeout),
            on_idle: patch.on_idle.unwrap_or(defaults.on_idle),
            max_participants: patch.max_participants.unwrap_or(defaults.max_participants),
            max_age: patch.max_age.unwrap_or(defaults.max_age),
            metadata: patch.metadata.unwrap_or_default(),
        })
    }

    fn patch(&self, app: &App) -> Answer<RoomPatch> {
        if let Some(Some(seconds)) = self.idle_timeout_seconds {
            let shortest = app.config.min_idle_timeout();
            if Duration::from_secs(seconds) < shortest {
                let needs = words::duration(shortest);
                return Err(bad(format!(
                    "\"idle_timeout_seconds\" ({seconds}) must be at least {needs}: 1.5 heartbeat intervals and two flush intervals."
                )));
            }
            check_seconds("idle_timeout_seconds", seconds)?;
        }
        if let Some(Some(seconds)) = self.max_age_seconds {
            if seconds == 0 {
                return Err(bad("\"max_age_seconds\" must be at least 1."));
            }
            check_seconds("max_age_seconds", seconds)?;
        }
        if self.max_participants == Some(Some(0)) {
            return Err(bad("\"max_participants\" must be at least 1."));
        }
        if let Some(metadata) = &self.metadata {
            check_metadata(metadata, app.config.limits.metadata_bytes)?;
        }
        Ok(RoomPatch {
            idle_timeout: self
                .idle_timeout_seconds
                .map(|timeout| timeout.map(Duration::from_secs)),
            on_idle: self.on_idle,
            max_participants: self.max_participants,
            max_age: self.max_age_seconds.map(|age| age.map(Duration::from_secs)),
            metadata: self.metadata.clone(),
        })
    }
}

/// A century: more is a mistake, and overflows what databases add to timestamps.
const MOST_SECONDS: u64 = 100 * 366 * 24 * 3600;

fn check_seconds(name: &str, seconds: u64) -> Answer<()> {
    if seconds > MOST_SECONDS {
        Err(bad(format!(
            "\"{name}\" ({seconds}) must be at most {MOST_SECONDS}."
        )))
    } else {
        Ok(())
    }
}

fn check_metadata(metadata: &Map<String, Value>, limit: usize) -> Answer<()> {
    let size = serde_json::to_string(metadata).map_or(usize::MAX, |text| text.len());
    if size > limit {
        Err(bad(format!(
            "\"metadata\" has {size} bytes, at most {limit} are allowed."
        )))
    } else {
        Ok(())
    }
}

fn generated_id(now: Timestamp) -> Answer<RoomId> {
    let id = RoomId::try_from(chance::uuid(now).to_string());
    id.map_err(|_| Problem::new(ProblemCode::Internal, "An id could not be made.").into())
}

/// Make a room.
#[utoipa::path(post, path = "/v1/rooms", request_body = NewRoom, responses((status = 201, body = RoomDetails), (status = 409, description = "room_exists")))]
pub(super) async fn create(State(app): State<App>, Body(room): Body<NewRoom>) -> Answer<Response> {
    let settings = room.settings(&app)?;
    let id = match room.id {
        Some(id) => id,
        None => generated_id(app.clock.now())?,
    };
    match app.store.create_room(&id, &settings).await? {
        Created::New(row) => {
            Ok((StatusCode::CREATED, Json(RoomDetails::new(&app, &row))).into_response())
        }
        Created::Exists(_) => Err(Problem::new(
            ProblemCode::RoomExists,
            "A room with this id exists already.",
        )
        .into()),
    }
}

/// Make a room, or bring an existing one's given settings to these.
#[utoipa::path(put, path = "/v1/rooms/{room}", params(("room" = String, Path)), request_body = NewRoom, responses((status = 200, body = RoomDetails), (status = 201, body = RoomDetails)))]
pub(super) async fn put(
    State(app): State<App>,
    Id(id): Id<RoomId>,
    Body(room): Body<NewRoom>,
) -> Answer<Response> {
    if room.id.as_ref().is_some_and(|given| *given != id) {
        return Err(bad("\"id\" is not the room in the address."));
    }
    match app.store.create_room(&id, &room.settings(&app)?).await? {
        Created::New(row) => {
            Ok((StatusCode::CREATED, Json(RoomDetails::new(&app, &row))).into_response())
        }
        Created::Exists(_) => Ok(change(&app, &id, &room).await?.into_response()),
    }
}

/// The rooms, oldest first.
#[utoipa::path(get, path = "/v1/rooms", params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, body = List<RoomDetails>)))]
pub(super) async fn list(State(app): State<App>, page: Page) -> Answer<List<RoomDetails>> {
    let after = RoomKey(page.after()?.unwrap_or(0));
    let rows = app.store.rooms(after, page.limit).await?;
    let last = rows.last().map(|row| row.key.to_string());
    Ok(List::new(
        rows.iter().map(|row| RoomDetails::new(&app, row)).collect(),
        page.limit,
        last,
    ))
}

/// One room, with who is online.
#[utoipa::path(get, path = "/v1/rooms/{room}", params(("room" = String, Path)), responses((status = 200, body = RoomDetails), (status = 404, description = "room_not_found")))]
pub(super) async fn read(State(app): State<App>, Id(id): Id<RoomId>) -> Answer<Json<RoomDetails>> {
    let row = app.store.room(&id).await?.ok_or_else(no_room)?;
    Ok(Json(RoomDetails::new(&app, &row)))
}

/// Change a room; its members are told.
#[utoipa::path(patch, path = "/v1/rooms/{room}", params(("room" = String, Path)), request_body = NewRoom, responses((status = 200, body = RoomDetails), (status = 404, description = "room_not_found")))]
pub(super) async fn patch(
    State(app): State<App>,
    Id(id): Id<RoomId>,
    Body(room): Body<NewRoom>,
) -> Answer<Json<RoomDetails>> {
    if room.id.as_ref().is_some_and(|given| *given != id) {
        return Err(bad("A room's \"id\" cannot be changed."));
    }
    change(&app, &id, &room).await
}

async fn change(app: &App, id: &RoomId, room: &NewRoom) -> Answer<Json<RoomDetails>> {
    let row = app
        .store
        .patch_room(id, &room.patch(app)?)
        .await?
        .ok_or_else(no_room)?;
    app.hub.set_row(row.clone());
    Ok(Json(RoomDetails::new(app, &row)))
}

/// Close a room now: 4404 to everyone in it.
#[utoipa::path(delete, path = "/v1/rooms/{room}", params(("room" = String, Path)), responses((status = 204), (status = 404, description = "room_not_found")))]
pub(super) async fn delete(State(app): State<App>, Id(id): Id<RoomId>) -> Answer<StatusCode> {
    let row = app.store.delete_room(&id).await?.ok_or_else(no_room)?;
    app.hub.evict(row.key, Ending::RoomClosed);
    Ok(StatusCode::NO_CONTENT)
}

/// Count as activity: extends an idle room's life.
#[utoipa::path(post, path = "/v1/rooms/{room}/touch", params(("room" = String, Path)), responses((status = 200, body = RoomDetails), (status = 404, description = "room_not_found")))]
pub(super) async fn touch(State(app): State<App>, Id(id): Id<RoomId>) -> Answer<Json<RoomDetails>> {
    let row = app.store.touch_room(&id).await?.ok_or_else(no_room)?;
    app.hub.touch(row.key, row.last_active_at);
    Ok(Json(RoomDetails::new(&app, &row)))
}

/// When a room is over if nobody is heard from again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Expiry {
    /// The earlier of idleness and maximum age; null: never.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// Whole seconds until then, rounded down; zero when past.
    seconds_remaining: Option<u64>,
    /// Whether a join would be refused for it now.
    expired: bool,
    /// Seats, grace included.
    online: usize,
}

/// When a room expires.
#[utoipa::path(get, path = "/v1/rooms/{room}/expiry", params(("room" = String, Path)), responses((status = 200, body = Expiry), (status = 404, description = "room_not_found")))]
pub(super) async fn expiry(State(app): State<App>, Id(id): Id<RoomId>) -> Answer<Json<Expiry>> {
    let row = app.store.room(&id).await?.ok_or_else(no_room)?;
    let stored = app
        .store
        .last_activity(row.key)
        .await?
        .unwrap_or(row.last_active_at);
    let (online, heard) = app.hub.online(row.key);
    let is_live = app.hub.is_live(row.key);
    let heard = heard.max(app.hub.departed_last_seen(row.key));
    let now = app.store.clock().now();
    let idle_at = row.idle_at(heard.map_or(stored, |heard| heard.max(stored)));
    let ends_at = row.ends_at();
    let expires_at = idle_at.into_iter().chain(ends_at).min();
    // Whoever is there keeps the room from being idle, whatever the timestamps say (rule R9).
    let is_idle = online == 0 && !is_live && idle_at.is_some_and(|at| at <= now);
    let expired = is_idle || ends_at.is_some_and(|at| at <= now);
    Ok(Json(Expiry {
        expires_at,
        seconds_remaining: expires_at.map(|at| at.saturating_since(now).as_secs()),
        expired,
        online,
    }))
}

/// Something said into a room by the application.
#[derive(Deserialize, ToSchema)]
pub(super) struct Announcement {
    /// 1 to 64 characters.
    event: String,
    /// Any JSON.
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    payload: Option<Box<RawValue>>,
    /// Only to these participants.
    #[schema(value_type = Option<Vec<String>>)]
    to: Option<Vec<ParticipantId>>,
}

/// Send a broadcast to everybody in a room.
#[utoipa::path(post, path = "/v1/rooms/{room}/broadcast", params(("room" = String, Path)), request_body = Announcement, responses((status = 202), (status = 404, description = "room_not_found")))]
pub(super) async fn broadcast(
    State(app): State<App>,
    Id(id): Id<RoomId>,
    Body(said): Body<Announcement>,
) -> Answer<Response> {
    if !(1..=64).contains(&said.event.chars().count()) {
        return Err(bad("\"event\" needs 1 to 64 characters."));
    }
    let payload = match said.payload {
        Some(payload) if payload.get().len() > app.config.limits.message_bytes => {
            return Err(bad("\"payload\" is too large."));
        }
        Some(payload) => payload,
        None => RawValue::NULL.to_owned(),
    };
    let row = app.store.room(&id).await?.ok_or_else(no_room)?;
    app.hub.announce(row.key, said.event, payload, said.to);
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}

/// A token to be minted.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewToken {
    /// The user.
    #[schema(value_type = String)]
    sub: UserId,
    /// The display name.
    #[schema(value_type = Option<String>)]
    name: Option<DisplayName>,
    /// How long it is valid; an hour when absent.
    ttl_seconds: Option<u64>,
}

/// Mint an access token for a room.
#[utoipa::path(post, path = "/v1/rooms/{room}/tokens", params(("room" = String, Path)), request_body = NewToken, responses((status = 201), (status = 409, description = "tokens_not_configured")))]
pub(super) async fn mint(
    State(app): State<App>,
    Id(id): Id<RoomId>,
    Body(wish): Body<NewToken>,
) -> Answer<Response> {
    let ttl = wish.ttl_seconds.unwrap_or(3600);
    if ttl == 0 {
        return Err(bad("\"ttl_seconds\" must be at least 1."));
    }
    check_seconds("ttl_seconds", ttl)?;
    let expires_at = app.clock.now() + Duration::from_secs(ttl);
    let token = app
        .admission
        .tokens()
        .mint(&id, &wish.sub, wish.name.as_ref(), expires_at)?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"token": token, "expires_at": expires_at})),
    )
        .into_response())
}
