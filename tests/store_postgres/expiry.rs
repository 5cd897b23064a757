//! `check_room_expiry()` and `cleanup_inactive_rooms()` beside the server that serves the same rooms: one answer.

use std::{sync::Arc, time::Duration};

use rollcall::{clock::Clock, config::Config};
use rollcall_protocol::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    bench::{Bench, Db},
    harness::{Client, TestServer, config, token_for},
};

/// A kind of room: its id, whether it has expired, then how many are online and whether it would be reaped, each at
/// first and after the restart with [`criteria`].
type Kind = (&'static str, bool, [u64; 2], [bool; 2]);

const ROOMS: &[Kind] = &[
    ("new", false, [0, 0], [false, false]),
    ("never_entered", true, [0, 0], [true, true]),
    ("present", false, [1, 1], [false, false]),
    ("silent", false, [1, 1], [false, false]),
    ("in_grace", false, [1, 1], [false, false]),
    ("left_just_now", false, [0, 0], [false, false]),
    ("left_long_ago", true, [0, 0], [true, true]),
    ("young", true, [0, 0], [true, false]),
    ("many", true, [0, 0], [true, false]),
    ("kept", true, [0, 0], [false, false]),
    ("never_idle", false, [0, 0], [false, false]),
    ("too_old", true, [0, 0], [true, true]),
    // A restart restores nobody to a room that is over.
    ("too_old_but_present", true, [1, 0], [false, true]),
    ("too_old_but_kept", true, [0, 0], [false, false]),
    ("touched", false, [0, 0], [false, false]),
];

fn criteria(config: &mut Config) {
    config.reap_min_age = Some(Duration::from_secs(90 * 60));
    config.reap_below_participants = Some(3);
}

async fn start(bench: &Bench, change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = config();
    // Beyond the test: who is in grace stays so.
    config.reconnect_grace = Duration::from_secs(300);
    change(&mut config);
    let store = Arc::new(bench.open().await);
    let dir = Arc::new(TempDir::new().unwrap());
    TestServer::on(config, store, dir, Clock::system()).await
}

async fn enter(server: &TestServer, room: &str, who: &str) -> Client {
    let query = format!("room={room}&token={}", token_for(who, room));
    server.connect(&query).await
}

/// Stops, and sends everybody away to come back.
async fn stop(server: TestServer, clients: Vec<Client>) {
    let leave = async {
        for mut client in clients {
            assert_eq!(client.closed().await, 1012);
        }
    };
    tokio::join!(server.stop(), leave);
}

/// Makes the rooms of the table; answers who is to stay.
async fn furnish(server: &TestServer, db: &mut Db) -> Vec<Client> {
    for (room, ..) in ROOMS {
        server.room(room).await;
    }
    let mut clients = Vec::new();
    for room in ["present", "silent", "too_old_but_present"] {
        clients.push(enter(server, room, "ann").await);
    }
    enter(server, "in_grace", "ann").await.drop_dead();
    for room in ["left_just_now", "left_long_ago", "young", "kept", "many"] {
        enter(server, room, "ann").await.leave().await;
    }
    for who in ["bob", "cy"] {
        enter(server, "many", who).await.leave().await;
    }
    server.flush().await;
    let kept = json!({"on_idle": "keep"});
    for room in ["kept", "too_old_but_kept"] {
        server
            .patch(&format!("/v1/rooms/{room}"), kept.clone())
            .await;
    }
    let never = json!({"idle_timeout_seconds": null});
    server.patch("/v1/rooms/never_idle", never).await;
    for room in [
        "never_entered",
        "left_long_ago",
        "many",
        "kept",
        "never_idle",
        "too_old",
        "too_old_but_kept",
        "touched",
    ] {
        age(db, room, "2 hours").await;
    }
    age(db, "young", "75 minutes").await;
    let idle = "UPDATE rooms SET idle_timeout_ms = 1 WHERE id = 'silent'";
    db.run(idle).await;
    db.run(
        "UPDATE rooms SET max_age_ms = 60000, created_at = created_at - interval '2 hours' WHERE id LIKE 'too_old%'",
    )
    .await;
    server.post("/v1/rooms/touched/touch", json!({})).await;
    clients
}

/// Moves all that is known of a room into the past.
async fn age(db: &mut Db, room: &str, by: &str) {
    db.run(format!(
        "UPDATE rooms SET created_at = created_at - interval '{by}', last_active_at = last_active_at - interval '{by}'
         WHERE id = '{room}';
         UPDATE participants SET joined_at = joined_at - interval '{by}', last_seen_at = last_seen_at - interval '{by}',
                left_at = left_at - interval '{by}'
         WHERE room_key = (SELECT key FROM rooms WHERE id = '{room}')"
    ))
    .await;
}

#[derive(Debug)]
struct Expiry {
    at: Option<Timestamp>,
    seconds: Option<u64>,
    expired: bool,
    online: u64,
}

async fn by_server(server: &TestServer, room: &str) -> Expiry {
    let answer = server.get(&format!("/v1/rooms/{room}/expiry")).await;
    assert_eq!(answer.status, 200, "{room}: {answer:?}");
    Expiry {
        at: answer.body["expires_at"]
            .as_str()
            .map(|at| at.parse().unwrap()),
        seconds: answer.body["seconds_remaining"].as_u64(),
        expired: answer.body["expired"].as_bool().unwrap(),
        online: answer.body["online"].as_u64().unwrap(),
    }
}

async fn by_sql(db: &mut Db, room: &str) -> Expiry {
    let found = db
        .one(format!(
            "SELECT to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), seconds_remaining, expired, online
             FROM check_room_expiry('{room}')"
        ))
        .await;
    let columns: Vec<&str> = found.split('|').collect();
    Expiry {
        at: columns[0].parse().ok(),
        seconds: columns[1].parse().ok(),
        expired: columns[2] == "t",
        online: columns[3].parse().unwrap(),
    }
}

/// Whether two times differ by no more than a flush interval; both or none.
fn agree(server: &TestServer, one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one.max(other).saturating_since(one.min(other)) <= server.config.flush_interval
        }
        (one, other) => one == other,
    }
}

