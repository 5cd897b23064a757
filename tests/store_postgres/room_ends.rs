//! Invites and their rooms, states and their participants, where no foreign key ties them: whoever else writes leaves neither
//! an invite of a room that never was, nor one that does not know how its room ended, nor a state of nobody.

use std::time::Duration;

use rollcall::store::{RoomEnd, RoomEndCause, Store, postgres::PostgresStore};

use crate::{
    bench::{Bench, Db},
    life::{guest, id, join, make_invite, make_room},
};

/// Rooms `a` and `b`, with an invite each: 1 and 2.
async fn two_rooms() -> (Bench, PostgresStore, Db) {
    let bench = Bench::new();
    let store = bench.open().await;
    for (room, token) in [("a", 1), ("b", 2)] {
        make_room(&store, room).await;
        make_invite(&store, room, token).await;
        join(&store, guest(token, 1)).await;
    }
    let db = bench.db().await;
    (bench, store, db)
}

/// How the room of an invite ended; the invite is there.
async fn end(store: &PostgresStore, token: u8) -> Option<RoomEnd> {
    let (_, facts) = store.facts(&guest(token, 1)).await.unwrap();
    let invite = facts.invite.unwrap();
    assert_eq!(invite.room_key.is_some(), facts.room.is_some());
    assert_eq!(invite.room_key.is_none(), invite.room_end.is_some());
    invite.room_end
}

const LOST: &str = "SELECT count(*) FROM invites AS i
    WHERE NOT EXISTS (SELECT FROM rooms AS r WHERE r.key = i.room_key)
      AND NOT EXISTS (SELECT FROM room_ends AS e WHERE e.room_key = i.room_key)";

