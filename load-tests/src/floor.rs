//! The floor: what a heartbeat and a connection cost at least on the parts that the server is made of.
//!
//! hyper takes the handshake, the raw `TcpStream` is taken back from it, and a task of its own answers every message on
//! tokio-tungstenite with buffers of 512 bytes. There are no rooms, nobody is told of anybody, and nothing is kept: each is
//! welcomed as if alone. It is a child of this program, measured by the same clients in the same run as the server.

#![expect(
    clippy::disallowed_methods,
    reason = "the rule is the server's; the floor has nothing that it must end"
)]

use std::{convert::Infallible, net::SocketAddr, process::Stdio};

use anyhow::Context;
use futures::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    process::Child,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{child, measure::process::Process};

/// TARGETS.md, section 1: the floor that the server is compared with.
const BUFFER: usize = 512;
/// As the server's.
const BACKLOG: u32 = 65_535;
/// As long as the server's answer.
const ANSWER: &str = r#"{"type":"heartbeat_ack","server_time":"2026-01-01T00:00:00.000Z"}"#;
/// One who is alone.
const WELCOME: &str = r#"{"type":"welcome","protocol":1,"resumed":false,"room":{},"self":{"participant_id":"00000000-0000-7000-8000-000000000001","connection_id":"1","resume_token":"none"},"heartbeat_interval_ms":20000,"server_time":"2026-01-01T00:00:00.000Z","seq":1,"roster":"full","occupancy":1,"members":[{"id":"00000000-0000-7000-8000-000000000001","name":"p","status":"active","state":{},"last_seen_at":"2026-01-01T00:00:00.000Z"}]}"#;

/// A running floor. Dropping kills it.
#[derive(Debug)]
pub struct Floor {
    _child: Child,
    addr: SocketAddr,
    process: Process,
}

impl Floor {
    /// Starts one on a free port. From the main thread only (see [`child`]).
    ///
    /// # Errors
    /// It does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let mut command = child::command(&["floor"])?;
        command.stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the floor")?;
        let said = child.stdout.take().context("no standard output")?;
        let line = BufReader::new(said).lines().next_line().await?;
        let addr = line.context("the floor does not start")?.parse()?;
        let process = Process(child.id().context("the floor has ended")?);
        Ok(Self {
            _child: child,
            addr,
            process,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn process(&self) -> Process {
        self.process
    }
}

/// Is a floor, for ever.
///
/// # Errors
/// It cannot listen.
pub fn run() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve())?;
    Ok(true)
}

#[expect(clippy::print_stdout, reason = "how its parent learns the port")]
async fn serve() -> anyhow::Result<()> {
    let listener = listen()?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(|request| async { Ok::<_, Infallible>(upgrade(request)) });
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // A client that breaks off has nobody else to tell.
        tokio::spawn(async { drop(connection.await) });
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(BACKLOG)
}

fn upgrade(mut request: Request<Incoming>) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let accept = derive_accept_key(key.as_bytes()).parse();
    tokio::spawn(take_back(hyper::upgrade::on(&mut request)));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(
        header::CONNECTION,
        header::HeaderValue::from_static("Upgrade"),
    );
    headers.insert(
        header::UPGRADE,
        header::HeaderValue::from_static("websocket"),
    );
    if let Ok(accept) = accept {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// A long life gets a small task: what the handshake needed ends here.
async fn take_back(upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return;
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0);
    let socket = WebSocketStream::from_partially_read(
        parts.io.into_inner(),
        parts.read_buf.to_vec(),
        Role::Server,
        Some(config),
    );
    tokio::spawn(answer(socket.await));
}

async fn answer(mut socket: WebSocketStream<TcpStream>) -> Result<(), tungstenite::Error> {
    socket.send(Message::text(WELCOME)).await?;
    while let Some(message) = socket.next().await {
        if message?.is_text() {
            socket.send(Message::text(ANSWER)).await?;
        }
    }
    Ok(())
}
