//! The trigger that counts an update by other software as a sign of life, and that lets the server's own writes be.

use std::time::Duration;

use rollcall::{
    clock::Clock,
    store::{FlushBatch, ParticipantRow, ReapCriteria, RoomKey, RoomPatch, Store},
};
use rollcall_protocol::Timestamp;

use crate::{
    bench::{Bench, Db},
    life::{TERMS, departed, guest, id, join, make_invite, make_room, row, see, user},
};

/// What the row says of its life, with the time that is "now" put as such.
async fn life(db: &mut Db, set: &str) -> String {
    db.run(
        "UPDATE participants SET last_seen_at = '2020-01-01 00:00+00', is_active = true, left_at = NULL, name = 'Ann'",
    )
    .await;
    db.run(format!("UPDATE participants SET {set}")).await;
    db.one("SELECT is_active, is_now(last_seen_at), is_now(left_at) FROM participants")
        .await
}

#[tokio::test]
async fn an_update_by_other_software_is_a_sign_of_life_unless_it_says_otherwise() {
    let bench = Bench::new();
    let store = bench.open().await;
    join(&store, user("r", "ann")).await;
    let mut db = bench.db().await;
    db.run(
        "SET TimeZone = 'UTC';
         CREATE FUNCTION is_now(at timestamptz) RETURNS text LANGUAGE sql VOLATILE AS $$
             SELECT CASE WHEN at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() THEN 'now'
                         ELSE to_char(at, 'YYYY-MM-DD') END $$",
    )
    .await;
    let cases = [
        // Says nothing about it.
        ("name = 'Ann'", "t|now|"),
        ("user_id = user_id", "t|now|"),
        ("last_seen_at = last_seen_at", "t|now|"),
        // Says it: onwards, backwards.
        ("last_seen_at = '2021-01-01'", "t|2021-01-01|"),
        ("last_seen_at = '2019-01-01'", "t|2019-01-01|"),
        ("last_seen_at = '2031-01-01'", "t|2031-01-01|"),
        // Leaves; left_at goes with it, or the row is refused.
        (
            "is_active = false, left_at = '2022-01-01'",
            "f|now|2022-01-01",
        ),
        (
            "is_active = false, left_at = '2021-01-01', last_seen_at = '2021-01-01'",
            "f|2021-01-01|2021-01-01",
        ),
    ];
    for (set, expected) in cases {
        assert_eq!(life(&mut db, set).await, expected, "{set}");
    }
    // Comes back.
    for (set, expected) in [
        ("is_active = true, left_at = NULL", "t|now|"),
        (
            "is_active = true, left_at = NULL, last_seen_at = '2021-01-01'",
            "t|2021-01-01|",
        ),
    ] {
        life(&mut db, "is_active = false, left_at = '2020-01-01'").await;
        db.run("UPDATE participants SET last_seen_at = '2020-01-01'")
            .await;
        db.run(format!("UPDATE participants SET {set}")).await;
        let found =
            db.one("SELECT is_active, is_now(last_seen_at), is_now(left_at) FROM participants");
        assert_eq!(found.await, expected, "{set}");
    }
    // A clock that was ahead: nothing goes back by accident.
    db.run("UPDATE participants SET last_seen_at = '2031-01-01'")
        .await;
    db.run("UPDATE participants SET name = 'Bob'").await;
    assert_eq!(
        db.one("SELECT is_now(last_seen_at) FROM participants")
            .await,
        "2031-01-01"
    );
}

#[tokio::test]
async fn an_invite_that_goes_is_no_sign_of_life() {
    let bench = Bench::new();
    let store = bench.open().await;
    make_room(&store, "r").await;
    make_invite(&store, "r", 1).await;
    let guest = join(&store, guest(1, 1)).await.participant;
    let mut db = bench.db().await;
    db.run("UPDATE participants SET last_seen_at = '2020-01-01 00:00+00'")
        .await;
    assert_eq!(db.run("DELETE FROM invites").await, 1);
    let after = row(&store, &guest).await;
    assert_eq!(after.invite_key, None);
    assert_eq!(
        after.last_seen_at,
        "2020-01-01T00:00:00.000Z".parse().unwrap()
    );
}

/// Time is a manual clock far from the database's, so that a "now" of the trigger's would show in any row.
#[tokio::test]
async fn the_trigger_passes_over_the_servers_own_writes() {
    let bench = Bench::new();
    let clock = Clock::manual("2020-01-01T12:00:00.000Z".parse().unwrap());
    let store = bench.open_at(&clock).await;
    store.take_over(TERMS).await.unwrap().unwrap();
    make_room(&store, "r").await;
    make_invite(&store, "r", 1).await;
    let ann = join(&store, user("r", "ann")).await.participant;
    let mut db = bench.db().await;
    // From here on an update that the trigger takes for another's fails.
    db.run(
        "CREATE OR REPLACE FUNCTION see_participant() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'the trigger ran'; END $$",
    )
    .await;
    let refusal = db.refused("UPDATE participants SET name = 'Bob'").await;
    assert_eq!(refusal.message, "the trigger ran");

    everything_about_one(&store, &clock, &ann).await;
    everything_about_the_end(&store, &clock, &mut db).await;
    // It still would.
    join(&store, user("s", "ann")).await;
    let refusal = db.refused("UPDATE participants SET name = 'Bob'").await;
    assert_eq!(refusal.message, "the trigger ran");
}

