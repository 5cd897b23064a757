//! One live room: its seats, its roster and its outlet, under one lock.
//!
//! Nothing awaits while the lock is held, and heartbeats never take it. A room exists in memory while anybody has a seat,
//! or watches, or is about to: the last one out closes it, and whoever comes at that moment asks the hub for a new one. Live it
//! is by its seats alone.

mod observing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rollcall_protocol::{
    ConnectionId, ExpiryReason, LeaveReason, Member, ParticipantId, RoomId, ServerMessage,
    StateText, Status, Timestamp, UserId,
};
use serde_json::{Map, Value};
use smallvec::SmallVec;
use tokio::time::Instant;

pub(super) use self::observing::ObserverId;
use self::observing::Observers;
use super::{
    Departure, Encoded, Ending, Shared, Welcome,
    agenda::Job,
    budget::Budget,
    line::Line,
    outlet::{Frame, Kind, ListenerId, Next, Outlet},
    pulse::Pulse,
};
use crate::{
    metrics::Limit,
    presence::{Change, Leave, Look, Roster, Seat, Shown, merge, window},
    store::{Departed, Joined, ParticipantRow, RoomKey, RoomRow, SavedSeat, Seen},
};

/// A live room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) key: RoomKey,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    row: RoomRow,
    end: Option<End>,
    occupants: BTreeMap<ParticipantId, Occupant>,
    roster: Roster,
    outlet: Outlet,
    observers: Observers,
    /// The latest sign of life: the room's own, and of those who left as far as this object has heard.
    last_activity: Timestamp,
    sent_at: Option<Instant>,
    is_scheduled: bool,
    is_warned: bool,
    /// When the agenda looks at the room's age next.
    age_due: Option<Instant>,
    budget: Budget,
}

/// Why no seat can be taken in a room object any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nobody was left; ask the hub again.
    Vacated,
    /// The room is over.
    Over(Ending),
}

/// A participant with a place, or with joins on their way.
#[derive(Debug)]
struct Occupant {
    seat: Seat,
    /// Its connections' places in the outlet.
    listeners: SmallVec<[ListenerId; 1]>,
    /// Admissions decided but not connected yet.
    reserved: usize,
    /// Admissions under a lower removal count are void: the participant was removed before they sat down.
    void_below: i64,
    /// `None` until the first connection sits down.
    sitting: Option<Sitting>,
}

#[derive(Debug)]
struct Sitting {
    pulse: Arc<Pulse>,
    look: Arc<Look>,
    generation: i64,
    removals: i64,
    /// The latest end of the fresh access tokens that came over its connections; `None`: none came.
    vouched_until: Option<Timestamp>,
}

/// Why a reservation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many live rooms as there may be.
    Rooms,
    /// Seats reach `max_participants`.
    Room,
    /// The participant, or the observing user, holds as many connections as it may.
    Connections,
    /// The room has reached its maximum age since the verdict.
    Over,
}

impl Full {
    /// The limit behind it, if there is one.
    pub(super) fn limit(self) -> Option<Limit> {
        match self {
            Self::Rooms => Some(Limit::Rooms),
            Self::Room => Some(Limit::Participants),
            Self::Connections => Some(Limit::ConnectionsPerParticipant),
            Self::Over => None,
        }
    }
}

/// What came of an attempt to reserve.
pub(super) enum Reserve<T = ()> {
    Done(T),
    Full(Full),
    /// This room object is gone; ask the hub again.
    Gone,
}

/// Somebody here now, for the management API.
#[derive(Debug, Clone, PartialEq)]
pub struct Present {
    /// As members see it.
    pub member: Member,
    /// How many connections it has; zero within the grace.
    pub connections: usize,
}

impl Room {
    pub(super) fn new(row: RoomRow, shared: &Shared) -> Arc<Self> {
        let room = Arc::new(Self {
            key: row.key,
            inner: Mutex::new(Inner {
                last_activity: row.created_at.max(row.last_active_at),
                row,
                end: None,
                occupants: BTreeMap::new(),
                roster: Roster::new(shared.options.roster_limit),
                outlet: Outlet::default(),
                observers: Observers::default(),
                sent_at: None,
                is_scheduled: false,
                is_warned: false,
                age_due: None,
                budget: Budget::new(Instant::now(), shared.options.fanout),
            }),
        });
        room.mind_age(shared);
        room
    }

