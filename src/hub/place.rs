//! A connection's hold on the hub: first a reservation, then a place. Dropping either gives it up properly.
//!
//! A place is to hear from; what only a participant may do goes through its [`OwnSeat`].

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use rollcall_protocol::{
    ConnectionId, ParticipantId, RoomId, ServerMessage, Status, Timestamp, UserId,
};
use serde_json::{Map, Value, value::RawValue};
use tokio::time::Instant;

use super::{
    Encoded, Ending, Hub, Joined, Shared, StateTooLarge, Ticks, Watch, Welcome,
    agenda::Job,
    line::{self, Line},
    outlet::{Kind, ListenerId},
    pulse::Pulse,
    room::{ObserverId, Room, Said},
};
use crate::metrics::Metrics;

/// What is held for somebody who may enter.
#[derive(Debug)]
pub enum Entry {
    /// A participant's seat.
    Seat(Reservation),
    /// A place to watch from, without a seat.
    Watch(Watch),
}

impl Entry {
    /// Takes the place.
    ///
    /// # Errors
    /// The room ended, or the participant or user was removed from it, since the verdict.
    pub fn sit(self, seating: Seating) -> Result<(Place, Welcome), Ending> {
        match self {
            Self::Seat(reservation) => reservation.sit(seating),
            Self::Watch(watch) => watch.begin(seating),
        }
    }

    /// Until when fresh access tokens vouch for whoever resumes a held seat; `None`: none came.
    pub fn vouched_until(&self) -> Option<Timestamp> {
        match self {
            Self::Seat(reservation) => reservation.vouched_until(),
            Self::Watch(_) => None,
        }
    }
}

/// A seat held for an admission. Dropped before the commit it leaves no trace; after it, it ends as a departure.
#[derive(Debug)]
pub struct Reservation {
    hub: Hub,
    room: Arc<Room>,
    id: ParticipantId,
    joined: Option<Box<Joined>>,
    /// How often the participant had been removed by the verdict; one more makes it void.
    removals: i64,
    is_open: bool,
}

impl Reservation {
    pub(super) fn new(hub: Hub, room: Arc<Room>, id: ParticipantId, removals: i64) -> Self {
        Self {
            hub,
            room,
            id,
            joined: None,
            removals,
            is_open: true,
        }
    }

    /// Notes what the store committed.
    pub fn commit(&mut self, joined: Joined) {
        self.removals = joined.participant.removals;
        self.joined = Some(Box::new(joined));
    }

    /// The seat was held: no store was asked.
    pub fn is_resumed(&self) -> bool {
        self.joined.is_none()
    }

    /// The user behind the seat.
    pub fn user_id(&self) -> Option<UserId> {
        match &self.joined {
            Some(joined) => joined.participant.user_id.clone(),
            None => self.room.user_id(self.id),
        }
    }

    fn vouched_until(&self) -> Option<Timestamp> {
        match &self.joined {
            Some(_) => None,
            None => self.room.vouched_until(self.id),
        }
    }

    /// Sits down: from here on the others see the participant.
    ///
    /// # Errors
    /// The room or the participant was removed since the verdict. The reservation is given back as by a drop.
    pub fn sit(mut self, seating: Seating) -> Result<(Place, Welcome), Ending> {
        let shared = self.hub.shared();
        let line = seating.line(shared);
        let seated = self.room.sit(
            self.id,
            self.joined.as_deref(),
            self.removals,
            seating.resumes,
            &line,
            shared,
        )?;
        self.is_open = false;
        let role = Role::Participant {
            id: self.id,
            pulse: seated.pulse,
            removals: seated.removals,
        };
        let (hub, room) = (self.hub.clone(), Arc::clone(&self.room));
        let place = Place::new(hub, room, line, seated.listener, role);
        Ok((place, seated.welcome))
    }
}

fn warn_at(ends: Ticks, shared: &Shared) -> Instant {
    let warning = shared.options.patience.token_warning.as_millis() as u64;
    Ticks(ends.0.saturating_sub(warning)).instant(shared.origin)
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_open {
            self.room
                .cancel(self.id, self.joined.as_deref(), self.hub.shared());
            self.hub.tidy(self.room.key);
        }
    }
}

