//! Going away and coming back: drains, restarts, crashes, a store that is away.

use std::{sync::Arc, time::Duration};

use rollcall::{clock::Clock, store::memory::MemoryStore};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{TestServer, config, token_for};

#[tokio::test]
async fn a_restart_is_seen_by_nobody_who_comes_back() {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    let mut bob = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    bob.send(json!({"type": "update", "state": {"mood": "fine"}}))
        .await;
    ada.sees(&["ada", "bob"]).await;
    ada.quiet().await;
    bob.quiet().await;
    let (hear_ada, hear_bob) = (
        async { (ada.next_of("reconnect").await, ada.closed().await) },
        bob.closed(),
    );
    let (server, (reconnect, code), other) = tokio::join!(server.restart(), hear_ada, hear_bob);
    assert_eq!((code, other), (1012, 1012));
    assert!(
        reconnect["after_ms"].as_u64().unwrap() <= 20_000,
        "at most a third of the restart grace"
    );
    let mut ada = server
        .connect(&format!("resume={}", ada.resume_token()))
        .await;
    assert_eq!(ada.welcome["resumed"], true);
    assert_eq!(ada.replay.names(), ["ada", "bob"], "Bob's seat is held");
    assert_eq!(
        ada.replay.member(&bob.id()).unwrap()["state"]["mood"],
        "fine"
    );
    let back = server
        .connect(&format!("resume={}", bob.resume_token()))
        .await;
    assert_eq!(back.welcome["resumed"], true);
    assert!(
        ada.quiet()
            .await
            .iter()
            .all(|message| message["type"] != "presence")
    );
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_come_back_after_a_restart_leaves_once_with_the_right_last_seen() {
    let server = TestServer::with(|config| config.restart_grace = Duration::from_millis(300)).await;
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    let bob = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    ada.sees(&["ada", "bob"]).await;
    let server = server.restart().await;
    let seen = server
        .sql(&format!(
            "SELECT last_seen_at FROM participants WHERE id = '{}'",
            bob.id()
        ))
        .await;
    let mut ada = server
        .connect(&format!("resume={}", ada.resume_token()))
        .await;
    let left = loop {
        let presence = ada.next_of("presence").await;
        if let Some(left) = presence.get("left") {
            break left[0].clone();
        }
    };
    assert_eq!(left["reason"], "timeout");
    assert_eq!(
        Some(left["last_seen_at"].as_str().unwrap().to_owned()),
        seen[0][0]
    );
    server.stop().await;
}

#[tokio::test]
async fn r6_a_store_that_is_away_costs_connected_people_nothing_and_loses_nothing() {
    let clock = Clock::system();
    let store = MemoryStore::new(clock.clone());
    let server = TestServer::on(
        config(),
        Arc::new(store.clone()),
        Arc::new(TempDir::new().unwrap()),
        clock,
    )
    .await;
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    let bob = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    ada.sees(&["ada", "bob"]).await;
    store.set_available(false);
    let bob_id = bob.id();
    bob.leave().await;
    ada.sees(&["ada"]).await;
    let refused = server
        .try_connect(&format!("token={}", token_for("eve", "room")))
        .await
        .err()
        .unwrap();
    assert_eq!((refused.status, refused.code()), (503, "store_unavailable"));
    assert!(refused.headers.contains_key("retry-after"));
    assert!(server.server.flusher().flush().await.is_err());
    assert_eq!(server.get("/readyz").await.status, 503);
    let resumed = server
        .connect(&format!("resume={}", ada.resume_token()))
        .await;
    assert_eq!(
        resumed.welcome["resumed"], true,
        "a held seat needs no store"
    );
    ada.quiet().await;
    store.set_available(true);
    server.flush().await;
    assert_eq!(server.get("/readyz").await.status, 200);
    let people = server.get("/v1/rooms/room/participants").await.body;
    let row = people["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == bob_id)
        .unwrap()
        .clone();
    assert!(row["left_at"].is_string(), "the departure was kept: {row}");
    server
        .connect(&format!("token={}", token_for("eve", "room")))
        .await;
    server.stop().await;
}

#[tokio::test]
async fn r6_a_last_flush_that_fails_is_not_a_clean_stop() {
    let clock = Clock::system();
    let store = MemoryStore::new(clock.clone());
    let dir = Arc::new(TempDir::new().unwrap());
    let server = TestServer::on(config(), Arc::new(store.clone()), dir, clock).await;
    server.room("room").await;
    let ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    store.set_available(false);
    ada.drop_dead();
    assert!(server.server.shut_down().await.is_err());
}

#[tokio::test]
async fn a_duplicated_tab_keeps_both() {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut tab = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    let mut copy = server
        .connect(&format!("resume={}", tab.resume_token()))
        .await;
    assert_eq!(
        (tab.id(), &copy.welcome["resumed"]),
        (copy.id(), &json!(true))
    );
    // Reading answers the Ping that puts the first in doubt.
    tab.quiet().await;
    copy.quiet().await;
    copy.leave().await;
    assert_eq!(server.get("/v1/rooms/room").await.body["online"], 1);
    tab.quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn r6_rows_deleted_by_other_software_close_the_room() {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    server.sql("DELETE FROM rooms RETURNING 1").await;
    server.sql("DELETE FROM participants RETURNING 1").await;
    ada.send(json!({"type": "heartbeat"})).await;
    assert_eq!(ada.closed().await, 4404);
    server.stop().await;
}

#[tokio::test]
async fn r10_a_drain_refuses_joins_and_leaves_nothing() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite("room").await;
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(server.join(&invite, &format!("n{n}")).await);
    }
    let closes = futures::future::join_all(clients.iter_mut().map(crate::harness::Client::closed));
    let ((), codes) = tokio::join!(server.stop(), closes);
    assert_eq!(codes, vec![1012; 20]);
}

#[tokio::test]
async fn a_second_server_waits_unready_and_takes_over() {
    let first = TestServer::start().await;
    let (config, dir, clock) = (
        first.config.clone(),
        Arc::clone(&first.dir),
        first.clock.clone(),
    );
    let second = TestServer::over(config, dir, clock).await;
    let unready = second.get("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(
        unready.body["detail"]
            .as_str()
            .unwrap()
            .contains("Another server")
    );
    first.stop().await;
    while second.get("/readyz").await.status != 200 {
        tokio::task::yield_now().await;
    }
    second.room("room").await;
    second.stop().await;
}
