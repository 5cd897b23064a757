//! The machine's clock, which all processes of a run read alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Since the machine started, microseconds.
pub fn micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000 + u64::try_from(now.tv_nsec / 1000).unwrap_or_default()
}

/// When that is, or was, as this process counts.
pub fn instant(at: u64) -> Instant {
    let (now, then) = (Instant::now(), micros());
    match at.checked_sub(then) {
        Some(ahead) => now + Duration::from_micros(ahead),
        None => now
            .checked_sub(Duration::from_micros(then - at))
            .unwrap_or(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_found_again() {
        let ahead = instant(micros() + 5_000_000);
        let left = ahead.saturating_duration_since(Instant::now());
        assert!((4.9..5.1).contains(&left.as_secs_f64()), "{left:?}");
        assert!(instant(micros() - 1000) <= Instant::now());
    }
}
