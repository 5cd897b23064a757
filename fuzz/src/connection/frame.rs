//! Frames as a client writes them, and as it must not; and the server's, read by the letter of RFC 6455.

use arbitrary::Arbitrary;

use super::script::{Names, Words};

/// Frames on their way to the server.
#[derive(Debug, Arbitrary)]
pub(super) enum Frame {
    /// One message in one frame.
    Message(Words, [u8; 4]),
    /// One message in frames that end at these places.
    Fragments(Words, Vec<u8>),
    /// A close with this code and these bytes for a reason; without a code if that is absent.
    Close(Option<u16>, Vec<u8>),
    /// A ping or a pong.
    Control(bool, Vec<u8>),
    /// Every bit as it comes.
    Odd {
        first: u8,
        is_masked: bool,
        length: Length,
        payload: Vec<u8>,
    },
}

/// What a frame says of its length.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Length {
    Right,
    /// In two bytes, or in eight.
    Claimed16(u16),
    Claimed64(u64),
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

impl Frame {
    /// The bytes on the wire.
    pub(super) fn to_bytes(&self, names: &Names<'_>) -> Vec<u8> {
        match self {
            Self::Message(words, key) => write(FIN | TEXT, words.to_text(names).as_bytes(), *key),
            Self::Fragments(words, cuts) => {
                let text = words.to_text(names);
                let (mut rest, mut bytes, mut opcode) = (text.as_bytes(), Vec::new(), TEXT);
                for cut in cuts {
                    let (fragment, after) = rest.split_at(rest.len().min((*cut).into()));
                    bytes.extend(write(opcode, fragment, [1, 2, 3, 4]));
                    (rest, opcode) = (after, 0);
                }
                bytes.extend(write(FIN | opcode, rest, [5, 6, 7, 8]));
                bytes
            }
            Self::Close(code, reason) => {
                let code = code.map(u16::to_be_bytes);
                let payload = [code.as_ref().map_or(&[][..], |code| code), reason].concat();
                write(FIN | CLOSE, &payload, [9; 4])
            }
            Self::Control(is_ping, payload) => {
                let opcode = if *is_ping { PING } else { PONG };
                write(FIN | opcode, payload, [0; 4])
            }
            Self::Odd {
                first,
                is_masked,
                length,
                payload,
            } => {
                let mut bytes = vec![*first];
                let mask = if *is_masked { MASKED } else { 0 };
                match length {
                    Length::Right => length_bytes(payload.len(), mask, &mut bytes),
                    Length::Claimed16(length) => {
                        bytes.push(mask | 126);
                        bytes.extend(length.to_be_bytes());
                    }
                    Length::Claimed64(length) => {
                        bytes.push(mask | 127);
                        bytes.extend(length.to_be_bytes());
                    }
                }
                // The first four bytes are the key then.
                bytes.extend(payload);
                bytes
            }
        }
    }
}

fn write(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![first];
    length_bytes(payload.len(), MASKED, &mut bytes);
    bytes.extend(key);
    bytes.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

fn length_bytes(length: usize, mask: u8, bytes: &mut Vec<u8>) {
    match length {
        0..126 => bytes.push(mask | length as u8),
        126..0x1_0000 => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
}

/// A frame of the server's.
#[derive(Debug)]
pub(super) enum Said {
    Text(String),
    /// `None`: without a code.
    Close(Option<u16>),
    Ping,
    Pong,
}

/// Takes the first frame off what has come, if all of it has. What a server must not send panics.
pub(super) fn take(bytes: &mut Vec<u8>) -> Option<Said> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xf0, FIN, "whole, and no reserved bit: {first:#x}");
    assert_eq!(second & MASKED, 0, "a server does not mask");
    let (length, head) = match second {
        126 => {
            let length = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
            assert!(length >= 126, "the shortest form that fits");
            (usize::from(length), 4)
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            assert!(length > 0xffff, "the shortest form that fits");
            (usize::try_from(length).ok()?, 10)
        }
        short => (usize::from(short), 2),
    };
    if bytes.len() < head + length {
        return None;
    }
    let payload: Vec<u8> = bytes.drain(..head + length).skip(head).collect();
    let opcode = first & 0x0f;
    assert!(opcode < CLOSE || length <= 125, "a control frame is short");
    Some(match opcode {
        TEXT => Said::Text(String::from_utf8(payload).expect("text is UTF-8")),
        PING => Said::Ping,
        PONG => Said::Pong,
        CLOSE => {
            let code = payload.split_first_chunk();
            assert!(code.is_some() || payload.is_empty(), "no half a code");
            let code = code.map(|(code, reason)| {
                assert!(str::from_utf8(reason).is_ok(), "a reason is UTF-8");
                u16::from_be_bytes(*code)
            });
            Said::Close(code)
        }
        _ => panic!("opcode {opcode}"),
    })
}