    /// Holds a place for `id`, if the room and the participant's own limit have one. Who has a seat is never refused for a full
    /// room.
    pub(super) fn reserve(
        &self,
        id: ParticipantId,
        max_participants: Option<u32>,
        max_connections: usize,
    ) -> Reserve {
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            return Reserve::Gone;
        }
        match inner.admits(id, max_participants, max_connections) {
            Ok(()) => inner.reserve(id),
            Err(full) => return Reserve::Full(full),
        }
        Reserve::Done(())
    }

    /// Whether [`reserve`](Self::reserve) would succeed; changes nothing.
    pub(super) fn admits(
        &self,
        id: ParticipantId,
        max_participants: Option<u32>,
        max_connections: usize,
    ) -> Result<(), Full> {
        self.inner
            .lock()
            .admits(id, max_participants, max_connections)
    }

    /// Holds a place for a participant whose seat is held under this removal count. `None`: it is not.
    pub(super) fn reserve_held(
        &self,
        id: ParticipantId,
        removals: i64,
        max_connections: usize,
    ) -> Option<Result<(), Full>> {
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            return None;
        }
        let occupant = inner
            .occupants
            .get(&id)
            .filter(|occupant| occupant.seat.is_held())?;
        occupant
            .sitting
            .as_ref()
            .filter(|sitting| sitting.removals == removals)?;
        Some(
            inner
                .admits(id, None, max_connections)
                .map(|()| inner.reserve(id)),
        )
    }

    /// Gives a reservation back. With `committed`, the store says the participant is active: unless somebody else
    /// holds the seat that has to be taken back by a departure.
    pub(super) fn cancel(
        self: &Arc<Self>,
        id: ParticipantId,
        committed: Option<&Joined>,
        shared: &Shared,
    ) {
        let mut inner = self.inner.lock();
        let Some(occupant) = inner.occupants.get_mut(&id) else {
            return;
        };
        occupant.reserved -= 1;
        if let (Some(joined), Some(sitting)) = (committed, &mut occupant.sitting) {
            sitting.renew(joined);
        }
        if occupant.is_held() {
            return;
        }
        if occupant.sitting.is_some() {
            inner.depart(id, LeaveReason::Timeout, shared);
        } else {
            inner.occupants.remove(&id);
            if let Some(joined) = committed {
                let seen = joined.participant.last_seen_at;
                inner.note_activity(Some(joined.room.last_active_at.max(seen)));
                shared.depart(Departure::unseated(&joined.participant, shared));
            }
        }
        self.follow_up(&mut inner, shared);
    }

    /// Turns a reservation into a connection. `joined` is what the store committed; `None` for a resume of a held seat.
    ///
    /// # Errors
    /// The room or the participant was removed since the verdict, under the removal count `removals`. Nothing has
    /// changed then: the reservation is yet to be given back.
    pub(super) fn sit(
        self: &Arc<Self>,
        id: ParticipantId,
        joined: Option<&Joined>,
        removals: i64,
        resumes: Option<ConnectionId>,
        line: &Arc<Line>,
        shared: &Shared,
    ) -> Result<Seated, Ending> {
        let mut inner = self.inner.lock();
        if let Some(End::Over(ending)) = inner.end {
            return Err(ending);
        }
        let occupant = inner.occupants.get_mut(&id).ok_or(Ending::Removed)?;
        let is_nobody = occupant.sitting.is_none() && joined.is_none();
        if is_nobody || removals < occupant.void_below {
            return Err(Ending::Removed);
        }
        occupant.reserved -= 1;
        let was_held = occupant.seat.is_held();
        occupant.seat.connect(line.id, resumes);
        let status = occupant.seat.status().unwrap_or_default();
        let sitting = match (&mut occupant.sitting, joined) {
            (Some(sitting), _) => sitting,
            (empty @ None, Some(joined)) => empty.insert(Sitting::new(&joined.participant, shared)),
            (None, None) => return Err(Ending::Removed),
        };
        if let Some(joined) = joined {
            sitting.renew(joined);
        }
        sitting.set_status(status);
        sitting.pulse.touch(shared.tick(), &shared.dirty);
        let (pulse, removals, look) = (
            Arc::clone(&sitting.pulse),
            sitting.removals,
            Arc::clone(&sitting.look),
        );
        inner.roster.set(id, look);
        if !was_held {
            shared.metrics.arrived();
        }
        if let Some(lost) = resumes {
            inner.doubt(lost, id, shared);
        }
        let listener = inner.outlet.listen(Arc::clone(line), Some(id));
        if let Some(occupant) = inner.occupants.get_mut(&id) {
            occupant.listeners.push(listener);
        }
        if shared.is_draining() {
            // Admitted before the drain began, seated after it told everybody.
            line.end(Ending::Stopping);
        }
        let shown = inner.shown(Some(id), shared);
        let expiring = inner.age_warning().into_iter().collect();
        let room = inner.row.view();
        self.schedule(&mut inner, shared);
        Ok(Seated {
            pulse,
            removals,
            listener,
            welcome: Welcome {
                room,
                shown,
                expiring,
                resumed: was_held && joined.is_none(),
            },
        })
    }

    /// Ends one connection. Leaving cleanly gives the seat up at once unless another connection or grace holds it.
    pub(super) fn disconnect(
        self: &Arc<Self>,
        id: ParticipantId,
        listener: ListenerId,
        line: &Line,
        ending: Ending,
        shared: &Shared,
    ) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        inner.outlet.silence(listener);
        if inner.end.is_some() {
            return;
        }
        let Some(occupant) = inner.occupants.get_mut(&id) else {
            return;
        };
        occupant.listeners.retain(|kept| *kept != listener);
        // A drain gives no grace of its own: the next node does, to everybody still active in the store.
        let keeps_grace = ending != Ending::Left && (shared.is_draining() || !line.is_doubted());
        let grace = keeps_grace.then_some(now + shared.options.reconnect_grace);
        if !occupant.seat.disconnect(line.id, grace) {
            return;
        }
        if let Some(until) = grace {
            shared
                .agenda
                .add(until, Job::Grace(Box::new((Arc::downgrade(self), id))));
        }
        if occupant.is_held() {
            inner.refresh_status(id);
        } else {
            inner.depart(id, LeaveReason::Left, shared);
        }
        self.follow_up(&mut inner, shared);
    }

    /// Ends the seat of `id` if its grace is over. One found late is granted again: nobody could come back meanwhile.
    pub(super) fn expire_grace(
        self: &Arc<Self>,
        id: ParticipantId,
        stalled: bool,
        shared: &Shared,
    ) {
        if shared.is_draining() {
            return;
        }
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let Some(occupant) = inner.occupants.get_mut(&id) else {
            return;
        };
        if stalled {
            let until = now + shared.options.reconnect_grace;
            occupant.seat.regrant(now, until);
            shared
                .agenda
                .add(until, Job::Grace(Box::new((Arc::downgrade(self), id))));
        }
        occupant.seat.expire(now);
        if occupant.sitting.is_some() && !occupant.is_held() {
            inner.depart(id, LeaveReason::Timeout, shared);
            self.follow_up(&mut inner, shared);
        }
    }

    /// Takes in a seat that the previous node left.
    pub(super) fn restore(self: &Arc<Self>, saved: &SavedSeat, until: Instant, shared: &Shared) {
        let id = saved.participant.id;
        let sitting = Sitting::restored(saved, shared);
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            // Past its maximum age by now: nobody comes back to it.
            shared.depart(Departure::unseated(&saved.participant, shared));
            return;
        }
        inner.roster.restore(id, Arc::clone(&sitting.look));
        inner.occupants.insert(
            id,
            Occupant {
                seat: Seat::restored(until),
                listeners: SmallVec::new(),
                reserved: 0,
                void_below: 0,
                sitting: Some(sitting),
            },
        );
        shared
            .agenda
            .add(until, Job::Grace(Box::new((Arc::downgrade(self), id))));
    }

    /// Changes what others see of a participant: the status of this connection, the state of all.
    pub(super) fn update(
        self: &Arc<Self>,
        id: ParticipantId,
        connection: ConnectionId,
        status: Option<Status>,
        patch: Option<Map<String, Value>>,
        shared: &Shared,
    ) -> Result<(), StateTooLarge> {
        let mut inner = self.inner.lock();
        let Some(occupant) = inner.occupants.get_mut(&id) else {
            return Ok(());
        };
        let Some(sitting) = &mut occupant.sitting else {
            return Ok(());
        };
        if let Some(patch) = patch {
            let state = merged(&sitting.look.state, patch)?;
            if state.as_str().len() > shared.options.state_bytes {
                return Err(StateTooLarge);
            }
            if state != sitting.look.state {
                shared
                    .states
                    .lock()
                    .insert(sitting.pulse.key, Some(state.as_str().to_owned()));
                Arc::make_mut(&mut sitting.look).state = state;
            }
        }
        if let Some(status) = status {
            occupant.seat.set_status(connection, status);
            sitting.set_status(occupant.seat.status().unwrap_or_default());
        }
        let look = Arc::clone(&sitting.look);
        inner.roster.set(id, look);
        self.schedule(&mut inner, shared);
        Ok(())
    }

    /// Sends a broadcast to everybody but its sender, or to some.
    pub(super) fn broadcast(
        &self,
        kind: Kind,
        encoded: Encoded,
        is_ours: bool,
        shared: &Shared,
    ) -> Result<(), Duration> {
        let mut inner = self.inner.lock();
        let audience = inner.outlet.audience(&kind);
        if !is_ours {
            inner.budget.spend(
                Instant::now(),
                shared.options.fanout,
                audience,
                encoded.len(),
            )?;
        }
        shared.metrics.frames_fanned_out(audience as u64);
        inner.outlet.push(Frame { encoded, kind });
        Ok(())
    }

    /// The first of `to` that has no seat here.
    pub(super) fn stranger(&self, to: &[ParticipantId]) -> Option<ParticipantId> {
        let inner = self.inner.lock();
        to.iter().copied().find(|id| {
            inner
                .occupants
                .get(id)
                .is_none_or(|occupant| occupant.sitting.is_none())
        })
    }

    /// What a reader gets next.
    pub(super) fn next(
        &self,
        listener: ListenerId,
        id: Option<ParticipantId>,
        shared: &Shared,
    ) -> Said {
        let mut inner = self.inner.lock();
        loop {
            let message = match inner.outlet.next(listener, Instant::now()) {
                Next::Frame(encoded) => return Said::Frame(encoded),
                Next::Empty(again) => return Said::Nothing(again),
                Next::Sync => sync(inner.shown(id, shared)),
                Next::Room => ServerMessage::Room {
                    room: inner.row.view(),
                },
                Next::Idle => match inner.idle_warning() {
                    Some(at) => observing::idle_warning(at),
                    // Called off before it was read.
                    None => continue,
                },
            };
            return Said::Frame(Encoded::new(&message));
        }
    }

    /// Takes over new settings and tells everybody.
    pub(super) fn set_row(self: &Arc<Self>, row: RoomRow, shared: &Shared) {
        {
            let mut inner = self.inner.lock();
            if inner.row == row {
                return;
            }
            let encoded = Encoded::new(&ServerMessage::Room { room: row.view() });
            let is_new_end = inner.row.ends_at() != row.ends_at();
            inner.is_warned &= !is_new_end;
            inner.note_activity(Some(row.last_active_at));
            inner.row = row;
            inner.outlet.push(Frame {
                encoded,
                kind: Kind::Room,
            });
            self.mind_idle(&mut inner, shared);
        }
        self.mind_age(shared);
    }

    /// Looks at the room's age because the agenda says so.
    pub(super) fn age(self: &Arc<Self>, shared: &Shared) {
        self.inner.lock().age_due = None;
        self.mind_age(shared);
    }

    /// Warns of the end at the maximum age, and ends the room then.
    pub(super) fn mind_age(self: &Arc<Self>, shared: &Shared) {
        let over = {
            let mut inner = self.inner.lock();
            let Some(ends_at) = inner.row.ends_at() else {
                return;
            };
            let left = ends_at.saturating_since(shared.clock.now());
            let warning = shared.options.expiry_warning;
            if !left.is_zero() && left <= warning && !inner.is_warned {
                inner.is_warned = true;
                let encoded = Encoded::new(&ServerMessage::RoomExpiring {
                    expires_at: ends_at,
                    reason: ExpiryReason::MaxAge,
                });
                inner.outlet.push(Frame {
                    encoded,
                    kind: Kind::Room,
                });
            }
            let wait = if left > warning { left - warning } else { left };
            let due = next_look(wait);
            if inner.age_due.is_none_or(|planned| due < planned) {
                inner.age_due = Some(due);
                shared.agenda.add(due, Job::Age(Arc::downgrade(self)));
            }
            left.is_zero()
        };
        if over {
            self.close(Ending::RoomExpired, shared);
        }
    }

    /// Ends the room for everybody in it.
    pub(super) fn close(&self, ending: Ending, shared: &Shared) {
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            return;
        }
        inner.end = Some(End::Over(ending));
        for line in inner.outlet.lines() {
            line.end(ending);
        }
        let ids: Vec<ParticipantId> = inner.occupants.keys().copied().collect();
        for id in ids {
            inner.depart(id, LeaveReason::Removed, shared);
        }
    }

    /// Takes a participant out: every connection of it ends, nobody may resume, and who was admitted under a lower
    /// removal count than this does not sit down any more.
    pub(super) fn remove(self: &Arc<Self>, id: ParticipantId, removals: i64, shared: &Shared) {
        let mut inner = self.inner.lock();
        if let Some(occupant) = inner.occupants.get_mut(&id) {
            occupant.void_below = occupant.void_below.max(removals);
        }
        for line in inner.lines_of(id) {
            line.end(Ending::Removed);
        }
        inner.depart(id, LeaveReason::Removed, shared);
        self.follow_up(&mut inner, shared);
    }

    /// Sends what has been gathered.
    pub(super) fn publish(&self, shared: &Shared) {
        let mut inner = self.inner.lock();
        inner.is_scheduled = false;
        inner.publish(shared);
    }

    /// Marks the room as over if nobody has, watches or awaits a seat; the hub then forgets it.
    pub(super) fn vacate(&self, shared: &Shared) -> bool {
        let mut inner = self.inner.lock();
        let is_awaited = !inner.occupants.is_empty() || !inner.observers.is_empty();
        if is_awaited || inner.outlet.lines().next().is_some() {
            return false;
        }
        inner.publish(shared);
        inner.end.get_or_insert(End::Vacated);
        true
    }

    pub(super) fn is_live(&self) -> bool {
        !self.inner.lock().occupants.is_empty()
    }

    /// The connections here.
    pub(super) fn lines(&self) -> Vec<Arc<Line>> {
        self.inner.lock().outlet.lines().map(Arc::clone).collect()
    }

    /// How many seats there are.
    pub(super) fn occupancy(&self) -> usize {
        self.inner.lock().roster.occupancy()
    }

    /// How many seats there are, and the latest sign of life.
    pub(super) fn online(&self, shared: &Shared) -> (usize, Option<Timestamp>) {
        let inner = self.inner.lock();
        let seen = inner
            .sittings()
            .map(|(_, sitting)| sitting.pulse.last_seen_at(|at| shared.stamp(at)))
            .max();
        (inner.roster.occupancy(), seen)
    }

    /// When a participant with a seat was last heard of.
    pub(super) fn seen(&self, id: ParticipantId, shared: &Shared) -> Option<Timestamp> {
        let inner = self.inner.lock();
        let sitting = inner.occupants.get(&id)?.sitting.as_ref()?;
        Some(sitting.last_seen_at(shared))
    }

    /// Whether a participant has a seat under this removal count.
    pub(super) fn holds(&self, id: ParticipantId, removals: i64) -> bool {
        let inner = self.inner.lock();
        let sitting = inner
            .occupants
            .get(&id)
            .and_then(|occupant| occupant.sitting.as_ref());
        sitting.is_some_and(|sitting| sitting.removals == removals)
    }

    /// The application vouches for a participant until then.
    pub(super) fn vouch(&self, id: ParticipantId, until: Timestamp) {
        let mut inner = self.inner.lock();
        let occupant = inner.occupants.get_mut(&id);
        if let Some(sitting) = occupant.and_then(|occupant| occupant.sitting.as_mut()) {
            sitting.vouched_until = sitting.vouched_until.max(Some(until));
        }
    }

    /// Until when the application vouched for whoever has the seat, if it did so again since they came.
    pub(super) fn vouched_until(&self, id: ParticipantId) -> Option<Timestamp> {
        let inner = self.inner.lock();
        inner.occupants.get(&id)?.sitting.as_ref()?.vouched_until
    }

    /// The user behind a seat.
    pub(super) fn user_id(&self, id: ParticipantId) -> Option<UserId> {
        self.inner
            .lock()
            .occupants
            .get(&id)?
            .sitting
            .as_ref()?
            .look
            .user_id
            .clone()
    }

    /// Everybody here after `after`, ordered by id, as of the sequence number given with them. What has been gathered is
    /// sent first, so that the list is what clients know.
    pub(super) fn present(
        &self,
        after: Option<ParticipantId>,
        limit: usize,
        shared: &Shared,
    ) -> (u64, u64, Vec<Present>) {
        let mut inner = self.inner.lock();
        inner.publish(shared);
        let people = inner
            .roster
            .live()
            .filter(|(id, _)| after.is_none_or(|after| *id > after))
            .take(limit);
        let people = people
            .filter_map(|(id, look)| {
                let occupant = inner.occupants.get(&id)?;
                let member = Member {
                    id,
                    user_id: look.user_id.clone(),
                    name: look.name.clone(),
                    status: look.status,
                    state: look.state.clone(),
                    joined_at: look.joined_at,
                    last_seen_at: inner.last_seen_at(id, shared),
                };
                Some(Present {
                    member,
                    connections: occupant.seat.connections(),
                })
            })
            .collect();
        (inner.roster.seq(), inner.roster.occupancy() as u64, people)
    }

    /// The room's row as last heard of; `None` while nobody has or awaits a seat.
    pub(super) fn live_row(&self) -> Option<RoomRow> {
        let inner = self.inner.lock();
        (!inner.occupants.is_empty()).then(|| inner.row.clone())
    }

    /// The application's id.
    pub(super) fn id(&self) -> RoomId {
        self.inner.lock().row.id.clone()
    }

    /// Tells what follows from somebody's going.
    fn follow_up(self: &Arc<Self>, inner: &mut Inner, shared: &Shared) {
        self.schedule(inner, shared);
        self.mind_idle(inner, shared);
    }

    /// Sends at once what the window lets out at once, or sees to it that it goes out when the window opens.
    fn schedule(self: &Arc<Self>, inner: &mut Inner, shared: &Shared) {
        if inner.is_scheduled || !inner.roster.is_stale() {
            return;
        }
        let now = Instant::now();
        let opens_at = window::opens_at(inner.sent_at, inner.roster.occupancy(), now);
        if opens_at <= now {
            inner.publish(shared);
        } else {
            inner.is_scheduled = true;
            shared
                .agenda
                .add(opens_at, Job::Publish(Arc::downgrade(self)));
        }
    }
}

