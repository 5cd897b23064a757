//! What was found, for people and for programs.

use serde::{Deserialize, Serialize};

use crate::{
    held::Figures,
    sizes::Size,
    table::{Goals, Table, shown},
};

/// Everything.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) runs: Vec<Figures>,
    /// A heartbeat to tasks that only answer.
    pub(crate) bare_cpu_micros_per_heartbeat: f64,
    pub(crate) sizes: Vec<Size>,
}

impl Report {
    pub(crate) fn print(&self) {
        self.print_runs();
        self.print_sizes();
        self.print_goals();
    }

    fn print_runs(&self) {
        let mut table = Table::new([
            "connections",
            "welcomed among",
            "RSS each",
            "… seated",
            "live each",
            "peak MB",
            "joins/s",
            "µs/heartbeat",
            "heartbeats/s",
            "collect 10 % ms",
            "flush 10 % ms",
            "idle CPU %",
            "pongs",
        ]);
        for run in &self.runs {
            table.row([
                run.connections.to_string(),
                run.welcome_members.to_string(),
                shown(run.resident_bytes_each),
                shown(run.seated_resident_bytes_each),
                shown(run.live_bytes_each),
                (run.peak_bytes / 1_000_000).to_string(),
                shown(run.joins_per_second),
                shown(run.cpu_micros_per_heartbeat),
                shown(run.heartbeats_per_second),
                shown(run.collect_ms),
                shown(run.flush_ms),
                shown(run.idle_cpu_percent),
                run.pongs.to_string(),
            ]);
        }
        table.print("Connections in memory");
    }

    fn print_sizes(&self) {
        let mut table = Table::new(["part", "bytes each"]);
        for size in &self.sizes {
            table.row([size.part.clone(), shown(size.bytes)]);
        }
        table.print("One connection, by what is live");
    }

    fn print_goals(&self) {
        let mut goals = Goals::new();
        for run in &self.runs {
            let count = run.connections;
            let figure = format!("bytes a connection, {count}");
            goals.at_most(
                &figure,
                run.resident_bytes_each,
                4_096.0,
                Some(2_560.0),
                "B",
            );
        }
        if let Some(run) = self.runs.iter().max_by_key(|run| run.connections) {
            let figure = format!("collecting 10 % of {}", run.connections);
            goals.at_most(&figure, run.collect_ms, 20.0, None, "ms");
            goals.at_most("idle CPU", run.idle_cpu_percent, 0.5, Some(0.1), "%");
            let twice = 2.0 * run.connections as f64;
            goals.at_least(
                "heartbeats answered",
                run.heartbeats as f64,
                twice / 2.0,
                None,
                "",
            );
        }
        let bare = self.bare_cpu_micros_per_heartbeat;
        goals.print(&format!(
            "Reached? (of each heartbeat {} µs are the bench's own)",
            shown(bare)
        ));
    }
}
