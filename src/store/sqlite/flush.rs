//! Writing what the flusher knows: `json_each` batches, in chunks that leave the writer to joins in between.
//!
//! Rooms are committed before participants: a reaper that looks at the coarse column must never see a room older than
//! its participants say (rule R1). Nothing is written that changes nothing, and nothing goes back (rule R6).

use serde::Serialize;
use sqlx::{SqliteConnection, query};

use super::{SqliteStore, bounded, node, rooms, rows};
use crate::store::{
    FlushBatch, Flushed, ParticipantKey, Seen, StoreError, chunks::chunks, columns::broken,
};

/// Of the writer, 10 to 30 ms in a debug build (1,000,000 rows); not yet measured in a release build.
const CHUNK: usize = 2_000;

/// Writes a batch. Chunks committed before a failure stay: repeating them is harmless.
pub(super) async fn flush(store: &SqliteStore, batch: &FlushBatch) -> Result<Flushed, StoreError> {
    // What the batch holds was known before this, so this is what the next node may count on.
    let begun = store.now();
    for chunk in chunks(&batch.rooms, CHUNK, |(key, _)| key.0) {
        bounded(async {
            let mut write = store.begin().await?;
            rooms::advance(write.db(), chunk).await?;
            write.commit().await
        })
        .await?;
    }
    let mut missing = Vec::new();
    for chunk in chunks(&batch.participants, CHUNK, |seen| seen.key.0) {
        missing.extend(
            bounded(async {
                let mut write = store.begin().await?;
                let missing = participants(write.db(), chunk).await?;
                write.commit().await?;
                Ok(missing)
            })
            .await?,
        );
    }
    for chunk in chunks(&batch.states, CHUNK, |(key, _)| key.0) {
        missing.extend(
            bounded(async {
                let mut write = store.begin().await?;
                let missing = states(write.db(), chunk).await?;
                write.commit().await?;
                Ok(missing)
            })
            .await?,
        );
    }
    missing.sort_unstable();
    missing.dedup();
    bounded(async {
        let mut write = store.begin().await?;
        node::flushed(write.db(), store.node(), begun).await?;
        write.commit().await
    })
    .await?;
    Ok(Flushed {
        missing,
        ..Flushed::default()
    })
}

/// Writes participants seen and departed; answers which have no row.
pub(super) async fn participants(
    db: &mut SqliteConnection,
    seen: &[Seen],
) -> Result<Vec<ParticipantKey>, StoreError> {
    let rows: Vec<_> = seen.iter().map(SeenRow::from).collect();
    let rows = serde_json::to_string(&rows).map_err(broken)?;
    // A generation that is NULL (no departure) makes the comparison NULL, which is no.
    query(
        "UPDATE participants SET
             last_seen_at = CASE WHEN participants.keeps_last_seen THEN max(participants.last_seen_at, seen.at)
                                 ELSE participants.last_seen_at END,
             is_active = participants.is_active AND coalesce(participants.generation > seen.generation, 1),
             left_at = CASE
                 WHEN NOT participants.keeps_last_seen THEN
                     CASE WHEN NOT participants.is_active OR participants.generation <= seen.generation
                          THEN participants.last_seen_at END
                 WHEN participants.is_active AND participants.generation <= seen.generation
                 THEN max(seen.left_at, seen.at, participants.last_seen_at)
                 WHEN NOT participants.is_active THEN max(participants.left_at, seen.at)
             END
         FROM (SELECT value ->> 0 AS key, value ->> 1 AS at, value ->> 2 AS left_at, value ->> 3 AS generation
               FROM json_each(?1)) AS seen
         WHERE participants.key = seen.key
           AND ((seen.at > participants.last_seen_at AND participants.keeps_last_seen)
                OR (participants.is_active AND participants.generation <= seen.generation))",
    )
    .bind(&rows)
    .execute(&mut *db)
    .await
    .map_err(rows::failed)?;
    missing(db, &rows).await
}

/// Writes states, or deletes them; answers which participants have no row.
async fn states(
    db: &mut SqliteConnection,
    states: &[(ParticipantKey, Option<String>)],
) -> Result<Vec<ParticipantKey>, StoreError> {
    let rows: Vec<_> = states.iter().map(|(key, state)| (key.0, state)).collect();
    let rows = serde_json::to_string(&rows).map_err(broken)?;
    query(
        "DELETE FROM participant_states
         WHERE participant_key IN (SELECT value ->> 0 FROM json_each(?1) WHERE value ->> 1 IS NULL)",
    )
    .bind(&rows)
    .execute(&mut *db)
    .await
    .map_err(rows::failed)?;
    query(
        "INSERT INTO participant_states (participant_key, state)
         SELECT participants.key, changed.value ->> 1
         FROM json_each(?1) AS changed CROSS JOIN participants ON participants.key = changed.value ->> 0
         WHERE changed.value ->> 1 IS NOT NULL
         ON CONFLICT (participant_key) DO UPDATE SET state = excluded.state WHERE state <> excluded.state",
    )
    .bind(&rows)
    .execute(&mut *db)
    .await
    .map_err(rows::failed)?;
    missing(db, &rows).await
}

/// Which keys, the first of each entry, have no row.
async fn missing(db: &mut SqliteConnection, rows: &str) -> Result<Vec<ParticipantKey>, StoreError> {
    let keys: Vec<i64> = sqlx::query_scalar(
        "SELECT value ->> 0 FROM json_each(?1)
         WHERE NOT EXISTS (SELECT 1 FROM participants WHERE participants.key = value ->> 0)",
    )
    .bind(rows)
    .fetch_all(db)
    .await
    .map_err(rows::failed)?;
    Ok(keys.into_iter().map(ParticipantKey).collect())
}

/// `[key, seen, left, generation]`: an array is shorter than an object, and found by position.
#[derive(Serialize)]
struct SeenRow(i64, String, Option<String>, Option<i64>);

impl From<&Seen> for SeenRow {
    fn from(seen: &Seen) -> Self {
        let left = seen.departed.map(|departed| departed.left_at.to_string());
        Self(
            seen.key.0,
            seen.last_seen_at.to_string(),
            left,
            seen.departed.map(|departed| departed.generation),
        )
    }
}
