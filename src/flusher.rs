//! Writes what the hub knows and the store does not: last-seen, departures, states, and the rooms' coarse activity.
//!
//! Everything dirty is coalesced per participant, written in one batch each interval, kept when the store is away, and
//! written again after. Rooms go first and are committed before participants, so that a reaper that looks in between
//! sees a living room (TARGETS.md, "Joining against reaping").

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rollcall_protocol::{ParticipantId, Timestamp};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    backoff::{Backoff, jittered},
    hub::{Ending, Heard, Hub},
    metrics::Metrics,
    store::{FlushBatch, Flushed, ParticipantKey, RoomKey, Seen, Store, StoreError},
    telemetry::chain,
};

/// An active room's `last_active_at` advances at most this often, sooner where the room's timeout is short.
const ROOM_EVERY: Duration = Duration::from_secs(60);
/// Retries after a failed flush: soon enough to be back within 2 s of the database (TARGETS.md, "Outages").
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_CAP: Duration = Duration::from_millis(500);

/// Flushes, on its own schedule and when asked. Clones share it.
#[derive(Debug, Clone)]
pub struct Flusher {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    interval: Duration,
    /// Held through a flush: one at a time.
    pending: Mutex<Pending>,
    is_behind: watch::Sender<bool>,
    /// How many flushes have succeeded.
    successes: watch::Sender<u64>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flusher")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// What is yet to be written, coalesced: at most one entry a participant.
#[derive(Debug, Default)]
struct Pending {
    seen: BTreeMap<ParticipantKey, Owed>,
    states: BTreeMap<ParticipantKey, Option<String>>,
    /// When each room's coarse activity was last written.
    rooms: HashMap<RoomKey, Timestamp>,
}

#[derive(Debug)]
struct Owed {
    room: RoomKey,
    id: ParticipantId,
    seen: Seen,
    /// When last heard, which may be more than is kept in the participant's row.
    at: Timestamp,
}

impl Flusher {
    /// A flusher that has not begun.
    pub fn new(hub: Hub, store: Arc<dyn Store>, metrics: Arc<Metrics>, interval: Duration) -> Self {
        let inner = Inner {
            hub,
            store,
            metrics,
            interval,
            pending: Mutex::default(),
            is_behind: watch::Sender::new(false),
            successes: watch::Sender::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Flushes every interval until stopped, or until another node has taken over. A failed flush is repeated with
    /// back-off; the log says so once.
    pub async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_CAP);
        let mut wait = jittered(self.inner.interval);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let started = Instant::now();
            wait = match self.flush().await {
                Ok(()) => {
                    backoff.reset();
                    jittered(self.inner.interval)
                }
                Err(StoreError::Superseded) => return,
                // Counted from the start of the try: one that hung has hurried nobody.
                Err(_) => backoff.next_wait().saturating_sub(started.elapsed()),
            };
        }
    }

    /// Flushes everything that is dirty at the moment of the call.
    ///
    /// # Errors
    /// What could not be written is kept for the next flush.
    ///
    /// # Cancel safety
    /// Dropped on the way, what was collected is kept and written again by the next flush, which is harmless.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let mut pending = self.inner.pending.lock().await;
        let started = Instant::now();
        pending.collect(&self.inner.hub);
        let batch = pending.batch(&self.inner.hub);
        match self.inner.store.flush(&batch).await {
            Ok(flushed) => {
                self.inner
                    .metrics
                    .flushed(batch.participants.len() as u64, started.elapsed());
                self.look_after(&mut pending, &flushed.missing).await;
                pending.written(&batch, &flushed);
                if pending.seen.is_empty() {
                    self.inner.hub.flushed();
                }
                if self.inner.is_behind.send_replace(false) {
                    info!(
                        rows = batch.participants.len(),
                        "flushing works again, nothing was lost"
                    );
                }
                self.inner.successes.send_modify(|count| *count += 1);
                Ok(())
            }
            Err(error) => {
                self.inner.metrics.flush_failed(pending.seen.len());
                let is_news = !self.inner.is_behind.send_replace(true);
                if matches!(error, StoreError::Superseded) {
                    error!("another node has taken the database over; this one stops");
                } else if is_news {
                    warn!(
                        error = %chain(&error),
                        backlog = pending.seen.len(),
                        "flush failed, retrying"
                    );
                }
                Err(error)
            }
        }
    }

    /// Whether the last flush failed. While it is so no admission may be decided: departed participants' last
    /// heartbeats are not in the store, and their room would look idle (rule R9).
    pub fn is_behind(&self) -> bool {
        *self.inner.is_behind.borrow()
    }

    /// Waits until flushing works. Cancel safe.
    pub async fn caught_up(&self) {
        // The sender is in `self`, so the channel cannot be closed.
        let _ = self
            .inner
            .is_behind
            .subscribe()
            .wait_for(|behind| !behind)
            .await;
    }

    /// How many flushes have succeeded since the start.
    pub fn successes(&self) -> u64 {
        *self.inner.successes.borrow()
    }

    /// How many participants are not in the store as they are in memory, after a failed flush.
    pub async fn backlog(&self) -> usize {
        let mut pending = self.inner.pending.lock().await;
        pending.collect(&self.inner.hub);
        pending.seen.len()
    }

    /// Rows that are gone take their seats along: the room was closed behind our back, or the participant removed.
    async fn look_after(&self, pending: &mut Pending, missing: &[ParticipantKey]) {
        // Once a room, however many were in it: others wait for the flush.
        let mut looked: HashMap<RoomKey, bool> = HashMap::new();
        for owed in missing.iter().filter_map(|key| pending.seen.get(key)) {
            let is_there = match looked.get(&owed.room) {
                Some(is_there) => *is_there,
                None => match self.inner.store.room_by_key(owed.room).await {
                    Ok(row) => *looked.entry(owed.room).or_insert(row.is_some()),
                    Err(error) => {
                        error!(error = %chain(&error), room.key = %owed.room, "room not looked at");
                        continue;
                    }
                },
            };
            if is_there {
                self.inner.hub.remove(owed.room, owed.id, i64::MAX);
            } else {
                self.inner.hub.evict(owed.room, Ending::RoomClosed);
            }
        }
    }
}

