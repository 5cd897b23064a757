//! Statements on `invites`, one function each. Uses are counted in `admission`.

use std::time::Duration;

use rollcall_protocol::{InviteId, Timestamp};
use sqlx::{PgConnection, postgres::PgRow};

use super::{
    rows::{self, failed, moment},
    transaction::statement,
};
use crate::store::{
    InviteKey, InviteRow, NewInvite, RoomKey, RoomRow, StoreError, columns::invite_columns,
};

/// Inserts an invite to a room.
pub(super) async fn create(
    db: &mut PgConnection,
    now: Timestamp,
    room: &RoomRow,
    invite: &NewInvite,
) -> Result<InviteRow, StoreError> {
    let row = statement(concat!(
        "WITH made AS (
             INSERT INTO invites (id, token_hash, room_key, room_id, created_at, expires_at, max_uses)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *
         )
         SELECT ",
        invite_columns!(""),
        " FROM (SELECT *, NULL::timestamptz AS room_ended_at, NULL::text AS room_end_cause, NULL::bigint AS room_idle_timeout_ms
                FROM made) AS told"
    ))
    .bind(invite.id.0)
    .bind(invite.token_hash.to_vec())
    .bind(room.key.0)
    .bind(room.id.as_str())
    .bind(moment(now))
    .bind(invite.expires_in.map(|lifetime| moment(now + lifetime)))
    .bind(invite.max_uses.map(i64::from))
    .fetch_one(db)
    .await
    .map_err(failed)?;
    rows::invite(&row, 0)
}

/// A page of a room's invites.
pub(super) async fn list(
    db: &mut PgConnection,
    room: RoomKey,
    after: InviteKey,
    limit: u32,
) -> Result<Vec<InviteRow>, StoreError> {
    let page = statement(concat!(
        "SELECT ",
        invite_columns!(""),
        " FROM invites_told WHERE any_room_key = $1 AND key > $2 ORDER BY key LIMIT $3"
    ))
    .bind(room.0)
    .bind(after.0)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    page.iter().map(|row| rows::invite(row, 0)).collect()
}

/// Revokes an invite by its id; the first time counts.
pub(super) async fn revoke(
    db: &mut PgConnection,
    now: Timestamp,
    id: InviteId,
) -> Result<Option<InviteRow>, StoreError> {
    statement("UPDATE invites SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1")
        .bind(id.0)
        .bind(moment(now))
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    let row = statement(concat!(
        "SELECT ",
        invite_columns!(""),
        " FROM invites_told WHERE id = $1"
    ))
    .bind(id.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    row.map(|row: PgRow| rows::invite(&row, 0)).transpose()
}

/// Revokes an invite by its key.
pub(super) async fn revoke_by_key(
    db: &mut PgConnection,
    now: Timestamp,
    key: InviteKey,
) -> Result<(), StoreError> {
    statement("UPDATE invites SET revoked_at = $2 WHERE key = $1 AND revoked_at IS NULL")
        .bind(key.0)
        .bind(moment(now))
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Ends of rooms that are purged for each invite that may be: rooms without an invite have one too, and nobody waits for
/// these rows.
const ENDS_AN_INVITE: i64 = 100;

/// Deletes invites whose room ended longer than `keep` ago, and then what was kept of such rooms for their sake.
pub(super) async fn purge(
    db: &mut PgConnection,
    now: Timestamp,
    keep: Duration,
    limit: u32,
) -> Result<u64, StoreError> {
    let done = statement(
        "WITH old AS MATERIALIZED (SELECT room_key FROM room_ends WHERE ended_at < $1)
         DELETE FROM invites
         WHERE key IN (SELECT i.key FROM old JOIN invites AS i ON i.room_key = old.room_key
                       ORDER BY i.key LIMIT $2 FOR UPDATE OF i SKIP LOCKED)",
    )
    .bind(moment(now - keep))
    .bind(i64::from(limit))
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    statement(
        "DELETE FROM room_ends
         WHERE room_key IN (SELECT room_key FROM room_ends AS e
                            WHERE ended_at < $1 AND NOT EXISTS (SELECT FROM invites AS i WHERE i.room_key = e.room_key)
                            ORDER BY room_key LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(moment(now - keep))
    .bind(i64::from(limit) * ENDS_AN_INVITE)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(done.rows_affected())
}
