//! Deletes rooms in which everybody has been inactive for their idle timeout, and rooms past their maximum age.
//!
//! Order is what makes it safe (rules R1 and R9): candidates by the coarse column; those live in memory are passed over;
//! then a flush, so that whoever left before is in the store; then those still not live are deleted where an exact look
//! under the store's lock agrees. A join in between has moved the room's row, and is seen there.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rollcall_protocol::{RoomId, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    backoff::jittered,
    flusher::Flusher,
    hub::{Ending, Hub},
    metrics::Metrics,
    store::{ReapCriteria, ReapedRoom, RoomKey, Store, StoreError},
    telemetry::chain,
};

/// Rooms looked for at once: where many are idle, finding them is as much work as for one.
const LOOK: u32 = 10_000;
/// Rooms deleted after one flush, and invites and departed participants purged at a time.
const CHUNK: u32 = 1_000;
/// How long an invite outlives its room, so that an old link still says "has expired".
const KEEP_INVITES: Duration = Duration::from_secs(30 * 24 * 3600);
/// Sweeps remembered for `GET /v1/admin/reaps`.
const REMEMBERED: usize = 50;

/// Sweeps, on its own schedule and when asked. Clones share it.
#[derive(Debug, Clone)]
pub struct Reaper {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    store: Arc<dyn Store>,
    flusher: Flusher,
    metrics: Arc<Metrics>,
    terms: ReapTerms,
    /// Not before this, and not before a flush; `None` while another node serves.
    opens_at: Mutex<Option<Instant>>,
    one_at_a_time: tokio::sync::Mutex<()>,
    past: Mutex<VecDeque<Sweep>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaper")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

/// What is swept, and when.
#[derive(Debug, Clone, Copy)]
pub struct ReapTerms {
    /// Which idle rooms go.
    pub criteria: ReapCriteria,
    /// How long participants who left are kept in rooms that live on; `None`: as long as their room.
    pub keep_departed: Option<Duration>,
    /// Between two sweeps.
    pub interval: Duration,
    /// From the take-over to the first sweep: seats that come back after a restart must have been heard.
    pub quiet: Duration,
}

/// What one sweep did.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Sweep {
    /// When it began.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Rooms deleted, or that would have been.
    #[schema(value_type = Vec<String>)]
    pub rooms: Vec<RoomId>,
    /// Participant rows that went with them.
    pub participants: u64,
    /// Whether it only looked.
    pub dry_run: bool,
    /// How long it took.
    pub took_ms: u64,
}

