//! Writing what the flusher knows: one statement for each batch of rows, arrays in, sorted by key.
//!
//! Rooms are committed before participants: a reaper that looks at the coarse column must never see a room older than
//! its participants say (rule R1). Nothing is written that changes nothing, and nothing goes back (rule R6).

use chrono::{DateTime, Utc};
use rollcall_protocol::Timestamp;
use sqlx::PgConnection;

use super::{
    PostgresStore, bounded, node, participants as people, rooms,
    rows::{failed, moment},
    transaction::{Write, scalar, statement},
};
use crate::store::{
    FlushBatch, Flushed, ParticipantKey, RoomKey, Seen, StoreError, chunks::chunks,
};

/// Rows of one transaction: a join that returns waits for its row that long, and an outage's whole backlog must not
/// come to the statement's limit. Of 1,000 to 50,000 none is faster by much (TARGETS.md, "Database").
const CHUNK: usize = 25_000;

/// Writes a batch. Chunks committed before a failure stay: repeating them is harmless.
pub(super) async fn flush(
    store: &PostgresStore,
    batch: &FlushBatch,
) -> Result<Flushed, StoreError> {
    let mut flush = Flush {
        store,
        begun: None,
        flushed: Flushed::default(),
    };
    for chunk in chunks(&batch.rooms, CHUNK, |(key, _)| key.0) {
        flush.rooms(chunk).await?;
    }
    for chunk in chunks(&batch.participants, CHUNK, |seen| seen.key.0) {
        flush.participants(chunk).await?;
    }
    for chunk in chunks(&batch.states, CHUNK, |(key, _)| key.0) {
        flush.states(chunk).await?;
    }
    flush.end().await
}

/// A flush on its way. Each step is a transaction. One that waits for somebody else's lock in vain goes again around what
/// is locked, so that a forgotten psql holds up a few rows and not everybody's.
struct Flush<'a> {
    store: &'a PostgresStore,
    /// What the batch holds was known before this, so this is what the next node may count on.
    begun: Option<Timestamp>,
    flushed: Flushed,
}

impl Flush<'_> {
    async fn begin(&mut self) -> Result<Write, StoreError> {
        let store = self.store;
        let write = store
            .begin_as(&store.background, &store.openings.flush, store.node())
            .await?;
        self.begun.get_or_insert(write.now);
        Ok(write)
    }

    async fn rooms(&mut self, chunk: &[(RoomKey, Timestamp)]) -> Result<(), StoreError> {
        let waited = bounded(async {
            let mut write = self.begin().await?;
            rooms::advance(write.db(), chunk).await?;
            write.commit().await
        })
        .await;
        if !matches!(waited, Err(StoreError::Locked(_))) {
            return waited;
        }
        bounded(async {
            let mut write = self.begin().await?;
            let keys: Vec<i64> = chunk.iter().map(|(key, _)| key.0).collect();
            let free = rooms::lock_free(write.db(), &keys).await?;
            let (free, locked) = split(chunk, |(key, _)| free.contains(&key.0));
            rooms::advance(write.db(), &free).await?;
            write.commit().await?;
            let locked = locked.iter().map(|(key, _)| *key);
            self.flushed.locked_rooms.extend(locked);
            Ok(())
        })
        .await
    }

    async fn participants(&mut self, chunk: &[Seen]) -> Result<(), StoreError> {
        let waited = bounded(async {
            let mut write = self.begin().await?;
            let missing = participants(write.db(), chunk).await?;
            write.commit().await?;
            self.flushed.missing.extend(missing);
            Ok(())
        })
        .await;
        if !matches!(waited, Err(StoreError::Locked(_))) {
            return waited;
        }
        bounded(async {
            let mut write = self.begin().await?;
            let keys: Vec<i64> = chunk.iter().map(|seen| seen.key.0).collect();
            let free = people::lock_free(write.db(), &keys).await?;
            let (free, locked) = split(chunk, |seen| free.contains(&seen.key.0));
            let locked = locked.iter().map(|seen| seen.key.0).collect();
            participants(write.db(), &free).await?;
            self.leave_locked(write, locked).await
        })
        .await
    }

    async fn states(
        &mut self,
        chunk: &[(ParticipantKey, Option<String>)],
    ) -> Result<(), StoreError> {
        let waited = bounded(async {
            let mut write = self.begin().await?;
            let missing = states(write.db(), chunk).await?;
            write.commit().await?;
            self.flushed.missing.extend(missing);
            Ok(())
        })
        .await;
        if !matches!(waited, Err(StoreError::Locked(_))) {
            return waited;
        }
        bounded(async {
            let mut write = self.begin().await?;
            let keys: Vec<i64> = chunk.iter().map(|(key, _)| key.0).collect();
            let free = people::lock_free(write.db(), &keys).await?;
            let (free, locked) = split(chunk, |(key, _)| free.contains(&key.0));
            let locked = locked.iter().map(|(key, _)| key.0).collect();
            states(write.db(), &free).await?;
            self.leave_locked(write, locked).await
        })
        .await
    }

    /// Commits what was free; what was not is locked by somebody else, or not there.
    async fn leave_locked(&mut self, mut write: Write, rest: Vec<i64>) -> Result<(), StoreError> {
        let missing = missing(write.db(), &rest).await?;
        write.commit().await?;
        let rest = rest.into_iter().map(ParticipantKey);
        let locked = rest.filter(|key| !missing.contains(key));
        self.flushed.locked.extend(locked);
        self.flushed.missing.extend(missing);
        Ok(())
    }

    async fn end(mut self) -> Result<Flushed, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let at = self.begun.unwrap_or(write.now);
            node::flushed(write.db(), self.store.node(), at).await?;
            write.commit().await
        })
        .await?;
        self.flushed.missing.sort_unstable();
        self.flushed.missing.dedup();
        Ok(self.flushed)
    }
}

