//! Deleting idle rooms: candidates by the coarse column without a lock, then an exact look under one.

use std::collections::VecDeque;

use rollcall_protocol::Timestamp;
use sqlx::{SqliteConnection, query};

use super::{
    SqliteStore, bounded, rooms,
    rows::{self, before, failed, get},
};
use crate::store::{
    ReapCriteria, ReapedRoom, RoomEndCause, RoomKey, RoomRow, StoreError,
    columns::{ROOM_WIDTH, broken, room_columns},
};

/// Rooms looked at in one transaction: 10 to 20 ms with five participants each, in a debug build.
const CHUNK: usize = 100;
/// Participant rows deleted in one transaction, beyond which its other rooms wait for the next. A larger room goes whole.
const CHUNK_PARTICIPANTS: u64 = 2_000;

/// Rooms that look reapable by the coarse column.
pub(super) async fn candidates(
    db: &mut SqliteConnection,
    now: Timestamp,
    criteria: ReapCriteria,
    after: RoomKey,
    limit: u32,
) -> Result<Vec<RoomKey>, StoreError> {
    // Times are whole milliseconds, but SQLite gives seconds with a fraction: hence round.
    let found = query(
        "SELECT key FROM rooms
         WHERE key > ?1 AND on_idle = 'delete'
           AND (round(unixepoch(last_active_at, 'subsec') * 1000) + idle_timeout_ms <= ?2
                OR round(unixepoch(created_at, 'subsec') * 1000) + max_age_ms <= ?2)
           AND (?3 IS NULL OR created_at <= ?3)
           AND (?4 IS NULL OR (SELECT count(*) FROM participants WHERE room_key = rooms.key) < ?4)
         ORDER BY key LIMIT ?5",
    )
    .bind(after.0)
    .bind(now.as_millis())
    .bind(criteria.min_age.map(|age| before(now, age).to_string()))
    .bind(criteria.below_participants)
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    found.iter().map(|row| get(row, 0).map(RoomKey)).collect()
}

/// Deletes those of `keys` that are reapable, in chunks; see [`crate::store::Store::reap`].
pub(super) async fn reap(
    store: &SqliteStore,
    keys: &[RoomKey],
    criteria: ReapCriteria,
) -> Result<Vec<ReapedRoom>, StoreError> {
    let mut left = VecDeque::from_iter(keys.iter().copied());
    let mut reaped = Vec::new();
    while !left.is_empty() {
        let keys: Vec<_> = left.drain(..left.len().min(CHUNK)).collect();
        let (gone, postponed) = bounded(async {
            let mut write = store.begin().await?;
            let now = write.now;
            let done = chunk(write.db(), now, &keys, criteria).await?;
            write.commit().await?;
            Ok(done)
        })
        .await?;
        reaped.extend(gone);
        left.extend(postponed);
    }
    Ok(reaped)
}

/// What [`reap`] would delete, read without a lock.
pub(super) async fn would_reap(
    db: &mut SqliteConnection,
    now: Timestamp,
    keys: &[RoomKey],
    criteria: ReapCriteria,
) -> Result<Vec<ReapedRoom>, StoreError> {
    let found = look(db, keys).await?;
    let goes = |room: &&Looked| {
        criteria
            .cause(&room.room, room.last_activity, room.participants, now)
            .is_some()
    };
    Ok(found.iter().filter(goes).map(Looked::reaped).collect())
}

/// One transaction's work: what it deleted, and which rooms it left for the next.
pub(super) async fn chunk(
    db: &mut SqliteConnection,
    now: Timestamp,
    keys: &[RoomKey],
    criteria: ReapCriteria,
) -> Result<(Vec<ReapedRoom>, Vec<RoomKey>), StoreError> {
    let mut reaped = Vec::new();
    let mut ends: Vec<(RoomKey, RoomEndCause)> = Vec::new();
    let mut spared = Vec::new();
    let mut postponed = Vec::new();
    let mut deleted = 0;
    for looked in look(db, keys).await? {
        match criteria.cause(&looked.room, looked.last_activity, looked.participants, now) {
            None => spared.push((looked.room.key, looked.last_activity)),
            Some(_) if deleted >= CHUNK_PARTICIPANTS => postponed.push(looked.room.key),
            Some(cause) => {
                deleted += looked.participants;
                ends.push((looked.room.key, cause));
                reaped.push(looked.reaped());
            }
        }
    }
    if !ends.is_empty() {
        rooms::end(db, now, &ends).await?;
    }
    if !spared.is_empty() {
        rooms::advance(db, &spared).await?;
    }
    Ok((reaped, postponed))
}

/// A room as the exact look found it.
struct Looked {
    room: RoomRow,
    participants: u64,
    last_activity: Timestamp,
}

impl Looked {
    fn reaped(&self) -> ReapedRoom {
        ReapedRoom {
            key: self.room.key,
            id: self.room.id.clone(),
            participants: self.participants,
        }
    }
}

async fn look(db: &mut SqliteConnection, keys: &[RoomKey]) -> Result<Vec<Looked>, StoreError> {
    let keys: Vec<_> = keys.iter().map(|key| key.0).collect();
    let found = query(concat!(
        "SELECT ",
        room_columns!("rooms."),
        ", count(participants.key), max(rooms.last_active_at, coalesce(max(participants.last_seen_at), ''))
         FROM rooms LEFT JOIN participants ON participants.room_key = rooms.key
         WHERE rooms.key IN (SELECT value FROM json_each(?1))
         GROUP BY rooms.key ORDER BY rooms.key"
    ))
    .bind(serde_json::to_string(&keys).map_err(broken)?)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    found
        .iter()
        .map(|row| {
            let participants: i64 = get(row, ROOM_WIDTH)?;
            Ok(Looked {
                room: rows::room(row, 0)?,
                participants: participants.unsigned_abs(),
                last_activity: rows::parsed(row, ROOM_WIDTH + 1)?,
            })
        })
        .collect()
}
