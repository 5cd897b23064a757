//! Everyone who ever joined a room, and taking somebody out.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
};
use rollcall_protocol::{DisplayName, ParticipantId, RoomId, Timestamp, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Answer, Id, Ids, List, Page, bad, no_participant, no_room};
use crate::{
    http::App,
    store::{ParticipantKey, ParticipantRow},
};

/// A participant, present or departed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Participant {
    #[schema(value_type = String)]
    id: ParticipantId,
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    #[schema(value_type = String)]
    name: DisplayName,
    /// `invite` or `token`.
    access_method: &'static str,
    /// Has a seat now, grace included.
    online: bool,
    #[schema(value_type = String)]
    joined_at: Timestamp,
    /// Null where it is not kept.
    #[schema(value_type = Option<String>)]
    last_seen_at: Option<Timestamp>,
    /// Null while they have not left, and where it is not kept.
    #[schema(value_type = Option<String>)]
    left_at: Option<Timestamp>,
    /// Barred from coming back.
    removed: bool,
}

impl Participant {
    /// What memory knows is newer than what the store does.
    fn new(app: &App, row: ParticipantRow) -> Self {
        let heard = app.hub.last_seen_at(row.room_key, row.id);
        let online = heard.is_some();
        Self {
            id: row.id,
            user_id: row.user_id,
            name: row.name,
            access_method: row.access_method.as_str(),
            online,
            joined_at: row.joined_at,
            last_seen_at: row
                .keeps_last_seen
                .then(|| heard.map_or(row.last_seen_at, |heard| heard.max(row.last_seen_at))),
            left_at: row.left_at.filter(|_| row.keeps_last_seen && !online),
            removed: row.is_barred,
        }
    }
}

/// Everyone who ever joined, in the order they did.
#[utoipa::path(get, path = "/v1/rooms/{room}/participants", params(("room" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, body = List<Participant>), (status = 404, description = "room_not_found")))]
pub(super) async fn list(
    State(app): State<App>,
    Id(room): Id<RoomId>,
    page: Page,
) -> Answer<List<Participant>> {
    let row = app.store.room(&room).await?.ok_or_else(no_room)?;
    let after = ParticipantKey(page.after()?.unwrap_or(0));
    // Who left a moment ago is shown as departed, not as of the last flush. A store that cannot take it answers below.
    let _ = app.flusher.flush().await;
    let rows = app.store.participants(row.key, after, page.limit).await?;
    let last = rows.last().map(|row| row.key.to_string());
    Ok(List::new(
        rows.into_iter()
            .map(|row| Participant::new(&app, row))
            .collect(),
        page.limit,
        last,
    ))
}

/// Take somebody out: 4403, no resume, barred unless `bar=false`.
#[utoipa::path(delete, path = "/v1/rooms/{room}/participants/{participant}", params(("room" = String, Path), ("participant" = String, Path), ("bar" = Option<bool>, Query), ("revoke_invite" = Option<bool>, Query)), responses((status = 204), (status = 404, description = "participant_not_found")))]
pub(super) async fn remove(
    State(app): State<App>,
    Ids(room, id): Ids<RoomId, ParticipantId>,
    uri: Uri,
) -> Answer<StatusCode> {
    let bar = flag(&uri, "bar", true)?;
    let revoke_invite = flag(&uri, "revoke_invite", false)?;
    let row = app.store.room(&room).await?.ok_or_else(no_room)?;
    let removed = app
        .store
        .remove_participant(row.key, id, bar, revoke_invite)
        .await?
        .ok_or_else(no_participant)?;
    app.hub.remove(row.key, id, removed.removals);
    if let Some(user_id) = &removed.user_id {
        app.hub.dismiss(row.key, user_id);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Lift the bar.
#[utoipa::path(post, path = "/v1/rooms/{room}/participants/{participant}/restore", params(("room" = String, Path), ("participant" = String, Path)), responses((status = 200, body = Participant), (status = 404, description = "participant_not_found")))]
pub(super) async fn restore(
    State(app): State<App>,
    Ids(room, id): Ids<RoomId, ParticipantId>,
) -> Answer<Json<Participant>> {
    let row = app.store.room(&room).await?.ok_or_else(no_room)?;
    let restored = app
        .store
        .restore_participant(row.key, id)
        .await?
        .ok_or_else(no_participant)?;
    Ok(Json(Participant::new(&app, restored)))
}

fn flag(uri: &Uri, name: &str, default: bool) -> Answer<bool> {
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    match pairs.find(|(key, _)| key == name) {
        None => Ok(default),
        Some((_, value)) => value
            .parse()
            .map_err(|_| bad(format!("\"{name}\" must be true or false."))),
    }
}