/// How a connection sits down.
#[derive(Debug, Clone, Copy)]
pub struct Seating {
    /// Its own id.
    pub connection: ConnectionId,
    /// The connection whose resume token it brought.
    pub resumes: Option<ConnectionId>,
    /// When the access token it came by ends.
    pub token_ends: Option<Instant>,
}

impl Seating {
    /// The hub's end of the connection, judged from here on.
    pub(super) fn line(&self, shared: &Shared) -> Arc<Line> {
        let token_ends = self.token_ends.map(|at| Ticks::of(at, shared.origin));
        let line = Arc::new(Line::new(self.connection, shared.tick(), token_ends));
        let silence = Instant::now() + shared.options.patience.ping_after;
        let first_check = token_ends.map_or(silence, |ends| silence.min(warn_at(ends, shared)));
        let check = Job::Check(Arc::downgrade(&line));
        shared.agenda.add(first_check, check);
        line
    }
}

/// One connection's place in a room. Dropping it leaves, for the reason noted with [`Place::ends`]; if none was, as a
/// broken connection does, which starts the grace.
#[derive(Debug)]
pub struct Place {
    hub: Hub,
    room: Arc<Room>,
    line: Arc<Line>,
    listener: ListenerId,
    role: Role,
    ending: Ending,
    has_frames: bool,
}

/// As what a connection is in the room.
#[derive(Debug)]
pub(super) enum Role {
    /// With a seat.
    Participant {
        id: ParticipantId,
        pulse: Arc<Pulse>,
        removals: i64,
    },
    /// Without.
    Observer(ObserverId),
}

impl Role {
    fn participant(&self) -> Option<ParticipantId> {
        match self {
            Self::Participant { id, .. } => Some(*id),
            Self::Observer(_) => None,
        }
    }

    /// Where such connections are counted.
    fn gauge<'a>(&self, metrics: &'a Metrics) -> &'a Gauge {
        match self {
            Self::Participant { .. } => &metrics.connections,
            Self::Observer(_) => &metrics.observers,
        }
    }
}

/// The seat that a connection is in, and what only that allows.
#[derive(Debug, Clone, Copy)]
pub struct OwnSeat<'a> {
    place: &'a Place,
    /// The participant.
    pub participant: ParticipantId,
    /// How often the participant had been removed when it sat down; its resume token names it.
    pub removals: i64,
}

/// What a connection is to do next.
#[derive(Debug)]
pub enum Event {
    /// Send this frame.
    Frame(Encoded),
    /// Send a Ping.
    Ping,
    /// Tell the client that its access token is about to end.
    TokenExpiring,
    /// End.
    End(Ending),
}

/// Why a message of a client was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// One of `to` is not here.
    Stranger(ParticipantId),
    /// The room's fan-out budget is spent for this long.
    Budget(Duration),
}

impl Place {
    pub(super) fn new(
        hub: Hub,
        room: Arc<Room>,
        line: Arc<Line>,
        listener: ListenerId,
        role: Role,
    ) -> Self {
        role.gauge(&hub.shared().metrics).inc();
        Self {
            hub,
            room,
            line,
            listener,
            role,
            ending: Ending::Hangup,
            has_frames: true,
        }
    }

