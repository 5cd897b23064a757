//! Statements on `participants`, one function each.

use rollcall_protocol::{DisplayName, ParticipantId, Timestamp, UserId};
use sqlx::{SqliteConnection, query, sqlite::SqliteRow};

use super::rows::{self, failed};
use crate::store::{
    JoinParticipant, ParticipantKey, ParticipantRow, RoomKey, StoreError,
    columns::participant_columns,
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
    room: RoomKey,
    who: &JoinParticipant,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = match who {
        JoinParticipant::Returning { key, name } => {
            query(concat!(
                "UPDATE participants SET is_active = 1, left_at = NULL, generation = generation + 1,
                        last_seen_at = max(last_seen_at, ?3), name = coalesce(?4, name)
                 WHERE key = ?1 AND room_key = ?2 RETURNING ",
                participant_columns!("")
            ))
            .bind(key.0)
            .bind(room.0)
            .bind(now.to_string())
            .bind(name.as_ref().map(DisplayName::as_str))
            .fetch_optional(db)
            .await
        }
        JoinParticipant::New { id, user_id, name, access_method, invite } => {
            query(concat!(
                "INSERT INTO participants (id, room_key, user_id, name, access_method, invite_key, client_hash, is_active,
                        joined_at, last_seen_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?8) RETURNING ",
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
    key: ParticipantKey,
    bar: bool,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = query(concat!(
        "UPDATE participants SET is_active = 0, left_at = max(?2, last_seen_at), removals = removals + 1,
                barred_at = CASE WHEN ?3 THEN coalesce(barred_at, ?2) ELSE barred_at END
         WHERE key = ?1 RETURNING ",
        participant_columns!("")
    ))
    .bind(key.0)
    .bind(now.to_string())
    .bind(bar)
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

fn one(row: Option<&SqliteRow>) -> Result<Option<ParticipantRow>, StoreError> {
    row.map(|row| rows::participant(row, 0)).transpose()
}
