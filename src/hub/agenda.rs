//! What is to happen later: one heap and one task for all rooms and connections, instead of a timer each.
//!
//! A timer and a channel per connection cost more memory than everything else a connection needs; an entry here costs
//! 32 bytes. Entries are never taken out: a job whose reason has gone does nothing.

use std::{cmp::Ordering, collections::BinaryHeap, sync::Weak, time::Duration};

use parking_lot::Mutex;
use rollcall_protocol::ParticipantId;
use tokio::{sync::Notify, time::Instant};

use super::{line::Line, room::Room};

/// A job that is due.
#[derive(Debug)]
pub(super) enum Job {
    /// Send the changes that a room has gathered.
    Publish(Weak<Room>),
    /// See whether a seat's grace is over.
    Grace(Box<(Weak<Room>, ParticipantId)>),
    /// Warn of, or carry out, the end of a room at its maximum age.
    Age(Weak<Room>),
    /// Tell a room's observers that it is about to be idle.
    Idle(Weak<Room>),
    /// Judge a connection's silence.
    Check(Weak<Line>),
    /// Let a connection look for frames again: it is owed a `sync`.
    Nudge(Weak<Line>),
}

/// The agenda looks at least this often, so that a stall of the whole server shows as lateness.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// A server that stood still for this long could hear nobody (PROTOCOL.md, "Liveness").
const STALL: Duration = Duration::from_secs(5);
/// Being this late may be such a stall: it may have begun at any moment of a nap.
const LATE: Duration = STALL.saturating_sub(LONGEST_NAP);

/// Room is given back once so many times more is kept than taken: a crowd that came and went is over.
const SPARSE: usize = 4;
/// What is not worth giving back.
const KEPT: usize = 256;

#[derive(Debug)]
struct Entry {
    at: Instant,
    job: Job,
}

/// Jobs in the order they are due.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: Mutex<BinaryHeap<Entry>>,
    earlier: Notify,
}

/// What [`Agenda::due`] found.
pub(super) struct Due {
    pub(super) jobs: Vec<Job>,
    /// The agenda woke much later than it meant to.
    pub(super) stalled: bool,
}

impl Agenda {
    /// Adds a job.
    pub(super) fn add(&self, at: Instant, job: Job) {
        let is_earliest = {
            let mut entries = self.entries.lock();
            let is_earliest = entries.peek().is_none_or(|first| at < first.at);
            entries.push(Entry { at, job });
            is_earliest
        };
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// Waits until jobs are due and takes them.
    ///
    /// # Cancel safety
    /// Nothing is taken before the last await.
    pub(super) async fn due(&self) -> Due {
        loop {
            let nap_ends = Instant::now() + LONGEST_NAP;
            let first = self.entries.lock().peek().map(|entry| entry.at);
            let until = first.map_or(nap_ends, |at| at.min(nap_ends));
            let meant = until.max(Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.earlier.notified() => {}
            }
            let now = Instant::now();
            let stalled = now.saturating_duration_since(meant) >= LATE;
            let jobs = self.take(now);
            if stalled || !jobs.is_empty() {
                return Due { jobs, stalled };
            }
        }
    }

    fn take(&self, now: Instant) -> Vec<Job> {
        let mut entries = self.entries.lock();
        let mut jobs = Vec::new();
        while entries.peek().is_some_and(|entry| entry.at <= now) {
            jobs.extend(entries.pop().map(|entry| entry.job));
        }
        let used = entries.len();
        if used.max(KEPT) < entries.capacity() / SPARSE {
            entries.shrink_to(2 * used.max(KEPT));
        }
        jobs
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}
