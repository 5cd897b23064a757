//! Statements on `participants`, one function each. Joins are in `admission`, heartbeats in `flush`.

use std::{collections::HashSet, time::Duration};

use rollcall_protocol::{ParticipantId, Timestamp};
use sqlx::{PgConnection, postgres::PgRow};

use super::{
    rooms,
    rows::{self, failed, moment},
    transaction::{scalar, statement},
};
use crate::store::{
    ParticipantKey, ParticipantRow, RoomKey, StoreError, columns::participant_columns,
};

/// Finds a participant of a room.
pub(super) async fn find(
    db: &mut PgConnection,
    room: RoomKey,
    id: ParticipantId,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = statement(concat!(
        "SELECT ",
        participant_columns!(""),
        " FROM participants WHERE id = $1 AND room_key = $2"
    ))
    .bind(id.0)
    .bind(room.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// A page of a room's participants.
pub(super) async fn list(
    db: &mut PgConnection,
    room: RoomKey,
    after: ParticipantKey,
    limit: u32,
) -> Result<Vec<ParticipantRow>, StoreError> {
    let page = statement(concat!(
        "SELECT ",
        participant_columns!(""),
        " FROM participants WHERE room_key = $1 AND key > $2 ORDER BY key LIMIT $3"
    ))
    .bind(room.0)
    .bind(after.0)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    page.iter().map(|row| rows::participant(row, 0)).collect()
}

/// Those of the participants that nobody else has locked, locked until the transaction ends.
pub(super) async fn lock_free(
    db: &mut PgConnection,
    keys: &[i64],
) -> Result<HashSet<i64>, StoreError> {
    let free: Vec<i64> = scalar(
        "SELECT key FROM participants WHERE key = ANY ($1) ORDER BY key FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind(keys)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(free.into_iter().collect())
}

/// Makes a participant leave for good, one removal on.
pub(super) async fn remove(
    db: &mut PgConnection,
    now: Timestamp,
    left_at: Timestamp,
    room: RoomKey,
    id: ParticipantId,
    bar: bool,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = statement(concat!(
        "UPDATE participants SET is_active = false, removals = removals + 1,
                left_at = CASE WHEN keeps_last_seen THEN greatest($5, last_seen_at) ELSE last_seen_at END,
                barred_at = CASE WHEN $4 THEN coalesce(barred_at, $3) ELSE barred_at END
         WHERE id = $1 AND room_key = $2 RETURNING ",
        participant_columns!("")
    ))
    .bind(id.0)
    .bind(room.0)
    .bind(moment(now))
    .bind(bar)
    .bind(moment(left_at))
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Lifts the bar.
pub(super) async fn restore(
    db: &mut PgConnection,
    room: RoomKey,
    id: ParticipantId,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = statement(concat!(
        "UPDATE participants SET barred_at = NULL WHERE id = $1 AND room_key = $2 RETURNING ",
        participant_columns!("")
    ))
    .bind(id.0)
    .bind(room.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Deletes participants who left long ago; see [`crate::store::Store::purge_departed`]. Under their rooms' locks, where a
/// join of the same participant comes wholly before or wholly after; looked for again there, in a statement that begins
/// after the locks were taken.
pub(super) async fn purge_departed(
    db: &mut PgConnection,
    now: Timestamp,
    keep: Duration,
    limit: u32,
) -> Result<u64, StoreError> {
    let rooms: Vec<i64> = scalar(
        "SELECT DISTINCT old.room_key
         FROM (SELECT room_key FROM participants
               WHERE NOT is_active AND barred_at IS NULL AND left_at < $1 ORDER BY key LIMIT $2) AS old",
    )
    .bind(moment(now - keep))
    .bind(i64::from(limit))
    .fetch_all(&mut *db)
    .await
    .map_err(failed)?;
    let free = Vec::from_iter(rooms::lock_free(db, &rooms).await?);
    // Their rooms stay as lately active as they were.
    let purged: i64 = scalar(
        "WITH old AS MATERIALIZED (
             SELECT key, room_key, last_seen_at FROM participants
             WHERE room_key = ANY ($3) AND NOT is_active AND barred_at IS NULL AND left_at < $1
             ORDER BY key LIMIT $2 FOR UPDATE SKIP LOCKED
         ), advanced AS (
             UPDATE rooms SET last_active_at = latest.at
             FROM (SELECT room_key, max(last_seen_at) AS at FROM old GROUP BY room_key) AS latest
             WHERE rooms.key = latest.room_key AND rooms.last_active_at < latest.at
         ), deleted AS (
             DELETE FROM participants USING old WHERE participants.key = old.key RETURNING 1
         )
         SELECT count(*) FROM deleted",
    )
    .bind(moment(now - keep))
    .bind(i64::from(limit))
    .bind(free)
    .fetch_one(db)
    .await
    .map_err(failed)?;
    Ok(purged.unsigned_abs())
}

fn one(row: Option<&PgRow>) -> Result<Option<ParticipantRow>, StoreError> {
    row.map(|row| rows::participant(row, 0)).transpose()
}
