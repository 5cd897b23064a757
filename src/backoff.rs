//! Waiting longer after each failure, never in step with others.

use std::time::Duration;

use crate::chance;

/// Full-jitter exponential back-off: each wait is drawn between a floor and a ceiling that doubles up to a cap.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// The first ceiling, and the cap.
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
        }
    }

    /// How long to wait after one more failure.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let ceiling = self
            .first
            .saturating_mul(1 << self.failures.min(16))
            .min(self.cap);
        self.failures += 1;
        ceiling.mul_f64(chance::between(0.5, 1.0))
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `interval`, a tenth more or less, so that several nodes and tasks do not tick together.
pub(crate) fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(chance::between(0.9, 1.1))
}
