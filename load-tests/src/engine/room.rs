//! A room, and whether it must be alive by what its people know of themselves (PROTOCOL.md, "Idle").

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::record::{Record, Standing};

/// Nobody is judged by what happened so near to the moment: clocks are read, and frames travel.
const EARLY: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(3);

/// A room whose people are all in this process.
#[derive(Debug)]
pub(super) struct Room {
    pub id: String,
    /// How long an empty one is kept; `None`: longer than any run.
    pub idle: Option<Duration>,
    pub people: Vec<Arc<Record>>,
}

/// Whether a room lets people in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It must.
    Alive,
    /// It must not.
    Idle,
    /// It depends on a moment that cannot be known from here.
    Unsure,
}

impl Room {
    /// Whether it lets people in now.
    pub(super) fn verdict(&self) -> Verdict {
        let Some(idle) = self.idle else {
            return Verdict::Alive;
        };
        let now = Instant::now();
        let mut until = None;
        for person in &self.people {
            match person.look(|state| (state.standing, state.spoke_at)) {
                (Standing::Out, _) => {}
                (Standing::In, _) => return Verdict::Alive,
                (Standing::Left(at), _) => until = until.max(Some(at + idle)),
                (Standing::Cut { until: held, at }, spoke_at) => {
                    until = until.max(Some(held.max(spoke_at.unwrap_or(at) + idle)));
                }
            }
        }
        match until {
            // When it was made is not known here.
            None => Verdict::Unsure,
            Some(until) if now + EARLY < until => Verdict::Alive,
            Some(until) if now > until + LATE => Verdict::Idle,
            Some(_) => Verdict::Unsure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(idle: u64, people: &[&Arc<Record>]) -> Room {
        Room {
            id: String::new(),
            idle: Some(Duration::from_secs(idle)),
            people: people.iter().map(|person| Arc::clone(person)).collect(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_dies_when_the_last_has_been_gone_for_long_enough() {
        let (ada, grace) = (Arc::new(Record::default()), Arc::new(Record::default()));
        let room = room(6, &[&ada, &grace]);
        assert_eq!(room.verdict(), Verdict::Unsure);
        ada.left();
        grace.cut(Duration::from_secs(10));
        let mut seen = Vec::new();
        for _ in 0..15 {
            seen.push(room.verdict());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let count = |verdict| seen.iter().filter(|seen| **seen == verdict).count();
        assert_eq!((count(Verdict::Alive), count(Verdict::Unsure)), (9, 5));
        assert_eq!(seen.last(), Some(&Verdict::Idle));
    }
}
