//! Watching a room without a seat, and what observers are told before it is idle.
//!
//! To the outlet an observer is a reader like any other; to the roster, the flusher and the reaper there is none. All that
//! is kept of them here is who they are, so that their connections can be counted and ended.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use rollcall_protocol::{ExpiryReason, ServerMessage, Timestamp, UserId};
use tokio::time::Instant;

use super::{
    super::{
        Encoded, Ending, Shared, Welcome,
        agenda::Job,
        line::Line,
        outlet::{Frame, Kind, ListenerId},
    },
    End, Full, Inner, Reserve, Room, next_look,
};

/// One observing connection of a room, by its user and a number that is not used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::hub) struct ObserverId {
    user_id: UserId,
    number: u64,
}

/// Who watches a room, and what they know of its end.
#[derive(Debug, Default)]
pub(super) struct Observers {
    /// With their places in the outlet; `None`: admitted, and not connected yet.
    all: BTreeMap<ObserverId, Option<ListenerId>>,
    next_number: u64,
    /// The moment of idleness that they were told last.
    told: Option<Timestamp>,
    /// When the agenda looks next whether they are to be told.
    due: Option<Instant>,
}

impl Observers {
    /// Whether nobody watches or is about to.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn admits(&self, user_id: &UserId, max_connections: usize) -> Result<(), Full> {
        if self.all.range(of(user_id)).count() >= max_connections {
            Err(Full::Connections)
        } else {
            Ok(())
        }
    }
}

/// Everything that one user may have.
fn of(user_id: &UserId) -> RangeInclusive<ObserverId> {
    let id = |number| ObserverId {
        user_id: user_id.clone(),
        number,
    };
    id(0)..=id(u64::MAX)
}

impl Room {
    /// Whether [`reserve_observer`](Self::reserve_observer) would succeed; changes nothing.
    pub(in crate::hub) fn admits_observer(
        &self,
        user_id: &UserId,
        max_connections: usize,
    ) -> Result<(), Full> {
        let inner = self.inner.lock();
        inner.observers.admits(user_id, max_connections)
    }

