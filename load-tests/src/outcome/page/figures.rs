//! Numbers that the page shows and nobody else needs.

use crate::{
    measure::latency::Summary,
    outcome::{Outcome, Second, words},
};

/// A run in a few numbers, those that were measured.
pub(super) fn of(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let seconds = &outcome.timeline;
    let entries = |admitted: bool| {
        let entries = seconds.iter().flat_map(|second| &second.entries);
        let these = entries.filter(move |(name, _)| (*name == "admitted") == admitted);
        words::count(these.map(|(_, count)| count).sum())
    };
    let frames = outcome.traffic.0.values().map(|traffic| traffic.frames);
    let (length, most) = (
        length(outcome),
        seconds.iter().map(|second| second.connections).max(),
    );
    let tiles = [
        ("run", Some(words::time(length))),
        ("connections at most", most.map(words::count)),
        ("admitted", Some(entries(true))),
        ("not admitted", Some(entries(false))),
        ("frames received", Some(words::count(frames.sum()))),
        (
            "server cores at most",
            highest(seconds, cores).map(hundredths),
        ),
        (
            "server memory at most",
            highest(seconds, memory).map(|bytes| words::bytes(bytes as u64)),
        ),
        (
            "client cores at most",
            highest(seconds, |second| Some(second.client_cores)).map(hundredths),
        ),
    ];
    let seen = tiles
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    seen.collect()
}

fn length(outcome: &Outcome) -> f64 {
    let phases = outcome.phases.iter().map(|phase| phase.to_s);
    let seconds = outcome.timeline.iter().map(|second| second.at_s);
    phases.chain(seconds).fold(0.0, f64::max)
}

fn hundredths(cores: f64) -> String {
    format!("{cores:.2}")
}

fn cores(second: &Second) -> Option<f64> {
    second.server?.cores
}

fn memory(second: &Second) -> Option<f64> {
    second.server?.rss_bytes.map(|bytes| bytes as f64)
}

fn highest(seconds: &[Second], of: fn(&Second) -> Option<f64>) -> Option<f64> {
    seconds.iter().filter_map(of).reduce(f64::max)
}

/// A logarithmic scale that several latencies share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Its ends, as decimal logarithms.
    ends: (f64, f64),
}

impl Scale {
    /// One from the fastest half to the slowest of all.
    pub(super) fn of<'a>(summaries: impl Iterator<Item = &'a Summary>) -> Self {
        let ends = summaries.fold((f64::MAX, f64::MIN), |(low, high), summary| {
            (low.min(log(summary.p50_ms)), high.max(log(summary.max_ms)))
        });
        Self { ends }
    }

    /// Where a latency is, in percent of the whole.
    pub(super) fn percent(self, ms: f64) -> f64 {
        let (low, high) = self.ends;
        let part = (log(ms) - low) / (high - low).max(0.1);
        (part * 100.0).clamp(0.0, 100.0)
    }
}

fn log(ms: f64) -> f64 {
    ms.max(0.001).log10()
}