/// A connection that has sat down.
pub(super) struct Seated {
    pub(super) pulse: Arc<Pulse>,
    pub(super) removals: i64,
    pub(super) listener: ListenerId,
    pub(super) welcome: Welcome,
}

/// What the outlet has for a reader.
pub(super) enum Said {
    Frame(Encoded),
    Nothing(Option<Instant>),
}

/// A state that the limit does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTooLarge;

impl Occupant {
    /// Joins on their way hold the seat too.
    fn is_held(&self) -> bool {
        self.reserved > 0 || self.seat.is_held()
    }
}

impl Inner {
    fn admits(
        &self,
        id: ParticipantId,
        max_participants: Option<u32>,
        max_connections: usize,
    ) -> Result<(), Full> {
        match self.occupants.get(&id) {
            Some(occupant)
                if occupant.seat.connections() + occupant.reserved >= max_connections =>
            {
                Err(Full::Connections)
            }
            Some(_) => Ok(()),
            None if max_participants.is_some_and(|max| self.occupants.len() >= max as usize) => {
                Err(Full::Room)
            }
            None => Ok(()),
        }
    }

    fn reserve(&mut self, id: ParticipantId) {
        let occupant = self.occupants.entry(id).or_insert_with(|| Occupant {
            seat: Seat::default(),
            listeners: SmallVec::new(),
            reserved: 0,
            void_below: 0,
            sitting: None,
        });
        occupant.reserved += 1;
    }

