//! What a group of clients has seen, together.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    fault::{Fault, Faults},
    measure::latency::Latency,
    wire::Frame,
};

/// The messages that are told apart, in the order of [`Tally`]'s counters; the last is everything else.
const KINDS: [&str; 7] = [
    "welcome",
    "presence",
    "sync",
    "broadcast",
    "heartbeat_ack",
    "error",
    "other",
];

/// What clients have seen.
#[derive(Debug, Default)]
pub struct Tally {
    frames: [AtomicU64; KINDS.len()],
    bytes: [AtomicU64; KINDS.len()],
    /// Bytes of a presence frame that says one join, or one leave, and nothing else.
    single_join: AtomicU64,
    single_leave: AtomicU64,
    /// From wanting to enter to the welcome.
    pub welcomes: Latency,
    /// From a heartbeat to its answer.
    pub acks: Latency,
    /// From a cursor's broadcast to its receipt by another client of this process.
    pub broadcasts: Latency,
    faults: Mutex<Faults>,
}

/// Frames and bytes of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Bytes on the wire, headers included.
    pub bytes: u64,
}

/// Traffic by kind of message.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Traffics(pub BTreeMap<String, Traffic>);

impl Tally {
    /// Counts a frame.
    pub fn received(&self, kind: &str, frame: &Frame) {
        let at = KINDS
            .iter()
            .position(|known| *known == kind)
            .unwrap_or(KINDS.len() - 1);
        self.frames[at].fetch_add(1, Ordering::Relaxed);
        self.bytes[at].fetch_add(frame.wire_bytes as u64, Ordering::Relaxed);
    }

    /// Notes the size of a frame of one join or one leave.
    pub fn saw_single(&self, joins: usize, leaves: usize, wire_bytes: usize) {
        match (joins, leaves) {
            (1, 0) => self.single_join.store(wire_bytes as u64, Ordering::Relaxed),
            (0, 1) => self
                .single_leave
                .store(wire_bytes as u64, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Bytes of a frame of one join, and of one leave, if one was seen.
    pub fn singles(&self) -> (Option<u64>, Option<u64>) {
        let seen =
            |bytes: &AtomicU64| Some(bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0);
        (seen(&self.single_join), seen(&self.single_leave))
    }

    /// All traffic so far.
    pub fn traffic(&self) -> Traffics {
        let kinds = KINDS.iter().zip(self.frames.iter().zip(&self.bytes));
        let traffics = kinds.map(|(kind, (frames, bytes))| {
            let traffic = Traffic {
                frames: frames.load(Ordering::Relaxed),
                bytes: bytes.load(Ordering::Relaxed),
            };
            ((*kind).to_owned(), traffic)
        });
        Traffics(traffics.collect())
    }

    /// Counts a fault.
    pub fn fault(&self, fault: Fault, example: impl AsRef<str>) {
        self.faults.lock().add(fault, example);
    }

    /// Lets somebody count faults.
    pub fn with_faults<T>(&self, look: impl FnOnce(&mut Faults) -> T) -> T {
        let mut found = Faults::default();
        let seen = look(&mut found);
        if !found.is_empty() {
            self.faults.lock().merge(found);
        }
        seen
    }

    /// The faults so far.
    pub fn faults(&self) -> Faults {
        self.faults.lock().clone()
    }
}

impl Traffics {
    /// One kind.
    pub fn of(&self, kind: &str) -> Traffic {
        self.0.get(kind).copied().unwrap_or_default()
    }

    /// These kinds together.
    pub fn sum(&self, kinds: &[&str]) -> Traffic {
        kinds
            .iter()
            .map(|kind| self.of(kind))
            .fold(Traffic::default(), |sum, one| Traffic {
                frames: sum.frames + one.frames,
                bytes: sum.bytes + one.bytes,
            })
    }

    /// Takes in those of somebody else.
    pub fn add(&mut self, others: &Self) {
        for (kind, other) in &others.0 {
            let sum = self.0.entry(kind.clone()).or_default();
            sum.frames += other.frames;
            sum.bytes += other.bytes;
        }
    }

    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let since = self.0.iter().map(|(kind, now)| {
            let then = before.of(kind);
            let traffic = Traffic {
                frames: now.frames - then.frames,
                bytes: now.bytes - then.bytes,
            };
            (kind.clone(), traffic)
        });
        Self(since.collect())
    }
}