#[tokio::test]
async fn a_room_that_other_software_deletes_is_closed() {
    let (_bench, store, mut db) = two_rooms().await;
    db.run("DELETE FROM rooms WHERE id = 'a'").await;
    assert_eq!(end(&store, 1).await.unwrap().cause, RoomEndCause::Closed);
    assert_eq!(end(&store, 2).await, None);
    db.run("TRUNCATE rooms CASCADE").await;
    assert_eq!(end(&store, 2).await.unwrap().cause, RoomEndCause::Closed);
    assert_eq!(db.one("SELECT count(*) FROM room_ends").await, "2");
    assert_eq!(db.one(LOST).await, "0");
    // A room born again under the same id has nothing to do with it.
    make_room(&store, "a").await;
    assert_eq!(end(&store, 1).await.unwrap().cause, RoomEndCause::Closed);
    assert!(store.room(&id("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn an_end_that_is_known_is_not_overwritten() {
    let (_bench, store, mut db) = two_rooms().await;
    db.run(
        "INSERT INTO room_ends (room_key, ended_at, cause) SELECT key, '2020-01-01 00:00+00', 'max_age' FROM rooms WHERE id = 'a';
         DELETE FROM rooms WHERE id = 'a'",
    )
    .await;
    let known = RoomEnd {
        ended_at: "2020-01-01T00:00:00.000Z".parse().unwrap(),
        cause: RoomEndCause::MaxAge,
    };
    assert_eq!(end(&store, 1).await, Some(known));
}

#[tokio::test]
async fn no_invite_is_made_for_a_room_that_is_gone() {
    let (bench, _store, mut db) = two_rooms().await;
    let make = "INSERT INTO invites (room_key, room_id, token_hash)
        SELECT key, id, sha256('x'::bytea) FROM rooms WHERE id = 'a'";
    let mut other = bench.db().await;
    // Whoever comes second waits: an invite for the deletion, a deletion for the invite.
    other.run("BEGIN; DELETE FROM rooms WHERE id = 'a'").await;
    let (refusal, ()) = tokio::join!(db.refused(make), async {
        wait_for_lock(&bench).await;
        other.run("COMMIT").await;
    });
    assert_eq!(refusal.constraint, "invites_room_key_fkey");
    let make = make.replace("'a'", "'b'");
    other.run(format!("BEGIN; {make}")).await;
    tokio::join!(db.run("DELETE FROM rooms WHERE id = 'b'"), async {
        wait_for_lock(&bench).await;
        other.run("COMMIT").await;
    });
    assert_eq!(db.one("SELECT count(*) FROM invites").await, "3");
    assert_eq!(db.one(LOST).await, "0");
}

async fn wait_for_lock(bench: &Bench) {
    let mut db = bench.db().await;
    let schema = bench.database.schema.clone();
    let waiting = format!(
        "SELECT count(*) FROM pg_locks AS waiting JOIN pg_locks AS has ON has.pid = waiting.pid
         WHERE NOT waiting.granted AND has.relation = '{schema}.rooms'::regclass"
    );
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while db.one(&*waiting).await == "0" {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits");
    }
}

#[tokio::test]
async fn invites_go_with_what_is_left_of_their_room() {
    let (_bench, store, mut db) = two_rooms().await;
    db.run("DELETE FROM rooms WHERE id = 'a'").await;
    db.run("DELETE FROM room_ends").await;
    assert_eq!(db.one("SELECT room_id FROM invites").await, "b");
    db.run("TRUNCATE room_ends").await;
    assert_eq!(end(&store, 2).await, None);
    // Of a room that is there, a false end takes nothing along.
    db.run("INSERT INTO room_ends (room_key, ended_at, cause) SELECT key, now(), 'closed' FROM rooms WHERE id = 'b'")
        .await;
    db.run("DELETE FROM room_ends").await;
    assert_eq!(end(&store, 2).await, None);
}

#[tokio::test]
async fn a_purge_takes_old_ends_with_their_invites_and_those_without() {
    let (_bench, store, mut db) = two_rooms().await;
    make_room(&store, "bare").await;
    for room in ["a", "b", "bare"] {
        store.delete_room(&id(room)).await.unwrap().unwrap();
    }
    db.run("UPDATE room_ends SET ended_at = '2020-01-01 00:00+00' WHERE room_key <> (SELECT room_key FROM invites WHERE room_id = 'b')")
        .await;
    let day = Duration::from_secs(86_400);
    assert_eq!(store.purge_invites(day, 9).await.unwrap(), 1);
    assert_eq!(
        db.one("SELECT string_agg(room_id, ' ') FROM invites").await,
        "b"
    );
    assert_eq!(db.one("SELECT count(*) FROM room_ends").await, "1");
    assert_eq!(store.purge_invites(Duration::ZERO, 9).await.unwrap(), 1);
    assert_eq!(db.one("SELECT count(*) FROM room_ends").await, "0");
}

#[tokio::test]
async fn states_go_with_their_participants() {
    let (bench, _store, mut db) = two_rooms().await;
    let say = "INSERT INTO participant_states SELECT key, '{}' FROM participants";
    let states = "SELECT count(*) FROM participant_states";
    for (deletion, left) in [
        (
            "DELETE FROM participants WHERE key = (SELECT min(key) FROM participants)",
            "1",
        ),
        ("DELETE FROM rooms WHERE id = 'b'", "0"),
    ] {
        db.run(format!("{say} ON CONFLICT DO NOTHING")).await;
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            db.run(format!("BEGIN ISOLATION LEVEL {level}")).await;
            let refusal = db.refused(deletion).await;
            assert_eq!(refusal.code, "25000", "{refusal:?}");
            db.run("ROLLBACK").await;
        }
        db.run(deletion).await;
        assert_eq!(db.one(states).await, left, "{deletion}");
    }
    db.run(
        "INSERT INTO participants (room_key, name, access_method) SELECT key, 'x', 'token' FROM rooms, generate_series(1, 3)",
    )
    .await;
    db.run(say).await;
    db.run("TRUNCATE participants").await;
    assert_eq!(db.one(states).await, "0");

    // A deletion waits for a state that is just being written, and takes it along.
    let someone = "INSERT INTO participants (room_key, name, access_method) SELECT key, 'x', 'token' FROM rooms";
    db.run(someone).await;
    let mut other = bench.db().await;
    other.run(format!("BEGIN; {say}")).await;
    tokio::join!(db.run("DELETE FROM rooms"), async {
        wait_for_lock(&bench).await;
        other.run("COMMIT").await;
    });
    assert_eq!(db.one(states).await, "0");
}
