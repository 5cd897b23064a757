//! `cleanup_inactive_rooms()` as psql and pg_cron call it: when it refuses, what it takes, and whom it lets be.

use std::{sync::Arc, time::Duration};

use rollcall::store::{
    LockWait, ReapCriteria, RoomEndCause, RoomKey, Store, postgres::PostgresStore,
};
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Db},
    life::{guest, id, join, join_all, make_invite, make_room, user},
};

const CLEAN_UP: &str = "SELECT * FROM cleanup_inactive_rooms()";

/// Rooms `r1` to `r<many>` that have been idle for an hour, with two people who left, and an invite each.
async fn idle_rooms(db: &mut Db, many: usize) {
    db.run(format!(
        "INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms)
         SELECT 'r' || n, now() - interval '2 hours', now() - interval '2 hours', 3600000 FROM generate_series(1, {many}) AS n;
         INSERT INTO participants (room_key, name, access_method, joined_at, last_seen_at, is_active, left_at)
         SELECT key, 'x', 'token', created_at, created_at, false, created_at FROM rooms, generate_series(1, 2)
         WHERE id ~ '^r[0-9]+$';
         INSERT INTO invites (room_key, room_id, token_hash)
         SELECT key, id, sha256(id::bytea) FROM rooms WHERE id ~ '^r[0-9]+$'"
    ))
    .await;
}

async fn bench() -> (Bench, PostgresStore, Db) {
    let bench = Bench::new();
    let (store, db) = (bench.open().await, bench.db().await);
    (bench, store, db)
}

/// Nodes as (started, flushed, stopped), ages in seconds; flushes every 5 s, settles for 60 s, stale after 15 s.
type Node = (u32, Option<u32>, Option<u32>);

async fn set_nodes(db: &mut Db, nodes: &[Node]) {
    let ago = |seconds: Option<u32>| match seconds {
        Some(seconds) => format!("now() - interval '{seconds} seconds'"),
        None => "NULL".to_owned(),
    };
    db.run("DELETE FROM nodes").await;
    for (started, flushed, stopped) in nodes {
        let times = [ago(Some(*started)), ago(*flushed), ago(*stopped)].join(", ");
        db.run(format!(
            "INSERT INTO nodes (started_at, flushed_at, stopped_at, stale_after_ms, settle_ms, seat_silence_ms)
             SELECT {times}, 15000, 60000, 100000"
        ))
        .await;
    }
}

#[tokio::test]
async fn it_refuses_while_it_cannot_know_who_is_live_r9() {
    let (_bench, _store, mut db) = bench().await;
    let settling = "may not be back yet";
    let stale = "has not flushed since";
    let cases: &[(&[Node], Option<&str>)] = &[
        (&[(3600, None, None)], Some(settling)),
        (&[(30, Some(1), None)], Some(settling)),
        (&[(3600, Some(60), None)], Some(stale)),
        (
            &[(3600, Some(1), None), (3000, Some(60), None)],
            Some(stale),
        ),
        (&[(3600, Some(1), None)], None),
        (&[(3600, Some(1800), Some(1800))], None),
        (&[(3600, None, Some(1800)), (1800, Some(1), None)], None),
        (&[], None),
    ];
    for (nodes, refusal) in cases {
        set_nodes(&mut db, nodes).await;
        db.run("DELETE FROM rooms").await;
        idle_rooms_again(&mut db).await;
        // A look is always free.
        let look = "SELECT * FROM cleanup_inactive_rooms(dry_run => true)";
        assert_eq!(db.table(look).await, ["r1|2"], "{nodes:?}");
        match refusal {
            None => assert_eq!(db.table(CLEAN_UP).await, ["r1|2"], "{nodes:?}"),
            Some(why) => {
                let refusal = db.refused(CLEAN_UP).await;
                assert_eq!(refusal.code, "55000", "{nodes:?}: {refusal:?}");
                assert!(refusal.message.contains(why), "{nodes:?}: {refusal:?}");
                assert!(refusal.hint.contains("stopped_at"), "{refusal:?}");
                assert_eq!(db.one("SELECT count(*) FROM rooms").await, "1");
            }
        }
    }
}

async fn idle_rooms_again(db: &mut Db) {
    db.run("DELETE FROM invites").await;
    idle_rooms(db, 1).await;
}