    /// Gives up the seat of `id` and tells the flusher and the roster the same last-seen.
    fn depart(&mut self, id: ParticipantId, reason: LeaveReason, shared: &Shared) {
        let Some(occupant) = self.occupants.get_mut(&id) else {
            return;
        };
        occupant.seat = Seat::default();
        occupant.listeners.clear();
        let Some(sitting) = occupant.sitting.take() else {
            return;
        };
        if occupant.reserved == 0 {
            self.occupants.remove(&id);
        }
        let heard_at = sitting.pulse.last_seen_at(|at| shared.stamp(at));
        self.note_activity(Some(heard_at));
        let last_seen_at = shared.kept(&sitting.pulse, heard_at);
        let shown = sitting.shown(heard_at, shared);
        sitting.pulse.freeze();
        self.roster.remove(
            id,
            Leave {
                reason,
                last_seen_at: shown,
            },
        );
        if sitting.look.state != StateText::empty() {
            shared.states.lock().insert(sitting.pulse.key, None);
        }
        shared.metrics.departed();
        shared.depart(Departure {
            room: self.row.key,
            seen: Seen {
                key: sitting.pulse.key,
                last_seen_at,
                departed: Some(Departed {
                    left_at: shared.kept(&sitting.pulse, shared.clock.now().max(heard_at)),
                    generation: sitting.generation,
                }),
            },
            heard_at,
        });
    }