/// Cuts a chunk in two, both in order.
fn split<T: Clone>(chunk: &[T], is_first: impl Fn(&T) -> bool) -> (Vec<T>, Vec<T>) {
    chunk.iter().cloned().partition(|one| is_first(one))
}

/// Writes participants seen and departed; answers which have no row.
pub(super) async fn participants(
    db: &mut PgConnection,
    seen: &[Seen],
) -> Result<Vec<ParticipantKey>, StoreError> {
    let (departed, present): (Vec<&Seen>, Vec<&Seen>) =
        seen.iter().partition(|seen| seen.departed.is_some());
    let written = heartbeats(db, &present).await? + departures(db, &departed).await?;
    if written == seen.len() as u64 {
        return Ok(Vec::new());
    }
    let keys: Vec<i64> = seen.iter().map(|seen| seen.key.0).collect();
    missing(db, &keys).await
}

/// Moves `last_seen_at` of those who are there. Who has left since was seen to the end.
async fn heartbeats(db: &mut PgConnection, seen: &[&Seen]) -> Result<u64, StoreError> {
    if seen.is_empty() {
        return Ok(0);
    }
    // Arrays side by side in a SELECT: a third of what the same take as a function of several arrays.
    let done = statement(
        "UPDATE participants AS p
         SET last_seen_at = seen.at, left_at = CASE WHEN p.left_at IS NOT NULL THEN greatest(p.left_at, seen.at) END
         FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::timestamptz[]) AS at) AS seen
         WHERE p.key = seen.key AND seen.at > p.last_seen_at AND p.keeps_last_seen",
    )
    .bind(keys(seen))
    .bind(times(seen))
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(done.rows_affected())
}

/// Ends the generations that departed, unless a newer one has begun.
async fn departures(db: &mut PgConnection, seen: &[&Seen]) -> Result<u64, StoreError> {
    if seen.is_empty() {
        return Ok(0);
    }
    let departed = || seen.iter().filter_map(|seen| seen.departed);
    let left_at: Vec<_> = departed()
        .map(|departed| moment(departed.left_at))
        .collect();
    let generations: Vec<_> = departed().map(|departed| departed.generation).collect();
    let done = statement(
        "UPDATE participants AS p SET
             last_seen_at = CASE WHEN p.keeps_last_seen THEN greatest(p.last_seen_at, seen.at) ELSE p.last_seen_at END,
             is_active = p.is_active AND p.generation > seen.generation,
             left_at = CASE
                 WHEN NOT p.keeps_last_seen THEN
                     CASE WHEN NOT p.is_active OR p.generation <= seen.generation THEN p.last_seen_at END
                 WHEN p.is_active AND p.generation <= seen.generation THEN greatest(seen.left_at, seen.at, p.last_seen_at)
                 WHEN NOT p.is_active THEN greatest(p.left_at, seen.at)
             END
         FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::bigint[]) AS seen (key, at, left_at, generation)
         WHERE p.key = seen.key
           AND ((seen.at > p.last_seen_at AND p.keeps_last_seen) OR (p.is_active AND p.generation <= seen.generation))",
    )
    .bind(keys(seen))
    .bind(times(seen))
    .bind(left_at)
    .bind(generations)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(done.rows_affected())
}

fn keys(seen: &[&Seen]) -> Vec<i64> {
    seen.iter().map(|seen| seen.key.0).collect()
}

fn times(seen: &[&Seen]) -> Vec<DateTime<Utc>> {
    seen.iter().map(|seen| moment(seen.last_seen_at)).collect()
}

/// Writes states, or deletes them; answers which participants have no row.
async fn states(
    db: &mut PgConnection,
    states: &[(ParticipantKey, Option<String>)],
) -> Result<Vec<ParticipantKey>, StoreError> {
    let keys: Vec<i64> = states.iter().map(|(key, _)| key.0).collect();
    let texts: Vec<Option<&str>> = states.iter().map(|(_, state)| state.as_deref()).collect();
    statement(
        "DELETE FROM participant_states
         USING unnest($1::bigint[], $2::text[]) AS changed (key, state)
         WHERE participant_key = changed.key AND changed.state IS NULL",
    )
    .bind(&keys)
    .bind(&texts)
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    statement(
        "INSERT INTO participant_states AS s (participant_key, state)
         SELECT p.key, changed.state::json
         FROM unnest($1::bigint[], $2::text[]) AS changed (key, state) JOIN participants AS p ON p.key = changed.key
         WHERE changed.state IS NOT NULL
         ORDER BY p.key FOR KEY SHARE OF p
         ON CONFLICT (participant_key) DO UPDATE SET state = excluded.state WHERE s.state::text <> excluded.state::text",
    )
    .bind(&keys)
    .bind(&texts)
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    missing(db, &keys).await
}

/// Which keys have no row.
async fn missing(db: &mut PgConnection, keys: &[i64]) -> Result<Vec<ParticipantKey>, StoreError> {
    let keys: Vec<i64> = scalar(
        "SELECT asked.key FROM unnest($1::bigint[]) AS asked (key)
         WHERE NOT EXISTS (SELECT FROM participants AS p WHERE p.key = asked.key)",
    )
    .bind(keys)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(keys.into_iter().map(ParticipantKey).collect())
}
