//! What observers are told before the room they watch becomes idle, in paused time.

use std::time::Duration;

use rollcall::store::{RoomPatch, RoomRow};
use rollcall_protocol::{RoomId, Timestamp};
use serde_json::{Value, json};

use crate::offline::{Offline, Peer, settle};

const HOUR: Duration = Duration::from_secs(3600);
const WARNING: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

const NOTHING: [Value; 0] = [];

/// A node whose room is idle after an hour without anybody.
async fn hourly() -> Offline {
    let node = Offline::start(|config| {
        config.expiry_warning = WARNING;
        config.flush_interval = 60 * SECOND;
    })
    .await;
    set_timeout(&node, Some(HOUR)).await;
    node
}

fn room() -> RoomId {
    "room".parse().unwrap()
}

/// Changes the timeout as the management API does.
async fn set_timeout(node: &Offline, idle_timeout: Option<Duration>) {
    let patch = RoomPatch {
        idle_timeout: Some(idle_timeout),
        ..RoomPatch::default()
    };
    let row = node.node.store.patch_room(&room(), &patch).await.unwrap();
    node.node.hub.set_row(row.unwrap());
}

/// Counts as activity, as the management API does.
async fn touch(node: &Offline) -> RoomRow {
    let row = node.node.store.touch_room(&room()).await.unwrap().unwrap();
    node.node.hub.touch(row.key, row.last_active_at);
    row
}

async fn watch(node: &Offline) -> Peer {
    let query = Offline::observers_door("eye", "room");
    node.connect(&query).await.unwrap()
}

/// When the room is idle, as the verdict on joins sees it: to the millisecond.
async fn idle_at(node: &Offline) -> Timestamp {
    node.node.flusher.flush().await.unwrap();
    let store = &node.node.store;
    let row = store.room(&room()).await.unwrap().unwrap();
    let last = store.last_activity(row.key).await.unwrap().unwrap();
    row.idle_at(last).unwrap()
}

/// The moments of idleness among these messages; anything else of this type fails the test.
fn warnings(came: &[Value]) -> Vec<Value> {
    let told = came.iter().filter(|it| it["type"] == "room_expiring");
    told.inspect(|it| assert_eq!(it["reason"], "idle", "{it}"))
        .map(|it| it["expires_at"].clone())
        .collect()
}

/// Passes time as a living observer does; answers what it was told.
async fn pass(time: Duration, eye: &mut Peer) -> Vec<Value> {
    let mut told = Vec::new();
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(30 * SECOND);
        tokio::time::sleep(step).await;
        eye.say(json!({"type": "heartbeat"})).await;
        settle().await;
        told.extend(warnings(&eye.catch_up().expect("it lives")));
        left -= step;
    }
    told
}

