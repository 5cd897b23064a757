//! What a client does by itself, as data: scenario files will be lists of these.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What a client does, and how often; nothing by default.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Script {
    /// Sends a heartbeat, and times its answer.
    pub heartbeat: Option<Duration>,
    /// Broadcasts a cursor, which the others time.
    pub cursor: Option<Duration>,
    /// Changes its state.
    pub update: Option<Duration>,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Send a heartbeat.
    Heartbeat,
    /// Broadcast a cursor.
    Cursor,
    /// Change the state.
    Update,
}

/// A script in the course of being carried out.
#[derive(Debug, Default)]
pub struct Course {
    acts: Vec<Recurring>,
}

#[derive(Debug)]
struct Recurring {
    act: Act,
    every: Duration,
    at: Instant,
}

impl Script {
    /// Begins. `share` from 0 to 1 spreads clients over the first interval, so that they do not all speak at once.
    pub fn begin(&self, now: Instant, share: f64) -> Course {
        let acts = [
            (Act::Heartbeat, self.heartbeat),
            (Act::Cursor, self.cursor),
            (Act::Update, self.update),
        ];
        let acts = acts.into_iter().filter_map(|(act, every)| {
            let every = every?;
            Some(Recurring {
                act,
                every,
                at: now + every.mul_f64(share),
            })
        });
        Course {
            acts: acts.collect(),
        }
    }
}

impl Course {
    /// When there is something to do next; `None`: never.
    pub fn next_at(&self) -> Option<Instant> {
        self.acts.iter().map(|recurring| recurring.at).min()
    }

    /// What is to be done now. The next time follows from the last, however late this is: a slow server is not spared.
    pub fn take(&mut self, now: Instant) -> Option<Act> {
        let due = self.acts.iter_mut().filter(|recurring| recurring.at <= now);
        let first = due.min_by_key(|recurring| recurring.at)?;
        first.at += first.every;
        Some(first.act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_come_in_order_and_none_is_skipped() {
        let now = Instant::now();
        let script = Script {
            heartbeat: Some(Duration::from_secs(3)),
            update: Some(Duration::from_secs(2)),
            ..Script::default()
        };
        let mut course = script.begin(now, 0.5);
        assert_eq!(course.next_at(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(4);
        let acts: Vec<Act> = std::iter::from_fn(|| course.take(later)).collect();
        assert_eq!(acts, [Act::Update, Act::Heartbeat, Act::Update]);
        assert_eq!(Script::default().begin(now, 0.0).next_at(), None);
    }
}