#[tokio::test]
async fn it_refuses_where_it_would_not_see_who_came_meanwhile_r1() {
    let (_bench, _store, mut db) = bench().await;
    idle_rooms(&mut db, 1).await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        db.run(format!("BEGIN ISOLATION LEVEL {level}")).await;
        let refusal = db.refused(CLEAN_UP).await;
        assert_eq!(refusal.code, "25000", "{refusal:?}");
        assert!(refusal.message.contains("READ COMMITTED"), "{refusal:?}");
        db.run("ROLLBACK").await;
    }
    assert_eq!(db.table(CLEAN_UP).await, ["r1|2"]);
}

#[tokio::test]
async fn a_late_guest_learns_how_the_room_ended() {
    let (_bench, store, mut db) = bench().await;
    for (token, room) in [(1, "idle"), (2, "old")] {
        make_room(&store, room).await;
        make_invite(&store, room, token).await;
        join(&store, guest(token, 1)).await;
    }
    db.run(
        "UPDATE participants SET last_seen_at = now() - interval '1 hour';
         UPDATE rooms SET created_at = now() - interval '2 hours', last_active_at = now() - interval '2 hours';
         UPDATE rooms SET max_age_ms = 1000, idle_timeout_ms = NULL WHERE id = 'old'",
    )
    .await;
    assert_eq!(db.table(CLEAN_UP).await, ["idle|1", "old|1"]);
    let now = store.clock().now();
    for (token, cause) in [
        (1, RoomEndCause::Idle(crate::life::IDLE)),
        (2, RoomEndCause::MaxAge),
    ] {
        let (_, facts) = store.facts(&guest(token, 2)).await.unwrap();
        let end = facts.invite.unwrap().room_end.unwrap();
        assert_eq!(end.cause, cause);
        assert!(end.ended_at <= store.clock().now().max(now));
        assert_eq!(facts.room, None);
    }
}

