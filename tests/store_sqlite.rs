//! What only the SQLite store has: its file, its URL, `verify`, and other software in the same database.

use std::time::Duration;

use rollcall::{
    clock::Clock,
    store::{
        Created, FlushBatch, Identity, InviteKey, NewInvite, RoomEndCause, RoomKey, RoomSettings,
        Store, StoreError, sqlite::SqliteStore,
    },
};
use rollcall_protocol::{InviteId, OnIdle, RoomId};
use serde_json::Map;
use sqlx::{
    Connection, SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    query,
};
use tempfile::TempDir;
use uuid::Uuid;

fn url(dir: &TempDir) -> String {
    format!("sqlite://{}", dir.path().join("rollcall.db").display())
}

fn settings() -> RoomSettings {
    RoomSettings {
        idle_timeout: Some(Duration::from_secs(60)),
        on_idle: OnIdle::Delete,
        max_participants: None,
        max_age: None,
        metadata: Map::new(),
    }
}

#[tokio::test]
async fn a_database_in_memory_is_refused() {
    for url in [
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite://x.db?mode=memory",
        "sqlite://",
        "postgres://x/y",
    ] {
        let error = SqliteStore::open(url, Clock::system()).await.unwrap_err();
        assert!(matches!(error, StoreError::Broken(_)), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn the_first_schema_with_people_in_it_is_brought_up() {
    let dir = TempDir::new().unwrap();
    let path = format!("{}?mode=rwc", url(&dir));
    let mut db = SqliteConnection::connect(&path).await.unwrap();
    let initial = include_str!("../migrations/sqlite/0001_initial.sql").into_sql_str();
    let first = Migration::new(1, "initial".into(), MigrationType::Simple, initial, false);
    let migrator = Migrator::with_migrations(vec![first]);
    migrator.run_direct(None, &mut db, false).await.unwrap();
    let at = "2026-11-24T12:00:00.000Z";
    let rows = [
        format!("INSERT INTO rooms (id, created_at, last_active_at, on_idle) VALUES ('r', '{at}', '{at}', 'keep')"),
        format!(
            "INSERT INTO participants (id, room_key, name, access_method, is_active, joined_at, last_seen_at)
             VALUES ('{}', 1, 'Ann', 'token', 1, '{at}', '{at}')",
            Uuid::now_v7()
        ),
        format!("INSERT INTO nodes (started_at, flushed_at, stopped_at) VALUES ('{at}', '{at}', '{at}')"),
    ];
    for row in rows {
        query(sqlx::AssertSqlSafe(row))
            .execute(&mut db)
            .await
            .unwrap();
    }
    db.close().await.unwrap();
    let store = SqliteStore::open(&url(&dir), Clock::system())
        .await
        .unwrap();
    let terms = rollcall::config::Config::default_dev().node_terms();
    let restored = store.take_over(terms).await.unwrap().unwrap();
    assert_eq!(restored.seats.len(), 1);
    assert!(restored.seats[0].participant.keeps_last_seen);
}

#[tokio::test]
async fn verify_finds_a_served_database_well_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let store = SqliteStore::open(&url(&dir), Clock::system())
        .await
        .unwrap();
    store
        .take_over(rollcall::config::Config::default_dev().node_terms())
        .await
        .unwrap()
        .unwrap();
    store
        .create_room(&"r".parse().unwrap(), &settings())
        .await
        .unwrap();
    let before = store.counts().await.unwrap();
    let checks = SqliteStore::verify(&url(&dir)).await;
    assert!(
        checks.len() >= 8 && checks.iter().all(|check| check.outcome.is_ok()),
        "{checks:#?}"
    );
    assert_eq!(store.counts().await.unwrap(), before);
    store.flush(&FlushBatch::default()).await.unwrap();
}

#[tokio::test]
async fn verify_names_what_is_wrong_and_makes_no_file() {
    let dir = TempDir::new().unwrap();
    let checks = SqliteStore::verify(&url(&dir)).await;
    assert!(checks[0].outcome.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    SqliteStore::migrate(&url(&dir)).await.unwrap();
    let mut db = SqliteConnection::connect(&url(&dir)).await.unwrap();
    query("CREATE INDEX slow ON participants (last_seen_at)")
        .execute(&mut db)
        .await
        .unwrap();
    query("DROP INDEX participants_room_key")
        .execute(&mut db)
        .await
        .unwrap();
    let checks = SqliteStore::verify(&url(&dir)).await;
    let wrong: Vec<_> = checks
        .iter()
        .filter(|check| check.outcome.is_err())
        .map(|check| check.name)
        .collect();
    assert_eq!(wrong, ["indexes", "no index on last_seen_at"]);
}

#[tokio::test]
async fn invites_of_a_room_that_other_software_deleted_are_adopted() {
    let dir = TempDir::new().unwrap();
    let clock = Clock::manual("2026-11-24T12:00:00.000Z".parse().unwrap());
    let store = SqliteStore::open(&url(&dir), clock.clone()).await.unwrap();
    let id: RoomId = "r".parse().unwrap();
    let Created::New(room) = store.create_room(&id, &settings()).await.unwrap() else {
        panic!("there already")
    };
    let invite = NewInvite {
        id: InviteId(Uuid::now_v7()),
        token_hash: [1; 32],
        expires_in: None,
        max_uses: None,
    };
    store.create_invite(&id, &invite).await.unwrap().unwrap();
    let mut db = SqliteConnection::connect(&url(&dir)).await.unwrap();
    query("DELETE FROM rooms").execute(&mut db).await.unwrap();
    assert!(
        store
            .invites(room.key, InviteKey(0), 10)
            .await
            .unwrap()
            .is_empty()
    );
    let keep = Duration::from_secs(30 * 86_400);
    assert_eq!(store.purge_invites(keep, 10).await.unwrap(), 0);
    let identity = Identity::Invite {
        token_hash: [1; 32],
        client_hash: None,
    };
    let (_, facts) = store.facts(&identity).await.unwrap();
    assert_eq!(
        facts.invite.unwrap().room_end.unwrap().cause,
        RoomEndCause::Closed
    );
    clock.step(31 * 86_400_000);
    assert_eq!(store.purge_invites(keep, 10).await.unwrap(), 1);
    assert_eq!(store.rooms(RoomKey(0), 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_lock_held_too_long_is_unavailable_and_passes() {
    let dir = TempDir::new().unwrap();
    let store = SqliteStore::open(&url(&dir), Clock::system())
        .await
        .unwrap();
    let mut db = SqliteConnection::connect(&url(&dir)).await.unwrap();
    let tx = db.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let id = "r".parse().unwrap();
    assert!(matches!(
        store.create_room(&id, &settings()).await,
        Err(StoreError::Unavailable(_))
    ));
    // Readers do not mind.
    assert_eq!(store.room(&id).await.unwrap(), None);
    tx.rollback().await.unwrap();
    assert!(matches!(
        store.create_room(&id, &settings()).await.unwrap(),
        Created::New(_)
    ));
}