    fn refresh_status(&mut self, id: ParticipantId) {
        let Some(occupant) = self.occupants.get_mut(&id) else {
            return;
        };
        if let (Some(status), Some(sitting)) = (occupant.seat.status(), &mut occupant.sitting) {
            sitting.set_status(status);
            let look = Arc::clone(&sitting.look);
            self.roster.set(id, look);
        }
    }

    /// Puts the connection that was resumed elsewhere in doubt.
    fn doubt(&self, connection: ConnectionId, id: ParticipantId, shared: &Shared) {
        for line in self.lines_of(id).filter(|line| line.id == connection) {
            line.doubt(shared.tick());
            shared.agenda.add(
                Instant::now() + super::line::DOUBT,
                Job::Check(Arc::downgrade(line)),
            );
        }
    }

    /// The connections of one participant.
    fn lines_of(&self, id: ParticipantId) -> impl Iterator<Item = &Arc<Line>> {
        let listeners = self.occupants.get(&id).into_iter();
        listeners
            .flat_map(|occupant| &occupant.listeners)
            .filter_map(|listener| self.outlet.line(*listener))
    }

    fn publish(&mut self, shared: &Shared) {
        let occupants = &self.occupants;
        let change = self
            .roster
            .publish(|id| last_seen_at(occupants, id, shared));
        let Some(change) = change else { return };
        self.sent_at = Some(Instant::now());
        let occupancy = self.roster.occupancy() as u64;
        let seq = self.roster.seq();
        let (message, kind) = match change {
            Change::Diff {
                joined,
                updated,
                left,
            } => (
                ServerMessage::Presence {
                    seq,
                    occupancy,
                    joined,
                    updated,
                    left,
                },
                Kind::Presence,
            ),
            Change::Count => {
                let (joined, updated, left) = Default::default();
                (
                    ServerMessage::Presence {
                        seq,
                        occupancy,
                        joined,
                        updated,
                        left,
                    },
                    Kind::Presence,
                )
            }
            Change::Crossed(_) => (sync(self.shown(None, shared)), Kind::Sync),
        };
        shared
            .metrics
            .frames_fanned_out(self.outlet.audience(&kind) as u64);
        self.outlet.push(Frame {
            encoded: Encoded::new(&message),
            kind,
        });
    }

