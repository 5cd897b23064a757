//! Frames as a server sends them: unmasked, whole (RFC 6455, section 5).

use std::io;

use bytes::{Buf, Bytes, BytesMut};

/// A message as it arrived.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: Bytes,
    /// Bytes on the wire.
    pub wire_bytes: usize,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// JSON.
    Text,
    /// Answer with a pong.
    Ping,
    /// The server closes.
    Close,
    /// Anything else.
    Other(u8),
}

/// Takes the first frame out of what has been read; `None`: it is not all there.
pub(super) fn take(inbox: &mut BytesMut) -> io::Result<Option<Frame>> {
    let &[first, second, ..] = &inbox[..] else {
        return Ok(None);
    };
    let (header, length) = match (second, &inbox[2..]) {
        (0..126, _) => (2, u64::from(second)),
        (126, &[a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
        (127, &[a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (126 | 127, _) => return Ok(None),
        _ => return Err(io::Error::other("a server does not mask")),
    };
    if first & 0xf0 != 0x80 {
        return Err(io::Error::other("in pieces, or with an extension"));
    }
    let wire_bytes = header + usize::try_from(length).map_err(io::Error::other)?;
    if inbox.len() < wire_bytes {
        // Grown once, not with every read.
        inbox.reserve(wire_bytes - inbox.len());
        return Ok(None);
    }
    let mut payload = inbox.split_to(wire_bytes).freeze();
    payload.advance(header);
    let opcode = match first & 0x0f {
        1 => Opcode::Text,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        other => Opcode::Other(other),
    };
    Ok(Some(Frame {
        opcode,
        payload,
        wire_bytes,
    }))
}

impl Frame {
    /// The code of a close frame; 1005 if it has none.
    pub fn close_code(&self) -> u16 {
        match self.payload[..] {
            [a, b, ..] => u16::from_be_bytes([a, b]),
            _ => 1005,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_or_not_at_all() {
        let mut sent = vec![0x81, 2];
        sent.extend(b"hi");
        sent.extend([0x81, 126, 1, 0]);
        sent.extend([b'x'; 256]);
        sent.extend([0x88, 2, 0x03, 0xf5]);
        for cut in 0..sent.len() {
            let mut inbox = BytesMut::from(&sent[..cut]);
            let mut frames = Vec::new();
            while let Some(frame) = take(&mut inbox).unwrap() {
                frames.push(frame);
            }
            inbox.extend_from_slice(&sent[cut..]);
            while let Some(frame) = take(&mut inbox).unwrap() {
                frames.push(frame);
            }
            let sizes: Vec<_> = frames
                .iter()
                .map(|frame| (frame.payload.len(), frame.wire_bytes))
                .collect();
            assert_eq!(sizes, [(2, 4), (256, 260), (2, 4)], "cut at {cut}");
            assert_eq!(
                (frames[2].opcode, frames[2].close_code()),
                (Opcode::Close, 1013)
            );
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_an_error() {
        for head in [[0x81, 0x82], [0x01, 2], [0xc1, 2]] {
            assert!(take(&mut BytesMut::from(&head[..])).is_err(), "{head:?}");
        }
    }
}
