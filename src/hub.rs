//! The live rooms of this node, shared by everybody.
//!
//! The only place that names `DashMap`; its guards never leave this file. The hub knows nothing of sockets, HTTP or SQL:
//! a connection takes a [`Place`], the flusher collects what is dirty, the reaper and the management API ask and evict.
//! Lock order: map shard, then room. Nothing that holds a room's lock touches the map.

mod agenda;
mod budget;
mod encoded;
mod ending;
mod line;
mod outlet;
mod place;
mod pulse;
mod room;
mod ticks;
mod unflushed;
mod watch;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_queue::SegQueue;
use dashmap::DashMap;
use parking_lot::Mutex;
use rollcall_protocol::{ExpiryReason, ParticipantId, RoomView, ServerMessage, Timestamp, UserId};
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::{
    agenda::{Agenda, Job},
    budget::Fanout,
    line::{Line, Patience},
    outlet::Kind,
    pulse::Pulse,
    room::{Reserve, Room},
    ticks::Ticks,
    unflushed::Unflushed,
};
pub use self::{
    encoded::Encoded,
    ending::Ending,
    place::{Entry, Event, OwnSeat, Place, Refused, Reservation, Seating},
    room::{Full, Present, StateTooLarge},
    watch::Watch,
};
use crate::{
    config::Config,
    metrics::Metrics,
    presence::Shown,
    store::{
        Departed, Joined, ParticipantKey, ParticipantRow, Precision, Restored, RoomKey, RoomRow,
        Seen, StoreClock,
    },
};

/// The map of live rooms. Clones share it.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<HubInner>,
}

#[derive(Debug)]
struct HubInner {
    rooms: DashMap<RoomKey, Arc<Room>>,
    shared: Shared,
}

/// What every room needs of the node.
#[derive(Debug)]
struct Shared {
    options: Options,
    clock: StoreClock,
    origin: Instant,
    agenda: Agenda,
    /// Seats heard of since the last flush. Each is in it at most once, so it is bounded by the seats.
    dirty: SegQueue<Arc<Pulse>>,
    /// Seats given up since the last flush. Each took an admission, so a store outage bounds it.
    departures: SegQueue<Departure>,
    unflushed: Unflushed,
    /// States changed since the last flush, one entry a participant.
    states: Mutex<HashMap<ParticipantKey, Option<String>>>,
    is_draining: AtomicBool,
    /// The stall rule: nothing before this is held against anybody.
    floor: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone, Copy)]
struct Options {
    patience: Patience,
    reconnect_grace: Duration,
    restart_grace: Duration,
    expiry_warning: Duration,
    roster_limit: usize,
    fanout: Fanout,
    state_bytes: usize,
    connections_per_participant: usize,
    max_rooms: usize,
    last_seen_precision: Precision,
}

/// A seat given up, on its way to the store.
#[derive(Debug, Clone, Copy)]
struct Departure {
    room: RoomKey,
    /// As it is kept.
    seen: Seen,
    /// When they were last heard, as it is known.
    heard_at: Timestamp,
}

/// What a connection is greeted with.
#[derive(Debug)]
pub struct Welcome {
    /// The room.
    pub room: RoomView,
    /// The roster, oneself included.
    pub shown: Shown,
    /// The others have been told that the room ends then, and why.
    pub expiring: Vec<(Timestamp, ExpiryReason)>,
    /// The seat was still held.
    pub resumed: bool,
}

/// One participant heard of or departed.
#[derive(Debug)]
pub struct Heard {
    /// Where.
    pub room: RoomKey,
    /// Who; the default of somebody who departed.
    pub id: ParticipantId,
    /// What is kept of it.
    pub seen: Seen,
    /// When last, as it is known: what the room's activity goes by.
    pub at: Timestamp,
}

/// What has changed since it was last collected.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Participants heard of or departed, in no order; one may come twice, newest last.
    pub seen: Vec<Heard>,
    /// States changed; `None`: ended with the seat.
    pub states: HashMap<ParticipantKey, Option<String>>,
}

