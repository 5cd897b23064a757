//! What one would write first: public ids as keys, an index and a trigger on `last_seen_at`, one statement for the reaper.

use anyhow::ensure;
use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::bed::Bed;

/// Clients that update at a time.
pub(crate) const CLIENTS: usize = 16;

const SCHEMA: &str = "
    CREATE SCHEMA hand_made;
    CREATE TABLE hand_made.rooms (
        id text PRIMARY KEY,
        created_at timestamptz NOT NULL DEFAULT now(),
        metadata json NOT NULL DEFAULT '{}'
    );
    CREATE TABLE hand_made.participants (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        room_id text NOT NULL REFERENCES hand_made.rooms (id) ON DELETE CASCADE,
        user_id text,
        name text NOT NULL,
        is_active boolean NOT NULL DEFAULT true,
        joined_at timestamptz NOT NULL DEFAULT now(),
        last_seen_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX ON hand_made.participants (room_id);
    CREATE INDEX ON hand_made.participants (last_seen_at);
    CREATE FUNCTION hand_made.touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.last_seen_at := now();
        RETURN NEW;
    END $$";

/// Only now, so that the rows that are copied keep their times.
const TRIGGER: &str = "CREATE TRIGGER touch BEFORE UPDATE ON hand_made.participants FOR EACH ROW EXECUTE FUNCTION hand_made.touch()";

/// The rooms and people of Rollcall's own tables, once more.
#[derive(Debug)]
pub(crate) struct HandMade {
    /// Everybody's, by Rollcall's keys.
    ids: Vec<Uuid>,
    pub(crate) clients: Vec<PgConnection>,
    /// When the first update began, and who was updated.
    began: DateTime<Utc>,
    updated: Vec<bool>,
}

impl HandMade {
    pub(crate) async fn new(bed: &mut Bed) -> anyhow::Result<Self> {
        bed.run(SCHEMA).await?;
        bed.run("SET session_replication_role = replica").await?;
        bed.run(
            "INSERT INTO hand_made.rooms SELECT id, created_at FROM rooms ORDER BY key;
             INSERT INTO hand_made.participants
             SELECT p.id, r.id, p.user_id, p.name, p.is_active, p.joined_at, p.last_seen_at
             FROM participants AS p JOIN rooms AS r ON r.key = p.room_key ORDER BY p.key",
        )
        .await?;
        bed.run("RESET session_replication_role").await?;
        bed.run(TRIGGER).await?;
        bed.settle().await?;
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM participants ORDER BY key")
            .fetch_all(&mut bed.admin)
            .await?;
        let connect = |_| bed.connect();
        let clients = try_join_all((0..CLIENTS).map(connect)).await?;
        Ok(Self {
            updated: vec![false; ids.len()],
            began: sqlx::query_scalar("SELECT now()")
                .fetch_one(&mut bed.admin)
                .await?,
            ids,
            clients,
        })
    }

    /// Updates people of these keys, each on its own, from all clients at once.
    pub(crate) async fn update_each(&mut self, keys: &[i64]) -> anyhow::Result<u64> {
        let ids = self.note(keys);
        let share = ids.len().div_ceil(CLIENTS);
        let works = self
            .clients
            .iter_mut()
            .zip(ids.chunks(share))
            .map(|(client, ids)| update_each(client, ids));
        Ok(try_join_all(works).await?.into_iter().sum())
    }

    /// Updates people of these keys in one statement.
    pub(crate) async fn update_together(&mut self, keys: &[i64]) -> anyhow::Result<u64> {
        let ids = self.note(keys);
        let done = sqlx::query(
            "UPDATE hand_made.participants AS p SET is_active = true FROM unnest($1::uuid[]) AS seen (id) WHERE p.id = seen.id",
        )
        .bind(ids)
        .execute(&mut self.clients[0])
        .await?;
        Ok(done.rows_affected())
    }

    fn note(&mut self, keys: &[i64]) -> Vec<Uuid> {
        let indexes = keys.iter().map(|key| *key as usize - 1);
        indexes.clone().for_each(|index| self.updated[index] = true);
        indexes.map(|index| self.ids[index]).collect()
    }

    /// Whether exactly those who were updated have been seen since.
    pub(crate) async fn verify(&self, bed: &mut Bed) -> anyhow::Result<()> {
        let updated = self.updated.iter().filter(|updated| **updated).count();
        let seen: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM hand_made.participants WHERE last_seen_at > $1",
        )
        .bind(self.began)
        .fetch_one(&mut bed.admin)
        .await?;
        ensure!(
            seen == updated as i64,
            "{seen} of {updated} hand-made rows are as they were written"
        );
        Ok(())
    }
}

async fn update_each(client: &mut PgConnection, ids: &[Uuid]) -> anyhow::Result<u64> {
    let mut updated = 0;
    for id in ids {
        let done = sqlx::query("UPDATE hand_made.participants SET is_active = true WHERE id = $1")
            .bind(id)
            .execute(&mut *client)
            .await?;
        updated += done.rows_affected();
    }
    Ok(updated)
}
