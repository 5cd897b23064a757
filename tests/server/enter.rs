//! Entering a room: every row of the refusal table, three ways; and that a refusal changes nothing.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use hyper::Method;
use rollcall::{
    clock::Clock,
    store::{LockWait, Store, memory::MemoryStore},
};
use serde_json::json;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, SOON, TestServer, config, jwt, open, raw, request, token_for};

/// Asks the same three ways: upgrade, plain GET, upgrade with `refusal=close`.
pub async fn assert_refused(server: &TestServer, query: &str, status: u16, code: &str) -> Answer {
    assert_refused_with(server, query, &[], status, code).await
}

async fn assert_refused_with(
    server: &TestServer,
    query: &str,
    headers: &[(&'static str, &str)],
    status: u16,
    code: &str,
) -> Answer {
    let refusal = open(server.addr, query, headers)
        .await
        .err()
        .unwrap_or_else(|| panic!("{query} was admitted"));
    assert_eq!(
        (refusal.status, refusal.code()),
        (status, code),
        "{query}: {}",
        refusal.body
    );
    assert_eq!(refusal.headers["content-type"], "application/problem+json");
    assert_eq!(refusal.body["type"], format!("urn:rollcall:problem:{code}"));
    assert_eq!(refusal.body["status"], status);

    let asked = request(
        server.addr,
        Method::GET,
        &format!("/v1/connect?{query}"),
        headers,
        None,
    )
    .await;
    assert_eq!((asked.status, asked.code()), (status, code), "GET {query}");
    assert_eq!(
        asked.body["detail"], refusal.body["detail"],
        "the same words"
    );
    assert_eq!(asked.headers["cache-control"], "no-store");

    let mut socket = open(server.addr, &format!("{query}&refusal=close"), headers)
        .await
        .expect("upgraded to be closed");
    let closed = tokio::time::timeout(SOON, socket.next()).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = closed else {
        panic!("{closed:?}")
    };
    assert_eq!(
        (u16::from(frame.code), frame.reason.as_str()),
        (4000 + status, code)
    );
    refusal
}

#[tokio::test]
async fn malformed_requests_are_refused_by_name() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite("room").await;
    let token = token_for("ada", "room");
    let long = "x".repeat(65);
    let rows = [
        (format!("invite={invite}&token={token}"), "Exactly one"),
        (format!("invite={invite}&invite={invite}"), "Exactly one"),
        (format!("invite={invite}&name={long}"), "name"),
        (format!("invite={invite}&name=%0A"), "name"),
        (format!("invite={invite}&client=short"), "client"),
        (format!("token={token}&room=a%20b"), "room"),
        ("invite=".to_owned(), "empty"),
    ];
    for (query, named) in rows {
        let refusal = assert_refused(&server, &query, 400, "bad_request").await;
        assert!(
            refusal.body["detail"].as_str().unwrap().contains(named),
            "{query}: {}",
            refusal.body
        );
    }
    let offers = [("sec-websocket-protocol", "chat, other")];
    assert_refused_with(
        &server,
        &format!("invite={invite}"),
        &offers,
        400,
        "unsupported_protocol",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn credentials_are_checked() {
    let server = TestServer::start().await;
    server.room("room").await;
    let now = server.clock.now().as_millis() / 1000;
    let forged = token_for("ada", "room").replace('.', ".x");
    assert_refused(&server, "", 401, "credential_missing").await;
    assert_refused(
        &server,
        &format!("token={forged}"),
        401,
        "credential_invalid",
    )
    .await;
    assert_refused(&server, "token=nonsense", 401, "credential_invalid").await;
    assert_refused(&server, "resume=nonsense", 401, "credential_invalid").await;
    let no_exp = jwt(&json!({"sub": "ada", "room": "room"}));
    assert_refused(
        &server,
        &format!("token={no_exp}"),
        401,
        "credential_invalid",
    )
    .await;
    let no_sub = jwt(&json!({"room": "room", "exp": now + 60}));
    assert_refused(
        &server,
        &format!("token={no_sub}"),
        401,
        "credential_invalid",
    )
    .await;
    let old = jwt(&json!({"sub": "ada", "room": "room", "exp": now - 1}));
    assert_refused(&server, &format!("token={old}"), 401, "credential_expired").await;
    let other = token_for("ada", "other");
    assert_refused(
        &server,
        &format!("token={other}&room=room"),
        403,
        "room_forbidden",
    )
    .await;
    assert_refused(&server, &format!("token={other}"), 404, "room_not_found").await;
    let foreign = [("origin", "https://evil.example")];
    let token = token_for("ada", "room");
    assert_refused_with(
        &server,
        &format!("token={token}"),
        &foreign,
        403,
        "origin_forbidden",
    )
    .await;
    let same = format!("http://{}", server.addr);
    open(server.addr, &format!("token={token}"), &[("origin", &same)])
        .await
        .expect("same origin");
    server.stop().await;
}

#[tokio::test]
async fn invites_end_in_words() {
    let server = TestServer::with(|config| {
        config.heartbeat_interval = Duration::from_millis(200);
        config.heartbeat_timeout = Duration::from_millis(500);
        config.room_idle_timeout = Duration::from_millis(600);
    })
    .await;
    server.room("room").await;
    assert_refused(&server, "invite=nonsense", 404, "invite_not_found").await;
    let once = server.invite_with("room", json!({"max_uses": 1})).await;
    let first = server.join(&once, "Ada").await;
    assert_refused(&server, &format!("invite={once}"), 410, "invite_used_up").await;
    let made = server.post("/v1/rooms/room/invites", json!({})).await.body;
    let (id, revoked) = (
        made["id"].as_str().unwrap(),
        made["token"].as_str().unwrap(),
    );
    assert_eq!(
        server.delete(&format!("/v1/invites/{id}")).await.status,
        204
    );
    assert_refused(&server, &format!("invite={revoked}"), 410, "invite_revoked").await;
    let removed = first.id();
    let client = "client-of-sixteen";
    let invite = server.invite("room").await;
    let guest = server
        .connect(&format!("invite={invite}&client={client}"))
        .await;
    let path = format!("/v1/rooms/room/participants/{}", guest.id());
    assert_eq!(server.delete(&path).await.status, 204);
    assert_refused(
        &server,
        &format!("invite={invite}&client={client}"),
        403,
        "removed",
    )
    .await;
    assert_refused(
        &server,
        &format!("resume={}", guest.resume_token()),
        403,
        "removed",
    )
    .await;
    assert_ne!(removed, guest.id());
    server.stop().await;
}

#[tokio::test]
async fn full_rooms_and_too_many_connections() {
    let server = TestServer::with(|config| config.limits.connections_per_participant = 2).await;
    server
        .post("/v1/rooms", json!({"id": "room", "max_participants": 1}))
        .await;
    let invite = server.invite("room").await;
    let query = format!("invite={invite}&client=client-of-sixteen");
    let first = server.connect(&query).await;
    assert_refused(&server, &format!("invite={invite}"), 409, "room_full").await;
    let second = server.connect(&query).await;
    assert_eq!(
        first.id(),
        second.id(),
        "who has a seat is never refused for a full room"
    );
    assert_refused(&server, &query, 409, "too_many_connections").await;
    first.leave().await;
    second.leave().await;
    server.join(&invite, "Bob").await.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn r2_a_refusal_changes_nothing() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite_with("room", json!({"max_uses": 1})).await;
    let ada = server.join(&invite, "Ada").await;
    let rows = "SELECT (SELECT count(*) FROM participants), (SELECT uses FROM invites), (SELECT last_active_at FROM rooms)";
    let before = server.sql(rows).await;
    assert_refused(&server, &format!("invite={invite}"), 410, "invite_used_up").await;
    assert_refused(
        &server,
        &format!("token={}", token_for("bob", "elsewhere")),
        404,
        "room_not_found",
    )
    .await;
    let asked = server
        .get(&format!("/v1/connect?token={}", token_for("bob", "room")))
        .await;
    assert_eq!(
        (asked.status, &asked.body["verdict"]),
        (200, &json!("admit"))
    );
    assert_eq!(server.sql(rows).await, before);
    ada.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn r2_the_same_client_again_is_the_same_guest_and_one_use() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite_with("room", json!({"max_uses": 1})).await;
    let query = format!("invite={invite}&client=client-of-sixteen");
    // The answer to the first is lost: the socket is dropped before the welcome is read.
    drop(open(server.addr, &query, &[]).await.unwrap());
    let retried = server.connect(&query).await;
    let again = server.connect(&query).await;
    assert_eq!(retried.id(), again.id());
    let rows = server
        .sql("SELECT uses, (SELECT count(*) FROM participants) FROM invites")
        .await;
    assert_eq!(rows, [[Some("1".to_owned()), Some("1".to_owned())]]);
    server.stop().await;
}

#[tokio::test]
async fn r3_the_row_is_committed_before_the_101() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite("room").await;
    let _socket = open(server.addr, &format!("invite={invite}&name=Ada"), &[])
        .await
        .unwrap();
    assert_eq!(
        server.sql("SELECT name, is_active FROM participants").await,
        [[Some("Ada".to_owned()), Some("1".to_owned())]]
    );
    server.stop().await;
}

#[tokio::test]
async fn max_uses_is_exact_under_concurrent_joins() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite_with("room", json!({"max_uses": 3})).await;
    let query = format!("invite={invite}");
    let tries = (0..50).map(|_| open(server.addr, &query, &[]));
    let outcomes = futures::future::join_all(tries).await;
    let admitted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(admitted, 3);
    let codes: Vec<&str> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err().map(Answer::code))
        .collect();
    assert!(
        codes.iter().all(|code| *code == "invite_used_up"),
        "{codes:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn the_verdict_without_upgrade() {
    let server =
        TestServer::with(|config| config.allowed_origins = vec!["https://app.example".to_owned()])
            .await;
    server.room("room").await;
    let token = token_for("ada", "room");
    let path = format!("/v1/connect?token={token}");
    let origin = [("origin", "https://app.example")];
    let asked = request(server.addr, Method::GET, &path, &origin, None).await;
    assert_eq!(
        (asked.status, &asked.body["room"]["id"]),
        (200, &json!("room"))
    );
    assert_eq!(
        asked.headers["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(
        asked.headers["access-control-expose-headers"],
        "Retry-After"
    );
    let preflight = request(server.addr, Method::OPTIONS, &path, &origin, None).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.headers["access-control-allow-headers"],
        "Authorization"
    );
    let bearer = format!("Bearer {token}");
    let by_header = request(
        server.addr,
        Method::GET,
        "/v1/connect",
        &[("authorization", &bearer)],
        None,
    )
    .await;
    assert_eq!(by_header.status, 200);
    let key = [("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let stripped = request(server.addr, Method::GET, &path, &key, None).await;
    assert_eq!((stripped.status, stripped.code()), (426, "upgrade_missing"));
    assert_eq!(
        server.sql("SELECT count(*) FROM participants").await,
        [[Some("0".to_owned())]]
    );
    server.stop().await;
}

#[tokio::test]
async fn credentials_in_subprotocols_and_rooms_by_token() {
    let server = TestServer::start().await;
    server.room("room").await;
    let offer = format!("rollcall.v1, rollcall.bearer.{}", token_for("ada", "room"));
    open(server.addr, "", &[("sec-websocket-protocol", &offer)])
        .await
        .expect("a bearer subprotocol");
    let exp = server.clock.now().as_millis() / 1000 + 60;
    let make = jwt(&json!({"sub": "ada", "room": "made", "exp": exp, "create": true}));
    let made = server.connect(&format!("token={make}")).await;
    assert_eq!(made.welcome["room"]["id"], "made");
    let list = jwt(&json!({"sub": "ada", "room": ["room", "made"], "exp": exp, "name": "Ada"}));
    assert_refused(&server, &format!("token={list}"), 400, "bad_request").await;
    let listed = server.connect(&format!("token={list}&room=made")).await;
    assert_eq!(
        listed.id(),
        made.id(),
        "the same sub is the same participant"
    );
    let all = jwt(&json!({"sub": "bob", "room": "*", "exp": exp}));
    server.connect(&format!("token={all}&room=room")).await;
    server.stop().await;
}

/// A server whose rooms are idle after 0.6 s.
async fn hasty() -> TestServer {
    TestServer::with(|config| {
        config.heartbeat_interval = Duration::from_millis(200);
        config.heartbeat_timeout = Duration::from_millis(500);
        config.flush_interval = Duration::from_millis(50);
        config.room_idle_timeout = Duration::from_millis(600);
    })
    .await
}

#[tokio::test]
async fn idle_rooms_and_passed_ends_are_refused() {
    let server = hasty().await;
    server.room("room").await;
    server
        .post(
            "/v1/rooms",
            json!({"id": "lasting", "idle_timeout_seconds": null}),
        )
        .await;
    server
        .post(
            "/v1/rooms",
            json!({"id": "aged", "idle_timeout_seconds": null, "max_age_seconds": 1}),
        )
        .await;
    let (invite, aged) = (server.invite("room").await, server.invite("aged").await);
    let short = server
        .invite_with("lasting", json!({"expires_in_seconds": 1}))
        .await;
    for room in ["room", "aged"] {
        while server.get(&format!("/v1/rooms/{room}/expiry")).await.body["expired"] != true {}
    }
    while server
        .get(&format!("/v1/connect?invite={short}"))
        .await
        .status
        == 200
    {}
    let idle = assert_refused(&server, &format!("invite={invite}"), 410, "invite_expired").await;
    assert!(
        idle.body["detail"]
            .as_str()
            .unwrap()
            .contains("Rooms become inactive after"),
        "{}",
        idle.body
    );
    let fixed = assert_refused(&server, &format!("invite={short}"), 410, "invite_expired").await;
    assert!(
        fixed.body["detail"]
            .as_str()
            .unwrap()
            .contains("limited time"),
        "{}",
        fixed.body
    );
    assert_refused(&server, &format!("invite={aged}"), 410, "invite_expired").await;
    for room in ["room", "aged"] {
        assert_refused(
            &server,
            &format!("token={}", token_for("ada", room)),
            410,
            "room_expired",
        )
        .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn too_many_attempts_are_told_when_to_try_again() {
    let server = TestServer::with(|config| config.limits.handshakes_per_second = Some(1)).await;
    // The burst is two seconds' worth.
    for _ in 0..2 {
        assert_eq!(
            open(server.addr, "invite=nonsense", &[])
                .await
                .err()
                .unwrap()
                .code(),
            "invite_not_found"
        );
    }
    let refusal = assert_refused(&server, "invite=nonsense", 429, "rate_limited").await;
    assert!(refusal.body["retry_after_ms"].as_u64().unwrap() > 0);
    assert_eq!(refusal.headers["retry-after"], "1");
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_and_a_queue_that_is_full_are_503() {
    let clock = Clock::system();
    let store = MemoryStore::new(clock.clone());
    let mut config = config();
    config.limits.join_queue = 1;
    let server = TestServer::on(
        config,
        Arc::new(store.clone()),
        Arc::new(TempDir::new().unwrap()),
        clock,
    )
    .await;
    server.room("room").await;
    let query = format!("token={}", token_for("ada", "room"));
    // Somebody holds the store: one join is in the worker's hands, one waits, all others are too many.
    let held = store.begin_joins(&[], LockWait::Skip).await.unwrap();
    let tries = futures::future::join_all((0..4).map(|_| open(server.addr, &query, &[])));
    let refused: Vec<Answer> = tries.await.into_iter().filter_map(Result::err).collect();
    assert!(
        refused.iter().any(|refusal| refusal.code() == "overloaded"),
        "{refused:?}"
    );
    assert!(
        refused
            .iter()
            .all(|refusal| refusal.status == 503 && refusal.headers.contains_key("retry-after"))
    );
    drop(held);
    store.set_available(false);
    let refusal = assert_refused(&server, &query, 503, "store_unavailable").await;
    assert!(refusal.headers.contains_key("retry-after"));
    store.set_available(true);
    server.flush().await;
    server.connect(&query).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_away_refuses_as_draining() {
    let server = TestServer::start().await;
    server.room("room").await;
    let query = format!("token={}", token_for("ada", "room"));
    // A socket that answers nothing keeps the drain open for as long as a close waits.
    let silent = raw(server.addr, &query).await;
    let addr = server.addr;
    let ask = async {
        loop {
            if let Err(refusal) = open(addr, &query, &[]).await {
                return refusal;
            }
        }
    };
    let ((), refusal) = tokio::join!(server.stop(), ask);
    assert_eq!((refusal.status, refusal.code()), (503, "draining"));
    assert!(refusal.headers.contains_key("retry-after"));
    drop(silent);
}
