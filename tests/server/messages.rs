//! What a client may say, and what it hears when it says something else.

use futures::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::harness::{Client, TestServer};

async fn alone(server: &TestServer) -> Client {
    server.room("room").await;
    let invite = server.invite("room").await;
    server.join(&invite, "Ada").await
}

#[tokio::test]
async fn bad_messages_are_named_and_the_connection_lives() {
    let server = TestServer::start().await;
    let mut ada = alone(&server).await;
    let big = "x".repeat(5000);
    let rows = [
        (json!([]), "bad_message"),
        (json!({"type": "nonsense", "ref": 1}), "unknown_type"),
        (
            json!({"type": "update", "state": 1, "ref": "b"}),
            "bad_field",
        ),
        (
            json!({"type": "update", "state": {"big": big}, "ref": 2}),
            "state_too_large",
        ),
        (
            json!({"type": "broadcast", "event": "e", "to": ["nobody"], "ref": 3}),
            "unknown_participant",
        ),
        (
            json!({"type": "broadcast", "event": "e", "to": ["00000000-0000-7000-8000-000000000000"]}),
            "unknown_participant",
        ),
        (
            json!({"type": "token", "token": "nonsense", "ref": 4}),
            "credential_invalid",
        ),
    ];
    for (message, code) in rows {
        ada.send(message.clone()).await;
        let error = ada.next_of("error").await;
        assert_eq!(error["code"], code, "{message}: {error}");
        assert_eq!(error.get("ref"), message.get("ref"), "{message}: {error}");
    }
    ada.socket
        .send(Message::Binary(Bytes::from_static(b"x")))
        .await
        .unwrap();
    assert_eq!(ada.next_of("error").await["code"], "bad_message");
    ada.quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn twenty_bad_messages_end_with_4400() {
    let server = TestServer::start().await;
    let mut ada = alone(&server).await;
    for _ in 0..20 {
        ada.socket.send(Message::text("nonsense")).await.unwrap();
    }
    assert_eq!(ada.closed().await, 4400);
    server.stop().await;
}

#[tokio::test]
async fn who_sends_too_much_is_told() {
    let server = TestServer::start().await;
    let mut ada = alone(&server).await;
    for n in 0..100 {
        ada.send(json!({"type": "broadcast", "event": "e", "payload": n, "ref": n}))
            .await;
    }
    let error = ada.next_of("error").await;
    assert_eq!(error["code"], "rate_limited");
    assert!(
        error["ref"].as_u64().unwrap() >= 60,
        "the burst goes through: {error}"
    );
    server.stop().await;
}

#[tokio::test]
async fn too_large_and_not_utf8() {
    let server = TestServer::start().await;
    let mut ada = alone(&server).await;
    ada.send(json!({"type": "broadcast", "event": "e", "payload": "x".repeat(17_000)}))
        .await;
    assert_eq!(ada.closed().await, 1009);
    let invite = server.invite("room").await;
    let mut bob = server.join(&invite, "Bob").await;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    bob.socket.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(bob.closed().await, 1007);
    server.stop().await;
}
