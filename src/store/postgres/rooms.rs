//! Statements on `rooms`, one function each, and what ends a room.

use std::collections::HashSet;

use rollcall_protocol::{RoomId, Timestamp};
use sqlx::{PgConnection, postgres::PgRow};

use super::{
    rows::{self, failed, get, millis, moment},
    transaction::{scalar, statement},
};
use crate::store::{
    Counts, Created, RoomKey, RoomPatch, RoomRow, RoomSettings, StoreError,
    columns::{json, on_idle_word, room_columns},
};

/// Inserts a room, unless the id is taken.
pub(super) async fn create(
    db: &mut PgConnection,
    now: Timestamp,
    id: &RoomId,
    settings: &RoomSettings,
) -> Result<Created, StoreError> {
    // Whoever took the id may be gone again by the time it is looked up; the call's limit is the loop's.
    loop {
        if let Some(room) = insert(db, now, id, settings).await? {
            return Ok(Created::New(room));
        }
        if let Some(room) = find(db, id).await? {
            return Ok(Created::Exists(room));
        }
    }
}

async fn insert(
    db: &mut PgConnection,
    now: Timestamp,
    id: &RoomId,
    settings: &RoomSettings,
) -> Result<Option<RoomRow>, StoreError> {
    let row = statement(concat!(
        "INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms, on_idle, max_participants, max_age_ms, metadata)
         VALUES ($1, $2, $2, $3, $4, $5, $6, $7::text::json)
         ON CONFLICT (id) DO NOTHING
         RETURNING ",
        room_columns!("")
    ))
    .bind(id.as_str())
    .bind(moment(now))
    .bind(settings.idle_timeout.map(millis))
    .bind(on_idle_word(settings.on_idle))
    .bind(settings.max_participants.map(i64::from))
    .bind(settings.max_age.map(millis))
    .bind(json(&settings.metadata)?)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Finds a room by the application's id.
pub(super) async fn find(
    db: &mut PgConnection,
    id: &RoomId,
) -> Result<Option<RoomRow>, StoreError> {
    let row = statement(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE id = $1"
    ))
    .bind(id.as_str())
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Finds a room and keeps it from being joined, reaped or changed until the transaction ends.
pub(super) async fn lock(
    db: &mut PgConnection,
    id: &RoomId,
) -> Result<Option<RoomRow>, StoreError> {
    let row = statement(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE id = $1 FOR UPDATE"
    ))
    .bind(id.as_str())
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Keeps an incarnation from being joined, reaped or changed until the transaction ends, if it is there.
pub(super) async fn lock_by_key(db: &mut PgConnection, key: RoomKey) -> Result<(), StoreError> {
    statement("SELECT FROM rooms WHERE key = $1 FOR NO KEY UPDATE")
        .bind(key.0)
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Finds an incarnation.
pub(super) async fn find_by_key(
    db: &mut PgConnection,
    key: RoomKey,
) -> Result<Option<RoomRow>, StoreError> {
    let row = statement(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE key = $1"
    ))
    .bind(key.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// The exact last activity.
pub(super) async fn last_activity(
    db: &mut PgConnection,
    key: RoomKey,
) -> Result<Option<Timestamp>, StoreError> {
    let row = statement(
        "SELECT greatest(last_active_at, (SELECT max(last_seen_at) FROM participants WHERE room_key = rooms.key))
         FROM rooms WHERE key = $1",
    )
    .bind(key.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    row.as_ref().map(|row| rows::timestamp(row, 0)).transpose()
}

/// A page of rooms.
pub(super) async fn list(
    db: &mut PgConnection,
    after: RoomKey,
    limit: u32,
) -> Result<Vec<RoomRow>, StoreError> {
    let page = statement(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE key > $1 ORDER BY key LIMIT $2"
    ))
    .bind(after.0)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    page.iter().map(|row| rows::room(row, 0)).collect()
}

/// Changes settings.
pub(super) async fn patch(
    db: &mut PgConnection,
    id: &RoomId,
    patch: &RoomPatch,
) -> Result<Option<RoomRow>, StoreError> {
    let Some(mut room) = lock(db, id).await? else {
        return Ok(None);
    };
    patch.apply(&mut room.settings);
    let row = statement(concat!(
        "UPDATE rooms SET idle_timeout_ms = $2, on_idle = $3, max_participants = $4, max_age_ms = $5,
                metadata = coalesce($6::text::json, metadata)
         WHERE key = $1 RETURNING ",
        room_columns!("")
    ))
    .bind(room.key.0)
    .bind(room.settings.idle_timeout.map(millis))
    .bind(on_idle_word(room.settings.on_idle))
    .bind(room.settings.max_participants.map(i64::from))
    .bind(room.settings.max_age.map(millis))
    .bind(patch.metadata.as_ref().map(json).transpose()?)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Says that a room is active now. A clock that was set back does not take life away.
pub(super) async fn touch(
    db: &mut PgConnection,
    now: Timestamp,
    id: &RoomId,
) -> Result<Option<RoomRow>, StoreError> {
    let row = statement(concat!(
        "UPDATE rooms SET last_active_at = greatest(last_active_at, $2) WHERE id = $1 RETURNING ",
        room_columns!("")
    ))
    .bind(id.as_str())
    .bind(moment(now))
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Deletes a room with its participants, because the application closed it; its invites will say so.
pub(super) async fn close(
    db: &mut PgConnection,
    now: Timestamp,
    id: &RoomId,
) -> Result<Option<RoomRow>, StoreError> {
    let Some(room) = lock(db, id).await? else {
        return Ok(None);
    };
    statement(
        "INSERT INTO room_ends (room_key, ended_at, cause) VALUES ($1, $2, 'closed') ON CONFLICT DO NOTHING",
    )
    .bind(room.key.0)
    .bind(moment(now))
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    statement("DELETE FROM rooms WHERE key = $1")
        .bind(room.key.0)
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(Some(room))
}

/// Advances the coarse last activity of those rooms that are behind; `keys` in order, which is the order of locks.
pub(super) async fn advance(
    db: &mut PgConnection,
    rooms: &[(RoomKey, Timestamp)],
) -> Result<(), StoreError> {
    let (keys, times): (Vec<_>, Vec<_>) =
        rooms.iter().map(|(key, at)| (key.0, moment(*at))).unzip();
    statement(
        "UPDATE rooms SET last_active_at = active.at
         FROM unnest($1::bigint[], $2::timestamptz[]) AS active (key, at)
         WHERE rooms.key = active.key AND rooms.last_active_at < active.at",
    )
    .bind(keys)
    .bind(times)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Those of the rooms that nobody else has locked, locked until the transaction ends.
pub(super) async fn lock_free(
    db: &mut PgConnection,
    keys: &[i64],
) -> Result<HashSet<i64>, StoreError> {
    let free: Vec<i64> = scalar(
        "SELECT key FROM rooms WHERE key = ANY ($1) ORDER BY key FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind(keys)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(free.into_iter().collect())
}

/// Row counts.
pub(super) async fn counts(db: &mut PgConnection) -> Result<Counts, StoreError> {
    let row = statement(
        "SELECT (SELECT count(*) FROM rooms), (SELECT count(*) FROM participants), (SELECT count(*) FROM invites)",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let count = |at| get::<i64>(&row, at).map(i64::unsigned_abs);
    Ok(Counts {
        rooms: count(0)?,
        participants: count(1)?,
        invites: count(2)?,
    })
}

fn one(row: Option<&PgRow>) -> Result<Option<RoomRow>, StoreError> {
    row.map(|row| rows::room(row, 0)).transpose()
}
