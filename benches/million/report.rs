//! What was found, for people and for programs.

use serde::{Deserialize, Serialize};

use crate::{
    held::Figures,
    sizes::Size,
    table::{Goals, Table, shown},
};

/// The figure to reach for idle connections is for 15,000.
const FEW: usize = 20_000;

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
            "… the store",
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
                shown(run.store_ms),
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
            bytes(&mut goals, run);
        }
        let uncrowded = || self.runs.iter().filter(|run| !run.is_crowded());
        let few = uncrowded().filter(|run| run.connections <= FEW);
        if let Some(run) = few.max_by_key(|run| run.connections) {
            let figure = format!("idle CPU, {}", run.connections);
            goals.at_most(&figure, run.idle_cpu_percent, 0.5, Some(0.1), "%");
        }
        if let Some(run) = uncrowded().max_by_key(|run| run.connections) {
            let (count, heartbeats) = (run.connections, run.heartbeats as f64);
            let figure = format!("collecting 10 % of {count}");
            goals.at_most(&figure, run.collect_ms, 20.0, None, "ms");
            let figure = format!("heartbeats answered, {count}");
            goals.at_least(&figure, heartbeats, 2.0 * count as f64, None, "");
        }
        let bare = shown(self.bare_cpu_micros_per_heartbeat);
        goals.print(&format!(
            "Reached? ({bare} µs of each heartbeat are the bench's own)"
        ));
    }
}

fn bytes(goals: &mut Goals, run: &Figures) {
    // What the operating system keeps of a crowd that is gone is not the connections'.
    let (what, bytes) = if run.is_crowded() {
        ("live bytes a connection after a crowd", run.live_bytes_each)
    } else {
        ("bytes a connection", run.resident_bytes_each)
    };
    let figure = format!("{what}, {}", run.connections);
    goals.at_most(&figure, bytes, 4_096.0, Some(2_560.0), "B");
}