#[tokio::test(start_paused = true)]
async fn observers_are_told_once_when_little_is_left_and_somebody_who_comes_calls_it_off() {
    let node = hourly().await;
    let mut eye = watch(&node).await;
    node.join("ada").await.leave().await;
    settle().await;
    let expires_at = json!(idle_at(&node).await);
    assert_eq!(pass(HOUR - WARNING - 2 * SECOND, &mut eye).await, NOTHING);
    assert_eq!(
        pass(4 * SECOND, &mut eye).await,
        std::slice::from_ref(&expires_at)
    );
    assert_eq!(pass(60 * SECOND, &mut eye).await, NOTHING, "once");

    // Whoever comes to watch by now is told right after the welcome.
    let mut late = watch(&node).await;
    let first = late.next().await.unwrap();
    assert_eq!(
        (&first["type"], &first["reason"], &first["expires_at"]),
        (&json!("room_expiring"), &json!("idle"), &expires_at)
    );
    // Somebody comes back: the hour that was told of passes, and nothing happens.
    let mut bob = node.join("bob").await;
    let mut later = watch(&node).await;
    assert_eq!(warnings(&later.catch_up().unwrap()), NOTHING);
    for _ in 0..20 {
        for peer in [&mut bob, &mut late, &mut later] {
            peer.say(json!({"type": "heartbeat"})).await;
        }
        assert_eq!(pass(30 * SECOND, &mut eye).await, NOTHING);
    }
    bob.leave().await;
    drop((late, later));
    settle().await;
    let again = json!(idle_at(&node).await);
    assert_ne!(again, expires_at);
    assert_eq!(pass(HOUR - WARNING - 2 * SECOND, &mut eye).await, NOTHING);
    assert_eq!(
        pass(4 * SECOND, &mut eye).await,
        [again],
        "with the new time"
    );
    // It was the truth: at that moment the room is idle, and not before.
    pass(WARNING - 3 * SECOND, &mut eye).await;
    let query = Offline::observers_door("eye", "room");
    drop(node.connect(&query).await.unwrap());
    pass(2 * SECOND, &mut eye).await;
    assert!(node.connect(&query).await.is_err());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_ones_going_is_said_before_the_warning() {
    let node = hourly().await;
    set_timeout(&node, Some(WARNING)).await;
    let mut eye = watch(&node).await;
    // It was made a moment ago: hardly more than the warning is left.
    assert_eq!(pass(SECOND, &mut eye).await.len(), 1);
    let ada = node.join("ada").await;
    settle().await;
    eye.catch_up().unwrap();
    ada.leave().await;
    settle().await;
    let came = eye.catch_up().unwrap();
    let kinds: Vec<&Value> = came.iter().map(|it| &it["type"]).collect();
    assert_eq!(kinds, ["presence", "room_expiring"]);
    assert_eq!(eye.replay.occupancy, 0);
    assert_eq!(warnings(&came), [json!(idle_at(&node).await)]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_seat_in_its_grace_is_a_seat() {
    let node = hourly().await;
    set_timeout(&node, Some(WARNING)).await;
    let mut eye = watch(&node).await;
    let ada = node.join("ada").await;
    settle().await;
    eye.catch_up().unwrap();
    drop(ada);
    assert_eq!(pass(9 * SECOND, &mut eye).await, NOTHING);
    let told = pass(2 * SECOND, &mut eye).await;
    assert_eq!(told, [json!(idle_at(&node).await)]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn touch_and_a_new_timeout_move_the_warning() {
    let node = hourly().await;
    let mut eye = watch(&node).await;
    // Touched before it is due: not told at the old time, but at the new one.
    assert_eq!(pass(HOUR - 2 * WARNING, &mut eye).await, NOTHING);
    let row = touch(&node).await;
    let touched = json!(row.last_active_at + HOUR);
    assert_eq!(pass(HOUR - WARNING - SECOND, &mut eye).await, NOTHING);
    assert_eq!(pass(2 * SECOND, &mut eye).await, [touched]);
    // Touched after it was told: who comes now is not told, and it comes again later.
    let row = touch(&node).await;
    let touched = json!(row.last_active_at + HOUR);
    let mut late = watch(&node).await;
    settle().await;
    assert_eq!(warnings(&late.catch_up().unwrap()), NOTHING);
    drop(late);
    assert_eq!(pass(HOUR - WARNING - SECOND, &mut eye).await, NOTHING);
    assert_eq!(pass(2 * SECOND, &mut eye).await, [touched]);

    // A longer timeout puts it off, a shorter one brings it at once, and without one there is none.
    set_timeout(&node, Some(2 * HOUR)).await;
    assert_eq!(pass(HOUR - 3 * SECOND, &mut eye).await, NOTHING);
    assert_eq!(pass(4 * SECOND, &mut eye).await.len(), 1);
    let row = touch(&node).await;
    set_timeout(&node, Some(WARNING / 2)).await;
    settle().await;
    let told = warnings(&eye.catch_up().unwrap());
    assert_eq!(told, [json!(row.last_active_at + WARNING / 2)]);
    set_timeout(&node, None).await;
    assert_eq!(pass(5 * HOUR, &mut eye).await, NOTHING);
    node.stop().await;
}

/// The room object is made for the observer: what happened before is in the store, or on its way there.
#[tokio::test(start_paused = true)]
async fn who_was_here_before_the_observer_counts() {
    for is_flushed in [false, true] {
        let node = hourly().await;
        let mut ada = node.join("ada").await;
        for _ in 0..40 {
            tokio::time::sleep(30 * SECOND).await;
            ada.say(json!({"type": "heartbeat"})).await;
        }
        ada.leave().await;
        settle().await;
        if is_flushed {
            node.node.flusher.flush().await.unwrap();
            tokio::time::sleep(60 * SECOND).await;
        }
        assert_eq!(node.node.hub.rooms(), 0);
        let mut eye = watch(&node).await;
        let expires_at = idle_at(&node).await;
        let left = expires_at.saturating_since(node.node.clock.now());
        assert_eq!(pass(left - WARNING - SECOND, &mut eye).await, NOTHING);
        assert_eq!(pass(2 * SECOND, &mut eye).await, [json!(expires_at)]);
        node.stop().await;
    }
}

/// Somebody who was admitted and never came counts as seen; a refused one does not.
#[tokio::test(start_paused = true)]
async fn an_admission_that_comes_to_nothing_moves_the_warning_with_the_room() {
    let node = hourly().await;
    let mut eye = watch(&node).await;
    assert_eq!(pass(HOUR - WARNING + SECOND, &mut eye).await.len(), 1);
    let query = rollcall::admission::Query::parse(
        Some(&Offline::door("ada", "room")),
        &hyper::HeaderMap::new(),
    );
    let ask = node.node.admission.ask(query.unwrap()).await.unwrap();
    drop(node.node.admission.decide(ask).await.unwrap());
    let expires_at = json!(idle_at(&node).await);
    assert_eq!(pass(HOUR - WARNING - 2 * SECOND, &mut eye).await, NOTHING);
    assert_eq!(pass(4 * SECOND, &mut eye).await, [expires_at]);
    node.stop().await;
}

/// R9, R6: the room in memory is no reason to keep from the store when the last one was seen.
#[tokio::test(start_paused = true)]
async fn r6_the_last_word_of_who_left_is_written_though_somebody_watches() {
    let node = Offline::start(|config| config.flush_interval = 24 * HOUR).await;
    set_timeout(&node, Some(HOUR)).await;
    let mut ada = node.join("ada").await;
    let _eye = watch(&node).await;
    node.node.flusher.flush().await.unwrap();
    tokio::time::sleep(20 * SECOND).await;
    ada.say(json!({"type": "heartbeat"})).await;
    settle().await;
    ada.leave().await;
    settle().await;
    assert_eq!(node.node.hub.rooms(), 1);
    node.node.flusher.flush().await.unwrap();
    let store = &node.node.store;
    let row = store.room(&room()).await.unwrap().unwrap();
    let last = store.last_activity(row.key).await.unwrap().unwrap();
    assert_eq!(row.last_active_at, last);
    node.stop().await;
}

/// Behind by more than the ring holds, an observer is told all the same, after the roster that it follows from.
#[tokio::test(start_paused = true)]
async fn r8_a_warning_that_was_lost_is_said_again() {
    let node = hourly().await;
    set_timeout(&node, Some(WARNING / 2)).await;
    let query = Offline::observers_door("eye", "room");
    let mut eye = node.connect_over(&query, 1_024).await.unwrap();
    assert_eq!(pass(SECOND, &mut eye).await.len(), 1);
    let payload = format!("\"{}\"", "x".repeat(500));
    let payload = serde_json::value::RawValue::from_string(payload).unwrap();
    let announce = || {
        let event = "e".to_owned();
        node.node
            .hub
            .announce(node.room, event, payload.clone(), None);
    };
    // The pipe is full before anybody comes, and the ring goes round after they went.
    (0..50).for_each(|_| announce());
    settle().await;
    node.join("ada").await.leave().await;
    settle().await;
    let expires_at = json!(idle_at(&node).await);
    (0..300).for_each(|_| announce());
    let mut came = Vec::new();
    for _ in 0..400 {
        came.extend(eye.catch_up().unwrap());
        settle().await;
    }
    let kinds = came.iter().map(|it| it["type"].as_str().unwrap());
    let kinds: Vec<&str> = kinds.filter(|kind| *kind != "broadcast").collect();
    assert_eq!(kinds, ["sync", "room_expiring"]);
    assert_eq!(warnings(&came), [expires_at]);
    assert_eq!(eye.replay.occupancy, 0);
    node.stop().await;
}
