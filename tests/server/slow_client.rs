//! R8: one slow or hostile connection costs nobody else anything.

use std::time::Duration;

use serde_json::json;

use crate::harness::{TestServer, token_for};

#[tokio::test]
async fn r8_a_client_that_never_reads_delays_nobody_and_is_resynchronised() {
    let server = TestServer::with(|config| {
        config.limits.messages_per_second = 10_000;
        config.limits.message_burst = 20_000;
        config.limits.fanout_frames_per_second = 1_000_000;
        config.limits.fanout_bytes_per_second = 1 << 40;
    })
    .await;
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    let mut bob = server
        .connect(&format!("token={}", token_for("bob", "room")))
        .await;
    let mut mute = server
        .connect(&format!("token={}", token_for("mute", "room")))
        .await;
    let payload = "x".repeat(15_000);
    // Far more than the sockets' buffers and the room's ring hold together.
    for n in 0..1_500 {
        ada.send(json!({"type": "broadcast", "event": "e", "payload": payload}))
            .await;
        assert_eq!(bob.next_of("broadcast").await["event"], "e", "frame {n}");
    }
    for n in 0..3 {
        ada.send(json!({"type": "update", "state": {"n": n}})).await;
        while bob.replay.member(&ada.id()).unwrap()["state"]["n"] != n {
            bob.next().await;
        }
    }
    // It reads again: the roster is right, by frames or by a sync, without a gap.
    while mute
        .replay
        .member(&ada.id())
        .is_none_or(|member| member["state"]["n"] != 2)
    {
        tokio::time::timeout(Duration::from_secs(20), mute.next())
            .await
            .unwrap();
    }
    server.stop().await;
}
