//! Watching without being seen: who may, what observers hear and say, how they end, and that nobody notices.

mod idle;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures::SinkExt;
use hyper::Method;
use rollcall::{
    admission::Query,
    clock::Clock,
    hub::Ending,
    node::Node,
    store::{ParticipantKey, RoomKey, Store, memory::MemoryStore, sqlite::SqliteStore},
};
use rollcall_protocol::{ProblemCode, UserId};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    enter::assert_refused,
    harness::{Client, TestServer, config, jwt, open, raw, receive, request, token_for},
    lifecycle::{hasty, idle as until_idle, sweep},
    offline::{Offline, make_room, settle},
    replay::without_sample,
};

/// An access token for an hour that observes, with further claims.
fn observing_with(sub: &str, room: &str, claims: &Value) -> String {
    let exp = Clock::system().now().as_millis() / 1000 + 3600;
    let mut all = json!({"sub": sub, "room": room, "exp": exp, "observe": true});
    for (claim, value) in claims.as_object().unwrap() {
        all[claim] = value.clone();
    }
    format!("token={}", jwt(&all))
}

fn observing(sub: &str, room: &str) -> String {
    observing_with(sub, room, &json!({}))
}

fn joining(sub: &str, room: &str) -> String {
    format!("token={}", token_for(sub, room))
}

async fn get_roster(server: &TestServer) -> Value {
    server.get("/v1/rooms/room/presence").await.body
}

