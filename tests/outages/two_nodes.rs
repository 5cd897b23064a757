//! Two servers on one database: who is in charge after an outage, and after one of them has slept through its limit.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    database::Corner,
    harness::{SOON, TestServer},
    program::{Program, connect, get, make_room},
    proxy::Proxy,
    scene::{self, Scene},
};

/// With a flush interval of 100 ms a node counts as silent after 5.2 s.
const BEYOND_SILENCE: Duration = Duration::from_secs(6);
/// What a second node watches a silent first one for is 3 s.
const BEYOND_WATCH: Duration = Duration::from_millis(4_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_after_an_outage_the_first_server_stays_in_charge() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let way = corner.by_way_of(proxy.port());
    let mut scene = Scene::by_way_of(&corner.database, &way).await;
    let second = scene::serve(scene::config(), &way).await;
    waits(&second).await;
    proxy.cut();
    scene.suffers(BEYOND_SILENCE).await;
    proxy.heal();
    scene.recovers().await;
    let back = Instant::now();
    // That nobody takes over is told by nothing but time.
    while back.elapsed() < BEYOND_WATCH {
        waits(&second).await;
        scene.heartbeats().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let nodes = "SELECT count(*)::text FROM nodes";
    assert_eq!(scene.psql.one(nodes).await, "1");
    scene.ends().await;
    let takes_over = async { while second.get("/readyz").await.status != 200 {} };
    timeout(SOON, takes_over).await.unwrap();
    second.stop().await;
}

async fn waits(second: &TestServer) {
    let answer = second.get("/readyz").await;
    assert_eq!(answer.status, 503, "it waits: {}", answer.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_slept_through_its_limit_is_replaced_and_ends_itself() {
    let corner = Corner::new();
    let more = ["--flush-interval", "100ms"];
    let mut first = Program::start(&corner.database, &more);
    let addr = first.listens().await;
    make_room(addr, "main").await;
    let token = |user| format!("token={}", crate::harness::token_for(user, "main"));
    let mut ada = connect(addr, &token("ada")).await;
    let mut bob = connect(addr, &token("bob")).await;
    bob.send(json!({"type": "update", "state": {"page": 3}}))
        .await;
    bob.quiet().await;
    ada.sees(&["ada", "bob"]).await;
    is_flushed(addr).await;
    let mut second = Program::start(&corner.database, &more);
    let other = second.listens().await;
    assert_eq!(get(other, "/readyz").await.status, 503);

    first.signal("-STOP").await;
    second.says("restored the seats of the previous node").await;
    assert_eq!(get(other, "/readyz").await.status, 200);
    let mut back = connect(other, &format!("resume={}", ada.resume_token())).await;
    assert_eq!(back.welcome["resumed"], true);
    assert_eq!(
        back.replay.names(),
        ["ada", "bob"],
        "the seats are restored"
    );
    assert_eq!(back.replay.member(&bob.id()).unwrap()["state"]["page"], 3);

    first.signal("-CONT").await;
    first.says("another node has taken the database over").await;
    assert_eq!((ada.closed().await, bob.closed().await), (1012, 1012));
    assert_eq!(first.ends().await, Some(1));
    let bob = connect(other, &format!("resume={}", bob.resume_token())).await;
    assert_eq!(bob.welcome["resumed"], true);
    assert!(back.quiet().await.is_empty(), "nobody noticed");
}

/// A flush that began after this call has ended.
async fn is_flushed(addr: std::net::SocketAddr) {
    let flushes = async || {
        let stats = get(addr, "/v1/admin/stats").await;
        stats.body["flush"]["flushes"].as_u64().unwrap()
    };
    let before = flushes().await;
    while flushes().await < before + 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
