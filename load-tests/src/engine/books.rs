//! What the people of one process have seen, second by second.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    measure::latency::{Latency, Recorded},
    tally::{Tally, Traffics},
};

/// What is timed. Everything that was planned is timed from when it was due, however late it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// From when somebody was to come to the upgrade: TCP connect, request, 101.
    Connect,
    /// From when somebody was to come to their welcome; a resumed seat is [`Step::Resume`].
    Welcome,
    /// From when somebody was to come back to the welcome with `resumed`.
    Resume,
    /// From losing the connection to the next welcome, waiting and every attempt included.
    Back,
    /// From when somebody was to come to the refusal that they were to get.
    Refusal,
    /// From when a heartbeat was to be sent to its answer.
    Heartbeat,
    /// From when somebody was to come until another member, each counted, was told.
    JoinSeen,
    /// From sending `leave` until another member, each counted, was told.
    LeaveSeen,
    /// From when a broadcast was to be sent until another member, each counted, had it.
    Broadcast,
}

impl Step {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Welcome,
        Self::Resume,
        Self::Back,
        Self::Refusal,
        Self::Heartbeat,
        Self::JoinSeen,
        Self::LeaveSeen,
        Self::Broadcast,
    ];

    /// As thresholds call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Welcome => "welcome",
            Self::Resume => "resume",
            Self::Back => "back",
            Self::Refusal => "refusal",
            Self::Heartbeat => "heartbeat",
            Self::JoinSeen => "join_seen",
            Self::LeaveSeen => "leave_seen",
            Self::Broadcast => "broadcast",
        }
    }
}

/// The books of one process.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Frames received, and faults.
    pub tally: Arc<Tally>,
    steps: [Latency; Step::ALL.len()],
    /// Of this second.
    entries: Mutex<BTreeMap<String, u64>>,
    /// Of the whole run.
    counts: Mutex<BTreeMap<String, u64>>,
    sent: AtomicU64,
    open: AtomicU64,
    /// On their way in.
    trying: AtomicU64,
}

/// One second of one process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tick {
    /// Which second of the run has just ended.
    pub second: u64,
    /// Connections that are welcomed and open.
    pub open: u64,
    /// Attempts to enter by what came of them.
    pub entries: BTreeMap<String, u64>,
    /// Everything received since the beginning.
    pub traffic: Traffics,
    /// Frames sent since the beginning.
    pub sent: u64,
    /// Latencies.
    pub steps: BTreeMap<Step, Recorded>,
    /// Faults since the beginning.
    pub faults: u64,
    /// Processor time of this process since the beginning, seconds.
    pub cpu_seconds: f64,
    /// How late this process was.
    pub lag: Recorded,
}

/// Counts something for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Books {
    pub(super) fn took(&self, step: Step, time: Duration) {
        self.steps[step as usize].record(time);
    }

    pub(super) fn entry(&self, outcome: &str) {
        count(&self.entries, outcome, 1);
    }

    /// Counts what has no second of its own.
    pub(super) fn count(&self, what: &str) {
        count(&self.counts, what, 1);
    }

    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().clone()
    }

    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has been welcomed.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// It is no more.
    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Somebody is on their way in, until this is dropped.
    pub(super) fn trying(&self) -> Counted<'_> {
        self.trying.fetch_add(1, Ordering::Relaxed);
        Counted(&self.trying)
    }

    /// How many are on their way in.
    pub(super) fn on_their_way(&self) -> u64 {
        self.trying.load(Ordering::Relaxed)
    }

    /// Closes a second.
    pub(super) fn tick(&self, second: u64) -> Tick {
        let steps = Step::ALL
            .iter()
            .map(|step| (*step, self.steps[*step as usize].drain()));
        Tick {
            second,
            open: self.open.load(Ordering::Relaxed),
            entries: std::mem::take(&mut *self.entries.lock()),
            traffic: self.tally.traffic(),
            sent: self.sent.load(Ordering::Relaxed),
            faults: self.tally.faults().total(),
            steps: steps.filter(|(_, recorded)| !recorded.is_empty()).collect(),
            ..Tick::default()
        }
    }
}

fn count(counts: &Mutex<BTreeMap<String, u64>>, what: &str, by: u64) {
    let mut counts = counts.lock();
    match counts.get_mut(what) {
        Some(count) => *count += by,
        None => drop(counts.insert(what.to_owned(), by)),
    }
}
