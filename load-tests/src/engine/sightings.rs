//! How long it takes until the others are told that somebody came, or left.
//!
//! A member may be told of a newcomer before the newcomer has read its own welcome, and so before anybody knows whose
//! participant that is: the sighting waits for it.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::books::{Books, Step};
use crate::roster::Id;

/// Who was last seen to do what.
#[derive(Debug, Default)]
pub(super) struct Sightings(Mutex<HashMap<Id, Trace>>);

#[derive(Debug)]
enum Trace {
    /// Seen by these, and not yet known.
    Seen(Vec<Instant>),
    /// Was to come at this time.
    Came(Instant),
    /// Said that it leaves.
    Left(Instant),
}

impl Sightings {
    /// Somebody who was to come at this time has been welcomed as new.
    pub(super) fn came(&self, who: Id, due: Instant, books: &Books) {
        if let Some(Trace::Seen(times)) = self.0.lock().insert(who, Trace::Came(due)) {
            for time in times.into_iter().filter(|time| *time >= due) {
                books.took(Step::JoinSeen, time - due);
            }
        }
    }

    /// Somebody is about to say `leave`.
    pub(super) fn leaves(&self, who: Id) {
        self.0.lock().insert(who, Trace::Left(Instant::now()));
    }

    /// Somebody's connection is gone: when the others are told is the server's business.
    pub(super) fn forget(&self, who: Id) {
        self.0.lock().remove(&who);
    }

    /// A member is told of a newcomer.
    pub(super) fn saw_join(&self, who: Id, books: &Books) {
        let now = Instant::now();
        let mut traces = self.0.lock();
        match traces.get_mut(&who) {
            Some(Trace::Came(due)) => books.took(Step::JoinSeen, now - *due),
            Some(Trace::Seen(times)) => times.push(now),
            Some(Trace::Left(_)) | None => drop(traces.insert(who, Trace::Seen(vec![now]))),
        }
    }

    /// A member is told of a leave.
    pub(super) fn saw_leave(&self, who: Id, books: &Books) {
        if let Some(Trace::Left(at)) = self.0.lock().get(&who) {
            books.took(Step::LeaveSeen, at.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id() -> Id {
        Id::read("0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3").unwrap()
    }

    /// The worst of a step, ms, and how many.
    fn seen(books: &Books, step: Step) -> Option<(u64, f64)> {
        let tick = books.tick(0);
        let summary = tick.steps.get(&step)?.summary();
        Some((summary.count, summary.max_ms.round()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_join_is_timed_from_when_it_was_due_whoever_is_told_first() {
        let (books, sightings, due) = (Books::default(), Sightings::default(), Instant::now());
        tokio::time::advance(Duration::from_millis(20)).await;
        sightings.saw_join(id(), &books);
        sightings.came(id(), due, &books);
        tokio::time::advance(Duration::from_millis(10)).await;
        sightings.saw_join(id(), &books);
        assert_eq!(seen(&books, Step::JoinSeen), Some((2, 30.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_of_the_life_before_is_not_this_one() {
        let (books, sightings) = (Books::default(), Sightings::default());
        sightings.saw_join(id(), &books);
        tokio::time::advance(Duration::from_millis(5)).await;
        sightings.came(id(), Instant::now(), &books);
        assert_eq!(seen(&books, Step::JoinSeen), None);
        sightings.leaves(id());
        tokio::time::advance(Duration::from_millis(7)).await;
        sightings.saw_leave(id(), &books);
        assert_eq!(seen(&books, Step::LeaveSeen), Some((1, 7.0)));
        sightings.forget(id());
        sightings.saw_leave(id(), &books);
        assert_eq!(seen(&books, Step::LeaveSeen), None);
    }
}
