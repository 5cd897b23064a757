//! What is between a client and the server: memory that flows, lags, stalls, delivers half of what was written, or breaks.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf,
        WriteHalf, duplex, split,
    },
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

/// What one end may be ahead of the other, as a kernel's buffers are.
const BUFFER: usize = 8 * 1024;

/// How one direction behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// At once.
    Open,
    /// After a while, in order.
    Late(Duration),
    /// Not at all, and nobody is told: a cable was pulled.
    Stalled,
    /// Half of what comes next, then both directions break.
    Half,
    /// Both directions are broken, and both ends are told.
    Cut,
}

/// The weather of a connection. Dropping it changes nothing.
#[derive(Debug)]
pub struct Link {
    pub up: watch::Sender<Flow>,
    pub down: watch::Sender<Flow>,
    closed: Arc<Mutex<Option<Instant>>>,
}

/// The server's end; it remembers when the server let go of it.
#[derive(Debug)]
pub struct ServerEnd {
    io: DuplexStream,
    closed: Arc<Mutex<Option<Instant>>>,
}

impl Link {
    /// A link that flows, and its two ends: the server's, the client's.
    pub fn new(flow: Flow, pumps: &mut JoinSet<()>) -> (Self, ServerEnd, DuplexStream) {
        let (server, inner) = duplex(BUFFER);
        let (outer, client) = duplex(BUFFER);
        let (up, up_flow) = watch::channel(flow);
        let (down, down_flow) = watch::channel(flow);
        let (from_server, to_server) = split(inner);
        let (from_client, to_client) = split(outer);
        pumps.spawn(async move {
            // Either one ending takes both ends down.
            tokio::select! {
                biased;
                () = pump(from_client, to_server, up_flow) => {}
                () = pump(from_server, to_client, down_flow) => {}
            }
        });
        let closed = Arc::default();
        let end = ServerEnd {
            io: server,
            closed: Arc::clone(&closed),
        };
        (Self { up, down, closed }, end, client)
    }

    /// Sets both directions.
    pub fn set(&self, flow: Flow) {
        self.up.send_replace(flow);
        self.down.send_replace(flow);
    }

    /// When the server let go of its end, whether or not the client can know.
    pub fn closed_by_server(&self) -> Option<Instant> {
        *self.closed.lock()
    }
}

impl ServerEnd {
    /// What is left where the end has been handed over.
    pub fn gone() -> Self {
        Self {
            io: duplex(1).0,
            closed: Arc::default(),
        }
    }
}

async fn pump(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut flow: watch::Receiver<Flow>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let now = passing(&mut flow).await;
        let read = tokio::select! {
            biased;
            _ = flow.changed(), if now != Flow::Cut => continue,
            read = from.read(&mut buffer), if now != Flow::Cut => read,
            else => return,
        };
        let Ok(size @ 1..) = read else { return };
        let now = passing(&mut flow).await;
        let deliver = async {
            match now {
                Flow::Late(lag) => sleep(lag).await,
                Flow::Half => return to.write_all(&buffer[..size / 2]).await.and(Err(broken())),
                Flow::Cut => return Err(broken()),
                Flow::Open | Flow::Stalled => {}
            }
            to.write_all(&buffer[..size]).await
        };
        tokio::select! {
            biased;
            delivered = deliver => if delivered.is_err() { return },
            () = cut(&mut flow) => return,
        }
    }
}

/// The flow, once it is not stalled; for ever while it is.
async fn passing(flow: &mut watch::Receiver<Flow>) -> Flow {
    let passing = flow.wait_for(|flow| *flow != Flow::Stalled).await;
    let passing = passing.map(|flow| *flow).ok();
    match passing {
        Some(flow) => flow,
        // Whoever could let it flow again is gone.
        None => std::future::pending().await,
    }
}

async fn cut(flow: &mut watch::Receiver<Flow>) {
    if flow.wait_for(|flow| *flow == Flow::Cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        *self.closed.lock() = Some(Instant::now());
    }
}

impl AsyncRead for ServerEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ServerEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
