//! The WebSocket under a connection: limits, deadlines, and how it ends.
//!
//! Frames come encoded and are written past tungstenite, which would copy each into a buffer of its own and keep that as
//! large as the largest it ever sent. It still reads, and answers Pings and closes; whatever it queues is flushed at once,
//! so that no frame is written into the middle of another.

use std::{io::IoSlice, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rollcall_protocol::ServerMessage;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
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

use crate::{
    chance,
    config::Config,
    hub::{Encoded, Ending},
};

/// A client that cannot take a frame in this time is closed with 1013.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a close waits for the peer's own close frame.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Frames gathered into one write.
pub(super) const GATHER: usize = 32;
/// tungstenite allocates this eagerly for each connection, and its default is 128 KiB.
const READ_BUFFER: usize = 1024;

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
    /// The rest of a frame that a deadline cut: nothing else may be said before it.
    unfinished: Bytes,
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
            unfinished: Bytes::new(),
            cut,
        }
    }

    /// Receives one message.
    ///
    /// # Cancel safety
    /// What was read stays in tungstenite's buffer.
    pub(super) async fn receive(&mut self) -> Result<Message, Ending> {
        match self.websocket.next().await {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(broken(&error)),
            None => Err(Ending::Hangup),
        }
    }

    /// Sends one message.
    ///
    /// # Cancel safety
    /// Not cancel safe, as all sending: half a frame may be out.
    pub(super) async fn send(&mut self, message: &ServerMessage) -> Result<(), Ending> {
        self.write(&[Encoded::new(message)]).await
    }

    /// Sends frames in as few system calls as the transport takes. The client has [`WRITE_DEADLINE`] for each.
    pub(super) async fn write(&mut self, frames: &[Encoded]) -> Result<(), Ending> {
        let mut slices: Vec<IoSlice<'_>> = frames
            .iter()
            .map(|frame| IoSlice::new(frame.as_bytes()))
            .collect();
        let mut slices = slices.as_mut_slice();
        let stream = self.websocket.get_mut();
        let mut deadline = Instant::now() + WRITE_DEADLINE;
        while let Some(first) = slices.first() {
            let (left, first) = (slices.len(), first.len());
            let write = or_cut(&self.cut, stream.write_vectored(slices));
            let written = match timeout_at(deadline, write).await {
                Ok(Some(Ok(written @ 1..))) => written,
                Ok(Some(Ok(0)) | None) => return Err(Ending::Hangup),
                Ok(Some(Err(error))) => return Err(broken(&tungstenite::Error::Io(error))),
                Err(_) => {
                    let cut = &frames[frames.len() - left];
                    let sent = cut.as_bytes().len() - first;
                    if sent > 0 {
                        self.unfinished = cut.rest(sent);
                    }
                    return Err(Ending::TooSlow);
                }
            };
            IoSlice::advance_slices(&mut slices, written);
            if slices.len() < left {
                deadline = Instant::now() + WRITE_DEADLINE;
            }
        }
        Ok(())
    }

    /// Sends what tungstenite has queued: the Pong to the Ping just received.
    pub(super) async fn flush(&mut self) -> Result<(), Ending> {
        let flush = SinkExt::<Message>::flush(&mut self.websocket);
        match timeout(WRITE_DEADLINE, or_cut(&self.cut, flush)).await {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(broken(&error)),
            Ok(None) => Err(Ending::Hangup),
            Err(_) => Err(Ending::TooSlow),
        }
    }

    /// Says goodbye as the ending asks for, then reads until the peer's close or a deadline, so that the close frame is
    /// not lost in a reset.
    pub(super) async fn goodbye(mut self, ending: Ending, config: &Config) {
        let cut = self.cut.clone();
        // A peer that is gone, or does not answer, gets no more than this.
        let _ = timeout(CLOSE_DEADLINE, or_cut(&cut, self.part(ending, config))).await;
    }

    async fn part(&mut self, ending: Ending, config: &Config) -> Result<(), tungstenite::Error> {
        let Some(code) = ending.close_code() else {
            return Ok(());
        };
        let unfinished = std::mem::take(&mut self.unfinished);
        self.websocket.get_mut().write_all(&unfinished).await?;
        if ending == Ending::Stopping {
            let after_ms = come_back_after(config).as_millis() as u64;
            let message = Encoded::new(&ServerMessage::Reconnect { after_ms });
            self.websocket
                .get_mut()
                .write_all(message.as_bytes())
                .await?;
        }
        let frame = CloseFrame {
            code: code.code().into(),
            reason: code.reason().into(),
        };
        // Answers the client's own close frame too, if it sent one.
        self.websocket.close(Some(frame)).await?;
        while let Some(Ok(_)) = self.websocket.next().await {}
        Ok(())
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