    /// The seat; `None` for an observer, who has none.
    pub fn seat(&self) -> Option<OwnSeat<'_>> {
        match self.role {
            Role::Participant { id, removals, .. } => Some(OwnSeat {
                place: self,
                participant: id,
                removals,
            }),
            Role::Observer(_) => None,
        }
    }

    /// The room's incarnation.
    pub fn room(&self) -> crate::store::RoomKey {
        self.room.key
    }

    /// The room's id.
    pub fn room_id(&self) -> RoomId {
        self.room.id()
    }

    /// Notes a sign of life: no lock, no I/O (rule R7). An observer's is nobody's but its own.
    pub fn hear(&self) {
        let shared = self.hub.shared();
        let now = shared.tick();
        self.line.hear(now);
        if let Role::Participant { pulse, .. } = &self.role {
            pulse.touch(now, &shared.dirty);
        }
    }

    /// Takes in a fresh access token's end: on the wall, for the resume that may follow, and as a deadline.
    pub fn renew_token(&self, until: Timestamp, deadline: Instant) {
        let shared = self.hub.shared();
        if let Role::Participant { id, .. } = &self.role {
            self.room.vouch(*id, until);
        }
        let ends = Ticks::of(deadline, shared.origin);
        self.line.renew_token(ends);
        shared.agenda.add(
            warn_at(ends, shared),
            Job::Check(Arc::downgrade(&self.line)),
        );
    }

    /// The store's time now.
    pub fn now(&self) -> Timestamp {
        self.hub.shared().clock.now()
    }

    /// Notes why the connection ended; the drop that follows acts on it.
    pub fn ends(&mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Waits for what is to be done next.
    ///
    /// # Cancel safety
    /// Nothing is taken before the call that returns it.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What is to be done at once, if anything.
    pub fn next_now(&mut self) -> Option<Event> {
        match self.poll_next(&mut Context::from_waker(futures::task::noop_waker_ref())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => {
                // The waker just given is nobody's: look again when polled for real.
                self.has_frames = true;
                None
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let signals = self.line.poll_signals(cx);
        self.has_frames |= signals & line::FRAMES != 0;
        let again = signals & !line::FRAMES;
        if let Some(ending) = self.line.ending() {
            return Poll::Ready(Event::End(ending));
        }
        if signals & line::PING != 0 {
            self.line.signal(again & !line::PING);
            return Poll::Ready(Event::Ping);
        }
        if signals & line::TOKEN != 0 {
            return Poll::Ready(Event::TokenExpiring);
        }
        self.poll_frames()
    }

    fn poll_frames(&mut self) -> Poll<Event> {
        if !self.has_frames {
            return Poll::Pending;
        }
        let own = self.role.participant();
        match self.room.next(self.listener, own, self.hub.shared()) {
            Said::Frame(encoded) => Poll::Ready(Event::Frame(encoded)),
            Said::Nothing(again) => {
                self.has_frames = false;
                if let Some(at) = again {
                    self.hub
                        .shared()
                        .agenda
                        .add(at, Job::Nudge(Arc::downgrade(&self.line)));
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = self.hub.shared();
        match &self.role {
            Role::Participant { id, .. } => {
                self.room
                    .disconnect(*id, self.listener, &self.line, self.ending, shared);
            }
            Role::Observer(id) => self.room.unobserve(id, Some(self.listener)),
        }
        self.role.gauge(&shared.metrics).dec();
        self.hub.tidy(self.room.key);
    }
}

impl OwnSeat<'_> {
    /// Changes the connection's status and the participant's state.
    pub fn update(
        &self,
        status: Option<Status>,
        state: Option<Map<String, Value>>,
    ) -> Result<(), StateTooLarge> {
        let Place {
            hub, room, line, ..
        } = self.place;
        room.update(self.participant, line.id, status, state, hub.shared())
    }

    /// Sends a broadcast to every other connection, or to those of `to`.
    pub fn broadcast(
        &self,
        event: String,
        payload: Box<RawValue>,
        to: Option<Vec<ParticipantId>>,
    ) -> Result<(), Refused> {
        let Place {
            hub, room, line, ..
        } = self.place;
        if let Some(stranger) = to.as_deref().and_then(|to| room.stranger(to)) {
            return Err(Refused::Stranger(stranger));
        }
        let encoded = Encoded::new(&ServerMessage::Broadcast {
            from: Some(self.participant),
            event,
            payload,
        });
        let kind = Kind::Broadcast {
            from: Some(line.id),
            to: to.map(Into::into),
        };
        room.broadcast(kind, encoded, false, hub.shared())
            .map_err(Refused::Budget)
    }
}
