//! Which process serves the database, what the one before left, and the key they share.
//!
//! There is no lock of a session's to hold, for a pooler may sit between. A node is in charge while its row is not
//! stopped; it is replaced when it has stopped or been silent. Every write of a node asks whether it still is in charge, under
//! a table lock that holds off a take-over until it has committed, so that two never write as the one in charge.

use std::time::Duration;

use rollcall_protocol::Timestamp;
use sqlx::PgConnection;

use super::{
    rows::{self, failed, get, millis, moment},
    transaction::{scalar, statement},
};
use crate::store::{
    NodeTerms, Restored, SavedSeat, StoreError,
    columns::{PARTICIPANT_WIDTH, broken, duration, participant_columns, room_columns},
};

/// Rows of `nodes` kept, for whoever wonders when the server was restarted.
const NODES_KEPT: i64 = 100;
const SIGNING_KEY: &str = "resume";

/// The store's now, for a node that is in charge or a process that is none. `manual` stands in for the clock in tests.
///
/// # Errors
/// [`StoreError::Superseded`] if the node is not in charge any more.
pub(super) async fn now(
    db: &mut PgConnection,
    node: Option<i64>,
    manual: Option<Timestamp>,
) -> Result<Timestamp, StoreError> {
    let row = statement(
        "SELECT coalesce($1, date_trunc('milliseconds', clock_timestamp())),
                $2 IS NOT NULL AND NOT EXISTS (SELECT FROM nodes WHERE id = $2 AND stopped_at IS NULL)",
    )
    .bind(manual.map(moment))
    .bind(node)
    .fetch_one(db)
    .await
    .map_err(failed)?;
    match get(&row, 1)? {
        true => Err(StoreError::Superseded),
        false => rows::timestamp(&row, 0),
    }
}

/// Who is in charge, as another process finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charge {
    /// Nobody, or whoever asks.
    Free,
    /// Nobody who has been heard of within its limit.
    Silent,
    /// Another node.
    Taken,
}

/// Who besides `own` is in charge.
pub(super) async fn charge(
    db: &mut PgConnection,
    now: Timestamp,
    own: Option<i64>,
) -> Result<Charge, StoreError> {
    let is_heard: Option<bool> = scalar(
        "SELECT bool_or(coalesce(flushed_at, started_at) + stale_after_ms * interval '1 ms' > $2)
         FROM nodes WHERE stopped_at IS NULL AND id IS DISTINCT FROM $1",
    )
    .bind(own)
    .bind(moment(now))
    .fetch_one(db)
    .await
    .map_err(failed)?;
    Ok(match is_heard {
        None => Charge::Free,
        Some(false) => Charge::Silent,
        Some(true) => Charge::Taken,
    })
}

/// Keeps every other node from writing and from taking over until the transaction ends.
pub(super) async fn lock(db: &mut PgConnection) -> Result<(), StoreError> {
    statement("LOCK TABLE nodes IN EXCLUSIVE MODE")
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Enters this node and settles what the previous one left.
pub(super) async fn take_over(
    db: &mut PgConnection,
    now: Timestamp,
    terms: NodeTerms,
) -> Result<(i64, Restored), StoreError> {
    let cutoff = previous_flush(db)
        .await?
        .map(|(flushed, precision)| flushed - (terms.heartbeat_timeout + precision));
    settle(db, cutoff).await?;
    statement("UPDATE nodes SET stopped_at = $1 WHERE stopped_at IS NULL")
        .bind(moment(now))
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    let node: i64 = scalar(
        "INSERT INTO nodes (started_at, stale_after_ms, settle_ms, seat_silence_ms, last_seen_precision_ms)
         VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(moment(now))
    .bind(millis(terms.stale_after()))
    .bind(millis(terms.settle()))
    .bind(millis(terms.seat_silence()))
    .bind(millis(terms.last_seen_precision.step()))
    .fetch_one(&mut *db)
    .await
    .map_err(failed)?;
    statement("DELETE FROM nodes WHERE id <= $1 - $2")
        .bind(node)
        .bind(NODES_KEPT)
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    Ok((node, restored(db).await?))
}

/// Moves a node's `flushed_at`; a process that has not taken the database over has none.
pub(super) async fn flushed(
    db: &mut PgConnection,
    node: Option<i64>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Some(node) = node else { return Ok(()) };
    statement("UPDATE nodes SET flushed_at = $2 WHERE id = $1")
        .bind(node)
        .bind(moment(at))
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Marks a node as stopped.
pub(super) async fn stopped(
    db: &mut PgConnection,
    node: i64,
    at: Timestamp,
) -> Result<(), StoreError> {
    statement("UPDATE nodes SET stopped_at = $2 WHERE id = $1")
        .bind(node)
        .bind(moment(at))
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// The key that signs resume tokens, if it was made.
pub(super) async fn signing_key(db: &mut PgConnection) -> Result<Option<[u8; 32]>, StoreError> {
    let secret: Option<Vec<u8>> = scalar("SELECT secret FROM keys WHERE purpose = $1")
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
    db: &mut PgConnection,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(broken)?;
    statement("INSERT INTO keys (purpose, secret, created_at) VALUES ($1, $2, $3) ON CONFLICT (purpose) DO NOTHING")
        .bind(SIGNING_KEY)
        .bind(secret.to_vec())
        .bind(moment(now))
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(())
}

/// The last flush there was, and the precision of the node that did it. A node that never came to one, because it crashed
/// early, does not move it: what it had restored is restored again. If nobody ever flushed, everything since the first
/// start counts.
async fn previous_flush(
    db: &mut PgConnection,
) -> Result<Option<(Timestamp, Duration)>, StoreError> {
    let row = statement(
        "SELECT coalesce(flushed_at, started_at), last_seen_precision_ms FROM nodes
         ORDER BY flushed_at IS NULL, CASE WHEN flushed_at IS NULL THEN id ELSE -id END LIMIT 1",
    )
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    let read = |row| {
        let precision = duration(get(&row, 1)?)?.unwrap_or_default();
        Ok((rows::timestamp(&row, 0)?, precision))
    };
    row.map(read).transpose()
}

/// Active participants that nobody heard of lately left when they were last seen; their states end. Of whom it is not kept,
/// nothing says that they were not there: a node ends the seats of those who are not.
async fn settle(db: &mut PgConnection, cutoff: Option<Timestamp>) -> Result<(), StoreError> {
    statement(
        "UPDATE participants SET is_active = false, left_at = last_seen_at
         WHERE is_active AND ($1::timestamptz IS NULL OR (last_seen_at <= $1 AND keeps_last_seen))",
    )
    .bind(cutoff.map(moment))
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    statement(
        "DELETE FROM participant_states AS s USING participants AS p WHERE p.key = s.participant_key AND NOT p.is_active",
    )
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Who is still active, and where.
async fn restored(db: &mut PgConnection) -> Result<Restored, StoreError> {
    let seats = statement(concat!(
        "SELECT ",
        participant_columns!("p."),
        ", s.state::text FROM participants AS p LEFT JOIN participant_states AS s ON s.participant_key = p.key
         WHERE p.is_active ORDER BY p.key"
    ))
    .fetch_all(&mut *db)
    .await
    .map_err(failed)?;
    let rooms = statement(concat!(
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
