//! The server's metrics, as far as somebody asks for them.

use std::collections::{BTreeMap, HashMap};

/// Prometheus text: values by name with labels, as written.
#[derive(Debug, Clone, Default)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(values.collect())
    }

    /// Joins with an outcome: `admitted`, `resumed`, or a problem's code.
    pub fn joins(&self, outcome: &str) -> u64 {
        self.get(&format!(r#"rollcall_joins_total{{outcome="{outcome}"}}"#))
    }

    /// Connections that ended for a reason.
    pub fn ended(&self, reason: &str) -> u64 {
        self.get(&format!(
            r#"rollcall_connections_ended_total{{reason="{reason}"}}"#
        ))
    }

    /// What was counted under a name, by the value of its one label.
    pub fn by_label(&self, name: &str) -> BTreeMap<String, u64> {
        let counts = self.0.iter().filter_map(|(key, value)| {
            let label = key.strip_prefix(name)?.strip_prefix('{')?;
            let value_of = label.strip_suffix("\"}")?.split_once("=\"")?.1;
            Some((value_of.to_owned(), *value as u64))
        });
        counts.collect()
    }

    /// Connections with a seat.
    pub fn connections(&self) -> u64 {
        self.get("rollcall_connections")
    }

    /// Seats, grace included.
    pub fn seats(&self) -> u64 {
        self.get("rollcall_seats")
    }

    /// Rooms in memory.
    pub fn rooms_live(&self) -> u64 {
        self.get("rollcall_rooms_live")
    }

    /// Participants waiting for a flush after a failure.
    pub fn flush_backlog(&self) -> u64 {
        self.get("rollcall_flush_backlog")
    }

    /// Flushes that failed.
    pub fn flush_failures(&self) -> u64 {
        self.get("rollcall_flush_failures_total")
    }

    /// Seconds that all flushes took together, and how many there were.
    pub fn flushes(&self) -> (f64, u64) {
        let seconds = self.0.get("rollcall_flush_seconds_sum");
        (
            seconds.copied().unwrap_or(0.0),
            self.get("rollcall_flush_seconds_count"),
        )
    }

    /// Rooms deleted by the reaper.
    pub fn reaped_rooms(&self) -> u64 {
        self.get("rollcall_reaped_rooms_total")
    }

    /// Presence and broadcast frames times their readers.
    pub fn fanned_out(&self) -> u64 {
        self.get("rollcall_frames_fanned_out_total")
    }

    /// A metric without labels, if it is there.
    pub fn known(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|value| *value as u64)
    }

    /// What never was counted is zero.
    fn get(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |value| *value as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_with_their_labels() {
        let metrics = Metrics::read(
            "# HELP rollcall_joins Joins.\nrollcall_joins_total{outcome=\"resumed\"} 7\nrollcall_connections 3\n# EOF\n",
        );
        assert_eq!(
            (metrics.joins("resumed"), metrics.joins("admitted")),
            (7, 0)
        );
        assert_eq!(metrics.connections(), 3);
        let joins = metrics.by_label("rollcall_joins_total");
        assert_eq!(
            joins.into_iter().collect::<Vec<_>>(),
            [("resumed".to_owned(), 7)]
        );
    }
}
