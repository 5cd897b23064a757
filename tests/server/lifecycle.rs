//! Rooms that become idle, are refused, are reaped, are born again, or end of age.

use std::time::Duration;

use rollcall::{hub::Full, store::RoomPatch};
use rollcall_protocol::{ParticipantId, ProblemCode, RoomId};
use serde_json::{Value, json};

use crate::{
    harness::{Client, TestServer, token_for},
    offline::Offline,
};

/// Short times: a heartbeat a fifth of a second, idle after 0.6 s.
pub async fn hasty() -> TestServer {
    TestServer::with(|config| {
        config.heartbeat_interval = Duration::from_millis(200);
        config.heartbeat_timeout = Duration::from_millis(500);
        config.flush_interval = Duration::from_millis(50);
        config.reconnect_grace = Duration::from_millis(100);
        config.room_idle_timeout = Duration::from_millis(600);
    })
    .await
}

/// Asks until the room is idle.
pub async fn idle(server: &TestServer, room: &str) {
    let path = format!("/v1/rooms/{room}/expiry");
    loop {
        let expiry = server.get(&path).await.body;
        if expiry["expired"] == true {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub async fn sweep(server: &TestServer) -> Value {
    loop {
        let answer = server.post("/v1/admin/reap", json!({})).await;
        if answer.status == 200 {
            return answer.body;
        }
        assert_eq!(answer.code(), "reaper_not_ready", "{}", answer.body);
        tokio::task::yield_now().await;
    }
}

/// Keeps a client alive until `done` is.
async fn alive_until<T>(client: &mut Client, done: impl Future<Output = T>) -> T {
    let mut done = std::pin::pin!(done);
    loop {
        tokio::select! {
            result = &mut done => return result,
            _ = client.quiet() => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn an_idle_room_refuses_in_words_is_reaped_and_its_link_still_says_so() {
    let server = hasty().await;
    server.room("room").await;
    let invite = server.invite("room").await;
    server.join(&invite, "Ada").await.leave().await;
    idle(&server, "room").await;
    let sentence =
        "This invitation link has expired. Rooms become inactive after 1 second of no activity.";
    let refused = server
        .try_connect(&format!("invite={invite}"))
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.code(), &refused.body["detail"]),
        (410, "invite_expired", &json!(sentence))
    );
    let by_token = server
        .try_connect(&format!("token={}", token_for("ada", "room")))
        .await
        .err()
        .unwrap();
    assert_eq!((by_token.status, by_token.code()), (410, "room_expired"));
    let looked = server
        .post("/v1/admin/reap", json!({"dry_run": true}))
        .await
        .body;
    assert_eq!(
        looked,
        json!({"rooms": ["room"], "participants": 1, "dry_run": true})
    );
    assert_eq!(
        sweep(&server).await,
        json!({"rooms": ["room"], "participants": 1, "dry_run": false})
    );
    assert_eq!(server.get("/v1/rooms/room").await.code(), "room_not_found");
    let refused = server
        .try_connect(&format!("invite={invite}"))
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, &refused.body["detail"]),
        (410, &json!(sentence))
    );
    server.stop().await;
}

#[tokio::test]
async fn r9_a_live_seat_keeps_a_room_and_an_empty_one_goes_in_the_same_sweep() {
    let server = hasty().await;
    server.room("live").await;
    server.room("empty").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "live")))
        .await;
    let swept = alive_until(&mut ada, async {
        idle(&server, "empty").await;
        // Other software turns the clock of the rows back: liveness beats the timestamps.
        server
            .sql("UPDATE participants SET last_seen_at = '2020-01-01T00:00:00.000Z' RETURNING 1")
            .await;
        server
            .sql("UPDATE rooms SET last_active_at = '2020-01-01T00:00:00.000Z' RETURNING 1")
            .await;
        sweep(&server).await
    })
    .await;
    assert_eq!(swept["rooms"], json!(["empty"]));
    ada.quiet().await;
    server
        .connect(&format!("token={}", token_for("bob", "live")))
        .await;
    server.stop().await;
}

#[tokio::test]
async fn r1_a_room_reborn_under_its_id_is_safe_from_what_was_meant_for_its_predecessor() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite("room").await;
    let old = server.join(&invite, "Ada").await;
    let token = old.resume_token();
    assert_eq!(server.delete("/v1/rooms/room").await.status, 204);
    server.room("room").await;
    let mut bob = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    for query in [format!("invite={invite}"), format!("resume={token}")] {
        let refused = server.try_connect(&query).await.err().unwrap();
        assert!(
            ["invite_expired", "room_not_found"].contains(&refused.code()),
            "{}",
            refused.body
        );
    }
    bob.quiet().await;
    assert_eq!(bob.replay.names(), ["bob"]);
    server.stop().await;
}