impl Hub {
    /// An empty hub.
    pub fn new(config: &Config, clock: StoreClock, metrics: Arc<Metrics>) -> Self {
        let options = Options {
            patience: Patience {
                ping_after: config.heartbeat_interval.mul_f64(1.25),
                timeout: config.heartbeat_timeout,
                token_warning: config.expiry_warning.min(TOKEN_WARNING),
            },
            reconnect_grace: config.reconnect_grace,
            restart_grace: config.restart_grace,
            expiry_warning: config.expiry_warning,
            roster_limit: config.limits.roster_limit,
            fanout: Fanout {
                frames_per_second: config.limits.fanout_frames_per_second,
                bytes_per_second: config.limits.fanout_bytes_per_second,
            },
            state_bytes: config.limits.state_bytes,
            connections_per_participant: config.limits.connections_per_participant,
            max_rooms: config.limits.max_rooms.unwrap_or(usize::MAX),
            last_seen_precision: config.last_seen_precision,
        };
        let shared = Shared {
            options,
            clock,
            origin: Instant::now(),
            agenda: Agenda::default(),
            dirty: SegQueue::new(),
            departures: SegQueue::new(),
            unflushed: Unflushed::default(),
            states: Mutex::default(),
            is_draining: AtomicBool::new(false),
            floor: AtomicU64::new(0),
            metrics,
        };
        Self {
            inner: Arc::new(HubInner {
                rooms: DashMap::new(),
                shared,
            }),
        }
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    fn find(&self, key: RoomKey) -> Option<Arc<Room>> {
        self.inner.rooms.get(&key).map(|room| Arc::clone(&room))
    }

    fn find_or_make(&self, row: &RoomRow) -> Arc<Room> {
        let room = self
            .inner
            .rooms
            .entry(row.key)
            .or_insert_with(|| Room::new(row.clone(), self.shared()));
        Arc::clone(&room)
    }

    /// Forgets a room that nobody has a seat in, watches or is about to.
    fn tidy(&self, key: RoomKey) {
        self.inner
            .rooms
            .remove_if(&key, |_, room| room.vacate(self.shared()));
    }

    /// Carries out what is due, for ever: publications, graces, pings and timeouts, ends of rooms.
    ///
    /// # Cancel safety
    /// Not cancel safe: jobs taken and not yet done are lost. It ends with the node only.
    pub async fn run_agenda(&self) -> std::convert::Infallible {
        loop {
            let due = self.shared().agenda.due().await;
            if due.stalled {
                self.forgive_stall();
            }
            for (done, job) in due.jobs.into_iter().enumerate() {
                self.carry_out(job, due.stalled);
                if done % JOBS_IN_A_ROW == JOBS_IN_A_ROW - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn carry_out(&self, job: Job, stalled: bool) {
        let shared = self.shared();
        match job {
            Job::Publish(room) => room
                .upgrade()
                .into_iter()
                .for_each(|room| room.publish(shared)),
            Job::Age(room) => {
                if let Some(room) = room.upgrade() {
                    room.age(shared);
                    self.tidy(room.key);
                }
            }
            Job::Idle(room) => room
                .upgrade()
                .into_iter()
                .for_each(|room| room.idle(shared)),
            Job::Grace(grace) => {
                let (room, id) = *grace;
                if let Some(room) = room.upgrade() {
                    room.expire_grace(id, stalled, shared);
                    self.tidy(room.key);
                }
            }
            Job::Nudge(line) => line
                .upgrade()
                .into_iter()
                .for_each(|line| line.signal(line::FRAMES)),
            Job::Check(line) => {
                if let Some(line) = line.upgrade().filter(|line| line.ending().is_none()) {
                    let next = line.check(shared.tick(), shared.floor(), shared.options.patience);
                    shared.check_at(&line, next);
                }
            }
        }
    }

    /// After the whole server stood still everybody is pinged afresh before anybody is timed out.
    fn forgive_stall(&self) {
        let shared = self.shared();
        tracing::warn!("the server stood still for seconds; pinging everybody");
        let ping_after = shared.options.patience.ping_after.as_millis() as u64;
        shared.floor.store(
            shared.tick().0.saturating_sub(ping_after),
            Ordering::Relaxed,
        );
        for room in self.all_rooms() {
            for line in room.lines() {
                line.forgive(shared.tick());
            }
        }
    }

    /// In the order of their keys, so that a simulation meets them in the same order again.
    fn all_rooms(&self) -> Vec<Arc<Room>> {
        let mut rooms = self.rooms_in_no_order();
        rooms.sort_unstable_by_key(|room| room.key);
        rooms
    }

    /// Copied: no room is looked at while the map is locked.
    fn rooms_in_no_order(&self) -> Vec<Arc<Room>> {
        let rooms = self.inner.rooms.iter();
        rooms.map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Takes in what the previous node left, each seat for the restart grace.
    pub fn restore(&self, restored: &Restored) {
        let until = Instant::now() + self.shared().options.restart_grace;
        let rooms: HashMap<RoomKey, Arc<Room>> = restored
            .rooms
            .iter()
            .map(|row| (row.key, self.find_or_make(row)))
            .collect();
        for saved in &restored.seats {
            if let Some(room) = rooms.get(&saved.participant.room_key) {
                room.restore(saved, until, self.shared());
            }
        }
        for key in rooms.into_keys() {
            self.tidy(key);
        }
    }

    /// From here on a disconnect is nobody's departure, and every connection is told to come back elsewhere.
    pub fn drain(&self) {
        self.shared().is_draining.store(true, Ordering::SeqCst);
        for room in self.all_rooms() {
            for line in room.lines() {
                line.end(Ending::Stopping);
            }
        }
    }

    /// Collects what changed since the last call. Costs one pass over what is dirty, none over what is not.
    pub fn collect_dirty(&self) -> Dirty {
        let shared = self.shared();
        let mut dirty = Dirty {
            seen: Vec::with_capacity(shared.dirty.len()),
            states: HashMap::new(),
        };
        shared.unflushed.collect();
        // As many as there are now: what is marked meanwhile belongs to the next flush.
        for _ in 0..shared.dirty.len() {
            let Some(pulse) = shared.dirty.pop() else {
                break;
            };
            let at = pulse.collect(|at| shared.stamp(at));
            dirty.seen.push(Heard {
                room: pulse.room,
                id: pulse.id,
                seen: Seen {
                    key: pulse.key,
                    last_seen_at: shared.kept(&pulse, at),
                    departed: None,
                },
                at,
            });
        }
        for _ in 0..shared.departures.len() {
            let Some(departure) = shared.departures.pop() else {
                break;
            };
            dirty.seen.push(Heard {
                room: departure.room,
                id: ParticipantId::default(),
                seen: departure.seen,
                at: departure.heard_at,
            });
        }
        dirty.states = std::mem::take(&mut *shared.states.lock());
        dirty
    }

    /// The store has everything that was collected.
    pub fn flushed(&self) {
        self.shared().unflushed.flushed();
    }

    /// The latest `last_seen_at` among those who left a room, while the store may not know. To be asked after
    /// [`is_live`](Self::is_live): who leaves is noted here before the room stops to be live.
    pub fn departed_last_seen(&self, key: RoomKey) -> Option<Timestamp> {
        self.shared().unflushed.latest(key)
    }

    /// Whether anybody has or awaits a seat in this incarnation, graces included (rule R9).
    pub fn is_live(&self, key: RoomKey) -> bool {
        self.find(key).is_some_and(|room| room.is_live())
    }

    /// How many seats the room has, and the latest sign of life among them.
    pub fn online(&self, key: RoomKey) -> (usize, Option<Timestamp>) {
        self.find(key)
            .map_or((0, None), |room| room.online(self.shared()))
    }

    /// When a participant was last heard of; `None` without a seat.
    pub fn last_seen_at(&self, key: RoomKey, id: ParticipantId) -> Option<Timestamp> {
        self.find(key)?.seen(id, self.shared())
    }

    /// Whether a participant has a seat under this removal count, so that its resume token is good.
    pub fn holds(&self, key: RoomKey, id: ParticipantId, removals: i64) -> bool {
        self.find(key).is_some_and(|room| room.holds(id, removals))
    }

    /// Who is here, ordered by id and after `after`: sequence number, occupancy, people.
    pub fn present(
        &self,
        key: RoomKey,
        after: Option<ParticipantId>,
        limit: usize,
    ) -> (u64, u64, Vec<Present>) {
        self.find(key).map_or((0, 0, Vec::new()), |room| {
            room.present(after, limit, self.shared())
        })
    }

    /// The settings of a live room, as a resume sees them without asking the store.
    pub fn row(&self, key: RoomKey) -> Option<RoomRow> {
        self.find(key)?.live_row()
    }

    /// How many connections watch a room without a seat.
    pub fn observers(&self, key: RoomKey) -> usize {
        self.find(key).map_or(0, |room| room.observers())
    }

    /// Whether a seat could be reserved; changes nothing.
    pub fn admits(&self, row: &RoomRow, id: ParticipantId) -> Result<(), Full> {
        let limit = self.shared().options.connections_per_participant;
        match self.find(row.key) {
            Some(room) => room.admits(id, row.settings.max_participants, limit),
            None if row.settings.max_participants == Some(0) => Err(Full::Room),
            None => self.has_space(),
        }
    }

    /// Whether one more room may be live. Asked before one is made, so many at once may exceed the limit by a few.
    ///
    /// # Errors
    /// [`Full::Rooms`].
    pub fn has_space(&self) -> Result<(), Full> {
        let max = self.shared().options.max_rooms;
        if max == usize::MAX || self.inner.rooms.len() < max {
            Ok(())
        } else {
            Err(Full::Rooms)
        }
    }

    /// Holds a seat for an admission that is being decided.
    pub fn reserve(&self, row: &RoomRow, id: ParticipantId) -> Result<Reservation, Full> {
        self.has_space_for(row.key)?;
        self.reserve_in(row, id)
    }

    /// Whether this room is live, or may become so.
    fn has_space_for(&self, key: RoomKey) -> Result<(), Full> {
        match self.has_space() {
            Err(full) if self.find(key).is_none() => Err(self.count(full)),
            _ => Ok(()),
        }
    }

    fn count(&self, full: Full) -> Full {
        if let Some(limit) = full.limit() {
            self.shared().metrics.limited(limit);
        }
        full
    }

    /// The same in a room that is there by now, however many others are.
    pub fn reserve_in(&self, row: &RoomRow, id: ParticipantId) -> Result<Reservation, Full> {
        let limit = self.shared().options.connections_per_participant;
        let (room, ()) = self.hold(row, |room| {
            room.reserve(id, row.settings.max_participants, limit)
        })?;
        Ok(Reservation::new(self.clone(), room, id, 0))
    }

    /// Whether a place to watch from could be held; changes nothing.
    pub fn admits_observer(&self, key: RoomKey, user_id: &UserId) -> Result<(), Full> {
        let limit = self.shared().options.connections_per_participant;
        self.find(key)
            .map_or(Ok(()), |room| room.admits_observer(user_id, limit))
    }

    /// Holds a place to watch from for an admission that is being decided: an end of the room from here on is an end of
    /// it, and the room's seats know nothing of it.
    pub fn watch(&self, row: &RoomRow, user_id: &UserId) -> Result<Watch, Full> {
        let (shared, limit) = (
            self.shared(),
            self.shared().options.connections_per_participant,
        );
        self.has_space_for(row.key)?;
        let (room, id) = self.hold(row, |room| room.reserve_observer(user_id, limit, shared))?;
        Ok(Watch::new(self.clone(), room, id))
    }

    /// Holds something in a room, which is taken into memory for it.
    fn hold<T>(
        &self,
        row: &RoomRow,
        reserve: impl Fn(&Room) -> Reserve<T>,
    ) -> Result<(Arc<Room>, T), Full> {
        loop {
            let room = self.find_or_make(row);
            match reserve(&room) {
                Reserve::Done(held) => return Ok((room, held)),
                Reserve::Full(full) => {
                    self.tidy(row.key);
                    return Err(self.count(full));
                }
                Reserve::Gone => {
                    self.inner
                        .rooms
                        .remove_if(&row.key, |_, found| Arc::ptr_eq(found, &room));
                    // Whatever is made of this row would be over at once.
                    let now = self.shared().clock.now();
                    if row.ends_at().is_some_and(|end| end <= now) {
                        return Err(Full::Over);
                    }
                }
            }
        }
    }

    /// Holds the seat of a participant that resumes, if it is still held. `None`: it is not, ask the store.
    pub fn resume(
        &self,
        key: RoomKey,
        id: ParticipantId,
        removals: i64,
    ) -> Option<Result<Reservation, Full>> {
        let room = self.find(key)?;
        let limit = self.shared().options.connections_per_participant;
        let held = room
            .reserve_held(id, removals, limit)?
            .map_err(|full| self.count(full));
        Some(held.map(|()| Reservation::new(self.clone(), room, id, removals)))
    }

    /// Ends a room for everybody in it and forgets it.
    pub fn evict(&self, key: RoomKey, ending: Ending) {
        if let Some((_, room)) = self.inner.rooms.remove(&key) {
            room.close(ending, self.shared());
        }
    }

    /// Takes a participant out of a room: it has now been removed so many times.
    pub fn remove(&self, key: RoomKey, id: ParticipantId, removals: i64) {
        if let Some(room) = self.find(key) {
            room.remove(id, removals, self.shared());
            self.tidy(key);
        }
    }

    /// Ends the connections by which a user who was removed from a room observes it.
    pub fn dismiss(&self, key: RoomKey, user_id: &UserId) {
        if let Some(room) = self.find(key) {
            room.dismiss(user_id);
        }
    }

    /// Counts as activity in a room.
    pub fn touch(&self, key: RoomKey, at: Timestamp) {
        if let Some(room) = self.find(key) {
            room.touch(at, self.shared());
        }
    }

    /// Tells a room's members of its new settings.
    pub fn set_row(&self, row: RoomRow) {
        if let Some(room) = self.find(row.key) {
            room.set_row(row, self.shared());
        }
    }

    /// Sends a broadcast of the application to everybody in a room, or to some. It does not count against the budget.
    pub fn announce(
        &self,
        key: RoomKey,
        event: String,
        payload: Box<RawValue>,
        to: Option<Vec<ParticipantId>>,
    ) {
        if let Some(room) = self.find(key) {
            let encoded = Encoded::new(&ServerMessage::Broadcast {
                from: None,
                event,
                payload,
            });
            // Only senders in the room have a budget to exceed.
            let _ = room.broadcast(
                Kind::Broadcast {
                    from: None,
                    to: to.map(Into::into),
                },
                encoded,
                true,
                self.shared(),
            );
        }
    }

    /// How many rooms are in memory: the live ones, and those that are only watched.
    pub fn rooms(&self) -> usize {
        self.inner.rooms.len()
    }

    /// The rooms that are only watched. Walks all rooms.
    pub fn watched_only(&self) -> Vec<RoomKey> {
        let rooms = self.all_rooms().into_iter();
        let watched = rooms.filter(|room| room.observers() > 0 && !room.is_live());
        watched.map(|room| room.key).collect()
    }

    /// How many rooms are live. Walks all rooms.
    pub fn live(&self) -> usize {
        let rooms = self.rooms_in_no_order();
        rooms.iter().filter(|room| room.is_live()).count()
    }

    /// How many seats there are. Walks all rooms.
    pub fn seats(&self) -> usize {
        let rooms = self.rooms_in_no_order();
        rooms.iter().map(|room| room.occupancy()).sum()
    }
}

/// A client has at least this long to fetch a fresh token; more would make short-lived tokens warn at once.
const TOKEN_WARNING: Duration = Duration::from_secs(60);
/// Thousands may fall due in one instant; others get a turn in between.
const JOBS_IN_A_ROW: usize = 128;
/// Checks are put off to multiples of this, so that thousands of connections share a wake-up of the agenda.
const CHECK_GRAIN: u64 = 64;

impl Shared {
    fn tick(&self) -> Ticks {
        Ticks::of(Instant::now(), self.origin)
    }

    fn floor(&self) -> Ticks {
        Ticks(self.floor.load(Ordering::Relaxed))
    }

    fn stamp(&self, at: Ticks) -> Timestamp {
        pulse::stamp(&self.clock, self.origin, at)
    }

    /// What is kept of a moment at which somebody was seen: nothing, of who does not want it.
    fn kept(&self, pulse: &Pulse, at: Timestamp) -> Timestamp {
        if pulse.is_kept() {
            self.options.last_seen_precision.round(at)
        } else {
            Timestamp::from_millis(0)
        }
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    fn depart(&self, departure: Departure) {
        self.unflushed.note(departure.room, departure.heard_at);
        self.departures.push(departure);
    }

    fn check_at(&self, line: &Arc<Line>, at: Ticks) {
        let at = Ticks(at.0.next_multiple_of(CHECK_GRAIN)).instant(self.origin);
        self.agenda.add(at, Job::Check(Arc::downgrade(line)));
    }
}

impl Departure {
    /// Somebody the store admitted who never sat down.
    fn unseated(participant: &ParticipantRow, shared: &Shared) -> Self {
        let last_seen_at = participant.last_seen_at;
        let precision = shared.options.last_seen_precision;
        let departed = Departed {
            // The store keeps none of who does not want it.
            left_at: precision.round(shared.clock.now()).max(last_seen_at),
            generation: participant.generation,
        };
        Self {
            room: participant.room_key,
            seen: Seen {
                key: participant.key,
                last_seen_at,
                departed: Some(departed),
            },
            heard_at: last_seen_at,
        }
    }
}