    /// Holds a place for an observer, if the user's own limit has one. From here on the room stays in memory, so that
    /// whatever ends it finds the observer.
    pub(in crate::hub) fn reserve_observer(
        &self,
        user_id: &UserId,
        max_connections: usize,
        shared: &Shared,
    ) -> Reserve<ObserverId> {
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            return Reserve::Gone;
        }
        if let Err(full) = inner.observers.admits(user_id, max_connections) {
            return Reserve::Full(full);
        }
        // Whoever leaves from here on is noted here; whoever left before is in the store, or there.
        inner.note_activity(shared.unflushed.latest(self.key));
        let id = ObserverId {
            user_id: user_id.clone(),
            number: inner.observers.next_number,
        };
        inner.observers.next_number += 1;
        inner.observers.all.insert(id.clone(), None);
        Reserve::Done(id)
    }

    /// Turns a reservation into a connection. `last_activity` is what the store knew after the reservation.
    ///
    /// # Errors
    /// The room ended, or the user was removed from it, since the reservation.
    pub(in crate::hub) fn observe(
        self: &Arc<Self>,
        id: &ObserverId,
        last_activity: Timestamp,
        line: &Arc<Line>,
        shared: &Shared,
    ) -> Result<(ListenerId, Welcome), Ending> {
        let mut inner = self.inner.lock();
        if let Some(End::Over(ending)) = inner.end {
            return Err(ending);
        }
        if !inner.observers.all.contains_key(id) {
            return Err(Ending::Removed);
        }
        inner.note_activity(Some(last_activity));
        // Before it listens: what is due now it is told with its welcome.
        self.mind_idle(&mut inner, shared);
        let listener = inner.outlet.listen(Arc::clone(line), None);
        inner.observers.all.insert(id.clone(), Some(listener));
        if shared.is_draining() {
            // Admitted before the drain began, connected after it told everybody.
            line.end(Ending::Stopping);
        }
        let idle = inner.idle_warning().map(|at| (at, ExpiryReason::Idle));
        let welcome = Welcome {
            room: inner.row.view(),
            shown: inner.shown(None, shared),
            expiring: inner.age_warning().into_iter().chain(idle).collect(),
            resumed: false,
        };
        Ok((listener, welcome))
    }

    /// Forgets an observer, or a reservation of one.
    pub(in crate::hub) fn unobserve(&self, id: &ObserverId, listener: Option<ListenerId>) {
        let mut inner = self.inner.lock();
        if let Some(listener) = listener {
            inner.outlet.silence(listener);
        }
        inner.observers.all.remove(id);
    }

    /// Ends whatever connections a user observes by; reservations are void.
    pub(in crate::hub) fn dismiss(&self, user_id: &UserId) {
        let mut inner = self.inner.lock();
        let theirs: Vec<ObserverId> = inner
            .observers
            .all
            .range(of(user_id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in theirs {
            let listener = inner.observers.all.remove(&id).flatten();
            if let Some(line) = listener.and_then(|listener| inner.outlet.line(listener)) {
                line.end(Ending::Removed);
            }
        }
    }

    /// How many connections observe.
    pub(in crate::hub) fn observers(&self) -> usize {
        let inner = self.inner.lock();
        inner.observers.all.values().flatten().count()
    }

    /// The application counts something as activity.
    pub(in crate::hub) fn touch(self: &Arc<Self>, at: Timestamp, shared: &Shared) {
        let mut inner = self.inner.lock();
        inner.note_activity(Some(at));
        self.mind_idle(&mut inner, shared);
    }

    /// Looks whether observers are to be told because the agenda says so.
    pub(in crate::hub) fn idle(self: &Arc<Self>, shared: &Shared) {
        let mut inner = self.inner.lock();
        inner.observers.due = None;
        self.mind_idle(&mut inner, shared);
    }

    /// Once nobody has or awaits a seat: tells the observers, once for each moment, that the room is idle then.
    pub(super) fn mind_idle(self: &Arc<Self>, inner: &mut Inner, shared: &Shared) {
        if inner.observers.is_empty() || inner.end.is_some() {
            return;
        }
        let Some(idle_at) = inner.idle_at() else {
            return;
        };
        if inner.observers.told == Some(idle_at) {
            return;
        }
        let left = idle_at.saturating_since(shared.clock.now());
        let warning = shared.options.expiry_warning;
        if left > warning {
            let due = next_look(left - warning);
            if inner.observers.due.is_none_or(|planned| due < planned) {
                inner.observers.due = Some(due);
                shared.agenda.add(due, Job::Idle(Arc::downgrade(self)));
            }
            return;
        }
        inner.observers.told = Some(idle_at);
        // First that the last one went.
        inner.publish(shared);
        inner.outlet.push(Frame {
            encoded: Encoded::new(&idle_warning(idle_at)),
            kind: Kind::Idle,
        });
    }
}

impl Inner {
    /// When the room is idle if nobody comes; `None` if somebody has or awaits a seat, or never.
    fn idle_at(&self) -> Option<Timestamp> {
        let is_empty = self.occupants.is_empty();
        is_empty
            .then(|| self.row.idle_at(self.last_activity))
            .flatten()
    }

    /// The moment of idleness that observers have been told and that still holds.
    pub(super) fn idle_warning(&self) -> Option<Timestamp> {
        self.observers
            .told
            .filter(|told| self.idle_at() == Some(*told))
    }

    /// Takes in a sign of life of somebody who has no seat any more, or of the room itself.
    pub(super) fn note_activity(&mut self, at: Option<Timestamp>) {
        self.last_activity = at.map_or(self.last_activity, |at| at.max(self.last_activity));
    }
}

/// What observers are told.
pub(super) fn idle_warning(expires_at: Timestamp) -> ServerMessage {
    ServerMessage::RoomExpiring {
        expires_at,
        reason: ExpiryReason::Idle,
    }
}
