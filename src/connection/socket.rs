//! The WebSocket under a connection: limits, deadlines, and how it ends.
//!
//! Frames come encoded and are written past tungstenite, which would copy each into a buffer of its own and keep that as
//! large as the largest it ever sent. It still reads, and answers Pings and closes; whatever it queues is flushed before
//! anything else is written, so that no frame is written into the middle of another.
//!
//! Nearly every write is taken by the kernel at once. Those are done without a future; what waits for a slow client is boxed,
//! so that the many that are not slow do not hold room for it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{SinkExt, StreamExt, task::noop_waker_ref};
use rollcall_protocol::ServerMessage;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::{CapacityError, ProtocolError},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode as WireCode},
    },
};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use crate::{
    chance,
    config::Config,
    hub::{Encoded, Ending},
};

/// A client that cannot take a frame in this time is closed with 1013.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a close waits for the peer's own close frame.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// tungstenite allocates this eagerly for each connection, and its default is 128 KiB. Nearly all that clients say fits.
const READ_BUFFER: usize = 512;

/// The limits under which a client's frames are read; the write buffer serves Pongs and closes only.
pub fn websocket_config(config: &Config) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(config.limits.message_bytes))
        .max_frame_size(Some(config.limits.message_bytes))
}

/// A WebSocket whose upgrade is done.
pub(super) struct Socket<S> {
    websocket: WebSocketStream<S>,
    /// What is to be said next.
    pub(super) outbox: Outbox,
    /// tungstenite has queued the Pong to a Ping, or TLS holds back what it has taken.
    owes_flush: bool,
    /// The client closed first, and tungstenite has queued the answer.
    owes_close: bool,
    /// Looked at only while a client keeps us waiting: it is shared by all connections, and a heartbeat takes no lock.
    cut: CancellationToken,
}

impl<S> Socket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(websocket: WebSocketStream<S>, cut: CancellationToken) -> Self {
        Self {
            websocket,
            outbox: Outbox::default(),
            owes_flush: false,
            owes_close: false,
            cut,
        }
    }

    /// Receives one message. The outbox must be empty: tungstenite answers a Ping by itself.
    ///
    /// # Cancel safety
    /// What was read stays in tungstenite's buffer.
    pub(super) async fn receive(&mut self) -> Result<Message, Ending> {
        match self.websocket.next().await {
            Some(Ok(message)) => {
                self.owes_flush |= message.is_ping();
                self.owes_close = message.is_close();
                Ok(message)
            }
            Some(Err(error)) => Err(broken(&error)),
            None => Err(Ending::Hangup),
        }
    }

    /// Says a message after everything in the outbox. A short one while that is empty is written from the stack, so that
    /// the answer to a heartbeat allocates nothing.
    pub(super) fn say(&mut self, message: &ServerMessage) -> Result<(), Ending> {
        let mut room = [0; Encoded::SHORT];
        match Encoded::short(message, &mut room) {
            Some(frame) if self.outbox.is_empty() => self.write_short(frame),
            _ => {
                self.outbox.say(message);
                Ok(())
            }
        }
    }

    /// Writes a frame as far as the transport takes it at once; what is left of it goes to the outbox.
    fn write_short(&mut self, frame: &[u8]) -> Result<(), Ending> {
        let mut cx = Context::from_waker(noop_waker_ref());
        let stream = Pin::new(self.websocket.get_mut());
        let written = match stream.poll_write(&mut cx, frame) {
            Poll::Ready(written) => taken(written)?,
            Poll::Pending => 0,
        };
        if written < frame.len() {
            self.outbox.push(Encoded::copied(frame));
            self.outbox.advance(written);
        }
        if let Poll::Ready(flushed) = self.poll_flush(&mut cx) {
            return flushed;
        }
        self.owes_flush = true;
        Ok(())
    }

    /// Sends what is in the outbox, in as few system calls as the transport takes. The client has [`WRITE_DEADLINE`] for
    /// each frame.
    ///
    /// # Cancel safety
    /// What is out has left the outbox; the rest of a frame that has begun is at its head.
    pub(super) async fn write(&mut self) -> Result<(), Ending> {
        if self.write_now()? {
            return Ok(());
        }
        Box::pin(self.write_patiently()).await
    }

    /// Writes as much as goes without waiting; whether that was all.
    fn write_now(&mut self) -> Result<bool, Ending> {
        // The waker is nobody's: who waits for the rest polls again.
        let mut cx = Context::from_waker(noop_waker_ref());
        while !self.owes_flush && !self.outbox.is_empty() {
            match self.poll_write(&mut cx) {
                Poll::Ready(written) => written?,
                Poll::Pending => return Ok(false),
            }
        }
        if self.owes_flush {
            return Ok(false);
        }
        match self.poll_flush(&mut cx) {
            Poll::Ready(flushed) => flushed.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    async fn write_patiently(&mut self) -> Result<(), Ending> {
        let cut = self.cut.clone();
        if std::mem::take(&mut self.owes_flush) {
            let flush = SinkExt::<Message>::flush(&mut self.websocket);
            let flushed = in_time(&cut, Instant::now() + WRITE_DEADLINE, flush).await?;
            flushed.map_err(|error| broken(&error))?;
        }
        let mut deadline = Instant::now() + WRITE_DEADLINE;
        while !self.outbox.is_empty() {
            let left = self.outbox.len();
            in_time(&cut, deadline, poll_fn(|cx| self.poll_write(cx))).await??;
            if self.outbox.len() < left {
                deadline = Instant::now() + WRITE_DEADLINE;
            }
        }
        in_time(&cut, deadline, poll_fn(|cx| self.poll_flush(cx))).await?
    }

    /// Sees to it that what the transport has taken is on its way: TLS may hold back the end of a record, TCP nothing.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let stream = Pin::new(self.websocket.get_mut());
        let flushed = std::task::ready!(stream.poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| broken(&tungstenite::Error::Io(error))))
    }

    /// One write of what is in the outbox.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let slices = self.outbox.slices();
        let stream = Pin::new(self.websocket.get_mut());
        let Poll::Ready(written) = stream.poll_write_vectored(cx, &slices) else {
            return Poll::Pending;
        };
        drop(slices);
        self.outbox.advance(taken(written)?);
        Poll::Ready(Ok(()))
    }

    /// Says goodbye as the ending asks for, or answers the client's own, then reads until the peer's close or a deadline, so
    /// that the close frame is not lost in a reset.
    pub(super) async fn goodbye(&mut self, ending: Ending, config: &Config) {
        let cut = self.cut.clone();
        // A peer that is gone, or does not answer, gets no more than this.
        let _ = timeout(CLOSE_DEADLINE, or_cut(&cut, self.part(ending, config))).await;
    }

    async fn part(&mut self, ending: Ending, config: &Config) -> Result<(), tungstenite::Error> {
        let code = ending.close_code().filter(|_| !self.owes_close);
        if code.is_none() && !self.owes_close {
            return Ok(());
        }
        self.outbox.keep_begun();
        if ending == Ending::Stopping {
            let after_ms = come_back_after(config).as_millis() as u64;
            self.outbox.say(&ServerMessage::Reconnect { after_ms });
        }
        while !self.outbox.is_empty() {
            if poll_fn(|cx| self.poll_write(cx)).await.is_err() {
                return Ok(());
            }
        }
        match code {
            Some(code) => {
                let frame = CloseFrame {
                    code: code.code().into(),
                    reason: code.reason().into(),
                };
                self.websocket.close(Some(frame)).await?;
            }
            None => SinkExt::<Message>::flush(&mut self.websocket).await?,
        }
        while let Some(Ok(_)) = self.websocket.next().await {}
        self.linger().await?;
        Ok(())
    }

    /// Says that no more comes, and reads until the client says so too (RFC 6455 section 7.1.1). tungstenite reads no
    /// further than a close or an error, and what it left would reset the connection.
    async fn linger(&mut self) -> io::Result<()> {
        let stream = self.websocket.get_mut();
        stream.shutdown().await?;
        let mut unread = [0; READ_BUFFER];
        while stream.read(&mut unread).await? > 0 {}
        Ok(())
    }
}

