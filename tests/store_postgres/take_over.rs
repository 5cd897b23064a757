//! Who serves the database, and what becomes of who does not any more. Time is a manual clock, but for the watch, which a
//! process keeps by its own.

use std::time::Duration;

use rollcall::{
    clock::Clock,
    store::{FlushBatch, LockWait, Store, StoreError, postgres::PostgresStore},
};

use crate::{
    bench::Bench,
    life::{TERMS, departed, id, join, make_room, row, see, settings, user},
};

/// More than the three seconds for which a silent node is watched.
const WATCHED: Duration = Duration::from_millis(3_100);

fn clock() -> Clock {
    Clock::manual("2026-11-24T12:00:00.000Z".parse().unwrap())
}

/// Moves the clock and nothing else: what waits for the database meanwhile would time out.
async fn pass(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

/// Past the limit after which a node that does not flush is silent.
async fn fall_silent() {
    pass(TERMS.stale_after()).await;
}

async fn is_taken(store: &PostgresStore) -> bool {
    store.take_over(TERMS).await.unwrap().is_some()
}

#[tokio::test]
async fn a_second_node_waits_for_the_first() {
    let bench = Bench::new();
    let clock = clock();
    let (first, second) = (bench.open_at(&clock).await, bench.open_at(&clock).await);
    assert!(is_taken(&first).await);
    assert!(!is_taken(&second).await);
    // Flushes within its limit, for however long, keep it in charge.
    for _ in 0..3 {
        pass(TERMS.stale_after() - Duration::from_millis(100)).await;
        assert!(!is_taken(&second).await);
        first.flush(&FlushBatch::default()).await.unwrap();
    }
    first.stop().await.unwrap();
    assert!(is_taken(&second).await);
    assert!(!is_taken(&first).await);
}

#[tokio::test]
async fn a_silent_node_is_watched_before_it_is_replaced_r9() {
    let bench = Bench::new();
    let clock = clock();
    let (first, second) = (bench.open_at(&clock).await, bench.open_at(&clock).await);
    assert!(is_taken(&first).await);
    fall_silent().await;
    assert!(!is_taken(&second).await);
    pass(Duration::from_millis(2_000)).await;
    assert!(!is_taken(&second).await);
    // It was only slow: the watch is over.
    first.flush(&FlushBatch::default()).await.unwrap();
    pass(WATCHED).await;
    assert!(!is_taken(&second).await);
    fall_silent().await;
    assert!(!is_taken(&second).await);
    pass(WATCHED).await;
    assert!(is_taken(&second).await);
}

#[tokio::test]
async fn a_failed_look_starts_the_watch_anew_r9() {
    let bench = Bench::new();
    let clock = clock();
    let (first, second) = (bench.open_at(&clock).await, bench.open_at(&clock).await);
    assert!(is_taken(&first).await);
    fall_silent().await;
    assert!(!is_taken(&second).await);
    pass(WATCHED).await;
    let mut db = bench.db().await;
    db.run("BEGIN; LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE")
        .await;
    let error = second.take_over(TERMS).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    db.run("ROLLBACK").await;
    assert!(!is_taken(&second).await);
    pass(WATCHED).await;
    assert!(is_taken(&second).await);
}

#[tokio::test]
async fn of_two_that_wait_one_takes_over() {
    let bench = Bench::new();
    let clock = clock();
    let first = bench.open_at(&clock).await;
    let (second, third) = (bench.open_at(&clock).await, bench.open_at(&clock).await);
    assert!(is_taken(&first).await);
    first.stop().await.unwrap();
    let (one, other) = tokio::join!(second.take_over(TERMS), third.take_over(TERMS));
    let taken = [one.unwrap().is_some(), other.unwrap().is_some()];
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
}

#[tokio::test]
async fn a_replaced_node_can_write_nothing_r9() {
    let bench = Bench::new();
    let clock = clock();
    let (first, second) = (bench.open_at(&clock).await, bench.open_at(&clock).await);
    assert!(is_taken(&first).await);
    let ann = join(&first, user("r", "ann")).await.participant;
    let invite = crate::life::make_invite(&first, "r", 1).await;
    // Begun before it was replaced, so the replacement waits for it.
    let begun = first
        .begin_joins(&[user("r", "bob")], LockWait::Skip)
        .await
        .unwrap();
    fall_silent().await;
    assert!(!is_taken(&second).await);
    pass(WATCHED).await;
    let waits = second.take_over(TERMS).await;
    assert!(!matches!(waits, Ok(Some(_))), "{waits:?}");
    begun.release().await;
    while !is_taken(&second).await {
        pass(WATCHED).await;
    }

    let now = first.clock().now();
    let before = row(&second, &ann).await;
    let answers = [
        see(&first, &ann, now, departed(&ann, now)).await.err(),
        first.flush(&FlushBatch::default()).await.err(),
        first
            .begin_joins(&[user("r", "bob")], LockWait::Skip)
            .await
            .err(),
        first.facts(&user("r", "bob")).await.err(),
        first.create_room(&id("s"), &settings()).await.err(),
        first.touch_room(&id("r")).await.err(),
        first.delete_room(&id("r")).await.err(),
        first.revoke_invite(invite.id).await.err(),
        first
            .remove_participant(ann.room_key, ann.id, true, true)
            .await
            .err(),
        first
            .reap(&[ann.room_key], Default::default(), false)
            .await
            .err(),
        first.purge_invites(Duration::ZERO, 9).await.err(),
        first.ping().await.err(),
    ];
    for (n, error) in answers.iter().enumerate() {
        assert!(
            matches!(error, Some(StoreError::Superseded)),
            "{n}: {error:?}"
        );
    }
    assert_eq!(row(&second, &ann).await, before);
    make_room(&second, "s").await;
}

#[tokio::test]
async fn an_operators_lock_on_nodes_does_not_keep_a_server_from_starting() {
    let bench = Bench::new();
    let store = bench.open().await;
    let mut db = bench.db().await;
    // As cleanup_inactive_rooms() has it until its transaction ends.
    db.run("BEGIN; LOCK TABLE nodes IN ROW SHARE MODE").await;
    assert!(!is_taken(&store).await);
    db.run("COMMIT").await;
    assert!(is_taken(&store).await);
}

#[tokio::test]
async fn a_hundred_starts_are_remembered() {
    let bench = Bench::new();
    let clock = clock();
    let store = bench.open_at(&clock).await;
    for _ in 0..103 {
        assert!(is_taken(&store).await);
        store.stop().await.unwrap();
    }
    let nodes =
        "SELECT count(*), max(id) - min(id), count(*) FILTER (WHERE stopped_at IS NULL) FROM nodes";
    assert_eq!(bench.db().await.one(nodes).await, "100|99|0");
}
