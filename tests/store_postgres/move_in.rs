//! Moving in from the hand-made version with `migrations/move-in.sql`, while that version goes on and Rollcall serves.

use std::sync::Arc;

use rollcall::{
    clock::Clock,
    config::Database,
    store::{AccessMethod, ParticipantRow, RoomKey, Store, postgres::PostgresStore},
};
use rollcall_test_cluster::Cluster;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    bench::Db,
    harness::{TestServer, config, token_for},
    life::{id, join, make_room, user as by_token},
    old_version::{House, OLD, Past, counts, people, person, room, script, session, user, who},
};

#[tokio::test]
async fn what_becomes_of_what() {
    let house = House::furnished().await;
    let mut db = house.db().await;
    let ahead = "INSERT INTO session_participants (id, session_id, user_id, name, access_method, last_seen_at, created_at)
        SELECT p(15), s(1), u(6), 'Hal', 'token', now() + interval '1 minute', ago(50)";
    db.run(ahead).await;
    let old = "SELECT md5(string_agg(t::text, ';' ORDER BY id)) FROM session_participants AS t";
    let before = db.one(old).await;
    let past = Past::now(&mut db).await;
    let said = house.move_in();
    let expected = [
        ("rooms moved", 5),
        ("participants moved", 12),
        ("participants skipped: without a session", 1),
        ("rows beyond the first of one user in one session", 2),
        ("names mended", 6),
        ("access methods guessed", 3),
    ];
    assert_eq!(said, counts(&expected));
    assert_eq!(db.one(old).await, before);

    let store = house.bench.open().await;
    let club = room(&store, 1).await;
    assert_eq!(
        (club.created_at, club.settings.metadata["name"].as_str()),
        (past.ago(600), Some("Book club"))
    );
    assert_eq!(
        club.settings.idle_timeout,
        Some(std::time::Duration::from_secs(3600))
    );
    // As old as who is known of it, or as its last change.
    assert_eq!(
        (
            room(&store, 2).await.created_at,
            room(&store, 3).await.created_at
        ),
        (past.ago(80), past.ago(90))
    );
    assert!(room(&store, 2).await.settings.metadata.is_empty());
    assert_eq!(
        room(&store, 3).await.settings.metadata["name"],
        "Tab\there ☃"
    );
    assert_eq!(
        room(&store, 5).await.settings.metadata["name"]
            .as_str()
            .unwrap()
            .len(),
        500
    );

    // number, name, method, joined, last seen
    let cases = [
        (1, "Ann B", AccessMethod::Token, 500, 5),
        (4, "Guest", AccessMethod::Invite, 100, 10),
        (5, &"é".repeat(64), AccessMethod::Invite, 100, 10),
        (6, "a b", AccessMethod::Invite, 100, 10),
        (7, "Guest", AccessMethod::Invite, 600, 600),
        (8, "Bob", AccessMethod::Token, 50, 40),
        (9, "Cy", AccessMethod::Token, 50, 40),
        (10, "Di", AccessMethod::Token, 600, 600),
    ];
    for (n, name, method, joined, seen) in cases {
        let row = who(&store, 1, n).await;
        assert_eq!(
            (row.name.as_str(), row.access_method),
            (name, method),
            "{n}"
        );
        assert_eq!(
            (row.joined_at, row.last_seen_at),
            (past.ago(joined), past.ago(seen)),
            "{n}"
        );
        assert_eq!(
            (row.is_active, row.left_at),
            (false, Some(row.last_seen_at)),
            "{n}"
        );
    }
    assert_eq!(people(&store, &club).await.len(), 9);
    // Nobody is seen in the future, nor before they came; a clock may have been ahead.
    let hal = who(&store, 1, 15).await;
    assert!(hal.last_seen_at <= store.clock().now() && hal.last_seen_at >= past.ago(0));
    let eve = who(&store, 3, 12).await;
    assert_eq!(
        (eve.joined_at, eve.last_seen_at),
        (past.ago(30), past.ago(20))
    );
    assert_eq!(who(&store, 5, 13).await.name.as_str(), "Flo");
    let ann = who(&store, 2, 11).await;
    assert_eq!(ann.user_id.unwrap().as_str(), user(1));
    for check in PostgresStore::verify(&house.bench.database).await {
        assert!(check.outcome.is_ok(), "{check:?}");
    }
}

