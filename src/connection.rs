//! One client from 101 to its close frame: one task, one readable loop.
//!
//! Generic over the transport, so that tests and simulations run this very code over memory. Silence is judged by the
//! hub's agenda, so a connection holds no timer; what waits for it is the room's.

mod inbox;
mod socket;

use std::{convert::Infallible, sync::Arc};

use rollcall_protocol::{ConnectionId, ExpiryReason, PROTOCOL_VERSION, SelfView, ServerMessage};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, SemaphorePermit},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

pub use self::socket::websocket_config;
use self::{inbox::Inbox, socket::Socket};
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
pub async fn run<S>(websocket: WebSocketStream<S>, admitted: Admitted, deps: Arc<Deps>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = Socket::new(websocket, deps.cut.clone());
    let connection = ConnectionId(chance::number());
    let seating = Seating {
        connection,
        resumes: admitted.resumes,
        token_ends: admitted.token.map(|token| token.deadline),
    };
    let (client, ending) = match admitted.reservation.sit(seating) {
        Ok((place, welcome)) => {
            let mut client = Client {
                connection,
                token: admitted.token,
                user_id: admitted.user_id,
                place,
                deps: &deps,
            };
            let Err(ending) = client.talk(&mut socket, welcome).await;
            client.place.ends(ending);
            (Some(client), ending)
        }
        Err(ending) => (None, ending),
    };
    let _turn = match ending {
        Ending::Hangup => Some(turn(&deps.breaking).await),
        _ => None,
    };
    drop(client);
    deps.metrics.ended(ending);
    info!(connection.id = %connection, %ending, "connection ended");
    socket.goodbye(ending, &deps.config).await;
}

/// Waits for a turn, and lets go once with it: nothing that follows waits, so without that a turn would be over before
/// anybody else could see it taken.
async fn turn(turns: &Semaphore) -> Option<SemaphorePermit<'_>> {
    // Nobody closes it.
    let turn = turns.acquire().await.ok();
    tokio::task::yield_now().await;
    turn
}

/// A client with a place.
struct Client<'a> {
    connection: ConnectionId,
    token: Option<TokenEnd>,
    user_id: Option<rollcall_protocol::UserId>,
    place: Place,
    deps: &'a Deps,
}

impl Client<'_> {
    async fn talk<S>(
        &mut self,
        socket: &mut Socket<S>,
        welcome: Welcome,
    ) -> Result<Infallible, Ending>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        info!(
            connection.id = %self.connection,
            participant.id = %self.place.participant(),
            room.id = %welcome.room.id,
            resumed = welcome.resumed,
            "joined"
        );
        let expiring = welcome.expiring;
        socket.send(&self.greeting(welcome)).await?;
        if let Some(expires_at) = expiring {
            let reason = ExpiryReason::MaxAge;
            let warning = ServerMessage::RoomExpiring { expires_at, reason };
            socket.send(&warning).await?;
        }
        let mut inbox = Inbox::new(&self.deps.config.limits);
        loop {
            tokio::select! {
                event = self.place.next() => self.carry_out(socket, event).await?,
                received = socket.receive() => {
                    let message = received?;
                    self.deps.metrics.frame_received();
                    self.place.hear();
                    self.answer(socket, &mut inbox, message).await?;
                }
            }
        }
    }

    fn greeting(&self, welcome: Welcome) -> ServerMessage {
        let claims = ResumeClaims {
            room: self.place.room(),
            participant: self.place.participant(),
            connection: self.connection,
            removals: self.place.removals(),
            expires_at: self.token.map(|token| token.at),
        };
        ServerMessage::Welcome {
            protocol: PROTOCOL_VERSION,
            resumed: welcome.resumed,
            room: welcome.room,
            self_: SelfView {
                participant_id: Some(self.place.participant()),
                connection_id: self.connection,
                resume_token: Some(self.deps.admission.issue_resume(&claims)),
            },
            heartbeat_interval_ms: self.deps.config.heartbeat_interval.as_millis() as u64,
            server_time: self.place.now(),
            seq: welcome.shown.seq,
            roster: welcome.shown.mode,
            occupancy: welcome.shown.occupancy,
            members: welcome.shown.members,
        }
    }

    /// Sends what the room has, gathered into one write.
    async fn carry_out<S>(&mut self, socket: &mut Socket<S>, event: Event) -> Result<(), Ending>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut frames = Vec::new();
        let mut next = Some(event);
        let mut ending = None;
        while let Some(event) = next {
            match event {
                Event::Frame(frame) => frames.push(frame),
                Event::Ping => frames.push(Encoded::ping()),
                Event::TokenExpiring => frames.extend(self.token_expiring()),
                Event::End(end) => ending = Some(end),
            }
            // What is taken must be sent: the next is left where it is once enough has gathered.
            if ending.is_some() || frames.len() >= socket::GATHER {
                break;
            }
            next = self.place.next_now();
        }
        socket.write(&frames).await?;
        ending.map_or(Ok(()), Err)
    }

    fn token_expiring(&self) -> Option<Encoded> {
        let expires_at = self.token?.at;
        Some(Encoded::new(&ServerMessage::TokenExpiring { expires_at }))
    }

    async fn answer<S>(
        &mut self,
        socket: &mut Socket<S>,
        inbox: &mut Inbox,
        message: Message,
    ) -> Result<(), Ending>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let answer = match message {
            Message::Text(text) => inbox.take_text(self, &text)?,
            Message::Binary(_) => inbox.take_binary()?,
            Message::Ping(_) | Message::Pong(_) => {
                inbox.take_control()?;
                // tungstenite queued the Pong; it goes out with the flush.
                return socket.flush().await;
            }
            Message::Close(frame) => {
                debug!(
                    code = frame.as_ref().map(|frame| u16::from(frame.code)),
                    "the client closed"
                );
                return Err(socket::closed_by_client(frame.as_ref()));
            }
            Message::Frame(_) => None,
        };
        match answer {
            Some(answer) => socket.send(&answer).await,
            None => Ok(()),
        }
    }
}
