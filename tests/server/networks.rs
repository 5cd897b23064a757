//! Half-open, slow and lying peers, in paused time over memory: each is bounded in time, and costs nobody else anything.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, SinkExt};
use rollcall::{clock::Clock, server::Server, store::memory::MemoryStore};
use rollcall_protocol::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    time::Instant,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::{
    harness::config,
    offline::{Offline, Peer, settle},
};

/// The default heartbeat timeout.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(75);
/// The default grace.
const GRACE: Duration = Duration::from_secs(10);
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

fn presence(came: &[Value]) -> Vec<&Value> {
    came.iter()
        .filter(|message| message["type"] == "presence")
        .collect()
}

/// Somebody who is heard and hears for that long.
async fn stays(peer: &mut Peer, time: Duration) -> Vec<Value> {
    let until = Instant::now() + time;
    let mut came = Vec::new();
    while Instant::now() < until {
        peer.say(json!({"type": "heartbeat"})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        came.extend(peer.catch_up().expect("still connected"));
    }
    came
}

#[tokio::test(start_paused = true)]
async fn r5_a_resume_while_the_old_socket_hangs_is_seen_by_nobody_and_leaves_no_ghost() {
    let node = Offline::start(|_| {}).await;
    let mut ada = node.join("ada").await;
    // Bob's network goes away without a word: nothing of his first connection arrives any more, and nothing breaks.
    let half_open = node.join("bob").await;
    stays(&mut ada, Duration::from_secs(3)).await;
    let mut bob = node.connect(&half_open.way_back()).await.unwrap();
    assert_eq!(bob.welcome["resumed"], true);
    let (seen, _) = tokio::join!(
        stays(&mut ada, Duration::from_secs(8)),
        stays(&mut bob, Duration::from_secs(8)),
    );
    assert_eq!(presence(&seen), [&Value::Null; 0], "nobody sees a change");
    assert_eq!(node.ended("superseded"), 1, "the old one is dropped");
    assert_eq!(
        node.node.hub.present(node.room, None, 9).2[1].connections,
        1
    );
    // Had the old one left a grace behind, this would not be a leave at once.
    bob.leave().await;
    settle().await;
    let seen = ada.catch_up().unwrap();
    assert_eq!(presence(&seen)[0]["left"][0]["reason"], "left");
    drop(half_open);
    ada.leave().await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pulled_cable_is_a_timeout_with_the_last_seen_that_was_heard() {
    let node = Offline::start(|_| {}).await;
    let mut ada = node.join("ada").await;
    let mut bob = node.join("bob").await;
    stays(&mut bob, Duration::from_secs(20)).await;
    bob.say(json!({"type": "heartbeat"})).await;
    let ack = loop {
        let message = bob.next().await.unwrap();
        if message["type"] == "heartbeat_ack" {
            break message;
        }
    };
    let pulled = Instant::now();
    let left = loop {
        let seen = stays(&mut ada, Duration::from_secs(1)).await;
        if let Some(frame) = presence(&seen)
            .into_iter()
            .find(|frame| frame.get("left").is_some())
        {
            break frame["left"][0].clone();
        }
        assert!(pulled.elapsed() < HEARTBEAT_TIMEOUT + GRACE + Duration::from_secs(2));
    };
    assert!(pulled.elapsed() >= HEARTBEAT_TIMEOUT + GRACE);
    assert_eq!(left["id"], bob.id());
    assert_eq!(left["reason"], "timeout");
    let [left_at, heard_at] = [&left["last_seen_at"], &ack["server_time"]]
        .map(|time| time.as_str().unwrap().parse::<Timestamp>().unwrap());
    let apart = left_at
        .max(heard_at)
        .saturating_since(left_at.min(heard_at));
    assert!(apart <= Duration::from_millis(1), "{left} {ack}");
    assert_eq!(node.ended("silent"), 1);
    ada.leave().await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r8_who_does_not_take_a_frame_in_time_is_closed_with_1013_between_two_frames() {
    let node = Offline::start(|config| {
        config.limits.messages_per_second = 10_000;
        config.limits.message_burst = 10_000;
    })
    .await;
    let mut ada = node.join("ada").await;
    let door = Offline::door("bob", "room");
    let mut bob = node.connect_over(&door, 1_000).await.unwrap();
    for n in 0..8 {
        ada.say(
            json!({"type": "broadcast", "event": "e", "payload": {"n": n, "x": "x".repeat(700)}}),
        )
        .await;
    }
    stays(&mut ada, WRITE_DEADLINE - Duration::from_secs(1)).await;
    assert_eq!(node.ended("too_slow"), 0);
    stays(&mut ada, Duration::from_secs(2)).await;
    assert_eq!(node.ended("too_slow"), 1);
    // It reads after all: whole frames, then the reason. Anything else would not parse.
    let close = bob.closed().await.expect("a close frame");
    assert_eq!(u16::from(close.code), 1013);
    ada.leave().await;
    drop(bob);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r8_who_takes_frames_slowly_but_takes_them_stays() {
    let node = Offline::start(|config| config.limits.message_burst = 10_000).await;
    let mut ada = node.join("ada").await;
    let door = Offline::door("bob", "room");
    let mut bob = node.connect_over(&door, 1_000).await.unwrap();
    for _ in 0..20 {
        ada.say(json!({"type": "broadcast", "event": "e", "payload": "x".repeat(700)}))
            .await;
    }
    // Sixty seconds in all for what was gathered in one write, and never ten for one frame.
    for _ in 0..20 {
        stays(&mut ada, Duration::from_secs(3)).await;
        while bob.next().await.unwrap()["type"] != "broadcast" {}
    }
    assert_eq!(node.ended("too_slow"), 0);
    bob.leave().await;
    ada.leave().await;
    node.stop().await;
}

/// A client's text frame of which only the head arrives, and a byte of its payload a second.
#[tokio::test(start_paused = true)]
async fn one_byte_a_second_is_silence() {
    let node = Offline::start(|_| {}).await;
    let mut bob = node.join("bob").await;
    let began = Instant::now();
    let stream = bob.socket.get_mut();
    // Masked, 4,096 bytes to come (RFC 6455 section 5.2).
    stream
        .write_all(&[0x81, 0xfe, 0x10, 0x00, 0, 0, 0, 0])
        .await
        .unwrap();
    while node.ended("silent") == 0 {
        // Until the server lets go.
        let _ = stream.write_all(b"x").now_or_never();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < HEARTBEAT_TIMEOUT + Duration::from_secs(3));
    }
    assert!(began.elapsed() >= HEARTBEAT_TIMEOUT);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn fragments_that_never_finish_end_at_the_message_limit_or_in_silence() {
    let node = Offline::start(|_| {}).await;
    let fragment = |first: bool, size: usize| {
        let opcode = if first { Data::Text } else { Data::Continue };
        Message::Frame(Frame::message(
            vec![b'x'; size],
            OpCode::Data(opcode),
            false,
        ))
    };
    let mut large = node.join("large").await;
    for sent in 0..64 {
        // Refused at the end, when the limit is passed.
        let _ = large.socket.send(fragment(sent == 0, 1_024)).await;
    }
    assert_eq!(
        large.closed().await.map(|close| close.code.into()),
        Some(1009)
    );

    let mut slow = node.join("slow").await;
    let began = Instant::now();
    for sent in 0.. {
        if node.ended("silent") == 1 {
            break;
        }
        let _ = slow.socket.send(fragment(sent == 0, 1)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < HEARTBEAT_TIMEOUT + Duration::from_secs(3));
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_ends_with_4429() {
    let node = Offline::start(|_| {}).await;
    let mut bob = node.join("bob").await;
    let mut sent = 0;
    while node.ended("rate_limited") == 0 {
        let _ = bob.socket.send(Message::Ping(Vec::new().into())).await;
        // The Pongs are read too: a flood, not a slow reader.
        let _ = bob.catch_up();
        tokio::task::yield_now().await;
        sent += 1;
        assert!(sent < 10_000);
    }
    assert_eq!(
        bob.closed().await.map(|close| close.code.into()),
        Some(4429)
    );
    node.stop().await;
}

/// Real sockets: the head of a request is the HTTP stack's to bound.
#[tokio::test(start_paused = true)]
async fn a_handshake_of_one_byte_a_second_is_cut() {
    let clock = Clock::manual(Timestamp::from_millis(1_795_514_400_000));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let server = Server::start(config(), store, clock, Handle::current())
        .await
        .unwrap();
    let mut slow = TcpStream::connect(server.addr()).await.unwrap();
    let mut silent = TcpStream::connect(server.addr()).await.unwrap();
    let began = Instant::now();
    let head = b"GET /v1/connect?room=room HTTP/1.1\r\nHost: localhost\r\n";
    for byte in head.iter().cycle() {
        if slow.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < Duration::from_secs(15), "still open");
    }
    // What never said a word has been cut by the same limit.
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(15));
    server.shut_down().await.unwrap();
}
