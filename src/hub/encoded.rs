//! Messages as they go on the wire.

use bytes::Bytes;
use rollcall_protocol::ServerMessage;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

/// The longest header of a frame that is not masked (RFC 6455 section 5.2).
const MAX_HEADER: usize = 10;

/// One WebSocket frame, header and payload, encoded once for everybody it is for. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct Encoded(Bytes);

impl Encoded {
    /// A message as one unfragmented text frame.
    pub fn new(message: &ServerMessage) -> Self {
        // The header goes right before the payload, once that is known to be as long as it is.
        let mut frame = vec![0; MAX_HEADER];
        message.append_to(&mut frame);
        let length = (frame.len() - MAX_HEADER) as u64;
        let header = text_header();
        let start = MAX_HEADER - header.len(length);
        let mut room = &mut frame[start..MAX_HEADER];
        header
            .format(length, &mut room)
            .expect("the header has the room it asked for");
        Self(Bytes::from(frame).slice(start..))
    }

    /// The longest frame that [`short`](Self::short) makes: two bytes of header can say no more (RFC 6455 section 5.2).
    pub const SHORT: usize = 2 + 125;

    /// A message as one frame in `room`, if it is short.
    pub fn short<'a>(message: &ServerMessage, room: &'a mut [u8; Self::SHORT]) -> Option<&'a [u8]> {
        let (mut header, mut payload) = room.split_at_mut(2);
        let left = message
            .write_to(&mut payload)
            .ok()
            .map(|()| payload.len())?;
        let length = Self::SHORT - 2 - left;
        text_header().format(length as u64, &mut header).ok()?;
        Some(&room[..2 + length])
    }

    /// A frame that was encoded elsewhere.
    pub fn copied(frame: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(frame))
    }

    /// An empty Ping (RFC 6455 section 5.5.2).
    pub fn ping() -> Self {
        Self(Bytes::from_static(&[0x89, 0]))
    }

    /// The whole frame.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes it is on the wire.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn text_header() -> FrameHeader {
    FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rollcall_protocol::ErrorCode;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        FrameSocket,
        coding::{Control, Data, OpCode},
    };

    use super::*;

    fn read(encoded: &Encoded) -> (OpCode, String) {
        let mut socket = FrameSocket::new(Cursor::new(encoded.as_bytes().to_vec()));
        let frame = socket.read(None).unwrap().unwrap();
        assert!(frame.header().is_final);
        assert!(socket.read(None).unwrap().is_none(), "one frame");
        (frame.header().opcode, frame.to_text().unwrap().to_owned())
    }

    fn error(detail: usize) -> ServerMessage {
        ServerMessage::Error {
            code: ErrorCode::BadMessage,
            detail: "x".repeat(detail),
            reference: None,
        }
    }

    #[test]
    fn frames_of_every_header_length_are_read_back() {
        for detail in [0, 1, 200, 70_000] {
            let message = error(detail);
            let text = message.to_text();
            assert_eq!(
                read(&Encoded::new(&message)),
                (OpCode::Data(Data::Text), text)
            );
        }
        let mut room = [0; Encoded::SHORT];
        for detail in [0, 60] {
            let message = error(detail);
            let short = Encoded::short(&message, &mut room).unwrap();
            assert_eq!(short, Encoded::new(&message).as_bytes());
            assert_eq!(Encoded::copied(short).as_bytes(), short);
        }
        let limit = (0..).find(|detail| Encoded::short(&error(*detail), &mut room).is_none());
        let too_long = Encoded::new(&error(limit.unwrap()));
        assert_eq!(too_long.as_bytes()[1], 126, "the first that does not fit");
        let ping = (OpCode::Control(Control::Ping), String::new());
        assert_eq!(read(&Encoded::ping()), ping);
    }
}
