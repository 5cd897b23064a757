//! The only place that asks what time it is.
//!
//! Deadlines are `tokio::time::Instant`s and need no clock. Wall time is for what is stored and shown, and for the `exp`
//! of access tokens; liveness never uses it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rollcall_protocol::Timestamp;
use tokio::time::Instant;

/// A source of wall time: the system's, or one that tests drive with tokio's paused time. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual {
        epoch: Timestamp,
        start: Instant,
        step_millis: Arc<AtomicI64>,
    },
}

impl Clock {
    /// The operating system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that reads `epoch` now and moves with tokio's time, so that advancing paused time moves both.
    pub fn manual(epoch: Timestamp) -> Self {
        Self(Source::Manual {
            epoch,
            start: Instant::now(),
            step_millis: Arc::default(),
        })
    }

    /// Steps a manual clock, as an administrator or NTP would; the system's is not ours to step.
    pub fn step(&self, millis: i64) {
        if let Source::Manual { step_millis, .. } = &self.0 {
            step_millis.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// The wall time now, to the millisecond.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the Clock that everybody else must ask"
            )]
            Source::System => chrono::Utc::now().into(),
            Source::Manual {
                epoch,
                start,
                step_millis,
            } => {
                let elapsed = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
                Timestamp::from_millis(
                    epoch.as_millis() + elapsed + step_millis.load(Ordering::Relaxed),
                )
            }
        }
    }

    /// The time of a manual clock, which stands in for every other; `None` of the system's.
    pub(crate) fn manual_now(&self) -> Option<Timestamp> {
        match &self.0 {
            Source::System => None,
            Source::Manual { .. } => Some(self.now()),
        }
    }

    /// How long until `at`; zero if it is past.
    pub fn until(&self, at: Timestamp) -> Duration {
        at.saturating_since(self.now())
    }
}
