//! The hand-made version that Rollcall comes after: its tables, with what such tables come to hold, and the script that moves
//! them.

use std::{collections::BTreeMap, path::PathBuf};

use rollcall::store::{ParticipantKey, ParticipantRow, RoomRow, Store, postgres::PostgresStore};
use rollcall_protocol::Timestamp;

use crate::{
    bench::{Bench, Db, unique},
    life::id,
};

/// The old tables, with what such tables come to hold. Numbers stand for uuids: `s(1)` is session 1.
pub const OLD: &str = "
    CREATE FUNCTION s(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('10000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
    CREATE FUNCTION p(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('20000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
    CREATE FUNCTION u(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('30000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
    CREATE TABLE started AS SELECT date_trunc('milliseconds', now()) AS at;
    CREATE FUNCTION ago(minutes int) RETURNS timestamptz LANGUAGE sql STABLE
        AS $$ SELECT at - minutes * interval '1 minute' FROM started $$;
    CREATE TABLE reading_sessions (
        id uuid PRIMARY KEY, name text, created_at timestamptz, updated_at timestamptz, cover_url text);
    CREATE TABLE session_participants (
        id uuid PRIMARY KEY, session_id uuid REFERENCES reading_sessions, user_id uuid, name text, access_method text,
        last_seen_at timestamptz, is_active boolean, created_at timestamptz, updated_at timestamptz);
    INSERT INTO reading_sessions VALUES
        (s(1), 'Book club', ago(600), ago(5)), (s(2), NULL, NULL, NULL), (s(3), E'Tab\\there \\u2603', 'infinity', ago(90)),
        (s(4), 'empty', ago(600), 'infinity'), (s(5), repeat('long ', 1000), ago(20), ago(20));
    INSERT INTO session_participants VALUES
        (p(1), s(1), u(1), 'Ann', 'token', ago(300), true, ago(500), ago(300)),
        (p(2), s(1), u(1), 'Ann B', 'token', ago(5), true, ago(200), ago(5)),
        (p(3), s(1), u(1), ' ', 'invite', ago(250), false, ago(400), ago(250)),
        (p(4), s(1), NULL, '   ', 'invite', ago(10), true, ago(100), ago(10)),
        (p(5), s(1), NULL, repeat('é', 100), 'link', ago(10), false, ago(100), ago(10)),
        (p(6), s(1), NULL, E' a\\tb\\n\\u0085', 'invite', ago(10), false, ago(100), ago(10)),
        (p(7), s(1), NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (p(8), s(1), u(2), 'Bob', NULL, NULL, true, ago(50), ago(40)),
        (p(9), s(1), u(3), 'Cy', 'User', 'infinity', true, ago(50), ago(40)),
        (p(10), s(1), u(4), 'Di', 'magic', now() + interval '1 day', true, now() + interval '1 day', NULL),
        (p(11), s(2), u(1), 'Ann', 'token', ago(70), false, ago(80), ago(70)),
        (p(12), s(3), NULL, 'Eve', 'invite', ago(30), true, ago(20), ago(20)),
        (p(13), s(5), u(5), E'\\u3000\\u00a0Flo\\u2003', 'token', ago(20), true, ago(20), ago(20)),
        (p(14), NULL, u(1), 'lost', 'token', ago(20), true, ago(20), ago(20));";

/// The old version and Rollcall, each in a schema of its own.
pub struct House {
    pub bench: Bench,
    old: String,
}

impl House {
    pub async fn furnished() -> Self {
        let bench = Bench::new();
        PostgresStore::migrate(&bench.database).await.unwrap();
        let old = unique("old");
        let house = Self { bench, old };
        let mut db = house.db().await;
        db.run(format!(
            "CREATE SCHEMA {0}; SET search_path = {0}",
            house.old
        ))
        .await;
        db.run(OLD).await;
        house
    }

    /// A connection that finds the old version's tables first.
    pub async fn db(&self) -> Db {
        let mut db = self.bench.db().await;
        db.run(format!(
            "SET search_path = {}, {}",
            self.old,
            self.bench.schema()
        ))
        .await;
        db
    }

    /// Runs the script; what it says, without what did not happen.
    pub fn move_in(&self) -> BTreeMap<String, u64> {
        self.move_in_with(&[])
    }

    pub fn move_in_with(&self, more: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let mut variables = vec![
            ("old_schema", &*self.old),
            ("new_schema", self.bench.schema()),
        ];
        variables.extend(more);
        summary(&self.bench.cluster.psql_file(&script(), &variables))
    }
}

pub fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("migrations/move-in.sql")
}

pub fn summary(output: &str) -> BTreeMap<String, u64> {
    let lines = output.lines().map(|line| line.split_once('|').unwrap());
    let counts = lines.map(|(what, rows)| (what.to_owned(), rows.parse().unwrap()));
    counts.filter(|(_, rows)| *rows > 0).collect()
}

pub fn counts(lines: &[(&str, u64)]) -> BTreeMap<String, u64> {
    lines
        .iter()
        .map(|(what, rows)| ((*what).to_owned(), *rows))
        .collect()
}

pub fn session(n: u32) -> String {
    format!("10000000-0000-4000-8000-{n:012}")
}

pub fn person(n: u32) -> String {
    format!("20000000-0000-4000-8000-{n:012}")
}

pub fn user(n: u32) -> String {
    format!("30000000-0000-4000-8000-{n:012}")
}

pub async fn room(store: &dyn Store, n: u32) -> RoomRow {
    store.room(&id(&session(n))).await.unwrap().unwrap()
}

pub async fn people(store: &dyn Store, room: &RoomRow) -> Vec<ParticipantRow> {
    store
        .participants(room.key, ParticipantKey(0), 100)
        .await
        .unwrap()
}

/// A participant by the number of its old row.
pub async fn who(store: &dyn Store, session: u32, n: u32) -> ParticipantRow {
    let room = room(store, session).await;
    let found = store.participant(room.key, person(n).parse().unwrap());
    found.await.unwrap().unwrap()
}

/// The moments that `ago()` says in SQL.
pub struct Past(Timestamp);

impl Past {
    pub async fn now(db: &mut Db) -> Self {
        let millis = db
            .one("SELECT (extract(epoch FROM ago(0)) * 1000)::bigint")
            .await;
        Self(Timestamp::from_millis(millis.parse().unwrap()))
    }

    pub fn ago(&self, minutes: i64) -> Timestamp {
        Timestamp::from_millis(self.0.as_millis() - minutes * 60_000)
    }
}