    /// The end of the room, if everybody has been told.
    fn age_warning(&self) -> Option<(Timestamp, ExpiryReason)> {
        let ends_at = self.row.ends_at().filter(|_| self.is_warned);
        ends_at.map(|at| (at, ExpiryReason::MaxAge))
    }

    fn shown(&self, own: Option<ParticipantId>, shared: &Shared) -> Shown {
        self.roster
            .snapshot(own, |id| self.last_seen_at(id, shared))
    }

    fn last_seen_at(&self, id: ParticipantId, shared: &Shared) -> Timestamp {
        last_seen_at(&self.occupants, id, shared)
    }

    fn sittings(&self) -> impl Iterator<Item = (ParticipantId, &Sitting)> {
        self.occupants
            .iter()
            .filter_map(|(id, occupant)| Some((*id, occupant.sitting.as_ref()?)))
    }
}

/// A sample for frames that show members; somebody who left within the window is not asked for.
fn last_seen_at(
    occupants: &BTreeMap<ParticipantId, Occupant>,
    id: ParticipantId,
    shared: &Shared,
) -> Timestamp {
    let sitting = occupants
        .get(&id)
        .and_then(|occupant| occupant.sitting.as_ref());
    sitting.map_or_else(
        || shared.options.last_seen_precision.round(shared.clock.now()),
        |sitting| sitting.last_seen_at(shared),
    )
}

