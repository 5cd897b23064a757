//! When a participant was last seen, and whether the store knows.
//!
//! A heartbeat is one store into an atomic and at most one push per flush (rule R7); nothing here takes a lock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use crossbeam_queue::SegQueue;
use rollcall_protocol::{ParticipantId, Timestamp};

use super::Ticks;
use crate::store::{ParticipantKey, ParticipantRow, RoomKey, StoreClock};

/// The last sign of life of one seat.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The room's incarnation.
    pub room: RoomKey,
    /// The participant's row.
    pub key: ParticipantKey,
    /// The participant's id.
    pub id: ParticipantId,
    seen: AtomicU64,
    /// The latest value given out, so that a later clock sample cannot take it back by a millisecond: what a leave
    /// frame says and what the store gets are the same.
    stamped: AtomicI64,
    is_dirty: AtomicBool,
    is_kept: AtomicBool,
}

impl Pulse {
    /// A pulse last felt `now`, of a participant as the store has it.
    pub(super) fn new(row: &ParticipantRow, now: Ticks) -> Self {
        Self {
            room: row.room_key,
            key: row.key,
            id: row.id,
            seen: AtomicU64::new(now.0),
            stamped: AtomicI64::new(row.last_seen_at.as_millis()),
            is_dirty: AtomicBool::new(false),
            is_kept: AtomicBool::new(row.keeps_last_seen),
        }
    }

    /// Notes a sign of life. Costs two atomic writes and, once per flush, one push.
    pub(super) fn touch(self: &Arc<Self>, now: Ticks, dirty: &SegQueue<Arc<Self>>) {
        self.seen.fetch_max(now.0, Ordering::Relaxed);
        if !self.is_dirty.load(Ordering::Relaxed) && !self.is_dirty.swap(true, Ordering::AcqRel) {
            dirty.push(Arc::clone(self));
        }
    }

    /// Takes the dirty mark off, then reads: a touch in between marks it again, so none is lost.
    pub(super) fn collect(&self, stamp: impl Fn(Ticks) -> Timestamp) -> Timestamp {
        self.is_dirty.store(false, Ordering::Release);
        self.last_seen_at(stamp)
    }

    /// The moment of the last sign of life, never earlier than an answer given before.
    pub(super) fn last_seen_at(&self, stamp: impl Fn(Ticks) -> Timestamp) -> Timestamp {
        let at = stamp(Ticks(self.seen.load(Ordering::Relaxed))).as_millis();
        let before = self.stamped.fetch_max(at, Ordering::Relaxed);
        Timestamp::from_millis(before.max(at))
    }

    /// Nothing counts any more: the last value given out is what the others were told, and what the store is to get,
    /// whatever becomes of its clock meanwhile.
    pub(super) fn freeze(&self) {
        self.seen.store(Ticks::FROZEN.0, Ordering::Relaxed);
    }

    /// Moves the floor: the store has this already. Whoever joins says again whether it is kept.
    pub(super) fn stored(&self, row: &ParticipantRow) {
        self.stamped
            .fetch_max(row.last_seen_at.as_millis(), Ordering::Relaxed);
        self.is_kept.store(row.keeps_last_seen, Ordering::Relaxed);
    }

    /// Whether it is kept when this participant was seen.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// For a seat restored from the store: nothing was heard in this process.
    pub(super) fn restored(row: &ParticipantRow) -> Self {
        Self::new(row, Ticks::NEVER)
    }
}

/// The store's time at a tick of this process; the beginning of time for what this process never heard, or hears no more.
pub(super) fn stamp(clock: &StoreClock, origin: tokio::time::Instant, at: Ticks) -> Timestamp {
    if at == Ticks::NEVER || at == Ticks::FROZEN {
        Timestamp::from_millis(0)
    } else {
        clock.at(at.instant(origin))
    }
}
