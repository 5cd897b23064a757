//! Milliseconds of this process, small enough for an atomic.

use std::{ops::Add, time::Duration};

use tokio::time::Instant;

/// A moment, in milliseconds since the hub was made, counted from one; zero is [`Ticks::NEVER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticks(pub(super) u64);

impl Ticks {
    /// Before anything that this process heard.
    pub(super) const NEVER: Self = Self(0);
    /// After everything that this process hears.
    pub(super) const FROZEN: Self = Self(u64::MAX);

    /// The tick of `instant`; what was before `origin` counts as `origin`.
    pub(super) fn of(instant: Instant, origin: Instant) -> Self {
        Self(instant.saturating_duration_since(origin).as_millis() as u64 + 1)
    }

    /// The instant of this tick.
    pub(super) fn instant(self, origin: Instant) -> Instant {
        origin + Duration::from_millis(self.0.saturating_sub(1))
    }
}

impl Add<Duration> for Ticks {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as u64))
    }
}
