//! WebSocket by hand: what a server sends a client, and the little that a client sends back (RFC 6455).
//!
//! A client costs one descriptor, one task, and a read buffer only while something is in it. What arrives is counted as it was
//! on the wire. The mask is zero, which the protocol allows and no server can tell from a bad random number generator.

mod frame;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::Context;
use bytes::BytesMut;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

pub use self::frame::{Frame, Opcode};

/// Read at once. Most frames are smaller, and a buffer is given back as soon as it is empty.
const READ_BYTES: usize = 4096;
/// No head of an answer is larger.
const HEAD_BYTES: usize = 16 * 1024;
/// Any sixteen bytes in base64 will do.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Where a client comes from, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The server.
    pub to: SocketAddr,
    /// The client's own address: each has 28,000 ports.
    pub from: IpAddr,
    /// Bytes of the socket's receive buffer; `None` leaves it to the kernel.
    pub receive_buffer: Option<u32>,
}

impl Route {
    /// From `127.0.0.HOST`.
    pub fn local(to: SocketAddr, host: u8) -> Self {
        Self {
            to,
            from: Ipv4Addr::new(127, 0, 0, host).into(),
            receive_buffer: None,
        }
    }

    /// The same while the server is on this machine's loopback; otherwise from whatever address leads there.
    pub fn toward(to: SocketAddr, host: u8) -> Self {
        let mut route = Self::local(to, host);
        if !to.ip().is_loopback() {
            route.from = Ipv4Addr::UNSPECIFIED.into();
        }
        route
    }

    /// Connects.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        // No SO_REUSEADDR: a port of a connection that the server has yet to see the end of would be reset by it.
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind((self.from, 0).into())?;
        let stream = socket.connect(self.to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// What came of a request to enter.
#[derive(Debug)]
pub enum Entry {
    /// 101.
    Open(Socket),
    /// The problem.
    Refused(Refusal),
}

/// A refusal, as far as a client acts on it.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The problem's code.
    pub code: String,
    /// When to come back.
    pub retry_after_ms: Option<u64>,
}

/// An upgraded connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    inbox: BytesMut,
}

impl Socket {
    /// Asks to enter with the words of a query.
    ///
    /// # Errors
    /// The connection broke, or the answer is not HTTP.
    pub async fn enter(route: &Route, query: &str) -> anyhow::Result<Entry> {
        let mut stream = route.connect().await.context("cannot connect")?;
        stream
            .write_all(request(route.to, query).as_bytes())
            .await
            .context("cannot ask")?;
        let (head, rest) = read_head(&mut stream).await?;
        let status = status(&head).with_context(|| format!("not HTTP: {head}"))?;
        if status == 101 {
            return Ok(Entry::Open(Self {
                stream,
                inbox: rest,
            }));
        }
        let body = read_body(&mut stream, &head, rest).await?;
        let refusal =
            serde_json::from_slice(&body).with_context(|| format!("{status} without a problem"))?;
        Ok(Entry::Refused(refusal))
    }

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// The connection broke, or the frame is not one that a server may send.
    ///
    /// # Cancel safety
    /// What was read stays in the inbox.
    pub async fn receive(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = frame::take(&mut self.inbox)? {
                if self.inbox.is_empty() {
                    self.inbox = BytesMut::new();
                }
                return Ok(Some(frame));
            }
            // The buffer comes after the bytes: whoever waits has none.
            self.stream.readable().await?;
            self.inbox.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.inbox) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.inbox.is_empty() {
                        self.inbox = BytesMut::new();
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(0x81, text.as_bytes()).await
    }

    /// Answers a ping.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn pong(&mut self, payload: &[u8]) -> io::Result<()> {
        self.send(0x8a, payload).await
    }

    /// Sends bytes as they are, which need not be a frame.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 8);
        frame.push(first);
        match u8::try_from(payload.len()) {
            Ok(length @ 0..126) => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                let length = u16::try_from(payload.len()).map_err(io::Error::other)?;
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await
    }
}

/// Asks to enter with the words of a query.
pub fn request(to: SocketAddr, query: &str) -> String {
    format!(
        "GET /v1/connect?{query} HTTP/1.1\r\nHost: {to}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: rollcall.v1\r\n\r\n"
    )
}

async fn read_head(stream: &mut TcpStream) -> anyhow::Result<(String, BytesMut)> {
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = bytes.split_to(end + 4);
            let head = String::from_utf8_lossy(&head).into_owned();
            let rest = if bytes.is_empty() {
                BytesMut::new()
            } else {
                bytes
            };
            return Ok((head, rest));
        }
        anyhow::ensure!(bytes.len() < HEAD_BYTES, "a head without an end");
        let read = stream.read_buf(&mut bytes).await.context("no answer")?;
        anyhow::ensure!(read > 0, "closed without an answer");
    }
}

/// The status of an answer's first line; `None`: it is not HTTP.
pub fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

async fn read_body(
    stream: &mut TcpStream,
    head: &str,
    mut body: BytesMut,
) -> anyhow::Result<BytesMut> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let length: usize = length.context("an answer without a length")?;
    while body.len() < length {
        let read = stream.read_buf(&mut body).await.context("half an answer")?;
        anyhow::ensure!(read > 0, "half an answer");
    }
    Ok(body)
}