/// Why a sweep did not take place.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Too early after the start, or flushes are failing.
    #[error("the reaper does not sweep in the first heartbeat interval and flush after a start")]
    NotReady(Duration),
    /// The store could not be asked, or the flush before the sweep failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reaper {
    /// A reaper that has not begun.
    pub fn new(
        hub: Hub,
        store: Arc<dyn Store>,
        flusher: Flusher,
        metrics: Arc<Metrics>,
        terms: ReapTerms,
    ) -> Self {
        let inner = Inner {
            hub,
            store,
            flusher,
            metrics,
            terms,
            opens_at: Mutex::default(),
            one_at_a_time: tokio::sync::Mutex::default(),
            past: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// This node has taken the database over: sweeps may begin after the quiet time.
    pub fn open(&self) {
        *self.inner.opens_at.lock() = Some(Instant::now() + self.inner.terms.quiet);
    }

    /// Sweeps every interval until stopped.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(self.inner.terms.interval)) => {}
            }
            match self.sweep(false).await {
                Ok(sweep) if sweep.rooms.is_empty() => {}
                Ok(sweep) => info!(
                    rooms = sweep.rooms.len(),
                    participants = sweep.participants,
                    "reaped idle rooms"
                ),
                Err(error) => warn!(error = %chain(&error), "sweep skipped"),
            }
        }
    }

    /// Sweeps once; with `dry_run` only says what would go.
    ///
    /// # Errors
    /// [`SweepError::NotReady`] too early after a start; a dry run is never too early.
    pub async fn sweep(&self, dry_run: bool) -> Result<Sweep, SweepError> {
        let _turn = self.inner.one_at_a_time.lock().await;
        let started = Instant::now();
        let at = self.inner.store.clock().now();
        if !dry_run {
            self.check_ready(started)?;
        }
        let mut sweep = Sweep {
            at,
            rooms: Vec::new(),
            participants: 0,
            dry_run,
            took_ms: 0,
        };
        self.sweep_rooms(&mut sweep).await?;
        if !dry_run {
            let store = &self.inner.store;
            while store.purge_invites(KEEP_INVITES, CHUNK).await? >= u64::from(CHUNK) {}
            self.look_after_observers().await?;
            if let Some(keep) = self.inner.terms.keep_departed {
                while store.purge_departed(keep, CHUNK).await? >= u64::from(CHUNK) {}
            }
            self.inner.metrics.swept(sweep.rooms.len() as u64);
        }
        sweep.took_ms = started.elapsed().as_millis() as u64;
        self.remember(sweep.clone());
        Ok(sweep)
    }

    async fn sweep_rooms(&self, sweep: &mut Sweep) -> Result<(), StoreError> {
        let mut after = RoomKey(0);
        loop {
            let candidates = self
                .inner
                .store
                .reap_candidates(self.inner.terms.criteria, after, LOOK)
                .await?;
            let Some(last) = candidates.last() else {
                return Ok(());
            };
            after = *last;
            for chunk in candidates.chunks(CHUNK as usize) {
                for room in self.reap(chunk, sweep.dry_run).await? {
                    sweep.participants += room.participants;
                    sweep.rooms.push(room.id);
                }
            }
            if candidates.len() < LOOK as usize {
                return Ok(());
            }
        }
    }

    async fn reap(
        &self,
        candidates: &[RoomKey],
        dry_run: bool,
    ) -> Result<Vec<ReapedRoom>, StoreError> {
        let hub = &self.inner.hub;
        let quiet: Vec<RoomKey> = candidates
            .iter()
            .copied()
            .filter(|key| !hub.is_live(*key))
            .collect();
        if quiet.is_empty() {
            return Ok(Vec::new());
        }
        self.inner.flusher.flush().await?;
        let quiet: Vec<RoomKey> = quiet.into_iter().filter(|key| !hub.is_live(*key)).collect();
        let reaped = self
            .inner
            .store
            .reap(&quiet, self.inner.terms.criteria, dry_run)
            .await?;
        if !dry_run {
            for room in &reaped {
                hub.evict(room.key, Ending::RoomExpired);
            }
        }
        Ok(reaped)
    }

    /// Observers of a room that other software has deleted: no flush finds that out, for there is nothing to write.
    async fn look_after_observers(&self) -> Result<(), StoreError> {
        for key in self.inner.hub.watched_only() {
            if self.inner.store.room_by_key(key).await?.is_none() {
                self.inner.hub.evict(key, Ending::RoomExpired);
            }
        }
        Ok(())
    }

    fn check_ready(&self, now: Instant) -> Result<(), SweepError> {
        let early = match *self.inner.opens_at.lock() {
            Some(opens_at) => opens_at.saturating_duration_since(now),
            None => self.inner.terms.quiet,
        };
        if !early.is_zero() {
            return Err(SweepError::NotReady(early));
        }
        if self.inner.flusher.successes() == 0 {
            return Err(SweepError::NotReady(Duration::from_secs(1)));
        }
        Ok(())
    }

    fn remember(&self, sweep: Sweep) {
        let mut past = self.inner.past.lock();
        past.truncate(REMEMBERED - 1);
        past.push_front(sweep);
    }

    /// The last sweeps, newest first.
    pub fn past(&self) -> Vec<Sweep> {
        self.inner.past.lock().iter().cloned().collect()
    }
}
