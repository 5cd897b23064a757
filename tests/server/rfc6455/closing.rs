//! Closes, and what comes after them: the suite's section 7.

use super::{
    table::{Answer, HEARTBEAT, check, heard, row},
    wire::{CLOSE, CONTINUATION, Frame, PING, TEXT, Wire},
};
use crate::harness::TestServer;

fn close(code: u16, reason: impl AsRef<[u8]>) -> Frame {
    Frame::new(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

#[tokio::test]
async fn nothing_counts_after_a_close() {
    let mut long = HEARTBEAT.as_bytes().to_vec();
    long.resize(16 * 1024, b' ');
    check(vec![
        row(
            "7.1.1: a message, then a close",
            "5.5.1",
            [Frame::new(TEXT, HEARTBEAT), close(1000, "")],
            [Answer::Ack, Answer::Close(1000)],
        ),
        row(
            "7.1.2: two closes",
            "5.5.1",
            [close(1000, ""), close(1000, "")],
            [Answer::Close(1000)],
        ),
        row(
            "7.1.3: a ping after the close has no pong",
            "5.5.1",
            [close(1000, ""), Frame::new(PING, "")],
            [Answer::Close(1000)],
        ),
        row(
            "7.1.4: a message after the close is not heard",
            "5.5.1",
            [close(1000, ""), Frame::new(TEXT, HEARTBEAT)],
            [Answer::Close(1000)],
        ),
        row(
            "7.1.5: a close between the fragments of a message that is never whole",
            "5.4",
            [
                Frame::new(TEXT, "fragment").unfinished(),
                close(1000, ""),
                Frame::new(CONTINUATION, "fragment"),
            ],
            [Answer::Close(1000)],
        ),
        row(
            "7.1.6: a long message, a close and a ping",
            "5.5.1",
            [
                Frame::new(TEXT, long),
                close(1000, ""),
                Frame::new(PING, ""),
            ],
            [Answer::Ack, Answer::Close(1000)],
        ),
        row(
            "7.1: garbage after the close",
            "5.5.1",
            [close(1000, ""), Frame::new(0xf, "x").reserved(7).key(None)],
            [Answer::Close(1000)],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_close_is_answered_in_kind() {
    let mut rows = vec![
        row(
            "7.3.1: a close of nothing",
            "5.5.1",
            [Frame::new(CLOSE, "")],
            [Answer::EmptyClose],
        ),
        row(
            "7.3.2: a close of one byte",
            "5.5.1",
            [Frame::new(CLOSE, [3])],
            [Answer::Close(1002)],
        ),
        row(
            "7.3.4: a close with a reason",
            "5.5.1",
            [close(1000, "Hello, world!")],
            [Answer::Close(1000)],
        ),
        row(
            "7.3.5: a close with the longest reason",
            "5.5.1",
            [close(1000, [b'*'; 123])],
            [Answer::Close(1000)],
        ),
        row(
            "7.3.6: a close with a reason one byte too long",
            "5.5",
            [close(1000, [b'*'; 124])],
            [Answer::Close(1002)],
        ),
        row(
            "7.5.1: a close whose reason is not UTF-8",
            "5.5.1",
            [close(1000, b"\xce\xba\xed\xa0\x80")],
            [Answer::Close(1007)],
        ),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999,
    ] {
        rows.push(row(
            "7.3.3, 7.7.1-7.7.13: a close with a code that may be sent",
            "7.4.1, 7.4.2",
            [close(code, "")],
            [Answer::Close(code)],
        ));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        rows.push(row(
            "7.9.1-7.9.9, 7.13.1, 7.13.2: a close with a code that may not be sent",
            "7.4.1, 7.4.2",
            [close(code, "")],
            [Answer::Close(1002)],
        ));
    }
    check(rows).await;
}

/// Section 7.2.1: a stream that ends without a close is over at once, and one that ends after a close is still answered.
#[tokio::test]
async fn a_client_that_says_no_more_is_answered_if_it_closed() {
    let server = TestServer::start().await;
    server.room("room").await;
    let message = Frame::new(TEXT, HEARTBEAT).to_bytes();
    let cut = message.len() - 1;
    for unanswered in [&b""[..], &message[..1], &message[..cut]] {
        let mut wire = Wire::open(&server, "somebody", "").await;
        wire.write(unanswered, usize::MAX).await;
        wire.finish().await;
        // Its own joining may still have been on its way.
        while let Some((opcode, _)) = wire.next().await {
            assert_eq!(opcode, TEXT, "after {} bytes", unanswered.len());
        }
    }
    let mut wire = Wire::open(&server, "somebody", "").await;
    wire.write(&message, usize::MAX).await;
    wire.write(&close(1001, "").to_bytes(), usize::MAX).await;
    wire.finish().await;
    assert_eq!(heard(&mut wire, "half").await, Answer::Ack);
    assert_eq!(heard(&mut wire, "half").await, Answer::Close(1001));
    assert_eq!(wire.next().await, None);
    server.stop().await;
}

/// Section 1.4: the server waits for the answer to its close, so that nothing that was on its way resets the connection.
#[tokio::test]
async fn the_server_waits_for_the_answer_to_its_close() {
    let server = TestServer::start().await;
    server.room("room").await;
    let mut wire = Wire::open(&server, "somebody", "").await;
    let leave = Frame::new(TEXT, r#"{"type":"leave"}"#).to_bytes();
    wire.write(&leave, usize::MAX).await;
    assert_eq!(heard(&mut wire, "leave").await, Answer::Close(1000));
    for late in [Frame::new(TEXT, HEARTBEAT), Frame::new(PING, "late")] {
        assert!(wire.write(&late.to_bytes(), usize::MAX).await);
    }
    assert!(wire.write(&close(1000, "").to_bytes(), usize::MAX).await);
    assert_eq!(wire.next().await, None, "neither an answer nor a reset");
    server.stop().await;
}

/// Section 7.1.1: what the server has not read when it is done would reset the connection, and the close frame be lost with it.
#[tokio::test]
async fn what_was_on_its_way_does_not_reset_the_close() {
    let server = TestServer::start().await;
    server.room("room").await;
    let much = vec![b' '; 64 * 1024];
    let rows = [
        (Frame::new(TEXT, &much), 1009),
        (Frame::new(TEXT, b"\xff"), 1007),
        (Frame::new(CONTINUATION, "lost"), 1002),
        (close(1000, ""), 1000),
        (close(1001, ""), 1001),
    ];
    for (last, code) in rows {
        let mut wire = Wire::open(&server, "somebody", "").await;
        let bytes = [last.to_bytes(), much.clone()].concat();
        wire.write(&bytes, usize::MAX).await;
        assert_eq!(heard(&mut wire, "a close").await, Answer::Close(code));
        assert_eq!(wire.next().await, None, "the end after {code} is no reset");
    }
    server.stop().await;
}
