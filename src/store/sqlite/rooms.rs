//! Statements on `rooms`, one function each, and what ends a room.

use rollcall_protocol::{RoomId, Timestamp};
use sqlx::{SqliteConnection, query, query_scalar, sqlite::SqliteRow};

use super::rows::{self, failed};
use crate::store::{
    Counts, Created, RoomEndCause, RoomKey, RoomPatch, RoomRow, RoomSettings, StoreError,
    columns::{broken, json, millis, on_idle_word, room_columns},
};

/// Inserts a room, unless the id is taken.
pub(super) async fn create(
    db: &mut SqliteConnection,
    now: Timestamp,
    id: &RoomId,
    settings: &RoomSettings,
) -> Result<Created, StoreError> {
    if let Some(room) = insert(db, now, id, settings).await? {
        return Ok(Created::New(room));
    }
    match find(db, id).await? {
        Some(room) => Ok(Created::Exists(room)),
        None => Err(broken("a room's id is taken by no room")),
    }
}

/// Inserts a room; `None` if the id is taken.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    now: Timestamp,
    id: &RoomId,
    settings: &RoomSettings,
) -> Result<Option<RoomRow>, StoreError> {
    let row = query(concat!(
        "INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms, on_idle, max_participants, max_age_ms, metadata)
         VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO NOTHING
         RETURNING ",
        room_columns!("")
    ))
    .bind(id.as_str())
    .bind(now.to_string())
    .bind(settings.idle_timeout.map(millis))
    .bind(on_idle_word(settings.on_idle))
    .bind(settings.max_participants)
    .bind(settings.max_age.map(millis))
    .bind(json(&settings.metadata)?)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Finds a room by the application's id.
pub(super) async fn find(
    db: &mut SqliteConnection,
    id: &RoomId,
) -> Result<Option<RoomRow>, StoreError> {
    let row = query(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE id = ?1"
    ))
    .bind(id.as_str())
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Finds an incarnation.
pub(super) async fn find_by_key(
    db: &mut SqliteConnection,
    key: RoomKey,
) -> Result<Option<RoomRow>, StoreError> {
    let row = query(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE key = ?1"
    ))
    .bind(key.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// The exact last activity.
pub(super) async fn last_activity(
    db: &mut SqliteConnection,
    key: RoomKey,
) -> Result<Option<Timestamp>, StoreError> {
    let row = query(
        "SELECT max(last_active_at, coalesce((SELECT max(last_seen_at) FROM participants WHERE room_key = rooms.key), ''))
         FROM rooms WHERE key = ?1",
    )
    .bind(key.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    row.as_ref().map(|row| rows::parsed(row, 0)).transpose()
}

/// A page of rooms.
pub(super) async fn list(
    db: &mut SqliteConnection,
    after: RoomKey,
    limit: u32,
) -> Result<Vec<RoomRow>, StoreError> {
    let page = query(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE key > ?1 ORDER BY key LIMIT ?2"
    ))
    .bind(after.0)
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    page.iter().map(|row| rows::room(row, 0)).collect()
}

/// Changes settings, inside a transaction.
pub(super) async fn patch(
    db: &mut SqliteConnection,
    id: &RoomId,
    patch: &RoomPatch,
) -> Result<Option<RoomRow>, StoreError> {
    let Some(mut room) = find(db, id).await? else {
        return Ok(None);
    };
    patch.apply(&mut room.settings);
    query(
        "UPDATE rooms SET idle_timeout_ms = ?2, on_idle = ?3, max_participants = ?4, max_age_ms = ?5, metadata = ?6
         WHERE key = ?1",
    )
    .bind(room.key.0)
    .bind(room.settings.idle_timeout.map(millis))
    .bind(on_idle_word(room.settings.on_idle))
    .bind(room.settings.max_participants)
    .bind(room.settings.max_age.map(millis))
    .bind(json(&room.settings.metadata)?)
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    find_by_key(db, room.key).await
}

/// Says that a room is active now. A clock that was set back does not take life away.
pub(super) async fn touch(
    db: &mut SqliteConnection,
    now: Timestamp,
    key: RoomKey,
) -> Result<Option<RoomRow>, StoreError> {
    let row = query(concat!(
        "UPDATE rooms SET last_active_at = max(last_active_at, ?2) WHERE key = ?1 RETURNING ",
        room_columns!("")
    ))
    .bind(key.0)
    .bind(now.to_string())
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Deletes rooms with their participants; their invites learn how it ended first, while they still know whose they are.
pub(super) async fn end(
    db: &mut SqliteConnection,
    now: Timestamp,
    ends: &[(RoomKey, RoomEndCause)],
) -> Result<(), StoreError> {
    let ends: Vec<_> = ends
        .iter()
        .map(|(key, cause)| match cause {
            RoomEndCause::Idle(timeout) => (key.0, "idle", Some(millis(*timeout))),
            RoomEndCause::MaxAge => (key.0, "max_age", None),
            RoomEndCause::Closed => (key.0, "closed", None),
        })
        .collect();
    let ends = serde_json::to_string(&ends).map_err(broken)?;
    query(
        "UPDATE invites SET room_ended_at = ?2, room_end_cause = ends.cause, room_idle_timeout_ms = ends.timeout
         FROM (SELECT value ->> 0 AS key, value ->> 1 AS cause, value ->> 2 AS timeout FROM json_each(?1)) AS ends
         WHERE invites.room_key = ends.key AND invites.room_ended_at IS NULL",
    )
    .bind(&ends)
    .bind(now.to_string())
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    query("DELETE FROM rooms WHERE key IN (SELECT value ->> 0 FROM json_each(?1))")
        .bind(&ends)
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Advances the coarse last activity of those rooms that are behind.
pub(super) async fn advance(
    db: &mut SqliteConnection,
    rooms: &[(RoomKey, Timestamp)],
) -> Result<(), StoreError> {
    let rooms: Vec<_> = rooms
        .iter()
        .map(|(key, at)| (key.0, at.to_string()))
        .collect();
    query(
        "UPDATE rooms SET last_active_at = active.at
         FROM (SELECT value ->> 0 AS key, value ->> 1 AS at FROM json_each(?1)) AS active
         WHERE rooms.key = active.key AND rooms.last_active_at < active.at",
    )
    .bind(serde_json::to_string(&rooms).map_err(broken)?)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Row counts.
pub(super) async fn counts(db: &mut SqliteConnection) -> Result<Counts, StoreError> {
    async fn count(db: &mut SqliteConnection, sql: &'static str) -> Result<u64, StoreError> {
        let count: i64 = query_scalar(sql).fetch_one(db).await.map_err(failed)?;
        u64::try_from(count).map_err(broken)
    }
    Ok(Counts {
        rooms: count(db, "SELECT count(*) FROM rooms").await?,
        participants: count(db, "SELECT count(*) FROM participants").await?,
        invites: count(db, "SELECT count(*) FROM invites").await?,
    })
}

fn one(row: Option<&SqliteRow>) -> Result<Option<RoomRow>, StoreError> {
    row.map(|row| rows::room(row, 0)).transpose()
}
