//! Waiting for what nobody announces.

use std::{thread, time::Duration};

/// Far beyond what a busy machine needs, so that passing it means that something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; `None` once [`PATIENCE`] is spent.
pub(crate) fn poll<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let rounds = PATIENCE.as_millis() / INTERVAL.as_millis();
    (0..rounds).find_map(|_| {
        ask().or_else(|| {
            thread::sleep(INTERVAL);
            None
        })
    })
}

/// Short beside the tenths of a second that a server takes to start.
const INTERVAL: Duration = Duration::from_millis(10);
