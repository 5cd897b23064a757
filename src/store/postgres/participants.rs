//! Statements on `participants`, one function each. Joins are in `admission`, heartbeats in `flush`.

use std::collections::HashSet;

use rollcall_protocol::{ParticipantId, Timestamp};
use sqlx::{PgConnection, postgres::PgRow};

use super::{
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
    room: RoomKey,
    id: ParticipantId,
    bar: bool,
) -> Result<Option<ParticipantRow>, StoreError> {
    let row = statement(concat!(
        "UPDATE participants SET is_active = false, left_at = greatest($3, last_seen_at), removals = removals + 1,
                barred_at = CASE WHEN $4 THEN coalesce(barred_at, $3) ELSE barred_at END
         WHERE id = $1 AND room_key = $2 RETURNING ",
        participant_columns!("")
    ))
    .bind(id.0)
    .bind(room.0)
    .bind(moment(now))
    .bind(bar)
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

fn one(row: Option<&PgRow>) -> Result<Option<ParticipantRow>, StoreError> {
    row.map(|row| rows::participant(row, 0)).transpose()
}