/// How much a transport took; one that takes nothing is gone.
fn taken(written: io::Result<usize>) -> Result<usize, Ending> {
    match written {
        Ok(0) => Err(Ending::Hangup),
        Ok(written) => Ok(written),
        Err(error) => Err(broken(&tungstenite::Error::Io(error))),
    }
}

/// What came of it, unless the client was too slow or everything is cut off.
async fn in_time<T>(
    cut: &CancellationToken,
    deadline: Instant,
    said: impl Future<Output = T>,
) -> Result<T, Ending> {
    match timeout_at(deadline, or_cut(cut, said)).await {
        Ok(Some(done)) => Ok(done),
        Ok(None) => Err(Ending::Hangup),
        Err(_) => Err(Ending::TooSlow),
    }
}

/// `None` if it was cut off.
async fn or_cut<T>(cut: &CancellationToken, said: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = said => Some(done),
        () = cut.cancelled() => None,
    }
}

fn broken(error: &tungstenite::Error) -> Ending {
    use tungstenite::Error;
    tracing::debug!(%error, "the socket failed");
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Ending::TooLarge,
        Error::Utf8(_) => Ending::NotUtf8,
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ) => Ending::Hangup,
        Error::Protocol(_) => Ending::Framing,
        _ => Ending::Hangup,
    }
}

/// 1000 and an empty close frame are a clean leave; anything else starts the grace (PROTOCOL.md, "Going and coming back").
pub(super) fn closed_by_client(frame: Option<&CloseFrame>) -> Ending {
    match frame.map(|frame| frame.code) {
        None | Some(WireCode::Normal) => Ending::Left,
        Some(_) => Ending::Hangup,
    }
}

/// Spread over a third of the restart grace, so that everybody is back before anybody is seen to have left.
fn come_back_after(config: &Config) -> Duration {
    (config.restart_grace / 3).mul_f64(chance::between(0.0, 1.0))
}
