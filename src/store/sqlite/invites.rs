//! Statements on `invites`, one function each.

use std::time::Duration;

use rollcall_protocol::{InviteId, Timestamp};
use sqlx::{SqliteConnection, query, sqlite::SqliteRow};

use super::rows::{self, before, failed};
use crate::store::{
    InviteKey, InviteRow, NewInvite, RoomKey, RoomRow, StoreError,
    columns::{broken, invite_columns},
};

/// Inserts an invite to a room.
pub(super) async fn create(
    db: &mut SqliteConnection,
    now: Timestamp,
    room: &RoomRow,
    invite: &NewInvite,
) -> Result<InviteRow, StoreError> {
    let row = query(concat!(
        "INSERT INTO invites (id, token_hash, room_key, room_id, created_at, expires_at, max_uses)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING ",
        invite_columns!("")
    ))
    .bind(invite.id.0.to_string())
    .bind(invite.token_hash.to_vec())
    .bind(room.key.0)
    .bind(room.id.as_str())
    .bind(now.to_string())
    .bind(
        invite
            .expires_in
            .map(|lifetime| (now + lifetime).to_string()),
    )
    .bind(invite.max_uses)
    .fetch_one(db)
    .await
    .map_err(failed)?;
    rows::invite(&row, 0)
}

/// A page of a room's invites.
pub(super) async fn list(
    db: &mut SqliteConnection,
    room: RoomKey,
    after: InviteKey,
    limit: u32,
) -> Result<Vec<InviteRow>, StoreError> {
    let page = query(concat!(
        "SELECT ",
        invite_columns!(""),
        " FROM invites WHERE room_key = ?1 AND key > ?2 ORDER BY key LIMIT ?3"
    ))
    .bind(room.0)
    .bind(after.0)
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    page.iter().map(|row| rows::invite(row, 0)).collect()
}

/// Counts one more use. The schema refuses one too many.
pub(super) async fn count_use(db: &mut SqliteConnection, key: InviteKey) -> Result<(), StoreError> {
    let done = query("UPDATE invites SET uses = uses + 1 WHERE key = ?1")
        .bind(key.0)
        .execute(db)
        .await
        .map_err(failed)?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(broken("an invite that was found is not there"))
    }
}

/// Revokes an invite by its id; the first time counts.
pub(super) async fn revoke(
    db: &mut SqliteConnection,
    now: Timestamp,
    id: InviteId,
) -> Result<Option<InviteRow>, StoreError> {
    let row = query(concat!(
        "UPDATE invites SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1 RETURNING ",
        invite_columns!("")
    ))
    .bind(id.0.to_string())
    .bind(now.to_string())
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    one(row.as_ref())
}

/// Revokes an invite by its key.
pub(super) async fn revoke_by_key(
    db: &mut SqliteConnection,
    now: Timestamp,
    key: InviteKey,
) -> Result<(), StoreError> {
    query("UPDATE invites SET revoked_at = ?2 WHERE key = ?1 AND revoked_at IS NULL")
        .bind(key.0)
        .bind(now.to_string())
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Gives invites whose room other software deleted an end: now, for when it was is not known.
pub(super) async fn adopt(
    db: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<(), StoreError> {
    query(
        "UPDATE invites SET room_ended_at = ?1, room_end_cause = 'closed'
         WHERE key IN (SELECT key FROM invites WHERE room_key IS NULL AND room_ended_at IS NULL LIMIT ?2)",
    )
    .bind(now.to_string())
    .bind(limit)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Deletes invites whose room ended longer than `keep` ago.
pub(super) async fn purge(
    db: &mut SqliteConnection,
    now: Timestamp,
    keep: Duration,
    limit: u32,
) -> Result<u64, StoreError> {
    let done = query(
        "DELETE FROM invites
         WHERE key IN (SELECT key FROM invites WHERE room_key IS NULL AND room_ended_at < ?1 LIMIT ?2)",
    )
    .bind(before(now, keep).to_string())
    .bind(limit)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(done.rows_affected())
}

fn one(row: Option<&SqliteRow>) -> Result<Option<InviteRow>, StoreError> {
    row.map(|row| rows::invite(row, 0)).transpose()
}
