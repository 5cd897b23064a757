//! What may go wrong with the store, on the world's schedule; and what was asked of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rollcall::store::StoreError;
use tokio::time::{Instant, sleep};

use crate::log::Log;

/// How a store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// Every call fails at once.
    Refusing,
    /// Every call takes all the time it may, then fails.
    Hanging,
}

/// What is wrong at the moment. Counters name the next so many calls.
#[derive(Debug, Default)]
pub struct State {
    pub away: Option<Away>,
    pub slow: Option<Duration>,
    /// Commits of joins that are applied, and whose answer is lost.
    pub lost_commits: u32,
    /// The same of flushes.
    pub lost_flushes: u32,
    /// Join transactions in which somebody else holds a row.
    pub contended: u32,
    /// Join transactions that fail for somebody else's lock.
    pub locked_joins: u32,
    /// Flushes that find some rows locked.
    pub locked_rows: u32,
    counts: BTreeMap<&'static str, u64>,
    /// Calls under way, open join transactions included.
    pub in_flight: usize,
    disturbed: Option<Instant>,
    /// When a flush failed, unless one has succeeded since.
    flush_failed: Option<Instant>,
    /// When the last successful flush began, and the store's time then.
    flushed: Option<Instant>,
    flushed_store: i64,
    /// Of this node.
    started: Option<Instant>,
    has_flushed: bool,
}

/// Shared by the world and every handle of the store.
#[derive(Clone)]
pub struct Faults {
    pub state: Arc<Mutex<State>>,
    log: Log,
}

/// A call under way.
pub struct Call(Arc<Mutex<State>>);

/// As the contract says: every call is bounded.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// No sweep in the first heartbeat interval.
const QUIET: Duration = Duration::from_secs(30);

impl Faults {
    pub fn new(log: Log) -> Self {
        Self {
            state: Arc::default(),
            log,
        }
    }

    /// A new node begins.
    pub fn node_starts(&self) {
        let mut state = self.state.lock();
        state.started = Some(Instant::now());
        (state.has_flushed, state.flush_failed) = (false, None);
    }

    /// Everything works again.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        if !state.is_fine() {
            state.disturbed = Some(Instant::now());
        }
        (state.away, state.slow) = (None, None);
        (state.lost_commits, state.lost_flushes) = (0, 0);
        (state.contended, state.locked_joins, state.locked_rows) = (0, 0, 0);
    }

    /// How long nothing has been wrong; zero while anything is.
    pub fn fine_for(&self) -> Duration {
        let state = self.state.lock();
        match (state.is_fine(), state.disturbed) {
            (false, _) => Duration::ZERO,
            (true, Some(at)) => at.elapsed(),
            (true, None) => Duration::MAX,
        }
    }

    /// When the last flush that succeeded began.
    pub fn flushed(&self) -> Option<Instant> {
        self.state.lock().flushed
    }

    /// The store's time then.
    pub fn flushed_store(&self) -> i64 {
        self.state.lock().flushed_store
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().counts.clone()
    }

    /// Counts a call, lets it be slow, and fails it while the store is away.
    pub async fn enter(&self, what: &'static str) -> Result<Call, StoreError> {
        let (away, slow) = {
            let mut state = self.state.lock();
            *state.counts.entry(what).or_default() += 1;
            state.in_flight += 1;
            (state.away, state.slow)
        };
        let call = Call(Arc::clone(&self.state));
        match (away, slow) {
            (Some(Away::Hanging), _) => sleep(CALL_LIMIT).await,
            (None, Some(slow)) => sleep(slow).await,
            _ => {}
        }
        let mut state = self.state.lock();
        if away.is_some() || state.away.is_some() {
            state.disturbed = Some(Instant::now());
            return Err(unavailable("away"));
        }
        drop(state);
        Ok(call)
    }

    /// Whether this one is of the next so many that go wrong.
    pub fn strikes(&self, which: impl Fn(&mut State) -> &mut u32) -> bool {
        let mut state = self.state.lock();
        let left = which(&mut state);
        let strikes = *left > 0;
        *left -= u32::from(strikes);
        if strikes {
            state.disturbed = Some(Instant::now());
        }
        strikes
    }

    /// Takes note of a flush that began at `began`.
    pub fn flush_ended(&self, began: Instant, succeeded: bool) {
        if succeeded {
            self.log.heard(began);
        }
        let mut state = self.state.lock();
        if succeeded {
            state.has_flushed = true;
            (state.flushed, state.flush_failed) = (Some(began), None);
            // Not later than what the store took note of.
            state.flushed_store = self.log.now() - began.elapsed().as_millis() as i64;
        } else {
            state.flush_failed.get_or_insert_with(Instant::now);
        }
    }

    /// R9: after an outage a flush goes before the first admission.
    pub fn check_admission(&self, asked: Instant) {
        let failed = self.state.lock().flush_failed;
        if failed.is_some_and(|failed| failed < asked) {
            self.log
                .fail("R9: a join was written while the flush was behind");
        }
    }

    /// R9: no sweep before the first heartbeat interval and flush.
    pub fn check_sweep(&self) {
        let state = self.state.lock();
        let is_early = state.started.is_none_or(|at| at.elapsed() < QUIET) || !state.has_flushed;
        drop(state);
        if is_early {
            self.log.fail("R9: a sweep too early after the start");
        }
    }
}

impl State {
    fn is_fine(&self) -> bool {
        let waiting = [
            self.lost_commits,
            self.lost_flushes,
            self.contended,
            self.locked_joins,
            self.locked_rows,
        ];
        self.away.is_none() && self.slow.is_none() && waiting.iter().all(|left| *left == 0)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

pub fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}