#[tokio::test]
async fn a_second_run_changes_nothing_and_a_later_one_goes_forward_only() {
    let house = House::furnished().await;
    let mut db = house.db().await;
    house.move_in();
    let rows = "SELECT md5(string_agg(p::text, ';' ORDER BY key)), md5((SELECT string_agg(r::text, ';' ORDER BY key) FROM rooms AS r))
        FROM participants AS p";
    let before = db.one(rows).await;
    let said = house.move_in();
    assert_eq!(
        (
            said["rooms there already"],
            said["participants there already"]
        ),
        (5, 11)
    );
    assert!(
        !said.contains_key("participants moved")
            && !said.contains_key("participants seen later in the old version")
    );
    assert_eq!(db.one(rows).await, before);

    // The old application goes on: somebody is seen, one's time goes back, people and rooms come.
    let past = Past::now(&mut db).await;
    db.run(
        "UPDATE session_participants SET last_seen_at = ago(1), is_active = true, name = 'New' WHERE id IN (p(3), p(4));
         UPDATE session_participants SET last_seen_at = ago(400) WHERE id IN (p(5));
         INSERT INTO reading_sessions VALUES (s(6), 'later', ago(3), ago(3));
         INSERT INTO session_participants VALUES
            (p(20), s(6), u(1), 'Ann', 'token', ago(2), true, ago(3), ago(2)),
            (p(21), s(1), u(2), 'Bob', 'token', ago(2), true, ago(900), ago(2)),
            (p(22), s(1), NULL, 'Gus', 'invite', ago(2), true, ago(3), ago(2))",
    )
    .await;
    // Meanwhile in Rollcall a room was closed, somebody deleted, and somebody came.
    let store = house.bench.open().await;
    store.delete_room(&id(&session(3))).await.unwrap().unwrap();
    db.run("DELETE FROM participants WHERE id = p(6)").await;
    let cy = join(&store, by_token(&session(1), &user(3)))
        .await
        .participant;
    assert_eq!(
        cy,
        ParticipantRow {
            is_active: true,
            left_at: None,
            ..who(&store, 1, 9).await
        }
    );

    let said = house.move_in();
    let expected = [
        ("rooms moved", 1),
        ("rooms there already", 4),
        ("rooms skipped: ended in Rollcall since", 1),
        ("participants moved", 2),
        // Ann, the guest and Bob.
        ("participants seen later in the old version", 3),
        ("participants there already", 9),
        ("participants skipped: without a session", 1),
        (
            "participants skipped: of rooms that have ended in Rollcall since",
            1,
        ),
        ("participants skipped: deleted in Rollcall since", 1),
        ("rows beyond the first of one user in one session", 3),
        ("names mended", 4),
        ("access methods guessed", 3),
    ];
    assert_eq!(said, counts(&expected));
    for (n, minutes) in [(1, 1), (4, 1), (5, 10), (8, 2), (22, 2)] {
        let row = who(&store, 1, n).await;
        assert_eq!(
            (row.last_seen_at, row.left_at),
            (past.ago(minutes), Some(past.ago(minutes))),
            "{n}"
        );
    }
    assert_eq!(who(&store, 1, 9).await, cy);
    assert_eq!(store.room(&id(&session(3))).await.unwrap(), None);
    assert_eq!(house.move_in().get("participants moved"), None);
}

#[tokio::test]
async fn rooms_that_the_application_made_meanwhile_are_joined_to() {
    let house = House::furnished().await;
    let store = house.bench.open().await;
    let made = make_room(&store, &session(1)).await;
    // Ann came before the move, so she has another id than in the old version.
    let ann = join(&store, by_token(&session(1), &user(1)))
        .await
        .participant;
    let said = house.move_in_with(&[("idle_timeout", "never"), ("on_idle", "keep")]);
    assert_eq!((said["rooms moved"], said["rooms there already"]), (4, 1));
    assert_eq!(room(&store, 1).await.settings, made.settings);
    assert_eq!(room(&store, 2).await.settings.idle_timeout, None);
    let everybody = people(&store, &made).await;
    let anns = everybody.iter().filter(|row| row.user_id == ann.user_id);
    assert_eq!(anns.collect::<Vec<_>>(), [&ann]);
    assert_eq!(everybody.len(), 8);
}

/// With the names that the script takes when it is told none.
#[tokio::test]
async fn a_server_knows_who_moved_in_and_serves_on_through_another_run() {
    let cluster = Cluster::start();
    let mut db = Db::connect(&cluster.url()).await;
    db.run(OLD).await;
    let database = Database::at(cluster.url());
    let store = Arc::new(
        PostgresStore::open(&database, Clock::system())
            .await
            .unwrap(),
    );
    cluster.psql_file(&script(), &[]);
    let dir = Arc::new(TempDir::new().unwrap());
    let server = TestServer::on(config(), store, dir, Clock::system()).await;

    let enter = async |room: u32, sub: u32| {
        let token = token_for(&user(sub), &session(room));
        server
            .connect(&format!("room={}&token={token}", session(room)))
            .await
    };
    let mut ann = enter(1, 1).await;
    assert_eq!(ann.id(), person(1));
    assert_eq!(
        ann.welcome["room"]["metadata"],
        json!({"name": "Book club"})
    );
    let mut zoe = enter(1, 99).await;
    ann.sees(&["Ann B", &user(99)]).await;
    // A guest by a new link is somebody new: the old links are not ours.
    let invite = server.invite(&session(1)).await;
    let guest = server.join(&invite, "Gus").await;
    for client in [&mut ann, &mut zoe] {
        client.sees(&["Ann B", "Gus", &user(99)]).await;
    }
    let listed = server
        .get(&format!("/v1/rooms/{}/participants", session(1)))
        .await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 10);
    // Idle for more than an hour: moved all the same, refused and reaped as ever.
    let token = token_for(&user(1), &session(2));
    let refusal = server
        .try_connect(&format!("room={}&token={token}", session(2)))
        .await;
    assert_eq!(refusal.err().unwrap().code(), "room_expired");

    // Again, with everybody there: nobody notices, and no time of Rollcall's goes back.
    server.flush().await;
    let seen = "SELECT string_agg(last_seen_at::text || is_active, ',' ORDER BY key) FROM rollcall.participants WHERE is_active";
    let before = db.one(seen).await;
    db.run("UPDATE session_participants SET last_seen_at = ago(2)")
        .await;
    cluster.psql_file(&script(), &[]);
    assert_eq!(db.one(seen).await, before);
    assert_eq!(ann.quiet().await, Vec::<serde_json::Value>::new());
    assert_eq!(zoe.quiet().await, Vec::<serde_json::Value>::new());
    server.flush().await;
    for client in [ann, zoe, guest] {
        client.leave().await;
    }
    server.stop().await;
    let rooms = PostgresStore::open(&database, Clock::system())
        .await
        .unwrap();
    assert_eq!(rooms.rooms(RoomKey(0), 9).await.unwrap().len(), 5);
}