/// When the agenda looks at a room that has this long to wait: at least hourly, for the store's clock may be stepped, and
/// instants far away overflow.
fn next_look(wait: Duration) -> Instant {
    Instant::now() + wait.clamp(Duration::from_millis(1), Duration::from_secs(3600))
}

fn sync(shown: Shown) -> ServerMessage {
    ServerMessage::Sync {
        seq: shown.seq,
        roster: shown.mode,
        occupancy: shown.occupancy,
        members: shown.members,
    }
}

fn merged(state: &StateText, patch: Map<String, Value>) -> Result<StateText, StateTooLarge> {
    // Our own text of a state that was an object when it was stored; were it not, the patch stands alone.
    let mut target: Map<String, Value> = serde_json::from_str(state.as_str()).unwrap_or_default();
    merge(&mut target, patch);
    Ok(StateText::from(&target))
}

impl Sitting {
    fn new(row: &ParticipantRow, shared: &Shared) -> Self {
        let look = Look {
            user_id: row.user_id.clone(),
            name: row.name.clone(),
            status: Status::Active,
            state: StateText::empty(),
            joined_at: row.joined_at,
        };
        Self {
            pulse: Arc::new(Pulse::new(row, shared.tick())),
            look: Arc::new(look),
            generation: row.generation,
            removals: row.removals,
            vouched_until: None,
        }
    }

