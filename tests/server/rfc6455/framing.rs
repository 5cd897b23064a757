//! Lengths, pings and pongs, reserved bits, opcodes, masks, extensions: the suite's sections 1 to 4, 10, 12 and 13.

use super::{
    table::{Answer, HEARTBEAT, check, row},
    wire::{BINARY, CLOSE, Frame, PING, PONG, TEXT, Wire},
};
use crate::harness::TestServer;

/// A heartbeat that is so long.
fn padded(length: usize) -> Vec<u8> {
    let mut text = HEARTBEAT.as_bytes().to_vec();
    text.resize(length, b' ');
    text
}

#[tokio::test]
async fn messages_of_every_form_of_length() {
    let mut rows = vec![
        row(
            "1.1.1: a text of nothing is no message of ours",
            "5.6",
            [Frame::new(TEXT, "")],
            [Answer::BadMessage],
        ),
        row(
            "1.2.1: a binary message of nothing",
            "5.6",
            [Frame::new(BINARY, "")],
            [Answer::BadMessage],
        ),
    ];
    for length in [125, 126, 127, 128, 1000, 16 * 1024] {
        rows.push(row(
            "1.1.2-1.1.8: text whose length takes seven bits, or two bytes",
            "5.2",
            [Frame::new(TEXT, padded(length))],
            [Answer::Ack],
        ));
        rows.push(row(
            "1.2.2-1.2.8: binary whose length takes seven bits, or two bytes",
            "5.2",
            [Frame::new(BINARY, vec![0xfe; length])],
            [Answer::BadMessage],
        ));
        rows.push(row(
            "1.1: a length that takes eight bytes where fewer would do is read all the same",
            "5.2",
            [Frame::new(TEXT, padded(length)).claiming(length as u64)],
            [Answer::Ack],
        ));
    }
    check(rows).await;
}

#[tokio::test]
async fn pings_are_answered_and_pongs_are_not() {
    let most: Vec<u8> = (0..125).collect();
    let many: Vec<Frame> = (0..10).map(|it| Frame::new(PING, [it; 3])).collect();
    let pongs: Vec<Answer> = (0..10).map(|it| Answer::Pong(vec![it; 3])).collect();
    check(vec![
        row(
            "2.1: a ping of nothing",
            "5.5.2",
            [Frame::new(PING, "")],
            [Answer::Pong(Vec::new())],
        ),
        row(
            "2.2: a ping with text",
            "5.5.3",
            [Frame::new(PING, "Hello, world!")],
            [Answer::Pong(b"Hello, world!".to_vec())],
        ),
        row(
            "2.3: a ping with bytes that are no text",
            "5.5.3",
            [Frame::new(
                PING,
                [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff],
            )],
            [Answer::Pong(vec![
                0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff,
            ])],
        ),
        row(
            "2.4, 2.6: a ping as large as may be",
            "5.5",
            [Frame::new(PING, &most)],
            [Answer::Pong(most.clone())],
        ),
        row(
            "2.5: a ping one byte too large",
            "5.5",
            [Frame::new(PING, [0xfe; 126])],
            [Answer::Close(1002)],
        ),
        row(
            "2.7: a pong of nothing that nobody asked for",
            "5.5.3",
            [Frame::new(PONG, "")],
            [],
        ),
        row(
            "2.8: a pong with text that nobody asked for",
            "5.5.3",
            [Frame::new(PONG, "unasked")],
            [],
        ),
        row(
            "2.9: such a pong, and then a ping",
            "5.5.3",
            [Frame::new(PONG, "unasked"), Frame::new(PING, "asked")],
            [Answer::Pong(b"asked".to_vec())],
        ),
        row("2.10, 2.11: ten pings at once", "5.5.2", many, pongs),
        row(
            "2.5: a pong one byte too large",
            "5.5",
            [Frame::new(PONG, [0xfe; 126])],
            [Answer::Close(1002)],
        ),
    ])
    .await;
}

#[tokio::test]
async fn reserved_bits_mean_nothing() {
    let mut rows = Vec::new();
    for bits in 1..=7 {
        rows.push(row(
            "3.1-3.4: reserved bits in a text, after one that was good",
            "5.2",
            [
                Frame::new(TEXT, HEARTBEAT),
                Frame::new(TEXT, HEARTBEAT).reserved(bits),
                Frame::new(PING, "never heard"),
            ],
            [Answer::Ack, Answer::Close(1002)],
        ));
        rows.push(row(
            "3.5: reserved bits in a binary message",
            "5.2",
            [Frame::new(BINARY, [1, 2, 3]).reserved(bits)],
            [Answer::Close(1002)],
        ));
        rows.push(row(
            "3.6: reserved bits in a ping",
            "5.2",
            [Frame::new(PING, "x").reserved(bits)],
            [Answer::Close(1002)],
        ));
        rows.push(row(
            "3.7: reserved bits in a close",
            "5.2",
            [Frame::new(CLOSE, 1000_u16.to_be_bytes()).reserved(bits)],
            [Answer::Close(1002)],
        ));
    }
    check(rows).await;
}

#[tokio::test]
async fn reserved_opcodes_mean_nothing() {
    let mut rows = Vec::new();
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        for payload in ["", "payload"] {
            rows.push(row(
                "4.1.1, 4.1.2, 4.2.1, 4.2.2: an opcode that is nobody's, with and without a payload",
                "5.2",
                [Frame::new(opcode, payload)],
                [Answer::Close(1002)],
            ));
        }
        rows.push(row(
            "4.1.3-4.1.5, 4.2.3-4.2.5: the same between a good message and a ping",
            "5.2",
            [
                Frame::new(TEXT, HEARTBEAT),
                Frame::new(opcode, "x"),
                Frame::new(PING, "never heard"),
            ],
            [Answer::Ack, Answer::Close(1002)],
        ));
    }
    check(rows).await;
}

#[tokio::test]
async fn frames_are_masked_with_any_key() {
    let mut rows = Vec::new();
    for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
        rows.push(row(
            "not in the suite: a frame that is not masked",
            "5.1",
            [Frame::new(opcode, "").key(None)],
            [Answer::Close(1002)],
        ));
    }
    rows.push(row(
        "not in the suite: a message that is not masked",
        "5.1",
        [Frame::new(TEXT, HEARTBEAT).key(None)],
        [Answer::Close(1002)],
    ));
    for key in [[0; 4], [0xff; 4], *b"{\"ty"] {
        rows.push(row(
            "not in the suite: a key that hides nothing, or everything",
            "5.3",
            [Frame::new(TEXT, HEARTBEAT).key(Some(key))],
            [Answer::Ack],
        ));
    }
    check(rows).await;
}

#[tokio::test]
async fn no_extension_is_taken_up() {
    let server = TestServer::start().await;
    server.room("room").await;
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits; server_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
    ] {
        // 12 and 13 of the suite, section 9.1 of the RFC.
        let line = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        let mut wire = Wire::open(&server, "somebody", &line).await;
        let head = wire.head.to_ascii_lowercase();
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        let compressed = Frame::new(TEXT, HEARTBEAT).reserved(4).to_bytes();
        wire.write(&compressed, usize::MAX).await;
        let answer = super::table::heard(&mut wire, offer).await;
        assert_eq!(answer, Answer::Close(1002), "{offer}");
    }
    server.stop().await;
}
