//! Rows of frames and what comes of them, tried in pieces of several sizes.

use serde_json::Value;

use super::wire::{CLOSE, Frame, PING, PONG, TEXT, Wire};
use crate::harness::TestServer;

/// The shortest message that is answered.
pub(super) const HEARTBEAT: &str = r#"{"type":"heartbeat"}"#;
/// Bytes written at a time: all, one, and some that end anywhere in a header, a key or a character.
const PIECES: [usize; 4] = [usize::MAX, 1, 3, 7];
/// More than this is not written one byte at a time.
const LONG: usize = 4 * 1024;

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// A `heartbeat_ack`: a message was understood.
    Ack,
    /// A `bad_message`: a message was understood to be none of ours.
    BadMessage,
    Pong(Vec<u8>),
    /// A close frame with this code, and then the end.
    Close(u16),
    /// A close frame without a code, and then the end.
    EmptyClose,
}

pub(super) struct Row {
    /// The suite's cases, in words.
    pub(super) case: &'static str,
    /// The section of RFC 6455.
    pub(super) section: &'static str,
    pub(super) frames: Vec<Frame>,
    pub(super) answers: Vec<Answer>,
}

pub(super) fn row(
    case: &'static str,
    section: &'static str,
    frames: impl Into<Vec<Frame>>,
    answers: impl Into<Vec<Answer>>,
) -> Row {
    Row {
        case,
        section,
        frames: frames.into(),
        answers: answers.into(),
    }
}

/// Tries every row in all pieces, each on a connection of its own. One that is not closed must answer a heartbeat at the end.
pub(super) async fn check(rows: Vec<Row>) {
    let server = TestServer::with(|config| config.limits.handshakes_per_second = None).await;
    server.room("room").await;
    for (at, row) in rows.iter().enumerate() {
        let mut bytes: Vec<u8> = row.frames.iter().flat_map(Frame::to_bytes).collect();
        let mut answers = row.answers.clone();
        if !matches!(answers.last(), Some(Answer::Close(_) | Answer::EmptyClose)) {
            bytes.extend(Frame::new(TEXT, HEARTBEAT).to_bytes());
            answers.push(Answer::Ack);
        }
        for piece in PIECES {
            if piece < 100 && bytes.len() > LONG {
                continue;
            }
            let about = format!("{} (section {}), in {piece}s", row.case, row.section);
            let mut wire = Wire::open(&server, &format!("row-{at}"), "").await;
            wire.write(&bytes, piece).await;
            for answer in &answers {
                assert_eq!(&heard(&mut wire, &about).await, answer, "{about}");
            }
            if let Some(Answer::Close(_) | Answer::EmptyClose) = answers.last() {
                // The server may have closed already, if it had our close.
                let close = Frame::new(CLOSE, 1000_u16.to_be_bytes()).to_bytes();
                wire.write(&close, usize::MAX).await;
                assert_eq!(wire.next().await, None, "{about}: nothing after a close");
            } else {
                let leave = Frame::new(TEXT, r#"{"type":"leave"}"#).to_bytes();
                wire.write(&leave, usize::MAX).await;
                assert_eq!(heard(&mut wire, &about).await, Answer::Close(1000));
            }
        }
    }
    server.stop().await;
}

/// The next thing that answers a frame of ours.
pub(super) async fn heard(wire: &mut Wire, about: &str) -> Answer {
    loop {
        let said = wire.next().await;
        let (opcode, payload) = said.unwrap_or_else(|| panic!("{about}: no answer"));
        match opcode {
            PONG => return Answer::Pong(payload),
            CLOSE => {
                let code = payload.first_chunk().copied().map(u16::from_be_bytes);
                return code.map_or(Answer::EmptyClose, Answer::Close);
            }
            PING => {}
            _ => {
                let message: Value = serde_json::from_slice(&payload).unwrap();
                match message["type"].as_str() {
                    Some("heartbeat_ack") => return Answer::Ack,
                    Some("error") => {
                        assert_eq!(message["code"], "bad_message", "{about}: {message}");
                        return Answer::BadMessage;
                    }
                    _ => {}
                }
            }
        }
    }
}
