//! `rollcall verify` on PostgreSQL: well when all is well, and the name of what is not.

use rollcall::store::{FlushBatch, Store, postgres::PostgresStore, verify::Check};
use tokio::time::Instant;

use crate::{
    bench::{Bench, unique},
    harness::SOON,
    life::{TERMS, guest, join, make_invite, make_room, user},
};

/// The looks that found something wrong, with what they say.
fn wrong(checks: &[Check]) -> Vec<(&'static str, &str)> {
    let wrong = |check: &'_ Check| check.outcome.is_err();
    let wrong = checks.iter().filter(|check| wrong(check));
    wrong
        .map(|check| (check.name, &**check.outcome.as_ref().unwrap_err()))
        .collect()
}

#[tokio::test]
async fn a_served_database_is_well_and_keeps_nothing_of_the_look() {
    let bench = Bench::new();
    let store = bench.open().await;
    store.take_over(TERMS).await.unwrap().unwrap();
    make_room(&store, "r").await;
    make_invite(&store, "r", 1).await;
    join(&store, guest(1, 1)).await;
    let rows = "SELECT 'room', r::text FROM rooms AS r UNION ALL SELECT 'person', p::text FROM participants AS p
        UNION ALL SELECT 'invite', i::text FROM invites AS i UNION ALL SELECT 'node', n::text FROM nodes AS n
        UNION ALL SELECT 'state', s::text FROM participant_states AS s
        UNION ALL SELECT 'end', e::text FROM room_ends AS e ORDER BY 1, 2";
    let mut db = bench.db().await;
    let before = db.table(rows).await;
    let checks = PostgresStore::verify(&bench.database).await;
    assert!(checks.len() >= 8, "{checks:#?}");
    assert_eq!(wrong(&checks), []);
    assert_eq!(db.table(rows).await, before);
    store.flush(&FlushBatch::default()).await.unwrap();
    join(&store, user("r", "ann")).await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let trial = "flush, expiry and clean-up";
    // What is done, which looks find it, and a word that each of them says.
    let cases: [(&str, &[(&str, &str)]); 9] = [
        (
            "DROP INDEX participants_room_key",
            &[("indexes", "participants_room_key")],
        ),
        (
            "DROP INDEX invites_room_key",
            &[("indexes", "invites_room_key")],
        ),
        (
            "CREATE INDEX slow ON participants (room_key, last_seen_at)",
            &[("no index on last_seen_at", "slow")],
        ),
        (
            "CREATE INDEX slow ON participants (room_key) WHERE last_seen_at > '2001-01-01 00:00+00'",
            &[("no index on last_seen_at", "slow")],
        ),
        (
            "ALTER TABLE participants DISABLE TRIGGER participants_see",
            &[
                ("triggers", "participants_see"),
                (trial, "the trigger passed over"),
            ],
        ),
        (
            "ALTER TABLE rooms DISABLE TRIGGER rooms_end",
            &[("triggers", "rooms_end")],
        ),
        (
            "DROP TRIGGER participants_see ON participants",
            &[
                ("triggers", "participants_see"),
                (trial, "the trigger passed over"),
            ],
        ),
        (
            "DROP FUNCTION check_room_expiry(text)",
            &[
                ("functions", "check_room_expiry"),
                (trial, "check_room_expiry"),
            ],
        ),
        (
            "DROP FUNCTION cleanup_inactive_rooms(interval, bigint, integer, boolean)",
            &[("functions", "cleanup_inactive_rooms")],
        ),
    ];
    for (damage, expected) in cases {
        let bench = Bench::new();
        PostgresStore::migrate(&bench.database).await.unwrap();
        bench.db().await.run(damage).await;
        let checks = PostgresStore::verify(&bench.database).await;
        let found = wrong(&checks);
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        let expected_names: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, expected_names, "{damage}: {found:?}");
        for ((_, said), (_, word)) in found.iter().zip(expected) {
            assert!(said.contains(word), "{damage}: {said}");
        }
    }
}

/// A full table with the forbidden index: no update finds room beside its row, and none could be heap-only if it did.
#[tokio::test]
async fn updates_that_are_not_heap_only_are_named() {
    let bench = Bench::new();
    let store = bench.open().await;
    make_room(&store, "r").await;
    let mut db = bench.db().await;
    let heap_only = async || {
        let checks = PostgresStore::verify(&bench.database).await;
        let check = checks
            .iter()
            .find(|check| check.name == "heap-only updates");
        check.unwrap().outcome.clone()
    };
    let early = heap_only().await.unwrap();
    assert!(early.contains("too early"), "{early}");
    db.run(
        "ALTER TABLE participants SET (fillfactor = 100);
         CREATE INDEX slow ON participants (last_seen_at);
         INSERT INTO participants (room_key, name, access_method) SELECT key, 'x', 'token' FROM rooms, generate_series(1, 1100);
         UPDATE participants SET last_seen_at = last_seen_at + interval '1 second';",
    )
    .await;
    // A session tells the statistics when it ends.
    db.close().await;
    let deadline = Instant::now() + SOON;
    let error = loop {
        match heap_only().await {
            Err(error) => break error,
            Ok(said) => assert!(Instant::now() < deadline, "{said}"),
        }
    };
    assert!(error.contains("0 % of 11"), "{error}");
    assert!(error.contains("index on a flushed column"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let mut bench = Bench::new();
    let checks = PostgresStore::verify(&bench.database).await;
    let found = wrong(&checks);
    assert_eq!(found.len(), 1, "{checks:?}");
    assert_eq!(found[0].0, "schema version");
    assert!(found[0].1.contains("rollcall migrate"), "{found:?}");
    let schemas = format!(
        "SELECT count(*) FROM pg_namespace WHERE nspname = '{}'",
        bench.schema()
    );
    assert_eq!(
        bench.db().await.one(schemas).await,
        "0",
        "a look makes nothing"
    );

    PostgresStore::migrate(&bench.database).await.unwrap();
    bench
        .db()
        .await
        .run("UPDATE _sqlx_migrations SET version = 3 WHERE version = 2")
        .await;
    let checks = PostgresStore::verify(&bench.database).await;
    assert!(wrong(&checks)[0].1.contains("version 3"), "{checks:?}");

    let nowhere = unique("nowhere");
    let url = bench.database.url.expose().rsplit_once('/').unwrap().0;
    bench.database.url = rollcall::config::Secret::new(format!("{url}/{nowhere}"));
    let checks = PostgresStore::verify(&bench.database).await;
    assert_eq!(checks.len(), 1);
    assert_eq!(checks[0].name, "connect");
    assert!(wrong(&checks)[0].1.contains(&nowhere), "{checks:?}");
}
