//! How often what was done.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::report::Report;

/// One thing that is done again and again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deed {
    JoinByInvite,
    JoinByToken,
    ResumeInTime,
    ResumeTooLate,
    Leave,
    Drop,
    GoSilent,
    JoinWrongly,
    MakeRoom,
    DeleteRoom,
    LeaveRoomToReaper,
}

/// What they are called, in their order.
const NAMES: [&str; 11] = [
    "joins by invite",
    "joins by access token",
    "resumed, the seat still held",
    "resumed too late, as new joins",
    "clean leaves",
    "drops without a close",
    "gone silent, and resumed elsewhere",
    "wrong joins, refused as they must be",
    "rooms made",
    "rooms deleted under people",
    "rooms left to the reaper",
];

/// How often each.
#[derive(Debug, Default)]
pub(super) struct Score([AtomicU64; NAMES.len()]);

impl Score {
    pub(super) fn add(&self, deed: Deed) {
        self.0[deed as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        for count in &self.0 {
            count.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn report(&self, report: &mut Report) {
        for (name, count) in NAMES.iter().zip(&self.0) {
            report.figure(*name, count.load(Ordering::Relaxed) as f64, "");
        }
    }
}