async fn compare_expiry(server: &TestServer, db: &mut Db, online: impl Fn(&Kind) -> u64) {
    server.flush().await;
    for kind in ROOMS {
        let (room, expired, online) = (kind.0, kind.1, online(kind));
        let (told, found) = (by_server(server, room).await, by_sql(db, room).await);
        let context = format!("{room}: the server {told:?}, SQL {found:?}");
        assert_eq!((told.expired, told.online), (expired, online), "{context}");
        assert_eq!(
            (found.expired, found.online),
            (expired, online),
            "{context}"
        );
        assert!(agree(server, told.at, found.at), "{context}");
        let seconds = (told.seconds, found.seconds);
        assert!(
            seconds.0.is_some() == seconds.1.is_some()
                && seconds.0.unwrap_or(0).abs_diff(seconds.1.unwrap_or(0)) <= 1,
            "{context}"
        );
    }
    let unknown = db.table("SELECT * FROM check_room_expiry('nowhere')").await;
    assert_eq!(unknown, [""; 0]);
}

/// The rooms that would go, sorted, by both.
async fn compare_reap(server: &TestServer, db: &mut Db, arguments: &str) -> Vec<String> {
    let answer = server
        .post("/v1/admin/reap", json!({"dry_run": true}))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let rooms = answer.body["rooms"].as_array().unwrap().iter();
    let mut told: Vec<String> = rooms
        .map(|room| room.as_str().unwrap().to_owned())
        .collect();
    told.sort();
    let clean = format!("SELECT * FROM cleanup_inactive_rooms({arguments}dry_run => true)");
    let rows = db.table(clean).await;
    let counted: u64 = rows
        .iter()
        .map(|row| row.split_once('|').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(answer.body["participants"], counted);
    let mut found: Vec<String> = rows
        .iter()
        .map(|row| row.split_once('|').unwrap().0.to_owned())
        .collect();
    found.sort();
    assert_eq!(told, found);
    told
}

fn expected(is_reaped: impl Fn(&Kind) -> bool) -> Vec<String> {
    let rooms = ROOMS.iter().filter(|room| is_reaped(room));
    let mut rooms: Vec<String> = rooms.map(|room| room.0.to_owned()).collect();
    rooms.sort();
    rooms
}

#[tokio::test]
async fn sql_and_server_agree_on_every_kind_of_room_r9() {
    let bench = Bench::new();
    let server = start(&bench, |_| {}).await;
    let mut db = bench.db().await;
    let clients = furnish(&server, &mut db).await;
    compare_expiry(&server, &mut db, |kind| kind.2[0]).await;
    let reaped = compare_reap(&server, &mut db, "").await;
    assert_eq!(reaped, expected(|kind| kind.3[0]));

    // After a restart, with other criteria: whoever was there is waited for.
    stop(server, clients).await;
    let server = start(&bench, criteria).await;
    compare_expiry(&server, &mut db, |kind| kind.2[1]).await;
    let arguments = "min_age => interval '90 minutes', below_participants => 3, ";
    let reaped = compare_reap(&server, &mut db, arguments).await;
    assert_eq!(reaped, expected(|kind| kind.3[1]));
    server.stop().await;
}

#[tokio::test]
async fn whoever_is_waited_for_after_a_long_downtime_is_online_to_both_r9() {
    let bench = Bench::new();
    let server = start(&bench, |_| {}).await;
    let mut db = bench.db().await;
    server.room("r").await;
    let client = enter(&server, "r", "ann").await;
    stop(server, vec![client]).await;
    // Two hours go by.
    age(&mut db, "r", "2 hours").await;
    db.run(
        "UPDATE nodes SET started_at = started_at - interval '2 hours', flushed_at = flushed_at - interval '2 hours',
                stopped_at = stopped_at - interval '2 hours'",
    )
    .await;
    let server = start(&bench, |_| {}).await;
    server.flush().await;
    let (told, found) = (by_server(&server, "r").await, by_sql(&mut db, "r").await);
    assert_eq!((told.expired, told.online), (false, 1));
    assert_eq!((found.expired, found.online), (false, 1));
    assert_eq!(compare_reap(&server, &mut db, "").await, [""; 0]);
    server.stop().await;
}

/// A sweep of the server and one by hand, both for real, on rooms that a server has in memory.
#[tokio::test]
async fn what_is_cleaned_up_by_hand_is_gone_for_the_server() {
    let bench = Bench::new();
    let short = |config: &mut Config| {
        config.heartbeat_interval = Duration::from_millis(100);
        config.restart_grace = Duration::from_millis(100);
    };
    let server = start(&bench, short).await;
    let mut db = bench.db().await;
    for room in ["empty", "present"] {
        server.room(room).await;
    }
    let token = server.invite("empty").await;
    let mut client = enter(&server, "present", "ann").await;
    enter(&server, "empty", "ann").await.leave().await;
    server.flush().await;
    for room in ["empty", "present"] {
        age(&mut db, room, "2 hours").await;
    }
    // Told of again by the next flush, as a heartbeat is.
    client.quiet().await;
    server.flush().await;
    let deadline = tokio::time::Instant::now() + crate::harness::SOON;
    let rows = loop {
        match db.try_table("SELECT * FROM cleanup_inactive_rooms()").await {
            Ok(rows) => break rows,
            Err(refusal) => assert_eq!(refusal.code, "55000", "{refusal:?}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "never settles");
        server.flush().await;
    };
    assert_eq!(rows, ["empty|1"]);
    let refusal = server
        .try_connect(&format!("invite={token}&name=Bob"))
        .await;
    let refusal = refusal.err().unwrap();
    assert_eq!((refusal.status, refusal.code()), (410, "invite_expired"));
    let detail = refusal.body["detail"].as_str().unwrap();
    assert!(detail.contains("1 hour"), "{detail}");
    assert_eq!(server.get("/v1/rooms/empty").await.status, 404);
    assert_eq!(client.quiet().await, Vec::<serde_json::Value>::new());
    client.leave().await;
    server.stop().await;
}
