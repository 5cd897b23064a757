//! What a connection and a heartbeat cost the server while nobody comes or goes.

use crate::{engine::watch::Look, outcome::Second};

/// Looks whose median is the memory of a steady phase: a single one may fall into a moment's garbage.
const LOOKS: usize = 5;

/// A stretch in which nobody came or went.
pub(super) struct Steady<'a> {
    /// The server before anybody came.
    pub before: &'a Look,
    pub looks: &'a [Look],
    pub seconds: &'a [Second],
}

impl Steady<'_> {
    pub(super) fn bytes_per_connection(&self) -> Option<f64> {
        let (pid, before) = self.before.cost?;
        let last = &self.looks[self.looks.len().saturating_sub(LOOKS)..];
        // Of a process that took another's place it is not known what it was before.
        let same = last
            .iter()
            .map(|look| Some(look.cost?).filter(|(now, _)| *now == pid));
        let mut grown: Vec<f64> = same
            .map(|cost| cost.map(|(_, cost)| cost.growth_since(&before)))
            .collect::<Option<_>>()?;
        grown.sort_by(f64::total_cmp);
        let connections = self.seconds.last()?.connections;
        (connections > 0).then(|| grown[grown.len() / 2] / connections as f64)
    }

    pub(super) fn cpu_us_per_heartbeat(&self) -> Option<f64> {
        let (old, before) = self.looks.first()?.cost?;
        let (new, after) = self.looks.last()?.cost?;
        let acks = self
            .seconds
            .iter()
            .filter_map(|second| second.frames.get("heartbeat_ack"));
        let acks: u64 = acks.sum();
        (old == new && acks > 0).then(|| after.cpu_since(&before) * 1e6 / acks as f64)
    }
}
