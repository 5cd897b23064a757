//! What SQL may be told of when somebody was last there, and what an older schema becomes.

use std::time::Duration;

use rollcall::store::{
    FlushBatch, JoinParticipant, LockWait, NodeTerms, Precision, Store, postgres::PostgresStore,
};
use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::{
    bench::{Bench, Db},
    life::{TERMS, join, user},
};

const ROUNDING: NodeTerms = NodeTerms {
    last_seen_precision: Precision::to(Duration::from_secs(300)),
    ..TERMS
};

/// A store that serves long enough to be trusted, with somebody in a room who does not want it kept.
async fn served(bench: &Bench, terms: NodeTerms) -> (PostgresStore, Db) {
    let store = bench.open().await;
    store.take_over(terms).await.unwrap().unwrap();
    let ann = join(&store, user("r", "ann")).await.participant;
    let batch = store
        .begin_joins(&[user("r", "ann")], LockWait::Skip)
        .await
        .unwrap();
    let back = rollcall::store::JoinWrite {
        index: 0,
        room: rollcall::store::JoinRoom::Existing(ann.room_key),
        participant: JoinParticipant::Returning {
            key: ann.key,
            name: None,
        },
        keeps_last_seen: Some(false),
    };
    batch.commit(vec![back]).await.unwrap();
    store.flush(&FlushBatch::default()).await.unwrap();
    let mut db = bench.db().await;
    db.run("UPDATE nodes SET started_at = started_at - interval '1 day'")
        .await;
    (store, db)
}

#[tokio::test]
async fn r9_sql_takes_who_opted_out_for_present_while_a_node_serves() {
    let bench = Bench::new();
    let (store, mut db) = served(&bench, TERMS).await;
    db.run(
        "UPDATE rooms SET created_at = created_at - interval '2 hours', last_active_at = last_active_at - interval '2 hours';
         UPDATE participants SET joined_at = joined_at - interval '2 hours', last_seen_at = last_seen_at - interval '2 hours'",
    )
    .await;
    let expiry = "SELECT expired, online FROM check_room_expiry('r')";
    let clean_up = "SELECT * FROM cleanup_inactive_rooms()";
    assert_eq!(db.table(expiry).await, ["f|1"]);
    assert_eq!(db.table(clean_up).await, [] as [&str; 0]);
    // Nobody serves, so nobody is there.
    store.stop().await.unwrap();
    assert_eq!(db.table(expiry).await, ["t|0"]);
    assert_eq!(db.table(clean_up).await, ["r|1"]);
}

#[tokio::test]
async fn r9_a_rounded_last_seen_holds_a_seat() {
    let bench = Bench::new();
    let (_store, mut db) = served(&bench, ROUNDING).await;
    // As far back as rounding and a heartbeat may put somebody who is there, and one step more.
    for (ago, online) in [(370, "1"), (700, "0")] {
        db.run(format!(
            "UPDATE participants SET keeps_last_seen = true, last_seen_at = clock_timestamp() - interval '{ago} seconds'"
        ))
        .await;
        let found = db.one("SELECT online FROM check_room_expiry('r')").await;
        assert_eq!(found, online, "{ago} s");
    }
}

#[tokio::test]
async fn other_software_tells_no_more_than_the_server() {
    let bench = Bench::new();
    let (_store, mut db) = served(&bench, ROUNDING).await;
    let update = "UPDATE participants SET name = 'Ann'";
    db.run(update).await;
    let unchanged = "SELECT last_seen_at = joined_at FROM participants";
    assert_eq!(db.one(unchanged).await, "t");
    db.run("UPDATE participants SET keeps_last_seen = true, last_seen_at = '2020-01-01'")
        .await;
    db.run(update).await;
    let rounded = "SELECT extract(epoch FROM last_seen_at)::numeric % 300 = 0
                          AND last_seen_at > clock_timestamp() - interval '301 seconds' AND last_seen_at <= clock_timestamp()
                   FROM participants";
    assert_eq!(db.one(rounded).await, "t");
}

#[tokio::test]
async fn the_first_schema_with_people_in_it_is_brought_up() {
    let bench = Bench::new();
    let mut db = bench.db().await;
    let schema = bench.schema().to_owned();
    db.run(format!(
        "CREATE SCHEMA {schema}; SET search_path = {schema}"
    ))
    .await;
    let initial = include_str!("../../migrations/postgres/0001_initial.sql").into_sql_str();
    let first = Migration::new(1, "initial".into(), MigrationType::Simple, initial, false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.set_locking(false);
    db.migrate(&migrator).await;
    db.run(
        "INSERT INTO rooms (id) VALUES ('r');
         INSERT INTO participants (room_key, name, access_method, user_id) SELECT key, 'Ann', 'token', 'ann' FROM rooms;
         INSERT INTO nodes (started_at, flushed_at, stale_after_ms, settle_ms, seat_silence_ms, stopped_at)
         VALUES (now(), now(), 1, 1, 1, now())",
    )
    .await;
    let store = bench.open().await;
    let restored = store.take_over(TERMS).await.unwrap().unwrap();
    assert_eq!(restored.seats.len(), 1);
    assert!(restored.seats[0].participant.keeps_last_seen);
}
