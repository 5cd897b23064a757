//! What is kept and shown of when somebody was last there.

use std::{sync::Arc, time::Duration};

use rollcall::{clock::Clock, config::Config, store::Precision};
use rollcall_protocol::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, TestServer, config, jwt};

/// No multiple of anything below.
const EPOCH: &str = "2026-11-24T10:04:01.234Z";
const STEP: Duration = Duration::from_secs(300);

/// A server with a real database whose clock begins at [`EPOCH`], and a room.
async fn server(change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = config();
    change(&mut config);
    let clock = Clock::manual(EPOCH.parse().unwrap());
    let server = TestServer::over(config, Arc::new(TempDir::new().unwrap()), clock).await;
    server.room("room").await;
    server
}

fn rounding(config: &mut Config) {
    config.last_seen_precision = Precision::to(STEP);
}

/// Comes in by a token with this claim.
async fn enter(server: &TestServer, who: &str, last_seen: Option<bool>) -> Client {
    let exp = server.clock.now().as_millis() / 1000 + 86_400;
    let mut claims = json!({"sub": who, "room": "room", "exp": exp});
    if let Some(last_seen) = last_seen {
        claims["last_seen"] = last_seen.into();
    }
    server.connect(&format!("token={}", jwt(&claims))).await
}

fn moment(value: &Value) -> Timestamp {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .parse()
        .unwrap()
}

fn assert_rounded(value: &Value) {
    let at = moment(value);
    assert_eq!(Precision::to(STEP).round(at), at, "{value}");
}

async fn left(watcher: &mut Client) -> Value {
    loop {
        let presence = watcher.next_of("presence").await;
        if let Some(left) = presence["left"].as_array().and_then(|left| left.first()) {
            return left.clone();
        }
    }
}

/// The participants of the room as the API lists them, by user.
async fn listed(server: &TestServer, who: &str) -> Value {
    let list = server.get("/v1/rooms/room/participants").await.body;
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .find(|item| item["user_id"] == who)
        .cloned()
        .unwrap_or(Value::Null)
}

/// `last_seen_at`, `left_at`, `joined_at` of a user's row.
async fn stored(server: &TestServer, who: &str) -> [Option<String>; 3] {
    let query = format!(
        "SELECT last_seen_at, left_at, joined_at FROM participants WHERE user_id = '{who}'"
    );
    let row = server.sql(&query).await.remove(0);
    row.try_into().unwrap()
}

async fn room_activity(server: &TestServer) -> Timestamp {
    let row = server.sql("SELECT last_active_at FROM rooms").await;
    row[0][0].as_deref().unwrap().parse().unwrap()
}

#[tokio::test]
async fn r6_last_seen_is_rounded_wherever_it_is_kept_or_shown() {
    let server = server(rounding).await;
    let mut bob = enter(&server, "bob", None).await;
    let ada = enter(&server, "ada", None).await;
    for member in ada.welcome["members"].as_array().unwrap() {
        assert_rounded(&member["last_seen_at"]);
    }
    bob.sees(&["ada", "bob"]).await;
    assert_rounded(&bob.replay.member(&ada.id()).unwrap()["last_seen_at"]);
    let exact = server.clock.now();
    server.clock.step(90_000);
    server.flush().await;
    bob.quiet().await;
    let present = server.get("/v1/rooms/room/presence").await.body;
    for member in present["items"].as_array().unwrap() {
        assert_rounded(&member["last_seen_at"]);
    }
    assert_eq!(
        moment(&listed(&server, "bob").await["last_seen_at"]).to_string(),
        "2026-11-24T10:05:00.000Z",
        "the heartbeat counts, to the step"
    );
    ada.leave().await;
    let left = left(&mut bob).await;
    assert_rounded(&left["last_seen_at"]);
    let gone = listed(&server, "ada").await;
    assert_rounded(&gone["last_seen_at"]);
    assert_rounded(&gone["left_at"]);
    assert_eq!(gone["last_seen_at"], left["last_seen_at"]);
    let [seen, left_at, joined_at] = stored(&server, "ada").await;
    assert_rounded(&json!(seen));
    assert_rounded(&json!(left_at));
    assert!(seen <= left_at && moment(&json!(left_at)) <= server.clock.now());
    assert!(
        moment(&json!(joined_at)) >= EPOCH.parse().unwrap(),
        "that is exact"
    );
    // The room knows better.
    assert!(room_activity(&server).await > exact + Duration::from_secs(80));

    let removed = server
        .delete(&format!("/v1/rooms/room/participants/{}", bob.id()))
        .await;
    assert_eq!(removed.status, 204);
    assert_eq!(bob.closed().await, 4403);
    server.flush().await;
    let [seen, left_at, _] = stored(&server, "bob").await;
    assert_rounded(&json!(seen));
    assert_rounded(&json!(left_at));
    server.stop().await;
}

