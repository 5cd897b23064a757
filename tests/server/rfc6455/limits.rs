//! Sizes: the suite's section 9, as far as 16 KiB a message go.

use super::{
    table::{Answer, HEARTBEAT, check, row},
    wire::{BINARY, Frame, PING, TEXT, fragments},
};

const LIMIT: usize = 16 * 1024;

fn padded(length: usize) -> Vec<u8> {
    let mut text = HEARTBEAT.as_bytes().to_vec();
    text.resize(length, b' ');
    text
}

#[tokio::test]
async fn messages_up_to_the_limit_are_taken_and_no_larger_ones() {
    let mut rows = vec![
        row(
            "9.1: the largest text",
            "5.6",
            [Frame::new(TEXT, padded(LIMIT))],
            [Answer::Ack],
        ),
        row(
            "9.2: the largest binary message",
            "5.6",
            [Frame::new(BINARY, vec![0; LIMIT])],
            [Answer::BadMessage],
        ),
    ];
    for fragment in [64, 256, 1024, 4096, LIMIT - 1] {
        rows.push(row(
            "9.3, 9.5: the largest text in fragments",
            "5.4",
            fragments(TEXT, padded(LIMIT).chunks(fragment)),
            [Answer::Ack],
        ));
        rows.push(row(
            "9.4, 9.6: the largest binary message in fragments",
            "5.4",
            fragments(BINARY, vec![0; LIMIT].chunks(fragment)),
            [Answer::BadMessage],
        ));
        rows.push(row(
            "9.3: one byte more in fragments",
            "7.4.1",
            fragments(TEXT, padded(LIMIT + 1).chunks(fragment)),
            [Answer::Close(1009)],
        ));
        rows.push(row(
            "9.4: one byte more in fragments that never end",
            "7.4.1",
            fragments(BINARY, vec![0; LIMIT + 1].chunks(fragment))
                .into_iter()
                .map(Frame::unfinished)
                .collect::<Vec<_>>(),
            [Answer::Close(1009)],
        ));
    }
    // 1.1.7 and on of the suite, and its megabytes: what is on its way when the close goes out must not reset it.
    for length in [LIMIT + 1, 65_535, 65_536, 1024 * 1024, 4 * 1024 * 1024] {
        for opcode in [TEXT, BINARY] {
            rows.push(row(
                "1.1.7, 1.1.8, 1.2.7, 1.2.8, 9.1, 9.2: a message larger than the limit",
                "7.4.1",
                [Frame::new(opcode, vec![b' '; length])],
                [Answer::Close(1009)],
            ));
        }
    }
    check(rows).await;
}

/// A length is believed before anything of that length has come.
#[tokio::test]
async fn a_length_beyond_the_limit_is_enough() {
    let mut rows = Vec::new();
    for length in [LIMIT as u64 + 1, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX] {
        rows.push(row(
            "9.1, 9.2: the head of a frame that would be larger than the limit",
            "7.4.1",
            [Frame::new(TEXT, "").claiming(length)],
            [Answer::Close(1009)],
        ));
    }
    rows.push(row(
        "2.5: the head of a ping that would be larger than any message: the length is judged before the opcode",
        "7.4.1",
        [Frame::new(PING, "").claiming(LIMIT as u64 + 1)],
        [Answer::Close(1009)],
    ));
    check(rows).await;
}