#[tokio::test]
async fn it_spares_a_room_that_somebody_is_joining_r1() {
    let (bench, store, mut db) = bench().await;
    idle_rooms(&mut db, 3).await;
    let mut other = bench.db().await;
    other
        .run("BEGIN; SELECT FROM rooms WHERE id = 'r1' FOR NO KEY UPDATE")
        .await;
    let ann = [user("r2", "ann")];
    let batch = store.begin_joins(&ann, LockWait::Skip).await.unwrap();
    assert_eq!(db.table(CLEAN_UP).await, ["r3|2"]);
    other.run("ROLLBACK").await;
    batch.release().await;
    join(&store, user("r2", "ann")).await;
    assert_eq!(db.table(CLEAN_UP).await, ["r1|2"]);
    assert!(store.room(&id("r2")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_room_that_only_looks_idle_is_spared_and_put_right() {
    let (_bench, _store, mut db) = bench().await;
    idle_rooms(&mut db, 2).await;
    let seen = "UPDATE participants SET last_seen_at = now() - interval '1 minute'
        WHERE key = (SELECT min(key) FROM participants WHERE room_key = (SELECT key FROM rooms WHERE id = 'r1'))";
    db.run(seen).await;
    assert_eq!(db.table(CLEAN_UP).await, ["r2|2"]);
    let coarse = "SELECT last_active_at = (SELECT max(last_seen_at) FROM participants) FROM rooms";
    assert_eq!(db.one(coarse).await, "t");
}

#[tokio::test]
async fn a_call_takes_no_more_than_it_is_told() {
    let (_bench, store, mut db) = bench().await;
    idle_rooms(&mut db, 1_207).await;
    let call = async |db: &mut Db, most: &str| {
        let call = format!("SELECT count(*) FROM cleanup_inactive_rooms(max_rooms => {most})");
        db.one(call).await
    };
    assert_eq!(call(&mut db, "0").await, "0");
    assert_eq!(call(&mut db, "3").await, "3");
    assert_eq!(call(&mut db, "502").await, "502");
    assert_eq!(store.rooms(RoomKey(0), 1_000).await.unwrap().len(), 702);
    assert_eq!(call(&mut db, "NULL").await, "702");
    assert_eq!(store.counts().await.unwrap().participants, 0);
}

#[tokio::test]
async fn calls_at_once_share_the_work() {
    let (bench, _store, mut db) = bench().await;
    idle_rooms(&mut db, 600).await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let mut db = bench.db().await;
        calls.spawn(async move { db.table(CLEAN_UP).await });
    }
    let mut rooms: Vec<String> = calls.join_all().await.concat();
    assert_eq!(rooms.len(), 600);
    rooms.sort();
    rooms.dedup();
    assert_eq!(rooms.len(), 600);
    assert_eq!(db.one("SELECT count(*) FROM rooms").await, "0");
    let ended = "SELECT count(*), count(room_key) FROM invites_told WHERE room_end_cause = 'idle'";
    assert_eq!(db.one(ended).await, "600|0");
}

/// Idle rooms are cleaned up, few at a time, while people come back to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_admitted_somebody_is_not_cleaned_up_under_them_r1() {
    let (bench, store, mut db) = bench().await;
    const ROOMS: usize = 300;
    idle_rooms(&mut db, ROOMS).await;
    let store = Arc::new(store);
    let mut joiners = JoinSet::new();
    for joiner in 0..2 {
        let store = Arc::clone(&store);
        joiners.spawn(async move {
            let mut joined = Vec::new();
            // From the other end, and from the same one.
            for n in (1..=ROOMS).map(|n| if joiner == 0 { n } else { ROOMS + 1 - n }) {
                let room = format!("r{n}");
                let who = user(&room, &format!("u{joiner}"));
                let is_there = store.room(&id(&room)).await.unwrap().is_some();
                if is_there {
                    joined.extend(join_all(&*store, &[who]).await.unwrap());
                }
            }
            joined
        });
    }
    let mut cleaned = 0;
    while !joiners.is_empty() {
        let call = "SELECT * FROM cleanup_inactive_rooms(max_rooms => 7)";
        cleaned += db.table(call).await.len();
        let mut done = Vec::new();
        while let Some(joined) = joiners.try_join_next() {
            done.extend(joined.unwrap());
        }
        for joined in done {
            let row = store
                .participant(joined.room.key, joined.participant.id)
                .await;
            assert!(row.unwrap().is_some(), "{:?} is gone", joined.room.id);
        }
    }
    assert!(cleaned > 10, "only {cleaned} rooms were cleaned up");
    drop(bench);
}

/// A thousand rooms and their people, at random but by the seed, none nearer to a border than some minutes.
fn random_rooms(seed: f64) -> String {
    format!(
        "SELECT setseed({seed});
         INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms, max_age_ms, on_idle)
         SELECT 'r' || n, at, at + (now() - at) * random(),
                CASE WHEN random() < 0.8 THEN 3600000 * (1 + floor(random() * 4)) END,
                CASE WHEN random() < 0.2 THEN 3600000 * (1 + floor(random() * 8)) END,
                CASE WHEN random() < 0.9 THEN 'delete' ELSE 'keep' END
         FROM (SELECT n, now() - interval '1 hour' * (0.5 + floor(random() * 9)) AS at FROM generate_series(1, 1000) AS n)
             AS made;
         UPDATE rooms SET last_active_at = date_trunc('hour', last_active_at - now() + timestamptz '2020-01-01 00:00')
                          + (now() - timestamptz '2020-01-01 00:00') + interval '30 minutes'
         WHERE last_active_at < now() - interval '1 hour';
         INSERT INTO participants (room_key, name, access_method, last_seen_at, is_active, left_at)
         SELECT key, 'x', 'token', at, is_active, CASE WHEN NOT is_active THEN at END
         FROM (SELECT rooms.key, now() - interval '1 hour' * (0.5 + floor(random() * 9)) AS at, random() < 0.3 AS is_active
               FROM rooms, generate_series(1, 5) WHERE random() < 0.4) AS made"
    )
}

#[tokio::test]
async fn it_takes_what_the_server_would_take() {
    let criteria = [
        (None, None),
        (Some(3 * 3600), None),
        (None, Some(2)),
        (Some(2 * 3600), Some(3)),
    ];
    for seed in [0.1, 0.5, -0.7] {
        let (_bench, store, mut db) = bench().await;
        db.run(random_rooms(seed)).await;
        for (min_age, below) in criteria {
            let wanted = ReapCriteria {
                min_age: min_age.map(Duration::from_secs),
                below_participants: below,
            };
            let found = store.reap_candidates(wanted, RoomKey(0), 1_000).await;
            let keys = found.unwrap();
            let reaped = store.reap(&keys, wanted, true).await.unwrap();
            let told: Vec<String> = reaped
                .iter()
                .map(|room| format!("{}|{}", room.id, room.participants))
                .collect();
            let age = min_age.map_or("NULL".to_owned(), |age| format!("interval '{age} seconds'"));
            let below = below.map_or("NULL".to_owned(), |below| below.to_string());
            let call =
                format!("SELECT * FROM cleanup_inactive_rooms({age}, {below}, dry_run => true)");
            assert_eq!(db.table(call).await, told, "seed {seed}, {wanted:?}");
            assert!(
                (20..900).contains(&told.len()),
                "{} of {}",
                told.len(),
                keys.len()
            );
            assert!(
                keys.len() > told.len(),
                "the coarse look decided everything"
            );
        }
    }
}
