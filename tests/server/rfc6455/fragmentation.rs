//! Messages in fragments: the suite's sections 5 and 10.

use super::{
    table::{Answer, HEARTBEAT, check, row},
    wire::{BINARY, CONTINUATION, Frame, PING, PONG, TEXT, fragments},
};

fn halves() -> [Frame; 2] {
    let (first, second) = HEARTBEAT.split_at(9);
    [
        Frame::new(TEXT, first).unfinished(),
        Frame::new(CONTINUATION, second),
    ]
}

#[tokio::test]
async fn control_frames_are_whole() {
    let mut rows = Vec::new();
    for (opcode, case) in [
        (PING, "5.1: a ping in two fragments"),
        (PONG, "5.2: a pong in two fragments"),
        (0x8, "5.1: a close in two fragments"),
    ] {
        rows.push(row(
            case,
            "5.5",
            fragments(opcode, [&b"\x03"[..], b"\xe8"]),
            [Answer::Close(1002)],
        ));
    }
    check(rows).await;
}

#[tokio::test]
async fn a_message_is_the_sum_of_its_fragments() {
    let [first, second] = halves();
    let bytes = HEARTBEAT.as_bytes();
    let single = fragments(TEXT, bytes.chunks(1));
    let with_pings = single
        .iter()
        .flat_map(|frame| [Frame::new(PING, "between"), frame.clone()]);
    let mut pongs = vec![Answer::Pong(b"between".to_vec()); single.len()];
    pongs.push(Answer::Ack);
    let empty = [&b""[..], b"", bytes, b"", b""];
    check(vec![
        row(
            "5.3-5.5: a text in two fragments",
            "5.4",
            [first.clone(), second.clone()],
            [Answer::Ack],
        ),
        row(
            "5.6-5.8: a ping between two fragments of a text is answered first",
            "5.4",
            [first.clone(), Frame::new(PING, "now"), second.clone()],
            [Answer::Pong(b"now".to_vec()), Answer::Ack],
        ),
        row(
            "5.6: a pong between two fragments changes nothing",
            "5.4",
            [first, Frame::new(PONG, "now"), second],
            [Answer::Ack],
        ),
        row(
            "5.19, 5.20: a ping before every fragment of one byte",
            "5.4",
            with_pings.collect::<Vec<_>>(),
            pongs,
        ),
        row(
            "6.1.2, 6.1.3: fragments of nothing",
            "5.4",
            fragments(TEXT, empty),
            [Answer::Ack],
        ),
        row(
            "5.3: a binary message in fragments",
            "5.4",
            fragments(BINARY, [&b"a"[..], b"b", b"c"]),
            [Answer::BadMessage],
        ),
        row(
            "10.1.1: a long text in fragments of 1,300 bytes",
            "5.4",
            {
                let mut text = bytes.to_vec();
                text.resize(16 * 1024, b' ');
                fragments(TEXT, text.chunks(1300))
            },
            [Answer::Ack],
        ),
    ])
    .await;
}

#[tokio::test]
async fn fragments_come_in_order_and_belong_to_one_message() {
    let [first, second] = halves();
    let ack_then_1002 = [Answer::Ack, Answer::Close(1002)];
    check(vec![
        row(
            "5.9, 5.10: a last continuation of nothing, before a good message",
            "5.4",
            [
                Frame::new(CONTINUATION, "lost"),
                Frame::new(TEXT, HEARTBEAT),
            ],
            [Answer::Close(1002)],
        ),
        row(
            "5.11: the same after a good message, from within one write",
            "5.4",
            [
                Frame::new(TEXT, HEARTBEAT),
                Frame::new(CONTINUATION, "lost"),
            ],
            ack_then_1002.clone(),
        ),
        row(
            "5.12-5.14: a continuation of nothing that is to go on",
            "5.4",
            [
                Frame::new(CONTINUATION, "lost").unfinished(),
                Frame::new(TEXT, HEARTBEAT),
            ],
            [Answer::Close(1002)],
        ),
        row(
            "5.15: a whole message in fragments, then a continuation of nothing",
            "5.4",
            [
                first.clone(),
                second.clone(),
                Frame::new(CONTINUATION, "lost").unfinished(),
                Frame::new(TEXT, HEARTBEAT),
            ],
            ack_then_1002,
        ),
        row(
            "5.16, 5.17: continuations of nothing before a text in fragments, again and again",
            "5.4",
            [
                Frame::new(CONTINUATION, "lost").unfinished(),
                first.clone(),
                second,
            ],
            [Answer::Close(1002)],
        ),
        row(
            "5.18: a new text before the one begun is whole",
            "5.4",
            [first.clone(), Frame::new(TEXT, HEARTBEAT)],
            [Answer::Close(1002)],
        ),
        row(
            "5.18: a binary message before the text begun is whole",
            "5.4",
            [first, Frame::new(BINARY, "x")],
            [Answer::Close(1002)],
        ),
    ])
    .await;
}
