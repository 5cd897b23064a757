//! The store's clock as this process knows it: one sample at each round trip, everything else derived.

use std::{
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use rollcall_protocol::Timestamp;
use tokio::time::Instant;

/// Turns this process's [`Instant`]s into the store's time.
///
/// A sample pairs the store's now with the instant at which its answer had *arrived*, so a derived time is never later
/// than the store's own (rule R6). Monotonic between samples; a stepped store clock shows at the next sample.
#[derive(Debug, Clone)]
pub struct StoreClock {
    origin: Instant,
    /// The store's time at `origin`, in Unix milliseconds, by the latest sample.
    at_origin: Arc<AtomicI64>,
}

impl StoreClock {
    /// Starts from a first sample, taken now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            origin: Instant::now(),
            at_origin: Arc::new(AtomicI64::new(now.as_millis())),
        }
    }

    /// Takes in the store's now, as an answer that has just arrived gave it.
    pub fn sample(&self, now: Timestamp) {
        // Rounded up, and `at` rounds down: a fraction of a millisecond must not put a derived time ahead of the store.
        let elapsed = millis(self.origin.elapsed()) + 1;
        self.at_origin
            .store(now.as_millis().saturating_sub(elapsed), Ordering::Relaxed);
    }

    /// The store's time at `instant`, to the millisecond, rounded down.
    pub fn at(&self, instant: Instant) -> Timestamp {
        let base = self.at_origin.load(Ordering::Relaxed);
        let offset = match instant.checked_duration_since(self.origin) {
            Some(after) => millis(after),
            None => -millis(self.origin.duration_since(instant)) - 1,
        };
        Timestamp::from_millis(base.saturating_add(offset))
    }

    /// The store's time now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
