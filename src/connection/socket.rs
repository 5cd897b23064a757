//! The WebSocket under a connection: limits, deadlines, and how it ends.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rollcall_protocol::ServerMessage;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::{CapacityError, ProtocolError},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode as WireCode},
    },
};

use crate::{chance, config::Config, hub::Ending};

/// A client that cannot take a frame in this time is closed with 1013.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a close waits for the peer's own close frame.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Frames gathered into one write.
pub(super) const GATHER: usize = 32;
/// tungstenite allocates this eagerly for each connection, and its default is 128 KiB.
const READ_BUFFER: usize = 1024;
/// Frames are handed to the kernel once this much has gathered.
const WRITE_BUFFER: usize = 4096;

/// The limits under which a client's frames are read and ours are written.
pub fn websocket_config(config: &Config) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(config.limits.message_bytes))
        .max_frame_size(Some(config.limits.message_bytes))
}

/// Receives one message.
///
/// # Cancel safety
/// What was read stays in tungstenite's buffer.
pub(super) async fn receive<S>(socket: &mut WebSocketStream<S>) -> Result<Message, Ending>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match socket.next().await {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(broken(&error)),
        None => Err(Ending::Hangup),
    }
}

/// Sends one message, flushed.
pub(super) async fn send<S>(socket: &mut WebSocketStream<S>, message: Message) -> Result<(), Ending>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    bounded(socket.send(message)).await
}

/// Queues one message for the next flush.
pub(super) async fn feed<S>(socket: &mut WebSocketStream<S>, message: Message) -> Result<(), Ending>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    bounded(socket.feed(message)).await
}

/// Flushes what was queued.
pub(super) async fn flush<S>(socket: &mut WebSocketStream<S>) -> Result<(), Ending>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    bounded(SinkExt::<Message>::flush(socket)).await
}

/// Past the deadline the socket is finished: half a frame may be out.
async fn bounded(
    write: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), Ending> {
    match timeout(WRITE_DEADLINE, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(broken(&error)),
        Err(_) => Err(Ending::TooSlow),
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

/// Says goodbye as the ending asks for, then reads until the peer's close or a deadline, so that the close frame is not lost in
/// a reset.
pub(super) async fn goodbye<S>(socket: &mut WebSocketStream<S>, ending: Ending, config: &Config)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let parting = async {
        if ending == Ending::Stopping {
            let after_ms = come_back_after(config).as_millis() as u64;
            let message = ServerMessage::Reconnect { after_ms }.to_text();
            socket.feed(Message::Text(message.into())).await?;
        }
        let Some(code) = ending.close_code() else {
            return Ok(());
        };
        let frame = CloseFrame {
            code: code.code().into(),
            reason: code.reason().into(),
        };
        // Answers the client's own close frame too, if it sent one.
        socket.close(Some(frame)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), tungstenite::Error>(())
    };
    // A peer that is gone, or does not answer, gets no more than this.
    let _ = timeout(CLOSE_DEADLINE, parting).await;
}

/// Spread over a third of the restart grace, so that everybody is back before anybody is seen to have left.
fn come_back_after(config: &Config) -> Duration {
    (config.restart_grace / 3).mul_f64(chance::between(0.0, 1.0))
}