    fn restored(saved: &SavedSeat, shared: &Shared) -> Self {
        let row = &saved.participant;
        let state: Map<String, Value> = saved
            .state
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let mut sitting = Self::new(row, shared);
        sitting.pulse = Arc::new(Pulse::restored(row));
        Arc::make_mut(&mut sitting.look).state = StateText::from(&state);
        sitting
    }

    /// Takes in what a further admission of the same participant committed.
    fn renew(&mut self, joined: &Joined) {
        self.generation = self.generation.max(joined.participant.generation);
        self.removals = self.removals.max(joined.participant.removals);
        self.pulse.stored(&joined.participant);
        if self.look.name != joined.participant.name {
            Arc::make_mut(&mut self.look).name = joined.participant.name.clone();
        }
    }

    /// When last seen, as others are shown it.
    fn last_seen_at(&self, shared: &Shared) -> Timestamp {
        let heard_at = self.pulse.last_seen_at(|at| shared.stamp(at));
        self.shown(heard_at, shared)
    }

    /// What others are shown of a moment. Presence is shown as of everybody; of who does not want more, when they first came.
    fn shown(&self, heard_at: Timestamp, shared: &Shared) -> Timestamp {
        if self.pulse.is_kept() {
            shared.kept(&self.pulse, heard_at)
        } else {
            self.look.joined_at
        }
    }

    fn set_status(&mut self, status: Status) {
        if self.look.status != status {
            Arc::make_mut(&mut self.look).status = status;
        }
    }
}