impl Pending {
    /// Takes over what the hub has, newest last.
    fn collect(&mut self, hub: &Hub) {
        let dirty = hub.collect_dirty();
        for heard in dirty.seen {
            self.seen
                .entry(heard.seen.key)
                .and_modify(|owed| owed.merge(&heard))
                .or_insert(Owed {
                    room: heard.room,
                    id: heard.id,
                    seen: heard.seen,
                    at: heard.at,
                });
        }
        self.states.extend(dirty.states);
    }

    fn batch(&self, hub: &Hub) -> FlushBatch {
        // The newest sign of life in each room, as it is known and as the rows of its people will say it.
        let mut rooms: BTreeMap<RoomKey, (Timestamp, Timestamp)> = BTreeMap::new();
        for owed in self.seen.values() {
            let seen = (owed.at, owed.seen.last_seen_at);
            let newest = rooms.entry(owed.room).or_insert(seen);
            *newest = (newest.0.max(seen.0), newest.1.max(seen.1));
        }
        // Where the rows say less, only the room's own can say when it is idle.
        rooms.retain(|key, (known, told)| *known > *told || self.is_room_due(hub, *key, *known));
        let rooms: Vec<_> = rooms
            .into_iter()
            .map(|(key, (known, _))| (key, known))
            .collect();
        FlushBatch {
            rooms,
            participants: self.seen.values().map(|owed| owed.seen).collect(),
            states: self
                .states
                .iter()
                .map(|(key, state)| (*key, state.clone()))
                .collect(),
        }
    }

    /// A room nobody is in any more is always due: its last word must not be up to a minute early.
    fn is_room_due(&self, hub: &Hub, key: RoomKey, newest: Timestamp) -> bool {
        let Some(row) = hub.row(key) else { return true };
        let every = row
            .settings
            .idle_timeout
            .map_or(ROOM_EVERY, |timeout| ROOM_EVERY.min(timeout / 4));
        self.rooms
            .get(&key)
            .is_none_or(|written| newest.saturating_since(*written) >= every)
    }

    fn written(&mut self, batch: &FlushBatch, flushed: &Flushed) {
        let locked: HashSet<ParticipantKey> = flushed.locked.iter().copied().collect();
        let is_locked = |key: &RoomKey| flushed.locked_rooms.contains(key);
        self.seen.retain(|key, owed| {
            locked.contains(key) || (owed.at > owed.seen.last_seen_at && is_locked(&owed.room))
        });
        self.states.retain(|key, _| locked.contains(key));
        let advanced = batch.rooms.iter().filter(|(key, _)| !is_locked(key));
        self.rooms.extend(advanced.copied());
        // Forgetting a room costs one early write; keeping every room ever seen would grow without bound.
        if let Some(newest) = self.rooms.values().max().copied() {
            self.rooms
                .retain(|_, written| newest.saturating_since(*written) < ROOM_EVERY * 2);
        }
    }
}

impl Owed {
    fn merge(&mut self, heard: &Heard) {
        if heard.id != ParticipantId::default() {
            self.id = heard.id;
        }
        self.at = self.at.max(heard.at);
        let newer = heard.seen;
        self.seen.last_seen_at = self.seen.last_seen_at.max(newer.last_seen_at);
        let generation = |seen: &Seen| seen.departed.map(|departed| departed.generation);
        if generation(&newer) >= generation(&self.seen) {
            self.seen.departed = newer.departed.or(self.seen.departed);
        }
    }
}
