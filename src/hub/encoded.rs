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
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Text),
            ..FrameHeader::default()
        };
        let start = MAX_HEADER - header.len(length);
        let mut room = &mut frame[start..MAX_HEADER];
        header
            .format(length, &mut room)
            .expect("the header has the room it asked for");
        Self(Bytes::from(frame).slice(start..))
    }

    /// An empty Ping (RFC 6455 section 5.5.2).
    pub fn ping() -> Self {
        Self(Bytes::from_static(&[0x89, 0]))
    }

    /// The whole frame.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is left of the frame after its first `sent` bytes.
    pub fn rest(&self, sent: usize) -> Bytes {
        self.0.slice(sent..)
    }

    /// How many bytes it is on the wire.
    pub(super) fn len(&self) -> usize {
        self.0.len()
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

    #[test]
    fn frames_of_every_header_length_are_read_back() {
        for detail in [0, 1, 200, 70_000] {
            let message = ServerMessage::Error {
                code: ErrorCode::BadMessage,
                detail: "x".repeat(detail),
                reference: None,
            };
            let text = message.to_text();
            assert_eq!(
                read(&Encoded::new(&message)),
                (OpCode::Data(Data::Text), text)
            );
        }
        let ping = (OpCode::Control(Control::Ping), String::new());
        assert_eq!(read(&Encoded::ping()), ping);
    }
}
