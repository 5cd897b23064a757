//! A client's end of the wire, bit by bit: writes what a client must not, and reads by the letter.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
    time::timeout,
};

use crate::harness::{SOON, TestServer, token_for};

pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// A frame of a client's.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    first: u8,
    key: Option<[u8; 4]>,
    claimed: Option<u64>,
    payload: Vec<u8>,
}

impl Frame {
    /// Whole and masked.
    pub(super) fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            first: 0x80 | opcode,
            key: Some([0x37, 0xfa, 0x21, 0x3d]),
            claimed: None,
            payload: payload.as_ref().to_vec(),
        }
    }

    /// More is to follow.
    pub(super) fn unfinished(mut self) -> Self {
        self.first &= !0x80;
        self
    }

    pub(super) fn reserved(mut self, bits: u8) -> Self {
        self.first |= bits << 4;
        self
    }

    pub(super) fn key(mut self, key: Option<[u8; 4]>) -> Self {
        self.key = key;
        self
    }

    /// Says another length than its own, in eight bytes.
    pub(super) fn claiming(mut self, length: u64) -> Self {
        self.claimed = Some(length);
        self
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mask = if self.key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match (self.claimed, self.payload.len()) {
            (Some(length), _) => {
                bytes.push(mask | 127);
                bytes.extend(length.to_be_bytes());
            }
            (None, length @ 0..=125) => bytes.push(mask | length as u8),
            (None, length @ 126..=0xffff) => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            (None, length) => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(self.key.iter().flatten());
        let key = self.key.unwrap_or_default();
        let masked = self.payload.iter().zip(key.iter().cycle());
        bytes.extend(masked.map(|(byte, key)| byte ^ key));
        bytes
    }
}

/// A message in frames of these payloads.
pub(super) fn fragments<'a>(
    opcode: u8,
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Frame> {
    let mut frames: Vec<Frame> = payloads
        .into_iter()
        .enumerate()
        .map(|(at, payload)| {
            let opcode = if at == 0 { opcode } else { CONTINUATION };
            Frame::new(opcode, payload).unfinished()
        })
        .collect();
    if let Some(last) = frames.last_mut() {
        last.first |= 0x80;
    }
    frames
}

/// A frame of the server's: opcode and payload.
pub(super) type Said = (u8, Vec<u8>);

/// A connection whose welcome has been read.
pub(super) struct Wire {
    stream: TcpStream,
    /// The head of the answer to the upgrade.
    pub(super) head: String,
}

impl Wire {
    /// Enters as `who`, with more lines in the head of the request.
    pub(super) async fn open(server: &TestServer, who: &str, lines: &str) -> Self {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET /v1/connect?token={} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n",
            token_for(who, "room"),
            server.addr
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let mut wire = Self { stream, head };
        let (opcode, welcome) = wire.next().await.expect("a welcome");
        assert!(opcode == TEXT && welcome.starts_with(br#"{"type":"welcome""#));
        wire
    }

    /// Writes in pieces of `piece` bytes; whether the server took it all.
    pub(super) async fn write(&mut self, bytes: &[u8], piece: usize) -> bool {
        for piece in bytes.chunks(piece) {
            if self.stream.write_all(piece).await.is_err() {
                return false;
            }
            yield_now().await;
        }
        true
    }

    /// Says that no more comes.
    pub(super) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next frame; `None` at the end of the stream. A reset is no end: it may have cost a frame.
    pub(super) async fn next(&mut self) -> Option<Said> {
        timeout(SOON, self.frame()).await.expect("a frame in time")
    }

    async fn frame(&mut self) -> Option<Said> {
        let mut first = [0];
        if self.stream.read(&mut first).await.expect("no reset") == 0 {
            return None;
        }
        let [first] = first;
        assert_eq!(first & 0xf0, 0x80, "whole frames, no reserved bits");
        let length = match self.stream.read_u8().await.unwrap() {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            short => {
                assert!(short < 126, "a server does not mask");
                u64::from(short)
            }
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        Some((first & 0x0f, payload))
    }
}