#[tokio::test]
async fn touch_and_create_revive_and_keep_keeps() {
    let server = hasty().await;
    server
        .post("/v1/rooms", json!({"id": "kept", "on_idle": "keep"}))
        .await;
    server.room("room").await;
    idle(&server, "room").await;
    idle(&server, "kept").await;
    assert_eq!(
        server.post("/v1/rooms/room/touch", json!({})).await.status,
        200
    );
    server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    assert_eq!(sweep(&server).await["rooms"], json!([]));
    assert_eq!(server.get("/v1/rooms/kept").await.status, 200);
    let exp = server.clock.now().as_millis() / 1000 + 60;
    let create =
        crate::harness::jwt(&json!({"sub": "ada", "room": "kept", "exp": exp, "create": true}));
    server.connect(&format!("token={create}")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_room_of_age_is_announced_then_over() {
    let server = TestServer::start().await;
    server
        .post("/v1/rooms", json!({"id": "room", "max_age_seconds": 1}))
        .await;
    let invite = server.invite("room").await;
    let mut ada = server.join(&invite, "Ada").await;
    let expiring = ada.next_of("room_expiring").await;
    assert_eq!(
        (&expiring["reason"], &expiring["expires_at"]),
        (&json!("max_age"), &ada.welcome["room"]["expires_at"])
    );
    assert_eq!(ada.closed().await, 4410);
    let refused = server
        .try_connect(&format!("invite={invite}"))
        .await
        .err()
        .unwrap();
    assert_eq!((refused.status, refused.code()), (410, "invite_expired"));
    let refused = server
        .try_connect(&format!("token={}", token_for("ada", "room")))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), "room_expired");
    server.stop().await;
}

#[tokio::test]
async fn silence_is_pinged_then_closed_with_4408() {
    let server = hasty().await;
    server
        .post(
            "/v1/rooms",
            json!({"id": "room", "idle_timeout_seconds": null}),
        )
        .await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    let mut mute =
        crate::harness::raw(server.addr, &format!("token={}", token_for("mute", "room"))).await;
    // A raw socket answers no Ping; Ada's does while she reads.
    alive_until(&mut ada, async {
        assert!(mute.saw_ping_then_close(4408).await);
    })
    .await;
    server.stop().await;
}

/// The store is behind by more than the room's patience, as after a stall or a long restart, when the last person leaves.
#[tokio::test(start_paused = true)]
async fn r9_who_was_heard_a_moment_ago_keeps_the_room_before_the_store_hears_of_it() {
    let hour = Duration::from_secs(3600);
    let node = Offline::start(|config| config.flush_interval = 9 * hour).await;
    let patch = RoomPatch {
        idle_timeout: Some(Some(hour)),
        ..RoomPatch::default()
    };
    let room: RoomId = "room".parse().unwrap();
    node.node.store.patch_room(&room, &patch).await.unwrap();
    let mut ada = node.join("ada").await;
    for _ in 0..3 * 60 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        ada.say(json!({"type": "heartbeat"})).await;
        ada.catch_up().unwrap();
    }
    ada.leave().await;
    let bob = node.join("bob").await;
    bob.leave().await;
    // Remembered is when, not that: an hour later the room is idle all the same.
    tokio::time::sleep(2 * hour).await;
    let refusal = node.connect(&Offline::door("cy", "room")).await.err();
    assert_eq!(
        refusal.map(|problem| problem.code),
        Some(ProblemCode::RoomExpired)
    );
    node.stop().await;
}

/// The verdict looked a moment before the end, the seat is asked for a moment after.
#[tokio::test(start_paused = true)]
async fn a_seat_in_a_room_that_has_ended_since_the_verdict_is_refused() {
    let node = Offline::start(|_| {}).await;
    let patch = RoomPatch {
        max_age: Some(Some(Duration::from_secs(60))),
        ..RoomPatch::default()
    };
    let room: RoomId = "room".parse().unwrap();
    let row = node.node.store.patch_room(&room, &patch).await.unwrap();
    let row = row.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    let refused = node.node.hub.reserve(&row, ParticipantId::default()).err();
    assert_eq!((refused, node.node.hub.rooms()), (Some(Full::Over), 0));
    node.stop().await;
}

/// More than one call of the store takes.
#[tokio::test]
async fn one_sweep_forgets_all_invites_of_long_ended_rooms() {
    let server = hasty().await;
    server
        .sql(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500)
             INSERT INTO invites (id, token_hash, room_id, created_at, room_ended_at, room_end_cause)
             SELECT printf('00000000-0000-4000-8000-%012d', n), randomblob(32), 'old', '2020-01-01T00:00:00.000Z',
                    CASE WHEN n = 1 THEN strftime('%Y-%m-%dT%H:%M:%fZ') ELSE '2020-01-02T00:00:00.000Z' END, 'closed'
             FROM n",
        )
        .await;
    sweep(&server).await;
    let left = server.sql("SELECT count(*) FROM invites").await;
    assert_eq!(
        left,
        [[Some("1".to_owned())]],
        "the one that ended just now"
    );
    server.stop().await;
}
