//! Statements on `participants`, one function each.

use std::{collections::BTreeMap, time::Duration};

use rollcall_protocol::{DisplayName, ParticipantId, Timestamp, UserId};
use sqlx::{SqliteConnection, query, sqlite::SqliteRow};

use super::{
    rooms,
    rows::{self, before, failed, get},
};
use crate::store::{
    JoinParticipant, JoinWrite, ParticipantKey, ParticipantRow, RoomKey, StoreError,
    columns::{broken, participant_columns},
};

/// Finds a participant of a room.
pub(super) async fn find(
    db: &mut SqliteConnection,
    room: RoomKey,
    id: ParticipantId,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = query(concat!(
        "SELECT ",
        participant_columns!(""),
        " FROM participants WHERE id = ?1 AND room_key = ?2"
    ))
    .bind(id.0.to_string())
    .bind(room.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// A page of a room's participants.
pub(super) async fn list(
    db: &mut SqliteConnection,
    room: RoomKey,
    after: ParticipantKey,
    limit: u32,
) -> Result<Vec<ParticipantRow>, StoreError> {
    let page = query(concat!(
        "SELECT ",
        participant_columns!(""),
        " FROM participants WHERE room_key = ?1 AND key > ?2 ORDER BY key LIMIT ?3"
    ))
    .bind(room.0)
    .bind(after.0)
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    page.iter().map(|row| rows::participant(row, 0)).collect()
}

/// Writes one admitted join. `None`: the returning participant has no row in this room.
pub(super) async fn join(
    db: &mut SqliteConnection,
    now: Timestamp,
    seen_at: Timestamp,
    room: RoomKey,
    write: &JoinWrite,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = match &write.participant {
        JoinParticipant::Returning { key, name } => {
            query(concat!(
                "UPDATE participants SET is_active = 1, left_at = NULL, generation = generation + 1,
                        keeps_last_seen = coalesce(?5, keeps_last_seen), name = coalesce(?4, name),
                        last_seen_at = CASE WHEN coalesce(?5, keeps_last_seen) THEN max(last_seen_at, ?3) ELSE joined_at END
                 WHERE key = ?1 AND room_key = ?2 RETURNING ",
                participant_columns!("")
            ))
            .bind(key.0)
            .bind(room.0)
            .bind(seen_at.to_string())
            .bind(name.as_ref().map(DisplayName::as_str))
            .bind(write.keeps_last_seen)
            .fetch_optional(db)
            .await
        }
        JoinParticipant::New { id, user_id, name, access_method, invite } => {
            let keeps_last_seen = write.keeps_last_seen.unwrap_or(true);
            query(concat!(
                "INSERT INTO participants (id, room_key, user_id, name, access_method, invite_key, client_hash, is_active,
                        joined_at, last_seen_at, keeps_last_seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9, ?10) RETURNING ",
                participant_columns!("")
            ))
            .bind(id.0.to_string())
            .bind(room.0)
            .bind(user_id.as_ref().map(UserId::as_str))
            .bind(name.as_str())
            .bind(access_method.as_str())
            .bind(invite.map(|(key, _)| key.0))
            .bind(invite.and_then(|(_, client)| client).map(Vec::from))
            .bind(now.to_string())
            .bind(if keeps_last_seen { seen_at } else { now }.to_string())
            .bind(keeps_last_seen)
            .fetch_optional(db)
            .await
        }
    };
    one(row.map_err(failed)?.as_ref())
}

/// Makes a participant leave for good, one removal on.
pub(super) async fn remove(
    db: &mut SqliteConnection,
    now: Timestamp,
    left_at: Timestamp,
    key: ParticipantKey,
    bar: bool,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = query(concat!(
        "UPDATE participants SET is_active = 0, removals = removals + 1,
                left_at = CASE WHEN keeps_last_seen THEN max(?4, last_seen_at) ELSE last_seen_at END,
                barred_at = CASE WHEN ?3 THEN coalesce(barred_at, ?2) ELSE barred_at END
         WHERE key = ?1 RETURNING ",
        participant_columns!("")
    ))
    .bind(key.0)
    .bind(now.to_string())
    .bind(bar)
    .bind(left_at.to_string())
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Lifts the bar.
pub(super) async fn restore(
    db: &mut SqliteConnection,
    room: RoomKey,
    id: ParticipantId,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = query(concat!(
        "UPDATE participants SET barred_at = NULL WHERE id = ?1 AND room_key = ?2 RETURNING ",
        participant_columns!("")
    ))
    .bind(id.0.to_string())
    .bind(room.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Deletes participants who left long ago, by the oldest first; see [`crate::store::Store::purge_departed`].
pub(super) async fn purge_departed(
    db: &mut SqliteConnection,
    now: Timestamp,
    keep: Duration,
    limit: u32,
) -> Result<u64, StoreError> {
    let old = query(
        "SELECT key, room_key, last_seen_at FROM participants
         WHERE NOT is_active AND barred_at IS NULL AND left_at < ?1 ORDER BY key LIMIT ?2",
    )
    .bind(before(now, keep).to_string())
    .bind(limit)
    .fetch_all(&mut *db)
    .await
    .map_err(failed)?;
    let mut keys: Vec<i64> = Vec::with_capacity(old.len());
    let mut rooms: BTreeMap<RoomKey, Timestamp> = BTreeMap::new();
    for row in &old {
        keys.push(get(row, 0)?);
        let seen: Timestamp = rows::parsed(row, 2)?;
        let latest = rooms.entry(RoomKey(get(row, 1)?)).or_insert(seen);
        *latest = seen.max(*latest);
    }
    // Their rooms stay as lately active as they were.
    rooms::advance(db, &Vec::from_iter(rooms)).await?;
    query("DELETE FROM participants WHERE key IN (SELECT value FROM json_each(?1))")
        .bind(serde_json::to_string(&keys).map_err(broken)?)
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(keys.len() as u64)
}

fn one(row: Option<&SqliteRow>) -> Result<Option<ParticipantRow>, StoreError> {
    row.map(|row| rows::participant(row, 0)).transpose()
}
