//! Which process serves the database, what the one before left, and the key they share.
//!
//! Exclusive use is a lock of the operating system on a file beside the database: a process that is killed frees it at
//! once, and no clock is asked.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use rollcall_protocol::Timestamp;
use sqlx::{SqliteConnection, query, query_scalar};

use super::rows::{self, before, failed, get};
use crate::store::{
    NodeTerms, Restored, SavedSeat, StoreError,
    columns::{
        PARTICIPANT_WIDTH, broken, duration, millis, participant_columns, room_columns, unavailable,
    },
};

/// Rows of `nodes` kept, for whoever wonders when the server was restarted.
const NODES_KEPT: i64 = 100;
const SIGNING_KEY: &str = "resume";

/// Takes the lock; `None` when another process has it. Dropping the file frees it.
pub(super) fn lock(path: &Path) -> Result<Option<File>, StoreError> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

/// Enters this node and settles what the previous one left. The previous nodes are dead: this one has the lock.
pub(super) async fn take_over(
    db: &mut SqliteConnection,
    now: Timestamp,
    terms: NodeTerms,
) -> Result<(i64, Restored), StoreError> {
    let cutoff = previous_flush(db)
        .await?
        .map(|(flushed, precision)| before(flushed, terms.heartbeat_timeout + precision));
    settle(db, cutoff).await?;
    let node = query_scalar(
        "INSERT INTO nodes (started_at, last_seen_precision_ms) VALUES (?1, ?2) RETURNING id",
    )
    .bind(now.to_string())
    .bind(millis(terms.last_seen_precision.step()))
    .fetch_one(&mut *db)
    .await
    .map_err(failed)?;
    query("UPDATE nodes SET stopped_at = ?1 WHERE stopped_at IS NULL AND id <> ?2")
        .bind(now.to_string())
        .bind(node)
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    query("DELETE FROM nodes WHERE id <= ?1 - ?2")
        .bind(node)
        .bind(NODES_KEPT)
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    Ok((node, restored(db).await?))
}

/// Moves a node's `flushed_at`; a process that has not taken the database over has none.
pub(super) async fn flushed(
    db: &mut SqliteConnection,
    node: Option<i64>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Some(node) = node else { return Ok(()) };
    query("UPDATE nodes SET flushed_at = ?2 WHERE id = ?1")
        .bind(node)
        .bind(at.to_string())
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Marks a node as stopped.
pub(super) async fn stopped(
    db: &mut SqliteConnection,
    node: i64,
    at: Timestamp,
) -> Result<(), StoreError> {
    query("UPDATE nodes SET stopped_at = ?2 WHERE id = ?1")
        .bind(node)
        .bind(at.to_string())
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// The key that signs resume tokens, if it was made.
pub(super) async fn signing_key(db: &mut SqliteConnection) -> Result<Option<[u8; 32]>, StoreError> {
    let secret: Option<Vec<u8>> = query_scalar("SELECT secret FROM keys WHERE purpose = ?1")
        .bind(SIGNING_KEY)
        .fetch_optional(db)
        .await
        .map_err(failed)?;
    let fixed = |secret: Vec<u8>| {
        secret
            .try_into()
            .map_err(|_| broken("the signing key is not 32 bytes long"))
    };
    secret.map(fixed).transpose()
}

/// Makes the key, unless somebody did.
pub(super) async fn make_signing_key(
    db: &mut SqliteConnection,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(broken)?;
    query("INSERT INTO keys (purpose, secret, created_at) VALUES (?1, ?2, ?3) ON CONFLICT (purpose) DO NOTHING")
        .bind(SIGNING_KEY)
        .bind(secret.to_vec())
        .bind(now.to_string())
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// The last flush there was, and the precision of the node that did it. A node that never came to one, because it crashed
/// early, does not move it: what it had restored is restored again. If nobody ever flushed, everything since the first
/// start counts.
async fn previous_flush(
    db: &mut SqliteConnection,
) -> Result<Option<(Timestamp, Duration)>, StoreError> {
    let row = query(
        "SELECT coalesce(flushed_at, started_at), last_seen_precision_ms FROM nodes
         ORDER BY flushed_at IS NULL, CASE WHEN flushed_at IS NULL THEN id ELSE -id END LIMIT 1",
    )
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    let read = |row| {
        let precision = duration(get(&row, 1)?)?.unwrap_or_default();
        Ok((rows::parsed(&row, 0)?, precision))
    };
    row.map(read).transpose()
}

/// Active participants that nobody heard of lately left when they were last seen; their states end. Of whom it is not kept,
/// nothing says that they were not there: a node ends the seats of those who are not.
async fn settle(db: &mut SqliteConnection, cutoff: Option<Timestamp>) -> Result<(), StoreError> {
    query(
        "UPDATE participants SET is_active = 0, left_at = last_seen_at
         WHERE is_active AND (?1 IS NULL OR (last_seen_at <= ?1 AND keeps_last_seen))",
    )
    .bind(cutoff.map(|cutoff| cutoff.to_string()))
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    query(
        "DELETE FROM participant_states
         WHERE NOT (SELECT is_active FROM participants WHERE key = participant_key)",
    )
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Who is still active, and where.
async fn restored(db: &mut SqliteConnection) -> Result<Restored, StoreError> {
    let seats = query(concat!(
        "SELECT ",
        participant_columns!("p."),
        ", s.state FROM participants AS p LEFT JOIN participant_states AS s ON s.participant_key = p.key
         WHERE p.is_active ORDER BY p.key"
    ))
    .fetch_all(&mut *db)
    .await
    .map_err(failed)?;
    let rooms = query(concat!(
        "SELECT ",
        room_columns!(""),
        " FROM rooms WHERE key IN (SELECT room_key FROM participants WHERE is_active) ORDER BY key"
    ))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let seat = |row| {
        Ok(SavedSeat {
            participant: rows::participant(row, 0)?,
            state: get(row, PARTICIPANT_WIDTH)?,
        })
    };
    Ok(Restored {
        rooms: rooms
            .iter()
            .map(|row| rows::room(row, 0))
            .collect::<Result<_, _>>()?,
        seats: seats.iter().map(seat).collect::<Result<_, StoreError>>()?,
    })
}
