//! Who was seen to leave, by whoever saw it: what a replayed roster forgets.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{message::Person, moment::Moment, roster::Id};

/// A leave that a client was told of.
#[derive(Debug, Clone)]
pub struct Departure {
    /// Who left.
    pub who: Id,
    /// `left`, `timeout` or `removed`.
    pub reason: String,
    /// When they were last seen; `None`: it does not say.
    pub last_seen_at: Option<Moment>,
    /// When the client read it.
    pub told_at: Instant,
}

/// What clients were told, in order; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Departures(Arc<Mutex<Vec<Departure>>>);

impl Departures {
    /// Writes one down.
    pub fn note(&self, left: &Person<'_>) {
        // A leave without an id is the replayer's business.
        let Some(who) = Id::read(left.id) else { return };
        self.0.lock().push(Departure {
            who,
            reason: left.reason.unwrap_or_default().to_owned(),
            last_seen_at: left.last_seen_at.and_then(Moment::read),
            told_at: Instant::now(),
        });
    }

    /// All so far.
    pub fn all(&self) -> Vec<Departure> {
        self.0.lock().clone()
    }

    /// Those since last taken.
    pub fn take(&self) -> Vec<Departure> {
        std::mem::take(&mut *self.0.lock())
    }
}