async fn everything_about_one(store: &dyn Store, clock: &Clock, ann: &ParticipantRow) {
    let step = |seconds: i64| clock.step(seconds * 1_000);
    let seen_at = async |who: &ParticipantRow| row(store, who).await.last_seen_at;
    step(10);
    let first = clock.now();
    see(store, ann, first, None).await.unwrap();
    assert_eq!(seen_at(ann).await, first);
    // Again, and late: nothing to write.
    step(10);
    see(store, ann, first, None).await.unwrap();
    see(store, ann, ann.joined_at, None).await.unwrap();
    assert_eq!(seen_at(ann).await, first);
    // A departure that tells no newer time, and the same again.
    for _ in 0..2 {
        see(store, ann, first, departed(ann, first)).await.unwrap();
        let gone = row(store, ann).await;
        assert_eq!((gone.last_seen_at, gone.left_at), (first, Some(first)));
    }
    // A heartbeat that was flushed after the departure.
    let last = Timestamp::from_millis(first.as_millis() + 5);
    see(store, ann, last, None).await.unwrap();
    assert_eq!(row(store, ann).await.left_at, Some(last));
    step(10);
    let back = join(store, user("r", "ann")).await.participant;
    assert!(back.is_active && back.last_seen_at > last);
    // At once once more: the same moment, so nothing moves but the generation.
    let again = join(store, user("r", "ann")).await.participant;
    assert_eq!(again.generation, back.generation + 1);
    // An earlier departure, late.
    see(store, ann, last, departed(ann, last)).await.unwrap();
    assert!(row(store, ann).await.is_active);
    let at = seen_at(ann).await;
    step(10);
    let removed = store.remove_participant(ann.room_key, ann.id, true, true);
    assert_eq!(removed.await.unwrap().unwrap().last_seen_at, at);
    let restored = store.restore_participant(ann.room_key, ann.id);
    assert_eq!(restored.await.unwrap().unwrap().last_seen_at, at);
}

async fn everything_about_the_end(store: &dyn Store, clock: &Clock, db: &mut Db) {
    let by_link = join(store, guest(1, 1)).await.participant;
    // Silent, then settled by the next start.
    store.flush(&FlushBatch::default()).await.unwrap();
    store.stop().await.unwrap();
    clock.step(120_000);
    store.take_over(TERMS).await.unwrap().unwrap();
    store.flush(&FlushBatch::default()).await.unwrap();
    store.stop().await.unwrap();
    store.take_over(TERMS).await.unwrap().unwrap();
    let settled = row(store, &by_link).await;
    assert_eq!(settled.left_at, Some(by_link.last_seen_at));
    let patch = RoomPatch {
        idle_timeout: Some(Some(Duration::from_secs(60))),
        ..RoomPatch::default()
    };
    let room = store.patch_room(&id("r"), &patch).await.unwrap().unwrap();
    clock.step(600_000);
    let criteria = ReapCriteria::default();
    let reaped = store.reap(&[room.key], criteria, false).await.unwrap();
    assert_eq!(reaped[0].participants, 2);
    // An invite of one room that somebody of another came by, and the purge that takes it from them.
    make_room(store, "kept").await;
    let moved = "INSERT INTO participants (room_key, name, access_method, invite_key)
         SELECT rooms.key, 'x', 'invite', invites.key FROM rooms, invites WHERE rooms.id = 'kept'";
    assert_eq!(db.run(moved).await, 1);
    assert_eq!(store.purge_invites(Duration::ZERO, 9).await.unwrap(), 1);
    // By hand, in psql, with a participant to take along.
    store.stop().await.unwrap();
    db.run(
        "UPDATE rooms SET created_at = '2019-01-01', last_active_at = '2019-01-01';
         INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms) VALUES ('late', '2019-01-01', '2019-01-01', 1);
         INSERT INTO participants (room_key, name, access_method, last_seen_at)
         SELECT key, 'x', 'token', '2019-01-02' FROM rooms WHERE id = 'late'",
    )
    .await;
    assert_eq!(
        db.table("SELECT * FROM cleanup_inactive_rooms()").await,
        ["late|1"]
    );
    assert_eq!(store.rooms(RoomKey(0), 9).await.unwrap().len(), 1);
    store.delete_room(&id("kept")).await.unwrap().unwrap();
}
