//! Seeing each other: joins, leaves, tabs, drops, resumes, updates, broadcasts.

use std::time::Duration;

use serde_json::json;

use crate::harness::{TestServer, token_for};
use crate::replay::without_sample;

/// Two people in a room.
async fn two(server: &TestServer) -> (crate::harness::Client, crate::harness::Client) {
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    let mut bob = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    ada.sees(&["ada", "bob"]).await;
    bob.sees(&["ada", "bob"]).await;
    (ada, bob)
}

#[tokio::test]
async fn a_clean_leave_is_seen_at_once_with_the_last_seen_that_the_store_gets() {
    let server = TestServer::start().await;
    let (mut ada, bob) = two(&server).await;
    let id = bob.id();
    bob.leave().await;
    let presence = ada.next_of("presence").await;
    let left = loop {
        if let Some(left) = presence.get("left") {
            break left[0].clone();
        }
        ada.next_of("presence").await;
    };
    assert_eq!(
        (left["id"].as_str(), left["reason"].as_str()),
        (Some(id.as_str()), Some("left"))
    );
    server.flush().await;
    let row = server
        .sql(&format!(
            "SELECT last_seen_at, is_active FROM participants WHERE id = '{id}'"
        ))
        .await;
    assert_eq!(
        row,
        [[
            left["last_seen_at"].as_str().map(str::to_owned),
            Some("0".to_owned())
        ]]
    );
    server.stop().await;
}

