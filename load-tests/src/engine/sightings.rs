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
