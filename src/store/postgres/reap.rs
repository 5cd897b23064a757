//! Deleting idle rooms: candidates by the coarse column without a lock, then `reap_rooms` of the schema, which locks, looks
//! exactly and deletes (see there for why that takes two statements).
//!
//! These transactions do not wait for the disk, holding their locks: the log is in order, so whatever is committed after them
//! and survives a crash has them with it, and without anything after them the same rooms are idle again.

use std::collections::VecDeque;

use rollcall_protocol::Timestamp;
use sqlx::{PgConnection, postgres::PgRow};

use super::{
    PostgresStore, bounded,
    rows::{self, failed, get, millis, moment},
    transaction::{Transaction, scalar, statement},
};
use crate::store::{ReapCriteria, ReapedRoom, RoomKey, StoreError};

/// Rooms looked at and deleted in one transaction: some 50 µs each, which a join waits for.
const CHUNK_ROOMS: usize = 200;
/// Participant rows deleted in one transaction, beyond which its other rooms wait for the next. A larger room goes whole.
const CHUNK_PARTICIPANTS: i64 = 1_000;

/// Rooms that look reapable by the coarse column. The whole table is read in its order at once: by key, page after page, it
/// takes twice the time, and MATERIALIZED because the planner would take a page of 10,000 for little.
pub(super) async fn candidates(
    db: &mut PgConnection,
    now: Timestamp,
    criteria: ReapCriteria,
    after: RoomKey,
    limit: u32,
) -> Result<Vec<RoomKey>, StoreError> {
    let found: Vec<i64> = scalar(
        "WITH idle AS MATERIALIZED (
             SELECT r.key FROM rooms AS r
             WHERE r.key > $1 AND r.on_idle = 'delete'
               AND (r.last_active_at + r.idle_timeout_ms * interval '1 ms' <= $2
                    OR r.created_at + r.max_age_ms * interval '1 ms' <= $2)
               AND ($3::timestamptz IS NULL OR r.created_at <= $3)
         )
         SELECT key FROM idle
         WHERE $4::bigint IS NULL OR (SELECT count(*) FROM participants AS p WHERE p.room_key = idle.key) < $4
         ORDER BY key LIMIT $5",
    )
    .bind(after.0)
    .bind(moment(now))
    .bind(criteria.min_age.map(|age| moment(now - age)))
    .bind(criteria.below_participants.map(i64::from))
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(found.into_iter().map(RoomKey).collect())
}

/// Deletes those of `keys` that are reapable, in chunks; see [`crate::store::Store::reap`].
pub(super) async fn reap(
    store: &PostgresStore,
    keys: &[RoomKey],
    criteria: ReapCriteria,
) -> Result<Vec<ReapedRoom>, StoreError> {
    let opening = &store.openings.reap;
    let mut left = VecDeque::from_iter(keys.iter().copied());
    let mut reaped = Vec::new();
    let mut open = None;
    while !left.is_empty() {
        let keys: Vec<_> = left.drain(..left.len().min(CHUNK_ROOMS)).collect();
        bounded(async {
            let mut transaction = match open.take() {
                Some(open) => open,
                None => Transaction::begin(&store.background, opening).await?,
            };
            let (now, node) = (store.manual_now(), store.node());
            let (gone, postponed) =
                reap_rooms(transaction.db(), now, node, &keys, criteria, false).await?;
            left.extend(postponed);
            if left.is_empty() {
                transaction.commit().await?;
            } else {
                open = Some(transaction.commit_and_begin(opening).await?);
            }
            reaped.extend(gone);
            Ok(())
        })
        .await?;
    }
    Ok(reaped)
}

/// One transaction's work: what it deleted, or would with `dry_run`, and which rooms it left for the next. Whether `node` is
/// in charge is asked in the same statement: a sweep is long by its round trips.
///
/// # Errors
/// [`StoreError::Superseded`] if it is not; then nothing is locked.
pub(super) async fn reap_rooms(
    db: &mut PgConnection,
    now: Option<Timestamp>,
    node: Option<i64>,
    keys: &[RoomKey],
    criteria: ReapCriteria,
    dry_run: bool,
) -> Result<(Vec<ReapedRoom>, Vec<RoomKey>), StoreError> {
    let keys: Vec<i64> = keys.iter().map(|key| key.0).collect();
    let found = statement(
        "SELECT found.room_key, found.room_id, found.participants, found.postponed, charge.is_lost
         FROM (SELECT $7 IS NOT NULL AND NOT EXISTS (SELECT FROM nodes WHERE id = $7 AND stopped_at IS NULL) AS is_lost)
             AS charge
         LEFT JOIN LATERAL reap_rooms(CASE WHEN is_lost THEN '{}'::bigint[] ELSE $1 END, $2, $3 * interval '1 ms', $4, NULL, $5, $6)
             AS found ON true",
    )
    .bind(keys)
    .bind(now.map(moment))
    .bind(criteria.min_age.map(millis))
    .bind(criteria.below_participants.map(i64::from))
    .bind(CHUNK_PARTICIPANTS)
    .bind(dry_run)
    .bind(node)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let (mut gone, mut postponed) = (Vec::new(), Vec::new());
    for row in &found {
        if get(row, 4)? {
            return Err(StoreError::Superseded);
        }
        // The one row that says no more than that this node is in charge.
        if rows::is_absent(row, 0)? {
            continue;
        }
        let room = reaped_room(row)?;
        match get(row, 3)? {
            true => postponed.push(room.key),
            false => gone.push(room),
        }
    }
    Ok((gone, postponed))
}

fn reaped_room(row: &PgRow) -> Result<ReapedRoom, StoreError> {
    Ok(ReapedRoom {
        key: RoomKey(get(row, 0)?),
        id: rows::parsed(row, 1)?,
        participants: get::<i64>(row, 2)?.unsigned_abs(),
    })
}