#[tokio::test]
async fn an_observer_is_welcomed_as_nobody_and_hears_what_everybody_hears() {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut ada = server.connect(&joining("ada", "room")).await;
    let mut eye = server.connect(&observing("eye", "room")).await;
    let own = &eye.welcome["self"];
    assert_eq!(
        (&own["participant_id"], &own["resume_token"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(own["connection_id"].as_str().unwrap().len(), 16);
    assert_eq!(
        (&eye.welcome["resumed"], &eye.welcome["occupancy"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(eye.replay.names(), ["ada"]);
    assert_eq!(eye.quiet().await.len(), 0, "its heartbeat is answered");

    let mut bob = server.connect(&joining("bob", "room")).await;
    eye.sees(&["ada", "bob"]).await;
    ada.sees(&["ada", "bob"]).await;
    let said = |event: &str, to: Option<&str>| match to {
        Some(to) => json!({"type": "broadcast", "event": event, "to": [to]}),
        None => json!({"type": "broadcast", "event": event}),
    };
    ada.send(said("to bob", Some(&bob.id()))).await;
    ada.send(said("to all", None)).await;
    for event in ["to bob", "to all"] {
        assert_eq!(bob.next_of("broadcast").await["event"], event);
    }
    assert_eq!(eye.next_of("broadcast").await["event"], "to all");
    let path = "/v1/rooms/room/broadcast";
    for wish in [
        json!({"event": "to bob", "to": [bob.id()]}),
        json!({"event": "from above"}),
    ] {
        assert_eq!(server.post(path, wish).await.status, 202);
    }
    assert_eq!(eye.next_of("broadcast").await["event"], "from above");
    let change = json!({"metadata": {"topic": "tea"}});
    server.patch("/v1/rooms/room", change).await;
    assert_eq!(
        eye.next_of("room").await["room"]["metadata"]["topic"],
        "tea"
    );

    bob.send(json!({"type": "update", "state": {"n": 1}})).await;
    while eye.replay.member(&bob.id()).unwrap()["state"]["n"] != 1 {
        eye.next().await;
    }
    let there = get_roster(&server).await;
    let items = there["items"].as_array().unwrap();
    let theirs = items.iter().cloned().map(without_sample);
    assert_eq!(
        (eye.replay.seq, eye.replay.roster().into_values().collect()),
        (there["seq"].as_u64().unwrap(), theirs.collect::<Vec<_>>()),
        "R4"
    );
    eye.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn r4_observers_of_a_crowd_are_told_how_many() {
    let server = TestServer::with(|config| config.limits.roster_limit = 2).await;
    server.room("room").await;
    let mut eye = server.connect(&observing("eye", "room")).await;
    let mut crowd = Vec::new();
    for n in 0..3 {
        crowd.push(server.connect(&joining(&format!("p{n}"), "room")).await);
    }
    while eye.replay.occupancy < 3 {
        eye.next().await;
    }
    assert!(eye.replay.members.is_none());
    let late = server.connect(&observing("late", "room")).await;
    assert_eq!(
        (&late.welcome["roster"], &late.welcome["occupancy"]),
        (&json!("count"), &json!(3))
    );
    for one in crowd.drain(1..) {
        one.leave().await;
    }
    while eye.replay.members.is_none() || eye.replay.occupancy > 1 {
        eye.next().await;
    }
    assert_eq!(eye.replay.names(), ["p0"]);
    server.stop().await;
}

/// What Ada hears while people come and go, and what the application reads; ids and moments are taken out.
async fn scene(is_watched: bool) -> Vec<Value> {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut eyes = Vec::new();
    let mut seen = Vec::new();
    let mut ada = server.connect(&joining("ada", "room")).await;
    seen.push(ada.welcome.clone());
    seen.extend(ada.quiet().await);
    for step in 0..6 {
        if is_watched {
            // One stays, one leaves, one breaks off; each step.
            eyes.push(
                server
                    .connect(&observing(&format!("eye{step}"), "room"))
                    .await,
            );
            let goes = server.connect(&observing("goes", "room")).await;
            let breaks = server.connect(&observing("ada", "room")).await;
            goes.leave().await;
            breaks.drop_dead();
        }
        match step {
            0 => {
                let mut bob = server.connect(&joining("bob", "room")).await;
                seen.push(bob.welcome.clone());
                seen.push(ada.next_of("presence").await);
                bob.send(json!({"type": "broadcast", "event": "hello"}))
                    .await;
                seen.push(ada.next_of("broadcast").await);
                bob.leave().await;
                seen.push(ada.next_of("presence").await);
            }
            1 => {
                ada.send(json!({"type": "update", "state": {"n": 1}})).await;
                seen.push(ada.next_of("presence").await);
            }
            2 => {
                let to_nobody = json!({"type": "broadcast", "event": "e", "to": ["eye0"]});
                ada.send(to_nobody).await;
                seen.push(ada.next_of("error").await);
            }
            3 => {
                let tab = server
                    .connect(&format!("resume={}", ada.resume_token()))
                    .await;
                seen.push(tab.welcome.clone());
                tab.leave().await;
            }
            4 => {
                let change = json!({"metadata": {"topic": "tea"}});
                server.patch("/v1/rooms/room", change).await;
                seen.push(ada.next_of("room").await);
            }
            _ => seen.extend(ada.quiet().await),
        }
    }
    for path in ["/presence", "/participants", "/expiry"] {
        let answer = server.get(&format!("/v1/rooms/room{path}")).await;
        seen.push(answer.body);
    }
    let room = server.get("/v1/rooms/room").await.body;
    assert_eq!(
        (&room["online"], &room["observers"]),
        (&json!(1), &json!(eyes.len()))
    );
    seen.extend(ada.quiet().await);
    server.stop().await;
    seen.iter_mut().for_each(take_out_what_differs);
    seen
}

/// Ids are chance, and moments pass.
fn take_out_what_differs(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.ends_with("id") || name == "user_id");
            fields.retain(|name, _| !name.ends_with("_at") && !name.ends_with("_time"));
            fields.retain(|name, _| name != "resume_token" && name != "from");
            fields.retain(|name, _| name != "seconds_remaining");
            fields.values_mut().for_each(take_out_what_differs);
        }
        Value::Array(items) => items.iter_mut().for_each(take_out_what_differs),
        _ => {}
    }
}

#[tokio::test]
async fn nobody_notices() {
    let (alone, watched) = (scene(false).await, scene(true).await);
    assert_eq!(alone.len(), watched.len());
    for (alone, watched) in alone.iter().zip(&watched) {
        assert_eq!(alone, watched);
    }
}

/// Every row of what is kept, as SQL would write it.
async fn rows(server: &TestServer) -> Vec<Vec<Option<String>>> {
    let mut all = Vec::new();
    for table in ["rooms", "participants", "invites", "keys"] {
        let columns = format!(
            "SELECT group_concat('quote(' || name || ')') FROM pragma_table_info('{table}')"
        );
        let columns = server.sql(&columns).await[0][0].clone().unwrap();
        let rows = format!("SELECT {columns} FROM {table} ORDER BY 1");
        all.extend(server.sql(&rows).await);
    }
    all
}

#[tokio::test]
async fn r2_observing_and_being_refused_it_leave_every_row_as_it_was() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite("room").await;
    server.join(&invite, "Ada").await.leave().await;
    server.connect(&joining("bob", "room")).await.leave().await;
    server.flush().await;
    let before = rows(&server).await;
    assert!(before.len() >= 4, "{before:?}");
    let expiry = server.get("/v1/rooms/room/expiry").await.body;

    // Bob was here, Eve never.
    for sub in ["bob", "eve"] {
        let claims = json!({"create": true, "name": "Somebody"});
        let query = observing_with(sub, "room", &claims);
        let path = format!("/v1/connect?{query}");
        let asked = server.get(&path).await;
        assert_eq!(
            (asked.status, &asked.body["verdict"]),
            (200, &json!("admit"))
        );
        let mut eye = server.connect(&query).await;
        eye.quiet().await;
        eye.send(json!({"type": "token", "token": query.strip_prefix("token=")}))
            .await;
        eye.quiet().await;
        eye.leave().await;
        server.connect(&query).await.drop_dead();
        let nowhere = observing_with(sub, "nowhere", &claims);
        assert_refused(&server, &nowhere, 404, "room_not_found").await;
    }
    server.flush().await;
    assert_eq!(rows(&server).await, before);
    let after = server.get("/v1/rooms/room/expiry").await.body;
    assert_eq!(after["expires_at"], expiry["expires_at"]);
    server.stop().await;
}

#[tokio::test]
async fn observers_are_refused_as_users_are_but_never_for_a_full_room() {
    let server = idle_soon().await;
    let rooms = [
        json!({"id": "full", "idle_timeout_seconds": null, "max_participants": 1}),
        json!({"id": "barred", "idle_timeout_seconds": null}),
        json!({"id": "old", "idle_timeout_seconds": null, "max_age_seconds": 1}),
        json!({"id": "idle"}),
    ];
    for room in rooms {
        assert_eq!(server.post("/v1/rooms", room).await.status, 201);
    }
    let _ada = server.connect(&joining("ada", "full")).await;
    assert_refused(&server, &joining("bob", "full"), 409, "room_full").await;
    let mut bob = server.connect(&observing("bob", "full")).await;
    assert_eq!(bob.replay.names(), ["ada"]);

    let eve = server.connect(&joining("eve", "barred")).await;
    let path = format!("/v1/rooms/barred/participants/{}", eve.id());
    assert_eq!(server.delete(&path).await.status, 204);
    until_idle(&server, "old").await;
    until_idle(&server, "idle").await;
    let rows = [
        (observing("eve", "barred"), 403, "removed"),
        (observing("ann", "old"), 410, "room_expired"),
        (observing("ann", "idle"), 410, "room_expired"),
        (observing("ann", "nowhere"), 404, "room_not_found"),
        (
            observing_with("ann", "nowhere", &json!({"create": true})),
            404,
            "room_not_found",
        ),
        (
            observing_with("ann", "idle", &json!({"create": true})),
            410,
            "room_expired",
        ),
        (
            format!("{}&room=full", observing("ann", "barred")),
            403,
            "room_forbidden",
        ),
        (
            observing_with("ann", "full", &json!({"exp": 1})),
            401,
            "credential_expired",
        ),
    ];
    for (query, status, code) in rows {
        assert_refused(&server, &query, status, code).await;
    }
    // The bar is the user's, and it can be lifted.
    server.connect(&observing("ann", "barred")).await;
    let restore = format!("{path}/restore");
    assert_eq!(server.post(&restore, json!({})).await.status, 200);
    server.connect(&observing("eve", "barred")).await;
    bob.quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn the_connections_a_user_observes_by_are_counted_for_themselves() {
    let server = TestServer::with(|config| config.limits.connections_per_participant = 2).await;
    for room in ["room", "other"] {
        server.room(room).await;
    }
    let _tabs = [
        server.connect(&joining("ada", "room")).await,
        server.connect(&joining("ada", "room")).await,
    ];
    assert_refused(
        &server,
        &joining("ada", "room"),
        409,
        "too_many_connections",
    )
    .await;
    let first = server.connect(&observing("ada", "room")).await;
    let _second = server.connect(&observing("ada", "room")).await;
    assert_refused(
        &server,
        &observing("ada", "room"),
        409,
        "too_many_connections",
    )
    .await;
    let _others = [
        server.connect(&observing("bob", "room")).await,
        server.connect(&observing("ada", "other")).await,
    ];
    first.leave().await;
    server.connect(&observing("ada", "room")).await;
    server.stop().await;
}

#[tokio::test]
async fn nobody_observes_without_the_stores_consent() {
    let clock = Clock::system();
    let store = MemoryStore::new(clock.clone());
    let dir = Arc::new(TempDir::new().unwrap());
    let server = TestServer::on(config(), Arc::new(store.clone()), dir, clock).await;
    server.room("room").await;
    let mut eye = server.connect(&observing("eye", "room")).await;
    store.set_available(false);
    let query = observing("eve", "room");
    let refusal = assert_refused(&server, &query, 503, "store_unavailable").await;
    assert!(refusal.headers.contains_key("retry-after"));
    assert!(server.server.flusher().flush().await.is_err());
    store.set_available(true);
    // The store is back, but what is owed to it decides who may enter.
    if server.server.flusher().is_behind() {
        let refusal = server.try_connect(&query).await.err();
        let code = refusal.map(|refusal| refusal.code().to_owned());
        assert!(code.is_none_or(|code| code == "store_unavailable"));
    }
    server.flush().await;
    server.connect(&query).await;
    eye.quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn what_needs_a_seat_is_refused_and_the_rest_is_as_for_everybody() {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut ada = server.connect(&joining("ada", "room")).await;
    ada.quiet().await;
    let mut eye = server.connect(&observing("eye", "room")).await;
    let rows = [
        (json!({"type": "update", "status": "idle"}), "no_seat"),
        (
            json!({"type": "update", "state": {"n": 1}, "ref": 1}),
            "no_seat",
        ),
        (
            json!({"type": "broadcast", "event": "e", "ref": "b"}),
            "no_seat",
        ),
        (
            json!({"type": "broadcast", "event": "e", "to": []}),
            "no_seat",
        ),
        (json!({"type": "broadcast", "ref": 2}), "bad_field"),
        (json!({"type": "nonsense", "ref": 3}), "unknown_type"),
        (json!([]), "bad_message"),
        (
            json!({"type": "token", "token": "nonsense", "ref": 4}),
            "credential_invalid",
        ),
    ];
    for (message, code) in rows {
        eye.send(message.clone()).await;
        let error = eye.next_of("error").await;
        assert_eq!(error["code"], code, "{message}: {error}");
        assert_eq!(error.get("ref"), message.get("ref"), "{message}: {error}");
    }
    assert_eq!(ada.quiet().await.len(), 0, "nobody hears of it");
    for n in 0..100 {
        eye.send(json!({"type": "update", "ref": n})).await;
    }
    while eye.next_of("error").await["code"] != "rate_limited" {}
    let mut bad = server.connect(&observing("bad", "room")).await;
    for _ in 0..20 {
        bad.socket.send(Message::text("nonsense")).await.unwrap();
    }
    assert_eq!(bad.closed().await, 4400);
    server.stop().await;
}

#[tokio::test]
async fn a_silent_observer_is_pinged_then_closed_with_4408() {
    let server = hasty().await;
    let room = json!({"id": "room", "idle_timeout_seconds": null});
    server.post("/v1/rooms", room).await;
    let mut mute = raw(server.addr, &observing("mute", "room")).await;
    assert!(mute.saw_ping_then_close(4408).await);
    server.stop().await;
}

#[tokio::test]
async fn a_fresh_token_is_for_the_same_user_room_and_purpose() {
    let server = TestServer::start().await;
    for room in ["room", "other"] {
        server.room(room).await;
    }
    let token = |query: String| query.strip_prefix("token=").unwrap().to_owned();
    let now = server.clock.now().as_millis() as f64 / 1000.0;
    let soon = json!({"exp": now + 2.0});
    let mut eye = server.connect(&observing_with("eye", "room", &soon)).await;
    let mut ada = server.connect(&joining("ada", "room")).await;
    let eyes = [
        (observing("ada", "room"), "another user's"),
        (observing("eye", "other"), "cover this room"),
        (joining("eye", "room"), "not for observing"),
    ];
    let adas = [
        (observing("ada", "room"), "observing only"),
        (joining("ada", "other"), "cover this room"),
    ];
    let rows = [(&mut eye, eyes.as_slice()), (&mut ada, adas.as_slice())];
    for (client, refused) in rows {
        for (query, why) in refused {
            let message = json!({"type": "token", "token": token(query.clone())});
            client.send(message).await;
            let error = client.next_of("error").await;
            assert_eq!(error["code"], "credential_invalid", "{error}");
            assert!(error["detail"].as_str().unwrap().contains(why), "{error}");
        }
    }
    let rooms = json!({"room": ["other", "room"]});
    for token in [
        token(observing("eye", "room")),
        token(observing_with("eye", "room", &rooms)),
        token(observing_with("eye", "room", &json!({"room": "*"}))),
    ] {
        eye.send(json!({"type": "token", "token": token})).await;
        let came = eye.quiet().await;
        assert!(
            came.iter().all(|it| it["type"] == "token_expiring"),
            "{came:?}"
        );
    }
    // Refused ones leave the old in force: this one's ends.
    let mut other = server
        .connect(&observing_with("other", "room", &soon))
        .await;
    let told = other.next_of("token_expiring").await;
    assert!(told["expires_at"].is_string());
    other
        .send(json!({"type": "token", "token": token(joining("other", "room"))}))
        .await;
    assert_eq!(other.closed().await, 4401);
    eye.quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn removing_a_participant_ends_what_its_user_observes() {
    let server = TestServer::start().await;
    for room in ["room", "other"] {
        server.room(room).await;
    }
    let guest = server.invite("room").await;
    let guest = server.join(&guest, "Guest").await;
    let mut eve = server.connect(&joining("eve", "room")).await;
    let mut eyes = [
        server.connect(&observing("eve", "room")).await,
        server.connect(&observing("eve", "room")).await,
    ];
    let mut spared = [
        server.connect(&observing("eve", "other")).await,
        server.connect(&observing("ann", "room")).await,
        server.connect(&observing("ev", "room")).await,
    ];
    let path = |client: &Client| format!("/v1/rooms/room/participants/{}", client.id());
    assert_eq!(server.delete(&path(&guest)).await.status, 204);
    eyes[0].quiet().await;
    let kick = format!("{}?bar=false", path(&eve));
    assert_eq!(server.delete(&kick).await.status, 204);
    for eye in &mut eyes {
        assert_eq!(eye.closed().await, 4403);
    }
    assert_eq!(eve.closed().await, 4403);
    // Only kicked: back again, and then for good, though the participant has left by then.
    let mut eye = server.connect(&observing("eve", "room")).await;
    assert_eq!(server.delete(&path(&eve)).await.status, 204);
    assert_eq!(eye.closed().await, 4403);
    assert_refused(&server, &observing("eve", "room"), 403, "removed").await;
    for eye in &mut spared {
        eye.quiet().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_closed_room_closes_its_observers_with_4404_and_an_old_one_with_4410() {
    let server = TestServer::start().await;
    server.room("room").await;
    server
        .post("/v1/rooms", json!({"id": "old", "max_age_seconds": 1}))
        .await;
    let mut eye = server.connect(&observing("eye", "room")).await;
    assert_eq!(server.delete("/v1/rooms/room").await.status, 204);
    assert_eq!(eye.closed().await, 4404);

    let mut eye = server.connect(&observing("eye", "old")).await;
    let told = eye.next_of("room_expiring").await;
    assert_eq!(
        (&told["reason"], &told["expires_at"]),
        (&json!("max_age"), &eye.welcome["room"]["expires_at"])
    );
    assert_eq!(eye.closed().await, 4410);
    until_nobody_is_left(&server).await;
    server.stop().await;
}

/// Rooms are idle soon, and nobody is given up for silence: who only watches does not read here.
async fn idle_soon() -> TestServer {
    TestServer::with(|config| {
        config.heartbeat_interval = Duration::from_millis(200);
        config.flush_interval = Duration::from_millis(50);
        config.room_idle_timeout = Duration::from_millis(600);
    })
    .await
}

/// Until no room is in memory any more.
async fn until_nobody_is_left(server: &TestServer) {
    while server.server.hub().rooms() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_room_is_reaped_under_its_observers() {
    let server = idle_soon().await;
    for room in ["room", "never", "entered"] {
        server.room(room).await;
    }
    let ada = server.connect(&joining("ada", "room")).await;
    let mut eyes = [
        server.connect(&observing("eye", "room")).await,
        server.connect(&observing("eye", "never")).await,
        server.connect(&observing("eye", "entered")).await,
    ];
    ada.leave().await;
    for room in ["room", "never", "entered"] {
        until_idle(&server, room).await;
    }
    let stats = server.get("/v1/admin/stats").await.body;
    assert_eq!(
        (
            &stats["observers"],
            &stats["connections"],
            &stats["rooms"]["live"]
        ),
        (&json!(3), &json!(0), &json!(0))
    );
    assert_refused(&server, &observing("late", "room"), 410, "room_expired").await;
    assert_eq!(
        sweep(&server).await,
        json!({"rooms": ["room", "never", "entered"], "participants": 1, "dry_run": false})
    );
    for eye in &mut eyes {
        assert_eq!(eye.next_of("room_expiring").await["reason"], "idle");
        assert_eq!(eye.closed().await, 4410);
    }
    until_nobody_is_left(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_room_that_other_software_deletes_is_found_out_by_a_sweep() {
    let server = idle_soon().await;
    let room = json!({"id": "room", "idle_timeout_seconds": null});
    server.post("/v1/rooms", room).await;
    let mut eye = server.connect(&observing("eye", "room")).await;
    server.sql("DELETE FROM rooms RETURNING 1").await;
    sweep(&server).await;
    assert_eq!(eye.closed().await, 4410);
    server.stop().await;
}

#[tokio::test]
async fn a_drain_sends_observers_elsewhere() {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut eye = server.connect(&observing("eye", "room")).await;
    let told = async {
        let mut came = Vec::new();
        loop {
            match receive(&mut eye.socket).await {
                Ok(message) => came.push(message["type"].clone()),
                Err(close) => return (came, close.map(|close| u16::from(close.code))),
            }
        }
    };
    let (told, ()) = tokio::join!(told, server.stop());
    assert_eq!(told, (vec![json!("reconnect")], Some(1012)));
}

#[tokio::test]
async fn they_are_counted_where_operators_look() {
    let server = TestServer::start().await;
    server.room("room").await;
    let eye = server.connect(&observing("eye", "room")).await;
    let _ada = server.connect(&joining("ada", "room")).await;
    let has = async |line: &str| {
        let metrics = server.get("/metrics").await.body;
        let metrics = metrics.as_str().unwrap();
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    };
    has("rollcall_observers 1").await;
    has("rollcall_connections 1").await;
    has("rollcall_seats 1").await;
    has("rollcall_joins_total{outcome=\"observing\"} 1").await;
    has("rollcall_joins_total{outcome=\"admitted\"} 1").await;
    eye.leave().await;
    has("rollcall_observers 0").await;
    has("rollcall_connections_ended_total{reason=\"left\"} 1").await;
    let openapi = server.get("/openapi.json").await.body;
    for schema in ["Stats", "RoomDetails"] {
        let properties = &openapi["components"]["schemas"][schema]["properties"];
        assert!(properties["observers"].is_object(), "{schema}");
    }
    server.stop().await;
}

/// The upgrade may be a moment after the verdict; what ends the room or bars the user in between ends the observer.
#[tokio::test(start_paused = true)]
async fn whatever_ends_between_the_verdict_and_the_first_frame_ends_the_observer() {
    let node = Offline::start(|_| {}).await;
    let hub = &node.node.hub;
    let eve: UserId = "eve".parse().unwrap();
    type End<'a> = &'a dyn Fn();
    let rows: [(End<'_>, Option<u16>); 3] = [
        (&|| hub.dismiss(node.room, &eve), Some(4403)),
        (&|| hub.evict(node.room, Ending::RoomExpired), Some(4410)),
        (&|| hub.evict(node.room, Ending::RoomClosed), Some(4404)),
    ];
    for (end, code) in rows {
        let query = Offline::observers_door("eve", "room");
        let query = Query::parse(Some(&query), &hyper::HeaderMap::new()).unwrap();
        let ask = node.node.admission.ask(query).await.unwrap();
        let admitted = node.node.admission.decide(ask).await.unwrap();
        assert_eq!((hub.rooms(), hub.is_live(node.room)), (1, false));
        end();
        assert_eq!(node.seat(admitted).await, code);
        settle().await;
        assert_eq!(hub.rooms(), 0);
    }
    // Given up before the upgrade, it leaves nothing either.
    let query = Query::parse(
        Some(&Offline::observers_door("eve", "room")),
        &hyper::HeaderMap::new(),
    );
    let ask = node.node.admission.ask(query.unwrap()).await.unwrap();
    drop(node.node.admission.decide(ask).await.unwrap());
    assert_eq!(hub.rooms(), 0);
    node.stop().await;
}

/// Lets a future go on so many times, each up to where it waits and until that is over. Answers what it came to, if it did.
async fn step<T>(mut future: Pin<&mut impl Future<Output = T>>, times: usize) -> Option<T> {
    for _ in 0..times {
        let mut is_polled = false;
        let stepped = poll_fn(|cx| {
            if std::mem::replace(&mut is_polled, true) {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        });
        if let Some(done) = stepped.await {
            return Some(done);
        }
    }
    None
}

/// R1 for observers: wherever in its admission the room ends, or the user is removed, the observer does not stay.
#[tokio::test]
async fn r1_an_end_at_any_moment_of_the_admission_ends_the_observer() {
    let dir = TempDir::new().unwrap();
    let url = format!("sqlite://{}", dir.path().join("rollcall.db").display());
    let clock = Clock::system();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&url, clock.clone()).await.unwrap());
    let node = Node::start(Arc::new(config()), Arc::clone(&store), clock).await;
    let mut node = Offline {
        node: node.unwrap(),
        room: RoomKey(0),
    };
    // Where it waits differs a little from time to time: the database has a thread of its own.
    for (round, is_removal) in (0..8).flat_map(|round| [(round, false), (round, true)]) {
        for steps in 0.. {
            let name = format!("{is_removal}{round}.{steps}");
            node.room = make_room(&node.node, &name).await;
            let Node { hub, admission, .. } = &node.node;
            let ask = async |query: String| {
                let query = Query::parse(Some(&query), &hyper::HeaderMap::new());
                admission.ask(query.unwrap()).await.unwrap()
            };
            drop(
                admission
                    .decide(ask(joining("eve", &name)).await)
                    .await
                    .unwrap(),
            );
            let mut decided = pin!(admission.decide(ask(observing("eve", &name)).await));
            let early = step(decided.as_mut(), steps).await;
            if is_removal {
                let all = store.participants(node.room, ParticipantKey(0), 1).await;
                let id = all.unwrap()[0].id;
                let removed = store.remove_participant(node.room, id, true, false).await;
                let user_id = removed.unwrap().unwrap().user_id.unwrap();
                hub.dismiss(node.room, &user_id);
            } else {
                store.delete_room(&name.parse().unwrap()).await.unwrap();
                hub.evict(node.room, Ending::RoomClosed);
            }
            let is_late = early.is_some();
            let decided = match early {
                Some(decided) => decided,
                None => decided.await,
            };
            let (code, refusal) = match is_removal {
                true => (4403, ProblemCode::Removed),
                false => (4404, ProblemCode::RoomNotFound),
            };
            match decided {
                Ok(admitted) => assert_eq!(node.seat(admitted).await, Some(code), "{name}"),
                Err(problem) => assert_eq!(problem.code, refusal, "{name}"),
            }
            if is_late {
                break;
            }
        }
    }
    while node.node.hub.rooms() > 0 {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}

/// R1 for observers: however a room's end and their coming meet, nobody is left watching what is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_nobody_watches_a_room_that_ended_while_they_came() {
    let server = TestServer::start().await;
    for round in 0..20 {
        let room = format!("room{round}");
        server.room(&room).await;
        let comes = async |n: usize| {
            let query = observing(&format!("eye{n}"), &room);
            match open(server.addr, &query, &[]).await {
                Ok(mut socket) => loop {
                    if let Err(close) = receive(&mut socket).await {
                        assert_eq!(close.map(|close| u16::from(close.code)), Some(4404));
                        return;
                    }
                },
                Err(refusal) => assert_eq!(refusal.code(), "room_not_found"),
            }
        };
        let path = format!("/v1/rooms/{room}");
        let ends = request(server.addr, Method::DELETE, &path, &[], None);
        let all = futures::future::join_all((0..8).map(comes));
        let (ended, _) = tokio::join!(ends, all);
        assert_eq!(ended.status, 204);
    }
    until_nobody_is_left(&server).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r8_an_observer_that_does_not_read_delays_nobody_and_is_resynchronised() {
    let node = Offline::start(|_| {}).await;
    let query = Offline::observers_door("eye", "room");
    let mut eye = node.connect_over(&query, 1_024).await.unwrap();
    let mut ada = node.join("ada").await;
    // Within the write deadline, but more than pipe and ring hold.
    for n in 0..160 {
        ada.say(json!({"type": "update", "state": {"n": n}})).await;
        tokio::time::sleep(Duration::from_millis(51)).await;
        ada.catch_up().unwrap();
    }
    let mut came = Vec::new();
    for _ in 0..100 {
        came.extend(eye.catch_up().unwrap());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let syncs = came.iter().filter(|it| it["type"] == "sync").count();
    assert_eq!(syncs, 1, "{} frames", came.len());
    assert_eq!(
        (eye.replay.seq, eye.replay.roster()),
        (ada.replay.seq, ada.replay.roster())
    );
    node.stop().await;
}
