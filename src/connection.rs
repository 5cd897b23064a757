//! One client from 101 to its close frame: one task, one readable loop.
//!
//! Generic over the transport, so that tests and simulations run this very code over memory. Silence is judged by the
//! hub's agenda, so a connection holds no timer; what waits for it is the room's.

mod inbox;
mod outbox;
mod socket;

use std::{convert::Infallible, pin::Pin, sync::Arc};

use rollcall_protocol::{
    ConnectionId, PROTOCOL_VERSION, Problem, Ref, SelfView, ServerMessage, UserId,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, SemaphorePermit},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

pub use self::socket::websocket_config;
use self::{inbox::Inbox, outbox::Outbox, socket::Socket};
use crate::{
    admission::{Admission, Admitted, ResumeClaims, TokenEnd},
    chance,
    config::Config,
    hub::{Encoded, Ending, Event, Place, Seating, Welcome},
    metrics::Metrics,
};

/// What every connection needs of the node.
#[derive(Debug)]
pub struct Deps {
    /// The options.
    pub config: Arc<Config>,
    /// For resume tokens and fresh access tokens.
    pub admission: Admission,
    /// Where frames and endings are counted.
    pub metrics: Arc<Metrics>,
    /// Breaks off what is being said to clients that do not take it while the node goes away.
    pub cut: CancellationToken,
    /// Turns for connections that broke: see [`BREAKING`].
    pub breaking: Semaphore,
}

/// How many broken connections are cleared away at once. When thousands break in one instant the others wait for their
/// turn outside the scheduler's queue, where every heartbeat would have to wait behind them: 14,500 of them delayed
/// heartbeats by 0.35 s, with turns by 0.02 to 0.07 s (`rollcall-load drop`).
pub const BREAKING: usize = 8;

/// Serves one admitted client until it or the server ends the connection; dropping the future leaves as a broken
/// connection does.
///
/// Not an `async fn`, which would keep every argument twice, as given and as bound. A connection spends nearly all of its life
/// waiting in one place, so what happens only now and then there
/// is boxed. Of 2,856 bytes that leaves 720 (`-Zprint-type-sizes`).
pub fn run<S>(
    websocket: WebSocketStream<S>,
    admitted: Admitted,
    deps: Arc<Deps>,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = Socket::new(websocket, deps.cut.clone());
    // Its memory goes as soon as the client sits.
    let admitted = Box::new(admitted);
    async move {
        let mut client = Client::sit(*admitted, &deps, &mut socket.outbox);
        let ending = match &mut client {
            Ok(client) => {
                let Err(ending) = client.talk(&mut socket).await;
                client.place.ends(ending);
                ending
            }
            Err(ending) => *ending,
        };
        let _turn = match ending {
            Ending::Hangup => Some(turn(&deps.breaking).await),
            _ => None,
        };
        let connection = client.map(|client| client.connection);
        deps.metrics.ended(ending);
        info!(connection.id = connection.ok().map(tracing::field::display), %ending, "connection ended");
        Box::pin(socket.goodbye(ending, &deps.config)).await;
    }
}

/// Waits for a turn, and lets go once with it: nothing that follows waits, so without that a turn would be over before
/// anybody else could see it taken.
async fn turn(turns: &Semaphore) -> Option<SemaphorePermit<'_>> {
    // Nobody closes it.
    let turn = turns.acquire().await.ok();
    tokio::task::yield_now().await;
    turn
}

/// What comes of the fresh access token that is being checked; for ever while there is none.
///
/// # Cancel safety
/// The check goes on with the next call.
async fn checked(
    renewal: &mut Option<Pin<Box<Renewal>>>,
) -> (Result<TokenEnd, Problem>, Option<Ref>) {
    match renewal {
        Some(check) => check.await,
        None => std::future::pending().await,
    }
}

/// A client with a place.
struct Client {
    connection: ConnectionId,
    token: Option<TokenEnd>,
    user_id: Option<UserId>,
    place: Place,
    /// A fresh access token that is being checked.
    renewal: Option<Pin<Box<Renewal>>>,
    deps: Arc<Deps>,
}

/// What comes of a fresh access token, with what the client called its message.
type Renewal = dyn Future<Output = (Result<TokenEnd, Problem>, Option<Ref>)> + Send;