#[tokio::test]
async fn r5_a_reload_with_resume_is_seen_by_nobody() {
    let server = TestServer::start().await;
    let (mut ada, mut bob) = two(&server).await;
    bob.send(json!({"type": "update", "state": {"mood": "fine"}}))
        .await;
    ada.next_of("presence").await;
    let (id, token) = (bob.id(), bob.resume_token());
    bob.drop_dead();
    let back = server.connect(&format!("resume={token}")).await;
    assert_eq!(
        (back.id(), &back.welcome["resumed"]),
        (id.clone(), &json!(true))
    );
    assert_eq!(
        back.replay.member(&id).unwrap()["state"]["mood"],
        "fine",
        "the state is the seat's"
    );
    let seen = ada.quiet().await;
    assert!(
        seen.iter().all(|message| message["type"] != "presence"),
        "{seen:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn r5_who_does_not_come_back_within_the_grace_has_left_once() {
    let server =
        TestServer::with(|config| config.reconnect_grace = Duration::from_millis(200)).await;
    let (mut ada, bob) = two(&server).await;
    let token = bob.resume_token();
    bob.drop_dead();
    ada.sees(&["ada"]).await;
    let back = server.connect(&format!("resume={token}")).await;
    assert_eq!(
        back.welcome["resumed"], false,
        "a normal join of the same participant"
    );
    ada.sees(&["ada", "bob"]).await;
    server.stop().await;
}

#[tokio::test]
async fn r5_several_tabs_are_one_member() {
    let server = TestServer::start().await;
    let (mut ada, bob) = two(&server).await;
    let mut tab = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    assert_eq!(tab.id(), bob.id());
    bob.leave().await;
    assert!(
        ada.quiet()
            .await
            .iter()
            .all(|message| message["type"] != "presence")
    );
    tab.send(json!({"type": "update", "status": "idle"})).await;
    let updated = ada.next_of("presence").await;
    assert_eq!(updated["updated"][0]["status"], "idle");
    tab.leave().await;
    ada.sees(&["ada"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_fresh_join_takes_up_the_grace_that_was_left() {
    let server = TestServer::start().await;
    let (mut ada, bob) = two(&server).await;
    let id = bob.id();
    bob.drop_dead();
    // Until the server has noticed, there is no grace to take up.
    while connections(&server, &id).await > 0 {}
    let again = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    again.leave().await;
    ada.sees(&["ada"]).await;
    server.stop().await;
}

/// How many connections a member of the room has.
async fn connections(server: &TestServer, id: &str) -> u64 {
    let page = server.get("/v1/rooms/room/presence").await.body;
    let mut items = page["items"].as_array().unwrap().iter();
    let member = items.find(|member| member["id"] == id);
    member.unwrap()["connections"].as_u64().unwrap()
}

#[tokio::test]
async fn r4_the_roster_is_what_the_frames_say() {
    let server = TestServer::start().await;
    let (mut ada, mut bob) = two(&server).await;
    bob.send(json!({"type": "update", "state": {"a": {"b": 1}, "c": 2}}))
        .await;
    bob.send(json!({"type": "update", "state": {"a": {"b": null, "d": 3}}, "status": "idle"}))
        .await;
    bob.quiet().await;
    let page = server.get("/v1/rooms/room/presence").await.body;
    while ada.replay.seq < page["seq"].as_u64().unwrap() {
        ada.next().await;
    }
    let items = page["items"].as_array().unwrap();
    let roster = items
        .iter()
        .map(|item| {
            (
                item["id"].as_str().unwrap().to_owned(),
                without_sample(item.clone()),
            )
        })
        .collect();
    assert_eq!(ada.replay.roster(), roster);
    assert_eq!(
        ada.replay.member(&bob.id()).unwrap()["state"],
        json!({"a": {"d": 3}, "c": 2})
    );
    server.stop().await;
}

#[tokio::test]
async fn broadcasts_reach_the_others_and_nobody_else() {
    let server = TestServer::start().await;
    let (mut ada, mut bob) = two(&server).await;
    let mut eve = server
        .connect(&format!("token={}", token_for("eve", "room")))
        .await;
    ada.send(json!({"type": "broadcast", "event": "cursor", "payload": [1, 2]}))
        .await;
    for other in [&mut bob, &mut eve] {
        let message = other.next_of("broadcast").await;
        assert_eq!(
            (message["from"].as_str(), &message["payload"]),
            (Some(ada.id().as_str()), &json!([1, 2]))
        );
    }
    ada.send(json!({"type": "broadcast", "event": "whisper", "payload": null, "to": [bob.id()]}))
        .await;
    assert_eq!(bob.next_of("broadcast").await["event"], "whisper");
    assert!(
        eve.quiet()
            .await
            .iter()
            .all(|message| message["type"] != "broadcast")
    );
    assert!(
        ada.quiet()
            .await
            .iter()
            .all(|message| message["type"] != "broadcast")
    );
    let said = server
        .post(
            "/v1/rooms/room/broadcast",
            json!({"event": "bell", "payload": 1}),
        )
        .await;
    assert_eq!((said.status, said.body), (202, json!({})));
    assert_eq!(eve.next_of("broadcast").await["from"], json!(null));
    server.stop().await;
}

#[tokio::test]
async fn a_removed_participant_is_closed_and_seen_to_be_removed() {
    let server = TestServer::start().await;
    let (mut ada, mut bob) = two(&server).await;
    let path = format!("/v1/rooms/room/participants/{}", bob.id());
    assert_eq!(server.delete(&path).await.status, 204);
    assert_eq!(bob.closed().await, 4403);
    ada.sees(&["ada"]).await;
    let refused = server
        .try_connect(&format!("token={}", token_for("bob", "room")))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), "removed");
    assert_eq!(
        server
            .post(&format!("{path}/restore"), json!({}))
            .await
            .status,
        200
    );
    let refused = server
        .try_connect(&format!("resume={}", bob.resume_token()))
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.code(),
        "credential_invalid",
        "the old resume token stays void"
    );
    server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    ada.sees(&["ada", "bob"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_changed_room_is_told_and_a_closed_one_closes() {
    let server = TestServer::start().await;
    let (mut ada, mut bob) = two(&server).await;
    let patched = server
        .patch(
            "/v1/rooms/room",
            json!({"metadata": {"title": "Tarot"}, "max_age_seconds": null}),
        )
        .await;
    assert_eq!(patched.status, 200, "{}", patched.body);
    for client in [&mut ada, &mut bob] {
        assert_eq!(
            client.next_of("room").await["room"]["metadata"]["title"],
            "Tarot"
        );
    }
    assert_eq!(server.delete("/v1/rooms/room").await.status, 204);
    assert_eq!((ada.closed().await, bob.closed().await), (4404, 4404));
    server.stop().await;
}

#[tokio::test]
async fn a_crowd_is_counted_and_listed_again_when_it_thins() {
    let server = TestServer::with(|config| config.limits.roster_limit = 10).await;
    server.room("room").await;
    let invite = server.invite("room").await;
    let mut first = server.join(&invite, "first").await;
    let mut others = Vec::new();
    for n in 0..12 {
        others.push(server.join(&invite, &format!("n{n}")).await);
    }
    while first.replay.occupancy != 13 {
        first.next().await;
    }
    assert!(first.replay.members.is_none(), "beyond the limit");
    for other in others.drain(..6) {
        other.leave().await;
    }
    while first.replay.members.is_none() || first.replay.occupancy != 7 {
        first.next().await;
    }
    server.stop().await;
}