#[tokio::test]
async fn rounded_seats_survive_a_restart() {
    let server = server(rounding).await;
    let mut ada = enter(&server, "ada", None).await;
    let (server, code) = tokio::join!(server.restart(), ada.closed());
    assert_eq!(code, 1012);
    let query = format!("resume={}", ada.resume_token());
    let again = server.connect(&query).await;
    assert_eq!(again.welcome["resumed"], true);
    again.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn who_opts_out_is_seen_while_there_and_leaves_no_trace() {
    let server = server(|_| {}).await;
    let mut bob = enter(&server, "bob", None).await;
    let mut ada = enter(&server, "ada", Some(false)).await;
    bob.sees(&["ada", "bob"]).await;
    server.clock.step(60_000);
    server.flush().await;
    ada.quiet().await;
    server.flush().await;
    let online = listed(&server, "ada").await;
    assert_eq!(
        (
            &online["online"],
            &online["last_seen_at"],
            &online["left_at"]
        ),
        (&json!(true), &Value::Null, &Value::Null)
    );
    ada.leave().await;
    let left = left(&mut bob).await;
    let gone = listed(&server, "ada").await;
    assert_eq!(
        (&gone["online"], &gone["last_seen_at"], &gone["left_at"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert_eq!(
        left["last_seen_at"], gone["joined_at"],
        "no more than is known anyway"
    );
    let [seen, left_at, joined_at] = stored(&server, "ada").await;
    assert_eq!(seen, joined_at);
    assert_eq!(left_at, joined_at);
    let everything = server
        .sql("SELECT * FROM participants WHERE user_id = 'ada'")
        .await;
    let later = (EPOCH.parse::<Timestamp>().unwrap() + Duration::from_secs(30)).to_string();
    assert!(
        everything[0]
            .iter()
            .flatten()
            .all(|text| !text.starts_with("2026-") || *text < later),
        "{everything:?}"
    );
    // The others are seen as ever, and so is the room.
    assert!(!listed(&server, "bob").await["last_seen_at"].is_null());
    bob.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn r9_who_opted_out_is_restored_and_keeps_the_room() {
    let server = server(|config| config.restart_grace = Duration::from_secs(60)).await;
    let mut ada = enter(&server, "ada", Some(false)).await;
    // Long beyond the heartbeat timeout, and the row says nothing of it.
    server.clock.step(3_000_000);
    server.flush().await;
    ada.quiet().await;
    server.flush().await;
    let heard = server.clock.now();
    let (server, code) = tokio::join!(server.restart(), ada.closed());
    assert_eq!(code, 1012);
    let expiry = server.get("/v1/rooms/room/expiry").await.body;
    assert_eq!(
        (&expiry["online"], &expiry["expired"]),
        (&json!(1), &json!(false))
    );
    let query = format!("resume={}", ada.resume_token());
    let again = server.connect(&query).await;
    assert_eq!(again.welcome["resumed"], true);
    again.leave().await;
    server.flush().await;
    assert!(room_activity(&server).await >= heard);
    server.stop().await;
}

#[tokio::test]
async fn idleness_is_exact_whatever_the_rows_say() {
    let server = TestServer::with(|config| {
        config.last_seen_precision = Precision::to(Duration::from_secs(3600));
        config.heartbeat_interval = Duration::from_millis(200);
        config.heartbeat_timeout = Duration::from_millis(500);
        config.flush_interval = Duration::from_millis(50);
        config.room_idle_timeout = Duration::from_secs(2);
    })
    .await;
    server.room("room").await;
    let invite = server.invite("room").await;
    for last_seen in [None, Some(false)] {
        enter(&server, "ada", last_seen).await.leave().await;
        server.flush().await;
        // The row says an hour ago at best; the room says a moment ago.
        let expiry = server.get("/v1/rooms/room/expiry").await.body;
        assert_eq!(expiry["expired"], false, "{expiry}");
        server.join(&invite, "Bob").await.leave().await;
    }
    let departed = server.clock.now();
    let expired_at = loop {
        let expiry = server.get("/v1/rooms/room/expiry").await.body;
        if expiry["expired"] == true {
            break moment(&expiry["expires_at"]);
        }
        tokio::task::yield_now().await;
    };
    let idle_for = expired_at.saturating_since(departed);
    assert!(
        (Duration::from_millis(1_500)..=Duration::from_millis(2_000)).contains(&idle_for),
        "{idle_for:?}"
    );
    let refused = server
        .try_connect(&format!("invite={invite}"))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), "invite_expired");
    let swept = sweep(&server).await;
    assert_eq!(swept["rooms"], json!(["room"]));
    server.stop().await;
}

async fn sweep(server: &TestServer) -> Value {
    loop {
        let answer = server.post("/v1/admin/reap", json!({})).await;
        if answer.status == 200 {
            return answer.body;
        }
        assert_eq!(answer.code(), "reaper_not_ready", "{}", answer.body);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_left_long_ago_is_forgotten_and_nobody_else() {
    let server = server(|config| {
        config.departed_retention = Some(Duration::from_secs(3600));
        config.heartbeat_interval = Duration::from_millis(200);
        config.room_idle_timeout = Duration::from_secs(86_400);
    })
    .await;
    let invite = server.invite_with("room", json!({"max_uses": 1})).await;
    let guest = format!("invite={invite}&client=client-of-sixteen");
    server.connect(&guest).await.leave().await;
    enter(&server, "gone", None).await.leave().await;
    let barred = enter(&server, "barred", None).await;
    let removed = server
        .delete(&format!("/v1/rooms/room/participants/{}", barred.id()))
        .await;
    assert_eq!(removed.status, 204);
    let mut here = enter(&server, "here", None).await;
    server.flush().await;
    sweep(&server).await;
    assert_ne!(listed(&server, "gone").await, Value::Null, "not yet");

    server.clock.step(3_601_000);
    server.flush().await;
    here.quiet().await;
    // Who leaves now is unknown to the store yet.
    enter(&server, "late", None).await.leave().await;
    sweep(&server).await;
    assert_eq!(listed(&server, "gone").await, Value::Null);
    for who in ["barred", "here", "late"] {
        assert_ne!(listed(&server, who).await, Value::Null, "{who}");
    }
    here.quiet().await;
    let refused = server.try_connect(&guest).await.err().unwrap();
    assert_eq!(refused.code(), "invite_used_up", "a use is not given back");
    let exp = server.clock.now().as_millis() / 1000 + 60;
    let token = jwt(&json!({"sub": "barred", "room": "room", "exp": exp}));
    let refused = server
        .try_connect(&format!("token={token}"))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), "removed", "the bar holds");
    here.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn the_claim_is_a_truth_value() {
    let server = server(|_| {}).await;
    let exp = server.clock.now().as_millis() / 1000 + 60;
    for claim in [json!("false"), json!(0), json!([false])] {
        let token = jwt(&json!({"sub": "ada", "room": "room", "exp": exp, "last_seen": claim}));
        let refused = server
            .try_connect(&format!("token={token}"))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.code(), "credential_invalid", "{claim}");
    }
    server.stop().await;
}