impl Client {
    /// Takes the place; the first words to the client are in the outbox.
    fn sit(admitted: Admitted, deps: &Arc<Deps>, outbox: &mut Outbox) -> Result<Self, Ending> {
        let connection = ConnectionId(chance::number());
        let seating = Seating {
            connection,
            resumes: admitted.resumes,
            token_ends: admitted.token.map(|token| token.deadline),
        };
        let (place, mut welcome) = admitted.entry.sit(seating)?;
        let participant = place.seat().map(|seat| seat.participant);
        info!(
            connection.id = %connection,
            participant.id = participant.map(tracing::field::display),
            room.id = %welcome.room.id,
            resumed = welcome.resumed,
            "{}",
            if participant.is_some() { "joined" } else { "observing" },
        );
        let client = Self {
            connection,
            token: admitted.token,
            user_id: admitted.user_id,
            place,
            renewal: None,
            deps: Arc::clone(deps),
        };
        let expiring = std::mem::take(&mut welcome.expiring);
        outbox.say(&client.greeting(welcome));
        for (expires_at, reason) in expiring {
            outbox.say(&ServerMessage::RoomExpiring { expires_at, reason });
        }
        Ok(client)
    }

    async fn talk<S>(&mut self, socket: &mut Socket<S>) -> Result<Infallible, Ending>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut inbox = Inbox::new();
        let mut parting = None;
        loop {
            socket.write().await?;
            if let Some(ending) = parting {
                return Err(ending);
            }
            tokio::select! {
                event = self.place.next() => parting = self.gather(event, &mut socket.outbox),
                received = socket.receive() => {
                    let message = received?;
                    self.deps.metrics.frame_received();
                    self.place.hear();
                    if let Some(answer) = self.answer(&mut inbox, message)? {
                        socket.say(&answer)?;
                    }
                }
                renewed = checked(&mut self.renewal) => {
                    if let Some(answer) = self.renew(renewed) {
                        socket.say(&answer)?;
                    }
                }
            }
        }
    }

    fn greeting(&self, welcome: Welcome) -> ServerMessage {
        let seat = self.place.seat();
        let resume_token = seat.map(|seat| {
            self.deps.admission.issue_resume(&ResumeClaims {
                room: self.place.room(),
                participant: seat.participant,
                connection: self.connection,
                removals: seat.removals,
                expires_at: self.token.map(|token| token.at),
            })
        });
        ServerMessage::Welcome {
            protocol: PROTOCOL_VERSION,
            resumed: welcome.resumed,
            room: welcome.room,
            self_: SelfView {
                participant_id: seat.map(|seat| seat.participant),
                connection_id: self.connection,
                resume_token,
            },
            heartbeat_interval_ms: self.deps.config.heartbeat_interval.as_millis() as u64,
            server_time: self.place.now(),
            seq: welcome.shown.seq,
            roster: welcome.shown.mode,
            occupancy: welcome.shown.occupancy,
            members: welcome.shown.members,
        }
    }

    /// Takes what the room has, as much as goes into one write; answers the ending that comes after it, if it is over.
    fn gather(&mut self, event: Event, outbox: &mut Outbox) -> Option<Ending> {
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                Event::Frame(frame) => outbox.push(frame),
                Event::Ping => outbox.push(Encoded::ping()),
                Event::TokenExpiring => {
                    if let Some(TokenEnd { at: expires_at, .. }) = self.token {
                        outbox.say(&ServerMessage::TokenExpiring { expires_at });
                    }
                }
                Event::End(ending) => return Some(ending),
            }
            // What is taken must be sent: the next is left where it is once enough has gathered.
            if outbox.len() >= outbox::GATHER {
                return None;
            }
            next = self.place.next_now();
        }
        None
    }

    fn answer(
        &mut self,
        inbox: &mut Inbox,
        message: Message,
    ) -> Result<Option<ServerMessage>, Ending> {
        match message {
            Message::Text(text) => inbox.take_text(self, &text),
            Message::Binary(bytes) => inbox.take_binary(&self.deps, bytes.len()),
            // tungstenite has queued the Pong.
            Message::Ping(bytes) | Message::Pong(bytes) => {
                inbox.take_control(&self.deps, bytes.len())?;
                Ok(None)
            }
            Message::Close(frame) => {
                debug!(
                    code = frame.as_ref().map(|frame| u16::from(frame.code)),
                    "the client closed"
                );
                Err(socket::closed_by_client(frame.as_ref()))
            }
            Message::Frame(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// What a function would answer, without a call.
    fn size_of_answer<A, B, C, T>(_: impl Fn(A, B, C) -> T) -> usize {
        size_of::<T>()
    }

    /// A connection's memory is mostly this: something awaited in the wrong place doubles it, and nobody notices.
    #[test]
    fn a_connection_that_waits_stays_small() {
        let size = size_of_answer(run::<TcpStream>);
        assert!(size <= 768, "{size} bytes");
    }
}
